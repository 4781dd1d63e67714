"""What several test files share: a small embedded set, made once a session."""

from pathlib import Path

import pytest

from detect.data.toy import build


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """The embedded set with 16 training and 8 held-out pictures of 96 pixels. Read only."""
    return build(tmp_path_factory.mktemp("toy") / "digits", train=16, val=8, size=96)
