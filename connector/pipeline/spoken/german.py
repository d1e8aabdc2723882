"""German."""

from __future__ import annotations

import re

from connector.pipeline.spoken.language import Form, Language, Money, Noun, Words, listed, nouns, numbered

_SMALL = listed(
    "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn "
    "siebzehn achtzehn neunzehn"
)
_TENS = listed("null zehn zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig")
_SCALES = (
    (10**12, "eine Billion", "Billionen"),
    (10**9, "eine Milliarde", "Milliarden"),
    (10**6, "eine Million", "Millionen"),
)
_ONE = {Form.ALONE: "eins", Form.MASCULINE: "ein", Form.FEMININE: "eine"}
_ORDINALS = {"ein": "erst", "drei": "dritt", "sieben": "siebt", "acht": "acht"}
_MONTH_NAMES = listed("Januar Februar März April Mai Juni Juli August September Oktober November Dezember")
_MONTHS = (
    numbered(_MONTH_NAMES)
    | numbered(listed("Jan Feb Mär Apr Mai Jun Jul Aug Sep Okt Nov Dez"))
    | {"Sept": 9, "Jänner": 1}
)
_NAMES = listed("Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag")
_WEEKDAYS = {name: name for name in _NAMES} | {name[:2]: name for name in _NAMES}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DAY = r"0?[1-9]|[12]\d|3[01]"
_DATIVE = re.compile(r"(?i)am|vom|zum|dem|den|im|beim|des|bis|ab|seit|jeden")
"""Words after which an ordinal ends in *-ten*."""


