"""Style transfer: costs beside loops and gradients, images through the command, one line for what cannot be."""

import json
import shutil
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from detect.__main__ import main
from detect.cli.parser import parse
from detect.commands.stylize import stylize
from detect.data.image_writer import save_image
from detect.errors import UserError
from detect.models.losses.style import content_cost, gram, style_cost, total_variation
from detect.style.artist import parse_layers
from detect.style.images import cover_crop
from detect.style.transfer import Objective, Weights, minimize
from tests.reference import style as twin
from tests.reference.strokes import strokes

shapes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))


@settings(max_examples=30, deadline=None)
@given(shapes, st.integers(0, 2**31))
def test_costs_are_those_of_loops(shape, seed):
    rng = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(1, *shape, generator=rng, dtype=torch.float64) for _ in range(2))
    ours, reference = a[0].tolist(), b[0].tolist()
    assert content_cost(a, b).item() == pytest.approx(twin.content_cost(ours, reference))
    torch.testing.assert_close(gram(a)[0], torch.tensor(twin.gram(ours), dtype=torch.float64))
    assert style_cost(a, gram(b)).item() == pytest.approx(twin.style_cost(ours, reference))
    assert total_variation(a).item() == pytest.approx(twin.total_variation(ours))


def test_worked_numbers_of_the_costs():
    a = torch.tensor([[[[1.0, 2.0]], [[0.0, 3.0]]]])  # two channels of one row and two columns
    assert gram(a).tolist() == [[[5.0, 6.0], [6.0, 9.0]]]
    assert content_cost(a, torch.zeros_like(a)).item() == 7.0
    assert style_cost(a, torch.zeros(1, 2, 2)).item() == (25 + 36 + 36 + 81) / 8
    assert total_variation(a).item() == 10.0


def test_style_does_not_ask_where():
    a = torch.randn(1, 3, 4, 5)
    moved = a.flatten(2)[..., torch.randperm(20)].view_as(a)
    assert style_cost(moved, gram(a)).item() == pytest.approx(0, abs=1e-6) and content_cost(moved, a) > 1


