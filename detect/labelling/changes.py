"""What a correction changed: image by image, as a JSON file, as text, and as a summary."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detect.utils.atomic_io import replace_text
from detect.utils.names import counted, json_text, shown


@dataclass
class ImageChanges:
    """What became of the objects of one image: names of classes and boxes x, y, w, h."""

    image: str
    split: str
    is_new: bool = False
    added: list[dict[str, Any]] = field(default_factory=list)
    removed: list[dict[str, Any]] = field(default_factory=list)
    changed: list[dict[str, Any]] = field(default_factory=list)
    class_changed: list[dict[str, Any]] = field(default_factory=list)
    unchanged: int = 0

    def text(self) -> str:
        """The changes in one line; "" without any."""
        parts = []
        for what in ("added", "removed", "changed"):
            classes = Counter(one["class"] for one in getattr(self, what))
            if classes:
                each = ", ".join(f"{name} {count}" for name, count in classes.most_common())
                parts.append(f"{classes.total()} {what} ({each})")
        moves = Counter(f"{one['before']} -> {one['after']}" for one in self.class_changed)
        parts += [f"{count} {move}" for move, count in moves.most_common()]
        new = " (new image)" if self.is_new else ""
        return shown(f"{self.split}/{self.image}{new}: {'; '.join(parts)}") if parts or new else ""


@dataclass
class Changes:
    """The changes of all corrected images, and the notes on conflicts that were settled."""

    images: list[ImageChanges] = field(default_factory=list)
    not_corrected: int = 0
    conflicts: list[str] = field(default_factory=list)

    def totals(self) -> dict[str, int]:
        """The objects of each kind, and the images."""
        lists = ("added", "removed", "changed", "class_changed")
        found = {name: sum(len(getattr(one, name)) for one in self.images) for name in lists}
        found["unchanged"] = sum(one.unchanged for one in self.images)
        new = sum(one.is_new for one in self.images)
        return {"corrected": len(self.images) - new, "new": new, "not_corrected": self.not_corrected, **found}

    def summary(self) -> list[str]:
        """Lines for the terminal."""
        n = self.totals()
        images = f"{counted(n['corrected'], 'image')} corrected, {n['new']} new, {n['not_corrected']} as before"
        moves = Counter(f"{move['before']} -> {move['after']}" for one in self.images for move in one.class_changed)
        each = ", ".join(f"{move} {count}" for move, count in moves.most_common(8))
        objects = f"{counted(n['added'], 'object')} added, {n['removed']} removed, {n['changed']} changed"
        classes = f", {n['class_changed']} of another class" + (f" ({each})" if each else "")
        return [images, f"{objects}{classes}, {n['unchanged']} unchanged", *self.conflicts]

    def write(self, folder: Path) -> None:
        """Write changes.json and changes.txt."""
        content = {"totals": self.totals(), "conflicts": self.conflicts, "images": [vars(one) for one in self.images]}
        replace_text(folder / "changes.json", json_text(content, indent=1) + "\n")
        lines = [*map(shown, self.summary()), "", *filter(None, (one.text() for one in self.images))]
        replace_text(folder / "changes.txt", "".join(f"{line}\n" for line in lines))
