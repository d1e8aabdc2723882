"""Turn-taking in virtual time: speculation, ends of turns, interruptions, and what is remembered of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from connector.config.model import Flavor
from connector.errors import EngineError
from connector.host.vad import BatchedVadService
from connector.interfaces import HangUp, Party, PauseRecording
from connector.pipeline.cascade import BACK_SECONDS, Cascade
from connector.turn.barge_in import LONG_SPEECH
from connector.turn.state import TRANSITIONS, Turn, TurnEvent, TurnMachine
from tests.fakes.clock import run_virtual, virtual_time
from tests.fakes.engines import FakeLanguageModel, FakeVad, join, noise, silence, tone
from tests.scenarios.conversation import FLAVOR, FRAME, QUIET, WINDOW, Conversation

ASKS = "what are your opening hours"
HOURS = (
    "We are open from nine to five on every working day. On Saturdays we open at ten and close at two. "
    "On Sundays and on public holidays we are closed."
)
ANSWERS: Mapping[str, Any] = {ASKS: [HOURS], "no wait stop please": ["Of course."]}


class TracedMachine(TurnMachine):
    """Keeps the rows of the table that were used."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[Turn, TurnEvent]] = []

    def apply(self, event: TurnEvent) -> Turn:
        row = self.turn, event
        following = super().apply(event)
        self.rows.append(row)
        return following


