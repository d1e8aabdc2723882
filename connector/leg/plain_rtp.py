"""A leg without signalling: plain symmetric RTP, for measuring."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from connector.codec.registry import CODECS
from connector.errors import ProtocolError
from connector.interfaces import (
    AudioPort,
    CallInfo,
    Clock,
    Established,
    LegEvent,
    MediaTimeout,
    Party,
    SignallingStep,
    Terminated,
)
from connector.leg.events import LegEvents
from connector.leg.rtp_audio import MediaTarget, RtpAudio
from connector.udp.ports import PortPool
from connector.udp.ticker import Ticker

PCMU_TYPE = 0
"""Static payload type (RFC 3551 section 6)."""
TELEPHONE_EVENT_TYPE = 101
"""The dynamic one that telephones commonly take."""


class PlainRtpLeg:
    """RTP on a port of ours; the peer is whoever sends the first packet. It is up from `answer` on."""

    def __init__(self, rtp: RtpAudio, target: MediaTarget, called: str) -> None:
        self._target = target
        self._info = CallInfo(call_id=f"rtp-{rtp.local[1]}", called=called, calling="")
        self._events = LegEvents()
        self.rtp = rtp
        """The leg's media; `rtp.local` is where peers send to."""
        rtp.on_digit = self._events.emit
        rtp.on_timeout = self._on_timeout
        rtp.on_failure = self._on_failure

    @classmethod
    async def open(
        cls,
        *,
        address: str,
        ports: PortPool,
        ticker: Ticker,
        clock: Clock,
        timeout: float,  # noqa: ASYNC109 - of the far end's RTP, not of this call
        called: str = "rtp",
        peer: tuple[str, int] | None = None,
        codec: str = "PCMU",
    ) -> PlainRtpLeg:
        """Binds a pair of ports; raises `MediaError`.

        `peer`: send there without waiting for its first packet. `codec`: a name of `connector.codec.registry.CODECS`,
        whose payload type both sides use.
        """
        rtp = await RtpAudio.open(address=address, ports=ports, ticker=ticker, clock=clock, timeout=timeout)
        host, port = peer or ("0.0.0.0", 0)  # noqa: S104 - no address to bind: the unspecified one, for "not known yet"
        payload_type = CODECS[codec].payload_type
        return cls(rtp, MediaTarget(host, port, codec, payload_type, TELEPHONE_EVENT_TYPE, learn=peer is None), called)

    @property
    def info(self) -> CallInfo:
        """Identity of the leg: there is no signalling that could tell more than our port."""
        return self._info

    @property
    def audio(self) -> AudioPort:
        """The leg's audio."""
        return self.rtp

    @property
    def signalling(self) -> Sequence[SignallingStep]:
        """There is none."""
        return ()

    def events(self) -> AsyncIterator[LegEvent]:
        """Events in order; ends after `Terminated`. One reader."""
        return self._events.read()

    async def ring(self) -> None:
        """Nobody hears it."""

    async def answer(self) -> None:
        """Starts the media."""
        self.rtp.configure(self._target)
        self._events.emit(Established())

    async def reject(self, status: int, reason: str, retry_after: int | None = None) -> None:
        """Ends the leg before it began."""
        await self._terminate(Party.AGENT, reason, status)

    async def hang_up(self, reason: str = "") -> None:
        """Ends the media. Idempotent."""
        await self._terminate(Party.AGENT, reason)

    async def hold(self) -> None:
        """Neither sends nor listens until `resume`."""
        self.rtp.configure(replace(self._target, send=False, receive=False))

    async def resume(self) -> None:
        """Sends and listens again."""
        self.rtp.configure(self._target)

    async def transfer(self, target: str) -> None:
        """Raises `ProtocolError`: without signalling there is no transfer."""
        raise ProtocolError("a leg of plain RTP has no signalling that could transfer it")

    async def send_dtmf(self, digits: str) -> None:
        """Sends keys as telephone-events; raises `MediaError` where one is none."""
        self.rtp.send_dtmf(digits)

    async def _terminate(self, by: Party, reason: str, status: int | None = None) -> None:
        self._events.emit(Terminated(by, reason, status))
        await self.rtp.aclose()

    def _on_timeout(self, seconds: float) -> None:
        self._events.emit(MediaTimeout(seconds))

    def _on_failure(self, error: Exception) -> None:
        self._events.emit(Terminated(Party.SYSTEM, f"media failed: {error}"))
