"""Defects of the media of OpenSIPS's AI voice connector (community edition): each shown not to be ours.

Every test states what must hold and proves that it would notice: it holds on our code and fails on a
variant that is broken in that way.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import numpy as np
import pytest

from connector.audio import Samples
from connector.codec.registry import make_codec
from connector.receiver.path import ReceivePath
from connector.rtp.packet import RtpPacket
from connector.rtp.session import PayloadKind, RtpSession
from connector.sender.packetizer import Packetizer
from connector.sender.path import SendPath
from connector.sender.playout import Playout
from connector.udp.latch import Address
from connector.udp.media import MediaSocket, MediaSockets, OnDatagram
from connector.udp.ticker import Ticker
from tests.fakes.audio import FRAME, hears, purity_db, rtp_stream, tone
from tests.fakes.clock import LoopClock, virtual_time
from tests.fakes.rtp_peer import RtpPeer

# ------------------------------------------- the 16-bit sequence is not wrapped: audio stops after 18 to 22 minutes


class UnwrappedPacketizer(Packetizer):
    """Counts on where the field on the wire ends."""

    def _packet(self, payload_type: int, timestamp: int, payload: bytes, marker: bool) -> bytes:
        before = self._sequence
        data = super()._packet(payload_type, timestamp, payload, marker)
        self._sequence = before + 1
        return data


def hold_a_call(minutes: int, packetizer: type[Packetizer]) -> None:
    """Speaks a tone for one second of each minute and checks that the far end hears it, frame by frame."""
    ours, session = RtpSession(8000, {}), RtpSession(8000, {0: PayloadKind.AUDIO})
    sender = SendPath(ours, make_codec("PCMU"), 0, None)
    sender.packetizer = packetizer(ours)
    sender.packetizer.timestamp = 0xFFFFFFFF - 10 * 60 * 8000  # wraps after ten minutes
    receiver = ReceivePath(session, make_codec("PCMU"))
    now = 0.0
    for minute in range(minutes):
        heard: list[Samples] = []
        sender.playout.write(minute, tone(440, 1.0))
        sender.playout.finish(minute)
        for frame in range(3000):
            receiver.push(RtpPacket.parse(sender.pull().packet), now)
            received = receiver.pull(now).frame
            now += 0.02
            if 10 <= frame < 45:
                heard.append(received.samples)
        assert hears(np.concatenate(heard), 440), f"silent in minute {minute}"
    assert receiver.counts.concealed == 0
    assert receiver.counts.silent == 1, "the initial delay and nothing else"
    assert session.lost == 0


def test_after_an_hour_the_caller_is_still_heard() -> None:
    hold_a_call(60, Packetizer)


def test_a_sequence_that_does_not_wrap_is_noticed() -> None:
    with pytest.raises(struct.error):
        hold_a_call(23, UnwrappedPacketizer)


# ------------------------------------------- a fixed 12-byte header: CSRCs and extensions leak into the audio


def fixed_header(data: bytes) -> RtpPacket:
    """Takes whatever follows the first 12 octets for audio."""
    return RtpPacket.parse(data)._replace(payload=data[12:])


def hear_a_browser(parse: Callable[[bytes], RtpPacket]) -> None:
    """A stream with a header extension and padding must sound like the same stream without."""
    session = RtpSession(8000, {0: PayloadKind.AUDIO})
    path = ReceivePath(session, make_codec("PCMU"))
    heard = []
    for index, packet in enumerate(rtp_stream(tone(440, 1.0))):
        wire = packet._replace(csrc=(1, 2, 3), padding=b"\0\0\0\4").serialize()
        path.push(parse(wire), index * 0.02)
        heard.append(path.pull(index * 0.02).frame.samples)
    assert purity_db(np.concatenate(heard[10:]), 440) > 30


def test_header_extensions_are_not_heard() -> None:
    hear_a_browser(RtpPacket.parse)


def test_a_fixed_header_is_noticed() -> None:
    with pytest.raises(AssertionError):
        hear_a_browser(fixed_header)


# ------------------------------------------- a task per packet, its reference dropped


async def receive_a_burst(wrap: Callable[[OnDatagram], OnDatagram]) -> None:
    """A packet must be taken within the read that brings it: in order, and with no task that could be lost."""
    created: list[str] = []
    loop = asyncio.get_running_loop()

    def counting(loop: asyncio.AbstractEventLoop, coroutine: object, **options: object) -> asyncio.Future[object]:
        created.append(str(coroutine))
        return asyncio.Task(coroutine, loop=loop, **options)  # type: ignore[arg-type]

    taken: list[bytes] = []
    reader = MediaSockets()
    listening = MediaSocket("127.0.0.1", 0, reader, wrap(lambda data, source, at: taken.append(data)))
    loop.set_task_factory(counting)  # type: ignore[arg-type]
    try:
        with RtpPeer() as peer:
            sent = [b"%d" % number for number in range(50)]
            for data in sent:
                peer.send(data, listening.local)
            reader.read(loop.time(), 0.0)
            assert taken == sent
            assert created == []
    finally:
        loop.set_task_factory(None)
        listening.close()
        await asyncio.sleep(0.001)


@virtual_time
async def test_packets_are_taken_without_tasks() -> None:
    await receive_a_burst(lambda take: take)


@virtual_time
async def test_a_task_per_packet_is_noticed() -> None:
    def task_per_packet(take: OnDatagram) -> OnDatagram:
        async def handle(data: bytes, source: Address, at: float) -> None:
            take(data, source, at)

        return lambda data, source, at: _forget(asyncio.ensure_future(handle(data, source, at)))

    def _forget(task: asyncio.Future[None]) -> None:
        """The defect: nobody keeps the task."""

    with pytest.raises(AssertionError):
        await receive_a_burst(task_per_packet)


# ------------------------------------------- wall-clock pacing: packets drift, and an NTP step stops or floods them


class TimeIsUp(Exception):
    """Ten seconds have passed."""


class BusyClock:
    """A machine under load: every sleep is late by 3 ms, and after one second NTP sets the wall clock back.

    It runs for ten seconds, or for a thousand sleeps where time does not pass.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._sleeps = 0

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return 1_700_000_000 + self._now - (3600 if self._now > 1 else 0)

    async def sleep(self, seconds: float) -> None:
        self._now += seconds + 0.003
        self._sleeps += 1
        if self._now >= 10 or self._sleeps == 1000:
            raise TimeIsUp

    async def sleep_until(self, at: float) -> None:
        await self.sleep(max(0.0, at - self._now))


