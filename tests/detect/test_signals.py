"""Signals and volumes: files, batches, and classifiers from data to answer."""

import dataclasses
import json
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import detect
from detect.__main__ import main
from detect.config.augment import AugmentConfig
from detect.config.train import OptimConfig
from detect.data.datasets.signals import SignalDataset, Signals, varied
from detect.data.loader import SampleLoader, TrainLoader
from detect.data.rng import SampleKey
from detect.data.sources.formats import load_data, splits
from detect.errors import UserError
from detect.inference.output_folder import LIST
from detect.models.configs.classifier import ClassifierConfig
from detect.models.weights import load_weights, read_weights
from detect.training.setup import train
from tests.reference.doom import doomed
from tests.reference.marks import slowly
from tests.reference.runs import remains, settings, status
from tests.reference.signals import bodies, waves, write
from tools import volumes

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = ["--device", "cpu", "--precision", "float32", "--workers", "0"]
TEXTS = {"tsv": "\t", "csv": ",", "txt": "   "}


@pytest.fixture(scope="module")
def waved(tmp_path_factory):
    return write(tmp_path_factory.mktemp("waves") / "waves.npz", waves, names=np.array(["slow", "fast"]))


@pytest.fixture(scope="module")
def bodied(tmp_path_factory):
    return write(tmp_path_factory.mktemp("bodies") / "bodies.npz", bodies)


def lenet(dims: int) -> ClassifierConfig:
    return ClassifierConfig(name="lenet5", backbone="lenet5", dims=dims)


def small(data, out, dims=1, **changes):
    """A run of 4 epochs of 4 steps."""
    changes = {"epochs": 4, "batch": 8, "optim": OptimConfig(lr=0.01, warmup=1), **changes}
    return settings(data, out, **{"task": "classify", "model": lenet(dims), "multi_scale": 0.0, **changes})


