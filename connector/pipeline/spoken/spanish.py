"""Spanish."""

from __future__ import annotations

import re

from connector.pipeline.spoken.language import Form, Language, Money, Noun, Words, listed, nouns, numbered

_SMALL = listed(
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete "
    "dieciocho diecinueve veinte veintiuno veintidós veintitrés veinticuatro veinticinco veintiséis veintisiete "
    "veintiocho veintinueve"
)
_TENS = listed("cero diez veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa")
_HUNDREDS = listed(
    "cero ciento doscientos trescientos cuatrocientos quinientos seiscientos setecientos ochocientos novecientos"
)
_ORDINALS = listed("cero primero segundo tercero cuarto quinto sexto séptimo octavo noveno décimo undécimo duodécimo")
_TENTHS = listed(
    "cero décimo vigésimo trigésimo cuadragésimo quincuagésimo sexagésimo septuagésimo octogésimo nonagésimo"
)
_MONTH_NAMES = listed("enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre")
_MONTHS = (
    numbered(_MONTH_NAMES) | numbered(listed("ene feb mar abr may jun jul ago sep oct nov dic")) | {"setiembre": 9}
)
_NAMES = listed("lunes martes miércoles jueves viernes sábado domingo")
_WEEKDAYS = {name: name for name in _NAMES} | {f"{name[:3]}.": name for name in _NAMES}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DAY = r"0?[1-9]|[12]\d|3[01]"
_PARTICLES = frozenset(listed("y o a e u de del en que por para con al el la los las es son se no más menos"))
_HALF = r"[AaPp](?:\.\s?[Mm]\.|[Mm])"


