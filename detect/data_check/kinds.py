"""What `detect check` reports: findings of a kind and level, and the statistics of each split.

Axes: I images, N objects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from detect.data.annotations import Annotations
    from detect.data_check.images import Seen

# What is found, and how much it matters: an error stops training, a warning is a likely mistake, a note is a fact.
KINDS = {
    "record": ("error", "records that cannot be used"),
    "image": ("error", "images that are missing, broken, or of another size than annotated"),
    "empty": ("error", "splits without any object"),
    "flat": ("error", "boxes of no width or height: not to be learned, and counted by an evaluation all the same"),
    "away": ("error", "boxes that lie wholly outside their image"),
    "relative": ("error", "splits whose boxes are relative, 0 to 1, where pixels are expected"),
    "small": (
        "error",
        "training sets whose boxes all are less than 2 pixels high or wide at the image size of training",
    ),
    "classes": ("warning", "classes that splits do not share, or without objects, or that are none"),
    "leak": ("warning", "the same image in several splits"),
    "near_leak": ("warning", "almost the same image in several splits"),
    "duplicate": ("warning", "the same image several times in a split"),
    "doubled": ("warning", "objects marked twice: same class, IoU above 0.95"),
    "mixed": ("warning", "splits with boxes within the first pixel of an image: perhaps relative, 0 to 1"),
    "outside": ("warning", "boxes that reach more than a pixel out of their image"),
    "unfinished": ("warning", "JPEG files that lack their end mark or hold bytes too many, with all their pixels"),
    "turned": ("warning", "images that EXIF turns, where the annotated size does not say whether it counts"),
    "unlabelled": ("warning", "folders of images of which none has a label file"),
    "skeleton": ("warning", "skeletons that do not fit their keypoints"),
    "outline": ("warning", "outlines that tasks of masks and oriented boxes refuse, or of which a part is left out"),
    "no_outline": ("warning", "objects without an outline beside others with one"),
    "crossing": ("warning", "polygons that cross themselves"),
    "leaves_box": ("warning", "outlines that reach more than a pixel out of their box"),
    "area": ("warning", "areas that do not fit the outline"),
    "unlisted": ("warning", "images in the folders that no annotation lists"),
    "unused": ("note", "records of large public sets that are passed over"),
    "near_duplicate": ("note", "almost the same image several times in a split"),
    "tiny": ("note", "boxes less than 3 pixels high or wide at the image size of training"),
    "giant": ("note", "boxes that fill more than 98 % of their image"),
    "encoding": ("note", "images of unusual coding, or turned by EXIF"),
    "outline_outside": ("note", "outlines that reach more than a pixel out of their image"),
    "outlines": ("note", "label files of YOLO whose rows are outlines, or boxes and outlines"),
    "rare": ("note", "classes with less than a tenth of the objects that a class has on average"),
}
COPIES = ("leak", "near_leak", "duplicate", "near_duplicate")
CONFLICT = "label conflict"  # in a relation: one image, and labels that contradict one another


@dataclass(frozen=True, slots=True)
class Twin:
    """The image that another equals or nearly equals, and how the labels of the two compare.

    Attributes:
        split, image: where it is: the split, and its index there.
        relation: "redundant" (same labels), "label conflict" (the images are alike where the labels differ), "similar"
            (the images differ there too), across splits "leak" or "leak with label conflict"; "" before the labels
            are compared.
        rows, other_rows: the annotations that have no partner: those of the finding's image, and those of the twin.
    """

    split: str
    image: int
    relation: str = ""
    rows: tuple[int, ...] = ()
    other_rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: its kind, the split, the record or file, and what is wrong or odd.

    Attributes:
        image: index of the image in its split; -1 where the finding is of no image that the split lists.
        rows: the annotations that it is about.
        twin: of a copy, the other image.
    """

    kind: str
    split: str
    where: str
    text: str
    image: int = -1
    rows: tuple[int, ...] = ()
    twin: Twin | None = None

    @property
    def level(self) -> str:
        """Return "error", "warning" or "note"; contradicting labels are worth a warning at least."""
        level = KINDS[self.kind][0]
        return "warning" if level == "note" and self.twin and CONFLICT in self.twin.relation else level


@dataclass
class Checked:
    """The findings about a dataset, and statistics of each split.

    Attributes:
        findings: all of them.
        splits: statistics of each split, see `facts`.
        anchors: how well anchors fit the boxes of the first split.
        needs: what the dataset asks for, one sentence each.
        imgsz: image size in pixels that boxes are measured at.
        annotations, seen: the annotations and images of each split.
    """

    findings: list[Finding] = field(default_factory=list)
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    anchors: dict[str, Any] = field(default_factory=dict)
    needs: list[str] = field(default_factory=list)
    imgsz: int = 640
    annotations: dict[str, Annotations] = field(default_factory=dict)
    seen: dict[str, list[Seen]] = field(default_factory=dict)

    def count(self, kind: str) -> int:
        """Return the number of findings of a kind."""
        return sum(one.kind == kind for one in self.findings)

    def level(self, level: str) -> int:
        """Return the number of errors, warnings or notes."""
        return sum(one.level == level for one in self.findings)

    def of_kind(self, kind: str) -> list[Finding]:
        """Return the findings of a kind, contradicting labels first."""
        found = [one for one in self.findings if one.kind == kind]
        return sorted(found, key=lambda one: one.level != "warning") if kind in COPIES else found

    def plain(self) -> dict[str, Any]:
        """Return plain values, as they are written to a file."""
        splits = {
            name: {k: v for k, v in facts.items() if not isinstance(v, np.ndarray)}
            for name, facts in self.splits.items()
        }
        return {
            "counts": {kind: self.count(kind) for kind in KINDS},
            "findings": [self._record(one) for one in self.findings],
            "splits": splits,
            "anchors": self.anchors,
            "needs": self.needs,
        }

    def _record(self, one: Finding) -> dict[str, Any]:
        record: dict[str, Any] = {"level": one.level, "kind": one.kind, "split": one.split}
        record |= {"where": one.where, "text": one.text}
        if one.image >= 0:
            rows = one.twin.rows if one.twin else one.rows
            record |= self._place(one.split, one.image, rows)
        if twin := one.twin:
            record["relation"] = twin.relation
            record["other"] = {"split": twin.split, **self._place(twin.split, twin.image, twin.other_rows)}
        return record

    def _place(self, split: str, image: int, rows: tuple[int, ...]) -> dict[str, Any]:
        annotations = self.annotations[split]
        return {"image": str(annotations.image_path(image)), "annotations": annotations.ids[list(rows)].tolist()}
