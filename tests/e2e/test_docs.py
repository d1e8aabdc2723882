"""The documentation is true: what it shows is run, what it lists is compared with the code, what it links to is there.

A comment before a fenced block says what is done with it:

`<!-- file: NAME -->`          it becomes a file of the page's scratch folder
`<!-- run -->`                 its commands are run there: of a `console` block the output is compared, too
`<!-- run: exit N -->`         ... and the last one ends with status N
`<!-- file: NAME, wrong -->`   ... which is a configuration that is refused
`<!-- file: NAME, own -->`     ... which needs what the page has made before: its commands show whether it is right
`<!-- flavor -->`              the whole of a flavor file
`<!-- with -->`                keys of a flavor, as a route overrides them
`<!-- compose: NAME -->`       an addition to compose.yml, for test_compose.py
`<!-- answer: MODEL -->`       JSON that HTTP answers or a call leaves
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from connector.api import ANSWERS, Metrics
from connector.config import Surroundings, parse
from connector.config.model import Settings
from connector.errors import ConfigError
from connector.record import Latency, Parts, Turn
from connector.record.recorder import transcript_lines
from docs.generate import PAGES, ROOT, filled, own_engines


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. `mark`: the comment before it."""

    page: Path
    line: int
    language: str
    mark: str
    text: str

    @property
    def file(self) -> str:
        """The name of the file that it becomes; empty for none."""
        return self.mark.removeprefix("file: ").partition(", ")[0] if self.mark.startswith("file: ") else ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page in order."""
    fence = re.compile(r"(?:^<!-- (?P<mark>[^\n]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
    text = page.read_text()
    for found in fence.finditer(text):
        line = text.count("\n", 0, found.start("text")) + 1
        yield Block(page, line, found["language"], found["mark"] or "", found["text"])


BLOCKS = [block for page in PAGES for block in blocks(page)]
LANGUAGES = {"", "console", "json", "jsonl", "mermaid", "python", "sh", "text", "toml", "yaml"}


def of_language(*languages: str) -> pytest.MarkDecorator:
    """Parametrizes a test by the blocks of a language."""
    found = [block for block in BLOCKS if block.language in languages]
    return pytest.mark.parametrize("block", found, ids=str)


def test_blocks_are_of_a_language_that_is_checked_here() -> None:
    assert {block.language for block in BLOCKS} <= LANGUAGES


# --------------------------------------------------------------------------------------- what follows from the code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_generated_parts_are_up_to_date(page: Path) -> None:
    """Else run `python docs/generate.py`."""
    assert page.read_text() == filled(page.read_text())


def test_every_engine_and_option_is_described() -> None:
    """In the engine's own code, which the page repeats."""
    page = (ROOT / "docs" / "engines.md").read_text()
    for engine in own_engines():
        assert f"<!-- generated: options {engine.name} -->" in page
        for name, field in engine.options.model_fields.items():
            assert field.description, (engine.name, name)


def listed(page: str, heading: str) -> set[str]:
    """The first column of the table below a heading."""
    section = (ROOT / "docs" / page).read_text().partition(f"# {heading}\n")[2].partition("\n#")[0]
    return set(re.findall(r"^\| `([^`]+)`", section, re.M))


def test_every_metric_is_described() -> None:
    page = Metrics(list, dict, list, int).page().decode()
    assert listed("http.md", "Metrics") == {
        name for name in re.findall(r"^# TYPE (\S+)", page, re.M) if not name.endswith("_created")
    }


# --------------------------------------------------------------------------------------- links


