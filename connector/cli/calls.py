"""`voxtrunk calls`: the calls in progress, those that are over, and what went on in one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from connector.api.calls import CallList, CallSummary, RunningCall
from connector.cli.console import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    console,
    counted,
    print_json,
    print_table,
    settings_of,
)
from connector.cli.ladder import ladder
from connector.cli.logs import printable
from connector.cli.remote import Remote
from connector.cli.turns import print_turns
from connector.config.model import Settings
from connector.errors import ConnectorRefused, ConnectorUnreachable, UnknownCall
from connector.record import Archive, CallRecord, Found, MediaStatistics, Pause
from connector.rtp.e_model import FAIR_FROM, GOOD_FROM, Verdict

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Show calls and what went on in them; hang up.")

MATCHES = 10
"""Calls that an ambiguous beginning of a Call-ID is answered with."""

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _ago(text: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,5})([smhd])", text)
    if found is None:
        raise typer.BadParameter("should be a number and s, m, h or d, such as 30m or 2h")
    return timedelta(**{UNITS[found[2]]: int(found[1])})


PairName = Annotated[
    str | None, typer.Option("--pair", metavar="NAME", help="Ask the connector of this pair (opensips.pairs).")
]
CallId = Annotated[str, typer.Argument(metavar="CALL_ID", help="SIP Call-ID, or its beginning.")]


@app.callback()
def calls() -> None:
    """Show calls and what went on in them; hang up."""


@app.command(name="list")
def list_calls(
    ended: Annotated[bool, typer.Option("--ended", help="Calls that are over, the newest first.")] = False,
    since: Annotated[
        timedelta | None,
        typer.Option(parser=_ago, metavar="TIME", help="Only those that came in since: 30m, 2h, 7d."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 50,
    pair: PairName = None,
    file: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List the calls in progress, or those that are over.

    Those that are over are read from the records folder, whether a connector runs or not.
    """
    settings = settings_of(file)
    start = None if since is None else datetime.now(UTC) - since
    if ended:
        _list_ended(Archive(settings.records.directory).newest(limit, start), limit, as_json=as_json)
    else:
        running = [call for call in connector_of(settings, pair).calls() if start is None or call.setup >= start]
        _list_running(running[:limit], as_json=as_json)