def text(folder, rows, suffix="tsv", name="Set_TRAIN"):
    path = folder / f"{name}.{suffix}"
    path.write_text("".join(TEXTS[suffix].join(map(str, row)) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("suffix", TEXTS)
def test_texts_of_the_archive(tmp_path, suffix):
    text(tmp_path, [["2.0000000e+00", 1, 2.5], [10, 3, 4], [-1, 5, 6]], suffix)
    path = text(tmp_path, [["3", 7, 8], ["2", 9, 1e-3]], suffix, "Set_TEST")
    for spec in (path, tmp_path):
        assert splits(spec, image_level_labels="images") == ["train", "test"]
        held, known = (load_data(spec, split, image_level_labels="images") for split in ("test", "train"))
        assert held.names == known.names == ["-1", "2", "3", "10"]
        assert held.labels.tolist() == [2, 1] and known.labels.tolist() == [1, 3, 0]
        assert known.values.shape == (3, 1, 2) and known.values.dtype == np.float32
        assert held.values[:, 0].tolist() == [[7, 8], [9, np.float32(1e-3)]]
        assert [known.file_name(i) for i in range(3)] == ["line 1", "line 2", "line 3"]


@pytest.mark.parametrize(
    ("shape", "dims", "kept"),
    [((5, 8), 1, (5, 1, 8)), ((5, 3, 8), 1, (5, 3, 8)), ((5, 4, 4, 6), 3, (5, 1, 4, 4, 6)), ((5, 2, 4, 4, 6), 3, None)],
)
@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
def test_arrays_of_four_shapes(tmp_path, shape, dims, kept, dtype):
    values = (np.arange(np.prod(shape)).reshape(shape) % 200).astype(dtype)
    np.savez(tmp_path / "a.npz", x_train=values, y_train=np.array(["b", "a", "a", "c", "b"]), more=np.zeros(3))
    annotations = load_data(tmp_path / "a.npz", "train", image_level_labels="images")
    assert isinstance(annotations, Signals) and annotations.dims == dims and annotations.values.shape == (kept or shape)
    assert annotations.values.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    assert np.array_equal(annotations.values.ravel(), values.ravel())
    assert annotations.names == ["a", "b", "c"] and annotations.labels.tolist() == [1, 0, 0, 2, 1]
    image, target = SignalDataset(annotations).sample(3)
    assert image.shape == (*annotations.values.shape[2:], annotations.values.shape[1]) and image.dtype == np.float32
    assert target.labels.tolist() == [2] and target.image_id == 4
    some = annotations.select([3, 0])
    assert some.labels.tolist() == [2, 1] and np.array_equal(some.values, annotations.values[[3, 0]])


X, Y = np.ones((4, 6), np.float32), np.array([0, 1, 0, 1])
SIGNS = np.tile([1.0, -1.0], (4, 3))
GAPS = np.where(np.arange(24).reshape(4, 6) == 14, np.nan, X)
BAD_ARRAYS = {
    "no array x_train; it has: a": {"a": X},
    "no array y_train; it has: x_train": {"x_train": X},
    "x_train is float32 [4]: it must be numbers": {"x_train": X[:, 0], "y_train": Y},
    "x_train is <U1 [4, 6]": {"x_train": X.astype("<U1"), "y_train": Y},
    "x_train is complex64": {"x_train": X.astype(np.complex64), "y_train": Y},
    "x_train is empty: its shape is [0, 6]": {"x_train": X[:0], "y_train": Y[:0]},
    "x_train has 4 records, y_train 3 classes": {"x_train": X, "y_train": Y[:3]},
    "x_train[2] holds a value that is no finite number": {"x_train": GAPS, "y_train": Y},
    "x_train[0] holds a value that": {"x_train": X.astype(np.float64) * 1e300, "y_train": Y},
    "y_train[1] is 1.5: classes are whole": {"x_train": X, "y_train": Y * 1.5},
    "y_train[1] is inf: classes are whole": {"x_train": X, "y_train": np.array([0, np.inf, 0, 1])},
    "y_train[2] is empty: classes are whole": {"x_train": X, "y_train": np.array(["a", "b", "", "b"])},
    "names names two classes b": {"x_train": X, "y_train": Y, "names": np.array(["a", "b", "b"])},
    "x_train lie within 2 around 1.7e+09, too little": {"x_train": X.astype(np.float64) * 1.7e9 + SIGNS, "y_train": Y},
    "x_train lie within 2 around 1e+18, too little": {"x_train": 10**18 + SIGNS.astype(np.int64), "y_train": Y},
    "y_train is int64 [4, 1]: it must be (N,)": {"x_train": X, "y_train": Y[:, None]},
    "class 1 is none of 0 to 0": {"x_train": X, "y_train": Y, "names": np.array(["a"])},
    "array x_train cannot be read: it holds Python objects": {"x_train": X.astype(object), "y_train": Y},
    "there is no split 'val'; there are: train, test": {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y},
}


@pytest.mark.parametrize("said", BAD_ARRAYS)
def test_bad_arrays_are_one_line(tmp_path, said):
    path = tmp_path / "a.npz"
    np.savez(path, **BAD_ARRAYS[said])
    with pytest.raises(UserError) as caught:
        load_data(path, "val" if "split" in said else "train", image_level_labels="images")
    assert said in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"noise" * 100, b"PK\x03\x04 torn"], ids=["empty", "noise", "torn"])
def test_what_is_no_npz_is_one_line(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.npz: cannot be read as an npz file"):
        load_data(path, "train", image_level_labels="images")
    with path.open("wb") as file:
        np.save(file, X)
    with pytest.raises(UserError, match=r"a\.npz: holds one array without a name: write it with numpy\.savez"):
        load_data(path, "train", image_level_labels="images")
    np.savez(path, x_train=X, y_train=Y)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"a\.npz: cannot be read"):
        load_data(path, "train", image_level_labels="images")


