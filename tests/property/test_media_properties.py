"""What holds of the media paths for any order, loss, duplication and corruption of packets."""

from __future__ import annotations

import random
from contextlib import suppress
from heapq import heappop, heappush

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.audio import FRAME_SECONDS, Audio, Frame
from connector.codec.g711 import MuLaw
from connector.codec.registry import make_codec
from connector.codec.resample import Resampler, resample
from connector.errors import RtpError
from connector.receiver.jitter_buffer import LIMIT_SECONDS, Buffered, JitterBuffer
from connector.receiver.path import ReceivePath
from connector.rtp.packet import Extension, RtpPacket
from connector.rtp.sequence import extend
from connector.rtp.session import PayloadKind, RtpSession
from connector.sender.playout import Playout
from tests.fakes.audio import FRAME

SLOT = 160

words = st.integers(0, 0xFFFFFFFF)
packets = st.builds(
    RtpPacket,
    payload_type=st.integers(0, 127),
    sequence=st.integers(0, 0xFFFF),
    timestamp=words,
    ssrc=words,
    payload=st.binary(max_size=200),
    marker=st.booleans(),
    csrc=st.lists(words, max_size=15).map(tuple),
    extension=st.none()
    | st.builds(Extension, st.integers(0, 0xFFFF), st.binary(max_size=8).map(lambda data: data * 4)),
    padding=st.binary(max_size=254).map(lambda data: data + bytes([len(data) + 1])) | st.just(b""),
)


@given(packets)
def test_every_packet_survives_the_wire(packet: RtpPacket) -> None:
    assert RtpPacket.parse(packet.serialize()) == packet


@given(number=st.integers(0, 2**40), bits=st.sampled_from([16, 32]), moved=st.integers(-(2**15) + 1, 2**15 - 1))
def test_a_wrapped_number_is_recovered_from_its_neighbourhood(number: int, bits: int, moved: int) -> None:
    assert extend(number & ((1 << bits) - 1), number + moved, bits) == number


LIMIT = round(LIMIT_SECONDS * 8000)

deliveries = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), min_size=1, max_size=150)
"""Pairs of (packet number, pulls before it arrives): any order, any loss, any duplication, any delay."""


def pulled(buffer: JitterBuffer, now: float) -> list[Buffered]:
    """What one pull takes out of `buffer`, as the receive path does it; gaps are passed over."""
    taken = []
    missing = SLOT
    buffer.judge(now)
    while missing > 0:
        item = buffer.pop(now, missing)
        if isinstance(item, int):
            assert item > 0
            missing -= item
        else:
            taken.append(item)
            missing -= item.duration
    return taken


