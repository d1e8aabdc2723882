"""A real faster-whisper with a model that learnt: words, in windows of both lengths, by telephone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connector.audio import Audio
from connector.cli.phone.caller import at_speech_level
from connector.host import LocalEngineHost
from connector.interfaces import EngineContext, SpeechToText
from flavors.engines.faster_whisper import descriptor
from tests.engines.checkpoints.conversation import SENTENCES
from tests.fakes.voices import RATE, mu_law, noise, spoken

Start = Callable[..., Awaitable[SpeechToText]]


@pytest.fixture
async def start(whisper_model: Path, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts an engine with the options given."""
    async with AsyncExitStack() as stack:
        host = LocalEngineHost()
        stack.push_async_callback(host.aclose)

        async def engine(**options: Any) -> SpeechToText:
            given = {"model": str(whisper_model), "device": "cpu", "compute_type": "int8", "cpu_threads": 1, **options}
            chosen = descriptor.options.model_validate(given)
            made = await asyncio.to_thread(descriptor.load, chosen, EngineContext(host, tmp_path))
            assert isinstance(made, SpeechToText)
            await made.start()
            stack.push_async_callback(made.aclose)
            return made

        yield engine


def by_telephone(text: str) -> Audio:
    """`text` in a voice over a line that is not quite silent, with the pauses that a turn has around it."""
    speech = np.pad(at_speech_level(spoken(text, "flite", "rms")), (2400, 3200))
    return Audio(mu_law(speech + noise(len(speech) / RATE, 0.0005)), RATE)


@pytest.mark.parametrize("window", [10, 30])
async def test_callers_are_understood_to_the_letter(start: Start, window: int) -> None:
    engine = await start(window_seconds=window)
    utterances = await asyncio.to_thread(lambda: [by_telephone(sentence) for sentence in SENTENCES])
    heard = [(await engine.transcribe(utterance)).text for utterance in utterances]
    wrong = [pair for pair in zip(SENTENCES, heard, strict=True) if pair[0] != pair[1]]
    assert len(wrong) <= 2, wrong


async def test_calls_that_end_their_turns_at_once_each_get_their_own_words(start: Start) -> None:
    engine = await start()
    said = SENTENCES[:8]
    utterances = await asyncio.to_thread(lambda: [by_telephone(sentence) for sentence in said])
    alone = [(await engine.transcribe(utterance)).text for utterance in utterances]
    together = await asyncio.gather(*(engine.transcribe(utterance) for utterance in utterances))
    assert [transcript.text for transcript in together] == alone


async def test_a_line_without_speech_has_no_words(start: Start) -> None:
    engine = await start()
    for level in (0.0005, 0.003):
        assert (await engine.transcribe(Audio(mu_law(noise(2.0, level)), RATE))).text == ""
