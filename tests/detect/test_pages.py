"""The page library: one file that works offline, in light and dark, by pointer and keyboard, for any text."""

import json
import re

import numpy as np
import pytest

from detect.__main__ import main
from detect.report import charts
from detect.report.html import Page
from detect.utils.overwrite import require_own
from tests.browser import check_look

RNG = np.random.default_rng(0)
HOSTILE = "</script><script>alert(1)</script>\u2028\u202e"


def example(classes=3):
    """A page with every kind of part."""
    page, names = Page("Every kind of part"), [f"class {i} of a long name" for i in range(classes)]
    page.text("A paragraph.")
    page.heading("Charts")
    page.curves({name: [(k, k / (i + 1)) for k in range(1, 9)] for i, name in enumerate(names[:10])}, "lines", "epoch")
    page.curves({"": [(1, 0.5)]}, "a point", "epoch", log=True)
    page.dots({"boxes": RNG.random((40, 2)).tolist(), "anchors": [(0.5, 0.5)]}, "dots", "width", "height")
    page.bars({name: i / 7 for i, name in enumerate(names)}, "bars")
    page.histogram(RNG.random(99), "histogram")
    page.heading("Tables")
    page.table(("class", "objects", "AP"), [(name, 20 - i, None if i == 1 else i / 9) for i, name in enumerate(names)])
    page.table((), [("model", "yolo_n")])
    page.matrix(np.eye(classes, dtype=int) * 7, names, names, "confusion")
    page.heading("Images")
    images = [(np.full((90, 120 * i, 3), 50 * i, np.uint8), f"image {i}") for i in range(1, 4)]
    page.image(images[2][0], "wide")
    page.gallery(images)
    page.code("a: 1\n" + "long " * 90)
    page.code("b: 2", "Settings")
    return page


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, kept = tmp_path_factory.mktemp("pages"), {}
    for classes in (3, 80):
        kept[classes] = folder / f"{classes}.html"
        kept[classes].write_text(str(example(classes)), encoding="utf-8")
    return kept


def test_every_part_fits_every_width_in_light_and_dark(files, page_at):
    page = page_at(files[80])
    assert page.locator(".plot svg").count() == 5
    check_look(page)
    check_look(page_at(files[3]))


def test_tables_sort_and_filter_by_keyboard(files, page_at):
    page = page_at(files[80])
    table = page.locator(".table").first
    rows = table.locator("tbody tr")
    button = table.get_by_role("button", name="AP")
    assert table.locator("tbody td.number:nth-child(3)").count() == rows.count()  # the dash stands where numbers do
    assert button.evaluate("one => one.offsetWidth + 28 > one.parentNode.offsetWidth")  # and the title above them
    button.press("Enter")
    assert table.get_by_role("columnheader", name="AP").get_attribute("aria-sort") == "ascending"
    values = table.locator("tbody tr td:nth-child(3)").all_inner_texts()
    assert values == [*sorted(values[:-1], key=float), "–"]  # a row without a value stays last
    button.press("Enter")
    assert table.locator("tbody tr td:nth-child(3)").all_inner_texts() == [*values[:-1][::-1], "–"]
    table.get_by_label("Filter").fill("class name 0.7")
    count = sum("0.7" in value for value in values)
    assert rows.locator("visible=true").count() == count and f"{count} of 80" in table.locator("output").inner_text()


