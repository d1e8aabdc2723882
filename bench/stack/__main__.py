"""The whole stack under load: edge and UA (OpenSIPS), rtpengine, connector.

    [OPENSIPS_BIN=/path/to/opensips] python -m bench.stack [--rate 30] [--seconds 60] [--concurrent 50] [--json]

SIPp calls an echo; this program speaks to each call, 50 packets a second, and listens. Three phases:

* rate: so many new calls a second, each held for a few seconds
* concurrent: so many calls at once, a tone of its own each, looked for in what the caller hears and in both channels
  of the recording
* ramp: 10, 20, 40, ... new calls a second until calls fail or wait; then what had no more to give is named

Before and after, what calls take hold of is counted in every program. Exit status 1 if a call of the first two phases
failed or was not heard, if something is left behind, or a program crashed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
import wave
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.stack.phones import Media, Phones, decoded, frequency, sound, tone
from bench.stack.processes import Queue, Share, Task, idle_share, queues, shares, tasks
from bench.stack.report import report, summary
from bench.stack.sipp import Run, calling, lateness
from bench.stack.site import ADDRESS, ALLOWANCES, CALLS, Site, running
from bench.stack.verdict import Phase, Pressure, broke, left_behind, saturated, slowest
from connector.errors import StackError

SPEECH_BEFORE_BYE = 0.4
"""Seconds of silence that a caller leaves before hanging up: what it said comes back meanwhile."""
HEARD = 0.9
"""Share of its packets that a caller must get back to have been heard; concealed ones are none."""
SETTLE_SECONDS = 45.0
"""How long ended calls may take to be gone everywhere: Timer B of RFC 3261 (32 s) and some more."""
GIVE_UP_SECONDS = 40.0
"""How long the last calls may take beyond what they should."""
LOOK_SECONDS = 0.2
"""Between two looks at queues."""
CONCURRENT_RATE, CONCURRENT_SPEECH = 25, 6.0
"""Calls per second, and seconds of tone, of the phase `concurrent`."""
RAMP = (10, 20, 40, 80, 160, 320, 640)
RAMP_SECONDS, RAMP_HOLD = 10, 1.0


@dataclass
class Watch:
    """What the kernel says about a phase, from `begin` on until `end`."""

    site: Site
    roles: Mapping[int, str]
    generator: int
    most: dict[str, int]
    dropped: Mapping[tuple[str, int], int]
    tasks: Sequence[Task] = ()
    began: float = 0.0
    stat: str = ""
    found: Sequence[Share] = ()
    idle: float = 1.0

    @classmethod
    async def on(cls, site: Site, generator: int) -> Watch:
        """`generator`: SIPp's process."""
        watch = cls(site, await site.roles(), generator, {}, {})
        watch.dropped = {queue.local: queue.dropped for queue in watch._queues()}
        return watch

    def begin(self) -> None:
        """Steady load begins: CPU counts from now."""
        self.tasks, self.stat, self.began = self._tasks(), Path("/proc/stat").read_text(), time.monotonic()

    def end(self) -> None:
        """It ends."""
        self.found = shares(self.tasks, self._tasks(), time.monotonic() - self.began)
        self.idle = idle_share(self.stat, Path("/proc/stat").read_text())

    def look(self) -> None:
        """Notes how full the queues are."""
        for queue in self._queues():
            component = self.site.sockets[queue.local]
            self.most[component] = max(self.most.get(component, 0), queue.waiting)

    @property
    def pressure(self) -> dict[str, Pressure]:
        """By component."""
        lost: dict[str, int] = {}
        for queue in self._queues():
            component = self.site.sockets[queue.local]
            lost[component] = lost.get(component, 0) + queue.dropped - self.dropped.get(queue.local, 0)
        return {name: Pressure(self.most.get(name, 0), dropped) for name, dropped in lost.items()}

    def _queues(self) -> list[Queue]:
        ours = self.site.sockets
        return [queue for queue in queues(Path("/proc/net/udp").read_text()) if queue.local in ours]

    def _tasks(self) -> list[Task]:
        return tasks(self.site.processes(self.generator), self.roles)


