"""`detect tune`: the space, the trials and what is left behind; a program without torch stands in for the training."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import yaml
from scipy.stats import ttest_ind

from detect.__main__ import main
from detect.cli.parser import from_values, parse
from detect.commands.tune import TuneConfig
from detect.config.train import with_task
from detect.errors import UserError
from detect.report.parallel import parallel_spec
from detect.tuning.base_settings import option_value, short_settings, trial_config
from detect.tuning.confirm import welch
from detect.tuning.failure import LOG, reason_of
from detect.tuning.space import DEFAULT, default_values, read_space
from tests.reference.marks import slowly

optuna = pytest.importorskip("optuna")

from optuna.trial import TrialState  # noqa: E402

from detect.tuning import lease, storage, tuner, worker  # noqa: E402
from detect.tuning.study import LEASE, REASON, TunedStudy, origin  # noqa: E402

STUB = """
import json, os, sys, time, yaml
folder = sys.argv[1]
at = lambda name: os.path.join(folder, name)
settings = yaml.safe_load(open(at("config.yaml")))
rows = [json.loads(line) for line in open(at("metrics.jsonl"))] if os.path.exists(at("metrics.jsonl")) else []
with open(at("starts.txt"), "a") as starts:
    starts.write(f"{os.getpid()} from {len(rows)}\\n")
scale, mosaic = settings["augment"]["scale"], settings["augment"]["mosaic"]
if mosaic > 0.9 and os.environ.get("STUB") == "fails":
    sys.exit("error: the loss is not finite at step 3: box nan")
if os.environ.get("STUB") == "all fail":
    sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB")
for epoch in range(len(rows), settings["epochs"]):
    ap = (1 - (scale - 0.3) ** 2) * (epoch + 1) / settings["epochs"] + 1e-6 * settings["seed"]
    rows.append({"epoch": epoch, "AP": ap})
    with open(at("part"), "w") as part:
        part.write("".join(json.dumps(row) + "\\n" for row in rows))
    os.replace(at("part"), at("metrics.jsonl"))
    open(at("last.ckpt"), "w").close()
    if os.environ.get("STUB") == "dies" and epoch == 1 and not os.path.exists(at("died")):
        open(at("died"), "w").close()
        os.kill(os.getpid(), 9)
    if os.environ.get("STUB") == "slow":
        time.sleep(0.3)
"""
SPACE = "augment.scale: {range: [0.1, 0.9]}\naugment.mosaic: {range: [0, 1]}\n"


@pytest.fixture
def program(tmp_path):
    (tmp_path / "stub.py").write_text(STUB)
    return [sys.executable, "-S", "-c", f"import sys; sys.path = {sys.path!r}\n{STUB}"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("detect.tuning.trial_run.POLL", 0.01)
    monkeypatch.setattr(worker, "WAIT", 0.05)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two images with a box each for train and val; nothing reads their pixels."""
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "val"):
        images = [{"id": i, "file_name": f"{split}{i}.jpg", "width": 64, "height": 64} for i in (1, 2)]
        boxes = [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0} for i in (1, 2)
        ]
        known = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "a"}]}
        (folder / f"{split}.json").write_text(json.dumps(known))
    splits = {name: {"annotations": f"{name}.json", "images": "."} for name in ("train", "val")}
    (folder / "data.yaml").write_text(yaml.safe_dump(splits))
    return folder / "data.yaml"


@pytest.fixture
def config(data, tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE)

    def make(**values):
        given = {"data": data, "space": tmp_path / "space.yaml", "out": tmp_path / "study", "epochs": 3, "trials": 6}
        return from_values("tune", {**given, "confirm": 0, "pruner": "none", **values})

    return make


def records(folder):
    study = optuna.load_study(study_name=folder.name, storage=storage.open_storage("", folder))
    return TunedStudy(study, (), 0, folder / "trials").records()


def space_of(tmp_path, text, *flags):
    (tmp_path / "space.yaml").write_text(textwrap.dedent(text))
    return read_space(str(tmp_path / "space.yaml"), parse("tune", ["--data", "toy", *flags]))


