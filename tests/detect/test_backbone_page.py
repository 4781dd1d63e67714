"""docs/results/backbones.md and the command that writes its tables."""

import json

import pytest

from detect.registry import REGISTRIES
from tools import backbones as tool

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def figures():
    return json.loads(tool.FIGURES.read_text(encoding="utf-8"))


def test_the_page_shows_the_figures_of_every_network(figures):
    page = tool.PAGE.read_text(encoding="utf-8")
    assert set(figures) == set(REGISTRIES["backbone"])
    assert tool.written(page, figures) == page
    assert all(page.count(f"| `{name}` |") >= 1 for name in REGISTRIES["backbone"])


@pytest.mark.parametrize("name", tool.SMALLEST)
def test_what_can_be_counted_is_as_the_page_says(figures, name):
    now = tool.counts(name)
    assert {key: figures[name][key] for key in now} == now


def test_what_was_measured_before_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(tool, "FIGURES", tmp_path / "figures.json")
    tool.PAGE.write_text(
        "before\n<!-- networks -->\nold\n<!-- /networks -->\n<!-- scaling -->\n<!-- /scaling -->\nafter\n"
    )
    tool.FIGURES.write_text(json.dumps({"lenet5": {"ap": 0.125, "ms224": 1.5}}))
    measured = []
    monkeypatch.setattr(tool, "latency", lambda name, size: measured.append((name, size)) or 2.5)
    monkeypatch.setattr(tool, "precision", lambda name: measured.append(name) or 0.5)
    tool.main(["--only", "lenet5", "--ap"])
    assert measured == []
    lines = tool.PAGE.read_text().splitlines()
    assert lines[0] == "before" and lines[-1] == "after" and "old" not in lines
    (row,) = [line for line in lines if line.startswith("| `lenet5`")]
    assert row.startswith("| `lenet5` | 32 | 16 | 0.06 |") and row.endswith("| 1.5 | - | 0.125 |")
    assert "| `efficientnet_b7` | 1.95 | 3.58 | 596 | 2 | 3.1 | 600 |" in lines
    tool.main(["--only", "lenet5", "--latency"])
    assert measured == [("lenet5", 640)]
    tool.main(["--only", "lenet5", "--latency", "--ap", "--again"])
    assert measured == [("lenet5", 640), ("lenet5", 224), ("lenet5", 640), "lenet5"]
    assert json.loads(tool.FIGURES.read_text())["lenet5"]["ap"] == 0.5


def test_a_network_is_timed():
    assert 0 < tool.latency("lenet5", 32, least=2, seconds=0) < 1e5
