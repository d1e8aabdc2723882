"""The work of one exchange: what the caller said becomes words, words become a reply, the reply becomes a voice.

Everything here may take long and may be cancelled at any await; what must not be heard yet is held in the exchange.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle, takewhile
from typing import Literal

from connector.audio import FRAME_SECONDS, Audio, Frame
from connector.config.model import EngineChoice, Flavor
from connector.errors import EngineError
from connector.interfaces import (
    Action,
    AudioPort,
    Clock,
    EngineKind,
    HangUp,
    IntentMatched,
    LanguageModel,
    PauseRecording,
    ResumeRecording,
    SendDtmf,
    SpeechToText,
    TextDelta,
    TextToSpeech,
    Transfer,
    TurnDetector,
    TurnRecord,
    VadService,
)
from connector.pipeline.ear import utterance
from connector.pipeline.exchange import Exchange
from connector.pipeline.history import History
from connector.pipeline.meter import Meter
from connector.pipeline.metered import Metering
from connector.pipeline.passages import Passage, PassageReader, passages
from connector.pipeline.sentences import SentenceSplitter, join, split
from connector.pipeline.spoken import spoken
from connector.pipeline.streams import patiently, read

LEAD_SECONDS = 5.0
"""Synthesis runs ahead of the voice by no more than this and one piece: what is interrupted is lost work."""

MARKED = frozenset("|`[]#*_<>")
"""Characters of Markdown."""

ANSWER_SECONDS = 0.5
"""No filler comes so soon after the end of a turn: most answers do."""

FILLED_SECONDS = 3.0
"""So long after a filler the next one is due."""

TAIL_SECONDS = 0.2
"""Silence that a recogniser gets after the last word: it wants to hear that it is over."""


@dataclass(frozen=True, slots=True)
class CascadeEngines:
    """What a cascade runs on; shared by all calls."""

    vad: VadService
    stt: SpeechToText
    llm: LanguageModel
    tts: TextToSpeech
    turn_detector: TurnDetector | None = None
    meters: Mapping[EngineKind, Meter] = field(default_factory=dict)


def pieces_of(text: str) -> list[Passage]:
    """A text that is known from the start, split for speaking."""
    return [Passage(piece, passage.interruptible) for passage in passages(text) for piece in split(passage.text)]


def said(piece: Passage, language: str) -> str:
    """What a synthesiser is given to say `piece`; empty for nothing."""
    return spoken(piece.text, language)


def _together(first: Passage, other: Passage) -> bool:
    """Whether both may be synthesised as one text: what is marked up is said as it stands alone."""
    return first.interruptible is other.interruptible and not MARKED & {*first.text, *other.text}


class Responder:
    """Does the work of a conversation's exchanges. `on_voice` is told when one is about to be heard."""

    def __init__(
        self,
        flavor: Flavor,
        engines: CascadeEngines,
        port: AudioPort,
        clock: Clock,
        history: History,
        *,
        on_voice: Callable[[], None],
        act: Callable[[Action], None],
    ) -> None:
        self._flavor = flavor
        self._engines = engines
        self._metering = Metering(clock, engines.meters)
        self._stt = self._metering.stt(engines.stt)
        self._port = port
        self._clock = clock
        self._history = history
        self._on_voice = on_voice
        self._act = act
        self._fillers = cycle(flavor.fillers)

    # ------------------------------------------------------------------------------ accounts

    @property
    def loaded(self) -> bool:
        """Whether the engines are so busy that work which may be for nothing would cost other callers time."""
        return self._metering.loaded()

    def settled(self, record: TurnRecord, heard_seconds: float) -> TurnRecord:
        """`record` of an exchange that is over, with what its engines did. The caller heard so much of the voice."""
        return self._metering.settle(record, heard_seconds)

    def close(self) -> None:
        """The conversation is over. Idempotent."""
        self._metering.close()

    # ------------------------------------------------------------------------------ recognising

    async def recognise(self, frames: Sequence[Frame]) -> str:
        """The words in `frames`, one or more; "" for none. Raises `EngineError`."""
        audio = utterance(frames, TAIL_SECONDS)
        recognition = self._stt.transcribe(audio, self._engines.llm.phrases)
        transcript = await patiently(recognition, self._name("stt"))
        return transcript.text.strip()

    async def finished(self, detector: TurnDetector, frames: Sequence[Frame]) -> float:
        """The probability, by how `frames` sound, that the caller has finished. Raises `EngineError`."""
        judgement = self._metering.turn_detector(detector).probability(utterance(frames))
        return await patiently(judgement, self._name("turn_detector"))

    # ------------------------------------------------------------------------------ answering

    async def answer(self, exchange: Exchange) -> None:
        """Speaks the model's reply to the exchange's words while it is being produced."""
        pieces: asyncio.Queue[Passage | None] = asyncio.Queue()
        async with asyncio.TaskGroup() as tasks:
            thinking = tasks.create_task(self._think(exchange, pieces))
            waiting: deque[Passage | None] = deque()
            try:
                while (piece := await self._next(exchange, pieces, waiting)) is not None:
                    await self._say(exchange, piece)
            except EngineError as error:
                exchange.fail(error)
                thinking.cancel()

    async def _next(
        self, exchange: Exchange, pieces: asyncio.Queue[Passage | None], waiting: deque[Passage | None]
    ) -> Passage | None:
        """What to say next: a piece, or as many that wait as the audio still to be played leaves time to synthesise."""
        if not waiting:
            waiting.append(await pieces.get())
        await self._keep_pace(exchange)
        while not pieces.empty():
            waiting.append(pieces.get_nowait())
        first = waiting[0]
        if first is None:
            return None
        # Nothing is alike where the first itself is marked up.
        alike = takewhile(lambda piece: piece is not None and _together(first, piece), waiting)
        text, count = join([piece.text for piece in alike if piece is not None] or [first.text], self._lead(exchange))
        for _ in range(count):
            waiting.popleft()
        if count == 1:
            return first
        joined = Passage(text, first.interruptible)
        index = next(index for index, piece in enumerate(exchange.pieces) if piece is first)
        exchange.pieces[index : index + count] = [joined]
        return joined

    async def recite(self, exchange: Exchange, pieces: Sequence[Passage]) -> None:
        """Speaks a text that is known from the start. Raises `EngineError`."""
        for piece in pieces:
            await self._say(exchange, piece)

    async def apologise(self, exchange: Exchange) -> None:
        """Says that something went wrong, if the voice still can."""
        with suppress(EngineError):
            await self.recite(exchange, pieces_of(self._flavor.apology))

    def release(self, exchange: Exchange) -> None:
        """The caller has finished: what was held is heard, and done."""
        exchange.released.set()
        early, exchange.early = exchange.early, []
        for action in early:
            self._act(action)
        held, exchange.held = exchange.held, []
        for audio in held:
            self._emit(exchange, audio)

    async def _think(self, exchange: Exchange, pieces: asyncio.Queue[Passage | None]) -> None:
        """Streams the model's reply, cut into `pieces`; None ends them."""
        reader, cutter = PassageReader(), _Cutter()

        def deliver(completed: Sequence[Passage]) -> None:
            exchange.pieces += completed
            for piece in completed:
                pieces.put_nowait(piece)

        llm = self._metering.llm(self._engines.llm, exchange.generation.number)
        reply = llm.reply(self._history.asking(exchange.input.text))
        try:
            async with aclosing(read(reply, self._name("llm"))) as events:
                async for event in events:
                    match event:
                        case TextDelta(text):
                            exchange.mark("first_token", self._clock.now())
                            for passage in reader.push(text):
                                exchange.reply += passage.text
                                deliver(cutter.push(passage))
                        case IntentMatched(name):
                            exchange.intent = name
                        case PauseRecording():
                            self._act_early(exchange, event)
                        case HangUp() | Transfer() | SendDtmf() | ResumeRecording():
                            exchange.actions.append(event)
            for passage in reader.flush():
                exchange.reply += passage.text
                deliver(cutter.push(passage))
            deliver(cutter.flush())
            exchange.complete = True
        except EngineError as error:
            exchange.fail(error)
        finally:
            pieces.put_nowait(None)

    def _act_early(self, exchange: Exchange, action: Action) -> None:
        """Does what cannot wait for the voice: the caller may speak over the reply, which drops its actions."""
        if exchange.released.is_set():
            self._act(action)
        else:
            exchange.early.append(action)

    @asynccontextmanager
    async def bridging(self, exchange: Exchange) -> AsyncGenerator[None, None]:
        """Meanwhile says that the voice of `exchange` takes a moment, where it does, and again while it does."""
        filling = asyncio.create_task(self._fill(exchange), name="fillers")
        try:
            yield
        finally:
            filling.cancel()
            await asyncio.wait([filling])
        if not filling.cancelled():
            filling.result()

    async def _fill(self, exchange: Exchange) -> None:
        if not self._flavor.fillers:
            return
        await exchange.released.wait()
        released = self._clock.now()
        silent = released if exchange.timing.speech_end is None else exchange.timing.speech_end
        due = max(silent + self._flavor.filler_after, released + ANSWER_SECONDS)
        while True:
            await self._clock.sleep(due - self._clock.now())
            if exchange.answered:
                return
            for piece in pieces_of(next(self._fillers)):
                with suppress(EngineError):  # the reply itself will tell
                    await self._say(exchange, piece, filler=True)
            due = self._clock.now() + self._lead(exchange) + FILLED_SECONDS

    # ------------------------------------------------------------------------------ speaking

    async def _say(self, exchange: Exchange, piece: Passage, *, filler: bool = False) -> None:
        """Has one piece synthesised, and hands it on as it comes; a filler only before the reply.

        Until its first audio is there it has not begun: a filler may still go before it.
        """
        await self._keep_pace(exchange)
        async with aclosing(self._voiced(exchange, piece)) as voice:
            audio = await anext(voice, None)
            async with exchange.speaking:
                if filler:
                    if exchange.answered:
                        return
                    exchange.pieces.insert(exchange.fillers, piece)
                    exchange.fillers += 1
                exchange.script.begin(piece.text, interruptible=piece.interruptible)
                try:
                    while audio is not None:
                        self._write(exchange, audio)
                        audio = await anext(voice, None)
                    exchange.script.end()
                finally:
                    exchange.script.abandon()

    async def _voiced(self, exchange: Exchange, piece: Passage) -> AsyncGenerator[Audio, None]:
        """What the synthesiser makes of `piece`, without empty stretches."""
        text = said(piece, self._flavor.language)
        if not text:
            return
        tts = self._metering.tts(self._engines.tts, exchange.generation.number)
        async with aclosing(read(tts.synthesize(text), self._name("tts"))) as speech:
            async for audio in speech:
                if len(audio.samples):
                    yield audio

    def _write(self, exchange: Exchange, audio: Audio) -> None:
        if not exchange.generation.live:
            return
        audio = exchange.silence.trim(audio)
        if not len(audio.samples):
            return
        exchange.mark("first_audio", self._clock.now())
        exchange.script.add(audio.seconds)
        if exchange.released.is_set():
            self._emit(exchange, audio)
        else:
            exchange.held.append(audio)

    def _emit(self, exchange: Exchange, audio: Audio) -> None:
        self._on_voice()
        self._port.write(exchange.generation.number, audio)

    async def _keep_pace(self, exchange: Exchange) -> None:
        """Waits until the voice has caught up with the synthesis."""
        while (lead := self._lead(exchange)) > LEAD_SECONDS:
            await self._clock.sleep(max(lead - LEAD_SECONDS, FRAME_SECONDS))

    def _lead(self, exchange: Exchange) -> float:
        """Seconds of the voice that are still to be played."""
        position = self._port.position
        played = position.seconds if position.generation == exchange.generation.number else 0.0
        return exchange.script.seconds - played

    def _name(self, kind: Literal["stt", "llm", "tts", "turn_detector"]) -> str:
        """The registered name of the engine that plays the part."""
        choice: EngineChoice | None = getattr(self._flavor, kind)
        return choice.engine if choice is not None else kind


class _Cutter:
    """Cuts a streamed reply into pieces to speak, none of which is both interruptible and not."""

    def __init__(self) -> None:
        self._splitter = SentenceSplitter()
        self._interruptible = True

    def push(self, passage: Passage) -> list[Passage]:
        """Takes in the next passage and returns the pieces that it completes."""
        done = [] if passage.interruptible is self._interruptible else self.flush()
        self._interruptible = passage.interruptible
        return [*done, *(Passage(piece, self._interruptible) for piece in self._splitter.push(passage.text))]

    def flush(self) -> list[Passage]:
        """What is left, whatever it ends in."""
        return [Passage(piece, self._interruptible) for piece in self._splitter.flush()]