def test_the_default_space_is_short_explained_and_fits_every_task():
    lines = DEFAULT.read_text(encoding="utf-8").splitlines()
    entries = [i for i, line in enumerate(lines) if line and line[0] not in "# "]
    assert 3 <= len(entries) <= 7 and all(lines[i - 1].startswith("# ") for i in entries)
    names = {}
    for model in ("yolo_n", "resnet18", "faster_rcnn"):
        config = parse("tune", ["--data", "toy", "--model", model])
        names[model] = [one.name for one in read_space("", config)]
    assert len(names["yolo_n"]) == len(entries)
    assert "optim.lr" in names["resnet18"] and "model.loss.box" not in names["resnet18"]
    assert "augment.mosaic" not in names["resnet18"]
    off = parse("tune", ["--data", "toy", "--optim.name", "sgd"])
    assert "optim.weight_decay" not in [one.name for one in read_space("", off)]  # 0 has no multiples


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("optim.lrr: {range: [0.1, 1]}", "did you mean '--optim.lr'"),
        ("augment.mosiac: {range: [0, 1]}", "did you mean '--augment.mosaic'"),
        ("model.loss.boxx: {range: [1, 2]}", "did you mean '--model.loss.box'"),
        ("optim.lr: {ranges: [0.1, 1]}", "did you mean 'range'"),
        ("optim.lr: {range: [0.1, 1], times: [1, 2]}", "one of range, times and choices"),
        ("optim.lr: {range: [1, 0.1]}", "two numbers"),
        ("optim.lr: {range: [0, 1], log: true}", "above 0"),
        ("optim.lr: 0.1", "give {range"),
        ("augment.mosaic: {range: [0, 2]}", "from 0 to 1"),
        ("batch: {range: [1.5, 4]}", "whole number"),
        ("optim.name: {choices: [sgd, adamm]}", "did you mean 'adam'"),
        ("optim.name: {range: [1, 2]}", "must be text"),
        ("optim.name: {choices: [sgd]}", "two values"),
        ("augment.rotate: {times: [0.5, 2]}", "no multiples"),
        ("data: {choices: [a, b]}", "the same data"),
        ("seed: {range: [0, 9]}", "luck"),
        ("split: {choices: [val, test]}", "validation set alone"),
        ("device: {choices: [cpu, cuda]}", "does not change"),
        ("model: {choices: [yolo_n, resnet18]}", "changes the task"),
        ("trials: {range: [1, 2]}", "detect tune"),
        ("{}", "names no option"),
        ("[a, b]", "holds no settings"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_in_one_line(tmp_path, text, said):
    with pytest.raises(UserError, match=r"space\.yaml") as error:
        space_of(tmp_path, text)
    assert said in str(error.value), error.value
    assert "\n" not in str(error.value)


def test_trials_are_read_as_train_reads_them(tmp_path):
    text = """
        optim: {lr: {times: [0.5, 2], log: true}, name: {choices: [muon, sgd]}}
        batch: {range: [4, 16], log: true}
        model: {choices: [yolo_n, yolo_s]}
        model.levels: {choices: [[3, 4, 5], [4, 5]]}
        augment.on: {choices: [true, false]}"""
    space = space_of(tmp_path, text, "--model.loss.box", "5", "--augment.scale", "0.2")
    config = parse("tune", ["--data", "toy", "--model.loss.box", "5", "--augment.scale", "0.2"])
    kinds = {one.name: one.distribution() for one in space}
    assert isinstance(kinds["batch"], optuna.distributions.IntDistribution) and kinds["optim.lr"].log
    params = {"optim.lr": 2.0, "optim.name": "sgd", "batch": 8, "model": "yolo_s", "model.levels": "[4, 5]"}
    made = trial_config(config, space, params | {"augment.on": False}, out="x")
    assert math.isclose(made.optim.lr, 0.2) and made.optim.name == "sgd"  # twice the rate of sgd, not of muon
    assert (made.batch, made.model.name, made.model.levels, made.augment.on) == (8, "yolo_s", [4, 5], False)
    assert (made.model.loss.box, made.augment.scale, made.out) == (5, 0.2, "x")
    assert made == parse("train", [
        *("--data", "toy", "--model", "yolo_s", "--model.levels", "4", "5", "--model.loss.box", "5", "--batch", "8"),
        *("--augment.scale", "0.2", "--augment.on", "no", "--optim.name", "sgd", "--optim.lr", "0.2", "--out", "x"),
    ])  # fmt: skip
    first = default_values(space, config)
    assert trial_config(config, space, first, out="") == trial_config(config, space, {}, out="")
    short = short_settings(made)
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(short))
    assert parse("train", ["--config", str(tmp_path / "short.yaml"), "--out", "x"]) == made
    assert set(short) >= {"batch", "optim.lr"} and not set(short) & {"seed", "optim.warmup", "iou"}


