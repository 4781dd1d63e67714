"""Where parts are computed: in this process, or by actors of Ray Data on this machine or a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from detect.bulk.manifest import Part
from detect.bulk.part_results import PartPredictor, Work
from detect.errors import UserError, one_line
from detect.utils.device import pick_device, pick_dtype


class Computed(NamedTuple):
    """The Parquet file of a part, or the error that kept it from being computed."""

    part: int
    data: bytes
    error: str = ""


class Engine(Protocol):
    """Computes parts, in any order."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def computed_by(self, device: str, precision: str) -> dict[str, str]:
        """The device and precision of the workers, where --device and --precision say these."""

    def results(self, missing: Callable[[], Iterator[Part]], work: Work) -> Iterator[Computed]:
        """The file of each part, as soon as it is there.

        Args:
            missing: the parts without a file at the moment; it may be called again.
            work: what is to be done.

        Raises:
            UserError: something concerns all parts.
        """


def compute(predict: PartPredictor, part: Part) -> Computed:
    """Compute one part; errors other than a UserError concern it alone."""
    try:
        return Computed(part.number, predict(part))
    except UserError:
        raise
    except Exception as error:
        return Computed(part.number, b"", f"{type(error).__name__}: {one_line(error)}")


def chosen(device: str, precision: str) -> dict[str, str]:
    """The device and the precision that this machine chooses, as options. Raises UserError where it has no such."""
    where = pick_device(device)
    return {"device": where.type, "precision": str(pick_dtype(precision, where)).removeprefix("torch.")}


class InProcess(ExitStack):
    """Computes one part after the other in this process."""

    def computed_by(self, device: str, precision: str) -> dict[str, str]:
        """See `Engine`."""
        return chosen(device, precision)

    def results(self, missing: Callable[[], Iterator[Part]], work: Work) -> Iterator[Computed]:
        """See `Engine`."""
        predict = PartPredictor(work)
        for part in missing():
            yield compute(predict, part)


def engine_of(workers: int, address: str) -> Any:
    """The engine that --workers and --address ask for.

    Raises:
        UserError: Ray is not installed.
    """
    if not workers:
        return InProcess()
    from detect.bulk.ray_engine import OnRay  # late, as is Ray

    return OnRay(workers, address)
