"""A set uses files of its own folders alone, whatever its lists, tables, annotations and links say."""

import json
import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detect.__main__ import main
from detect.data.images import read_header
from detect.data.roots import Roots, any_leaves, leaves
from detect.data.sources.formats import load_data
from detect.errors import UserError
from detect.utils.text_files import read_text
from tests.detect.test_formats import coco, image, text, xml
from tools import convert

ROW = "0 .5 .5 .5 .5\n"
LETS = r"\(--allow-outside permits it\)"


@given(st.lists(st.text(alphabet="./\\:\nahtps", max_size=6), max_size=4))
def test_many_names_are_looked_at_as_one(names):
    assert any_leaves(names) == any(map(leaves, names))


def secret(tmp_path):
    """An image, and its label file, that are no part of the set."""
    image(tmp_path / "private" / "images" / "x.png")
    text(tmp_path / "private" / "labels" / "x.txt", ROW)
    return tmp_path / "private" / "images" / "x.png"


def by_list(folder, far):
    text(folder / "list.txt", f"{far}\n")
    return text(folder / "data.yaml", {"train": "list.txt", "names": ["a"]})


def by_dots(folder, far):
    text(folder / "list.txt", f"{os.path.relpath(far, folder)}\n")
    return text(folder / "data.yaml", {"train": "list.txt", "names": ["a"]})


def by_link(folder, far):
    image(folder / "images" / "own.png")
    (folder / "images" / "x.png").symlink_to(far)
    return text(folder / "data.yaml", {"train": "images", "names": ["a"]})


def by_label(folder, far):
    image(folder / "images" / "x.png")
    (folder / "labels").mkdir()
    (folder / "labels" / "x.txt").symlink_to(far.parents[1] / "labels" / "x.txt")
    return text(folder / "data.yaml", {"train": "images", "names": ["a"]})


def by_labels(folder, far):
    image(folder / "images" / "x.png")
    (folder / "labels").symlink_to(far.parents[1] / "labels")
    return text(folder / "data.yaml", {"train": "images", "names": ["a"]})


def by_coco(folder, far):
    coco(folder / "instances_train.json", str(far))
    return folder


def by_coco_link(folder, far):
    coco(folder / "instances_train.json", "x.png")
    (folder / "images").symlink_to(far.parent)
    return folder


def by_coco_file(folder, far):
    image(folder / "x.png")
    coco(far.parent / "instances_train.json", "x.png")
    (folder / "instances_train.json").symlink_to(far.parent / "instances_train.json")
    return folder


def by_voc(folder, far):
    image(folder / "JPEGImages" / "own.png")
    xml(folder, "own", ("cat", 1, 2, 11, 7))
    xml(folder, "x", ("cat", 1, 2, 11, 7))
    (folder / "JPEGImages" / "x.png").symlink_to(far)
    return folder


def by_voc_folder(folder, far):
    xml(folder, "x", ("cat", 1, 2, 11, 7))
    (folder / "JPEGImages").symlink_to(far.parent)
    return folder


def by_points(folder, far):
    return text(folder / "train.csv", f"file,x0,y0\n{os.path.relpath(far, folder)},1,2\n")


def by_labels_csv(folder, far):
    return text(folder / "t.csv", f"file,label,split\n{far},cat,train\n")


def by_classes(folder, far):
    image(folder / "cat" / "1.png")
    image(folder / "cat" / "2.png")
    (folder / "dog").symlink_to(far.parent)
    return folder


WAYS = [by_list, by_dots, by_link, by_label, by_labels, by_coco, by_coco_link, by_coco_file]
WAYS += [by_voc, by_voc_folder, by_points, by_labels_csv, by_classes]


