"""Which flavor answers which number, what is said about it, and which routes never answer."""

from __future__ import annotations

import pytest

from connector.errors import UnknownNumber
from connector.routing import Router, shadowed
from tests.fakes.catalog import settings_of

FLAVORS = "flavors: {a: &e {pipeline: echo}, b: *e, c: *e, d: *e, e: *e, f: *e}\n"

ROUTES = """\
routes:
  - {regex: "10[0-9]{2}", flavor: a}
  - {prefix: "1", flavor: b}
  - {prefix: "+4930", flavor: c}
  - {prefix: "+49", flavor: d}
  - {number: "1000", flavor: e, with: {greeting: Hi, turn: {preroll: 0}}}
  - {regex: "[2-9].*", flavor: f}
  - {regex: "22", flavor: a}
"""


def router(text: str) -> Router:
    return Router(settings_of(FLAVORS + text))


@pytest.mark.parametrize(
    ("called", "flavor", "reason"),
    [
        ("1000", "e", "number 1000"),
        ("1001", "b", "prefix 1"),
        ("10000", "b", "prefix 1"),
        ("1", "b", "prefix 1"),
        ("+493012345", "c", "prefix +4930"),
        ("+498912345", "d", "prefix +49"),
        ("22", "f", "regex [2-9].*"),
        ("0", "f", "default"),
        ("+1", "f", "default"),
        ("", "f", "default"),
        ("a" * 10_000, "f", "default"),
    ],
)
def test_the_exact_number_then_the_longest_prefix_then_regexes_in_order(called: str, flavor: str, reason: str) -> None:
    """Whatever the order of the file, but for regular expressions."""
    decision = router(ROUTES + "default: f\n").resolve(called)
    assert (decision.flavor.name, decision.reason) == (flavor, reason)
    assert (decision.route is None) == (reason == "default")


def test_a_regex_matches_the_whole_number() -> None:
    """`10` is not enough for 1000, wherever it stands."""
    routes = router('routes:\n  - {regex: "10", flavor: a}\n')
    assert routes.resolve("10").flavor.name == "a"
    for called in ("1000", "910", "10\n"):
        with pytest.raises(UnknownNumber):
            routes.resolve(called)


def test_numbers_are_compared_as_they_are_given() -> None:
    """Only the PBX knows what it means by a leading 0, 00 or +; a regular expression may take them all."""
    routes = router('routes:\n  - {number: "+4930123", flavor: a}\n  - {regex: "(0|0049)30123", flavor: b}\n')
    assert [routes.resolve(called).flavor.name for called in ("+4930123", "030123", "004930123")] == ["a", "b", "b"]


@pytest.mark.parametrize(
    ("called", "number", "flavor"),
    [
        ("+4930123456", "+4930123456", "a"),
        ("004930123456", "+4930123456", "a"),
        ("030123456", "+4930123456", "a"),
        ("030999999", "+4930999999", "b"),  # the E.164 form has the longer prefix
        ("01723456789", "+491723456789", "c"),
        ("1000", "", "d"),
    ],
)
def test_a_route_matches_the_number_in_e164_too(called: str, number: str, flavor: str) -> None:
    """Whatever form the trunk sends; each route is looked at once, with both forms."""
    routes = router(
        'routes:\n  - {number: "+4930123456", flavor: a}\n  - {prefix: "+4930", flavor: b}\n'
        '  - {prefix: "01", flavor: c}\n  - {regex: ".*", flavor: d}\n'
    )
    assert routes.resolve(called, number).flavor.name == flavor
    assert [one.route.flavor.name for one in routes.explain(called, number) if one.chosen] == [flavor]


def test_an_explanation_names_the_form_that_matched() -> None:
    considered = router(ROUTES).explain("030123", "+4930123")
    assert [one.reason for one in considered if one.matched] == [
        "matches +4930123 first",
        "matches +4930123, but prefix +4930 comes first",
    ]


def test_a_number_that_nothing_answers_is_not_found() -> None:
    """404 Not Found, RFC 3261 section 21.4.5; the number itself is not in the message, which is logged."""
    with pytest.raises(UnknownNumber) as raised:
        router("routes:\n").resolve("4711")
    assert (raised.value.sip_status, raised.value.sip_reason) == (404, "Not Found")
    assert "4711" not in str(raised.value)


