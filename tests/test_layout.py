"""The shape of the code: short paths, short files, imports in one direction, nothing that loads a pickle."""

import ast
import importlib
import inspect
import pkgutil
import statistics
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import anchors
import detect
from anchors import assign
from detect.config import CONFIGS
from detect.data.toy import build
from detect.models.configs import model_config, shipped_names
from tools import hops

ROOT = hops.ROOT
NETWORK = (
    "detect/models/backbones",
    "detect/models/heads",
    "detect/models/losses",
    "detect/models",
    "detect/models/necks.py",
)
WORK = (
    "detect.data",
    "detect.training",
    "detect.inference",
    "detect.evaluation",
    "detect.cli.parser",
    "detect.commands",
)


@cache
def trees():
    """The syntax tree of every file, by its path."""
    files = (path for package in (*hops.PACKAGES, "tools") for path in sorted((ROOT / package).rglob("*.py")))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in files}


@cache
def calls():
    """(file, call, name of what is called) of every call."""
    nodes = ((file, node) for file, tree in trees().items() for node in ast.walk(tree))
    return [(file, node, ast.unparse(node.func)) for file, node in nodes if isinstance(node, ast.Call)]


@cache
def imports(file):
    """(module, whether a function imports it) of every import; `from a import b` may mean the module a.b as well."""
    return list(imported_by(trees()[file]))


