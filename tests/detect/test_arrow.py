"""Messages where pyarrow is missing, or does not load."""

import sys

import pytest

from detect.errors import UserError
from detect.utils.arrow import require_arrow


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ImportError('pyarrow requires NumPy 2.0 or newer, found 1.26.4')", "a.parquet: pyarrow does not load"),
        ("raise ModuleNotFoundError('No module named pyarrow')", "a.parquet: Parquet needs pyarrow"),
    ],
)
def test_a_pyarrow_that_cannot_be_used_is_one_line(tmp_path, monkeypatch, code, said):
    (tmp_path / "pyarrow.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=said) as caught:
        require_arrow("a.parquet")
    assert "pip install" in str(caught.value) and ("NumPy 2.0" in str(caught.value)) == ("NumPy" in code)
