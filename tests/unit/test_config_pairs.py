"""Which pair a connector serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from connector import config
from connector.errors import ConfigError

PAIRS = """
opensips:
  pairs:
    - name: a
      ports: 20000-20099
    - name: b
      listen: 127.0.0.1:5071
      http: 127.0.0.1:8081
"""


def settings(folder: Path, text: str) -> config.Settings:
    file = folder / "voxtrunk.yml"
    file.write_text(text)
    return config.load(file)


def test_a_pair_brings_its_ports_and_its_http_address(tmp_path: Path) -> None:
    loaded = settings(tmp_path, PAIRS)
    first, second = config.of_pair(loaded), config.of_pair(loaded, "b")
    assert first.pair is not None
    assert second.pair is not None
    assert (first.pair.name, first.media.ports, first.http.listen) == ("a", "20000-20099", loaded.http.listen)
    assert (second.pair.name, second.media.ports, second.http.listen) == ("b", loaded.media.ports, "127.0.0.1:8081")


def test_an_unknown_pair_is_a_problem_that_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no pair 'c' \(known are a, b\)"):
        config.of_pair(settings(tmp_path, PAIRS), "c")


def test_without_opensips_there_is_no_pair(tmp_path: Path) -> None:
    loaded = settings(tmp_path, "default: echo\n")
    assert config.of_pair(loaded) == loaded
    with pytest.raises(ConfigError, match="without the section opensips"):
        config.of_pair(loaded, "a")
