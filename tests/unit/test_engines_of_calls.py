"""The engines that calls share: one for each choice, started together, retried alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from os import cpu_count
from pathlib import Path
from threading import Event

import pytest

from connector.audio import Audio
from connector.call.engines import FIRST_RETRY, LONGEST_RETRY, Engines, load_in_thread
from connector.config.model import EngineChoice, Flavor
from connector.errors import EngineBusy, EngineError, EngineUnreachable, Overloaded, PackageMissing
from connector.host import LocalEngineHost
from connector.interfaces import (
    Engine,
    EngineContext,
    EngineDescriptor,
    EngineKind,
    EngineOptions,
    ServiceOutcome,
    ServiceUse,
    Transcript,
)
from tests.fakes.clock import LoopClock, virtual_time


class Options(EngineOptions):
    voice: str = "slt"
    words: list[str] = []  # noqa: RUF012 - pydantic copies it; a list cannot be hashed, which is the point


class Flaky:
    """An engine whose `attempts` say how each start or check goes: an error, or None."""

    def __init__(self, *attempts: Exception | None, start_seconds: float = 0.0) -> None:
        self.attempts = list(attempts)
        self.start_seconds = start_seconds
        self.tried: list[float] = []
        self.closed = 0
        self.clock = LoopClock()

    async def start(self) -> None:
        await self.clock.sleep(self.start_seconds)
        await self.check()

    async def check(self) -> None:
        self.tried.append(round(self.clock.now(), 3))
        if self.attempts and (error := self.attempts.pop(0)) is not None:
            raise error

    async def aclose(self) -> None:
        self.closed += 1


def flavor(name: str, llm: str = "llm", **options: object) -> Flavor:
    return Flavor(name=name, llm=EngineChoice(engine=llm, options=Options(**options)))  # type: ignore[arg-type]


class Recogniser(Flaky):
    """Implements `SpeechToText`: takes `seconds` for phrases, and cannot pronounce `unknown`."""

    def __init__(self, *attempts: Exception | None, seconds: float = 0.0, unknown: str = "") -> None:
        super().__init__(*attempts)
        self.seconds = seconds
        self.unknown = unknown
        self.rehearsed: list[Sequence[str]] = []

    async def transcribe(self, utterance: Audio, phrases: Sequence[str] = ()) -> Transcript:
        assert utterance.seconds > 0
        assert not utterance.samples.any()
        self.rehearsed.append(phrases)
        await self.clock.sleep(self.seconds)
        if self.unknown in phrases:
            raise EngineError("stt", f"no pronunciation for {self.unknown}")
        return Transcript("")


class Scripted(Flaky):
    """A language model, as far as a rehearsal needs it."""

    def __init__(self, *phrases: str) -> None:
        super().__init__()
        self.phrases = phrases


def pair(name: str, llm: str = "llm", stt: str = "stt") -> Flavor:
    """A flavor whose recogniser hears what its language model expects."""
    options = Options()
    return Flavor(
        name=name, stt=EngineChoice(engine=stt, options=options), llm=EngineChoice(engine=llm, options=options)
    )


class Detector(Flaky):
    """A turn detector that nobody asks anything."""


KINDS = {Recogniser: EngineKind.STT, Detector: EngineKind.TURN_DETECTOR}


def _kind(engine: Flaky | Exception) -> EngineKind:
    return KINDS.get(type(engine), EngineKind.LLM)


class Made:
    """Descriptors by name, and what they loaded."""

    def __init__(self, **engines: Flaky | Exception) -> None:
        self.loaded: list[tuple[str, str]] = []
        self.descriptors = {
            name: EngineDescriptor(name, _kind(engine), Options, "fake", partial(self._load, name, engine))
            for name, engine in engines.items()
        }

    def _load(self, name: str, engine: Flaky | Exception, options: Options, context: EngineContext) -> Engine:
        self.loaded.append((name, options.voice))
        if isinstance(engine, Exception):
            raise engine
        return engine


@asynccontextmanager
async def engines_of(made: Made) -> AsyncIterator[Engines]:
    engines = Engines(made.descriptors, EngineContext(LocalEngineHost(), Path()), LoopClock(), load_here)
    yield engines
    await engines.aclose()


async def load_here(descriptor: EngineDescriptor, options: EngineOptions, context: EngineContext) -> Engine:
    """Threads are not for virtual time."""
    return descriptor.load(options, context)


def down(engine: str = "llm") -> EngineUnreachable:
    return EngineUnreachable(engine, "connection refused")


@virtual_time
async def test_flavors_share_an_engine_with_the_same_options_alone() -> None:
    made = Made(llm=Flaky())
    flavors = [flavor("a"), flavor("b"), flavor("c", voice="rms"), flavor("d", words=["x"]), flavor("e", words=["x"])]
    async with engines_of(made) as engines:
        await engines.start(flavors)
        assert made.loaded == [("llm", "slt"), ("llm", "rms"), ("llm", "slt")]
        assert [engines.problem(each) for each in flavors] == [""] * 5


@virtual_time
async def test_all_calls_of_an_engine_count_at_its_one_meter() -> None:
    made = Made(llm=Flaky())
    told: list[ServiceUse] = []
    context = EngineContext(LocalEngineHost(), Path())
    engines = Engines(made.descriptors, context, LoopClock(), load_here, report=told.append)
    await engines.start([flavor("a"), flavor("b"), flavor("c", voice="rms")])
    meter = engines.meters(flavor("a"))[EngineKind.LLM]
    assert engines.meters(flavor("b")) == {EngineKind.LLM: meter}
    assert engines.meters(flavor("c", voice="rms"))[EngineKind.LLM] is not meter
    meter.begin(0.0)
    assert [status.in_flight for status in engines.statuses] == [1, 0]
    use = ServiceUse(EngineKind.LLM, "llm", 1, ServiceOutcome.USED, started=0.0, first=0.2, ended=1.0)
    meter.report(use)
    assert told == [use]
    await engines.aclose()


@virtual_time
async def test_calls_do_without_a_turn_detector_until_it_is_there() -> None:
    made = Made(llm=Flaky(), detector=Detector(down("detector")))
    detector = EngineChoice(engine="detector", options=Options())
    desk = flavor("desk").model_copy(update={"turn_detector": detector})
    async with engines_of(made) as engines:
        await engines.start([desk])
        assert engines.problem(desk) == engines.refusal(desk) == ""
        assert engines.ready(detector) is None
        assert "detector: connection refused" in dict(engines.parts(desk)[EngineKind.TURN_DETECTOR])["detector"]
        await LoopClock().sleep(FIRST_RETRY + 1)
        assert engines.ready(detector) is not None


@virtual_time
async def test_engines_start_at_the_same_time() -> None:
    made = Made(one=Flaky(start_seconds=30), two=Flaky(start_seconds=20))
    async with engines_of(made) as engines:
        await engines.start([flavor("a", "one"), flavor("b", "two")])
        assert LoopClock().now() == 30


@virtual_time
async def test_an_engine_that_fails_stops_no_other_and_says_why() -> None:
    missing = PackageMissing("two", "pip install 'voxtrunk[local]'")
    made = Made(one=Flaky(), two=missing, three=Flaky(ZeroDivisionError("a bug")))
    async with engines_of(made) as engines:
        await engines.start([flavor("a", "one"), flavor("b", "two"), flavor("c", "three")])
        assert engines.problem(flavor("a", "one")) == ""
        assert engines.problem(flavor("b", "two")) == "two: pip install 'voxtrunk[local]'"
        assert engines.problem(flavor("c", "three")) == "three: internal error (ZeroDivisionError('a bug'))"
        assert [status.ready for status in engines.statuses] == [True, False, False]
        with pytest.raises(Overloaded, match="pip install"):
            _ = engines.shared(EngineChoice(engine="two", options=Options())).engine


@virtual_time
async def test_a_failed_engine_is_tried_again_at_growing_distances() -> None:
    engine = Flaky(*[down()] * 9)
    async with engines_of(Made(llm=engine)) as engines:
        await engines.start([flavor("a")])
        await LoopClock().sleep(300)
        assert engines.problem(flavor("a")) == ""
        assert engines.statuses[0].failures == 9
    distances = [round(after - before, 3) for before, after in zip(engine.tried, engine.tried[1:], strict=False)]
    assert distances == [FIRST_RETRY, 2, 4, 8, 16, 32, LONGEST_RETRY, LONGEST_RETRY, LONGEST_RETRY]


@virtual_time
async def test_a_suspected_engine_is_checked_and_back_when_it_is_well() -> None:
    engine = Flaky(None, down(), None)
    async with engines_of(Made(llm=engine)) as engines:
        await engines.start([flavor("a")])
        await LoopClock().sleep(100)
        engines.suspect(flavor("a"))
        await LoopClock().sleep(0.1)
        assert engines.problem(flavor("a")) == "llm: connection refused"
        await LoopClock().sleep(FIRST_RETRY + 0.1)
        assert engines.problem(flavor("a")) == ""
    assert engine.tried == [0, 100, 101]


@virtual_time
async def test_a_probe_that_finds_no_place_proves_that_an_engine_lives_not_that_it_serves_again() -> None:
    engine = Flaky(None, EngineBusy("llm", "503: full"), down(), EngineBusy("llm", "503: full"), None)
    async with engines_of(Made(llm=engine)) as engines:
        await engines.start([flavor("a")])
        for problem in ("", "llm: connection refused"):
            engines.suspect(flavor("a"))
            await LoopClock().sleep(0.1)
            assert engines.problem(flavor("a")) == problem
        await LoopClock().sleep(FIRST_RETRY)
        assert engines.problem(flavor("a")) == "llm: 503: full"
        await LoopClock().sleep(2 * FIRST_RETRY)
        assert engines.problem(flavor("a")) == ""


def listed(*engines: str) -> Flavor:
    """A flavor with language models that succeed one another."""
    first, *others = (EngineChoice(engine=name, options=Options()) for name in engines)
    return Flavor(name="listed", llm=first.model_copy(update={"successors": tuple(others)}))


@virtual_time
async def test_without_calls_every_engine_proves_itself() -> None:
    one, two = Flaky(), Flaky(None, down("two"))
    async with engines_of(Made(one=one, two=two)) as engines:
        await engines.start([listed("one", "two")])
        await LoopClock().sleep(30)
        engines.probe(in_calls=False)
        await LoopClock().sleep(0.1)
        assert (one.tried, two.tried) == ([0, 30], [0, 30])
        assert engines.rungs(listed("one", "two"))[1].problem == "two: connection refused"


@virtual_time
async def test_during_calls_those_prove_themselves_that_calls_do_not_ask() -> None:
    """A successor that has died would be found out when it is needed, by a caller who waits already."""
    asked, spare, dead = Flaky(), Flaky(None, down("spare")), Flaky(*[down("dead")] * 9)
    made = Made(asked=asked, spare=spare, dead=dead)
    desk = listed("asked", "spare", "dead")
    async with engines_of(made) as engines:
        await engines.start([desk])
        await LoopClock().sleep(10)
        engines.meters(desk)[EngineKind.LLM].begin(10.0)
        before = len(dead.tried)
        engines.probe(in_calls=True)
        await LoopClock().sleep(0.1)
        assert (asked.tried, spare.tried) == ([0], [0, 10])
        assert len(dead.tried) == before, "it is given up, and probed at times of its own"
        assert [rung.problem for rung in engines.rungs(desk)] == [
            "", "spare: connection refused", "dead: connection refused"
        ]  # fmt: skip
        await LoopClock().sleep(FIRST_RETRY + 0.1)
        assert [rung.problem for rung in engines.rungs(desk)][:2] == ["", ""]
        engines.probe(in_calls=True)
        await LoopClock().sleep(0.1)
        assert len(asked.tried) == 2, "nobody has asked it since"


@virtual_time
async def test_what_calls_use_all_the_time_and_nobody_counts_is_left_alone_during_calls() -> None:
    detector = Detector()
    choice = EngineChoice(engine="detector", options=Options())
    desk = flavor("desk").model_copy(update={"turn_detector": choice})
    async with engines_of(Made(llm=Flaky(), detector=detector)) as engines:
        await engines.start([desk])
        await LoopClock().sleep(10)
        engines.probe(in_calls=True)
        await LoopClock().sleep(0.1)
        assert detector.tried == [0]


@virtual_time
async def test_an_engine_nobody_started_yet_is_starting() -> None:
    async with engines_of(Made(llm=Flaky())) as engines:
        assert engines.problem(flavor("a")) == "llm: starting"


@virtual_time
async def test_every_start_is_followed_by_a_close_failed_ones_too() -> None:
    failing, working = Flaky(down(), down()), Flaky()
    made = Made(llm=failing, other=working)
    async with engines_of(made) as engines:
        await engines.start([flavor("a"), flavor("b", "other")])
        await LoopClock().sleep(FIRST_RETRY + 0.1)
        assert failing.closed == 2
    assert (failing.closed, working.closed) == (2, 1)


# ---------------------------------------------------------------- rehearsals


@virtual_time
async def test_start_returns_when_recogniser_and_phrases_have_rehearsed_and_flavors_share_that() -> None:
    recogniser = Recogniser(seconds=3)
    made = Made(stt=recogniser, llm=Scripted("hello", "goodbye"))
    async with engines_of(made) as engines:
        await engines.start([pair("a"), pair("b")])
        assert LoopClock().now() == 3
        assert recogniser.rehearsed == [("hello", "goodbye")]
        assert [engines.problem(pair(name)) for name in "ab"] == ["", ""]


@virtual_time
async def test_a_phrase_that_cannot_be_pronounced_costs_its_own_flavor_alone() -> None:
    made = Made(stt=Recogniser(unknown="zwieback"), bakery=Scripted("hello", "zwieback"), desk=Scripted("hello"))
    bakery, desk = pair("bakery", "bakery"), pair("desk", "desk")
    async with engines_of(made) as engines:
        await engines.start([bakery, desk])
        assert engines.problem(bakery) == "stt: no pronunciation for zwieback"
        assert engines.problem(desk) == ""
        assert all(status.ready for status in engines.statuses)


@virtual_time
async def test_calls_wait_for_the_rehearsal() -> None:
    async with engines_of(Made(stt=Recogniser(seconds=3), llm=Scripted("hello"))) as engines:
        starting = asyncio.create_task(engines.start([pair("a")]))
        await LoopClock().sleep(1)
        assert engines.problem(pair("a")) == "stt with llm: starting"
        await starting


@virtual_time
async def test_an_engine_that_comes_late_is_rehearsed_then_and_its_own_error_is_the_one_told() -> None:
    recogniser = Recogniser(down("stt"), down("stt"))
    async with engines_of(Made(stt=recogniser, llm=Scripted("hello"))) as engines:
        await engines.start([pair("a")])
        assert engines.problem(pair("a")) == "stt: connection refused"
        await LoopClock().sleep(FIRST_RETRY + 2 + 0.1)
        assert engines.problem(pair("a")) == ""
        assert recogniser.rehearsed == [("hello",)]


@virtual_time
async def test_a_suspected_flavor_rehearses_again_and_a_failed_rehearsal_is_repeated() -> None:
    recogniser = Recogniser()
    async with engines_of(Made(stt=recogniser, llm=Scripted("hello"))) as engines:
        await engines.start([pair("a")])
        recogniser.unknown = "hello"
        engines.suspect(pair("a"))
        await LoopClock().sleep(0.1)
        assert engines.problem(pair("a")) == "stt: no pronunciation for hello"
        recogniser.unknown = ""
        await LoopClock().sleep(FIRST_RETRY)
        assert engines.problem(pair("a")) == ""


async def test_engines_that_take_hours_to_load_leave_the_loops_threads_to_others() -> None:
    released = Event()

    def slowly(options: EngineOptions, context: EngineContext) -> Engine:
        released.wait()
        return Scripted("hello")

    context = EngineContext(LocalEngineHost(), Path())
    descriptor = EngineDescriptor("llm", EngineKind.LLM, Options, "fake", slowly)
    loop_threads = min(32, (cpu_count() or 1) + 4)  # As `ThreadPoolExecutor` has them.
    async with asyncio.TaskGroup() as tasks:
        loading = [tasks.create_task(load_in_thread(descriptor, Options(), context)) for _ in range(2 * loop_threads)]
        try:
            await asyncio.sleep(0)  # Now all have begun.
            async with asyncio.timeout(30):
                await asyncio.to_thread(released.is_set)
        finally:
            released.set()
    assert all(isinstance(load.result(), Scripted) for load in loading)


@virtual_time
async def test_a_rehearsal_under_way_ends_with_the_engines() -> None:
    async with engines_of(Made(stt=Recogniser(seconds=1000), llm=Scripted("hello"))) as engines:
        starting = asyncio.create_task(engines.start([pair("a")]))
        await LoopClock().sleep(1)
        starting.cancel()
    assert LoopClock().now() == 1
