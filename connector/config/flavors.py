"""Flavors: where they come from, and from their part of the tree to a `Flavor`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from connector.config.document import read
from connector.config.engines import EngineCatalog
from connector.config.language import primary
from connector.config.model import SUCCEEDED, EngineChoice, Flavor, FlavorEntry, IdentitySettings, RungSettings
from connector.config.placeholders import headers
from connector.config.references import References
from connector.config.report import Place, Report, one_of, shown
from connector.config.tree import Listing, Node, Scalar, Table, is_absent, leaves, meaning, text_of
from connector.config.validate import validate
from connector.interfaces import EngineKind

ENGINE_KEYS = tuple(kind.value for kind in EngineKind)


@dataclass(frozen=True, slots=True)
class FoundFlavor:
    """A flavor as its source has it: `flavor` is None where something in `table` is wrong, as `report` says."""

    name: str
    table: Table
    flavor: Flavor | None
    report: Report


class FlavorSources:
    """All flavors: packaged ones, files beside voxtrunk.yml, and those within it. One's own beat packaged ones.

    What is wrong with one's own flavors goes to `report` at once; a packaged flavor matters only where it is used.
    """

    def __init__(
        self, engines: EngineCatalog, references: References, report: Report, identity: IdentitySettings
    ) -> None:
        self._engines = engines
        self._references = references
        self._report = report
        self._identity = identity
        self._packaged: dict[str, FoundFlavor] = {}
        self._own: dict[str, FoundFlavor] = {}

    def add_packaged(self, files: Sequence[Path]) -> None:
        """The flavor files of installed packages."""
        for path in files:
            self._packaged.setdefault(path.stem, self._from_file(path))

    def add_folder(self, folder: Path) -> None:
        """The flavor files in `folder`, if there is one; where it is a package's own, its flavors stay packaged."""
        packaged = {Path(found.table.place.file).resolve() for found in self._packaged.values()}
        for path in sorted(folder.glob("*.yml")):
            if path.resolve() not in packaged:
                self._own[path.stem] = self._from_file(path)
                self._report.extend(self._own[path.stem].report)
        for path in sorted(folder.glob("*.yaml")):
            self._report.warning(Place(str(path), 1, ""), "the file is ignored", f"name it {path.stem}.yml")

    def add_inline(self, table: Table) -> None:
        """The flavors within voxtrunk.yml."""
        for name, node in table.entries.items():
            if name in self._own:
                other = self._own[name].table.place.file
                self._report.problem(node.place, f"is also in {other}", "keep one of them")
                continue
            self._own[name] = self._found(name, node, Report())
            self._report.extend(self._own[name].report)

    def use(self, name: str, place: Place) -> FoundFlavor | None:
        """The flavor that `place` names; that there is none, or what is wrong with it, is reported."""
        found = self._own.get(name) or self._packaged.get(name)
        if found is None:
            hint = one_of(name, sorted({*self._own, *self._packaged}), "flavors")
            self._report.problem(place, f"there is no flavor {shown(name)}", hint)
        elif found.flavor is None:
            self._report.extend(found.report)
        return found

    def overridden(self, found: FoundFlavor, overrides: Table) -> Flavor | None:
        """The flavor with a route's `overrides`; None, and why in the report, where the result is wrong."""
        if not overrides.entries:
            return found.flavor
        report = Report()
        flavor = self._build(found.name, merge_overrides(found.table, overrides), report)
        # What is wrong with the flavor itself is reported at its own place.
        self._report.extend(report if found.flavor else report.below(overrides.place))
        return flavor if found.flavor else None

    def usable(self) -> dict[str, Flavor]:
        """Every flavor by name; packaged ones that cannot be used are left out with a warning."""
        for name, found in self._packaged.items():
            if name not in self._own:
                self._report.extend(found.report, as_warnings=True)
        everything = {**self._packaged, **self._own}
        return {name: found.flavor for name, found in sorted(everything.items()) if found.flavor is not None}

    def _from_file(self, path: Path) -> FoundFlavor:
        report = Report()
        empty = Table(Place(str(path), 1, ""), {})
        try:
            node = read(str(path), path.read_bytes(), self._references, report)
        except OSError as error:
            report.problem(empty.place, f"cannot be read: {error.strerror}", "make it readable, or remove it")
            return FoundFlavor(path.stem, empty, None, report)
        if node is None and not report.problems:
            report.problem(empty.place, "the file is empty", "a flavor file has the keys of a flavor")
        return self._found(path.stem, node or empty, report)

    def _found(self, name: str, node: Node, report: Report) -> FoundFlavor:
        table = node if isinstance(node, Table) else Table(node.place, {})
        if not isinstance(node, Table) and not is_absent(node):
            report.problem(node.place, "is no mapping", "a flavor has keys, such as pipeline and greeting")
        flavor = None if report.problems else self._build(name, table, report)
        return FoundFlavor(name, table, flavor, report)

    def _build(self, name: str, table: Table, report: Report) -> Flavor | None:
        flavor = build_flavor(name, table, self._engines, report)
        for key, text in (*flavor.spoken, ("persona", flavor.persona)) if flavor is not None else ():
            for header in headers(text):
                if not self._identity.keeps(header):
                    message = f"the header {shown(header)} is not kept"
                    report.problem(table.entries[key].place, message, f"add identity: {{headers: [{shown(header)}]}}")
        return None if report.problems else flavor


