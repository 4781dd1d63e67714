"""Rows of tools/bench.py for models that predict masks or oriented boxes."""

from __future__ import annotations

import math
import sys

from tools.bench_data import lay_out, untrained
from tools.bench_pairs import NANO, Line, Setting, by_turns, started, timed


def outlined(setting: Setting, form: str, ours: str, ending: str, sets: dict[str, dict[str, str]]) -> list[Line]:
    """Train and predict with masks or oriented boxes, beside the peer's nano models for them.

    Args:
        setting: how to measure.
        form: of the labels, see `lay_out`.
        ours: name of our model.
        ending: what the names of the peer's models end with.
        sets: annotation files by split, for each dataset.
    """
    from detect.data.sources.formats import load_data

    lines = []
    for name, files in sets.items():
        source, folder = setting.data / name, setting.folder / f"{name}-{form}"
        if not source.is_dir():
            continue
        data, own = lay_out(source, folder, form, files), str(folder / "source.yaml")
        train, val = (load_data(own, split) for split in ("train", "val"))
        job = {"size": 320, "batch": 16, "out": str(setting.folder / f"out-{name}"), "workers": setting.threads}
        sides = {"": started(setting, sys.executable, "ours", "train", {**job, "model": ours, "data": own})}
        shown = [str(val.image_path(i)) for i in range(min(len(val), setting.some(32)))]
        see = {"files": shown, "size": 640}
        weights = setting.weights(ours, ".safetensors") or str(untrained(setting.folder, ours)[0])
        seen = {"": started(setting, sys.executable, "ours", "predict", {**see, "model": weights})}
        for peer in (f"{nano}{ending}" for nano in NANO if setting.peer):
            sides[peer] = started(
                setting, setting.peer, "peer", "train", {**job, "model": f"{peer}.yaml", "data": data}
            )
            model = setting.weights(peer, ".pt") or f"{peer}.yaml"
            seen[peer] = started(setting, setting.peer, "peer", "predict", {**see, "model": model})
        what = f"{form}, {name}"
        times = by_turns(setting.some(3), sides.pop(""), sides)
        lines.append(Line(f"training images, {what}, 320 px, batch 16", ">= 2.5", *times, len(train), rate=True))
        times = by_turns(setting.some(10), seen.pop(""), seen)
        lines.append(Line(f"predict, file to {what}, 640 px, batch 1", ">= 2", *times, len(shown)))
    return lines


def masks(setting: Setting) -> list[Line]:
    files = {"train": "instances_train.json", "val": "instances_val.json"}
    return outlined(setting, "masks", "yolo_n_seg", "-seg", {"facade-parts": files, "dsb2018-nuclei": files})


def oriented(setting: Setting) -> list[Line]:
    parcels = {"train": "instances_train.json", "val": "instances_val.json"}
    aerial = {"train": "obb_train.json", "val": "obb_val.json"}
    return outlined(setting, "oriented", "yolo_n_obb", "-obb", {"parcel-boxes-obb": parcels, "nwpu-vhr10": aerial})


def oriented_nms(setting: Setting) -> list[Line]:
    """Suppress oriented boxes of one class; where detectron2 can be imported, both sides must agree."""
    import torch

    from anchors.oriented_nms import oriented_nms as ours
    from tests.reference import box_scenes

    try:
        from detectron2.layers import nms_rotated as peer
    except ImportError:
        peer = None
    lines = []
    for scene in (box_scenes.sparse, box_scenes.half, box_scenes.crowded):
        for n in (300, 8_400, 30_000):
            boxes, scores = box_scenes.turned(scene)(setting.some(n), 0)
            kept = ours(boxes, scores, None, 0.5)
            degrees = torch.cat((boxes[:, :4], boxes[:, 4:] * (-180 / math.pi)), 1)  # counterclockwise
            others = {}
            if peer and (n < 30_000 or scene is box_scenes.crowded):  # it takes a quarter of an hour for the others
                if not torch.equal(kept, peer(degrees, scores, 0.5)):
                    raise SystemExit(f"bench: nms of {n} oriented {scene.__name__} boxes differs from detectron2's")
                others = {"detectron2": timed(lambda b=degrees, s=scores: peer(b, s, 0.5))}  # type: ignore[misc]
            side = timed(lambda b=boxes, s=scores: ours(b, s, None, 0.5), max(1, 3_000 // n))  # type: ignore[misc]
            rounds = 2 if others and n > 8_000 else setting.some(11)
            what = f"oriented NMS, {n:,} boxes, {scene.__name__}, {len(kept) / len(boxes):.0%} stay"
            lines.append(Line(what, ">= 5", *by_turns(rounds, side, others)))
    return lines
