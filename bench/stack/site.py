"""The stack that is measured: the programs that are installed, an echo on every call, an address of its own."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.stack.processes import Footprint, footprint
from bench.stack.verdict import GENERATOR
from connector import config
from connector.app import SystemClock
from connector.cli.bench.media.processes import family
from connector.config.model import Settings, split_address
from connector.errors import MiError, StackError
from connector.stack.components import components, opensips_of
from connector.stack.control import mi_of
from connector.stack.logview import LogView
from connector.stack.programs import find_opensips, find_rtpengine
from connector.stack.running import render_into
from connector.stack.status import dialogs, media_sessions
from connector.stack.supervisor import Supervisor, supervised

ADDRESS = "127.77.0.1"
"""Of callers, media and everything that takes many ports: programs on other addresses are in nobody's way."""
INSIDE = "127.0.0.1"
"""Of the UA: it sends its events from there, whatever it listens on."""

CONFIGURATION = {
    "opensips": {
        "edge": {"listen": [f"udp:{ADDRESS}:5060"], "mi": f"{ADDRESS}:8060", "calls_per_second": 10_000},
        "rtpengine": {"control": f"{ADDRESS}:22222", "external": ADDRESS, "internal": ADDRESS, "ports": "30000-59999"},
        "pairs": [
            {
                "name": "a",
                "listen": f"{INSIDE}:15070",
                "mi": f"{INSIDE}:18070",
                "events": f"{INSIDE}:19070",
                "media": ADDRESS,
            }
        ],
    },
    "sip": {"max_calls": 5000},
    "media": {"ports": "10000-29999"},
    "http": {"listen": f"{ADDRESS}:8080"},
    "routes": [{"number": "1000", "flavor": "echo"}],
}

EDGE, UA, RTPENGINE, CONNECTOR = "edge", "ua-a", "rtpengine", "connector-a"
COMPONENTS = (EDGE, UA, RTPENGINE, CONNECTOR)

PINGS = 20
"""Transactions that may be there without a call: the edge asks the UA each second, and each one lives some longer."""

FILES = 2
"""Descriptors that a program may hold for a while without a call, such as a log or a kept connection."""