def test_the_overrides_of_the_route_answer() -> None:
    """And not those of the flavor as it stands."""
    decision = router(ROUTES).resolve("1000")
    assert (decision.flavor.greeting, decision.flavor.turn.preroll) == ("Hi", 0)
    assert decision.route is not None
    assert decision.route.overrides == {"greeting": "Hi", "turn.preroll": "0"}


def test_an_explanation_shows_every_route() -> None:
    """In the order in which they are looked at, each with its outcome."""
    considered = router(ROUTES).explain("1000")
    assert [(str(one.route), one.chosen, one.reason) for one in considered] == [
        ("number 1000", True, "matches first"),
        ("prefix +4930", False, "1000 does not begin with it"),
        ("prefix +49", False, "1000 does not begin with it"),
        ("prefix 1", False, "matches, but number 1000 comes first"),
        ("regex 10[0-9]{2}", False, "matches, but number 1000 comes first"),
        ("regex [2-9].*", False, "1000 does not match it as a whole"),
        ("regex 22", False, "1000 does not match it as a whole"),
    ]


@pytest.mark.parametrize(
    ("routes", "warning"),
    [
        (
            ['number: "1"', 'number: "1"'],
            "4: routes: number 1 never answers: number 1 in line 3 comes first (remove one of them)",
        ),
        (['prefix: "1"', 'prefix: "1"'], "4: routes: prefix 1 never answers: prefix 1 in line 3 comes first"),
        (['regex: "1.*"', 'regex: "1.*"'], "4: routes: regex 1.* never answers: regex 1.* in line 3 comes first"),
        (['regex: "12.*"', 'prefix: "1"'], "3: routes: regex 12.* never answers: prefix 1 in line 4 comes first"),
        ([r'regex: "^\\+49[0-9]+$"', 'prefix: "+49"'], r"3: routes: regex ^\+49[0-9]+$ never answers: prefix +49 in"),
        (['regex: "1000"', 'number: "1000"'], "3: routes: regex 1000 never answers: number 1000 in line 4 comes first"),
        (['regex: ".*"', 'regex: "[23]"'], "4: routes: regex [23] never answers: regex .* in line 3 comes first"),
        (['regex: "[1-9].*"', 'regex: "22"'], "4: routes: regex 22 never answers: regex [1-9].* in line 3 comes first"),
    ],
)
def test_a_route_in_vain_is_named(routes: list[str], warning: str) -> None:
    """With the one that always comes before it."""
    lines = "".join(f"  - {{{route}, flavor: a}}\n" for route in routes)
    found = shadowed(settings_of(f"{FLAVORS}routes:\n{lines}"))
    assert len(found) == 1
    assert str(found[0]).startswith(f"/nowhere/voxtrunk.yml:{warning}")


def test_a_default_in_vain_is_named() -> None:
    """A regular expression takes everything before it."""
    found = shadowed(settings_of(FLAVORS + 'routes:\n  - {regex: ".+", flavor: a}\ndefault: b\n'))
    assert [problem.message for problem in found] == ["the default never answers: regex .+ takes every number"]


@pytest.mark.parametrize(
    "routes",
    [
        ['number: "1"', 'number: "2"', 'prefix: "1"', 'prefix: "12"'],
        ['prefix: "12"', 'regex: "1.*"'],
        ['prefix: "12"', 'regex: "12?.*"'],
        ['prefix: "12"', 'regex: "12*"'],
        ['prefix: "12"', 'regex: "12{0,1}3"'],
        ['prefix: "12"', 'regex: "12|3"'],
        ['prefix: "12"', 'regex: "(12)?3"'],
        ['number: "12"', 'regex: "12+"'],
        ['number: "12"', 'regex: "12."'],
        ['regex: "1.*"', 'regex: "[0-9]*"'],
    ],
)
def test_a_route_that_can_answer_is_not_named(routes: list[str]) -> None:
    """A warning that is wrong is worse than none."""
    lines = "".join(f"  - {{{route}, flavor: a}}\n" for route in routes)
    assert shadowed(settings_of(f"{FLAVORS}routes:\n{lines}")) == []
