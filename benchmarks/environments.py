"""Make virtual environments on demand, from pinned requirements: for Scoreline, and for peers that need more."""

import hashlib
import json
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
PROJECT = Path(__file__).parents[1]
CONSTRAINTS = PROJECT / "constraints.txt"
OURS = "scoreline"
"""The environment that has Scoreline as its users install it: scikit-learn imports pytest wherever it is."""
SAME = ("mlflow", "numpy", "pandas", "scikit-learn", "skops")
"""What has to be of one version on both sides: the model is the same then, and so is what calls it."""
_INSTALLED = ".installed"


class EnvironmentDiffersError(Exception):
    """A peer's environment has other versions of the model's libraries than this one."""


def is_made(data: Path, name: str) -> bool:
    """Tell whether the environment is there."""
    return (_folder(data, name) / _INSTALLED).exists()


@cache
def python_of(data: Path, name: str) -> str:
    """Return the Python of an environment, and make it unless it is there: some minutes.

    Raises:
        EnvironmentDiffersError: it would not run the same model as this Python.
    """
    folder = _folder(data, name)
    python = folder / "bin" / "python"
    if not is_made(data, name):
        shutil.rmtree(folder, ignore_errors=True)
        print(f"making the environment of {name}: a few minutes ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        _install(python, "-r", PEERS / f"{name}.txt")
        (folder / _INSTALLED).touch()
    _check_same(str(python), name)
    return str(python)


@cache
def python_of_ours(data: Path) -> str:
    """Return the Python of an environment with Scoreline as it is checked out now, built and installed.

    Raises:
        EnvironmentDiffersError: as for peers.
    """
    python = python_of(data, OURS)
    _install(python, "-c", CONSTRAINTS, PROJECT)
    return python


def _install(python: str | Path, *what: str | Path) -> None:
    subprocess.run([python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *what], check=True)


def versions_of(python: str, packages: tuple[str, ...]) -> dict[str, str]:
    """Ask a Python for the versions of packages it has."""
    code = (
        "import importlib.metadata as m, json, sys; print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))"
    )
    asked = subprocess.run([python, "-c", code, *packages], check=True, capture_output=True, text=True)
    return dict(json.loads(asked.stdout))


def _check_same(python: str, name: str) -> None:
    theirs = versions_of(python, SAME)
    differing = [
        f"{package} {theirs[package]}, not {version(package)}"
        for package in SAME
        if theirs[package] != version(package)
    ]
    if differing:
        raise EnvironmentDiffersError(
            f"the environment of {name} has {'; '.join(differing)}: install what constraints.txt names into this one"
        )


def _folder(data: Path, name: str) -> Path:
    """Return where the environment lies; its name changes with what is to be installed."""
    wanted = (PEERS / f"{name}.txt").read_bytes() + CONSTRAINTS.read_bytes() + sys.version.encode()
    return data / "environments" / f"{name}-{hashlib.sha256(wanted).hexdigest()[:10]}"
