"""What mkdocs adds to docs/ while it builds the site: a page for each file of the repository that pages link to.

GitHub shows such a file itself; the site has to be complete without a network.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
FOLDER = "repository/"  # of the pages of files outside docs/
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)")
LANGUAGES = {".py": "python", ".js": "js", ".cpp": "cpp", ".json": "json", ".yaml": "yaml", ".yml": "yaml", ".txt": ""}


def on_files(files: Files, config: MkDocsConfig) -> Files:
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
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links of a page to other pages of the site, wherever their files are in the repository."""
    at = page.file.src_uri

    def leads(link: re.Match[str]) -> str:
        target = _page_of(_target(at, link[1]))
        return posixpath.relpath(target, posixpath.dirname(at) or ".")

    return LINK.sub(leads, markdown)


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
    return text if path.endswith(".md") else f"# {path}\n\n````{LANGUAGES.get(Path(path).suffix, '')}\n{text}\n````\n"
