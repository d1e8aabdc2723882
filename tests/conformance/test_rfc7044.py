"""RFC 7044 (and RFC 4244 before it): History-Info, the way of a request, and what of it is a redirection."""

from __future__ import annotations

import pytest

from connector.interfaces import Diversion
from connector.sip.identity import diversions
from connector.sip.message import parse_headers, parse_uri


def history(*entries: str, target: str = "sip:1000@192.0.2.1", more: str = "") -> list[Diversion]:
    headers = "".join(f"History-Info: {entry}\n" for entry in entries) + more
    return list(diversions(parse_headers(headers), parse_uri(target), "DE"))


def test_the_example_of_section_5() -> None:
    """UserA moved to UserB (`mp`); 45432 is where UserB is registered (`rc`), and no redirection."""
    assert history(
        "<sip:UserA@ims.example.com?Reason=SIP%3Bcause%3D302>;index=1.1,"
        "<sip:UserB@example.com?Privacy=history&Reason=SIP%3Bcause%3D486>;index=1.2;mp=1.1,"
        "<sip:45432@192.168.0.3>;index=1.3;rc=1.2"
    ) == [Diversion("UserA", "unconditional")]


def test_a_call_that_reached_nobody_and_went_to_voicemail() -> None:
    """Forked in sequence: Bob's phone, then Carol, then Bob's voicemail; each is mapped from Bob's own entry."""
    assert history(
        "<sip:bob@example.com>;index=1",
        "<sip:bob@192.0.2.5?Reason=SIP%3Bcause%3D408>;index=1.1;rc=1",
        "<sip:carol@example.com>;index=1.2;mp=1",
    ) == [Diversion("bob", "no-answer")]
    assert history(
        "<sip:bob@example.com>;index=1,<sip:bob@192.0.2.5>;index=1.1;rc=1",
        "<sip:vm@example.com;target=sip:bob%40example.com;cause=486>;index=1.2;mp=1",
    ) == [Diversion("bob", "user-busy")]


def test_two_redirections_the_last_one_first() -> None:
    assert history(
        "<sip:+4930111111@x>;index=1",
        "<sip:+4930222222@x;cause=486>;index=1.1;mp=1",
        "<sip:1000@x;cause=408>;index=1.1.1;mp=1.1",
    ) == [Diversion("+4930222222", "no-answer"), Diversion("+4930111111", "user-busy")]


def test_entries_out_of_order_are_put_in_the_order_of_the_tree() -> None:
    """Section 10.3: 1.10 comes after 1.9."""
    assert history(
        "<sip:1000@x;cause=302>;index=1.10;mp=1.9",
        "<sip:bob@x>;index=1",
        "<sip:carol@x;cause=486>;index=1.9;mp=1",
    ) == [Diversion("carol", "unconditional"), Diversion("bob", "user-busy")]


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        ("302", "unconditional"),
        ("404", "unknown"),
        ("408", "no-answer"),
        ("480", "deflection"),
        ("486", "user-busy"),
        ("487", "deflection"),
        ("503", "unavailable"),
        ("999", "unknown"),
    ],
)
def test_the_causes_of_rfc_4458(cause: str, reason: str) -> None:
    """As a URI parameter of the new target, without any mark (RFC 4244)."""
    assert history(f"<sip:2001@x>;index=1, <sip:1000@x;cause={cause}>;index=1.1") == [Diversion("2001", reason)]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("Reason=SIP%3Bcause%3D486%3Btext%3D%22Busy%20Here%22", "user-busy"),
        ("reason=SIP%20%3B%20cause%20%3D%20302", "unconditional"),
        ("Reason=Q.850%3Bcause%3D17", "user-busy"),
        ("Reason=Q.850%3Bcause%3D19&Reason=SIP%3Bcause%3D480", "no-answer"),
        ("Reason=SIP;cause=486", "user-busy"),  # not escaped, and sent
        ("Reason=Q.850%3Bcause%3D127", "unknown"),
    ],
)
def test_reasons_within_the_uri(header: str, reason: str) -> None:
    """RFC 3326, escaped as RFC 3261 section 19.1.1 has it."""
    assert history(f"<sip:2001@x?{header}>;index=1, <sip:1000@x>;index=1.1") == [Diversion("2001", reason)]


def test_teams_lists_those_who_diverted_and_not_the_target() -> None:
    """The form that Direct Routing documents: every entry has a reason, the target is in the request line alone."""
    entries = (
        "<sip:+493012345@sip.pstnhub.microsoft.com:5061;user=phone?Reason=SIP%3Bcause%3D302%3Btext%3D%22Moved"
        "%20temporarily%22>;index=1,\r\n  <sip:+493011357@sip.pstnhub.microsoft.com:5061;user=phone?Reason=SIP%3Bcause"
        "%3D496%3Btext%3D%22User%20Busy%22>;index=1.1"
    )
    assert history(entries, target="sip:+493099999@sbc.example") == [
        Diversion("+493011357", "unknown"),
        Diversion("+493012345", "unconditional"),
    ]


def test_the_contact_of_a_user_is_no_redirection() -> None:
    """Without a reason another user may be a registered contact; another number is another line."""
    assert history("<sip:bob@example.com>;index=1, <sip:line-7@192.0.2.4>;index=1.1") == []
    assert history("<sip:+4930111111@x>;index=1, <sip:030222222@x>;index=1.1") == [Diversion("+4930111111", "")]
    assert history("<sip:1000@x>;index=1, <sip:1000@192.0.2.4;cause=302>;index=1.1") == []


def test_who_is_anonymous_is_not_named() -> None:
    assert (
        history("<sip:anonymous@anonymous.invalid?Reason=SIP%3Bcause%3D302>;index=1, <sip:1000@x>;index=1.1;mp=1") == []
    )


def test_history_info_and_diversion_tell_the_same_once() -> None:
    """RFC 7544: what both have comes from History-Info; a reason that one of them lacks comes from the other."""
    assert history(
        "<sip:+4930111111@x>;index=1, <sip:030222222@x>;index=1.1",
        more="Diversion: <sip:030111111@x>;reason=user-busy\nDiversion: <sip:2001@pbx>;reason=away\n",
    ) == [Diversion("+4930111111", "user-busy"), Diversion("2001", "away")]


@pytest.mark.parametrize(
    "entry", ["", "<sip:bob@x", "<sip:bob@x>;index=1.x;mp=..", "<sip:bob@x>;index=;mp=1", "<sip:bob@x?Reason=%ZZ>"]
)
def test_broken_entries(entry: str) -> None:
    """They tell nothing, and hide nothing that others tell."""
    assert history(entry, more="Diversion: <sip:2001@pbx>;reason=away\n") == [Diversion("2001", "away")]
