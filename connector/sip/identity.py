"""Who calls whom, and by which way: what the headers of an INVITE say about a call.

Numbers come in many forms: `tel:` URIs (RFC 3966), `user=phone` and plain SIP users, with visual
separators, international or national. `e164` brings those that are telephone numbers for certain
to one form, with Google's numbering plans (`phonenumbers`). Everything here takes what a PBX or a
trunk sends as it is: a header that cannot be read is as good as absent, and nothing raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

import phonenumbers
from phonenumbers import CountryCodeSource, PhoneMetadata, PhoneNumber, PhoneNumberFormat, ValidationResult

from connector.config.model import USUAL_HEADERS, IdentitySettings
from connector.errors import BadRequest
from connector.interfaces import CallInfo, Diversion
from connector.sip.message import Headers, NameAddr, Uri, parse_name_addr, parse_uri, split_list

# Numbering plans load on the first number of each country otherwise: in mid-call, on the event loop.
PhoneMetadata.load_all()

LONGEST_VALUE = 512
"""Characters of a header that `CallInfo` carries."""

MOST_DIVERSIONS = 20
"""Redirections of one call that are looked at: more is a loop."""

_LONGEST_LIST = 8192
_MOST_MEMBERS = 50
"""Characters of one line, and entries of one header, that are looked into: nobody shall keep the event loop busy."""

_OWN_HEADERS = "x-voxtrunk-"
"""What our own edge adds for us is none of the caller's facts."""

_SEPARATORS = re.compile(r"[-.() ]")
"""RFC 3966 section 3, visual-separator; and the space, which people write."""

_SUBSCRIBER = re.compile(r"\+?[0-9*#.() -]+")

_DIGITS_WITHOUT_PLUS = 10
"""Digits from which on a number that begins with the country code is read as an international one."""

_WITHHELD = frozenset({"anonymous", "restricted", "unavailable", "unknown", "private", "withheld"})
"""Users that stand for a caller who does not say who it is (RFC 3323 section 4.1.1.3, and gateways' own)."""

_WITHHELD_NUMBERS = frozenset({"+266696687", "+7378742833", "+2562533", "+86282452253", "+8656696"})
"""The same as Twilio writes them: ANONYMOUS, RESTRICTED, BLOCKED, UNAVAILABLE and UNKNOWN on a telephone's keys."""

_NANP = 1
"""Country code of the plan whose national numbers are sent with and without their prefix, 1."""

_CAUSES = {
    # RFC 4458 section 2, and the reasons that RFC 7544 maps them to.
    "302": "unconditional",
    "404": "unknown",
    "408": "no-answer",
    "480": "deflection",
    "486": "user-busy",
    "487": "deflection",
    "503": "unavailable",
    # What forks and proxies give up with.
    "600": "user-busy",
    "603": "do-not-disturb",
}
_Q850_CAUSES = {"17": "user-busy", "18": "no-answer", "19": "no-answer", "20": "unavailable", "27": "out-of-service"}


def call_info(*, request_uri: str, headers: Headers, call_id: str, peer: str, settings: IdentitySettings) -> CallInfo:
    """The facts of the call that an INVITE for `request_uri` with `headers` begins. Never raises.

    `calling_number` is that of P-Asserted-Identity or Remote-Party-ID where `settings` has them
    believed, and that of From otherwise; `calling_name` likewise.
    """
    target = _uri(request_uri)
    sender = _party(headers.get("From") or "") or NameAddr(Uri("sip", ""))
    asserted = asserted_identities(headers) if settings.trust_asserted else []
    number = next(filter(None, (number_of(one.uri, settings.region) for one in asserted)), "")
    identity = number or next(filter(None, (user_of(one.uri) for one in asserted)), "")
    name = next((one.name for one in asserted if one.name), sender.name)
    return CallInfo(
        call_id=call_id,
        called=user_of(target),
        calling=user_of(sender.uri),
        calling_name=name,
        peer=peer,
        headers=chosen_headers(headers, settings.headers),
        called_number=number_of(target, settings.region),
        calling_number=number or number_of(sender.uri, settings.region),
        asserted=identity,
        private=is_private(headers, sender),
        diversions=diversions(headers, target, settings.region),
    )


# --------------------------------------------------------------------------------------- numbers


def e164(text: str, region: str | None = None) -> str:
    """`text` in E.164 (`+4930123456`) where it is a telephone number for certain, "" otherwise.

    `region`: ISO 3166 code of the country whose national and international prefixes hold for numbers
    without `+`; None: such numbers count only after `00`. Extensions, short codes and emergency
    numbers are none.
    """
    digits = _SEPARATORS.sub("", text)
    if not re.fullmatch(r"\+?[0-9]{3,24}", digits, re.ASCII):
        return ""
    if digits in _WITHHELD_NUMBERS:
        return ""
    if digits.startswith("+"):
        return _formatted(_parsed(digits))
    if region is None:
        # 00 is the prefix that ITU-T E.164 recommends, not the only one: the number must be a real one.
        return _formatted(_parsed(f"+{digits[2:]}"), valid=True) if digits.startswith("00") else ""
    number = _parsed(digits, region)
    if number is None:
        return ""
    if number.country_code_source == CountryCodeSource.FROM_NUMBER_WITH_IDD:
        return _formatted(number)
    if number.country_code_source == CountryCodeSource.FROM_NUMBER_WITHOUT_PLUS_SIGN:
        whole = number.country_code == _NANP or len(digits) >= _DIGITS_WITHOUT_PLUS
    else:
        # What lacks the prefix (0 in most countries) is an extension, or known in one town alone.
        prefix = phonenumbers.ndd_prefix_for_region(region, True)
        whole = number.country_code == _NANP or not prefix or digits.startswith(prefix)
    return _formatted(number, valid=True) if whole else ""


