"""RFC 7616 and RFC 8760: digest authentication, both sides."""

from __future__ import annotations

import itertools

import pytest

from connector.errors import BadRequest, Unauthorized
from connector.sip.digest import (
    NONCE_SECONDS,
    DigestClient,
    DigestServer,
    NoChallenge,
    Stale,
    parse_digest,
    response_value,
)

URI = "sip:1000@pbx"
PASSWORD = "zanzibar"


def server(**users: str) -> DigestServer:
    return DigestServer("voxtrunk", users or {"bob": "zanzibar"}, b"secret")


def client(name: str = "bob", password: str = PASSWORD) -> DigestClient:
    numbers = itertools.count()
    return DigestClient(name, password, lambda: f"cnonce{next(numbers)}")


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_section_3_9_1(algorithm: str, expected: str) -> None:
    assert (
        response_value(
            algorithm,
            username="Mufasa",
            realm="http-auth@example.org",
            password="Circle of Life",
            method="GET",
            uri="/dir/index.html",
            nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            nc="00000001",
            cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            qop="auth",
        )
        == expected
    )


def test_the_example_of_rfc_2617_without_qop_is_that_of_rfc_2069() -> None:
    value = response_value(
        "MD5",
        username="Mufasa",
        realm="testrealm@host.com",
        password="CircleOfLife",
        method="GET",
        uri="/dir/index.html",
        nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
    )
    assert value == "1949323746fe6a43ef61f9606e7febea"


def test_both_algorithms_are_offered_and_the_stronger_one_is_taken_wherever_it_stands() -> None:
    challenges = server().challenges(0.0)
    assert [parse_digest(c)["algorithm"] for c in challenges] == ["MD5", "SHA-256"]
    assert "algorithm=SHA-256" in client().authorize("INVITE", URI, challenges)
    assert "algorithm=SHA-256" in client().authorize("INVITE", URI, challenges[::-1])


@pytest.mark.parametrize("algorithm", [0, 1])
def test_right_credentials_are_accepted(algorithm: int) -> None:
    proof = server()
    value = client().authorize("INVITE", URI, [proof.challenges(1000.0)[algorithm]])
    assert proof.verify("INVITE", [value], 1001.0) == "bob"


@pytest.mark.parametrize(
    ("name", "password", "method", "realm"),
    [
        ("bob", "wrong", "INVITE", "voxtrunk"),
        ("mallory", "zanzibar", "INVITE", "voxtrunk"),
        ("mallory", "", "INVITE", "voxtrunk"),
        ("bob", "zanzibar", "BYE", "voxtrunk"),
        ("bob", "zanzibar", "INVITE", "elsewhere"),
    ],
)
def test_wrong_credentials_are_refused_and_not_called_stale(name: str, password: str, method: str, realm: str) -> None:
    proof = server()
    challenges = [c.replace("voxtrunk", realm) for c in proof.challenges(0.0)]
    value = client(name, password).authorize("INVITE", URI, challenges)
    with pytest.raises(Unauthorized) as caught:
        proof.verify(method, [value], 1.0)
    assert not isinstance(caught.value, Stale)


def test_no_credentials_are_refused() -> None:
    with pytest.raises(Unauthorized):
        server().verify("INVITE", [], 0.0)


def test_an_old_nonce_is_stale_and_the_challenge_says_so() -> None:
    proof = server()
    value = client().authorize("INVITE", URI, proof.challenges(0.0))
    with pytest.raises(Stale):
        proof.verify("INVITE", [value], NONCE_SECONDS + 1)
    assert parse_digest(proof.challenges(0.0, stale=True)[0])["stale"] == "true"
    assert "stale" not in parse_digest(proof.challenges(0.0)[0])


def test_a_nonce_of_somebody_else_is_stale() -> None:
    value = client().authorize("INVITE", URI, DigestServer("voxtrunk", {}, b"other").challenges(0.0))
    with pytest.raises(Stale):
        server().verify("INVITE", [value], 1.0)


def test_a_replay_is_stale_and_a_higher_count_is_not() -> None:
    proof, phone = server(), client()
    challenges = proof.challenges(0.0)
    first, second = (phone.authorize("INVITE", URI, challenges) for _ in range(2))
    proof.verify("INVITE", [first], 1.0)
    with pytest.raises(Stale):
        proof.verify("INVITE", [first], 2.0)
    assert proof.verify("INVITE", [second], 3.0) == "bob"


def test_old_nonces_are_forgotten() -> None:
    proof = server()
    for second in range(0, 5000, 100):
        proof.verify("INVITE", [client().authorize("INVITE", URI, proof.challenges(second))], second + 1)
    assert len(proof._counts) <= NONCE_SECONDS / 100 + 1


@pytest.mark.parametrize("uri", ["sip:pbx:5060", "sip:1000@pbx;transport=udp"])
def test_clients_that_write_another_uri_than_they_call_are_let_in(uri: str) -> None:
    proof = server()
    value = client().authorize("INVITE", uri, proof.challenges(0.0))
    assert proof.verify("INVITE", [value], 1.0) == "bob"


def test_the_client_understands_what_other_servers_send() -> None:
    asterisk = 'Digest  realm="asterisk",nonce="1700/ab,c=",opaque="0f",algorithm=MD5,qop="auth"'
    both = 'Digest realm="a \\"b\\"", nonce="n", qop="auth,auth-int"'
    bare = 'Digest realm="old", nonce="n"'
    assert parse_digest(client().authorize("INVITE", URI, [asterisk]))["nonce"] == "1700/ab,c="
    assert parse_digest(client().authorize("INVITE", URI, [asterisk]))["opaque"] == "0f"
    assert parse_digest(client().authorize("INVITE", URI, [both]))["realm"] == 'a "b"'
    assert "qop" not in parse_digest(client().authorize("INVITE", URI, [bare]))


def test_the_client_counts_up_for_each_use_of_a_nonce() -> None:
    phone, challenges = client(), server().challenges(0.0)
    assert [parse_digest(phone.authorize("INVITE", URI, challenges))["nc"] for _ in range(3)] == [
        "00000001",
        "00000002",
        "00000003",
    ]


@pytest.mark.parametrize(
    "challenge", ["Basic realm=x", 'Digest realm="x", nonce="n", algorithm=SHA-512', "", "Digest ,,"]
)
def test_a_challenge_that_we_cannot_answer_is_named(challenge: str) -> None:
    with pytest.raises(NoChallenge):
        client().authorize("INVITE", URI, [challenge])


@pytest.mark.parametrize("value", ['Digest a="b', "Digest a", "Digest a=b c=d", "Digest =x", 'Digest a="b" "c"'])
def test_unreadable_credentials_are_a_bad_request(value: str) -> None:
    with pytest.raises(BadRequest):
        parse_digest(value)