@pytest.mark.parametrize("sampler", ["tpe", *slowly("random", "grid", "cmaes")])
def test_a_study_is_the_same_for_the_same_seed_whenever_it_is_continued(config, program, sampler, tmp_path):
    found = []
    for out, parts in (("a", (8,)), ("b", (3, 8))):
        for trials in parts:
            tuner.tune(config(out=tmp_path / out, trials=trials, sampler=sampler), program)
        found.append([(one.params, one.value) for one in records(tmp_path / out)])
    assert found[0] == found[1] and len(found[0]) == 8
    assert len({json.dumps(params) for params, _ in found[0]}) == 8
    if sampler != "grid":
        assert found[0][0][0] == {"augment.scale": 0.5, "augment.mosaic": 1.0}  # as given


def test_every_trial_is_a_run_folder_and_the_best_is_a_file_for_train(config, program, tmp_path, capsys):
    best = tuner.tune(config(trials=4), program)
    assert best == tmp_path / "study" / "best.yaml"
    done = records(tmp_path / "study")
    assert [origin(one) for one in done] == [0, 1, 2, 3]
    folders = sorted(path.name for path in (tmp_path / "study" / "trials").iterdir())
    assert folders == ["0000", "0001", "0002", "0003"]
    resumed = parse("train", ["--resume", str(tmp_path / "study" / "trials" / "0002")])
    assert math.isclose(resumed.augment.scale, done[2].params["augment.scale"])
    leader = max(done, key=lambda one: one.value)
    made = parse("train", ["--config", str(best), "--out", "x"])
    assert math.isclose(made.augment.scale, leader.params["augment.scale"], rel_tol=1e-5)
    assert made.epochs == 3
    page = (tmp_path / "study" / "study.html").read_text(encoding="utf-8")
    assert all(text in page for text in ("augment.scale", "trained to the end", "best so far"))
    said = capsys.readouterr().out
    assert "4 trials: 4 trained to the end" in said and "best.yaml" in said
    tuner.tune(config(trials=4), program)  # nothing is left to do
    assert len(records(tmp_path / "study")) == 4
    assert all((path / "starts.txt").read_text().count("\n") == 1 for path in (tmp_path / "study" / "trials").iterdir())


def test_pruned_and_failed_trials_are_recorded_and_do_not_end_the_study(config, program, tmp_path, monkeypatch):
    monkeypatch.setenv("STUB", "fails")
    settings = config(trials=12, pruner="median", prune_after=1, sampler="random", **{"augment.mosaic": 0.5})
    tuner.tune(settings, program)
    done = records(tmp_path / "study")
    states = [one.state for one in done]
    assert len(states) == 12 and {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL} == set(states)
    failed = [one for one in done if one.state == TrialState.FAIL]
    assert all(one.user_attrs[REASON].startswith("diverged: the loss is not finite") for one in failed)
    assert all(one.params["augment.mosaic"] > 0.9 for one in failed)
    assert all(1 <= len(one.intermediate_values) < 3 for one in done if one.state == TrialState.PRUNED)
    page = (tmp_path / "study" / "study.html").read_text(encoding="utf-8")
    assert "diverged" in page and "pruned" in page and "fANOVA" in page


