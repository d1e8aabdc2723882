"""The order of routes, and every question about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from connector.config.model import Flavor, Route, Settings
from connector.errors import Problem, UnknownNumber


@dataclass(frozen=True, slots=True)
class Decision:
    """What answers a number. `route`: None for the default. `reason`: why, in words."""

    flavor: Flavor
    route: Route | None
    reason: str


@dataclass(frozen=True, slots=True)
class Consideration:
    """One route as it was looked at for a number. `chosen`: it answers; `matched`: it would, if no other came first."""

    route: Route
    matched: bool
    chosen: bool
    reason: str


class Router:
    """The routes of one configuration generation."""

    def __init__(self, settings: Settings) -> None:
        self._ordered = ordered(settings.routes)
        self._default = settings.default

    def resolve(self, called: str, number: str = "") -> Decision:
        """The flavor for `called`; raises UnknownNumber where no route matches and there is no default.

        `called`: as the signalling gives it. `number`: the same in E.164, "" for what is none; a route
        may match either.
        """
        for route in self._ordered:
            if matches(route, called, number):
                return Decision(route.flavor, route, str(route))
        if self._default is not None:
            return Decision(self._default, None, "default")
        raise UnknownNumber("no route leads from this number to a flavor, and there is no default")

    def explain(self, called: str, number: str = "") -> list[Consideration]:
        """Every route in the order in which it is looked at, and what came of it for `called`, as in `resolve`."""
        considered: list[Consideration] = []
        chosen: Route | None = None
        for route in self._ordered:
            matched = matches(route, called, number)
            form = "" if matches(route, called) else f" {number}"
            if not matched:
                reason = f"{called} {_DIFFERENCE[route.matcher[0]]}"
            elif chosen is None:
                reason = f"matches{form} first"
            else:
                reason = f"matches{form}, but {chosen} comes first"
            considered.append(Consideration(route, matched, matched and chosen is None, reason))
            if matched and chosen is None:
                chosen = route
        return considered


_DIFFERENCE = {
    "number": "is another number",
    "prefix": "does not begin with it",
    "regex": "does not match it as a whole",
}


def ordered(routes: Sequence[Route]) -> list[Route]:
    """Routes as they are looked at: numbers, then prefixes from the longest, then the rest in file order."""
    numbers = [route for route in routes if route.number is not None]
    prefixes = [route for route in routes if route.prefix is not None]
    patterns = [route for route in routes if route.regex is not None]
    return [*numbers, *sorted(prefixes, key=lambda route: -len(route.prefix or "")), *patterns]


def matches(route: Route, called: str, number: str = "") -> bool:
    """True where `route` would answer `called`, or the same in E.164, `number` ("" for none)."""
    if number and matches(route, number):
        return True
    if route.number is not None:
        return called == route.number
    if route.prefix is not None:
        return called.startswith(route.prefix)
    return route.regex is not None and route.regex.fullmatch(called) is not None


# --------------------------------------------------------------------------------------- routes in vain


def shadowed(settings: Settings) -> list[Problem]:
    """Routes that never answer, and a default that never does: whatever they match, another one takes first.

    Not every such expression can be told; those that people write by mistake are.
    """
    found: list[Problem] = []
    looked_at = ordered(settings.routes)
    for index, route in enumerate(looked_at):
        winner = next((earlier for earlier in looked_at[:index] if _covers(earlier, route)), None)
        if winner is not None:
            message = f"{route} never answers: {winner} in line {winner.line} comes first"
            found.append(Problem(route.file, route.line, "routes", message, "remove one of them"))
    everything = next((route for route in looked_at if _takes_all(route)), None)
    if settings.default is not None and everything is not None:
        message = f"the default never answers: {everything} takes every number"
        found.append(Problem(everything.file, everything.line, "routes", message, "remove one of them"))
    return sorted(found, key=lambda problem: (problem.file, problem.line))


def _covers(earlier: Route, later: Route) -> bool:
    """True where `earlier` surely takes every number that `later` matches."""
    if _takes_all(earlier) or earlier.matcher == later.matcher:
        return True
    if later.regex is None:
        return False
    start, is_all = _literal_start(later.regex)
    if is_all:
        return matches(earlier, start)
    return earlier.prefix is not None and start.startswith(earlier.prefix)


def _takes_all(route: Route) -> bool:
    return route.regex is not None and route.regex.pattern.strip("^$()") in (".*", ".+")


def _literal_start(pattern: re.Pattern[str]) -> tuple[str, bool]:
    """The text that begins whatever `pattern` matches, as far as it can be told for sure, and whether it is all."""
    if re.search(r"[()|]", pattern.pattern):
        return "", False
    found = re.match(r"\^?((?:[A-Za-z0-9#_-]|\\[+*.#-])*)(?![?*{])", pattern.pattern)
    if found is None:
        return "", False
    return found[1].replace("\\", ""), pattern.pattern[found.end() :] in ("", "$")
