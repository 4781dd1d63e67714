"""Darknet's files: the network of a cfg, the numbers of its .weights, and what is wrong with either, in one line."""

import math
import os
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import detect
from detect.__main__ import main
from detect.cli.parser import parse
from detect.convert.coco_classes import IDS, NAMES
from detect.errors import UserError
from detect.models.backbones.darknet import plan
from detect.models.builder import build
from detect.models.weights import load_weights
from detect.types import Postprocess, Preprocess, Target
from tests.reference.darknet import Twin

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("GRIDHEAD_DATA", ROOT.parent / "shared" / "data"))
FASTEST = DATA / "weights" / "yolo-fastest"
OPENCV = os.environ.get("GRIDHEAD_OPENCV4", "")

pytestmark = pytest.mark.usefixtures("one_thread")
needs_fastest = pytest.mark.skipif(not FASTEST.exists(), reason="no Yolo-Fastest: set GRIDHEAD_DATA")
needs_opencv = pytest.mark.skipif(not OPENCV, reason="GRIDHEAD_OPENCV4 names no interpreter with OpenCV 4")

CONV = "[convolutional]\nbatch_normalize=1\nfilters={}\nsize={}\nstride={}\npad=1\nactivation={}\n"
HEAD = "[convolutional]\nfilters=14\nsize=1\nstride=1\npad=1\nactivation=linear\n\n[yolo]\nclasses=2\nnum=4\nmask={}\n"
HEAD += "anchors = 8,10, 20,14,  30,40, 50,45\nscale_x_y={}\nignore_thresh=.7\n"
LAYERS = [
    "# an image of 64 x 96\n[net]\nwidth=96\nheight=64\nchannels=3\nmomentum=0.9\nletter_box=1\n",
    CONV.format(8, 3, 2, "leaky"),
    CONV.format(8, 1, 1, "mish"),
    "[convolutional]\nfilters=8\ngroups=4\nsize=3\nstride=1\npadding=1\nactivation=swish\n",
    "[dropout]\nprobability=.2\n",
    "[shortcut]\nfrom=-3\nactivation=linear\n",
    "[route]\nlayers=-1\ngroups=2\ngroup_id=1\n",
    "[route]\nlayers=-1, 4\n",
    "[maxpool]\nsize=2\nstride=2\n",
    CONV.format(16, 3, 2, "leaky"),
    "[maxpool]\nsize=5\nstride=1\n",
    "[route]\nlayers=-2\n",
    "[maxpool]\nsize=2\nstride=1\n",
    "[route]\nlayers=-1,-3,8\n",
    CONV.format(16, 3, 2, "relu"),
    HEAD.format("2,3", "1.05"),
    "[route]\nlayers=13\n",
    CONV.format(8, 1, 1, "leaky"),
    "[upsample]\nstride=2\n",
    "[route]\nlayers=-1,8\n",
    HEAD.format("0,1", "1.2"),
]
CFG = "\n".join(LAYERS)


def write(folder: Path, text: str = CFG, extra: int = 0, header: bytes = struct.pack("<iiiq", 0, 2, 5, 64)):
    """(cfg, weights, twin): files of a network with random numbers."""
    twin = Twin(text)
    twin(torch.zeros(1, 3, 64, 96, dtype=torch.float64))
    numbers = twin.numbers
    numbers = np.concatenate([numbers, np.zeros(extra, "<f4")]) if extra >= 0 else numbers[:extra]
    cfg, weights = folder / "net.cfg", folder / "net.weights"
    cfg.write_text(text)
    weights.write_bytes(header + numbers.tobytes())
    (folder / "net.names").write_text("cat\ndog\n\n")
    return cfg, weights, twin


def run(folder: Path, cfg: Path, weights: Path, *flags: str) -> int:
    names = ["--names", str(folder / "net.names")]
    out = ["--out", str(folder / "w.safetensors")]
    return main(["import", "--cfg", str(cfg), "--weights", str(weights), *out, *(flags or names)])


