"""What mkdocs adds to docs/ while it builds the site.

- The pages of the reference that `tools/reference.py` makes from the code.
- A page for each file of the repository that pages link to. GitHub shows such a file itself; the site has to be
  complete without a network.
- In `nav`, an entry that ends in / stands for all pages of that folder, in the order of their names.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from tools.reference import pages

ROOT = Path(__file__).parents[1]
FOLDER = "repository/"  # of the pages of files outside docs/
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)")
# What the search shows first: the first start of a path that fits decides. Sources are not shown.
BOOST = {"how-to/data.md": 4, "how-to/": 2, "reference/": 0.5, FOLDER: 0.3}
RUN = re.compile(r"^( *```\w+) run$", re.M)  # a block that tests/test_docs.py runs; Markdown's fences know no such word
LANGUAGES = {".py": "python", ".js": "js", ".cpp": "cpp", ".json": "json", ".yaml": "yaml", ".yml": "yaml", ".txt": ""}
LANGUAGES |= {".sh": "sh", ".sbatch": "sh"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and place those of whole folders in the navigation."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    _add_linked(files, config)
    config.nav = _expanded(config.nav, sorted(file.src_uri for file in files.documentation_pages()))
    return files


def _add_linked(files: Files, config: MkDocsConfig) -> None:
    """Add a page for every file outside docs/ that a page links to, and for those that it links to."""
    waiting = list(files.documentation_pages())
    while waiting:
        page = waiting.pop()
        for link in LINK.findall(page.content_string):
            path = _target(page.src_uri, link)
            if files.get_file_from_path(_page_of(path)) is None and (ROOT / path).is_file():
                file = File.generated(
                    config, _page_of(path), content=_content(path), inclusion=InclusionLevel.NOT_IN_NAV
                )
                files.append(file)
                waiting.append(file)


def _expanded(nav: Any, paths: Sequence[str]) -> Any:
    """A part of `nav` with the pages of a folder in place of its name; a folder without pages is left out."""
    if isinstance(nav, dict):
        return {title: _expanded(part, paths) for title, part in nav.items()}
    if isinstance(nav, list):
        parts = [_expanded(part, paths) for part in nav]
        flat = [one for part in parts for one in (part if isinstance(part, list) else [part])]
        return [one for one in flat if not isinstance(one, dict) or all(one.values())]
    return [path for path in paths if path.startswith(nav)] if nav.endswith("/") else nav


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to pages of the site, wherever their files are in the repository, and leave "run" out of fences."""
    at = page.file.src_uri
    boost = next((factor for folder, factor in BOOST.items() if at.startswith(folder)), 1)
    page.meta.setdefault("search", {"exclude": True} if Path(at).stem.count(".") else {"boost": boost})

    def leads(link: re.Match[str]) -> str:
        target = _page_of(_target(at, link[1]))
        return posixpath.relpath(target, posixpath.dirname(at) or ".")

    return RUN.sub(r"\1", LINK.sub(leads, markdown))


def _target(page: str, link: str) -> str:
    """The path in the repository that a link leads to; of a folder its README.md."""
    here = page.removeprefix(FOLDER) if page.startswith(FOLDER) else f"docs/{page}"
    path = posixpath.normpath(posixpath.join(posixpath.dirname(here), link))
    return f"{path}/README.md" if os.path.isdir(ROOT / path) else path


def _page_of(path: str) -> str:
    """The path in the site of a file of the repository."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path == "README.md":
        return "index.md"
    return FOLDER + path if path.endswith(".md") else f"{FOLDER}{path}.md"


def _content(path: str) -> str:
    """The Markdown that shows a file of the repository."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    return f"# `{path}`\n\n````{LANGUAGES.get(Path(path).suffix, '')}\n{text}\n````\n"
