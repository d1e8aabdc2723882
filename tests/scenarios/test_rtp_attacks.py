"""What strangers send to a call's ports changes nothing of the call: each attack against the same call in peace."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self

import pytest

from connector.audio import Frame
from connector.interfaces import Digit
from connector.leg.rtp_audio import MediaTarget, RtpAudio
from connector.rtp import rtcp
from connector.rtp.packet import RtpPacket
from connector.rtp.telephone_event import EventSender
from connector.udp.ports import QUARANTINE_SECONDS, PortPool
from connector.udp.ticker import Ticker
from tests.fakes.audio import hears, rtp_stream, silence, tone
from tests.fakes.clock import LoopClock, virtual_time
from tests.fakes.rtp_peer import RtpPeer

ELSEWHERE = "127.0.0.66"
TIMEOUT = 5.0
MEASURED = ("strangers", "jitter", "input_delay", "mos")
"""What may differ between two runs of one call: the strangers themselves, and what rests on the kernel's time."""


@dataclass(frozen=True)
class Shot:
    """A datagram of an attacker. `control`: to the RTCP port. `near`: from another port of the peer's own address."""

    data: bytes
    control: bool = False
    near: bool = False


Attack = Callable[[RtpPacket], Iterator[Shot]]
"""What is sent beside each packet of the peer, which the attacker knows: the worst that can be."""


def from_both(data: bytes, *, control: bool = False) -> Iterator[Shot]:
    yield Shot(data, control, near=False)
    yield Shot(data, control, near=True)


def bleed(packet: RtpPacket) -> Iterator[Shot]:
    """RTP bleed probes: well-formed packets of every static payload type."""
    for payload_type in (0, 8, 9, 18):
        yield from from_both(RtpPacket(payload_type, packet.sequence, 0, 1, bytes(160)).serialize())


def take_over(packet: RtpPacket) -> Iterator[Shot]:
    """A louder stream of another SSRC, each packet in sequence."""
    yield from from_both(packet._replace(ssrc=0xBAD, payload=b"\x00\x80" * 80).serialize())


def spoof(packet: RtpPacket) -> Iterator[Shot]:
    """The peer's own SSRC, and the packet that it will send next."""
    following = packet._replace(sequence=(packet.sequence + 1) & 0xFFFF, timestamp=packet.timestamp + 160)
    yield from from_both(following._replace(payload=b"\x00\x80" * 80).serialize())


def replay(packet: RtpPacket) -> Iterator[Shot]:
    """The same again."""
    yield from from_both(packet.serialize())


def press_keys() -> Attack:
    """Keys, as telephone-events of the peer's stream."""
    keys = EventSender(8000)
    keys.queue("0123456789*#" * 3)

    def press(packet: RtpPacket) -> Iterator[Shot]:
        key = keys.next()
        if key is not None:
            yield from from_both(packet._replace(payload_type=101, payload=key.payload, marker=key.marker).serialize())

    return press


def control(packet: RtpPacket) -> Iterator[Shot]:
    """BYE of the peer's SSRC, and reports that would spoil the statistics."""
    block = rtcp.ReportBlock(packet.ssrc, 255, 9999, 1, 9999, 1, 1)
    for forged in (
        rtcp.serialize([rtcp.Goodbye((packet.ssrc,))]),
        rtcp.serialize([rtcp.ReceiverReport(packet.ssrc, (block,))]),
        rtcp.serialize([rtcp.SenderReport(packet.ssrc, 1 << 63, 0, 9, 9, (block,)), rtcp.Goodbye((packet.ssrc,))]),
    ):
        for to_control in (True, False):
            yield from from_both(forged, control=to_control)


def flood(packet: RtpPacket) -> Iterator[Shot]:
    """5,000 datagrams a second of anything, up to a full Ethernet frame."""
    source = random.Random(packet.sequence)
    for _ in range(100):
        yield Shot(source.randbytes(source.choice((0, 1, 12, 172, 1472))), control=source.random() < 0.2)


ATTACKS: dict[str, Callable[[], Attack]] = {
    "bleed": lambda: bleed,
    "take over": lambda: take_over,
    "spoof": lambda: spoof,
    "replay": lambda: replay,
    "keys": press_keys,
    "control": lambda: control,
    "flood": lambda: flood,
}


def peace(packet: RtpPacket) -> Iterator[Shot]:
    """Nobody attacks."""
    yield from ()


class Line:
    """A leg that talks with `peer`, and all that a user could notice of it."""

    def __init__(self, audio: RtpAudio, peer: RtpPeer) -> None:
        self.audio = audio
        self.peer = peer
        self.frames: list[Frame] = []
        self.digits: list[Digit] = []
        self.timeouts: list[float] = []
        audio.listen(self.frames.append)
        audio.on_digit = self.digits.append
        audio.on_timeout = self.timeouts.append

    def noticed(self) -> dict[str, Any]:
        """What was heard, pressed and said, and what the statistics tell."""
        statistics = self.audio.statistics.model_dump()
        sent = self.peer.packets()
        return {
            **{name: value for name, value in statistics.items() if not name.startswith(MEASURED)},
            "heard": b"".join(frame.samples.tobytes() for frame in self.frames),
            "digits": self.digits,
            "timeouts": [round(seconds, 1) for seconds in self.timeouts],
            "said": b"".join(packet.payload for packet in sent),
        }


def pool(pairs: int = 50) -> PortPool:
    first = random.randrange(20_000, 50_000, 2)
    return PortPool(first, first + 2 * pairs - 1)