def _below_thousand(number: int, form: Form) -> str:
    hundreds, rest = divmod(number, 100)
    if number == 100:
        return "cien"
    words = _SMALL[rest] if rest < 30 else _TENS[rest // 10] + (f" y {_SMALL[rest % 10]}" if rest % 10 else "")
    if words.endswith("uno") and form is not Form.ALONE:
        stem = words[:-3]
        words = f"{stem}una" if form is Form.FEMININE else f"{stem}ún" if stem == "veinti" else f"{stem}un"
    if not hundreds:
        return words
    named = _HUNDREDS[hundreds]
    if form is Form.FEMININE and hundreds > 1:
        named = f"{named[:-2]}as"
    return f"{named} {words}" if rest else named


def cardinal(number: int, form: Form = Form.ALONE) -> str:
    """21 is *veintiuno*, before a noun *veintiún*, before one that is feminine *veintiuna*."""
    parts = []
    for scale, one, many in ((10**12, "billón", "billones"), (10**6, "millón", "millones")):
        count, number = divmod(number, scale)
        if count:
            parts.append(f"{cardinal(count, Form.MASCULINE)} {one if count == 1 else many}")
    thousands, rest = divmod(number, 1000)
    if thousands:
        before = Form.FEMININE if form is Form.FEMININE else Form.MASCULINE
        parts.append("mil" if thousands == 1 else f"{_below_thousand(thousands, before)} mil")
    if rest or not parts:
        parts.append(_below_thousand(rest, form))
    return " ".join(parts)


def ordinal(number: int, before: str = "") -> str:
    """3 is *tercero*; `before` is the mark in digits, which tells *tercer* and *tercera*."""
    if number < 13:
        words = _ORDINALS[number]
    elif number < 100:
        words = _TENTHS[number // 10] + (f" {_ORDINALS[number % 10]}" if number % 10 else "")
    else:
        return cardinal(number)
    if before.strip(".") in {"ª", "a", "ra", "da", "ta"}:
        return " ".join(f"{word[:-1]}a" for word in words.split())
    return words[:-1] if before.strip(".") == "er" and words.endswith(("primero", "tercero")) else words


def agreement(word: str) -> Form:
    """*veintiuna* before a noun in -a, *veintiún* before any other."""
    if not word or word in _PARTICLES:
        return Form.ALONE
    return Form.FEMININE if re.search(r"(?<!dí)as?$", word) else Form.MASCULINE


def year(number: int) -> str:
    """1999 is *mil novecientos noventa y nueve*."""
    return cardinal(number)


def clock(hour: int, minute: int, half: str) -> str:
    """14:30 is *catorce treinta*, 5:05 p. m. *cinco y cinco de la tarde*."""
    words = cardinal(hour, Form.FEMININE)
    if minute:
        words += f" {'y ' if minute < 10 else ''}{cardinal(minute)}"
    if not half:
        return words
    if half[0] in "aA":
        return f"{words} de la mañana"
    return f"{words} de la {'tarde' if hour % 12 < 8 else 'noche'}"


def date(day: int, month: int, of_year: int | None, before: str) -> str:
    """*veinte de noviembre de dos mil veintiséis*."""
    words = f"{cardinal(day)} de {_MONTH_NAMES[month - 1]}"
    return words if of_year is None else f"{words} de {year(of_year)}"


def fraction(whole: int, numerator: int, denominator: int) -> str:
    """3/4 is *tres cuartos*, 1 1/2 *uno y medio*."""
    if denominator == 2:
        return f"{cardinal(whole)} y medio" if whole else "un medio"
    name = "tercio" if denominator == 3 else _ORDINALS[denominator]
    counted = f"{cardinal(numerator, Form.MASCULINE)} {name}{'s' if numerator > 1 else ''}"
    return f"{cardinal(whole)} y {counted}" if whole else counted


_UNITS = (
    nouns("""
    km | kilómetro | kilómetros
    m | metro | metros
    cm | centímetro | centímetros
    mm | milímetro | milímetros
    kg | kilogramo | kilogramos
    g | gramo | gramos
    mg | miligramo | miligramos
    km/h | kilómetro por hora | kilómetros por hora
    m/s | metro por segundo | metros por segundo
    °C ℃ | grado Celsius | grados Celsius
    °F ℉ | grado Fahrenheit | grados Fahrenheit
    ° | grado | grados
    TB | terabyte | terabytes
    GB | gigabyte | gigabytes
    MB | megabyte | megabytes
    KB kB | kilobyte | kilobytes
    Gbit/s | gigabit por segundo | gigabits por segundo
    Mbit/s | megabit por segundo | megabits por segundo
    kWh | kilovatio hora | kilovatios hora
    kW | kilovatio | kilovatios
    W | vatio | vatios
    V | voltio | voltios
    GHz | gigahercio | gigahercios
    MHz | megahercio | megahercios
    kHz | kilohercio | kilohercios
    Hz | hercio | hercios
    dB | decibelio | decibelios
    l L | litro | litros
    ml mL | mililitro | mililitros
    min | minuto | minutos
    s seg | segundo | segundos
    ms | milisegundo | milisegundos
    m² m2 | metro cuadrado | metros cuadrados
    km² km2 | kilómetro cuadrado | kilómetros cuadrados
    m³ m3 | metro cúbico | metros cúbicos
""")
    | nouns("h hs | hora | horas\nx | vez | veces", Form.FEMININE)
    | nouns("% | por ciento | por ciento", Form.ALONE)
)

_EURO = Money(Noun("euro", "euros"), Noun("céntimo", "céntimos"))
_DOLLAR = Money(Noun("dólar", "dólares"), Noun("centavo", "centavos"))
_POUND = Money(Noun("libra", "libras", Form.FEMININE), Noun("penique", "peniques"))
_FRANC = Money(Noun("franco suizo", "francos suizos"), Noun("céntimo", "céntimos"))
_MILLION = Noun("millón de", "millones de")

SPANISH = Language(
    words=Words(
        point="coma",
        minus="menos",
        plus="más",
        times="por",
        equals="igual a",
        to="a",
        per="por",
        conjunction="y",
        alternative="o",
        number="número",
        about="unos",
        less="menos de",
        more="más de",
        at_least="al menos",
        at_most="como máximo",
        at="arroba",
        dot="punto",
        slash="barra",
        out_of="de",
        dash="guion",
        underscore="guion bajo",
    ),
    thousands=r"[. ]",
    decimal=",",
    decimals_by_digit=False,
    month_first=False,
    day_first=True,
    pairs_as_numbers=False,
    cardinal=cardinal,
    ordinal=ordinal,
    ordinals=r"(?P<n>\d{1,3})(?P<mark>\.?[ºª]|\.?er(?!\w)|\.?[rdt][oa](?!\w))",
    agreement=agreement,
    dated_by=r"(?i:el|del|al)",
    year=year,
    dated=r"(?i:en|año)",
    clock=clock,
    clocks=(
        rf"(?P<hour>[01]?\d|2[0-4])[:.](?P<minute>[0-5]\d)\s?(?P<half>{_HALF})(?!\w)",
        r"(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?![\d:])(?:\s?h(?:rs)?(?!\w))?",
        rf"(?P<hour>1[0-2]|0?[1-9])\s?(?P<half>{_HALF})(?!\w)",
    ),
    date=date,
    dates=(
        rf"(?<!\d)(?P<day>{_DAY})\sde\s(?P<month>{_MONTH})(?!\w)\.?(?:\s(?:del?|,)\s(?P<year>[12]\d{{3}})(?!\d))?",
        rf"(?<!\d)(?P<day>{_DAY})[\s-](?P<month>{_MONTH})(?!\w)\.?(?:[\s-](?P<year>[12]\d{{3}})(?!\d))?",
    ),
    months=_MONTHS,
    weekdays=_WEEKDAYS,
    fraction=fraction,
    units=_UNITS,
    currencies={
        "€": _EURO,
        "EUR": _EURO,
        "$": _DOLLAR,
        "US$": Money(Noun("dólar estadounidense", "dólares estadounidenses"), _DOLLAR.cent),
        "USD": Money(Noun("dólar estadounidense", "dólares estadounidenses"), _DOLLAR.cent),
        "MXN": Money(Noun("peso mexicano", "pesos mexicanos"), _DOLLAR.cent),
        "euro": _EURO,
        "euros": _EURO,
        "dólares": _DOLLAR,
        "£": _POUND,
        "GBP": _POUND,
        "CHF": _FRANC,
        "¥": Money(Noun("yen", "yenes")),
    },
    scales={"k": Noun("mil", "mil"), "M": _MILLION, "millón": _MILLION, "millones": _MILLION},
    elided=False,
    small_change=" con ",
    cents_named=True,
    abbreviations={
        "Sr.": "señor",
        "Sra.": "señora",
        "Srta.": "señorita",
        "Sres.": "señores",
        "Dr.": "doctor",
        "Dra.": "doctora",
        "D.ª": "doña",
        "Ud.": "usted",
        "Uds.": "ustedes",
        "Vd.": "usted",
        "Vds.": "ustedes",
        "p. ej.": "por ejemplo",
        "p.ej.": "por ejemplo",
        "P. ej.": "Por ejemplo",
        "etc.": "etcétera",
        "aprox.": "aproximadamente",
        "av.": "avenida",
        "Av.": "Avenida",
        "avda.": "avenida",
        "Avda.": "Avenida",
        "tel.": "teléfono",
        "Tel.": "Teléfono",
        "tfno.": "teléfono",
        "EE. UU.": "Estados Unidos",
        "EE.UU.": "Estados Unidos",
        "máx.": "máximo",
        "mín.": "mínimo",
        "dpto.": "departamento",
        "c/": "calle",
        "C/": "Calle",
    },
    special=(
        ("/", r"/(?=(?:día|semana|mes|año|hora|noche|persona)\b)", " por "),
        ("º", r"(?<=\d)\.?º(?=\s[a-zñ])", "er"),
        (r"\.", r"\b[Ee]tc\.(?=\s[A-ZÁÉÍÓÚÑ])", "etcétera."),
        (r"\d", r"(?:\b[nN]\.?[º°]|\b[nN]úm\.|№)\s?(?=\d)", "número "),
        (r"\d", r"\b[pP]ágs?\.\s?(?=\d)", "página "),
        (r"\d", r"§\s?(?=\d)", "sección "),
        ("/", r"\b24/7\b", "veinticuatro horas al día"),
        ("/", r"\by/o\b", "y o"),
    ),
    postcodes=r"(?<=,\s)\d{5}(?=\s[A-ZÁÉÍÓÚÑ][a-záéíóúñ])",
    dictated=(
        r"(?:número|pedido|reserva|referencia|factura|código|código\spostal|PIN|extensión|expediente)"
        r"(?:\s(?:de\s\w+|es|el|n\.º))*:?"
    ),
    keys={"*": "asterisco", "#": "almohadilla"},
    keys_after=r"(?i:pulse|marque|tecla|la|o|y)",
    roman={
        r"(?:Felipe|Carlos|Alfonso|Luis|Enrique|Fernando|Isabel|Juan\sPablo|Benedicto|Pío)": (
            lambda number: _ORDINALS[number] if number <= 10 else cardinal(number)
        ),
        r"(?:[Ss]iglo|[Cc]apítulo|[Tt]omo|[Pp]arte|[Aa]cto)": cardinal,
    },
    symbols={
        "±": "más menos",
        "€": "euros",
        "$": "dólares",
        "£": "libras",
        "¥": "yenes",
        "§": "sección",
        "°": "grados",
    },
)
