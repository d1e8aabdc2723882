"""Checks of OpenSIPS, rtpengine and connectors that run: do they answer, know each other, and lose nothing."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp

from connector.cli.console import counted
from connector.cli.doctor.findings import Finding, Verdict
from connector.cli.doctor.machine import check_media, check_port, is_local, owner
from connector.cli.doctor.softswitch import Claim, claims
from connector.cli.remote import EVERYWHERE
from connector.config.model import OpenSipsSettings, PairSettings, Settings, split_address
from connector.errors import MediaError, MiError, StackError
from connector.interfaces import Clock
from connector.mi.client import MiClient
from connector.mi.events import EVENT
from connector.mi.sessions import UaSessions
from connector.stack.control import mi_of, ng
from connector.stack.render import allowed
from connector.stack.status import STALE_SECONDS, dialogs, media_sessions

START = "`voxtrunk stack up` starts everything"

SECOND_LOOK = 3.0
"""Seconds after which what did not match is looked at again: calls begin and end meanwhile."""
ANSWER_SECONDS = 2.0
"""How long OPTIONS and HTTP may take."""

Reports = Mapping[str, Any]


@dataclass
class Stack:
    """What answers. `uas`, `connectors`: by pair; a connector's is its readiness (`/readyz`)."""

    edge: MiClient | None = None
    uas: dict[str, MiClient] = field(default_factory=dict)
    connectors: dict[str, Reports] = field(default_factory=dict)
    rtpengine: bool = False

    @property
    def running(self) -> list[str]:
        """Names of the programs that answer, as `Claim` has them."""
        alone = [name for name, runs in (("edge", self.edge is not None), ("rtpengine", self.rtpengine)) if runs]
        return [*alone, *(f"ua-{name}" for name in self.uas), *(f"connector-{name}" for name in self.connectors)]


async def check_running(settings: Settings, opensips: OpenSipsSettings, clock: Clock) -> list[Finding]:
    """Every check of what runs; of what does not, whether its ports are free."""
    async with _found(settings, opensips, clock) as stack:
        findings = await asyncio.to_thread(_ports, settings, opensips, stack.running)
        if not stack.running:
            return [*findings, Finding("softswitch", Verdict.SKIPPED, "it is not running", START)]
        findings += _programs(settings, opensips, stack)
        if stack.edge is not None:
            findings += await _edge(opensips, stack, stack.edge)
        for pair in opensips.pairs:
            if pair.name in stack.uas:
                findings += await _ua(pair, stack.uas[pair.name], clock)
        findings += await _left_over(settings, opensips, stack, clock)
    return [*findings, *await asyncio.to_thread(check_drops, settings, opensips)]


# --------------------------------------------------------------------------------------- who is there


@asynccontextmanager
async def _found(settings: Settings, opensips: OpenSipsSettings, clock: Clock) -> AsyncIterator[Stack]:
    """Asks everybody at the same time."""
    stack = Stack()

    async def mi(listen: str) -> MiClient | None:
        try:
            client = await clients.enter_async_context(mi_of(listen, clock))
            await client.call("uptime")
        except (MiError, MediaError):
            return None
        return client

    async def edge() -> None:
        stack.edge = await mi(opensips.edge.mi)

    async def rtpengine() -> None:
        with suppress(StackError):
            await ng(opensips.rtpengine.control, "ping")
            stack.rtpengine = True

    async def ua(pair: PairSettings) -> None:
        client = await mi(pair.mi)
        if client is not None:
            stack.uas[pair.name] = client

    async def connector(pair: PairSettings) -> None:
        readiness = await _http(settings, pair, "/readyz")
        if "ready" in readiness:
            stack.connectors[pair.name] = readiness

    async with AsyncExitStack() as clients:
        pairs = chain.from_iterable((ua(pair), connector(pair)) for pair in opensips.pairs)
        await asyncio.gather(edge(), rtpengine(), *pairs)
        yield stack


