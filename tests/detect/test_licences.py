"""docs/reference/licences.md and the command that writes its tables."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from detect.errors import UserError
from tools import licences as tool

PAGE = tool.ROOT / "docs/reference/licences.md"
NAMES = [canonicalize_name(Requirement(line).name) for line in tool.dependencies()]


def metadata(**given):
    """A wheel with that metadata, where a name may occur several times."""
    found = {name.replace("_", "-"): value if isinstance(value, list) else [value] for name, value in given.items()}
    return SimpleNamespace(metadata=SimpleNamespace(get_all=found.get))


def test_the_page_names_every_dependency():
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in NAMES if f"| **{name}** |" not in page] == []
    assert "not in the table" not in page


def test_the_tool_writes_the_tables_of_this_environment(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"above\n{tool.BEGIN}\nold\n", encoding="utf-8")
    words = [sys.executable, str(tool.ROOT / "tools/licences.py"), "--page", str(page)]
    run = subprocess.run(words, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"above\n{tool.BEGIN}\n\n## Every wheel") and "old" not in text
    assert [name for name in NAMES if f"| **{name}** |" not in text] == []
    page.write_text("no line\n", encoding="utf-8")
    assert subprocess.run(words, capture_output=True).returncode == 2 and page.read_text() == "no line\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"License_Expression": "MIT", "License": "BSD"}, "MIT"),
        ({"License": "BSD"}, "BSD"),
        ({"License": "OSI Approved :: Apache Software License"}, "Apache Software License"),
        ({"License": "Long\ntext", "Classifier": ["License :: OSI Approved :: BSD License"]}, "BSD License"),
        ({"License": "MIT License\n\nCopyright"}, "MIT License"),
        ({"Classifier": ["Topic :: Software"]}, "not declared"),
    ],
)
def test_a_wheel_declares_its_licence_in_one_of_several_ways(given, said):
    assert tool.licence(metadata(**given)) == said


@pytest.mark.parametrize(
    ("text", "said"), [(f"(c) 2019\n\n{tool._MIT[:60]}\n{tool._MIT[60:]}", "MIT"), ("", "not declared")]
)
def test_a_wheel_without_metadata_has_the_licence_of_its_file(text, said):
    one = metadata(License_File=["LICENSE"])
    one.read_text = {"licenses/LICENSE": text}.get
    assert tool.licence(one) == said


def test_libraries_in_a_wheel_are_told_from_its_own_modules(tmp_path):
    folder = tmp_path / "a.libs"
    folder.mkdir()
    (folder / "libcrypto-5409cd36.so.3").write_bytes(b"..OpenSSL 3.0.7 1 Nov 2022")
    names = ["a/_c.abi3.so", "a/lib/libtorch.so", "a/lib/libgomp.so.1", "a.libs/libx265-f5385bb8.so.216", "a/x.py"]
    names += ["a.libs/libcrypto-5409cd36.so.3", "a.libs/libnew-00000000.so.1", "a.libs/libavcodec-00000000.so.62"]
    files = [tmp_path.joinpath(name).relative_to(tmp_path) for name in names]
    found = list(tool.libraries(SimpleNamespace(files=files, locate_file=tmp_path.joinpath)))
    assert {file.split("-")[0]: (project, text) for project, file, text in found if project != "FFmpeg"} == {
        "libgomp.so.1": ("GCC's runtime", "GPL-3.0-or-later WITH GCC-exception-3.1"),
        "libx265": ("x265", "GPL-2.0-or-later"),
        "libcrypto": ("OpenSSL", "Apache-2.0 (3.0.7)"),
        "libnew": ("unknown", "not in the table of this tool"),
    }
    assert [text.split(",")[0] for project, _, text in found if project == "FFmpeg"] == ["LGPL or GPL"]


def test_requirements_bring_their_own(monkeypatch):
    wheels = {"a": ["b[fast]>=1", "gone; extra == 'more'"], "b": ["c; extra == 'fast'", "d; python_version < '3'"]}
    wheels |= {"c": ["A"]}

    def distribution(name):
        if name.lower() not in wheels:
            raise PackageNotFoundError(name)
        return SimpleNamespace(requires=wheels[name.lower()])

    monkeypatch.setattr(tool, "distribution", distribution)
    assert list(tool.brought(["a"])) == ["a", "b", "c"]
    with pytest.raises(UserError, match="gone is not installed"):
        tool.brought(["a[more]"])
