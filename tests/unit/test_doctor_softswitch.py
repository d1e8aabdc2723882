"""Each fault of OpenSIPS and rtpengine is injected, and `voxtrunk doctor` names its cause and a remedy."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from connector.app import SystemClock
from connector.cli import app
from connector.cli.doctor.findings import Finding, Verdict
from connector.cli.doctor.machine import owner
from connector.cli.doctor.running import check_drops, check_running
from connector.cli.doctor.softswitch import (
    check_addresses,
    check_clashes,
    check_clock,
    check_files,
    check_opensips,
    check_receive_buffers,
    check_rtpengine,
    check_run_folder,
    claims,
)
from connector.config import builtin_settings
from connector.config.model import HttpSettings, MediaSettings, OpenSipsSettings, Settings
from tests.fakes.sip import free_udp_port
from tests.fakes.softswitch import FakeSoftswitch, softswitch

SETTINGS = builtin_settings()

OPENSIPS = """\
#!/bin/sh
case "$1" in
    -V) echo "version: opensips {version} (x86_64/linux)" ;;
    -C) {check} ;;
esac
"""

RTPENGINE = '#!/bin/sh\necho "Version: {version}-1+deb12u1" >&2\n'


class Impatient(SystemClock):
    """Real time without its pauses."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


MODULES = (
    *("b2b_entities", "cfgutils", "db_text", "dialog", "dispatcher", "event_datagram", "maxfwd", "mi_datagram"),
    *("mi_script", "nathelper", "permissions", "pike", "proto_hep", "ratelimit", "rr", "rtpengine", "signaling"),
    *("sipmsgops", "sl", "tm", "tracer", "uac_auth"),
)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an OpenSIPS and an rtpengine that are as they should be, and are the ones in use."""
    monkeypatch.setenv(
        "OPENSIPS_BIN", str(program(tmp_path / "sbin/opensips", OPENSIPS.format(version="3.6.8", check=":")))
    )
    monkeypatch.setenv(
        "RTPENGINE_BIN", str(program(tmp_path / "sbin/rtpengine", RTPENGINE.format(version="11.5.1.24")))
    )
    modules = tmp_path / "lib/opensips/modules"
    modules.mkdir(parents=True)
    for name in MODULES:
        (modules / f"{name}.so").touch()
    return tmp_path


def opensips(**changes: Any) -> OpenSipsSettings:
    return OpenSipsSettings.model_validate(changes)


def not_ok(findings: Sequence[Finding]) -> list[tuple[str, Verdict, str, str]]:
    """What was found of faults."""
    return [(one.check, one.verdict, one.cause, one.remedy) for one in findings if one.verdict is not Verdict.OK]


def only(findings: Sequence[Finding], verdict: Verdict = Verdict.FAILED) -> tuple[str, str, str]:
    """Check, cause and remedy of the only fault."""
    ((check, found, cause, remedy),) = not_ok(findings)
    assert found is verdict
    return check, cause, remedy


# --------------------------------------------------------------------------------------- programs and scripts


def test_programs_as_they_should_be(installed: Path) -> None:
    """Found, known, complete, and content with the scripts."""
    findings = [*check_opensips(opensips()), check_rtpengine()]
    assert not_ok(findings) == []
    assert [one.check for one in findings] == [
        "OpenSIPS",
        "OpenSIPS modules",
        "script of the edge",
        "script of ua-a",
        "rtpengine",
    ]
    assert findings[0].cause == f"{installed}/sbin/opensips, version 3.6.8"
    assert findings[-1].cause == f"{installed}/sbin/rtpengine, version 11.5.1.24"


@pytest.mark.parametrize(("variable", "name"), [("OPENSIPS_BIN", "opensips"), ("RTPENGINE_BIN", "rtpengine")])
def test_a_program_that_is_missing(installed: Path, monkeypatch: pytest.MonkeyPatch, variable: str, name: str) -> None:
    """How to install it is said, with the lines to type."""
    monkeypatch.setenv(variable, f"/nowhere/{name}")
    check, cause, remedy = only([*check_opensips(opensips()), check_rtpengine()])
    assert check.lower() == name
    assert cause == f"${variable} names /nowhere/{name}, which is no program."
    assert "apt-get install" in remedy
    if name == "opensips":
        assert "apt.opensips.org" in remedy


@pytest.mark.parametrize("version", ["2.4.11", "3.4.5", "3.5.0-rc1", "4.1.0"])
def test_an_opensips_of_another_release(installed: Path, version: str) -> None:
    """The scripts are written for two release lines."""
    program(installed / "sbin/opensips", OPENSIPS.format(version=version, check=":"))
    check, cause, remedy = only(list(check_opensips(opensips())))
    assert check == "OpenSIPS"
    assert f"is OpenSIPS {version.partition('-')[0]}; 3.6 or 4.0 is needed" in cause
    assert "apt.opensips.org" in remedy


@pytest.mark.parametrize("text", ["#!/bin/sh\necho what\n", "#!/nowhere\n"])
def test_an_opensips_that_does_not_work(installed: Path, text: str) -> None:
    """Something of that name is not enough."""
    program(installed / "sbin/opensips", text)
    check, cause, _ = only(list(check_opensips(opensips())))
    assert check == "OpenSIPS"
    assert "does not say its version" in cause or "does not run" in cause


def test_an_rtpengine_of_another_release(installed: Path) -> None:
    """It may work."""
    program(installed / "sbin/rtpengine", RTPENGINE.format(version="9.5.3.1"))
    check, cause, remedy = only([check_rtpengine()], Verdict.WARNING)
    assert check == "rtpengine"
    assert cause == f"{installed}/sbin/rtpengine is version 9.5.3.1, which is not tested"
    assert remedy == "10.5, 11.5, 12.5 are tested"


@pytest.mark.parametrize(
    ("missing", "packages"),
    [
        (["uac_auth"], "opensips-auth-modules"),
        (["dialog", "dispatcher"], "opensips"),
        (["tm", "uac_auth"], "opensips opensips-auth-modules"),
    ],
)
def test_modules_that_are_missing(installed: Path, missing: list[str], packages: str) -> None:
    """The packages that hold them are named."""
    for name in missing:
        (installed / f"lib/opensips/modules/{name}.so").unlink()
    check, cause, remedy = only(list(check_opensips(opensips())))
    assert check == "OpenSIPS modules"
    assert cause == f"missing in {installed}/lib/opensips/modules: {', '.join(missing)}"
    assert remedy == f"apt-get install --reinstall {packages}"


def test_modules_for_hep_only_where_it_is_configured(installed: Path) -> None:
    """Nobody needs what is not used."""
    (installed / "lib/opensips/modules/proto_hep.so").unlink()
    assert not_ok(list(check_opensips(opensips()))) == []
    _, cause, _ = only(list(check_opensips(opensips(edge={"hep": "udp:192.0.2.20:9060"}))))
    assert cause.endswith(": proto_hep")


def test_a_script_that_is_refused(installed: Path) -> None:
    """OpenSIPS' own words are passed on."""
    refuse = 'echo "ERROR:core:main: bad file" >&2; echo "CRITICAL:core:yyerror: parse error: $4" >&2; exit 255'
    program(installed / "sbin/opensips", OPENSIPS.format(version="4.0.1", check=refuse))
    faults = not_ok(list(check_opensips(opensips())))
    assert [check for check, *_ in faults] == ["script of the edge", "script of ua-a"]
    assert "refuses edge.cfg: parse error:" in faults[0][2]