async def _http(settings: Settings, pair: PairSettings, path: str) -> Reports:
    """What the pair's connector says; {} where it says nothing."""
    token = settings.http.token
    headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
    host, _, port = (pair.http or settings.http.listen).rpartition(":")
    url = f"http://{EVERYWHERE.get(host, host)}:{port}{path}"
    try:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, headers=headers) as response:
            answer = await response.json()
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _ports(settings: Settings, opensips: OpenSipsSettings, running: Sequence[str]) -> list[Finding]:
    """Are the ports free that programs want which do not run?"""
    findings: list[Finding] = []
    for claim in claims(settings, opensips):
        elsewhere = claim.program.startswith(("ua-", "connector-")) and not is_local(claim.address)
        if claim.first == claim.last and claim.program not in running and not elsewhere:
            found = check_port(_named(claim), claim.key, claim.kind, claim.address, claim.first)
            if "taken by opensips" in found.cause:
                remedy = f"where it is the package's own service: systemctl disable --now opensips; {found.remedy}"
                found = Finding(found.check, found.verdict, found.cause, remedy)
            findings.append(found)
    for pair in opensips.pairs:
        if f"connector-{pair.name}" not in running and is_local(pair.media):
            media = settings.media if pair.ports is None else settings.media.model_copy(update={"ports": pair.ports})
            found = check_media(media, pair.media)
            findings.append(Finding(f"RTP ports of pair {pair.name}", found.verdict, found.cause, found.remedy))
    return findings


def _named(claim: Claim) -> str:
    what = claim.key.removeprefix("opensips.").replace("pairs ", "pair ")
    return f"port of {what}" if claim.key.startswith("opensips.") else f"{what} of {claim.program}"


def _programs(settings: Settings, opensips: OpenSipsSettings, stack: Stack) -> Iterator[Finding]:
    """Of a softswitch of which something runs, what does not?"""
    wanted = {"edge": f"MI, UDP {opensips.edge.mi}", "rtpengine": f"NG, UDP {opensips.rtpengine.control}"}
    for pair in opensips.pairs:
        wanted[f"ua-{pair.name}"] = f"MI, UDP {pair.mi}"
        wanted[f"connector-{pair.name}"] = f"HTTP, TCP {pair.http or settings.http.listen}"
    remedies = {
        "edge": f"start it and look at its log: nobody can call; {START}",
        "rtpengine": f"start it and look at its log: calls have no audio; {START}",
    }
    for program, door in wanted.items():
        if program in stack.running:
            yield Finding(program, Verdict.OK, f"answers ({door})")
            continue
        name = program.partition("-")[2]
        serve = f"`voxtrunk serve --pair {name}` starts it" if program.startswith("connector") else START
        remedy = remedies.get(program, f"start it and look at its log: pair {name} takes no calls; {serve}")
        yield Finding(program, Verdict.FAILED, f"does not answer ({door})", remedy)
    for name, readiness in stack.connectors.items():
        if readiness["ready"] is not True:
            problems = [f"{flavor}: {why}" for flavor, why in readiness.get("flavors", {}).items() if why]
            cause = "it is stopping" if readiness.get("draining") else "; ".join(problems) or "it says no more"
            yield Finding(f"connector-{name}", Verdict.FAILED, f"takes no calls: {cause}", "look at its log")


# --------------------------------------------------------------------------------------- the edge


async def _edge(opensips: OpenSipsSettings, stack: Stack, edge: MiClient) -> list[Finding]:
    try:
        listed = await edge.call("ds_list")
    except MiError as error:
        remedy = "stop what answers there, or give opensips.edge.mi another port"
        return [Finding("edge", Verdict.FAILED, f"what answers at {opensips.edge.mi} is no edge: {error}", remedy)]
    states = destinations(listed)
    findings = [_pair_seen(pair, states.pop(f"sip:{pair.listen}", None), stack) for pair in opensips.pairs]
    if states:
        cause = f"it sends calls to {', '.join(states)}, which is no pair"
        findings.append(Finding("edge's pairs", Verdict.FAILED, cause, RESTART))
    findings.append(await asyncio.to_thread(_options, opensips))
    return findings


RESTART = "the configuration has changed since it started: restart it"


def destinations(listed: Any) -> dict[str, str]:
    """State of each destination by its SIP URI, from the answer to `ds_list` (OpenSIPS module dispatcher)."""
    found: dict[str, str] = {}
    pending = [listed]
    while pending:
        match pending.pop():
            case {"URI": str(uri), "state": str(state)}:
                found[uri] = state
            case dict() as entries:
                pending += entries.values()
            case list() as entries:
                pending += entries
    return found


def _pair_seen(pair: PairSettings, state: str | None, stack: Stack) -> Finding:
    check = f"pair {pair.name}, seen by the edge"
    if state is None:
        return Finding(check, Verdict.FAILED, f"the edge does not know sip:{pair.listen}", RESTART)
    if state == "Active":
        return Finding(check, Verdict.OK, "active")
    if pair.name not in stack.uas:
        remedy = f"start its UA; {START}"
    elif pair.name not in stack.connectors:
        remedy = f"start its connector: `voxtrunk serve --pair {pair.name}`"
    else:
        remedy = f"a pair that has just started is active within seconds; else look at the log of ua-{pair.name}"
    return Finding(check, Verdict.FAILED, f"{state.lower()}: it gets no calls", remedy)