def test_images_open_large_and_close_by_keyboard(files, page_at):
    page = page_at(files[3])
    page.locator(".gallery button").first.press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.is_visible() and "image 1" in dialog.inner_text()
    page.keyboard.press("ArrowRight")
    assert "image 2" in dialog.inner_text()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_charts_are_read_switched_and_told_as_tables(files, page_at):
    page = page_at(files[3])
    chart = page.locator(".chart").first
    box = chart.locator(".plot svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3)
    tooltip = page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert "class 0" in tooltip.inner_text() and "epoch" in tooltip.inner_text()
    lines = chart.locator(".mark-line path")
    assert lines.count() == 3
    chart.get_by_role("button", name="class 1").click()
    lines.nth(2).wait_for(state="detached")
    assert lines.count() == 2
    chart.get_by_text("Values as a table").click()
    chart.locator("details tr").nth(3 * 8).wait_for()
    assert chart.locator("details tr").count() == 1 + 3 * 8
    cell = page.locator(".matrix tbody td").first
    cell.hover()
    assert "7 (100 % of the row)" in page.locator(".reading").inner_text()


def test_any_text_is_harmless(tmp_path, page_at):
    page = Page(HOSTILE)
    page.heading(HOSTILE)
    page.curves({HOSTILE: [(0, 1)], "b": [(1, 2)]}, HOSTILE, HOSTILE, HOSTILE)
    page.dots({HOSTILE: [(0, 1)]}, HOSTILE)
    page.bars({HOSTILE: 1.0}, HOSTILE)
    page.gallery([(np.zeros((8, 8, 3), np.uint8), HOSTILE)])
    text = str(page)
    assert not {"\u2028", "\u202e"} & set(text) and "<script>alert" not in text
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    assert page_at(tmp_path / "page.html").locator("h1").inner_text() == HOSTILE[:-2] + "\\u2028\\u202e"


def test_the_same_parts_are_the_same_small_bytes():
    page = Page("t")
    page.curves({"a": [(0, 1 / 3), (1, float("nan")), (2, 2)]}, "c")
    assert str(page) == str(page)
    (spec,) = re.findall(r'<script type="application/json">(.*?)</script>', str(page))
    assert json.loads(spec)["data"]["values"] == [
        {"series": "a", "x": 0, "y": 0.33333},
        {"series": "a", "x": 2, "y": 2},
    ]
    assert len(str(page)) < 1_000_000 and "default-src &#39;none&#39;" in str(page)
    bare = Page("t")
    bare.table(("a",), [(1,)])
    assert len(str(bare)) < 20_000  # without charts, none of their code


def test_a_page_may_be_written_again(files):
    require_own(files[80], "page")


def test_many_points_are_thinned_and_ticks_are_whole_epochs():
    spec = charts.dot_spec({"boxes": [(i, i) for i in range(9000)], "few": [(1, 1)]})
    assert len(spec["data"]["values"]) == charts.MOST + 1
    for epochs in (1, 2, 3, 4, 5, 9, 40):
        drawn = charts.svg(charts.line_spec({"a": [(i, 0.5 + 0.1 / i) for i in range(1, epochs + 1)]}, "epoch"))
        ticks = re.findall(r"<text[^>]*>([^<]+)</text>", drawn.split(">epoch<")[0])
        assert ticks and len(set(ticks)) == len(ticks), ticks  # not 1, 2, 2: what is between is no epoch
    assert charts.line_spec({"a": [(1, 0.167)]})["encoding"]["y"]["axis"]["values"] == [0.167]
    assert charts.line_spec({"a": [(1, 0), (2, 0.7)]}, log_y=True)["data"]["values"] == [
        {"series": "a", "x": 2, "y": 0.7}
    ]


def test_the_library_is_kept_in_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("detect.report.charts.cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda snippet: f"made {snippet}")
    made = charts.library.__wrapped__()
    monkeypatch.undo()
    monkeypatch.setattr("detect.report.charts.cache_folder", lambda: tmp_path / "cache")
    assert made.startswith("made") and charts.library.__wrapped__() == made
    assert "vegaEmbed" in charts.library() and "</script" not in charts.library()


def test_the_page_of_anchors_fits_every_screen(digits, tmp_path, page_at):
    assert main(["anchors", "--data", str(digits), "--k", "3", "--plot", str(tmp_path / "a.html")]) == 0
    check_look(page_at(tmp_path / "a.html"))
