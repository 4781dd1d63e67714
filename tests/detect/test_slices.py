"""`detect evaluate --slice` and `--against`: a slice is an evaluation of its own, a difference that of two."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from detect.__main__ import main
from detect.data.sources.formats import load_data
from detect.errors import UserError
from detect.evaluation.bootstrap import bootstrap, draw_weights, influence
from detect.evaluation.coco import CocoEvaluator
from detect.evaluation.coco_protocol import summarize
from detect.evaluation.difference import compare, difference
from detect.evaluation.slices import image_groups, slices
from tests.detect.test_bootstrap import guesses


@pytest.fixture(scope="module")
def annotations(digits):
    return load_data(digits, "val")


def evaluator_of(annotations, seed, shift=3.0):
    made = CocoEvaluator(annotations)
    made.extend(guesses(annotations, np.random.default_rng(seed), shift))
    return made


@pytest.fixture(scope="module")
def evaluator(annotations):
    return evaluator_of(annotations, 0)


@pytest.mark.parametrize("kind", ["brightness", "crowding", "folder"])
def test_a_slice_of_images_is_an_evaluation_of_them(kind, annotations, evaluator):
    place, names = image_groups(kind, annotations)
    found = list(slices([kind], evaluator, annotations, resamples=20))
    assert [one.name for one in found] == [name for k, name in enumerate(names) if (place == k).any()]
    for one in found:
        some = annotations.select(np.flatnonzero(place == names.index(one.name)))
        alone = summarize(some, evaluator.records().of_images(some.image_ids))
        expected = {name: value for name, value in alone.numbers.items() if value >= 0}
        got = {name[0]: value for name, value in one.numbers.estimates.items() if len(name) == 1}
        assert got == pytest.approx(expected, abs=1e-12)
        assert (one.images, one.objects) == (len(some), len(some.ids))


def test_slices_of_sizes_are_those_of_the_protocol(annotations, evaluator):
    found = list(slices(["size", "aspect"], evaluator, annotations, resamples=20))
    for one, name in zip(found, ("APs", "APm", "APl"), strict=False):
        value, sure = one.number("AP")
        expected = evaluator.result()[name]
        assert value == (pytest.approx(expected, abs=1e-12) if expected >= 0 else None)
        assert value is None or sure is None or sure[0] <= value <= sure[1]
    for kind in ("size", "aspect"):
        assert sum(one.objects for one in found if one.by == kind) == len(annotations.ids)


def test_columns_come_from_the_records_or_from_a_table(annotations, evaluator, tmp_path):
    coco = annotations.to_coco()
    for n, one in enumerate(coco["images"]):
        one |= {"weather": "rain" if n % 2 else "sun", "iso": 100 * n, "few": n % 2}
    (tmp_path / "val.json").write_text(json.dumps(coco))
    own = replace(annotations, path=tmp_path / "val.json")
    place, names = image_groups("weather", own)
    assert names == ["sun", "rain"] and place.tolist() == [0, 1] * (len(own) // 2)
    assert image_groups("few", own)[1] == ["0", "1"]
    with pytest.raises(UserError, match=r"slice sunshine is no key of the image records of .*few, .*weather"):
        image_groups("sunshine", own)
    lines = [f"{own.file_name(i)},{'day' if i else 'night'},{i * 0.5}" for i in range(len(own) - 1)]
    (tmp_path / "t.csv").write_text("\n".join(["image,Time,value", *lines]))
    place, names = image_groups("Time", own, str(tmp_path / "t.csv"))
    assert [names[k] for k in place] == ["night", *["day"] * (len(own) - 2), "none"]
    with pytest.raises(UserError, match="names no column place; it has: image, time, value"):
        image_groups("place", own, str(tmp_path / "t.csv"))
    (tmp_path / "t.csv").write_text(f"image,Time\n{own.file_name(0)},day\n{own.file_name(0)},night\n")
    with pytest.raises(UserError, match="is listed twice, with 'day' and 'night'"):
        image_groups("Time", own, str(tmp_path / "t.csv"))
    with pytest.raises(UserError, match="--slice size parts the objects of detectors"):
        list(slices(["size"], object(), own))


def test_numbers_fall_into_quarters(annotations, tmp_path):
    lines = [f"{annotations.file_name(i)},{i}.5" for i in range(len(annotations))]
    (tmp_path / "t.csv").write_text("\n".join(["image,iso", *lines]))
    names = image_groups("iso", annotations, str(tmp_path / "t.csv"))[1]
    assert len(names) == len(annotations)  # few distinct ones
    many = annotations.select(np.tile(np.arange(len(annotations)), 2))
    table = ["image,iso", *(f"{many.file_name(i)},{i}.25" for i in range(len(annotations)))]
    (tmp_path / "t.csv").write_text("\n".join(table))
    assert set(image_groups("iso", many, str(tmp_path / "t.csv"))[1]) >= {"0.25", "7.25"}


def test_what_an_image_adds_is_what_is_lost_without_it(annotations, evaluator):
    other = evaluator_of(annotations, 1, 6.0)
    found = influence(evaluator, other, len(annotations), "AP")
    whole = evaluator.result()["AP"] - other.result()["AP"]
    for i in range(len(annotations)):
        rest = annotations.select(np.delete(np.arange(len(annotations)), i))
        sides = [summarize(rest, one.records().of_images(rest.image_ids)).numbers["AP"] for one in (evaluator, other)]
        assert found[i] == pytest.approx(whole - (sides[0] - sides[1]), abs=1e-12)


def test_a_comparison_is_paired(annotations, evaluator):
    weights, other = draw_weights(len(annotations), 100), evaluator_of(annotations, 1, 6.0)
    ours, theirs = bootstrap(evaluator, weights), bootstrap(other, weights)
    found = compare((evaluator, ours), (other, theirs), len(annotations), "AP", "other")
    one = next(one for one in found.single() if one.name == ("AP",))
    assert one.difference == pytest.approx(evaluator.result()["AP"] - other.result()["AP"])
    assert one.interval[0] < one.difference < one.interval[1] and 0.01 <= one.p <= 1
    assert one == difference(ours, theirs, ("AP",))
    better, worse = found.images(3)
    assert all(found.influence[better] > 0) and all(found.influence[worse] < 0)
    largest = [abs(one.difference) for one in found.groups()["per_class"]]
    assert largest == sorted(largest, reverse=True)
    same = compare((evaluator, ours), (evaluator, ours), len(annotations), "AP", "itself")
    assert all(one.difference == 0 and one.p == 1 and one.interval is None for one in same.differences)
    assert same.images(3) == ([], [])
    error = compare((evaluator, ours), (other, theirs), len(annotations), "-AP", "other")
    assert error.influence.tolist() == (-found.influence).tolist()


def test_the_command_slices_and_compares_files(digits, annotations, evaluator, tmp_path, capsys):
    evaluator.write(tmp_path / "a.json")
    evaluator_of(annotations, 1, 6.0).write(tmp_path / "b.json")
    names = {name: str(tmp_path / name) for name in ("a.json", "b.json", "n.json", "page.html")}
    words = ["evaluate", "--results", names["a.json"], "--data", str(digits), "--against", names["b.json"]]
    more = ["--slice", "size", "brightness", "--json", names["n.json"], "--page", names["page.html"]]
    assert main([*words, *more, "--resamples", "50", "--examples", "2"]) == 0
    said, got = capsys.readouterr().out, json.loads((tmp_path / "n.json").read_text())
    assert re.search(r"AP +0\.\d{3} - 0\.\d{3} = [+-]0\.\d{3}  \([+-]", said) and "images that got better" in said
    assert "AP by size (95 % interval)" in said and "AP by brightness" in said
    assert got["against"]["numbers"]["AP"]["value"] == got["AP"] and got["against"]["images"]["better"]
    assert {one["by"] for one in got["slices"]} == {"size", "brightness"}
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Images that got better" in page and "By brightness" in page
    assert main([*words, "--resamples", "0"]) == 2
    assert "leave --resamples 0 out" in capsys.readouterr().err
    assert main([*words[:-1], str(tmp_path / "none.json")]) == 2
    assert "none.json: there is no such file" in capsys.readouterr().err
