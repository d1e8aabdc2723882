"""Two defects of a close relative, in configuration: each test passes here and fails on a variant with the defect.

A flavor was chosen by Python's `hash()`, which differs from process to process; and a configuration
that could not work was called OK by its check.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFIGURATION = """\
flavors: {a: &e {pipeline: echo}, b: *e, c: *e, d: *e}
routes:
  - {prefix: "1", flavor: a}
  - {prefix: "12", flavor: b}
  - {regex: ".*3", flavor: c}
default: d
"""

NUMBERS = [str(number) for number in (1, 12, 123, 13, 23, 3, 4, 4711)]

RESOLVE = """\
import json, sys
from pathlib import Path
from connector.config import load
from connector.routing import Router
router = Router(load(Path(sys.argv[1])))
print(json.dumps([router.resolve(number).flavor.name for number in sys.argv[2:]]))
"""

RESOLVE_BY_HASH = """\
import json, sys
from pathlib import Path
from connector.config import load
flavors = sorted(load(Path(sys.argv[1])).flavors)
print(json.dumps([flavors[hash(number) % len(flavors)] for number in sys.argv[2:]]))
"""


def assert_the_same_in_every_process(program: str, file: Path) -> list[str]:
    """Runs `program` with several hash seeds; all of them answer alike."""
    answers = []
    for seed in ("0", "1", "20261120"):
        done = subprocess.run(
            [sys.executable, "-c", program, str(file), *NUMBERS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        answers.append(json.loads(done.stdout))
    assert all(answer == answers[0] for answer in answers)
    found: list[str] = answers[0]
    return found


def test_a_number_leads_to_the_same_flavor_in_every_process(tmp_path: Path) -> None:
    """A caller who calls again, or another connector of the pair, gets the same flavor."""
    file = tmp_path / "voxtrunk.yml"
    file.write_text(CONFIGURATION)
    assert assert_the_same_in_every_process(RESOLVE, file) == ["a", "b", "b", "a", "c", "c", "d", "d"]
    with pytest.raises(AssertionError):
        assert_the_same_in_every_process(RESOLVE_BY_HASH, file)


UNUSABLE = {
    "engine of another kind": "flavors: {a: {vad: {engine: flite}}}\n",
    "flavor that is not there": 'routes: [{number: "1", flavor: nope}]\n',
    "number that YAML changed": "routes: [{number: 0123, flavor: echo}]\n",
    "secret that is not there": "http: {token: '${VOXTRUNK_TEST_IS_NOT_SET}'}\n",
    "key with a typo": "sip: {max_cals: 1}\n",
    "open to the world": "sip: {listen: '0.0.0.0:5060'}\n",
    "range without a pair": "media: {ports: 40001-40002}\n",
    "expression that does not compile": 'routes: [{regex: "(", flavor: echo}]\n',
}

CHECK = "from connector.cli import main; main()"

# The defect: only the YAML is looked at.
CHECK_SYNTAX = "import sys, yaml; yaml.safe_load(open(sys.argv[3])); print('OK')"


def assert_refused(program: str, file: Path) -> None:
    """`check` fails with the file and the line."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, "check", "-c", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert f"{file}:1: " in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", UNUSABLE.values(), ids=UNUSABLE)
def test_check_does_not_call_it_ok(text: str, tmp_path: Path) -> None:
    """What cannot work is refused before the first call."""
    file = tmp_path / "voxtrunk.yml"
    file.write_text(text)
    assert_refused(CHECK, file)


def test_a_check_of_syntax_alone_would_call_it_ok(tmp_path: Path) -> None:
    """The variant with the defect."""
    file = tmp_path / "voxtrunk.yml"
    file.write_text(UNUSABLE["key with a typo"])
    with pytest.raises(AssertionError):
        assert_refused(CHECK_SYNTAX, file)