@given(deliveries)
def test_old_audio_is_never_played_and_nothing_waits_longer_than_the_limit(line: list[tuple[int, int]]) -> None:
    buffer = JitterBuffer(8000)
    played: list[int] = []
    now = 0.0

    def pull() -> None:
        nonlocal now
        for packet in pulled(buffer, now):
            played.append(packet.sequence)
            assert now - packet.arrival <= LIMIT_SECONDS
        now += 0.02

    for number, wait in line:
        for _ in range(wait):
            pull()
        buffer.push(Buffered(number, 7000 + number * SLOT, SLOT, b"", now - 0.01))
        assert buffer.delay <= LIMIT
    for _ in range(2 * LIMIT // SLOT):
        pull()
    assert played == sorted(set(played)), "in order, none twice"
    assert buffer.delay == 0, "everything was played or dropped"


wild = st.lists(
    st.tuples(
        st.integers(0, 2**20),
        st.integers(0, 2**33) | st.integers(0, 3000),
        st.integers(-10, 2000),
        st.integers(0, 3),
    ),
    max_size=200,
)


@given(wild)
def test_timestamps_and_durations_of_any_kind_leave_the_buffer_bounded(line: list[tuple[int, int, int, int]]) -> None:
    buffer = JitterBuffer(8000)
    now = 0.0
    for sequence, timestamp, duration, wait in line:
        buffer.push(Buffered(sequence, timestamp, duration, b"", now))
        assert buffer.delay <= LIMIT
        for _ in range(wait):
            pulled(buffer, now)
            now += 0.02


class Wire:
    """A receive path in its own time, whose every frame is checked."""

    def __init__(self, codec: str = "PCMU") -> None:
        session = RtpSession(8000, {0: PayloadKind.AUDIO, 101: PayloadKind.EVENT, 13: PayloadKind.COMFORT_NOISE})
        self.path = ReceivePath(session, make_codec(codec))
        self.frame = round(self.path.codec.rate * FRAME_SECONDS)
        self.now = 0.0
        self.pulls = 0

    def deliver(self, data: bytes, arrival: float) -> None:
        with suppress(RtpError):
            self.path.push(RtpPacket.parse(data), arrival)
        assert self.path.jitter_buffer.delay <= LIMIT_SECONDS * self.path.codec.clock_rate

    def pull(self) -> Frame:
        frame, at = self.path.pull(self.now)
        assert len(frame.samples) == self.frame
        assert frame.samples.dtype == np.int16
        assert at <= self.now
        if not frame.concealed:
            assert self.now - at <= LIMIT_SECONDS
        self.path.tick()
        self.now += FRAME_SECONDS
        self.pulls += 1
        assert self.path.counts.frames == self.pulls
        return frame


@given(deliveries)
def test_what_is_heard_never_goes_back_in_time(line: list[tuple[int, int]]) -> None:
    wire = Wire()
    heard = 0

    def pull() -> None:
        nonlocal heard
        frame = wire.pull()
        if not frame.concealed:
            # Packet n is all of the µ-law code 0xFF - 2 n, the louder the later.
            number = (0xFF - MuLaw().encode(frame.samples[-1:])[0]) // 2
            assert number >= heard - 2, "what an adjustment says twice is shorter than two packets"
            heard = max(heard, number)

    for number, wait in line:
        for _ in range(wait):
            pull()
        packet = RtpPacket(0, number, number * SLOT, 1, bytes([0xFF - 2 * number]) * SLOT)
        wire.deliver(packet.serialize(), wire.now - 0.01)
    for _ in range(20):
        pull()


@settings(max_examples=50)
@given(
    line=st.lists(
        st.tuples(
            st.integers(0, 40),
            st.integers(0, 3),
            st.sampled_from([0, 0, 0, 13, 101]),
            st.none() | st.tuples(st.integers(0, 171), st.integers(0, 255)),
        ),
        max_size=80,
    )
)
def test_a_corrupted_line_yields_a_whole_frame_per_tick(
    line: list[tuple[int, int, int, tuple[int, int] | None]],
) -> None:
    wire = Wire()
    for number, wait, payload_type, damage in line:
        data = bytearray(RtpPacket(payload_type, number, number * SLOT, 1, bytes([number]) * SLOT).serialize())
        if damage is not None:
            data[damage[0]] = damage[1]
        wire.deliver(bytes(data), wire.now - 0.005)
        for _ in range(wait):
            wire.pull()


def survive(count: int, seed: int, codec: str = "PCMU") -> None:
    """`count` packets over a line that gets better and worse, with all kinds of misfortune."""
    draw = random.Random(seed)
    wire = Wire(codec)
    step = wire.path.codec.clock_rate // 8000
    on_the_way: list[tuple[float, int, bytes]] = []
    sent = 0.0
    sequence, timestamp, ssrc = draw.getrandbits(16), draw.getrandbits(32), draw.getrandbits(32)
    loss = jitter = damage = 0.0
    frame = SLOT
    for number in range(count):
        if number % 500 == 0:
            loss, jitter = draw.choice([0, 0.01, 0.1, 0.5]), draw.choice([0, 0.02, 0.1, 0.5])
            damage = draw.random() ** 8
            frame = draw.choice([80, SLOT, SLOT, SLOT, 240, 320, 480])
        match draw.randrange(5000):
            case 0:
                ssrc = draw.getrandbits(32)
            case 1:
                sequence += draw.randrange(-5000, 5000)
            case 2:
                timestamp += draw.randrange(-(2**20), 2**20)
            case 3:
                timestamp += draw.randrange(500) * SLOT  # suppressed silence
        kind = draw.choice((0,) * 50 + (13, 101))
        payload = draw.randbytes(frame)
        data = RtpPacket(kind, sequence & 0xFFFF, timestamp * step & 0xFFFFFFFF, ssrc, payload).serialize()
        if draw.random() < damage:
            torn = bytearray(data[: draw.randrange(1, len(data) + 1)])
            torn[draw.randrange(len(torn))] = draw.randrange(256)
            data = bytes(torn)
        for _ in range(1 + (draw.random() < 0.01)):
            if draw.random() >= loss:
                heappush(on_the_way, (sent + draw.random() * jitter, number, data))
        sequence += 1
        timestamp += frame
        sent += frame / 8000
        while wire.now < sent:
            while on_the_way and on_the_way[0][0] <= wire.now:
                arrival, _, data = heappop(on_the_way)
                wire.deliver(data, arrival)
            wire.pull()


@pytest.mark.parametrize(("codec", "count"), [("PCMU", 15_000), ("G722", 3000), ("opus", 3000)])
def test_whatever_happens_to_thousands_of_packets_a_frame_comes_per_tick_and_the_delay_is_bounded(
    codec: str, count: int
) -> None:
    survive(count, seed=1, codec=codec)


@pytest.mark.slow
def test_whatever_happens_to_a_million_packets_a_frame_comes_per_tick_and_the_delay_is_bounded() -> None:
    for seed in range(10):
        survive(100_000, seed)


@settings(max_examples=30)
@given(
    ratio=st.sampled_from([(8000, 16_000), (24_000, 8000), (22_050, 8000), (16_000, 24_000), (44_100, 16_000)]),
    cuts=st.lists(st.integers(0, 3000), max_size=12),
    seed=st.integers(0, 1000),
)
def test_a_resampled_stream_does_not_depend_on_its_chunks(ratio: tuple[int, int], cuts: list[int], seed: int) -> None:
    noise = np.random.default_rng(seed).integers(-32768, 32767, 3000, dtype=np.int16)
    resampler = Resampler(*ratio)
    parts = [resampler.process(part) for part in np.split(noise, sorted(cuts))]
    whole = resample(Audio(noise, ratio[0]), ratio[1]).samples
    assert np.array_equal(np.concatenate([*parts, resampler.flush()]), whole)


steps = st.lists(
    st.tuples(
        st.sampled_from(["write", "finish", "pause", "resume", "clear", "pull"]), st.integers(0, 5), st.integers(1, 400)
    ),
    max_size=60,
)


@given(steps)
def test_playout_never_plays_a_stale_generation_nor_counts_more_than_was_written(
    script: list[tuple[str, int, int]],
) -> None:
    playout = Playout(8000)
    written: dict[int, int] = {}
    cleared = -1
    for verb, generation, size in script:
        current = playout.position.generation
        if verb == "write":
            playout.write(generation, Audio(np.full(size, generation + 1, np.int16), 8000))
            written[generation] = written.get(generation, 0) + size
        elif verb == "finish":
            playout.finish(generation)
        elif verb == "clear":
            cleared = playout.clear().generation if written else -1
        elif verb == "pull":
            frame = playout.pull(FRAME)
            assert frame is None or len(frame) == FRAME
            assert frame is None or set(frame) <= set(range(playout.position.generation + 2))
        else:
            getattr(playout, verb)()
        assert playout.position.generation >= current
        assert playout.position.seconds <= written.get(playout.position.generation, 0) / 8000
        assert cleared < 0 or playout.over(cleared) is not None
