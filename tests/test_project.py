"""The repository as a project: what is shipped, what the workflows may do, and where its pages lead."""

import re
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from tools import release

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / ".github" / "workflows").glob("*.yml")}
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
MADE = re.compile(r"docs/reference/(commands|models|weights|registries|python)\b")  # while the site is built


def test_the_wheel_ships_types_and_configurations(tmp_path):
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed").WheelBuilder
    (built,) = wheel(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with ZipFile(built) as archive:
        names = set(archive.namelist())
    configs = {f"detect/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "configs").rglob("*.yaml")}
    modules = {
        path.relative_to(ROOT).as_posix() for name in ("anchors", "detect") for path in ROOT.glob(f"{name}/**/*.py")
    }
    assert {"anchors/py.typed", "detect/py.typed"} | configs | modules <= names
    assert not [name for name in names if name.startswith(("tests/", "tools/"))]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_has_no_permission_by_default_and_pins_what_it_runs(name):
    workflow = yaml.safe_load(WORKFLOWS[name])
    assert workflow["permissions"] == {} and "secrets." not in WORKFLOWS[name]
    assert all(
        ("permissions" in job and "timeout-minutes" in job) or "uses" in job for job in workflow["jobs"].values()
    )
    for action in re.findall(r"uses: (.+)", WORKFLOWS[name]):
        assert action.startswith("./") or re.fullmatch(r"[\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action), action


def test_only_publishing_may_show_an_identity():
    jobs = {(name, key): job for name, text in WORKFLOWS.items() for key, job in yaml.safe_load(text)["jobs"].items()}
    assert {key for key, job in jobs.items() if "write" in job["permissions"].values()} == {
        ("docs.yml", "publish"),
        ("release.yml", "publish"),
    }


def test_the_oldest_versions_are_those_of_pyproject():
    rows = yaml.safe_load(WORKFLOWS["tests.yml"])["jobs"]["test"]["strategy"]["matrix"]["include"]
    oldest = next(row for row in rows if row["libraries"] == "oldest")
    assert f">={oldest['python']}" == PROJECT["requires-python"]
    lines = [line for line in (ROOT / oldest["constraints"]).read_text().splitlines() if not line.startswith("#")]
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    bounds = dict(line.split(">=") for line in [*extras, *PROJECT["dependencies"]] if ">=" in line)
    for name, version in (line.split("==") for line in lines):
        assert f"{version}.".startswith(f"{bounds[name]}."), name


def test_the_files_of_a_release_name_one_version():
    assert release.problems(ROOT) == []


@pytest.mark.parametrize(
    ("tag", "changes", "cited", "problem"),
    [
        ("v1.2.0", "## 1.2.0 (2030-01-02)", "version: 1.2.0\ndate-released: 2030-01-02", None),
        ("v1.3.0", "## 1.2.0 (2030-01-02)", "version: 1.2.0\ndate-released: 2030-01-02", "tag v1.3.0: must be v1.2.0"),
        ("v1.2.0", "## 1.1.0 (2030-01-02)", "version: 1.2.0", "first heading must be `## 1.2.0"),
        ("v1.2.0", "## 1.2.0 (not released)", "version: 1.2.0", "write the day of the release"),
        ("v1.2.0", "## 1.2.0 (2030-01-02)", "version: 1.2.0\ndate-released: 2029-01-02", "date-released must be 2030"),
        (None, "## 1.2.0 (not released)", "version: 1.1.0", "CITATION.cff: version must be 1.2.0"),
    ],
)
def test_a_release_is_stopped_by_versions_that_differ(tmp_path, tag, changes, cited, problem):
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(f"# Changes\n\n{changes}\n- A line.\n")
    (tmp_path / "CITATION.cff").write_text(f"cff-version: 1.2.0\n{cited}\n")
    found = release.problems(tmp_path, tag)
    assert found == [] if problem is None else len(found) == 1 and problem in found[0]


def anchors_of(page):
    """The fragments that lead into a Markdown page, as GitHub makes them of its headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?:", link):
            continue
        path, _, fragment = link.partition("#")
        target = page.parent / path if path else page
        if MADE.search(target.resolve().as_posix()):  # mkdocs checks these: tests/test_docs.py
            continue
        assert target.exists(), f"{link}: no such file"
        assert not fragment or fragment in anchors_of(target), f"{link}: no such heading"