def imported_by(tree):
    nodes = list(ast.walk(tree))
    late = {id(n) for f in nodes if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            yield name, id(node) in late


def importers(*modules):
    """Files that import one of the modules, or something inside it."""
    inside = tuple(f"{module}." for module in modules)
    return {file for file in trees() for name, _ in imports(file) if name in modules or name.startswith(inside)}


def within(files, *folders):
    return {file for file in files if file in folders or file.startswith(tuple(f"{folder}/" for folder in folders))}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = build(tmp_path_factory.mktemp("toy") / "digits", train=16, val=1, size=96)
    return {"loss": hops.to_loss(folder), "boxes": hops.to_boxes(folder)}


@pytest.mark.parametrize(
    ("path", "stations"),
    [
        (
            "loss",
            [
                "decode_image",
                "mosaic",
                "stream",
                "PyramidModel.forward",
                "Yolo.loss",
                "TaskAligned.__call__",
                "_overlap",
            ],
        ),
        (
            "boxes",
            ["decode_image", "ImagePart.__iter__", "prefetch", "Letterbox.apply", "Yolo.postprocess", "batched_nms"],
        ),
    ],
)
def test_the_count_sees_every_stage_in_every_thread(paths, path, stations):
    assert set(stations) <= {function for _, function in paths[path]}


@pytest.mark.parametrize(("path", "most"), [("loss", 60), ("boxes", 40)])
def test_an_image_passes_few_functions(paths, path, most):
    assert len(paths[path]) <= most, sorted(paths[path])


@pytest.mark.parametrize(("path", "most"), [("loss", 20), ("boxes", 13)])
def test_an_image_passes_few_files(paths, path, most):
    files = {file for file, _ in paths[path]}
    assert len(files) <= most, sorted(files)


def test_files_and_functions_are_short():
    files, functions = hops.lengths()
    assert set(files) == set(trees())
    assert statistics.median(files.values()) <= 110
    assert [name for name, lines in files.items() if lines > 350] == []
    assert [name for name, lines in functions.items() if lines > 60] == []
    assert statistics.quantiles(functions.values(), n=100)[-1] <= 50


def test_anchors_stand_alone():
    allowed = {"anchors", "torch", "numpy", "sklearn", "threadpoolctl", *sys.stdlib_module_names}
    for file in within(trees(), "anchors"):
        for name, late in imports(file):
            root = name.split(".")[0]
            assert root in allowed or (root == "torchvision" and late), f"{file} imports {name}"


def test_networks_know_nothing_of_data_and_work():
    assert within(importers(*WORK), *NETWORK) == set()


def test_training_and_prediction_do_not_know_one_another():
    assert within(importers("detect.training"), "detect/inference", "detect/data", "detect/evaluation") == set()
    assert within(importers("detect.inference"), "detect/training", "detect/data", "detect/evaluation") == set()


def imported_first(body):
    """The imports that run when a module is imported: not those of functions, nor those for types alone."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If | ast.Try) and "TYPE_CHECKING" not in ast.unparse(getattr(node, "test", node)):
            yield from imported_first([*node.body, *node.orelse, *getattr(node, "finalbody", [])])


def test_imports_have_no_cycle():
    modules = {file[:-3].removesuffix("/__init__").replace("/", "."): tree for file, tree in trees().items()}

    def imported(node):
        if isinstance(node, ast.Import):
            return {alias.name for alias in node.names}
        names = (f"{node.module}.{alias.name}" for alias in node.names)
        return {name if name in modules else node.module for name in names}

    graph = {name: set().union(*map(imported, imported_first(tree.body))) for name, tree in modules.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imported in a circle: {' -> '.join(error.args[1])}")


def test_nothing_but_tools_imports_the_tools():
    assert {file for file in importers("tools") if not file.startswith("tools/")} == set()


@pytest.mark.parametrize(
    ("library", "file"),
    [("albumentations", "detect/data/augment/albumentations_adapter.py")],
)
def test_a_library_has_one_door(library, file):
    assert importers(library) == {file}


def loaded(code):
    """The modules that are there after `code` ran in a fresh interpreter."""
    code += "\nimport sys\nprint('\\n' + '\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.split("\n"))


def test_help_and_configuration_import_nothing_heavy():
    code = """import detect, detect.config
from detect.__main__ import COMMANDS, main
main(['--help'])
for command in COMMANDS:
    main([command, '--help'])
main(['train', '--model', 'faster_rcnn', '--help-all'])
main(['train', '--data', 'toy', '--epoch', '3'])
detect.UserError"""
    assert loaded(code) & {"torch", "numpy", "cv2", "rich", "anchors", "sklearn", "av"} == set()


def test_a_model_brings_no_data_with_it():
    modules = loaded("from detect.models.builder import build\nimport detect.models.yolo")
    assert "anchors" in modules and "detect.models.base" in modules
    assert {name for name in modules if name in WORK or name.startswith(tuple(f"{w}." for w in WORK))} == set()
    assert modules & {"cv2", "albumentations", "av"} == set()


def test_no_pickle_is_loaded():
    assert importers("pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal") == set()
    for file, call, name in calls():
        flags = {k.arg: ast.unparse(k.value) for k in call.keywords if k.arg in ("weights_only", "allow_pickle")}
        if name == "torch.load":
            assert flags.get("weights_only") == "True", f"{file}:{call.lineno}"
        assert flags.get("allow_pickle", "False") == "False", f"{file}:{call.lineno}"


def test_what_guesses_a_format_is_called_where_formats_are_listed():
    doors = {
        "cv2.imdecode": {"detect/data/images.py", "detect/data/jpegs.py"},  # after Pillow has said what it is
        "cv2.VideoCapture": {"detect/inference/video.py"},
        "cv2.imread": set(),
        "av.open": {"detect/inference/video.py"},
    }
    for file, call, name in calls():
        flags = {k.arg for k in call.keywords}
        if name == "av.open" and len(call.args) > 1 and ast.unparse(call.args[1]) == "'w'":
            continue
        assert file in doors.get(name, {file}), f"{file}:{call.lineno}: {name}"
        assert name != "Image.open" or "formats" in flags, f"{file}:{call.lineno}"
        assert name != "av.open" or "options" in flags, f"{file}:{call.lineno}"


def test_files_are_written_by_one_function_as_a_whole():
    """What `replace_file` gives to write into is called part."""
    own = {
        "detect/inference/output_folder.py",
        "detect/inference/result_writers.py",
        "detect/data/jpegs.py",
    }  # files that grow; in memory
    own |= {"detect/serve/uploads.py", "tools/bench_pairs.py", "tools/fuzz.py", "tools/fuzz_data.py"}  # temporary
    own |= {"tools/fuzz_targets.py", "tools/fuzz_public.py", "detect/export/writers.py"}
    for file, call, name in calls():
        writes = name.endswith((".write_text", ".write_bytes", "cv2.imwrite", ".savefig"))
        if name == "open" or name.endswith((".open", ".fdopen")):
            modes = [str(one.value) for one in call.args[name == "open" :][:1] if isinstance(one, ast.Constant)]
            writes |= bool(set("".join(modes)) & set("wax+"))
        good = name.startswith("part.") or file in own or name == "av.open"
        assert good or not writes, f"{file}:{call.lineno}: {name}"


def test_what_commands_print_is_shown_safely():
    """`names.say` escapes what controls a terminal in names; json escapes it itself, and the rest names nothing."""
    own = {"detect/utils/names.py", "detect/__main__.py", "detect/errors.py", "detect/data/jpegs.py"}
    for file, call, name in calls():
        if name in ("print", "sys.stdout.write", "sys.stderr.write") and file in within(trees(), "detect") - own:
            assert "results_file" in ast.unparse(call), f"{file}:{call.lineno}"


def test_the_repository_names_no_folder_of_a_developer():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is no list of tracked files")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    private = [f"/{name}/".encode() for name in ("home", "work", "Users")]
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.is_file():
            content = path.read_bytes()
            assert [text for text in private if text in content] == [], name


def test_the_wheel_carries_every_configuration():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["detect", "anchors"]
    assert wheel["force-include"] == {"configs": "detect/configs"}
    shipped = {path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml")}
    assert shipped == {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.yaml")}
    assert {Path("models") / f"{name}.yaml" for name in shipped_names()} == {
        p for p in shipped if p.parts[0] == "models"
    }
    for name in shipped_names():
        assert model_config(name).name == name


def public_functions():
    """(name, function, docstrings) of anchors and of the public names of detect; methods have those of their bases."""
    modules = [importlib.import_module(f"anchors.{one.name}") for one in pkgutil.iter_modules(anchors.__path__)]
    modules += [importlib.import_module(f"anchors.assign.{one.name}") for one in pkgutil.iter_modules(assign.__path__)]
    found = [(module.__name__, vars(module)) for module in modules] + [
        ("detect", {name: getattr(detect, name) for name in detect.__all__})
    ]
    for where, names in found:
        for name, value in names.items():
            if name.startswith("_") or not getattr(value, "__module__", "").startswith(("anchors", "detect")):
                continue
            if inspect.isfunction(value):
                yield f"{where.removeprefix('anchors.')}.{name}", value, [value.__doc__]
            for own, method in inspect.getmembers(value) if inspect.isclass(value) else ():
                if inspect.isfunction(method) and not own.startswith("_"):
                    docs = [vars(base)[own].__doc__ for base in value.__mro__ if own in vars(base)]
                    yield f"{where}.{name}.{own}", method, docs


def test_public_functions_explain_their_arguments():
    lacking, names = [], set()
    for name, function, docs in public_functions():
        names.add(name)
        parameters = [one for one in inspect.signature(function).parameters if one not in ("self", "flags")]
        if len(parameters) > 1 and not any("Args:" in (doc or "") for doc in docs):
            lacking.append(name)
    assert lacking == []
    assert {"boxes.iou", "nms.nms", "detect.Detector.predict", "detect.Detections.plot"} <= names
