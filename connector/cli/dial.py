"""`voxtrunk dial`: a softphone for tests. It calls, talks, listens, and says what happened."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from connector import config
from connector.app import SystemClock
from connector.audio import Samples
from connector.cli.console import DEFAULT_CONFIG, AsJson, ConfigFile, console, print_json, print_table
from connector.cli.phone import PhoneKind, address_towards, open_phone, resolve
from connector.cli.phone.caller import RATE
from connector.cli.phone.softphone import Destination, Report, Script, call
from connector.cli.phone.speech import say as synthesise
from connector.cli.phone.wav import read_wav
from connector.codec.resample import resample
from connector.config.model import SipSettings
from connector.errors import BadRequest
from connector.sip.message import parse_uri

app = typer.Typer(add_completion=False)

MEANINGS = {
    400: "the far end could not read our INVITE or its SDP",
    401: "credentials are needed, or wrong: give --user with --password-env or --password-file",
    403: "this address may not call there: it is not on the allow-list",
    404: "nothing answers this number: see `voxtrunk routes explain NUMBER`",
    407: "a proxy wants credentials, or they are wrong: give --user with --password-env or --password-file",
    408: "nothing answered: is it running, and is the address right?",
    480: "the far end is not available now",
    486: "the far end is busy",
    487: "the call was given up before it was answered",
    488: "no codec in common: PCMU and PCMA were offered",
    500: "the far end failed: its log says why",
    503: "the far end is full, stopping, or lacks something it needs: its log says which",
    603: "the far end declined the call",
}
"""What a final status means to somebody who dials."""


@app.command()
def dial(
    target: Annotated[str, typer.Argument(help="A number on the local endpoint, or sip:USER@HOST[:PORT].")],
    say: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="Say this; may be repeated.")] = None,
    play: Annotated[
        list[Path] | None, typer.Option(metavar="FILE.wav", help="Play this after what is said; may be repeated.")
    ] = None,
    mic: Annotated[bool, typer.Option("--mic", help="Talk and listen yourself (extra `mic`).")] = False,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE.wav", help="Record in stereo, caller left; must not exist yet.")
    ] = None,
    dtmf: Annotated[str, typer.Option(metavar="DIGITS", help="Press these keys after that.")] = "",
    calls: Annotated[int, typer.Option(min=1, max=500, help="So many calls at once, by our own user agent.")] = 1,
    duration: Annotated[float | None, typer.Option(min=0.1, metavar="SECONDS", help="Hang up after this long.")] = None,
    calling: Annotated[str, typer.Option(metavar="NUMBER", help="The caller's own number.")] = "voxtrunk",
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Digest user name.")] = None,
    password_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="Environment variable that holds the password.")
    ] = None,
    password_file: Annotated[Path | None, typer.Option(metavar="FILE", help="File that holds the password.")] = None,
    phone: Annotated[PhoneKind, typer.Option(help="User agent that dials.")] = PhoneKind.AUTO,
    file: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Call TARGET, say things when the far end is quiet, listen, and tell what happened.

    Without anything to say, play or press, the call lasts until the far end hangs up, --duration
    or Ctrl-C. Exit status 1 where a call was not answered.
    """
    if calls > 1 and (mic or record or phone is PhoneKind.PJSUA2):
        raise typer.BadParameter("--calls uses our own user agent, without --mic and --record")
    if calls > 1 and not (say or play or dtmf or duration):
        raise typer.BadParameter("--calls needs something to do: --say, --play, --dtmf or --duration")
    uri = uri_of(target, file)
    destination = Destination(uri, calling, user, _password(user, password_env, password_file))
    script = Script(_speech(say or [], play or []), dtmf, duration, mic)
    address = _address(uri)
    ipv6 = ":" in address
    if ipv6 and phone is PhoneKind.PJSUA2:
        raise typer.BadParameter("the wheel of pjsua2 is built without IPv6: leave out --phone")
    kind = PhoneKind.OWN if calls > 1 or ipv6 else resolve(phone)
    narrator = console(stderr=as_json)
    narrator.print(f"{kind.value} phone: calling {uri}" + (f", {calls} times" if calls > 1 else ""))

    async def run() -> list[Report]:
        clock = SystemClock()
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
        async with open_phone(kind, clock, address) as opened:
            if calls == 1:
                narrate = narrator.print
                return [await call(opened, destination, script, clock, stop=stop, record=record, narrate=narrate)]
            return await asyncio.gather(*(call(opened, destination, script, clock, stop=stop) for _ in range(calls)))

    reports = asyncio.run(run())
    ok = all(report.ok for report in reports)
    if as_json:
        recording = str(record) if record and ok else None
        answer = [asdict(report) for report in reports]
        print_json({"target": uri, "phone": kind.value, "calls": answer, "recording": recording, "ok": ok})
    else:
        _print(reports)
    for status, reason in sorted({(report.status, report.reason) for report in reports if not report.ok}):
        count = sum(report.status == status for report in reports)
        typer.echo(f"{count} of {calls} calls failed: {explain(status, reason)}", err=True)
    if not ok:
        raise typer.Exit(1)


