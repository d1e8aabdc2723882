"""Engines that exist for configuration alone: their options are of every kind, and none of them computes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from connector.config import EngineCatalog, Settings, Surroundings, parse
from connector.config.engines import BrokenEngine
from connector.interfaces import Engine, EngineContext, EngineDescriptor, EngineKind, EngineOptions


class EarOptions(EngineOptions):
    """None."""


class ScribeOptions(EngineOptions):
    """A recogniser's."""

    model: str = "small"
    beam: Annotated[int, Field(ge=1, le=5)] = 1


class Tool(BaseModel):
    """Something the model may do."""

    model_config = ConfigDict(extra="forbid")

    url: str
    timeout: Annotated[float, Field(gt=0)] = 2.0


class MindOptions(EngineOptions):
    """A language model's."""

    url: str
    api_key: SecretStr | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.3
    stream: bool = True
    tools: dict[str, Tool] = Field(default_factory=dict)
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()

    @model_validator(mode="after")
    def _tools_want_streaming(self) -> MindOptions:
        if self.tools and not self.stream:
            raise ValueError("tools and stream: false exclude each other")
        return self


class VoiceOptions(EngineOptions):
    """A speaker's."""

    voice: Literal["alto", "tenor"] = "alto"
    speed: Annotated[float, Field(gt=0)] = 1.0


def _no_engine(options: Any, context: EngineContext) -> Engine:
    raise NotImplementedError("this catalog is for configuration alone")


CATALOG = EngineCatalog(
    descriptors={
        name: EngineDescriptor(name, kind, options, extra="", load=_no_engine)
        for name, kind, options in (
            ("ear", EngineKind.VAD, EarOptions),
            ("scribe", EngineKind.STT, ScribeOptions),
            ("mind", EngineKind.LLM, MindOptions),
            ("voice", EngineKind.TTS, VoiceOptions),
            ("whisper", EngineKind.TTS, EarOptions),
        )
    },
    broken={
        "parrot": BrokenEngine(
            "parrot_package:engine cannot be imported: No module named 'feathers'", "pip install 'parrot[gpu]'"
        )
    },
)

VARIABLES = {"TOKEN": "s3cret", "CALLS": "7", "EMPTY": "", "HOST": "127.0.0.9"}


def settings_of(text: str | bytes, folder: Path = Path("/nowhere"), flavor_files: tuple[Path, ...] = ()) -> Settings:
    """The settings that `text` stands for, in a file called voxtrunk.yml; raises ConfigError."""
    data = text if isinstance(text, bytes) else text.encode()
    return parse(data, folder / "voxtrunk.yml", None, Surroundings(VARIABLES, CATALOG, flavor_files))
