"""A caller, a telephone line, and a connector on the engines of a GPU box."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from connector import config
from connector.app import App, SystemClock
from connector.audio import Samples
from connector.cli.phone import Phone
from connector.cli.phone.caller import Caller
from connector.cli.phone.own import own_phone
from connector.config import Surroundings
from connector.config.model import Settings
from connector.interfaces import Clock, Leg
from connector.record import CallRecord
from tests.engines.checkpoints.conversation import GREETING, PERSONA
from tests.engines.servers import KEY, LLM_MODEL, Server
from tests.fakes.calls import FakeMonitor
from tests.fakes.models import models_folder
from tests.fakes.voices import spoken

BETWEEN_SENTENCES = 3.0
"""Seconds of silence that a machine without a GPU may need between two of them."""

WRITING = "vllm:num_requests_running"
"""vLLM's gauge of the replies that it is writing."""

CONFIGURATION = """\
sip: {{listen: "127.0.0.1:0"}}
http: {{listen: "127.0.0.1:0"}}
media: {{ports: 39400-39499}}
records: {{directory: {folder}/records}}
models: {models}
routes:
  - {{number: "1000", flavor: box}}
flavors:
  box:
    persona: {persona}
    greeting: {greeting}
    fillers: []
    vad: {{engine: silero}}
    stt: {stt}
    llm: {llm}
    tts: {tts}
    turn: {{speculate: {speculate}}}
"""

OpenPhone = Callable[[Clock], AbstractAsyncContextManager[Phone]]


async def settings(folder: Path, *, stt: str, llm: str, tts: str, speculate: bool = True) -> Settings:
    """A flavor of these engines, each as YAML has it, which is called as 1000."""
    file = folder / "voxtrunk.yml"

    def load() -> Settings:
        file.write_text(
            CONFIGURATION.format(
                folder=folder,
                models=models_folder(),
                persona=PERSONA,
                greeting=GREETING,
                stt=stt,
                llm=llm,
                tts=tts,
                speculate=str(speculate).lower(),
            )
        )
        return config.load(file, surroundings=Surroundings(variables={"VOXTRUNK_API_KEY": KEY}))

    return await asyncio.to_thread(load)


def service(engine: str, server: Server, more: str = "") -> str:
    """The engine behind `server`, as YAML has it. `more`: options, each after a comma."""
    return f'{{engine: {engine}, base_url: "{server.base_url}", api_key: "${{VOXTRUNK_API_KEY}}"{more}}}'


def chat(server: Server, more: str = "") -> str:
    """The micro Llama of `server`."""
    return service("openai-chat", server, f", model: {LLM_MODEL}, temperature: 0{more}")


def whisper_here(model: Path) -> str:
    """The micro Whisper in the connector's own process."""
    return f"{{engine: faster-whisper, model: {model}, compute_type: int8, cpu_threads: 1}}"


@dataclass(frozen=True, slots=True)
class Line:
    """A call: who answers it, who makes it, and his end of it."""

    app: App
    caller: Caller
    leg: Leg
    clock: Clock

    async def ask(self, sentence: str) -> float:
        """Says `sentence` and hears the answer out; returns the clock time at which the sentence ended."""
        said = await self.caller.say(await voice(sentence))
        assert await self.caller.wait_for_speech(20, after=said.end) is not None, f"no answer to {sentence!r}"
        await self.caller.wait_for_silence(BETWEEN_SENTENCES, 60)
        return said.end


@asynccontextmanager
async def calling(
    settings: Settings, monitor: FakeMonitor, phone: OpenPhone = own_phone, *, quiet: float = BETWEEN_SENTENCES
) -> AsyncIterator[Line]:
    """A caller who has heard the greeting; `monitor` has the record once he has hung up.

    `quiet`: seconds of silence after which the agent has finished.
    """
    clock = SystemClock()
    async with App(settings, monitors=[monitor]) as app, phone(clock) as used:
        assert app.readiness().ready, app.readiness()
        assert app.local is not None
        leg = await used.dial(f"sip:1000@127.0.0.1:{app.local[1]}")
        async with Caller(leg, clock) as caller:
            assert await caller.wait_for_speech(10, after=0) is not None
            await caller.wait_for_silence(quiet, 30)
            yield Line(app, caller, leg, clock)
        async with asyncio.timeout(5):
            while not monitor.records:  # noqa: ASYNC110 - written by a thread
                await asyncio.sleep(0.05)


async def until(server: Server, wanted: Callable[[dict[str, float]], bool], seconds: float = 30) -> dict[str, float]:
    """Asks `server` for its metrics until they are as `wanted`; returns them. Raises `TimeoutError`."""
    async with asyncio.timeout(seconds):
        while not wanted(metrics := await asyncio.to_thread(server.metrics)):  # noqa: ASYNC110 - another process's
            await asyncio.sleep(0.005)
    return metrics


async def ask_and_hold(caller: Caller, vllm: Server, sentence: str) -> None:
    """Says `sentence` and hears the answer begin, of which `vllm`, frozen then, has written little more than that."""
    said = await caller.say(await voice(sentence))
    await until(vllm, lambda metrics: metrics[WRITING] > 0)
    vllm.freeze()
    while await caller.wait_for_speech(0.5, after=said.end) is None:
        vllm.thaw()
        await caller.pause(0.02)
        vllm.freeze()


async def voice(sentence: str) -> Samples:
    """A caller's voice, at 8 kHz, as the micro Whisper knows it."""
    return await asyncio.to_thread(spoken, sentence, "flite", "rms")


def turns(record: CallRecord) -> list[tuple[str, str]]:
    """What was understood and what was answered, greeting left out."""
    return [(turn.heard, turn.spoken) for turn in record.turns[1:]]
