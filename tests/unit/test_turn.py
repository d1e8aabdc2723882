"""The turn state machine, endpointing, barge-in and the keypad."""

from __future__ import annotations

import math

import pytest

from connector.config.model import TurnSettings
from connector.errors import ProtocolError
from connector.turn.barge_in import LONG_QUIET, LONG_SPEECH, goes_on, interrupts, speech_needed
from connector.turn.completeness import Completeness
from connector.turn.end_of_turn import ROOM_SECONDS, UNSURE, silence_needed, worth_beginning
from connector.turn.endpointing import Endpointing, SpeechEnded, SpeechStarted
from connector.turn.keypad import KEYPAD_END, KEYPAD_LIMIT, KEYPAD_PAUSE, Keypad
from connector.turn.level import SpeechLevel
from connector.turn.state import TRANSITIONS, Turn, TurnEvent, TurnMachine, diagram

SETTINGS = TurnSettings()
WINDOW = 0.032


def feed(endpointing: Endpointing, *stretches: tuple[float, float], needed: float = SETTINGS.start_seconds) -> list:
    """Feeds windows of (seconds, probability) stretches from media time 0 and returns what they decide."""
    decisions = []
    probabilities = [probability for seconds, probability in stretches for _ in range(round(seconds / WINDOW))]
    for index, probability in enumerate(probabilities):
        decisions.append(endpointing.feed((index + 1) * WINDOW, WINDOW, probability, needed))
    return [decision for decision in decisions if decision is not None]


# ------------------------------------------------------------------------------ state


def test_a_plain_exchange() -> None:
    machine = TurnMachine()
    turns = [
        machine.apply(event)
        for event in (
            TurnEvent.CALLER_STARTED,
            TurnEvent.CALLER_FINISHED,
            TurnEvent.VOICE_STARTED,
            TurnEvent.REPLY_OVER,
        )
    ]
    assert turns == [Turn.CALLER_SPEAKING, Turn.THINKING, Turn.SPEAKING, Turn.LISTENING]


@pytest.mark.parametrize("turn", Turn)
@pytest.mark.parametrize("event", TurnEvent)
def test_what_the_table_lacks_raises_and_changes_nothing(turn: Turn, event: TurnEvent) -> None:
    machine = reached(turn)
    if (turn, event) in TRANSITIONS:
        assert machine.apply(event) is TRANSITIONS[turn, event] is machine.turn
    else:
        with pytest.raises(ProtocolError, match=event.value):
            machine.apply(event)
        assert machine.turn is turn


def reached(turn: Turn) -> TurnMachine:
    """A machine that has come to `turn` by the shortest way."""
    ways = {
        Turn.LISTENING: (),
        Turn.CALLER_SPEAKING: (TurnEvent.CALLER_STARTED,),
        Turn.THINKING: (TurnEvent.PROMPT_DUE,),
        Turn.SPEAKING: (TurnEvent.PROMPT_DUE, TurnEvent.VOICE_STARTED),
        Turn.YIELDING: (TurnEvent.PROMPT_DUE, TurnEvent.VOICE_STARTED, TurnEvent.VOICE_PAUSED),
    }
    machine = TurnMachine()
    for event in ways[turn]:
        machine.apply(event)
    return machine


def test_the_agent_can_be_interrupted_wherever_it_has_the_turn() -> None:
    for turn in (Turn.THINKING, Turn.YIELDING):
        assert TRANSITIONS[turn, TurnEvent.CALLER_STARTED] is Turn.CALLER_SPEAKING
    assert TRANSITIONS[Turn.SPEAKING, TurnEvent.VOICE_PAUSED] is Turn.YIELDING
    for turn in (Turn.THINKING, Turn.SPEAKING, Turn.YIELDING):
        assert TRANSITIONS[turn, TurnEvent.KEY_PRESSED] is Turn.LISTENING


def test_every_turn_leads_back_to_listening() -> None:
    for start in Turn:
        seen, reach = {start}, [start]
        while reach:
            here = reach.pop()
            following = {there for (turn, _), there in TRANSITIONS.items() if turn is here} - seen
            seen |= following
            reach += following
        assert Turn.LISTENING in seen