def _options(opensips: OpenSipsSettings) -> Finding:
    """Does the edge answer a keep-alive, as its peers send it?"""
    check = "OPTIONS to the edge"
    listen = next((one for one in opensips.edge.listen if one.startswith("udp:")), None)
    if listen is None:
        return Finding(check, Verdict.SKIPPED, "it has no UDP socket")
    target, port = split_address(listen.partition(":")[2])
    if ipaddress.ip_address(target).is_unspecified:
        return Finding(check, Verdict.SKIPPED, f"{target} is no address to ask")
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    mine = target
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.settimeout(ANSWER_SECONDS)
        try:
            asking.connect((target, port))
            mine, from_port = asking.getsockname()[:2]
            asking.send(_keep_alive(f"[{mine}]:{from_port}" if ":" in mine else f"{mine}:{from_port}", listen))
            status = asking.recv(65_535).split(b"\r\n", 1)[0].decode(errors="replace")
        except OSError as error:
            if not any(ipaddress.ip_address(mine) in network for network in allowed(opensips.edge)):
                cause = f"this machine ({mine}) may not ask: it is not in opensips.edge.allow"
                return Finding(check, Verdict.SKIPPED, cause)
            cause = f"no answer from {listen}: {error.strerror or f'nothing within {ANSWER_SECONDS:g} s'}"
            return Finding(check, Verdict.FAILED, cause, "look at the edge's log")
    if status.startswith("SIP/2.0 200"):
        return Finding(check, Verdict.OK, f"{listen} answers 200")
    return Finding(check, Verdict.FAILED, f"{listen} answers {status}", "look at the edge's log")


def _keep_alive(local: str, listen: str) -> bytes:
    target = listen.partition(":")[2]
    lines = (
        f"OPTIONS sip:{target} SIP/2.0",
        f"Via: SIP/2.0/UDP {local};branch=z9hG4bK{uuid4().hex};rport",
        f"From: <sip:doctor@{local}>;tag={uuid4().hex[:8]}",
        f"To: <sip:{target}>",
        f"Call-ID: {uuid4().hex}",
        "CSeq: 1 OPTIONS",
        "Max-Forwards: 70",
        "Content-Length: 0",
    )
    return "\r\n".join((*lines, "", "")).encode()


# --------------------------------------------------------------------------------------- UAs


async def _ua(pair: PairSettings, ua: MiClient, clock: Clock) -> list[Finding]:
    return [await _heartbeat(pair, ua, clock), await _subscription(pair, ua)]


async def _heartbeat(pair: PairSettings, ua: MiClient, clock: Clock) -> Finding:
    check = f"heartbeat of pair {pair.name}"
    serve = f"`voxtrunk serve --pair {pair.name}` writes it each second: start it, or look at its log"
    try:
        beat = int((await ua.call("shv_get", name="hb"))["VAR"]["value"])
    except (MiError, KeyError, TypeError, ValueError) as error:
        remedy = f"stop what answers there, or give pair {pair.name} another mi port"
        return Finding(check, Verdict.FAILED, f"what answers at {pair.mi} is no UA: {error}", remedy)
    age = clock.wall() - beat
    if beat == 0:
        return Finding(check, Verdict.FAILED, "no connector has come yet: the UA refuses calls", serve)
    if age < -1:
        cause = f"it comes from {-age:.0f} s in the future: the connector's clock is not that of this machine"
        return Finding(check, Verdict.FAILED, cause, "let both machines get the time from NTP")
    if age > STALE_SECONDS + 1:
        return Finding(check, Verdict.FAILED, f"{age:.0f} s old: the UA refuses calls", serve)
    return Finding(check, Verdict.OK, "fresh")


