"""Checks that a release names one version everywhere.

    python -m tools.release           # the files agree with one another
    python -m tools.release v1.2.3    # and with this tag; the release has a date

The release workflow runs it on the tag before anything is built.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path

from detect.errors import quiet_pipe

ROOT = Path(__file__).resolve().parent.parent


def problems(root: Path, tag: str | None = None) -> list[str]:
    """List what keeps the files of a repository from being released.

    Args:
        root: Folder that holds pyproject.toml, CITATION.cff and CHANGELOG.md.
        tag: Git tag of the release, such as `v1.2.3`. Default: only compare the files with one another.

    Returns:
        One line for each problem; empty if there is none.
    """
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    cited = re.search(r"^version: (\S+)$", citation, re.M)
    heading = re.search(r"^## (\S+) \((.+)\)$", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    found = []
    if cited is None or cited[1] != version:
        found.append(f"CITATION.cff: version must be {version}, as in pyproject.toml")
    if heading is None or heading[1] != version:
        return [*found, f"CHANGELOG.md: the first heading must be `## {version} (DATE)`, as in pyproject.toml"]
    if tag is None:
        return found
    if tag != f"v{version}":
        found.append(f"tag {tag}: must be v{version}, the version in pyproject.toml")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", heading[2]):
        found.append(f"CHANGELOG.md: write the day of the release instead of ({heading[2]}), as in 2030-12-31")
    elif f"date-released: {heading[2]}" not in citation.splitlines():
        found.append(f"CITATION.cff: date-released must be {heading[2]}, as in CHANGELOG.md")
    return found


def main(arguments: list[str]) -> int:
    """Print the problems of this repository; return the exit status, 2 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tag", nargs="?", help="Git tag of the release, such as v1.2.3")
    found = problems(ROOT, parser.parse_args(arguments).tag)
    for line in found:
        print(line, file=sys.stderr)
    return 2 if found else 0


if __name__ == "__main__":
    with quiet_pipe():
        sys.exit(main(sys.argv[1:]))
