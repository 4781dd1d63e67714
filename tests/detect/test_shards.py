"""Datasets in shards: what is written is read as it was, from this machine and from a store."""

import io
import json
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from detect.config.augment import AugmentConfig
from detect.data.datasets.detection import CocoDataset
from detect.data.rng import SampleKey
from detect.data.sources.formats import load_data, splits
from detect.data.validate import verify
from detect.errors import UserError
from detect.storage import resolve
from detect.storage.shards import open_parquet
from detect.utils.atomic_io import open_file
from tools import convert

FORMS = ("webdataset", "parquet")


@pytest.fixture(scope="module")
def images(marked, tmp_path_factory):
    """The embedded set with keypoints, without its video."""
    folder = shutil.copytree(marked, tmp_path_factory.mktemp("images") / "digits")
    (folder / "instances_video.json").unlink()
    return folder


@pytest.fixture(scope="module", params=FORMS)
def shards(request, images, tmp_path_factory):
    """The embedded set with keypoints, as shards of a kind, and its name."""
    if request.param == "parquet":
        pytest.importorskip("pyarrow", reason="the extra remote is not installed")
    out = tmp_path_factory.mktemp("shards") / request.param
    convert.convert(str(images), out, form=request.param, megabytes=0.001 if request.param == "parquet" else 0.002)
    return out


def without_index(folder, copy):
    """A copy of the shards alone."""
    copy.mkdir()
    for path in folder.iterdir():
        if path.suffix != ".json":
            (copy / path.name).symlink_to(path)
    return copy


def same(one, other):
    assert len(one) == len(other) and one.names == other.names
    assert one.category_ids.tolist() == other.category_ids.tolist()
    for key in ("starts", "boxes", "labels", "crowd", "areas", "keypoints", "sizes"):
        np.testing.assert_array_equal(getattr(one, key), getattr(other, key))
    assert one.keypoint_names == other.keypoint_names and one.skeleton == other.skeleton
    assert all((one.read(i) == other.read(i)).all() for i in range(len(one)))


def test_shards_are_the_dataset(shards, images):
    assert splits(shards) == ["train", "val"] and len(list(shards.glob("train-*"))) > 2
    for split in ("train", "val"):
        found, given = load_data(shards, split), load_data(images, split)
        same(found, given)
        assert found.ids.tolist() == given.ids.tolist() and found.image_ids.tolist() == given.image_ids.tolist()
        verify(found)


def test_shards_alone_are_the_dataset(shards, images, tmp_path):
    alone = without_index(shards, tmp_path / "alone")
    assert splits(alone, allow_outside=True) == ["train", "val"]
    same(load_data(alone, "train", allow_outside=True), load_data(images, "train"))
    with pytest.raises(UserError, match="--allow-outside permits it"):  # they are links that lead out
        load_data(alone, "train")


def test_training_samples_of_shards_are_those_of_files(shards, images):
    both = [
        CocoDataset(load_data(data, "train"), 64, AugmentConfig(flip=0), seed=3, epochs=40) for data in (shards, images)
    ]
    for position in (0, 7, 15):
        (image, target), (other, given) = (dataset[SampleKey(1, position, 64)] for dataset in both)
        assert (image == other).all() and (target.boxes == given.boxes).all() and target.image_id == given.image_id


def test_the_same_dataset_gives_the_same_bytes(shards, images, tmp_path):
    form = "parquet" if list(shards.glob("*.parquet")) else "webdataset"
    convert.convert(str(images), tmp_path / "again", form=form, megabytes=0.001 if form == "parquet" else 0.002)
    assert {path.name: path.read_bytes() for path in shards.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()
    }
    with pytest.raises(UserError, match="holds something already"):
        convert.convert(str(images), tmp_path / "again", form=form)