def said(model, image):
    """What the convolutions before the [yolo] layers would give, by stride: box, objectness, classes of each anchor."""
    out = {}
    for level, x in enumerate(model.features(image)):
        boxes, classes = model.head.regress[level](x), model.head.classify[level](x)
        each = model.head.anchors
        parts = boxes.unflatten(1, (each, -1)), classes.unflatten(1, (each, -1))
        out[model.head.strides[level]] = torch.cat(parts, 2).flatten(1, 2)
    return out


def random_image(height: int = 64, width: int = 96) -> torch.Tensor:
    return torch.randint(0, 256, (1, 3, height, width), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def predictors(text: str) -> dict[int, int]:
    return {scale.stride: scale.predictor for scale in plan(text, "cfg").scales}


@pytest.mark.parametrize("header", [struct.pack("<iiiq", 0, 2, 5, 64), struct.pack("<iiii", 0, 1, 0, 64)])
def test_the_network_is_that_of_the_cfg(tmp_path, header):
    text = CFG.replace("activation=relu", "activation=RELU6", 1).replace("from=-3", "from=-3,-4")
    cfg, weights, twin = write(tmp_path, text, header=header)
    assert run(tmp_path, cfg, weights, "--names", str(tmp_path / "net.names"), "--imgsz", "96") == 0
    model = load_weights(tmp_path / "w.safetensors")
    assert (
        model.metadata.names == ["cat", "dog"] and model.metadata.category_ids == [1, 2] and model.metadata.size == 96
    )
    assert model.metadata.preprocess == Preprocess(pad=127)
    with torch.no_grad():
        ours, expected = said(model.double(), random_image()), twin(random_image().double() / 255)
    assert set(ours) == set(predictors(text)) == {8, 16}
    for stride, i in predictors(text).items():
        assert expected[i].std() > 0.1
        assert torch.allclose(ours[stride], expected[i], atol=1e-6)


def test_boxes_and_scores_are_decoded_as_darknet_does(tmp_path):
    cfg, weights, _ = write(tmp_path)
    assert run(tmp_path, cfg, weights) == 0
    model = load_weights(tmp_path / "w.safetensors")
    with torch.no_grad():
        raw = model(random_image())
        boxes, scores = model.candidates(raw)
        maps = said(model, random_image())
    anchors = {8: [(8, 10), (20, 14)], 16: [(30, 40), (50, 45)]}
    expected = []
    for stride, scale in ((8, 1.2), (16, 1.05)):
        x = maps[stride][0].unflatten(0, (2, 7))
        for row in range(64 // stride):
            for column in range(96 // stride):
                for (w, h), numbers in zip(anchors[stride], x[:, :, row, column].tolist(), strict=True):
                    tx, ty, there, one, two = (1 / (1 + math.exp(-numbers[i])) for i in (0, 1, 4, 5, 6))
                    cx = (column + tx * scale - 0.5 * (scale - 1)) * stride
                    cy = (row + ty * scale - 0.5 * (scale - 1)) * stride
                    w, h = w * math.exp(numbers[2]) / 2, h * math.exp(numbers[3]) / 2
                    expected.append([cx - w, cy - h, cx + w, cy + h, there * one, there * two])
    found = torch.cat([boxes[0], scores[0]], 1)
    assert torch.allclose(found, torch.tensor(expected), rtol=1e-4, atol=1e-4)
    codes = model.head.regression_loss(
        raw.at((torch.zeros(len(expected)).long(), torch.arange(len(expected)))), boxes[0]
    )
    assert codes.max() < 1e-2


def test_bounded_boxes_of_scaled_yolo_v4(tmp_path):
    """new_coords: the convolution squashes everything itself, sizes are (2 s)^2 times the anchor's."""
    text = CFG.replace("activation=linear\n\n[yolo]", "activation=logistic\n\n[yolo]\nnew_coords=1")
    text = text.replace("scale_x_y=1.05", "scale_x_y=2.0").replace("scale_x_y=1.2", "scale_x_y=2.0")
    cfg, weights, twin = write(tmp_path, text)
    assert run(tmp_path, cfg, weights) == 0
    model = load_weights(tmp_path / "w.safetensors")
    with torch.no_grad():
        boxes, scores = model.candidates(model(random_image()))
        x, y, w, h, there, one, two = twin(random_image().double() / 255)[predictors(text)[8]][0, :7, 0, 1].tolist()
    center, size = ((2 * x + 0.5) * 8, (2 * y - 0.5) * 8), ((2 * w) ** 2 * 8, (2 * h) ** 2 * 10)
    box = [center[0] - size[0] / 2, center[1] - size[1] / 2, center[0] + size[0] / 2, center[1] + size[1] / 2]
    assert torch.allclose(boxes[0, 2], torch.tensor(box), rtol=1e-4, atol=1e-3)
    assert torch.allclose(scores[0, 2], torch.tensor([there * one, there * two]), rtol=1e-4)


@pytest.mark.parametrize(
    ("size", "box", "stretch"), [("width=64", 0, True), ("width=64", 1, False), ("width=96", 0, False)]
)
def test_images_are_stretched_to_a_square_alone(size, box, stretch):
    text = CFG.replace("width=96", size).replace("letter_box=1", f"letter_box={box}")
    assert plan(text, "cfg").stretch is stretch


def test_every_weight_trains_on_other_classes(tmp_path):
    cfg, weights, _ = write(tmp_path)
    assert run(tmp_path, cfg, weights) == 0
    flags = ["--data", "toy", "--weights", str(tmp_path / "w.safetensors"), "--imgsz", "96"]
    config = parse("train", flags)
    assert (config.model.kind, config.model.assigner, config.task) == ("darknet", "sim_ota", "detect")
    metadata = load_weights(tmp_path / "w.safetensors").metadata
    metadata = type(metadata)(["a", "b", "c"], [4, 5, 6], 96, metadata.preprocess)
    model = build(config.model, metadata).train()
    ground_truth = Target(torch.tensor([[8.0, 8, 40, 56]]), torch.tensor([2]), torch.tensor([False]), 0, (64, 96))
    raw = model(random_image().repeat(2, 1, 1, 1))
    terms = model.loss(raw, [ground_truth, ground_truth[torch.tensor([False])]])
    sum(t.total / t.count.clamp(min=1) for t in terms.values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    assert all(len(d) == 5 for d in model.eval().postprocess(model(random_image()), Postprocess(score=0.0, limit=5)))


def test_fine_tuning_is_one_command_and_resumes(digits, tmp_path):
    cfg, weights, _ = write(tmp_path)
    assert run(tmp_path, cfg, weights) == 0
    flags = {"imgsz": 96, "batch": 8, "workers": 0, "device": "cpu", "out": tmp_path / "run", "data": digits}
    best = detect.train(weights=tmp_path / "w.safetensors", epochs=1, **flags)
    assert len(load_weights(best).metadata.names) == 10
    with pytest.raises(UserError, match="holds a run already"):
        detect.train(weights=tmp_path / "w.safetensors", epochs=1, **flags)
    detect.train(weights=tmp_path / "w.safetensors", epochs=1, resume=True, **flags)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[dropout]", "[reorg]", "section 4 [reorg]: unknown kind of section 'reorg'"),
        ("groups=4", "groups=3", "section 3 [convolutional]: groups=3"),
        ("groups=4", "dilation=2", "key 'dilation'"),
        ("activation=mish", "activation=mosh", "section 2 [convolutional]: unknown activation 'mosh'"),
        ("from=-3", "from=-9", "section 5 [shortcut]: from=-9"),
        ("from=-3", "from=7", "reads layer 7, but 4 come before it"),
        ("layers=-1, 4", "layers=-1, 12", "reads layer 12"),
        ("layers=-1,-3,8", "layers=-1,-3,1", "joins maps of strides"),
        ("layers=13\n", "layers=15\n", "a prediction"),
        ("group_id=1", "group_id=2", "group_id=2"),
        ("probability=.2", "probability=1.2", "section 4 [dropout]: probability=1.2"),
        ("size=5\nstride=1", "size=5\nstride=1\npadding=1", "padding=1"),
        ("size=5", "size=five", "size=five is no list of numbers"),
        ("size=5", "size=5,5", "must be one number"),
        ("mask=2,3", "mask=2,4", "anchors"),
        ("mask=2,3", "mask=2", "filters=7"),
        ("classes=2", "classes=3", "filters=16"),
        ("num=4", "num=5", "no 5 anchors"),
        ("filters=14\nsize=1\nstride=1\npad=1\nactivation=linear", "filters=14\nsize=1\nactivation=leaky", "1x1"),
        ("scale_x_y=1.2", "scale_x_y=1.2\nnew_coords=1", "new_coords=1 with scale_x_y=1.2"),
        ("size=2\nstride=2", "size=2\nstride=2\nsize=3", "size is given twice"),
        ("padding=1", "padding=0", "change the map's side"),
        ("channels=3", "channels=1", "section 0 [net]: channels"),
        ("[net]", "[nets]", "does not begin with [net]"),
        ("# an image of 64 x 96", "no key", "line 1: 'no key' is no key=value"),
        ("[upsample]\nstride=2", "[upsample]\nstride=3", "finer than the image"),
        (CFG[CFG.index("[yolo]") :], "", "no [yolo] section"),
        ("filters=8", "filters=1000000000", "numbers may be as large as 65536"),
        ("filters=8", "filters=" + "9" * 5000, "numbers may be as large as 65536"),
        ("filters=8", "filters=65536", "net.weights is too short"),
        ("filters=8", "filters=0", "filters=0: it must be at least 1"),
        ("groups=2", "groups=0", "groups=0: it must be at least 1"),
        ("group_id=1", "group_id=-1", "group_id=-1"),
        ("size=5", "size=65535", "size=65535: at most 64"),
        ("width=96", "width=65536", "a side may have 8192"),
        ("anchors = 8,10", "anchors = -8,10", "must be above 0"),
        ("anchors = 8,10", "anchors = 8,1e999", "numbers may be as large as 65536"),
        ("scale_x_y=1.05", "scale_x_y=0", "must be above 0"),
        ("[route]\nlayers=13\n", "[route]\nlayers=13,13\n" + "[route]\nlayers=-1,-1\n" * 14, "has 131072 channels"),
        ("[route]\nlayers=13\n", "[route]\nlayers=13\n" + "[maxpool]\nstride=8\n" * 40, "has stride 8192"),
        ("[route]\nlayers=13\n", "[dropout]\n" * 2000, "sections: at most 2000"),
        ("[net]", "[net]\n#" + "a" * 10**6, "letters: is this a Darknet cfg?"),
    ],
)
def test_what_is_wrong_with_a_cfg_is_said_in_one_line(tmp_path, capsys, old, new, said):
    cfg, weights, _ = write(tmp_path)
    assert old in CFG
    cfg.write_text(CFG.replace(old, new, 1))
    assert run(tmp_path, cfg, weights) == 2
    error = capsys.readouterr().err
    assert said in error and "net.cfg" in error and error.count("\n") == 1
    assert not (tmp_path / "w.safetensors").exists()


@pytest.mark.parametrize(
    ("extra", "header", "said"),
    [
        (1, struct.pack("<iiiq", 0, 2, 5, 64), "too long: it has"),
        (-1, struct.pack("<iiiq", 0, 2, 5, 64), "too short: it has"),
        (0, struct.pack("<iiiq", 0, 2, 5, 64) + b"x", "header or length"),
        (0, struct.pack("<iiiq", 5000, 2, 5, 64), "header or length"),
        (-(10**9), b"12", "too short to be"),
    ],
)
def test_weights_of_another_length_are_refused(tmp_path, capsys, extra, header, said):
    cfg, weights, _ = write(tmp_path, extra=extra, header=header)
    assert run(tmp_path, cfg, weights) == 2
    error = capsys.readouterr().err
    assert said in error and "net.weights" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--out", "{d}/w.pt"], "must end in .safetensors"),
        (["--out", "{d}/net.cfg/w.safetensors"], "cannot be written"),
        (["--weights", "{d}/no.weights"], "no such file"),
        (["--cfg", "{d}/no.cfg"], "cannot be read"),
        (["--weights", "{d}/alone.weights", "--cfg", ""], "alone.cfg cannot be read"),
        (["--names", ""], "COCO"),
        (["--names", "{d}/no.names"], "no.names: cannot be read"),
        (["--names", "{d}/twice.names"], "have the same name"),
        (["--names", "{d}/three.names"], "has 3 classes, the network 2"),
        (["--weights", "{d}/w.onnx"], "leave it out"),
    ],
)
def test_other_mistakes_are_said_in_one_line(tmp_path, capsys, flags, said):
    cfg, weights, _ = write(tmp_path)
    for name, text in (
        ("alone.weights", ""),
        ("twice.names", "cat\ncat\n"),
        ("three.names", "a\nb\nc\n"),
        ("w.onnx", ""),
    ):
        (tmp_path / name).write_text(text)
    names = ["--names", str(tmp_path / "net.names")]
    assert run(tmp_path, cfg, weights, *names, *(flag.format(d=tmp_path) for flag in flags)) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_the_classes_of_coco():
    assert len(NAMES) == len(set(NAMES)) == len(IDS) == 80
    assert (IDS[0], IDS[-1]) == (1, 90) and dict(zip(NAMES, IDS, strict=True))["bottle"] == 44


