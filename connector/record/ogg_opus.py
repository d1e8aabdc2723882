"""A stereo Opus file that is playable after every write (Ogg: RFC 3533; Opus in Ogg: RFC 7845).

Caller and agent are two streams that know nothing of each other: joint stereo would let each voice be heard, at
-52 dB, while the other speaks, and takes half as many bits again.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from connector.record.audio_file import CHANNELS, Block, NewFile, silence_of
from connector.record.encoder import Encoder

BIT_RATE = 32_000
"""Of both voices; what is silent takes next to none of it."""
COMPLEXITY = "1"
"""Of 0 to 10: more is not told apart at this bit rate, and takes up to four times the time."""
SEPARATE = "255"
"""The encoder's channel mapping family that couples nothing (RFC 7845 section 5.1.1.3)."""
STEREO_FAMILY = 1
"""What is written in its place: channels in Vorbis' order, left and right (RFC 7845 section 5.1.1.2)."""
FAMILY_OFFSET = 18

CLOCK_RATE = 48_000
"""Of granule positions, whatever the input's rate (RFC 7845 section 4)."""
PACKET = 960
"""A packet's samples at `CLOCK_RATE`: 20 ms."""
PAGE_PACKETS = 20
"""At most in a page: such take 11 segments each at most."""
PRE_SKIP = 312
"""The encoder's look-ahead at `CLOCK_RATE`: the first samples of a decoder are not to be played."""
TAGS = b"OpusTags" + b"\x08\0\0\0voxtrunk" + bytes(4)
"""Who wrote it, and no comment (RFC 7845 section 5.2)."""

FIRST, LAST = 2, 4
"""Flags of a page: of the stream's begin and end (RFC 3533 section 6)."""
CAPTURE = b"OggS"
"""Every page begins so."""
FLAGS = 5
"""Where a page has them."""
PAGE_HEADER = 27
"""Bytes, before the table of segments."""
CHECKSUM = slice(22, 26)
"""Where a page has it."""
TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
"""Every byte with its bits in the other order."""


class OpusFile:
    """An `AudioFile` at `path`; `rate` in Hz: 8000, 12000, 16000, 24000 or 48000. Every write is one page or more."""

    def __init__(self, path: Path, rate: int, *, sync: bool = False) -> None:
        self._rate = rate
        self._file = NewFile(path, sync=sync)
        options = {"application": "voip", "mapping_family": SEPARATE, "compression_level": COMPLEXITY}
        self._encoder = Encoder("libopus", rate, BIT_RATE, options)
        self._serial = int.from_bytes(os.urandom(4), "little")
        self._pages = 0
        self._packets = 0
        self._samples = 0
        head = bytearray(self._encoder.header)
        head[FAMILY_OFFSET] = STEREO_FAMILY
        self._put(FIRST, 0, [bytes(head)])
        self._put(0, 0, [TAGS])

    def write(self, position: int, block: Block) -> None:
        for silence in silence_of(position - self._samples, self._rate):
            self._add(silence)
        self._add(block)
        self._file.sync()

    def close(self) -> None:
        """Ends the file with the packets that the look-ahead held back; what is too much of them is not played."""
        try:
            length = self._samples * CLOCK_RATE // self._rate + PRE_SKIP
            whole = -(-length // PACKET) * PACKET * self._rate // CLOCK_RATE
            packets = self._encoder.encode(np.zeros((whole - self._samples, CHANNELS), np.int16))
            self._put(LAST, length, packets)  # RFC 7845 section 4.4: the end is cut there
        finally:
            self._file.close()

    def _add(self, block: Block) -> None:
        packets = self._encoder.encode(block)
        self._samples += len(block)
        for begin in range(0, len(packets), PAGE_PACKETS):
            page = packets[begin : begin + PAGE_PACKETS]
            self._packets += len(page)
            self._put(0, self._packets * PACKET, page)

    def _put(self, flags: int, granule: int, packets: Sequence[bytes]) -> None:
        self._file.append(ogg_page(flags, granule, self._serial, self._pages, packets))
        self._pages += 1


def ogg_page(flags: int, granule: int, serial: int, number: int, packets: Sequence[bytes]) -> bytes:
    """A page of whole packets (RFC 3533 section 6), which take 255 segments at most."""
    lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    header = struct.pack("<4sBBqIIIB", CAPTURE, 0, flags, granule, serial, number, 0, len(lacing))
    return _sealed(b"".join((header, lacing, *packets)))


def _sealed(page: bytes) -> bytes:
    """`page` with its checksum."""
    blank = page[: CHECKSUM.start] + bytes(4) + page[CHECKSUM.stop :]
    return page[: CHECKSUM.start] + _checksum(blank) + page[CHECKSUM.stop :]


def _checksum(page: bytes) -> bytes:
    """The CRC of polynomial 0x04c11db7, from 0 on and the highest bit first (RFC 3533 section 6).

    That is zlib's with the bits of every byte, and of the result, turned round; zlib begins and ends inverted.
    """
    inverted = zlib.crc32(page.translate(TURNED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return inverted.to_bytes(4, "big").translate(TURNED)


def repair(path: Path) -> None:
    """Makes a file whose writer was killed end with a whole page that says it is the last. Raises `OSError`."""
    with path.open("r+b") as file:
        if not file.read(1):
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            at, page = _last_page(data)
        file.truncate(at + len(page))
        if page:
            file.seek(at)
            file.write(_sealed(page[:FLAGS] + bytes([page[FLAGS] | LAST]) + page[FLAGS + 1 :]))


def _last_page(data: mmap.mmap) -> tuple[int, bytes]:
    """The last whole page and where it begins; an empty one where there is none."""
    at = data.rfind(CAPTURE)
    while at >= 0:
        table = at + PAGE_HEADER
        segments = data[table - 1] if table <= len(data) else 0
        page = data[at : table + segments + sum(data[table : table + segments])]
        if len(page) > PAGE_HEADER and _sealed(page) == page:
            return at, page
        at = data.rfind(CAPTURE, 0, at)
    return 0, b""
