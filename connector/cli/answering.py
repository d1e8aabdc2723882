"""The language model of a flavor, asked without a call, as calls ask it: where one fails, the next one goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from connector import config
from connector.app import SystemClock
from connector.call.engines import Engines
from connector.call.ladders import Ladders
from connector.call.voices import Voices
from connector.config.model import Flavor, Settings
from connector.errors import Overloaded, VoxtrunkError
from connector.host import LocalEngineHost
from connector.interfaces import (
    Clock,
    EngineContext,
    EngineKind,
    LanguageModel,
    Message,
    ReplyEvent,
    ServiceOutcome,
    TurnRecord,
    TurnTiming,
)
from connector.pipeline.metered import Metering


class NoLanguageModel(VoxtrunkError):
    """A flavor without a language model has nothing to say."""


@dataclass(frozen=True, slots=True)
class PassedOver:
    """An engine that did not give the reply, or not all of it. `rung`: its place in the list, from 1 on."""

    rung: int
    engine: str
    error: str


@dataclass(frozen=True, slots=True)
class Account:
    """Who gave a reply: `engine` at place `rung`, from 1 on; None where nobody did. `passed_over`: all before it."""

    engine: str | None
    rung: int | None
    passed_over: Sequence[PassedOver]


class Answering:
    """`model` gives the replies: one engine, or those that succeed one another in `flavor`, which was started."""

    def __init__(self, flavor: Flavor, engines: Engines, clock: Clock) -> None:
        self.model: LanguageModel = Ladders(engines, Voices([], engines, clock), clock).llm(flavor)
        self._flavor = flavor
        self._engines = engines
        self._metering = Metering(clock, engines.meters(flavor))
        self._generation = 0

    def reply(self, history: Sequence[Message]) -> AsyncIterator[ReplyEvent]:
        """As `LanguageModel.reply`; `account` tells afterwards who it came from."""
        self._generation += 1
        return self._metering.llm(self.model, self._generation).reply(history)

    def account(self) -> Account:
        """Who gave the reply that was asked for last, and is over."""
        over = TurnRecord(self._generation, "", "", "", False, None, TurnTiming())
        uses = self._metering.settle(over).services
        answered = next((use for use in uses if use.outcome is not ServiceOutcome.FAILED), None)
        failed = {use.rung or 1: use.error for use in uses if use.outcome is ServiceOutcome.FAILED}
        rungs = self._engines.rungs(self._flavor)
        before = rungs if answered is None else rungs[: (answered.rung or 1) - 1]
        passed_over = [
            # One that has failed earlier is not asked at all.
            PassedOver(one.number, one.engine, failed.get(one.number) or one.problem.removeprefix(f"{one.engine}: "))
            for one in before
        ]
        if answered is None:
            return Account(None, None, passed_over)
        return Account(answered.engine, answered.rung or 1, passed_over)


@asynccontextmanager
async def answering(flavor: Flavor, settings: Settings) -> AsyncIterator[Answering]:
    """Starts the language models of `flavor`, and nothing else of it.

    Raises `NoLanguageModel`, and `Overloaded` with the causes where none of them can answer.
    """
    if EngineKind.LLM not in flavor.engines:
        raise NoLanguageModel(f"{flavor.name} has no language model: there is nobody to talk to")
    others = {kind.value: None for kind in EngineKind if kind is not EngineKind.LLM}
    alone = flavor.model_copy(update=others)
    host, clock = LocalEngineHost(), SystemClock()
    engines = Engines(config.engine_descriptors(), EngineContext(host, settings.models), clock)
    try:
        await engines.start([alone])
        if problem := engines.problem(alone):
            raise Overloaded(problem)
        yield Answering(alone, engines, clock)
    finally:
        await engines.aclose()
        await host.aclose()