@pytest.mark.parametrize(
    ("run", "cause"), [("/proc/run", "/proc cannot be written"), ("/proc/version", "is no folder")]
)
def test_a_run_folder_that_cannot_be_written(run: str, cause: str) -> None:
    check, found, remedy = only([check_run_folder(Path(run))])
    assert check == "run folder"
    assert cause in found
    assert "opensips.run" in remedy


# --------------------------------------------------------------------------------------- addresses and ports

SECOND = {"name": "b", "listen": "127.0.0.1:5071", "mi": "127.0.0.1:8071", "events": "127.0.0.1:9071"}

LAN: dict[str, dict[str, Any]] = {
    "edge": {"listen": ["udp:10.1.2.3:5060"], "allow": ["10.0.0.0/8"]},
    "rtpengine": {"external": "10.1.2.3"},
}


def changed(**changes: Mapping[str, Any]) -> OpenSipsSettings:
    """A softswitch for a local network, with changes."""
    sections: dict[str, Any] = LAN | {key: LAN.get(key, {}) | dict(value) for key, value in changes.items()}
    return opensips(**sections)


def test_addresses_as_they_should_be() -> None:
    assert not_ok(list(check_addresses(changed()))) == []
    assert not_ok(list(check_addresses(opensips()))) == []


@pytest.mark.parametrize(
    ("settings", "verdict", "check", "cause", "remedy"),
    [
        (
            changed(edge={"allow": []}),
            Verdict.FAILED,
            "who may call",
            "opensips.edge.allow is empty",
            "add opensips.edge.allow",
        ),
        (
            changed(edge={"listen": ["tcp:10.1.2.3:5060"]}),
            Verdict.FAILED,
            "edge's addresses",
            "speaks UDP with its UAs",
            "add udp:",
        ),
        (changed(edge={"allow": ["0.0.0.0/0"]}), Verdict.WARNING, "who may call", "everyone", "name the networks"),
        (
            changed(edge={"allow": ["54.172.60.0/30"]}, rtpengine={"advertise": "203.0.113.7"}),
            Verdict.WARNING,
            "edge's public address",
            "does not reach 10.1.2.3",
            "opensips.edge.advertise",
        ),
        (
            changed(edge={"allow": ["54.172.60.0/30"], "advertise": "203.0.113.7"}),
            Verdict.WARNING,
            "rtpengine's public address",
            "does not reach 10.1.2.3",
            "opensips.rtpengine.advertise",
        ),
        (
            changed(rtpengine={"external": "127.0.0.1"}),
            Verdict.FAILED,
            "rtpengine's external address",
            "send their audio to 127.0.0.1",
            "opensips.rtpengine.external",
        ),
        (
            changed(rtpengine={"internal": "10.1.2.3"}),
            Verdict.FAILED,
            "media of pair a",
            "rtpengine on 10.1.2.3 and the connector on 127.0.0.1",
            "opensips.rtpengine.internal",
        ),
        (changed(edge={"mi": "0.0.0.0:8060"}), Verdict.WARNING, "opensips.edge.mi", "no password", "firewall"),
        (
            changed(rtpengine={"control": "10.1.2.3:22222"}),
            Verdict.WARNING,
            "opensips.rtpengine.control",
            "no password",
            "firewall",
        ),
        (opensips(pairs=[{"mi": "10.1.2.3:8070"}]), Verdict.WARNING, "opensips.pairs a mi", "no password", "firewall"),
    ],
)
def test_addresses_that_cannot_be_meant(
    settings: OpenSipsSettings, verdict: Verdict, check: str, cause: str, remedy: str
) -> None:
    faults = not_ok(list(check_addresses(settings)))
    found = {name: (kind, why, how) for name, kind, why, how in faults}
    assert found[check][0] is verdict
    assert cause in found[check][1]
    assert remedy in found[check][2]


