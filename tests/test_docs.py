"""The pages of the documentation: every command is understood, what is marked runs, and the site builds."""

import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from detect import plugins
from detect.__main__ import main
from detect.cli import parser, train_values
from detect.config.fields import options_of
from detect.config.train import TrainConfig
from detect.hub.catalogue import catalogue
from detect.models.configs import model_values
from detect.registry import REGISTRIES
from tests.browser import WIDTHS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("examples/**/*.md"))]
FENCE = re.compile(r"^( *)```(\w*)( run)?\n(.*?)^\1```$", re.M | re.S)
LANGUAGES = {"sh", "python", "yaml", "json", "toml", "text", "js", "cpp"}
SEPARATORS = {"&&", ";", "|", "||", "then", "fi", "&"}
OF_TRAIN = "--config --plugin " + " ".join(f"--{option.name.replace('_', '-')}" for option in options_of(TrainConfig))
QUICK = ("docs/how-to/pretrained.md", "docs/how-to/settings.md")  # pages whose blocks take a second or two


# How the names of figures begin, and what their pages say of how they are made; the tour's: tests/detect/test_tour.py.
FIGURES = {"clip": "tools/clip.py", "demo": "detect demo", "tutorial": "detect predict", "style": "detect stylize"}
FIGURES |= {"label-errors": "planted_errors draw", "serve": "tools/page_pictures.py", "watch": "tools/page_pictures.py"}
FIGURES |= {"augmentation": "tools/look.py", "shortcuts": "tools/curves.py", "yolo_grid": "tools/cells.py"}
FIGURES |= dict.fromkeys(("assignment", "exactness", "losses", "options"), "tools/figures.py")
FIGURES |= {"paradigms": "the page that the first command writes"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    run: bool
    text: str

    @property
    def file(self):
        """The name of the file that a block with a first line such as "# birds.yaml" shows; "" for others."""
        named = re.match(r"# ([\w-]+\.(?:py|yaml|yml|toml))\b", self.text)
        return named[1] if named and self.language != "sh" else ""


def blocks_of(page):
    text = page.read_text(encoding="utf-8")
    for fence in FENCE.finditer(text):
        indent, language, run, body = fence.groups()
        body = "\n".join(line.removeprefix(indent) for line in body.split("\n"))
        yield Block(page, text.count("\n", 0, fence.start()) + 1, language, bool(run), body)


BLOCKS = {page: list(blocks_of(page)) for page in PAGES}
name_of = lambda page: page.relative_to(ROOT).as_posix()  # noqa: E731


def commands_of(text):
    """The commands of a block, each as its words, with variables and the loops of a shell replaced."""
    values = {"DATA": "data", "set": "bccd", "split": "test"}
    text = re.sub(r"\\\n\s*", " ", text)
    while loop := re.search(r"\bfor (\w+) in ([^;\n]+)[;\n]\s*do\b((?:(?!\bfor \w+ in ).)*?)\bdone\b", text, re.S):
        name, given, body = loop.groups()
        turns = (re.sub(rf"\$(?:{name}\b|{{{name}}})", lambda _, one=one: one, body) for one in shlex.split(given))
        text = text[: loop.start()] + "\n".join(turns) + text[loop.end() :]
    for line in text.splitlines():
        words, command = [*shlex.split(line, comments=True), ";"], []
        for word in words:
            if word not in SEPARATORS and not word.endswith(";"):
                command.append(word)
                continue
            if word not in SEPARATORS:
                command.append(word[:-1])
            while command and (one := re.fullmatch(r"(\w+)=(.*)", command[0], re.S)):
                values[one[1]] = command.pop(0)[len(one[1]) + 1 :]
            if command:
                filled = [(part, string.Template(part).safe_substitute(values)) for part in command]
                yield [word for part, one in filled for word in (one.split() if part.startswith("$") else [one])]
            command = []


@pytest.fixture
def forgets_plugins(monkeypatch):
    """After the test nothing is registered that a plugin has registered."""
    monkeypatch.setattr(plugins, "_loaded", {})
    before = {kind: set(registry._modules) for kind, registry in REGISTRIES.items()}
    yield
    for kind, registry in REGISTRIES.items():
        for name in set(registry._modules) - before[kind]:
            registry._modules.pop(name)
            registry._entries.pop(name, None)
    for name in [name for name in sys.modules if name.startswith("gridhead_plugin_")]:
        del sys.modules[name]


def test_every_block_names_its_language():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert len(re.findall(r"^ *```", text, re.M)) == 2 * len(BLOCKS[page]), f"{page}: a fence that is not closed"
        assert [block for block in BLOCKS[page] if block.language not in LANGUAGES] == []


def test_guides_are_questions():
    titles = {path.stem: path.read_text(encoding="utf-8").split("\n")[0] for path in ROOT.glob("docs/how-to/*.md")}
    assert [name for name, title in titles.items() if not title.endswith("?")] == ["troubleshooting"]


def test_a_page_with_a_figure_says_what_makes_it():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"!\[[^\]]*\]\([^)]*assets/([^)]+)\)", text):
            made = [command for start, command in FIGURES.items() if name.startswith(start)]
            assert made and made[0] in text, f"{name_of(page)}: nothing makes {name}"


