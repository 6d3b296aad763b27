"""The demonstration: sample data, a sample model, one job, and the commands to repeat it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

__all__ = ["make_sample", "show", "tell_result"]

FIRST_ROWS = 5


def show(folder: str, files: int, rows: int, tell: Callable[[str], None]) -> int:
    """Make what is missing, score it, and show the result; return the exit code of the job."""
    place = Path(folder)
    made = make_sample(place, files, rows, tell)
    if made:
        return made
    model, data, output = place / "heart-model", place / "heart-data", place / "score"
    options = ["run", "--model", str(model), "--input", str(data), "--output", str(output)]
    tell(f"$ scoreline {shlex.join(options)}")
    scored = subprocess.run([sys.executable, "-P", "-m", "runtime.cli", *options], check=False)
    if scored.returncode:
        return scored.returncode
    scores, receipt = output / "predictions.csv", output / "_predictions.receipt.json"
    with scores.open(encoding="utf-8") as lines:
        tell_result(f"$ head -n {FIRST_ROWS + 1} {scores}", lines, f"$ cat {receipt}", receipt.read_bytes(), tell)
    tell(f"\nTo repeat it by hand, or with your own model and data:\n$ scoreline {shlex.join(options)} --restart")
    return 0


def make_sample(folder: Path, files: int, rows: int, tell: Callable[[str], None]) -> int:
    """Make `heart-data`, and `heart-model` where it is missing, in a folder; return the exit code of the command."""
    make = ["scoring.demo", str(folder), "--files", str(files), "--rows", str(rows)]
    tell(f"$ python -m {shlex.join(make)}")
    return subprocess.run([sys.executable, "-P", "-m", *make], check=False).returncode


def tell_result(
    first_rows: str, lines: Iterable[str], whole_receipt: str, receipt: bytes, tell: Callable[[str], None]
) -> None:
    """Show the first rows of a score file, and its receipt.

    Args:
        first_rows: stands above the rows.
        lines: of the score file.
        whole_receipt: stands above the receipt.
        receipt: its content.
        tell: takes what is shown.
    """
    tell(f"\n{first_rows}")
    for line in islice(lines, FIRST_ROWS + 1):
        tell(line.rstrip("\n"))
    content = json.loads(receipt)
    parts = content.pop("parts")
    tell(f"\n{whole_receipt}   # without the {len(parts):,} keys of its parts")
    tell(json.dumps(content, indent=1))