def test_the_diagram_shows_the_whole_table() -> None:
    lines = diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert "    [*] --> LISTENING" in lines
    assert "    YIELDING --> CALLER_SPEAKING: caller started" in lines
    assert len(lines) == 2 + len(TRANSITIONS)


# ------------------------------------------------------------------------------ endpointing


def test_speech_between_silences() -> None:
    started, ended = feed(Endpointing(SETTINGS), (0.32, 0.1), (0.96, 0.9), (1.28, 0.1))
    assert started == SpeechStarted(pytest.approx(0.32), pytest.approx(0.32 + 3 * WINDOW))
    assert ended.end == pytest.approx(1.28)
    assert ended.at - ended.end == pytest.approx(SETTINGS.end_silence, abs=WINDOW)
    assert not ended.cut


def test_silence_is_counted_in_audio_whatever_the_window() -> None:
    for window in (0.01, 0.032, 0.1):
        endpointing = Endpointing(SETTINGS)
        decided = [
            decision
            for index in range(1, round(4 / window))
            if (decision := endpointing.feed(index * window, window, float(index * window < 1.0), 0.09))
        ]
        [_, ended] = decided
        assert ended.at - ended.end == pytest.approx(SETTINGS.end_silence, abs=window)


def test_a_click_is_no_speech() -> None:
    assert feed(Endpointing(SETTINGS), (0.32, 0.1), (0.064, 0.99), (0.32, 0.1), (0.064, 0.99), (1.0, 0.1)) == []


def test_a_dip_of_one_window_does_not_break_the_start() -> None:
    [started] = feed(Endpointing(SETTINGS), (0.064, 0.9), (0.032, 0.1), (0.064, 0.9))
    assert started == SpeechStarted(0.0, pytest.approx(4 * WINDOW))


def test_a_longer_dip_begins_anew() -> None:
    [started] = feed(Endpointing(SETTINGS), (0.064, 0.9), (0.064, 0.1), (0.096, 0.9))
    assert started.onset == pytest.approx(0.128)


def test_speech_once_begun_lasts_a_little_below_the_threshold() -> None:
    assert len(feed(Endpointing(SETTINGS), (0.32, 0.6), (2.0, 0.4))) == 1
    assert len(feed(Endpointing(SETTINGS), (0.32, 0.6), (2.0, 0.3))) == 2
    assert feed(Endpointing(SETTINGS), (2.0, 0.4)) == []


def test_a_pause_shorter_than_the_end_of_a_turn_is_part_of_it() -> None:
    pause = SETTINGS.end_silence - WINDOW
    decisions = feed(Endpointing(SETTINGS), (0.5, 0.9), (pause, 0.1), (0.5, 0.9), (1.0, 0.1))
    assert [type(decision) for decision in decisions] == [SpeechStarted, SpeechEnded]


def test_endless_speech_is_cut_once_and_then_needs_a_pause() -> None:
    settings = SETTINGS.model_copy(update={"max_seconds": 5.0})
    decisions = feed(Endpointing(settings), (20.0, 0.9), (1.0, 0.1), (1.0, 0.9))
    started, cut, again = decisions
    assert isinstance(started, SpeechStarted)
    assert cut == SpeechEnded(pytest.approx(5.0, abs=WINDOW), pytest.approx(5.0, abs=WINDOW), cut=True)
    assert isinstance(again, SpeechStarted)
    assert again.onset > 20.9


def test_a_reset_forgets_speech_in_progress() -> None:
    endpointing = Endpointing(SETTINGS)
    assert len(feed(endpointing, (0.5, 0.9))) == 1
    assert endpointing.hears_speech
    endpointing.reset()
    assert not endpointing.hears_speech
    assert feed(endpointing, (2.0, 0.1)) == []


# ------------------------------------------------------------------------------ barge-in