def stack_settings(section: OpenSipsSettings, **changes: Any) -> Settings:
    return SETTINGS.model_copy(update={"opensips": section, **changes})


@pytest.mark.parametrize(
    ("section", "media", "cause"),
    [
        ({}, "30000-30999", "opensips.rtpengine.ports (30000-39999) and media.ports (30000-30999)"),
        ({"edge": {"mi": "127.0.0.1:8070"}}, "20000-20999", "opensips.edge.mi (8070) and opensips.pairs a mi (8070)"),
        (
            {"rtpengine": {"control": "127.0.0.1:20500"}},
            "20000-20999",
            "opensips.rtpengine.control (20500) and media.ports (20000-20999)",
        ),
        (
            {"edge": {"listen": ["udp:127.0.0.1:5070"]}},
            "20000-20999",
            "opensips.edge.listen (5070) and opensips.pairs a listen (5070)",
        ),
        (
            {"pairs": [{"name": "a"}, SECOND]},
            "20000-20999",
            "connector-a and connector-b want the same UDP ports: media.ports (20000-20999)",
        ),
    ],
)  # fmt: skip
def test_ports_that_two_programs_want(section: dict[str, Any], media: str, cause: str) -> None:
    settings = stack_settings(opensips(**section), media=MediaSettings(ports=media))
    check, found, remedy = only([check_clashes(list(claims(settings, opensips(**section))))])
    assert check == "port plan"
    assert cause in found
    assert "own" in remedy


