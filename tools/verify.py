"""Compares embedders with classical baselines: the table of docs/how-to/verification.md.

    python tools/verify.py --data FOLDER [--test-csv CSV] [--more FOLDER] --out R --row "NAME: flags" FLAGS OF ALL

FOLDER holds train/ and test/ with a folder for each person, or identities.csv with columns file, identity and
verif_split. As many training people as --val-people says, drawn with seed 0, form the validation set, which selects the
best weights and the thresholds; people of the test split are used in the test only. Training people of --more join the
training set. Every row is `detect train` with FLAGS OF ALL and its own flags. The pairs are all pairs of test people,
or those of --test-csv. --joined adds a row of all the rows' weights, as one embedder. Results that exist are not
computed again.

Baselines are fitted on all people outside the test split: distances of grey pixels, and cosines of linear discriminants
(scikit-learn, after principal components) of pixels and of histograms of oriented gradients (scikit-image; Dalal and
Triggs, 2005).
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from detect.cli.parser import parse
from detect.commands.evaluate import evaluate
from detect.data.datasets.crops import Crops
from detect.data.images import read_image
from detect.data.sources.formats import load_data
from detect.embedding.pairs import read_pairs
from detect.errors import UserError, in_one_line
from detect.evaluation.verification import SHARES, all_pairs, measure, pair_distances
from detect.training.setup import train
from detect.types import Distance
from detect.utils.atomic_io import replace_file, replace_text

SIDE = 64  # image side in pixels for histograms of gradients; grey pixels are compared at half of that
COMPONENTS, DISCRIMINANTS = 150, 40  # the best of those tried for HOG on faces: 60 to 300, and 20 to all
NUMBERS = ("auc", "eer", *SHARES, "accuracy")


def people_of(data: Path) -> list[tuple[str, str, str]]:
    """List identity, file and split (train or test) of every image."""
    table = data / "identities.csv"
    if table.exists():
        with table.open(encoding="utf-8", newline="") as stream:
            return [(row["identity"], row["file"], row["verif_split"]) for row in csv.DictReader(stream)]
    files = sorted(f for split in ("train", "test") for f in (data / split).glob("*/*"))
    return [(f.parent.name, f.relative_to(data).as_posix(), f.relative_to(data).parts[0]) for f in files]


def prepared(data: Path, more: Path | None, val_people: int, out: Path) -> Path:
    """Write identities.csv with splits train, val and test to `out`, and links to the images; those of `more` in more/.

    Args:
        data: Dataset folder.
        more: Folder of a second dataset for training only, or None.
        val_people: Number of training people that form the validation set.
        out: Folder to write to.

    Returns:
        Path of identities.csv.

    Raises:
        UserError: If `data` has no people.
    """
    rows = people_of(data)
    if not rows:
        raise UserError(f"{data} has no people: neither train/ and test/ nor identities.csv")
    known = sorted({person for person, _, split in rows if split == "train"})
    chosen = {known[i] for i in np.random.default_rng(0).permutation(len(known))[:val_people]}
    out.mkdir(parents=True, exist_ok=True)
    for name in {file.split("/")[0] for _, file, _ in rows}:
        if not (out / name).exists():
            (out / name).symlink_to((data / name).resolve(), target_is_directory=True)
    lines = [(p, file, "val" if split == "train" and p in chosen else split) for p, file, split in rows]
    if more:
        lines += [(f"more/{p}", f"more/{file}", split) for p, file, split in people_of(more) if split == "train"]
        if not (out / "more").exists():
            (out / "more").symlink_to(more.resolve(), target_is_directory=True)

    def write(part: Path) -> None:
        with part.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("identity", "file", "split"), *lines])

    replace_file(out / "identities.csv", write)
    return out / "identities.csv"


def seen(data: Path, splits: Sequence[str]) -> tuple[Crops, np.ndarray]:
    """Read the grey images (N, SIDE, SIDE) of these splits, one split after the other, and the crops of the last."""
    images = []
    for split in splits:
        crops = Crops.of(load_data(data, split, image_level_labels="classes", allow_outside=True))
        for i in crops.images.tolist():
            grey = cv2.cvtColor(read_image(crops.annotations.image_path(i)), cv2.COLOR_RGB2GRAY)
            images.append(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    return crops, np.array(images)


def baselines(data: Path, pairs: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the metrics of each baseline."""
    from skimage.feature import hog
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    crops, images = seen(data, ("train", "val", "test"))
    known = len(images) - len(crops)
    people = np.concatenate(
        [
            Crops.of(load_data(data, s, image_level_labels="classes", allow_outside=True)).labels
            for s in ("train", "val")
        ]
    )
    asked = read_pairs(Path(pairs), crops) if pairs else all_pairs(crops.labels)
    small = [cv2.resize(one, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA) for one in images]
    pixels = np.array(small).reshape(len(images), -1) / 255
    shapes = np.array([hog(one, 9, (8, 8), (2, 2), transform_sqrt=True) for one in images])

    def metrics_of(values: np.ndarray) -> dict[str, Any]:
        return measure(pair_distances(values[known:], asked.first, asked.second, Distance()), asked.same)

    yield "pixels", metrics_of(pixels)
    for name, values in (("pixels, LDA", pixels), ("HOG, LDA", shapes)):
        few = PCA(min(COMPONENTS, known - 1), random_state=0).fit(values[:known]).transform(values)
        kept = min(DISCRIMINANTS, len(np.unique(people)) - 1)
        model = LinearDiscriminantAnalysis(n_components=kept).fit(few[:known], people)
        vectors = model.transform(few)
        yield name, metrics_of(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def trained(data: Path, pairs: str, flags: Sequence[str], out: Path) -> dict[str, Any]:
    """Train into `out` and evaluate the best weights on the test split; adds the training's minutes of CPU time."""
    started = time.process_time()  # wall time depends on the load of the machine
    best = train(
        parse(
            "train",
            [
                "--data",
                str(data),
                "--out",
                str(out),
                "--model",
                "embedder",
                "--workers",
                "0",
                "--allow-outside",
                *flags,
                "--resume",
            ],
        )
    )
    minutes = (time.process_time() - started) / 60
    return {**evaluated(data, pairs, [best]), "minutes": minutes}


def evaluated(data: Path, pairs: str, weights: Sequence[Path]) -> dict[str, Any]:
    """Evaluate weights, several as one embedder, on the test split."""
    asked = ["--data", str(data), "--split", "test", "--workers", "0", "--allow-outside"]
    asked += ["--weights", *map(str, weights), *(["--pairs", pairs] if pairs else [])]
    result: dict[str, Any] = evaluate(parse("evaluate", asked))
    return result


def table(results: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The results as Markdown."""
    yield "| | core minutes | AUC | EER | true accepts at 1 % | at 0.1 % | accuracy |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for name, row in results.items():
        minutes = f"{row['minutes']:.1f}" if "minutes" in row else ""
        yield f"| {name} | {minutes} | " + " | ".join(f"{row[number]:.3f}" for number in NUMBERS) + " |"


@in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Exit status: 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="dataset of identities")
    parser.add_argument("--test-csv", default="", metavar="FILE", help="test pairs; default: all pairs of test people")
    parser.add_argument("--more", type=Path, metavar="FOLDER", help="a second dataset, for training only")
    parser.add_argument("--val-people", type=int, default=4, help="training people in the validation set; default: 4")
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and results.json")
    parser.add_argument("--row", action="append", default=[], metavar="NAME: FLAGS", help="a row of the table")
    parser.add_argument("--joined", action="store_true", help="also a row of the weights of all rows together")
    options, flags = parser.parse_known_args(arguments)
    data = prepared(options.data, options.more, options.val_people, options.out / "data")
    kept = options.out / "results.json"
    results = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    if "pixels" not in results:
        results |= dict(baselines(data, options.test_csv))
        replace_text(kept, json.dumps(results))
    folders = {row.partition(":")[0]: options.out / re.sub(r"\W+", "_", row.partition(":")[0]) for row in options.row}
    for row in options.row:
        name, _, own = row.partition(":")
        if name not in results:
            results[name] = trained(data, options.test_csv, [*flags, *own.split()], folders[name])
            replace_text(kept, json.dumps(results))
    joined = " and ".join(folders)
    if options.joined and joined not in results:
        weights = [folder / "best.safetensors" for folder in folders.values()]
        results[joined] = evaluated(data, options.test_csv, weights)
        replace_text(kept, json.dumps(results))
    print("\n".join(table(results)))


if __name__ == "__main__":
    sys.exit(main())
