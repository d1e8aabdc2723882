"""Who may ask an HTTP server of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request
from pydantic import SecretStr

from connector.api import access

COPY = Path(__file__).parents[2] / "flavors/services/chatterbox/chatterbox_service/access.py"
TOKEN = SecretStr("s3cret")


def test_the_speech_server_lets_in_whom_the_connector_lets_in() -> None:
    assert COPY.read_text() == Path(access.__file__).read_text()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer s3cret"}, None),
        ({"Authorization": "bearer  s3cret "}, None),
        ({"Authorization": "Bearer s3cret", "Host": "any.example"}, None),
        ({"Authorization": "Bearer s3cre"}, 401),
        ({"Authorization": "Bearer s3crét"}, 401),
        ({"Authorization": "Basic s3cret"}, 401),
        ({"Authorization": "s3cret"}, 401),
        ({}, 401),
    ],
)
def test_with_a_token_whoever_sends_it(headers: dict[str, str], status: int | None) -> None:
    request = make_mocked_request("POST", "/v1", headers=headers)
    refused = access.refusal(request, TOKEN, setting="http.token")
    assert (refused and refused.status) == status


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("192.0.2.1", True),
        ("LocalHost:8080", True),
        ("evil.example", False),
        ("localhost.evil.example:8080", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_without_a_token_who_asks_an_address(host: str, answered: bool) -> None:
    request = make_mocked_request("GET", "/v1", headers={"Host": host})
    refused = access.refusal(request, None, setting="http.token")
    assert (refused is None) is answered
    assert refused is None or refused.message.endswith("where http.token is set")
    assert access.refusal(request, None, setting="http.token", open_to_all=True) is None


@pytest.mark.parametrize(
    ("headers", "answered"),
    [
        ({}, True),
        ({"Origin": "http://localhost:8080"}, True),
        ({"Origin": "http://localhost:8080", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
    ],
)
def test_no_page_of_another_origin_changes_anything(headers: dict[str, str], answered: bool) -> None:
    for method in ("POST", "DELETE", "PUT"):
        request = make_mocked_request(method, "/v1", headers={"Host": "localhost:8080", **headers})
        assert (access.refusal(request, None, setting="http.token", open_to_all=True) is None) is answered
    reading = make_mocked_request("GET", "/v1", headers={"Host": "localhost:8080", **headers})
    assert access.refusal(reading, None, setting="http.token") is None
