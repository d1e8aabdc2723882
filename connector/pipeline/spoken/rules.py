"""What is written in figures and signs, as it is said: a table of rules, in order, for each language.

The order matters: what looks like several things (2026-11-20 like a range, 0800 123 4567 like a number) is
taken by the rule that asks for most. Rules write words, in which no later rule finds anything.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from connector.pipeline.spoken.language import Form, Language, Money, Noun

_LARGEST = 10**15
"""From here on, and where they begin with a zero, numbers are said digit by digit."""

_LONG_PATH = 40
"""Characters of a path from which on only the host of an address is said."""

_LONGEST_WORD = 30
"""Characters before a match in which the word before it is looked for."""

_FRACTIONS = frozenset({2, 3, 4, 5, 8})
"""Denominators that make a fraction; 7/10 is seven out of ten."""

_TOP_LEVEL = (
    "com org net info biz edu gov app dev shop online tel io ai eu de fr es uk co ch at it nl be pl pt ca au nz jp mx"
)
_BARE_HOST = rf"(?<![\w@.-])(?:[a-z0-9-]+\.)+(?:{_TOP_LEVEL.replace(' ', '|')})(?:/[^\s<>()\"]*[^\W_])?/?(?!\w|\.\w)"
_PHONE = (
    r"(?<![\w.,+-])(?:\+\s?\d{1,3}[ .\-/]?)?(?:\(\+?\d{1,5}\)[ .\-/]?)?\d{1,15}(?:(?: | ?[.\-/–] ?)\d{2,8}){0,6}"
    r"(?![\w(]|[.,:/-]\d|\s?[%€$£°])"
)
_DATE_LIKE = re.compile(r"\d{4}-\d{2}-\d{2}|\d{1,2}([./-])\d{1,2}\1(?:\d{4}|\d{2})")
_NATIONAL = re.compile(
    r"(?:1[-. ])?\(?\d{3}\)?[-. ]\d{3}[-. ]\d{4}|\d{3}-\d{4}|\d{7,}"  # North America
    r"|[6-9]\d{2}(?: \d{2,3}){2,3}|[89]\d \d{3} \d{2} \d{2}"  # Spain
)
_CODE = re.compile(r"([A-Z]|[A-Z]*[AEIOUY][A-Z]*(?<=[A-Z]{4}))-?([1-9]\d?)")
_ROMAN = re.compile(r"(?=[IVXLC])(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})")
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}

_FIGURE = r"\d"

_Match = re.Match[str]


@dataclass(frozen=True, slots=True)
class Rule:
    """Says what `pattern` finds; tried on a text in which `needs` is found, which is quick to see."""

    needs: re.Pattern[str]
    pattern: re.Pattern[str]
    say: str | Callable[[_Match], str]


def keys(language: Language) -> tuple[Rule, ...]:
    """What is said of a telephone's keys, before * and # are taken for markup."""

    def key(match: _Match) -> str:
        return f"{match[1]} {language.keys[match[2]]}"

    pattern = rf"\b({language.keys_after}) ([*#])(?=[\s.,;:!?]|$)"
    return (Rule(re.compile(" [*#]"), re.compile(pattern), key),)


def rules(language: Language) -> tuple[Rule, ...]:
    """The rules of `language`, in order."""
    table = _table(_Sayer(language))
    return tuple(Rule(re.compile(needs), re.compile(pattern), say) for needs, pattern, say in table)


def apply(table: tuple[Rule, ...], text: str) -> str:
    """`text` as the rules of `table` say it."""
    for rule in table:
        if rule.needs.search(text):
            text = rule.pattern.sub(rule.say, text)
    return text


