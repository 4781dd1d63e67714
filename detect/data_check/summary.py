"""The findings about a dataset, as text and as a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from detect.data_check.kinds import KINDS, Checked, Finding
from detect.report.html import Page

SHOWN = 5  # findings of a kind that the text names; json and page have all
LISTED = 500  # and the page as many as can be read


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
    for kind, (_, what) in KINDS.items():
        found_ = checked.of_kind(kind)
        if found_:
            level = found_[0].level
            said.append(f"{level}: {len(found_)} {what}{_relations(found_)}")
            said += [f"  {one.split + ': ' * bool(one.split)}{_told(one.where, one.text)}" for one in found_[:SHOWN]]
            said += [f"  … and {len(found_) - SHOWN} more"] * (len(found_) > SHOWN)
    counts_ = ", ".join(f"{checked.level(level)} {level}s" for level in ("error", "warning", "note"))
    return [*said, counts_]


def page(data: str, checked: Checked) -> Page:
    """The findings as a page, with charts of what there is."""
    made = Page(f"{data}: what there is to know before training")
    made.text(", ".join(f"{checked.level(level)} {level}s" for level in ("error", "warning", "note")) + ".")
    rows = [(level, checked.count(kind), what) for kind, (level, what) in KINDS.items()]
    made.table(("level", "found", "what"), rows)
    keys = ("images", "without_objects", "objects", "crowd_regions", "objects_per_image")
    made.heading("What there is")
    made.table(("split", *keys), [(split, *(facts[key] for key in keys)) for split, facts in checked.splits.items()])
    for split, facts in checked.splits.items():
        made.heading(f"{split}")
        counts = dict(sorted(facts["per_class"].items(), key=lambda pair: -pair[1])[:40])
        made.bars(
            counts, f"objects of each class, {split}" + (" (the 40 largest)" if len(facts["per_class"]) > 40 else "")
        )
        if len(facts["sides"]):
            known = {"boxes": facts["sides"].tolist()} | (
                {"anchors": checked.anchors["anchors"]} if checked.anchors else {}
            )
            made.dots(
                known, "width and height of boxes in pixels at the image size of training, and the anchors", "w", "h"
            )
            made.histogram(facts["shares"], "side of a box as a share of its image's (square roots of areas)")
            made.histogram(facts["aspects"].clip(0, 5), "width / height of boxes (5: or more)")
        made.table(("image size", "images"), list(facts["image_sizes"].items()))
    for kind, (level, what) in KINDS.items():
        found = [one for one in checked.findings if one.kind == kind]
        if found:
            made.heading(f"{level}: {len(found)} {what}")
            made.table(("split", "where", "what"), [(one.split, one.where, one.text) for one in found[:LISTED]])
            if found[LISTED:]:
                made.text(f"… and {len(found) - LISTED} more: --json has them all")
    return made


def _told(where: str, text: str) -> str:
    return text if text.startswith(where) else f"{where} {text}"


def _relations(found: Sequence[Finding]) -> str:
    """Such as ": 3 leak, 1 leak with label conflict", of copies."""
    counts = Counter(one.twin.relation for one in found if one.twin)
    return ": " + ", ".join(f"{count} {relation}" for relation, count in counts.items()) if counts else ""