def build_flavor(name: str, table: Table, engines: EngineCatalog, report: Report) -> Flavor | None:
    """The flavor in `table`; None, and why in `report`, where something in it is wrong."""
    before = len(report.problems)
    choices: dict[str, EngineChoice] = {}
    for kind in EngineKind:
        node = table.entries.get(kind.value)
        choice = _ladder(kind, node, engines, report) if node is not None else None
        if choice is not None:
            choices[kind.value] = choice
    entry = validate(FlavorEntry, table.without(*ENGINE_KEYS), report, choices)
    if text_of(table.entries.get("pipeline", _CASCADE)) == "cascade":
        _require_engines(table, engines, report)
    if entry is None or len(report.problems) > before:
        return None
    _compare_languages(entry.language, table, choices, engines, report)
    return Flavor(name=name, **{key: getattr(entry, key) for key in FlavorEntry.model_fields})


_CASCADE = Scalar(Place("", 0, "pipeline"), "cascade", "cascade")
"""The pipeline of a flavor that names none."""


def merge_overrides(base: Table, overrides: Table) -> Table:
    """`base` with the keys of `overrides` in their place.

    Mappings are merged key by key, all else is replaced. An engine that is named (`engine: x`), or a list of engines,
    replaces whatever was there with all its options. Options without a name are merged into the engine, of a list
    into the first one, whose successors stay as they are.
    """
    entries = dict(base.entries)
    for key, node in overrides.entries.items():
        entries[key] = _merged(entries.get(key), node, engine=key in ENGINE_KEYS)
    return replace(base, place=overrides.place, entries=entries)


def _merged(old: Node | None, node: Node, *, engine: bool) -> Node:
    """`node` in the place of `old`. `engine`: both are an engine, or a list of engines."""
    if not isinstance(node, Table) or (engine and "engine" in node.entries):
        return node
    if isinstance(old, Table):
        return merge_overrides(old, node)
    if engine and isinstance(old, Listing) and old.items:
        first, *successors = old.items
        return replace(old, items=(_merged(first, node, engine=engine), *successors))
    return node


def shown_overrides(overrides: Table) -> dict[str, str]:
    """Every overriding value by its dotted key, as written: references stay references."""
    prefix = f"{overrides.place.key}."
    return {leaf.place.key.removeprefix(prefix): leaf.raw for leaf in leaves(overrides)}


def _require_engines(table: Table, engines: EngineCatalog, report: Report) -> None:
    for kind in EngineKind:
        if kind.required and kind.value not in table.entries:
            names = ", ".join(_names(kind, engines)) or "none is installed"
            report.problem(
                table.place.member(kind.value),
                "is missing; a cascade needs vad, stt, llm and tts",
                f"add {kind.value}: {{engine: NAME}}, where NAME is one of: {names}",
            )