BAD_TEXTS = {
    "line 2 has 2 values, line 1 has 3: signals must be of one length": [[0, 1, 2, 3], [1, 1, 2]],
    "line 2 has NaN for value 3": [[0, 1, 2, 3], [1, 1, 2, "NaN"]],
    "line 1 has a value that is no number": [["label", "t0", "t1"], [1, 1, 2]],
    "line 2 has no values behind its class": [[1, 1, 2], [1]],
    "line 2 has no value 2": [[1, 1, 2, 3], [1, 1, "", 3]],
    "line 1 has no value 1": [[1, "", 2], [0, 1, ""]],  # as many words in each line, but not in their places
    "line 2 has no class": [[1, 1, 2], ["", 1, 2]],
    "line 2 has NaN for its class": [[1, 1, 2], ["NaN", 1, 2]],
    "line 2 has 1e400 for its class": [[1, 1, 2], ["1e400", 1, 2]],
    "line 1 has 1e39 for value 2": [[1, 1, "1e39"], [0, 1, 2]],
}


@pytest.mark.parametrize("said", BAD_TEXTS)
def test_bad_texts_are_one_line_or_left_out(tmp_path, said):
    path = text(tmp_path, [*BAD_TEXTS[said], [1, 7, 8, 9], [0, 7, 8, 9]])
    with pytest.raises(UserError) as caught:
        load_data(path, "train", image_level_labels="images")
    assert f"{path}: {said}" in str(caught.value) and "\n" not in str(caught.value)
    left = load_data(path, "train", skip_bad=True, image_level_labels="images")
    assert any(said in line for line in left.left_out) and set(left.names) <= {"0", "1", "label"}


def test_a_file_is_the_one_that_was_named(tmp_path):
    plain, spaced = text(tmp_path, [[0, 1, 2], [1, 3, 4]]), text(tmp_path, [[0, 1], [1, 2], [2, 3]], "txt")
    text(tmp_path, [[0, 5]], "txt", "Set_TEST")
    for path, records in ((plain, 2), (spaced, 3)):
        assert len(load_data(path, "train", image_level_labels="images")) == records
        assert splits(path, image_level_labels="images") == ["train", "test"]
    with pytest.raises(UserError, match=r"Set_TRAIN.tsv and Set_TRAIN.txt are both its train: name one of them"):
        load_data(tmp_path, "train", image_level_labels="images")


def test_a_table_of_images_is_no_text_of_signals(tmp_path):
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "birds_train.csv").write_text("file,label\na.png,wren\nb.png,tit\n")
    assert load_data(tmp_path / "birds_train.csv", "train", image_level_labels="images").names == ["tit", "wren"]


def test_other_mistakes_are_one_line(tmp_path):
    (tmp_path / "Set_TRAIN.tsv").write_text("\n\n")
    with pytest.raises(UserError, match="the file is empty"):
        load_data(tmp_path, "train", image_level_labels="images")
    text(tmp_path, [[0, 1, 2]], name="Other_TEST")
    with pytest.raises(UserError, match="several sets of signals, Other, Set"):
        load_data(tmp_path, "train", image_level_labels="images")
    (tmp_path / "Set_TRAIN.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read as text"):
        load_data(tmp_path / "Set_TRAIN.tsv", "train", image_level_labels="images")
    with pytest.raises(UserError, match="not a dataset in a known format"):
        load_data(tmp_path / "Set_TRAIN.tsv", "train")  # of detectors
    np.savez(tmp_path / "a.npz", x_train=GAPS, y_train=Y)
    left = load_data(tmp_path / "a.npz", "train", skip_bad=True, image_level_labels="images")
    assert len(left) == 3 and left.labels.tolist() == [0, 1, 1] and "x_train[2]" in left.left_out[0]


@given(st.integers(1, 3), st.integers(1, 5), st.integers(0, 99))
def test_pixels_are_the_mean_and_deviation_of_each_channel(channels, n, seed):
    values = np.random.default_rng(seed).normal(1000, 5, (n, channels, 7)).astype(np.float32)
    values[:, 0] = 4.0
    found = Signals.of(Path("a"), values, np.zeros(n), ["a"], ["r"] * n).preprocess()
    wide = values.astype(np.float64)
    assert found.mean == pytest.approx(wide.mean((0, 2)))
    assert found.std == pytest.approx([1.0, *wide.std((0, 2))[1:]])
    assert found.scale == 1


