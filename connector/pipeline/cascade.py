"""The cascade: speech to text, text to reply, reply to speech, sentence by sentence.

What happens on the event loop per frame is bookkeeping (`_on_frame`, `_on_probability`). The work of
a turn is one task with a child for the language model; an interruption cancels both, and the
generation's number makes stale whatever an engine still delivers.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from connector.audio import FRAME_SECONDS, Audio, Frame
from connector.config.model import EngineChoice, Flavor
from connector.errors import EngineError
from connector.interfaces import (
    AudioPort,
    Clock,
    Digit,
    HangUp,
    IntentMatched,
    LanguageModel,
    PauseRecording,
    PipelineObserver,
    ResumeRecording,
    SendDtmf,
    SpeechToText,
    TextDelta,
    TextToSpeech,
    Transfer,
    VadService,
)
from connector.pipeline.ear import Ear, utterance
from connector.pipeline.exchange import Exchange, Input
from connector.pipeline.generation import Generations
from connector.pipeline.history import History
from connector.pipeline.sentences import SentenceSplitter, fold, split
from connector.pipeline.streams import patiently, read
from connector.turn.barge_in import gives_way, speech_needed
from connector.turn.endpointing import Endpointing, SpeechEnded, SpeechStarted
from connector.turn.keypad import Keypad
from connector.turn.state import Turn, TurnEvent, TurnMachine

LEAD_SECONDS = 5.0
"""Synthesis runs ahead of the voice by no more than this and one piece: what is interrupted is lost work."""

TAIL_SECONDS = 0.2
"""Audio after the end of speech that goes to the recogniser with it: final consonants are quiet."""


@dataclass(frozen=True, slots=True)
class CascadeEngines:
    """What a cascade runs on; shared by all calls."""

    vad: VadService
    stt: SpeechToText
    llm: LanguageModel
    tts: TextToSpeech


class Cascade:
    """One conversation of `flavor` on `port`; a `Pipeline`.

    An engine that fails costs the turn and not the call: the caller hears the flavor's apology, the
    turn's record names the error. Any other exception is a defect and ends `run`.
    """

    def __init__(
        self, flavor: Flavor, engines: CascadeEngines, port: AudioPort, observer: PipelineObserver, clock: Clock
    ) -> None:
        self._flavor = flavor
        self._engines = engines
        self._port = port
        self._observer = observer
        self._clock = clock
        turn = flavor.turn
        keep = turn.preroll + max(turn.start_seconds, turn.barge_in_seconds)
        self._ear = Ear(port, engines.vad, clock, keep, self._on_probability)
        self._machine = TurnMachine()
        self._endpointing = Endpointing(turn)
        self._keypad = Keypad()
        self._history = History(flavor.persona)
        self._generations = Generations()
        self._due: asyncio.Queue[Exchange] = asyncio.Queue()
        self._exchange: Exchange | None = None
        self._unanswered = Input()
        self._cut_short: Exchange | None = None
        self._announcements: deque[str] = deque()
        self._quiet = 0.0
        self._held = False
        self._giving_way = False
        self._running = False

    # ------------------------------------------------------------------------------ the pipeline's verbs

    async def run(self) -> None:
        """Talks until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._running = True
            if not self._held:
                self._ear.open()
            self._port.listen(self._on_frame)
            if self._flavor.greeting and self._machine.turn is Turn.LISTENING:
                self._say_unasked(self._flavor.greeting)
            try:
                while True:
                    exchange = await self._due.get()
                    if exchange.generation.live:
                        exchange.task = tasks.create_task(self._converse(exchange))
            finally:
                self._running = False
                self._ear.close()
                self._leave()

    def digit(self, digit: Digit) -> None:
        """Takes a key in: it silences the agent at once, and the entry it is part of becomes a user message."""
        self._take_back()
        self._machine.apply(TurnEvent.KEY_PRESSED)
        entry = self._keypad.press(digit.digit)
        if entry is None:
            return
        if self._machine.turn is Turn.CALLER_SPEAKING:
            self._unanswered.words.append(entry)
        else:
            self._keys_entered(entry)

    def hold(self, held: bool) -> None:
        """Suspends the conversation, or goes on with it where it stopped.

        What the caller had said before the hold is answered after it.
        """
        if held == self._held:
            return
        self._held = held
        self._giving_way = False
        if held:
            self._port.pause()
            if self._machine.turn is Turn.CALLER_SPEAKING:
                self._caller_finished(self._endpointing.finish(self._ear.now))
            self._ear.close()
            self._endpointing.reset()
        else:
            self._quiet = 0.0
            self._port.resume()
            if self._running:
                self._ear.open()

    def say(self, text: str) -> None:
        """Speaks `text` as a turn of its own, as soon as nobody else speaks."""
        self._announcements.append(text)

    # ------------------------------------------------------------------------------ what the caller does

    def _on_frame(self, frame: Frame) -> None:
        if self._held or not self._running:
            return
        self._ear.hear(frame)
        if self._machine.turn is Turn.LISTENING:
            self._wait(frame.end - frame.time)
        else:
            self._quiet = 0.0

    def _wait(self, seconds: float) -> None:
        """Lets `seconds` of audio pass in which nobody has the turn."""
        if self._keypad.pending:
            entry = self._keypad.wait(seconds)
            if entry is not None:
                self._keys_entered(entry)
        elif self._endpointing.hears_speech:
            return
        elif self._announcements:
            self._say_unasked(self._announcements.popleft())
        else:
            self._quiet += seconds
            if self._flavor.reprompt and self._quiet >= self._flavor.reprompt_seconds:
                self._say_unasked(self._flavor.reprompt)

    def _on_probability(self, end: float, seconds: float, probability: float) -> None:
        needed = speech_needed(self._machine.turn, self._flavor.turn)
        match self._endpointing.feed(end, seconds, probability, needed):
            case SpeechStarted() as started:
                self._caller_started(started)
            case SpeechEnded() as ended:
                self._caller_finished(ended)
        self._give_way()

    def _give_way(self) -> None:
        """Keeps the voice silent while the caller may be taking the turn, and lets it go on where that was nothing."""
        before = self._giving_way
        self._giving_way = gives_way(self._machine.turn, self._flavor.turn, self._endpointing.voiced, giving_way=before)
        if self._giving_way and not before:
            self._port.pause()
        elif before and not self._giving_way:
            self._port.resume()

    def _caller_started(self, started: SpeechStarted) -> None:
        self._take_back()
        self._machine.apply(TurnEvent.CALLER_STARTED)
        self._ear.begin(started.onset - self._flavor.turn.preroll)

    def _caller_finished(self, ended: SpeechEnded) -> None:
        self._machine.apply(TurnEvent.CALLER_FINISHED)
        exchange = self._begin()
        exchange.input = self._unanswered
        exchange.input.frames += self._ear.take(ended.at if ended.cut else ended.end + TAIL_SECONDS)
        if self._keypad.pending:
            exchange.input.words.append(self._keypad.take())
        self._unanswered = Input()
        exchange.mark("speech_end", self._ear.wire_time(ended.end))
        exchange.mark("decided", self._clock.now())

    def _keys_entered(self, entry: str) -> None:
        self._machine.apply(TurnEvent.KEYS_ENTERED)
        exchange = self._begin()
        exchange.input = self._unanswered
        exchange.input.words.append(entry)
        self._unanswered = Input()
        exchange.mark("decided", self._clock.now())

    # ------------------------------------------------------------------------------ exchanges begin and end

    def _begin(self) -> Exchange:
        self._exchange = Exchange(self._generations.begin())
        self._due.put_nowait(self._exchange)
        return self._exchange

    def _say_unasked(self, text: str) -> Exchange:
        """The agent speaks without having been asked."""
        self._machine.apply(TurnEvent.PROMPT_DUE)
        self._quiet = 0.0
        exchange = self._begin()
        exchange.prompt = exchange.complete = True
        exchange.reply = text
        exchange.pieces = split(text)
        exchange.mark("decided", self._clock.now())
        return exchange

    def _take_back(self) -> None:
        """The caller goes on: stops the exchange in hand, if any.

        Of a voice that was heard the record says how far. An answer of which nothing was played is no
        turn at all: what it would have answered is answered together with what comes now.
        """
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        exchange.cancel()
        heard = self._silence(exchange) if self._machine.turn is Turn.SPEAKING else 0.0
        if heard or exchange.prompt:
            self._cut_short = exchange
            self._record(exchange, heard, interrupted=True)
        else:
            self._unanswered = exchange.input

    def _silence(self, exchange: Exchange) -> float:
        """Stops the voice; returns the seconds of `exchange` that were heard."""
        position = self._port.clear()
        if self._held:
            self._port.pause()  # clearing may have ended the pause
        return position.seconds if position.generation == exchange.generation.number else 0.0

    def _record(self, exchange: Exchange, heard_seconds: float, *, interrupted: bool) -> None:
        spoken = exchange.script.heard(heard_seconds)
        exchange.rest = exchange.pieces[exchange.script.heard_whole(heard_seconds) :]
        self._history.add(exchange.input.text, spoken, cut=interrupted and spoken != fold(exchange.reply))
        self._observer.turn(exchange.record(spoken, interrupted=interrupted))

    def _nothing_heard(self, exchange: Exchange) -> None:
        """There were no words in what was taken for speech.

        A voice that a noise had stopped goes on with the sentence it was stopped in.
        """
        self._exchange = None
        self._machine.apply(TurnEvent.NOTHING_HEARD)
        stopped, self._cut_short = self._cut_short, None
        if stopped is not None and stopped.complete and stopped.rest:
            resumed = self._say_unasked(" ".join(stopped.rest))
            resumed.actions = stopped.actions

    def _over(self, exchange: Exchange, heard_seconds: float) -> None:
        """The voice was heard to its end or to that of the media, or there was nothing to say."""
        self._exchange = None
        self._machine.apply(TurnEvent.REPLY_OVER)
        if not self._flavor.turn.barge_in:
            self._endpointing.reset()
        self._record(exchange, heard_seconds, interrupted=False)
        for action in exchange.actions:
            self._observer.act(action)

    def _leave(self) -> None:
        """The conversation is at its end, whatever was in hand."""
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        exchange.cancel()
        heard = self._silence(exchange) if self._machine.turn is Turn.SPEAKING else 0.0
        if exchange.input.text or exchange.reply:
            self._record(exchange, heard, interrupted=False)

    # ------------------------------------------------------------------------------ the work of one exchange

    async def _converse(self, exchange: Exchange) -> None:
        try:
            if exchange.prompt:
                await self._recite(exchange, exchange.pieces)
            else:
                await self._transcribe(exchange)
                if not exchange.generation.live:
                    return
                if not exchange.input.words:
                    self._nothing_heard(exchange)
                    return
                self._cut_short = None
                await self._reply(exchange)
        except EngineError as error:
            exchange.fail(error)
        if exchange.error is not None:
            await self._apologise(exchange)
        heard = math.inf
        if exchange.timing.first_audio is not None:
            self._port.finish(exchange.generation.number)
            heard = (await self._port.played(exchange.generation.number)).seconds
        if exchange.generation.live:
            self._over(exchange, heard)

    async def _transcribe(self, exchange: Exchange) -> None:
        """Turns what is left of the input as audio into words."""
        if not exchange.input.frames:
            return
        phrases = self._engines.llm.phrases
        recognition = self._engines.stt.transcribe(utterance(exchange.input.frames), phrases)
        transcript = await patiently(recognition, self._name("stt"))
        if not exchange.generation.live:
            return  # the input is another exchange's by now
        exchange.mark("transcribed", self._clock.now())
        exchange.input.frames.clear()
        if transcript.text.strip():
            exchange.input.words.append(transcript.text.strip())

    async def _reply(self, exchange: Exchange) -> None:
        """Speaks the model's reply while it is being produced."""
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        async with asyncio.TaskGroup() as tasks:
            thinking = tasks.create_task(self._think(exchange, pieces))
            try:
                while (piece := await pieces.get()) is not None:
                    await self._say(exchange, piece)
            except EngineError as error:
                exchange.fail(error)
                thinking.cancel()

    async def _think(self, exchange: Exchange, pieces: asyncio.Queue[str | None]) -> None:
        """Streams the model's reply, cut into `pieces`; None ends them."""

        def deliver(completed: list[str]) -> None:
            exchange.pieces += completed
            for piece in completed:
                pieces.put_nowait(piece)

        splitter = SentenceSplitter()
        reply = self._engines.llm.reply(self._history.asking(exchange.input.text))
        try:
            async with aclosing(read(reply, self._name("llm"))) as events:
                async for event in events:
                    match event:
                        case TextDelta(text):
                            exchange.mark("first_token", self._clock.now())
                            exchange.reply += text
                            deliver(splitter.push(text))
                        case IntentMatched(name):
                            exchange.intent = name
                        case PauseRecording():
                            self._observer.act(event)  # the caller may speak over the reply, which drops its actions
                        case HangUp() | Transfer() | SendDtmf() | ResumeRecording():
                            exchange.actions.append(event)
            deliver(splitter.flush())
            exchange.complete = True
        except EngineError as error:
            exchange.fail(error)
        finally:
            pieces.put_nowait(None)

    async def _recite(self, exchange: Exchange, pieces: Sequence[str]) -> None:
        """Speaks a text that is known from the start."""
        for piece in pieces:
            await self._say(exchange, piece)

    async def _apologise(self, exchange: Exchange) -> None:
        """Says that something went wrong, if the voice still can."""
        exchange.script.abandon()
        try:
            await self._recite(exchange, split(self._flavor.apology))
        except EngineError:
            exchange.script.abandon()

    async def _say(self, exchange: Exchange, piece: str) -> None:
        """Hands the speech of one piece to the port as it is synthesised."""
        await self._keep_pace(exchange)
        exchange.script.begin(piece)
        if any(character.isalnum() for character in piece):
            speech = self._engines.tts.synthesize(piece)
            async with aclosing(read(speech, self._name("tts"))) as chunks:
                async for audio in chunks:
                    self._write(exchange, audio)
        exchange.script.end()

    def _write(self, exchange: Exchange, audio: Audio) -> None:
        if not exchange.generation.live:
            return
        audio = exchange.silence.trim(audio)
        if not len(audio.samples):
            return
        if exchange.timing.first_audio is None:
            self._machine.apply(TurnEvent.VOICE_STARTED)
            exchange.mark("first_audio", self._clock.now())
        exchange.script.add(audio.seconds)
        self._port.write(exchange.generation.number, audio)

    async def _keep_pace(self, exchange: Exchange) -> None:
        """Waits until the voice has caught up with the synthesis."""
        while exchange.script.seconds:
            position = self._port.position
            played = position.seconds if position.generation == exchange.generation.number else 0.0
            lead = exchange.script.seconds - played
            if lead <= LEAD_SECONDS:
                return
            await self._clock.sleep(max(lead - LEAD_SECONDS, FRAME_SECONDS))

    def _name(self, kind: Literal["stt", "llm", "tts"]) -> str:
        """The registered name of the engine that plays the part."""
        choice: EngineChoice | None = getattr(self._flavor, kind)
        return choice.engine if choice is not None else kind
