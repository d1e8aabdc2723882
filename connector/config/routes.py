"""Routes, from their part of the tree to `Route`s."""

from __future__ import annotations

import re
import warnings
from typing import Annotated, Any

from pydantic import Field

from connector.config.flavors import FlavorSources, shown_overrides
from connector.config.model import Route, Section
from connector.config.report import Report, Unusable
from connector.config.tree import Listing, Node, Table, is_absent, text_of
from connector.config.validate import as_table, validate

MATCHERS = ("number", "prefix", "regex")


class RouteEntry(Section):
    """A route as `voxtrunk.yml` has it: exactly one of `number`, `prefix` and `regex`."""

    number: Annotated[str, Field(min_length=1)] | None = None
    """The number called: as the signalling gives it, or in E.164."""
    prefix: Annotated[str, Field(min_length=1)] | None = None
    """What the number called begins with, in one form or the other."""
    regex: Annotated[str, Field(min_length=1)] | None = None
    """A regular expression (Python's `re`) that the whole number called matches, in one form or the other."""
    flavor: Annotated[str, Field(min_length=1)]
    """What answers."""
    overrides: Annotated[dict[str, Any], Field(default_factory=dict, alias="with")]
    """Keys of the flavor that are different on this route."""


def read_routes(node: Node | None, flavors: FlavorSources, report: Report) -> tuple[Route, ...]:
    """The routes in `node`, in its order; those that are wrong are reported and left out."""
    if node is None or is_absent(node):
        return ()
    if not isinstance(node, Listing):
        report.problem(node.place, "is no list", "begin each route with -")
        return ()
    found = [_read_route(item, flavors, report) for item in node.items]
    return tuple(route for route in found if route is not None)


def _read_route(node: Node, flavors: FlavorSources, report: Report) -> Route | None:
    if not isinstance(node, Table):
        report.problem(node.place, "is no mapping", 'write - {number: "1000", flavor: NAME}')
        return None
    given = [key for key in MATCHERS if key in node.entries]
    if len(given) != 1:
        wrong = f"has {' and '.join(given)}" if given else "has none of number, prefix and regex"
        report.problem(node.place, wrong, "a route has exactly one of them")
    overrides = as_table(node.entries.get("with"), node.place.member("with"), report)
    entry = validate(RouteEntry, node.without("with"), report)
    pattern = _compile(node.entries.get("regex"), report)
    name = text_of(node.entries.get("flavor"))
    found = flavors.use(name, node.entries["flavor"].place) if name else None
    flavor = flavors.overridden(found, overrides) if found else None
    if entry is None or flavor is None:
        return None
    return Route(
        number=entry.number,
        prefix=entry.prefix,
        regex=pattern,
        flavor=flavor,
        overrides=shown_overrides(overrides),
        line=node.place.line,
        file=node.place.file,
    )


def _compile(node: Node | None, report: Report) -> re.Pattern[str] | None:
    """The regular expression in `node`; None where there is none, or it is wrong and was reported."""
    text = text_of(node)
    if node is None or text is None:
        return None
    try:
        return _pattern(text)
    except Unusable as error:
        report.problem(node.place, error.message, error.hint)
        return None


def _pattern(text: str) -> re.Pattern[str]:
    """`text` compiled; raises Unusable."""
    try:
        with warnings.catch_warnings():
            # What a later Python will read differently is not an expression to rely on.
            warnings.simplefilter("error", FutureWarning)
            return re.compile(text)
    except re.error as error:
        at = f" at character {error.pos + 1}" if error.pos is not None else ""
        raise Unusable(f"is no regular expression: {error.msg}{at}", "see Python's re syntax") from error
    except (FutureWarning, OverflowError, RecursionError) as error:
        raise Unusable(f"is no usable regular expression: {error}", "see Python's re syntax") from error
