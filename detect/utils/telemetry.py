"""Turns off the telemetry of libraries. `detect/__init__` imports this module before any of them."""

from __future__ import annotations

import os
import sys

# Environment variables, which child processes inherit. Each library reads its own when it is imported.
SWITCHES = {
    "DO_NOT_TRACK": "true",  # honoured by several, huggingface_hub and MLflow among them
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, which timm imports: names libraries in each request
    "MLFLOW_DISABLE_TELEMETRY": "true",  # from MLflow 3.2 on: reports calls
    "NO_ALBUMENTATIONS_UPDATE": "1",  # albumentations: asks the package index for its newest version
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime from 1.29 on: reports models, keeps a device id and events on disk
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray: reports clusters
    "WANDB_ERROR_REPORTING": "false",  # wandb: reports its own crashes
}
# Modules that do nothing but report, without a switch. None in place of a module makes its import fail; OpenVINO uses
# an empty replacement then.
BLOCKED = ("openvino_telemetry",)


def turn_off() -> None:
    """Set the switches, whatever they were, and block the modules that nothing has imported yet."""
    os.environ.update(SWITCHES)
    for name in BLOCKED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