@pytest.mark.parametrize("page", [page for page in PAGES if BLOCKS[page]], ids=name_of)
@pytest.mark.usefixtures("forgets_plugins")
def test_the_commands_of_a_page_are_understood(page, tmp_path, monkeypatch):
    """Every flag exists, and every value is one that it may have; nothing is run, and no weights are opened."""
    monkeypatch.chdir(tmp_path)
    for plugin in ROOT.glob("examples/plugins/*.py"):
        shutil.copy(plugin, tmp_path)
    monkeypatch.setattr(parser, "chosen_layers", lambda layers: [])  # --auto
    model_of = train_values._default_model

    def default_model(task, weights):
        known = catalogue().get(weights)
        return (model_values(known.model), {}) if known else model_of(task, "")

    monkeypatch.setattr(train_values, "_default_model", default_model)
    for block in BLOCKS[page]:
        if block.file:
            Path(block.file).write_text(block.text, encoding="utf-8")
    for block in BLOCKS[page]:
        for words in commands_of(block.text) if block.language == "sh" else ():
            try:
                understand(words)
            except Exception as error:
                pytest.fail(f"{name_of(page)}:{block.line}: {shlex.join(words)}: {error}")


def understand(words):
    """Check one command without running it. Raises where a flag or a tool does not exist."""
    program, *rest = words
    if program in ("python", "python3") and rest[:2] != ["-m", "detect"]:
        tool = rest[1].replace(".", "/") + ".py" if rest[0] == "-m" else rest[0]
        if tool.startswith(("tools/", "tests/")):
            assert (ROOT / tool).is_file(), f"there is no {tool}"
            known = (ROOT / tool).read_text(encoding="utf-8") + OF_TRAIN  # some tools pass flags on to detect train
            flags = [word for word in rest if word.startswith("--") and not word.startswith("--model.")]
            assert [flag for flag in flags if flag not in known] == [], f"flags that {tool} does not have"
        return
    if program == "python":
        program, *rest = rest[1:]
    if program in ("detect", ".venv/bin/detect"):
        assert rest, "there is no command"
        command, *rest = [word for word in rest if word != "--offline"]
        if parser.HELP.intersection(rest):
            parser.run(command, rest)
            return
        if "--resume" in rest and (run := rest[rest.index("--resume") + 1 :][:1]):
            Path(run[0]).mkdir(parents=True, exist_ok=True)
            (Path(run[0]) / "config.yaml").write_text("data: toy\n")
        parser.parse(command, rest)


