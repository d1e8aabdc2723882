"""Engines that die in mid-call: the next one goes on, the caller hardly notices, and the first one comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

import pytest

from connector.audio import Audio
from connector.call.engines import FIRST_RETRY, LONGEST_RETRY, Engines
from connector.call.ladders import DEADLINES, LAST_DEADLINE, Ladders
from connector.call.voices import Voices
from connector.config.model import EngineChoice, Flavor, LastResortSettings
from connector.errors import EngineRefused, EngineUnreachable
from connector.host import LocalEngineHost
from connector.interfaces import (
    AudioPort,
    Clock,
    Engine,
    EngineContext,
    EngineDescriptor,
    EngineKind,
    EngineOptions,
    HangUp,
    Message,
    Party,
    Pipeline,
    PipelineObserver,
    ReplyEvent,
    ServiceOutcome,
    Transfer,
    TurnRecord,
)
from connector.pipeline.cascade import Cascade, CascadeEngines
from connector.pipeline.circuit import LONGEST_REST, CircuitState
from connector.pipeline.ladder import GO_ON
from connector.pipeline.last_resort import LastResort
from connector.pipeline.responder import FILLED_SECONDS
from tests.fakes.clock import LoopClock, virtual_time
from tests.fakes.engines import FakeLanguageModel, FakeSpeechToText, FakeTextToSpeech, Step, ToneBook
from tests.scenarios.conversation import FRAME, Conversation

SILENCE = 1.5
"""Seconds that a caller may hear nothing for."""

STORY = "Once upon a time there was a king who had three daughters and no crown."


class Mortal:
    """An engine whose server can be killed, and started again."""

    name: str
    dead = False

    def kill(self) -> None:
        """As with -9: what it was doing breaks off, and nobody can connect."""
        self.dead = True

    def revive(self) -> None:
        self.dead = False

    async def check(self) -> None:
        self.fail_if_failing()

    async def start(self) -> None:
        self.fail_if_failing()

    def fail_if_failing(self) -> None:
        if self.dead:
            raise EngineUnreachable(self.name, "connection refused")


class MortalEar(Mortal, FakeSpeechToText):
    def __init__(self, name: str, book: ToneBook) -> None:
        super().__init__(book)
        self.name = name


class MortalMind(Mortal, FakeLanguageModel):
    def __init__(self, name: str, answers: Mapping[str, Sequence[Step]] | None = None) -> None:
        super().__init__(answers, otherwise=lambda asked: ["and no crown at all."] if asked == GO_ON else [STORY])
        self.name = name

    async def reply(self, history: Sequence[Message]) -> AsyncIterator[ReplyEvent]:
        async for event in super().reply(history):
            self.fail_if_failing()
            yield event


class MortalVoice(Mortal, FakeTextToSpeech):
    """Slow enough that it can be killed in mid-sentence."""

    def __init__(self, name: str, rate: int) -> None:
        super().__init__(speed=1.5, rate=rate)
        self.name = name

    async def synthesize(self, text: str) -> AsyncIterator[Audio]:
        async for chunk in super().synthesize(text):
            self.fail_if_failing()
            yield chunk


class Options(EngineOptions):
    """None."""


class House:
    """Two engines for each part (one, where it is `alone`), and the calls that share them."""

    def __init__(
        self, answers: Mapping[str, Sequence[Step]] | None = None, *, alone: bool = False, **flavor: object
    ) -> None:
        self.clock = LoopClock()
        self.book = ToneBook()
        self.ears = MortalEar("whisper-gpu", self.book), MortalEar("whisper-cpu", self.book)
        self.minds = MortalMind("vllm", answers), MortalMind("ollama")
        self.voices = MortalVoice("chatterbox", 24000), MortalVoice("espeak", 16000)
        kinds = {EngineKind.STT: self.ears, EngineKind.LLM: self.minds, EngineKind.TTS: self.voices}
        made: dict[str, Engine] = {engine.name: engine for both in kinds.values() for engine in both}
        descriptors = {
            engine.name: EngineDescriptor(engine.name, kind, Options, "", lambda _, __, name=engine.name: made[name])
            for kind, both in kinds.items()
            for engine in both
        }
        self.flavor = Flavor(
            name="desk",
            **{
                kind.value: _ladder(*(engine.name for engine in (both[:1] if alone else both)))
                for kind, both in kinds.items()
            },
            **{"fillers": (), **flavor},  # type: ignore[arg-type] - fields of a Flavor
        )
        self.engines = Engines(descriptors, EngineContext(LocalEngineHost(), Path()), self.clock, _load_here)
        self.spoken = Voices([self.flavor], self.engines, self.clock)
        self.ladders = Ladders(self.engines, self.spoken, self.clock)
        self._preparing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.engines.start([self.flavor])
        self._preparing = asyncio.create_task(self.spoken.prepare())
        await self.clock.sleep(60)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._preparing is not None
        self._preparing.cancel()
        await asyncio.wait([self._preparing])
        await self.engines.aclose()

    def call(self) -> Conversation:
        """A call of the flavor."""

        def make(
            flavor: Flavor, engines: CascadeEngines, port: AudioPort, observer: PipelineObserver, clock: Clock
        ) -> Pipeline:
            def cascade(flavor: Flavor, observer: PipelineObserver) -> Cascade:
                own = replace(
                    engines,
                    stt=self.ladders.stt(flavor),
                    llm=self.ladders.llm(flavor),
                    tts=self.ladders.tts(flavor),
                    meters=self.engines.meters(flavor),
                )
                return Cascade(flavor, own, port, observer, clock)

            if flavor.last_resort is None:
                return cascade(flavor, observer)
            return LastResort(cascade, flavor, flavor.last_resort, observer, lambda: self.engines.problem(flavor))

        talk = Conversation(self.flavor, make=make)  # type: ignore[arg-type]
        talk.book = self.book
        return talk

    def circuits(self, kind: EngineKind) -> list[CircuitState]:
        return [rung.circuit for rung in self.engines.rungs(self.flavor) if rung.kind is kind]


def _ladder(first: str, *others: str) -> EngineChoice:
    successors = tuple(EngineChoice(engine=name, options=Options()) for name in others)
    return EngineChoice(engine=first, options=Options(), successors=successors)


async def _load_here(descriptor: EngineDescriptor, options: EngineOptions, context: EngineContext) -> Engine:
    return descriptor.load(options, context)


@asynccontextmanager
async def a_call(house: House) -> AsyncIterator[Conversation]:
    async with house, house.call() as talk:
        yield talk


def asked(turn: TurnRecord, kind: EngineKind) -> list[tuple[int | None, str, ServiceOutcome, str]]:
    """What was asked of engines of `kind`: rung, engine, outcome, error."""
    return [(use.rung, use.engine, use.outcome, use.error) for use in turn.services if use.kind is kind]


def longest_silence(talk: Conversation, start: float, end: float) -> float:
    """The longest stretch between clock times `start` and `end` in which the caller heard nothing."""
    heard = [start, *(at for at, _ in talk.port.voice if start <= at <= end), end]
    return max(after - before for before, after in pairwise(heard))


async def answered(talk: Conversation, turns: int = 1) -> TurnRecord:
    await talk.notes.wait_for_turns(turns)
    return talk.notes.turns[turns - 1]


def last_word(talk: Conversation) -> float:
    return talk.port.voice[-1][0]


# ------------------------------------------------------------------------------ in mid-sentence


@virtual_time
async def test_a_voice_that_dies_in_mid_sentence_is_followed_from_the_word_where_it_stopped() -> None:
    house = House()
    async with a_call(house) as talk:
        first, second = house.voices
        said = await talk.says("tell me a story")
        await talk.until_voice()
        await talk.clock.sleep(2.0)
        first.kill()
        turn = await answered(talk)
        [rest] = second.texts[len(second.texts) - 1 :]
        assert STORY.endswith(rest)
        before = STORY[: -len(rest)]
        assert 15 <= len(before) <= 50, "neither from the beginning nor from the end"
        assert before.endswith(" "), "from a word's begin on"
        assert longest_silence(talk, said, last_word(talk)) < SILENCE
        # What both said together is the sentence, and a word or two of it twice.
        spoken = sum(use.audio_out for use in turn.services if use.kind is EngineKind.TTS)
        assert first.seconds(STORY) <= spoken + 2 * FRAME
        assert spoken <= first.seconds(STORY) + 1.0
        assert turn.spoken == STORY
        assert turn.error is None
        assert asked(turn, EngineKind.TTS) == [
            (1, "chatterbox", ServiceOutcome.FAILED, "connection refused"),
            (2, "espeak", ServiceOutcome.USED, ""),
        ]


@virtual_time
async def test_a_model_that_dies_in_mid_reply_is_followed_from_what_it_had_said() -> None:
    told = "Once upon a time there was a king who had three daughters"
    house = House({"tell me a story": [told, EngineUnreachable("vllm", "connection reset"), "and more"]})
    async with a_call(house) as talk:
        _, second = house.minds
        said = await talk.says("tell me a story")
        turn = await answered(talk)
        assert [message.content for message in second.histories[-1]] == ["tell me a story", told[:-10], GO_ON]
        assert turn.reply == f"{told[:-10]} and no crown at all."
        assert turn.spoken == turn.reply
        assert longest_silence(talk, said, last_word(talk)) < SILENCE
        assert turn.error is None
        failed, used = asked(turn, EngineKind.LLM)[-2:]
        assert failed == (1, "vllm", ServiceOutcome.FAILED, "connection reset")
        assert used == (2, "ollama", ServiceOutcome.USED, "")


@virtual_time
async def test_a_recogniser_that_dies_is_followed_by_the_next_about_the_same_utterance() -> None:
    house = House()
    async with a_call(house) as talk:
        first, _ = house.ears
        saying = asyncio.create_task(talk.says("tell me a story", seconds=2.0))
        await talk.clock.sleep(1.0)
        first.kill()
        said = await saying
        turn = await answered(talk)
        assert (turn.heard, turn.error) == ("tell me a story", None)
        assert longest_silence(talk, said, last_word(talk)) < SILENCE
        assert (1, "whisper-gpu", ServiceOutcome.FAILED, "connection refused") in asked(turn, EngineKind.STT)
        assert (2, "whisper-cpu", ServiceOutcome.USED, "") in asked(turn, EngineKind.STT)


# ------------------------------------------------------------------------------ deadlines


@pytest.mark.parametrize("part", ["stt", "llm", "tts"])
@virtual_time
async def test_an_engine_that_hangs_is_given_up_while_the_caller_still_waits(part: str) -> None:
    house = House()
    async with a_call(house) as talk:
        hanging, delay = {
            "stt": (house.ears[0], "delay"),
            "llm": (house.minds[0], "first_token"),
            "tts": (house.voices[0], "first_audio"),
        }[part]
        setattr(hanging, delay, 1e6)
        said = await talk.says("tell me a story")
        turn = await answered(talk)
        kind = EngineKind(part)
        assert (turn.error, turn.spoken) == (None, STORY)
        assert longest_silence(talk, said, last_word(talk)) < SILENCE
        wanted = {"stt": "text", "llm": "text", "tts": "audio"}[part]
        late = (1, hanging.name, ServiceOutcome.FAILED, f"no {wanted} within {DEADLINES[kind]} s")
        assert late in asked(turn, kind)
        assert house.circuits(kind) == [CircuitState.CLOSED, CircuitState.CLOSED], "its probe passed"
        for _ in range(3):
            await talk.asks("tell me a story")
        assert house.circuits(kind) == [CircuitState.OPEN, CircuitState.CLOSED], "and it rests all the same"


@virtual_time
async def test_a_late_answer_is_better_than_none() -> None:
    house = House()
    async with a_call(house) as talk:
        first, second = house.minds
        second.kill()
        house.engines.suspect(house.flavor)
        await talk.clock.sleep(1)
        first.first_token = 2 * DEADLINES[EngineKind.LLM]
        turn = await talk.asks("tell me a story")
        assert (turn.spoken, turn.error) == (STORY, None)


@virtual_time
async def test_a_deadline_of_the_flavors_own_holds_in_any_case() -> None:
    house = House()
    assert house.flavor.tts is not None
    patient = house.flavor.tts.model_copy(update={"deadline": 1.5})
    house.flavor = house.flavor.model_copy(update={"tts": patient})
    async with a_call(house) as talk:
        house.voices[0].first_audio = 1.4
        turn = await talk.asks("tell me a story")
        assert asked(turn, EngineKind.TTS)[-1][:3] == (1, "chatterbox", ServiceOutcome.USED)
        house.voices[0].first_audio = 1.6
        turn = await talk.asks("tell me a story")
        assert asked(turn, EngineKind.TTS)[-1][:3] == (2, "espeak", ServiceOutcome.USED)


@virtual_time
async def test_a_voice_that_falls_silent_in_mid_sentence_is_given_up_too() -> None:
    house = House()
    async with a_call(house) as talk:
        said = await talk.says("tell me a story")
        await talk.until_voice()
        await talk.clock.sleep(1.0)
        house.voices[0].speed = 1e-6
        turn = await answered(talk)
        assert turn.spoken == STORY
        assert longest_silence(talk, said, last_word(talk)) < SILENCE
        assert asked(turn, EngineKind.TTS)[-1][:3] == (2, "espeak", ServiceOutcome.USED)


# ------------------------------------------------------------------------------ nobody else to ask

USUAL = Flavor(name="usual")


def hang(house: House, part: str) -> Mortal:
    """The first engine for `part` accepts everything and answers nothing from now on."""
    hanging: Mortal = {"stt": house.ears, "llm": house.minds, "tts": house.voices}[part][0]
    setattr(hanging, {"stt": "delay", "llm": "first_token", "tts": "first_audio"}[part], 1e6)
    return hanging


def first_sound(talk: Conversation, after: float) -> float:
    """The clock time at which the caller hears something again."""
    return next(at for at, _ in talk.port.voice if at > after)


@pytest.mark.parametrize("part", ["stt", "llm", "tts"])
@virtual_time
async def test_a_sole_engine_that_hangs_is_bridged_and_given_up_and_asked_again(part: str) -> None:
    house = House(alone=True, fillers=USUAL.fillers)
    async with a_call(house) as talk:
        hanging = hang(house, part)
        said = await talk.says("tell me a story")
        turn = await answered(talk)
        assert first_sound(talk, said) - said < SILENCE
        assert longest_silence(talk, said, last_word(talk)) < FILLED_SECONDS + SILENCE
        assert turn.spoken == " ".join([*USUAL.fillers * 2, USUAL.apology])
        assert turn.error == f"{hanging.name}: no {'audio' if part == 'tts' else 'text'} within {LAST_DEADLINE} s"
        assert last_word(talk) - said < LAST_DEADLINE + 6
        setattr(hanging, {"stt": "delay", "llm": "first_token", "tts": "first_audio"}[part], 0.1)
        turn = await talk.asks("tell me a story")
        assert (turn.spoken, turn.error) == (STORY, None)


@pytest.mark.parametrize("part", ["stt", "llm", "tts"])
@virtual_time
async def test_a_sole_engine_that_hangs_leads_to_the_last_resort_after_two_turns(part: str) -> None:
    house = House(alone=True, fillers=USUAL.fillers, last_resort=LastResortSettings(say=SORRY, transfer="2000"))
    async with a_call(house) as talk:
        hang(house, part)
        for _ in range(2):
            said = await talk.says("tell me a story")
            await answered(talk, len(talk.notes.turns) + 1)
            assert first_sound(talk, said) - said < SILENCE
        await answered(talk, 3)
        assert talk.notes.turns[-1].spoken == SORRY
        assert [action for _, action in talk.notes.actions] == [Transfer("2000")]


@virtual_time
async def test_the_last_of_several_that_all_hang_is_waited_for_in_company() -> None:
    house = House(fillers=USUAL.fillers)
    async with a_call(house) as talk:
        for mind in house.minds:
            mind.first_token = 1e6
        said = await talk.says("tell me a story")
        turn = await answered(talk)
        assert first_sound(talk, said) - said < SILENCE
        assert turn.spoken == " ".join([*USUAL.fillers * 2, USUAL.apology])
        assert turn.error == f"llm: vllm: no text within 0.7 s; ollama: no text within {LAST_DEADLINE} s"


@virtual_time
async def test_who_speaks_into_the_waiting_is_answered_about_both() -> None:
    """The recogniser hangs at the caller's first words, which the next recognition takes in, too."""
    house = House(alone=True, fillers=USUAL.fillers)
    async with a_call(house) as talk:
        house.ears[0].delay = 1e6
        said = await talk.says("tell me a story")
        await talk.until(said + SILENCE + 0.2)
        house.ears[0].delay = 0.1
        await talk.says("about a king", 1.5)
        turn = await answered(talk, 2)
        assert talk.notes.turns[0].interrupted
        assert USUAL.fillers[0].startswith(talk.notes.turns[0].spoken)
        assert (turn.heard, turn.error) == ("tell me a story about a king", None)


