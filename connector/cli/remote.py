"""A running connector, by its HTTP address."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, SecretStr, ValidationError

from connector.api import CallList, CallSummary, Readiness, RecordingState, RunningCall
from connector.errors import ConnectorRefused, ConnectorUnreachable, RecordError
from connector.record import CallRecord

Model = TypeVar("Model", bound=BaseModel)

TIMEOUT = 5.0
"""Seconds without an answer."""

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - whoever listens there is on loopback, too
"""Where to ask somebody who listens on all addresses."""


class Remote:
    """The connector that listens on `listen` (ADDRESS:PORT). Blocking; environment variables for proxies are ignored.

    Every method raises `ConnectorUnreachable` where nothing answers there, `ConnectorRefused` where
    something else than voxtrunk does, or the token is wrong.
    """

    def __init__(self, listen: str, token: SecretStr | None) -> None:
        host, _, port = listen.rpartition(":")
        self.address = f"{EVERYWHERE.get(host, host)}:{port}"
        """ADDRESS:PORT that is asked."""
        self._headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}

    def calls(self) -> list[CallSummary]:
        """The calls in progress, oldest first."""
        return self._model(CallList, *self._ask("GET", "/v1/calls")).calls

    def call(self, call_id: str) -> RunningCall | CallRecord | None:
        """The call, its record where it is over, None where there is neither."""
        status, answer = self._ask("GET", _path(call_id))
        if status == 404:
            return None
        if isinstance(answer, dict) and "state" in answer:
            return self._model(RunningCall, status, answer)
        return self._model(CallRecord, status, answer)

    def hang_up(self, call_id: str) -> bool:
        """Hangs up; False where the call is over."""
        status, answer = self._ask("DELETE", _path(call_id))
        if status not in (404, 409):
            self._checked(status, answer)
        return status == 202

    def pause_recording(self, call_id: str, *, paused: bool) -> RecordingState:
        """Pauses the recording, or resumes it where `paused` is False.

        Raises `RecordError` where there is none: the call is over, or not answered yet.
        """
        status, answer = self._ask("POST", f"{_path(call_id)}/recording/{'pause' if paused else 'resume'}")
        if status in (404, 409) and isinstance(answer, dict):
            raise RecordError(str(answer.get("error")))
        return self._model(RecordingState, status, answer)

    def readiness(self) -> Readiness:
        """Whether it takes calls, and why not."""
        status, answer = self._ask("GET", "/readyz")
        unready = status == 503 and isinstance(answer, dict) and "ready" in answer
        return self._model(Readiness, 200 if unready else status, answer)

    def _ask(self, method: str, path: str) -> tuple[int, Any]:
        connection = HTTPConnection(self.address, timeout=TIMEOUT)
        try:
            connection.request(method, path, headers=self._headers)
            response = connection.getresponse()
            return response.status, _json(response.read)
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            raise ConnectorUnreachable(
                f"no connector answers at http://{self.address} ({reason}): is `voxtrunk serve` running,"
                " and with this configuration (http.listen)?"
            ) from error
        except HTTPException as error:
            raise ConnectorRefused(f"http://{self.address} is no connector: {error!r}") from error
        finally:
            connection.close()

    def _model(self, model: type[Model], status: int, answer: Any) -> Model:
        try:
            return model.model_validate(self._checked(status, answer))
        except ValidationError as error:
            raise ConnectorRefused(f"http://{self.address} is no connector, or one of another version") from error

    def _checked(self, status: int, answer: Any) -> Any:
        if 200 <= status < 300 and answer is not None:
            return answer
        reason = answer.get("error") if isinstance(answer, dict) else None
        hint = "; http.token must be the one that it was started with" if status == 401 else ""
        raise ConnectorRefused(f"http://{self.address} answers {status}: {reason or 'it is no connector'}{hint}")


def _path(call_id: str) -> str:
    return f"/v1/calls/{quote(call_id, safe='')}"


def _json(read: Callable[[], bytes]) -> Any | None:
    try:
        return json.loads(read())
    except ValueError:
        return None