def anchors(page: Path) -> set[str]:
    """What a link to a heading may name, as GitHub makes it of the heading."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


# --------------------------------------------------------------------------------------- configurations


def settings_of(block: Block, folder: Path) -> Settings:
    """What a block of YAML configures; references lead to a value. Raises ConfigError."""
    text = re.sub(r"\$\{file:[^}]+\}", "${A_FILE}", block.text)
    variables = dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "s3cret")
    mark = block.file or block.mark
    if mark == "flavor" or mark.startswith("flavors/"):
        (folder / "flavors").mkdir()
        (folder / "flavors" / "shown.yml").write_text(text)
        text = "default: shown\n"
    elif mark == "with":
        overrides = "".join(f"      {line}\n" for line in text.splitlines())
        text = f'routes:\n  - number: "1"\n    flavor: offline\n    with:\n{overrides}'
    return parse(text.encode(), folder / "voxtrunk.yml", surroundings=Surroundings(variables=variables))


@of_language("yaml")
def test_configurations_are_right(block: Block, tmp_path: Path) -> None:
    """Each is accepted, but for those that are shown because they are not."""
    if block.mark.endswith(", wrong"):
        with pytest.raises(ConfigError):
            settings_of(block, tmp_path)
    elif not block.mark.endswith(", own") and not block.mark.startswith("compose: "):
        settings_of(block, tmp_path)


@of_language("json")
def test_json_is_what_programs_get(block: Block) -> None:
    """It has the fields of what it shows, and the parts of a turn's silence add up to it."""
    json.loads(block.text)
    if not block.mark.startswith("answer: "):
        return
    shown = ANSWERS[block.mark.removeprefix("answer: ")].model_validate_json(block.text)
    for turn in getattr(shown, "turns", ()):
        assert turn.latency.parts_ms.total == turn.latency.silence_ms


@of_language("jsonl")
def test_a_transcript_is_what_calls_leave(block: Block) -> None:
    """Its lines have the fields of what the recorder writes."""
    turn = Turn(
        number=1,
        heard="hello",
        reply="hello",
        spoken="hello",
        interrupted=False,
        intent=None,
        caller_start=0.0,
        caller_end=0.0,
        agent_start=0.0,
        agent_end=0.0,
        latency=Latency(silence_ms=None, parts_ms=Parts()),
    )
    fields = {line["who"]: set(line) for line in transcript_lines(turn)}
    shown = [json.loads(line) for line in block.text.splitlines()]
    assert [set(line) for line in shown] == [fields[line["who"]] for line in shown]


# --------------------------------------------------------------------------------------- commands


class Scratch:
    """A folder in which a reader follows a page. `environment`: what its commands get."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("VOXTRUNK_CONFIG")}
        self.environment = {**inherited, **environment}
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def write(self, name: str, text: str) -> None:
        """A file of the page; a package is installed at once, as pip would."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if path.name == "pyproject.toml":
            self._install(path)

    def _install(self, pyproject: Path) -> None:
        project = tomllib.loads(pyproject.read_text())["project"]
        folder = pyproject.parent / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        groups = (
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
            for group, entries in project["entry-points"].items()
        )
        (folder / "entry_points.txt").write_text("".join(groups))
        self.environment["PYTHONPATH"] = str(pyproject.parent)

    def run(self, command: str) -> tuple[str, int]:
        """What a command prints, errors included, and its exit status."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )
        return done.stdout.decode(), done.returncode


def assert_shown(shown: str, real: str) -> None:
    """`shown` is `real`; in it `...` stands for anything, on a line of its own for any lines."""
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else r".*".join(map(re.escape, line.split("..."))) + r"\n"
        for line in shown.splitlines()
    )
    printed = "".join(f"{line.rstrip()}\n" for line in real.splitlines())
    assert re.fullmatch(pattern, printed), f"shown:\n{shown}\nreal:\n{printed}"


def follow(block: Block, scratch: Scratch) -> None:
    """Runs what a block says, and compares."""
    expected = int(block.mark.partition("exit ")[2] or 0)
    if block.language == "sh":
        output, status = scratch.run(f"set -e\n{block.text}")
        assert status == expected, output
        return
    status = 0
    for part in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
        command, _, shown = part.partition("\n")
        output, status = scratch.run(command)
        assert_shown(shown.rstrip(), output.rstrip())
    assert status == expected


FOLLOWED = [page for page in PAGES if any(block.mark.startswith("run") for block in blocks(page))]


@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_reader_gets_what_is_shown(page: Path, tmp_path: Path) -> None:
    """Everything in the order of the page, in one folder."""
    scratch = Scratch(tmp_path)
    for block in blocks(page):
        if block.file:
            scratch.write(block.file, block.text)
        elif block.mark.startswith("run"):
            follow(block, scratch)
