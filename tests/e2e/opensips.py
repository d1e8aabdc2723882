"""The whole stack of real programs for tests: OpenSIPS as edge and UAs, rtpengine, connectors.

    @pytest.mark.parametrize("opensips", installations(), ids=str)
    async def test_a_call(opensips: Installed, tmp_path: Path) -> None:
        async with running(opensips, tmp_path) as stack:
            before = await stack.counters()
            ...  # call 1000, which `echo` answers, at stack.edge
            await stack.settled(before)

Which OpenSIPS: $OPENSIPS_BIN, several separated by colons, or the one of the PATH. Where there is
none, or no rtpengine, the test is skipped and says why. Everything runs by way of
`connector.stack`, as `voxtrunk stack up` does it, on free ports of loopback.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from connector import config
from connector.app import SystemClock
from connector.config.model import OpenSipsSettings, PairSettings, Settings, split_address
from connector.errors import StackError
from connector.sip.message import Address
from connector.stack import running as stack_running
from connector.stack.components import components, opensips_of
from connector.stack.control import mi_of
from connector.stack.logview import LogView
from connector.stack.programs import OpenSips, Program, find_opensips, find_rtpengine, opensips_at
from connector.stack.status import dialogs, media_sessions
from connector.stack.supervisor import Service, Supervisor, supervised

CONTROL_PORTS = range(10_000, 20_000)
"""For all but media; below those that the kernel gives away by itself (net.ipv4.ip_local_port_range)."""

_ports = itertools.cycle(random.sample(CONTROL_PORTS, len(CONTROL_PORTS)))

MEDIA_PORTS = range(21_000, 31_000)
"""Where rtpengine and the connectors get theirs."""

SETTLE_SECONDS = 15.0
"""How long transactions (RFC 3261 timers) and sessions of ended calls may take to go."""


@dataclass(frozen=True)
class Installed:
    """An OpenSIPS and an rtpengine of this machine, or why a test cannot have them."""

    opensips: OpenSips | None
    rtpengine: Program | None
    missing: str = ""

    def __str__(self) -> str:
        return f"opensips-{self.opensips.version}" if self.opensips else "no-opensips"


def installations() -> list[Installed]:
    """Every OpenSIPS to test with; one that says what is missing where there is none."""
    try:
        rtpengine = find_rtpengine()
        named = [path for path in os.environ.get("OPENSIPS_BIN", "").split(os.pathsep) if path]
        found = [opensips_at(Path(path)) for path in named] or [find_opensips()]
    except StackError as error:
        return [Installed(None, None, str(error).partition("\n")[0])]
    return [Installed(opensips, rtpengine) for opensips in found]


@dataclass(frozen=True)
class Counters:
    """What calls take hold of, all over the stack; a test compares before and after."""

    dialogs: int
    edge_transactions: int
    ua_transactions: int
    ua_sessions: int
    media: int
    calls: int


class Stack:
    """A running stack. `supervisor.services` restart what dies, unless they are stopped."""

    def __init__(self, settings: Settings, supervisor: Supervisor) -> None:
        self.settings = settings
        self.supervisor = supervisor
        self.clock = SystemClock()

    @property
    def site(self) -> OpenSipsSettings:
        return opensips_of(self.settings)

    @property
    def edge(self) -> Address:
        """Where PBXs and trunks call, by UDP; TCP has the same port."""
        return split_address(self.site.edge.listen[0].partition(":")[2])

    @property
    def pairs(self) -> Sequence[PairSettings]:
        return self.site.pairs

    @property
    def records(self) -> Path:
        return self.settings.records.directory

    def service(self, name: str) -> Service:
        """Of rtpengine, edge, ua-NAME or connector-NAME; pairs are named a, b, ..."""
        return self.supervisor.services[name]

    def kill(self, name: str) -> None:
        """SIGKILL to all its processes; the supervisor starts it again."""
        self.service(name).kill()

    async def down(self, name: str) -> None:
        """SIGKILL, and it stays down until `up`."""
        await self.service(name).stop(0)

    async def up(self, name: str) -> None:
        await self.service(name).start()

    def log(self, name: str) -> str:
        """What it wrote so far."""
        path = self.site.run / "log" / f"{name}.log"
        return path.read_text() if path.exists() else ""

    # ---------------------------------------------------------------- questions

    async def mi(self, name: str, command: str, /, **parameters: str | int | list[str]) -> Any:
        """Result of an MI command of the edge or of a UA."""
        listen = {"edge": self.site.edge.mi, **{f"ua-{pair.name}": pair.mi for pair in self.pairs}}[name]
        async with mi_of(listen, self.clock) as client:
            return await client.call(command, **parameters)

    async def media(self) -> list[str]:
        """Call-IDs of rtpengine's calls."""
        return await media_sessions(self.site)

    async def counters(self) -> Counters:
        names = [f"ua-{pair.name}" for pair in self.pairs]
        return Counters(
            dialogs=await dialogs(self.site, self.clock),
            edge_transactions=await self._transactions("edge"),
            ua_transactions=sum([await self._transactions(name) for name in names]),
            ua_sessions=sum([len(await self.mi(name, "ua_session_list")) for name in names]),
            media=len(await self.media()),
            calls=sum([await self._calls(pair) for pair in self.pairs]),
        )

    async def settled(self, before: Counters, within: float = SETTLE_SECONDS) -> None:
        """Waits until everything is as it was; transactions of the edge's own pings do not count."""
        now = await self.counters()
        try:
            async with asyncio.timeout(within):
                while not _nothing_left(before, now):
                    await asyncio.sleep(0.2)
                    now = await self.counters()
        except TimeoutError:
            raise AssertionError(f"left behind: before {before}, after {now}") from None

    def cdrs(self) -> list[dict[str, Any]]:
        """Call records, in the order in which they were written."""
        files = sorted(self.records.rglob("*.cdr.json"), key=lambda file: file.stat().st_mtime_ns)
        return [json.loads(file.read_text()) for file in files]

    async def _transactions(self, name: str) -> int:
        statistics = await self.mi(name, "get_statistics", statistics=["inuse_transactions"])
        return int(statistics["tm:inuse_transactions"])

    async def _calls(self, pair: PairSettings) -> int:
        http = pair.http or self.settings.http.listen
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://{http}/metrics") as answer:
                lines = (await answer.text()).splitlines()
        except aiohttp.ClientConnectorError:
            return 0  # it does not run
        return sum(int(float(line.split()[1])) for line in lines if line.startswith("voxtrunk_calls_active "))


