"""What is declared, pinned and released agrees."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from pkgutil import resolve_name

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = [
    line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.strip() and not line.startswith("#")
]
PINNED = {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in CONSTRAINTS}
DECLARED = [
    Requirement(text)
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in group
]


def test_version_is_the_newest_in_the_changelog() -> None:
    """The version of the project is the one at the top of the changelog."""
    newest = re.search(r"^## \[(?P<version>[^]]+)\] - ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert PROJECT["version"] == newest["version"]


def test_version_is_the_installed_one() -> None:
    """The version the package tells is the version of the project."""
    import runtime

    assert runtime.__version__ == PROJECT["version"]


@pytest.mark.parametrize("command", PROJECT["scripts"].items(), ids=lambda command: command[0])
def test_command_exists(command: tuple[str, str]) -> None:
    """A console script names something that can be called."""
    assert callable(resolve_name(command[1]))


def test_constraints_are_versions_of_packages() -> None:
    """A constraint is a name and a version: no URL, no path, no option."""
    assert [line for line in CONSTRAINTS if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+_]+", line)] == []


def test_constraints_are_sorted() -> None:
    """A changed pin shows as one changed line."""
    names = [line.partition("==")[0].lower() for line in CONSTRAINTS]
    assert sorted(names) == names


@pytest.mark.parametrize("requirement", DECLARED, ids=str)
def test_pin_satisfies_what_is_declared(requirement: Requirement) -> None:
    """Every declared dependency is pinned to a version it allows."""
    pin = PINNED.get(canonicalize_name(requirement.name))
    assert pin is not None, f"{requirement.name} is not in constraints.txt"
    assert requirement.specifier.contains(pin)


def test_pins_cover_what_dependencies_need() -> None:
    """What the dependencies need in turn is pinned as well."""
    assert sorted(_closure(DECLARED) - PINNED.keys()) == []


def _closure(declared: list[Requirement]) -> set[str]:
    """Return the names of these packages and of all that they need on this machine."""
    found: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(canonicalize_name(requirement.name), frozenset(requirement.extras)) for requirement in declared]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            needed = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            pytest.fail(f"{name} is needed and not installed")
        found.add(name)
        waiting += [
            (canonicalize_name(other.name), frozenset(other.extras))
            for other in needed
            if other.marker is None or any(other.marker.evaluate({"extra": extra}) for extra in {"", *extras})
        ]
    return found
