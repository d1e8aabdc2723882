"""The stereo recording of a call: caller left, agent right, both where they were on the wire."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from connector.audio import Frame
from connector.errors import RecordError
from connector.record.audio_file import AudioFile
from connector.record.disk import Disk
from connector.record.formats import new_file
from connector.record.timeline import Tapped, Timeline

NARROW, WIDE = 8000, 16_000
"""Sample rates of recordings, Hz: G.711's own, and what G.722 has and speech recognition wants."""

Rate = Literal["auto", 8000, 16_000]
"""`auto`: wide where one of both parties is so at the beginning."""

BLOCK_SECONDS = 0.4
"""Between two writes: a crash loses this, what one direction lags behind, and what the disk still has to do."""

LIMIT = 150
"""Blocks (60 s) that may wait for the disk; later ones are dropped and leave silence."""


class Recording:
    """An `AudioTap` that writes a stereo file through `disk`; the end of `path` says in which format.

    Its time 0 is the clock time `start`. The tap only keeps the frames; every `BLOCK_SECONDS` the disk's thread
    places, converts, encodes and writes them in one job, each recording at a moment of its own. `on_error` is told
    on the event loop, once per cause, when the file cannot be written (any more) or has a gap: the call goes on and
    what was written stays. `sync`: a power cut costs no more than a crash.
    """

    def __init__(
        self,
        path: Path,
        *,
        start: float,
        disk: Disk,
        on_error: Callable[[RecordError], None],
        rate: Rate = "auto",
        sync: bool = False,
        limit: int = LIMIT,
    ) -> None:
        self._start = start
        self._disk = disk
        self._on_error = on_error
        self._limit = limit
        self._writer = _Writer(path, start, rate, sync=sync)
        self._received: list[Tapped] = []
        self._emitted: list[Tapped] = []
        self._since = -math.inf
        self._due = start + BLOCK_SECONDS * disk.phase()
        self._posted = 0
        self._dropped = False
        self._failed = False

    @property
    def exists(self) -> bool:
        """Whether there is a file; certain once it is closed."""
        return self._writer.created

    def received(self, frame: Frame, at: float) -> None:
        if at >= self._since:
            self._received.append((frame, at))
        if at >= self._due:
            self._flush(at)

    def emitted(self, frame: Frame, at: float) -> None:
        if at >= self._since:
            self._emitted.append((frame, at))
        if at >= self._due:
            self._flush(at)

    def pause(self) -> None:
        """Leaves out every frame that comes from now on: both channels are silent, and time goes on in the file."""
        self._since = math.inf

    def resume(self, at: float) -> None:
        """Takes what is on the wire from clock time `at` on; what a jitter buffer holds of before stays left out."""
        self._since = at

    async def close(self) -> None:
        """Writes the rest and closes the file; what still comes is ignored."""
        self._since = self._due = math.inf
        self._post(partial(self._writer.write, *self._taken(), self._start))
        await self._disk.run(self._writer.close)
        self._report()

    def _flush(self, until: float) -> None:
        self._due = max(self._due, until - BLOCK_SECONDS) + BLOCK_SECONDS
        self._post(partial(self._writer.write, *self._taken(), until))

    def _taken(self) -> tuple[list[Tapped], list[Tapped]]:
        taken = self._received, self._emitted
        self._received, self._emitted = [], []
        return taken

    def _post(self, job: Callable[[], None]) -> None:
        self._report()
        if self._failed:
            return
        if self._posted - self._writer.done < self._limit:
            self._posted += 1
            self._disk.post(job)
        elif not self._dropped:
            self._dropped = True
            self._on_error(RecordError(f"{self._writer.path}: the disk is too slow, parts of the recording are silent"))

    def _report(self) -> None:
        if self._writer.error is not None and not self._failed:
            self._failed = True
            self._on_error(RecordError(f"{self._writer.path}: {self._writer.error.strerror}"))


class _Writer:
    """The recording as the disk's thread sees it; the event loop reads `created`, `done` and `error`."""

    def __init__(self, path: Path, start: float, rate: Rate, *, sync: bool) -> None:
        self.path = path
        self.created = False
        self.done = 0
        self.error: OSError | None = None
        self._start = start
        self._rate = rate
        self._sync = sync
        self._open: tuple[Timeline, AudioFile] | None = None

    def write(self, received: list[Tapped], emitted: list[Tapped], until: float) -> None:
        """Writes what is certain at clock time `until`."""
        try:
            if self.error is None:
                self._write(received, emitted, until)
        except OSError as error:
            self.error = error
        self.done += 1

    def close(self) -> None:
        """Writes all that is left."""
        if self._open is None:
            return
        timeline, file = self._open
        self._open = None
        try:
            if self.error is None:
                for position, block in timeline.rest():
                    file.write(position, block)
        except OSError as error:
            self.error = error
        try:
            file.close()
        except OSError as error:
            self.error = self.error or error

    def _write(self, received: list[Tapped], emitted: list[Tapped], until: float) -> None:
        if self._open is None:
            if not received and not emitted:
                return  # before the first frame nothing is known of the rate
            rate = self._chosen([*received, *emitted])
            self._open = Timeline(rate, self._start), new_file(self.path, rate, sync=self._sync)
            self.created = True
        timeline, file = self._open
        for position, block in timeline.add(received, emitted, until):
            file.write(position, block)

    def _chosen(self, tapped: list[Tapped]) -> int:
        """The recording's sample rate, Hz."""
        if self._rate != "auto":
            return self._rate
        return WIDE if any(frame.rate > NARROW for frame, _ in tapped) else NARROW