@virtual_time
async def test_a_slow_recogniser_is_asked_once_and_its_words_count() -> None:
    house = House(alone=True, fillers=USUAL.fillers)
    async with a_call(house) as talk:
        house.ears[0].delay = 3.0
        turn = await talk.asks("tell me a story")
        asked_once = len(house.ears[0].utterances)
        assert (turn.heard, turn.spoken) == ("tell me a story", f"{USUAL.fillers[0]} {STORY}")
        await talk.asks("tell me a story")
        assert len(house.ears[0].utterances) == asked_once + 1


@virtual_time
async def test_a_greeting_that_the_voice_owes_is_bridged_too() -> None:
    house = House(alone=True, fillers=USUAL.fillers, greeting="Hello {{calling_name|there}}.")
    async with house:
        hang(house, "tts")
        began = house.clock.now()
        async with house.call() as talk:
            turn = await answered(talk)
            assert first_sound(talk, began) - began < SILENCE
            assert turn.spoken == " ".join([*USUAL.fillers * 2, USUAL.apology])


@virtual_time
async def test_a_voice_that_is_merely_late_comes_after_the_filler_and_is_whole() -> None:
    house = House(alone=True, fillers=USUAL.fillers)
    async with a_call(house) as talk:
        house.voices[0].first_audio = 2.0
        turn = await talk.asks("tell me a story")
        assert (turn.spoken, turn.error) == (f"{USUAL.fillers[0]} {STORY}", None)
        assert turn.reply == STORY


