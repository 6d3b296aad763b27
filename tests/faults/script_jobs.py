"""Run a scoring script on a few files, and read what came of it from outside."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime import run
from runtime.errors import ScorelineError, exit_code
from runtime.parts import KEY_LENGTH

FILES = ("a.txt", "b.txt", "c.txt", "d.txt", "e.txt")
IN_A_PROCESS = "import json, sys\nfrom runtime import run\nrun(**json.loads(sys.argv[1]))\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a job.

    Attributes:
        receipt: its content; empty where the job failed.
        error: what it failed with; None where it completed.
        said: sentences for the person who watches.
    """

    folder: Path
    receipt: dict[str, Any] = field(default_factory=dict)
    error: ScorelineError | None = None
    said: Sequence[str] = ()

    @property
    def output(self) -> Path:
        """The folder of the score file."""
        return self.folder / "score"

    @property
    def names(self) -> list[str]:
        """What lies in the output, hidden files too."""
        return sorted(os.listdir(self.output)) if self.output.exists() else []

    @property
    def lines(self) -> list[str]:
        """The lines of the score file."""
        return (self.output / "predictions.csv").read_text().split("\n")[:-1]

    @property
    def quarantine(self) -> list[dict[str, Any]]:
        """The entries of the quarantine."""
        path = self.output / "_predictions.quarantine.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def message(self) -> str:
        """What the job failed with."""
        assert self.error is not None, f"it completed: {self.receipt.get('rows')}"
        return str(self.error)

    @property
    def code(self) -> int:
        """The exit code of the command."""
        return exit_code(self.error) if self.error is not None else 0

    @property
    def calls(self) -> Counter[str]:
        """How often `run` was called with which file, over all jobs in this folder."""
        return Counter(word for line in self.call_lines for word in line.split())

    @property
    def call_lines(self) -> list[str]:
        """A line for each call of `run`."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def mini_batches(self) -> dict[str, dict[str, str]]:
        """The newest line of `processed_mini-batches.csv` for each mini-batch, by its first file."""
        with open(self.folder / "logs/sys/job_report/processed_mini-batches.csv", newline="") as table:
            return {row["first_file"]: row for row in csv.DictReader(table)}

    @property
    def result(self) -> list[str]:
        """The lines of `job_result.txt`."""
        return self.log("job_result.txt").splitlines()

    @property
    def failed_files(self) -> list[str]:
        """The files that `job_result.txt` says failed."""
        newest = self.log("job_result.txt").split("=" * 80)[0]
        names = newest.partition("failed files: ")[2].splitlines()[1:]
        return [name.strip() for name in names if not name.strip().startswith("(")]

    def errors_of(self, name: str) -> list[tuple[str, str]]:
        """Return kind and text of each entry about a file in the logs of errors."""
        entries = re.split(r"^\S+Z process\d+ ", self.log("user/error/0/*.txt"), flags=re.MULTILINE)
        about = [entry for entry in entries if f"\n  {name}\n" in entry]
        return [(re.sub(r".*kind=", "", entry.splitlines()[0]), entry) for entry in about]

    def log(self, path: str) -> str:
        """Read a log; of a pattern, all logs that match, in the order of their names."""
        return "".join(each.read_text() for each in sorted((self.folder / "logs").glob(path)))


class ScriptJob:
    """A script, files and options in a folder; it may be run again and again.

    Args:
        folder: empty.
        script: what stands in ``score.py``.
        files: names of the input files, each with its name as its content.
        options: of `run`, where they are not the usual ones.
    """

    def __init__(self, folder: Path, script: str, *, files: Sequence[str] = FILES, **options: Any) -> None:
        self.folder = folder
        self.write_script(script)
        (folder / "in").mkdir()
        for name in files:
            (folder / "in" / name).write_text(name)
        self.options: dict[str, Any] = {
            "code": str(folder / "code"),
            "scoring_script": "score.py",
            "input": str(folder / "in"),
            "output": str(folder / "score"),
            "logs": str(folder / "logs"),
            "mini_batch_size": 2,
            "error_threshold": -1,
            "max_retries": 1,
            "timeout_s": 60.0,
            "task_overhead_s": 0.0,
            "init_timeout_s": 60.0,
            "output_format": "azureml",
            "output_header": False,
            "workers": 2,
            "environment_variables": [(name, str(folder / name.lower())) for name in ("CALLS", "MARK", "GATE")],
            **options,
        }

    def write_script(self, script: str) -> None:
        """Put a script in place of what is there."""
        (self.folder / "code").mkdir(exist_ok=True)
        (self.folder / "code/score.py").write_text(script)

    def stop_at(self, name: str) -> None:
        """Let a script with `GATE` go as far as to a file; from ``~`` on there is none."""
        unfinished = self.folder / "gate.new"
        unfinished.write_text(name)
        unfinished.rename(self.folder / "gate")

    def killed_after(self, parts: int) -> int:
        """Kill a run when so many mini-batches are staged; return how many were."""
        process = self.start()
        try:
            self.until_staged(parts, process)
        finally:
            process.kill()
            process.wait()
        wait_for_orphans()
        return len(list(self.staged()))

    def until_staged(self, parts: int, process: subprocess.Popen[bytes]) -> None:
        """Wait until so many mini-batches are staged."""
        deadline = time.monotonic() + 60
        while len(list(self.staged())) < parts:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def run(self, **options: Any) -> Outcome:
        """Run the job in this process."""
        said: list[str] = []
        try:
            receipt = run(notice=said.append, **{**self.options, **options})
        except ScorelineError as error:
            return Outcome(folder=self.folder, error=error, said=said)
        return Outcome(folder=self.folder, receipt=receipt.content, said=said)

    def start(self, **options: Any) -> subprocess.Popen[bytes]:
        """Run the job in a process of its own, to be killed."""
        return subprocess.Popen([sys.executable, "-c", IN_A_PROCESS, json.dumps({**self.options, **options})])

    def staged(self) -> Iterator[str]:
        """List the parts that are staged."""
        for parts in (self.folder / "score").glob(".*.staging/parts"):
            # a job that begins makes the folder anew
            with suppress(FileNotFoundError):
                yield from (name for name in os.listdir(parts) if len(name) == KEY_LENGTH and "." not in name)


def wait_for_orphans() -> None:
    """Wait until all that a killed driver has started is gone."""
    mark = f"SCORELINE_TEST_RUN={os.environ['SCORELINE_TEST_RUN']}".encode()
    deadline = time.monotonic() + 60
    while any(_has(environment, mark) for environment in Path("/proc").glob("[0-9]*/environ")):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _has(environment: Path, mark: bytes) -> bool:
    try:
        return mark in environment.read_bytes().split(b"\0")
    except OSError:
        return False
