"""RFC 3261 sections 7, 8.2.6, 18.3, 20, and the torture tests of RFC 4475 that concern a user agent."""

from __future__ import annotations

import pytest

from connector.errors import BadRequest
from connector.sip.message import (
    BadMessage,
    Request,
    Response,
    encode,
    from_tag,
    parse,
    parse_name_addr,
    parse_parameters,
    parse_uri,
    respond,
    split_list,
    to_tag,
    tokens,
    top_via,
)

MINIMAL = (
    "OPTIONS sip:1000@pbx1 SIP/2.0\r\nVia: SIP/2.0/UDP phone_2:5062;branch=z9hG4bKx\r\n"
    "From: <sip:200@phone_2>;tag=f\r\nTo: <sip:1000@pbx1>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n"
)


def message(*lines: str, body: str = "", start: str = MINIMAL) -> bytes:
    return (start + "".join(f"{line}\r\n" for line in lines) + "\r\n" + body).encode()


# ---------------------------------------------------------------- accepted


def test_wsinv_a_short_tortuous_invite() -> None:
    """RFC 4475 section 3.1.1.1."""
    data = (
        "INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0\r\n"
        "TO :\r\n sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n\r\n"
        'from   : "J Rosenberg \\\\\\""       <sip:jdrosen@example.com>\r\n  ;\r\n  tag = 98asjd8\r\n'
        "MaX-fOrWaRdS: 0068\r\nCall-ID: wsinv.ndaksdj@192.0.2.1\r\nContent-Length   : 150\r\n"
        "cseq: 0009\r\n  INVITE\r\n"
        "Via  : SIP  /   2.0\r\n /UDP\r\n    192.0.2.2;branch=390skdjuw\r\n"
        "s :\r\nNewFangledHeader:   newfangled value\r\n continued newfangled value\r\n"
        "UnknownHeaderWithUnusualValue: ;;,,;;,;\r\nContent-Type: application/sdp\r\n"
        "Route:\r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\r\n"
        "v:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ,\r\n"
        " SIP  /    2.0   / UDP  192.168.255.111   ; branch=\r\n z9hG4bK30239\r\n"
        'm:"Quoted string \\"\\"" <sip:jdrosen@example.com> ; newparam =\r\n      newvalue ;\r\n'
        "  secondparam ; q = 0.33\r\n\r\n" + "v" * 150
    )
    parsed = parse(data.encode())
    assert isinstance(parsed, Request)
    assert (to_tag(parsed), from_tag(parsed)) == ("1918181833n", "98asjd8")
    assert parse_name_addr(parsed.headers["From"]).name == 'J Rosenberg \\"'
    assert parsed.cseq.sequence == 9
    assert len(parsed.headers.getlist("Via")) == 3
    assert top_via(parsed).branch == "390skdjuw"
    assert parsed.headers["Subject"] == ""
    assert parsed.headers["NewFangledHeader"] == "newfangled value continued newfangled value"


def test_intmeth_wide_range_of_valid_characters() -> None:
    """RFC 4475 section 3.1.1.2."""
    method = "!interesting-Method0123456789_*+`.%indeed'~"
    uri = "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com"
    data = (
        f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP host1.example.com;branch=z9hG4bK-.!%66*_+`'~\r\n"
        'To: "BEL:\x07 NUL:\\\x00 DEL:\x7f" <sip:1_unusual.URI~(to-be!sure)&isn\'t+it$/crazy?,/;;*@example.com>\r\n'
        "From: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>;fromParam''~+*_!.-%=\"work\""
        ";tag=_token~1'+`*%!-.\r\nCall-ID: intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{\r\n"
        f"CSeq: 139122385 {method}\r\nMax-Forwards: 255\r\n\r\n"
    )
    parsed = parse(data.encode())
    assert isinstance(parsed, Request)
    assert parsed.method == method
    assert str(parsed.uri) == uri
    assert from_tag(parsed) == "_token~1'+`*%!-."


@pytest.mark.parametrize(
    ("uri", "user", "host", "port"),
    [
        ("sip:1000@pbx1", "1000", "pbx1", None),
        ("sip:1000@my_pbx:5070", "1000", "my_pbx", 5070),
        ("sip:1000@[2001:db8::1]:5060;transport=udp", "1000", "[2001:db8::1]", 5060),
        ("SIP:+49891234@10.0.0.1", "+49891234", "10.0.0.1", None),
        ("sip:*100%23@10.0.0.1", "*100#", "10.0.0.1", None),
        ("sip:user;par=u%40example.net@example.com", "user;par=u@example.net", "example.com", None),
        ("sip:alice:secret@example.com", "alice", "example.com", None),
        ("sip:example.com", None, "example.com", None),
        ("sip:a@example.com?Replaces=x%40y", "a", "example.com", None),
        ("tel:+1-201-555-0123;phone-context=x", "+1-201-555-0123", "", None),
    ],
)
def test_uris_of_phones_are_read_and_print_as_they_came(
    uri: str, user: str | None, host: str, port: int | None
) -> None:
    parsed = parse_uri(uri)
    assert (parsed.user, parsed.host, parsed.port) == (user, host, port)
    assert str(parsed) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "1000",
        "sip:",
        "sip:@host",
        "sip:a@",
        "sip:a@b:0",
        "sip:a@b:70000",
        "sip:a b@c",
        "<sip:a@b>",
        "tel:",
        "tel:a@b",
    ],
)
def test_what_is_no_uri_is_refused(uri: str) -> None:
    with pytest.raises(BadRequest):
        parse_uri(uri)


