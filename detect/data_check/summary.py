"""The findings about a dataset as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from detect.data_check.kinds import KINDS, Checked, Finding

SHOWN = 5  # findings of a kind that the text names; json and page have all


def lines(checked: Checked) -> list[str]:
    """The findings as text: what is there, then by kind what is wrong."""
    said = []
    for split, facts in checked.splits.items():
        said.append(
            f"{split}: {facts['images']} {facts['samples']} ({facts['without_objects']} without objects), "
            f"{facts['objects']} objects, {facts['crowd_regions']} crowd regions, {len(facts['per_class'])} classes"
        )
        counts = sorted(facts["per_class"].items(), key=lambda pair: -pair[1])
        said.append("  " + ", ".join(f"{name} {count}" for name, count in counts[:12]) + (" …" if counts[12:] else ""))
    if checked.anchors:
        found = checked.anchors
        said.append(
            f"{len(found['anchors'])} anchors at {found['imgsz']} px: mean IoU {found['mean_iou']:.3f}, "
            f"best possible recall {found['recall']:.3f}"
        )
    said += checked.needs
    for kind, (_, what) in KINDS.items():
        found_ = checked.of_kind(kind)
        if found_:
            level = found_[0].level
            said.append(f"{level}: {len(found_)} {what}{_relations(found_)}")
            said += [f"  {one.split + ': ' * bool(one.split)}{_told(one.where, one.text)}" for one in found_[:SHOWN]]
            said += [f"  … and {len(found_) - SHOWN} more"] * (len(found_) > SHOWN)
    counts_ = ", ".join(f"{checked.level(level)} {level}s" for level in ("error", "warning", "note"))
    return [*said, counts_]


def _told(where: str, text: str) -> str:
    return text if text.startswith(where) else f"{where} {text}"


def _relations(found: Sequence[Finding]) -> str:
    """Such as ": 3 leak, 1 leak with label conflict", of copies."""
    counts = Counter(one.twin.relation for one in found if one.twin)
    return ": " + ", ".join(f"{count} {relation}" for relation, count in counts.items()) if counts else ""
