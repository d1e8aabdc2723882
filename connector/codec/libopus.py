"""libopus (RFC 6716's reference implementation), called by ctypes: the few functions that a call needs.

PyAV has libopus, too, but its decoder gives 48 kHz alone and neither conceals losses nor reads their redundant
copies. And it lets other threads run while it works: one of those could then keep the interpreter for 5 ms, which
is longer than a packet may wait. These calls take microseconds and keep it (`PyDLL`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from connector.audio import Samples
from connector.errors import RtpError

SYSTEM_LIBRARY = "libopus.so.0"
"""Debian's package libopus0, which rtpengine brings along."""
BUNDLED = ("av.libs/libopus*.so*", "av/.dylibs/libopus*.dylib")
"""Where wheels of PyAV keep theirs, on Linux and macOS."""

LONGEST_SECONDS = 0.12
"""The longest packet (RFC 6716 section 3.2.5)."""
LARGEST_PAYLOAD = 1275
"""Octets of one frame (RFC 6716 section 3.2.1)."""

APPLICATION_VOIP = 2048
SIGNAL_VOICE = 3001
SET_BITRATE = 4002
SET_MAX_BANDWIDTH = 4004
SET_VBR = 4006
SET_COMPLEXITY = 4010
SET_INBAND_FEC = 4012
SET_PACKET_LOSS = 4014
SET_SIGNAL = 4024


def _names() -> Iterator[str]:
    yield SYSTEM_LIBRARY
    spec = find_spec("av")
    if spec is not None and spec.origin is not None:
        packages = Path(spec.origin).parent.parent
        for pattern in BUNDLED:
            yield from map(str, sorted(packages.glob(pattern)))


def _load() -> ctypes.PyDLL | None:
    for name in _names():
        try:
            return ctypes.PyDLL(name)
        except OSError:
            continue
    return None


LIBRARY = _load()
"""The system's libopus, or PyAV's; None where there is neither."""


def _loaded() -> ctypes.PyDLL:
    if LIBRARY is None:
        raise OSError(f"{SYSTEM_LIBRARY} is not installed")
    return LIBRARY


class OpusEncoder:
    """Mono at `rate` Hz (8000, 12000, 16000, 24000, 48000). Raises `OSError` where libopus is missing."""

    def __init__(self, rate: int) -> None:
        self._library = _loaded()
        # Memory of ours instead of opus_encoder_create's: nothing has to be destroyed.
        self._state = ctypes.create_string_buffer(self._library.opus_encoder_get_size(1))
        _checked(self._library.opus_encoder_init(self._state, rate, 1, APPLICATION_VOIP))
        self._payload = ctypes.create_string_buffer(LARGEST_PAYLOAD)

    def set(self, option: int, value: int) -> None:
        """One of the SET constants; raises `ValueError` for a value that it cannot have."""
        _checked(self._library.opus_encoder_ctl(self._state, option, ctypes.c_int(value)))

    def encode(self, samples: Samples) -> bytes:
        """The payload of `samples`, shape (n,), 2.5 to 60 ms; raises `ValueError` for another length."""
        count = _checked(
            self._library.opus_encode(self._state, samples.tobytes(), len(samples), self._payload, LARGEST_PAYLOAD)
        )
        return self._payload.raw[:count]


class OpusDecoder:
    """Mono at `rate` Hz, whatever the encoder was given. Raises `OSError` where libopus is missing."""

    def __init__(self, rate: int) -> None:
        self._library = _loaded()
        self._state = ctypes.create_string_buffer(self._library.opus_decoder_get_size(1))
        _checked(self._library.opus_decoder_init(self._state, rate, 1))
        self._samples = np.empty(round(rate * LONGEST_SECONDS), np.int16)
        self._address = ctypes.c_void_p(self._samples.ctypes.data)

    def decode(self, payload: bytes) -> Samples:
        """All samples of a payload; raises `RtpError` where it is no packet of Opus."""
        count = self._library.opus_decode(self._state, payload, len(payload), self._address, len(self._samples), 0)
        if count < 0:
            raise RtpError(f"payload of {len(payload)} octets is no Opus packet")
        return self._samples[:count].copy()

    def recover(self, payload: bytes, count: int) -> Samples | None:
        """The `count` samples before `payload` by its redundant copy of them, or made up where it has none.

        None where it is no packet of Opus, or `count` no multiple of 2.5 ms.
        """
        made = self._library.opus_decode(self._state, payload, len(payload), self._address, count, 1)
        return None if made < 0 else self._samples[:made].copy()


def _checked(result: int) -> int:
    if result < 0:
        raise ValueError(f"libopus refuses this (error {result})")
    return result
