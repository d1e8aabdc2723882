"""Opus: rates, durations, damaged packets, redundancy, and what the far end may ask for (RFC 6716, RFC 7587)."""

from __future__ import annotations

import random

import numpy as np
import pytest

from connector.audio import Samples
from connector.codec.opus import Opus, Wishes, duration, missing
from connector.errors import RtpError
from tests.fakes.audio import level_db, purity_db, tone

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

FRAME = 320


def frames(samples: Samples) -> list[Samples]:
    return [samples[begin : begin + FRAME] for begin in range(0, len(samples), FRAME)]


def speechlike(seconds: float) -> Samples:
    """Harmonics of a gliding pitch, as loud as a voice."""
    time = np.arange(round(16_000 * seconds)) / 16_000
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 2 * time)) / 16_000
    voiced = sum(np.sin(n * phase) / n for n in range(1, 20)) * (1 + np.sin(2 * np.pi * 4 * time))
    return np.rint(2500 * voiced).astype(np.int16)


@pytest.mark.parametrize("frequency", [300, 1000, 3000, 6000, 7000])
def test_speech_up_to_7_khz_passes_at_its_level(frequency: float) -> None:
    encoder, decoder = Opus(), Opus()
    original = tone(frequency, 1.0, 16_000).samples
    heard = np.concatenate([decoder.decode(encoder.encode(frame)) for frame in frames(original)])[4000:12_000]
    assert level_db(heard) == pytest.approx(level_db(original), abs=1.0)
    assert purity_db(heard, frequency, 16_000) > 25


def test_a_frame_is_960_units_of_the_timestamp() -> None:
    """RFC 7587 section 4.1: the clock is 48 kHz, whatever the bandwidth."""
    codec = Opus()
    payload = codec.encode(np.zeros(FRAME, np.int16))
    assert (codec.rate, codec.clock_rate, codec.duration(payload)) == (16_000, 48_000, 960)
    assert len(codec.decode(payload)) == FRAME


@pytest.mark.parametrize(
    ("first", "more", "milliseconds"),
    [
        (0 << 3, b"", 10),
        (3 << 3, b"", 60),
        (9 << 3, b"x", 20),
        (12 << 3, b"x", 10),
        (15 << 3, b"x", 20),
        (16 << 3, b"x", 2.5),
        (31 << 3, b"x", 20),
        (9 << 3 | 1, b"xx", 40),
        (9 << 3 | 2, b"\x01xx", 40),
        (9 << 3 | 3, b"\x03xxx", 60),
        (16 << 3 | 3, b"\x30" + b"x" * 48, 120),
    ],
)
def test_the_duration_is_in_the_first_two_octets(first: int, more: bytes, milliseconds: float) -> None:
    """RFC 6716 section 3.1: configuration and number of frames."""
    assert duration(bytes([first]) + more) == 48 * milliseconds


@pytest.mark.parametrize("payload", [b"", b"\x03", b"\x03\x00", b"\x4b\x07", b"\x1b\x03"])
def test_no_frames_or_more_than_120_ms_are_no_packet(payload: bytes) -> None:
    with pytest.raises(RtpError):
        duration(payload)


def test_damaged_packets_are_refused_or_sound_for_as_long_as_they_say() -> None:
    chance = random.Random(7)
    encoder, decoder = Opus("useinbandfec=1"), Opus()
    good = [encoder.encode(frame) for frame in frames(speechlike(0.4))]
    refused = 0
    for n in range(4000):
        payload = bytearray(chance.choice(good))
        for _ in range(chance.randrange(1, 8)):
            payload[chance.randrange(len(payload))] = chance.randrange(256)
        damaged = chance.randbytes(chance.randrange(60)) if n % 2 else bytes(payload[: chance.randrange(len(payload))])
        try:
            assert 3 * len(decoder.decode(damaged)) == decoder.duration(damaged)
        except RtpError:
            refused += 1
    assert 0 < refused < 4000


def test_comfort_noise_of_suppressed_silence_is_as_long_as_its_packet() -> None:
    """RFC 7587 section 3.1.3: a packet of one or two octets says that nothing follows for a while."""
    decoder = Opus()
    assert len(decoder.decode(b"\x48")) == FRAME
    assert len(decoder.decode(b"\x48\x00")) == FRAME


def test_a_lost_packet_is_recovered_from_the_next() -> None:
    """In-band FEC, which the far end asked for by its `a=fmtp`."""
    words = frames(speechlike(1.0))
    encoder, whole, lossy = Opus("useinbandfec=1"), Opus(), Opus()
    payloads = [encoder.encode(frame) for frame in words]
    errors = []
    for n, payload in enumerate(payloads):
        right = whole.decode(payload).astype(float)
        if n % 5 == 3:
            recovered = lossy.recover(payloads[n + 1], FRAME)
            assert recovered is not None
            errors.append(np.corrcoef(right, recovered)[0, 1])
        else:
            lossy.decode(payload)
    assert np.mean(errors[2:]) > 0.9


def test_what_cannot_be_recovered_is_left_to_concealment() -> None:
    decoder = Opus()
    payload = decoder.encode(np.zeros(FRAME, np.int16))
    assert decoder.recover(payload, 7) is None
    assert decoder.recover(b"\xff" * 40, FRAME) is None


@pytest.mark.parametrize(
    ("parameters", "wishes"),
    [
        ("", Wishes()),
        ("maxplaybackrate=8000; useinbandfec=1;cbr=1", Wishes(8000, constant=True, redundant=True)),
        ("stereo=1;maxaveragebitrate=12000 ; UseDTX=1", Wishes(max_bit_rate=12_000)),
        ("maxplaybackrate=0;maxaveragebitrate=999999999999;useinbandfec=yes;=;;", Wishes()),
    ],
)
def test_the_far_ends_wishes_are_read(parameters: str, wishes: Wishes) -> None:
    assert Wishes.parse(parameters) == wishes


def test_the_far_ends_wishes_are_met() -> None:
    words = frames(speechlike(1.0))

    def sizes(parameters: str) -> list[int]:
        codec = Opus(parameters)
        return [len(codec.encode(frame)) for frame in words]

    assert np.mean(sizes("maxaveragebitrate=12000")) < 0.6 * np.mean(sizes(""))
    assert len(set(sizes("cbr=1"))) == 1
    narrow, ear = Opus("maxplaybackrate=8000"), Opus()
    high = tone(6000, 0.5, 16_000).samples
    assert level_db(np.concatenate([ear.decode(narrow.encode(frame)) for frame in frames(high)])[1600:]) < -40
