"""RFC 3325 (asserted identity), RFC 3323 (privacy) and RFC 3966 (tel): who calls, as networks and PBXs say it."""

from __future__ import annotations

import pytest

from connector.config.model import IdentitySettings
from connector.interfaces import CallInfo
from connector.sip.identity import call_info, e164
from connector.sip.message import parse_headers

ANONYMOUS = 'From: "Anonymous" <sip:anonymous@anonymous.invalid>;tag=9802748\n'


def facts(
    headers: str, uri: str = "sip:1000@192.0.2.1", region: str | None = None, *, trusted: bool = True
) -> CallInfo:
    settings = IdentitySettings(region=region, trust_asserted=trusted)
    return call_info(
        request_uri=uri, headers=parse_headers(headers), call_id="c", peer="192.0.2.9:5060", settings=settings
    )


def test_the_identity_of_section_10_1_is_shown_to_the_network_that_vouches_for_it() -> None:
    """Anonymous to the callee, asserted within the trust domain."""
    info = facts(
        ANONYMOUS + 'P-Asserted-Identity: "Cullen Jennings" <sip:fluffy@cisco.com>\n'
        "P-Asserted-Identity: tel:+14085264000\nPrivacy: id\n"
    )
    assert (info.asserted, info.calling_number) == ("+14085264000", "+14085264000")
    assert info.calling_name == "Cullen Jennings"
    assert info.private
    assert info.calling == "anonymous"


def test_a_sip_and_a_tel_uri_in_one_line() -> None:
    """Section 9.1: two values at most, one of each scheme, in any order."""
    info = facts(
        "From: <sip:bob@pbx>;tag=1\nP-Asserted-Identity: <tel:+1-408-526-4000>, "
        '"Jennings, Cullen" <sip:fluffy@cisco.com>\n'
    )
    assert (info.asserted, info.calling_name, info.private) == ("+14085264000", "Jennings, Cullen", False)


def test_an_asserted_user_who_is_no_number() -> None:
    info = facts("From: <sip:+493011111@x>;tag=1\nP-Asserted-Identity: <sip:fluffy@cisco.com>\n")
    assert (info.asserted, info.calling_number) == ("fluffy", "+493011111")


def test_an_identity_that_is_not_to_be_believed() -> None:
    info = facts(
        'From: "Bob" <sip:+493011111@x>;tag=1\nP-Asserted-Identity: "Eve" <tel:+14085264000>\n'
        "Remote-Party-ID: <sip:+14085264001@x>;party=calling\n",
        trusted=False,
    )
    assert (info.asserted, info.calling_number, info.calling_name) == ("", "+493011111", "Bob")


def test_an_asserted_nobody() -> None:
    """What Asterisk sends for a caller whose presentation is prohibited."""
    info = facts(ANONYMOUS + 'P-Asserted-Identity: "Anonymous" <sip:anonymous@anonymous.invalid>\n')
    assert (info.asserted, info.calling_number, info.private) == ("", "", True)


@pytest.mark.parametrize(
    "headers",
    [
        ANONYMOUS,
        "From: <sip:Anonymous@10.0.0.1>;tag=1\n",
        "From: <sip:+4930123456@x>;tag=1\nPrivacy: id\n",
        "From: <sip:+4930123456@x>;tag=1\nPrivacy: header;user;critical\n",
        "From: <sip:+4930123456@x>;tag=1\nPrivacy: session\nPrivacy: ID\n",
        "From: <sip:+266696687@twilio>;tag=1\n",
        "From: <sip:restricted@gw>;tag=1\n",
        "From: <sip:+4930123456@x>;tag=1\nRemote-Party-ID: <sip:+4930123456@x>;party=calling;privacy=full\n",
    ],
)
def test_a_caller_who_asks_for_privacy(headers: str) -> None:
    assert facts(headers).private


@pytest.mark.parametrize(
    "headers",
    [
        "From: <sip:+4930123456@x>;tag=1\nPrivacy: none\n",
        "From: <sip:+4930123456@x>;tag=1\nPrivacy: session\n",
        "From: <sip:+4930123456@x>;tag=1\nRemote-Party-ID: <sip:1000@x>;party=called;privacy=full\n",
        "From: <sip:+4930123456@x>;tag=1\nRemote-Party-ID: <sip:+4930123456@x>;privacy=off;screen=no\n",
    ],
)
def test_a_caller_who_asks_for_none(headers: str) -> None:
    info = facts(headers)
    assert not info.private
    assert info.calling_number == "+4930123456"


# ------------------------------------------------------------------------------------ what peers really send


def test_twilio() -> None:
    """Elastic SIP Trunking: E.164 with a plus, in From, in the request URI and in P-Asserted-Identity."""
    info = facts(
        "From: <sip:+14155550100@example.pstn.twilio.com>;tag=71\nTo: <sip:+14155550199@192.0.2.1>\n"
        "P-Asserted-Identity: <sip:+14155550100@206.147.73.68:5060>\nX-Twilio-CallSid: CA1\n"
        'Diversion: "+14155550142" <sip:+14155550142@twilio.com>;reason=unconditional\n',
        "sip:+14155550199@192.0.2.1:5060;user=phone;edge=frankfurt",
    )
    assert (info.called_number, info.calling_number, info.asserted) == ("+14155550199", "+14155550100", "+14155550100")
    assert [(one.number, one.reason) for one in info.diversions] == [("+14155550142", "unconditional")]
    assert info.headers["X-Twilio-CallSid"] == "CA1"


