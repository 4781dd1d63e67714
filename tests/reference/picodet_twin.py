"""PicoDet-S as plain functions over random weights without batch normalization, as released files hold them.

Written from the paper's description of its graph; of no speed at all.
"""

import torch
from torch.nn.functional import conv2d, hardsigmoid, hardswish, max_pool2d, relu

SHARES = [[0.875, 0.5, 0.5], [0.5, 0.625, 0.5, 0.625, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]  # of the middle of each block
WIDTHS = [96, 192, 384]
WIDTH, CONVS, SIDES = 96, 2, 32


class Twin:
    """forward(x) -> said (1, A, C + 32): logits of classes, then of distances.

    `parts` holds weight and bias of each convolution in the order they first ran.
    """

    def __init__(self, classes, seed=0):
        self.classes, self.parts, self.known = classes, [], {}
        self.random = torch.Generator().manual_seed(seed)

    def conv(self, name, x, outputs, kernel=1, stride=1, groups=1, act=hardswish):
        if name not in self.known:
            inputs = x.shape[1] // groups
            edge = (inputs * kernel**2) ** -0.5 * 1.7
            shapes = ((outputs, inputs, kernel, kernel), edge), ((outputs,), 0.5)
            self.known[name] = [(torch.rand(s, generator=self.random) * 2 - 1) * e for s, e in shapes]
            self.parts.append(self.known[name])
        weight, bias = (t.double() for t in self.known[name])
        return act(conv2d(x, weight, bias, stride, kernel // 2, 1, groups))

    def depthwise(self, name, x, kernel, stride=1, act=hardswish):
        return self.conv(name, x, x.shape[1], kernel, stride, x.shape[1], act)

    def separable(self, name, x, kernel, stride=1):
        return self.conv(f"{name}.p", self.depthwise(f"{name}.d", x, kernel, stride), x.shape[1])

    def excite(self, name, x):
        small = self.conv(f"{name}.a", x.mean((2, 3), keepdim=True), x.shape[1] // 4, act=relu)
        return x * self.conv(f"{name}.b", small, x.shape[1], act=hardsigmoid)

    def block(self, name, x, middle):
        half = x.shape[1] // 2
        a, b = x[:, :half], self.conv(f"{name}.1", x[:, half:], middle // 2)
        b = torch.cat([b, self.depthwise(f"{name}.2", b, 3, act=lambda x: x)], 1)
        b = self.conv(f"{name}.3", self.excite(name, b), half)
        order = [i + j * half for i in range(half) for j in range(2)]  # one channel of each half in turn
        return torch.cat([a, b], 1)[:, order]

    def down(self, name, x, middle, outputs):
        a = self.depthwise(f"{name}.1", x, 3, 2, act=lambda x: x)
        a = self.conv(f"{name}.2", a, outputs // 2)
        b = self.depthwise(f"{name}.4", self.conv(f"{name}.3", x, middle // 2), 3, 2, act=lambda x: x)
        b = self.conv(f"{name}.5", self.excite(name, b), outputs // 2)
        return self.separable(name, torch.cat([a, b], 1), 3)

    def backbone(self, x):
        x, maps = max_pool2d(self.conv("stem", x, 24, 3, 2), 3, 2, 1), []
        for i, (outputs, shares) in enumerate(zip(WIDTHS, SHARES, strict=True)):
            for j, share in enumerate(shares):
                middle = int(outputs * share + 4) // 8 * 8
                make = self.block if j else self.down
                x = make(f"stage{i}.{j}", x, middle, *([] if j else [outputs]))
            maps.append(x)
        return maps

    def merge(self, name, x):
        around, through = self.conv(f"{name}.1", x, WIDTH // 2), self.conv(f"{name}.2", x, WIDTH // 2)
        through = self.separable(name, self.conv(f"{name}.3", through, WIDTH // 2), 5)
        return self.conv(f"{name}.4", torch.cat([through, around], 1), WIDTH)

    def pyramid(self, maps):
        fine, middle, coarse = [self.conv(f"lateral{i}", x, WIDTH) for i, x in enumerate(maps)]
        double = lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3)  # noqa: E731
        middle = self.merge("down1", torch.cat([double(coarse), middle], 1))
        fine = self.merge("down0", torch.cat([double(middle), fine], 1))
        middle = self.merge("up0", torch.cat([self.separable("shrink0", fine, 5, 2), middle], 1))
        last = self.merge("up1", torch.cat([self.separable("shrink1", middle, 5, 2), coarse], 1))
        extra = self.separable("top", coarse, 5, 2) + self.separable("bottom", last, 5, 2)
        return fine, middle, last, extra

    def __call__(self, x):
        said = []
        for k, y in enumerate(self.pyramid(self.backbone(x))):
            for i in range(CONVS):
                y = self.separable(f"head{k}.{i}", y, 5)
            said.append(self.conv(f"predict{k}", y, self.classes + SIDES, act=lambda x: x).flatten(2).transpose(1, 2))
        return torch.cat(said, 1)