def test_a_study_in_which_nothing_but_failures_come_ends_with_the_reason(config, program, monkeypatch):
    monkeypatch.setenv("STUB", "all fail")
    with pytest.raises(UserError, match=r"all of 3 trials failed.*out of memory"):
        tuner.tune(config(trials=9), program)


def test_a_training_that_is_killed_goes_on_from_its_checkpoint(config, program, tmp_path, monkeypatch):
    monkeypatch.setenv("STUB", "dies")
    tuner.tune(config(trials=1), program)
    (one,) = records(tmp_path / "study")
    assert one.state == TrialState.COMPLETE and sorted(one.intermediate_values) == [1, 2, 3]
    starts = (tmp_path / "study" / "trials" / "0000" / "starts.txt").read_text().split("\n")
    assert [line.partition(" ")[2] for line in starts[:2]] == ["from 0", "from 2"]


def test_an_interrupted_study_writes_its_page_and_says_how_to_go_on(config, program, tmp_path, monkeypatch):
    monkeypatch.setenv("STUB", "slow")
    first = tmp_path / "study" / "trials" / "0001" / "starts.txt"

    def interrupt():
        while not first.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt, match=r"the same command goes on; so far: .*study\.html"):
        tuner.tune(config(trials=9), program)
    assert (tmp_path / "study" / "best.yaml").exists()
    assert "augment.scale" in (tmp_path / "study" / "study.html").read_text(encoding="utf-8")
    monkeypatch.delenv("STUB")
    tuner.tune(config(trials=3), program)
    assert sum(one.state == TrialState.COMPLETE for one in records(tmp_path / "study")) == 3


def test_a_trial_of_a_dead_process_is_taken_up_in_its_folder_and_that_of_a_live_one_never(config, program, tmp_path):
    tuner.tune(config(trials=1), program)
    folder = tmp_path / "study"
    study = optuna.load_study(study_name="study", storage=storage.open_storage("", folder))
    dead, live, remote = (study.ask() for _ in range(3))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = lease.own_lease()
    dead.set_user_attr(LEASE, {**mine, "process": ended.pid})
    live.set_user_attr(LEASE, mine)
    remote.set_user_attr(LEASE, {**mine, "machine": "another"})
    for one in (dead, live, remote):
        one.report(0.1, 1)
    shared = TunedStudy(study, read_space(config().space, config()), 4, folder / "trials", lease.Leases(grace=0.2))
    taken = shared.next()
    assert origin(taken) == dead.number and taken.number == 4
    assert shared.next() is None
    time.sleep(0.3)
    assert origin(shared.next()) == remote.number
    assert shared.next() is None
    states = {origin(one): one.state for one in shared.records()}
    assert states[live.number] == TrialState.RUNNING and len(states) == 4
    assert not shared.release(dead)  # it has been taken


def test_a_trial_whose_process_died_before_it_could_queue_it_is_not_lost(config, program, tmp_path):
    tuner.tune(config(trials=1), program)
    study = optuna.load_study(study_name="study", storage=storage.open_storage("", tmp_path / "study"))
    lost = study.ask({one.name: one.distribution() for one in read_space(config().space, config())})
    study.tell(lost, state=TrialState.FAIL)
    shared = TunedStudy(study, read_space(config().space, config()), 2, tmp_path, lease.Leases(grace=0.1))
    assert shared.next() is None and not shared.finished()
    time.sleep(0.2)
    taken = shared.next()
    assert origin(taken) == lost.number and taken.params == lost.params