@pytest.mark.parametrize("way", WAYS)
def test_nothing_outside_is_opened_unless_it_is_allowed(tmp_path, monkeypatch, way):
    far, folder = secret(tmp_path), tmp_path / "set"
    folder.mkdir()
    data = way(folder, far)

    def watched(read):
        def reading(path, *rest, **options):
            assert str(tmp_path / "private") not in os.path.realpath(path), f"{path} was opened"
            return read(path, *rest, **options)

        return reading

    whole = "images" if way in (by_labels_csv, by_classes) else ""
    with monkeypatch.context() as patch:
        for module in ("yolo", "voc", "csv_tables", "image_folder"):
            patch.setattr(f"detect.data.sources.{module}.read_header", watched(read_header))
        for module in ("yolo", "yolo_files"):
            patch.setattr(f"detect.data.sources.{module}.read_text", watched(read_text))
        with pytest.raises(UserError, match=LETS) as error:
            load_data(data, "train", image_level_labels=whole)
        assert "\n" not in str(error.value)
    annotations = load_data(data, "train", image_level_labels=whole, allow_outside=True)
    assert any(os.path.isfile(annotations.image_path(i)) for i in range(len(annotations)))
    assert all(
        not os.path.isabs(annotations.file_name(i)) and ".." not in annotations.file_name(i)
        for i in range(len(annotations))
    )


def test_folders_that_the_user_names_and_links_within_are_followed(tmp_path):
    far = secret(tmp_path)
    for name in ("images", "labels"):
        (tmp_path / f"linked {name}").symlink_to(far.parents[1] / name)
    spec = text(tmp_path / "set" / "data.yaml", {"train": str(tmp_path / "private" / "images"), "names": ["a"]})
    assert len(load_data(spec, "train").boxes) == 1
    spec = text(tmp_path / "set" / "data.yaml", {"path": str(far.parents[1]), "train": "images", "names": ["a"]})
    assert len(load_data(spec, "train").boxes) == 1
    spec = text(tmp_path / "data.yaml", {"train": "linked images", "names": ["a"]})
    assert len(load_data(spec, "train")) == 1
    (tmp_path / "whole").symlink_to(far.parents[1])
    coco(far.parents[1] / "instances_train.json", "x.png")
    assert len(load_data(tmp_path / "whole", "train")) == 1
    image(tmp_path / "own" / "real" / "images" / "x.png")
    (tmp_path / "own" / "images").symlink_to("real/images")
    coco(tmp_path / "own" / "instances_train.json", "x.png")
    assert load_data(tmp_path / "own", "train").image_path(0).is_file()


def test_every_command_takes_the_flag(tmp_path, capsys):
    far, folder = secret(tmp_path), tmp_path / "set"
    folder.mkdir()
    coco(folder / "instances_train.json", str(far), str(shutil.copy(far, far.with_name("y.png"))))
    for arguments in (["check", "--data", str(folder)], ["anchors", "--data", str(folder), "--k", "1"]):
        assert main([*arguments, "--allow-outside"]) == 0
        capsys.readouterr()
        main(arguments)
        assert "--allow-outside permits it" in "".join(capsys.readouterr())
    assert convert.main([str(folder), "--out", str(tmp_path / "c.json")]) == 2
    assert convert.main([str(folder), "--out", str(tmp_path / "c.json"), "--allow-outside"]) == 0
    assert len(json.loads((tmp_path / "c.json").read_text())["images"]) == 2


def test_roots_hold_what_lies_below_them(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "ab").mkdir()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "round").symlink_to("round")
    roots = Roots(tmp_path / "a")
    for name, held in (("a/b/x", True), ("a", True), ("ab/x", False), ("a/up/x", False), ("a/up/a/x", True)):
        assert roots.holds(str(tmp_path / name)) == held, name
    for odd in ("a/round", "a/x\0y", "a/\ud83d", "a/" + "x" * 300):
        roots.holds(str(tmp_path / odd))
    assert roots.let_in(["b/x", "../a/b/x", "/a", "C:\\x", "..\\x", "up/x", 5, None], tmp_path / "a") == [
        *(True, False, False, False, False, False, True, True)
    ]
    assert roots.adding(tmp_path / "ab").holds(str(tmp_path / "ab" / "x"))
    assert Roots(tmp_path / "a", anywhere=True).adding(tmp_path).holds("/x")
