"""Notes after each file of a source how far a run of `detect predict` is, and begins where another run has come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from detect.inference.output_folder import OutputFolder
from detect.inference.result_writers import ResultsSink
from detect.inference.resume import Note
from detect.inference.sink import Sink
from detect.inference.source import Source
from detect.results import Result
from detect.types import Frame


class RunProgress:
    """The notes of a run. Made for a run that continues another one, it lets the source begin behind what is done.

    Args:
        source: the files.
        written: the output folder, with the notes of the run before.
        sinks: those of the run; one of them writes the results file.
    """

    def __init__(self, source: Source, written: OutputFolder, sinks: Sequence[Sink]) -> None:
        self.source, self.written, self.sinks = source, written, sinks
        self.results = next(sink for sink in sinks if isinstance(sink, ResultsSink))
        self.last: Frame | None = None
        self.objects, self.noted = Counter[str](), -1
        for note in written.notes:
            source.unread.update({int(number): line for number, line in note.unread.items()})
            for sink in sinks:
                sink.skip(note.frame(source.parts[note.part].name))
            self.noted = note.part
        source.first = self.noted + 1

    def before(self, frame: Frame) -> None:
        """Note that the file before is done, if this frame, which is written next, begins another one."""
        if self.last is not None and frame.part != self.last.part:
            self.note()

    def after(self, frame: Frame, result: Result) -> None:
        """Take a frame that was written."""
        self.last = Frame(_NO_IMAGE, frame.name, frame.index, frame.time, frame.pages, frame.part)
        self.objects.update(result.counted())

    def note(self) -> None:
        """Note that the file of the last frame is done."""
        if self.last is None:
            return
        for sink in self.sinks:
            sink.end_of_file()
        part, unread = self.last.part, self.source.unread
        note = Note(
            part,
            self.results.images,
            self.results.records,
            self.results.size(),
            self.last.pages,
            self.last.time is not None,
            dict(self.objects),
            {str(number): unread[number] for number in range(self.noted + 1, part) if number in unread},
        )
        self.written.note_done(note)
        self.noted, self.last = part, None
        self.objects.clear()


_NO_IMAGE = np.zeros((0, 0, 3), np.uint8)