# ------------------------------------------------------------------------------ circuits


@pytest.mark.parametrize("part", ["ears", "minds", "voices"])
@virtual_time
async def test_a_dead_engine_is_asked_once_by_all_calls_and_used_again_when_it_is_back(part: str) -> None:
    house = House()
    kind = {"ears": EngineKind.STT, "minds": EngineKind.LLM, "voices": EngineKind.TTS}[part]
    first, second = getattr(house, part)
    async with house, house.call() as one, house.call() as other:
        first.kill()
        turn = await one.asks("tell me a story")
        assert [name for _, name, outcome, _ in asked(turn, kind) if outcome is ServiceOutcome.FAILED] == [first.name]
        assert house.circuits(kind) == [CircuitState.OPEN, CircuitState.CLOSED]
        turn = await other.asks("tell me a story")
        assert {name for _, name, _, _ in asked(turn, kind)} == {second.name}, "nobody waits for the dead one"
        assert house.engines.problem(house.flavor) == ""
        first.revive()
        await house.clock.sleep(60)
        assert house.circuits(kind) == [CircuitState.CLOSED, CircuitState.CLOSED]
        turn = await one.asks("tell me a story")
        assert asked(turn, kind)[-1][:3] == (1, first.name, ServiceOutcome.USED)


@pytest.mark.parametrize("part", ["ears", "minds", "voices"])
@virtual_time
async def test_calls_that_go_on_and_on_pay_for_a_death_once_and_for_a_return_never(part: str) -> None:
    house = House()
    kind = {"ears": EngineKind.STT, "minds": EngineKind.LLM, "voices": EngineKind.TTS}[part]
    first, _ = getattr(house, part)
    async with a_call(house) as talk:
        await talk.asks("tell me a story")
        first.kill()
        while talk.clock.now() < 300:
            await talk.asks("tell me a story")
        first.revive()
        returned = talk.clock.now()
        while (rung := asked(await talk.asks("tell me a story"), kind)[-1][0]) != 1:
            assert rung == 2
            assert talk.clock.now() - returned < LONGEST_RETRY + 20, "a minute, and the turn in hand"
        outcomes = [outcome for turn in talk.notes.turns for _, _, outcome, _ in asked(turn, kind)]
        assert outcomes.count(ServiceOutcome.FAILED) == 1
        assert {turn.error for turn in talk.notes.turns} == {None}


