"""English: numbers, dates and abbreviations as they are said in America, prices and units of both sides."""

from __future__ import annotations

import re

from connector.pipeline.spoken.language import Form, Language, Money, Noun, Words, listed, nouns, numbered

_SMALL = listed(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = listed("zero ten twenty thirty forty fifty sixty seventy eighty ninety")
_SCALES = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (10**3, "thousand"), (100, "hundred"))
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_MONTH_NAMES = listed("January February March April May June July August September October November December")
_MONTHS = numbered(_MONTH_NAMES) | numbered(listed("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec")) | {"Sept": 9}
_NAMES = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
_WEEKDAYS = (
    {name: name for name in _NAMES}
    | {name[:3]: name for name in _NAMES}
    | {"Tues": "Tuesday", "Thur": "Thursday", "Thurs": "Thursday"}
)
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DAY = r"0?[1-9]|[12]\d|3[01]"
_ROAD = r"(?:[A-Z][a-z]+|\d+(?:st|nd|rd|th))"
_HALF = r"[AaPp](?:\.\s?[Mm]\.|[Mm])"


def cardinal(number: int, form: Form = Form.ALONE) -> str:
    """123 is *one hundred twenty-three*."""
    for scale, name in _SCALES:
        if number >= scale:
            rest = number % scale
            return f"{cardinal(number // scale)} {name}" + (f" {cardinal(rest)}" if rest else "")
    if number < 20:
        return _SMALL[number]
    return _TENS[number // 10] + (f"-{_SMALL[number % 10]}" if number % 10 else "")


def ordinal(number: int, before: str = "") -> str:
    """23 is *twenty-third*."""
    words = cardinal(number)
    head, last = words[: -len(tail)] if (tail := words.replace("-", " ").split()[-1]) else words, tail
    if last in _ORDINALS:
        return head + _ORDINALS[last]
    return head + (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")


def agreement(word: str) -> Form:
    """English numbers do not agree."""
    return Form.ALONE


def year(number: int) -> str:
    """1999 is *nineteen ninety-nine*, 2005 *two thousand five*."""
    century, rest = divmod(number, 100)
    if century % 10 == 0 and rest < 10:
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def clock(hour: int, minute: int, half: str) -> str:
    """14:30 is *two thirty PM*, 9:00 *nine o'clock*."""
    morning = half[:1] in "aA" if half else hour < 12
    named = bool(half) or hour > 12 or hour == 0
    words = cardinal(hour % 12 or 12)
    if minute:
        words += f" {'oh ' if minute < 10 else ''}{cardinal(minute)}"
    elif not named:
        words += " o'clock"
    return f"{words} {'AM' if morning else 'PM'}" if named else words


def date(day: int, month: int, of_year: int | None, before: str) -> str:
    """*November twentieth, twenty twenty-six*."""
    words = f"{_MONTH_NAMES[month - 1]} {ordinal(day)}"
    if before.casefold() == "the":
        words = f"{ordinal(day)} of {_MONTH_NAMES[month - 1]}"
    return words if of_year is None else f"{words}, {year(of_year)}"


def fraction(whole: int, numerator: int, denominator: int) -> str:
    """3/4 is *three quarters*, 1 1/2 *one and a half*."""
    name = {2: "half", 4: "quarter"}.get(denominator) or ordinal(denominator)
    if numerator == 1:
        return f"{cardinal(whole)} and {'an' if name == 'eighth' else 'a'} {name}" if whole else f"one {name}"
    name = "halves" if denominator == 2 else f"{name}s"
    return (f"{cardinal(whole)} and " if whole else "") + f"{cardinal(numerator)} {name}"


def _decade(match: re.Match[str]) -> str:
    """The 1990s are the *nineteen nineties*."""
    number = int(match["decade"])
    century, rest = divmod(number, 100)
    if not rest:
        return f"{cardinal(century)} hundreds" if century % 10 else f"{cardinal(number)}s"
    tens = f"{_TENS[rest // 10][:-1]}ies" if rest >= 20 else f"{_TENS[rest // 10]}s"
    return f"{cardinal(century)} {tens}" if century else tens


_UNITS = nouns("""
    % | percent | percent
    x | time | times
    km | kilometer | kilometers
    m | meter | meters
    cm | centimeter | centimeters
    mm | millimeter | millimeters
    mi | mile | miles
    ft | foot | feet
    yd | yard | yards
    kg | kilogram | kilograms
    g | gram | grams
    mg | milligram | milligrams
    lb lbs | pound | pounds
    oz | ounce | ounces
    mph | mile per hour | miles per hour
    km/h kph | kilometer per hour | kilometers per hour
    m/s | meter per second | meters per second
    °C ℃ | degree Celsius | degrees Celsius
    °F ℉ | degree Fahrenheit | degrees Fahrenheit
    ° | degree | degrees
    TB | terabyte | terabytes
    GB | gigabyte | gigabytes
    MB | megabyte | megabytes
    KB kB | kilobyte | kilobytes
    Gbps Gbit/s | gigabit per second | gigabits per second
    Mbps Mbit/s | megabit per second | megabits per second
    kWh | kilowatt-hour | kilowatt-hours
    kW | kilowatt | kilowatts
    MW | megawatt | megawatts
    W | watt | watts
    V | volt | volts
    mAh | milliampere-hour | milliampere-hours
    GHz | gigahertz | gigahertz
    MHz | megahertz | megahertz
    kHz | kilohertz | kilohertz
    Hz | hertz | hertz
    dB | decibel | decibels
    L l | liter | liters
    ml mL | milliliter | milliliters
    gal | gallon | gallons
    h hr hrs hr. hrs. | hour | hours
    min mins min. mins. | minute | minutes
    s sec secs sec. secs. | second | seconds
    ms | millisecond | milliseconds
    m² m2 | square meter | square meters
    km² km2 | square kilometer | square kilometers
    sqft sq.ft. | square foot | square feet
    m³ m3 | cubic meter | cubic meters
    k K | thousand | thousand
    M | million | million
""")

_CURRENCIES = {
    "$": Money(Noun("dollar", "dollars"), Noun("cent", "cents")),
    "US$": Money(Noun("US dollar", "US dollars"), Noun("cent", "cents")),
    "USD": Money(Noun("US dollar", "US dollars"), Noun("cent", "cents")),
    "€": Money(Noun("euro", "euros"), Noun("cent", "cents")),
    "EUR": Money(Noun("euro", "euros"), Noun("cent", "cents")),
    "£": Money(Noun("pound", "pounds"), Noun("penny", "pence")),
    "GBP": Money(Noun("pound", "pounds"), Noun("penny", "pence")),
    "¥": Money(Noun("yen", "yen")),
    "JPY": Money(Noun("yen", "yen")),
    "₹": Money(Noun("rupee", "rupees"), Noun("paisa", "paise")),
    "INR": Money(Noun("rupee", "rupees"), Noun("paisa", "paise")),
    "CHF": Money(Noun("Swiss franc", "Swiss francs"), Noun("centime", "centimes")),
    "dollar": Money(Noun("dollar", "dollars"), Noun("cent", "cents")),
    "dollars": Money(Noun("dollar", "dollars"), Noun("cent", "cents")),
    "euros": Money(Noun("euro", "euros"), Noun("cent", "cents")),
    "¢": Money(Noun("cent", "cents")),
}

ENGLISH = Language(
    words=Words(
        point="point",
        minus="minus",
        plus="plus",
        times="times",
        equals="equals",
        to="to",
        per="per",
        conjunction="and",
        alternative="or",
        number="number",
        about="about",
        less="less than",
        more="more than",
        at_least="at least",
        at_most="at most",
        at="at",
        dot="dot",
        slash="slash",
        out_of="out of",
        dash="dash",
        underscore="underscore",
    ),
    thousands=",",
    decimal=r"\.",
    decimals_by_digit=True,
    month_first=True,
    day_first=False,
    pairs_as_numbers=False,
    cardinal=cardinal,
    ordinal=ordinal,
    ordinals=r"(?P<n>\d{1,6})(?P<mark>st|nd|rd|th)",
    agreement=agreement,
    dated_by=r"(?i:on|by|until|till|since|before|after|from|through|of)",
    year=year,
    dated=r"(?i:in|since|by|from|until|around|circa|year)",
    clock=clock,
    clocks=(
        rf"(?P<hour>[01]?\d|2[0-4])[:.](?P<minute>[0-5]\d)\s?(?P<half>{_HALF})(?!\w)",
        r"(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?![\d:])(?:\s(?:hrs|o'clock))?",
        rf"(?P<hour>1[0-2]|0?[1-9])\s?(?P<half>{_HALF})(?!\w)",
    ),
    date=date,
    dates=(
        (
            rf"(?P<month>{_MONTH})\.?\s(?P<day>{_DAY})(?:st|nd|rd|th)?(?!\d|[:/]|[.,]\d|\s?(?:[AaPp]\.?m\b|%))"
            rf"(?:\s?[-–]\s?(?P<to>{_DAY})(?:st|nd|rd|th)?(?!\d))?(?:,?\s(?P<year>[12]\d{{3}})(?!\d))?"
        ),
        (
            rf"(?<![\w.,:/-])(?P<day>{_DAY})(?:st|nd|rd|th)?\s(?:of\s)?(?P<month>{_MONTH})(?!\w)\.?"
            r"(?:,?\s(?P<year>[12]\d{3})(?!\d))?"
        ),
        rf"(?P<month>{_MONTH})\.?,?\s(?P<year>[12]\d{{3}})(?!\d)",
    ),
    months=_MONTHS,
    weekdays=_WEEKDAYS,
    fraction=fraction,
    units=_UNITS,
    currencies=_CURRENCIES,
    scales={
        "k": Noun("thousand", "thousand"),
        "K": Noun("thousand", "thousand"),
        "m": Noun("million", "million"),
        "M": Noun("million", "million"),
        "mn": Noun("million", "million"),
        "million": Noun("million", "million"),
        "bn": Noun("billion", "billion"),
        "B": Noun("billion", "billion"),
        "billion": Noun("billion", "billion"),
        "trillion": Noun("trillion", "trillion"),
    },
    elided=False,
    small_change=" and ",
    cents_named=True,
    abbreviations={
        "Dr.": "Doctor",
        "Mr.": "Mister",
        "Mrs.": "Missus",
        "Ms.": "Ms",
        "Prof.": "Professor",
        "Jr.": "Junior",
        "Sr.": "Senior",
        "Ave.": "Avenue",
        "Blvd.": "Boulevard",
        "Rd.": "Road",
        "Ln.": "Lane",
        "Hwy.": "Highway",
        "Apt.": "Apartment",
        "Ste.": "Suite",
        "Dept.": "Department",
        "dept.": "department",
        "Inc.": "Incorporated",
        "Ltd.": "Limited",
        "Corp.": "Corporation",
        "Co.": "Company",
        "Gov.": "Governor",
        "Sgt.": "Sergeant",
        "Capt.": "Captain",
        "Gen.": "General",
        "etc.": "etcetera",
        "e.g.": "for example",
        "E.g.": "For example",
        "i.e.": "that is",
        "I.e.": "That is",
        "vs.": "versus",
        "approx.": "approximately",
        "Approx.": "Approximately",
        "appt.": "appointment",
        "est.": "established",
        "incl.": "including",
        "ext.": "extension",
        "Ext.": "Extension",
        "ref.": "reference",
        "tel.": "telephone",
        "Tel.": "Telephone",
        "max.": "maximum",
        "a.k.a.": "also known as",
        "w/o": "without",
        "w/": "with",
    },
    special=(
        ("/", r"(?<=s)/(?=(?:day|week|month|year|hour|night|person)\b)", " per "),
        (r"0['’]?s", r"(?<!\w)['’]?(?P<decade>(?:1[1-9]|20)?\d0)['’]?s\b", _decade),
        (r"\.", r"\b[Ee]tc\.(?=\s[A-Z])", "etcetera."),
        (r"\d", r"(?<![\w.])\.(?=\d)", "0."),
        ("/", r"\b24/7\b", "twenty-four seven"),
        ("/", r"\b9/11\b", "nine eleven"),
        ("'", r"(?<!\w)(\d)['′](\d{1,2})(?:\"|″|'')", r"\1 foot \2"),
        ("911", r"(?<![\w.,-])911(?![\w-]|[.,]\d)", "nine one one"),
        ("/", r"(?<=\d)/(?=\d+\s(?:star|point))", " out of "),
        ("/", r"\band/or\b", "and or"),
        (r"\.", rf"\b({_ROAD}\s)Dr\.$", r"\1Drive."),
        (r"\.", rf"\b({_ROAD}\s)Dr\.(?!\s[A-Z])", r"\1Drive"),
        (r"\.", rf"\b({_ROAD}\s)St\.$", r"\1Street."),
        (r"\.", rf"\b({_ROAD}\s)St\.(?!\s[A-Z])", r"\1Street"),
        (r"\.", r"\bSt\.(?=\s[A-Z])", "Saint"),
        (r"\d", r"\b(?:[Nn]os?\.|№)\s?(?=\d)", "number "),
        (r"\d", r"\b[Pp]\.\s?(?=\d)", "page "),
        (r"\d", r"\bpp\.\s?(?=\d)", "pages "),
        (r"\d", r"\b[Ff]ig\.\s?(?=\d)", "figure "),
        (r"\d", r"§\s?(?=\d)", "section "),
    ),
    postcodes=r"(?<=,\s[A-Z]{2}\s)\d{5}(?![\w-])",
    dictated=(
        r"(?:order|booking|reservation|reference|ref|confirmation|account|case|ticket|invoice|tracking|customer|"
        r"member|membership|code|pin|PIN|passcode|extension|ext|zip|postcode|flight|call|dial|ring|text)"
        r"(?:\s(?:number|code|ID|id|is|at|no\.?))*:?"
    ),
    keys={"*": "star", "#": "pound"},
    keys_after=r"(?i:press|hit|push|dial|enter|the|or|and)",
    roman={
        r"(?:Henry|Louis|Elizabeth|George|Charles|William|Edward|James|Richard|Philip|Paul|Benedict|Pius|Francis|"
        r"Napoleon|Catherine|Alexander|Nicholas|Gregory|Leo)": lambda number: f"the {ordinal(number)}",
        r"(?:World\sWar|Chapter|Part|Act|Phase|Volume|Section|Article|Level|Type|Class|Super\sBowl)": cardinal,
    },
    symbols={
        "±": "plus or minus",
        "€": "euros",
        "$": "dollars",
        "£": "pounds",
        "¥": "yen",
        "§": "section",
        "°": "degrees",
    },
)