def _parsed(digits: str, region: str | None = None) -> PhoneNumber | None:
    try:
        return phonenumbers.parse(digits, region, keep_raw_input=True)
    except phonenumbers.NumberParseException:
        return None


def _formatted(number: PhoneNumber | None, *, valid: bool = False) -> str:
    """`number` in E.164 where its length is possible, or where it is `valid` in its country's plan."""
    if number is None:
        return ""
    if valid:
        good = phonenumbers.is_valid_number(number)
    else:
        good = phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE
    return str(phonenumbers.format_number(number, PhoneNumberFormat.E164)) if good else ""


def user_of(uri: Uri) -> str:
    """User part of a SIP URI, number of a tel URI; without the parameters of a telephone number."""
    user = uri.user or ""
    subscriber, parameters, _ = user.partition(";")
    return subscriber if parameters and _SUBSCRIBER.fullmatch(subscriber) else user


def number_of(uri: Uri, region: str | None = None) -> str:
    """The number of a tel URI, or of a SIP URI's user, in E.164; "" where it has none.

    A `phone-context` (RFC 3966 section 5.1.5) that is a prefix goes before a local number where
    both together make one; a domain says nothing that `region` does not.
    """
    subscriber = user_of(uri)
    context = _phone_context(uri)
    if context.startswith("+") and not subscriber.startswith("+"):
        joined = _SEPARATORS.sub("", context + subscriber)
        return _formatted(_parsed(joined), valid=True) if re.fullmatch(r"\+[0-9]{3,24}", joined, re.ASCII) else ""
    return e164(subscriber, region)


def _phone_context(uri: Uri) -> str:
    if uri.scheme == "tel":
        return uri.parameters.get("phone-context") or ""
    match = re.search(r";phone-context=([^;]+)", uri.user or "", re.IGNORECASE)
    return match[1] if match else ""


# --------------------------------------------------------------------------------------- the caller


def asserted_identities(headers: Headers) -> list[NameAddr]:
    """The caller as the network vouches for it, from the first header that says so.

    P-Asserted-Identity (RFC 3325 section 9.1), one SIP and one tel URI at most; Remote-Party-ID
    (draft-ietf-sip-privacy-04) where an older PBX sends that instead.
    """
    asserted = _parties(headers, "P-Asserted-Identity") or _remote_parties(headers)
    return [one for one in asserted if user_of(one.uri) and not _is_withheld(one.uri)]


def is_private(headers: Headers, sender: NameAddr) -> bool:
    """True where the caller asks that its identity be kept: RFC 3325 section 9.3, RFC 3323 sections 4.1 and 4.2."""
    wanted = {token.strip().lower() for value in headers.getlist("Privacy") for token in re.split("[;,]", value)}
    if wanted & {"id", "user"}:
        return True
    if _is_withheld(sender.uri):
        return True
    return any(
        (one.parameters.get("privacy") or "off").lower() not in ("off", "no") for one in _remote_parties(headers)
    )


def _is_withheld(uri: Uri) -> bool:
    user = user_of(uri).lower()
    return uri.host.lower() == "anonymous.invalid" or user in _WITHHELD or user in _WITHHELD_NUMBERS


def _remote_parties(headers: Headers) -> list[NameAddr]:
    """The caller's entries of Remote-Party-ID; it may have one for the called party too."""
    remote = _parties(headers, "Remote-Party-ID")
    return [one for one in remote if (one.parameters.get("party") or "calling").lower() == "calling"]


# --------------------------------------------------------------------------------------- the way here


def diversions(headers: Headers, target: Uri, region: str | None = None) -> tuple[Diversion, ...]:
    """Who was called before `target`, the last one first: from History-Info, then what Diversion alone tells."""
    reasons: dict[str, str] = {}
    for one in (*_history(headers, target, region), *_diversions(headers, region)):
        reasons[one.number] = reasons.get(one.number) or one.reason
    # Some trunks name the very number that is called in every INVITE.
    reasons.pop(_who(target, region), None)
    return tuple(Diversion(number, reason) for number, reason in reasons.items())[:MOST_DIVERSIONS]


def _diversions(headers: Headers, region: str | None) -> Iterator[Diversion]:
    """Diversion (RFC 5806): the topmost is the last one, as each diverting server adds its own on top."""
    for one in _parties(headers, "Diversion")[:MOST_DIVERSIONS]:
        if number := _who(one.uri, region):
            yield Diversion(number, (one.parameters.get("reason") or "").lower())