def opencv(cfg: Path, weights: Path, image: torch.Tensor, layers, folder: Path) -> list[torch.Tensor]:
    np.save(folder / "in.npy", (image / 255).numpy())
    script, out = ROOT / "tests" / "reference" / "darknet_opencv.py", folder / "out.npz"
    given = [str(cfg), str(weights), str(folder / "in.npy"), str(out), *map(str, layers)]
    subprocess.run([OPENCV, str(script), *given], check=True)
    file = np.load(out)
    return [torch.from_numpy(file[f"arr_{i}"]) for i in range(len(layers))]


@needs_opencv
def test_opencv_reads_the_same_network(tmp_path):
    cfg, weights, _ = write(tmp_path)
    assert run(tmp_path, cfg, weights) == 0
    with torch.no_grad():
        ours = said(load_weights(tmp_path / "w.safetensors"), random_image())
    layers = predictors(CFG)
    for stride, reference in zip(layers, opencv(cfg, weights, random_image(), layers.values(), tmp_path), strict=True):
        assert torch.allclose(ours[stride], reference, atol=1e-4)


@needs_fastest
@needs_opencv
@pytest.mark.parametrize("name", ["yolo-fastest-1.1", "yolo-fastest-1.1-xl"])
def test_opencv_reads_the_same_numbers(name, tmp_path):
    cfg, weights = (FASTEST / f"{name}.{suffix}" for suffix in ("cfg", "weights"))
    assert run(tmp_path, cfg, weights, "--names", "") == 0
    image = random_image(320, 320)
    with torch.no_grad():
        ours = said(load_weights(tmp_path / "w.safetensors"), image)
    layers = predictors(cfg.read_text())
    for stride, reference in zip(layers, opencv(cfg, weights, image, layers.values(), tmp_path), strict=True):
        assert reference.abs().max() > 10 and torch.allclose(ours[stride], reference, atol=1e-3)


@pytest.mark.slow
@needs_fastest
@pytest.mark.parametrize(("name", "expected"), [("yolo-fastest-1.1", 0.131), ("yolo-fastest-1.1-xl", 0.183)])
def test_average_precision_of_the_real_files(name, expected, tmp_path):
    """Their authors say AP50 0.244 and 0.343 on all of COCO val2017; coco-mini reads some points higher."""
    cfg, weights = (FASTEST / f"{name}.{suffix}" for suffix in ("cfg", "weights"))
    assert run(tmp_path, cfg, weights, "--names", "") == 0
    file = tmp_path / "w.safetensors"
    result = detect.evaluate(weights=file, data=DATA / "coco-mini", device="cpu", precision="float32", workers=0)
    assert abs(result["AP"] - expected) < 0.003
