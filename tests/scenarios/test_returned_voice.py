"""A line that returns the agent's voice as rooms and hybrids do, and callers on it: real voices, real detection.

In virtual time: what is heard, and when, is the same on every machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from bench.turns.echo import Echo, EchoPath
from bench.turns.manners import echo_paths
from connector.audio import Audio, Frame, Samples
from connector.host import LocalEngineHost
from connector.host.vad import BatchedVadService
from connector.interfaces import Clock, EngineContext, Transcript
from connector.pipeline.cascade import Cascade, CascadeEngines
from connector.pipeline.responder import pieces_of, said
from flavors.engines.silero import Silero, SileroOptions, descriptor
from tests.fakes import voices
from tests.fakes.audio_port import FakeAudioPort
from tests.fakes.clock import LoopClock, run_virtual
from tests.fakes.engines import FakeLanguageModel, FakeSpeechToText, FakeTextToSpeech, ToneBook, tone
from tests.fakes.models import models_folder
from tests.scenarios.conversation import FLAVOR, Notes

REPLY = (
    "The museum is open from Tuesday to Sunday. Tickets cost twelve euros, and children under twelve go in for free. "
    "There is a guided tour every hour, and the last one begins at four in the afternoon."
)
LEVEL = 3277.0
"""Root mean square of active speech, -20 dBFS."""
LINE_NOISE = 16.0
"""-66 dBFS."""
NO_ECHO = Echo(-90.0, 0.02, room=False)
STOP_SECONDS = 0.25
"""A voice that is silent for longer within a sentence has stopped."""


def at_level(speech: Samples) -> Samples:
    active = speech[np.abs(speech) > 200].astype(float)
    return np.clip(speech * (LEVEL / np.sqrt(np.mean(np.square(active)))), -32768, 32767).astype(np.int16)


@cache
def sentences() -> Mapping[str, Samples]:
    """What a synthesiser is given to say `REPLY`, in flite's slt."""
    texts = [said(piece, FLAVOR.language) for piece in pieces_of(REPLY)]
    return {text: at_level(voices.spoken(text)) for text in texts}


class Voice(FakeTextToSpeech):
    """Has the sentences of `REPLY` at once; all else is a tone."""

    async def synthesize(self, text: str) -> AsyncGenerator[Audio, None]:
        speech = sentences().get(text, tone(300, 0.5).samples)
        for start in range(0, len(speech), 800):
            yield Audio(speech[start : start + 800], 8000)


class Understands(FakeSpeechToText):
    """Understands whatever is audible."""

    def __init__(self, words: str) -> None:
        super().__init__(ToneBook())
        self._words = words

    async def transcribe(self, utterance: Audio, phrases: Sequence[str] = ()) -> Transcript:
        await asyncio.sleep(0.12)
        return Transcript(self._words if np.abs(utterance.samples).max() > 150 else "")


class Line(FakeAudioPort):
    """A telephone line, coded in G.711 both ways: what leaves comes back by `echo`, and a caller says `speech`."""

    def __init__(self, clock: Clock, echo: Echo, speech: Samples, after: float) -> None:
        super().__init__(clock, input_delay=0.06)
        self._path = EchoPath(echo)
        self._noise = np.random.default_rng(5)
        self._caller = np.concatenate([np.zeros(round(8000 * after)), speech, np.zeros(160)])
        self._delayed = [np.zeros(160)] * 2
        self.tap(self)

    def received(self, frame: Frame, at: float) -> None:
        pass

    def emitted(self, frame: Frame, at: float) -> None:
        self._path.play(voices.mu_law(frame.samples))

    def _deliver(self) -> None:
        said, self._caller = self._caller[:160], self._caller[160:]
        heard = self._path.frame() + self._noise.normal(0, LINE_NOISE, 160)
        heard[: len(said)] += said
        self._delayed.append(heard)
        samples = np.clip(np.rint(self._delayed.pop(0)), -32768, 32767).astype(np.int16)
        self._saying.append(voices.mu_law(samples))
        super()._deliver()


@pytest.fixture(scope="module")
def vad() -> Iterator[Silero]:
    async def start() -> Silero:
        engine = descriptor.load(SileroOptions(), EngineContext(host, models_folder()))
        assert isinstance(engine, Silero)
        await engine.start()
        return engine

    host = LocalEngineHost()
    yield asyncio.run(start())
    asyncio.run(host.aclose())


def greeted(vad: Silero, echo: Echo, speech: Samples, after: float, words: str = "") -> tuple[list[float], Notes]:
    """When the agent's voice left, in seconds of the line's time, while it says `REPLY`; and what became of it."""

    sentences()  # not in virtual time, which waits for no program

    async def live() -> tuple[list[float], Notes]:
        clock, notes = LoopClock(), Notes()
        service = BatchedVadService(vad)
        engines = CascadeEngines(
            service, Understands(words or "there is a guided tour"), FakeLanguageModel({}), Voice()
        )
        async with Line(clock, echo, speech, after) as port:
            flavor = FLAVOR.model_copy(update={"greeting": REPLY})
            running = asyncio.create_task(Cascade(flavor, engines, port, notes, clock).run())
            await asyncio.sleep(20)
            running.cancel()
            await asyncio.wait([running])
        await service.aclose()
        return [at for at, _ in port.voice], notes

    return run_virtual(live())


def stops(times: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times) if later - earlier > STOP_SECONDS]


@pytest.mark.parametrize("echo", echo_paths(10), ids=str)
def test_the_agent_is_not_stopped_by_its_own_voice(vad: Silero, echo: Echo) -> None:
    times, notes = greeted(vad, echo, np.zeros(0, np.int16), 0.0)
    assert [turn.interrupted for turn in notes.turns] == [False]
    assert notes.turns[0].spoken == REPLY
    assert not stops(times)


@pytest.mark.parametrize("echo", [NO_ECHO, Echo(-20.0, 0.12, room=False), Echo(-25.0, 0.18, room=True)], ids=str)
@pytest.mark.parametrize("after", [3.9, 4.31, 4.555])
@pytest.mark.parametrize("voice", ["rms", "awb"])
def test_a_caller_who_interrupts_stops_it(vad: Silero, echo: Echo, after: float, voice: str) -> None:
    words = "Actually I have another question about that."
    speech = at_level(voices.spoken(words, voice=voice))
    times, notes = greeted(vad, echo, speech, after, words)
    assert notes.turns[0].interrupted
    assert notes.turns[1].heard.startswith(words)
    onset = after + float(np.argmax(np.abs(speech) > 400)) / 8000
    assert not [at for at in times if onset + 0.2 < at < onset + 1.0]