@dataclass(frozen=True, slots=True)
class _Entry:
    """One hi-entry (RFC 7044 section 5). `index`: its place in the tree. `reason`: why its request went on."""

    index: tuple[int, ...]
    number: str
    mapped_from: tuple[int, ...] | None
    cause: str
    reason: str


def _history(headers: Headers, target: Uri, region: str | None) -> list[Diversion]:
    """The redirections in History-Info, the last one first.

    An entry that stands for somebody else than the one before was reached by a redirection: `mp`
    (RFC 7044 section 10.4) names the entry that was redirected. Where nobody marked the entries
    (RFC 4244), it is the entry before, if a reason is known or both are numbers; without either it
    may as well be the contact at which a user is registered. Some list those who diverted alone:
    then the last entry has a reason too, and `target` follows it.
    """
    parties = _parties(headers, "History-Info")[-MOST_DIVERSIONS:]
    entries = sorted((_entry(one, region) for one in parties), key=lambda entry: entry.index)
    marked = any(entry.mapped_from is not None for entry in entries)
    if entries and entries[-1].reason and not marked:
        entries.append(_Entry((*entries[-1].index, 1), _who(target, region), None, "", ""))
    found: list[Diversion] = []
    for position, entry in enumerate(entries):
        before = entries[:position]
        if marked:
            origin = next((other for other in before if other.index == entry.mapped_from), None)
        else:
            origin = before[-1] if before else None
        if origin is None or not origin.number or origin.number == entry.number:
            continue
        tried = [other.reason for other in before if other.index[: len(origin.index)] == origin.index]
        reason = entry.cause or next(filter(None, reversed(tried)), "")
        if marked or reason or (origin.number.startswith("+") and entry.number.startswith("+")):
            found.append(Diversion(origin.number, reason))
    return found[::-1]


def _entry(party: NameAddr, region: str | None) -> _Entry:
    embedded = parse_qsl(party.uri.raw.partition("?")[2])
    reasons = [value for name, value in embedded if name.lower() == "reason"]
    cause = party.uri.parameters.get("cause") or ""
    return _Entry(
        index=_index(party.parameters.get("index")) or (0,),
        number=_who(party.uri, region),
        mapped_from=_index(party.parameters.get("mp")),
        cause=_CAUSES.get(cause, "unknown") if cause else "",
        reason=next(filter(None, map(_reason, reasons)), ""),
    )


def _index(text: str | None) -> tuple[int, ...] | None:
    """`1.2.1` as numbers; None where it is none."""
    if text is None or not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4}){0,30}", text, re.ASCII):
        return None
    return tuple(map(int, text.split(".")))


def _reason(value: str) -> str:
    """Why a request went on, from a Reason header (RFC 3326): `SIP;cause=486;text="Busy Here"`."""
    protocol, _, _ = value.partition(";")
    cause = re.search(r";\s*cause\s*=\s*([0-9]{1,3})\b", value, re.IGNORECASE | re.ASCII)
    causes = _Q850_CAUSES if protocol.strip().upper() == "Q.850" else _CAUSES
    return causes.get(cause[1], "unknown") if cause else ""


def _who(uri: Uri, region: str | None) -> str:
    """Number or user of one on the way; "" for one who is kept secret (RFC 7044 section 10.1.2)."""
    return "" if _is_withheld(uri) else number_of(uri, region) or user_of(uri)


# --------------------------------------------------------------------------------------- headers


def chosen_headers(headers: Headers, chosen: Sequence[str] = ()) -> dict[str, str]:
    """Headers that a call carries, by name: `chosen` ones and the usual ones as spelled there, X- ones as they came.

    Several values of one header are joined with commas (RFC 3261 section 7.3.1), and cut at `LONGEST_VALUE`.
    """
    spelled = {name.lower(): name for name in (*USUAL_HEADERS, *chosen)}
    kept: dict[str, str] = {}
    for name in headers.keys():  # noqa: SIM118  (Headers is no mapping)
        key = name.lower()
        if key in spelled or (key.startswith("x-") and not key.startswith(_OWN_HEADERS)):
            kept[spelled.get(key, name)] = ", ".join(headers.getlist(name))[:LONGEST_VALUE]
    return kept


def _parties(headers: Headers, name: str) -> list[NameAddr]:
    """The readable members of all `name` lines."""
    found: list[NameAddr] = []
    for value in headers.getlist(name):
        if len(value) > _LONGEST_LIST or len(found) >= _MOST_MEMBERS:
            continue
        try:
            members = split_list(value)[:_MOST_MEMBERS]
        except BadRequest:
            continue
        found += [party for party in map(_party, members) if party is not None]
    return found[:_MOST_MEMBERS]


def _party(text: str) -> NameAddr | None:
    try:
        return parse_name_addr(text)
    except BadRequest:
        return None


def _uri(text: str) -> Uri:
    try:
        return parse_uri(text)
    except BadRequest:
        return Uri("", "")
