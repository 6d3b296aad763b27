"""The demonstration: sample data, a sample model, one job, and the commands to repeat it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

__all__ = ["show"]

FIRST_ROWS = 5


def show(folder: str, files: int, rows: int, tell: Callable[[str], None]) -> int:
    """Make what is missing, score it, and show the result; return the exit code of the job."""
    place = Path(folder)
    make = ["scoring.demo", str(place), "--files", str(files), "--rows", str(rows)]
    tell(f"$ python -m {shlex.join(make)}")
    made = subprocess.run([sys.executable, "-P", "-m", *make], check=False)
    if made.returncode:
        return made.returncode
    model, data, output = place / "heart-model", place / "heart-data", place / "score"
    options = ["run", "--model", str(model), "--input", str(data), "--output", str(output)]
    tell(f"$ scoreline {shlex.join(options)}")
    scored = subprocess.run([sys.executable, "-P", "-m", "runtime.cli", *options], check=False)
    if scored.returncode:
        return scored.returncode
    scores, receipt = output / "predictions.csv", output / "_predictions.receipt.json"
    tell(f"\n$ head -n {FIRST_ROWS + 1} {scores}")
    with scores.open(encoding="utf-8") as lines:
        for line in islice(lines, FIRST_ROWS + 1):
            tell(line.rstrip("\n"))
    content = json.loads(receipt.read_text("utf-8"))
    parts = content.pop("parts")
    tell(f"\n$ cat {receipt}   # without the {len(parts):,} keys of its parts")
    tell(json.dumps(content, indent=1))
    tell(f"\nTo repeat it by hand, or with your own model and data:\n$ scoreline {shlex.join(options)} --restart")
    return 0
