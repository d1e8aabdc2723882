"""`voxtrunk init`: a first configuration to start from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from connector.cli.console import DEFAULT_CONFIG, AsJson, ConfigFile, console, print_json
from connector.config.engines import packaged_flavor_files
from connector.config.report import one_of, shown
from connector.errors import ConfigError, Problem

app = typer.Typer(add_completion=False)

TEMPLATE = """\
# The configuration of voxtrunk: dial a number, talk to an AI that runs on your own machine.
#
#   voxtrunk check                 every mistake in this file, with line and remedy
#   voxtrunk routes explain 1000   what answers a number, and why
#   voxtrunk doctor                what would keep it from working on this machine
#   voxtrunk serve                 take calls
#
# Text may hold ${NAME} or ${NAME:-default} from the environment. Secrets (password, token, api_key)
# are never written here: ${NAME}, or ${file:/run/secrets/name}.

sip:
  listen: 127.0.0.1:5060        # 0.0.0.0:5060 for phones on your network; then `allow` or `users` is needed
  # allow: [192.168.0.0/16]     # networks that may call without a password
  # users:                      # who else may call
  #   - {name: alice, password: "${ALICE_PASSWORD}"}
  max_calls: 50                 # one more is answered 503, try again later

media:
  ports: 20000-20999            # UDP ports for RTP; open them in the firewall

records:
  directory: records            # a stereo recording, a transcript and a CDR of each call
  audio: true
  format: wav                   # or flac, opus: smaller; `pip install 'voxtrunk[recording]'`
  transcript: true

http:
  listen: 127.0.0.1:8080        # /healthz, /readyz, /metrics
  # token: ${VOXTRUNK_TOKEN}    # needed where others can reach it

# What answers. A flavor is a file in flavors/ beside this one, named by the file, or stands here;
# `offline`, `echo` and `local` come with voxtrunk (`voxtrunk init --flavor offline` copies one, to edit).
#
# flavors:
#   shop:
#     greeting: Hello, this is the shop. How can I help?
#     persona: You are the friendly voice of a bicycle shop. Answer in one or two short sentences.
#     vad: {engine: silero}
#     stt: {engine: faster-whisper, model: base.en}
#     llm: {engine: openai-chat, base_url: http://127.0.0.1:8000/v1, model: llama}
#     tts: {engine: flite}

# From the number called to a flavor. The exact number beats the longest prefix, which beats regular
# expressions in the order of this file; `default` answers the rest. Numbers are in quotes, because
# YAML makes another number of 0123, and takes the + from +4930123.
routes:
  - {number: "1000", flavor: offline}
  - {number: "1001", flavor: echo}
  # - {prefix: "+4930", flavor: shop}
  # - {regex: "2[0-9]{3}", flavor: shop, with: {greeting: "Workshop, hello!"}}

# default: offline              # without it, other numbers are answered 404
"""


@app.command()
def init(
    file: ConfigFile = DEFAULT_CONFIG,
    flavor: Annotated[
        str | None,
        typer.Option(
            "--flavor", metavar="NAME", help="Copy this flavor that comes with voxtrunk to flavors/ beside FILE."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a first voxtrunk.yml, with comments, or with --flavor a flavor of your own."""
    if flavor is None:
        _write(TEMPLATE, file, force)
        _tell(file, "1000 leads to the offline voice menu, 1001 to an echo", FIRST_STEPS, file, as_json)
    else:
        own = file.parent / "flavors" / f"{flavor}.yml"
        text = _packaged(flavor, own)
        with _reported(own):
            own.parent.mkdir(exist_ok=True)
        _write(text, own, force)
        steps = {**FLAVOR_STEPS, f"chat --flavor {flavor}": "talk to it by keyboard"}
        _tell(own, f"it takes the place of the {flavor} that comes with voxtrunk", steps, file, as_json)


FIRST_STEPS = {
    "check": "see that it is well formed",
    "doctor": "see that it works on this machine",
    "serve": "take calls: dial sip:1000@127.0.0.1:5060",
}
"""What to do next: commands, and what for."""
FLAVOR_STEPS = {"check": "after every change: see that it is well formed"}


def _packaged(name: str, own: Path) -> str:
    """The text of a flavor that comes with an installed package. Raises ConfigError where there is none."""
    files: dict[str, Path] = {}
    for path in packaged_flavor_files():
        files.setdefault(path.stem, path)
    if name not in files:
        hint = one_of(name, files, "flavors that come with voxtrunk")
        raise ConfigError([Problem(str(own), 1, "", f"there is no flavor {shown(name)} to copy", hint)])
    return files[name].read_text(encoding="utf-8")


def _write(text: str, file: Path, force: bool) -> None:
    with _reported(file), file.open("w" if force else "x", encoding="utf-8") as target:
        target.write(text)


@contextmanager
def _reported(file: Path) -> Iterator[None]:
    """Raises ConfigError where `file` is there already or cannot be written."""
    try:
        yield
    except FileExistsError as error:
        hint = "--force overwrites it, -c FILE names another"
        raise ConfigError([Problem(str(file), 1, "", "is there already and was left alone", hint)]) from error
    except OSError as error:
        raise ConfigError([Problem(str(file), 1, "", f"cannot be written: {error.strerror}")]) from error


def _tell(written: Path, meaning: str, steps: Mapping[str, str], file: Path, as_json: bool) -> None:
    option = "" if file == DEFAULT_CONFIG else f" -c {file}"
    following = {f"voxtrunk {command}{option}": purpose for command, purpose in steps.items()}
    if as_json:
        print_json({"file": str(written), "next": list(following)})
        return
    width = max(20, *map(len, following))
    console().print(f"{written} is written: {meaning}.\nNext:")
    for command, purpose in following.items():
        console().print(f"  {command:<{width}} {purpose}")
