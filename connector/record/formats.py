"""The formats of recordings. A format is known by the end of its files' names; any other end means WAV.

FLAC and Opus are encoded by FFmpeg's libraries (PyAV, the extra `recording`). The files around them are written
here, so that everything is on its way to the disk when `write` returns: a muxer keeps up to a second to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from connector.record import encoder, flac, ogg_opus, wav
from connector.record.audio_file import AudioFile

Suffix = Literal["wav", "flac", "opus"]
"""What the names of recordings end with."""


class _Create(Protocol):
    def __call__(self, path: Path, rate: int, *, sync: bool) -> AudioFile: ...


@dataclass(frozen=True, slots=True)
class _Format:
    create: _Create
    repair: Callable[[Path], None]
    load: Callable[[], None]


def _nothing() -> None:
    pass


_WAV = _Format(wav.WavFile, wav.repair, _nothing)
_FORMATS: Mapping[str, _Format] = {
    ".flac": _Format(flac.FlacFile, flac.repair, encoder.load),
    ".opus": _Format(ogg_opus.OpusFile, ogg_opus.repair, encoder.load),
}


def _format(suffix: str) -> _Format:
    return _FORMATS.get(suffix, _WAV)


def load(suffix: Suffix) -> None:
    """Imports what the format needs, which takes a while. Raises `RecordError` where it is missing."""
    _format(f".{suffix}").load()


def new_file(path: Path, rate: int, *, sync: bool = False) -> AudioFile:
    """A new file of the format that `path` says; `rate`: 8000 or 16000 Hz. Raises `OSError`.

    `sync`: what was written is on the disk when `write` returns, so that a power cut costs no more than a crash.
    """
    return _format(path.suffix).create(path, rate, sync=sync)


def repair(path: Path) -> None:
    """Makes a file whose writer was killed whole: what is half written goes, the length is told. Raises `OSError`."""
    _format(path.suffix).repair(path)
