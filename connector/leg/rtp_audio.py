"""An `AudioPort` on a pair of UDP sockets: plugs sockets, latch and the two media paths together."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from connector.audio import FRAME_SECONDS, Audio, Frame, Samples
from connector.codec.registry import make_codec
from connector.errors import MediaError, RtpError
from connector.interfaces import AudioTap, Clock, Digit, Position, TimingSource
from connector.receiver.path import ReceivePath
from connector.record.media import MediaStatistics
from connector.rtp.packet import RtpPacket
from connector.rtp.quality import WINDOW_SECONDS, Quality, Reception, Sample
from connector.rtp.reporter import Reporter
from connector.rtp.rtcp import is_rtcp
from connector.rtp.session import COMFORT_NOISE_TYPE, PayloadKind, RtpSession
from connector.sender.path import SendPath
from connector.udp.latch import Address, Latch
from connector.udp.media import MediaSocket
from connector.udp.ports import PortPool
from connector.udp.ticker import Ticker

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MediaTarget:
    """Where media goes, and how: one side of a finished offer/answer.

    `address`, `port`: the peer's, numeric, from its SDP. An unspecified address ("0.0.0.0") or port 0 names nobody:
    nobody is heard, or the first who sends where `learn` says so. `codec`: name of what we send (see
    `connector.codec.registry`), `payload_type`: its number, `parameters`: the peer's `a=fmtp` of it. `telephone_event`:
    the payload type of DTMF (RFC 4733) that we send, or None, `event_rate`: its clock where it is not the codec's, Hz.
    `send`, `receive`: our direction (RFC 3264 section 6.1); both False is hold. `receives`: codecs by the payload types
    that the peer may send, `receives_events`: that of its DTMF; where they are None they are as what we send.
    `rtcp_port`: where the peer receives RTCP and sends it from, at `address`; `port` itself where RTP and RTCP share it
    (RFC 5761), None for the port above it (RFC 3550 section 11).
    """

    address: str
    port: int
    codec: str
    payload_type: int
    telephone_event: int | None
    send: bool = True
    receive: bool = True
    learn: bool = False
    parameters: str = ""
    event_rate: int | None = None
    receives: Mapping[int, str] | None = None
    receives_events: int | None = None
    rtcp_port: int | None = None

    @property
    def rtcp_mux(self) -> bool:
        """Whether RTP and RTCP share a port, on both sides."""
        return self.rtcp_port is not None and self.rtcp_port == self.port


UNCONFIGURED = MediaTarget("0.0.0.0", 0, "PCMU", 0, None, send=False, receive=False)  # noqa: S104 - nothing is bound
"""Before `configure`; speech can be written already."""


class RtpAudio:
    """RTP of one call leg: each tick delivers one frame and sends one packet.

    Taps get one frame of each direction per tick, so that both stay in step; silence stands for what was not
    sent or not heard on hold. Callbacks are all called within the tick. One that raises ends this leg's
    media: the error is logged with the media path, `on_failure` is told, other legs do not notice.
    """

    # Fifty times a second for each call: CPython shares the keys of 30 attributes at most, above that each object pays.
    __slots__ = (
        "_clock",
        "_codecs",
        "_digits",
        "_emitted_frames",
        "_ended",
        "_heard_type",
        "_last_tick",
        "_latch",
        "_listener",
        "_local",
        "_malformed",
        "_other_codec",
        "_quality",
        "_quiet_since",
        "_receiver",
        "_receives",
        "_release",
        "_reporter",
        "_rtcp",
        "_rtcp_mux",
        "_rtp",
        "_sender",
        "_session",
        "_signalling",
        "_spoken",
        "_stop",
        "_strangers",
        "_taps",
        "_target",
        "_ticker",
        "_timed_out",
        "_timeout",
        "_waiting",
        "_window_end",
        "heard",
        "on_digit",
        "on_failure",
        "on_timeout",
    )

    def __init__(
        self, address: str, port: int, ticker: Ticker, clock: Clock, timeout: float, signalling: str | None
    ) -> None:
        """Binds `port` and the next; raises `OSError` where one cannot be had. Use `open`."""
        self.on_digit: Callable[[Digit], None] | None = None
        """A DTMF key of the far end, once per press."""
        self.on_timeout: Callable[[float], None] | None = None
        """No RTP for this many seconds since the last or since `configure`, while not on hold; once per silence."""
        self.on_failure: Callable[[Exception], None] | None = None
        """A listener, tap or callback raised: the media has stopped and the leg should end."""
        self.heard = clock.now()
        """Clock time of the far end's last RTP or RTCP; of the beginning before the first."""

        self._clock = clock
        self._ticker = ticker
        self._timeout = timeout
        self._rtp = MediaSocket(address, port, ticker.sockets, self._take_rtp)
        try:
            self._rtcp = MediaSocket(address, port + 1, ticker.sockets, self._take_rtcp)
        except OSError:
            self._rtp.close()
            raise
        self._local = self._rtp.local
        self._release: Callable[[float], None] | None = None
        self._stop: Callable[[], None] | None = None
        self._ended = False

        self._target = UNCONFIGURED
        self._signalling = signalling
        self._latch = Latch(None, clock.now())
        codec = self._target.codec
        self._session = RtpSession(make_codec(codec).clock_rate, {})
        self._receiver = ReceivePath(self._session, make_codec(codec))
        self._sender = SendPath(self._session, make_codec(codec), 0, None)
        self._reporter = Reporter(
            self._session, self._sender.packetizer, f"voxtrunk@{address}", self._receiver.codec.clock_rate
        )
        self._rtcp_mux = False
        self._quality = Quality()
        self._window_end = 0.0
        self._codecs: list[str] = []
        self._receives: Mapping[int, str] = {}
        self._heard_type: int | None = None
        self._other_codec: str | None = None

        self._listener: Callable[[Frame], None] | None = None
        self._taps: list[AudioTap] = []
        self._digits: list[Digit] = []
        self._waiting: dict[int, list[asyncio.Future[Position]]] = {}
        self._strangers = 0
        self._malformed = 0
        self._emitted_frames = 0
        self._spoken: Samples | None = None
        self._last_tick: float | None = None
        self._quiet_since = 0.0
        self._timed_out = False

    @classmethod
    async def open(
        cls,
        *,
        address: str,
        ports: PortPool,
        ticker: Ticker,
        clock: Clock,
        timeout: float,  # noqa: ASYNC109 - of the far end's RTP, not of this call
        signalling: str | None = None,
    ) -> RtpAudio:
        """Binds a pair of ports; raises `MediaError` naming address, port and cause.

        `timeout`: seconds without RTP after which `on_timeout` is called. `signalling`: where the peer may be behind
        a NAT, the address that its signalling comes from (see `Latch`).
        """
        _numeric(address)
        now = clock.now()
        taken: OSError | None = None
        refused: list[int] = []
        try:
            while len(refused) < ports.size:
                try:
                    port = ports.acquire(now)
                except MediaError as error:
                    raise error from taken
                try:
                    audio = cls(address, port, ticker, clock, timeout, signalling)
                except OSError as error:
                    refused.append(port)
                    if error.errno != errno.EADDRINUSE:
                        raise MediaError(f"cannot bind RTP to {address}:{port}: {error.strerror}") from error
                    taken = error  # by another program; another pair may be free
                    continue
                audio._release = partial(ports.release, port)
                return audio
        finally:
            for port in refused:
                ports.release(port, now)
        raise MediaError(f"cannot bind RTP to {address}: every port of {ports} is taken by other programs") from taken

    def __str__(self) -> str:
        """The whole media path, for the log."""
        return f"{self._latch} → {self._receiver} | {self._sender} → {_text(self._latch.destination)}"

    @property
    def local(self) -> Address:
        """Address and RTP port that we listen on."""
        return self._local

    def configure(self, target: MediaTarget) -> None:
        """Starts the media, or changes peer, codec or direction in mid-call.

        Raises `MediaError` where the target's address is not numeric or the port was closed, and
        `NotAcceptableHere` for an unknown codec; nothing is changed then.
        """
        if self._ended:
            raise MediaError("the media of this leg has ended")
        address = _numeric(target.address)
        previous = self._target
        codec = self._sender.codec
        if (target.codec, target.parameters) != (previous.codec, previous.parameters):
            codec = make_codec(target.codec, target.parameters)
        receives = target.receives or {target.payload_type: target.codec}
        heard = self._receiver.codec
        if heard.name not in receives.values():
            heard = make_codec(target.codec)
        now = self._clock.now()
        self._target = target
        known = not address.is_unspecified and target.port != 0
        # An unspecified address in mid-call is a hold of old (RFC 3264 section 8.4), not a new peer.
        if known and (previous.address, previous.port) != (target.address, target.port):
            self._latch = Latch((str(address), target.port), now, signalling=self._signalling)
        elif target.learn and not previous.learn:
            self._latch = Latch(None, now, learn=True)
        event = target.telephone_event if target.receives_events is None else target.receives_events
        self._receives = receives
        self._heard_type = None
        payloads = {COMFORT_NOISE_TYPE: PayloadKind.COMFORT_NOISE, **dict.fromkeys(receives, PayloadKind.AUDIO)}
        if event is not None:
            payloads[event] = PayloadKind.EVENT
        self._session.payloads = payloads
        self._sender.configure(codec, target.payload_type, target.telephone_event, target.event_rate)
        if heard is not self._receiver.codec:
            self._receiver.codec = heard
        self._receiver.event_rate = target.event_rate
        self._rtcp_mux = target.rtcp_mux
        self._reporter.clock_rate = codec.clock_rate
        if codec.name not in self._codecs:
            self._codecs.append(codec.name)
        self._quiet_since, self._timed_out = now, False
        if self._stop is None:
            self._reporter.start(now)
            self._window_end = now + WINDOW_SECONDS
            self._stop = self._start()

    def _start(self) -> Callable[[], None]:
        """Begins to speak and to hear; the returned function ends both."""
        removers = (
            self._ticker.add(self._speak, self._fail, first=True),
            self._ticker.add(self._hear, self._fail),
        )

        def stop() -> None:
            for remove in removers:
                remove()

        return stop

    def send_dtmf(self, digits: str) -> None:
        """Queues keys (0-9 * # A-D) as telephone-events, 100 ms each.

        Raises `MediaError` for other characters, or where the peer has not agreed to telephone-events.
        """
        self._sender.send_dtmf(digits)

    @property
    def statistics(self) -> MediaStatistics:
        """As of now."""
        reporter, sample = self._reporter, self._sample()
        quality = self._quality.plus(sample)
        expected = sample.heard.expected
        return MediaStatistics.model_validate(
            {
                **self.counters,
                "codecs": list(self._codecs),
                "loss": self._lost / expected if expected else None,
                "jitter": sample.jitter,
                "jitter_mean": quality.jitter.mean,
                "jitter_max": quality.jitter.maximum,
                "input_delay": sample.buffer_delay,
                "input_delay_mean": quality.buffer_delay.mean,
                "round_trip": sample.round_trip,
                "round_trip_mean": quality.round_trip.mean,
                "round_trip_max": quality.round_trip.maximum,
                "mos": quality.heard.mos,
                "mos_worst": quality.heard.worst,
                "remote_lost": None if reporter.remote is None else reporter.remote.lost,
                "remote_loss": reporter.remote_loss,
                "remote_jitter": reporter.remote_jitter,
                "remote_mos": quality.reported.mos,
                "remote_mos_worst": quality.reported.worst,
            }
        )

    @property
    def counters(self) -> Mapping[str, int]:
        """Those of `statistics` by their names, at a fraction of its cost."""
        session, buffer, counts = self._session, self._receiver.jitter_buffer, self._receiver.counts
        return {
            "received": session.received,
            "lost": self._lost,
            "late": buffer.late,
            "duplicate": buffer.duplicates,
            "discarded": buffer.discarded,
            "missed": buffer.missed,
            "bursts": buffer.bursts,
            "strangers": self._strangers,
            "malformed": self._malformed,
            "unknown_payload_type": session.unknown,
            "streams": session.streams,
            "sent": self._sender.packetizer.packets,
            "unsent": self._rtp.unsent,
            "frames": counts.frames,
            "concealed": counts.concealed,
            "silent": counts.silent,
            "adjusted": counts.adjusted,
        }

    @property
    def opinions(self) -> tuple[float | None, float | None]:
        """MOS of what we hear and of what the far end hears, up to the latest window; None where there is none."""
        return self._quality.heard.mos, self._quality.reported.mos

    @property
    def _lost(self) -> int:
        """Packets that did not come; a duplicate makes up for none."""
        return max(0, self._session.lost + self._receiver.jitter_buffer.duplicates)

    def _sample(self) -> Sample:
        """What the call is judged by."""
        session, buffer, reporter = self._session, self._receiver.jitter_buffer, self._reporter
        return Sample(
            self._target.codec,
            Reception(session.received + session.lost, buffer.missed, buffer.bursts),
            None if reporter.remote is None else Reception(reporter.remote_expected, reporter.remote.lost),
            session.statistics.jitter_seconds,
            self._receiver.delay,
            reporter.round_trip,
        )

    async def aclose(self) -> None:
        """Ends the media, frees the ports, releases all who wait in `played`. Idempotent."""
        if self._rtp.closed:
            return
        self._end()
        if self._stop is not None:
            self._send_control(self._reporter.goodbye(self._clock.now(), self._clock.wall()))
        self._rtp.close()
        self._rtcp.close()
        if self._release is not None:
            self._release(self._clock.now())

    # ---------------------------------------------------------------------------- AudioPort

    @property
    def timing(self) -> TimingSource:
        """What positions and delays rest on: the packets themselves."""
        return TimingSource.WIRE

    @property
    def input_delay(self) -> float:
        """Seconds between a packet's arrival and its frame's delivery to the listener, smoothed."""
        return self._receiver.delay

    @property
    def output_delay(self) -> float:
        """0: emission is the wire."""
        return 0.0

    def listen(self, on_frame: Callable[[Frame], None]) -> None:
        """Delivers a frame per tick to `on_frame`, which replaces an earlier one; silence until RTP comes."""
        self._listener = on_frame

    def tap(self, tap: AudioTap) -> None:
        """Adds a tap for the life of the port."""
        self._taps.append(tap)

    def write(self, generation: int, audio: Audio) -> None:
        """Appends speech of any rate to the playout of `generation`; stale speech is dropped."""
        self._sender.playout.write(generation, audio)
        self._settle()

    def finish(self, generation: int) -> None:
        """Says that `generation` is complete."""
        self._sender.playout.finish(generation)
        self._settle()

    def pause(self) -> None:
        """Emits silence until `resume` (or `clear`, which ends a pause too)."""
        self._sender.playout.pause()

    def resume(self, back: float = 0.0) -> None:
        """Goes on where `pause` stopped, or at most `back` seconds earlier, where a word begins."""
        self._sender.playout.resume(back)

    def clear(self) -> Position:
        """Drops what has not been emitted and makes the current generation stale; returns what was heard of it."""
        position = self._sender.playout.clear()
        self._settle()
        return position

    @property
    def position(self) -> Position:
        """The current generation and how much of it has been emitted."""
        return self._sender.playout.position

    async def played(self, generation: int) -> Position:
        """Waits until a finished `generation` was emitted whole, was cleared or superseded, or the media ended."""
        over = self._sender.playout.over(generation)
        if over is not None or self._ended:
            return over or self._heard_of(generation)
        waiter: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(generation, []).append(waiter)
        return await waiter

    # ---------------------------------------------------------------------------- packets

    def _take_rtp(self, data: bytes, source: Address, arrival: float) -> None:
        if self._stop is None or self._ended:
            return
        latch = self._latch
        known = source == latch.source
        if not known and latch.excludes(source):
            self._strangers += 1
            return
        if self._rtcp_mux and is_rtcp(data):
            if source == self._latch.destination:
                self._take_control(data, arrival)
            else:
                self._strangers += 1
            return
        try:
            packet = RtpPacket.parse(data)
            if packet.payload_type not in self._session.payloads:
                self._session.unknown += 1
                return
            if not known and not latch.accepts(source, packet, arrival):
                self._strangers += 1
                return
            self._alive(arrival)
            if packet.payload_type != self._heard_type and not self._follows(packet.payload_type):
                return
            digits = self._receiver.push(packet, arrival)
            if digits:
                self._digits += digits
        except RtpError:
            self._malformed += 1

    def _take_rtcp(self, data: bytes, source: Address, arrival: float) -> None:
        if not self._latch.accepts_control(source, self._target.rtcp_port):
            self._strangers += 1
            return
        self._take_control(data, arrival)

    def _take_control(self, data: bytes, arrival: float) -> None:
        try:
            self._reporter.receive(data, arrival)
        except RtpError:
            self._malformed += 1
            return
        self._alive(arrival)

    def _follows(self, payload_type: int) -> bool:
        """Takes up another codec of those agreed on at its second packet: one alone may have been overtaken."""
        codec = self._receives.get(payload_type)
        if codec is None:  # no audio
            return True
        if codec == self._receiver.codec.name:
            self._heard_type = payload_type
            return True
        if self._other_codec != codec:
            self._other_codec = codec
            return False
        self._other_codec = None
        self._receiver.codec = make_codec(codec)
        self._heard_type = payload_type
        return True

    def _alive(self, arrival: float) -> None:
        self.heard = self._quiet_since = arrival
        self._timed_out = False

    # ---------------------------------------------------------------------------- ticks

    def _speak(self, due: float) -> None:
        """A packet out. All legs do this first, so that no leg's packets wait for what others hear."""
        self._skip_missed(due)
        self._emit(self._target)

    def _hear(self, due: float) -> None:
        """A frame in, of what was read since the last."""
        now = self._clock.now()
        target = self._target
        if self._spoken is not None:
            self._tap_emitted(self._spoken)
        self._deliver(target, now)
        if not self._ended:  # by the listener, a tap or a digit
            self._watch(target, now)

    def _deliver(self, target: MediaTarget, now: float) -> None:
        frame, at = self._receiver.pull(now)
        if not target.receive:
            frame = frame._replace(samples=np.zeros_like(frame.samples), concealed=True)
        digits = self._receiver.tick()
        if digits:
            self._digits += digits
        for tap in self._taps:
            tap.received(frame, at)
        if self._listener is not None:
            self._listener(frame)
        if self._digits:
            digits, self._digits = self._digits, []
            for digit in digits:
                if self.on_digit is not None:
                    self.on_digit(digit)

    def _skip_missed(self, due: float) -> None:
        """Lets our timestamps pass over ticks that were never run."""
        since, self._last_tick = self._last_tick, due
        if since is not None and due - since > 1.5 * FRAME_SECONDS:
            self._sender.skip(round((due - since) / FRAME_SECONDS) - 1)

    def _emit(self, target: MediaTarget) -> None:
        destination = self._latch.destination
        if target.send and destination is not None:
            packet, self._spoken = self._sender.pull()
            self._rtp.post(packet, destination)
            if self._waiting:
                self._settle()
        else:
            self._sender.skip(1)
            self._spoken = self._sender.silence

    def _tap_emitted(self, samples: Samples) -> None:
        frame = Frame(samples, self._sender.rate, self._emitted_frames * FRAME_SECONDS)
        self._emitted_frames += 1
        self._spoken = None
        at = self._ticker.sent_at
        for tap in self._taps:
            tap.emitted(frame, at)

    def _watch(self, target: MediaTarget, now: float) -> None:
        """What happens seldom: reports, windows of quality, and the far end's silence."""
        if now >= self._reporter.due:
            self._report(now)
        if now >= self._window_end:
            self._window_end = now + WINDOW_SECONDS
            self._quality = self._quality.plus(self._sample())
        if target.send and target.receive and not self._timed_out and now - self._quiet_since >= self._timeout:
            self._timed_out = True
            if self._strangers and self._latch.source is None:
                log.warning(
                    "nothing came from the address of the peer's SDP, but from elsewhere: "
                    "a peer behind a NAT is heard with media.nat"
                )
            if self.on_timeout is not None:
                self.on_timeout(now - self._quiet_since)

    def _report(self, now: float) -> None:
        self._send_control(self._reporter.expire(now, self._clock.wall()))

    def _send_control(self, packet: bytes | None) -> None:
        """Sends RTCP, if there is some, to where the peer's comes from."""
        destination, target = self._latch.destination, self._target
        if packet is None or destination is None:
            return
        if target.rtcp_mux:
            self._rtp.send(packet, destination)
        else:
            port = destination[1] + 1 if target.rtcp_port is None else target.rtcp_port
            self._rtcp.send(packet, (destination[0], port))

    # ---------------------------------------------------------------------------- ends

    def _settle(self) -> None:
        """Wakes those who wait for generations that are over."""
        for generation in [g for g in self._waiting if self._sender.playout.over(g) is not None]:
            self._wake(generation)

    def _wake(self, generation: int) -> None:
        position = self._sender.playout.over(generation) or self._heard_of(generation)
        for waiter in self._waiting.pop(generation):
            if not waiter.done():
                waiter.set_result(position)

    def _heard_of(self, generation: int) -> Position:
        """What was emitted of a generation that is not over."""
        position = self._sender.playout.position
        return position if position.generation == generation else Position(generation, 0.0)

    def _end(self) -> None:
        self._ended = True
        if self._stop is not None:
            self._stop()
        for generation in list(self._waiting):
            self._wake(generation)

    def _fail(self, error: Exception) -> None:
        log.error("media failed: %s", self, exc_info=error)
        self._end()
        if self.on_failure is not None:
            # By the event loop, so that an error in there is no other leg's.
            asyncio.get_running_loop().call_soon(self.on_failure, error)


def _numeric(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Resolving a name would block the event loop, so media addresses must be numbers."""
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        raise MediaError(f"{address!r} is not a numeric address, which media needs") from None


def _text(address: Address | None) -> str:
    return "nobody yet" if address is None else f"{address[0]}:{address[1]}"