@pytest.mark.slow
def test_two_processes_share_a_study_without_running_a_trial_twice(config, tmp_path, data):
    code = f"""
import sys
from detect.cli.parser import from_values
from detect.tuning import tuner, worker
worker.WAIT = 0.05
stub = open({str(tmp_path / "stub.py")!r}).read()
stub = [sys.executable, "-S", "-c", "import sys; sys.path = {sys.path!r}\\n" + stub]
config = from_values("tune", dict(data={str(data)!r}, space={str(tmp_path / "space.yaml")!r}, trials=7, epochs=3,
    confirm=0, out={str(tmp_path / "study")!r}))
tuner.tune(config, stub)"""
    config()
    (tmp_path / "stub.py").write_text(STUB)
    (tmp_path / "code.py").write_text(code)
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, [Path(__file__).parents[2], *sys.path])),
        "STUB": "slow",
    }
    both = [subprocess.Popen([sys.executable, str(tmp_path / "code.py")], env=env) for _ in range(2)]
    assert [one.wait(300) for one in both] == [0, 0]
    done = records(tmp_path / "study")
    assert [origin(one) for one in done] == list(range(7))
    starts = [path.read_text() for path in (tmp_path / "study" / "trials").glob("*/starts.txt")]
    assert len(starts) == 7 and all(text.count("\n") == 1 for text in starts)
    assert len({one.user_attrs[LEASE]["process"] for one in done}) == 2


def test_a_line_that_a_killed_process_wrote_in_part_is_dropped(tmp_path):
    journal = storage.Journal(tmp_path / "study.jsonl")
    journal.append_logs([{"a": 1}, {"a": 2}])
    with (tmp_path / "study.jsonl").open("ab") as file:
        file.write(b'{"a": 3, "half')
    other = storage.Journal(tmp_path / "study.jsonl")
    assert list(other.read_logs(0)) == [{"a": 1}, {"a": 2}]
    other.append_logs([{"a": 4}])
    assert list(journal.read_logs(1)) == list(other.read_logs(1)) == [{"a": 2}, {"a": 4}]
    assert list(storage.Journal(tmp_path / "none.jsonl").read_logs(0)) == []
    (tmp_path / "study.jsonl").write_bytes(b"{}\nbroken\n")
    with pytest.raises(UserError, match="line 2 is damaged"):
        list(storage.Journal(tmp_path / "study.jsonl").read_logs(0))


def test_a_database_is_a_storage_too_and_its_password_stays_secret(config, program, tmp_path):
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    tuner.tune(config(storage=url, trials=2), program)
    tuner.tune(config(storage=url, trials=3, out=tmp_path / "elsewhere" / "study"), program)
    assert (tmp_path / "elsewhere" / "study" / "trials" / "0002").is_dir()
    assert not (tmp_path / "study" / "study.jsonl").exists()
    with pytest.raises(UserError) as error:
        storage.open_storage("nothing://me:secret@host/db", tmp_path)
    assert "secret" not in str(error.value) and "nothing://me:***@host/db" in str(error.value)


def test_other_settings_are_refused_by_name(config, program, tmp_path):
    tuner.tune(config(trials=1), program)
    with pytest.raises(UserError, match=r"other settings: imgsz: 640 -> 320"):
        tuner.tune(config(trials=1, imgsz=320), program)
    tuner.tune(config(trials=1, device="cpu", workers=0, batch=16), program)


def test_what_makes_no_study_is_refused(config, data, tmp_path, capsys):
    known = yaml.safe_load(data.read_text())
    for name, splits in {"no val": {"train": known["train"], "test": known["val"]},
                         "same": {**known, "test": known["val"]}}.items():  # fmt: skip
        (data.parent / f"{name}.yaml").write_text(yaml.safe_dump(splits))
    with pytest.raises(UserError, match="never on test"):
        tuner.tune(config(data=data.parent / "no val.yaml"))
    with pytest.raises(UserError, match="val and test share 2 images"):
        tuner.tune(config(data=data.parent / "same.yaml"))
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"thesis\.tex, but no study"):
        tuner.tune(config())
    for flag in ("--resume", "--find-lr"):
        assert main(["tune", "--data", str(data), "--out", str(tmp_path / "x"), flag]) == 2
    assert main(["tune", "--data", str(data), "--split", "test"]) == 2
    said = capsys.readouterr().err
    assert "same command again" in said and "not of detect tune" in said
    assert isinstance(parse("tune", ["--data", "toy"]), TuneConfig)


