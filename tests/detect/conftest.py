"""What several test files share: a small embedded set, made once a session."""

from pathlib import Path

import pytest
import torch

from detect.data.toy import build


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """The embedded set with 16 training and 8 held-out pictures of 96 pixels. Read only."""
    return build(tmp_path_factory.mktemp("toy") / "digits", train=16, val=8, size=96)


@pytest.fixture(scope="module")
def one_thread():
    """Small networks are slower with more, and bits depend on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
