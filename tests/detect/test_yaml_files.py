"""YAML that stands for too much, has no end or is not plain is refused in one line, wherever it comes in."""

import os
import shutil

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from detect.__main__ import main
from detect.cli.parser import parse
from detect.errors import UserError
from detect.utils.yaml_files import dump_yaml, parse_yaml, read_yaml

BOMB = "a0: &a0 [x, x, x, x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}]\n" for i in range(1, 12))
MERGED = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{f'*a{i - 1}, ' * 9}]}}\n" for i in range(1, 12))
CHAIN = "- &a0 [x]\n" + "".join(f"- &a{i} [*a{i - 1}]\n" for i in range(1, 60))
WORDS = st.from_regex(r"[-+]?\d{0,2}\.?\d?[eE]?[-+]?\d{0,2}", fullmatch=True) | st.text("abé:#- {['\"", max_size=5)
HOSTILE = {
    "endless": ("model: &a {loss: *a}", "line 1, column 18: the alias 'a' is inside its own anchor"),
    "endless key": ("&a [b, {c: [*a]}]", "is inside its own anchor"),
    "aliases": (BOMB, "more than 500,000 values"),
    "merge keys": (MERGED, "more than 500,000 values"),
    "deep": ("[" * 9999, "more than 50 levels of nested lists and mappings"),
    "deep mappings": ("{a: " * 999, "more than 50 levels of nested lists and mappings"),
    "deep blocks": ("\n".join(" " * i + "a:" for i in range(60)), "more than 50 levels"),
    "deep by aliases": (CHAIN, "more than 50 levels"),
    "digits": ("a: " + "1" * 5000, "a number of 5000 digits; 20 are read"),
    "equal hashes": (f"{2**61 - 1}: a\n{50 * (2**61 - 1)}: a", "a number of 21 digits"),
    "hexadecimal": ("a: 0x" + "f" * 5000, "a number of 5002 digits"),
    "base 60": ("a: 1" + ":1" * 5000, "a number of 10001 digits"),
    "float of base 60": ("a: 190" + ":20" * 500 + ".5", "too large"),
    "tag": ("a: !!python/object/apply:os.system [ls]", "the tag '.*os.system' is not read"),
    "local tag": ("!a b", "the tag '!a' is not read"),
    "binary": ("a: !!binary aGk=", "the tag '.*' is not read"),
    "twice": ("a: 1\na: 2", "line 2, column 1: the key 'a' is there twice"),
    "no code point": ('a: "\\U00110000"', "chr"),
    "version": (f"%YAML {'9' * 5000}.1\n--- a", "digits"),
    "nul": ("a: \0", "unacceptable character"),
    "unhashable": ("? [a]\n: b", "unhashable key"),
    "documents": ("---\na\n---\nb", "another document"),
    "no number": ("a: 0x_", "invalid literal"),
}


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_yaml_is_bounded_before_it_is_built(name, words):
    text, said = HOSTILE[name]
    if words and name in (
        "digits",
        "equal hashes",
        "hexadecimal",
        "base 60",
        "float of base 60",
        "no number",
    ):
        assert parse_yaml(text, words) is not None  # all scalars are text
        return
    with pytest.raises(yaml.YAMLError, match=said) as error:
        parse_yaml(text, words)
    assert "\n" not in str(error.value)


def test_plain_yaml_is_read_as_ever():
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: [1.5, yes, null, .inf]}\nc: *a") == {
        "a": {"x": 1},
        "b": {"x": 1, "y": [1.5, True, None, float("inf")]},
        "c": {"x": 1},
    }
    assert parse_yaml("[2020-01-01, 2020-13-45, !!str 007]") == ["2020-01-01", "2020-13-45", "007"]
    assert parse_yaml("[no, 007, 1e3]", words=True) == ["no", "007", "1e3"]
    assert parse_yaml("[1e-4, -2E+3, .5e1, 1.5e3, e3, 1e, x1e4]") == [1e-4, -2e3, 5.0, 1500.0, "e3", "1e", "x1e4"]
    assert parse_yaml("") is None and parse_yaml("9" * 20) == int("9" * 20)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | WORDS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
        max_leaves=6,
    )
)
def test_what_is_written_is_read_as_it_was(value):
    assert parse_yaml(dump_yaml(value)) == value


@pytest.mark.parametrize("name", ["endless", "aliases", "deep", "digits", "tag", "twice", "nul"])
def test_every_entrance_refuses_it_in_one_line(tmp_path, capsys, name):
    file, run = tmp_path / "x.yaml", tmp_path / "run"
    file.write_text(HOSTILE[name][0])
    run.mkdir()
    shutil.copy(file, run / "config.yaml")
    (tmp_path / "outer.yaml").write_text("model: x.yaml\n")
    train = ["train", "--data", "toy", "--out", str(tmp_path / "out")]
    for arguments in (
        ["check", "--data", str(file)],
        [*train, "--config", str(file)],
        [*train, f"--config={tmp_path / 'outer.yaml'}"],
        [*train, "--model", str(file)],
        [*train, "--optim", str(file)],
        ["train", "--resume", str(run)],
        ["report", "--run", str(run)],
    ):
        assert main(arguments) == 2, arguments
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1 and "broken YAML" in said, arguments
        assert ("config.yaml" if str(run) in arguments else "x.yaml") in said


def test_files_that_are_no_settings_are_refused(tmp_path):
    (tmp_path / "list.yaml").write_text("[1, 2]")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    os.mkfifo(tmp_path / "pipe.yaml")
    for name, said in (
        ("list", "it holds no settings"),
        ("latin", "not UTF-8 at byte 9"),
        ("pipe", "it is a named pipe"),
    ):
        for flag in ("--config", "--model"):
            with pytest.raises(UserError, match=said):
                parse("train", ["--data", "toy", flag, str(tmp_path / f"{name}.yaml")])
    (tmp_path / "round.yaml").write_text("config: round.yaml\n")
    with pytest.raises(UserError):
        parse("train", ["--data", "toy", "--config", str(tmp_path / "round.yaml")])
    with pytest.raises(UserError, match="larger than"):
        (tmp_path / "large.yaml").write_bytes(b"#" * ((8 << 20) + 1))
        read_yaml(tmp_path / "large.yaml")


@pytest.mark.parametrize(
    "text", ["7: {mosaic: 0.5}", "null: 1", "optim: {null: 5}", "model: {name: a, loss: {1.5: 5}}"]
)
def test_names_of_settings_are_text(tmp_path, text):
    (tmp_path / "run.yaml").write_text(f"data: toy\n{text}\n")
    with pytest.raises(UserError, match=r"run\.yaml: .* is not the name of a setting"):
        parse("train", ["--config", str(tmp_path / "run.yaml")])
    for flag in ("--model", "--model.loss"):
        with pytest.raises(UserError, match=f"{flag}: None is not the name of a setting"):
            parse("train", ["--data", "toy", flag, "{null: 5}"])


def test_text_too_long_for_a_file_name_is_a_model_that_is_not_known(tmp_path):
    (tmp_path / "run.yaml").write_text(f"data: toy\nmodel: {'a' * 5000}\n")
    with pytest.raises(UserError, match="unknown model"):
        parse("train", ["--config", str(tmp_path / "run.yaml")])