def test_a_port_plan_that_fits() -> None:
    """The defaults do, and so do two pairs whose ports differ, or that are on machines of their own."""
    own = {**SECOND, "ports": "21000-21999", "http": "127.0.0.1:8081"}
    elsewhere = {key: value.replace("127.0.0.1", "10.0.0.9") for key, value in own.items()} | {"media": "10.0.0.9"}
    for pairs in ([{"name": "a"}], [{"name": "a"}, own], [{"name": "a"}, {**elsewhere, "http": "10.0.0.9:8080"}]):
        section = opensips(pairs=pairs)
        assert not_ok([check_clashes(list(claims(stack_settings(section), section)))]) == []


def test_limits_of_the_machine(tmp_path: Path) -> None:
    """Files, buffers, clock."""
    assert not_ok([check_files(1)]) == []
    check, cause, remedy = only([check_files(10**7)], Verdict.WARNING)
    assert check == "open files"
    assert "10000000 calls (sip.max_calls) may need 80000200" in cause
    assert "LimitNOFILE=80000200" in remedy
    setting = tmp_path / "rmem_max"
    setting.write_text("212992\n")
    check, cause, remedy = only([check_receive_buffers(setting)], Verdict.WARNING)
    assert (check, cause.split(":")[0]) == ("receive buffers", "net.core.rmem_max is 212992")
    assert "sysctl -w net.core.rmem_max=4194304" in remedy
    setting.write_text("4194304\n")
    assert not_ok([check_receive_buffers(setting)]) == []
    only([check_receive_buffers(tmp_path / "nothing")], Verdict.SKIPPED)
    assert check_clock().check == "clock"


# --------------------------------------------------------------------------------------- what runs


def settings_of(fake: FakeSoftswitch) -> Settings:
    ports = f"{(first := free_udp_port() // 2 * 2)}-{first + 1}"
    return stack_settings(fake.opensips, http=HttpSettings(listen=fake.http), media=MediaSettings(ports=ports))


async def examined(fake: FakeSoftswitch) -> list[Finding]:
    return await check_running(settings_of(fake), fake.opensips, Impatient())


async def faults(fake: FakeSoftswitch) -> dict[str, tuple[Verdict, str, str]]:
    return {check: (verdict, cause, remedy) for check, verdict, cause, remedy in not_ok(await examined(fake))}


async def test_a_softswitch_in_good_health() -> None:
    async with softswitch() as fake:
        findings = await examined(fake)
    assert not_ok(findings) == []
    assert [one.check for one in findings] == [
        "edge",
        "rtpengine",
        "ua-a",
        "connector-a",
        "pair a, seen by the edge",
        "OPTIONS to the edge",
        "heartbeat of pair a",
        "events of pair a",
        "sessions of pair a",
        "rtpengine's calls",
    ]


async def test_nothing_runs_yet() -> None:
    """That is no fault: how to start it is said, and whether its ports are free."""
    async with softswitch() as fake:
        await fake.stop("edge", "ua", "rtpengine", "connector")
        findings = await examined(fake)
    assert not_ok(findings) == [
        ("softswitch", Verdict.SKIPPED, "it is not running", "`voxtrunk stack up` starts everything")
    ]
    assert [one.check for one in findings if one.check.startswith("port of")] == [
        "port of edge.listen",
        "port of edge.mi",
        "port of rtpengine.control",
        "port of pair a listen",
        "port of pair a mi",
        "port of pair a events",
    ]