def _compare_languages(
    language: str, table: Table, choices: Mapping[str, EngineChoice], engines: EngineCatalog, report: Report
) -> None:
    """Warns where an engine hears or speaks another language than the flavor is in."""
    for key, first in choices.items():
        node = table.entries[key]
        nodes = node.items if isinstance(node, Listing) else (node,)
        for choice, at in zip(first.rungs, nodes, strict=True):
            other = engines.descriptors[choice.engine].language(choice.options)
            if other and primary(other) != primary(language):
                message = f"{choice.engine} is for {other}, and the flavor is in {language}"
                report.warning(at.place, message, "set its language, or the flavor's (language: ...)")


def _ladder(kind: EngineKind, node: Node, engines: EngineCatalog, report: Report) -> EngineChoice | None:
    """The engine that `node` names, with its successors where it is a list."""
    if not isinstance(node, Listing):
        return _choose(kind, node, engines, report)
    if kind not in SUCCEEDED:
        report.problem(node.place, "is a list", f"{kind.value} has no successors: write {kind.value}: {{engine: NAME}}")
        return None
    if not node.items:
        report.problem(node.place, "is an empty list", f"name one of: {', '.join(_names(kind, engines))}")
        return None
    chosen: list[EngineChoice] = []
    for item in node.items:
        choice = _choose(kind, item, engines, report)
        if choice is not None and any(choice.is_same_engine(other) for other in chosen):
            report.problem(item.place, "is in the list twice", "an engine cannot succeed itself: leave one out")
        elif choice is not None:
            chosen.append(choice)
    if len(chosen) < len(node.items):
        return None
    *others, last = chosen
    first, *rest = [*(one.model_copy(update={"options": one.options.with_successor()}) for one in others), last]
    return first.model_copy(update={"successors": tuple(rest)})


def _choose(kind: EngineKind, node: Node, engines: EngineCatalog, report: Report) -> EngineChoice | None:
    place = node.place
    known = _names(kind, engines)
    if not isinstance(node, Table):
        wanted = node.raw if isinstance(node, Scalar) and node.raw in known else "NAME"
        report.problem(place, "is no mapping", f"write {kind.value}: {{engine: {wanted}}}")
        return None
    chosen = node.entries.get("engine")
    if chosen is None:
        report.problem(place.member("engine"), "is missing", f"name one of: {', '.join(known)}")
        return None
    if not isinstance(chosen, Scalar) or not isinstance(chosen.value, str):
        wrong = meaning(chosen) if isinstance(chosen, Scalar) else "is no name"
        report.problem(chosen.place, wrong, f"name one of: {', '.join(known)}")
        return None
    descriptor = engines.descriptors.get(chosen.value)
    if descriptor is None or descriptor.kind is not kind:
        report.problem(chosen.place, *_why_not(chosen.value, kind, engines))
        return None
    own = tuple(RungSettings.model_fields) if kind in SUCCEEDED else ()
    rung = validate(RungSettings, node.only(*own), report)
    options = validate(descriptor.options, node.without("engine", *own), report)
    if rung is None or options is None:
        return None
    return EngineChoice(engine=chosen.value, options=options, **rung.model_dump())


def _why_not(name: str, kind: EngineKind, engines: EngineCatalog) -> tuple[str, str]:
    """Why no engine `name` can be had for `kind`, and what would be right."""
    known = _names(kind, engines)
    if name in engines.broken:
        return f"the engine {name} is not usable: {engines.broken[name].cause}", engines.broken[name].remedy
    if name in engines.descriptors:
        other = engines.descriptors[name].kind.value
        return f"the engine {name} is for {other}, not for {kind.value}", f"{kind.value} engines: {', '.join(known)}"
    return f"there is no engine {shown(name)}", one_of(name, known, f"{kind.value} engines")


def _names(kind: EngineKind, engines: EngineCatalog) -> list[str]:
    return [name for name, descriptor in engines.descriptors.items() if descriptor.kind is kind]