def _below_million(number: int) -> str:
    """The stem: *ein* for one."""
    if number >= 1000:
        rest = number % 1000
        return f"{_below_million(number // 1000)}tausend" + (_below_million(rest) if rest else "")
    if number >= 100:
        rest = number % 100
        return f"{_SMALL[number // 100]}hundert" + (_below_million(rest) if rest else "")
    if number < 20:
        return _SMALL[number]
    return (f"{_SMALL[number % 10]}und" if number % 10 else "") + _TENS[number // 10]


def cardinal(number: int, form: Form = Form.ALONE) -> str:
    """21 is *einundzwanzig*, 101 *einhunderteins*."""
    for scale, one, many in _SCALES:
        if number >= scale:
            count, rest = divmod(number, scale)
            words = one if count == 1 else f"{cardinal(count)} {many}"
            return words + (f" {cardinal(rest, form)}" if rest else "")
    words = _below_million(number)
    if number % 100 == 1:
        return words[:-3] + _ONE[form if number == 1 else Form.ALONE]
    return words


def ordinal(number: int, before: str = "") -> str:
    """3 is *dritte*, after *am* or *zum* *dritten*."""
    last = number % 100
    stem = _below_million(number % 10**6)
    if 0 < last < 20:
        small = _SMALL[last]
        stem = stem[: -len(small)] + _ORDINALS.get(small, f"{small}t")
    else:
        stem += "st"
    return stem + ("en" if _DATIVE.fullmatch(before) else "e")


def agreement(word: str) -> Form:
    """*eine* before a noun that looks feminine, *ein* before any other."""
    if not word[:1].isupper():
        return Form.ALONE
    return Form.FEMININE if word.endswith(("e", "ion", "ung", "heit", "keit", "tät")) else Form.MASCULINE


def year(number: int) -> str:
    """1999 is *neunzehnhundertneunundneunzig*."""
    if 1100 <= number < 2000:
        rest = number % 100
        return f"{_SMALL[number // 100]}hundert" + (cardinal(rest) if rest else "")
    return cardinal(number)


def clock(hour: int, minute: int, half: str) -> str:
    """14:30 is *vierzehn Uhr dreißig*."""
    return f"{cardinal(hour, Form.MASCULINE)} Uhr" + (f" {cardinal(minute)}" if minute else "")


def date(day: int, month: int, of_year: int | None, before: str) -> str:
    """*zwanzigster November*, after *am* *zwanzigsten November*, after *Dienstag,* *den zwanzigsten November*."""
    if before.removesuffix(",") in _NAMES:
        name = f"den {ordinal(day, 'den')}"
    else:
        name = ordinal(day, before)
        if name.endswith("e") and before.casefold() != "der":
            name += "r"
    words = f"{name} {_MONTH_NAMES[month - 1]}"
    return words if of_year is None else f"{words} {year(of_year)}"


def fraction(whole: int, numerator: int, denominator: int) -> str:
    """3/4 is *drei Viertel*, 1 1/2 *eineinhalb*."""
    if denominator == 2:
        return f"{cardinal(whole, Form.MASCULINE)}einhalb" if whole else "ein halb"
    name = f"{ordinal(denominator)[:-1]}el".capitalize()
    return (f"{cardinal(whole)} " if whole else "") + f"{cardinal(numerator, Form.MASCULINE)} {name}"


_UNITS = nouns("""
    % | Prozent | Prozent
    km | Kilometer | Kilometer
    m | Meter | Meter
    cm | Zentimeter | Zentimeter
    mm | Millimeter | Millimeter
    kg | Kilogramm | Kilogramm
    g | Gramm | Gramm
    mg | Milligramm | Milligramm
    t | Tonne | Tonnen
    km/h | Kilometer pro Stunde | Kilometer pro Stunde
    m/s | Meter pro Sekunde | Meter pro Sekunde
    °C ℃ | Grad Celsius | Grad Celsius
    °F ℉ | Grad Fahrenheit | Grad Fahrenheit
    ° | Grad | Grad
    TB | Terabyte | Terabyte
    GB | Gigabyte | Gigabyte
    MB | Megabyte | Megabyte
    KB kB | Kilobyte | Kilobyte
    Gbit/s | Gigabit pro Sekunde | Gigabit pro Sekunde
    Mbit/s | Megabit pro Sekunde | Megabit pro Sekunde
    kWh | Kilowattstunde | Kilowattstunden
    kW | Kilowatt | Kilowatt
    W | Watt | Watt
    V | Volt | Volt
    GHz | Gigahertz | Gigahertz
    MHz | Megahertz | Megahertz
    kHz | Kilohertz | Kilohertz
    Hz | Hertz | Hertz
    dB | Dezibel | Dezibel
    l L | Liter | Liter
    ml | Milliliter | Milliliter
    m² m2 qm | Quadratmeter | Quadratmeter
    km² km2 | Quadratkilometer | Quadratkilometer
    m³ m3 | Kubikmeter | Kubikmeter
    ms | Millisekunde | Millisekunden
    Tsd. | Tausend | Tausend
""") | nouns(
    """
    h Std. Std | Stunde | Stunden
    min Min. Min | Minute | Minuten
    s Sek. Sek | Sekunde | Sekunden
    Mio. Mio | Million | Millionen
    Mrd. Mrd | Milliarde | Milliarden
    """,
    Form.FEMININE,
)

_EURO = Money(Noun("Euro", "Euro"), Noun("Cent", "Cent"))
_DOLLAR = Money(Noun("Dollar", "Dollar"), Noun("Cent", "Cent"))
_POUND = Money(Noun("Pfund", "Pfund"), Noun("Penny", "Pence"))
_FRANC = Money(Noun("Franken", "Franken"), Noun("Rappen", "Rappen"))
_MILLION = Noun("Million", "Millionen", Form.FEMININE)
_BILLION = Noun("Milliarde", "Milliarden", Form.FEMININE)

GERMAN = Language(
    words=Words(
        point="Komma",
        minus="minus",
        plus="plus",
        times="mal",
        equals="gleich",
        to="bis",
        per="pro",
        conjunction="und",
        alternative="oder",
        number="Nummer",
        about="etwa",
        less="weniger als",
        more="mehr als",
        at_least="mindestens",
        at_most="höchstens",
        at="ät",
        dot="Punkt",
        slash="Schrägstrich",
        out_of="von",
        dash="Bindestrich",
        underscore="Unterstrich",
    ),
    thousands=r"[.' ]",
    decimal=",",
    decimals_by_digit=True,
    month_first=False,
    day_first=True,
    pairs_as_numbers=False,
    cardinal=cardinal,
    ordinal=ordinal,
    ordinals=(
        r"\b(?P<before>(?i:der|die|das|dem|den|des|am|im|vom|zum|zur|beim|bis|ab|seit|und|jede[mnrs]?|ihre?|unsere?))\s"
        r"(?P<n>\d{1,4})\.(?=\s\w)"
    ),
    agreement=agreement,
    dated_by=r"(?i:am|vom|bis|zum|ab|seit|den)",
    year=year,
    dated=r"(?i:jahr|jahre|seit|von|ab|anno|um)",
    clock=clock,
    clocks=(
        r"(?P<hour>[01]?\d|2[0-4])[:.](?P<minute>[0-5]\d)\s?(?:Uhr|h)(?!\w)",
        r"(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?![\d:])",
        r"(?P<hour>[01]?\d|2[0-4])\sUhr(?:\s(?P<minute>[0-5]\d)(?!\d))?(?!\w)",
    ),
    date=date,
    dates=(
        (
            rf"(?<![\w.])(?P<day>{_DAY})\.\s?(?P<month>{_MONTH})(?!\w)\.?"
            r"(?:\s(?P<year>[12]\d{3})(?!\d))?"
        ),
    ),
    months=_MONTHS,
    weekdays=_WEEKDAYS,
    fraction=fraction,
    units=_UNITS,
    currencies={
        "€": _EURO,
        "EUR": _EURO,
        "Euro": _EURO,
        "$": _DOLLAR,
        "US$": Money(Noun("US-Dollar", "US-Dollar"), _DOLLAR.cent),
        "USD": Money(Noun("US-Dollar", "US-Dollar"), _DOLLAR.cent),
        "£": _POUND,
        "GBP": _POUND,
        "CHF": _FRANC,
        "¥": Money(Noun("Yen", "Yen")),
    },
    scales={"Mio.": _MILLION, "Mio": _MILLION, "Mrd.": _BILLION, "Mrd": _BILLION}
    | dict.fromkeys(("Million", "Millionen"), _MILLION)
    | dict.fromkeys(("Milliarde", "Milliarden"), _BILLION),
    elided=False,
    small_change=" ",
    cents_named=False,
    abbreviations={
        "z. B.": "zum Beispiel",
        "z.B.": "zum Beispiel",
        "Z. B.": "Zum Beispiel",
        "Z.B.": "Zum Beispiel",
        "d. h.": "das heißt",
        "d.h.": "das heißt",
        "u. a.": "unter anderem",
        "u.a.": "unter anderem",
        "v. a.": "vor allem",
        "v.a.": "vor allem",
        "i. d. R.": "in der Regel",
        "i.d.R.": "in der Regel",
        "o. Ä.": "oder Ähnliches",
        "o.Ä.": "oder Ähnliches",
        "usw.": "und so weiter",
        "etc.": "et cetera",
        "bzw.": "beziehungsweise",
        "ca.": "circa",
        "Ca.": "Circa",
        "evtl.": "eventuell",
        "ggf.": "gegebenenfalls",
        "inkl.": "inklusive",
        "zzgl.": "zuzüglich",
        "vgl.": "vergleiche",
        "sog.": "sogenannte",
        "Dr.": "Doktor",
        "Prof.": "Professor",
        "Hr.": "Herr",
        "Fr.": "Frau",
        "Nr.": "Nummer",
        "MwSt.": "Mehrwertsteuer",
        "zw.": "zwischen",
        "Tel.": "Telefon",
        "Str.": "Straße",
        "Abt.": "Abteilung",
        "max.": "maximal",
        "min.": "mindestens",
    },
    special=(
        ("/", r"/(?=(?:Tag|Woche|Monat|Jahr|Stunde|Person)\b)", " pro "),
        (r"\.", r"\busw\.(?=\s[A-ZÄÖÜ])", "und so weiter."),
        (r"\.", r"\bSt\.(?=\s[A-ZÄÖÜ])", "Sankt"),
        (r"\.", r"(?<=[a-zäöüß])str\.", "straße"),
        (r"\.", r"(?<=[a-zäöüß]-)Str\.", "Straße"),
        (r"\d", r"§\s?(?=\d)", "Paragraf "),
        (r"\d", r"№\s?(?=\d)", "Nummer "),
        (r"\d", r"\bS\.\s(?=\d)", "Seite "),
        ("x", r"(?<!\w)(\d{1,4})\s?x(?!\w|\s?\d)", lambda match: f"{cardinal(int(match[1]), Form.MASCULINE)}mal"),
        (r"\d\.\s?[-–]", r"(?<![\w.])(\d{1,2})\.\s?[-–]\s?(?=\d{1,2}\.)", r"\1. bis "),
        (r"nr\.", r"(?<=[a-zäöüß])nr\.", "nummer"),
        ("er", r"\b(\d0)er\b", lambda match: f"{cardinal(int(match[1]))}er"),
        ("/", r"\b24/7\b", "rund um die Uhr"),
        ("/", r"\bund/oder\b", "und oder"),
    ),
    postcodes=r"(?<=,\s)\d{5}(?=\s[A-ZÄÖÜ][a-zäöüß])",
    dictated=(
        r"(?:\w*[Nn]ummer|Nr\.|\w*[Cc]ode|PIN|PLZ|Postleitzahl|Durchwahl|Aktenzeichen|Kennwort|"
        r"Notruf|[Ww]ählen\sSie(?:\sdie)?)(?:\s(?:ist|lautet))?:?"
    ),
    keys={"*": "Stern", "#": "Raute"},
    keys_after=r"(?i:drücken sie|taste|sie|die|oder|und|mit)",
    roman={
        r"(?:Heinrich|Ludwig|Wilhelm|Friedrich|Karl|Otto|Elisabeth|Georg|Johannes|Paul|Benedikt|Pius|Katharina)": (
            lambda number: f"der {ordinal(number).capitalize()}"
        ),
        r"(?:Kapitel|Teil|Band|Artikel|Phase|Weltkrieg)": cardinal,
    },
    symbols={"±": "plus minus", "€": "Euro", "$": "Dollar", "£": "Pfund", "¥": "Yen", "§": "Paragraf", "°": "Grad"},
)