class Two(nn.Module):
    """Two layers that see images of three colours, in float64."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3).double(), nn.Conv2d(4, 5, 3, 2).double()

    def forward(self, image):
        a = self.first(image).tanh()
        return {"first": a, "second": self.second(a)}


@pytest.fixture
def problem():
    torch.manual_seed(1)
    content, style, other = torch.rand(3, 1, 3, 8, 9, dtype=torch.float64)
    weights = Weights("second", {"first": 0.25, "second": 0.75}, alpha=2.0, beta=3.0, tv=0.5)
    return Objective(Two().requires_grad_(False), content, style, weights), content, style, other


def test_j_is_that_of_loops(problem):
    objective, content, style, other = problem
    said = [{k: v[0].tolist() for k, v in objective.sees(x).items()} for x in (other, content, style)]
    w = objective.weights
    expected = twin.objective(*said, w.styles, {"alpha": w.alpha, "beta": w.beta}, w.content)
    expected += w.tv * twin.total_variation(other[0].tolist()) / twin.total_variation(content[0].tolist())
    assert sum(objective(other).values()).item() == pytest.approx(expected)


def test_gradients_are_those_of_differences(problem):
    objective, *_, other = problem
    assert torch.autograd.gradcheck(lambda x: torch.stack(list(objective(x).values())), other.clone().requires_grad_())


def test_units_are_what_the_two_images_cost(problem):
    objective, content, style, _ = problem
    at_content, at_style = ({k: v.item() for k, v in objective(x).items()} for x in (content, style))
    assert at_content == pytest.approx({"content": 0, "style": 3, "tv": 0.5})
    assert at_style["content"] == pytest.approx(2) and at_style["style"] == pytest.approx(0)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_costs_fall_and_pixels_stay_in_range(problem, optimizer):
    objective, content, *_ = problem
    states = list(minimize(objective, content, 30, optimizer))
    totals = [sum(terms.values()) for _, terms in states]
    assert len(states) == 31 and totals[-1] < 0.5 * totals[0] and min(totals) == pytest.approx(totals[-1], rel=0.05)
    assert all(image.min() >= 0 and image.max() <= 1 for image, _ in states)
    if optimizer == "lbfgs":  # its line search goes downhill alone
        assert all(after <= before * (1 + 1e-9) for before, after in pairwise(totals))
    again = list(minimize(objective, content, 30, optimizer))
    assert torch.equal(states[-1][0], again[-1][0])


def test_the_style_of_the_content_itself_costs_nothing(problem):
    _, content, *_ = problem
    objective = Objective(Two(), content, content, Weights("first", {"second": 1.0}, tv=1.0))
    assert sum(objective(content).values()).item() == pytest.approx(1.0)  # the variation alone


def test_a_flat_image_has_units_too():
    flat = torch.full((1, 3, 8, 8), 0.5, dtype=torch.float64)
    objective = Objective(Two(), flat, flat, Weights("first", {"second": 1.0}, tv=1.0))
    assert sum(objective(flat).values()).item() == 0


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_where_nothing_can_be_gained_nothing_moves(optimizer):
    flat = torch.full((1, 3, 8, 8), 0.5, dtype=torch.float64)
    objective = Objective(Two(), flat, flat, Weights("first", {"second": 1.0}, tv=1.0))
    images = [image for image, _ in minimize(objective, flat, 4, optimizer)]
    assert len(images) == 5 and all(torch.allclose(image, flat) for image in images)


@pytest.mark.parametrize("size", [(40, 40), (10, 70), (91, 13), (1, 1)])
def test_the_style_covers_the_content(size):
    assert cover_crop(strokes(64, count=50), *size).shape == (*size, 3)


def test_layers_carry_weights():
    assert parse_layers(["a", "b.0=3"]) == {"a": 0.25, "b.0": 0.75}


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """An image of odd size, a style and weights nobody trained, in a folder."""
    from torchvision import models

    folder = tmp_path_factory.mktemp("style")
    torch.manual_seed(0)
    torch.save(models.squeezenet1_1(weights=None).state_dict(), folder / "net.pth")
    cv2.imwrite(str(folder / "style.png"), strokes(96, count=200)[..., ::-1])
    content = cv2.GaussianBlur(strokes(128, seed=3, count=60)[:77, :101], (0, 0), 5)
    cv2.imwrite(str(folder / "content.png"), content[..., ::-1])
    return folder


def flags(desk, **others):
    given = {"content": desk / "content.png", "style": desk / "style.png", "backbone-weights": desk / "net.pth"}
    given |= {"imgsz": 64, "steps": 4, "device": "cpu"} | others
    return [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("start", ["content", "noise"])
def test_the_command_paints(desk, tmp_path, one_thread, optimizer, start, capsys):
    out = tmp_path / "deep" / "out.png"
    assert main(["stylize", *flags(desk, out=out, optimizer=optimizer, start=start)]) == 0
    assert cv2.imread(str(out)).shape == (round(77 / 101 * 64), 64, 3)
    said = capsys.readouterr().out
    before, after = said[said.index("J ") :].split()[1], said.split("-> ")[-1].split()[0]
    assert float(after) < float(before)


def test_layers_by_name_and_previews(desk, tmp_path, one_thread, monkeypatch):
    shown = []
    monkeypatch.setattr("detect.data.image_writer.save_image", lambda path, image: shown.append(image))
    words = flags(desk, out=tmp_path / "o.jpg", content_layer="stages.2.6.expand3x3", every=2, steps=5)
    terms = stylize(parse("stylize", [*words, "--style-layers", "stages.0.0=2", "1", "stages.1.4"]))
    assert len(terms) == 6 and len(shown) == 3  # after two steps, four, and all
    assert not np.array_equal(shown[0], shown[-1])


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (
            {"content_layer": "stages.2.6.expand3x4"},
            "unknown layer 'stages.2.6.expand3x4': did you mean 'stages.2.6.exp",
        ),
        ({"content_layer": "conv4"}, "unknown layer 'conv4': known: aux, head"),
        ({"style_layers": "head.1"}, "unknown layer with a map 'head.1'"),
        ({"style_layers": "stages.0=much"}, "--style-layers stages.0=much: write NAME=WEIGHT"),
        ({"style_layers": "stages.0=0"}, "every weight is 0"),
        ({"content": "no.png"}, "no.png: there is no such image file"),
        ({"style": "no.png"}, "no.png: there is no such image file"),
        ({"content": None}, "needs --content, an image, or --data"),
        ({"data": "toy"}, "needs --content, an image, or --data"),
        ({"style": "a.png b.png"}, "no such image file"),
        ({"backbone-weights": None}, "needs trained weights of squeezenet1_1"),
        ({"backbone-weights": "no.pth"}, "no.pth cannot be read"),
        ({"backbone": "squeezenet"}, "unknown backbone 'squeezenet': did you mean 'squeezenet1_1'?"),
        ({"backbone": "resnet18"}, "nothing in it fits resnet18"),
        (
            {"backbone": "vgg11"},
            "weights of vgg11 are not in it, so its layers would not be trained",
        ),  # but the first fits
        ({"style_layers": "=1"}, "unknown layer '': known: aux, head"),
        ({"out": "picture"}, "--out picture: name an image file to write, such as picture.png"),
        ({"out": "/proc/none/o.png"}, "cannot be written"),
        ({"share": 0.5}, "--share is read with --data alone"),
        ({"content": None, "data": "toy", "every": 5}, "--every is read with --content alone"),
        ({"alpha": "0", "beta": "0", "tv": "0"}, "are all 0, so nothing would change"),
        ({"optimizer": "sgd"}, "unknown value of --optimizer 'sgd'"),
        ({"imgsz": "16"}, "--imgsz is 16: it must be from 32"),
    ],
)
def test_what_cannot_be_is_one_line(desk, tmp_path, others, said, capsys):
    assert main(["stylize", *flags(desk, **({"out": tmp_path / "o.png"} | others))]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and said in error


def test_nothing_that_is_read_is_written_over(desk, digits, tmp_path, capsys):
    before = (desk / "content.png").read_bytes()
    assert main(["stylize", *flags(desk, out=desk / "content.png")]) == 2
    assert "is an image that is read: name another" in capsys.readouterr().err
    assert main(["stylize", *flags(desk, content=None, data=digits, out=digits)]) == 2
    assert "is where the images of" in capsys.readouterr().err
    assert (desk / "content.png").read_bytes() == before and not (digits / "stylized.json").exists()


def test_copies_stay_out_of_the_data_and_of_what_is_no_copy(desk, digits, tmp_path, one_thread, capsys):
    shutil.copytree(digits, tmp_path / "data")
    shutil.copytree(digits / "train", tmp_path / "mine" / "train")
    before = {p: p.read_bytes() for p in sorted(tmp_path.rglob("*.*"))}

    def refused(out):
        assert main(["stylize", *flags(desk, content=None, data=tmp_path / "data", out=out, steps=1)]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert "is where the images of" in refused(tmp_path / "data" / "train" / "copies")
    assert "holds images, but no stylized.json that tells how they were made: choose another" in refused(
        tmp_path / "mine"
    )
    assert {p: p.read_bytes() for p in sorted(tmp_path.rglob("*.*"))} == before
    for said in ("[]", "null", "3"):
        (tmp_path / "mine" / "stylized.json").write_text(said)
        assert "does not tell how the copies beside it were made" in refused(tmp_path / "mine")
    (tmp_path / "mine" / "stylized.json").write_text('{"later": 1}')
    assert "made with another --" in refused(tmp_path / "mine")


def test_several_styles_are_for_sets(desk, tmp_path, capsys):
    words = [*flags(desk, out=tmp_path / "o.png", style=None), "--style", str(desk / "style.png"), "other.png"]
    assert main(["stylize", *words]) == 2 and "several --style are for --data" in capsys.readouterr().err


def test_a_image_of_one_row_is_too_small(desk, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "row.png"), np.zeros((1, 90, 3), np.uint8))
    assert main(["stylize", *flags(desk, out=tmp_path / "o.png", content=tmp_path / "row.png")]) == 2
    assert "too small" in capsys.readouterr().err and not (tmp_path / "o.png").exists()


def test_more_pixels_than_a_format_has_are_one_line(tmp_path):
    with pytest.raises(UserError, match=r"o.webp cannot be written: .webp files hold no 17000 x 1 pixels; take .png"):
        save_image(tmp_path / "o.webp", np.zeros((1, 17000, 3), np.uint8))


def test_copies_of_a_share_of_a_set(desk, digits, tmp_path, one_thread, capsys):
    out = tmp_path / "copies"
    words = flags(desk, content=None, data=digits, out=out, steps=1)
    assert main(["stylize", *words, "--share", "0.25"]) == 0
    made = sorted(p.relative_to(out) for p in out.rglob("*.jpg"))
    listed = json.loads((digits / "instances_train.json").read_text())["images"]
    assert 0 < len(made) < 10 and {str(p) for p in made} <= {image["file_name"] for image in listed}
    assert all(cv2.imread(str(out / p)).shape == (96, 96, 3) for p in made)
    kept = {p: (out / p).read_bytes() for p in made}
    assert main(["stylize", *words, "--share", "0.4"]) == 0  # those that there are stay, more come
    assert all((out / p).read_bytes() == kept[p] for p in made)
    assert len(list(out.rglob("*.jpg"))) > len(made)
    capsys.readouterr()
    assert main(["stylize", *words, "--steps", "2"]) == 2
    assert "holds copies made with another --steps: choose another --out" in capsys.readouterr().err