class Traced(Cascade):
    """Of which a test may know what its machine went through."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.machine = self._machine = TracedMachine()


def rows(talk: Conversation) -> list[tuple[Turn, TurnEvent]]:
    assert isinstance(talk.pipeline, Traced)
    return talk.pipeline.machine.rows


async def spoken_to(talk: Conversation, seconds: float = 2.0) -> None:
    """The agent has been answering for `seconds`."""
    await talk.says(ASKS)
    await talk.until_voice()
    await talk.clock.sleep(seconds)


# ------------------------------------------------------------------------------ every row of the table


async def asks(talk: Conversation) -> None:
    await talk.asks(ASKS)
    assert talk.notes.turns[0].spoken == HOURS


async def keys(talk: Conversation) -> None:
    talk.presses("12#")
    await talk.notes.wait_for_turns(1)
    assert talk.notes.turns[0].heard == "12"


async def is_greeted(talk: Conversation) -> None:
    talk.pipeline.say("Welcome.")
    await talk.notes.wait_for_turns(1)
    assert talk.notes.turns[0].spoken == "Welcome."


async def a_key_while_speaking(talk: Conversation) -> None:
    await talk.port.caller_says(talk.book.speak("my number is", 0.5))
    talk.presses("7")
    await talk.says("seven", 0.3)
    await talk.notes.wait_for_turns(1)
    assert "7" in talk.notes.turns[0].heard.split()


async def goes_on_while_the_agent_thinks(talk: Conversation) -> None:
    talk.llm.first_token = 2.0
    await talk.says("hello there how are you")
    await talk.clock.sleep(1.5)
    await talk.says(ASKS)
    await talk.notes.wait_for_turns(1)
    assert talk.notes.turns[0].heard == f"hello there how are you {ASKS}"


async def a_key_while_the_agent_thinks(talk: Conversation) -> None:
    talk.llm.first_token = 3.0
    await talk.says(ASKS)
    await talk.clock.sleep(2.5)
    talk.presses("1#")
    await talk.notes.wait_for_turns(1)
    assert talk.notes.turns[0].heard == f"{ASKS} 1"


async def makes_noise(talk: Conversation) -> None:
    await talk.port.caller_says(noise(1.0))
    await talk.clock.sleep(3)
    assert not talk.notes.turns


async def gets_an_answer_without_words(talk: Conversation) -> None:
    await talk.asks("silence please")
    assert talk.notes.turns[0].spoken == ""


async def coughs_over_the_voice(talk: Conversation) -> None:
    await spoken_to(talk)
    await talk.port.caller_says(noise(0.25))
    await talk.notes.wait_for_turns(1)
    assert (talk.notes.turns[0].spoken, talk.notes.turns[0].interrupted) == (HOURS, False)


async def a_key_over_the_voice(talk: Conversation) -> None:
    await spoken_to(talk)
    talk.presses("5#")
    await talk.notes.wait_for_turns(2)
    assert talk.notes.turns[0].interrupted
    assert HOURS.startswith(talk.notes.turns[0].spoken)


async def interrupts(talk: Conversation) -> None:
    await spoken_to(talk)
    await talk.says("no wait stop please")
    await talk.notes.wait_for_turns(2)
    cut, answer = talk.notes.turns
    assert cut.interrupted
    assert 0 < len(cut.spoken) < len(HOURS)
    assert HOURS.startswith(cut.spoken)
    assert answer.spoken == "Of course."


async def a_key_while_the_voice_is_paused(talk: Conversation) -> None:
    await spoken_to(talk)
    await talk.port.caller_says(noise(0.2))
    talk.presses("5#")
    await talk.notes.wait_for_turns(2)
    assert talk.notes.turns[1].heard == "5"


async def the_media_end_while_the_voice_is_paused(talk: Conversation) -> None:
    await spoken_to(talk, 6.0)  # all of it is synthesised
    await talk.port.caller_says(noise(0.2))
    talk.port.end()
    await talk.notes.wait_for_turns(1)
    assert HOURS.startswith(talk.notes.turns[0].spoken)


SCRIPTS: Mapping[tuple[Turn, TurnEvent], Callable[[Conversation], Awaitable[None]]] = {
    (Turn.LISTENING, TurnEvent.CALLER_STARTED): asks,
    (Turn.LISTENING, TurnEvent.KEY_PRESSED): keys,
    (Turn.LISTENING, TurnEvent.KEYS_ENTERED): keys,
    (Turn.LISTENING, TurnEvent.PROMPT_DUE): is_greeted,
    (Turn.CALLER_SPEAKING, TurnEvent.CALLER_FINISHED): asks,
    (Turn.CALLER_SPEAKING, TurnEvent.KEY_PRESSED): a_key_while_speaking,
    (Turn.THINKING, TurnEvent.CALLER_STARTED): goes_on_while_the_agent_thinks,
    (Turn.THINKING, TurnEvent.KEY_PRESSED): a_key_while_the_agent_thinks,
    (Turn.THINKING, TurnEvent.NOTHING_HEARD): makes_noise,
    (Turn.THINKING, TurnEvent.VOICE_STARTED): asks,
    (Turn.THINKING, TurnEvent.REPLY_OVER): gets_an_answer_without_words,
    (Turn.SPEAKING, TurnEvent.VOICE_PAUSED): coughs_over_the_voice,
    (Turn.SPEAKING, TurnEvent.KEY_PRESSED): a_key_over_the_voice,
    (Turn.SPEAKING, TurnEvent.REPLY_OVER): asks,
    (Turn.YIELDING, TurnEvent.CALLER_STARTED): interrupts,
    (Turn.YIELDING, TurnEvent.VOICE_RESUMED): coughs_over_the_voice,
    (Turn.YIELDING, TurnEvent.KEY_PRESSED): a_key_while_the_voice_is_paused,
    (Turn.YIELDING, TurnEvent.REPLY_OVER): the_media_end_while_the_voice_is_paused,
}


@pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: f"{row[0].name} {row[1].name}")
def test_every_row_of_the_turn_table_happens(row: tuple[Turn, TurnEvent]) -> None:
    async def live() -> None:
        async with Conversation(answers={**ANSWERS, "silence please": [0.1]}, make=Traced) as talk:
            await SCRIPTS[row](talk)
            assert row in rows(talk)

    run_virtual(live())


# ------------------------------------------------------------------------------ a voice that pauses stays so


class DoubtfulVad(FakeVad):
    """Once `doubtful`, finds nothing more than possible."""

    doubtful = False

    async def probabilities(
        self, windows: NDArray[np.float32], states: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        probabilities, states = await super().probabilities(windows, states)
        return probabilities * np.float32(0.25 if self.doubtful else 1), states


def events(talk: Conversation) -> list[TurnEvent]:
    return [event for _, event in rows(talk)]


@virtual_time
async def test_the_closure_of_a_consonant_does_not_bring_the_voice_back() -> None:
    async with Conversation(answers=ANSWERS, make=Traced) as talk:
        await spoken_to(talk)
        await talk.port.caller_says(join(noise(0.1), silence(0.2), talk.book.speak("no wait stop please")))
        await talk.notes.wait_for_turns(2)
        assert TurnEvent.VOICE_RESUMED not in events(talk)
        assert talk.notes.turns[0].interrupted


@virtual_time
async def test_a_loud_sound_that_is_hardly_speech_makes_the_voice_pause_once() -> None:
    vad = DoubtfulVad()
    service = BatchedVadService(vad)
    async with Conversation(answers=ANSWERS, make=Traced, vad=service) as talk:
        await spoken_to(talk)
        vad.doubtful = True
        await talk.port.caller_says(noise(0.2))
        await talk.notes.wait_for_turns(1)
        assert events(talk).count(TurnEvent.VOICE_PAUSED) == 1
        assert (talk.notes.turns[0].spoken, talk.notes.turns[0].interrupted) == (HOURS, False)
    await service.aclose()


# ------------------------------------------------------------------------------ speculation


@virtual_time
async def test_the_answer_is_ready_when_the_turn_ends() -> None:
    async with Conversation(answers={ASKS: ["From nine to five."]}) as talk:
        end = await talk.says(ASKS)
        voice = await talk.until_voice()
        assert voice - end == pytest.approx(talk.flavor.turn.end_silence + talk.port.input_delay, abs=3 * FRAME)
        timing = (await talk_over(talk)).timing
        assert timing.hint is not None
        assert timing.released is not None
        assert timing.first_audio is not None
        assert timing.hint < timing.first_audio <= timing.released + FRAME


async def talk_over(talk: Conversation, turns: int = 1) -> Any:
    await talk.notes.wait_for_turns(turns)
    return talk.notes.turns[-1]


@virtual_time
async def test_nobody_hears_or_remembers_an_answer_to_half_a_sentence() -> None:
    first, second = "can you tell me the price", "of the blue one"
    answers = {first: ["Which one?"], f"{first} {second}": ["Ten euros."]}
    async with Conversation(answers=answers) as talk:
        pause = talk.flavor.turn.end_silence - 2 * WINDOW
        await talk.port.caller_says(join(talk.book.speak(first), silence(pause), talk.book.speak(second)))
        turn = await talk_over(talk)
        assert (turn.heard, turn.spoken) == (f"{first} {second}", "Ten euros.")
        assert turn.speculations >= 1
        assert turn.wasted >= 1
        assert talk.port.voice_between(0, talk.clock.now()) == pytest.approx(talk.tts.seconds("Ten euros."), abs=0.05)
        await talk.asks("thank you")
        assert talk.history[1:3] == [("user", f"{first} {second}"), ("assistant", "Ten euros.")]


@virtual_time
async def test_a_dropped_answer_is_aborted_at_the_engine() -> None:
    first, second = "can you tell me the price", "of the blue one"
    async with Conversation(answers={first: [HOURS, 5.0, HOURS], f"{first} {second}": ["Ten euros."]}) as talk:
        await talk.port.caller_says(join(talk.book.speak(first), silence(0.4), talk.book.speak(second)))
        assert (await talk_over(talk)).spoken == "Ten euros."
        assert talk.llm.aborted == 1


@virtual_time
async def test_no_more_answers_are_begun_for_a_turn_than_allowed() -> None:
    async with Conversation(max_speculations=2) as talk:
        parts = [talk.book.speak(f"tell me more {index}", 0.4) for index in range(6)]
        await talk.port.caller_says(join(*[piece for part in parts for piece in (part, silence(0.3))]))
        await talk_over(talk)
        assert len(talk.llm.histories) == 3  # two in vain, and the one that was heard


@virtual_time
async def test_without_speculation_the_engines_work_once() -> None:
    async with Conversation(answers=ANSWERS, speculate=False) as talk:
        turn = await talk.asks(ASKS)
        assert len(talk.llm.histories) == 1
        assert turn.timing.hint is None
        assert turn.timing.first_token > turn.timing.decided


@virtual_time
async def test_a_speculation_that_fails_is_tried_again_once_it_matters() -> None:
    class FailsOnce(FakeLanguageModel):
        def fail_if_failing(self) -> None:
            if len(self.histories) == 1:
                raise EngineError(self.name, "out of order")

    async with Conversation(llm=FailsOnce(ANSWERS)) as talk:
        turn = await talk.asks(ASKS)
        assert (turn.spoken, turn.error) == (HOURS, None)


@virtual_time
async def test_what_a_dropped_answer_asked_of_the_call_is_not_done() -> None:
    first, second = "goodbye", "no wait one more thing"
    answers = {
        first: [PauseRecording(), "Goodbye then.", HangUp()],
        f"{first} {second}": ["Yes?"],
    }
    async with Conversation(answers=answers) as talk:
        await talk.port.caller_says(join(talk.book.speak(first), silence(0.4), talk.book.speak(second)))
        turn = await talk_over(talk)
        assert turn.heard == f"{first} {second}"
        assert talk.notes.actions == []


@virtual_time
async def test_a_slow_recogniser_is_not_kept_busy_with_every_dip() -> None:
    async with Conversation(answers=ANSWERS) as talk:
        talk.stt.delay = 1.0
        await talk.asks(ASKS)
        asked = len(talk.stt.utterances)
        words = [talk.book.speak(f"word {index}", 0.2) for index in range(8)]
        await talk.port.caller_says(join(*[piece for word in words for piece in (word, silence(0.1))]))
        await talk_over(talk, 2)
        assert len(talk.stt.utterances) - asked <= 2
        assert talk.notes.turns[-1].heard == " ".join(f"word {index}" for index in range(8))


# ------------------------------------------------------------------------------ the end of a turn


@pytest.mark.parametrize(
    ("words", "least", "most"),
    [
        ("yes please", 0.4, 0.7),
        ("what time do you open on saturday", 0.4, 0.7),
        ("i would like to book a table", 1.0, 1.8),
        ("my order number is", 1.4, 2.2),
        ("could you please send me the", 1.4, 2.2),
        ("well um", 1.4, 2.2),
    ],
)
def test_complete_sentences_are_answered_at_once_and_unfinished_ones_waited_for(
    words: str, least: float, most: float
) -> None:
    async def live() -> None:
        async with Conversation() as talk:
            end = await talk.says(words)
            waited = await talk.until_voice() - end - talk.port.input_delay
            assert least <= waited <= most

    run_virtual(live())


@virtual_time
async def test_a_caller_who_pauses_a_second_in_an_unfinished_sentence_is_not_cut_off() -> None:
    async with Conversation() as talk:
        parts = talk.book.speak("my order number is"), silence(1.0), talk.book.speak("seven four nine two one")
        await talk.port.caller_says(join(*parts))
        assert not talk.port.voice
        turn = await talk_over(talk)
        assert turn.heard == "my order number is seven four nine two one"


# ------------------------------------------------------------------------------ interruptions


@pytest.mark.parametrize("words", ["uh-huh", "yeah", "okay", "mm-hmm", "um"])
def test_a_listener_who_says_that_he_listens_stops_nobody(words: str) -> None:
    async def live() -> None:
        async with Conversation(answers=ANSWERS) as talk:
            await spoken_to(talk)
            began = talk.clock.now()
            await talk.says(words, 0.35)
            turn = await talk_over(talk)
            assert (turn.spoken, turn.interrupted) == (HOURS, False)
            gaps = [(early, late) for (early, _), (late, _) in pairwise(talk.port.voice) if late - early > 0.1]
            [(paused, resumed)] = gaps
            assert began < paused < resumed < began + 1.0
            await talk.asks("thank you")
            assert talk.history[1:3] == [("user", ASKS), ("assistant", HOURS)]

    run_virtual(live())


@virtual_time
async def test_a_yes_to_a_question_is_an_answer_though_the_voice_goes_on() -> None:
    answers = {ASKS: ["We are open from nine to five. Shall I book a table for you? " + HOURS], "yeah": ["Done."]}
    async with Conversation(answers=answers) as talk:
        await talk.says(ASKS)
        await talk.until_voice()
        question = talk.tts.seconds("We are open from nine to five.") + talk.tts.seconds(
            "Shall I book a table for you?"
        )
        await talk.clock.sleep(question - 0.02)
        await talk.says("yeah", 0.4)
        await talk.notes.wait_for_turns(2)
        assert talk.notes.turns[0].interrupted
        assert talk.notes.turns[1].spoken == "Done."


@virtual_time
async def test_the_voice_goes_on_from_the_word_in_which_it_paused() -> None:
    async with Conversation(answers=ANSWERS) as talk:
        await spoken_to(talk)
        before = talk.port.position.seconds
        await talk.port.caller_says(noise(0.2))
        paused = talk.port.position.seconds
        assert paused < before + 0.2
        await talk.clock.sleep(talk.flavor.turn.resume_after + 3 * WINDOW)
        assert talk.port.position.seconds - paused > -BACK_SECONDS
        assert (await talk_over(talk)).spoken == HOURS


@virtual_time
async def test_speech_that_no_recogniser_understands_takes_the_turn_when_it_lasts() -> None:
    async with Conversation(answers=ANSWERS) as talk:
        await spoken_to(talk)
        await talk.port.caller_says(tone(3700, LONG_SPEECH + 0.2))
        await talk.notes.wait_for_turns(1)
        assert talk.notes.turns[0].interrupted


@virtual_time
async def test_without_confirmation_by_words_speech_alone_takes_the_turn() -> None:
    async with Conversation(answers=ANSWERS, confirm_words=False) as talk:
        await spoken_to(talk)
        await talk.says("uh-huh", 0.4)
        await talk.notes.wait_for_turns(1)
        assert talk.notes.turns[0].interrupted


@virtual_time
async def test_the_model_learns_what_was_heard_and_that_it_was_cut() -> None:
    async with Conversation(answers=ANSWERS) as talk:
        await spoken_to(talk)
        await talk.says("no wait stop please")
        await talk.notes.wait_for_turns(2)
        spoken = talk.notes.turns[0].spoken
        assert HOURS.startswith(spoken)
        assert HOURS[len(spoken)] == " "  # to the word
        assert talk.history[1:] == [("user", ASKS), ("assistant", f"{spoken}…"), ("user", "no wait stop please")]


@virtual_time
async def test_a_passage_that_may_not_be_interrupted_is_heard_to_its_end() -> None:
    legal = "Calls are recorded for training."
    flavor = FLAVOR.model_copy(update={"greeting": f"<no-interrupt>{legal}</no-interrupt> How can I help you today?"})
    async with Conversation(flavor, ANSWERS) as talk:
        await talk.until_voice()
        await talk.clock.sleep(0.3)
        await talk.says("no wait stop please", 1.0)
        await talk.notes.wait_for_turns(1)
        assert talk.notes.turns[0].spoken == f"{legal} How can I help you today?"
        assert talk.notes.turns[0].reply == talk.notes.turns[0].spoken


@virtual_time
async def test_interruption_of_the_greeting() -> None:
    async with Conversation(FLAVOR, ANSWERS) as talk:
        await talk.until_voice()
        await talk.clock.sleep(0.8)
        await talk.says(ASKS)
        await talk.notes.wait_for_turns(2)
        greeting, answer = talk.notes.turns
        assert greeting.interrupted
        assert FLAVOR.greeting.startswith(greeting.spoken)
        assert (answer.heard, answer.spoken) == (ASKS, HOURS)
        assert talk.history[1:] == [("assistant", f"{greeting.spoken}…"), ("user", ASKS)]


LATE = QUIET.model_copy(update={"fillers": ("One moment please.", "Just a second."), "filler_after": 1.0})


@virtual_time
async def test_a_late_answer_is_bridged_by_a_filler() -> None:
    async with Conversation(LATE, {ASKS: [3.0, HOURS]}) as talk:
        turn = await talk.asks(ASKS)
        assert turn.spoken == f"One moment please. {HOURS}"
        assert turn.reply == HOURS
        await talk.asks(ASKS)
        assert talk.notes.turns[1].spoken.startswith("Just a second.")


@virtual_time
async def test_interruption_of_a_filler() -> None:
    async with Conversation(LATE, {**ANSWERS, ASKS: [4.0, HOURS]}) as talk:
        await talk.says(ASKS)
        await talk.until_voice()
        await talk.clock.sleep(0.4)
        await talk.says("no wait stop please")
        await talk.notes.wait_for_turns(2)
        cut, answer = talk.notes.turns
        assert cut.interrupted
        assert "One moment please.".startswith(cut.spoken)
        assert answer.spoken == "Of course."
        assert talk.llm.aborted >= 1
        assert any(ASKS in content for _, content in talk.history)


@virtual_time
async def test_a_caller_who_goes_on_just_before_a_held_answer_is_released() -> None:
    first, second = "can you tell me the price", "of the blue one"
    for early in (0.02, 0.06, 0.1):
        async with Conversation(answers={f"{first} {second}": ["Ten euros."]}) as talk:
            pause = talk.flavor.turn.end_silence + talk.port.input_delay - early
            await talk.port.caller_says(join(talk.book.speak(first), silence(round(pause / FRAME) * FRAME)))
            await talk.says(second)
            turn = (await talk_over(talk)) if not talk.notes.turns else talk.notes.turns[0]
            heard = " ".join(turn.heard for turn in talk.notes.turns)
            assert turn.heard == f"{first} {second}" or (turn.interrupted and heard.startswith(first))


# ------------------------------------------------------------------------------ silence, failures


@virtual_time
async def test_silence_for_an_hour() -> None:
    flavor = QUIET.model_copy(update={"reprompt": "Are you still there?", "reprompt_seconds": 600.0, "reprompts": 0})
    async with Conversation(flavor, ANSWERS) as talk:
        await talk.clock.sleep(3600)
        assert 5 <= len(talk.notes.turns) <= 6
        assert not talk.stt.utterances
        assert (await talk.asks(ASKS)).spoken == HOURS


@virtual_time
async def test_a_caller_who_never_answers_is_told_goodbye() -> None:
    flavor = QUIET.model_copy(
        update={"reprompt": "Are you still there?", "reprompt_seconds": 5.0, "reprompts": 2, "farewell": "Goodbye."}
    )
    async with Conversation(flavor) as talk:
        await talk.clock.sleep(60)
        assert [turn.spoken for turn in talk.notes.turns][:3] == [flavor.reprompt, flavor.reprompt, "Goodbye."]
        assert talk.notes.actions[0][1] == HangUp("no answer from the caller", Party.SYSTEM)


@virtual_time
async def test_a_caller_who_answers_is_asked_again_as_often() -> None:
    flavor: Flavor = QUIET.model_copy(
        update={"reprompt": "Are you still there?", "reprompt_seconds": 5.0, "reprompts": 2, "farewell": "Goodbye."}
    )
    async with Conversation(flavor, ANSWERS) as talk:
        for _ in range(3):
            await talk.clock.sleep(10)
            await talk.asks(ASKS)
        assert talk.notes.actions == []


@virtual_time
async def test_a_reply_that_fails_half_way_is_remembered_as_far_as_it_was_heard() -> None:
    answers = {ASKS: ["We are open from nine to five on every working day. On ", EngineError("llm", "gone")]}
    async with Conversation(answers=answers) as talk:
        turn = await talk.asks(ASKS)
        assert turn.error == "llm: gone"
        assert turn.spoken.startswith("We are open from nine to five on every working day.")
        assert turn.spoken.endswith(talk.flavor.apology)
        await talk.asks("thank you")
        assert talk.history[1:3] == [("user", ASKS), ("assistant", turn.spoken)]