@virtual_time
async def test_an_engine_that_has_come_back_unnoticed_is_found_as_soon_as_the_other_one_dies() -> None:
    house = House()
    async with a_call(house) as talk:
        first, second = house.minds
        first.kill()
        await talk.asks("tell me a story")
        await talk.clock.sleep(130)
        assert house.circuits(EngineKind.LLM) == [CircuitState.OPEN, CircuitState.CLOSED]
        first.revive()
        second.kill()
        turn = await talk.asks("tell me a story")
        assert (turn.spoken, turn.error) == (STORY, None)
        assert asked(turn, EngineKind.LLM)[-1][:3] == (1, "vllm", ServiceOutcome.USED)


@virtual_time
async def test_one_failure_of_an_engine_that_is_well_costs_it_no_more_than_that_request() -> None:
    house = House({"tell me a story": [EngineRefused("vllm", "the context is too long")]})
    async with a_call(house) as talk:
        turn = await talk.asks("tell me a story")
        assert turn.spoken == STORY
        assert house.circuits(EngineKind.LLM) == [CircuitState.CLOSED] * 2
        turn = await talk.asks("tell me another")
        assert asked(turn, EngineKind.LLM)[-1][:3] == (1, "vllm", ServiceOutcome.USED)


@virtual_time
async def test_an_engine_that_passes_its_probes_and_fails_its_calls_is_tried_ever_more_rarely() -> None:
    house = House()
    async with a_call(house) as talk:
        voice = house.voices[0]
        voice.fail_on = {STORY}
        for _ in range(20):
            turn = await talk.asks("tell me a story")
            assert turn.spoken == STORY
        tried = [call.began for call in voice.calls]
        rests = [after - before for before, after in pairwise(tried)]
        assert len(tried) < 10
        assert rests[-1] > LONGEST_REST / 2
        voice.fail_on = set()
        await talk.clock.sleep(LONGEST_REST)
        turn = await talk.asks("tell me a story")
        assert asked(turn, EngineKind.TTS)[-1][:3] == (1, "chatterbox", ServiceOutcome.USED)