def _table(say: _Sayer) -> Iterator[tuple[str, str, str | Callable[[_Match], str]]]:
    """What a text must have for it, the pattern, and what is said."""
    language, words, number = say.language, say.language.words, say.number
    currency, scale, unit = map(_any_of, (language.currencies, language.scales, language.units))
    price = rf"(?P<n>\d+[.,]\d{{2}}(?![\d.,]\d|\d)|{number})"
    sign = r"(?P<sign>(?<!\w)[-−])?"
    per = r"(?:\s?/\s?(?P<per>[^\W\d_]{2,}))?"
    weekday, month = _any_of(language.weekdays), _any_of(language.months)
    half = r"(?:\s?(?:[AaPp]\.?[Mm]\.?|Uhr|h|%|€|\$|°[CF]?|st|nd|rd|th))?"
    figures = r"(?P<a>\d{1,2})(?P<sep>[./-])(?P<b>\d{1,2})(?P=sep)(?P<year>\d{4}|\d{2})"
    code = r"(?=[A-Z\d-]*[A-Z])(?=[A-Z-]*\d)[A-Z\d]+(?:-[A-Z\d]+)*"

    # Addresses.
    yield "@", r"(?<![\w.+-])[\w.+-]*\w@\w[\w-]*(?:\.\w[\w-]*)+", say.address
    yield r"\.\w|://", rf"(?<![\w@.])(?:https?://|www\.)[^\s<>()\"]*[^\W_]/?|{_BARE_HOST}", say.address

    # Short forms, and what a language has of its own.
    for needed, pattern, own in language.special:
        yield needed, pattern, own
    yield "[-–]", rf"\b({weekday})\.?\s?[-–]\s?({weekday})(?:\.(?=\s?[\d:,]|\s[a-z]))?(?!\w)", say.weekdays
    short = _any_of(language.abbreviations)
    yield short, rf"(?<![\w.])(?:{short})(?!\w)", say.abbreviation
    day = rf"\b({weekday})(?:\.?(,)(?=\s(?:\d|{month}))|\.?(?=\s\d{{1,2}}(?::\d\d|\s?h|\s?[ap]\.?m|\s?[-–]\s?\d)))"
    yield _FIGURE, day, say.weekday

    # Figures that are no quantities.
    grouped = r"(?:[A-Z]{2}\d{2}|\d{4})(?:[ -][A-Z\d]{4}){3,7}(?:[ -][A-Z\d]{1,4})?"
    yield r"\d[ -][A-Z\d]{4}[ -]", rf"(?<![\w-]){grouped}(?![\w-])", say.account
    yield r"\d(?:[ .\-/–()]*\d){6}", _PHONE, say.phone
    yield r"\d-\d", r"(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})(?:T(?=\d\d:))?(?!\w|-)", say.iso_date
    yield r"\d[./-]\d", rf"(?<![\w./-]){figures}(?![\w/-]|\.\d)", say.date_in_figures
    if language.day_first:
        yield r"\d\.\d+\.", r"(?<![\w.])(?P<a>\d{1,2})\.(?P<b>\d{1,2})\.(?!\w)", say.short_date
    for pattern in language.dates:
        yield _FIGURE, pattern, say.date
    if language.postcodes:
        yield r"\d{5}", language.postcodes, lambda match: say.digits(match[0])
    dictated = rf"\b(?P<what>(?i:{language.dictated}))\s?#?\s?(?P<n>\d[\d -]+\d)(?!\w|[.,:]\d|\s?[%€$£])"
    yield r"\d\d", dictated, say.dictated
    yield "#", r"#\s?(?P<n>\d+)(?!\w|[.,:]\d)", say.numbered
    yield r"[A-Z]-?\d|\d[A-Z]", rf"(?<![\w-]){code}(?![\w°]|-\w)", say.code
    yield r"\d-\d+-", r"(?<![\w-])\d+(?:-\d+){2,}(?![\w-])", lambda match: say.groups(match[0].split("-"))
    yield r"\d\.\d+\.\d", r"(?<![\w.])[vV]?\d+(?:\.\d+){2,}(?!\w)", say.version

    # What stands between two numbers.
    yield "=", r"(?<=\d)\s?[-–−]\s?(?=\d+(?:[.,]\d+)?\s?=)", f" {words.minus} "
    yield "[-–—]", rf"(?<=\d)(?P<half>{half})\s?[-–—]\s?(?=[$€£]?\d)", rf"\g<half> {words.to} "
    yield "[×x]", r"(?<=\d)\s?[×x]\s?(?=\d)", f" {words.times} "
    for signs, said in (
        ("<", words.less),
        (">", words.more),
        ("≤", words.at_most),
        ("≥", words.at_least),
        ("[~≈]", words.about),
    ):
        yield signs, rf"{signs}\s?(?=[$€£]?\d)", f" {said} "

    # Quantities.
    for pattern in language.clocks:
        yield _FIGURE, rf"(?<![\w.:,]){pattern}", say.clock
    before = rf"{sign}(?P<currency>{currency})\s?{price}(?:\s?(?P<scale>{scale})(?!\w))?{per}(?!\d)"
    after = rf"(?<![\w.,]){sign}{price}(?:\s?(?P<scale>{scale}))?\s?(?P<currency>{currency})(?!\w){per}"
    yield rf"(?:{currency})\s?\d", before, say.money
    yield currency, after, say.money
    yield "[¼-¾⅐-⅞]", r"(?P<whole>\d+)?(?P<sign>[¼-¾⅐-⅞])", say.vulgar_fraction
    yield "/", r"(?<![\w.,/])(?:(?P<whole>\d+)\s)?(?P<n>\d+)\s?/\s?(?P<d>\d+)(?![\w/]|[.,]\d)", say.fraction
    yield "/", r"(?<=\d)\s?/\s?(?=\d)", say.slash
    yield _FIGURE, rf"(?<![\w.,]){sign}(?P<n>{number})\s?(?P<unit>{unit})(?!\w|[/-][^\W\d_]){per}", say.quantity
    yield _FIGURE, rf"(?<![\w.,]){language.ordinals}(?!\w)", say.ordinal
    yield r"\d{4}", rf"\b(?P<dated>{language.dated})\s(?P<n>(?:1\d|20)\d\d)(?![\w%]|[.,]\d)", say.year
    yield r"\d{4}", r"(?<![\w.,])(?P<n>(?:19|20)\d\d)(?![\w%]|[.,]\d)", say.year
    yield _FIGURE, r"(?<=[A-Za-zÀ-ÿ])(?=\d)|(?<=\d)(?=[A-Za-zÀ-ÿ])|(?<=\d):(?=\d)", " "
    yield _FIGURE, rf"{sign}(?<!\w)(?P<n>{number})(?!\w)(?=(?:\s(?P<next>[^\W\d_]+))?)", say.plain_number

    # Signs.
    for name, numeral in language.roman.items():
        pattern = rf"\b({name})\s([IVXLC]{{1,7}})\b(?!['’])(?:\.(?=\s[a-zà-ÿ]))?"
        yield r"\s[IVXLC]+\b", pattern, say.roman(numeral)
    yield "&", r"\s?&\s?", f" {words.conjunction} "
    yield "/", r"(?<=[a-zà-ÿ]{2})/(?=[a-zà-ÿ]{2})", f" {words.alternative} "
    yield r"\+", r"\s?\+\s?", f" {words.plus} "
    yield "=", r"(?<=\w)\s?=\s?(?=\w)", f" {words.equals} "
    yield "@", r"(?:(?<=\s)|^)@\s?(?=\w)", f"{words.at} "
    for symbol, name in ("%", language.units["%"].many), *language.symbols.items():
        yield re.escape(symbol), rf"\s?{re.escape(symbol)}(?=\w)", f" {name} "
        yield re.escape(symbol), rf"\s?{re.escape(symbol)}", f" {name}"
    yield "[/=@#_]", "[/=@#_]", " "


