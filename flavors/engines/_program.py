"""Text-to-speech by a program that writes a WAV file to its standard output."""

from __future__ import annotations

import asyncio
import struct
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np

from connector.audio import Audio
from connector.errors import EngineError, ProgramMissing

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that a program may compute without giving anything."""
_READ = 4096
_PCM = 1
"""WAVE_FORMAT_PCM."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program's arguments, and what it reads from its standard input."""

    argv: tuple[str, ...]
    stdin: bytes | None = None


def speakable(text: str) -> str:
    """`text` on one line, without control characters; empty where it has nothing to pronounce."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if any(c.isalnum() for c in line) else ""


class ProgramSpeech:
    """`TextToSpeech` that runs one process per text, killed when its iterator is closed or cancelled.

    `engine`: name for errors. `package`: Debian package of the program. `command(text)`: how to say
    a speakable line. `cache_seconds`: seconds of audio kept, so that what is said in every call
    (the greeting) starts at once; the least recently used goes first.
    """

    def __init__(self, engine: str, package: str, command: Callable[[str], Command], cache_seconds: float) -> None:
        self._engine = engine
        self._package = package
        self._command = command
        self._cache: OrderedDict[str, tuple[Audio, ...]] = OrderedDict()
        self._cache_seconds = cache_seconds
        self._cached_seconds = 0.0

    async def start(self) -> None:
        """Proves that the program is there and speaks. Raises `ProgramMissing` or `EngineError`."""
        await self.check()

    async def check(self) -> None:
        """Says a word, past the cache."""
        async with aclosing(self._run("yes")) as speech:
            seconds = sum([chunk.seconds async for chunk in speech])
        if not seconds:
            raise EngineError(self._engine, f"{self._command('yes').argv[0]} gave no audio")

    async def aclose(self) -> None:
        """Forgets the cache; processes end with their iterators."""
        self._cache.clear()
        self._cached_seconds = 0.0

    async def synthesize(self, text: str) -> AsyncGenerator[Audio, None]:
        """Streams speech for `text` as the program gives it, at the voice's rate; nothing where nothing can be said."""
        line = speakable(text)
        if not line:
            return
        if cached := self._cache.get(line):
            self._cache.move_to_end(line)
            for chunk in cached:
                yield chunk
            return
        chunks: list[Audio] = []
        async with aclosing(self._run(line)) as speech:
            async for chunk in speech:
                chunks.append(chunk)
                yield chunk
        self._keep(line, tuple(chunks))

    def _keep(self, line: str, chunks: tuple[Audio, ...]) -> None:
        self._cached_seconds += _seconds(chunks) - _seconds(self._cache.pop(line, ()))
        self._cache[line] = chunks
        while self._cached_seconds > self._cache_seconds and self._cache:
            _, oldest = self._cache.popitem(last=False)
            self._cached_seconds -= _seconds(oldest)

    async def _run(self, line: str) -> AsyncGenerator[Audio, None]:
        command = self._command(line)
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *command.argv,
                stdin=asyncio.subprocess.DEVNULL if command.stdin is None else pipe,
                stdout=pipe,
                stderr=pipe,
            )
        except FileNotFoundError:
            program = command.argv[0]
            raise ProgramMissing(
                self._engine, f"the program {program} is not installed: apt install {self._package}"
            ) from None
        except OSError as error:
            raise EngineError(self._engine, f"{command.argv[0]} cannot be run: {error.strerror}") from error
        try:
            if process.stdin is not None:
                process.stdin.write(command.stdin or b"")
                process.stdin.close()
            stdout, stderr = (cast(asyncio.StreamReader, stream) for stream in (process.stdout, process.stderr))
            failure = ""
            try:
                rate = await _patiently(_read_wav_header(stdout))
                odd = b""
                while data := odd + await _patiently(stdout.read(_READ)):
                    whole = len(data) & ~1
                    odd = data[whole:]
                    if not whole:
                        break
                    yield Audio(np.frombuffer(data[:whole], dtype="<i2").astype(np.int16, copy=False), rate)
            except (asyncio.IncompleteReadError, ValueError) as error:
                failure = str(error)
            said = (await _patiently(stderr.read(_READ))).decode(errors="replace").strip()
            if await _patiently(process.wait()) or failure:
                raise EngineError(self._engine, (said or failure or "the program failed").splitlines()[-1])
        except TimeoutError:
            raise EngineError(self._engine, f"{command.argv[0]} gave nothing for {PATIENCE:g} seconds") from None
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()


async def _patiently(result: Awaitable[T]) -> T:
    """Waits at most `PATIENCE`. (`asyncio.wait_for` of Python 3.11 can lose a cancellation.)"""
    async with asyncio.timeout(PATIENCE):
        return await result


async def _read_wav_header(stream: asyncio.StreamReader) -> int:
    """Reads up to the samples and returns their rate, Hz. Raises ValueError where they are not mono 16-bit PCM.

    The data chunk's length is not used: who streams does not know it.
    """
    riff, _, wave = struct.unpack("<4sI4s", await stream.readexactly(12))
    rate = 0
    while (riff, wave) == (b"RIFF", b"WAVE"):
        name, length = struct.unpack("<4sI", await stream.readexactly(8))
        if name == b"data" and rate:
            return rate
        body = await stream.readexactly(length + length % 2)
        if name == b"fmt ":
            encoding, channels, rate, _, _, bits = struct.unpack("<HHIIHH", body[:16])
            if (encoding, channels, bits) != (_PCM, 1, 16):
                break
    raise ValueError("expected a WAV file of mono 16-bit PCM")


def _seconds(chunks: Sequence[Audio]) -> float:
    return sum(chunk.seconds for chunk in chunks)