def test_asterisk_with_an_extension_that_calls_an_extension() -> None:
    """chan_pjsip with send_rpid and send_pai: nothing of it is a telephone number."""
    info = facts(
        'From: "Ada" <sip:201@10.0.0.2>;tag=1\nP-Asserted-Identity: "Ada Lovelace" <sip:201@10.0.0.2>\n'
        'Remote-Party-ID: "Ada Lovelace" <sip:201@10.0.0.2>;party=calling;privacy=off;screen=no\n',
        "sip:1000@10.0.0.3:5060",
        "DE",
    )
    assert (info.called, info.called_number) == ("1000", "")
    assert (info.calling, info.calling_number, info.asserted) == ("201", "", "201")
    assert info.calling_name == "Ada Lovelace"


def test_cisco_with_remote_party_id_alone() -> None:
    """CUCM before it had P-Asserted-Identity: the caller's party counts, the called one does not."""
    info = facts(
        'From: <sip:5551000@10.1.1.1>;tag=1\nRemote-Party-ID: "Bob" <sip:5552000@10.1.1.1>;party=called;screen=yes\n'
        'Remote-Party-ID: "Ada" <sip:4155550100@10.1.1.1;x-cisco-number=1>;party=calling;screen=yes;privacy=off\n',
        "sip:914155550199@10.1.1.9",
        "US",
    )
    assert (info.asserted, info.calling_number, info.calling_name) == ("+14155550100", "+14155550100", "Ada")


def test_teams() -> None:
    """Direct Routing: the user and the number, in one P-Asserted-Identity line."""
    info = facts(
        'From: "Adele Vance" <sip:+14255550100@sip.pstnhub.microsoft.com:5061;user=phone>;tag=1\n'
        "P-ASSERTED-IDENTITY: <tel:+14255550100>,<sip:adele@contoso.example>\n"
        "PRIVACY: id\n",
        "sip:+4930123456@sbc.contoso.example:5061;user=phone;transport=tls",
    )
    assert (info.called_number, info.asserted, info.private) == ("+4930123456", "+14255550100", True)


def test_an_ims_trunk_with_phone_context() -> None:
    """RFC 3966 within a SIP URI, section 19.1.6 of RFC 3261."""
    info = facts(
        "From: <sip:030123456;phone-context=+49@ims.example;user=phone>;tag=1\n",
        "sip:+49-30-987654;npdi;rn=+4930000@ims.example;user=phone",
    )
    assert (info.calling, info.calling_number) == ("030123456", "+4930123456")
    assert (info.called, info.called_number) == ("+49-30-987654", "+4930987654")


# ------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize(
    ("uri", "region", "number"),
    [
        ("tel:+1-201-555-0123", None, "+12015550123"),  # RFC 3966 section 6
        ("tel:+358-555-1234567;postd=pp22", None, "+3585551234567"),
        ("tel:7042;phone-context=example.com", "US", ""),
        ("tel:863-1234;phone-context=+1-914-555", "US", ""),  # both together are too long for a number
        ("tel:457-9000;phone-context=+1-914", "DE", "+19144579000"),
        ("tel:030123456;phone-context=ims.example", "DE", "+4930123456"),
        ("sip:%2B4930123456@x", None, "+4930123456"),
        ("sip:alice@x;user=phone", "DE", ""),
        ("sip:x@y", None, ""),
        ("sip:192.0.2.1", None, ""),
        ("urn:service:sos", "DE", ""),
        ("nonsense", "DE", ""),
        ("", None, ""),
    ],
)
def test_the_number_of_a_uri(uri: str, region: str | None, number: str) -> None:
    assert facts("From: <sip:a@b>;tag=1\n", uri, region).called_number == number


@pytest.mark.parametrize(
    ("written", "region", "number"),
    [
        ("+4930123456", None, "+4930123456"),
        ("+49 (0)30 / 123456", None, ""),
        ("+49 (0)30 123-456", None, "+4930123456"),
        ("+49.30.123456", "US", "+4930123456"),
        ("004930123456", None, "+4930123456"),
        ("004930123456", "DE", "+4930123456"),
        ("0114930123456", "US", "+4930123456"),
        ("0114930123456", None, ""),
        ("030123456", "DE", "+4930123456"),
        ("030123456", None, ""),
        ("30123456", "DE", ""),
        ("4930123456", "DE", "+4930123456"),
        ("2025550123", "US", "+12025550123"),
        ("12025550123", "US", "+12025550123"),
        ("612345678", "ES", "+34612345678"),
        ("0612345678", "IT", "+390612345678"),
        ("+15551234567", None, "+15551234567"),
        ("+999123456789", None, ""),
        ("+49", None, ""),
        ("+" + "1" * 40, None, ""),
        ("1000", "DE", ""),
        ("01000", "DE", ""),
        ("4911", "DE", ""),
        ("112", "DE", ""),
        ("+112", None, ""),
        ("110", "DE", ""),
        ("911", "US", ""),
        ("*21#", "DE", ""),
        ("echo", "DE", ""),
        ("0049", "DE", ""),
        ("٠٣٠١٢٣٤٥٦", "DE", ""),
        ("+86282452253", None, ""),
        ("", "DE", ""),
    ],
)
def test_e164(written: str, region: str | None, number: str) -> None:
    """What is a telephone number for certain, and nothing else."""
    assert e164(written, region) == number
