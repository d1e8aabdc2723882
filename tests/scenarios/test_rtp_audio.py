"""RTP legs on real loopback sockets, in virtual time."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from connector.audio import Audio, Frame, Samples
from connector.codec.opus import missing
from connector.codec.registry import make_codec
from connector.errors import MediaError, NotAcceptableHere, ProtocolError
from connector.interfaces import Digit, Established, LegEvent, MediaTimeout, Party, Position, Terminated
from connector.leg.plain_rtp import PlainRtpLeg
from connector.leg.rtp_audio import MediaTarget, RtpAudio
from connector.rtp import rtcp
from connector.rtp.packet import RtpPacket
from connector.rtp.telephone_event import EventReceiver, EventSender, TelephoneEvent
from connector.udp.ports import PortPool
from connector.udp.ticker import Ticker
from tests.fakes.audio import hears, level_db, rtp_stream, silence, tone
from tests.fakes.clock import LoopClock, virtual_time
from tests.fakes.rtp_peer import RtpPeer

TIMEOUT = 5.0


def port_pool() -> PortPool:
    """A range that other test processes hardly use; ports that are taken are passed over."""
    first = random.randrange(20_000, 50_000, 2)
    return PortPool(first, first + 99)


@asynccontextmanager
async def ticking() -> AsyncIterator[Ticker]:
    ticker = Ticker(LoopClock())
    task = asyncio.create_task(ticker.run())
    try:
        yield ticker
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class HandClock(LoopClock):
    """A clock that stands where it is put: what happens meanwhile happens while the event loop does not run."""

    time = 0.0

    def now(self) -> float:
        return self.time


class Listener:
    """A port's frames and taps, as they came."""

    def __init__(self, port: RtpAudio) -> None:
        self.frames: list[Frame] = []
        self.arrived: list[float] = []
        self.left: list[tuple[Frame, float]] = []
        self.digits: list[Digit] = []
        port.listen(self.frames.append)
        port.tap(self)
        port.on_digit = self.digits.append

    def received(self, frame: Frame, at: float) -> None:
        self.arrived.append(at)

    def emitted(self, frame: Frame, at: float) -> None:
        self.left.append((frame, at))

    def sound(self, since: int = 0) -> Samples:
        return np.concatenate([frame.samples for frame in self.frames[since:]])


@asynccontextmanager
async def call(signalling: str | None = None) -> AsyncIterator[tuple[RtpAudio, Listener, RtpPeer, MediaTarget]]:
    """A leg that talks with a peer at the negotiated address; behind a NAT where `signalling` is its outer one."""
    async with ticking() as ticker:
        audio = await RtpAudio.open(
            address="127.0.0.1",
            ports=port_pool(),
            ticker=ticker,
            clock=LoopClock(),
            timeout=TIMEOUT,
            signalling=signalling,
        )
        with RtpPeer() as peer:
            target = MediaTarget(*peer.local, "PCMU", 0, 101)
            audio.configure(target)
            try:
                yield audio, Listener(audio), peer, target
            finally:
                await audio.aclose()


@virtual_time
async def test_tones_cross_in_both_directions() -> None:
    async with call() as (audio, listener, peer, _):
        audio.write(1, tone(1000, 1.0, 24_000))
        audio.finish(1)
        await peer.stream(rtp_stream(tone(440, 1.2)), audio.local, LoopClock())
        assert hears(listener.sound(since=5), 440)
        assert hears(peer.heard()[160:7800], 1000)
        assert await audio.played(1) == Position(1, 1.0)