def _any_of(written: Iterable[str]) -> str:
    """A pattern for any of these, the longest first."""
    return "|".join(re.escape(text) for text in sorted(written, key=len, reverse=True))


class _Sayer:
    """What the rules of one language call."""

    def __init__(self, language: Language) -> None:
        self.language = language
        grouped = rf"\d{{1,3}}(?:{language.thousands}\d{{3}})+(?!\d)(?:{language.decimal}\d+)?"
        foreign = r"\d{1,3}(?:,\d{3})+\.\d+" if language.day_first else r"\d{1,3}(?:\.\d{3})+,\d+"
        self.number = rf"(?:{foreign}|{grouped}|\d+(?:{'[.,]' if language.day_first else language.decimal}\d+)?(?!\d))"
        self._grouped = re.compile(grouped)
        self._foreign = re.compile(foreign)

    # ------------------------------------------------------------------------------ numbers

    def _split(self, figures: str) -> tuple[str, str]:
        """The digits before and after the decimal sign."""
        if self._grouped.fullmatch(figures):
            whole, *rest = re.split(self.language.decimal, figures)
            return re.sub(r"\D", "", whole), "".join(rest)
        if self._foreign.fullmatch(figures):
            whole, decimals = re.split(r"[.,](?=\d+$)", figures)
            return re.sub(r"\D", "", whole), decimals
        whole, _, decimals = figures.replace(",", ".").partition(".")
        return whole, decimals

    def _count(self, figures: str, form: Form = Form.ALONE) -> str:
        """A number in figures, with decimals or without."""
        whole, decimals = self._split(figures)
        said = self._integer(whole, form if not decimals else Form.ALONE)
        if not decimals:
            return said
        point = (
            self.language.words.dot
            if self.language.decimal == "," and "." in figures and "," not in figures
            else (self.language.words.point)
        )
        return f"{said} {point} {self._decimals(decimals)}"

    def _integer(self, figures: str, form: Form = Form.ALONE) -> str:
        if int(figures) >= _LARGEST or (figures[0] == "0" and len(figures) > 1):
            return self.digits(figures)
        return self.language.cardinal(int(figures), form)

    def _decimals(self, figures: str) -> str:
        if self.language.decimals_by_digit or len(figures) > 2:
            return self.digits(figures)
        if figures[0] == "0":
            return self.digits(figures)
        return self._integer(figures)

    def digits(self, figures: str) -> str:
        return " ".join(self.language.cardinal(int(digit), Form.ALONE) for digit in figures)

    def groups(self, groups: Iterable[str], *, paired: bool = False) -> str:
        """Digit by digit, with a short pause after each group; long groups are said in threes, or `paired`."""
        parts = (part for group in groups for part in self._parts(group, paired=paired))
        return ", ".join(
            self._integer(part) if paired and len(part) == 2 and part[0] != "0" else self.digits(part) for part in parts
        )

    def _parts(self, group: str, *, paired: bool) -> list[str]:
        if len(group) <= 4:
            return [group]
        size = 2 if paired and len(group) % 2 == 0 else 3
        parts = [group[start : start + size] for start in range(0, len(group), size)]
        if len(parts[-1]) == 1:
            parts[-2:] = ["".join(parts[-2:])]
        return parts

    def _counted(self, figures: str, noun: Noun) -> str:
        singular = self._split(figures) == ("1", "")
        return f"{self._count(figures, noun.form)} {noun.one if singular else noun.many}"

    def _sign(self, match: _Match) -> str:
        return f"{self.language.words.minus} " if match["sign"] else ""

    def _per(self, match: _Match) -> str:
        return f" {self.language.words.per} {match['per']}" if match["per"] else ""

    def plain_number(self, match: _Match) -> str:
        return self._sign(match) + self._count(match["n"], self.language.agreement(match["next"] or ""))

    def numbered(self, match: _Match) -> str:
        figures = match["n"]
        return f"{self.language.words.number} {self._integer(figures) if len(figures) < 3 else self.groups([figures])}"

    def dictated(self, match: _Match) -> str:
        groups = re.findall(r"\d+", match["n"])
        if sum(map(len, groups)) < 3:
            return match[0]
        return f"{match['what']} {self.groups(groups)}"

    def ordinal(self, match: _Match) -> str:
        found = match.groupdict("")
        before, number = found.get("before", ""), int(found["n"])
        said = self.language.ordinal(number, before or found.get("mark", ""))
        return f"{before} {said}" if before else said

    def quantity(self, match: _Match) -> str:
        said = self._counted(match["n"], self.language.units[match["unit"]])
        return f"{self._sign(match)}{said}{self._per(match)}{_stop(match, before_capitals=True)}"

    def fraction(self, match: _Match) -> str:
        whole, numerator, denominator = (int(match[name] or 0) for name in ("whole", "n", "d"))
        dated = not match["whole"] and re.fullmatch(self.language.dated_by, _word_before(match))
        if dated and 0 < max(numerator, denominator) < 32:
            return self._month_and_day(match, numerator, denominator)
        if 0 < numerator < denominator and denominator in _FRACTIONS and whole < _LARGEST:
            return self.language.fraction(whole, numerator, denominator)
        if match["whole"] or numerator > denominator:
            return match[0]
        if numerator == denominator > 10:
            return f"{self._integer(match['n'])} {self._integer(match['d'])}"
        return f"{self._integer(match['n'])} {self.language.words.out_of} {self._integer(match['d'])}"

    def slash(self, match: _Match) -> str:
        """A mark may have decimals: 4.8/5."""
        mark = re.search(r"\d[.,]\d+$", match.string[max(0, match.start() - _LONGEST_WORD) : match.start()])
        return f" {self.language.words.out_of if mark else self.language.words.slash} "

    def vulgar_fraction(self, match: _Match) -> str:
        numerator, _, denominator = unicodedata.normalize("NFKC", match["sign"]).partition("\u2044")
        return self.language.fraction(int(match["whole"] or 0), int(numerator), int(denominator))

    def roman(self, said: Callable[[int], str]) -> Callable[[_Match], str]:
        def say(match: _Match) -> str:
            if not _ROMAN.fullmatch(match[2]):
                return match[0]
            if match[2] == "I" and match.string[match.end() :].strip()[:1] not in tuple(".,;:!?)"):
                return match[0]
            values = [_ROMAN_VALUES[letter] for letter in match[2]]
            number = sum(-value if value < max(values[index:]) else value for index, value in enumerate(values))
            return f"{match[1]} {said(number)}"

        return say

    # ------------------------------------------------------------------------------ money

    def money(self, match: _Match) -> str:
        money = self.language.currencies[match["currency"]]
        figures = match["n"]
        if match["scale"]:
            said = f"{self._counted(figures, self.language.scales[match['scale']])} {money.unit.many}"
            if self.language.elided:
                said = re.sub(r"\bde (?=[aeiouéè])", "d'", said)
        else:
            said = self._price(figures, money)
        return f"{self._sign(match)}{said}{self._per(match)}"

    def _price(self, figures: str, money: Money) -> str:
        whole, cents = self._split(figures)
        if cents == "00":
            whole, cents, figures = whole, "", whole
        if money.cent is None or len(cents) != 2:
            return self._counted(figures, money.unit)
        named = self._counted(cents.lstrip("0"), money.cent)
        if not int(whole):
            return named
        change = named if self.language.cents_named or cents[0] == "0" else self._integer(cents)
        return self._counted(whole, money.unit) + self.language.small_change + change

    # ------------------------------------------------------------------------------ dates and times

    def year(self, match: _Match) -> str:
        dated = match.groupdict().get("dated")
        return (f"{dated} " if dated else "") + self.language.year(int(match["n"]))

    def clock(self, match: _Match) -> str:
        found = match.groupdict("")
        hour, minute, half = int(found["hour"]), int(found.get("minute") or 0), found.get("half", "")
        return self.language.clock(hour, minute, half) + _stop(match, before_capitals=True)

    def date(self, match: _Match) -> str:
        found = match.groupdict("")
        month = self.language.months[found["month"]]
        of_year = int(found["year"]) if found.get("year") else None
        if not found.get("day"):
            name = next(name for name, number in self.language.months.items() if number == month)
            return f"{name} {self.language.year(of_year)}" if of_year else match[0]
        said = self.language.date(int(found["day"]), month, None if found.get("to") else of_year, _word_before(match))
        if found.get("to"):
            said += f" {self.language.words.to} {self.language.ordinal(int(found['to']), '')}"
            said += f", {self.language.year(of_year)}" if of_year else ""
        return said

    def iso_date(self, match: _Match) -> str:
        return self._date(match, int(match["day"]), int(match["month"]), int(match["year"])) + " " * match[0].endswith(
            "T"
        )

    def date_in_figures(self, match: _Match) -> str:
        a, b, of_year = int(match["a"]), int(match["b"]), int(match["year"])
        if len(match["year"]) == 2:
            of_year += 2000 if of_year < 70 else 1900
        if self.language.day_first:
            return self._date(match, a, b, of_year)
        if b > 12 or a == b:
            return self._date(match, b, a, of_year)
        if a > 12:
            return self._date(match, a, b, of_year)
        return f"{self._integer(str(a))}, {self._integer(str(b))}, {self.language.year(of_year)}"

    def _month_and_day(self, match: _Match, a: int, b: int) -> str:
        if self.language.day_first:
            return self._date(match, a, b, None)
        if a < 13 <= b or b < 13 <= a or a == b:
            return self._date(match, max(a, b), min(a, b), None)
        return f"{self._integer(str(a))}, {self._integer(str(b))}"

    def short_date(self, match: _Match) -> str:
        return self._date(match, int(match["a"]), int(match["b"]), None)

    def _date(self, match: _Match, day: int, month: int, of_year: int | None) -> str:
        if not (0 < day < 32 and 0 < month < 13):
            return match[0]
        return self.language.date(day, month, of_year, _word_before(match))

    def weekday(self, match: _Match) -> str:
        return self.language.weekdays[match[1]] + (match[2] or "")

    def weekdays(self, match: _Match) -> str:
        first, last = (self.language.weekdays[match[index]] for index in (1, 2))
        return f"{first} {self.language.words.to} {last}"

    # ------------------------------------------------------------------------------ names of things

    def abbreviation(self, match: _Match) -> str:
        return self.language.abbreviations[match[0]] + _stop(match)

    def phone(self, match: _Match) -> str:
        written = match[0]
        digits = sum(map(str.isdecimal, written))
        if not 7 <= digits <= 15 or _DATE_LIKE.fullmatch(written):
            return written
        if re.fullmatch(r"0\.\d+|[1-9]\d*000", written):
            return written
        if written[0] not in "+(0" and not _NATIONAL.fullmatch(written):
            return written
        plus = f"{self.language.words.plus} " if written[0] == "+" else ""
        return plus + self.groups(re.findall(r"\d+", written), paired=self.language.pairs_as_numbers)

    def code(self, match: _Match) -> str:
        written = match[0]
        if re.fullmatch(r"\d+[AP]M", written) or any(
            (glued := re.fullmatch(pattern, written)) and glued[1] in table
            for pattern, table in (
                (r"\d+([A-Z]+)", self.language.units),
                (r"\d+([A-Z]+)", self.language.currencies),
                (r"([A-Z]+)\d+", self.language.currencies),
            )
        ):
            return written
        if short := _CODE.fullmatch(written):
            return f"{short[1]} {self._integer(short[2])}"
        return ", ".join(self._spelled(part) for part in written.split("-"))

    def _spelled(self, part: str) -> str:
        runs = re.findall(r"\d+|[A-Z]+", part)
        return " ".join(self.groups([run]) if run.isdecimal() else _letters(run) for run in runs)

    def account(self, match: _Match) -> str:
        """The numbers of cards and bank accounts, in their groups."""
        return ", ".join(self._spelled(part) for part in re.split("[ -]", match[0]))

    def version(self, match: _Match) -> str:
        written = match[0]
        if self._grouped.fullmatch(written):
            return written
        said = f" {self.language.words.dot} ".join(self._integer(part) for part in written.lstrip("vV").split("."))
        return f"version {said}" if written[0] in "vV" else said

    def address(self, match: _Match) -> str:
        """E-mail addresses and those of pages, without their scheme, *www*, query and fragment."""
        written = re.sub(r"^(?:https?://)?(?:www\.)?", "", match[0])
        if "@" not in written:
            host, _, path = re.split(r"[?#]", written)[0].partition("/")
            written = f"{host}/{path}".rstrip("/") if len(path) < _LONG_PATH else host
        words = self.language.words
        said = {
            "@": words.at,
            ".": words.dot,
            "/": words.slash,
            "-": words.dash,
            "_": words.underscore,
            "+": words.plus,
        }
        written = re.sub(r"(?<=\.)[a-zA-Z]{2}(?=$|/|\.[a-zA-Z]{2}$)", lambda end: " ".join(end[0].upper()), written)
        parts = re.findall(r"[^\W\d_]+|\d+|[@./_+-]", written)
        return " ".join(said.get(part) or (self.digits(part) if part.isdecimal() else part) for part in parts)


def _letters(run: str) -> str:
    """Letter by letter, but a word that stands in a code as the word."""
    return run if len(run) > 3 and re.search("[AEIOUY]", run) else " ".join(run)


def _word_before(match: _Match) -> str:
    return "".join(match.string[max(0, match.start() - _LONGEST_WORD) : match.start()].split()[-1:])


def _stop(match: _Match, *, before_capitals: bool = False) -> str:
    """The full stop of an abbreviation that ends the sentence as well."""
    rest = match.string[match.end() :].lstrip("\"')”’» ")
    ends = not rest or (before_capitals and rest[0].isupper())
    return "." if ends and match[0].endswith(".") else ""