@pytest.mark.parametrize("seed", range(4))
@virtual_time
async def test_whatever_dies_and_comes_back_the_call_goes_on(seed: int) -> None:
    """Turns fail at most; once all are back, everything is as before."""
    random = Random(seed)
    house = House()
    engines = [*house.ears, *house.minds, *house.voices]

    async def misfortune() -> None:
        while True:
            await house.clock.sleep(random.expovariate(1 / 3))
            engine = random.choice(engines)
            engine.dead = not engine.dead

    async with a_call(house) as talk:
        striking = asyncio.create_task(misfortune())
        for _ in range(15):
            turn = await talk.asks("tell me a story")
            assert turn.error is None or turn.error.split(":")[0] in ("stt", "llm", "tts")
        striking.cancel()
        for engine in engines:
            engine.revive()
        await talk.clock.sleep(LONGEST_RETRY + 1)
        assert {rung.circuit for rung in house.engines.rungs(house.flavor)} == {CircuitState.CLOSED}
        turn = await talk.asks("tell me a story")
        assert (turn.spoken, turn.error) == (STORY, None)
        assert {use.rung for use in turn.services} == {1}


# ------------------------------------------------------------------------------ at the start


@virtual_time
async def test_a_first_choice_that_is_dead_at_the_start_keeps_no_flavor_from_answering_and_comes_back() -> None:
    house = House(greeting="Hello there.")
    for both in (house.ears, house.minds, house.voices):
        both[0].kill()
    async with house:
        assert house.engines.problem(house.flavor) == ""
        async with house.call() as talk:
            turn = await answered(talk)
            assert turn.spoken == "Hello there."
            turn = await talk.asks("tell me a story")
            assert {use.rung for use in turn.services} == {2}
            for both in (house.ears, house.minds, house.voices):
                both[0].revive()
            await house.clock.sleep(90)
            turn = await talk.asks("tell me a story")
            assert {use.rung for use in turn.services} == {1}


