"""How the service is set up: by flags, and by the environment where a flag is not given."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from chatterbox_service import __version__

PREFIX = "CHATTERBOX_"
"""Of the environment's names: `--log-text` is `CHATTERBOX_LOG_TEXT`."""
_SECRETS = frozenset({"token"})
"""Told by the environment alone: the command line of a process is for everybody to read."""

_EPILOG = """\
exit status: 0 stopped by SIGTERM or SIGINT; 1 no model, no device or no port; 2 a setting is wrong.
CHATTERBOX_TOKEN is the bearer token that clients must send; HF_TOKEN that of the Hugging Face hub."""


class Settings(BaseModel):
    """Each field is a flag and an environment variable; its docstring is the flag's help."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """IP address to listen on; others than loopback need CHATTERBOX_TOKEN, or --open"""
    port: Annotated[int, Field(ge=0, le=65535)] = 8001
    """TCP port; 0 for any that is free"""
    token: SecretStr | None = None
    open: bool = False
    """answer whoever reaches the port, without a token"""
    model: Literal["turbo", "standard", "multilingual"] = "turbo"
    """turbo, standard or multilingual"""
    folder: Path | None = None
    """folder with the model's files; without it they are downloaded to the Hugging Face cache, once"""
    download: bool = True
    """download the model where it is not in the cache"""
    device: Literal["auto", "cuda", "rocm", "mps", "cpu"] = "auto"
    """auto, cuda, rocm, mps or cpu"""
    attention: Literal["cells", "full"] = "cells"
    """cells: streamed speech is the same as unstreamed; full: a chunk attends to all that is known when it is made"""
    voices: Path = Path("voices")
    """folder of cloned voices, a WAV file each"""
    streams: Annotated[int, Field(ge=1)] | None = None
    """streams at once; without it, as many as are measured at the start to stay faster than real time"""
    queue: Annotated[int, Field(ge=0)] = 16
    """requests that may wait for a stream to end"""
    wait: Annotated[float, Field(ge=0, le=60)] = 1.0
    """seconds that they may wait; then 503 and Retry-After"""
    stall: Annotated[float, Field(gt=0)] = 30.0
    """seconds after which a client that takes nothing has gone"""
    drain: Annotated[float, Field(ge=0)] = 30.0
    """seconds that streams have to end when the service is stopped"""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """debug, info, warning or error"""
    log_text: bool = False
    """log the texts that are spoken"""

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        try:
            loopback = ipaddress.ip_address(self.host).is_loopback
        except ValueError as error:
            raise ValueError(f"host should be an IP address, such as 127.0.0.1, not {self.host!r}") from error
        if not loopback and self.token is None and not self.open:
            raise ValueError(f"{self.host} is not loopback: set CHATTERBOX_TOKEN, or --open behind a firewall")
        return self


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="chatterbox-service",
        description="Chatterbox as an OpenAI-compatible speech server: streaming, batched over all callers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=__version__)
    made.add_argument("--fetch", action="store_true", help="download the model's files and end")
    for name, field in Settings.model_fields.items():
        if name not in _SECRETS:
            default = "" if field.default is None else f", default {str(field.default).lower()}"
            text = f"{field.description} [{PREFIX}{name.upper()}{default}]"
            if field.annotation is bool:
                made.add_argument(_flag(name), action=argparse.BooleanOptionalAction, help=text)
            else:
                made.add_argument(_flag(name), metavar="X", help=text)
    return made


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[Settings, bool]:
    """The settings, and whether only to fetch the model; exits with status 2 where something is wrong.

    An empty variable counts as absent, as compose files cannot leave one out.
    """
    command = parser()
    given = vars(command.parse_args(arguments))
    fetch = given.pop("fetch")
    told = {name: environment.get(PREFIX + name.upper()) or None for name in Settings.model_fields}
    told |= {name: value for name, value in given.items() if value is not None}
    try:
        return Settings.model_validate({name: value for name, value in told.items() if value is not None}), fetch
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)
        command.error("; ".join(_explained(one["loc"], one["msg"]) for one in wrong))


def _explained(location: tuple[int | str, ...], message: str) -> str:
    reason = message.removeprefix("Value error, ")
    if not location:
        return reason
    name = str(location[0])
    return f"{_flag(name)} ({PREFIX}{name.upper()}): {reason}"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
