"""Build the image of docker/Dockerfile for one model: with the Python and the versions that the model was saved with.

The model's requirements beat constraints.txt; where the rest of it does not go with them, the build goes on without it.
What is older than Scoreline runs with is refused before anything is built.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from runtime.errors import ScorelineError
from runtime.model import read_mlmodel
from runtime.requirements import saved_with

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("pyproject.toml", "README.md", "LICENSE", "runtime", "scoring", "docker/Dockerfile")
USUAL_PYTHON = "3.11"
BUILDERS = ("docker", "podman", "buildah")
READABLE = 0o044


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What goes into the image of a model.

    Attributes:
        model: its folder.
        python: major and minor version of Python.
        requirements: what the model asks for.
        constraints: of constraints.txt what the model says nothing about.
        notices: what was left out, a sentence each.
    """

    model: Path
    python: str
    requirements: tuple[str, ...]
    constraints: tuple[str, ...]
    notices: tuple[str, ...] = ()


def plan(model: Path, python: str = "") -> Plan:
    """Read what a model needs, and compare it with what Scoreline needs.

    Args:
        model: its folder.
        python: the version of Python to take, whatever the model says.

    Raises:
        ScorelineError: the folder is no model, or it needs something older than Scoreline runs with.
    """
    read_mlmodel(str(model))
    file, lines, said = saved_with(str(model))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked, left_out = _parsed(lines)
    _refuse_old(file, asked, [Requirement(text) for text in project["dependencies"]])
    names = {canonicalize_name(each.name) for each in asked}
    pins = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if line and line[0] != "#"]
    notices = [f"{left_out} lines of {file} name no package, and are left out"] if left_out else []
    return Plan(
        model=model,
        python=_python(said, python, project["requires-python"]),
        requirements=tuple(str(each) for each in asked),
        constraints=tuple(pin for pin in pins if canonicalize_name(pin.partition("==")[0]) not in names),
        notices=tuple(notices),
    )


def _parsed(lines: Iterable[str]) -> tuple[list[Requirement], int]:
    """Read requirements; count what is none. Python itself is no package of pip."""
    found, left_out = [], 0
    for line in lines:
        try:
            found.append(Requirement(line))
        except InvalidRequirement:
            left_out += 1
    return [each for each in found if each.name.lower() != "python"], left_out


def _refuse_old(file: str, asked: Sequence[Requirement], ours: Sequence[Requirement]) -> None:
    least = {canonicalize_name(each.name): each.specifier for each in ours}
    old = [
        f"{each.name}{each.specifier} (Scoreline needs {each.name}{least[name]})"
        for each in asked
        if (name := canonicalize_name(each.name)) in least and _is_older(each.specifier, least[name])
    ]
    if old:
        raise ScorelineError(
            f"{file} asks for {', '.join(old)}: save the model again with newer versions, or score it with a Scoreline "
            "that runs with these"
        )


def _is_older(asked: SpecifierSet, ours: SpecifierSet) -> bool:
    """Tell whether every version that is asked for lies below the least that we need."""
    floor = max((Version(each.version) for each in ours if each.operator == ">="), default=Version("0"))
    for each in asked:
        version = Version(each.version.removesuffix(".*"))
        if each.operator in ("==", "===") and version < floor and not asked.contains(floor, prereleases=True):
            return True
        if each.operator in ("<", "<=", "~=") and version <= floor and not asked.contains(floor, prereleases=True):
            return True
    return False


def _python(said: str, given: str, needed: str) -> str:
    found = re.match(r"\d+\.\d+", given or said or USUAL_PYTHON)
    if found is None:
        raise ScorelineError(f"Python {given or said}: give a version such as {USUAL_PYTHON} with --python")
    if not SpecifierSet(needed).contains(found[0]):
        raise ScorelineError(
            f"the model was saved with Python {said or given}, and Scoreline needs Python{needed}: save it again "
            f"under that, or try it with --python {USUAL_PYTHON}"
        )
    return found[0]


def write_context(plan: Plan, folder: Path) -> None:
    """Lay out what docker/Dockerfile copies."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    (folder / "constraints.txt").write_text("".join(f"{line}\n" for line in plan.constraints), "utf-8")
    own = (ROOT / "docker/requirements.txt").read_text("utf-8")
    (folder / "docker/requirements.txt").write_text(own + "".join(f"{line}\n" for line in plan.requirements), "utf-8")
    shutil.copytree(plan.model, folder / "docker/model", copy_function=_link)


def _link(source: str, target: str) -> None:
    """Copy a file without its bytes where that can be, and so that any user of the image can read it."""
    if os.stat(source).st_mode & READABLE == READABLE:
        try:
            os.link(source, target)
        except OSError:
            pass
        else:
            return
    shutil.copyfile(source, target)
    os.chmod(target, 0o644)


def _builder(words: str) -> list[str]:
    found = shlex.split(words) if words else [name for name in BUILDERS if shutil.which(name)][:1]
    if not found:
        raise ScorelineError(f"none of {', '.join(BUILDERS)} is installed; name another with --builder")
    return found


def _revision() -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", metavar="MODEL_DIR")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[-- WORDS FOR THE BUILDER]")
@click.option("--tag", default="", help="Name of the image.  [default: scoreline- and the name of the folder]")
@click.option("--python", default="", metavar="X.Y", help="Take this Python, whatever the model was saved with.")
@click.option("--builder", default="", help="docker, podman or buildah, with its options.  [default: the first found]")
@click.option("--show", is_flag=True, help="Show what would be installed, and build nothing.")
def main(*, model: str, words: tuple[str, ...], tag: str, python: str, builder: str, show: bool) -> None:
    """Build an image that scores with the model in MODEL_DIR: `docker run IMAGE run --input DATA --output SCORES`."""
    try:
        planned = plan(Path(model), python)
        for notice in planned.notices:
            click.echo(notice, err=True)
        if show:
            click.echo("\n".join([f"python {planned.python}", *planned.requirements, *planned.constraints]))
            return
        sys.exit(_build(planned, _builder(builder), tag, words))
    except ScorelineError as error:
        click.echo(f"build-for-model: {error}", err=True)
        sys.exit(2)


def _build(planned: Plan, builder: list[str], tag: str, words: Sequence[str]) -> int:
    name = re.sub(r"[^a-z0-9._-]+", "-", planned.model.resolve().name.lower()).strip("._-")
    arguments = {"PYTHON": planned.python, "MODEL": "/model", "REVISION": _revision()}
    command = [*builder, "build", *(f"--build-arg={key}={value}" for key, value in arguments.items()), *words]
    # on the disk of the model its files need not be copied
    beside = planned.model.resolve().parent
    place = beside if os.access(beside, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="scoreline-image-", dir=place) as context:
        write_context(planned, Path(context))
        command += ["--file", f"{context}/docker/Dockerfile", "--tag", tag or f"scoreline-{name}", context]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    main(prog_name="docker/build-for-model")
