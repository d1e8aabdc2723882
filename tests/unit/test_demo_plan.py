"""What the demo's caller says: drawn from what a scripted flavor knows."""

from __future__ import annotations

from random import Random

import pytest

from connector.cli.phone.plan import QUESTIONS, STRANGE, Line, draw, knowledge
from connector.interfaces import HangUp, IntentMatched, Transfer
from tests.fakes.clock import virtual_time
from tests.fakes.engines import FakeLanguageModel, Step

LONG = "We are open Monday to Friday from nine in the morning until five in the afternoon, and on Saturdays too."

SCRIPT: dict[str, list[Step]] = {
    "when are you open": [IntentMatched("hours"), LONG],
    "where are you located": [IntentMatched("address"), "You find us at 12 Station Road."],
    "where can i park": [IntentMatched("parking"), "Behind the building."],
    "do you have a website": [IntentMatched("website"), "We have."],
    "connect me to sales": [IntentMatched("contact"), "One moment.", Transfer("2001")],
    "help": [IntentMatched("help"), "You can ask."],
    "that is all": [IntentMatched("goodbye"), "Goodbye.", HangUp()],
}


async def known() -> list[Line]:
    return await knowledge(FakeLanguageModel(SCRIPT))


@virtual_time
async def test_a_flavor_tells_what_it_knows_and_transfers_are_left_out() -> None:
    lines = {line.text: line for line in await known()}
    assert "connect me to sales" not in lines
    assert lines["when are you open"] == Line("when are you open", "hours", LONG)
    assert lines["that is all"].ends


@virtual_time
async def test_every_seed_draws_a_whole_conversation() -> None:
    lines = await known()
    for seed in range(200):
        drawn = draw(lines, Random(seed))
        assert len(drawn) == QUESTIONS + 2
        assert [line.ends for line in drawn] == [False] * (QUESTIONS + 1) + [True]
        assert [line.text for line in drawn if not line.intent] == [line.text for line in drawn if line.text in STRANGE]
        assert len({line.intent for line in drawn}) == len(drawn)
        (interrupting,) = (index for index, line in enumerate(drawn) if line.interrupts)
        assert 0 < interrupting < len(drawn) - 1
        assert drawn[interrupting - 1].reply == LONG


@virtual_time
async def test_a_seed_draws_the_same_again_and_another_one_another_order() -> None:
    lines = await known()
    assert draw(lines, Random(7)) == draw(lines, Random(7))
    assert len({tuple(line.text for line in draw(lines, Random(seed))) for seed in range(20)}) > 10


@virtual_time
async def test_a_flavor_that_knows_too_little_is_refused() -> None:
    lines = [line for line in await known() if line.intent not in ("hours",)]
    with pytest.raises(ValueError, match="long reply"):
        draw(lines, Random(1))
