"""The run: starts connector, peers and generator, each where it belongs, and collects the figures."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from connector.cli.bench.media import processes, voices, whisper
from connector.cli.bench.media.figures import (
    GROWTH_TOLERANCE,
    Churn,
    Cost,
    Limit,
    Line,
    Memory,
    Peer,
    Report,
    Residue,
    Step,
    cost,
    growth,
)
from connector.cli.bench.media.plan import Plan
from connector.cli.bench.media.voices import Heard
from connector.errors import MediaError

CLOSING_SECONDS = 30.0
"""A process has this long to end."""
QUIET_MS = 5.0
"""A generator whose packets are later than this (p99) was kept waiting, and so may the connector have been."""
CHURN_SECONDS = 1.0
"""How long a call of the churn lasts."""
CHURN_BATCH = 25
CHURN_LANES = 2
"""Batches of calls at once: while one ends, the other talks."""
CHURN_PARTS = 5
"""Of the second half. A leak shows in each; a table of the interpreter that doubles (that of interned strings, by 1 MiB
after some hundreds of calls) in one, and is none."""
LINE_OCTETS = 1 << 20
"""The longest answer of a process."""

PEERS = ("asyncio echo", "C epoll echo")

METHOD = {
    "pacing": "|interval - 20 ms| between consecutive RTP packets of a call, all calls together, by the kernel's "
    "receive timestamps (SO_TIMESTAMPNS): when the generator reads them does not matter. The connector sends by its "
    "own clock, so nothing is subtracted from its figures; how late the generator sent is told beside them.",
    "pacing of echoes": "an echo returns a packet when it comes: from each interval that between the sending of the "
    "same two packets is subtracted, by timestamps taken just after send(2).",
    "late": "how much later than its own schedule the generator sent; a packet counts as late from 1 ms on.",
    "cpu": "schedstat of every thread of the process and its children over the window, as percent of one core per "
    "call; a disturbance that runs on the other core does not count.",
    "memory": "VmRSS of the process and its children. Before: started, model loaded, no call. Per call: the difference "
    "to the end of the window.",
}


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for.

    `settle`: seconds of calls before the `seconds` that are measured. `disturb`: names of disturbances. `churn`: calls,
    0 for none. `cores`: of connector and generator. `whisper`: model of that disturbance, None for one that is built.
    `cpu`, `p99`, `p999`, `disturbed_p99`, `leak_kib`: the limits.
    """

    config: Path
    calls: int
    seconds: float
    settle: float
    ramp: Sequence[int]
    codec: str
    vad: bool
    recording: bool
    disturb: Sequence[str]
    churn: int
    peers: bool
    cores: tuple[int, int]
    whisper: str | None
    log: Path
    cpu: float
    p99: float
    p999: float
    disturbed_p99: float
    leak_kib: float


Announce = Callable[[str, float], None]
"""Told what is done next, and for how many seconds."""

Answer = Callable[[Sequence[int]], Awaitable[Sequence[int]]]
"""Given the callers' ports, returns those that they call."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Of a process that was called: what it used until both ends of the window, and others meanwhile (seconds)."""

    line: Line
    before: processes.Usage
    after: processes.Usage
    elsewhere: float
    resident_kib: int


class Program:
    """A process of the run, which lives until its standard input ends. It is spoken to in lines."""

    def __init__(self, pid: int, commands: asyncio.StreamWriter, answers: asyncio.StreamReader) -> None:
        self.pid = pid
        self._commands = commands
        self._answers = answers

    def tell(self, **command: Any) -> None:
        """Sends a line of JSON."""
        self._commands.write(json.dumps(command).encode() + b"\n")

    async def line(self) -> str:
        """The next line; raises `MediaError` where none comes."""
        text = await self._answers.readline()
        if not text:
            raise MediaError("a process of the measurement ended early; --log FILE keeps what it said")
        return text.decode()

    async def answer(self) -> dict[str, Any]:
        """The next line, JSON; raises `MediaError` where it tells of an error."""
        answer: dict[str, Any] = json.loads(await self.line())
        if "error" in answer:
            raise MediaError(answer["error"])
        return answer

    async def ask(self, **command: Any) -> dict[str, Any]:
        """Sends a command and returns the answer."""
        self.tell(**command)
        return await self.answer()

    def end(self) -> None:
        """Has it end."""
        self._commands.close()