@app.command()
def show(call_id: CallId, pair: PairName = None, file: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show a call: who, how it went, its turns with what the caller waited for, its media, its SIP messages.

    A call in progress is shown as far as it has come; others are read from the records folder.
    """
    settings = settings_of(file)
    call = _found(connector_of(settings, pair), Archive(settings.records.directory), call_id)
    if as_json:
        print_json(call.model_dump(mode="json"))
    else:
        print_call(call)


@app.command()
def hangup(
    call_id: Annotated[str | None, typer.Argument(metavar="[CALL_ID]", help="SIP Call-ID, or its beginning.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Hang up every call.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before --all.")] = False,
    pair: PairName = None,
    file: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Hang up a call in progress, or all of them."""
    if (call_id is None) is not everything:
        raise typer.BadParameter("name a call, or --all")
    remote = connector_of(settings_of(file), pair)
    running = [call.call_id for call in remote.calls()]
    chosen = running if call_id is None else [_one(_matching(running, call_id), call_id, "call in progress")]
    if everything and chosen and not yes:
        typer.confirm(f"Hang up {counted(len(chosen), 'call')}?", abort=True, err=True)
    ended = [one for one in chosen if remote.hang_up(one)]
    if as_json:
        print_json({"hung_up": ended})
        return
    for one in chosen:
        console().print(f"{printable(one)}: {'hung up' if one in ended else 'was over already'}")
    if not chosen:
        console().print("There are no calls in progress.")


@app.command()
def pause_recording(
    call_id: CallId, pair: PairName = None, file: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """Pause the recording of a call: nothing of what is said or keyed is kept until it is resumed."""
    _pause_recording(call_id, pair, file, paused=True, as_json=as_json)


@app.command()
def resume_recording(
    call_id: CallId, pair: PairName = None, file: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False
) -> None:
    """Resume the recording of a call."""
    _pause_recording(call_id, pair, file, paused=False, as_json=as_json)


def _pause_recording(call_id: str, pair: str | None, file: Path, *, paused: bool, as_json: bool) -> None:
    remote = connector_of(settings_of(file), pair)
    running = [call.call_id for call in remote.calls()]
    state = remote.pause_recording(_one(_matching(running, call_id), call_id, "call in progress"), paused=paused)
    if as_json:
        print_json(state.model_dump(mode="json"))
    else:
        console().print(f"{printable(state.call_id)}: the recording {'is paused' if state.paused else 'goes on'}")


# --------------------------------------------------------------------------------------- finding calls


def connector_of(settings: Settings, pair: str | None) -> Remote:
    """The connector of `pair`, or of the first one there is."""
    pairs = {one.name: one for one in settings.opensips.pairs} if settings.opensips else {}
    if pair is not None and pair not in pairs:
        known = f"known are {', '.join(pairs)}" if pairs else "opensips.pairs is not set"
        raise typer.BadParameter(f"there is no pair {pair!r}: {known}", param_hint="--pair")
    chosen = settings.pair if pair is None else pairs[pair]
    return Remote((chosen and chosen.http) or settings.http.listen, settings.http.token)


def _found(remote: Remote, archive: Archive, call_id: str) -> RunningCall | CallRecord:
    """The call, in progress or over. Raises `UnknownCall`."""
    try:
        running = _in_progress(remote, call_id)
    except (ConnectorUnreachable, ConnectorRefused) as unknown:
        try:
            return _over(archive, call_id)
        except UnknownCall as error:
            raise UnknownCall(f"{error}\ncalls in progress are not known: {unknown}") from error
    return running or _over(archive, call_id)


def _in_progress(remote: Remote, call_id: str) -> RunningCall | CallRecord | None:
    """The call, its record where it has just ended, None where it is not in progress."""
    found = _matching([call.call_id for call in remote.calls()], call_id)
    return remote.call(_one(found, call_id, "call in progress")) if found else None


def _over(archive: Archive, call_id: str) -> CallRecord:
    """The record of the call; raises `UnknownCall`."""
    record = archive.named(call_id)
    if record is not None:
        return record
    found = archive.beginning(call_id, MATCHES)
    _report_broken(found)
    chosen = _one([record.call_id for record in found.records], call_id, "call")
    return next(record for record in found.records if record.call_id == chosen)


def _matching(call_ids: Sequence[str], wanted: str) -> list[str]:
    """The one that is `wanted`, or all that begin so."""
    return [wanted] if wanted in call_ids else [one for one in call_ids if one.startswith(wanted)]


def _one(found: Sequence[str], wanted: str, what: str) -> str:
    """The only one of `found`. Raises `UnknownCall`."""
    if not found:
        raise UnknownCall(f"there is no {what} whose Call-ID is or begins with {printable(wanted)}")
    if len(set(found)) > 1:
        names = "".join(f"\n  {printable(name)}" for name in dict.fromkeys(found))
        raise UnknownCall(f"{printable(wanted)} is the beginning of several Call-IDs:{names}")
    return found[0]


# --------------------------------------------------------------------------------------- lists


def _list_running(running: Sequence[CallSummary], *, as_json: bool) -> None:
    if as_json:
        print_json(CallList(calls=list(running)).model_dump(mode="json"))
    elif not running:
        console().print("There are no calls in progress.")
    else:
        now = datetime.now(UTC)
        print_table(
            ("since", "for", "calling", "called", "flavor", "state", "MOS", "call id"),
            [
                (
                    _local(call.setup),
                    f"{max(0.0, (now - call.setup).total_seconds()):.0f} s",
                    printable(call.calling),
                    printable(call.called),
                    call.flavor or "",
                    call.state,
                    _figures(call.mos, call.remote_mos),
                    printable(call.call_id),
                )
                for call in running
            ],
        )


def _list_ended(found: Found, limit: int, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "records": [record.model_dump(mode="json") for record in found.records],
                "broken": [{"path": one.path, "reason": one.reason} for one in found.broken],
            }
        )
        return
    _report_broken(found)
    if not found.records:
        console().print("There are no records of such calls.")
        return
    print_table(
        ("setup", "calling", "called", "flavor", "disposition", "ended by", "seconds", "turns", "MOS", "call id"),
        [
            (
                _local(record.setup),
                printable(record.calling),
                printable(record.called),
                record.flavor or "",
                record.disposition.value + (f" {record.status}" if record.status else ""),
                record.ended_by.value,
                f"{record.duration_seconds:.1f}",
                str(len(record.turns)),
                "" if record.media is None else _figures(record.media.mos, record.media.remote_mos),
                printable(record.call_id),
            )
            for record in found.records
        ],
    )
    if len(found.records) == limit:
        console(stderr=True).print(f"the newest {limit}; --limit shows more")


def _figures(mos: float | None, remote: float | None) -> str:
    """From the caller / to the caller."""
    told = ["-" if one is None else f"{one:.1f}" for one in (mos, remote)]
    return "" if mos is remote is None else " / ".join(told)


def _report_broken(found: Found) -> None:
    for one in found.broken:
        console(stderr=True).print(f"{printable(one.path)} cannot be read: {printable(one.reason)}")


def _seconds(pause: Pause) -> str:
    return f"from {pause.start:.1f} s" + ("" if pause.end is None else f" to {pause.end:.1f} s")


def _local(instant: datetime) -> str:
    return f"{instant.astimezone():%Y-%m-%d %H:%M:%S}"


# --------------------------------------------------------------------------------------- one call


def print_call(call: RunningCall | CallRecord) -> None:
    """Prints everything that is known of a call, for people."""
    out = console()
    rows = [(label, value) for label, value in facts(call) if value]
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        out.print(Text(f"{label:<{width}}  ", "bold") + Text(printable(value)))
    if call.turns:
        out.print()
        print_turns(call.turns)
    if call.errors:
        out.print(Text("\nerrors", "bold"))
        for line in call.errors:
            out.print(f"  {printable(line)}")
    if call.media is not None:
        print_media(call.media)
    if call.signalling:
        out.print()
        for line in ladder(call.signalling, call.peer):
            out.print(line, soft_wrap=True)


def facts(call: RunningCall | CallRecord) -> Iterator[tuple[str, str]]:
    """What the call was, as labels and values; empty values say nothing."""
    yield "call id", call.call_id
    yield "calling", call.calling
    yield "called", call.called
    if isinstance(call, CallRecord):
        yield "asserted", call.asserted
        yield (
            "diverted",
            ", ".join(f"{one.number} ({one.reason})" if one.reason else one.number for one in call.diversions),
        )
    yield "peer", call.peer
    yield "flavor", f"{call.flavor} ({call.route})" if call.flavor else ""
    yield "setup", _local(call.setup)
    yield "not recorded", ", ".join(_seconds(pause) for pause in call.pauses)
    if isinstance(call, RunningCall):
        yield "answered", _local(call.answered) if call.answered else ""
        yield "state", call.state
        return
    yield "answered", f"{_local(call.answered)}, after {call.setup_seconds:.3f} s" if call.answered else ""
    yield "ended", f"{_local(call.ended)}, after {call.duration_seconds:.1f} s" if call.answered else _local(call.ended)
    status = f" {call.status}" if call.status else ""
    yield "outcome", f"{call.disposition.value}{status}, by {call.ended_by.value}: {call.reason}"
    yield "recording", call.files.recording or ""
    yield "transcript", call.files.transcript or ""


def print_media(media: MediaStatistics) -> None:
    """Prints what the media went through, both ways; nothing where nothing was counted."""
    if not media.received and not media.sent:
        return
    out = console()
    out.print()
    print_table(("media", "from the caller", "to the caller"), media_rows(media))
    for line in oddities(media):
        out.print(line)
    if media.mos is not None or media.remote_mos is not None:
        out.print(QUALITY_SCALE)


QUALITY_SCALE = f"Quality is MOS of ITU-T G.107, at best 4.4; good from {GOOD_FROM}, fair from {FAIR_FROM:.2f} (G.109)."


def media_rows(media: MediaStatistics) -> Iterator[tuple[str, str, str]]:
    """What there is to tell of either direction, as label and two values."""
    remote_lost = media.remote_lost is not None and _part(max(0, media.remote_lost), media.sent)
    rows: Sequence[tuple[str, object, object]] = (
        ("quality", _quality(media.mos), _quality(media.remote_mos)),
        ("worst 10 s", _quality(media.mos_worst), _quality(media.remote_mos_worst)),
        ("codec", ", ".join(media.codecs), ""),
        ("packets", media.received, media.sent),
        ("lost", _part(media.lost, media.received + media.lost), remote_lost),
        ("late", media.late, ""),
        ("discarded", media.discarded, ""),
        ("missed", media.missed and f"{media.missed} in {counted(media.bursts, 'gap')}", ""),
        ("duplicate", media.duplicate, ""),
        ("made up", media.concealed and f"{_part(media.concealed, media.frames)} frames", ""),
        ("adjusted", media.adjusted and counted(media.adjusted, "time"), ""),
        ("jitter", _span(media.jitter_mean, media.jitter, media.jitter_max), _span(None, media.remote_jitter, None)),
        ("buffer delay", _span(media.input_delay_mean, media.input_delay, None), ""),
        ("round trip", _span(media.round_trip_mean, media.round_trip, media.round_trip_max), ""),
    )
    for label, received, sent in rows:
        if received or sent:
            yield label, str(received or ""), str(sent or "")


def oddities(media: MediaStatistics) -> Iterator[str]:
    """What should not be, in words."""
    for count, words in (
        (media.strangers, "from elsewhere than the caller"),
        (media.malformed, "of neither RTP nor RTCP"),
        (media.unknown_payload_type, "in a codec that was not agreed on"),
        (media.unsent, "that the network stack refused to send"),
    ):
        if count:
            yield f"{counted(count, 'packet')} {words}"
    if media.streams > 1:
        yield f"the caller's stream began anew {counted(media.streams - 1, 'time')} (SSRC)"


def _quality(mos: float | None) -> str:
    return "" if mos is None else f"{Verdict.of(mos).value} ({mos:.2f})"


def _part(count: int, of: int) -> str:
    """`15 of 1500 (1.0 %)`, and 0."""
    return f"{count} of {of} ({100 * count / of:.1f} %)" if count and of else str(count)


def _span(mean: float | None, last: float | None, most: float | None) -> str:
    """Milliseconds: the mean, else the last value, and the highest where it differs."""
    usual = last if mean is None else mean
    if usual is None:
        return ""
    bound = "" if most is None or most - usual < 0.0005 else f", at most {1000 * most:.1f} ms"
    return f"{1000 * usual:.1f} ms{bound}"
