"""How a running stack is: what each of its programs says about itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from connector.config.model import OpenSipsSettings, PairSettings, Settings
from connector.errors import MediaError, MiError, MiTimeout, StackError
from connector.interfaces import Clock
from connector.mi.client import MiClient
from connector.stack.components import opensips_of, pair_states
from connector.stack.control import http_ok, mi_of, ng
from connector.stack.render import ua_folder

STALE_SECONDS = 3
"""A heartbeat older than this is that of a dead connector (opensips/ua.cfg)."""

LIST_LIMIT = 10_000
"""Calls that rtpengine lists at most."""


@dataclass(frozen=True, slots=True)
class Status:
    """Of one program. `problem`: why it does not work, None where it does. `facts`: what it says, for people."""

    name: str
    problem: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


async def status(settings: Settings, clock: Clock) -> list[Status]:
    """Every program's, in the order in which they start. Raises StackError where there is no section `opensips`."""
    site = opensips_of(settings)
    return [
        await _rtpengine(site),
        *[await _ua(pair, clock) for pair in site.pairs],
        await _edge(site, clock),
        *[await _connector(settings, pair) for pair in site.pairs],
    ]


async def dialogs(site: OpenSipsSettings, clock: Clock) -> int:
    """Calls in progress at the edge. Raises MediaError and MiError."""
    async with mi_of(site.edge.mi, clock) as mi:
        return int((await mi.call("get_statistics", statistics=["active_dialogs"]))["dialog:active_dialogs"])


async def media_sessions(site: OpenSipsSettings) -> list[str]:
    """Call-IDs of rtpengine's calls. Raises StackError."""
    listed = (await ng(site.rtpengine.control, "list", limit=LIST_LIMIT))["calls"]
    return [str(call) for call in listed] if isinstance(listed, list) else []


async def _edge(site: OpenSipsSettings, clock: Clock) -> Status:
    try:
        states = await pair_states(site, clock)
        calls = await dialogs(site, clock)
    except (MediaError, MiError) as error:
        return Status("edge", str(error))
    facts = {"calls": calls, "pairs": dict(states)}
    active = "Active" in states.values()
    return Status("edge", None if active else "no pair is active: calls are answered 503", facts)


async def _ua(pair: PairSettings, clock: Clock) -> Status:
    name = ua_folder(pair)
    try:
        async with mi_of(pair.mi, clock) as mi:
            beat = int((await mi.call("shv_get", name="hb"))["VAR"]["value"])
            sessions = await _sessions(mi)
    except (MediaError, MiError) as error:
        return Status(name, str(error))
    if beat == 0:
        return Status(name, "no connector has shown up", {"sessions": sessions})
    age = max(0, int(clock.wall()) - beat)
    problem = f"its connector's last heartbeat was {age} s ago" if age > STALE_SECONDS else None
    return Status(name, problem, {"sessions": sessions, "heartbeat_age_seconds": age})


async def _sessions(mi: MiClient) -> int | None:
    """Sessions of a UA; None where they are more than a datagram holds, which OpenSIPS answers with silence."""
    try:
        return len(await mi.call("ua_session_list"))
    except MiTimeout:
        return None


async def _rtpengine(site: OpenSipsSettings) -> Status:
    try:
        return Status("rtpengine", None, {"calls": len(await media_sessions(site))})
    except StackError as error:
        return Status("rtpengine", str(error))


async def _connector(settings: Settings, pair: PairSettings) -> Status:
    name, http = f"connector-{pair.name}", pair.http or settings.http.listen
    ready = await http_ok(http, "/readyz")
    return Status(name, None if ready else f"http://{http}/readyz does not say that it is ready")
