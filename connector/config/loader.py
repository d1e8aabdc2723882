"""From files to `Settings`: voxtrunk.yml, the flavors beside it and the packaged ones, checked as a whole."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field

from connector.config.document import read
from connector.config.engines import EngineCatalog, installed_engines, packaged_flavor_files
from connector.config.flavors import FlavorSources
from connector.config.model import (
    Flavor,
    HttpSettings,
    IdentitySettings,
    MediaSettings,
    OpenSipsSettings,
    RecordSettings,
    Section,
    Settings,
    SipSettings,
)
from connector.config.models_cache import default_folder
from connector.config.references import References
from connector.config.report import Place, Report, one_of, shown
from connector.config.routes import read_routes
from connector.config.safety import findings
from connector.config.tree import Node, Scalar, Table, member, with_value
from connector.config.validate import as_table, unknown_key, validate
from connector.errors import ConfigError


class General(Section):
    """The keys of `voxtrunk.yml` that are no sections."""

    models: Path | None = None
    """Folder of fetched models; $VOXTRUNK_MODELS or the user's cache where it is not given."""
    default: Annotated[str, Field(min_length=1)] | None = None
    """Flavor that answers numbers that no route names; without it they are refused with 404."""


SECTIONS: Mapping[str, type[Section]] = {
    "sip": SipSettings,
    "media": MediaSettings,
    "records": RecordSettings,
    "http": HttpSettings,
    "identity": IdentitySettings,
    "opensips": OpenSipsSettings,
}
KEYS = (*SECTIONS, *General.model_fields, "flavors", "routes")
"""Everything that `voxtrunk.yml` may have at its top."""


@dataclass(frozen=True)
class Surroundings:
    """What a configuration refers to besides its own files."""

    variables: Mapping[str, str] = field(default_factory=lambda: os.environ)
    engines: EngineCatalog = field(default_factory=installed_engines)
    flavor_files: Sequence[Path] = field(default_factory=packaged_flavor_files)


def load(path: Path, overrides: Mapping[str, str] | None = None, surroundings: Surroundings | None = None) -> Settings:
    """Reads `path` and the flavors beside it.

    `overrides` replace values by dotted key, such as `{"sip.listen": "127.0.0.1:0"}` from a command
    line, and are checked as if the file had them. Raises ConfigError with every problem found.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        report = Report()
        hint = "`voxtrunk init` writes a first one" if isinstance(error, FileNotFoundError) else ""
        report.problem(Place(str(path), 1, ""), f"cannot be read: {error.strerror}", hint)
        raise ConfigError(report.problems) from error
    return parse(data, path, overrides, surroundings)


def parse(
    data: bytes, path: Path, overrides: Mapping[str, str] | None = None, surroundings: Surroundings | None = None
) -> Settings:
    """`load` for the text of a file that would stand at `path`."""
    around = surroundings or Surroundings()
    report = Report()
    references = References(around.variables, path.parent)
    root = Table(Place(str(path), 1, ""), {})
    node = read(str(path), data, references, report)
    if isinstance(node, Table):
        root = node
    elif node is not None:
        report.problem(node.place, "the file is no mapping", f"it begins with one of: {', '.join(KEYS)}")
    elif not report.problems:
        report.problem(root.place, "the file is empty", "`voxtrunk init` writes a first one")
    return _settings(path, _with_overrides(root, overrides), references, around, report)


def builtin_settings(overrides: Mapping[str, str] | None = None, surroundings: Surroundings | None = None) -> Settings:
    """What holds without a voxtrunk.yml: all defaults, packaged flavors and `./flavors`, no routes.

    Raises ConfigError.
    """
    around = surroundings or Surroundings()
    report = Report()
    path = Path("voxtrunk.yml")
    root = _with_overrides(Table(Place(str(path), 1, ""), {}), overrides)
    return _settings(path, root, References(around.variables, path.parent), around, report)


def flavor_named(settings: Settings, name: str) -> Flavor:
    """The flavor that a `--flavor` names; raises ConfigError that lists the known ones."""
    if name in settings.flavors:
        return settings.flavors[name]
    report = Report()
    hint = one_of(name, settings.flavors, "flavors")
    report.problem(Place(str(settings.file), 1, f"flavors.{name}"), f"there is no flavor {shown(name)}", hint)
    raise ConfigError(report.problems)


# --------------------------------------------------------------------------------------- the whole

_S = TypeVar("_S", bound=Section)


def _settings(path: Path, root: Table, references: References, around: Surroundings, report: Report) -> Settings:
    """Everything in `root`, checked; raises ConfigError with what `report` holds by then."""
    identity = _section(root, "identity", IdentitySettings, report)
    flavors = FlavorSources(around.engines, references, report, identity)
    flavors.add_packaged(around.flavor_files)
    flavors.add_folder(path.parent / "flavors")
    for key, node in root.entries.items():
        if key not in KEYS:
            unknown_key(node, key, KEYS, report)
    sip = _section(root, "sip", SipSettings, report)
    media = _section(root, "media", MediaSettings, report)
    records = _section(root, "records", RecordSettings, report)
    http = _section(root, "http", HttpSettings, report)
    opensips = _section(root, "opensips", OpenSipsSettings, report) if "opensips" in root.entries else None
    general = validate(General, root.only(*General.model_fields), report) or General()
    for finding in findings(sip, media, http):
        note = report.problem if finding.refused else report.warning
        note(_place_of(root, finding.key), finding.message, finding.hint)
    flavors.add_inline(as_table(root.entries.get("flavors"), root.place.member("flavors"), report))
    routes = read_routes(root.entries.get("routes"), flavors, report)
    default = flavors.use(general.default, root.entries["default"].place) if general.default else None
    if report.problems:
        raise ConfigError(report.problems)
    usable = flavors.usable()
    models = general.models.expanduser() if general.models else default_folder(around.variables)
    return Settings(
        file=path,
        sip=sip,
        identity=identity,
        media=media,
        records=records.model_copy(update={"directory": path.parent / records.directory.expanduser()}),
        http=http,
        opensips=opensips and opensips.model_copy(update={"run": path.parent / opensips.run.expanduser()}),
        pair=opensips.pairs[0] if opensips else None,
        models=path.parent / models,
        flavors=usable,
        routes=routes,
        default=default.flavor if default else None,
        warnings=tuple(report.warnings),
    )


def _section(root: Table, key: str, model: type[_S], report: Report) -> _S:
    """The section `key`; its defaults where it is absent, or wrong and reported."""
    return validate(model, as_table(root.entries.get(key), root.place.member(key), report), report) or model()


def _with_overrides(root: Table, overrides: Mapping[str, str] | None) -> Table:
    for key, value in (overrides or {}).items():
        root = with_value(root, key.split("."), Scalar(Place("command line", 1, key), value, value))
    return root


def _place_of(root: Table, key: str) -> Place:
    """Where `key` stands, or would stand."""
    place = root.place
    node: Node = root
    for part in key.split("."):
        inner = member(node, part)
        if inner is None:
            break
        node, place = inner, inner.place
    return replace(place, key=key)
