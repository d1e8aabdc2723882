"""`voxtrunk init`: a first configuration to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from connector.cli.console import DEFAULT_CONFIG, AsJson, ConfigFile, console, print_json
from connector.errors import ConfigError, Problem

app = typer.Typer()

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
  ports: 40000-40999            # UDP ports for RTP; open them in the firewall

records:
  directory: records            # a stereo WAV, a transcript and a CDR of each call
  audio: true
  transcript: true

http:
  listen: 127.0.0.1:8080        # /healthz, /readyz, /metrics
  # token: ${VOXTRUNK_TOKEN}    # needed where others can reach it

# What answers. A flavor is a file in flavors/ beside this one, named by the file, or stands here;
# `offline`, `echo` and `local` come with voxtrunk.
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
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a first voxtrunk.yml, with comments."""
    try:
        with file.open("w" if force else "x", encoding="utf-8") as target:
            target.write(TEMPLATE)
    except FileExistsError as error:
        hint = "--force overwrites it, -c FILE names another"
        raise ConfigError([Problem(str(file), 1, "", "is there already and was left alone", hint)]) from error
    except OSError as error:
        raise ConfigError([Problem(str(file), 1, "", f"cannot be written: {error.strerror}")]) from error
    following = [f"voxtrunk {command}{_option(file)}" for command in ("check", "doctor", "serve")]
    if as_json:
        print_json({"file": str(file), "next": following})
    else:
        console().print(f"{file} is written: 1000 leads to the offline voice menu, 1001 to an echo.\nNext:")
        for command, purpose in zip(following, PURPOSES, strict=True):
            console().print(f"  {command:<20} {purpose}")


PURPOSES = (
    "see that it is well formed",
    "see that it works on this machine",
    "take calls: dial sip:1000@127.0.0.1:5060",
)


def _option(file: Path) -> str:
    return "" if file == DEFAULT_CONFIG else f" -c {file}"
