"""Voices that are programs: their audio, their errors, and that no process outlives its listener."""

from __future__ import annotations

import asyncio
import shutil
import wave
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from pydantic import ValidationError

from connector.audio import Audio
from connector.errors import EngineError, ProgramMissing
from connector.host.local import LocalEngineHost
from connector.interfaces import EngineContext, EngineDescriptor, TextToSpeech
from flavors.engines import espeak_ng, flite
from flavors.engines._program import Command, ProgramSpeech, speakable

SENTENCE = "We are open from nine in the morning until five in the afternoon."
LONG = " ".join([SENTENCE] * 40)


def engine(descriptor: EngineDescriptor, tmp_path: Path, **options: Any) -> TextToSpeech:
    if shutil.which(descriptor.name) is None:
        pytest.skip(f"{descriptor.name} is not installed: apt install {descriptor.name}")
    made = descriptor.load(descriptor.options.model_validate(options), EngineContext(LocalEngineHost(), tmp_path))
    assert isinstance(made, TextToSpeech)
    return made


async def collect(speech: AsyncIterator[Audio]) -> Audio:
    chunks = [chunk async for chunk in speech]
    assert len({chunk.rate for chunk in chunks}) == 1
    return Audio(np.concatenate([chunk.samples for chunk in chunks]), chunks[0].rate)


