"""Checks of the engines that the configuration uses: packages, models, programs, services, keys, ports."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import cast
from urllib.parse import urlsplit

from connector.call.containment import outcome
from connector.call.engines import rehearse
from connector.cli.doctor.findings import Finding, Verdict
from connector.cli.doctor.machine import owner
from connector.config import hub
from connector.config.model import EngineChoice, Settings
from connector.config.models_cache import is_present
from connector.errors import (
    EngineBusy,
    EngineError,
    EngineRefused,
    EngineUnreachable,
    ModelMissing,
    PackageMissing,
    ProgramMissing,
    VoxtrunkError,
)
from connector.host import LocalEngineHost
from connector.interfaces import (
    Engine,
    EngineContext,
    EngineDescriptor,
    EngineKind,
    EngineOptions,
    LanguageModel,
    SpeechToText,
)

FETCH = "run `voxtrunk models fetch`"

REMEDIES: Mapping[type[EngineError], str] = {
    EngineUnreachable: "start the service, or correct its address in the engine's options",
    EngineBusy: "try again when it has less to do, or give it more to do it with",
    EngineRefused: "correct the key or the model's name in the engine's options",
    ModelMissing: FETCH,
    ProgramMissing: "install the package that is named, or choose another engine",
    PackageMissing: "install the extra that is named",
}


@dataclass(frozen=True, slots=True)
class EngineInUse:
    """An engine with its options, and the flavors that answer with it.

    `models`: of a recogniser, the language models whose phrases it is to hear.
    """

    choice: EngineChoice
    descriptor: EngineDescriptor
    flavors: Sequence[str]
    models: Sequence[tuple[EngineDescriptor, EngineOptions]] = ()

    @property
    def check(self) -> str:
        """The name of its check."""
        return f"{self.descriptor.kind.value} {self.descriptor.name} ({', '.join(self.flavors)})"


def engines_in_use(settings: Settings, descriptors: Mapping[str, EngineDescriptor]) -> list[EngineInUse]:
    """Every engine of a flavor that a route or the default leads to, once for each set of options."""
    choices: list[EngineChoice] = []
    flavors: list[list[str]] = []
    models: list[list[tuple[EngineDescriptor, EngineOptions]]] = []
    for _, flavor in settings.answering:
        for kind, choice in flavor.rungs:
            index = next((index for index, known in enumerate(choices) if known.is_same_engine(choice)), len(choices))
            if index == len(choices):
                choices.append(choice)
                flavors.append([])
                models.append([])
            if flavor.name not in flavors[index]:
                flavors[index].append(flavor.name)
            if kind is EngineKind.STT and flavor.llm is not None:
                models[index] += [(descriptors[model.engine], model.options) for model in flavor.llm.rungs]
    return [
        EngineInUse(choice, descriptors[choice.engine], names, partners)
        for choice, names, partners in zip(choices, flavors, models, strict=True)
    ]


async def check_engines(settings: Settings, used: Sequence[EngineInUse], seconds: float) -> list[Finding]:
    """Starts every engine and lets it check itself, all at the same time, `seconds` at most.

    One that fails is a warning where each of its flavors has another for the same part that works.
    """
    host = LocalEngineHost()
    try:
        context = EngineContext(host, settings.models)
        findings = await asyncio.gather(*(_check(engine, context, seconds) for engine in used))
    finally:
        await host.aclose()
    working = [one.choice for one, found in zip(used, findings, strict=True) if found.verdict is Verdict.OK]
    return [
        replace(found, verdict=Verdict.WARNING)
        if found.verdict is Verdict.FAILED and _is_replaced(engine, working, settings)
        else found
        for engine, found in zip(used, findings, strict=True)
    ]


def _is_replaced(engine: EngineInUse, working: Sequence[EngineChoice], settings: Settings) -> bool:
    """Whether, wherever `engine` is named, one of the `working` engines plays its part."""
    ladders = [
        choice.rungs
        for _, flavor in settings.answering
        for choice in flavor.engines.values()
        if any(rung.is_same_engine(engine.choice) for rung in choice.rungs)
    ]
    return bool(ladders) and all(
        any(rung.is_same_engine(other) for rung in rungs for other in working) for rungs in ladders
    )


async def _check(used: EngineInUse, context: EngineContext, seconds: float) -> Finding:
    failure = await outcome(_try(used, context, seconds))
    match failure:
        case None:
            return Finding(used.check, Verdict.OK, "started and ready")
        case EngineError():
            kind = next((kind for kind in REMEDIES if isinstance(failure, kind)), None)
            cause, remedy = failure.message, REMEDIES[kind] if kind else ""
            # What answers, and not as the service would, may be another program.
            answered = type(failure) in (EngineError, EngineBusy, EngineRefused)
            port = local_port(used.choice.options) if answered else None
            if port is not None and (who := await asyncio.to_thread(owner, "TCP", port)):
                cause = f"{cause}; TCP port {port} belongs to {who}"
                remedy = remedy or "where that is another program, stop it, or give the service another port"
            return Finding(used.check, Verdict.FAILED, cause, remedy)
        case VoxtrunkError():
            return Finding(used.check, Verdict.FAILED, str(failure))
        case TimeoutError():
            return Finding(
                used.check, Verdict.FAILED, f"not ready after {seconds:g} s", "raise --timeout, or look at its service"
            )
        case _:
            cause = f"defect of the engine: {failure!r}"
            return Finding(used.check, Verdict.FAILED, cause, "report it to the engine's authors with this message")


async def _try(used: EngineInUse, context: EngineContext, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        engine = await asyncio.to_thread(_load, used, context)
        try:
            await engine.start()
            await engine.check()
            if isinstance(engine, SpeechToText):
                for phrases in await asyncio.to_thread(_phrases, used, context):
                    await rehearse(engine, phrases)
        finally:
            await engine.aclose()


def local_port(options: EngineOptions) -> int | None:
    """The TCP port of this machine where the engine's service should be; None where it has none here."""
    url = urlsplit(getattr(options, "base_url", ""))
    if url.hostname is None or url.port is None:
        return None
    try:
        is_here = ip_address(url.hostname).is_loopback
    except ValueError:
        is_here = url.hostname == "localhost"
    return url.port if is_here else None


def _phrases(used: EngineInUse, context: EngineContext) -> list[Sequence[str]]:
    """What the language models expect callers to say, those that can be had; their own checks name the others."""
    found = []
    for descriptor, options in used.models:
        with suppress(EngineError):
            found.append(cast(LanguageModel, descriptor.load(options, context)).phrases)
    return [phrases for phrases in found if phrases]


def _load(used: EngineInUse, context: EngineContext) -> Engine:
    """Makes the engine; raises what it raises, and ModelMissing where a file that it needs is not there."""
    for model in used.descriptor.models(used.choice.options):
        if not is_present(model, context.models):
            raise ModelMissing(
                used.descriptor.name, f"the model {model.name} is missing in {context.models}, or damaged"
            )
    for hub_model in used.descriptor.hub(used.choice.options):
        if not hub.is_had(hub_model, context.models):
            raise ModelMissing(used.descriptor.name, f"the model {hub_model.repository} was not fetched yet")
    return used.descriptor.load(used.choice.options, context)


def missing_packages(settings: Settings, used: Sequence[EngineInUse]) -> Iterator[tuple[EngineInUse, PackageMissing]]:
    """Engines in use whose Python packages are not installed."""
    context = EngineContext(LocalEngineHost(), settings.models)
    for engine in used:
        try:
            engine.descriptor.load(engine.choice.options, context)
        except PackageMissing as error:
            yield engine, error