@pytest.mark.parametrize(
    ("part", "check", "cause", "remedy"),
    [
        ("edge", "edge", "does not answer (MI, UDP 127.0.0.1:", "nobody can call"),
        ("rtpengine", "rtpengine", "does not answer (NG, UDP 127.0.0.1:", "calls have no audio"),
        ("ua", "ua-a", "does not answer (MI, UDP 127.0.0.1:", "pair a takes no calls"),
        ("connector", "connector-a", "does not answer (HTTP, TCP 127.0.0.1:", "`voxtrunk serve --pair a`"),
    ],
)
async def test_a_part_is_dead_while_others_run(part: str, check: str, cause: str, remedy: str) -> None:
    async with softswitch() as fake:
        await fake.stop(part)
        found = await faults(fake)
    assert list(found) == [check]
    assert found[check][0] is Verdict.FAILED
    assert found[check][1].startswith(cause)
    assert remedy in found[check][2]


async def test_rtpengine_is_silent() -> None:
    """Its port is taken by what does not answer."""
    async with softswitch() as fake:
        fake.rtpengine.sessions = None
        found = await faults(fake)
    assert list(found) == ["port of rtpengine.control", "rtpengine"]
    assert f"(pid {os.getpid()})" in found["port of rtpengine.control"][1]


@pytest.mark.parametrize(
    ("readiness", "cause"),
    [
        ({"ready": False, "draining": True, "flavors": {}}, "it is stopping"),
        ({"ready": False, "draining": False, "flavors": {"desk": "no key", "bar": ""}}, "desk: no key"),
    ],
)
async def test_a_connector_that_takes_no_calls(readiness: dict[str, Any], cause: str) -> None:
    async with softswitch() as fake:
        fake.readiness = readiness
        found = await faults(fake)
    assert found["connector-a"] == (Verdict.FAILED, f"takes no calls: {cause}", "look at its log")


@pytest.mark.parametrize(
    ("age", "cause", "remedy"),
    [
        (9.0, "s old: the UA refuses calls", "`voxtrunk serve --pair a` writes it each second"),
        (-60.0, "s in the future", "NTP"),
    ],
)
async def test_a_heartbeat_that_is_not_fresh(age: float, cause: str, remedy: str) -> None:
    async with softswitch() as fake:
        fake.beat(age)
        found = await faults(fake)
    assert list(found) == ["heartbeat of pair a"]
    assert cause in found["heartbeat of pair a"][1]
    assert remedy in found["heartbeat of pair a"][2]


async def test_no_connector_has_ever_come() -> None:
    async with softswitch() as fake:
        fake.ua.results["shv_get"] = {"VAR": {"type": "integer", "value": 0}}
        found = await faults(fake)
    assert "no connector has come yet" in found["heartbeat of pair a"][1]


async def test_an_opensips_that_is_not_ours() -> None:
    """The package's own service, with other scripts, in the places of ours."""
    async with softswitch() as fake:
        del fake.ua.results["shv_get"], fake.ua.results["subscribers_list"], fake.edge.results["ds_list"]
        found = await faults(fake)
    assert "is no UA" in found["heartbeat of pair a"][1]
    assert "is no edge" in found["edge"][1]


@pytest.mark.parametrize(
    ("sockets", "cause"),
    [
        ([], "the UA sends them to nobody, not to udp:"),
        (["udp:127.0.0.1:1"], "the UA sends them to udp:127.0.0.1:1, not to udp:"),
        (["udp:127.0.0.1:1", "@"], "all get them: each call would be taken twice"),
    ],
)
async def test_events_that_go_astray(sockets: list[str], cause: str) -> None:
    async with softswitch() as fake:
        fake.subscribers(*(each.replace("@", f"udp:{fake.opensips.pairs[0].events}") for each in sockets))
        found = await faults(fake)
    assert list(found) == ["events of pair a"]
    assert cause in found["events of pair a"][1]
    assert "restart" in found["events of pair a"][2]


