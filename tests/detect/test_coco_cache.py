"""Labels that are read from the cache: the same as from the json, and never those of another file."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from detect.data.sources import coco, coco_cache
from detect.data.sources.coco import load_coco
from detect.errors import UserError
from detect.utils.json_parts import read_in_parts

POINTS = [1, 2, 2, 0, 0, 0]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder whose COCO file is large enough for the cache; `reads` counts how often it is read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(coco_cache, "LEAST", 1)
    data = tmp_path / "data"
    data.mkdir()
    write(data)
    return data


@pytest.fixture
def reads(monkeypatch):
    found = []

    def counted(*arguments):
        found.append(arguments[0])
        return read_in_parts(*arguments)

    monkeypatch.setattr(coco, "read_in_parts", counted)
    return found


def write(folder, **changes):
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 9, "height": 8} for i in (3, 1, 2)]
    boxes = [
        {"id": i, "image_id": 1 + i % 3, "category_id": 7, "bbox": [1, 1, 4, 4.5], "keypoints": POINTS}
        | {"segmentation": [[1, 1, 5, 1, 5, 5.5]], "iscrowd": i % 2, **changes}
        for i in range(8)
    ]
    classes = [{"id": 7, "name": "é", "keypoints": ["left", "right"]}]
    content = {"images": images, "annotations": boxes, "categories": classes, "info": {"year": 2017}}
    (folder / "set.json").write_text(json.dumps(content))


def kept(folder):
    for writer in coco_cache._WRITERS.values():
        writer.join()
    return sorted((folder.parent / "cache").rglob("*.arrays"))


def test_a_second_start_reads_no_json_and_finds_the_same(folder, reads):
    first, second = (load_coco(folder / "set.json") for _ in range(2))
    assert len(reads) == 1
    assert json.dumps(first.to_coco()) == json.dumps(second.to_coco())
    assert second.names == ["é"]
    assert second.flip_pairs == [[0, 1]]
    for name in ("image_ids", "sizes", "starts", "boxes", "labels", "crowd", "areas", "ids", "keypoints"):
        one, other = getattr(first, name), getattr(second, name)
        assert (one.dtype, one.tolist()) == (other.dtype, other.tolist()), name
    assert [path.name for path in folder.iterdir()] == ["set.json"]


def test_another_file_of_the_same_size_and_time_is_read_anew(folder, reads):
    load_coco(folder / "set.json")
    before = os.stat(folder / "set.json")
    write(folder, bbox=[2, 1, 4, 4.5])
    os.utime(folder / "set.json", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(folder / "set.json").st_size == before.st_size
    assert (load_coco(folder / "set.json").boxes[:, 0] == 2).all()
    assert len(reads) == 2


def test_a_program_that_ends_at_once_has_kept_what_it_read(folder, reads):
    lines = ["from detect.data.sources import coco, coco_cache", "coco_cache.LEAST = 1", "coco.load_coco('set.json')"]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=folder, check=True)
    load_coco(folder / "set.json")
    assert not reads


def test_a_cache_that_cannot_be_written_is_a_warning(folder, reads, monkeypatch, capsys):
    def full(*_):
        raise UserError("the disk is full")

    monkeypatch.setattr(coco_cache, "write_arrays", full)
    for _ in range(2):
        assert len(load_coco(folder / "set.json")) == 3
        assert not kept(folder)
    assert len(reads) == 2
    assert f"{folder / 'set.json'} are read anew next time" in capsys.readouterr().err


@pytest.mark.parametrize("place", [0, 9, 200, -300, -40, -1])
def test_a_damaged_cache_is_made_anew(folder, reads, place):
    first = load_coco(folder / "set.json")
    (path,) = kept(folder)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert np.array_equal(load_coco(folder / "set.json").boxes, first.boxes)
    load_coco(folder / "set.json")
    assert len(reads) == 2


def test_a_cut_or_foreign_cache_is_made_anew(folder, reads):
    load_coco(folder / "set.json")
    (path,) = kept(folder)
    for data in (b"", b"x" * 33, path.read_bytes()[:100]):
        path.write_bytes(data)
        load_coco(folder / "set.json")
        assert kept(folder) == [path]  # written, too
    assert len(reads) == 4


@pytest.mark.parametrize("changes", [{"id": None}, {"corners": [[1, 1], [5, 1], [5, 5], [1, 5]]}, {"segmentation": 3}])
def test_what_columns_do_not_say_is_not_kept(folder, reads, changes):
    write(folder, **changes)
    first, second = (load_coco(folder / "set.json") for _ in range(2))
    assert json.dumps(first.to_coco()) == json.dumps(second.to_coco())
    assert first.bad_outlines == second.bad_outlines
    assert not kept(folder)
    assert len(reads) == 2


def test_bad_records_are_told_every_time(folder):
    write(folder, bbox=[1, 1, -4, 4])
    for _ in range(2):
        with pytest.raises(UserError, match="annotation id 0"):
            load_coco(folder / "set.json")
    assert not kept(folder)


def test_the_cache_is_bounded_and_keeps_what_was_used_last(folder, monkeypatch):
    load_coco(folder / "set.json")
    (first,) = kept(folder)
    os.utime(first, (1, 1))
    monkeypatch.setattr(coco_cache, "MOST", first.stat().st_size + 100)
    (folder / "other.json").write_bytes((folder / "set.json").read_bytes())
    load_coco(folder / "other.json")
    (second,) = kept(folder)
    assert second != first
    monkeypatch.setattr(coco_cache, "MOST", 10)
    (folder / "third.json").write_bytes((folder / "set.json").read_bytes())
    load_coco(folder / "third.json")
    assert kept(folder) == [second]


def test_without_a_cache_folder_labels_are_read_all_the_same(folder, reads, monkeypatch):
    (folder.parent / "cache").write_text("in the way")
    assert len(load_coco(folder / "set.json")) == 3
    assert len(reads) == 1
