"""The tour: its pages are complete, and its pictures can be drawn again."""

import re

import numpy as np
import pytest
import yaml
from PIL import Image

from detect.errors import UserError
from detect.explain.edges import filter_image
from tools import drawing, tour
from tools.topics import networks

pytestmark = pytest.mark.usefixtures("one_thread")
HEADINGS = ["Formula", "Run it", "Picture", "What to try next"]


def page(topic):
    return (tour.PAGES / f"{topic}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("topic", tour.TOPICS)
def test_a_page_has_its_formula_command_and_pictures(topic):
    text = page(topic)
    assert re.findall(r"^## (.+)$", text, re.M) == HEADINGS
    parts = dict(zip(HEADINGS, re.split(r"^## .+$", text, flags=re.M)[1:], strict=True))
    about = re.sub(r"\([^)]*\)|et al\.", "", text.partition("## ")[0].partition("\n")[2].strip().partition("\n\n")[0])
    assert 1 <= len(re.findall(r"[.?!](?=\s|$)", about)) <= 2  # what it is, in two sentences
    assert re.search("[=∝≈]", parts["Formula"])
    assert re.search(r"^```(sh|python) run$", parts["Run it"], re.M)
    assert f"`python tools/tour.py {topic}`" in parts["Picture"]
    pictures = re.findall(r"!\[([^\]]+)\]\((\w+)\.webp\)", text)
    assert pictures and f"![{pictures[0][0]}]" in parts["Picture"]
    for _, name in pictures:
        assert (tour.PAGES / f"{name}.webp").stat().st_size < 120 * 1024, name


@pytest.mark.parametrize("topic", tour.TOPICS)
def test_a_page_can_be_found(topic):
    assert f"({topic}.md)" in page("index")
    site = yaml.load((tour.ROOT / "mkdocs.yml").read_text(encoding="utf-8"), yaml.BaseLoader)
    assert "nav" not in site or f"tour/{topic}.md" in str(site["nav"])


@pytest.mark.parametrize("name", ["lenet5", "googlenet"])
def test_the_table_of_a_network_is_that_of_detect_info(name):
    assert f"<!-- {name} -->\n{networks.table(name)}\n<!-- /{name} -->" in page("networks")


def test_every_picture_has_a_page():
    shown = set(re.findall(r"\((\w+\.webp)\)", "".join(p.read_text(encoding="utf-8") for p in tour.PAGES.glob("*.md"))))
    assert {path.name for path in tour.PAGES.glob("*.webp")} == shown


def test_one_topic_is_drawn(tmp_path, capsys):
    assert tour.main(["padding", "--out", str(tmp_path)]) == 0
    with Image.open(tmp_path / "padding.webp") as drawn, Image.open(tour.PAGES / "padding.webp") as kept:
        assert drawn.size == pytest.approx(kept.size, rel=0.05)  # another version of a font may need a little more room
        small = [np.asarray(image.convert("L").resize((64, 64)), float) for image in (drawn, kept)]
        assert np.abs(small[0] - small[1]).mean() < 5
    assert tour.main(["paddings"]) == 2
    assert "did you mean 'padding'" in capsys.readouterr().err


@pytest.mark.slow
def test_everything_is_drawn(tmp_path):
    assert tour.main(["--out", str(tmp_path)]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in tour.PAGES.glob("*.webp")}
    assert all(path.stat().st_size < 120 * 1024 for path in tmp_path.iterdir())


def test_a_film_has_its_frames(tmp_path):
    drawing.save(tmp_path / "film.webp", [np.full((8, 8, 3), grey, np.uint8) for grey in (0, 120, 255)])
    with Image.open(tmp_path / "film.webp") as film:
        assert film.n_frames == 3


def test_any_filter_runs_on_any_image():
    image = np.arange(24.0).reshape(4, 6)
    assert filter_image(image, [[1.0]]).tolist() == image.tolist()
    assert filter_image(np.stack([image, 0 * image, 0 * image], 2), [[1.0]], mix=(1, 0, 0)).tolist() == image.tolist()
    assert filter_image(image, [[0, 1]], padding="same")[0].tolist() == [1, 2, 3, 4, 5, 0]  # the extra zero at the end
    assert filter_image(image, np.ones((3, 3)), stride=2).shape == (1, 2)
    assert filter_image(image.tolist(), "vertical").shape == (2, 4)
    for wrong in ("vertcal", np.ones((5, 5)), [1.0, 2.0]):
        with pytest.raises(UserError):
            filter_image(image, wrong)
