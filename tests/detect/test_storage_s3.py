"""Datasets in a real S3 server on this machine, with the faults of real ones."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from detect.__main__ import main
from detect.data.sources.formats import load_data
from detect.data.validate import verify
from detect.errors import UserError, one_line
from detect.storage import resolve, tries
from tests.reference.object_store import s3_server, upload

pytestmark = pytest.mark.slow
pytest.importorskip("s3fs", reason="the extra remote is not installed")
pytest.importorskip("moto", reason="the S3 server for tests is not installed")


@pytest.fixture(scope="module")
def server(digits):
    with pytest.MonkeyPatch.context() as patch, s3_server() as store:
        for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("DEFAULT_REGION", "us-east-1")):
            patch.setenv(f"AWS_{name}", value)
        patch.setenv("AWS_ENDPOINT_URL", store.url)
        store.client = upload(store, digits, "sets", "digits")
        yield store


@pytest.fixture(autouse=True)
def fresh(server, tmp_path, monkeypatch):
    """An empty cache and a server without faults; returns the pauses that were made."""
    pauses = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tries, "pause", pauses.append)
    resolve._remote.cache_clear()
    server.reset()
    return pauses


def gets(server):
    return {key: count for key, count in server.requests.items() if key.startswith("GET") and key.count("/") > 2}


def test_each_object_is_asked_for_once(server, digits):
    data = load_data("s3://sets/digits", "train")
    verify(data)
    verify(data)
    here = load_data(digits, "train")
    assert all((data.read(i) == here.read(i)).all() for i in range(len(here)))
    assert set(gets(server).values()) == {1} and len(gets(server)) == len(here) + 1


def every(number, fault):
    """A fault of each request but every `number`-th."""
    count = iter(range(10**6))
    return lambda method, path: "" if next(count) % number == number - 1 else fault


@pytest.mark.parametrize("fault", ["503", "cut", "slow"])
def test_faults_that_pass_are_waited_out(server, digits, fault, fresh):
    data = load_data("s3://sets/digits", "train")
    server.fault = every(3, fault)
    verify(data)
    here = load_data(digits, "train")
    assert all((data.read(i) == here.read(i)).all() for i in range(len(here)))
    assert bool(fresh) == (fault != "slow")


@pytest.mark.parametrize(
    ("fault", "said", "requests"),
    [("503", "tried 7 times", 7), ("cut", "tried 7 times", 7), ("403", "access denied", 1)],
)
def test_faults_that_stay_are_one_line(server, fault, said, requests):
    data = load_data("s3://sets/digits", "train")
    server.reset()
    server.fault = lambda method, path: fault
    with pytest.raises(UserError, match=rf"s3://sets/digits/train/\S+: .*{said}") as caught:
        data.read(0)
    assert "\n" not in one_line(caught.value)
    assert server.requests[f"GET /sets/digits/{data.file_name(0)}"] == requests
    assert not list(Path(data.root).parents[2].glob("blobs/*/.*"))  # nothing half fetched is left


def test_a_listing_without_rights_is_one_line(server):
    server.fault = lambda method, path: "403"
    with pytest.raises(UserError, match="s3://sets/digits: access denied"):
        load_data("s3://sets/digits", "train")


def test_what_changes_between_check_and_epoch_is_an_error(server, digits):
    data = load_data("s3://sets/digits", "train")
    verify(data)
    blobs = Path(data.root).parents[2] / "blobs"
    key = f"digits/{data.file_name(0)}"
    content = (digits / data.file_name(0)).read_bytes()
    try:
        for body in (content + b"more", content[:-3] + b"\0" + content[-2:], content[:100]):
            shutil.rmtree(blobs)  # as if it had left the cache
            server.client.put_object(Bucket="sets", Key=key, Body=body)
            with pytest.raises(UserError, match="has changed or was removed since the dataset was listed"):
                data.read(0)
        server.client.delete_object(Bucket="sets", Key=key)
        with pytest.raises(UserError, match="has changed or was removed"):
            data.read(0)
    finally:
        server.client.put_object(Bucket="sets", Key=key, Body=content)


def test_a_multipart_object_that_changes_is_an_error_too(server, tmp_path):
    """Its tag is no checksum of its content, so the store is asked after it was read."""
    from boto3.s3.transfer import TransferConfig

    path = tmp_path / "large.bin"
    path.write_bytes(np.random.default_rng(0).bytes(12 * 2**20))
    config = TransferConfig(multipart_threshold=2**20, multipart_chunksize=5 * 2**20)
    server.client.upload_file(str(path), "sets", "large.bin", Config=config)
    place = resolve.local("s3://sets/large.bin")
    assert hashlib.sha256(open_bytes(place)).digest() == hashlib.sha256(path.read_bytes()).digest()
    shutil.rmtree(place.parents[2].parent / "blobs")
    path.write_bytes(np.random.default_rng(1).bytes(12 * 2**20))
    server.client.upload_file(str(path), "sets", "large.bin", Config=config)
    with pytest.raises(UserError, match="has changed"):
        open_bytes(place)


def open_bytes(path):
    from detect.utils.atomic_io import read_bytes

    return read_bytes(path)


def test_training_by_url_ends_with_the_same_weights(server, digits, tmp_path):
    flags = ["--model", "yolo_n", "--imgsz", "64", "--epochs", "2", "--batch", "8", "--device", "cpu", "--seed", "3"]
    for name, data, workers in (("here", str(digits), "0"), ("there", "s3://sets/digits", "2")):
        out = str(tmp_path / name)
        assert main(["train", "--data", data, *flags, "--workers", workers, "--out", out]) == 0
    assert "s3://sets/digits" in (tmp_path / "there" / "config.yaml").read_text()
    one, other = (tmp_path / name / "best.safetensors" for name in ("here", "there"))
    from safetensors.numpy import load_file

    one, other = load_file(one), load_file(other)
    assert all((one[key] == other[key]).all() for key in one)
    weights = str(tmp_path / "there" / "best.safetensors")
    for arguments in (
        ["evaluate", "--weights", weights, "--data", "s3://sets/digits", "--json", str(tmp_path / "e.json")],
        ["predict", "--weights", weights, "--source", "s3://sets/digits/val", "--out", str(tmp_path / "p")],
        ["label", "--weights", weights, "--source", "s3://sets/digits/val", "--out", str(tmp_path / "l")],
    ):
        assert main(arguments) == 0
    assert "s3://sets/digits/val" in (tmp_path / "l" / "data.yaml").read_text()
    assert len(load_data(tmp_path / "l" / "data.yaml", "train")) == 8
