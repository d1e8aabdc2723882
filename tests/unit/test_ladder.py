"""Engines that succeed one another, part by part: circuits, deadlines, and where the next one goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import product

import numpy as np
import pytest

from connector.audio import Audio
from connector.errors import (
    EngineBusy,
    EngineError,
    EngineLate,
    EngineMistaken,
    EngineRefused,
    EngineUnreachable,
    ProtocolError,
)
from connector.interfaces import (
    EngineKind,
    HangUp,
    Message,
    ReplyEvent,
    Role,
    ServiceOutcome,
    TextDelta,
    TextToSpeech,
    TurnRecord,
    TurnTiming,
)
from connector.pipeline.cached_speech import CachedSpeech, SpeechCache, SpeechCaches
from connector.pipeline.circuit import FIRST_REST, LONGEST_REST, TRANSITIONS, Circuit, CircuitEvent, CircuitState
from connector.pipeline.deadlines import (
    USUAL_UTTERANCE,
    TimelyLanguageModel,
    TimelySpeechToText,
    TimelyTextToSpeech,
)
from connector.pipeline.ladder import (
    GO_ON,
    LanguageModelLadder,
    Rung,
    SpeechToTextLadder,
    TextToSpeechLadder,
    continued,
    remainder,
)
from connector.pipeline.meter import Meter
from connector.pipeline.metered import Metering
from tests.fakes.clock import LoopClock, virtual_time
from tests.fakes.engines import (
    FakeLanguageModel,
    FakeSpeechToText,
    FakeTextToSpeech,
    Synthesis,
    ToneBook,
    join,
    silence,
    tone,
)

ASKED = [Message(Role.SYSTEM, "be brief"), Message(Role.USER, "tell me")]


def failure() -> EngineError:
    return EngineUnreachable("voice", "connection refused")


# ------------------------------------------------------------------------------ circuits


class Watched:
    """A circuit that counts the probes that it asks for."""

    def __init__(self) -> None:
        self.doubts = 0
        self.circuit = Circuit("voice", self._doubt)

    def _doubt(self) -> None:
        self.doubts += 1

    def close(self) -> Circuit:
        self.circuit.probe_began()
        self.circuit.probe_passed()
        return self.circuit


def test_a_circuit_is_open_until_a_first_probe_passes() -> None:
    watched = Watched()
    circuit = watched.circuit
    assert (circuit.state, circuit.problem) == (CircuitState.OPEN, "voice: starting")
    circuit.probe_began()
    assert circuit.state is CircuitState.HALF_OPEN
    circuit.probe_failed("voice: not installed")
    assert (circuit.state, circuit.problem) == (CircuitState.OPEN, "voice: not installed")
    watched.close()
    assert (circuit.state, circuit.problem, watched.doubts) == (CircuitState.CLOSED, "", 0)


def test_a_failed_request_opens_it_and_asks_for_a_probe_at_once() -> None:
    watched = Watched()
    circuit = watched.close()
    circuit.failed(failure())
    assert (circuit.state, circuit.problem) == (CircuitState.OPEN, "voice: connection refused")
    assert (watched.doubts, circuit.rest) == (1, 0)
    circuit.failed(failure())
    circuit.served()
    assert (circuit.state, watched.doubts) == (CircuitState.OPEN, 1), "these began before it opened"


def test_a_request_that_was_refused_asks_for_a_probe_and_opens_nothing() -> None:
    watched = Watched()
    circuit = watched.close()
    circuit.failed(EngineRefused("voice", "too long"))
    assert (circuit.state, watched.doubts, circuit.problem) == (CircuitState.CLOSED, 1, "")


def test_a_request_for_which_there_is_no_place_tells_nothing_of_the_engine() -> None:
    watched = Watched()
    circuit = watched.close()
    for _ in range(5):
        circuit.failed(EngineBusy("voice", "503: all streams are taken"))
    assert (circuit.state, watched.doubts, circuit.problem) == (CircuitState.CLOSED, 0, "")


def test_an_engine_that_is_late_now_and_then_is_busy_and_one_that_is_always_late_hangs() -> None:
    watched = Watched()
    circuit = watched.close()
    for _ in range(3):
        circuit.failed(EngineLate("voice", "no audio"))
        assert circuit.closed
        circuit.served()
    assert watched.doubts == 3
    circuit.failed(EngineLate("voice", "no audio"))
    circuit.failed(EngineLate("voice", "no audio"))
    assert (circuit.state, circuit.problem) == (CircuitState.OPEN, "voice: no audio")
    watched.close().failed(EngineLate("voice", "no audio"))
    assert (circuit.state, circuit.rest) == (CircuitState.OPEN, FIRST_REST), "nothing was served meanwhile"


def test_one_answer_that_is_of_no_use_is_no_reason_to_keep_all_calls_from_the_engine() -> None:
    """A model makes up a tool now and then. One that does nothing else is given up."""
    watched = Watched()
    circuit = watched.close()
    for _ in range(3):
        circuit.failed(EngineMistaken("llm", "the model made up a call of the tool 'fly'"))
        assert (circuit.state, circuit.problem) == (CircuitState.CLOSED, "")
        circuit.served()
    for _ in range(2):
        circuit.failed(EngineMistaken("llm", "answered with nothing"))
    assert (circuit.state, circuit.problem) == (CircuitState.OPEN, "llm: answered with nothing")


def test_a_request_that_found_nobody_asks_for_a_probe() -> None:
    watched = Watched()
    watched.circuit.missed()
    assert watched.doubts == 1
    watched.close().missed()
    assert watched.doubts == 1, "it would have been asked"


def test_probes_become_rare_while_no_request_is_served() -> None:
    watched = Watched()
    rests = []
    for _ in range(8):
        watched.close().failed(failure())
        rests.append(watched.circuit.rest)
    assert rests == [0, FIRST_REST, 10, 20, 40, LONGEST_REST, LONGEST_REST, LONGEST_REST]
    watched.close().served()
    watched.circuit.failed(failure())
    assert watched.circuit.rest == 0


def test_a_probe_that_passed_says_nothing_of_a_failure_that_came_after_it_began() -> None:
    circuit = Watched().close()
    circuit.probe_began()
    circuit.failed(failure())
    circuit.probe_passed()
    assert circuit.state is CircuitState.OPEN


def test_the_table_leaves_out_only_probes_that_cannot_be() -> None:
    missing = set(product(CircuitState, CircuitEvent)) - TRANSITIONS.keys()
    assert missing == {(CircuitState.HALF_OPEN, CircuitEvent.PROBE_BEGAN)}
    circuit = Watched().circuit
    circuit.probe_began()
    with pytest.raises(ProtocolError, match="'probe began' cannot happen while it is half-open"):
        circuit.probe_began()
    assert circuit.state is CircuitState.HALF_OPEN


# ------------------------------------------------------------------------------ deadlines


async def heard(voice: TextToSpeech, text: str) -> Audio:
    return join(*[chunk async for chunk in voice.synthesize(text)])


@virtual_time
async def test_a_recogniser_gets_more_time_for_a_long_utterance() -> None:
    recogniser = FakeSpeechToText(ToneBook(), delay=1.0)
    timely = TimelySpeechToText(recogniser, "ear", 0.6, LoopClock())
    with pytest.raises(EngineLate, match=r"ear: no text within 0\.6 s"):
        await timely.transcribe(tone(440, 1.0))
    assert LoopClock().now() == pytest.approx(0.6)
    assert recogniser.aborted == 1
    assert (await timely.transcribe(tone(440, 2 * USUAL_UTTERANCE))).text == ""


@virtual_time
async def test_a_model_owes_its_first_text_and_then_what_follows_before_the_caller_has_heard_it_all() -> None:
    long = "This is a long sentence whose sixty characters take four seconds. Then"
    model = FakeLanguageModel({"tell me": [long, 3.5, " more. ", 5.0, "Never."]}, per_word=0)
    timely = TimelyLanguageModel(model, "mind", 0.7, LoopClock())
    got: list[str] = []

    async def listen() -> None:
        async for event in timely.reply(ASKED):
            assert isinstance(event, TextDelta)
            got.append(event.text)

    with pytest.raises(EngineLate, match="mind: no more text within"):
        await listen()
    assert "".join(got) == f"{long} more. "
    assert model.aborted == 1
    model.first_token = 0.8
    began = LoopClock().now()
    with pytest.raises(EngineLate, match=r"no text within 0\.7 s"):
        await anext(aiter(timely.reply(ASKED)))
    assert LoopClock().now() - began == pytest.approx(0.7)


@virtual_time
async def test_what_a_model_has_written_of_a_sentence_is_nothing_to_hear() -> None:
    model = FakeLanguageModel({"tell me": ["Once upon a time there was a king who had three", 60.0]})
    timely = TimelyLanguageModel(model, "mind", 0.7, LoopClock())

    async def listen() -> None:
        async for _ in timely.reply(ASKED):
            pass

    with pytest.raises(EngineLate, match=r"no more text within 0\.7 s"):
        await listen()


@virtual_time
async def test_a_voice_may_pause_for_as_long_as_there_is_something_to_hear() -> None:
    class Halting(FakeTextToSpeech):
        async def synthesize(self, text: str) -> AsyncIterator[Audio]:
            yield tone(440, 2.0)
            await asyncio.sleep(1.9)
            yield tone(440, 1.0)
            await asyncio.sleep(60)

    timely = TimelyTextToSpeech(Halting(), "voice", 0.6, LoopClock())
    got: list[float] = []

    async def listen() -> None:
        nonlocal got
        async for chunk in timely.synthesize("hello"):
            got += [chunk.seconds]

    with pytest.raises(EngineLate, match="voice: no more audio"):
        await listen()
    assert got == [2.0, 1.0]
    assert LoopClock().now() == pytest.approx(3.0, abs=0.01), "given up when it has all been heard, and no later"


# ------------------------------------------------------------------------------ where the next one goes on

TEXT = "Once upon a time there was a king."


@pytest.mark.parametrize(
    ("spoken", "rest"),
    [
        (0, TEXT),
        (4, TEXT),
        (9, "upon a time there was a king."),
        (20, "time there was a king."),
        (21, "there was a king."),
        (len(TEXT), "king."),
        (len(TEXT) + 3, "king."),
        (len(TEXT) + 4, ""),
    ],
)
def test_the_rest_of_a_sentence_begins_with_a_word_at_or_before_the_place(spoken: float, rest: str) -> None:
    assert remainder(TEXT, spoken) == rest


def test_a_mark_that_stands_apart_is_no_rest() -> None:
    assert remainder("Voulez-vous vraiment partir ?", 32.5) == ""
    assert remainder("Voulez-vous vraiment partir ?", 31.5) == "partir ?"


def test_the_rest_begins_anywhere_where_there_are_no_spaces() -> None:
    assert remainder("これはとても長い文章です。", 10) == "長い文章です。"


@pytest.mark.parametrize("cut", range(0, len(TEXT), 3))
def test_no_word_is_lost_and_two_at_most_are_repeated(cut: int) -> None:
    rest = remainder(TEXT, cut)
    assert TEXT.endswith(rest)
    start = len(TEXT) - len(rest)
    assert start <= cut
    assert len(TEXT[start:cut].split()) <= 3, "two, and the one that was begun"


def test_a_model_goes_on_after_what_another_one_wrote_and_a_script_begins_again() -> None:
    assert continued(ASKED, "Well, I ") == [*ASKED, Message(Role.ASSISTANT, "Well, I"), Message(Role.USER, GO_ON)]
    assert continued(ASKED, "") == ASKED
    assert continued(ASKED, "Well, I ", phrases=("hello",)) == ASKED


# ------------------------------------------------------------------------------ ladders


class Breaking(FakeTextToSpeech):
    """Breaks off after so many chunks of 0.2 s."""

    def __init__(self, chunks: int, rate: int = 8000) -> None:
        super().__init__(rate=rate)
        self.chunks = chunks

    async def synthesize(self, text: str) -> AsyncIterator[Audio]:
        left = self.chunks
        async for chunk in super().synthesize(text):
            if not left:
                raise failure()
            left -= 1
            yield chunk


class Writing(FakeLanguageModel):
    """Writes the given events, and then fails."""

    def __init__(self, *events: ReplyEvent, fails: bool = True, phrases: Sequence[str] = ()) -> None:
        super().__init__()
        self.events = events
        self.fails = fails
        self.phrases = phrases

    async def reply(self, history: Sequence[Message]) -> AsyncIterator[ReplyEvent]:
        self.histories.append(tuple(history))
        for event in self.events:
            yield event
        if self.fails:
            raise EngineUnreachable("mind", "gone")


def rungs(*engines: object, kind: EngineKind = EngineKind.TTS) -> list[Rung]:  # type: ignore[type-arg]
    made = []
    for number, engine in enumerate(engines, 1):
        circuit = Watched().close()
        made.append(Rung(number, circuit, Meter(kind, f"e{number}"), lambda engine=engine: engine))
    return made


def deltas(*texts: str) -> list[TextDelta]:
    return [TextDelta(text) for text in texts]


async def written(*models: Writing) -> tuple[str, list[ReplyEvent]]:
    ladder = LanguageModelLadder("llm", rungs(*models, kind=EngineKind.LLM))
    events = [event async for event in ladder.reply(ASKED)]
    return "".join(event.text for event in events if isinstance(event, TextDelta)), events


@virtual_time
async def test_a_reply_is_joined_at_a_whole_word() -> None:
    first = Writing(*deltas("It is", " sun", "ny and wa"))
    second = Writing(*deltas("warm", "."), fails=False)
    text, _ = await written(first, second)
    assert text == "It is sunny and warm."
    assert second.histories[-1][-2].content == "It is sunny and"


@pytest.mark.parametrize(("rest", "text"), [(" Sir", "Good day. Sir"), ("Sir", "Good day. Sir"), ("!", "Good day.!")])
@virtual_time
async def test_a_reply_is_joined_with_one_space_where_one_belongs(rest: str, text: str) -> None:
    assert (await written(Writing(*deltas("Good day.")), Writing(*deltas(rest), fails=False)))[0] == text


@virtual_time
async def test_words_come_before_what_the_model_wishes() -> None:
    text, events = await written(Writing(*deltas("Good", "bye"), HangUp(), fails=False))
    assert text == "Goodbye"
    assert events[-1] == HangUp()


@virtual_time
async def test_letters_of_scripts_without_spaces_are_not_held_back() -> None:
    ladder = LanguageModelLadder("llm", rungs(Writing(*deltas("你好", "世界"), fails=False), kind=EngineKind.LLM))
    events = [event async for event in ladder.reply(ASKED)]
    assert events == deltas("你好", "世界")


@virtual_time
async def test_a_voice_of_another_rate_goes_on_without_its_leading_silence() -> None:
    class Slow(FakeTextToSpeech):
        async def synthesize(self, text: str) -> AsyncIterator[Audio]:
            self.calls.append(Synthesis(text, 0.0))
            yield silence(0.4, self.rate)
            yield tone(300, 1.0, self.rate)

    first, second = Breaking(5), Slow(rate=16000)
    ladder = TextToSpeechLadder("tts", rungs(first, second))
    chunks = [chunk async for chunk in ladder.synthesize(TEXT)]
    assert [chunk.rate for chunk in chunks[:5]] == [8000] * 5
    after = join(*chunks[5:])
    assert after.rate == 16000
    assert after.seconds == pytest.approx(1.02, abs=0.01)
    assert second.texts == ["a time there was a king."]


@virtual_time
async def test_the_pace_of_a_voice_is_learnt() -> None:
    slow = FakeTextToSpeech(pace=6.0)
    both = rungs(slow, FakeTextToSpeech())
    ladder = TextToSpeechLadder("tts", both)
    for _ in range(40):
        await heard(ladder, TEXT)
    assert both[0].meter.pace == pytest.approx(6.0, rel=0.05)


@virtual_time
async def test_a_voice_that_breaks_off_at_the_very_end_is_not_followed() -> None:
    first, second = Breaking(13), FakeTextToSpeech()
    first.pace = 12.0  # slower than thought: what it has said counts for more than the text
    ladder = TextToSpeechLadder("tts", rungs(first, second))
    await heard(ladder, TEXT)
    assert second.texts == []


@virtual_time
async def test_where_all_fail_the_error_names_each_with_its_cause() -> None:
    voices = rungs(Breaking(0), Breaking(1))
    ladder = TextToSpeechLadder("tts", voices)
    with pytest.raises(EngineError, match="tts: voice: connection refused; voice: connection refused"):
        await heard(ladder, TEXT)
    with pytest.raises(EngineError, match="tts: voice: connection refused; voice: connection refused"):
        await ladder.check()
    closed = TextToSpeechLadder("tts", rungs(FakeTextToSpeech()))
    await closed.check()


@virtual_time
async def test_nobody_is_asked_whose_circuit_is_open() -> None:
    both = rungs(FakeTextToSpeech(), FakeTextToSpeech())
    both[0].circuit.failed(failure())
    await heard(TextToSpeechLadder("tts", both), TEXT)
    assert both[0].engine().texts == []
    assert both[1].engine().texts == [TEXT]


@virtual_time
async def test_a_request_that_is_given_up_by_the_caller_is_nobodys_failure() -> None:
    both = rungs(FakeTextToSpeech(), FakeTextToSpeech())
    speech = TextToSpeechLadder("tts", both).synthesize(TEXT)
    await anext(speech)
    await speech.aclose()
    assert both[0].circuit.closed
    assert both[0].engine().aborted == 1
    recognisers = rungs(FakeSpeechToText(ToneBook(), delay=5), FakeSpeechToText(ToneBook()), kind=EngineKind.STT)
    asking = asyncio.create_task(SpeechToTextLadder("stt", recognisers).transcribe(tone(440, 1)))
    await asyncio.sleep(1)
    asking.cancel()
    await asyncio.wait([asking])
    assert recognisers[0].circuit.closed


@virtual_time
async def test_the_phrases_are_those_of_who_would_be_asked() -> None:
    models = rungs(Writing(phrases=("hello",)), Writing(phrases=("bye",)), kind=EngineKind.LLM)
    ladder = LanguageModelLadder("llm", models)
    assert ladder.phrases == ("hello",)
    models[0].circuit.failed(failure())
    assert ladder.phrases == ("bye",)
    models[1].circuit.failed(failure())
    assert ladder.phrases == ()


# ------------------------------------------------------------------------------ caches and meters


@virtual_time
async def test_what_any_voice_has_kept_is_said_by_it_at_once() -> None:
    voices = [FakeTextToSpeech(rate=24000), FakeTextToSpeech()]
    caches = [SpeechCache([TEXT]), SpeechCache([TEXT, "Bye."])]
    both = rungs(*(CachedSpeech(voice, cache) for voice, cache in zip(voices, caches, strict=True)))
    cached = CachedSpeech(TextToSpeechLadder("tts", both), SpeechCaches(caches))
    for rung in both:
        await heard(rung.engine(), TEXT)
    await heard(both[1].engine(), "Bye.")
    for rung in both:
        rung.circuit.failed(failure())
    began = LoopClock().now()
    assert (await heard(cached, TEXT)).rate == 24000
    assert (await heard(cached, "Bye.")).rate == 8000
    assert LoopClock().now() == began
    with pytest.raises(EngineError):
        await heard(cached, "Something new.")


@virtual_time
async def test_a_text_that_two_voices_said_is_kept_by_neither() -> None:
    """Each would keep half of it."""
    caches = [SpeechCache([TEXT]), SpeechCache([TEXT])]
    voices = [CachedSpeech(Breaking(4), caches[0]), CachedSpeech(FakeTextToSpeech(), caches[1])]
    cached = CachedSpeech(TextToSpeechLadder("tts", rungs(*voices)), SpeechCaches(caches))
    await heard(cached, TEXT)
    assert [cache.missing for cache in caches] == [[TEXT], [TEXT]]


@virtual_time
async def test_each_rung_is_metered_as_itself() -> None:
    both = rungs(Breaking(3), FakeTextToSpeech())
    metering = Metering(LoopClock())
    ladder = TextToSpeechLadder("tts", both)
    speech = await heard(metering.tts(ladder, 1), TEXT)
    record = metering.settle(TurnRecord(1, "", TEXT, TEXT, False, None, TurnTiming(decided=0.0)), 60.0)
    assert [(use.rung, use.engine, use.outcome, use.error) for use in record.services] == [
        (1, "e1", ServiceOutcome.FAILED, "connection refused"),
        (2, "e2", ServiceOutcome.USED, ""),
    ]
    assert sum(use.audio_out for use in record.services) == pytest.approx(speech.seconds, abs=0.05)
    assert record.wasted == 0
    assert np.abs(speech.samples).max() > 0
