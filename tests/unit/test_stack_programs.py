"""Finding OpenSIPS and rtpengine, and what is said where they are missing or too old."""

from __future__ import annotations

from pathlib import Path

import pytest

from connector.errors import StackError
from connector.stack.programs import find_opensips, find_rtpengine, opensips_at
from connector.stack.render import MODULE_FOLDERS


def program(path: Path, says: str) -> Path:
    """A program that says its version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_the_variable_comes_before_the_path(tmp_path: Path) -> None:
    named = program(tmp_path / "named" / "opensips", "version: opensips 4.0.1 (x86_64/linux)")
    program(tmp_path / "path" / "opensips", "version: opensips 3.6.8 (x86_64/linux)")
    environment = {"PATH": str(tmp_path / "path")}
    assert find_opensips(environment).version == "3.6.8"
    found = find_opensips({**environment, "OPENSIPS_BIN": str(named)})
    assert (found.path, found.version) == (named, "4.0.1")


@pytest.mark.parametrize("folder", ["lib64", "lib", "lib/x86_64-linux-gnu"])
def test_modules_are_those_beside_the_program(tmp_path: Path, folder: str) -> None:
    modules = tmp_path / folder / "opensips" / "modules"
    modules.mkdir(parents=True)
    opensips = opensips_at(program(tmp_path / "sbin" / "opensips", "version: opensips 3.6.8 (x86_64/linux)"))
    assert opensips.modules == (modules,)


def test_without_modules_beside_it_they_are_where_packages_have_them(tmp_path: Path) -> None:
    opensips = opensips_at(program(tmp_path / "sbin" / "opensips", "version: opensips 3.6.8 (x86_64/linux)"))
    assert opensips.modules == MODULE_FOLDERS


def test_a_missing_opensips_is_followed_by_how_to_install_it(tmp_path: Path) -> None:
    absent = tmp_path / "opensips"
    with pytest.raises(StackError, match=f"{absent}, which is no program"):
        find_opensips({"OPENSIPS_BIN": str(absent)})


def test_an_old_opensips_is_refused_with_the_right_archive(tmp_path: Path) -> None:
    old = program(tmp_path / "opensips", "version: opensips 3.2.6 (x86_64/linux)")
    with pytest.raises(StackError, match=r"(?s)3\.2\.6; 3\.6 or 4\.0 is needed.*apt\.opensips\.org"):
        opensips_at(old)


def test_rtpengine_says_its_version_as_debian_has_it(tmp_path: Path) -> None:
    named = program(tmp_path / "rtpengine", "Version: 12.5.1.31-1")
    assert find_rtpengine({"RTPENGINE_BIN": str(named)}).version == "12.5.1.31"


@pytest.mark.parametrize("says", ["", "hello"])
def test_a_program_that_does_not_say_its_version_is_named(tmp_path: Path, says: str) -> None:
    with pytest.raises(StackError, match="does not say its version"):
        opensips_at(program(tmp_path / "opensips", says))
