"""What holds of the media paths for any order, loss, duplication and corruption of packets."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.audio import Audio
from connector.codec.registry import make_codec
from connector.codec.resample import Resampler, resample
from connector.errors import RtpError
from connector.receiver.jitter_buffer import LIMIT_SLOTS, Buffered, JitterBuffer
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


deliveries = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), min_size=1, max_size=150)
"""Pairs of (packet number, pulls before it arrives): any order, any loss, any duplication, any delay."""


@given(deliveries)
def test_old_audio_is_never_played_and_nothing_waits_longer_than_the_limit(line: list[tuple[int, int]]) -> None:
    buffer = JitterBuffer(8000)
    pushed_at: dict[int, int] = {}
    played: list[int] = []
    pulls = 0

    def pull() -> None:
        nonlocal pulls
        pulls += 1
        item = buffer.pop()
        if isinstance(item, int):
            assert 0 < item <= SLOT
        else:
            played.append(item.sequence)
            assert pulls - pushed_at[item.sequence] <= LIMIT_SLOTS

    for number, wait in line:
        for _ in range(wait):
            pull()
        pushed_at.setdefault(number, pulls)
        buffer.push(Buffered(number, 7000 + number * SLOT, SLOT, b"", 0.0))
        assert buffer.delay <= LIMIT_SLOTS * SLOT
    for _ in range(2 * LIMIT_SLOTS):
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
    for sequence, timestamp, duration, wait in line:
        buffer.push(Buffered(sequence, timestamp, duration, b"", 0.0))
        assert buffer.delay <= LIMIT_SLOTS * SLOT
        for _ in range(wait):
            item = buffer.pop()
            assert item if isinstance(item, int) else item.duration > 0


@settings(max_examples=50)
@given(
    line=st.lists(
        st.tuples(
            st.integers(0, 40), st.integers(0, 3), st.none() | st.tuples(st.integers(0, 171), st.integers(0, 255))
        ),
        max_size=80,
    )
)
def test_a_corrupted_line_yields_a_whole_frame_per_tick(
    line: list[tuple[int, int, tuple[int, int] | None]],
) -> None:
    session = RtpSession(8000, {0: PayloadKind.AUDIO, 101: PayloadKind.EVENT})
    path = ReceivePath(session, make_codec("PCMU"))
    ticks = 0
    for number, wait, damage in line:
        data = bytearray(RtpPacket(0, number, number * SLOT, 1, bytes([number]) * SLOT).serialize())
        if damage is not None:
            data[damage[0]] = damage[1]
        with suppress(RtpError):
            path.push(RtpPacket.parse(bytes(data)), ticks * 0.02)
        for _ in range(wait):
            frame, at = path.pull(ticks * 0.02)
            ticks += 1
            assert len(frame.samples) == FRAME
            assert at <= ticks * 0.02
            path.tick()
    assert path.counts.frames == ticks


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
