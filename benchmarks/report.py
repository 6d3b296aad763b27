"""Print the table of a benchmark run, and keep it with the machine, the commit and the commands."""

import json
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

_PACKAGES = ["mlflow", "pandas", "numpy", "scikit-learn", "pyarrow", "skops", "adlfs", "obstore"]
_HEADINGS = ["name", "measured", "scoreline", "other", "figure", "target", "verdict", "CPU s", "peak PSS MB"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the table: every run of both sides, the figure made of them, and what it must reach."""

    name: str
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

    @property
    def passed(self) -> bool:
        """Say whether the figure reaches its target."""
        return (self.at_least is None or self.figure >= self.at_least) and (
            self.at_most is None or self.figure <= self.at_most
        )

    @property
    def cells(self) -> list[str]:
        """Return the line as texts, in the order of the headings."""
        target = f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"
        return [
            self.name,
            self.what,
            _spread(self.ours, self.unit),
            f"{self.other_name}: {_spread(self.other, self.unit)}",
            f"{self.figure:.2f}",
            target,
            "pass" if self.passed else "MISS",
            self._cpu,
            f"{self.ours_peak_bytes / 1e6:.0f} / {self.other_peak_bytes / 1e6:.0f}" if self.ours_peak_bytes else "",
        ]

    @property
    def _cpu(self) -> str:
        server = f", Azurite {self.server_cpu_s:.1f}" if self.server_cpu_s else ""
        return f"{self.ours_cpu_s:.1f} / {self.other_cpu_s:.1f}{server}" if self.ours_cpu_s else ""


def print_lines(lines: Sequence[Line]) -> None:
    """Print the table."""
    table = Table(*_HEADINGS)
    for line in lines:
        table.add_row(*line.cells, style=None if line.passed else "bold red")
    console = Console()
    # A pipe has no width; the table shall not be folded to 80 columns in a log.
    console.width = console.width if console.is_terminal else 200
    console.print(table)


def save(lines: Sequence[Line], folder: Path, commands: Sequence[str], measured_at: str, load: float) -> Path:
    """Write the table as markdown and all figures as JSON, named after the machine; return the markdown file."""
    folder.mkdir(exist_ok=True)
    facts = {
        "machine": machine(),
        "cpu": f"{_cpu_model()}, {_cpus()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{package} {version(package)}" for package in _PACKAGES),
        "commit": measured_at,
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load before": f"{load:.2f}",
    }
    rows = [_HEADINGS, ["---"] * len(_HEADINGS), *(line.cells for line in lines)]
    text = [
        f"# Benchmarks on {machine()}",
        "",
        *(f"- {name}: {fact}" for name, fact in facts.items() if name != "machine"),
        "",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "Each time is the median of the runs, with the fastest and the slowest in brackets; CPU and peak PSS are",
        "those of the whole process tree, scoreline's before the other's, and the CPU of Azurite is its own during",
        "scoreline's run. `../README.md` says how they are measured.",
        "",
        "Commands, in order:",
        "",
        "```",
        *commands,
        "```",
    ]
    path = folder / f"{machine()}.md"
    path.write_text("\n".join(text) + "\n")
    account = facts | {
        "lines": [asdict(line) | {"passed": line.passed} for line in lines],
        "commands": list(commands),
    }
    path.with_suffix(".json").write_text(json.dumps(account, indent=1) + "\n")
    return path


def machine() -> str:
    """Return a short name made of the processor and the number of cores."""
    return re.sub(r"[^a-z0-9]+", "-", f"{_cpu_model()} {_cpus()} cores".lower()).strip("-")


def commit() -> str:
    """Name the commit that is checked out, and say where files differ from it."""
    changed = _git("status", "--porcelain", "--", ":/", ":(exclude,top)benchmarks/results")
    return _git("rev-parse", "--short=10", "HEAD") + (" with changes" if changed else "")


def _git(*arguments: str) -> str:
    here = Path(__file__).parent
    return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()


def _spread(values: Sequence[float], unit: str) -> str:
    digits = 0 if unit == "MB" else 2
    middle = f"{statistics.median(values):.{digits}f} {unit}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _cpus() -> int:
    return len(os.sched_getaffinity(0))
