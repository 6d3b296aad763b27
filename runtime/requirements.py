"""How what a model was saved with differs from what is installed here.

The first of requirements.txt, the pip part of conda.yaml and python_env.yaml that a model has says what it was saved
with; the MLmodel file says with which Python. What cannot be read or compared is passed over: this is advice.

A model with 8 pinned requirements takes 3 ms, and 7 ms more where PyYAML is not imported yet (2 shared cores).
Ranges, markers, extras and versions such as 2.1.0+cpu need packaging, whose import takes 14 ms: see `_compare`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runtime.errors import ScorelineError
from runtime.model import read_mlmodel

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from runtime.deployment_yaml import Located

__all__ = ["Mismatch", "describe", "mismatches", "saved_with"]

MAX_FILE_BYTES = 2**20
SHOWN = 5

PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*==\s*(\d{1,9}(?:\.\d{1,9})*)")
PLAIN = re.compile(r"\d{1,9}(?:\.\d{1,9})*")
OPTION = re.compile(r"\s--?[a-z].*")
COMMENT = re.compile(r"(^|\s)#.*")
CONDA_PYTHON = re.compile(r"python\s*={1,2}\s*(\d[\w.]*)(=\S*)?")
VERSION = re.compile(r"^Version:\s*(\S+)", re.MULTILINE)
MINOR = re.compile(r"\d+\.\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """One difference.

    Attributes:
        package: its name as the model gives it; ``python`` for Python itself.
        wanted: the version, as in ``1.3.2``, or which ones, as in ``>=1.3,<2``; empty where any would do.
        found: the version here; empty where the package is not installed.
        file: that says so.
    """

    package: str
    wanted: str
    found: str
    file: str


def mismatches(model_path: str, mlmodel: Mapping[str, Any] | None = None) -> list[Mismatch]:
    """Compare what a model was saved with to what is installed here.

    Args:
        model_path: the folder of the model.
        mlmodel: the content of its MLmodel file, where that is known already.
    """
    file, lines = _requirements(model_path)
    found: dict[str, Mismatch] = {}
    for line in lines:
        mismatch = _compare(line, file)
        # pip cannot install a Python; what it was is compared below
        if mismatch is not None and mismatch.package != "python":
            found.setdefault(mismatch.package, mismatch)
    return [*found.values(), *_python(model_path, mlmodel)]


def saved_with(model_path: str) -> tuple[str, list[str], str]:
    """Return the file that says what a model was saved with, its requirements, and the version of Python, if known."""
    return *_requirements(model_path), _python_version(model_path, None)[1]


def describe(differences: Sequence[Mismatch]) -> str:
    """Say in one sentence what differs, and what gives the same; nothing where nothing differs."""
    if not differences:
        return ""
    packages = [each for each in differences if each.package != "python"]
    python = [each for each in differences if each.package == "python"]
    shown = [*packages[:SHOWN], *python]
    hidden = len(packages[SHOWN:])
    more = [f"{hidden} more"] if hidden else []
    wanted = _listed([*(f"{_name(each)} {each.wanted}".rstrip() for each in shown), *more])
    here = _listed([f"{_name(each)} {each.found}" if each.found else f"no {_name(each)}" for each in shown])
    verb = "are" if len(shown) > 1 else "is"
    return f"the model was saved with {wanted}; here {verb} {here}: scores may differ ({_remedy(packages, python)})"


def _remedy(packages: Sequence[Mismatch], python: Sequence[Mismatch]) -> str:
    same_python = f"Python {python[0].wanted}" if python else ""
    if not packages:
        return f"{same_python} gives the same"
    file = packages[0].file
    if not file.endswith(".txt"):
        return f"the environment of {file} gives the same"
    return f"pip install -r {file}{f' under {same_python}' if same_python else ''} gives the same"


def _name(mismatch: Mismatch) -> str:
    return "Python" if mismatch.package == "python" else mismatch.package


def _listed(texts: Sequence[str]) -> str:
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def _compare(line: str, file: str) -> Mismatch | None:
    """Compare one requirement; None where it is met, or says nothing that can be compared."""
    if pinned := PINNED.fullmatch(line):
        # as MLflow writes them; packaging would say the same, after an import of 14 ms
        name, wanted = pinned.groups()
        found = _installed(name)
        if not found or PLAIN.fullmatch(found):
            same = found and _numbers(found) == _numbers(wanted)
            return None if same else Mismatch(package=name, wanted=wanted, found=found, file=file)
    requirement = _parsed(line)
    if requirement is None:
        return None
    found = _installed(requirement.name)
    if found and (requirement.url or _allows(requirement, found)):
        return None
    specifiers = list(requirement.specifier)
    exact = len(specifiers) == 1 and specifiers[0].operator in ("==", "===") and "*" not in specifiers[0].version
    # of a URL nothing is shown: it may hold a token
    wanted = specifiers[0].version if exact else ",".join(sorted(map(str, specifiers), reverse=True))
    return Mismatch(package=requirement.name, wanted=wanted, found=found, file=file)


def _numbers(version: str) -> list[int]:
    """Return the numbers of a plain version: 1.0 is 1.0.0."""
    numbers = [int(number) for number in version.split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return numbers


def _parsed(line: str) -> Requirement | None:
    """Read a requirement; None where it is none, or not for this machine."""
    from packaging.markers import UndefinedEnvironmentName
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            return None
    except (InvalidRequirement, UndefinedEnvironmentName, ValueError, RecursionError):
        return None
    return requirement


def _allows(requirement: Requirement, found: str) -> bool:
    from packaging.version import InvalidVersion

    try:
        return requirement.specifier.contains(found, prereleases=True)
    except InvalidVersion:
        return False


def _installed(package: str) -> str:
    """Return the version of an installed package, or nothing."""
    from importlib import metadata

    try:
        distribution = metadata.distribution(package)
        # its version attribute parses the whole file, which has the package's readme, in half a millisecond
        head = (distribution.read_text("METADATA") or "").partition("\n\n")[0]
        version = VERSION.search(head)
        # None where an installation is damaged, whatever its type says
        return version[1] if version else str(distribution.version or "")
    except (metadata.PackageNotFoundError, ValueError, KeyError, OSError):
        return ""


def _requirements(model_path: str) -> tuple[str, list[str]]:
    """Return the file that says what the model was saved with, and its requirements."""
    file = os.path.join(model_path, "requirements.txt")
    text = _text(file)
    if text is not None:
        return file, list(_lines(text))
    file = os.path.join(model_path, "conda.yaml")
    pip = tuple(each for item in _items(_yaml(file), "dependencies") for each in _items(item, "pip"))
    if not pip:
        file = os.path.join(model_path, "python_env.yaml")
        pip = _items(_yaml(file), "dependencies")
    return file, list(_lines("\n".join(each.text for each in pip if not each.null)))


def _lines(text: str) -> Iterator[str]:
    """Find the requirements in a file of pip: without options, hashes, comments, bare URLs and paths."""
    for whole in re.sub(r"\\\r?\n", " ", text).splitlines():
        line = OPTION.sub("", COMMENT.sub("", whole)).strip()
        if line and not line.startswith("-"):
            yield line


def _python(model_path: str, mlmodel: Mapping[str, Any] | None) -> list[Mismatch]:
    """Compare major and minor version of Python."""
    import platform

    file, version = _python_version(model_path, mlmodel)
    wanted = MINOR.match(version)
    found = ".".join(platform.python_version_tuple()[:2])
    if wanted is None or wanted[0] == found:
        return []
    return [Mismatch(package="python", wanted=wanted[0], found=found, file=file)]


def _python_version(model_path: str, mlmodel: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return the Python a model was saved with, as written, and the file that says so."""
    try:
        content = read_mlmodel(model_path) if mlmodel is None else mlmodel
        version = content["flavors"]["python_function"]["python_version"]
    except (ScorelineError, ValueError, LookupError, TypeError, RecursionError):
        version = None
    # a number is what is left of 3.10 without quotes: 3.1
    if isinstance(version, str) and version:
        return os.path.join(model_path, "MLmodel"), version
    file = os.path.join(model_path, "python_env.yaml")
    environment = _yaml(file)
    for entry in environment.entries if environment else ():
        if entry.name == "python":
            return file, entry.value.text
    file = os.path.join(model_path, "conda.yaml")
    for item in _items(_yaml(file), "dependencies"):
        if match := CONDA_PYTHON.fullmatch(item.text.strip()):
            return file, match[1]
    return file, ""


def _items(value: Located | None, name: str) -> tuple[Located, ...]:
    """Return the list below a key of a mapping; nothing where there is none."""
    return next((entry.value.items for entry in (value.entries if value else ()) if entry.name == name), ())


def _yaml(file: str) -> Located | None:
    """Read a file of YAML; None where it is missing or damaged."""
    from runtime.deployment_yaml import read_yaml

    try:
        return read_yaml(file, lambda *_: None)
    except (ScorelineError, ValueError, RecursionError):
        return None


def _text(file: str) -> str | None:
    try:
        with open(file, "rb") as source:
            return source.read(MAX_FILE_BYTES).decode("utf-8-sig", "replace")
    except OSError:
        return None
