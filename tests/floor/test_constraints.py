"""The oldest versions that are tested are the oldest that are allowed, and the page about versions says so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LINES, NEWEST_LINES = (
    [line for line in (ROOT / name).read_text().splitlines() if line and line[0] != "#"]
    for name in ("constraints-floor.txt", "constraints.txt")
)
PINNED, NEWEST = (
    {canonicalize_name(line.partition("==")[0]): Version(line.partition("==")[2]) for line in lines}
    for lines in (LINES, NEWEST_LINES)
)
DECLARED = [
    Requirement(text) for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
]

# The lowest that is allowed has no wheel for Python 3.11.
FIRST_WHEELS = {"pillow": Version("9.2.0"), "psutil": Version("5.9.4")}


@pytest.mark.parametrize("requirement", DECLARED, ids=str)
def test_floor_is_the_lower_bound(requirement: Requirement) -> None:
    """A declared dependency is pinned to its lower bound, or the first release after it that runs on Python 3.11."""
    (bound,) = (Version(each.version) for each in requirement.specifier if each.operator == ">=")
    name = canonicalize_name(requirement.name)
    assert PINNED[name] == FIRST_WHEELS.get(name, bound)
    assert requirement.specifier.contains(PINNED[name])


def test_floor_holds_versions_of_packages_alone() -> None:
    """No URL, no path, no option, and sorted."""
    assert [line for line in LINES if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+_]+", line)] == []
    names = [line.partition("==")[0] for line in LINES]
    assert sorted(names) == names


def test_page_tells_both_ends() -> None:
    """The table of docs/versions.md has what is pinned at either end."""
    page = (ROOT / "docs/versions.md").read_text("utf-8")
    rows = re.findall(r"^\| ([a-z][\w, -]+) \| (\d[\d., ]+) \| (\d[\d., ]+) \|$", page, re.MULTILINE)
    told = [each for row in rows for each in zip(*(cell.split(", ") for cell in row), strict=True)]
    assert {"mlflow", "pandas", "scikit-learn", "obstore"} <= {name for name, *_ in told}
    assert [(name, str(PINNED[name]), str(NEWEST[name])) for name, *_ in told] == told
