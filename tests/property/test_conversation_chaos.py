"""Whatever a caller, a telephone and the engines do, in whatever order: the conversation goes on."""

from __future__ import annotations

import asyncio

from hypothesis import example, given, settings
from hypothesis import strategies as st

from connector.interfaces import HangUp
from tests.fakes.clock import run_virtual
from tests.fakes.engines import FakeVadService, noise
from tests.scenarios.conversation import FLAVOR, Conversation

PHRASES = ("opening hours", "where are you", "goodbye")

steps = st.one_of(
    st.tuples(st.just("says"), st.sampled_from(PHRASES), st.sampled_from([0.1, 0.3, 1.0, 3.0])),
    st.tuples(st.just("noise"), st.none(), st.sampled_from([0.06, 0.2, 1.0])),
    st.tuples(st.just("waits"), st.none(), st.sampled_from([0.02, 0.3, 0.61, 0.75, 0.9, 1.5, 6.0])),
    st.tuples(st.just("presses"), st.sampled_from(["1", "#", "12#"]), st.none()),
    st.tuples(st.just("hold"), st.booleans(), st.none()),
    st.tuples(st.just("say"), st.just("An announcement."), st.none()),
    st.tuples(st.just("breaks"), st.sampled_from(["stt", "llm", "tts"]), st.booleans()),
)


async def live_through(steps: list[tuple[str, object, object]], *, barge_in: bool) -> None:
    flavor = FLAVOR.model_copy(update={"reprompt": "Are you there?", "reprompt_seconds": 4.0})
    answers = {
        "opening hours": ["We are open from nine to five. ", 0.4, "On Saturdays from ten to two."],
        "goodbye": ["Goodbye then, and thank you.", HangUp()],
    }
    async with Conversation(flavor, answers, vad=FakeVadService(), barge_in=barge_in) as talk:
        for step in steps:
            match step:
                case "says", str(phrase), float(seconds):
                    await talk.says(phrase, seconds)
                case "noise", _, float(seconds):
                    await talk.port.caller_says(noise(seconds))
                case "waits", _, float(seconds):
                    await talk.clock.sleep(seconds)
                case "presses", str(keys), _:
                    talk.presses(keys)
                case "hold", bool(held), _:
                    talk.pipeline.hold(held)
                case "say", str(text), _:
                    talk.pipeline.say(text)
                case "breaks", str(engine), bool(broken):
                    getattr(talk, engine).failing = broken
        for engine in (talk.stt, talk.llm, talk.tts):
            engine.failing = False
        talk.pipeline.hold(False)
        await talk.clock.sleep(1)
        # Whatever state that left, a question is heard and its answer spoken to the end.
        async with asyncio.timeout(120):
            while not any("final question" in turn.spoken for turn in talk.notes.turns):
                await talk.says("final question")
                await talk.clock.sleep(8)
        for turn in talk.notes.turns:
            timing = turn.timing
            work = [timing.speech_end, timing.recognition, timing.transcribed, timing.hint, timing.first_token]
            work += [timing.first_sentence, timing.first_audio]
            for instants in (work, [timing.speech_end, timing.decided, timing.released]):
                happened = [instant for instant in instants if instant is not None]
                assert happened == sorted(happened)
            assert turn.interrupted or turn.error or " ".join(turn.reply.split()) == turn.spoken
        generations = [turn.generation for turn in talk.notes.turns]
        assert generations == sorted(set(generations))


@given(st.lists(steps, max_size=12), st.booleans())
@example([("hold", True, None), ("presses", "12#", None), ("hold", False, None)], True)
@example([("waits", None, 0.3), ("noise", None, 1.0), ("presses", "1", None), ("say", "An announcement.", None)], False)
@settings(max_examples=40, deadline=None)
def test_nothing_ends_a_conversation(steps: list[tuple[str, object, object]], barge_in: bool) -> None:
    run_virtual(live_through(steps, barge_in=barge_in))
