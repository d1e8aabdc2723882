"""The cascade: speech to text, text to reply, reply to speech, sentence by sentence.

What happens on the event loop per frame is bookkeeping (`_on_frame`, `_on_probability`). While the caller speaks, the
recogniser is asked at every dip; at the first hint of an end the answer is begun and held; it is released when the
silence has lasted as long as the words so far ask for, and dropped where the caller goes on. Over the agent's voice,
what is heard makes it pause, and only words take the turn. The work of an exchange is one task, `Responder` does it;
an interruption cancels it, and the generation's number makes stale whatever an engine still delivers.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence

from connector.audio import Frame
from connector.config.language import primary
from connector.config.model import Flavor
from connector.errors import EngineError
from connector.interfaces import Action, AudioPort, Clock, Digit, HangUp, Party, PipelineObserver
from connector.pipeline.ear import Ear, levels
from connector.pipeline.exchange import Exchange, Input
from connector.pipeline.generation import Generations
from connector.pipeline.hearing import Heard, Hearing
from connector.pipeline.history import History
from connector.pipeline.passages import Passage, plain
from connector.pipeline.responder import ANSWER_SECONDS, TAIL_SECONDS, CascadeEngines, Responder, pieces_of
from connector.pipeline.sentences import fold
from connector.turn.barge_in import SPEECH_TO_RECOGNISE, certain, goes_on, interrupts, speech_needed, was_echo
from connector.turn.completeness import Completeness, Expected, backchannel, expectation, filler_only, judge
from connector.turn.end_of_turn import silence_needed, worth_beginning
from connector.turn.endpointing import Endpointing, SpeechEnded, SpeechStarted
from connector.turn.keypad import Keypad
from connector.turn.own_voice import MAX_DELAY, OwnVoice
from connector.turn.state import Turn, TurnEvent, TurnMachine

DIP_SECONDS = 0.01
"""So short a pause is enough to ask a quick recogniser: the last word may just have ended."""

LAST_DIP_SECONDS = 0.03
"""A pause after which it is asked in any case, though an earlier question is not answered yet."""

DIPS_SECONDS = 0.2
"""Between two dips at which it is asked: fluent speech has a dozen a second."""

MOST_DIPS = 6
"""Dips of one turn at which it is asked; after them, pauses alone."""

TAIL_OF_WORD_SECONDS = 0.03
"""The end of a word that adds nothing to it: an answer begins without it, and is released when it was heard, too."""

SLOW_HINT_SECONDS = 0.25
"""The pause after which a slow recogniser is asked: it is busy for longer than most pauses last."""

REPEAT_SECONDS = 0.3
"""Speech over the agent's voice that never dips is recognised once in so long."""

SOUND_SECONDS = 0.2
"""Silence after which the audio model is asked whether the caller has finished; later it says too often that he has."""

COMPARED_SECONDS = 0.1
"""What is heard over the voice is compared with it over so long a time at least."""

BACK_SECONDS = 0.5
"""A voice that goes on repeats no more than this of the word in which it paused."""

__all__ = ["Cascade", "CascadeEngines"]