@virtual_time
async def test_where_all_are_dead_the_flavor_says_which_and_why() -> None:
    house = House()
    for voice in house.voices:
        voice.kill()
    async with house:
        assert house.engines.problem(house.flavor) == (
            "tts: chatterbox: connection refused; espeak: connection refused"
        )
        assert house.engines.refusal(house.flavor) == house.engines.problem(house.flavor)


# ------------------------------------------------------------------------------ the last resort

SORRY = "I am sorry, our assistant is out of order."
RESORT = {"apology": "One moment please.", "reprompt": ""}


def dies(house: House) -> None:
    for mind in house.minds:
        mind.kill()


@virtual_time
async def test_with_no_engine_left_the_caller_is_told_and_transferred() -> None:
    settings = LastResortSettings(say=SORRY, transfer="sip:desk@pbx.example")
    house = House(last_resort=settings, **RESORT)
    async with a_call(house) as talk:
        await talk.asks("tell me a story")
        dies(house)
        said = await talk.says("tell me a story")
        turn = await answered(talk, 3)
        assert [turn.spoken for turn in talk.notes.turns] == [STORY, "One moment please.", SORRY]
        assert longest_silence(talk, said, last_word(talk)) < SILENCE
        assert talk.notes.turns[1].error == "llm: vllm: connection refused; ollama: connection refused"
        assert [action for _, action in talk.notes.actions] == [Transfer("sip:desk@pbx.example")]
        assert talk.notes.actions[0][0] >= last_word(talk), "what was said was heard"
        assert turn.error is None