def test_over_the_voice_only_a_pause_of_it_and_then_words_or_long_speech_begin_a_turn() -> None:
    for turn in (Turn.LISTENING, Turn.THINKING, Turn.CALLER_SPEAKING):
        assert speech_needed(turn, SETTINGS) == SETTINGS.start_seconds
    assert speech_needed(Turn.SPEAKING, SETTINGS) == math.inf
    assert speech_needed(Turn.YIELDING, SETTINGS) == LONG_SPEECH > SETTINGS.barge_in_seconds


def test_without_confirmation_by_words_barge_in_seconds_of_speech_take_the_turn() -> None:
    settings = SETTINGS.model_copy(update={"confirm_words": False})
    assert speech_needed(Turn.YIELDING, settings) == settings.barge_in_seconds


def test_the_voice_pauses_for_sound_that_may_be_speech() -> None:
    assert interrupts(voiced=0.0, loud=0.04, probability=0.3)
    assert interrupts(voiced=WINDOW, loud=0.04, probability=0.1)
    assert interrupts(voiced=2 * WINDOW, loud=0.0, probability=0.9)
    assert not interrupts(voiced=0.0, loud=0.3, probability=0.05)  # a noise that no detector takes for speech
    assert not interrupts(voiced=0.0, loud=0.02, probability=0.9)  # a click
    assert not interrupts(voiced=WINDOW, loud=0.0, probability=0.9)


def test_the_voice_goes_on_once_both_witnesses_are_silent() -> None:
    after = SETTINGS.resume_after
    assert goes_on(after, after, SETTINGS)
    assert not goes_on(after, after - 0.1, SETTINGS)
    assert not goes_on(after - 0.1, after, SETTINGS)
    assert goes_on(0.0, LONG_QUIET * after, SETTINGS)  # on a line that is never quiet


def test_words_make_it_a_turn_however_short() -> None:
    endpointing = Endpointing(SETTINGS)
    assert feed(endpointing, (0.064, 0.9), needed=math.inf) == []
    assert endpointing.begin(0.2) == SpeechStarted(0.0, 0.2)
    [ended] = [decision for at in (0.5, 0.7) if (decision := endpointing.feed(at, WINDOW, 0.1, math.inf))]
    assert (ended.end, ended.at) == (pytest.approx(0.064), 0.7)


def test_what_was_no_turn_is_forgotten() -> None:
    endpointing = Endpointing(SETTINGS)
    feed(endpointing, (0.5, 0.9), needed=math.inf)
    endpointing.forget()
    assert not endpointing.voiced
    assert endpointing.feed(0.532, WINDOW, 0.9, 0.0) is None  # the same sound
    assert endpointing.feed(0.7, WINDOW, 0.1, 0.0) is None
    assert endpointing.feed(0.8, WINDOW, 0.9, 0.0) is not None


# ------------------------------------------------------------------------------ level


def test_a_level_tells_speech_from_the_pauses_within_it_and_from_noise() -> None:
    level = SpeechLevel()
    assert not any(level.loud(16) for _ in range(50))  # -66 dBFS
    assert all(level.loud(3000) for _ in range(20))
    assert not level.loud(100)
    assert level.loud(1000)
    noisy = SpeechLevel()
    for _ in range(50):
        noisy.loud(400)
    assert noisy.loud(4000)
    assert not noisy.loud(420)


def test_a_call_may_begin_in_the_midst_of_speech() -> None:
    level = SpeechLevel()
    assert all(level.loud(3000) for _ in range(50))


def test_the_level_tells_the_end_of_speech_before_the_detector_does() -> None:
    endpointing = Endpointing(SETTINGS)
    frames = [(3000.0, 3000.0)] * 25 + [(16.0, 16.0)] * 50
    ended = []
    for index, levels in enumerate(frames, 1):
        at = index * 0.02
        ended += [endpointing.hear(at, levels), endpointing.feed(at, 0.02, 0.9 if at <= 0.6 else 0.1, 0.09)]
        if at == 0.56:
            assert endpointing.quiet(at) == pytest.approx(0.06)
            assert endpointing.silence(at) == 0.0
    [started, finished] = [decision for decision in ended if decision is not None]
    assert isinstance(started, SpeechStarted)
    assert finished == SpeechEnded(pytest.approx(0.5), pytest.approx(1.0))


