"""The dataset of a benchmark in the layout of the peer."""

from __future__ import annotations

from pathlib import Path

from detect.utils.atomic_io import replace_text


def lay_out(source: Path, folder: Path) -> str:
    """Write the dataset at `source` as the peer reads it: images under images/, a text file of boxes for each."""
    import yaml

    from detect.data.sources.formats import load_data, splits

    for split in splits(str(source)):
        store = load_data(str(source), split)
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for i in range(len(store)):
            path, target = store.image_path(i).resolve(), store.target(i)
            (folder / "images" / split / path.name).symlink_to(path)
            height, width = target.size
            low, high = target.boxes.chunk(2, 1)
            rows = ((low + high) / 2, high - low)
            lines = [
                f"{label} {x / width} {y / height} {w / width} {h / height}"
                for label, (x, y), (w, h) in zip(target.labels.tolist(), *(r.tolist() for r in rows), strict=True)
            ]
            replace_text((folder / "labels" / split / path.name).with_suffix(".txt"), "\n".join(lines), durable=False)
    about = {"path": str(folder), "train": "images/train", "val": "images/val", "names": dict(enumerate(store.names))}
    replace_text(folder / "data.yaml", yaml.safe_dump(about))
    return str(folder / "data.yaml")
