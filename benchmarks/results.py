"""What was measured, line by line, kept in a file that a partial run only adds to."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

FORMAT = 2
_PACKAGES = ("mlflow", "pandas", "numpy", "scikit-learn", "pyarrow", "skops", "adlfs", "obstore")


@dataclass(frozen=True, kw_only=True)
class Line:
    """Every run of both sides, the figure made of them, and what it must reach.

    Attributes:
        name: of the measurement.
        measure: what of it, where there are several lines; with the name and the other side it tells lines apart.
        what: the same for a reader.
        unit: of `ours` and `other`.
        ours: one value for each run.
        other: the same of the other side.
        other_name: who that is.
        figure: a quotient of medians.
        at_least: what the figure must reach; None for no such target.
        at_most: what it must not exceed.
        ours_first_s: when the first scores lay on disk, median; 0 where not seen.
        bare_s: seconds that all rows take in bare `predict` on one core; 0 where not measured.
        rows: of the input.
        input_bytes: of the input.
        workers: on each side.
        commit: what was measured.
        when: and when.
        load: of the machine before.
        versions: of the other side.
        commands: what was run, each once.
    """

    name: str
    measure: str = "wall"
    what: str
    unit: str
    ours: tuple[float, ...]
    other: tuple[float, ...]
    other_name: str
    figure: float
    at_least: float | None = None
    at_most: float | None = None
    ours_cpu_s: float = 0.0
    other_cpu_s: float = 0.0
    server_cpu_s: float = 0.0
    ours_peak_bytes: int = 0
    other_peak_bytes: int = 0
    ours_first_s: float = 0.0
    other_first_s: float = 0.0
    bare_s: float = 0.0
    rows: int = 0
    input_bytes: int = 0
    workers: int = 0
    commit: str = ""
    when: str = ""
    load: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        """What a newer line of the same replaces."""
        return (self.name, self.measure, self.other_name)

    @property
    def passed(self) -> bool:
        """Say whether the figure reaches its target."""
        return (self.at_least is None or self.figure >= self.at_least) and (
            self.at_most is None or self.figure <= self.at_most
        )


def load_lines(path: Path) -> list[Line]:
    """Read the lines that are kept; none where there is no such file, or one of another format."""
    if not path.exists():
        return []
    content = json.loads(path.read_text())
    if content.get("format") != FORMAT:
        return []
    known = {each.name for each in fields(Line)}
    return [Line(**{name: _frozen(line[name]) for name in line if name in known}) for line in content["lines"]]


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def merge_lines(kept: Iterable[Line], new: Iterable[Line], order: Iterable[str]) -> list[Line]:
    """Put new lines in the places of their older selves, and all in the order of the measurements."""
    lines = {line.key: line for line in (*kept, *new)}
    places = {name: place for place, name in enumerate(order)}
    return sorted(lines.values(), key=lambda line: places.get(line.name, len(places)))


def save_lines(path: Path, lines: Iterable[Line]) -> None:
    """Keep the lines, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "format": FORMAT,
        **machine_facts(),
        "lines": [asdict(line) | {"passed": line.passed} for line in lines],
    }
    unfinished = path.with_suffix(".json.unfinished")
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    unfinished.replace(path)


def machine_facts() -> dict[str, str]:
    """Describe this machine and what is installed here."""
    return {
        "machine": machine(),
        "cpu": f"{_cpu_model()}, {_cpus()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{package} {version(package)}" for package in _PACKAGES),
    }


def machine() -> str:
    """Return a short name made of the processor and the number of cores."""
    return re.sub(r"[^a-z0-9]+", "-", f"{_cpu_model()} {_cpus()} cores".lower()).strip("-")


def commit() -> str:
    """Name the commit that is checked out, and say where files differ from it."""
    changed = _git("status", "--porcelain", "--", ":/", ":(exclude,top)benchmarks/results")
    return _git("rev-parse", "--short=10", "HEAD") + (" with changes" if changed else "")


def now() -> str:
    """Return the time to the minute."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _git(*arguments: str) -> str:
    here = Path(__file__).parent
    return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _cpus() -> int:
    return len(os.sched_getaffinity(0))
