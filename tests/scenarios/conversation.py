"""A whole conversation on fakes: a caller, a cascade, and notes of what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from connector.config.model import Flavor
from connector.host.vad import BatchedVadService
from connector.interfaces import Action, AudioPort, Clock, Digit, PipelineObserver, TurnRecord, VadService
from connector.pipeline.cascade import Cascade, CascadeEngines
from tests.fakes.audio_port import FakeAudioPort
from tests.fakes.clock import LoopClock
from tests.fakes.engines import FakeLanguageModel, FakeSpeechToText, FakeTextToSpeech, FakeVad, Step, ToneBook

FLAVOR = Flavor(name="test", greeting="Hello, how can I help you?", persona="You are helpful.", fillers=())
QUIET = FLAVOR.model_copy(update={"greeting": ""})

FRAME = 0.02
WINDOW = 0.032
"""Seconds of one window of the fake VAD: a decision comes this much late at most."""

MakeCascade = Callable[[Flavor, CascadeEngines, AudioPort, PipelineObserver, Clock], Cascade]


class Notes:
    """Implements `PipelineObserver`: keeps what it is told, with the time."""

    def __init__(self) -> None:
        self.turns: list[TurnRecord] = []
        self.actions: list[tuple[float, Action]] = []
        self._changed = asyncio.Event()

    def turn(self, record: TurnRecord) -> None:
        self.turns.append(record)
        self._changed.set()

    def act(self, action: Action) -> None:
        self.actions.append((asyncio.get_running_loop().time(), action))

    async def wait_for_turns(self, count: int) -> None:
        """Waits until `count` turns are over; fails after a minute."""
        async with asyncio.timeout(60):
            while len(self.turns) < count:
                self._changed.clear()
                await self._changed.wait()


class Conversation:
    """`async with Conversation(answers=...) as talk: await talk.says("...")`.

    `vad`: a service that conversations share; without one, this conversation has its own. `make`:
    the cascade under test, where it is not `Cascade` itself.
    """

    def __init__(
        self,
        flavor: Flavor = QUIET,
        answers: Mapping[str, Sequence[Step]] | None = None,
        *,
        vad: VadService | None = None,
        stt: type[FakeSpeechToText] = FakeSpeechToText,
        llm: FakeLanguageModel | None = None,
        tts: type[FakeTextToSpeech] = FakeTextToSpeech,
        make: MakeCascade = Cascade,
        **turn: Any,
    ) -> None:
        self.flavor = flavor.model_copy(update={"turn": flavor.turn.model_copy(update=turn)})
        self.clock = LoopClock()
        self.port = FakeAudioPort(self.clock)
        self.book = ToneBook()
        self.stt = stt(self.book)
        self.llm = llm or FakeLanguageModel(answers)
        self.tts = tts()
        self.notes = Notes()
        self._own_vad = BatchedVadService(FakeVad())
        engines = CascadeEngines(vad or self._own_vad, self.stt, self.llm, self.tts)
        self.pipeline = make(self.flavor, engines, self.port, self.notes, self.clock)
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.port.__aenter__()
        self._running = asyncio.create_task(self.pipeline.run(), name="pipeline")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.hang_up()
        finally:
            await self.port.__aexit__(kind, error, trace)
            await self._own_vad.aclose()

    async def hang_up(self) -> None:
        """The call ends; a pipeline that ended by itself is a failure."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.wait([running])
            if not running.cancelled():
                running.result()

    async def says(self, phrase: str, seconds: float = 1.0) -> float:
        """The caller says `phrase`; returns the clock time of the end of it."""
        await self.port.caller_says(self.book.speak(phrase, seconds))
        return self.clock.now()

    def presses(self, keys: str) -> None:
        """The caller presses `keys` at once."""
        for key in keys:
            self.pipeline.digit(Digit(key))

    async def asks(self, phrase: str, seconds: float = 1.0) -> TurnRecord:
        """The caller says `phrase` and waits for the turn to be over."""
        count = len(self.notes.turns)
        await self.says(phrase, seconds)
        await self.notes.wait_for_turns(count + 1)
        return self.notes.turns[-1]

    async def until(self, time: float) -> None:
        """Waits until clock time `time`."""
        await self.clock.sleep(max(0.0, time - self.clock.now()))

    async def until_voice(self) -> float:
        """Waits until the agent speaks (a frame of voice less than 40 ms ago); returns the time."""
        async with asyncio.timeout(60):
            while not self.port.voice or self.port.voice[-1][0] < self.clock.now() - 2 * FRAME:
                await self.clock.sleep(FRAME)
        return self.clock.now()

    @property
    def history(self) -> list[tuple[str, str]]:
        """(role, content) of what the model was given last."""
        return [(message.role.value, message.content) for message in self.llm.histories[-1]]