def run_blocks(page, folder):
    """Run the marked blocks of a page one after the other in a folder; Python blocks share their names."""
    program = folder / "bin" / "detect"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m detect "$@"\n')
    program.chmod(0o755)
    paths = os.pathsep.join([str(program.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    given = {**os.environ, "PATH": paths, "PYTHONPATH": str(ROOT), "GRIDHEAD_OFFLINE": "1"}
    script = ["import subprocess"]
    for block in BLOCKS[page]:
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
        if block.run and block.language == "sh":
            script.append(f"subprocess.run(['bash', '-euc', {block.text!r}], check=True)")
        elif block.run:
            where = f"{name_of(page)}:{block.line}"
            script.append(f"exec(compile({block.text!r}, {where!r}, 'exec'), globals())")
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(script)], cwd=folder, env=given, capture_output=True, text=True
    )
    assert ran.returncode == 0, f"{name_of(page)}: {ran.stdout[-500:]} {ran.stderr[-1500:]}"


RUN = [page for page in PAGES if any(block.run for block in BLOCKS[page]) and page.name != "labels.md"]  # that: below


@pytest.mark.parametrize(
    "page", [pytest.param(one, marks=() if name_of(one) in QUICK else pytest.mark.slow) for one in RUN], ids=name_of
)
@pytest.mark.skipif(sys.platform == "win32", reason="the blocks are written for a shell of Unix")
def test_the_blocks_of_a_page_run(page, tmp_path):
    run_blocks(page, tmp_path)


LABELS = ROOT / "docs/tutorials/labels.md"
# The same walk in seconds: what stands in the page, and what it is then.
SHORT = {"train=400, val=160, size=128": "train=24, val=8, size=64", "160]": "12]", "160:]": "12:]", "40]": "4]"}
SHORT |= {"40:]": "4:]", "--epochs 40": "--epochs 1", "--imgsz 128": "--imgsz 64", "--budget 80": "--budget 5"}


@pytest.mark.skipif(sys.platform == "win32", reason="the blocks are written for a shell of Unix")
def test_the_walk_from_wrong_labels_to_more_and_better_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    programs, commands = {}, []
    for block in BLOCKS[LABELS]:
        text = block.text
        for long, short in SHORT.items():
            text = text.replace(long, short)
        if block.file:
            programs[block.file] = compile(text, block.file, "exec")
        elif block.run:
            commands += commands_of(text)
    assert {words[1] for words in commands} >= {"train", "mistakes", "label", "next", "evaluate"}
    for program, *words in commands:
        if program == "python":
            monkeypatch.setattr(sys, "argv", words)
            exec(programs[words[0]], {})
        else:
            assert main(words) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "mistakes.html" in said and "0 images corrected, 5 new" in said
    after = json.loads(Path("after.json").read_text())
    assert "AP" in after["against"]["numbers"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the blocks are written for a shell of Unix")
def test_corrected_and_more_labels_are_better_by_more_than_the_interval(tmp_path):
    run_blocks(LABELS, tmp_path)
    low, _ = json.loads((tmp_path / "after.json").read_text())["against"]["numbers"]["AP"]["interval"]
    assert low > 0


# Pages, and what somebody who knows nothing of gridhead searches for when one of them has the answer.
SEARCHES = {
    "how-to/data": (
        "train on my own data; how do i train; train yolo on custom dataset; start training; data; "
        "train on my photos; train my own detector; train a model"
    ),
    "tutorials/own_data": "own data in ten minutes",
    "tutorials/fine_tune": "fine tune",
    "how-to/resume": (
        "resume a run; continue training; restart training from checkpoint; crashed; power cut; "
        "training was interrupted; run stopped, continue; resume training after crash"
    ),
    "how-to/thresholds": (
        "threshold for 95 % precision; which confidence should I use; pick a threshold; 95% precision; "
        "conf threshold; too many false positives; target precision"
    ),
    "how-to/export": (
        "export onnx; read onnx file; convert to onnx; run onnx model in python; onnxruntime; open onnx file; "
        "save as onnx; openvino; c++; c++ inference"
    ),
    "how-to/loss": "add a loss; custom loss; focal loss; write my own loss; change the loss; register loss",
    "how-to/masks": (
        "read a mask set; read a mask dataset; instance segmentation; mask set; png masks; read polygons; "
        "polygon annotations; train with masks; coco segmentation; rle masks"
    ),
    "how-to/many-machines": (
        "run on many machines; distributed training; slurm; multi node; several gpus; ddp; torchrun; "
        "run on several computers; kubernetes; cluster"
    ),
    "how-to/training": "early stopping; patience",
    "how-to/checking": "check data",
    "how-to/predict": "webcam",
    "how-to/troubleshooting": "docker; out of memory; cuda out of memory",
    "how-to/tracking": "count objects",
    "reference/licences": "license",
    "how-to/labelling": "label studio",
    "reference/commands/train": "--imgsz",
}
FIRST = 5  # pages of the results, so many that they are seen without scrolling


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built in strict mode: any warning is an error."""
    mkdocs = pytest.importorskip("mkdocs.commands.build", reason="mkdocs is not installed")
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        mkdocs.build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


@pytest.mark.slow  # `make docs` and the workflow docs build it, too
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|img|source|link)[^>]+(?:src|href)="(?:https?:)?//[^"]+"', page.read_text("utf-8")
        )
        assert [one for one in loaded if "canonical" not in one] == [], page


@pytest.mark.slow
def test_the_search_works_in_a_browser_without_a_server(site, page_at):
    page = page_at(site / "index.html", 1600)
    page.wait_for_function("window.IFrameWorker && document.querySelector('iframe')")
    said, missed = "document.querySelector('.md-search-result__meta').innerText", {}
    for target, words in ((page, words) for page, asked in SEARCHES.items() for words in asked.split("; ")):
        for text, answer in (("xyzzy", "No match"), (words, "")):  # no page has the first
            page.click(".md-search__input")
            page.keyboard.press("ControlOrMeta+A")
            page.keyboard.insert_text(text)
            page.keyboard.press("End")
            page.wait_for_function(f"{said}.startsWith({answer!r})" if answer else f"/^\\d/.test({said})")
        links = page.locator(".md-search-result__item a.md-search-result__link")
        links.first.wait_for()
        hrefs = links.evaluate_all("all => all.map(one => one.href)")
        pages = list(dict.fromkeys(re.sub(r".*?/site\d*/|\.html.*", "", href) for href in hrefs))
        if target not in pages[:FIRST]:
            missed[words] = pages
    assert missed == {}


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_pages_fit_a_phone_and_a_wide_screen(site, page_at, width):
    for name in ("index", "how-to/troubleshooting", "reference/models/yolo", "reference/commands/train"):
        page = page_at(site / f"{name}.html", width, dark=width == 400)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_troubleshooting_quotes_texts_that_the_code_has():
    page = (ROOT / "docs" / "how-to" / "troubleshooting.md").read_text(encoding="utf-8")
    code = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("detect/**/*.py"))
    quoted = [part for row in re.findall(r"^\| (`.+?) \|", page, re.M) for part in re.findall(r"`([^`]+)`", row)]
    assert len(quoted) > 20 and [text for text in quoted if text not in code] == []
