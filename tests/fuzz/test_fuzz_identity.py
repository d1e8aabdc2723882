"""Whatever the headers of an INVITE hold, its facts can be had: they are short, and no text breaks out of them."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.config.model import Flavor, IdentitySettings
from connector.interfaces import CallInfo
from connector.pipeline.facts import CLOSED, LONGEST_FACT, NOTICE, OPENED, facts_of, personal
from connector.sip.identity import LONGEST_VALUE, MOST_DIVERSIONS, call_info, e164
from connector.sip.message import parse_headers

NAMES = ("From", "P-Asserted-Identity", "Remote-Party-ID", "Privacy", "Diversion", "History-Info", "X-A", "Subject")
PIECES = (
    *('"', "<", ">", ";", ",", "=", "?", "&", "%", "\\", " ", "\t", "\r\n ", "@", ":", "sip:", "tel:", "+49", "030"),
    *(
        "anonymous.invalid",
        "123456",
        "reason=",
        "index=1",
        "index=1.1",
        "mp=1",
        "Reason=SIP%3Bcause%3D486",
        "cause=302",
    ),
    *(
        "privacy=full",
        "party=calling",
        ";phone-context=+49",
        "user=phone",
        "{{",
        "}}",
        "</caller>",
        "\udcff",
        "\x00",
        "é",
    ),
)

garbage = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=20).map("".join)
lines = st.lists(st.tuples(st.sampled_from(NAMES), garbage), max_size=12)
regions = st.sampled_from([None, "DE", "US", "IT", "ES", "RU"])


def info_of(target: str, found: list[tuple[str, str]], region: str | None) -> CallInfo:
    block = "".join(f"{name}: {value}\r\n" for name, value in found)
    settings = IdentitySettings(region=region, headers=("Contact",))
    return call_info(request_uri=target, headers=parse_headers(block), call_id="c", peer="p", settings=settings)


@given(garbage, lines, regions)
def test_any_headers(target: str, found: list[tuple[str, str]], region: str | None) -> None:
    """Numbers are E.164 or absent, lists and texts bounded, facts printable single lines."""
    info = info_of(target, found, region)
    for number in (info.called_number, info.calling_number):
        assert re.fullmatch(r"(\+[0-9]{5,17})?", number, re.ASCII)
    assert len(info.diversions) <= MOST_DIVERSIONS
    assert all(one.number for one in info.diversions)
    assert all(len(value) <= LONGEST_VALUE for value in info.headers.values())
    for fact in facts_of(info).values():
        assert fact.isprintable()
        assert 0 < len(fact) <= LONGEST_FACT
        fact.encode()


@pytest.mark.parametrize("entry", ["<sip:2001@x?Reason=SIP%3Bcause%3D302>;index=1.1,", "<", '"', ",", "a", ";", "%3B"])
def test_no_header_keeps_the_event_loop_busy(entry: str) -> None:
    """A datagram full of one header, split over lines or not, takes milliseconds."""
    for size in (64_000, 8_000):
        value = (entry * size)[:size]
        found = [(name, value) for name in ("History-Info", "From")] * (32_000 // size + 1)
        started = time.process_time()
        assert len(info_of(value, found, "DE").diversions) <= MOST_DIVERSIONS
        assert time.process_time() - started < 0.2


@given(garbage, lines)
def test_no_header_leaves_its_tags_in_a_persona(target: str, found: list[tuple[str, str]]) -> None:
    text = "Caller {{calling_name}}, {{header:X-A}} {{calling|somebody}} {{diverted_from}}."
    persona = personal(Flavor(name="f", persona=text), info_of(target, found, "DE")).persona
    outside = persona.removesuffix(NOTICE)
    assert outside.count(OPENED) == outside.count(CLOSED)
    assert not re.search("[<>]", re.sub(f"{OPENED}[^<>]*{CLOSED}", "", outside))


@given(st.text(max_size=40) | st.from_regex(r"\A[+0-9 ().-]{1,24}\Z"), regions)
def test_any_number(text: str, region: str | None) -> None:
    """A number in E.164 stays what it is, whatever the region."""
    number = e164(text, region)
    assert number == "" or e164(number) == number == e164(number, "US")