class Bench:
    """One run of the command."""

    def __init__(self, options: Options, announce: Announce) -> None:
        self._options = options
        self._announce = announce
        self._notes: list[str] = []
        self._scratch = Path()
        self._log = 0

    async def run(self) -> Report:
        """Everything that was asked for. Raises `MediaError`."""
        options = self._options
        if options.cores[0] == options.cores[1]:
            self._note("one core for all: the generator competes with what it measures")
        if problem := processes.place(0, options.cores[1], None):
            self._note(f"this command: {problem}")
        with tempfile.TemporaryDirectory(prefix="voxtrunk-bench-") as scratch, options.log.open("ab") as log:
            self._scratch = Path(scratch)
            self._log = log.fileno()
            steps = [await self._step(calls) for calls in sorted({*options.ramp, options.calls})]
            peers = [await self._peer(name) for name in PEERS] if options.peers else []
            disturbed = [await self._step(options.calls, name) for name in options.disturb]
            churn = await self._churn() if options.churn else None
        ours = next(step for step in steps if step.calls == options.calls)
        return Report(
            machine=_machine(),
            setting=self._setting(),
            method=METHOD,
            steps=steps,
            disturbed=disturbed,
            peers=[_beside(peer, ours) for peer in peers],
            churn=churn,
            limits=limits(options, steps, disturbed, churn),
            notes=self._notes,
        )

    def _setting(self) -> dict[str, Any]:
        options = self._options
        return {
            "calls": options.calls,
            "seconds": options.seconds,
            "codec": options.codec,
            "vad": options.vad,
            "recording": options.recording,
            "connector_core": options.cores[0],
            "generator_core": options.cores[1],
            "connector_nice": processes.CONNECTOR_NICE,
            "generator_nice": processes.GENERATOR_NICE,
        }

    def _note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)

    # ------------------------------------------------------------------ processes

    @asynccontextmanager
    async def _start(self, command: Sequence[str], core: int, nice: int) -> AsyncIterator[Program]:
        """Runs a program on its core until the end of the context."""
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=self._log, limit=LINE_OCTETS
        )
        try:
            if process.stdin is None or process.stdout is None:
                raise MediaError("a process was started without pipes")
            if problem := processes.place(process.pid, core, nice):
                self._note(f"{Path(command[0]).name}: {problem}")
            program = Program(process.pid, process.stdin, process.stdout)
            yield program
            program.end()
            async with asyncio.timeout(CLOSING_SECONDS):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    @asynccontextmanager
    async def _connector(self, calls: int, records: Path, disturb: str | None = None) -> AsyncIterator[Program]:
        """The connector, ready to be asked for up to `calls` calls at once."""
        options = self._options
        command = [sys.executable, "-m", "connector.cli.bench.media.system", "--config", str(options.config)]
        command += ["--calls", str(calls), "--records", str(records), "--codec", options.codec]
        command += ["--vad"] * options.vad + ["--recording"] * options.recording
        if disturb is not None:
            command += ["--disturb", disturb, "--whisper", await self._whisper() if disturb == "whisper" else ""]
            command += ["--other-core", str(options.cores[1])]
        async with self._start(command, options.cores[0], processes.CONNECTOR_NICE) as connector:
            ready = await connector.answer()
            if ready["problem"]:
                self._note(f"measured without VAD: {ready['problem']}")
            yield connector

    async def _whisper(self) -> str:
        """The model that disturbs: what was named, or one that costs the same."""
        if self._options.whisper is not None:
            return self._options.whisper
        self._note("Whisper: a checkpoint of base.en's size with random weights")
        folder = self._scratch / "whisper"
        if not folder.exists():
            await asyncio.to_thread(whisper.build, folder)
        return str(folder)

    async def _call(self, plan: Plan, answer: Answer, look: Callable[[int], None]) -> Line:
        """Makes the calls of `plan` to the ports that `answer` names.

        `look` is called with the generator's process at both ends of the measured window.
        """
        command = [sys.executable, "-m", "connector.cli.bench.media.generator"]
        async with self._start(command, self._options.cores[1], processes.GENERATOR_NICE) as generator:
            generator.tell(**asdict(plan))
            generator.tell(ports=await answer((await generator.answer())["ports"]))
            for _ in range(2):
                await generator.line()
                look(generator.pid)
            return Line.of_json(await generator.line())

    async def _measure(self, pid: int, calls: int, answer: Answer) -> Measured:
        """As many calls to the process `pid`."""
        usages: list[processes.Usage] = []
        others: list[float] = []
        resident: list[int] = []

        def look(generator: int) -> None:
            usages.append(processes.usage(pid))
            others.append(processes.machine_busy() - usages[-1].ran - processes.usage(generator).ran)
            resident.append(processes.resident_kib(pid))

        options = self._options
        line = await self._call(Plan(calls, options.settle, options.seconds, options.codec), answer, look)
        return Measured(line, usages[0], usages[1], others[1] - others[0], resident[-1])

    def _cost(self, measured: Measured, calls: int, roles: Mapping[int, str]) -> Cost:
        connector, generator = self._options.cores
        foreign = generator if connector != generator else None
        return cost(measured.before, measured.after, calls, roles, foreign, measured.elsewhere)

    # ------------------------------------------------------------------ measurements

    async def _step(self, calls: int, disturb: str | None = None) -> Step:
        options = self._options
        beside = "" if disturb is None else f" beside {disturb}"
        self._announce(f"{calls} calls{beside}", options.settle + options.seconds)
        records = Path(tempfile.mkdtemp(dir=self._scratch))
        ports: list[int] = []
        async with self._connector(calls, records, disturb) as connector:
            before = processes.resident_kib(connector.pid)

            async def answer(callers: Sequence[int]) -> Sequence[int]:
                ports.extend((await connector.ask(do="open", ports=callers))["ports"])
                return ports

            measured = await self._measure(connector.pid, calls, answer)
            if (measured.line.late.p99 or 0.0) > QUIET_MS:
                self._note(f"{calls} calls{beside}: the generator did not keep up, so this machine was not quiet")
            told = await connector.ask(do="tell")
            legs = (await connector.ask(do="close"))["legs"]
            await connector.ask(do="collect")
            after = processes.resident_kib(connector.pid)
        recordings = None
        if options.recording:
            recordings = await asyncio.to_thread(listen_to_recordings, records, ports)
        shutil.rmtree(records)
        during = measured.resident_kib
        return Step(
            calls=calls,
            seconds=options.seconds,
            cost=self._cost(measured, calls, roles(told["threads"])),
            line=measured.line,
            memory=Memory(_mib(before), _mib(during), _mib(after), round((during - before) / calls, 1)),
            recordings=recordings,
            connector={"legs": legs, **{name: told.get(name) for name in ("skipped_ticks", "refused", "vad")}},
            disturbance=None if disturb is None else {"name": disturb, **told["disturbance"]},
        )

    async def _peer(self, name: str) -> Peer:
        options = self._options
        self._announce(name, options.settle + options.seconds)
        folder = Path(__file__).parent / "peers"
        if name == PEERS[0]:
            command = [sys.executable, str(folder / "asyncio_echo.py")]
        else:
            compiler = shutil.which("cc")
            if compiler is None:
                return Peer(name, "no C compiler")
            command = [str(self._scratch / "epoll_echo")]
            source = str(folder / "epoll_echo.c")
            built = await asyncio.to_thread(
                subprocess.run, [compiler, "-O2", "-o", *command, source], capture_output=True, text=True, check=False
            )
            if built.returncode:
                return Peer(name, f"{source} does not compile: {built.stderr.strip()}")
        async with self._start([*command, str(options.calls)], options.cores[0], processes.CONNECTOR_NICE) as echo:
            ports: list[int] = (await echo.answer())["ports"]

            async def answer(callers: Sequence[int]) -> Sequence[int]:
                """Echoes answer whoever comes."""
                return ports

            measured = await self._measure(echo.pid, options.calls, answer)
        return Peer(name, cost=self._cost(measured, options.calls, {echo.pid: "loop"}), line=measured.line)

    async def _churn(self) -> Churn:
        """Short calls, batch after batch, two batches at a time."""
        calls = self._options.churn
        batches = -(-calls // CHURN_BATCH)
        self._announce(f"{calls} short calls", batches / CHURN_LANES * (CHURN_SECONDS + 1.5))
        records = Path(tempfile.mkdtemp(dir=self._scratch))
        async with self._connector(CHURN_BATCH * CHURN_LANES, records) as connector:
            lock = asyncio.Lock()

            async def batch(size: int) -> None:
                ports: list[int] = []

                async def answer(callers: Sequence[int]) -> Sequence[int]:
                    async with lock:
                        ports.extend((await connector.ask(do="open", ports=callers))["ports"])
                    return ports

                await self._call(Plan(size, 0.0, CHURN_SECONDS, self._options.codec), answer, _ignore)
                async with lock:
                    await connector.ask(do="close", ports=ports)

            async def lane(sizes: Sequence[int]) -> None:
                for size in sizes:
                    await batch(size)

            async def lanes(sizes: Sequence[int]) -> None:
                try:
                    async with asyncio.TaskGroup() as tasks:
                        for number in range(CHURN_LANES):
                            tasks.create_task(lane(sizes[number::CHURN_LANES]))
                except* MediaError as errors:
                    raise errors.exceptions[0] from None

            await lanes([CHURN_BATCH] * CHURN_LANES)  # what is made once, and kept
            before = await self._residue(connector)
            began = time.monotonic()
            sizes = [CHURN_BATCH] * (calls // CHURN_BATCH) + [calls % CHURN_BATCH] * bool(calls % CHURN_BATCH)
            half = len(sizes) // 2
            await lanes(sizes[:half])
            halfway = after = await self._residue(connector)
            left: list[float] = []
            step = -(-(len(sizes) - half) // CHURN_PARTS)
            for begin in range(half, len(sizes), step):
                part, earlier = sizes[begin : begin + step], after
                await lanes(part)
                after = await self._residue(connector)
                left.append((after.memory_kib - earlier.memory_kib) / sum(part))
            seconds = time.monotonic() - began
        shutil.rmtree(records)
        return Churn(calls, round(seconds, 1), before, halfway, after, round(statistics.median(left), 2))

    async def _residue(self, connector: Program) -> Residue:
        told = await connector.ask(do="collect")
        return Residue(
            memory_kib=processes.resident_kib(connector.pid),
            files=processes.open_files(connector.pid),
            threads=len(processes.usage(connector.pid).threads),
            tasks=told["tasks"],
        )


def _ignore(generator: int) -> None:
    """The window of a short call is not measured."""


def roles(threads: Mapping[str, str]) -> dict[int, str]:
    """What the connector's threads are for, by number. `threads`: their names in Python, by number as JSON has it."""
    known = {"MainThread": "loop", "voxtrunk-disk": "disk", "engine-silero": "vad"}
    found: dict[int, str] = {}
    for number, name in threads.items():
        role = next((role for prefix, role in known.items() if name.startswith(prefix)), name)
        found[int(number)] = role
    return found


def listen_to_recordings(folder: Path, ports: Sequence[int]) -> dict[str, Any]:
    """Whose audio the recordings of the calls at `ports` hold; the calls' tones are in the order of their ports."""
    files, caller, agent = 0, Heard(), Heard()
    for record in folder.rglob("*.json"):
        told = json.loads(record.read_text())
        if told.get("files", {}).get("recording") is None:
            continue
        with wave.open(str(folder / told["files"]["recording"])) as file:
            rate = file.getframerate()
            both = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.int16).reshape(-1, 2)
        own = voices.hertz(ports.index(int(told["call_id"].rpartition("-")[2])), len(ports))
        files += 1
        caller += voices.listen(both[:, 0], rate, own)
        agent += voices.listen(both[:, 1], rate, own)
    return {"files": files, "caller": asdict(caller), "agent": asdict(agent)}


def limits(options: Options, steps: Sequence[Step], disturbed: Sequence[Step], churn: Churn | None) -> list[Limit]:
    """What was promised, and what came of it."""
    ours = next(step for step in steps if step.calls == options.calls)
    found = [
        Limit("CPU per call, % of a core", options.cpu, ours.cost.per_call),
        Limit("pacing p99, ms", options.p99, ours.line.pacing.p99),
        Limit("pacing p99.9, ms", options.p999, ours.line.pacing.p999),
        Limit("growth of cost per call", GROWTH_TOLERANCE, growth(steps)),
    ]
    for step in disturbed:
        name = step.disturbance["name"] if step.disturbance else ""
        found.append(Limit(f"pacing p99 beside {name}, ms", options.disturbed_p99, step.line.pacing.p99))
    measured = [*steps, *disturbed]
    found.append(Limit("packets lost", 0, sum(step.line.lost for step in measured)))
    found.append(Limit("audio of other calls", 0, sum(map(_strange, measured))))
    found.append(Limit("calls without their own audio", 0, sum(step.line.audio.deaf for step in measured)))
    if churn is not None:
        found.append(Limit("memory left per call, KiB", options.leak_kib, churn.kib_per_call))
        for what in ("files", "threads", "tasks"):
            left = getattr(churn.after, what) - getattr(churn.before, what)
            found.append(Limit(f"{what} left", 0, left))
    return found


def _strange(step: Step) -> int:
    """Windows and packets that held another call's audio."""
    recorded = step.recordings or {"caller": {"other": 0}, "agent": {"other": 0}}
    audio = step.line.audio
    windows = audio.windows.other + int(recorded["caller"]["other"]) + int(recorded["agent"]["other"])
    return windows + audio.packets.get("other", 0)


def _beside(peer: Peer, ours: Step) -> Peer:
    if peer.cost is None or not peer.cost.per_call:
        return peer
    return Peer(peer.name, peer.problem, peer.cost, peer.line, round(ours.cost.per_call / peer.cost.per_call, 2))


def _mib(kib: int) -> float:
    return round(kib / 1024, 1)


def _machine() -> dict[str, Any]:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }
