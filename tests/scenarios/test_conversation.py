"""Conversations in virtual time: what a caller lives through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from itertools import pairwise

import pytest

from connector.audio import Audio
from connector.errors import EngineError
from connector.interfaces import (
    HangUp,
    IntentMatched,
    PauseRecording,
    ResumeRecording,
    SendDtmf,
    Transcript,
    Transfer,
)
from connector.pipeline import leading_silence
from connector.pipeline.cascade import BACK_SECONDS, DIP_SECONDS
from connector.pipeline.responder import LEAD_SECONDS
from connector.pipeline.sentences import split
from connector.turn.barge_in import LONG_SPEECH, VOICED_SECONDS
from tests.fakes.clock import virtual_time
from tests.fakes.engines import FakeLanguageModel, FakeSpeechToText, FakeTextToSpeech, join, noise, silence, tone
from tests.scenarios.conversation import FLAVOR, FRAME, QUIET, WINDOW, Conversation

LONG = (
    "We are open from nine to five on every working day. On Saturdays we open at ten and close at two. "
    "On Sundays and on public holidays we are closed. Parking is free for all our visitors."
)


class SlowStarter(FakeTextToSpeech):
    """A voice that begins each sentence with silence."""

    silence = 0.25

    async def synthesize(self, text: str) -> AsyncIterator[Audio]:
        async with aclosing(super().synthesize(text)) as speech:
            yield silence(self.silence)
            async for audio in speech:
                yield audio


@virtual_time
async def test_the_greeting_is_heard_and_remembered() -> None:
    async with Conversation(FLAVOR) as talk:
        await talk.notes.wait_for_turns(1)
        [greeting] = talk.notes.turns
        assert (greeting.heard, greeting.reply, greeting.spoken) == ("", FLAVOR.greeting, FLAVOR.greeting)
        assert not greeting.interrupted
        assert talk.port.voice_between(0, 10) == pytest.approx(talk.tts.seconds(FLAVOR.greeting), abs=FRAME)
        await talk.asks("good morning")
        assert talk.history == [
            ("system", "You are helpful."),
            ("assistant", FLAVOR.greeting),
            ("user", "good morning"),
        ]


@virtual_time
async def test_a_question_is_answered() -> None:
    async with Conversation(answers={"what time is it": ["It is noon."]}) as talk:
        turn = await talk.asks("what time is it")
        assert (turn.heard, turn.reply, turn.spoken) == ("what time is it", "It is noon.", "It is noon.")
        assert turn.error is None
        assert talk.stt.phrases == ("what time is it",)
        await talk.asks("thank you")
        assert talk.history[1:] == [
            ("user", "what time is it"),
            ("assistant", "It is noon."),
            ("user", "thank you"),
        ]


@virtual_time
async def test_the_parts_of_a_turn_follow_one_another() -> None:
    async with Conversation() as talk:
        end = await talk.says("what time is it")
        await talk.notes.wait_for_turns(1)
        timing = talk.notes.turns[0].timing
        instants = [timing.speech_end, timing.decided, timing.transcribed, timing.first_token, timing.first_audio]
        assert None not in instants
        speech_end, decided, transcribed, first_token, first_audio = (instant or 0.0 for instant in instants)
        assert speech_end == pytest.approx(end - talk.port.input_delay, abs=WINDOW)
        assert decided - speech_end == pytest.approx(
            talk.flavor.turn.end_silence + talk.port.input_delay, abs=WINDOW + FRAME
        )
        hint, released = timing.hint or 0.0, timing.released or 0.0
        assert transcribed - speech_end == pytest.approx(
            talk.port.input_delay + DIP_SECONDS + talk.stt.delay, abs=FRAME
        )
        assert hint - transcribed == pytest.approx(0, abs=0.001)
        assert first_token - hint == pytest.approx(talk.llm.first_token, abs=0.001)
        assert first_audio - first_token == pytest.approx(talk.tts.first_audio + 5 * talk.llm.per_word, abs=0.001)
        assert released == decided
        assert talk.port.voice[0][0] - max(released, first_audio) <= FRAME + 1e-6


@virtual_time
async def test_the_voice_begins_before_the_model_has_finished() -> None:
    async with Conversation(answers={"opening hours": [LONG, 2.0, " That is all."]}) as talk:
        turn = await talk.asks("opening hours")
        assert turn.timing.first_audio is not None
        assert turn.timing.first_audio < talk.llm.finished_at[0] - 2.0
        assert " ".join(talk.tts.texts) == turn.spoken == LONG + " That is all."


@virtual_time
async def test_what_waits_while_the_voice_speaks_is_synthesised_together() -> None:
    async with Conversation(answers={"opening hours": [LONG, 2.0, " That is all."]}) as talk:
        turn = await talk.asks("opening hours")
        sentences = split(LONG)
        assert talk.tts.texts[0] == sentences[0], "the first is spoken as soon as it is there"
        assert len(talk.tts.texts) < len(sentences) + 1
        assert turn.spoken == LONG + " That is all."


@virtual_time
async def test_markup_and_what_may_not_be_interrupted_is_synthesised_alone() -> None:
    reply = f"{LONG} <no-interrupt>Calls are recorded.</no-interrupt> See [our page](https://example.com/). Thank you."
    async with Conversation(answers={"opening hours": [reply]}) as talk:
        await talk.asks("opening hours")
        assert "Calls are recorded." in talk.tts.texts
        assert [text for text in talk.tts.texts if "our page" in text] == ["See our page."]


@virtual_time
async def test_a_noise_in_joined_sentences_does_not_lose_what_was_left() -> None:
    async with Conversation(answers={"opening hours": [LONG]}) as talk:
        await talk.says("opening hours")
        await talk.until_voice()
        await talk.clock.sleep(6.0)
        await talk.port.caller_says(noise(1.2))  # long enough to take the turn, and no words
        await talk.notes.wait_for_turns(2)
        first, rest = talk.notes.turns[:2]
        assert first.interrupted
        assert rest.spoken
        assert LONG.endswith(rest.spoken)
        heard = len(first.spoken) + len(rest.spoken)
        assert heard >= len(LONG) - 1, "nothing is left out"


@virtual_time
async def test_the_next_sentence_is_synthesised_while_the_first_is_played() -> None:
    async with Conversation(answers={"opening hours": [LONG]}) as talk:
        turn = await talk.asks("opening hours")
        assert turn.timing.first_audio is not None
        first = talk.tts.seconds(talk.tts.texts[0])
        assert talk.tts.calls[1].began < turn.timing.first_audio + first - 1
        began = turn.timing.first_audio
        assert talk.port.voice_between(began, began + 30) == pytest.approx(
            sum(map(talk.tts.seconds, talk.tts.texts)), abs=0.1
        )
        times = [at for at, _ in talk.port.voice]
        assert max(later - earlier for earlier, later in pairwise(times)) <= FRAME + 1e-6


@virtual_time
async def test_the_caller_does_not_wait_for_the_silence_that_a_voice_begins_with() -> None:
    async with Conversation(answers={"opening hours": ["We are always open. Come any time."]}, tts=SlowStarter) as talk:
        turn = await talk.asks("opening hours")
        assert turn.timing.first_audio is not None
        assert turn.spoken == "We are always open. Come any time."
        voice = talk.port.voice[-1][0] - talk.port.voice[0][0] + FRAME
        pauses = sum(map(talk.tts.seconds, talk.tts.texts)) + leading_silence.LEAD_SECONDS + SlowStarter.silence
        assert voice == pytest.approx(pauses, abs=2 * FRAME)


@virtual_time
async def test_synthesis_does_not_run_far_ahead_of_the_voice() -> None:
    async with Conversation(answers={"tell me everything": [LONG + " " + LONG]}) as talk:
        await talk.says("tell me everything")
        most = 0.0
        while not talk.notes.turns:
            await talk.clock.sleep(FRAME)
            most = max(most, talk.port.buffered)
        assert most <= LEAD_SECONDS + max(map(talk.tts.seconds, talk.tts.texts))


@virtual_time
async def test_a_reply_without_a_full_stop_is_spoken() -> None:
    async with Conversation(answers={"where are you": ["We are at the station"]}) as talk:
        assert (await talk.asks("where are you")).spoken == "We are at the station"


@virtual_time
async def test_barge_in_stops_the_voice_and_the_model_learns_what_was_heard() -> None:
    async with Conversation(answers={"opening hours": [LONG]}) as talk:
        await talk.says("opening hours")
        await talk.until_voice()
        await talk.clock.sleep(5.0)
        began = talk.clock.now()
        await talk.says("stop please")
        latest = began + talk.flavor.turn.barge_in_seconds + WINDOW + 2 * FRAME
        assert talk.port.voice_between(began, latest) > 0
        assert talk.port.voice_between(latest, talk.clock.now()) == 0
        await talk.notes.wait_for_turns(2)
        cut, answer = talk.notes.turns
        assert cut.interrupted
        assert LONG.startswith(cut.spoken)
        assert LONG[len(cut.spoken)] == " "
        assert len(cut.spoken) / talk.tts.pace == pytest.approx(5.2, abs=0.7)
        assert (answer.heard, answer.interrupted) == ("stop please", False)
        assert talk.history[1:] == [
            ("user", "opening hours"),
            ("assistant", cut.spoken + "…"),
            ("user", "stop please"),
        ]


@virtual_time
async def test_barge_in_aborts_the_engines_of_the_reply() -> None:
    async with Conversation(answers={"opening hours": [LONG, 30.0, "The end."]}) as talk:
        talk.tts.speed = 1.5
        await talk.says("opening hours")
        await talk.until_voice()
        await talk.says("stop please", 0.5)
        assert (talk.llm.aborted, talk.tts.aborted) == (1, 1)
        await talk.notes.wait_for_turns(2)
        assert talk.port.stale == 0


@virtual_time
async def test_no_barge_in_where_the_flavor_forbids_it() -> None:
    async with Conversation(answers={"opening hours": [LONG]}, barge_in=False) as talk:
        await talk.says("opening hours")
        await talk.until_voice()
        await talk.says("stop please")
        await talk.notes.wait_for_turns(1)
        await talk.clock.sleep(3)
        [turn] = talk.notes.turns
        assert (turn.interrupted, turn.spoken) == (False, LONG)


@virtual_time
async def test_a_short_noise_stops_nobody() -> None:
    async with Conversation(answers={"opening hours": [LONG]}) as talk:
        await talk.says("opening hours")
        await talk.until_voice()
        await talk.clock.sleep(1)
        await talk.port.caller_says(noise(0.1))
        await talk.notes.wait_for_turns(1)
        assert talk.notes.turns[0].spoken == LONG
        await talk.port.caller_says(noise(0.02))
        await talk.clock.sleep(2)
        assert len(talk.notes.turns) == 1


@virtual_time
async def test_the_voice_pauses_for_a_short_noise_and_goes_on_where_it_paused() -> None:
    async with Conversation(answers={"opening hours": [LONG]}) as talk:
        await talk.says("opening hours")
        began = await talk.until_voice() - FRAME
        await talk.clock.sleep(1)
        await talk.port.caller_says(noise(0.1))
        await talk.notes.wait_for_turns(1)
        [turn] = talk.notes.turns
        assert (turn.interrupted, turn.spoken) == (False, LONG)
        gaps = [later - earlier for (earlier, _), (later, _) in pairwise(talk.port.voice)]
        pause = 0.1 + talk.flavor.turn.resume_after
        assert [gap for gap in gaps if gap > 2 * FRAME] == [pytest.approx(pause, abs=2 * WINDOW)]
        twice = talk.port.voice_between(began, talk.clock.now()) - sum(map(talk.tts.seconds, talk.tts.texts))
        assert -0.1 < twice < BACK_SECONDS + 0.1


@virtual_time
async def test_a_caller_who_interrupts_hears_the_voice_stop_at_once() -> None:
    async with Conversation(answers={"opening hours": [LONG]}) as talk:
        await talk.says("opening hours")
        await talk.until_voice()
        await talk.clock.sleep(5.0)
        began = talk.clock.now()
        await talk.says("stop please")
        assert talk.port.voice_between(began + VOICED_SECONDS + WINDOW + 2 * FRAME, talk.clock.now()) == 0


@virtual_time
async def test_a_hold_in_the_middle_of_a_noise_leaves_no_pause_behind() -> None:
    async with Conversation(answers={"opening hours": [LONG]}) as talk:
        await talk.says("opening hours")
        await talk.until_voice()
        await talk.clock.sleep(1)
        await talk.port.caller_says(noise(0.1))
        talk.pipeline.hold(True)
        held = talk.clock.now()
        await talk.clock.sleep(3)
        assert talk.port.voice_between(held + 2 * FRAME, talk.clock.now()) == 0
        talk.pipeline.hold(False)
        await talk.notes.wait_for_turns(1)
        assert talk.notes.turns[0].spoken == LONG


@virtual_time
async def test_a_voice_stopped_by_a_noise_goes_on_with_the_sentence_it_was_stopped_in() -> None:
    goodbye = [LONG, HangUp()]
    async with Conversation(answers={"opening hours": goodbye}) as talk:
        await talk.says("opening hours")
        await talk.until_voice()
        await talk.clock.sleep(4.5)
        await talk.port.caller_says(noise(LONG_SPEECH + 0.3))
        await talk.notes.wait_for_turns(2)
        stopped, resumed = talk.notes.turns
        assert stopped.interrupted
        assert not resumed.interrupted
        assert resumed.spoken == LONG[LONG.index("On Saturdays") :]
        assert [action for _, action in talk.notes.actions] == [HangUp()]


@virtual_time
async def test_a_greeting_lost_to_a_noise_is_said_after_it() -> None:
    async with Conversation(FLAVOR) as talk:
        await talk.port.caller_says(noise(0.3))
        await talk.notes.wait_for_turns(2)
        assert talk.notes.turns[0].spoken == ""
        assert talk.notes.turns[1].spoken == FLAVOR.greeting


@virtual_time
async def test_a_pause_within_a_sentence_does_not_end_the_turn() -> None:
    async with Conversation() as talk:
        pause = talk.flavor.turn.end_silence - 2 * WINDOW
        await talk.port.caller_says(join(talk.book.speak("my number is"), silence(pause), talk.book.speak("five five")))
        await talk.notes.wait_for_turns(1)
        assert [turn.heard for turn in talk.notes.turns] == ["my number is five five"]
        assert [messages[-1].content for messages in talk.llm.histories] == ["my number is five five"]


@virtual_time
async def test_the_beginning_of_an_utterance_is_not_lost() -> None:
    async with Conversation() as talk:
        await talk.clock.sleep(3)
        await talk.asks("yes", 0.2)
        [utterance] = talk.stt.utterances
        assert talk.notes.turns[0].heard == "yes"
        assert utterance.seconds == pytest.approx(0.2 + talk.flavor.turn.preroll + 0.2, abs=2 * WINDOW)


@pytest.mark.parametrize(("step", "pause"), [("recognising", 0.65), ("thinking", 0.85)])
@virtual_time
async def test_a_caller_who_goes_on_is_answered_once_and_as_a_whole(step: str, pause: float) -> None:
    async with Conversation() as talk:
        if step == "recognising":
            talk.stt.delay = 0.9
        else:
            talk.llm.first_token = 0.5
        await talk.says("I would like")
        await talk.clock.sleep(pause)
        await talk.says("to book a table")
        await talk.notes.wait_for_turns(1)
        await talk.clock.sleep(2)
        [turn] = talk.notes.turns
        assert turn.heard == "I would like to book a table"
        assert turn.spoken == "You said I would like to book a table."
        assert talk.history[1:] == [("user", "I would like to book a table")]


@virtual_time
async def test_an_answer_does_not_begin_while_the_caller_may_be_going_on() -> None:
    async with Conversation() as talk:
        end = await talk.says("I would like")
        answer = await talk.until_voice() - end
    for early in (0.12, 0.1, 0.08):  # too little to begin a turn, enough to be heard
        async with Conversation() as talk:
            await talk.says("I would like")
            await talk.clock.sleep(answer - early)
            await talk.says("to book a table")
            assert not talk.port.voice
            await talk.notes.wait_for_turns(1)
            assert talk.notes.turns[0].heard == "I would like to book a table"


@virtual_time
async def test_a_turn_is_taken_from_a_caller_who_never_pauses() -> None:
    async with Conversation(max_seconds=5) as talk:
        talking = asyncio.create_task(talk.says("and then", 20))
        await talk.notes.wait_for_turns(1)
        assert talk.clock.now() < 10
        assert (talk.notes.turns[0].heard, talk.notes.turns[0].interrupted) == ("and then", False)
        await talking
        assert len(talk.notes.turns) == 1


@virtual_time
async def test_noise_alone_is_no_turn() -> None:
    async with Conversation() as talk:
        await talk.port.caller_says(noise(1.0))
        await talk.clock.sleep(3)
        assert talk.llm.histories == []
        assert talk.notes.turns == []
        assert (await talk.asks("hello")).heard == "hello"


# ------------------------------------------------------------------------------ actions


@virtual_time
async def test_the_flavor_hangs_up_when_the_goodbye_was_heard() -> None:
    answers = {"bye": [IntentMatched("goodbye"), "Goodbye, and thank you for calling.", HangUp("done")]}
    async with Conversation(answers=answers) as talk:
        turn = await talk.asks("bye")
        assert turn.intent == "goodbye"
        [(at, action)] = talk.notes.actions
        assert action == HangUp("done")
        assert 0 <= at - talk.port.voice[-1][0] <= FRAME
        assert talk.port.voice_between(0, at + 1) == pytest.approx(talk.tts.seconds(turn.spoken), abs=FRAME)


@virtual_time
async def test_an_interrupted_goodbye_does_not_hang_up() -> None:
    answers = {"bye": ["Goodbye, and thank you very much for calling us today.", HangUp()]}
    async with Conversation(answers=answers) as talk:
        await talk.says("bye")
        await talk.until_voice()
        await talk.says("wait one question")
        await talk.notes.wait_for_turns(2)
        assert talk.notes.actions == []
        assert talk.notes.turns[1].heard == "wait one question"


@virtual_time
async def test_the_recording_is_paused_before_a_word_is_heard_though_the_caller_speaks_over_them() -> None:
    """Who knows the card number by heart does not wait for the end of the question."""
    question = "Please tell me now the number of the card that you would like to pay with."
    answers = {"pay": [PauseRecording(), question], "pay four one one one": ["Thank you.", ResumeRecording()]}
    async with Conversation(answers=answers) as talk:
        await talk.says("pay")
        await talk.until_voice()
        assert [action for _, action in talk.notes.actions] == [PauseRecording()]
        await talk.says("four one one one")
        await talk.notes.wait_for_turns(2)
        await talk.clock.sleep(1)
        assert talk.notes.turns[0].interrupted
        (_, paused), (at, resumed) = talk.notes.actions
        assert (paused, resumed) == (PauseRecording(), ResumeRecording())
        assert at >= talk.port.voice[-1][0], "after the thanks"


@virtual_time
async def test_actions_without_words_are_done_at_once_and_in_order() -> None:
    answers = {"connect me": [SendDtmf("1"), Transfer("1001")]}
    async with Conversation(answers=answers) as talk:
        turn = await talk.asks("connect me")
        assert turn.spoken == ""
        assert [action for _, action in talk.notes.actions] == [SendDtmf("1"), Transfer("1001")]


# ------------------------------------------------------------------------------ engines that fail


@pytest.mark.parametrize("engine", ["stt", "llm"])
@virtual_time
async def test_a_failing_engine_costs_one_turn_and_an_apology(engine: str) -> None:
    async with Conversation() as talk:
        broken = talk.stt if engine == "stt" else talk.llm
        broken.failing = True
        turn = await talk.asks("hello")
        assert turn.error == f"fake-{engine}: out of order"
        assert turn.spoken == talk.flavor.apology
        broken.failing = False
        turn = await talk.asks("hello again")
        assert (turn.error, turn.spoken) == (None, "You said hello again.")


@virtual_time
async def test_a_failing_voice_costs_one_turn() -> None:
    async with Conversation() as talk:
        talk.tts.failing = True
        turn = await talk.asks("hello")
        assert (turn.error, turn.spoken) == ("fake-tts: out of order", "")
        talk.tts.failing = False
        # What was never answered is still there for the model to answer.
        turn = await talk.asks("are you there")
        assert talk.history[1:] == [("user", "hello are you there")]
        assert turn.error is None


@virtual_time
async def test_a_voice_that_fails_on_one_sentence_apologises() -> None:
    async with Conversation(answers={"hello": ["This sentence works well. This one does not."]}) as talk:
        talk.tts.fail_on = {"This one does not."}
        turn = await talk.asks("hello")
        assert turn.error == "fake-tts: cannot say this"
        assert turn.spoken == f"This sentence works well. {talk.flavor.apology}"


@virtual_time
async def test_a_model_that_fails_in_mid_reply_is_heard_out_and_does_nothing() -> None:
    answers = {"hello": ["The first part is fine. ", HangUp(), "The sec", EngineError("fake-llm", "gone")]}
    async with Conversation(answers=answers) as talk:
        turn = await talk.asks("hello")
        assert turn.error == "fake-llm: gone"
        assert turn.spoken == f"The first part is fine. {talk.flavor.apology}"
        assert talk.notes.actions == []


@virtual_time
async def test_a_voice_that_is_down_is_not_tried_without_pause() -> None:
    flavor = FLAVOR.model_copy(update={"reprompt": "Are you still there?", "reprompt_seconds": 5.0})
    async with Conversation(flavor) as talk:
        talk.tts.failing, talk.tts.first_audio = True, 0.0
        await talk.clock.sleep(31)
        assert len(talk.notes.turns) == 7


@virtual_time
async def test_engines_that_ignore_an_abort_are_not_listened_to() -> None:
    class DeafRecogniser(FakeSpeechToText):
        async def transcribe(self, utterance: Audio, phrases: Sequence[str] = ()) -> Transcript:
            recognition = asyncio.ensure_future(super().transcribe(utterance, phrases))
            with suppress(asyncio.CancelledError):
                await asyncio.shield(recognition)
            return await recognition

    class DeafVoice(FakeTextToSpeech):
        async def synthesize(self, text: str) -> AsyncIterator[Audio]:
            for _ in range(5):
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(1.0)
                yield tone(440, 1.0)

    async with Conversation(stt=DeafRecogniser, tts=DeafVoice) as talk:
        talk.stt.delay = 0.3
        await talk.says("I would like")
        await talk.clock.sleep(0.65)
        await talk.says("to book a table")
        await talk.until_voice()
        await talk.clock.sleep(1.5)
        await talk.says("stop please")
        await talk.notes.wait_for_turns(2)
        assert [turn.heard for turn in talk.notes.turns] == ["I would like to book a table", "stop please"]
        assert talk.port.stale == 0


@pytest.mark.parametrize("engine", ["stt", "llm", "tts"])
@virtual_time
async def test_an_engine_that_hangs_does_not_leave_the_caller_in_silence(engine: str) -> None:
    async with Conversation() as talk:
        delays = {"stt": (talk.stt, "delay"), "llm": (talk.llm, "first_token"), "tts": (talk.tts, "first_audio")}
        hanging, delay = delays[engine]
        setattr(hanging, delay, 1e6)
        await talk.says("hello")
        await talk.clock.sleep(20)
        setattr(hanging, delay, 0.1)
        await talk.notes.wait_for_turns(1)
        [turn] = talk.notes.turns
        assert turn.error == f"{engine}: nothing came for 20 s"
        assert turn.spoken == talk.flavor.apology
        assert hanging.aborted == 1


# ------------------------------------------------------------------------------ hold, keys, prompts


@virtual_time
async def test_hold_suspends_the_voice_and_the_ear() -> None:
    async with Conversation(answers={"opening hours": [LONG]}) as talk:
        await talk.says("opening hours")
        await talk.until_voice()
        await talk.clock.sleep(2)
        talk.pipeline.hold(True)
        held = talk.clock.now()
        await talk.says("music on hold", 10)
        assert talk.port.voice_between(held + FRAME, talk.clock.now()) == 0
        assert talk.notes.turns == []
        talk.pipeline.hold(False)
        await talk.notes.wait_for_turns(1)
        assert talk.notes.turns[0].spoken == LONG
        assert (await talk.asks("thank you")).heard == "thank you"


@virtual_time
async def test_what_was_said_before_the_hold_is_answered_after_it() -> None:
    async with Conversation() as talk:
        await talk.says("my question is")
        talk.pipeline.hold(True)
        await talk.clock.sleep(30)
        assert talk.port.voice_between(0, 60) == 0
        talk.pipeline.hold(False)
        await talk.notes.wait_for_turns(1)
        assert talk.notes.turns[0].spoken == "You said my question is."


@virtual_time
async def test_a_key_on_hold_is_answered_after_it() -> None:
    async with Conversation(answers={"opening hours": [LONG]}) as talk:
        await talk.says("opening hours")
        await talk.until_voice()
        await talk.clock.sleep(2)
        talk.pipeline.hold(True)
        held = talk.clock.now()
        talk.presses("5#")
        await talk.clock.sleep(10)
        assert talk.port.voice_between(held + FRAME, talk.clock.now()) == 0
        talk.pipeline.hold(False)
        await talk.notes.wait_for_turns(2)
        assert talk.notes.turns[1].spoken == "You said 5."


@virtual_time
async def test_nobody_is_prompted_on_hold() -> None:
    flavor = QUIET.model_copy(update={"reprompt": "Are you still there?", "reprompt_seconds": 5.0})
    async with Conversation(flavor) as talk:
        talk.pipeline.hold(True)
        await talk.clock.sleep(60)
        talk.pipeline.hold(False)
        await talk.clock.sleep(4.9)
        assert talk.tts.texts == []
        await talk.notes.wait_for_turns(1)
        assert talk.notes.turns[0].spoken == "Are you still there?"


@virtual_time
async def test_a_silent_caller_is_prompted_again_and_again() -> None:
    flavor = FLAVOR.model_copy(update={"reprompt": "Are you still there?", "reprompt_seconds": 5.0})
    async with Conversation(flavor) as talk:
        await talk.notes.wait_for_turns(4)
        assert [turn.spoken for turn in talk.notes.turns] == [flavor.greeting, *[flavor.reprompt] * 3]
        await talk.asks("yes")
        assert talk.history[1] == ("assistant", f"{flavor.greeting} {flavor.reprompt}")


@virtual_time
async def test_keys_are_gathered_and_answered() -> None:
    async with Conversation() as talk:
        for key in "1234":
            talk.presses(key)
            await talk.clock.sleep(0.5)
        await talk.notes.wait_for_turns(1)
        assert talk.notes.turns[0].heard == "1234"
        talk.presses("56#")
        pressed = talk.clock.now()
        await talk.notes.wait_for_turns(2)
        assert talk.notes.turns[1].heard == "56"
        assert talk.notes.turns[1].timing.decided == pressed


@virtual_time
async def test_a_key_silences_the_agent() -> None:
    async with Conversation(answers={"opening hours": [LONG]}, barge_in=False) as talk:
        await talk.says("opening hours")
        await talk.until_voice()
        await talk.clock.sleep(2)
        pressed = talk.clock.now()
        talk.presses("0")
        await talk.notes.wait_for_turns(2)
        cut, answer = talk.notes.turns
        assert cut.interrupted
        assert (answer.heard, answer.spoken) == ("0", "You said 0.")
        assert talk.port.voice_between(pressed + FRAME, pressed + 2) == 0


@virtual_time
async def test_keys_and_words_of_one_turn_are_answered_together() -> None:
    async with Conversation() as talk:
        speaking = asyncio.create_task(talk.says("is my number", 1.0))
        await talk.clock.sleep(0.5)
        talk.presses("42")
        await speaking
        await talk.notes.wait_for_turns(1)
        await talk.clock.sleep(4)
        assert [turn.heard for turn in talk.notes.turns] == ["42 is my number"]


@virtual_time
async def test_what_the_call_has_to_say_waits_for_its_turn() -> None:
    async with Conversation(answers={"opening hours": [LONG]}) as talk:
        await talk.says("opening hours")
        await talk.until_voice()
        talk.pipeline.say("Your transfer was refused.")
        await talk.notes.wait_for_turns(2)
        assert [turn.spoken for turn in talk.notes.turns] == [LONG, "Your transfer was refused."]


# ------------------------------------------------------------------------------ the end


@virtual_time
async def test_a_call_that_ends_in_mid_reply_says_what_was_heard() -> None:
    async with Conversation(answers={"opening hours": [LONG]}) as talk:
        await talk.says("opening hours")
        await talk.until_voice()
        await talk.clock.sleep(3)
        await talk.hang_up()
        [turn] = talk.notes.turns
        assert not turn.interrupted
        assert turn.spoken
        assert LONG.startswith(turn.spoken)
        assert len(turn.spoken) < 60


@virtual_time
async def test_a_reply_whose_media_ends_says_what_was_heard() -> None:
    """The leg closes its media before the call cancels the pipeline."""
    reply = "We are open from nine to five on every working day."
    async with Conversation(answers={"opening hours": [reply]}) as talk:
        await talk.says("opening hours")
        await talk.until_voice()
        await talk.clock.sleep(1)
        talk.port.end()
        await talk.notes.wait_for_turns(1)
        [turn] = talk.notes.turns
        assert not turn.interrupted
        assert reply.startswith(turn.spoken)
        assert 0 < len(turn.spoken) < len(reply)


@virtual_time
async def test_a_defect_in_an_engine_ends_the_conversation_and_not_silently() -> None:
    def defect(text: str) -> list[str]:
        raise ZeroDivisionError(text)

    async def talk() -> None:
        async with Conversation(llm=FakeLanguageModel(otherwise=defect)) as talk:
            await talk.says("hello")
            await talk.clock.sleep(3)

    with pytest.raises(ExceptionGroup) as caught:
        await talk()
    assert caught.group_contains(ZeroDivisionError)
