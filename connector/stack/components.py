"""The programs of a stack: what runs, with which arguments, where, and how it shows that it works."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from connector.config.model import OpenSipsSettings, PairSettings, Settings
from connector.errors import MediaError, MiError, StackError
from connector.interfaces import Clock
from connector.stack.control import http_ok, mi_of, ng
from connector.stack.programs import OpenSips, Program
from connector.stack.render import ua_folder
from connector.stack.supervisor import Component

SHARED_MEGABYTES = 128
"""OpenSIPS' shared memory: some ten thousand dialogs."""

REFUSING_SECONDS = 5
"""A UA refuses calls for so long after its start (opensips/ua.cfg), for the edge to notice that it is a new one."""

DRAIN_SECONDS = 30
"""How long calls in progress may go on when a connector is stopped."""


def components(settings: Settings, opensips: OpenSips, rtpengine: Program, clock: Clock) -> list[Component]:
    """rtpengine, the UAs, the edge, the connectors: started in this order, stopped in the opposite one.

    So calls in progress end before what carries them. A connector is ready when the edge sends it calls.
    Raises StackError where the configuration has no `opensips`.
    """
    site = opensips_of(settings)
    run = site.run.absolute()
    return [
        _rtpengine(site, run, rtpengine),
        *(_ua(pair, run, opensips, clock) for pair in site.pairs),
        _edge(site, run, opensips, clock),
        *(_connector(settings, site, pair, clock) for pair in site.pairs),
    ]


def opensips_of(settings: Settings) -> OpenSipsSettings:
    """The section `opensips`. Raises StackError where there is none."""
    if settings.opensips is None:
        raise StackError(f"{settings.file} has no section `opensips`: its calls come to the embedded endpoint")
    return settings.opensips


def _rtpengine(site: OpenSipsSettings, run: Path, program: Program) -> Component:
    async def ready() -> str | None:
        try:
            await ng(site.rtpengine.control, "ping")
        except StackError as error:
            return str(error)
        return None

    command = (str(program.path), f"--config-file={run / 'rtpengine.conf'}")
    return Component("rtpengine", command, run, ready)


def _ua(pair: PairSettings, run: Path, program: OpenSips, clock: Clock) -> Component:
    folder = run / ua_folder(pair)
    return Component(ua_folder(pair), _opensips(program, "../ua.cfg"), folder, _MiAnswers(pair.mi, clock))


def _edge(site: OpenSipsSettings, run: Path, program: OpenSips, clock: Clock) -> Component:
    return Component("edge", _opensips(program, "edge.cfg"), run, _MiAnswers(site.edge.mi, clock))


def _opensips(program: OpenSips, script: str) -> tuple[str, ...]:
    return (str(program.path), "-F", "-f", script, "-m", str(SHARED_MEGABYTES))


class _MiAnswers:
    """Is the OpenSIPS there whose management interface is at `listen`?"""

    def __init__(self, listen: str, clock: Clock) -> None:
        self._listen = listen
        self._clock = clock

    async def __call__(self) -> str | None:
        try:
            async with mi_of(self._listen, self._clock) as mi:
                await mi.call("uptime")
        except (MediaError, MiError) as error:
            return str(error)
        return None


def _connector(settings: Settings, site: OpenSipsSettings, pair: PairSettings, clock: Clock) -> Component:
    http = pair.http or settings.http.listen

    async def ready() -> str | None:
        if not await http_ok(http, "/readyz"):
            return f"http://{http}/readyz does not say that it is ready"
        try:
            async with mi_of(pair.mi, clock) as mi:
                if uptime(await mi.call("uptime")) <= REFUSING_SECONDS:
                    return "its UA refuses calls in its first seconds"
            states = await pair_states(site, clock)
        except (MediaError, MiError) as error:
            return str(error)
        state = states.get(pair.name, "missing")
        return None if state == "Active" else f"the edge's state of this pair is {state}"

    # -P: it runs beside voxtrunk.yml, where `flavors` is the admin's folder and not our package.
    command = (sys.executable, "-P", "-m", "connector.cli", "serve", "-c", str(settings.file.absolute()))
    options = ("--pair", pair.name, "--drain", str(DRAIN_SECONDS))
    return Component(
        f"connector-{pair.name}", (*command, *options), settings.file.absolute().parent, ready, DRAIN_SECONDS + 10.0
    )


def uptime(answer: Mapping[str, str]) -> int:
    """Seconds since OpenSIPS started, from MI's answer to `uptime`."""
    return int(answer["Up time"].split()[0])


async def pair_states(site: OpenSipsSettings, clock: Clock) -> Mapping[str, str]:
    """What the edge thinks of each pair, by its name: `Active`, `Probing` (it fails) or `Inactive` (switched off).

    Raises MediaError and MiError.
    """
    async with mi_of(site.edge.mi, clock) as mi:
        listed = await mi.call("ds_list")
    states = {
        destination["URI"]: destination["state"]
        for partition in listed["PARTITIONS"]
        for destinations in partition["SETS"]
        for destination in destinations["Destinations"]
    }
    return {pair.name: states[f"sip:{pair.listen}"] for pair in site.pairs if f"sip:{pair.listen}" in states}
