"""vLLM takes the flags that compose.yml and the pages give it, and means by them what is said there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Mapping
from typing import Any

import yaml

from docs.generate import ROOT
from tests.engines.checkpoints import store

PARSE = """
import json, sys
from vllm.entrypoints.cli.serve import ServeSubcommand
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser, serve = FlexibleArgumentParser(), ServeSubcommand()
serve.subparser_init(parser.add_subparsers(dest="subparser"))
found = {}
for name, arguments in json.load(sys.stdin).items():
    told = parser.parse_args(["serve", *arguments])
    serve.validate(told)
    found[name] = {key: value for key, value in vars(told).items() if isinstance(value, (bool, int, float, str, list))}
print(json.dumps(found))
"""


def parsed(commands: Mapping[str, list[str]]) -> dict[str, dict[str, Any]]:
    """What vLLM's own parser makes of each command line after `vllm serve`."""
    done = subprocess.run(
        [str(store.home() / "vllm-venv/bin/python"), "-c", PARSE],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def of_compose() -> list[str]:
    """The command of compose.yml's service, with its defaults."""
    command = yaml.safe_load((ROOT / "compose.yml").read_text())["services"]["vllm"]["command"]
    return [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", argument) for argument in command]


def of_page(name: str) -> list[str]:
    """The first `vllm serve` of a page."""
    text = (ROOT / "docs" / name).read_text().replace("\\\n", " ")
    (line, *_) = re.findall(r"^vllm serve (.+)$", text, re.M)
    return shlex.split(line)


def test_vllm_takes_the_flags() -> None:
    found = parsed({"compose": of_compose(), "box": of_page("gpu-box.md"), "flavors": of_page("flavors.md")})
    for told in found.values():
        assert told["served_model_name"] == ["llama"]
        assert (told["enable_auto_tool_choice"], told["tool_call_parser"]) == (True, "llama3_json")
        assert told["enable_log_requests"] is False, "what callers say is in no log"
    for told in (found["compose"], found["box"]):
        assert (told["max_model_len"], told["gpu_memory_utilization"], told["max_num_seqs"]) == (8192, 0.62, 16)
        assert told["enable_prefix_caching"] is True