@given(st.sampled_from([(9, 1), (4, 5, 6, 2)]), st.integers(0, 99))
def test_augmentation_shifts_mirrors_and_scales(shape, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape).astype(np.float32)
    off = AugmentConfig(translate=0, flip=0, value=0)
    assert np.array_equal(varied(values, off, rng), values)
    louder = varied(values, dataclasses.replace(off, value=0.3), rng) / values
    assert np.ptp(louder) < 1e-5 and 0.7 <= louder.mean() <= 1.3
    mirrored = varied(values, dataclasses.replace(off, flip=1), rng)
    assert np.array_equal(mirrored, np.flip(values, (0, 1, 2)) if len(shape) == 4 else values)
    moved = varied(values, dataclasses.replace(off, translate=0.5), rng)
    for axis, side in enumerate(shape[:-1]):
        assert moved.shape == shape
        column = np.moveaxis(moved, axis, 0).reshape(side, -1)
        most = int(0.5 * side)
        assert (np.abs(np.diff(column, axis=0)).max(1) == 0).sum() <= most  # only edges are repeated


def test_batches_depend_on_seed_epoch_and_position_alone(waved):
    annotations = load_data(waved, "train", image_level_labels="images")
    dataset = SignalDataset(annotations, AugmentConfig(), seed=3)
    seen = []
    for batch, workers in ((8, 0), (5, 2)):
        batches = list(TrainLoader(dataset, 40, batch, workers).epoch(1))
        assert batches[0].images.shape[1:] == (1, 40) and batches[0].images.dtype == torch.float32
        seen.append((torch.cat([b.images for b in batches]), [t.image_id for b in batches for t in b.targets]))
    assert torch.equal(seen[0][0], seen[1][0]) and seen[0][1] == seen[1][1]
    assert sorted(seen[0][1]) == list(range(1, 33))
    assert np.array_equal(dataset[SampleKey(1, 0, 0)][0].T, seen[0][0][0].numpy())
    balanced = SignalDataset(annotations.select([0, 1, 3, 5, 7, 9]), seed=1, balanced=True)
    drawn = [balanced.annotations.labels[balanced.index(0, i)] for i in range(6)]
    assert sorted(drawn) == [0, 0, 0, 1, 1, 1]
    still = list(SampleLoader(SignalDataset(annotations), 12))
    assert torch.equal(torch.cat([b.images for b in still]), torch.from_numpy(annotations.values))


