"""From voxtrunk.yml to what OpenSIPS and rtpengine read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from connector.config.model import OpenSipsSettings
from connector.errors import StackError
from connector.stack.render import allowed, render, write
from connector.stack.scripts import script

FOLDER = Path("/opt/opensips/modules")


def rendered(**opensips: Any) -> dict[str, str]:
    return render(OpenSipsSettings.model_validate(opensips), [FOLDER])


def rows(table: str) -> list[list[str]]:
    """Rows of a table as db_text reads it: values between colons that are not escaped."""
    return [
        [value.replace("\\:", ":") for value in re.split(r"(?<!\\):", line)] for line in table.splitlines()[1:] if line
    ]


def test_the_fixed_scripts_are_as_they_are_in_the_repository() -> None:
    files = rendered()
    assert files["edge.cfg"] == script("edge.cfg")
    assert files["ua.cfg"] == script("ua.cfg")


@pytest.mark.parametrize("name", ["edge.cfg", "ua.cfg"])
def test_a_script_includes_what_is_rendered_for_it(name: str) -> None:
    files = rendered()
    generated = {Path(file).name for file in files} - {"edge.cfg", "ua.cfg"}
    assert set(re.findall(r'^include_file "(.+)"$', script(name), re.MULTILINE)) <= generated


def test_every_setting_of_the_edge_is_in_its_site_file() -> None:
    site = rendered(
        edge={
            "listen": ["udp:192.0.2.10:5060", "tcp:192.0.2.10:5061"],
            "advertise": "203.0.113.7",
            "mi": "127.0.0.1:8061",
            "calls_per_second": 7,
        },
        rtpengine={"control": "127.0.0.1:2223"},
    )["edge-site.cfg"].splitlines()
    assert "socket=udp:192.0.2.10:5060 as 203.0.113.7:5060" in site
    assert "socket=tcp:192.0.2.10:5061 as 203.0.113.7:5061" in site
    assert 'modparam("mi_datagram", "socket_name", "udp:127.0.0.1:8061")' in site
    assert 'modparam("rtpengine", "rtpengine_sock", "udp:127.0.0.1:2223")' in site
    assert 'modparam("cfgutils", "shvset", "calls_per_second=i:7")' in site


def test_uas_on_this_machine_reach_a_natted_edge_by_loopback() -> None:
    files = rendered(edge={"listen": ["udp:192.0.2.10:5062"], "advertise": "203.0.113.7"})
    assert "socket=udp:127.0.0.1:5062" in files["edge-site.cfg"].splitlines()
    assert rows(files["dispatcher"])[0][3] == "udp:127.0.0.1:5062"
    assert "^(127[.]0[.]0[.]1|192[.]0[.]2[.]10)$" in files["ua-a/ua-site.cfg"]


def test_several_addresses_of_the_edge_let_the_kernel_choose_the_one_to_send_from() -> None:
    assert "mhomed=yes" in rendered(edge={"listen": ["udp:192.0.2.10:5060", "udp:10.0.0.1:5060"]})["edge-site.cfg"]
    assert "mhomed" not in rendered()["edge-site.cfg"]


def test_who_may_call_is_a_row_each() -> None:
    table = rendered(edge={"listen": ["udp:192.0.2.10:5060"], "allow": ["198.51.100.0/24", "2001:db8::/32"]})["address"]
    assert [(row[1], row[2], row[3]) for row in rows(table)] == [("1", "198.51.100.0", "24"), ("1", "2001:db8::", "32")]


@pytest.mark.parametrize(
    ("listen", "loopback"),
    [(["udp:127.0.0.1:5060"], True), (["udp:192.0.2.10:5060"], False), (["udp:127.0.0.1:1", "udp:192.0.2.1:1"], False)],
)
def test_loopback_may_call_where_nothing_else_can(listen: list[str], loopback: bool) -> None:
    edge = OpenSipsSettings.model_validate({"edge": {"listen": listen}}).edge
    assert any(network.is_loopback for network in allowed(edge)) is loopback


def test_each_pair_is_a_destination_and_has_a_site_file() -> None:
    files = rendered(
        pairs=[
            {"name": "a", "listen": "10.0.0.1:5070", "mi": "10.0.0.1:8070", "events": "10.0.0.1:9070"},
            {"name": "b", "listen": "[2001:db8::1]:5071", "mi": "[2001:db8::1]:8071", "events": "10.0.0.2:9071"},
        ]
    )
    assert [row[2] for row in rows(files["dispatcher"])] == ["sip:10.0.0.1:5070", "sip:[2001:db8::1]:5071"]
    assert "socket=udp:10.0.0.1:5070" in files["ua-a/ua-site.cfg"].splitlines()
    second = files["ua-b/ua-site.cfg"].splitlines()
    assert "socket=udp:[2001:db8::1]:5071" in second
    assert 'modparam("mi_datagram", "socket_name", "udp:[2001:db8::1]:8071")' in second
    assert 'modparam("cfgutils", "shvset", "events=s:udp:10.0.0.2:9071")' in second


def test_only_the_edge_is_an_edge() -> None:
    site = rendered(edge={"listen": ["udp:192.0.2.10:5060"]})["ua-a/ua-site.cfg"]
    found = re.search(r"edges=s:(.+)\"\)", site)
    assert found
    assert re.search(found[1], "192.0.2.10")
    assert not re.search(found[1], "192.0.2.100")
    assert not re.search(found[1], "192x0.2.10")


def test_tcp_is_loaded_where_it_is_listened_to() -> None:
    """OpenSIPS 4.0 does not start with a transport that no socket is for."""
    assert 'loadmodule "proto_tcp.so"' in rendered()["edge-site.cfg"]
    files = rendered(edge={"listen": ["udp:127.0.0.1:5060"]})
    lines = [line for text in files.values() for line in text.splitlines() if not line.startswith("#")]
    assert not any("proto_tcp" in line for line in lines)


def test_messages_are_copied_to_homer_where_it_is_configured_and_nothing_is_loaded_elsewhere() -> None:
    files = rendered(edge={"hep": "udp:192.0.2.20:9060"})
    with_homer = files["edge-site.cfg"]
    assert "192.0.2.20:9060" in with_homer
    assert 'loadmodule "tracer.so"' in with_homer
    # The copies leave from a port of their own, not from Homer's.
    assert "socket=hep_udp:127.0.0.1:8061" in with_homer
    assert "tracer.so" not in rendered()["edge-site.cfg"]
    assert "route[trace]" in rendered()["edge-site.cfg"]
    assert files["ua-a/ua-site.cfg"] == rendered()["ua-a/ua-site.cfg"]


def test_rtpengine_has_every_setting_once() -> None:
    settings = {"external": "192.0.2.10", "advertise": "203.0.113.7", "internal": "10.0.0.1", "ports": "31000-31999"}
    text = rendered(rtpengine={**settings, "control": "10.0.0.1:2223"})["rtpengine.conf"]
    pairs = [line.split(" = ") for line in text.splitlines() if " = " in line]
    values = dict(pairs)
    assert len(values) == len(pairs)
    assert values["interface"] == "external/192.0.2.10!203.0.113.7;internal/10.0.0.1"
    assert values["listen-ng"] == "10.0.0.1:2223"
    assert (values["port-min"], values["port-max"]) == ("31000", "31999")
    assert values["table"] == "-1"
    assert "${" not in text


def test_modules_are_looked_for_in_every_folder_given() -> None:
    files = render(OpenSipsSettings(), [Path("/a b/modules"), Path("/usr/lib/opensips/modules")])
    assert [line for line in files["modules.cfg"].splitlines() if not line.startswith("#")] == [
        'mpath="/a b/modules/"',
        'mpath="/usr/lib/opensips/modules/"',
    ]


@pytest.mark.parametrize("folder", ['/a"b', "/a\nb", "/a\\b"])
def test_a_folder_that_would_break_out_of_its_string_is_refused(folder: str) -> None:
    with pytest.raises(StackError, match="quotes"):
        render(OpenSipsSettings(), [Path(folder)])


BREAKOUTS = ['"', "\n", '")\nroute{}', "#", ";", " ", "$(ru)", "\\", "`"]


@pytest.mark.parametrize("tail", BREAKOUTS)
@pytest.mark.parametrize(
    "key",
    ["edge.listen.0", "edge.advertise", "edge.allow.0", "edge.mi", "edge.hep", "rtpengine.control",
     "rtpengine.external", "rtpengine.advertise", "rtpengine.internal", "rtpengine.ports", "pairs.0.name",
     "pairs.0.listen", "pairs.0.mi", "pairs.0.events", "pairs.0.media", "pairs.0.ports", "pairs.0.http"],
)  # fmt: skip
def test_no_value_of_the_configuration_can_break_out_of_its_place(key: str, tail: str) -> None:
    good = {
        "listen": "127.0.0.1:5060", "mi": "127.0.0.1:8060", "hep": "udp:127.0.0.1:9060", "control": "127.0.0.1:2223",
        "ports": "30000-30999", "name": "a", "events": "127.0.0.1:9070", "http": "127.0.0.1:8080",
    }  # fmt: skip
    section, *path = key.split(".")
    leaf = next(part for part in reversed(path) if not part.isdigit())
    value = good.get(leaf, "192.0.2.1")
    if section == "edge" and leaf == "listen":
        value = f"udp:{value}"
    document: Any = value + tail
    for part in reversed(path):
        document = [document] if part.isdigit() else {part: document}
    with pytest.raises(ValidationError):
        OpenSipsSettings.model_validate({section: document})


def test_files_are_written_below_the_folder_and_replaced_as_a_whole(tmp_path: Path) -> None:
    write(tmp_path / "run", {"edge.cfg": "one", "ua-a/ua-site.cfg": "two"})
    write(tmp_path / "run", {"edge.cfg": "three"})
    assert (tmp_path / "run" / "edge.cfg").read_text() == "three"
    assert (tmp_path / "run" / "ua-a" / "ua-site.cfg").read_text() == "two"
    assert not list(tmp_path.rglob(".*.new"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(StackError, match="run"):
        write(tmp_path / "run", {"edge.cfg": "one"})
