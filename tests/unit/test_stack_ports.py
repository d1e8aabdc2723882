"""Every port, who must reach it, and the firewall rules made of that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from connector.config.model import OpenSipsSettings, Settings
from connector.errors import StackError
from connector.stack.ports import Port, nftables, ports


def settings(opensips: dict[str, Any] | None, **more: Any) -> Settings:
    section = None if opensips is None else OpenSipsSettings.model_validate(opensips)
    return Settings(file=Path("voxtrunk.yml"), models=Path(), flavors={}, opensips=section, **more)


def by_setting(opensips: dict[str, Any]) -> dict[str, Port]:
    return {f"{port.setting} {port.transport} {port.peers}": port for port in ports(settings(opensips))}


def test_every_port_of_the_defaults_is_listed_with_its_setting() -> None:
    listed = {(port.transport, port.ports, port.setting) for port in ports(settings({}))}
    assert listed == {
        ("udp", "5060", "opensips.edge.listen"),
        ("tcp", "5060", "opensips.edge.listen"),
        ("udp", "30000-39999", "opensips.rtpengine.ports"),
        ("udp", "22222", "opensips.rtpengine.control"),
        ("udp", "8060", "opensips.edge.mi"),
        ("udp", "5070", "opensips.pairs[0].listen"),
        ("udp", "8070", "opensips.pairs[0].mi"),
        ("udp", "9070", "opensips.pairs[0].events"),
        ("udp", "20000-20999", "media.ports"),
        ("tcp", "8080", "http.listen"),
    }


def test_a_page_lists_the_same_ports_as_the_command() -> None:
    page = (Path(__file__).parents[2] / "docs" / "network.md").read_text()
    for port in ports(settings({})):
        assert f"{port.ports}/{port.transport}" in page
        assert f"`{port.setting.replace('[0]', '[]')}`" in page


def test_each_pair_has_its_own_ports() -> None:
    listed = ports(
        settings(
            {
                "pairs": [
                    {"name": "a", "ports": "21000-21999", "http": "127.0.0.1:8081"},
                    {"name": "b", "listen": "127.0.0.1:5071", "ports": "22000-22999", "http": "127.0.0.1:8082"},
                ]
            }
        )
    )
    found = {port.setting: port.ports for port in listed}
    assert found["opensips.pairs[0].ports"] == "21000-21999"
    assert found["opensips.pairs[1].ports"] == "22000-22999"
    assert found["opensips.pairs[1].listen"] == "5071"
    assert found["opensips.pairs[1].http"] == "8082"


def test_connectors_reach_rtpengine_where_it_has_an_address_for_them() -> None:
    inner = {"external": "192.0.2.10", "internal": "10.0.0.1"}
    found = by_setting({"rtpengine": inner, "pairs": [{"media": "10.0.0.2"}]})
    port = found["opensips.rtpengine.ports udp connectors"]
    assert (port.address, port.sources) == ("10.0.0.1", ("10.0.0.2",))


def test_firewall_rules_let_the_peers_in_and_nobody_else() -> None:
    edge = {"listen": ["udp:192.0.2.10:5060"], "allow": ["198.51.100.0/24", "2001:db8::/32"]}
    rules = nftables(ports(settings({"edge": edge})))
    lines = [line.strip() for line in rules.splitlines()]
    sip = [line for line in lines if line.startswith("udp dport 5060")]
    assert sip == [
        "udp dport 5060 ip saddr { 198.51.100.0/24 } accept",
        "udp dport 5060 ip6 saddr { 2001:db8::/32 } accept",
        "udp dport 5060 drop",
    ]
    # Media of trunks comes from anywhere.
    assert [line for line in lines if "30000" in line] == ["udp dport 30000-39999 accept"]


def test_rules_end_with_a_drop_for_every_port_that_is_not_for_everybody() -> None:
    rules = nftables(ports(settings({})))
    guarded = set(re.findall(r"(?:udp|tcp) dport \S+", rules))
    open_to_all = set(re.findall(r"((?:udp|tcp) dport \S+) accept", rules))
    dropped = set(re.findall(r"((?:udp|tcp) dport \S+) drop", rules))
    assert dropped == guarded - open_to_all
    assert rules.count("{") == rules.count("}")


def test_without_opensips_there_is_no_stack() -> None:
    with pytest.raises(StackError, match="embedded endpoint"):
        ports(settings(None))