@virtual_time
async def test_a_packet_leaves_every_20_milliseconds_from_the_first_configure_on() -> None:
    async with call() as (_, listener, peer, _):
        await LoopClock().sleep(1.0)
        packets = peer.packets()
        times = [at for _, at in listener.left]
        assert len(packets) in (50, 51)
        assert np.diff(times) == pytest.approx(0.02)
        assert {(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in pairwise(packets)} == {160}


@virtual_time
async def test_taps_see_as_many_frames_of_either_side_with_the_times_of_the_wire() -> None:
    async with call() as (audio, listener, peer, _):
        await LoopClock().sleep(0.01)  # packets come between two ticks, and arrive with the tick: no time passes here
        begin = LoopClock().now()
        await peer.stream(rtp_stream(tone(440, 1.0)), audio.local, LoopClock())
        assert len(listener.frames) == len(listener.arrived) == len(listener.left)
        assert np.diff(listener.arrived[5:]) == pytest.approx(0.02)
        assert [frame.time for frame, _ in listener.left] == pytest.approx(
            [0.02 * n for n in range(len(listener.left))]
        )
        delays = [begin + 0.02 * n - at for n, at in enumerate(listener.arrived)][10:]
        assert audio.input_delay == pytest.approx(delays[-1], abs=0.021)
        assert 0.0 < audio.input_delay <= 0.03


@virtual_time
async def test_only_the_peer_is_heard_and_answered_whatever_others_send() -> None:
    async with call() as (audio, listener, peer, _):
        with RtpPeer("127.0.0.9") as attacker, RtpPeer() as neighbour:
            for packet, loud in zip(
                rtp_stream(tone(440, 2.0)), rtp_stream(tone(1500, 2.0, level=0.9), ssrc=0xBAD), strict=True
            ):
                peer.send(packet, audio.local)
                attacker.send(loud, audio.local)
                attacker.send(loud._replace(ssrc=packet.ssrc, sequence=packet.sequence), audio.local)
                neighbour.send(loud, audio.local)
                attacker.send(b"\x80\x00garbage", audio.local)
                await LoopClock().sleep(0.02)
            assert hears(listener.sound(since=5), 440)
            assert attacker.datagrams() == neighbour.datagrams() == []
            assert len(peer.packets()) >= 99
            assert audio.statistics.strangers == 400


@virtual_time
async def test_a_peer_behind_a_nat_is_followed_where_its_signalling_comes_from() -> None:
    async with call(signalling="127.0.0.5") as (audio, listener, sdp_address, target):
        with RtpPeer("127.0.0.5") as outside:
            assert target.address != outside.local[0]
            await outside.stream(rtp_stream(tone(440, 2.0)), audio.local, LoopClock())
            sdp_address.datagrams()
            assert hears(listener.sound(since=40), 440)
            assert len(outside.packets()) > 50
            await LoopClock().sleep(0.1)
            assert sdp_address.datagrams() == []


@virtual_time
async def test_keys_cross_in_both_directions() -> None:
    async with call() as (audio, listener, peer, _):
        audio.send_dtmf("12#")
        keys = EventSender(8000)
        keys.queue("98*")
        for packet in rtp_stream(silence(1.0)):
            key = keys.next()
            if key is not None:
                packet = packet._replace(
                    payload_type=101, payload=key.payload, marker=key.marker, timestamp=packet.timestamp - key.offset
                )
            peer.send(packet, audio.local)
            await LoopClock().sleep(0.02)
        assert [digit.digit for digit in listener.digits] == ["9", "8", "*"]
        assert {digit.seconds for digit in listener.digits} == {0.1}
        receiver = EventReceiver(8000)
        understood = [
            digit.digit
            for packet in peer.packets()
            if packet.payload_type == 101
            for digit in receiver.receive(packet.timestamp, TelephoneEvent.parse(packet.payload))
        ]
        assert understood == ["1", "2", "#"]


@virtual_time
async def test_silence_of_the_far_end_times_out_once_per_silence() -> None:
    async with call() as (audio, _, peer, _):
        timeouts: list[float] = []
        audio.on_timeout = timeouts.append
        await peer.stream(rtp_stream(silence(1.0)), audio.local, LoopClock())
        await LoopClock().sleep(TIMEOUT - 0.1)
        assert timeouts == []
        await LoopClock().sleep(2 * TIMEOUT)
        assert timeouts == [pytest.approx(TIMEOUT, abs=0.05)]
        peer.send(next(rtp_stream(silence(0.02))), audio.local)
        await LoopClock().sleep(2 * TIMEOUT)
        assert len(timeouts) == 2


@virtual_time
async def test_hold_is_silent_both_ways_and_never_times_out_and_speech_waits_for_its_end() -> None:
    async with call() as (audio, listener, peer, target):
        timeouts: list[float] = []
        audio.on_timeout = timeouts.append
        audio.write(1, tone(1000, 0.4))
        audio.finish(1)
        audio.configure(replace(target, send=False, receive=False))
        music = list(rtp_stream(tone(440, 3 * TIMEOUT)))
        await peer.stream(music, audio.local, LoopClock())
        assert peer.datagrams() == []
        assert level_db(listener.sound()) == -120
        assert timeouts == []
        assert audio.position == Position(1, 0.0)
        audio.configure(target)
        await LoopClock().sleep(1.0)
        packets = peer.packets()
        assert packets[0].marker
        assert await audio.played(1) == Position(1, 0.4)


@virtual_time
async def test_the_codec_changes_in_mid_call() -> None:
    async with call() as (audio, listener, peer, target):
        audio.write(1, tone(1000, 2.0))
        await peer.stream(rtp_stream(tone(440, 0.5)), audio.local, LoopClock())
        peer.datagrams()
        audio.configure(replace(target, codec="PCMA", payload_type=8))
        since = len(listener.frames)
        stream = rtp_stream(tone(700, 0.6), "PCMA", 8, sequence=1025, timestamp=54_000)
        await peer.stream(stream, audio.local, LoopClock())
        assert hears(listener.sound(since + 8), 700)
        assert hears(peer.heard("PCMA", 8), 1000)


@virtual_time
async def test_a_new_peer_is_answered_at_once_and_the_old_one_not_any_more() -> None:
    async with call() as (audio, listener, peer, target):
        await peer.stream(rtp_stream(tone(440, 0.2)), audio.local, LoopClock())
        with RtpPeer("127.0.0.3") as other:
            audio.configure(replace(target, address=other.local[0], port=other.local[1]))
            peer.datagrams()
            since = len(listener.frames)
            old = rtp_stream(tone(440, 0.5), sequence=1010, timestamp=51_600)
            for packet, stale in zip(rtp_stream(tone(700, 0.5), ssrc=9), old, strict=True):
                other.send(packet, audio.local)
                peer.send(stale, audio.local)
                await LoopClock().sleep(0.02)
            assert hears(listener.sound(since + 8), 700)
            assert len(other.packets()) >= 24
            assert peer.datagrams() == []


@virtual_time
async def test_a_hold_of_old_with_an_unspecified_address_does_not_open_the_port_to_strangers() -> None:
    async with call() as (audio, _, peer, target):
        await peer.stream(rtp_stream(tone(440, 0.2)), audio.local, LoopClock())
        audio.configure(replace(target, address="0.0.0.0", port=0, send=False))
        with RtpPeer("127.0.0.9") as attacker:
            await attacker.stream(rtp_stream(tone(1500, 1.0)), audio.local, LoopClock())
            audio.configure(target)
            await LoopClock().sleep(0.1)
            assert attacker.datagrams() == []
            assert len(peer.packets()) > 4


@virtual_time
async def test_a_listener_that_raises_ends_its_own_media_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with call() as (audio, _, peer, _):
        failures: list[Exception] = []
        audio.on_failure = failures.append

        def broken(frame: Frame) -> None:
            raise ZeroDivisionError("a listener's bug")

        async with ticking() as ticker:
            other = await RtpAudio.open(
                address="127.0.0.1", ports=port_pool(), ticker=ticker, clock=LoopClock(), timeout=TIMEOUT
            )
            other.configure(MediaTarget(*peer.local, "PCMA", 8, None))
            waiting = asyncio.create_task(audio.played(1))
            await LoopClock().sleep(0.1)
            audio.listen(broken)
            await LoopClock().sleep(0.1)
            peer.datagrams()
            await LoopClock().sleep(0.2)
            assert [type(error) for error in failures] == [ZeroDivisionError]
            assert {packet.payload_type for packet in peer.packets()} == {8}, "the other leg goes on"
            assert await waiting == Position(1, 0.0)
            await other.aclose()
    (record,) = [record for record in caplog.records if record.name == "connector.leg.rtp_audio"]
    assert "jitter buffer" in record.getMessage()
    assert record.exc_info is not None


@virtual_time
async def test_playing_is_waited_for_and_told_when_it_is_cut_off() -> None:
    async with call() as (audio, *_):
        audio.write(1, tone(440, 1.0))
        audio.finish(1)
        first = asyncio.create_task(audio.played(1))
        await LoopClock().sleep(0.31)
        heard = audio.clear()
        assert await first == heard
        assert 0.28 <= heard.seconds <= 0.33
        audio.write(2, tone(440, 1.0))
        second = asyncio.create_task(audio.played(2))
        await LoopClock().sleep(0.1)
        audio.write(3, tone(440, 0.1))
        assert (await second).generation == 2
        third = asyncio.create_task(audio.played(3))
        await LoopClock().sleep(0.5)
        assert not third.done(), "it is not finished"
        await audio.aclose()
        assert await third == Position(3, 0.1)
        assert await audio.played(99) == Position(99, 0.0)


@virtual_time
async def test_reports_go_out_and_those_of_the_far_end_are_read() -> None:
    async with call() as (audio, _, peer, _):
        with RtpPeer(port=peer.local[1] + 1) as reports:
            await peer.stream(rtp_stream(silence(8.0)), audio.local, LoopClock())
            sent = rtcp.parse(reports.datagrams()[0])
            assert isinstance(sent[0], rtcp.SenderReport)
            assert sent[0].packets > 40, "the first report comes after one to three seconds"
            assert sent[0].blocks[0].ssrc == 0xCAFE
            block = rtcp.ReportBlock(sent[0].ssrc, 128, 5, 1, 0, rtcp.middle(sent[0].ntp), 0)
            reports.send(rtcp.serialize([rtcp.ReceiverReport(0xCAFE, (block,))]), (audio.local[0], audio.local[1] + 1))
            await LoopClock().sleep(0.02)
            assert audio.statistics.remote_loss == 0.5
            assert audio.statistics.round_trip is not None
            reports.datagrams()
            await audio.aclose()
            assert isinstance(rtcp.parse(reports.datagrams()[-1])[-1], rtcp.Goodbye)


@virtual_time
async def test_statistics_tell_what_the_line_did() -> None:
    async with call() as (audio, _, peer, _):
        packets = [packet for n, packet in enumerate(rtp_stream(tone(440, 2.0))) if n % 10 != 5]
        await peer.stream(packets, audio.local, LoopClock())
        peer.send(RtpPacket(96, 1, 1, 1, b"?"), audio.local)
        await LoopClock().sleep(0.02)
        statistics = audio.statistics
        assert (statistics.received, statistics.lost, statistics.unknown_payload_type) == (90, 10, 1)
        assert statistics.sent == statistics.frames == len(packets) + 2
        assert statistics.concealed >= 9


@virtual_time
async def test_a_taken_port_is_passed_over_and_a_wrong_address_is_named() -> None:
    async with ticking() as ticker:
        clock = LoopClock()
        with RtpPeer() as first:
            even = first.local[1] + first.local[1] % 2
        with RtpPeer(port=even + 1):
            pool = PortPool(even, even + 3)
            audio = await RtpAudio.open(address="127.0.0.1", ports=pool, ticker=ticker, clock=clock, timeout=1)
            assert audio.local == ("127.0.0.1", even + 2)
            with pytest.raises(MediaError, match=f"{even}-{even + 3}"):
                await RtpAudio.open(address="127.0.0.1", ports=pool, ticker=ticker, clock=clock, timeout=1)
            await audio.aclose()
            await audio.aclose()
        with pytest.raises(MediaError, match=r"192\.0\.2\.1:\d+: Cannot assign"):
            await RtpAudio.open(address="192.0.2.1", ports=port_pool(), ticker=ticker, clock=clock, timeout=1)
        with pytest.raises(MediaError, match="example"):
            await RtpAudio.open(address="example.org", ports=port_pool(), ticker=ticker, clock=clock, timeout=1)


@virtual_time
async def test_a_closed_leg_frees_its_ports_for_the_operating_system_at_once() -> None:
    async with call() as (audio, *_):
        address, port = audio.local
        await audio.aclose()
        for number in (port, port + 1):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
                again.bind((address, number))
        with pytest.raises(MediaError, match="ended"):
            audio.configure(MediaTarget("127.0.0.1", 9, "PCMU", 0, None))


@virtual_time
async def test_a_target_that_cannot_be_is_refused_and_the_call_goes_on() -> None:
    async with call() as (audio, _, peer, target):
        with pytest.raises(MediaError, match="pbx"):
            audio.configure(replace(target, address="pbx.example"))
        with pytest.raises(NotAcceptableHere, match="G729"):
            audio.configure(replace(target, codec="G729"))
        await LoopClock().sleep(0.1)
        assert len(peer.packets()) > 3


@virtual_time
async def test_the_leg_prints_its_whole_path() -> None:
    async with call() as (audio, _, peer, _):
        await LoopClock().sleep(0.01)  # packets come between two ticks
        await peer.stream(rtp_stream(tone(440, 0.2)), audio.local, LoopClock())
        host, port = peer.local
        ssrc = peer.packets()[0].ssrc
        assert str(audio) == (
            f"{host}:{port}, negotiated → RTP from 0000cafe → jitter buffer 20 ms → PCMU 8000 Hz → concealment → frames"
            f" | playout of generation 0 → PCMU 8000 Hz → RTP as {ssrc:08x} → {host}:{port}"
        )


@virtual_time
async def test_a_short_stall_of_this_machine_costs_no_audio() -> None:
    clock = HandClock()
    ticker = Ticker(clock)
    audio = await RtpAudio.open(address="127.0.0.1", ports=port_pool(), ticker=ticker, clock=clock, timeout=TIMEOUT)
    with RtpPeer() as peer:
        audio.configure(MediaTarget(*peer.local, "PCMU", 0, None))
        listener = Listener(audio)
        audio.write(1, tone(1000, 2.0))
        packets = list(rtp_stream(tone(440, 2.0)))
        for batch in range(0, 100, 5):  # the loop gets round to its work each 100 ms only
            for number, packet in enumerate(packets[batch : batch + 5], batch):
                peer.send(packet, audio.local)
                ticker.sockets.read(number * 0.02, clock.wall())  # for the time at which the kernel gets it
            clock.time = (batch + 4) * 0.02
            for tick in range(batch, batch + 5):
                ticker.tick(tick * 0.02)
        assert hears(listener.sound(since=12), 440)
        assert audio.statistics.late == audio.statistics.discarded == 0
        sent = peer.packets()
        assert {(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in pairwise(sent)} == {160}
        assert len(sent) == 100
    await audio.aclose()


@virtual_time
async def test_after_a_long_stall_timestamps_tell_the_time_that_passed() -> None:
    ticker = Ticker(LoopClock())
    audio = await RtpAudio.open(
        address="127.0.0.1", ports=port_pool(), ticker=ticker, clock=LoopClock(), timeout=TIMEOUT
    )
    with RtpPeer() as peer:
        audio.configure(MediaTarget(*peer.local, "PCMU", 0, None))
        for due in (0.0, 0.02, 3.0, 3.02):
            ticker.tick(due)
        sent = peer.packets()
        assert [(packet.timestamp - sent[0].timestamp) & 0xFFFFFFFF for packet in sent] == [0, 160, 24_000, 24_160]
        assert [packet.marker for packet in sent] == [True, False, True, False]
        assert {(b.sequence - a.sequence) & 0xFFFF for a, b in pairwise(sent)} == {1}
    await audio.aclose()


@virtual_time
async def test_rtcp_of_strangers_and_garbage_is_counted_and_changes_nothing() -> None:
    async with call() as (audio, _, peer, _):
        control = (audio.local[0], audio.local[1] + 1)
        with RtpPeer("127.0.0.9") as attacker, RtpPeer(port=peer.local[1] + 1) as reports:
            attacker.send(rtcp.serialize([rtcp.Goodbye((0xCAFE,))]), control)
            reports.send(b"\x80\xc8\xff\xff", control)
            await LoopClock().sleep(0.02)
        assert (audio.statistics.strangers, audio.statistics.malformed) == (1, 1)
        peer.datagrams()
        await LoopClock().sleep(0.1)
        assert len(peer.datagrams()) >= 4


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
@virtual_time
async def test_media_runs_over_ipv6() -> None:
    async with ticking() as ticker:
        pool = port_pool()
        try:
            legs = [
                await RtpAudio.open(address="::1", ports=pool, ticker=ticker, clock=LoopClock(), timeout=TIMEOUT)
                for _ in range(2)
            ]
        except MediaError:
            pytest.skip("this machine has no IPv6 loopback")
        for leg, other in (legs, legs[::-1]):
            leg.configure(MediaTarget(*other.local, "PCMU", 0, None))
        listener = Listener(legs[0])
        legs[1].write(1, tone(440, 1.0))
        await LoopClock().sleep(0.9)
        assert hears(listener.sound(since=8), 440)
        for leg in legs:
            await leg.aclose()


# ------------------------------------------------------------------------------------ plain RTP


@virtual_time
async def test_a_plain_leg_answers_whoever_sends_first() -> None:
    async with ticking() as ticker:
        leg = await PlainRtpLeg.open(
            address="127.0.0.1", ports=port_pool(), ticker=ticker, clock=LoopClock(), timeout=TIMEOUT
        )
        events: list[LegEvent] = []

        async def read() -> None:
            events.extend([event async for event in leg.events()])

        reader = asyncio.create_task(read())
        leg.audio.write(1, tone(1000, 1.0))
        await leg.ring()
        await leg.answer()
        await LoopClock().sleep(0.5)
        with RtpPeer() as peer:
            await peer.stream(rtp_stream(tone(440, 1.0)), leg.rtp.local, LoopClock())
            assert hears(peer.heard()[320:7000], 1000), "speech waited for someone who hears it"
            await leg.send_dtmf("1")
            await leg.hold()
            peer.datagrams()
            await LoopClock().sleep(2 * TIMEOUT)
            assert peer.datagrams() == []
            await leg.resume()
            await LoopClock().sleep(TIMEOUT + 0.1)
            assert {packet.payload_type for packet in peer.packets()} == {0, 101}
        with pytest.raises(ProtocolError):
            await leg.transfer("tel:+4912345")
        await leg.hang_up("done")
        await leg.hang_up()
        await reader
        assert events == [
            Established(),
            MediaTimeout(pytest.approx(TIMEOUT, abs=0.05)),
            Terminated(Party.AGENT, "done"),
        ]


@virtual_time
async def test_two_plain_legs_talk_when_one_is_told_of_the_other() -> None:
    async with ticking() as ticker:
        pool = port_pool()
        first = await PlainRtpLeg.open(address="127.0.0.1", ports=pool, ticker=ticker, clock=LoopClock(), timeout=9)
        second = await PlainRtpLeg.open(
            address="127.0.0.1", ports=pool, ticker=ticker, clock=LoopClock(), timeout=9, peer=first.rtp.local
        )
        listeners = Listener(first.rtp), Listener(second.rtp)
        for leg, frequency in ((first, 440), (second, 1000)):
            await leg.answer()
            leg.audio.write(1, Audio(tone(frequency, 2.0).samples, 8000))
        await LoopClock().sleep(1.0)
        assert hears(listeners[0].sound(since=10), 1000)
        assert hears(listeners[1].sound(since=10), 440)
        await first.hang_up()
        await second.reject(486, "Busy Here")
        assert [event async for event in second.events()][-1] == Terminated(Party.AGENT, "Busy Here", 486)


@virtual_time
async def test_a_plain_leg_whose_listener_fails_is_over() -> None:
    async with ticking() as ticker:
        leg = await PlainRtpLeg.open(
            address="127.0.0.1", ports=port_pool(), ticker=ticker, clock=LoopClock(), timeout=TIMEOUT
        )
        leg.audio.listen(lambda frame: frame.missing)  # type: ignore[attr-defined]
        await leg.answer()
        await LoopClock().sleep(0.1)
        events = [event async for event in leg.events()]
        assert isinstance(events[-1], Terminated)
        assert events[-1].by is Party.SYSTEM
        await leg.hang_up()


CODECS = {"PCMU": (0, 8000, 160), "G722": (9, 16_000, 160), "opus": (96, 16_000, 960)}
"""Payload type, rate of the audio, and what a packet adds to the timestamp."""

needs_opus = pytest.mark.skipif(bool(missing()), reason=missing())


def packets_of(codec: str, hertz: float, seconds: float, sequence: int, timestamp: int) -> list[RtpPacket]:
    number, rate, unit = CODECS[codec]
    encoder = make_codec(codec)
    samples = tone(hertz, seconds, rate).samples
    count = rate // 50
    return [
        RtpPacket(
            number, sequence + n, timestamp + n * unit, 0xCAFE, encoder.encode(samples[n * count : (n + 1) * count])
        )
        for n in range(len(samples) // count)
    ]


@pytest.mark.parametrize("first", CODECS)
@pytest.mark.parametrize("second", CODECS)
@needs_opus
@virtual_time
async def test_a_call_changes_between_narrowband_and_wideband_in_mid_sentence(first: str, second: str) -> None:
    """Both ways go on: what is heard is at the new rate, what is said goes on where it was, at its speed."""
    async with call() as (audio, listener, peer, target):
        audio.configure(replace(target, codec=first, payload_type=CODECS[first][0]))
        audio.write(1, tone(700, 2.0, 24_000))
        audio.finish(1)
        await peer.stream(packets_of(first, 440, 1.0, 1000, 50_000), audio.local, LoopClock())
        before = peer.heard(first, CODECS[first][0])
        audio.configure(replace(target, codec=second, payload_type=CODECS[second][0]))
        heard, said = len(listener.frames), len(listener.left)
        await peer.stream(packets_of(second, 550, 1.2, 1050, 98_000), audio.local, LoopClock())
        after = peer.heard(second, CODECS[second][0])
        rates = CODECS[first][1], CODECS[second][1]
        assert {frame.rate for frame in listener.frames[:heard]} >= {rates[0]}
        assert {frame.rate for frame in listener.frames[heard:]} == {rates[1]}
        assert [frame.time for frame in listener.frames] == pytest.approx(
            [0.02 * n for n in range(len(listener.frames))]
        )
        assert {frame.rate for frame, _ in listener.left[said:]} == {rates[1]}
        assert hears(before[rates[0] // 10 : rates[0] * 9 // 10], 700, rates[0])
        assert hears(after[rates[1] // 10 : rates[1] * 9 // 10], 700, rates[1])
        assert hears(listener.sound(since=heard + 12)[: rates[1]], 550, rates[1])
        assert await audio.played(1) == Position(1, 2.0)
        assert audio.statistics.malformed == audio.statistics.unknown_payload_type == 0


@virtual_time
async def test_a_peer_that_changes_to_another_agreed_codec_by_itself_is_heard() -> None:
    """RFC 3264 section 5.1: it may send any format of the agreement at any time."""
    async with call() as (audio, listener, peer, target):
        audio.configure(replace(target, receives={0: "PCMU", 9: "G722"}))
        await peer.stream(packets_of("PCMU", 440, 0.4, 1000, 50_000), audio.local, LoopClock())
        await peer.stream(packets_of("G722", 550, 0.1, 1020, 53_200)[:1], audio.local, LoopClock())
        assert {frame.rate for frame in listener.frames} == {8000}, "one packet alone changes nothing"
        since = len(listener.frames)
        await peer.stream(packets_of("G722", 550, 0.6, 1021, 53_360), audio.local, LoopClock())
        assert {frame.rate for frame in listener.frames[since + 2 :]} == {16_000}
        assert hears(listener.sound(since=since + 10), 550, 16_000)
        assert {packet.payload_type for packet in peer.packets()} == {0}, "what we send stays as it was"


@needs_opus
@virtual_time
async def test_payload_types_that_differ_by_direction() -> None:
    async with call() as (audio, listener, peer, target):
        audio.configure(
            replace(
                target,
                codec="opus",
                payload_type=107,
                telephone_event=98,
                event_rate=8000,
                receives={96: "opus"},
                receives_events=101,
            )
        )
        audio.send_dtmf("5")
        await peer.stream(packets_of("opus", 440, 0.6, 1000, 50_000), audio.local, LoopClock())
        key = TelephoneEvent(9, True, 10, 800).serialize()
        peer.send(RtpPacket(101, 1030, 78_800, 0xCAFE, key, marker=True), audio.local)
        await LoopClock().sleep(0.1)
        assert {packet.payload_type for packet in peer.packets()} == {107, 98}
        assert [(digit.digit, digit.seconds) for digit in listener.digits] == [("9", pytest.approx(0.1))]
        assert hears(listener.sound(since=10)[:6400], 440, 16_000)


@virtual_time
async def test_a_hold_and_its_end_leave_the_encoder_as_it_is() -> None:
    """A decoder that is not told of a new encoder would distort the first words."""
    async with call() as (audio, _, peer, target):
        wideband = replace(target, codec="G722", payload_type=9)
        audio.configure(wideband)
        audio.write(1, tone(440, 3.0))
        await LoopClock().sleep(0.5)
        audio.configure(replace(wideband, receive=False))
        await LoopClock().sleep(0.5)
        audio.configure(wideband)
        await LoopClock().sleep(0.5)
        heard = peer.heard("G722", 9)
        expected = tone(440, 3.0, 16_000).samples[: len(heard)]
        assert np.abs(np.diff(heard[1600:].astype(int))).max() < 1.1 * np.abs(np.diff(expected.astype(int))).max()