def test_shards_that_were_not_written_to_the_end_are_not_read(images, tmp_path, monkeypatch):
    write = convert.write_shards

    def interrupted(dataset, out, split, *options):
        if split == "val":
            raise KeyboardInterrupt
        return write(dataset, out, split, *options)

    monkeypatch.setattr(convert, "write_shards", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert.convert(str(images), tmp_path / "part", form="webdataset")
    for place in (tmp_path / "part", *(tmp_path / "part").glob("*.json")):
        with pytest.raises(UserError, match="writing it was interrupted"):
            splits(place)


def test_shards_in_a_store(shards, images, tmp_path, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    resolve._remote.cache_clear()
    memory = fsspec.filesystem("memory")
    memory.put(str(shards), "/shards/set", recursive=True)
    try:
        data = load_data("memory://shards/set", "train")
        data.read(3)
        kept = list((tmp_path / "cache" / "gridhead" / "blobs").rglob("*.tar"))
        wholes = {path.stat().st_size for path in shards.glob("*.tar")}
        assert not [path for path in kept if path.stat().st_size in wholes]  # of a tar, the image alone
        same(data, load_data(images, "train"))
        for path in shards.glob("*.json"):
            memory.rm(f"/shards/set/{path.name}")
        resolve._remote.cache_clear()
        same(load_data("memory://shards/set", "train"), load_data(images, "train"))
    finally:
        memory.rm("/shards", recursive=True)
        resolve._remote.cache_clear()


def jpeg(width=40, height=20):
    file = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(file, "JPEG")
    return file.getvalue()


def tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            if isinstance(data, str):
                member.type, member.linkname = tarfile.SYMTYPE, data
                archive.addfile(member)
                continue
            data = data if isinstance(data, bytes) else json.dumps(data).encode()
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


BOX = {"bbox": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("labels", "names", "ids"),
    [
        ({"annotations": [BOX | {"category_id": 7}, BOX | {"category_id": 3}]}, ["3", "7"], [3, 7]),
        ({"annotations": [BOX | {"category_id": 7, "category": "cat"}]}, ["cat"], [7]),
        ([BOX | {"label": "b"}, BOX | {"label": "a"}], ["a", "b"], [0, 1]),
        ({"objects": {"bbox": [[1, 2, 3, 4]], "category": ["dog"]}, "width": 40, "height": 20}, ["dog"], [0]),
    ],
)
def test_tars_of_others(tmp_path, labels, names, ids):
    tar(tmp_path / "train-0001.tar", [("a/x.jpg", jpeg()), ("a/x.json", labels), ("a/x.cls", b"1")])
    data = load_data(tmp_path, "train")
    assert data.names == names and data.category_ids.tolist() == ids
    assert data.boxes[0].tolist() == [1, 2, 3, 4] and data.read(0).shape == (20, 40, 3)
    assert load_data(tmp_path / "train-0001.tar", "train").names == names


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("x.jpg", jpeg())], "has no labels"),
        ([("x.jpg", jpeg()), ("x.json", b"{")], "broken json"),
        ([("x.jpg", jpeg()), ("x.json", {"annotations": 3})], "no list of objects"),
        ([("x.jpg", jpeg()), ("x.json", {"objects": {"bbox": [1], "category": []}})], "different lengths"),
        ([("x.jpg", jpeg()), ("x.json", [{"category": "a"}])], "bbox None"),
        ([("x.jpg", jpeg()), ("x.json", [BOX | {"category_id": [1]}])], "category "),
        ([("x.json", [])], "no image"),
    ],
)
def test_bad_tars_name_the_sample(tmp_path, members, said):
    good = [("y.jpg", jpeg()), ("y.json", [BOX | {"category": "a"}])]
    tar(tmp_path / "train-0.tar", members if said == "no image" else [*members, *good])
    with pytest.raises(UserError, match=said) as caught:
        load_data(tmp_path, "train")
    assert said == "no image" or ("train-0.tar" in str(caught.value) and "x.j" in str(caught.value))
    if said != "no image":
        data = load_data(tmp_path, "train", skip_bad=True)
        assert len(data.boxes) == 1 and data.left_out


def test_names_in_tars_lead_nowhere(tmp_path):
    label = [BOX | {"category": "a"}]
    members = [("../../evil.jpg", jpeg()), ("../../evil.json", label), ("/etc/x.jpg", jpeg()), ("/etc/x.json", label)]
    tar(tmp_path / "set" / "train-0.tar", [*members, ("l.jpg", "/etc/hostname"), ("l.json", label)])
    data = load_data(tmp_path / "set", "train")
    assert [data.file_name(i).rpartition("/")[2] for i in range(len(data))] == ["evil.jpg", "x.jpg"]
    verify(data)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["set", "train-0.tar"]


def test_shards_that_are_damaged_or_do_not_reach(tmp_path):
    whole = tar(tmp_path / "train-0.tar", [("x.jpg", jpeg()), ("x.json", [BOX | {"category": "a"}])]).read_bytes()
    (tmp_path / "train-0.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(UserError, match=r"train-0\.tar: not a readable tar"):
        load_data(tmp_path, "train")
    (tmp_path / "train-0.tar").write_bytes(whole)
    for place in ("999999+10/x.jpg", "0+99999999/x.jpg", "0+9999999999999/x.jpg"):
        with pytest.raises((OSError, UserError)):
            open_file(tmp_path / "train-0.tar" / place)
    with pytest.raises(OSError):
        open_file(tmp_path / "none.tar" / "0+10" / "x.jpg")


def test_parquet_of_others(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [
        {
            "image": {"bytes": jpeg(), "path": "../../x.jpg"},
            "objects": {"bbox": [[1, 2, 3, 4]] * n, "category": [1] * n},
        }
        for n in (1, 0, 2)
    ]
    names = {"info": {"features": {"objects": {"feature": {"category": {"names": ["a", "b"]}}}}}}
    table = pa.Table.from_pylist(rows).replace_schema_metadata({"huggingface": json.dumps(names)})
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data" / "validation-00000-of-00001.parquet", row_group_size=2)
    data = load_data(tmp_path, "val")
    assert data.names == ["a", "b"] and data.starts.tolist() == [0, 1, 1, 3] and data.read(2).shape == (20, 40, 3)
    for place in ("0-2/x.jpg", "7-0/x.jpg"):
        with pytest.raises(OSError):
            open_file(tmp_path / "data" / "validation-00000-of-00001.parquet" / place)
    (tmp_path / "data" / "validation-00000-of-00001.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        load_data(tmp_path, "val")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "train.parquet")
    with pytest.raises(UserError, match="no column holds images"):
        load_data(tmp_path / "train.parquet", "train")
    assert open_parquet(str(tmp_path / "train.parquet"), "x").num_row_groups == 1
