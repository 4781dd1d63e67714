"""Options that several commands share, and the constraints on their values; nothing here imports torch or numpy."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent.parent
CONFIGS = next(p for p in (_HERE / "configs", _HERE.parent / "configs") if p.is_dir())