async def children() -> set[str]:
    """The process ids of this process's children, zombies too."""
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", "cat /proc/$PPID/task/*/children", stdout=asyncio.subprocess.PIPE
    )
    listing, _ = await process.communicate()
    return set(listing.decode().split()) - {str(process.pid)}


each_voice = pytest.mark.parametrize("descriptor", [flite.descriptor, espeak_ng.descriptor], ids=lambda d: d.name)


@each_voice
async def test_a_sentence_lasts_and_sounds_as_speech_does(descriptor: EngineDescriptor, tmp_path: Path) -> None:
    speech = await collect(engine(descriptor, tmp_path).synthesize(SENTENCE))
    assert speech.rate in (16_000, 22_050)
    assert speech.samples.dtype == np.int16
    assert 2.5 < speech.seconds < 7
    level = 20 * np.log10(np.sqrt(np.mean(np.square(speech.samples / 32768.0))))
    assert -32 < level < -10
    assert np.abs(speech.samples.astype(np.int32)).max() < 32768


@each_voice
async def test_it_proves_that_it_can_speak(descriptor: EngineDescriptor, tmp_path: Path) -> None:
    voice = engine(descriptor, tmp_path)
    await voice.start()
    await voice.check()
    await voice.aclose()
    await voice.aclose()


@each_voice
@pytest.mark.parametrize("text", ["", "  ", "...", "?!", "\n\x00\t"])
async def test_nothing_to_pronounce_is_no_audio(descriptor: EngineDescriptor, tmp_path: Path, text: str) -> None:
    assert [chunk async for chunk in engine(descriptor, tmp_path).synthesize(text)] == []


@each_voice
@pytest.mark.parametrize(
    "text", ["-o /tmp/x hello", "--version", "$(id) `id` ; id", 'say "this" & that\x00\x1b', "naïve 日本"]
)
async def test_any_text_is_spoken_and_never_an_option(descriptor: EngineDescriptor, tmp_path: Path, text: str) -> None:
    assert (await collect(engine(descriptor, tmp_path).synthesize(text))).seconds > 0.2


@each_voice
async def test_a_long_text_begins_at_once_and_is_said_whole(descriptor: EngineDescriptor, tmp_path: Path) -> None:
    voice = engine(descriptor, tmp_path)
    one = (await collect(voice.synthesize(SENTENCE))).seconds
    assert (await collect(voice.synthesize(LONG))).seconds > 30 * one


@each_voice
async def test_closing_the_iterator_ends_the_program(descriptor: EngineDescriptor, tmp_path: Path) -> None:
    before = await children()
    speech = cast(AsyncGenerator[Audio, None], engine(descriptor, tmp_path).synthesize(LONG))
    async with aclosing(speech):
        assert (await anext(speech)).seconds > 0
    assert await children() <= before


@each_voice
async def test_an_unknown_voice_is_named(descriptor: EngineDescriptor, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"voice"):
        await engine(descriptor, tmp_path, voice="nosuchvoice").start()


@pytest.mark.parametrize(
    ("descriptor", "options"),
    [
        (flite.descriptor, {"voice": "-o"}),
        (flite.descriptor, {"speed": 9}),
        (flite.descriptor, {"pitch": 1}),
        (flite.descriptor, {"volume": 1}),
        (espeak_ng.descriptor, {"voice": "--stdin"}),
        (espeak_ng.descriptor, {"rate": 10}),
        (espeak_ng.descriptor, {"pitch": 100}),
        (espeak_ng.descriptor, {"cache_seconds": -1}),
    ],
)
def test_options_out_of_range_are_refused(descriptor: EngineDescriptor, options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        descriptor.options.model_validate(options)


async def test_speed_and_rate_change_the_duration(tmp_path: Path) -> None:
    for descriptor, slow, fast in (
        (flite.descriptor, {"speed": 0.8}, {"speed": 1.5}),
        (espeak_ng.descriptor, {"rate": 100}, {"rate": 250}),
    ):
        slowly = (await collect(engine(descriptor, tmp_path, **slow).synthesize(SENTENCE))).seconds
        quickly = (await collect(engine(descriptor, tmp_path, **fast).synthesize(SENTENCE))).seconds
        assert slowly > 1.5 * quickly


def program(script: str, cache_seconds: float = 0.0) -> ProgramSpeech:
    return ProgramSpeech("voice", "voice-package", lambda line: Command(("sh", "-c", script)), cache_seconds)


async def test_a_missing_program_names_its_package() -> None:
    voice = ProgramSpeech("voice", "voice-package", lambda line: Command(("no-such-program-here",)), 0)
    with pytest.raises(ProgramMissing, match="no-such-program-here is not installed: apt install voice-package"):
        await voice.start()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo broken pipes >&2; exit 3", "broken pipes"),
        ("exit 3", "bytes"),
        ("printf 'this is not a sound file at all'", "expected a WAV file"),
        ("printf 'RIFF....WAVEfmt '; printf '\\020\\0\\0\\0\\003\\0\\001\\0____________'", "mono 16-bit"),
    ],
)
async def test_a_failing_program_is_an_engine_error(script: str, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        await program(script).check()


@pytest.fixture
def second_of_silence(tmp_path: Path) -> Path:
    """A WAV file of one second at 8 kHz."""
    path = tmp_path / "silence.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    return path


async def test_cancelling_the_listener_ends_a_program_that_hangs(second_of_silence: Path) -> None:
    heard = asyncio.Event()
    before = await children()

    async def listen() -> None:
        async with aclosing(program(f"cat {second_of_silence}; exec sleep 600").synthesize("Welcome.")) as speech:
            async for _ in speech:
                heard.set()

    listener = asyncio.create_task(listen())
    await heard.wait()
    listener.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listener
    assert await children() <= before


async def test_a_fixed_phrase_is_computed_once(tmp_path: Path, second_of_silence: Path) -> None:
    runs = tmp_path / "runs"
    voice = program(f"echo run >> {runs}; cat {second_of_silence}", cache_seconds=2.5)
    first = await collect(voice.synthesize("Welcome."))
    again = await collect(voice.synthesize("Welcome."))
    assert (first.rate, first.seconds) == (8000, 1.0)
    assert np.array_equal(first.samples, again.samples)
    assert runs.read_text().count("run") == 1
    for text in ("one", "two"):
        await collect(voice.synthesize(text))
    await collect(voice.synthesize("Welcome."))
    assert runs.read_text().count("run") == 4, "the cache keeps no more than it may"


def test_pieces_are_short_whole_and_cut_between_words() -> None:
    cut = flite.pieces(LONG)
    assert all(len(piece) <= flite.PIECE for piece in cut)
    assert " ".join(cut) == LONG
    assert flite.pieces("x" * 1000) == ["x" * 240] * 4 + ["x" * 40]
    assert flite.pieces("") == []


@pytest.mark.parametrize(
    ("text", "line"), [("  a\tb\nc ", "a b c"), ("one\x00two", "one two"), ("-- !", ""), ("日本", "日本")]
)
def test_a_line_to_speak_has_no_control_characters(text: str, line: str) -> None:
    assert speakable(text) == line