def _nothing_left(before: Counters, now: Counters) -> bool:
    # Each pair is pinged every second, and a transaction lives 5 s longer (tm wt_timer).
    pings = 10
    return (
        (now.dialogs, now.ua_sessions, now.media, now.calls)
        == (before.dialogs, before.ua_sessions, before.media, before.calls)
        and now.edge_transactions <= before.edge_transactions + pings
        and now.ua_transactions <= before.ua_transactions + pings
    )


# --------------------------------------------------------------------------------------- running


def site(pairs: int = 1, *, calls_per_second: int = 1000, media_ports: int = 400, **edge: Any) -> dict[str, Any]:
    """A section `opensips` on free ports of loopback; `edge`: more of `opensips.edge`."""
    listen = free_port(socket.SOCK_DGRAM, socket.SOCK_STREAM)
    first = 2 * random.randrange(MEDIA_PORTS.start // 2, (MEDIA_PORTS.stop - media_ports * (pairs + 1)) // 2)
    ranges = [f"{first + n * media_ports}-{first + (n + 1) * media_ports - 1}" for n in range(pairs + 1)]

    def udp() -> str:
        return f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"

    return {
        "edge": {
            "listen": [f"udp:127.0.0.1:{listen}", f"tcp:127.0.0.1:{listen}"],
            "mi": udp(),
            "calls_per_second": calls_per_second,
            **edge,
        },
        "rtpengine": {"control": udp(), "ports": ranges[0]},
        "pairs": [
            {
                "name": name,
                "listen": udp(),
                "mi": udp(),
                "events": udp(),
                "ports": ports,
                "http": f"127.0.0.1:{free_port(socket.SOCK_STREAM)}",
            }
            for name, ports in zip("abcdefgh", ranges[1:], strict=False)
        ],
    }


def free_port(*kinds: socket.SocketKind) -> int:
    """A port of 127.0.0.1 that is free for all `kinds` of sockets, and that no socket gets that asks for any."""
    while True:
        port = next(_ports)
        try:
            for kind in kinds:
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return port


def configured(folder: Path, opensips: dict[str, Any], **more: Any) -> Settings:
    """Settings of a voxtrunk.yml in `folder`: 1000 is answered by `echo`, unless `more` says otherwise."""
    document = {"opensips": opensips, "routes": [{"number": "1000", "flavor": "echo"}], **more}
    file = folder / "voxtrunk.yml"
    # JSON is YAML.
    file.write_text(json.dumps(document, indent=2))
    return config.load(file)


@asynccontextmanager
async def running(
    installed: Installed, folder: Path, pairs: int = 1, *, opensips: dict[str, Any] | None = None, **more: Any
) -> AsyncIterator[Stack]:
    """Runs a stack with its configuration, run folder and records in `folder`; skips the test where it cannot.

    `opensips`: that section, by default `site(pairs)`; `more`: other sections of voxtrunk.yml.
    """
    settings = await asyncio.to_thread(configured, folder, opensips or site(pairs), **more)
    async with started(installed, settings) as stack:
        yield stack


@asynccontextmanager
async def started(installed: Installed, settings: Settings) -> AsyncIterator[Stack]:
    """Runs the stack of `settings`."""
    if installed.opensips is None or installed.rtpengine is None:
        pytest.skip(installed.missing)
    programs = (installed.opensips, installed.rtpengine)
    await asyncio.to_thread(stack_running.render_into, settings, installed.opensips.modules)
    wanted = components(settings, *programs, SystemClock())
    view = LogView(opensips_of(settings).run / "log", [one.name for one in wanted], None)
    async with view, supervised(wanted, view) as supervisor:
        yield Stack(settings, supervisor)
