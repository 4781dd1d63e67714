"""YOLOX as plain functions over named tensors, as the released files lay them out, random when first asked for.

Written from the paper's description of its graph; of no speed at all.
"""

import torch
from torch.nn.functional import batch_norm, conv2d, interpolate, max_pool2d, silu


class Twin:
    """forward(x) -> said (1, A, 5 + C): box, objectness and classes as raw numbers.

    `state` holds the tensors by name; `order` the names of the convolutions as they ran.
    """

    def __init__(self, width, depth, light, classes, seed=0):
        self.width, self.depth, self.light, self.classes = width, depth, light, classes
        self.state, self.order = {}, []
        self.random = torch.Generator().manual_seed(seed)

    def tensor(self, name, shape, low=-1.0, high=1.0):
        if name not in self.state:
            self.state[name] = torch.rand(shape, generator=self.random) * (high - low) + low
        return self.state[name].to(torch.float64)

    def conv(self, name, x, outputs, kernel=1, stride=1, groups=1):
        inputs = x.shape[1] // groups
        edge = (inputs * kernel**2) ** -0.5 * 1.7
        weight = self.tensor(f"{name}.conv.weight", (outputs, inputs, kernel, kernel), -edge, edge)
        gain, shift = self.tensor(f"{name}.bn.weight", outputs, 0.5, 1.0), self.tensor(f"{name}.bn.bias", outputs)
        mean, level = self.tensor(f"{name}.bn.running_mean", outputs), 1e4 if "stem.conv" in name else 1.0
        var = self.tensor(f"{name}.bn.running_var", outputs, 0.5 * level, level)
        self.state[f"{name}.bn.num_batches_tracked"] = torch.tensor(7)
        self.order.append(name)
        return silu(
            batch_norm(conv2d(x, weight, None, stride, kernel // 2, 1, groups), mean, var, gain, shift, eps=1e-3)
        )

    def wide(self, name, x, outputs, stride=1):
        if not self.light:
            return self.conv(name, x, outputs, 3, stride)
        x = self.conv(f"{name}.dconv", x, x.shape[1], 3, stride, x.shape[1])
        return self.conv(f"{name}.pconv", x, outputs)

    def stage(self, name, x, outputs, depth, shortcut):
        through, around = self.conv(f"{name}.conv1", x, outputs // 2), self.conv(f"{name}.conv2", x, outputs // 2)
        for i in range(depth):
            y = self.wide(f"{name}.m.{i}.conv2", self.conv(f"{name}.m.{i}.conv1", through, outputs // 2), outputs // 2)
            through = through + y if shortcut else y
        return self.conv(f"{name}.conv3", torch.cat([through, around], 1), outputs)

    def backbone(self, x):
        corners = [x[..., i::2, j::2] for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))]
        x, maps = self.conv("backbone.backbone.stem.conv", torch.cat(corners, 1), self.width // 4, 3), []
        for i, depth in enumerate([self.depth, 3 * self.depth, 3 * self.depth, self.depth]):
            name, outputs = f"backbone.backbone.dark{i + 2}", self.width // 2 * 2**i
            x = self.wide(f"{name}.0", x, outputs, 2)
            if i == 3:
                x = self.conv(f"{name}.1.conv1", x, outputs // 2)
                x = torch.cat([x, *(max_pool2d(x, k, 1, k // 2) for k in (5, 9, 13))], 1)
                x = self.conv(f"{name}.1.conv2", x, outputs)
            x = self.stage(f"{name}.{1 + (i == 3)}", x, outputs, depth, i < 3)
            maps.append(x)
        return maps[1:]

    def pyramid(self, fine, middle, coarse):
        w, d = self.width, self.depth
        top = self.conv("backbone.lateral_conv0", coarse, 2 * w)
        x = torch.cat([interpolate(top, scale_factor=2), middle], 1)
        side = self.conv("backbone.reduce_conv1", self.stage("backbone.C3_p4", x, 2 * w, d, False), w)
        fine = self.stage("backbone.C3_p3", torch.cat([interpolate(side, scale_factor=2), fine], 1), w, d, False)
        x = torch.cat([self.wide("backbone.bu_conv2", fine, w, 2), side], 1)
        middle = self.stage("backbone.C3_n3", x, 2 * w, d, False)
        x = torch.cat([self.wide("backbone.bu_conv1", middle, 2 * w, 2), top], 1)
        return fine, middle, self.stage("backbone.C3_n4", x, 4 * w, d, False)

    def predict(self, name, x, outputs):
        weight = self.tensor(f"{name}.weight", (outputs, x.shape[1], 1, 1))
        self.order.append(name)
        return conv2d(x, weight, self.tensor(f"{name}.bias", outputs))

    def __call__(self, x):
        said = []
        for k, level in enumerate(self.pyramid(*self.backbone(x))):
            x = self.conv(f"head.stems.{k}", level, self.width)
            both = []
            for name in ("cls", "reg"):
                y = self.wide(f"head.{name}_convs.{k}.0", x, self.width)
                y = self.wide(f"head.{name}_convs.{k}.1", y, self.width)
                both.append(self.predict(f"head.{name}_preds.{k}", y, self.classes if name == "cls" else 4))
            parts = [both[1], self.predict(f"head.obj_preds.{k}", y, 1), both[0]]
            said.append(torch.cat(parts, 1).flatten(2).transpose(1, 2))
        return torch.cat(said, 1)