class Cascade:
    """One conversation of `flavor` on `port`; a `Pipeline`.

    An engine that fails costs the turn and not the call: the caller hears the flavor's apology, the
    turn's record names the error. Any other exception is a defect and ends `run`.
    """

    def __init__(
        self,
        flavor: Flavor,
        engines: CascadeEngines,
        port: AudioPort,
        observer: PipelineObserver,
        clock: Clock,
        responder: type[Responder] = Responder,
    ) -> None:
        self._flavor = flavor
        self._engines = engines
        self._port = port
        self._observer = observer
        self._clock = clock
        self._language = primary(flavor.language)
        turn = flavor.turn
        keep = turn.preroll + max(turn.start_seconds, turn.barge_in_seconds)
        self._ear = Ear(port, engines.vad, clock, keep, self._on_probability)
        self._machine = TurnMachine()
        self._endpointing = Endpointing(turn)
        self._keypad = Keypad()
        self._history = History(flavor.persona)
        self._responder = responder(
            flavor, engines, port, clock, self._history, on_voice=self._voice_begins, act=observer.act
        )
        self._hearing = Hearing(self._responder.recognise, clock, self._on_heard)
        self._generations = Generations()
        self._due: asyncio.Queue[Exchange] = asyncio.Queue()
        self._tasks: asyncio.TaskGroup | None = None
        self._exchange: Exchange | None = None
        self._speculation: Exchange | None = None
        self._speculations = 0
        self._dips = 0
        self._sound: asyncio.Task[None] | None = None
        self._finished: float | None = None
        self._expected = Expected[turn.expect.upper()]
        self._judged: tuple[str, Completeness] | None = None
        self._unanswered = Input()
        self._cut_short: Exchange | None = None
        self._announcements: deque[tuple[str, Action | None]] = deque()
        self._own_voice = OwnVoice()
        self._spoke = -math.inf
        self._strange = 0
        self._paused = -math.inf
        self._quiet = 0.0
        self._reprompts = 0
        self._held = False
        port.tap(_OwnVoiceTap(self._own_voice))

    # ------------------------------------------------------------------------------ the pipeline's verbs

    async def run(self) -> None:
        """Talks until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
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
                self._tasks = None
                self._ear.close()
                self._leave()

    def digit(self, digit: Digit) -> None:
        """Takes a key in: it silences the agent at once, and the entry it is part of becomes a user message."""
        self._take_back()
        self._drop_speculation()
        if self._machine.turn is Turn.YIELDING:
            self._hearing.begin()
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
        if held:
            self._port.pause()
            if self._machine.turn is Turn.CALLER_SPEAKING:
                self._caller_finished(self._endpointing.finish(self._ear.now))
            elif self._machine.turn is Turn.YIELDING:
                self._machine.apply(TurnEvent.VOICE_RESUMED)
                self._hearing.begin()
            self._ear.close()
            self._endpointing.reset()
        else:
            self._quiet = 0.0
            self._port.resume(BACK_SECONDS)
            if self._tasks is not None:
                self._ear.open()

    def say(self, text: str, then: Action | None = None) -> None:
        """Speaks `text` as a turn of its own, as soon as nobody else speaks; then asks for `then`."""
        self._announcements.append((text, then))

    # ------------------------------------------------------------------------------ what the caller does

    def _on_frame(self, frame: Frame) -> None:
        if self._held or self._tasks is None:
            return
        self._ear.hear(frame)
        at = frame.end
        ended = self._endpointing.hear(at, levels(frame))
        turn = self._machine.turn
        if turn is not Turn.LISTENING:
            self._quiet = 0.0
        if ended is not None:
            self._caller_finished(ended)
        elif turn is Turn.LISTENING:
            self._wait(at - frame.time)
        elif turn is Turn.CALLER_SPEAKING:
            self._follow(at)
        elif turn is Turn.SPEAKING:
            self._spoke = at
            self._watch_for_interruption(at)
        elif turn is Turn.YIELDING:
            self._yield_on(at)

    def _on_probability(self, end: float, seconds: float, probability: float) -> None:
        needed = speech_needed(self._machine.turn, self._flavor.turn)
        match self._endpointing.feed(end, seconds, probability, needed):
            case SpeechStarted() as started if not self._is_echo(end):
                self._caller_started(started)
            case SpeechEnded() as ended:
                self._caller_finished(ended)
        if self._machine.turn is Turn.SPEAKING:
            self._yield_to_speech(end)

    def _wait(self, seconds: float) -> None:
        """Lets `seconds` of audio pass in which nobody has the turn."""
        if self._keypad.pending:
            entry = self._keypad.wait(seconds)
            if entry is not None:
                self._keys_entered(entry)
        elif self._endpointing.hears_speech:
            return
        elif self._announcements:
            text, then = self._announcements.popleft()
            self._say_unasked(text, then)
        else:
            self._quiet += seconds
            if self._flavor.reprompt and self._quiet >= self._flavor.reprompt_seconds:
                self._prompt_again()

    def _prompt_again(self) -> None:
        """The caller has been silent: asks whether he is there, and ends the call where he never answers."""
        flavor = self._flavor
        if flavor.reprompts and self._reprompts == flavor.reprompts:
            self._reprompts = 0
            self._say_unasked(flavor.farewell, HangUp("no answer from the caller", Party.SYSTEM))
        else:
            self._reprompts += 1
            self._say_unasked(flavor.reprompt)

    def _caller_started(self, started: SpeechStarted) -> None:
        if self._machine.turn is not Turn.YIELDING:
            self._hearing.begin()
        self._take_back()
        self._machine.apply(TurnEvent.CALLER_STARTED)
        self._ear.begin(started.onset - self._flavor.turn.preroll)
        self._speculations = self._dips = 0
        self._reprompts = 0
        self._speech_goes_on()

    # ------------------------------------------------------------------------------ while the caller speaks

    def _follow(self, at: float) -> None:
        """Follows the caller's pauses at media time `at`: recognises what was said, and begins an answer to it."""
        quiet = self._endpointing.quiet(at)
        if quiet <= 0 and not self._endpointing.silence(at):
            self._speech_goes_on()
            return
        hint = SLOW_HINT_SECONDS if self._hearing.slow else LAST_DIP_SECONDS
        urgent = quiet >= hint or self._endpointing.silence(at) >= SLOW_HINT_SECONDS
        if urgent or quiet >= DIP_SECONDS:
            self._recognise(at, urgent=urgent)
        if self._endpointing.silence(at) >= SOUND_SECONDS:
            self._listen_for_the_end()
        self._consider(at)

    def _recognise(self, at: float, *, urgent: bool) -> None:
        """Asks for the words said until media time `at`, unless that was asked already."""
        hearing = self._hearing
        if self._tasks is None or hearing.until >= self._endpointing.end:
            return
        if hearing.busy and (hearing.slow or not urgent):
            return  # a quick one is asked anew; a slow one would only be kept from its answer
        if not urgent:
            if self._dips == MOST_DIPS or not hearing.quick or at - hearing.until < DIPS_SECONDS:
                return
            if self._responder.loaded:
                return
            self._dips += 1
        frames = [*self._unanswered.frames, *self._ear.peek()]
        if frames:
            hearing.ask(self._tasks, frames, at)

    def _listen_for_the_end(self) -> None:
        """Asks the audio model, once in a pause, whether this sounds like an end."""
        detector = self._engines.turn_detector
        if detector is not None and self._sound is None and self._tasks is not None:
            frames = [*self._unanswered.frames, *self._ear.peek()]
            self._sound = self._tasks.create_task(self._judge_sound(frames), name="end of turn")

    async def _judge_sound(self, frames: Sequence[Frame]) -> None:
        detector, own = self._engines.turn_detector, asyncio.current_task()
        if detector is None:
            return
        try:
            finished = await self._responder.finished(detector, frames)
        except EngineError:
            return  # the words decide alone
        if self._sound is own:
            self._finished = finished
            self._consider(self._ear.now)

    def _on_heard(self, heard: Heard) -> None:
        match self._machine.turn:
            case Turn.CALLER_SPEAKING:
                self._consider(self._ear.now)
            case Turn.YIELDING if self._flavor.turn.confirm_words:
                if self._interrupts(heard.text):
                    self._caller_started(self._endpointing.begin(self._ear.now))
                    self._consider(self._ear.now)

    def _consider(self, at: float) -> None:
        """Decides at media time `at` how long to wait, and whether to begin an answer meanwhile."""
        if self._machine.turn is not Turn.CALLER_SPEAKING:
            return
        end, settings = self._endpointing.end, self._flavor.turn
        certain = self._hearing.covering(end) is not None
        heard = self._hearing.covering(end - TAIL_OF_WORD_SECONDS)
        # Without its words no answer begins in any case, and they may say that it is not over: there is time for them
        # until the caller has to be told that it takes a moment.
        awaited = not certain and self._hearing.busy and self._hearing.until >= end
        least = self._flavor.filler_after - ANSWER_SECONDS if awaited else 0.0
        if heard is None:
            self._endpointing.patience = max(least, settings.end_silence)
            return
        text = " ".join(filter(None, (*self._unanswered.words, heard.text)))
        needed = silence_needed(settings, self._completeness(text), self._finished)
        self._endpointing.patience = max(least, needed)
        if self._speculation is not None and self._speculation.input.text != text:
            self._drop_speculation()
        pause = max(self._endpointing.quiet(at), self._endpointing.silence(at))
        if text and self._may_speculate() and worth_beginning(settings, needed, pause):
            self._speculate(text, heard)

    def _completeness(self, text: str) -> Completeness | None:
        if not text:
            return None
        if self._judged is None or self._judged[0] != text:
            self._judged = text, judge(text, self._language, self._expected)
        return self._judged[1]

    def _may_speculate(self) -> bool:
        settings = self._flavor.turn
        if self._speculation is not None or not settings.speculate or self._keypad.pending:
            return False
        return self._speculations < settings.max_speculations and not self._responder.loaded

    def _speculate(self, text: str, heard: Heard) -> None:
        """Begins an answer to `text` that nobody hears before the turn has ended."""
        self._speculations += 1
        exchange = Exchange(self._generations.begin())
        exchange.input.words.append(text)
        exchange.mark("transcribed", heard.at)
        exchange.mark("hint", self._clock.now())
        self._speculation = exchange
        self._due.put_nowait(exchange)

    def _drop_speculation(self) -> None:
        speculation, self._speculation = self._speculation, None
        if speculation is not None:
            speculation.cancel()

    def _speech_goes_on(self) -> None:
        """It was no end: what was thought of it does not count."""
        self._drop_speculation()
        self._finished = None
        sound, self._sound = self._sound, None
        if sound is not None:
            sound.cancel()

    def _caller_finished(self, ended: SpeechEnded) -> None:
        self._machine.apply(TurnEvent.CALLER_FINISHED)
        frames = self._ear.take(ended.at if ended.cut else ended.end + TAIL_SECONDS)
        given, self._unanswered = self._unanswered, Input()
        heard = self._hearing.covering(ended.end) if not ended.cut else None
        awaited = self._hearing.hand_over(ended.end) if heard is None and not ended.cut else None
        if heard is None:
            given.frames += frames
        else:
            given.frames.clear()
        if self._keypad.pending:
            given.words.append(self._keypad.take())
        if heard is not None and heard.text:
            given.words.append(heard.text)
        failure = self._hearing.failure
        self._hearing.begin()
        speculation, self._speculation = self._speculation, None
        self._speech_goes_on()
        if speculation is not None and (given.frames or speculation.error or speculation.input.text != given.text):
            speculation.cancel()
            speculation = None
        exchange = self._exchange = speculation or self._begin()
        exchange.input = given
        exchange.recognition = awaited
        exchange.mark("speech_end", self._ear.wire_time(ended.end))
        exchange.mark("decided", self._clock.now())
        if heard is not None:
            exchange.mark("transcribed", heard.at)
        elif failure is not None:
            exchange.fail(failure)
        self._release(exchange)

    def _keys_entered(self, entry: str) -> None:
        self._machine.apply(TurnEvent.KEYS_ENTERED)
        exchange = self._begin()
        exchange.input = self._unanswered
        exchange.input.words.append(entry)
        self._unanswered = Input()
        self._reprompts = 0
        exchange.mark("decided", self._clock.now())
        self._release(exchange)

    # ------------------------------------------------------------------------------ barge-in

    def _watch_for_interruption(self, at: float) -> None:
        """Makes the voice pause for what may be the caller interrupting."""
        heard = self._endpointing
        if not self._flavor.turn.barge_in:
            return
        # Judged from the first loud moment on, so that it is certain once it has been loud for long enough.
        self._strange = self._strange + 1 if (heard.voiced or heard.loud) and not self._is_echo(at) else 0
        self._yield_to_speech(at)

    def _yield_to_speech(self, at: float) -> None:
        """Makes it pause where that is certain by what was heard until media time `at`."""
        heard, exchange = self._endpointing, self._exchange
        if exchange is None or not certain(self._strange, echoing=self._own_voice.returns):
            return
        if not interrupts(heard.voiced, heard.loud, heard.probability):
            return
        if exchange.script.interruptible(self._port.position.seconds):
            self._pause_voice(at)

    def _is_echo(self, at: float) -> bool:
        """Whether what is heard at media time `at` is our own voice coming back; if so, it does not count."""
        heard = self._endpointing
        if at - self._spoke > MAX_DELAY or not (heard.voiced or heard.loud):
            return False
        # A paused voice returns no echo for long, and what is faint may be the closure of the caller's next consonant.
        faint = heard.faint and self._machine.turn is not Turn.YIELDING
        echo = faint or self._own_voice.echo(max(COMPARED_SECONDS, heard.voiced, heard.loud)).is_echo
        if echo:
            heard.discount()
        return echo

    def _pause_voice(self, at: float) -> None:
        heard = self._endpointing
        self._strange = 0
        self._paused = at
        self._machine.apply(TurnEvent.VOICE_PAUSED)
        self._port.pause()
        self._hearing.begin()
        self._ear.begin(at - max(heard.voiced, heard.loud) - self._flavor.turn.preroll)

    def _yield_on(self, at: float) -> None:
        """The voice is paused: finds out whether the caller says something."""
        heard, hearing = self._endpointing, self._hearing
        settings = self._flavor.turn
        if heard.voiced >= SPEECH_TO_RECOGNISE and settings.confirm_words:
            urgent = heard.quiet(at) >= settings.hint_silence or at - hearing.until >= REPEAT_SECONDS
            if (urgent and not hearing.busy) or heard.quiet(at) >= DIP_SECONDS:
                self._recognise(at, urgent=urgent)
        silence = min(heard.silence(at), at - self._paused)  # the level alone may have made the voice pause
        over = not hearing.busy and goes_on(heard.quiet(at), silence, settings)
        echo = self._own_voice.returns and was_echo(heard.voiced, heard.faint_for(at))
        if over or echo or self._is_echo(at):
            self._resume_voice()

    def _interrupts(self, words: str) -> bool:
        """Whether `words`, said over the voice, are meant to take the turn."""
        if not words or filler_only(words):
            return False
        return self._was_asked or not backchannel(words, self._language)

    @property
    def _was_asked(self) -> bool:
        """Whether the voice had just asked something: "yeah" is an answer then."""
        exchange = self._exchange
        return exchange is not None and exchange.script.heard(self._port.position.seconds).endswith("?")

    def _resume_voice(self) -> None:
        """It was no interruption."""
        self._machine.apply(TurnEvent.VOICE_RESUMED)
        self._endpointing.forget()
        self._hearing.begin()
        self._ear.drop()
        self._port.resume(BACK_SECONDS)

    # ------------------------------------------------------------------------------ exchanges begin and end

    def _begin(self) -> Exchange:
        self._exchange = Exchange(self._generations.begin())
        self._due.put_nowait(self._exchange)
        return self._exchange

    def _release(self, exchange: Exchange) -> None:
        exchange.mark("released", self._clock.now())
        self._responder.release(exchange)

    def _voice_begins(self) -> None:
        if self._machine.turn is not Turn.THINKING:
            return
        self._machine.apply(TurnEvent.VOICE_STARTED)
        if self._flavor.turn.barge_in and self._endpointing.voiced:
            self._pause_voice(self._ear.now)  # an answer does not begin into what may be the caller going on

    def _say_unasked(self, text: str, then: Action | None = None) -> Exchange:
        """The agent speaks without having been asked."""
        return self._say_pieces(pieces_of(text), plain(text), [] if then is None else [then])

    def _say_pieces(self, pieces: list[Passage], text: str, actions: list[Action]) -> Exchange:
        self._machine.apply(TurnEvent.PROMPT_DUE)
        self._quiet = 0.0
        exchange = self._begin()
        exchange.prompt = exchange.complete = True
        exchange.reply = text
        exchange.pieces = pieces
        exchange.actions = actions
        exchange.mark("decided", self._clock.now())
        self._release(exchange)
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
        heard = self._silence(exchange) if self._voice_is_on else 0.0
        if heard or exchange.prompt:
            self._cut_short = exchange
            self._record(exchange, heard, interrupted=True)
            self._unanswered.frames += exchange.input.frames  # of which nobody knows the words yet
        else:
            self._unanswered = exchange.input

    @property
    def _voice_is_on(self) -> bool:
        return self._machine.turn in (Turn.SPEAKING, Turn.YIELDING)

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
        if self._flavor.turn.expect == "anything":
            self._expected = expectation(spoken, self._language)
        record = exchange.record(spoken, interrupted=interrupted)
        self._observer.turn(self._responder.settled(record, heard_seconds))

    def _nothing_heard(self, exchange: Exchange) -> None:
        """There were no words in what was taken for speech.

        A voice that a noise had stopped goes on with the sentence it was stopped in.
        """
        self._exchange = None
        self._machine.apply(TurnEvent.NOTHING_HEARD)
        stopped, self._cut_short = self._cut_short, None
        if stopped is not None and stopped.complete and stopped.rest:
            self._say_pieces(stopped.rest, " ".join(piece.text for piece in stopped.rest), stopped.actions)

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
        self._speech_goes_on()
        self._hearing.begin()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.cancel()
            heard = self._silence(exchange) if self._voice_is_on else 0.0
            if exchange.input.text or exchange.reply:
                self._record(exchange, heard, interrupted=False)
        self._responder.close()

    # ------------------------------------------------------------------------------ the work of one exchange

    async def _converse(self, exchange: Exchange) -> None:
        try:
            if exchange.error is not None:
                pass  # the recogniser kept everybody waiting already
            else:
                async with self._responder.bridging(exchange):
                    await self._respond(exchange)
                if not exchange.generation.live:
                    return
                if not (exchange.prompt or exchange.input.words or exchange.fillers):
                    self._nothing_heard(exchange)
                    return
        except EngineError as error:
            exchange.fail(error)
        await exchange.released.wait()
        self._cut_short = None
        if exchange.error is not None:
            await self._responder.apologise(exchange)
        heard = math.inf
        if exchange.script.seconds:
            self._port.finish(exchange.generation.number)
            heard = (await self._port.played(exchange.generation.number)).seconds
        if exchange.generation.live:
            self._over(exchange, heard)

    async def _respond(self, exchange: Exchange) -> None:
        """Says what there is to say; nothing where the caller said nothing."""
        if exchange.prompt:
            await self._responder.recite(exchange, tuple(exchange.pieces))
            return
        await self._transcribe(exchange)
        if exchange.generation.live and exchange.input.words:
            await self._responder.answer(exchange)

    async def _transcribe(self, exchange: Exchange) -> None:
        """Turns what is left of the input as audio into words."""
        if not exchange.input.frames:
            return
        if exchange.recognition is None:
            text = await self._responder.recognise(exchange.input.frames)
        else:
            answer = await exchange.recognition
            if isinstance(answer, EngineError):
                raise answer
            text = answer.text
        if not exchange.generation.live:
            return  # the input is another exchange's by now
        exchange.mark("transcribed", self._clock.now())
        exchange.input.frames.clear()
        if text:
            exchange.input.words.append(text)


class _OwnVoiceTap:
    """An `AudioTap` that lets `OwnVoice` know of both directions."""

    def __init__(self, own_voice: OwnVoice) -> None:
        self.received = own_voice.heard
        self.emitted = own_voice.spoken