def test_compact_forms_and_multiple_values() -> None:
    data = (
        "INVITE sip:1000@h SIP/2.0\r\nv: SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/UDP b;branch=z9hG4bK2\r\n"
        "v: SIP/2.0/UDP c;branch=z9hG4bK3\r\nf: <sip:a@a>;tag=1\r\nt: <sip:b@b>\r\ni: x\r\nCSeq: 1 INVITE\r\n"
        "m: <sip:a@a>\r\nk: timer, replaces\r\nk: 100rel\r\nl: 0\r\n\r\n"
    )
    parsed = parse(data.encode())
    assert parsed.headers.getlist("Via") == [
        f"SIP/2.0/UDP {h};branch=z9hG4bK{n}" for h, n in zip("abc", "123", strict=True)
    ]
    assert tokens(parsed, "Supported") == ["timer", "replaces", "100rel"]
    assert parsed.call_id == "x"


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_line_ends_and_leading_blank_lines(ending: str) -> None:
    data = (ending * 2).encode() + message().replace(b"\r\n", ending.encode())
    assert isinstance(parse(data), Request)


def test_bytes_that_are_not_utf8_come_back_as_they_were() -> None:
    name = b'From: "J\xf6rg" <sip:200@a>;tag=f\r\n'
    parsed = parse(message().replace(b"From: <sip:200@phone_2>;tag=f\r\n", name))
    assert isinstance(parsed, Request)
    assert name in encode(respond(parsed, 200, to_tag="t"))


def test_a_body_is_cut_to_content_length() -> None:
    assert parse(message("Content-Length: 4", body="bodyTRAILING")).body == b"body"


def test_without_content_length_the_body_is_the_rest_of_the_datagram() -> None:
    assert parse(message(body="body")).body == b"body"


def test_noreason_a_response_without_a_phrase() -> None:
    """RFC 4475 section 3.1.1.13."""
    parsed = parse(message(start=MINIMAL.replace("OPTIONS sip:1000@pbx1 SIP/2.0", "SIP/2.0 100 ")))
    assert isinstance(parsed, Response)
    assert (parsed.code, parsed.phrase) == (100, "")


def test_lists_are_split_outside_of_quotes_and_brackets() -> None:
    assert split_list('"a, b" <sip:x@y;p=1,2>;q=1, <sip:z@y>,, c') == ['"a, b" <sip:x@y;p=1,2>;q=1', "<sip:z@y>", "c"]
    assert parse_parameters(';a="x;y, \\"z\\"";B;c=d') == {"a": 'x;y, "z"', "b": None, "c": "d"}


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("lines", "removed"),
    [
        (["Content-Length: 10"], ""),
        (["Content-Length: -999"], ""),
        (["Content-Length: 1", "Content-Length: 2"], ""),
        (["CSeq: 36893488147419103232 OPTIONS"], "CSeq: 1 OPTIONS\r\n"),
        (["CSeq: 1 INVITE"], "CSeq: 1 OPTIONS\r\n"),
        (["CSeq: one OPTIONS"], "CSeq: 1 OPTIONS\r\n"),
        (["To: <sip:1000@pbx1"], "To: <sip:1000@pbx1>\r\n"),
        (['To: "Mr. J. User <sip:j.user@example.com>'], "To: <sip:1000@pbx1>\r\n"),
        (["Call-ID: second"], ""),
        (["Max-Forwards: many"], ""),
        (["Contact: <>"], ""),
        (["a line without a colon"], ""),
        (["Record-Route: <sip:h"], ""),
    ],
    ids=str,
)
def test_a_broken_request_is_answered_400(lines: list[str], removed: str) -> None:
    """RFC 4475 sections 3.1.2 (clerr, ncl, scalar02, quotbal, mismatch01) and 3.3 (multi01)."""
    with pytest.raises(BadMessage) as caught:
        parse(message(*lines, start=MINIMAL.replace(removed, "")))
    response = caught.value.response
    assert response is not None
    assert response.code == 400
    assert response.headers["Call-ID"] == "c"


@pytest.mark.parametrize("target", ["<sip:user@example.com>", "sip:user@example.com; lr", "sip:a@b c", "unreadable"])
def test_ltgtruri_lwsruri_an_unreadable_request_uri_is_answered_400(target: str) -> None:
    """RFC 4475 sections 3.1.2.7 and 3.1.2.8."""
    with pytest.raises(BadMessage) as caught:
        parse(message(start=MINIMAL.replace("sip:1000@pbx1 SIP", f"{target} SIP")))
    assert caught.value.response is not None