class Site:
    """A ticker and the legs on it, closed at the end."""

    def __init__(self, ports: PortPool) -> None:
        self._ports = ports
        self._ticker = Ticker(LoopClock())
        self._ends = AsyncExitStack()

    async def __aenter__(self) -> Self:
        ticking = asyncio.create_task(self._ticker.run())
        self._ends.push_async_callback(asyncio.wait, {ticking})
        self._ends.callback(ticking.cancel)
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._ends.aclose()

    async def open(self, peer: RtpPeer) -> Line:
        audio = await RtpAudio.open(
            address="127.0.0.1", ports=self._ports, ticker=self._ticker, clock=LoopClock(), timeout=TIMEOUT
        )
        self._ends.push_async_callback(audio.aclose)
        return Line(audio, peer)


async def attacked(attack: Attack, begin: float = 0.3, talk: float = 2.0, end: float = 0.0) -> dict[str, Any]:
    """A call: so many seconds pass before the peer speaks, he says a tone and the keys 4 and 2, and is silent."""
    clock = LoopClock()
    with RtpPeer() as peer, RtpPeer(ELSEWHERE) as far, RtpPeer() as near:
        async with Site(pool()) as site:
            line = await site.open(peer)
            address, port = line.audio.local
            before = [*rtp_stream(silence(begin), sequence=900)] if begin else []
            said = [*before, *rtp_stream(tone(440, talk)), *rtp_stream(silence(end), sequence=2000)]
            keys = EventSender(8000)
            keys.queue("42")
            await clock.sleep(0.01)  # half a tick: whether a packet or its tick comes first is not left to chance
            for number, packet in enumerate(said):
                if number == 5:
                    line.audio.configure(MediaTarget(*peer.local, "PCMU", 0, 101))
                    line.audio.write(1, tone(1000, talk))
                for shot in attack(packet):
                    (near if shot.near else far).send(shot.data, (address, port + shot.control))
                speaks = len(before) <= number < len(said) - round(end * 50)
                if speaks:
                    key = keys.next() if number > len(said) // 2 else None
                    if key is not None:
                        packet = packet._replace(
                            payload_type=101, payload=key.payload, timestamp=packet.timestamp - key.offset
                        )
                    peer.send(packet, line.audio.local)
                await clock.sleep(0.02)
            assert far.datagrams() == near.datagrams() == [], "media went to a stranger"
            noticed = line.noticed()
            noticed["strangers"] = line.audio.statistics.strangers
            return noticed


@pytest.mark.parametrize("name", ATTACKS)
@virtual_time
async def test_an_attack_changes_nothing_of_the_call(name: str) -> None:
    in_peace, under_fire = await attacked(peace), await attacked(ATTACKS[name]())
    assert in_peace.pop("strangers") == 0
    assert under_fire.pop("strangers") > 50
    assert [digit.digit for digit in in_peace["digits"]] == ["4", "2"]
    assert under_fire == in_peace


@pytest.mark.parametrize("name", ["take over", "spoof", "keys", "control"])
@virtual_time
async def test_an_attacker_neither_takes_a_silent_peers_place_nor_keeps_his_call_alive(name: str) -> None:
    in_peace = await attacked(peace, 0, 0.5, end=6.0)
    under_fire = await attacked(ATTACKS[name](), 0, 0.5, end=6.0)
    assert in_peace["timeouts"] == [TIMEOUT]
    assert in_peace.pop("strangers") < under_fire.pop("strangers")
    assert under_fire == in_peace


@virtual_time
async def test_a_flood_leaves_nothing_behind() -> None:
    with RtpPeer() as peer, RtpPeer(ELSEWHERE) as far:
        async with Site(pool()) as site:
            line = await site.open(peer)
            line.audio.configure(MediaTarget(*peer.local, "PCMU", 0, 101))

            async def seconds_of_flood(count: int) -> None:
                for packet in rtp_stream(silence(count)):
                    for shot in flood(packet):
                        far.send(shot.data, (line.audio.local[0], line.audio.local[1] + shot.control))
                    await LoopClock().sleep(0.02)
                line.frames.clear()

            await seconds_of_flood(1)
            strangers = line.audio.statistics.strangers
            tracemalloc.start()
            try:
                await seconds_of_flood(2)
                left, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert line.audio.statistics.strangers - strangers == 10_000, (
                "a reader that does not keep up loses the peer"
            )
            assert left < 20_000, "octets, of 10,000 datagrams"


@virtual_time
async def test_packets_of_an_ended_call_reach_no_later_one() -> None:
    """For five seconds the far end goes on sending, as one whose BYE was lost; it is the next calls' peer, too."""
    clock = LoopClock()
    ports = pool(8)
    with RtpPeer() as peer:
        async with Site(ports) as site:
            target = MediaTarget(*peer.local, "PCMU", 0, 101)
            first = await site.open(peer)
            first.audio.configure(target)
            ended = first.audio.local
            await peer.stream(rtp_stream(tone(440, 0.5)), ended, clock)
            assert hears(first.frames[-1].samples, 440)
            await first.audio.aclose()

            later: list[Line] = []
            for number, packet in enumerate(rtp_stream(tone(440, 5.0), sequence=1025, timestamp=54_000)):
                peer.send(packet, ended)
                if number % 50 == 0:
                    line = await site.open(peer)
                    line.audio.configure(target)
                    later.append(line)
                await clock.sleep(0.02)
            assert len(later) == 5
            for line in later:
                assert line.audio.local != ended
                assert not any(frame.samples.any() for frame in line.frames)
                statistics = line.audio.statistics
                assert (statistics.received, statistics.strangers, statistics.unknown_payload_type) == (0, 0, 0)
                await line.audio.aclose()
            await clock.sleep(QUARANTINE_SECONDS)
            reopened = [await site.open(peer) for _ in range(ports.size)]
            assert ended in [line.audio.local for line in reopened], "a pair that has rested serves again"
