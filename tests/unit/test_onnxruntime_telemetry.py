"""Nobody is told what runs here: onnxruntime's telemetry is off wherever voxtrunk is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="needs the extra silero")


def test_onnxruntime_keeps_no_device_id_and_no_events(tmp_path: Path) -> None:
    """Both would be in the user's cache before anything is sent."""
    environment = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI")}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", "import connector, onnxruntime"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert not any(tmp_path.iterdir())
