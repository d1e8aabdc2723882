"""`voxtrunk` as a process."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finished:
    """What a command left."""

    status: int
    output: str
    errors: str


async def start(*arguments: str, cwd: Path | None = None, **environment: str) -> asyncio.subprocess.Process:
    """Starts `voxtrunk ARGUMENTS`, its output and errors piped."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "connector.cli",
        *arguments,
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run(*arguments: str, cwd: Path | None = None, seconds: float = 60.0, **environment: str) -> Finished:
    """Runs `voxtrunk ARGUMENTS` to its end."""
    process = await start(*arguments, cwd=cwd, **environment)
    try:
        async with asyncio.timeout(seconds):
            output, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return Finished(process.returncode or 0, output.decode(), errors.decode())