class Bench:
    """Phases of load on one site."""

    def __init__(self, site: Site, phones: Phones, folder: Path, *, quiet: bool) -> None:
        self._site = site
        self._phones = phones
        self._folder = folder
        self._quiet = quiet
        self._roles: dict[int, str] = {}

    def say(self, text: str) -> None:
        """Progress, for people."""
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)

    async def load(self, name: str, rate: int, calls: int, hold: float) -> Phase:
        """`calls` calls, `rate` new ones a second, each held for `hold` seconds while its caller speaks."""
        says = tone(frequency(0), hold - SPEECH_BEFORE_BYE)
        async with self._calling(name, rate, calls, hold) as (run, watch):
            media = await self._talk(run, watch, rate, calls, hold, lambda _: says)
        return self._phase(run, watch, rate, calls, hold, media, _heard(media))

    async def concurrent(self, calls: int) -> Phase:
        """`calls` calls at once, each with a tone of its own; those count as heard whose tones are in all places."""
        rate, hold = CONCURRENT_RATE, CONCURRENT_SPEECH + calls / CONCURRENT_RATE + 2.0
        before = set(self._site.records.rglob("*.cdr.json")) if self._site.records.exists() else set()
        async with self._calling("concurrent", rate, calls, hold) as (run, watch):
            media = await self._talk(
                run, watch, rate, calls, hold, lambda call: tone(frequency(call), CONCURRENT_SPEECH), keeps=True
            )
        await self.settle()
        recorded = await asyncio.to_thread(self._recorded, before)
        heard = sum(
            sound(decoded(one.heard)).is_tone(frequency(call), CONCURRENT_SPEECH) and call in recorded
            for call, one in media.items()
        )
        return self._phase(run, watch, rate, calls, hold, media, heard)

    async def settle(self, before: Mapping[str, int] = CALLS) -> dict[str, int]:
        """Waits until counters are back to `before`, by default to those without any call; what is left behind."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while left := left_behind(before, await self._site.counters(), ALLOWANCES):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.5)
        return left

    @asynccontextmanager
    async def _calling(self, name: str, rate: int, calls: int, hold: float) -> AsyncIterator[tuple[Run, Watch]]:
        folder = self._folder / name
        self._phones.late.clear()
        async with calling(
            folder, self._site.edge, ADDRESS, calls=calls, rate=rate, hold=hold, media=self._phones.local
        ) as run:
            yield run, await Watch.on(self._site, run.process)

    async def _talk(
        self, run: Run, watch: Watch, rate: int, calls: int, hold: float, says: Any, *, keeps: bool = False
    ) -> dict[int, Media]:
        """Speaks to every call until all are over; CPU counts while the load is steady."""
        began = time.monotonic()
        steady = (min(hold, calls / rate / 2), max(calls / rate, hold))
        deadline = began + calls / rate + hold + GIVE_UP_SECONDS
        media: dict[int, Media] = {}
        looked, state = 0.0, 0
        while not run.over and (now := time.monotonic()) < deadline:
            for number, call in run.log.more():
                media[number] = self._phones.begin(call.port, says(number), keeps=keeps)
            if state < 2 and now - began >= steady[state]:
                (watch.begin, watch.end)[state]()
                state += 1
            if now - looked >= LOOK_SECONDS:
                watch.look()
                looked = now
            await asyncio.sleep(0.01)
        if state == 1:
            watch.end()
        return media

    def _phase(
        self, run: Run, watch: Watch, rate: int, calls: int, hold: float, media: Mapping[int, Media], heard: int
    ) -> Phase:
        outcome = run.outcome()
        ringing = [call.ringing - call.sent for call in outcome.calls if call.ringing is not None]
        answered = [call.answered - call.sent for call in outcome.calls if call.answered is not None]
        return Phase(
            rate=rate,
            seconds=calls / rate,
            hold=hold,
            calls=calls,
            set_up=sum(call.answered is not None and call.over is not None for call in outcome.calls),
            heard=heard,
            retransmissions=outcome.retransmissions,
            ringing=ringing,
            answered=answered,
            late_calls=lateness(outcome.calls, rate),
            late_packets=list(self._phones.late),
            shares=watch.found,
            pressure=watch.pressure,
            idle=watch.idle,
            others=max(0.0, (1 - watch.idle) * (os.cpu_count() or 1) - sum(share.ran for share in watch.found)),
            errors=outcome.errors,
        )

    def _recorded(self, before: set[Path]) -> set[int]:
        """Calls with their own tone in both channels of the recording."""
        found: set[int] = set()
        for record in set(self._site.records.rglob("*.cdr.json")) - before:
            cdr = json.loads(record.read_text())
            call = int(cdr["call_id"].partition("-")[0])  # SIPp's Call-IDs begin with the number of the call
            with wave.open(str(self._site.records / cdr["files"]["recording"])) as file:
                channels = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2).T
            if all(sound(channel).is_tone(frequency(call), CONCURRENT_SPEECH) for channel in channels):
                found.add(call)
        return found


def _heard(media: Mapping[int, Media]) -> int:
    """Calls that got back what they said."""
    return sum(one.received >= HEARD * len(one.says) for one in media.values())


async def ramp(bench: Bench) -> list[Phase]:
    """Steps of rising rate until one breaks, and one between the last two; in the order of their rates."""
    steps: list[Phase] = []
    for rate in RAMP:
        steps.append(await _step(bench, rate))
        if broke(steps[-1]):
            if len(steps) > 1:
                steps.insert(-1, await _step(bench, (steps[-2].rate + rate) // 2))
            break
    return steps


async def _step(bench: Bench, rate: int) -> Phase:
    phase = await bench.load(f"ramp-{rate}", rate, rate * RAMP_SECONDS, RAMP_HOLD)
    bench.say(f"{rate} calls/s: {broke(phase) or 'carried'}, 95 % answered in {slowest(phase) * 1000:.0f} ms")
    await bench.settle()
    return phase


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Runs everything; the figures."""
    load_before = os.getloadavg()[0]
    async with running(folder) as site:
        phones = Phones(ADDRESS)
        with phones.talking():
            bench = Bench(site, phones, folder, quiet=options.json)
            # What is made once, for the first calls, is no leak.
            await bench.load("warm-up", 10, 20, 2.0)
            await bench.settle()
            before, memory, mains = await site.counters(), await site.memory(), site.mains
            bench.say(f"{options.rate} calls per second for {options.seconds} s")
            rate = await bench.load("rate", options.rate, options.rate * options.seconds, options.hold)
            left_by_rate = await bench.settle(before)
            bench.say(f"{options.concurrent} calls at once")
            concurrent = await bench.concurrent(options.concurrent)
            left_by_concurrent = await bench.settle(before)
            after, grown = await site.counters(), await site.memory()
            crashed = [name for name, process in site.mains.items() if process != mains[name]]
            steps = [] if options.no_ramp else await ramp(bench)
    broken = next((step for step in steps if broke(step)), None)
    limit, evidence = saturated(broken) if broken is not None else ("", "no step was too much")
    return {
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "system": platform.release(),
            "load_before": round(load_before, 2),
        },
        "versions": dict(site.versions),
        "rate": summary(rate),
        "concurrent": summary(concurrent),
        "left_behind": {**left_by_rate, **left_by_concurrent},
        "crashed": crashed,
        "counters": {name: {"before": value, "after": after[name]} for name, value in before.items()},
        "memory_mb": {
            name: {"before": round(megabytes, 1), "after": round(grown[name], 1)} for name, megabytes in memory.items()
        },
        "ramp": {
            "steps": [{**summary(step), "broke": broke(step)} for step in steps],
            "carried": max((step.rate for step in steps if not broke(step)), default=0),
            "limit": limit,
            "evidence": evidence,
        },
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def failed(figures: Mapping[str, Any]) -> bool:
    """Was a call lost or not heard, was something left behind, did a program crash?"""
    phases = (figures["rate"], figures["concurrent"])
    whole = all(phase["set_up"] == phase["heard"] == phase["calls"] for phase in phases)
    return not whole or bool(figures["left_behind"] or figures["crashed"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.stack", description="Measure the whole stack under load.")
    parser.add_argument("--rate", type=int, default=30, help="new calls per second")
    parser.add_argument("--seconds", type=int, default=60, help="for how long")
    parser.add_argument("--hold", type=float, default=1.0, help="seconds that each of them is held")
    parser.add_argument("--concurrent", type=int, default=50, help="calls at once")
    parser.add_argument("--no-ramp", action="store_true", help="leave out the search for the limit")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep logs and recordings in this new folder")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    try:
        if options.keep is not None:
            options.keep.mkdir(parents=True)
            figures = asyncio.run(measure(options, options.keep))
        else:
            with TemporaryDirectory(prefix="voxtrunk-bench-") as name:
                figures = asyncio.run(measure(options, Path(name)))
    except StackError as error:
        parser.exit(2, f"{error}\n")
    print(json.dumps(figures, indent=2) if options.json else report(figures))
    sys.exit(failed(figures))


if __name__ == "__main__":
    main()
