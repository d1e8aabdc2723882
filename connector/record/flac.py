"""A stereo FLAC file that is valid after every write (RFC 9639)."""

from __future__ import annotations

import hashlib
import mmap
from functools import cache
from pathlib import Path

import numpy as np

from connector.record.audio_file import GRAIN, Block, NewFile, silence_of
from connector.record.encoder import Encoder

MARKER = b"fLaC"
STREAMINFO_BYTES = 34
STREAMINFO_HEADER = b"\x80\x00\x00\x22"
"""The last metadata block, of type STREAMINFO (RFC 9639 section 8.1)."""
STREAMINFO_OFFSET = len(MARKER) + len(STREAMINFO_HEADER)
AUDIO_OFFSET = STREAMINFO_OFFSET + STREAMINFO_BYTES

COMPRESSION = "5"
"""Level 8 saves 0.5 % of telephone speech for twice the time."""
SYNC = b"\xff\xf8"
"""A frame of a stream with frames of one size begins so (RFC 9639 section 9.1)."""
LONGEST_HEADER = 16
"""Bytes of a frame's header at most (RFC 9639 section 9.1)."""
LONGEST_FRAME = 1 << 16
"""Bytes of a frame of ours at most: 0.1 s of 16-bit stereo at 16 kHz take 6.4 kB as they are."""
LENGTH_MASK = (1 << 36) - 1
"""Of STREAMINFO's number of samples (RFC 9639 section 8.2)."""
CRC8 = 0x07
"""Of a frame's header (RFC 9639 section 9.1.8)."""
CRC16 = 0x8005
"""Of a frame (RFC 9639 section 9.3)."""


class FlacFile:
    """An `AudioFile` at `path`; `rate` in Hz.

    After each `write` STREAMINFO tells the true length. The MD5 checksum of the samples is there once it is closed.
    """

    def __init__(self, path: Path, rate: int, *, sync: bool = False) -> None:
        self._rate = rate
        self._file = NewFile(path, sync=sync)
        options = {"frame_size": str(rate // GRAIN), "compression_level": COMPRESSION}
        self._encoder = Encoder("flac", rate, None, options)
        self._samples = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._file.put(MARKER + STREAMINFO_HEADER + streaminfo(self._encoder.header, 0), 0)

    def write(self, position: int, block: Block) -> None:
        for silence in silence_of(position - self._samples, self._rate):
            self._add(silence)
        self._add(block)
        self._tell()
        self._file.sync()

    def close(self) -> None:
        try:
            self._file.append(b"".join(self._encoder.flush()))
            self._tell(self._md5.digest())
        finally:
            self._file.close()

    def _add(self, block: Block) -> None:
        self._file.append(b"".join(self._encoder.encode(block)))
        self._md5.update(np.ascontiguousarray(block, "<i2").data)
        self._samples += len(block)

    def _tell(self, md5: bytes = bytes(16)) -> None:
        self._file.put(streaminfo(self._encoder.header, self._samples, md5), STREAMINFO_OFFSET)


def streaminfo(header: bytes, samples: int, md5: bytes = bytes(16)) -> bytes:
    """The encoder's STREAMINFO with a number of samples and their checksum (RFC 9639 section 8.2)."""
    count = (header[13] >> 4 << 36 | samples & LENGTH_MASK).to_bytes(5, "big")
    return header[:13] + count + md5


def repair(path: Path) -> None:
    """Makes a file whose writer was killed end with a whole frame and tell its true length. Raises `OSError`."""
    with path.open("r+b") as file:
        header = file.read(AUDIO_OFFSET)[STREAMINFO_OFFSET:]
        if len(header) < STREAMINFO_BYTES:
            return  # cut before there was audio
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            end, samples = _last_frame(data, int.from_bytes(header[:2], "big"))
        file.truncate(end)
        if samples != int.from_bytes(header[13:18], "big") & LENGTH_MASK:
            file.seek(STREAMINFO_OFFSET)
            file.write(streaminfo(header, samples))


def _last_frame(data: mmap.mmap, block_size: int) -> tuple[int, int]:
    """Where the last whole frame ends, and the samples of the file until there."""
    # A frame goes on to the header after it. What looks like one may be an accident inside the frame, though, so that
    # two more are tried.
    ends = [len(data)]
    at = data.rfind(SYNC, AUDIO_OFFSET)
    while at >= 0:
        samples = _samples_until(data[at : at + LONGEST_HEADER], block_size)
        if samples is not None:
            for end in ends[-3:]:
                if end - at <= LONGEST_FRAME and _crc(CRC16, 16, data[at:end]) == 0:
                    return end, samples
            ends.append(at)
        at = data.rfind(SYNC, AUDIO_OFFSET, at + 1)
    return AUDIO_OFFSET, 0


def _samples_until(header: bytes, block_size: int) -> int | None:
    """The samples of the file up to the end of the frame that begins with `header`; None where that is none.

    RFC 9639 section 9.1. `block_size`: of all frames but the last.
    """
    if len(header) < LONGEST_HEADER:
        header = header.ljust(LONGEST_HEADER, b"\xff")
    following = max(0, 7 - (header[4] ^ 0xFF).bit_length())  # the number is coded as in UTF-8
    number = header[4] & (0x3F >> following if following else 0x7F)
    for byte in header[5 : 5 + following]:
        number = number << 6 | byte & 0x3F
    at = 5 + following
    size_code = header[2] >> 4
    size_bytes = {6: 1, 7: 2}.get(size_code, 0)
    rate_bytes = {12: 1, 13: 2, 14: 2}.get(header[2] & 15, 0)
    if _crc(CRC8, 8, header[: at + size_bytes + rate_bytes + 1]) != 0:
        return None
    if size_bytes:
        size = int.from_bytes(header[at : at + size_bytes], "big") + 1
    else:
        size = 192 if size_code == 1 else 576 << size_code - 2 if size_code < 6 else 256 << size_code - 8
    return number * block_size + size


def _crc(polynomial: int, bits: int, data: bytes) -> int:
    """The CRC of `data`, from 0 on and the highest bit first; 0 where its own is at the end."""
    table = _crc_table(polynomial, bits)
    mask = (1 << bits) - 1
    crc = 0
    for byte in data:
        crc = (crc << 8 & mask) ^ table[crc >> bits - 8 ^ byte]
    return crc


@cache
def _crc_table(polynomial: int, bits: int) -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << bits - 8
        for _ in range(8):
            crc = crc << 1 ^ (polynomial if crc >> bits - 1 else 0)
            crc &= (1 << bits) - 1
        table.append(crc)
    return table