def uri_of(target: str, file: Path) -> str:
    """The SIP URI for `target`: itself, or its number at the address that `file` listens on."""
    if target.lower().startswith("sip:") and "@" in target:
        return target
    if "@" in target:
        return f"sip:{target}"
    sip = config.load(file).sip if file != DEFAULT_CONFIG or file.exists() else SipSettings()
    host, _, port = sip.listen.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - read, not bound
    return f"sip:{target}@{host}:{port}"


def explain(status: int, reason: str) -> str:
    """A final status in words: `404 Not Found: nothing answers this number...`."""
    meaning = MEANINGS.get(status)
    return f"{status} {reason}" + (f": {meaning}" if meaning else "")


def _address(uri: str) -> str:
    """Our address towards the host of `uri`."""
    try:
        host = parse_uri(uri).host
    except BadRequest as error:
        raise typer.BadParameter(f"{uri}: {error}") from error
    try:
        return address_towards(host.strip("[]"))
    except OSError as error:
        raise typer.BadParameter(f"{host}: {error.strerror}") from error


def _password(user: str | None, variable: str | None, file: Path | None) -> str | None:
    """The password, from where the caller says: never from the command line, which every user can read."""
    if user is None:
        return None
    if variable is not None:
        if variable not in os.environ:
            raise typer.BadParameter(f"environment variable {variable} is not set")
        return os.environ[variable]
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"{file}: {error}") from error
    raise typer.BadParameter("--user needs --password-env or --password-file")


def _speech(texts: Sequence[str], files: Sequence[Path]) -> list[tuple[str, Samples]]:
    """What is said and played, at 8 kHz, with a label each."""
    said = asyncio.run(synthesise(texts)) if texts else []
    played = [resample(read_wav(path), RATE).samples for path in files]
    return [*zip(texts, said, strict=True), *zip(map(str, files), played, strict=True)]


def _print(reports: Sequence[Report]) -> None:
    """A table of the calls, and a line of their medians where there are several."""
    columns = ("call", "status", "set-up", "seconds", "ended by", "sent", "received", "lost", "jitter", "heard")
    rows = [
        (
            str(number),
            f"{report.status} {report.reason}",
            f"{report.setup_ms} ms",
            f"{report.seconds:.1f}",
            report.ended_by,
            *(
                (
                    str(report.line.sent),
                    str(report.line.received),
                    str(report.line.lost),
                    f"{report.line.jitter * 1000:.1f} ms",
                )
                if report.line
                else ("", "", "", "")
            ),
            f"{report.heard_seconds:.1f} s",
        )
        for number, report in enumerate(reports, 1)
    ]
    print_table(columns, rows)
    answered = [report for report in reports if report.ok]
    if len(reports) > 1 and answered:
        setup = statistics.median(report.setup_ms for report in answered)
        lost = sum(report.line.lost for report in answered if report.line)
        silent = sum(report.heard_seconds == 0 for report in answered)
        typer.echo(
            f"{len(answered)} of {len(reports)} answered; set-up {setup:.0f} ms (median); "
            f"{lost} packets lost; {silent} calls heard nothing"
        )