class WallPacedTicker(Ticker):
    """Takes the wall clock for the time."""

    def __init__(self, clock: BusyClock) -> None:
        super().__init__(WallClock(clock))


class WallClock:
    def __init__(self, clock: BusyClock) -> None:
        self.now = clock.wall
        self.wall = clock.wall
        self.sleep = clock.sleep

    async def sleep_until(self, at: float) -> None:
        await self.sleep(max(0.0, at - self.now()))


class SleepingTicker(Ticker):
    """Sleeps 20 ms after each packet instead of until the next is due."""

    async def run(self) -> None:
        while True:
            self.tick(self._clock.now())
            await self._clock.sleep(0.02)


async def pace(ticker: type[Ticker]) -> None:
    """Ten seconds must hold 500 packets, none far from its place, whatever load and NTP do."""
    clock = BusyClock()
    times: list[float] = []
    pacing = ticker(clock)
    pacing.add(lambda due: times.append(clock.now()))
    with pytest.raises(TimeIsUp):
        await pacing.run()
    assert len(times) == pytest.approx(500, abs=2)
    assert np.abs(np.array(times[1:]) - 0.02 * np.arange(1, len(times))).max() < 0.005


async def test_packets_keep_their_pace_under_load_and_when_the_wall_clock_is_set() -> None:
    await pace(Ticker)


@pytest.mark.parametrize("broken", [WallPacedTicker, SleepingTicker])
async def test_pacing_by_wall_clock_or_by_sleeping_is_noticed(broken: type[Ticker]) -> None:
    with pytest.raises(AssertionError):
        await pace(broken)


# ------------------------------------------- the last partial TTS frame is thrown away


class TruncatingPlayout(Playout):
    """Plays whole frames alone."""

    def pull(self, count: int) -> Samples | None:
        current = self._current
        if current is not None and current.prepare(count) < count:
            return None
        return super().pull(count)


def speak(playout: Playout, samples: int) -> None:
    """All samples of a sentence must be heard, its last few too."""
    playout.write(1, tone(440, samples / 8000))
    playout.finish(1)
    heard = [frame for _ in range(samples // FRAME + 2) if (frame := playout.pull(FRAME)) is not None]
    assert np.array_equal(np.concatenate(heard)[:samples], tone(440, samples / 8000).samples)
    assert playout.over(1) is not None


@pytest.mark.parametrize("samples", [161, 319, 1000, 1600])
def test_the_end_of_a_sentence_is_heard(samples: int) -> None:
    speak(Playout(8000), samples)


def test_a_lost_end_of_a_sentence_is_noticed() -> None:
    with pytest.raises(AssertionError):
        speak(TruncatingPlayout(8000), 1000)


@virtual_time
async def test_a_leaving_peer_does_not_stop_the_reader() -> None:
    """A closed far end answers with ICMP errors; what comes afterwards must still be read."""
    taken: list[bytes] = []
    reader = MediaSockets()
    listening = MediaSocket("127.0.0.1", 0, reader, lambda data, source, at: taken.append(data))
    with RtpPeer() as gone:
        address = gone.local
    for _ in range(3):
        listening.send(b"nobody is there", address)
        reader.read(LoopClock().now(), 0.0)
    with RtpPeer() as peer:
        peer.send(b"hello", listening.local)
        reader.read(LoopClock().now(), 0.0)
    listening.close()
    assert taken == [b"hello"]
