"""pyarrow, which reads and writes Parquet: an extra, imported late."""

from __future__ import annotations

from typing import Any

from detect.errors import UserError


def require_arrow(file: str = "") -> Any:
    """pyarrow with its Parquet module.

    Args:
        file: the file that it is wanted for, as messages name it.

    Raises:
        UserError: it is not installed, or does not load beside what is.
    """
    where = f"{file}: " if file else ""
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise UserError(
            f"{where}Parquet needs pyarrow, which is not installed: pip install 'gridhead[parquet]'"
        ) from None
    except ImportError as error:  # such as a NumPy that is too old for it
        raise UserError(f"{where}pyarrow does not load here: {error}; pip install --upgrade pyarrow numpy") from None
    return pyarrow