async def _subscription(pair: PairSettings, ua: MiClient) -> Finding:
    """Does the UA send its events to the connector?"""
    check = f"events of pair {pair.name}"
    try:
        listed = await ua.call("subscribers_list")
        events = [event for event in listed["Events"] if event["name"] == EVENT]
        sockets = [subscriber["socket"] for event in events for subscriber in event["Subscribers"]]
    except (MiError, KeyError, TypeError) as error:
        return Finding(check, Verdict.FAILED, f"the UA does not tell who gets them: {error}", RESTART)
    wanted = f"udp:{pair.events}"
    if wanted not in sockets:
        cause = f"the UA sends them to {', '.join(sockets) or 'nobody'}, not to {wanted}"
        return Finding(check, Verdict.FAILED, cause, RESTART)
    if len(sockets) > 1:
        cause = f"{', '.join(sockets)} all get them: each call would be taken twice"
        return Finding(check, Verdict.FAILED, cause, "restart the UA; a connector has a UA of its own")
    return Finding(check, Verdict.OK, f"sent to {wanted}")


# --------------------------------------------------------------------------------------- what was lost


async def _left_over(settings: Settings, opensips: OpenSipsSettings, stack: Stack, clock: Clock) -> list[Finding]:
    """Are there sessions without a call, or media without a dialog? What does not match is looked at twice."""
    first = await _counts(settings, opensips, stack, clock)
    if all(one.verdict is not Verdict.WARNING for one in first):
        return first
    await clock.sleep(SECOND_LOOK)
    second = {one.check: one for one in await _counts(settings, opensips, stack, clock)}
    return [second.get(one.check, one) if one.verdict is Verdict.WARNING else one for one in first]


async def _counts(settings: Settings, opensips: OpenSipsSettings, stack: Stack, clock: Clock) -> list[Finding]:
    whole = [pair for pair in opensips.pairs if pair.name in stack.uas and pair.name in stack.connectors]
    findings = [await _sessions(settings, pair, stack.uas[pair.name]) for pair in whole]
    if stack.edge is not None and stack.rtpengine:
        findings.append(await _media(opensips, clock))
    return findings


async def _sessions(settings: Settings, pair: PairSettings, ua: MiClient) -> Finding:
    check = f"sessions of pair {pair.name}"
    try:
        sessions = len(await UaSessions(ua, split_address(pair.listen)).all())
    except MiError:
        return Finding(check, Verdict.SKIPPED, "too many calls for a list of them")
    listed = (await _http(settings, pair, "/v1/calls")).get("calls")
    if listed is None:
        return Finding(check, Verdict.SKIPPED, "the connector does not list its calls (http.token)")
    calls = len(listed)
    if sessions > calls:
        cause = f"the UA has {counted(sessions, 'session')}, the connector {counted(calls, 'call')}"
        remedy = f"restart ua-{pair.name} when there are no calls; its sessions end with it"
        return Finding(check, Verdict.WARNING, cause, remedy)
    return Finding(check, Verdict.OK, f"{counted(calls, 'call')}, none is lost")


async def _media(opensips: OpenSipsSettings, clock: Clock) -> Finding:
    check = "rtpengine's calls"
    try:
        begun, mixed = await dialogs(opensips, clock), len(await media_sessions(opensips))
    except (MiError, MediaError, StackError) as error:
        return Finding(check, Verdict.SKIPPED, f"they cannot be counted: {error}")
    cause = f"rtpengine has {counted(mixed, 'call')}, the edge {counted(begun, 'dialog')}"
    if mixed > begun:
        remedy = "they end by themselves after rtpengine's timeout; if they become more, report it"
        return Finding(check, Verdict.WARNING, cause, remedy)
    if begun > mixed:
        remedy = "was rtpengine restarted? connectors ask for the media again within seconds, or end the call"
        return Finding(check, Verdict.WARNING, cause, remedy)
    return Finding(check, Verdict.OK, f"{counted(mixed, 'call')}, as many as the edge's dialogs")


def check_drops(settings: Settings, opensips: OpenSipsSettings, table: Path = Path("/proc/net/udp")) -> list[Finding]:
    """Did the kernel drop messages to OpenSIPS, rtpengine or a connector because they did not take them in time?"""
    ports = {claim.first: claim for claim in claims(settings, opensips) if claim.first == claim.last}
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return []
    lost: dict[int, int] = {}
    for line in lines:
        columns = line.split()
        port, dropped = int(columns[1].rpartition(":")[2], 16), int(columns[-1])
        if port in ports and ports[port].kind is socket.SOCK_DGRAM and dropped:
            lost[port] = lost.get(port, 0) + dropped
    return [
        Finding(
            f"{_named(ports[port])}, messages",
            Verdict.WARNING,
            f"{dropped} to UDP port {port} were lost in the queue of {owner('UDP', port) or ports[port].program}",
            "raise net.core.rmem_max and restart; where it goes on, the machine is too slow for its calls",
        )
        for port, dropped in lost.items()
    ]
