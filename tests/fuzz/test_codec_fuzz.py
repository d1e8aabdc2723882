"""The contract of codecs and of the path that decodes: whatever a packet holds, a frame per tick, or `RtpError`."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from connector.codec.registry import CODECS, make_codec, spoken
from connector.errors import RtpError
from connector.receiver.path import ReceivePath
from connector.rtp.packet import RtpPacket
from connector.rtp.session import PayloadKind, RtpSession
from tests.fakes.audio import rtp_stream, tone

TICKS = 4000


@pytest.mark.parametrize("name", CODECS)
def test_any_payload_is_sound_of_its_duration_or_refused(name: str) -> None:
    if CODECS[name] not in spoken():
        pytest.skip(CODECS[name].missing())
    chance = random.Random(name)
    codec = make_codec(name)
    for size in [*range(12), *(chance.randrange(400) for _ in range(TICKS))]:
        payload = chance.randbytes(size)
        with suppress(RtpError):
            duration = codec.duration(payload)
            assert len(codec.decode(payload)) * codec.clock_rate == duration * codec.rate


@pytest.mark.parametrize("name", CODECS)
def test_a_stream_that_is_damaged_doubled_and_lost_gives_a_frame_per_tick(name: str) -> None:
    if CODECS[name] not in spoken():
        pytest.skip(CODECS[name].missing())
    chance = random.Random(name)
    codec = make_codec(name)
    kinds = {96: PayloadKind.AUDIO, 13: PayloadKind.COMFORT_NOISE, 101: PayloadKind.EVENT}
    path = ReceivePath(RtpSession(codec.clock_rate, kinds), codec)
    payloads = [packet.payload for packet in rtp_stream(tone(440, 1.0, codec.rate), name)]
    for tick in range(TICKS):
        for ahead in range(chance.choice([0, 1, 1, 1, 1, 2])):
            payload = bytearray(chance.choice(payloads))
            for _ in range(chance.choice([0, 0, 0, 1, 5])):
                payload[chance.randrange(len(payload))] = chance.randrange(256)
            del payload[chance.choice([10_000, 10_000, 10_000, 3, 0]) :]
            number = tick + ahead
            timestamp = number * codec.clock_rate // 50 & 0xFFFFFFFF
            packet = RtpPacket(chance.choice([96] * 20 + [13, 101]), number, timestamp, 1, bytes(payload))
            with suppress(RtpError):
                path.push(packet, 0.02 * tick)
        frame, _ = path.pull(0.02 * tick)
        assert (len(frame.samples), frame.rate) == (codec.rate // 50, codec.rate)
