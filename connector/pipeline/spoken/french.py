"""French, with the numbers of France."""

from __future__ import annotations

from connector.pipeline.spoken.language import Form, Language, Money, Noun, Words, listed, nouns, numbered

_SMALL = listed(
    "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept "
    "dix-huit dix-neuf"
)
_TENS = listed("zéro dix vingt trente quarante cinquante soixante soixante quatre-vingt quatre-vingt")
_SCALES = ((10**12, "billion"), (10**9, "milliard"), (10**6, "million"))
_MONTH_NAMES = listed("janvier février mars avril mai juin juillet août septembre octobre novembre décembre")
_MONTHS = numbered(_MONTH_NAMES) | {
    "janv": 1, "févr": 2, "avr": 4, "juil": 7, "sept": 9, "oct": 10, "nov": 11, "déc": 12
}  # fmt: skip
_NAMES = listed("lundi mardi mercredi jeudi vendredi samedi dimanche")
_WEEKDAYS = {name: name for name in _NAMES} | {f"{name[:3]}.": name for name in _NAMES}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_FEMININE = frozenset(
    listed(
        "heure minute seconde semaine journée nuit personne place chambre table foi année page pièce question "
        "commande facture carte"
    )
)
"""Without a final s."""
_DAY = r"0?[1-9]|[12]\d|3[01]"


def _below_hundred(number: int) -> str:
    if number < 20:
        return _SMALL[number]
    tens = number // 10
    rest = number - (tens - tens % 2 if tens in (7, 9) else tens) * 10
    if tens == 7:
        rest = number - 60
    if not rest:
        return f"{_TENS[tens]}s" if tens == 8 else _TENS[tens]
    joint = " et " if rest in (1, 11) and tens < 8 else "-"
    return f"{_TENS[tens]}{joint}{_SMALL[rest]}"


def _below_thousand(number: int, *, last: bool) -> str:
    """`last`: no other number word follows, so that *cents* and *quatre-vingts* take their s."""
    hundreds, rest = divmod(number, 100)
    words = _below_hundred(rest) if rest or not hundreds else ""
    if words == "quatre-vingts" and not last:
        words = "quatre-vingt"
    if not hundreds:
        return words
    plural = "s" if hundreds > 1 and not rest and last else ""
    return (f"{_SMALL[hundreds]} " if hundreds > 1 else "") + f"cent{plural}" + (f" {words}" if words else "")


def cardinal(number: int, form: Form = Form.ALONE) -> str:
    """71 is *soixante et onze*, 80 *quatre-vingts*; 21 before what is feminine *vingt et une*."""
    parts = []
    for scale, name in _SCALES:
        count, number = divmod(number, scale)
        if count:
            parts.append(f"{cardinal(count)} {name}{'s' if count > 1 else ''}")
    thousands, rest = divmod(number, 1000)
    if thousands:
        parts.append("mille" if thousands == 1 else f"{_below_thousand(thousands, last=False)} mille")
    if rest or not (parts or thousands):
        parts.append(_below_thousand(rest, last=True))
    words = " ".join(parts)
    return f"{words}e" if form is Form.FEMININE and words.endswith("un") else words


def ordinal(number: int, before: str = "") -> str:
    """1 is *premier*, 21 *vingt et unième*."""
    if number == 1:
        return "première" if before == "re" else "premier"
    words = cardinal(number)
    if words.endswith("cinq"):
        words += "u"
    elif words.endswith("neuf"):
        words = f"{words[:-1]}v"
    elif words.endswith(("vingts", "cents")):
        words = words[:-1]
    return f"{words.removesuffix('e')}ième"


def agreement(word: str) -> Form:
    """*une* before the feminine nouns that are counted most."""
    return Form.FEMININE if word.removesuffix("s") in _FEMININE else Form.ALONE


def year(number: int) -> str:
    """1999 is *mille neuf cent quatre-vingt-dix-neuf*."""
    return cardinal(number)


def clock(hour: int, minute: int, half: str) -> str:
    """14h30 is *quatorze heures trente*."""
    words = f"{cardinal(hour, Form.FEMININE)} heure{'s' if hour > 1 else ''}"
    return words + (f" {cardinal(minute)}" if minute else "")