async def test_a_pair_that_the_edge_does_not_use() -> None:
    """Down, unknown, or somebody else's."""
    async with softswitch() as fake:
        fake.sees(a="Probing")
        down = await faults(fake)
        fake.sees()
        unknown = await faults(fake)
        fake.sees(**{"a": "Active", "192.0.2.9:5070": "Active"})
        foreign = await faults(fake)
    assert down["pair a, seen by the edge"][1] == "probing: it gets no calls"
    assert "the edge does not know sip:127.0.0.1:" in unknown["pair a, seen by the edge"][1]
    assert foreign["edge's pairs"][1] == "it sends calls to sip:192.0.2.9:5070, which is no pair"
    assert "restart" in foreign["edge's pairs"][2]


async def test_a_pair_that_is_down_because_a_part_of_it_is() -> None:
    """What to start is said."""
    async with softswitch() as fake:
        fake.sees(a="Inactive")
        await fake.stop("connector")
        found = await faults(fake)
    assert found["pair a, seen by the edge"][2] == "start its connector: `voxtrunk serve --pair a`"


async def test_an_edge_that_does_not_answer_its_peers() -> None:
    async with softswitch() as fake:
        fake.sip.status = "500 Server Internal Error"
        refused = await faults(fake)
        fake.sip.status = ""
        silent = await faults(fake)
    assert refused["OPTIONS to the edge"][1].endswith("answers SIP/2.0 500 Server Internal Error")
    assert "no answer from udp:127.0.0.1:" in silent["OPTIONS to the edge"][1]


async def test_an_edge_that_does_not_answer_strangers() -> None:
    """This machine is none of its peers: its silence says nothing."""
    async with softswitch() as fake:
        fake.sip.status = ""
        listen = (*fake.opensips.edge.listen, "tcp:192.0.2.10:5060")
        edge = fake.opensips.edge.model_copy(update={"listen": listen})
        fake.opensips = fake.opensips.model_copy(update={"edge": edge})
        found = await faults(fake)
    assert found["OPTIONS to the edge"][:2] == (
        Verdict.SKIPPED,
        "this machine (127.0.0.1) may not ask: it is not in opensips.edge.allow",
    )


async def test_sessions_that_no_call_belongs_to() -> None:
    """Two sessions, one call: one is lost."""
    async with softswitch() as fake:
        fake.has_sessions(2)
        fake.calls = [{"call_id": "x"}]
        found = await faults(fake)
    assert list(found) == ["sessions of pair a"]
    assert found["sessions of pair a"][:2] == (Verdict.WARNING, "the UA has 2 sessions, the connector 1 call")


async def test_more_sessions_than_a_list_can_hold() -> None:
    async with softswitch() as fake:
        fake.ua.silent.add("ua_session_list")
        found = await faults(fake)
    assert found["sessions of pair a"][0] is Verdict.SKIPPED


@pytest.mark.parametrize(
    ("dialogs", "sessions", "remedy"), [(1, 3, "rtpengine's timeout"), (3, 1, "was rtpengine restarted?")]
)
async def test_media_that_does_not_fit_the_dialogs(dialogs: int, sessions: int, remedy: str) -> None:
    async with softswitch() as fake:
        fake.has_dialogs(dialogs)
        fake.rtpengine.sessions = sessions
        found = await faults(fake)
    assert list(found) == ["rtpengine's calls"]
    verdict, cause, how = found["rtpengine's calls"]
    assert verdict is Verdict.WARNING
    assert cause.startswith(f"rtpengine has {sessions} call")
    assert remedy in how


async def test_a_call_that_begins_meanwhile_is_no_fault() -> None:
    """What does not match is looked at again."""

    class Later(Impatient):
        async def sleep(self, seconds: float) -> None:
            fake.calls.append({"call_id": "x"})
            fake.has_dialogs(1)

    async with softswitch() as fake:
        fake.has_sessions(1)
        fake.rtpengine.sessions = 1
        findings = await check_running(settings_of(fake), fake.opensips, Later())
    assert not_ok(findings) == []