@virtual_time
async def test_with_no_voice_left_what_was_kept_is_said_all_the_same() -> None:
    house = House(last_resort=LastResortSettings(say=SORRY), **RESORT)
    async with a_call(house) as talk:
        for voice in house.voices:
            voice.kill()
        said = await talk.says("tell me a story")
        await answered(talk, 2)
        assert talk.notes.turns[1].spoken == SORRY
        assert longest_silence(talk, said, last_word(talk)) < SILENCE
        assert [action for _, action in talk.notes.actions] == [HangUp("no engine left", Party.SYSTEM)]


@virtual_time
async def test_words_that_nobody_can_say_keep_no_caller_waiting() -> None:
    settings = LastResortSettings(say="Goodbye, {{calling_name|dear}}.", transfer="2000")
    house = House(last_resort=settings, apology="")
    async with a_call(house) as talk:
        for voice in house.voices:
            voice.kill()
        said = await talk.says("tell me a story")
        await talk.clock.sleep(3)
        [(at, action)] = talk.notes.actions
        assert action == Transfer("2000")
        assert at - said < SILENCE


@virtual_time
async def test_a_menu_takes_keys_is_repeated_and_ends_the_call_of_those_who_press_none() -> None:
    menu = LastResortSettings(say="Press 1 for sales, or 2 for the desk.", keys={"1": "2001", "2": "2002"})
    house = House(last_resort=menu, **RESORT)
    async with house:
        dies_at_once = house.call()
        async with dies_at_once as talk:
            dies(house)
            await talk.says("tell me a story")
            await answered(talk, 2)
            talk.presses("2")
            assert [action for _, action in talk.notes.actions] == [Transfer("2002")]
        async with house.call() as talk:
            await talk.clock.sleep(60)
            assert [turn.spoken for turn in talk.notes.turns] == [menu.say] * 3
            assert [action for _, action in talk.notes.actions] == [HangUp("no engine left", Party.SYSTEM)]


