"""Other systems than Linux: what they lack, files that cannot be replaced while they are open, several drives."""

import json
import ntpath
import os
import subprocess
import sys

import pytest

from detect.data.roots import shared_folder
from detect.errors import UserError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux plays the other systems")


def test_every_module_is_imported_and_files_are_written_where_windows_lacks_what_linux_has(digits, tmp_path):
    found = tmp_path / "anchors.json"
    left = tmp_path / ".gridhead-0123456789ab.part"  # by a run that was killed
    left.touch()
    words = ["anchors", "--data", digits, "--k", "3", "--imgsz", "96", "--json", found]
    command = [sys.executable, "-m", "tests.reference.fake_windows", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert len(json.loads(found.read_text())["anchors"]) == 3
    assert os.listdir(tmp_path) == ["anchors.json"]


def test_images_on_several_drives_are_an_error_in_one_line(monkeypatch):
    monkeypatch.setattr(os, "path", ntpath)
    assert shared_folder([r"C:\a\b\1.jpg", r"C:\a\c\2.jpg"]) == r"C:\a"
    with pytest.raises(UserError, match=r"several drives \(C:, D:\): copy them onto one"):
        shared_folder([r"C:\a\1.jpg", r"D:\a\2.jpg"])