def date(day: int, month: int, of_year: int | None, before: str) -> str:
    """*premier mai deux mille vingt-six*."""
    words = f"{'premier' if day == 1 else cardinal(day)} {_MONTH_NAMES[month - 1]}"
    return words if of_year is None else f"{words} {year(of_year)}"


def fraction(whole: int, numerator: int, denominator: int) -> str:
    """3/4 is *trois quarts*, 1 1/2 *un et demi*."""
    if denominator == 2:
        return f"{cardinal(whole)} et demi" if whole else "un demi"
    name = {3: "tiers", 4: "quart"}.get(denominator) or ordinal(denominator)
    plural = "s" if numerator > 1 and not name.endswith("s") else ""
    return (f"{cardinal(whole)} et " if whole else "") + f"{cardinal(numerator)} {name}{plural}"


_UNITS = nouns("""
    % | pour cent | pour cent
    x | fois | fois
    km | kilomètre | kilomètres
    m | mètre | mètres
    cm | centimètre | centimètres
    mm | millimètre | millimètres
    kg | kilogramme | kilogrammes
    g | gramme | grammes
    mg | milligramme | milligrammes
    km/h | kilomètre par heure | kilomètres par heure
    m/s | mètre par seconde | mètres par seconde
    °C ℃ | degré Celsius | degrés Celsius
    °F ℉ | degré Fahrenheit | degrés Fahrenheit
    ° | degré | degrés
    To TB | téraoctet | téraoctets
    Go GB | gigaoctet | gigaoctets
    Mo MB | mégaoctet | mégaoctets
    Ko ko KB kB | kilooctet | kilooctets
    Gbit/s | gigabit par seconde | gigabits par seconde
    Mbit/s | mégabit par seconde | mégabits par seconde
    kWh | kilowattheure | kilowattheures
    kW | kilowatt | kilowatts
    W | watt | watts
    V | volt | volts
    GHz | gigahertz | gigahertz
    MHz | mégahertz | mégahertz
    kHz | kilohertz | kilohertz
    Hz | hertz | hertz
    dB | décibel | décibels
    l L | litre | litres
    ml mL | millilitre | millilitres
    m² m2 | mètre carré | mètres carrés
    km² km2 | kilomètre carré | kilomètres carrés
    m³ m3 | mètre cube | mètres cubes
""") | nouns(
    """
    min | minute | minutes
    s sec | seconde | secondes
    ms | milliseconde | millisecondes
    """,
    Form.FEMININE,
)

_EURO = Money(Noun("euro", "euros"), Noun("centime", "centimes"))
_DOLLAR = Money(Noun("dollar", "dollars"), Noun("cent", "cents"))
_POUND = Money(Noun("livre", "livres", Form.FEMININE), Noun("penny", "pence"))
_FRANC = Money(Noun("franc suisse", "francs suisses"), Noun("centime", "centimes"))
_MILLION = Noun("million de", "millions de")
_BILLION = Noun("milliard de", "milliards de")