def test_the_gain_is_confirmed_with_other_seeds(config, program, tmp_path, capsys):
    tuner.tune(config(trials=5, confirm=3, confirm_epochs=2), program)
    said = capsys.readouterr().out
    assert "more than the noise of seeds" in said
    (folder,) = (tmp_path / "study" / "confirm").iterdir()
    seeds = [yaml.safe_load((path / "config.yaml").read_text()) for path in sorted(folder.iterdir())]
    assert [one["seed"] for one in seeds] == [1, 2, 3, 1, 2, 3] and {one["epochs"] for one in seeds} == {2}
    assert len({one["augment"]["scale"] for one in seeds}) == 2
    assert "Is the gain more than chance?" in (tmp_path / "study" / "study.html").read_text(encoding="utf-8")


def test_the_interval_is_that_of_welchs_test():
    a, b = [0.5, 0.52, 0.49], [0.45, 0.47, 0.46, 0.44]
    test = ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert welch(a, b)[1:] == pytest.approx((test.low, test.high))
    assert welch([1.0], [0.5]) == (0.5, -math.inf, math.inf)
    assert welch([1.0, 1.0], [0.5, 0.5]) == (0.5, 0.5, 0.5)


def test_reasons_are_told_from_status_and_log(tmp_path):
    (tmp_path / LOG).write_text("epoch 1/3\nerror: images/7.jpg: cannot be read\n")
    assert reason_of(2, tmp_path) == "images/7.jpg: cannot be read"
    assert reason_of(-9, tmp_path).startswith("killed by SIGKILL")
    (tmp_path / LOG).write_text("torch.OutOfMemoryError: CUDA out of memory\n")
    assert reason_of(1, tmp_path).startswith("out of memory")
    (tmp_path / LOG).write_text("Traceback\nZeroDivisionError: \x1b[31mhalf\n")
    assert reason_of(1, tmp_path) == "exit status 1: ZeroDivisionError: \\x1b[31mhalf"
    assert reason_of(1, tmp_path / "none") == "exit status 1: it wrote nothing"


def test_parallel_coordinates_take_numbers_text_and_gaps():
    rows = [{"lr": 0.1, "name": "sgd", "AP": 0.5}, {"lr": 0.001, "AP": 0.7}]
    spec = parallel_spec(rows, {"lr": True, "name": False, "AP": False}, "AP", ["a", "b"])
    points = spec["data"]["values"]
    assert [(one["axis"], one["at"]) for one in points if one["line"] == "a"] == [("lr", 1), ("name", 0), ("AP", 0)]
    assert len(points) == 5 and all(0 <= one["at"] <= 1 for one in points)


@pytest.mark.slow
def test_a_trial_killed_with_its_tuner_goes_on_bit_for_bit(tmp_path):
    flags = ["--data", "toy", "--imgsz", "64", "--epochs", "2", "--trials", "1", "--workers", "0", "--confirm", "0"]
    command = [sys.executable, "-m", "detect", "tune", *flags, "--save-steps", "4", "--device", "cpu", "--out"]
    whole, broken = tmp_path / "whole" / "s", tmp_path / "broken" / "s"
    assert subprocess.run([*command, str(whole)]).returncode == 0
    process = subprocess.Popen([*command, str(broken)])
    while not (broken / "trials" / "0000" / "last.ckpt").exists():
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert subprocess.run([*command, str(broken)]).returncode == 0
    one, other = (path / "trials" / "0000" / "best.safetensors" for path in (whole, broken))
    assert one.read_bytes() == other.read_bytes()
    assert with_task(parse("train", ["--config", str(broken / "best.yaml")])).epochs == 2
    assert option_value(parse("train", ["--resume", str(broken / "trials" / "0000")]), "optim.lr") > 0