def test_what_is_much_quieter_than_the_caller_is_faint() -> None:
    endpointing = Endpointing(SETTINGS)
    endpointing.hear(0.02, (300.0, 300.0))
    assert not endpointing.faint
    endpointing.hear(0.2, (100.0, 100.0))
    endpointing.hear(0.22, (100.0, 100.0))
    endpointing.hear(0.24, (100.0, 100.0))
    assert endpointing.faint  # -50 dBFS
    feed(endpointing, (0.32, 0.9))
    for index in range(10):
        endpointing.hear(0.34 + 0.02 * index, (800.0, 800.0))  # a quiet caller
    for index in range(10):
        endpointing.hear(0.6 + 0.02 * index, (100.0, 100.0))
    assert not endpointing.faint


def test_how_long_it_has_been_faint() -> None:
    endpointing = Endpointing(SETTINGS)
    endpointing.hear(0.02, (6000.0, 6000.0))
    for index in range(30):
        endpointing.hear(0.04 + 0.02 * index, (50.0, 50.0))
    assert endpointing.faint
    assert endpointing.faint_for(0.62) == pytest.approx(0.62 - 0.02 - 0.14, abs=0.011)  # once the level has faded


# ------------------------------------------------------------------------------ end of turn


def test_the_less_finished_the_words_the_longer_the_wait() -> None:
    waits = [
        silence_needed(SETTINGS, words, None)
        for words in (
            Completeness.COMPLETE,
            Completeness.DICTATED,
            Completeness.OPEN,
            Completeness.DICTATING,
            Completeness.UNFINISHED,
        )
    ]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (SETTINGS.end_silence, SETTINGS.long_silence)
    assert waits[2] > 1.1
    assert silence_needed(SETTINGS, None, 0.1) == SETTINGS.end_silence


def test_what_sounds_unfinished_is_waited_for_a_little_longer() -> None:
    for words in Completeness:
        by_words = silence_needed(SETTINGS, words, None)
        assert silence_needed(SETTINGS, words, 0.99) == silence_needed(SETTINGS, words, UNSURE) == by_words
        assert by_words <= silence_needed(SETTINGS, words, 0.01) <= SETTINGS.long_silence
    assert silence_needed(SETTINGS, Completeness.COMPLETE, 0.01) > SETTINGS.end_silence + 0.4


def test_an_answer_begins_at_the_first_hint_or_just_in_time() -> None:
    assert worth_beginning(SETTINGS, SETTINGS.end_silence, SETTINGS.hint_silence)
    assert not worth_beginning(SETTINGS, SETTINGS.end_silence, SETTINGS.hint_silence - 0.01)
    assert not worth_beginning(SETTINGS, 2.0, 1.0)
    assert worth_beginning(SETTINGS, 2.0, 2.0 - ROOM_SECONDS)


def test_speech_that_begins_no_turn_is_not_waited_for() -> None:
    endpointing = Endpointing(SETTINGS)
    feed(endpointing, (SETTINGS.max_seconds + 1, 0.9))
    assert endpointing.voiced == 0


# ------------------------------------------------------------------------------ keypad


def test_a_pause_completes_an_entry() -> None:
    keypad = Keypad()
    assert keypad.press("1") is None
    assert keypad.wait(KEYPAD_PAUSE - 0.02) is None
    assert keypad.press("2") is None
    assert keypad.wait(KEYPAD_PAUSE - 0.02) is None
    assert keypad.pending
    assert keypad.wait(0.02) == "12"
    assert not keypad.pending
    assert keypad.wait(KEYPAD_PAUSE) is None


def test_the_hash_key_completes_an_entry_at_once() -> None:
    keypad = Keypad()
    assert [keypad.press(key) for key in "4*2#"] == [None, None, None, "4*2"]
    assert keypad.press(KEYPAD_END) == "#"


def test_an_entry_has_an_end() -> None:
    keypad = Keypad()
    entries = [keypad.press("7") for _ in range(KEYPAD_LIMIT)]
    assert entries == [None] * (KEYPAD_LIMIT - 1) + ["7" * KEYPAD_LIMIT]