FRENCH = Language(
    words=Words(
        point="virgule",
        minus="moins",
        plus="plus",
        times="fois",
        equals="égale",
        to="à",
        per="par",
        conjunction="et",
        alternative="ou",
        number="numéro",
        about="environ",
        less="moins de",
        more="plus de",
        at_least="au moins",
        at_most="au plus",
        at="arobase",
        dot="point",
        slash="barre oblique",
        out_of="sur",
        dash="tiret",
        underscore="tiret bas",
    ),
    thousands=r"[. ]",
    decimal=",",
    decimals_by_digit=False,
    month_first=False,
    day_first=True,
    pairs_as_numbers=True,
    cardinal=cardinal,
    ordinal=ordinal,
    ordinals=r"(?P<n>\d{1,6})(?:(?P<mark>re|ère|er|[eè]me|nde?|e)|(?:ᵉ))(?!\w)",
    agreement=agreement,
    dated_by=r"(?i:le|du|au)",
    year=year,
    dated=r"(?i:en|an|année)",
    clock=clock,
    clocks=(
        r"(?P<hour>[01]?\d|2[0-4])\s?[hH]\s?(?:(?P<minute>[0-5]\d)(?:\s?min)?)?(?!\w)",
        r"(?P<hour>[01]?\d|2[0-4])[:](?P<minute>[0-5]\d)(?![\d:])",
    ),
    date=date,
    dates=(rf"(?<!\d)(?P<day>{_DAY})(?:er)?\s(?P<month>{_MONTH})(?!\w)\.?(?:\s(?P<year>[12]\d{{3}})(?!\d))?",),
    months=_MONTHS,
    weekdays=_WEEKDAYS,
    fraction=fraction,
    units=_UNITS,
    currencies={
        "€": _EURO,
        "EUR": _EURO,
        "$": _DOLLAR,
        "US$": Money(Noun("dollar américain", "dollars américains"), _DOLLAR.cent),
        "USD": Money(Noun("dollar américain", "dollars américains"), _DOLLAR.cent),
        "euro": _EURO,
        "euros": _EURO,
        "£": _POUND,
        "GBP": _POUND,
        "CHF": _FRANC,
        "¥": Money(Noun("yen", "yens")),
    },
    scales={
        "k": Noun("mille", "mille"),
        "M": _MILLION,
        "Md": _BILLION,
        "million": _MILLION,
        "millions": _MILLION,
        "milliard": _BILLION,
        "milliards": _BILLION,
    },
    elided=True,
    small_change=" ",
    cents_named=False,
    abbreviations={
        "Mme": "Madame",
        "Mmes": "Mesdames",
        "Mlle": "Mademoiselle",
        "MM.": "Messieurs",
        "Dr": "Docteur",
        "Dr.": "Docteur",
        "Pr": "Professeur",
        "etc.": "et cetera",
        "p. ex.": "par exemple",
        "p.ex.": "par exemple",
        "c.-à-d.": "c'est-à-dire",
        "env.": "environ",
        "tél.": "téléphone",
        "Tél.": "Téléphone",
        "Tel.": "Téléphone",
        "av.": "avenue",
        "bd": "boulevard",
        "bd.": "boulevard",
        "Bd": "Boulevard",
        "rdv": "rendez-vous",
        "RDV": "rendez-vous",
        "max.": "maximum",
        "min.": "minimum",
    },
    special=(
        ("/", r"/(?=(?:jour|semaine|mois|an|heure|nuit|personne)\b)", " par "),
        (r"\.", r"\bM\.(?=\s[A-ZÀ-Ý])", "Monsieur"),
        (r"\d", r"(?:\b[nN][°º]|№)\s?(?=\d)", "numéro "),
        ("Ier", r"(?<=[a-zé]\s)Ier\b", "premier"),
        (r"\.", r"\b[Ee]tc\.(?=\s[A-ZÀ-Ý])", "et cetera."),
        (r"\d", r"\bp\.\s?(?=\d)", "page "),
        (r"\d", r"§\s?(?=\d)", "paragraphe "),
        ("/", r"\b24h/24\b", "vingt-quatre heures sur vingt-quatre"),
        ("/", r"\b7j/7\b", "sept jours sur sept"),
        ("/", r"\b24/7\b", "vingt-quatre heures sur vingt-quatre"),
        ("/", r"\bet/ou\b", "et ou"),
        ("siècle", r"\bXIXe(?=\ssiècle)", "dix-neuvième"),
        ("siècle", r"\bXXe(?=\ssiècle)", "vingtième"),
        ("siècle", r"\bXXIe(?=\ssiècle)", "vingt et unième"),
    ),
    postcodes="",
    dictated=(
        r"(?:numéro|dossier|commande|réservation|référence|facture|code|code\spostal|PIN|poste)"
        r"(?:\s(?:de\s\w+|est|no\.?))*(?:\sle)?\s?:?"
    ),
    keys={"*": "étoile", "#": "dièse"},
    keys_after=r"(?i:appuyez sur|touche|la|sur|ou|et)",
    roman={
        r"(?:Louis|Henri|François|Charles|Philippe|Napoléon|Élisabeth|Elizabeth|Jean-Paul|Benoît|Pie)": cardinal,
        r"(?:[Cc]hapitre|[Pp]artie|[Tt]ome|[Aa]cte|[Aa]rticle)": cardinal,
    },
    symbols={
        "±": "plus ou moins",
        "€": "euros",
        "$": "dollars",
        "£": "livres",
        "¥": "yens",
        "§": "paragraphe",
        "°": "degrés",
    },
)