async def test_messages_that_the_kernel_dropped(tmp_path: Path) -> None:
    """The socket's owner was too slow."""
    async with softswitch() as fake:
        port = int(fake.opensips.pairs[0].events.rpartition(":")[2])
        table = tmp_path / "udp"
        table.write_text(
            "  sl local_address rem_address st tx_queue rx_queue tr tm->when retr uid timeout inode ref pointer drops\n"
            f" 1: 0100007F:{port:04X} 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 17\n"
        )  # fmt: skip
        found = await asyncio.to_thread(check_drops, settings_of(fake), fake.opensips, table)
        check, cause, remedy = only(found, Verdict.WARNING)
    assert check == "port of pair a events, messages"
    assert cause.startswith(f"17 to UDP port {port} were lost in the queue of ")
    assert "net.core.rmem_max" in remedy


# --------------------------------------------------------------------------------------- the command


def doctor(folder: Path, section: str) -> dict[str, Any]:
    """Its report on a configuration with `section`, and its exit status."""
    ports = f"{(first := free_udp_port() // 2 * 2)}-{first + 1}"
    (folder / "voxtrunk.yml").write_text(
        f"opensips: {section}\nmedia: {{ports: {ports}}}\nhttp: {{listen: '127.0.0.1:0'}}\nsip: {{max_calls: 1}}\n"
        "records: {min_free_mb: 0}\nflavors: {e: {pipeline: echo}}\ndefault: e\n"
    )
    result = CliRunner().invoke(app, ["doctor", "-c", str(folder / "voxtrunk.yml"), "--json"])
    report: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == (0 if report["ok"] else 1)
    return report


def section_on(**ports: int) -> str:
    """A configuration on free ports, but for those given."""
    names = ("edge", "edge_mi", "control", "ua", "ua_mi", "events")
    port = {name: ports.get(name) or free_udp_port() for name in names}
    listen = {name: f"'127.0.0.1:{number}'" for name, number in port.items()}
    return (
        f"{{edge: {{listen: ['udp:127.0.0.1:{port['edge']}'], mi: {listen['edge_mi']}}}, "
        f"rtpengine: {{control: {listen['control']}, ports: 65500-65515}}, "
        f"pairs: [{{listen: {listen['ua']}, mi: {listen['ua_mi']}, events: {listen['events']}}}]}}"
    )


@pytest.mark.usefixtures("installed")
def test_the_command_checks_the_softswitch_instead_of_the_embedded_endpoint(tmp_path: Path) -> None:
    """Nothing runs, nothing is wrong, nothing is left behind; the embedded endpoint's port is not looked at."""
    report = doctor(tmp_path, section_on())
    checks = {line["check"]: line["verdict"] for line in report["checks"]}
    assert report["ok"], report
    assert checks["OpenSIPS"] == checks["rtpengine"] == checks["port of edge.listen"] == "ok"
    assert checks["softswitch"] == "skipped"
    assert "SIP port" not in checks
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("installed")
def test_a_port_that_the_packages_own_opensips_holds(tmp_path: Path) -> None:
    """Installing OpenSIPS starts it as a service, with a script of its own, on 5060."""
    named = tmp_path / "opensips"
    named.symlink_to(Path(sys.executable).resolve())
    holding = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', 0));"
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([named, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        assert owner("UDP", port) == f"opensips (pid {holder.pid})"
        report = doctor(tmp_path, section_on(edge=port))
        holder.communicate()
    (fault,) = [line for line in report["checks"] if line["verdict"] == "failed"]
    assert fault["check"] == "port of edge.listen"
    assert fault["cause"] == f"UDP port {port} is taken by opensips (pid {holder.pid})"
    assert "systemctl disable --now opensips" in fault["remedy"]


@pytest.mark.usefixtures("installed")
def test_a_table_for_people(tmp_path: Path) -> None:
    """The same without `--json`; a remedy of several lines stays readable."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        doctor(tmp_path, section_on(events=holder.getsockname()[1]))
        result = CliRunner().invoke(app, ["doctor", "-c", str(tmp_path / "voxtrunk.yml")])
    assert result.exit_code == 1
    assert "port of pair a events" in result.stdout