def test_badvers_an_unknown_version_is_answered_505() -> None:
    """RFC 4475 section 3.1.2.16."""
    with pytest.raises(BadMessage) as caught:
        parse(message(start=MINIMAL.replace("SIP/2.0\r\nVia", "SIP/7.0\r\nVia")))
    assert caught.value.response is not None
    assert caught.value.response.code == 505


@pytest.mark.parametrize("smuggled", ["\r", "\rVia: SIP/2.0/UDP x;branch=z9hG4bKy\r"])
def test_what_others_take_for_a_line_end_is_refused_without_an_answer(smuggled: str) -> None:
    """An answer would send it on in the headers that it copies."""
    with pytest.raises(BadMessage) as refused:
        parse(message(f"Subject: a{smuggled}b"))
    assert refused.value.response is None


@pytest.mark.parametrize("removed", ["Via: SIP/2.0/UDP phone_2:5062;branch=z9hG4bKx", "Call-ID: c", "CSeq: 1 OPTIONS"])
def test_what_cannot_be_answered_is_dropped(removed: str) -> None:
    with pytest.raises(BadMessage) as caught:
        parse(message(start=MINIMAL.replace(removed + "\r\n", "")))
    assert caught.value.response is None


@pytest.mark.parametrize(
    "data",
    [b"", b"\r\n\r\n", b"hello", b"GET / HTTP/1.1\r\n\r\n", b"SIP/2.0 4294967301 better not\r\n\r\n", b"\x80\x00" * 40],
)
def test_what_is_no_sip_is_dropped(data: bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        parse(data)
    assert caught.value.response is None


def test_an_ack_is_never_answered_and_neither_is_a_response() -> None:
    for start in ("ACK sip:1000@pbx1 SIP/2.0", "SIP/2.0 200 OK"):
        with pytest.raises(BadMessage) as caught:
            parse(message("Content-Length: 10", start=MINIMAL.replace("OPTIONS sip:1000@pbx1 SIP/2.0", start)))
        assert caught.value.response is None


def test_a_flood_of_header_lines_is_refused_quickly() -> None:
    with pytest.raises(BadMessage):
        parse(message(*(f"x{n}: 1" for n in range(9000))))


def test_hostile_credentials_and_addresses_are_read_in_linear_time() -> None:
    """Patterns with two ways to match a quote would need longer than the universe."""
    nasty = "a=" + '"b",a=' * 3000 + "!"
    parsed = parse(message(f"Authorization: Digest {nasty}", 'X: ""' * 3000))
    assert isinstance(parsed, Request)
    with pytest.raises(BadMessage):
        parse(message("Contact: " + '"' * 20001))


# ---------------------------------------------------------------- responses


def test_a_response_copies_what_section_8_2_6_2_says() -> None:
    parsed = parse(
        message(
            "Via: SIP/2.0/UDP second;branch=z9hG4bKy",
            "Record-Route: <sip:p1;lr>, <sip:p2;lr>",
            "Timestamp: 54",
            "Subject: not copied",
        )
    )
    assert isinstance(parsed, Request)
    ok = parse(encode(respond(parsed, 200, to_tag="tt")))
    assert ok.headers.getlist("Via") == parsed.headers.getlist("Via")
    assert ok.headers.getlist("Record-Route") == ["<sip:p1;lr>", "<sip:p2;lr>"]
    assert (ok.headers["From"], ok.headers["To"]) == ("<sip:200@phone_2>;tag=f", "<sip:1000@pbx1>;tag=tt")
    assert ok.headers.get("Subject") is None
    trying = respond(parsed, 100, to_tag="tt")
    assert trying.headers["To"] == "<sip:1000@pbx1>"
    assert trying.headers["Timestamp"] == "54"
    assert respond(parsed, 404, to_tag="tt").headers.get("Record-Route") is None


@pytest.mark.parametrize("to", ["sip:1000@pbx1", "<sip:1000@pbx1>", '"A" <sip:1000@pbx1;x=y>;p'])
def test_the_to_tag_is_found_again_whatever_the_form_of_to(to: str) -> None:
    parsed = parse(message(f"To: {to}", start=MINIMAL.replace("To: <sip:1000@pbx1>\r\n", "")))
    assert isinstance(parsed, Request)
    assert to_tag(parse(encode(respond(parsed, 200, to_tag="tt")))) == "tt"


def test_a_tag_that_is_there_stays() -> None:
    parsed = parse(message(start=MINIMAL.replace("<sip:1000@pbx1>\r\n", "<sip:1000@pbx1>;tag=a+b%20~\r\n")))
    assert isinstance(parsed, Request)
    assert respond(parsed, 200, to_tag="tt").headers["To"] == "<sip:1000@pbx1>;tag=a+b%20~"
