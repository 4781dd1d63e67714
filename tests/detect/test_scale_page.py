"""docs/scale.md and the command that computes its tables."""

import json
import os
from pathlib import Path

import pytest

from detect.errors import UserError
from tools import scale as tool

pytestmark = pytest.mark.usefixtures("one_thread")
DATA = Path(os.environ.get("GRIDHEAD_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


@pytest.fixture
def figures():
    return json.loads(tool.FIGURES.read_text(encoding="utf-8"))


def test_the_page_shows_what_the_command_computes(figures):
    page = tool.PAGE.read_text(encoding="utf-8")
    assert tool.written(page, figures) == page
    for marker in ("measured", "machines", "bulk", "training"):
        assert page.count(f"<!-- {marker} -->\n|") == page.count(f"<!-- /{marker} -->") == 1
    for name, share in tool.UTILISATION.items():
        assert f"{100 * share:.0f} % (`{name}`)" in page
    assert f"as {tool.VCPU} of" in page
    assert f"{100 * tool.LINE:.0f} % of the line" in page and f"${tool.REQUESTS:.2f} for a million" in page


def test_the_least_of_the_parts_is_the_rate():
    machine = tool.Machine("one", 2.0, 4, 8, "1 GPU", 10)
    found = tool.rates(machine, core_ms=20, kilobytes=1000, operations=1e10, share=0.1)
    assert found == pytest.approx({"CPU": 200, "network": 700, "GPU": 100})
    assert tool.limits(found) == ["100", "GPU", "100 %"]
    assert tool.limits(tool.rates(machine, 80, 1000, 1e10, 0.1)) == ["50.0", "CPU", "50 %"]
    assert tool.limits(tool.rates(machine._replace(peak=0), 20, 7000, 1e10, 0.1)) == ["100", "network", "-"]


def test_time_and_cost_follow_from_the_rate(figures, monkeypatch):
    figures["images"]["web"] |= {"decode_ms": 2.0, "letterbox_ms": 1.0, "kilobytes": 1}
    figures["networks"] = {"yolo_n": {"macs": 1e9, "forward_ms": 36.0, "after_ms": 0.5}}
    figures["writing"]["ms"], figures["sample_ms"] = 0.5, 10.0
    plain = tool.Machine("cores", 1.8, 10, 25, "none", 0)
    rent = tool.at_prices((plain, tool.Machine("gpu", 7.2, 10, 25, "1", 1000)), ["gpu=3.6"])
    monkeypatch.setattr(tool, "BULK", (("yolo_n", "web"),))
    monkeypatch.setattr(tool, "SETS", (("COCO", 36_000, 100),))
    cores, gpu = tool.bulk(figures, rent).splitlines()[2:]
    assert cores.split(" | ")[1:] == ["250", "CPU", "-", "1.11", "2.00", "4.63", "200", "15.4", "20,000 |"]
    assert gpu.split(" | ")[1:4] == ["2,500", "CPU", "10 %"]
    (line,) = tool.training(figures, rent).splitlines()[2:]
    assert line.split(" | ")[1:] == ["1,000", "CPU", "12 %", "1.00", "3.60 |"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.0123"), (1.234, "1.23"), (99.94, "99.9"), (1234567, "1,234,567")]
)
def test_amounts_have_three_digits(value, text):
    assert tool.amount(value) == text


def test_a_folder_without_the_set_is_named(tmp_path):
    with pytest.raises(UserError, match="coco-mini"):
        tool.jpegs(tmp_path, 2)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"real data are not at {DATA} (set GRIDHEAD_DATA)")
def test_everything_is_measured(figures, monkeypatch):
    monkeypatch.setattr(tool, "processor_time", lambda work, *_: (work(), 1.0)[1])
    found = tool.measure(DATA, 30, ["yolo_n"])
    assert found.keys() == figures.keys()
    assert found["networks"]["yolo_n"]["macs"] == figures["networks"]["yolo_n"]["macs"]
    assert found["images"]["photo"]["megapixels"] == 12


@pytest.mark.parametrize("text", ["p5.48xlarge", "p5.48xlarge=much", "p5=98.32"])
def test_a_price_is_that_of_a_machine(text, capsys):
    assert tool.main(["--price", text]) == 2
    assert f"--price {text.partition('=')[0]}" in capsys.readouterr().err