@pytest.fixture(scope="module")
def undisturbed(one_thread, waved, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    train(small(waved, out, save_steps=5))
    return remains(out)


@pytest.mark.parametrize("fate", [("at_step", 7, "die"), *slowly(("in_evaluation", 1, "die"))])
def test_a_run_killed_and_resumed_is_as_never_killed(waved, tmp_path, undisturbed, fate):
    config = small(waved, tmp_path / "run", save_steps=5)
    assert status(doomed, config, *fate) == -signal.SIGKILL
    train(dataclasses.replace(config, resume=True))
    assert remains(tmp_path / "run") == undisturbed


@pytest.mark.parametrize("dims", [1, 3])
def test_the_commands_from_data_to_classes(waved, bodied, tmp_path, capsys, dims):
    data, out = {1: waved, 3: bodied}[dims], tmp_path / "run"
    flags = [
        "--model.dims",
        str(dims),
        "--epochs",
        str({1: 40, 3: 14}[dims]),
        "--batch",
        "8",
        "--optim.lr",
        "0.01",
        *CPU,
    ]
    given = ["--task", "classify", "--data", str(data), "--model", "lenet5", *flags]
    assert main(["train", *given, "--augment.flip", "0", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "top1" in said.out and "no report" not in said.err and (out / "report.html").exists()
    weights = str(out / "best.safetensors")
    config, metadata, _ = read_weights(out / "best.safetensors")
    annotations = load_data(data, "train", image_level_labels="images")
    assert (config.dims, config.in_channels, metadata.size) == (dims, 1, {1: 40, 3: 10}[dims])
    assert metadata.preprocess == annotations.preprocess() and metadata.names == annotations.names
    judged = tmp_path / "judged.json"
    assert main(["evaluate", "--weights", weights, "--data", str(data), "--json", str(judged), *CPU]) == 0
    assert json.loads(judged.read_text())["top1"] >= 0.9
    assert "16 records" in capsys.readouterr().out
    asked = ["--weights", weights, "--source", str(data), "--out", str(tmp_path / "p"), *CPU[:4]]
    assert main(["predict", *asked, "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert {p.name for p in (tmp_path / "p").iterdir()} == {"classes.json", LIST}
    best = {one["image"]: one["category"] for one in reversed(answers)}  # the first of each has the highest score
    held = load_data(data, "val", image_level_labels="images")
    right = [best[f"{data.name} x_val[{i}]"] == held.names[held.labels[i]] for i in range(16)]
    assert len(best) == 48 and np.mean(right) >= 0.9
    found = list(detect.load(weights, device="cpu", precision="float32").predict(str(data), batch=5))
    assert [names[int(one.labels[0])] for (_, one), names in zip(found, [metadata.names] * 48, strict=True)] == [
        best[frame.name] for frame, _ in found
    ]


def test_texts_are_predicted_too_and_fine_tuning_keeps_the_pixels(waved, tmp_path, capsys):
    weights = train(small(waved, tmp_path / "first", epochs=1))
    values, labels = waves(6, 40, seed=5)
    rows = [[label, *row[0].tolist()] for label, row in zip(labels, values, strict=True)]
    path = text(tmp_path, rows, "csv", "New_TRAIN")
    assert main(["predict", "--weights", str(weights), "--source", str(path), "--out", str(tmp_path / "p")]) == 0
    assert "New_TRAIN.csv line 6: " in capsys.readouterr().out
    again = ["train", "--weights", str(weights), "--data", str(path), "--epochs", "1", "--out", str(tmp_path / "again")]
    assert main([*again, *CPU]) == 0
    assert "tensors taken" in capsys.readouterr().err
    assert (
        load_weights(tmp_path / "again" / "best.safetensors").metadata.preprocess
        == load_weights(weights).metadata.preprocess
    )


def test_short_signals_of_several_channels_are_trained_further(tmp_path, capsys):
    data = write(tmp_path / "short.npz", lambda n, seed: waves(n, 20, seed, 3))
    weights = train(small(data, tmp_path / "first", epochs=1))
    config, metadata, _ = read_weights(weights)
    assert (config.in_channels, metadata.size, len(metadata.preprocess.mean)) == (3, 20, 3)
    again = ["train", "--weights", str(weights), "--data", str(data), "--epochs", "1", "--out", str(tmp_path / "again")]
    assert main([*again, *CPU]) == 0
    assert "0 keep their initial values, 0 of the file are not used" in capsys.readouterr().err
    assert main(["train", "--config", str(tmp_path / "again" / "config.yaml"), "--out", str(tmp_path / "third")]) == 0


def test_what_does_not_fit_is_one_line(waved, bodied, digits, tmp_path, capsys):
    weights = train(small(waved, tmp_path / "run", epochs=1))
    six = tmp_path / "six.npz"
    np.savez(six, x_val=np.zeros((2, 6, 40)), y_val=[0, 1], names=["slow", "fast"])
    train_ = ["train", "--task", "classify", "--model", "lenet5", "--epochs", "1", "--out", str(tmp_path / "x"), *CPU]
    use = ["--weights", str(weights), "--device", "cpu"]
    lines = {
        "waves.npz holds signals, and the network takes images: --model.dims is 2, 1 would fit": [
            *(*train_, "--data", str(waved)),
        ],
        "holds images, and the network takes volumes": [*train_, "--data", str(digits), "--model.dims", "3"],
        "bodies.npz holds volumes, and the network takes signals": ["evaluate", *use, "--data", str(bodied)],
        "six.npz: its records have 6 channels, the network takes 1": ["evaluate", *use, "--data", str(six)],
        "x_train[0] has shape (1, 10, 10, 10), and the model takes arrays 1 x L": [
            *("predict", *use, "--source", str(bodied), "--out", str(tmp_path / "p")),
        ],
        "is an image, and the model takes arrays 1 x L": [
            *("predict", *use, "--source", str(next((digits / "val").iterdir())), "--out", str(tmp_path / "p")),
        ],
        "--crops and --imgsz are for images": ["evaluate", *use, "--data", str(waved), "--crops", "2"],
        "--imgsz, --tta and --tile are for images": [
            *("predict", *use, "--source", str(waved), "--imgsz", "64", "--out", str(tmp_path / "p")),
        ],
        "--show is for images": ["predict", *use, "--source", str(waved), "--show", "--out", str(tmp_path / "p")],
        "takes signals or volumes: only models for images are exported": ["export", *use[:2]],
        "there is no split 'test'; there are: train, val": ["evaluate", *use, "--data", str(waved), "--split", "test"],
        "--augment.scale has no effect on model": [
            *(*train_, "--data", str(waved), "--model.dims", "1", "--augment.scale", "0.2"),
        ],
        "no such file": ["predict", *use, "--source", str(tmp_path / "none.npz"), "--out", str(tmp_path / "p")],
    }
    for said, arguments in lines.items():
        assert main(arguments) == 2, arguments
        error = capsys.readouterr().err
        last = error.strip().splitlines()[-1]
        assert said in last and last.startswith("error: "), error


def test_weights_of_images_say_so(waved, digits, tmp_path, capsys):
    weights = train(small(digits, tmp_path / "run", dims=2, epochs=1))
    out = ["--out", str(tmp_path / "p"), "--device", "cpu"]
    assert main(["predict", "--weights", str(weights), "--source", str(waved), *out]) == 2
    assert "waves.npz x_train[0] is not an image, and the model takes images" in capsys.readouterr().err


def test_volumes_of_digits(tmp_path, capsys):
    turns = volumes.turned(torch.rand(5, 3) * 6)
    assert torch.allclose(turns @ turns.mT, torch.eye(3).expand(5, 3, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(turns), torch.ones(5), atol=1e-5)
    images = np.zeros((2, 8, 8))
    images[1, 2:6, 2:6] = 16
    empty, square = volumes.volumes(images, 30.0, 1)
    assert square.shape == (16, 16, 16) and abs(empty.mean()) < 0.01 and 0.9 < square.max() < 1.6
    assert 0.5 < (square.sum() - empty.sum()) / (4 * 6 * 6) < 1.5  # a slab 4 thick, with the face of 8 x 8 at 12 x 12
    assert np.array_equal(volumes.volumes(images, 30.0, 1)[1], square)
    assert volumes.main(["nearest", str(write(tmp_path / "a.npz", waves))]) == 0
    assert "val: nearest-neighbour accuracy" in capsys.readouterr().out
    assert volumes.main(["nearest", str(tmp_path / "none.npz")]) == 2


@pytest.mark.slow
def test_a_gun_drawn_is_told_from_a_pointing_hand(tmp_path):
    """The nearest neighbour is right in 0.913; a residual network of signals in no less than 0.97."""
    folder = os.environ.get("GRIDHEAD_SIGNALS", "")
    if not list(Path(folder or tmp_path).glob("GunPoint_TRAIN.*")):
        pytest.skip("GRIDHEAD_SIGNALS names no folder with the UCR archive's GunPoint_TRAIN and GunPoint_TEST")
    arguments = ["--task", "classify", "--data", folder, "--model", "resnet18", "--model.dims", "1", "--epochs", "40"]
    assert main(["train", *arguments, "--batch", "10", "--out", str(tmp_path / "run"), *CPU]) == 0
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert volumes.nearest(folder)["test"] == pytest.approx(0.913, abs=1e-3) and last["top1"] >= 0.97
