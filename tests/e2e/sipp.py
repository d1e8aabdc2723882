"""SIPp, a SIP traffic generator that nobody here wrote, run against an endpoint or called by it.

Scenarios lie in `tests/e2e/sipp/*.xml`; `@NAME@` in one is replaced by a parameter.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from connector.sip.message import Address
from tests.fakes.sip import free_udp_port

SCENARIOS = Path(__file__).parent / "sipp"


def missing_reason() -> str | None:
    """Why there is no SIPp here, for a visible skip; None where there is one."""
    return None if shutil.which("sipp") else "SIPp is not installed (apt-get install sip-tester)"


EVERY_COPY = "-nr"
"""Option: SIPp repeats nothing by itself and shows the scenario every copy of a message."""


async def call(
    scenario: str,
    target: Address,
    *options: str,
    calls: int = 1,
    rate: int = 10,
    local: Address | None = None,
    **parameters: object,
) -> None:
    """Runs `scenario` as caller: `calls` calls to 1000 at `target`, from `local` where it matters.

    Raises `AssertionError` with SIPp's words.
    """
    host, port = target
    where = (f"{host}:{port}", "-s", "1000", "-m", str(calls), "-r", str(rate))
    async with _running(scenario, *where, *options, local=local, **parameters) as (process, folder):
        await _finish(process, folder)


@asynccontextmanager
async def answering(
    scenario: str, *options: str, calls: int = 1, port: int | None = None, **parameters: object
) -> AsyncIterator[str]:
    """Runs `scenario` as callee on loopback and yields its URI; at the end it must have served `calls` calls."""
    port = port or free_udp_port()
    local = ("127.0.0.1", port)
    async with _running(scenario, "-m", str(calls), *options, local=local, **parameters) as (process, folder):
        await _bound(port)
        yield f"sip:1000@127.0.0.1:{port}"
        await _finish(process, folder)


async def _bound(port: int) -> None:
    """Waits until something listens on UDP `port`, which the kernel alone can tell."""
    entry = f"0100007F:{port:04X}"
    async with asyncio.timeout(10):
        while entry not in await asyncio.to_thread(Path("/proc/net/udp").read_text):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@asynccontextmanager
async def _running(
    scenario: str, *arguments: str, local: Address | None, **parameters: object
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Path]]:
    host, port = local or ("127.0.0.1", free_udp_port())
    with TemporaryDirectory(prefix="sipp-") as name:
        folder = Path(name)
        if scenario in ("uac", "uas"):
            source = ("-sn", scenario)
        else:
            text = (SCENARIOS / f"{scenario}.xml").read_text()
            for key, value in parameters.items():
                text = text.replace(f"@{key.upper()}@", str(value))
            file = folder / f"{scenario}.xml"
            file.write_text(text)
            source = ("-sf", str(file))
        process = await asyncio.create_subprocess_exec(
            "sipp",
            *source,
            *arguments,
            *("-i", host, "-p", str(port), "-nostdin"),
            *("-timeout", "20", "-timeout_error", "-trace_err", "-error_file", str(folder / "errors")),
            cwd=folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield process, folder
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()


async def _finish(process: asyncio.subprocess.Process, folder: Path) -> None:
    output, errors = await process.communicate()
    if process.returncode != 0:
        file = folder / "errors"
        said = file.read_text(errors="replace") if file.exists() else ""
        screen = output.decode()[-2000:]
        raise AssertionError(f"SIPp ended with {process.returncode}\n{said}\n{errors.decode()}\n{screen}")
