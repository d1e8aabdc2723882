"""The router against the rule, said in another way."""

from __future__ import annotations

import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector.config.model import Flavor, Route, Settings
from connector.errors import UnknownNumber
from connector.routing import Router, shadowed
from tests.fakes.catalog import settings_of

BASE = settings_of("sip:\n")

digits = st.text("012+", min_size=1, max_size=4)
patterns = st.builds(
    "".join, st.lists(st.sampled_from(["0", "1", "2", r"\+", ".", ".*", "[01]", "[0-9]+", "1?"]), min_size=1)
)
criteria = st.one_of(
    st.tuples(st.just("number"), digits), st.tuples(st.just("prefix"), digits), st.tuples(st.just("regex"), patterns)
)


def generation(chosen: list[tuple[str, str]], default: bool) -> Settings:
    routes = [
        Route.model_validate(
            {kind: re.compile(text) if kind == "regex" else text, "flavor": Flavor(name=str(n)), "line": n + 1}
        )
        for n, (kind, text) in enumerate(chosen)
    ]
    return BASE.model_copy(update={"routes": tuple(routes), "default": Flavor(name="default") if default else None})


def answer(current: Settings, called: str) -> str | None:
    try:
        return Router(current).resolve(called).flavor.name
    except UnknownNumber:
        return None


def by_the_rule(chosen: list[tuple[str, str]], default: bool, called: str) -> str | None:
    """The best match: the exact number, then prefixes by length, then expressions; the earlier one of equals."""
    ranks = {}
    for n, (kind, text) in enumerate(chosen):
        if kind == "number" and text == called:
            ranks[n] = (0, 0, n)
        elif kind == "prefix" and called[: len(text)] == text:
            ranks[n] = (1, -len(text), n)
        elif kind == "regex" and re.fullmatch(text, called):
            ranks[n] = (2, 0, n)
    if ranks:
        return str(min(ranks, key=lambda n: ranks[n]))
    return "default" if default else None


# A busy machine is slow to draw, which is no finding.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@patient
@given(st.lists(criteria, max_size=8), st.booleans(), st.text("0123+", max_size=5))
def test_the_rule_holds(chosen: list[tuple[str, str]], default: bool, called: str) -> None:
    """And the explanation agrees with the decision."""
    current = generation(chosen, default)
    found = answer(current, called)
    assert found == by_the_rule(chosen, default, called)
    considered = Router(current).explain(called)
    assert len(considered) == len(chosen)
    assert [one.route.flavor.name for one in considered if one.chosen] == (
        [found] if found not in (None, "default") else []
    )


@patient
@given(st.lists(criteria, max_size=8), st.lists(st.text("012+", max_size=5), max_size=40))
def test_a_route_said_to_be_in_vain_never_answers(chosen: list[tuple[str, str]], numbers: list[str]) -> None:
    """No number, whichever it is, reaches a route that `check` warns of."""
    current = generation(chosen, default=False)
    in_vain = {str(problem.line - 1) for problem in shadowed(current)}
    tried = {answer(current, called) for called in [*numbers, *(text for _, text in chosen)]}
    assert not tried & in_vain


@patient
@given(st.lists(criteria, max_size=6, unique=True), st.text("012+", max_size=4))
def test_the_order_of_numbers_and_prefixes_does_not_matter(chosen: list[tuple[str, str]], called: str) -> None:
    """Moving lines about in the file changes nothing, expressions aside."""
    plain = [criterion for criterion in chosen if criterion[0] != "regex"]
    first, second = (generation(order, default=True) for order in (plain, plain[::-1]))
    one, other = answer(first, called), answer(second, called)
    assert (one == "default") == (other == "default")
    if one not in (None, "default"):
        assert other is not None
        assert plain[int(one)] == plain[::-1][int(other)]
