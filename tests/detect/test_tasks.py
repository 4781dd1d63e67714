"""Tasks: what each one names is there, its file is cheap, and few fields make one."""

import subprocess
import sys
from dataclasses import fields

import pytest

from detect.errors import UserError
from detect.export.forms import form_of
from detect.models.configs import model_class
from detect.registry import REGISTRIES
from detect.tasks import Late, Task, get_task


@pytest.mark.parametrize("name", REGISTRIES["task"])
def test_what_a_task_names_is_there(name):
    task = get_task(name)
    named = [getattr(one, field.name) for one in filter(None, (task, task.export)) for field in fields(one)]
    late = [value for value in named if isinstance(value, Late)]
    assert task.name == name and late and all(callable(value.target) for value in late)
    assert task.metric.lstrip("-") in (*task.progress_metrics, *task.curves)
    assert name in {model_class(kind).task for kind in REGISTRIES["model"]}


def test_the_files_of_tasks_import_nothing_heavy():
    code = "import sys\nfrom detect.tasks import get_task\nfrom detect.registry import REGISTRIES\n"
    code += "list(map(get_task, REGISTRIES['task']))\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(run.stdout.split()) & {"torch", "numpy", "cv2", "detect.data"}


def test_a_task_of_few_fields_has_defaults_and_refuses_what_it_lacks():
    task = Task(name="count", noun="object counter", metric="-error", evaluator=list)
    assert list(task.summary_lines({"error": 0.25, "per_class": {}})) == ["error 0.250"]
    assert task.postprocess(None).score == 0 and task.metadata(None, None) == {}
    with pytest.raises(UserError, match=r"^w\.safetensors is an object counter, which detect predict lacks"):
        task.require_results_file("w.safetensors")
    with pytest.raises(UserError, match="is an embedder: its commands are detect embed, verify and identify"):
        get_task("embed").require_results_file("w.safetensors")
    with pytest.raises(UserError, match="models for --task embed are not exported"):
        form_of("embed")
    with pytest.raises(ValueError, match="lower case"):
        Task(name="Count", noun="counter", metric="error", evaluator=list)