@dataclass
class Site:
    """A running stack. `versions`: of OpenSIPS and rtpengine."""

    settings: Settings
    supervisor: Supervisor
    versions: Mapping[str, str]

    @property
    def edge(self) -> tuple[str, int]:
        """Where to call."""
        return split_address(opensips_of(self.settings).edge.listen[0].partition(":")[2])

    @property
    def records(self) -> Path:
        """Folder of recordings and CDRs."""
        return self.settings.records.directory

    @property
    def sockets(self) -> Mapping[tuple[str, int], str]:
        """Whose the single UDP sockets are: where queues and drops are looked for."""
        site = opensips_of(self.settings)
        pair = site.pairs[0]
        listening = {
            site.edge.listen[0].partition(":")[2]: EDGE,
            site.edge.mi: EDGE,
            site.rtpengine.control: RTPENGINE,
            pair.listen: UA,
            pair.mi: UA,
            pair.events: CONNECTOR,
        }
        return {split_address(listen): component for listen, component in listening.items()}

    @property
    def mains(self) -> Mapping[str, int | None]:
        """Main process of every component; another one than before was started again after a crash."""
        return {name: self.supervisor.services[name].pid for name in COMPONENTS}

    def processes(self, *generators: int) -> dict[str, list[int]]:
        """Of every component; `generators` and this process make the load."""
        found = {name: family(pid) for name, pid in self.mains.items() if pid is not None}
        return {**found, GENERATOR: [os.getpid(), *generators]}

    async def roles(self) -> dict[int, str]:
        """What each OpenSIPS process is for (MI command `ps`), and which thread runs the connector's event loop."""
        site = opensips_of(self.settings)
        found: dict[int, str] = {}
        for listen in (site.edge.mi, site.pairs[0].mi):
            async with mi_of(listen, SystemClock()) as mi:
                listed = (await mi.call("ps"))["Processes"]
            found |= {process["PID"]: process["Type"].partition(" udp:")[0] for process in listed}
        if (connector := self.supervisor.services[CONNECTOR].pid) is not None:
            found[connector] = "event loop"
        return found

    def footprints(self) -> dict[str, Footprint]:
        """Files and memory of every component."""
        return {name: footprint(pids) for name, pids in self.processes().items() if name != GENERATOR}

    async def memory(self) -> dict[str, float]:
        """Megabytes of every component, and what of its shared memory each OpenSIPS has in use."""
        site = opensips_of(self.settings)
        found = {name: one.memory for name, one in (await asyncio.to_thread(self.footprints)).items()}
        for name, listen in ((EDGE, site.edge.mi), (UA, site.pairs[0].mi)):
            used = await _statistic(listen, "shmem:used_size")
            found[f"{name}: shared memory in use"] = used / 1e6
        return found

    async def counters(self) -> dict[str, int]:
        """What calls take hold of, all over the stack. A UA that has too many sessions for a list counts as 1000."""
        site, clock = opensips_of(self.settings), SystemClock()
        footprints = await asyncio.to_thread(self.footprints)
        return {
            "edge: dialogs": await dialogs(site, clock),
            "edge: transactions": await _statistic(site.edge.mi, "tm:inuse_transactions"),
            "ua: transactions": await _statistic(site.pairs[0].mi, "tm:inuse_transactions"),
            "ua: sessions": await _sessions(site.pairs[0].mi),
            "rtpengine: calls": len(await media_sessions(site)),
            "connector: calls": await _calls(self.settings.http.listen),
            **{f"{name}: open files": one.files for name, one in footprints.items()},
        }


CALLS: Mapping[str, int] = dict.fromkeys(
    (
        "edge: dialogs",
        "edge: transactions",
        "ua: transactions",
        "ua: sessions",
        "rtpengine: calls",
        "connector: calls",
    ),
    0,
)
"""The counters without any call."""

ALLOWANCES: Mapping[str, int] = {
    "edge: transactions": PINGS,
    "ua: transactions": PINGS,
    **{f"{name}: open files": FILES for name in COMPONENTS},
}
"""By how much a counter may be higher afterwards, where something else than calls moves it too."""


async def _statistic(mi_address: str, name: str) -> int:
    async with mi_of(mi_address, SystemClock()) as mi:
        return int((await mi.call("get_statistics", statistics=[name.partition(":")[2]]))[name])


async def _sessions(mi_address: str) -> int:
    async with mi_of(mi_address, SystemClock()) as mi:
        try:
            return len(await mi.call("ua_session_list"))
        except MiError:
            return 1000


async def _calls(http: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"http://{http}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return sum(int(float(line.split()[1])) for line in lines if line.startswith("voxtrunk_calls_active "))


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Site]:
    """Runs the stack with all its files in `folder`. Raises StackError where it cannot."""
    file = folder / "voxtrunk.yml"
    # JSON is YAML.
    await asyncio.to_thread(file.write_text, json.dumps(CONFIGURATION, indent=2))
    settings = await asyncio.to_thread(config.load, file)
    opensips, rtpengine = await asyncio.to_thread(lambda: (find_opensips(), find_rtpengine()))
    await asyncio.to_thread(render_into, settings, opensips.modules)
    wanted = components(settings, opensips, rtpengine, SystemClock())
    names = [one.name for one in wanted]
    if set(names) != set(COMPONENTS):
        raise StackError(f"the stack has other programs than are measured: {', '.join(names)}")
    view = LogView(opensips_of(settings).run / "log", names, None)
    async with view, supervised(wanted, view) as supervisor:
        yield Site(settings, supervisor, {"opensips": opensips.version, "rtpengine": rtpengine.version})
