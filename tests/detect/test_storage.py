"""Files of object stores: fsspec's own store in memory here, a real S3 server in test_storage_s3.py."""

import itertools
import json
import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.__main__ import main
from detect.data.sources.formats import load_data
from detect.data.sources.unlabelled import load_unlabelled
from detect.data.validate import verify
from detect.errors import UserError, one_line
from detect.hub import offline
from detect.inference.source import open_source
from detect.storage import blobs, fetch, resolve, tries
from detect.storage.trees import Entry, locate, placeholder, plant, url_of
from detect.storage.urls import is_url, joined, safe, version
from detect.utils.atomic_io import open_file
from detect.utils.names import shown

fsspec = pytest.importorskip("fsspec", reason="the extra remote is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own, and no waiting; returns the pauses that were made."""
    pauses = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tries, "pause", pauses.append)
    resolve._remote.cache_clear()
    yield pauses
    resolve._remote.cache_clear()


@pytest.fixture
def store(digits):
    """The embedded set at memory://sets/digits; yields the store."""
    memory = fsspec.filesystem("memory")
    memory.put(str(digits), "/sets/digits", recursive=True)
    yield memory
    memory.rm("/sets", recursive=True)


def held():
    return sum(path.stat().st_size for path in (Path(os.environ["XDG_CACHE_HOME"]) / "gridhead" / "blobs").rglob("*.*"))


def test_a_dataset_by_url_is_the_dataset(store, digits):
    there, here = load_data("memory://sets/digits", "train"), load_data(digits, "train")
    assert len(there) == len(here) and there.names == here.names
    np.testing.assert_array_equal(there.boxes, here.boxes)
    assert [there.file_name(i) for i in range(len(there))] == [here.file_name(i) for i in range(len(here))]
    verify(there)
    for i in (0, len(here) - 1):
        np.testing.assert_array_equal(there.read(i), here.read(i))
    assert there.image_path(0).stat().st_size == here.image_path(0).stat().st_size
    assert shown(f"{there.image_path(0)}: bad") == f"memory://sets/digits/train/{there.image_path(0).name}: bad"


def test_a_file_is_fetched_once_and_again_when_it_left_the_cache(store, monkeypatch):
    image = load_data("memory://sets/digits", "val").image_path(0)
    fetched = []
    monkeypatch.setattr(fetch, "_get", lambda *args, real=fetch._get: (fetched.append(args[1]), real(*args))[1])
    for _ in range(3):
        open_file(image).close()
    assert len(fetched) == 1
    shutil.rmtree(Path(os.environ["XDG_CACHE_HOME"]) / "gridhead" / "blobs")
    open_file(image).close()
    assert len(fetched) == 2


def test_an_object_that_changes_is_an_error_and_the_next_start_reads_it_anew(store):
    data = load_data("memory://sets/digits", "val")
    name = f"/sets/digits/val/{data.image_path(0).name}"
    store.pipe(name, store.cat_file("/sets/digits/val/" + data.image_path(1).name))
    with pytest.raises(UserError, match=r"memory://sets/digits/val/\S+: the object has changed"):
        data.read(0)
    store.rm(name)
    with pytest.raises(UserError, match="has changed or was removed"):
        data.read(0)
    store.pipe(name, store.cat_file("/sets/digits/val/" + data.image_path(1).name))
    resolve._remote.cache_clear()
    anew = load_data("memory://sets/digits", "val")
    assert anew.root != data.root
    np.testing.assert_array_equal(anew.read(0), data.read(1))
    with pytest.raises(UserError, match="has changed"):  # what began before does not see the new one
        data.read(0)


def test_what_was_fetched_stays_of_its_version(store):
    data = load_data("memory://sets/digits", "val")
    first = data.read(0)
    store.pipe(f"/sets/digits/val/{data.image_path(0).name}", b"other")
    np.testing.assert_array_equal(data.read(0), first)


def test_missing_files_folders_and_drivers_are_one_line(store):
    for url, said in (
        ("memory://sets/none", "memory://sets/none: there is no such file or folder"),
        ("s4://sets/none", "s4://sets/none: this URL cannot be read"),
        ("dropbox://x/y", "dropbox"),
        ("s3://key:secret@bucket/x", "holds a user or password"),
        ("simplecache::s3://bucket/x", "of several parts"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            load_data(url, "train")
        assert "\n" not in one_line(caught.value) and "secret" not in one_line(caught.value)


def test_a_driver_that_is_missing_is_named_with_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(UserError, match=r"needs the package s3fs, which is missing: pip install 'gridhead\[remote\]'"):
        load_data("s3://bucket/set", "train")


def test_offline_forbids_what_is_not_on_this_machine(store):
    with offline():
        load_data("memory://sets/digits", "val").read(0)
        with pytest.raises(UserError, match="on the network, which --offline"):
            load_data("s3://bucket/set", "val")


class Failing:
    """A store that fails so often before it answers."""

    def __init__(self, *errors):
        self.errors = list(errors)

    def info(self, path):
        if self.errors:
            raise self.errors.pop(0)
        return {"size": 1}


@pytest.mark.parametrize("count", range(tries.TRIES + 1))
def test_requests_are_repeated_with_growing_pauses(monkeypatch, cache, count):
    failing = Failing(*[OSError(16, "slow down")] * count)
    monkeypatch.setattr(tries, "connect", lambda url: (failing, url))
    if count < tries.TRIES:
        assert tries.attempt("memory://x", lambda store, path: store.info(path)) == {"size": 1}
    else:
        with pytest.raises(UserError, match=r"tried 7 times, the last time: OSError: \[Errno 16\] slow down"):
            tries.attempt("memory://x", lambda store, path: store.info(path))
    assert len(cache) == min(count, tries.TRIES - 1)
    assert all(0 < pause <= 10 for pause in cache) and sum(cache) < 35
    assert all(early < 2.01 * late for early, late in itertools.pairwise(cache))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError("no"), "access denied"),
        (type("NoCredentialsError", (Exception,), {})(), "no valid credentials"),
    ],
)
def test_rights_are_not_asked_for_twice(monkeypatch, cache, error, said):
    monkeypatch.setattr(tries, "connect", lambda url: (Failing(error), url))
    with pytest.raises(UserError, match=said):
        tries.attempt("memory://x", lambda store, path: store.info(path))
    assert cache == []


def test_the_cache_stays_within_its_limit_and_the_least_recently_used_leave(store, monkeypatch):
    store.pipe({f"/sets/many/{i:02}.jpg": bytes(1000) for i in range(20)})
    folder = resolve.local("memory://sets/many")
    monkeypatch.setenv(blobs.LIMIT, "0.00001")  # 10,000 bytes
    paths = sorted(folder.iterdir())
    for i, path in enumerate(paths):
        open_file(path).close()
        blob = fetch.content(str(path))
        os.utime(blob, (time.time() - 50 + i,) * 2)
    assert 8_000 <= held() <= 10_000
    kept = [path for path in paths if os.path.exists(blobs.blob_path(locate(str(path)).url, path.stat().st_mtime_ns))]
    assert kept == paths[-len(kept) :]
    store.pipe("/sets/large/a.jpg", bytes(10_001))
    with pytest.raises(UserError, match=r"a.jpg has 10,001 bytes, more than the cache may hold \(10,000\); raise GRID"):
        open_file(resolve.local("memory://sets/large/a.jpg"))
    monkeypatch.setenv(blobs.LIMIT, "much")
    with pytest.raises(UserError, match="GRIDHEAD_REMOTE_CACHE_GB is 'much'"):
        open_file(paths[0])


def test_files_are_fetched_ahead_and_failures_wait_for_the_reader(store):
    data = load_data("memory://sets/digits", "train")
    data.fetch_ahead(range(len(data)))
    fetch.ahead([data.root / "train" / "none.jpg", "/etc/hostname"])
    deadline = time.monotonic() + 20
    count = len(data)
    blob_of = [
        fetch.blobs.blob_path(url_of(data.image_path(i)), data.image_path(i).stat().st_mtime_ns) for i in range(count)
    ]
    while not all(map(os.path.exists, blob_of)) and time.monotonic() < deadline:
        fetch._state.threads[0].join(0.01)
    assert all(map(os.path.exists, blob_of))


def read_in_child(path):
    with open_file(path) as file:
        return len(file.read())


def test_forked_processes_read_too(store):
    data = load_data("memory://sets/digits", "train")
    data.fetch_ahead(range(4))
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        paths = [data.image_path(i) for i in range(len(data))]
        assert list(pool.map(read_in_child, paths)) == [path.stat().st_size for path in paths]


def test_sources_by_url(store, digits):
    store.pipe("/sets/list.txt", b"digits/val/000017.jpg\n")
    for url, count in (
        ("memory://sets/digits/val", 8),
        ("memory://sets/digits/val/*2?.jpg", 5),
        ("memory://sets/digits/val/000017.jpg", 1),
        ("memory://sets/list.txt", 1),
    ):
        with open_source(url) as source:
            names = [frame.name for frame in source]
        assert len(names) == count and all(name.endswith(".jpg") and "gridhead" not in name for name in names), url
    with open_source("memory://sets/digits/video.mp4") as source:
        assert source.kind == "video" and next(iter(source)).image.ndim == 3
    assert len(load_unlabelled("memory://sets/digits/train")) == 16


def test_commands_take_urls(store, capsys):
    assert main(["anchors", "--data", "memory://sets/digits", "--k", "2"]) == 0
    assert "gridhead-trees" not in "".join(capsys.readouterr())
    assert main(["check", "--data", "memory://sets/none"]) == 2
    assert capsys.readouterr().err == "error: memory://sets/none: there is no such file or folder\n"


@pytest.mark.slow
def test_pages_show_urls(store, tmp_path, capsys):
    assert main(["check", "--data", "memory://sets/digits", "--page", str(tmp_path / "page.html")]) == 0
    assert "gridhead-trees" not in (tmp_path / "page.html").read_text() + "".join(capsys.readouterr())


def test_a_yaml_names_urls_where_the_user_named_it(store, digits, tmp_path):
    content = {"train": {"annotations": str(digits / "instances_train.json"), "images": "memory://sets/digits"}}
    path = tmp_path / "data.yaml"
    path.write_text(yaml.safe_dump(content))
    load_data(path, "train").read(0)
    with pytest.raises(UserError, match="name the YAML itself"):
        load_data(tmp_path, "train")
    load_data(tmp_path, "train", allow_outside=True).read(0)


@pytest.mark.parametrize("images", ["/etc", "https://127.0.0.1:9/x", "../../../etc"])
def test_a_remote_yaml_names_nothing_elsewhere(store, images):
    part = {"annotations": "digits/instances_train.json", "images": images}
    store.pipe("/sets/data.yaml", yaml.safe_dump({"train": part}).encode())
    with pytest.raises(UserError, match=r"--allow-outside permits it|no such file or folder"):
        load_data("memory://sets/data.yaml", "train")
    store.pipe("/sets/yolo.yaml", yaml.safe_dump({"train": images, "names": ["a"]}).encode())
    resolve._remote.cache_clear()
    with pytest.raises(UserError, match=r"--allow-outside permits it|there is no|no such file"):
        load_data("memory://sets/yolo.yaml", "train")


def test_a_remote_yaml_names_what_lies_in_its_store(store):
    part = {"annotations": "../digits/instances_train.json", "images": "memory://sets/digits"}
    store.pipe("/sets/yamls/data.yaml", yaml.safe_dump({"train": part}).encode())
    load_data("memory://sets/yamls/data.yaml", "train").read(0)


def test_urls_in_annotations_are_refused_unless_allowed(store, digits, tmp_path, monkeypatch):
    coco = json.loads((digits / "instances_val.json").read_text())
    for record in coco["images"]:
        record["file_name"] = f"memory://sets/digits/val/{Path(record['file_name']).name}"
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "instances_val.json").write_text(json.dumps(coco))
    with pytest.raises(UserError, match="--allow-outside permits it"):
        load_data(tmp_path / "set", "val")
    np.testing.assert_array_equal(
        load_data(tmp_path / "set", "val", allow_outside=True).read(0), load_data(digits, "val").read(0)
    )


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30), max_size=8, unique=True))
@settings(max_examples=12, deadline=None)
def test_no_name_of_an_object_leads_out_of_its_folder(names):
    try:
        tree = plant("memory://b/c", [Entry(name, 1, 10**9) for name in names])
    except UserError as error:
        assert "one object is called as the folder" in str(error)
        return
    folder = Path(tree.folder)
    found = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    assert set(found) <= set(names)
    for name in found:
        assert locate(str(folder / name)).name == name
    assert [path.name for path in folder.parent.iterdir()] == ["c"]


def test_versions_are_told_by_size_time_and_tag():
    one = {"size": 5, "ETag": '"abc"', "LastModified": "2026-01-02T03:04:05+00:00"}
    changes = ({"size": 6}, {"ETag": '"xyz"'}, {"LastModified": "2026-01-02T03:04:06+00:00"})
    assert len({version(one | change) for change in ({}, *changes)}) == 4
    assert version(one) == version(one | {"ETag": 'W/"abc"'})
    assert version({}) == (-1, version({})[1]) and version({"size": 3, "mtime": "not a time"})[0] == 3


def test_urls():
    assert is_url("s3://a/b") and not is_url("C:\\x") and not is_url("c:/x") and not is_url(Path("s3://a"))
    assert (
        joined("https://h/a/", "b c/d#.jpg") == "https://h/a/b%20c/d%23.jpg" and joined("s3://b", "c d") == "s3://b/c d"
    )
    assert safe("https://h/x.jpg?sig=1") == "https://h/x.jpg"


def test_a_placeholder_is_large_and_empty(tmp_path):
    placeholder(str(tmp_path / "x"), 10**8, 10**18 + 1000)
    status = (tmp_path / "x").stat()
    assert status.st_size == 10**8 and status.st_mtime_ns == 10**18 + 1000 and status.st_blocks < 100
    assert locate("/x/gridhead-trees/none/y") is None and url_of(tmp_path) == str(tmp_path)
