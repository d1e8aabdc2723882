"""Fake engines: scripted, as slow as the test wants, and as broken.

Speech is made of tones. A `ToneBook` gives each phrase a tone of its own, the caller "says" the tone,
and the fake recogniser reads the phrases back out of the audio that it is really given. So a test
that sees the right words has proved that the right audio arrived, whole and once.

    book = ToneBook()
    await port.caller_says(book.speak("what is the time"))
    stt = FakeSpeechToText(book, delay=0.12)
    llm = FakeLanguageModel({"what is the time": ["It is noon. ", 0.3, "Anything else?"]})
    tts = FakeTextToSpeech()

Delays are awaited on the event loop: in virtual time they cost nothing. A fake that is `failing`
raises `EngineError` from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from connector.audio import FRAME_SECONDS, Audio, Frame
from connector.errors import EngineError
from connector.interfaces import Message, ReplyEvent, Role, TextDelta, Transcript

LOUD = 8000
"""Peak of a tone, of 32767."""

LEVEL = 0.02
"""Root mean square (full scale 1.0) from which the fake VADs hear speech."""

STEP = round(1 / FRAME_SECONDS)
"""Hz between two tones: each has a whole number of periods per frame."""


def tone(frequency: float, seconds: float, rate: int = 8000, peak: int = LOUD) -> Audio:
    """A sine of `frequency` Hz."""
    times = np.arange(round(seconds * rate)) / rate
    return Audio(np.round(peak * np.sin(2 * np.pi * frequency * times)).astype(np.int16), rate)


def silence(seconds: float, rate: int = 8000) -> Audio:
    """Nothing, for `seconds`."""
    return Audio(np.zeros(round(seconds * rate), np.int16), rate)


def noise(seconds: float, rate: int = 8000) -> Audio:
    """White noise as loud as speech, in which a `ToneBook` reads nothing; the same each time."""
    samples = np.random.default_rng(1).normal(0, LOUD / 2, round(seconds * rate))
    return Audio(samples.clip(-32768, 32767).astype(np.int16), rate)


def join(*parts: Audio) -> Audio:
    """`parts`, all of one rate, one after the other."""
    return Audio(np.concatenate([part.samples for part in parts]), parts[0].rate)


class ToneBook:
    """A tone for each phrase, in the order of first use: 200 Hz, 250 Hz, ... below 3.4 kHz."""

    def __init__(self) -> None:
        self._tones: dict[str, int] = {}

    def speak(self, phrase: str, seconds: float = 1.0) -> Audio:
        """The tone of `phrase`, at 8 kHz."""
        index = self._tones.setdefault(phrase, len(self._tones))
        frequency = 200 + STEP * index
        assert frequency < 3400, "the book is full"
        return tone(frequency, seconds)

    def read(self, audio: Audio) -> list[str]:
        """The phrases in `audio`, in order; what is no pure tone of 40 ms or more is none."""
        size = round(audio.rate * FRAME_SECONDS)
        phrases = {200 + STEP * index: phrase for index, phrase in enumerate(self._tones)}
        frames = audio.samples[: len(audio.samples) // size * size].reshape(-1, size)
        runs = [(frequency, len(list(run))) for frequency, run in groupby(map(_pure_tone, frames))]
        return [phrases[frequency] for frequency, length in runs if frequency in phrases and length >= 2]


def _pure_tone(frame: NDArray[np.int16]) -> int:
    """Frequency in Hz of a frame that holds one tone and little else; 0 of any other."""
    power = np.abs(np.fft.rfft(frame.astype(np.float64))) ** 2
    loudest = int(np.argmax(power))
    if power[loudest] < (LOUD / 8 * len(frame) / 2) ** 2 or power[loudest] < 0.9 * power.sum():
        return 0
    return loudest * STEP


class _FakeEngine:
    """What all fakes share: a life cycle that is counted, and a switch that breaks them."""

    name = "fake"

    def __init__(self) -> None:
        self.started = self.closed = 0
        self.failing = False

    async def start(self) -> None:
        self.started += 1

    async def check(self) -> None:
        self.fail_if_failing()

    async def aclose(self) -> None:
        self.closed += 1

    def fail_if_failing(self) -> None:
        if self.failing:
            raise EngineError(self.name, "out of order")


class FakeSpeechToText(_FakeEngine):
    """Implements `SpeechToText`: reads the phrases out of the tones after `delay` seconds."""

    name = "fake-stt"

    def __init__(self, book: ToneBook, delay: float = 0.12) -> None:
        super().__init__()
        self._book = book
        self.delay = delay
        self.utterances: list[Audio] = []
        self.phrases: Sequence[str] = ()
        self.aborted = 0

    async def transcribe(self, utterance: Audio, phrases: Sequence[str] = ()) -> Transcript:
        self.utterances.append(utterance)
        self.phrases = phrases
        try:
            await asyncio.sleep(self.delay)
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        self.fail_if_failing()
        return Transcript(" ".join(self._book.read(utterance)), 1.0)


Step = str | float | ReplyEvent | EngineError
"""Text is streamed word by word, a number is a pause in seconds, an error is raised."""


def echo_back(text: str) -> Sequence[Step]:
    """An answer to anything."""
    return [f"You said {text}."]


class FakeLanguageModel(_FakeEngine):
    """Implements `LanguageModel`: answers the last user message by `answers`, or else by `otherwise`.

    `first_token`: seconds until the first event; `per_word`: seconds between the words of a text.
    """

    name = "fake-llm"

    def __init__(
        self,
        answers: Mapping[str, Sequence[Step]] | None = None,
        first_token: float = 0.15,
        per_word: float = 0.02,
        otherwise: Callable[[str], Sequence[Step]] = echo_back,
    ) -> None:
        super().__init__()
        self._answers = answers or {}
        self._otherwise = otherwise
        self.first_token = first_token
        self.per_word = per_word
        self.phrases: Sequence[str] = tuple(self._answers)
        self.histories: list[Sequence[Message]] = []
        self.aborted = 0
        self.finished_at: list[float] = []
        """Loop time at which each reply was complete."""

    async def reply(self, history: Sequence[Message]) -> AsyncIterator[ReplyEvent]:
        self.histories.append(tuple(history))
        asked = history[-1]
        assert asked.role is Role.USER
        finished = False
        try:
            await asyncio.sleep(self.first_token)
            self.fail_if_failing()
            for step in self._answers.get(asked.content) or self._otherwise(asked.content):
                match step:
                    case str():
                        for word in _words(step):
                            yield TextDelta(word)
                            await asyncio.sleep(self.per_word)
                    case float():
                        await asyncio.sleep(step)
                    case EngineError():
                        raise step
                    case _:
                        yield step
            finished = True
            self.finished_at.append(asyncio.get_running_loop().time())
        finally:
            self.aborted += not finished


def _words(text: str) -> list[str]:
    """`text` in words, each with the white space before it: as models stream."""
    words, start = [], 0
    for index in range(1, len(text)):
        if text[index] == " ":
            words.append(text[start:index])
            start = index
    return [*words, text[start:]]


@dataclass(frozen=True, slots=True)
class Synthesis:
    """One call of the fake voice. Loop times; `ended` is None while it lasts, and when it was aborted."""

    text: str
    began: float
    ended: float | None = None


class FakeTextToSpeech(_FakeEngine):
    """Implements `TextToSpeech`: a tone as long as the text takes to say.

    `first_audio`: seconds until the first chunk; `pace`: characters per second of speech;
    `speed`: seconds of speech made per second, in chunks of `chunk` seconds.
    """

    name = "fake-tts"

    def __init__(
        self, first_audio: float = 0.15, pace: float = 15.0, speed: float = 10.0, chunk: float = 0.2, rate: int = 8000
    ) -> None:
        super().__init__()
        self.first_audio = first_audio
        self.pace = pace
        self.speed = speed
        self.chunk = chunk
        self.rate = rate
        self.fail_on: set[str] = set()
        """Texts that it cannot speak."""
        self.calls: list[Synthesis] = []
        self.aborted = 0

    @property
    def texts(self) -> list[str]:
        """What it was asked to say, in order."""
        return [call.text for call in self.calls]

    def seconds(self, text: str) -> float:
        """How long `text` takes to say."""
        return len(text) / self.pace

    async def synthesize(self, text: str) -> AsyncIterator[Audio]:
        now = asyncio.get_running_loop().time
        call = len(self.calls)
        self.calls.append(Synthesis(text, now()))
        finished = False
        try:
            await asyncio.sleep(self.first_audio)
            self.fail_if_failing()
            if text in self.fail_on:
                raise EngineError(self.name, "cannot say this")
            left = self.seconds(text)
            while left > 0:
                seconds = min(self.chunk, left)
                left -= seconds
                yield tone(440, seconds, self.rate)
                await asyncio.sleep(seconds / self.speed)
            finished = True
            self.calls[call] = Synthesis(text, self.calls[call].began, now())
        finally:
            self.aborted += not finished


class FakeVad(_FakeEngine):
    """Implements `Vad`: a window is speech where it is loud enough.

    A stream's state counts its windows, so a test can see that states went along with their streams.
    """

    name = "fake-vad"

    def __init__(self, rate: int = 8000, window: int = 256, delay: float = 0.001) -> None:
        super().__init__()
        self._rate = rate
        self._window = window
        self.delay = delay
        self.batches: list[int] = []
        """Size of each batch."""
        self.states: list[list[float]] = []
        """The states of each batch, before it."""
        self.running = 0
        self.most_running = 0
        """The most calls that were in flight at once."""

    @property
    def rate(self) -> int:
        return self._rate

    @property
    def window(self) -> int:
        return self._window

    def initial_state(self) -> NDArray[np.float32]:
        return np.zeros(1, np.float32)

    async def probabilities(
        self, windows: NDArray[np.float32], states: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.batches.append(len(windows))
        self.states.append([float(state) for state in states[:, 0]])
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(self.delay)
        finally:
            self.running -= 1
        self.fail_if_failing()
        loud = np.sqrt(np.mean(np.square(windows), axis=1)) >= LEVEL
        return loud.astype(np.float32), states + 1


class FakeVadService:
    """Implements `VadService` without an engine: each frame is judged by its level, at once."""

    def __init__(self) -> None:
        self.streams = 0
        """Streams that are open."""

    def open(self, on_probability: Callable[[float, float, float], None]) -> FakeVadStream:
        self.streams += 1
        return FakeVadStream(self, on_probability)


class FakeVadStream:
    """Implements `VadStream`."""

    def __init__(self, service: FakeVadService, on_probability: Callable[[float, float, float], None]) -> None:
        self._service = service
        self._on_probability = on_probability
        self._open = True

    def push(self, frame: Frame) -> None:
        if self._open:
            loud = int(np.abs(frame.samples).max()) >= LEVEL * 32768
            self._on_probability(frame.end, frame.end - frame.time, float(loud))

    def close(self) -> None:
        self._service.streams -= self._open
        self._open = False
