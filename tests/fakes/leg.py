"""A `Leg` without a network: it notes what it is told and reports what the test emits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from connector.errors import VoxtrunkError
from connector.interfaces import AudioPort, CallInfo, Established, LegEvent, Party, SignallingStep, Terminated
from connector.leg.events import LegEvents


class FakeLeg:
    """An incoming call.

    `verbs`: what was done to it, in order, such as `answer` or `reject 404 Not Found`. It is
    acknowledged as soon as it is answered where `acknowledges`, and reports `Terminated` once it is
    hung up or rejected. `refuses_transfer`: what `transfer` raises. `signalling`: its ladder.
    """

    def __init__(
        self,
        audio: AudioPort,
        info: CallInfo | None = None,
        *,
        acknowledges: bool = True,
        refuses_transfer: VoxtrunkError | None = None,
        refuses_answer: BaseException | None = None,
        signalling: Sequence[SignallingStep] = (),
    ) -> None:
        self.verbs: list[str] = []
        self._audio = audio
        self._info = info or CallInfo("call-1@test", "1000", "+4930123456", peer="192.0.2.1:5060")
        self._acknowledges = acknowledges
        self._refuses_transfer = refuses_transfer
        self._refuses_answer = refuses_answer
        self._signalling = signalling
        self._events = LegEvents()

    def emit(self, event: LegEvent) -> None:
        """The far end did this."""
        self._events.emit(event)

    @property
    def info(self) -> CallInfo:
        return self._info

    @property
    def audio(self) -> AudioPort:
        return self._audio

    @property
    def signalling(self) -> Sequence[SignallingStep]:
        return self._signalling

    def events(self) -> AsyncIterator[LegEvent]:
        return self._events.read()

    async def ring(self) -> None:
        self.verbs.append("ring")

    async def answer(self) -> None:
        self.verbs.append("answer")
        if self._refuses_answer is not None:
            raise self._refuses_answer
        if self._acknowledges:
            self.emit(Established())

    async def reject(self, status: int, reason: str, retry_after: int | None = None) -> None:
        self.verbs.append(f"reject {status} {reason}" + ("" if retry_after is None else f" after {retry_after}"))
        self.emit(Terminated(Party.AGENT, reason, status))

    async def hang_up(self, reason: str = "") -> None:
        if not self._events.terminated:
            self.verbs.append(f"hang up: {reason}")
            self.emit(Terminated(Party.AGENT, reason))

    async def hold(self) -> None:
        self.verbs.append("hold")

    async def resume(self) -> None:
        self.verbs.append("resume")

    async def transfer(self, target: str) -> None:
        self.verbs.append(f"transfer {target}")
        if self._refuses_transfer is not None:
            raise self._refuses_transfer

    async def send_dtmf(self, digits: str) -> None:
        self.verbs.append(f"dtmf {digits}")
