"""RFC 5806: Diversion, from whom a call was diverted."""

from __future__ import annotations

import pytest

from connector.interfaces import Diversion
from connector.sip.identity import diversions
from connector.sip.message import parse_headers, parse_uri


def diverted(headers: str, region: str | None = None) -> list[Diversion]:
    return list(diversions(parse_headers(headers), parse_uri("sip:1000@192.0.2.1"), region))


def test_the_topmost_is_the_last_one() -> None:
    """Each diverting server adds its header on top, and one line may hold several."""
    assert diverted(
        'Diversion: "Carol" <sip:carol@example.com>;reason=user-busy;counter=1;privacy=full\n'
        'Diversion: "Bob, Sales" <sip:+49301111@x>;reason=no-answer;limit=5, <tel:+49-30-2222>;reason=time-of-day\n'
    ) == [
        Diversion("carol", "user-busy"),
        Diversion("+49301111", "no-answer"),
        Diversion("+49302222", "time-of-day"),
    ]


@pytest.mark.parametrize(
    "reason",
    [
        *("unknown", "user-busy", "no-answer", "unavailable", "unconditional", "time-of-day", "do-not-disturb"),
        *("deflection", "follow-me", "out-of-service", "away"),
    ],
)
def test_every_reason_quoted_or_not(reason: str) -> None:
    """A token or a quoted string; Asterisk quotes."""
    for written in (reason, f'"{reason}"', reason.upper()):
        assert diverted(f"Diversion: <sip:2001@pbx>;reason={written};counter=1") == [Diversion("2001", reason)]


def test_a_national_number() -> None:
    assert diverted("Diversion: <sip:030123456@trunk;user=phone>;reason=deflection", "DE") == [
        Diversion("+4930123456", "deflection")
    ]


def test_without_a_reason() -> None:
    assert diverted("Diversion: sip:2001@pbx\n") == [Diversion("2001", "")]


def test_a_number_that_comes_twice_is_one_diversion() -> None:
    assert diverted("Diversion: <sip:2001@a>;counter=1\nDiversion: <sip:2001@b>;reason=away") == [
        Diversion("2001", "away")
    ]


@pytest.mark.parametrize("value", ['"Bob <sip:2001@pbx>', "<sip:2001@pbx", "", ",,,", "<sip:@x>", "<urn:x:y>", "\x00"])
def test_what_cannot_be_read_is_as_good_as_absent(value: str) -> None:
    assert diverted(f"Diversion: {value}\nDiversion: <sip:2002@pbx>;reason=away\n") == [Diversion("2002", "away")]


def test_the_number_called_itself_is_no_diversion() -> None:
    """Twilio sends one with the trunk's own number on calls that nobody forwarded."""
    headers = parse_headers("Diversion: <sip:+14155550199@twilio.com>;reason=unconditional\n")
    assert diversions(headers, parse_uri("sip:+14155550199@192.0.2.1:5060")) == ()


def test_a_loop_of_diversions_is_cut() -> None:
    assert len(diverted("".join(f"Diversion: <sip:{2000 + n}@pbx>\n" for n in range(200)))) == 20