@virtual_time
async def test_who_speaks_into_the_menu_with_no_recogniser_left_can_still_press_a_key() -> None:
    menu = LastResortSettings(say="Press 1 for sales, or 2 for the desk.", keys={"1": "2001"})
    house = House(last_resort=menu, **RESORT)
    async with a_call(house) as talk:
        for ear in house.ears:
            ear.kill()
        await talk.says("tell me a story")
        await answered(talk, 2)
        assert [turn.spoken for turn in talk.notes.turns] == ["One moment please.", menu.say]
        await talk.asks("hello")
        assert talk.notes.actions == []
        talk.presses("1")
        assert [action for _, action in talk.notes.actions] == [Transfer("2001")]


@virtual_time
async def test_a_call_that_comes_when_all_is_lost_gets_the_last_resort_and_no_greeting() -> None:
    house = House(greeting="Hello there.", last_resort=LastResortSettings(say=SORRY, transfer="2000"), **RESORT)
    async with house:
        dies(house)
        house.engines.suspect(house.flavor)
        await house.clock.sleep(FIRST_RETRY / 2)
        assert house.engines.problem(house.flavor) != ""
        assert house.engines.refusal(house.flavor) == ""
        async with house.call() as talk:
            await answered(talk)
            assert [turn.spoken for turn in talk.notes.turns] == [SORRY]
            assert [action for _, action in talk.notes.actions] == [Transfer("2000")]


@virtual_time
async def test_an_engine_that_comes_back_during_the_menu_gives_the_caller_his_conversation_back() -> None:
    menu = LastResortSettings(say="Press 1 for sales.", keys={"1": "2001"})
    house = House(last_resort=menu, **RESORT)
    async with a_call(house) as talk:
        dies(house)
        await talk.says("tell me a story")
        await answered(talk, 2)
        for mind in house.minds:
            mind.revive()
        await talk.clock.sleep(3)
        turn = await talk.asks("tell me a story")
        assert turn.spoken.endswith(STORY)
        await talk.clock.sleep(60)
        assert talk.notes.actions == []


@virtual_time
async def test_a_single_failure_is_an_apology_and_no_last_resort() -> None:
    """Each engine is well, and the request was not."""
    house = House({"poison": [EngineRefused("vllm", "no")]}, last_resort=LastResortSettings(transfer="1"), **RESORT)
    house.minds[1]._answers = {"poison": [EngineRefused("ollama", "no")]}
    async with a_call(house) as talk:
        turn = await talk.asks("poison")
        assert turn.spoken == "One moment please."
        turn = await talk.asks("tell me a story")
        assert (turn.spoken, talk.notes.actions) == (STORY, [])
        await talk.asks("poison")
        await talk.asks("poison")
        await talk.clock.sleep(1)
        assert [action for _, action in talk.notes.actions] == [Transfer("1")]
