"""Crops of annotations, and labels of whole images."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from detect.config.augment import AugmentConfig
from detect.data.datasets.crops import CropDataset, Crops, require_classes
from detect.data.letterbox import Letterbox
from detect.data.loader import SampleLoader, TrainLoader
from detect.data.rng import SampleKey
from detect.data.sampling import balanced
from detect.data.sources.formats import load_data, recognise, splits
from detect.data.sources.image_folder import divided
from detect.errors import UserError
from detect.types import Preprocess

STRETCH = Preprocess(stretch=True)


def folder_of(root, **classes):
    """FOLDER/class/0.png …, each image (16, 24) of one colour that tells class and number."""
    for c, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (24, 16), (40 * c, 10 * i, 99)).save(root / name / f"{i}.png")
    return root


def naive_window(box, width, height, stretch):
    """The window of one box in plain numbers."""
    x0, y0, x1, y1 = box
    w, h = x1 - x0, y1 - y0
    longer = max(w, h)
    half_w, half_h = (w / 2, h / 2) if stretch else (longer / 2, longer / 2)
    half_w, half_h = half_w + 0.1 * longer, half_h + 0.1 * longer
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    low = [int(np.floor(x - half_w)), int(np.floor(y - half_h))]
    high = [int(np.ceil(x + half_w)), int(np.ceil(y + half_h))]
    return [max(0, low[0]), max(0, low[1]), min(width, high[0]), min(height, high[1])]


@pytest.mark.parametrize("stretch", [False, True])
def test_windows_are_those_of_the_naive_twin(digits, stretch):
    annotations = load_data(digits, "train")
    crops = Crops.of(annotations)
    assert len(crops) == (~annotations.crowd).sum() == crops.counts.sum() > 20
    windows = crops.windows(stretch)
    for box, window in zip(crops.boxes.tolist(), windows.tolist(), strict=True):
        assert window == naive_window(box, 96, 96, stretch)
    assert (windows[:, :2] <= crops.boxes[:, :2]).all() and (windows[:, 2:] >= crops.boxes[:, 2:]).all()


def test_the_window_of_a_whole_image_is_the_image(tmp_path):
    annotations = load_data(folder_of(tmp_path, a=2, b=2), "train", image_level_labels="images")
    crops = Crops.of(annotations)
    assert crops.windows().tolist() == [[0, 0, 24, 16]] * len(crops)
    image, target, fit = CropDataset(crops, 48).sample(0)
    expected = Letterbox.fit((16, 24), 48, square=True)
    assert np.array_equal(image, expected.apply(annotations.read(0))) and fit.canvas == (48, 48)
    assert target.labels.tolist() == [0] and target.boxes.tolist() == [[0, 0, 48, 48]]
    stretched, _, _ = CropDataset(crops, 48, preprocess=STRETCH).sample(0)
    assert (stretched == stretched[0, 0]).all() and not (image == image[0, 0]).all()


def test_a_box_outside_its_image_is_named(digits):
    annotations = load_data(digits, "train")
    annotations.boxes[3, :2] = 500
    with pytest.raises(UserError, match=f"annotation id {annotations.ids[3]} lies outside its image"):
        Crops.of(annotations).windows()


def test_samples_depend_on_seed_epoch_and_position_alone(digits):
    crops = Crops.of(load_data(digits, "train"))
    one = CropDataset(crops, 32, AugmentConfig(), seed=3)
    other = CropDataset(crops, 32, AugmentConfig(), seed=3, cache_gb=0.0)
    draws = [SampleKey(epoch, position, 32) for epoch in (0, 1) for position in range(6)]
    images = [one[draw] for draw in draws]
    for draw, (image, target) in reversed(list(zip(draws, images, strict=True))):
        again, ground_truth = other[draw]
        assert np.array_equal(image, again) and target.image_id == ground_truth.image_id
        assert image.shape == (32, 32, 3) and len(target) == 1
    assert any(not np.array_equal(a[0], b[0]) for a, b in zip(images[:6], images[6:], strict=True))
    still = AugmentConfig(scale=0, translate=0, flip=0, hue=0, saturation=0, value=0)
    plain, none = CropDataset(crops, 32, still), CropDataset(crops, 32)
    square = [d for d in draws if np.ptp(plain.images.sides[plain.index(d.epoch, d.position)]) == 0]
    assert len(square) > 3  # others may lie a pixel beside, by the rounding of half a border
    for draw in square:
        assert np.abs(plain[draw][0].astype(int) - none[draw][0]).max() <= 1


def test_every_crop_comes_once_an_epoch_for_any_workers(digits):
    crops = Crops.of(load_data(digits, "train"))
    batches = [
        list(TrainLoader(CropDataset(crops, 32, AugmentConfig()), 32, 8, workers).epoch(1)) for workers in (0, 2)
    ]
    for a, b in zip(*batches, strict=True):
        assert torch.equal(a.images, b.images)
    assert sorted(t.image_id for batch in batches[0] for t in batch.targets) == sorted(crops.ids.tolist())
    seen = [t.image_id for batch in SampleLoader(CropDataset(crops, 32), 7) for t in batch.targets]
    assert seen == crops.ids.tolist()
    parts = [[t.image_id for b in SampleLoader(CropDataset(crops, 32), 7, 0, r, 2) for t in b.targets] for r in (0, 1)]
    assert sorted(parts[0] + parts[1]) == sorted(seen)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 9))
def test_balanced_order_gives_every_class_its_share(labels, epoch):
    labels = np.array(labels)
    drawn = balanced(labels, 0)(epoch)
    assert np.array_equal(drawn, balanced(labels, 0)(epoch)) and len(drawn) == len(labels)
    counts = np.bincount(labels[drawn], minlength=5)[np.unique(labels)]
    assert counts.max() - counts.min() <= 1
    for label in np.unique(labels):
        uses = np.bincount(drawn[labels[drawn] == label], minlength=len(labels))[labels == label]
        assert uses.max() - uses.min() <= 1  # no image again before all others


def test_a_folder_without_splits_holds_out_a_fifth_of_each_class(tmp_path, capsys):
    folder = folder_of(tmp_path, cat=10, dog=5, one=1)
    assert splits(folder, image_level_labels="images") == ["train", "val"]
    train, val = (load_data(folder, split, image_level_labels="images") for split in ("train", "val"))
    assert capsys.readouterr().err.count("a fifth of each class becomes the split val") == 1
    assert train.names == val.names == ["cat", "dog", "one"]
    assert Crops.of(train).counts.tolist() == [8, 4, 1] and Crops.of(val).counts.tolist() == [2, 1, 0]
    files = [annotations.file_name(i) for annotations in (train, val) for i in range(len(annotations))]
    assert len(set(files)) == 16
    pairs = [(f"{i}", "ab"[i % 2]) for i in range(20)]
    assert divided(pairs) == divided(pairs[::-1])  # the order of the files on the disk does not matter


def test_a_folder_with_splits_and_a_csv_are_the_same_data(tmp_path):
    folder_of(tmp_path / "train", a=2, b=3)
    folder_of(tmp_path / "valid", b=1, c=1)
    table = ["file,label,split"]
    table += [f"{p.relative_to(tmp_path)},{p.parent.name},{p.parts[-3]}" for p in sorted(tmp_path.rglob("*.png"))]
    (tmp_path / "t.csv").write_text("\n".join(table))
    for split in ("train", "val"):
        one, other = (load_data(spec, split, image_level_labels="images") for spec in (tmp_path, tmp_path / "t.csv"))
        assert one.names == other.names == ["a", "b", "c"]
        assert one.to_coco() == other.to_coco()


def test_detectors_are_told_what_whole_images_are_for(tmp_path):
    with pytest.raises(UserError, match="--task classify"):
        recognise(folder_of(tmp_path, a=1, b=1))


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda f: (f / "empty").mkdir(), "a class without an image"),
        (lambda f: Image.new("L", (4, 4)).save(f / "x.png"), "beside the folders of classes"),
        (lambda f: (f / "a" / "0.png").write_bytes(b"no image"), "not a readable image"),
        (lambda f: (f / "train").mkdir(), "not a dataset in a known format"),
        (lambda f: folder_of(f / "train", z=1) and (f / "val").mkdir(), "holds no folder of a class"),
        (lambda f: (f / "t.csv").write_text("file,kind\n"), "names no column label or class or identity"),
        (lambda f: (f / "t.csv").write_text("file,class\n"), "the table is empty"),
        (lambda f: (f / "t.csv").write_text("file,class\na/0.png,\n"), "line 2: has no class"),
        (lambda f: (f / "t.csv").write_text("file,class,split\na/0.png,a,dev\n"), "line 2: has no split"),
        (
            lambda f: (f / "t.csv").write_text("file,class\na/0.png,a\nb/0.png,b\na/0.png,b\n"),
            "line 4: a/0.png is in line 2 already, and an image has one class",
        ),
        (lambda f: (f / "t.csv").write_text("file,class\na/9.png,a\nb/0.png,b\n"), "there is no such image"),
        (lambda f: (f / "t.csv").write_text("file,class\n../x.png,a\nb/0.png,b\n"), "x.png"),
        (lambda f: (f / "t.csv").write_bytes(b"\xff\xfe\x00"), "cannot be read: not UTF-16"),
    ],
)
def test_bad_data_is_one_clear_line(tmp_path, spoil, named):
    folder = folder_of(tmp_path / "f", a=2, b=2)
    spoil(folder)
    spec = folder / "t.csv" if (folder / "t.csv").exists() else folder
    with pytest.raises(UserError, match=named):
        for split in splits(spec, image_level_labels="images"):
            load_data(spec, split, image_level_labels="images")


def test_an_unreadable_image_can_be_left_out(tmp_path):
    folder = folder_of(tmp_path, a=4, b=4)
    (folder / "a" / "0.png").write_bytes(b"")
    datasets = [load_data(folder, split, skip_bad=True, image_level_labels="images") for split in ("train", "val")]
    assert sum(len(s) for s in datasets) == 7 and sum(len(s.left_out) for s in datasets) == 1


def test_what_cannot_be_learned_is_refused(tmp_path, capsys):
    one = load_data(folder_of(tmp_path / "one", a=4), "train", image_level_labels="images")
    with pytest.raises(UserError, match="at least two classes"):
        require_classes(one, one)
    folder_of(tmp_path / "apart" / "train", a=1, b=1)
    folder_of(tmp_path / "apart" / "val", c=1)
    train, val = (load_data(tmp_path / "apart", split, image_level_labels="images") for split in ("train", "val"))
    with pytest.raises(UserError, match="no validation image is of a class trained on"):
        require_classes(train, val)
    both = load_data(folder_of(tmp_path / "both", a=2, b=2), "train", image_level_labels="images")
    require_classes(both, both)
    assert "cannot be learned" not in capsys.readouterr().err
