"""How the service is set up: by flags, and by the environment where a flag is not given."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from flavors.engines.faster_whisper import FasterWhisperOptions
from whisper_service import __version__

PREFIX = "WHISPER_"
"""Of the environment's names: `--max-batch` is `WHISPER_MAX_BATCH`."""
_SECRETS = frozenset({"token"})
"""Told by the environment alone: the command line of a process is for everybody to read."""

_EPILOG = """\
exit status: 0 stopped by SIGTERM or SIGINT; 1 no model, no device or no port; 2 a setting is wrong.
WHISPER_TOKEN is the bearer token that clients must send; HF_TOKEN that of the Hugging Face hub."""


class Settings(BaseModel):
    """Each field is a flag and an environment variable; its docstring is the flag's help."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """IP address to listen on; others than loopback need WHISPER_TOKEN, or --open"""
    port: Annotated[int, Field(ge=0, le=65535)] = 8002
    """TCP port; 0 for any that is free"""
    token: SecretStr | None = None
    open: bool = False
    """answer whoever reaches the port, without a token"""
    model: Annotated[str, Field(min_length=1)] = "large-v3-turbo"
    """name that faster-whisper knows, repository of the Hugging Face hub, or folder"""
    models: Path = Path("models")
    """folder in which models are looked for"""
    download: bool = True
    """download the model where it is not in the cache"""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """auto, cuda or cpu"""
    compute_type: str = "default"
    """CTranslate2's quantisation: float16 or int8_float16 on a GPU, int8 on a CPU; default: as the model was saved"""
    cpu_threads: Annotated[int, Field(ge=0, le=64)] = 0
    """threads on a CPU; 0 for 4, or as many as there are cores"""
    language: str | None = None
    """language of requests that name none; without it, it is detected"""
    window_seconds: Annotated[float, Field(ge=2, le=30)] = 10.0
    """utterances are padded to at least this; less is faster and less exact"""
    max_batch: Annotated[int, Field(ge=1, le=64)] | None = None
    """utterances recognised together, at most; default 4 on a CPU, 32 on a GPU"""
    queue: Annotated[int, Field(ge=1)] = 128
    """requests in progress, at most; beyond it 503 and Retry-After"""
    upload_seconds: Annotated[float, Field(gt=0)] = 30.0
    """time that a request has to come in"""
    max_seconds: Annotated[float, Field(gt=0)] = 600.0
    """longest audio taken"""
    drain: Annotated[float, Field(ge=0)] = 10.0
    """seconds that requests have to end when the service is stopped"""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """debug, info, warning or error"""

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        try:
            loopback = ipaddress.ip_address(self.host).is_loopback
        except ValueError as error:
            raise ValueError(f"host should be an IP address, such as 127.0.0.1, not {self.host!r}") from error
        if not loopback and self.token is None and not self.open:
            raise ValueError(f"{self.host} is not loopback: set WHISPER_TOKEN, or --open behind a firewall")
        return self

    @property
    def engine(self) -> FasterWhisperOptions:
        """Options of the engine."""
        shared = FasterWhisperOptions.model_fields.keys() & type(self).model_fields.keys()
        return FasterWhisperOptions.model_validate(self.model_dump(include=shared))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="whisper-service",
        description="Whisper as an OpenAI-compatible transcription server: short windows, batched over all callers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=__version__)
    for name, field in Settings.model_fields.items():
        if name not in _SECRETS:
            default = "" if field.default is None else f", default {str(field.default).lower()}"
            text = f"{field.description} [{PREFIX}{name.upper()}{default}]"
            if field.annotation is bool:
                made.add_argument(_flag(name), action=argparse.BooleanOptionalAction, help=text)
            else:
                made.add_argument(_flag(name), metavar="X", help=text)
    return made


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings; exits with status 2 where one is wrong.

    An empty variable counts as absent, as compose files cannot leave one out.
    """
    command = parser()
    told: dict[str, object] = {name: environment.get(PREFIX + name.upper()) or None for name in Settings.model_fields}
    told |= {name: value for name, value in vars(command.parse_args(arguments)).items() if value is not None}
    try:
        return Settings.model_validate({name: value for name, value in told.items() if value is not None})
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
