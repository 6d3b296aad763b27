"""The crash table: what dies or fails, when, on which engine, and what comes of it.

Every row is a job with one fault at a counted point (`tests/crash_points.py`). What is asserted of each: the exit code,
the sentence, how often the point was come to, and nothing half-written, no process left. Then the command is given
again, without the fault and on another engine: it ends with the bytes of a calm run, scores nothing that was staged,
has a true receipt, and leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import crash_points
from tests.faults.saving import save_fault
from tests.runtime.commands import scoreline
from tests.thorough import THOROUGH

BATCHES = 5
"""a.csv rows 0 to 1023, 1024 to 2047 with one that does not fit, to 2499; b.csv; c.csv."""
PATIENCE_S = 100.0
LOST = {"row 1500": (1500, "a.csv", 1500), "row 20001": (20_001, "c.csv", 1)}
"""Value, file and number of the rows that are lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Where something may happen.

    Attributes:
        events: of `sys.audit`.
        where: what one of their arguments matches.
        role: the process; empty for any.
    """

    events: tuple[str, ...]
    where: str
    role: str = ""


APPEAR = ("os.link", "os.rename")
POINTS = {
    "listing": Point(events=("os.scandir",), where=r"/in/?\Z", role="scanner"),
    "scanning": Point(events=("open",), where=r"/b\.csv\Z", role="scanner"),
    "claiming": Point(events=("shutil.rmtree",), where=r"\.staging/parts\Z"),
    "importing": Point(events=("open",), where=r"/mlflow/", role="server"),
    "loading": Point(events=("crash.load",), where=""),
    "first mini-batch": Point(events=("crash.predict",), where=" 0 "),
    "middle mini-batch": Point(events=("crash.predict",), where=" 1024 "),
    "last mini-batch": Point(events=("crash.predict",), where=" 20000 "),
    **{name: Point(events=("crash.predict",), where=f" {value} ") for name, (value, *_) in LOST.items()},
    "reading": Point(events=("open",), where=r"/b\.csv\Z", role="worker"),
    # what a worker does to stage the part that has a quarantine and an account
    "new part": Point(events=("open",), where=r"/parts/\.[^/]+\Z"),
    "quarantine part": Point(events=("os.rename",), where=r"/parts/[\w-]{64}\.quarantine\Z"),
    "score part": Point(events=("os.rename",), where=r"/parts/[\w-]{64}\Z"),
    # what the driver does to publish, in this order
    "publish.json": Point(events=("os.rename",), where=r"/publish\.json\Z"),
    "old receipt": Point(events=("os.remove",), where=r"/_predictions\.receipt\.json\Z"),
    "quarantine": Point(events=APPEAR, where=r"/_predictions\.quarantine\.jsonl\Z"),
    "score file": Point(events=APPEAR, where=r"/predictions\.csv\Z"),
    "receipt": Point(events=APPEAR, where=r"/_predictions\.receipt\.json\Z"),
    "parts go": Point(events=("shutil.rmtree",), where=r"\.staging/parts\Z"),
    "staging goes": Point(events=("os.remove",), where=r"/job\.json\Z"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the table.

    Attributes:
        when: one of `POINTS`.
        what: what happens there, as `tests.crash_points.act` knows it: to the process itself, or to whom it names.
        engine: where workers run.
        times: at which arrivals; none means each.
        code: exit code; a negative one is a signal.
        says: what standard error has, as a pattern.
        comes: how often the point is come to; None where that is not certain.
        retries: attempts that are made again.
        deaths: of workers; where a row is lost, at the least.
        cause: why a row is lost, as the quarantine says.
        base: overwrite or append to what another job has published.
        options: others.
        seldom: whether only `make thorough` runs it, for others show nearly the same.
    """

    when: str
    what: str
    engine: str
    times: tuple[int, ...] = (1,)
    code: int = 0
    says: str = ""
    comes: int | None = None
    retries: int = 0
    deaths: int = 0
    cause: str = ""
    base: str = ""
    options: tuple[str, ...] = ()
    seldom: bool = False

    @property
    def id(self) -> str:
        """Name the row."""
        often = "always" if not self.times else "" if self.times == (1,) else f"at {self.times[0]}"
        return ", ".join(word for word in (self.when, self.what, often, self.base, self.engine) if word)


def row(when: str, what: str, engine: str, **expected: Any) -> Row:
    """Make a row."""
    return Row(when=when, what=what, engine=engine, **expected)


def seldom(when: str, what: str, engine: str, **expected: Any) -> Row:
    """Make a row that only `make thorough` runs."""
    return Row(when=when, what=what, engine=engine, seldom=True, **expected)


ALWAYS: tuple[int, ...] = ()
KILLED = -signal.SIGKILL
TRY_LATER = 75
TIMED = ("--timeout", "3", "--task-overhead-timeout", "0")
DIED = r"the worker process died \({}\) while it loaded the model"
NOT_LOADED = r"the model cannot be loaded: {}"
SCANNER = r"the scanner ended unexpectedly \(exit code -9\)"
FULL = r"cannot be (staged at|written).*No space left on device; what is staged is kept, run again to go on"
BROKEN = r"cannot be (staged at|written).*Input/output error; what is staged is kept, run again to go on"

TABLE = [
    # a worker, once: the mini-batch is tried again, by another
    row("first mini-batch", "SIGKILL", "local", comes=2, retries=1, deaths=1),
    seldom("first mini-batch", "SIGSEGV", "spawn", comes=2, retries=1, deaths=1),
    row("first mini-batch", "raise", "inline", comes=2, retries=1),
    row("first mini-batch", "hang", "local", comes=2, retries=1, deaths=1, options=TIMED),
    seldom("middle mini-batch", "SIGSEGV", "local", comes=2, retries=1, deaths=1),
    row("middle mini-batch", "memory", "local", comes=2, retries=1),
    row("middle mini-batch", "exit", "spawn", comes=2, retries=1, deaths=1),
    seldom("last mini-batch", "exit", "local", comes=2, retries=1, deaths=1),
    seldom("last mini-batch", "memory", "inline", comes=2, retries=1),
    row("last mini-batch", "SIGKILL", "spawn", comes=2, retries=1, deaths=1),
    # a worker, whenever it meets one row: only that row is lost
    row("row 1500", "raise", "inline", times=ALWAYS, retries=1, cause="ValueError: the model does not like it"),
    seldom("row 1500", "memory", "local", times=ALWAYS, retries=1, cause="MemoryError"),
    seldom("row 1500", "SIGSEGV", "local", times=ALWAYS, retries=1, cause="SIGSEGV", deaths=2),
    row("row 1500", "SIGKILL", "local", times=ALWAYS, retries=1, cause="killed, likely out of memory", deaths=2),
    seldom("row 20001", "exit", "local", times=ALWAYS, retries=1, cause="exit code 3", deaths=2),
    row("row 20001", "hang", "local", times=ALWAYS, retries=1, cause="timeout", deaths=2, options=TIMED),
    # the model does not load
    row("loading", "raise", "local", code=1, says=NOT_LOADED.format("ValueError: the model does not like it")),
    seldom("loading", "memory", "inline", code=1, says=NOT_LOADED.format("MemoryError")),
    row("loading", "raise", "spawn", times=ALWAYS, code=1, says=NOT_LOADED.format("ValueError")),
    # where another has loaded it by then, a third is hired
    row("loading", "SIGKILL", "local", deaths=1),
    row("loading", "SIGSEGV", "local", times=ALWAYS, code=1, says=DIED.format("SIGSEGV")),
    seldom("loading", "exit", "spawn", times=ALWAYS, code=1, says=DIED.format("exit code 3")),
    # the fork server: another takes its place, and nothing that its workers did was an attempt
    row("importing", "SIGKILL", "local"),
    row("importing", "SIGKILL", "local", times=ALWAYS, code=1, says="cause unknown"),
    row("loading", "server", "local"),
    row("middle mini-batch", "server", "local", comes=2),
    # the scanner
    row("listing", "SIGKILL", "local", code=2, says=SCANNER),
    seldom("scanning", "SIGKILL", "local", times=(3,), code=2, says=SCANNER),
    row("listing", "EACCES", "inline", code=2, says="/in/?: cannot be listed: Permission denied"),
    # the driver, and everything at once
    seldom("listing", "driver", "local", code=KILLED),
    row("claiming", "SIGKILL", "local", code=KILLED),
    seldom("loading", "driver", "spawn", code=KILLED),
    row("middle mini-batch", "driver", "local", code=KILLED),
    seldom("middle mini-batch", "SIGKILL", "inline", code=KILLED),
    row("score part", "driver", "local", times=(2,), code=KILLED),
    row("loading", "everything", "local", code=KILLED),
    row("last mini-batch", "everything", "spawn", code=KILLED),
    row("quarantine part", "everything", "local", code=KILLED),
    # staging
    row("quarantine part", "SIGKILL", "local", comes=2, retries=1, deaths=1),
    seldom("score part", "SIGKILL", "local", times=(2,), retries=1, deaths=1),
    row("new part", "ENOSPC", "local", times=ALWAYS, code=TRY_LATER, says=FULL),
    seldom("quarantine part", "ENOSPC", "spawn", times=ALWAYS, code=TRY_LATER, says=FULL),
    row("score part", "EIO", "inline", times=ALWAYS, code=TRY_LATER, says=BROKEN),
    row("score part", "EIO", "local", times=(2,), comes=6, retries=1),
    row("quarantine part", "ETIMEDOUT", "spawn", comes=2, retries=1),
    # reading
    seldom("scanning", "EIO", "local", times=(1,), comes=4),
    row("scanning", "EIO", "local", times=(2,), comes=4),
    seldom("scanning", "EIO", "local", times=(3,), comes=4),
    row("scanning", "ESTALE", "local", times=ALWAYS, code=TRY_LATER, says="/b.csv: cannot be read: Stale file handle"),
    row("reading", "EIO", "local", comes=2, retries=1),
    seldom("reading", "ESTALE", "spawn", times=ALWAYS, code=TRY_LATER, says="/b.csv: cannot be read: Stale file han"),
    # publishing, at each of its steps: what another job published is there already
    seldom("publish.json", "SIGKILL", "local", code=KILLED, base="overwrite"),
    seldom("old receipt", "SIGKILL", "local", code=KILLED, base="overwrite"),
    row("quarantine", "everything", "local", code=KILLED, base="overwrite"),
    row("score file", "everything", "local", code=KILLED, base="overwrite"),
    row("receipt", "SIGKILL", "local", code=KILLED, base="overwrite"),
    row("parts go", "SIGKILL", "local", times=(2,), code=KILLED, base="overwrite"),
    row("staging goes", "SIGKILL", "inline", code=KILLED, base="overwrite"),
    seldom("quarantine", "SIGKILL", "inline", code=KILLED, base="append"),
    row("score file", "SIGKILL", "local", code=KILLED, base="append"),
    seldom("receipt", "SIGKILL", "local", code=KILLED, base="append"),
    seldom("publish.json", "ENOSPC", "local", code=TRY_LATER, says=FULL),
    row("quarantine", "EIO", "local", code=TRY_LATER, says=BROKEN, base="append"),
    seldom("score file", "ENOSPC", "local", code=TRY_LATER, says=FULL, base="overwrite"),
    row("receipt", "EIO", "inline", code=TRY_LATER, says=BROKEN, base="overwrite"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job to be disturbed, and what comes of it where nobody does.

    Attributes:
        arguments: of the command, but for output and engine.
        calm: what it leaves, but for the receipt, by name.
        base: an output that another job has published.
    """

    arguments: tuple[str, ...]
    calm: dict[str, bytes]
    base: Path


def published(output: Path) -> dict[str, bytes]:
    """Read what a job has left, but for the receipt."""
    paths = [path for path in output.iterdir() if path.name != "_predictions.receipt.json"]
    return {path.name: path.read_bytes() if path.is_file() else b"a folder" for path in paths}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Return a job of five mini-batches with a row that does not fit, run once in peace."""
    folder = tmp_path_factory.mktemp("crash")
    (folder / "in").mkdir()
    for name, rows in {"a": range(2_500), "b": range(10_000, 10_700), "c": range(20_000, 20_002)}.items():
        values = ("x" if value == 1_100 else value for value in rows)
        (folder / f"in/{name}.csv").write_text("\n".join(["value", *map(str, values)]) + "\n")
    model = save_fault(folder / "model", "at_points", [("value", "long")])
    arguments = ["run", "--model", str(model), "--input", str(folder / "in"), "--cells-per-mini-batch", "1"]
    assert scoreline(*arguments, "--chunk-rows", 512, "--output", folder / "base").code == 0
    arguments += ["--chunk-rows", "1024", "--workers", "2"]
    assert scoreline(*arguments, "--output", folder / "calm").code == 0
    return Job(arguments=tuple(arguments), calm=published(folder / "calm"), base=folder / "base")


def disturbed(fault: Row, folder: Path, arguments: Sequence[str]) -> tuple[int, str, int]:
    """Run a job with a fault; return the exit code, what was said, and how often the point was come to."""
    (folder / "site").mkdir()
    shutil.copy(crash_points.__file__, folder / "site/sitecustomize.py")
    plan = folder / "plan"
    plan.write_text(json.dumps({**asdict(POINTS[fault.when]), "action": fault.what, "times": fault.times}))
    python_path = os.pathsep.join(filter(None, [str(folder / "site"), os.environ.get("PYTHONPATH")]))
    ended = subprocess.run(
        [sys.executable, "-m", "runtime.cli", *arguments, "--engine", fault.engine],
        env={**os.environ, crash_points.PLAN: str(plan), "PYTHONPATH": python_path},
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    deadline = time.monotonic() + PATIENCE_S
    while left := crash_points.processes(str(plan)):
        assert time.monotonic() < deadline, f"orphans: {left}"
        time.sleep(0.005)
    return ended.returncode, ended.stderr, len(list(folder.glob("plan.*")))


@pytest.mark.parametrize("fault", [each for each in TABLE if THOROUGH or not each.seldom], ids=lambda fault: fault.id)
def test_crash(job: Job, tmp_path: Path, fault: Row) -> None:
    """What happens at the point ends as the table says, and the same command then ends as a calm run does."""
    output = tmp_path / "score"
    before: dict[str, bytes] = {}
    if fault.base:
        shutil.copytree(job.base, output)
        before = published(output)
    expected = expected_files(job, fault, before)
    arguments = [*job.arguments, "--output", str(output), "--if-exists", fault.base or "fail", *fault.options]
    code, words, arrivals = disturbed(fault, tmp_path, arguments)
    assert (code, words) == (fault.code, words)
    assert re.search(fault.says, words), words
    assert arrivals > 0
    if fault.comes is not None:
        assert fault.comes == arrivals
    visible = {name: data for name, data in published(output).items() if name[0] != "."} if output.exists() else {}
    if code == 0:
        check_counts(output, fault)
    else:
        for name, data in visible.items():
            assert data in (before.get(name), expected[name]), f"{name} is half-written"
    again = scoreline(*arguments, "--engine", "inline")
    assert again.code == 0, again.stderr
    assert published(output) == expected
    invocation = json.loads((output / "_predictions.receipt.json").read_text())["invocation"]
    if code == 0 or fault.when in ("parts go", "staging goes"):
        assert "already complete, nothing to do" in again.stderr
    else:
        assert invocation["resumed"] + invocation["attempts"] == BATCHES
        assert invocation["attempts"] == (0 if is_publishing(fault) else invocation["attempts"])
        told = f"resuming: {invocation['resumed']} of about "
        assert (told in again.stderr) == (invocation["resumed"] > 0)
    checked = scoreline("receipt", "check", output)
    assert checked.code == 0, checked.stdout + checked.stderr


def is_publishing(fault: Row) -> bool:
    """Tell whether all is staged when it happens."""
    places = list(POINTS)
    return places.index(fault.when) >= places.index("publish.json")


def expected_files(job: Job, fault: Row, before: dict[str, bytes]) -> dict[str, bytes]:
    """Say what is to be there in the end."""
    scores, quarantine = "predictions.csv", "_predictions.quarantine.jsonl"
    expected = dict(job.calm)
    if fault.base == "append":
        expected[scores] = before[scores] + expected[scores].partition(b"\n")[2]
        expected[quarantine] = before[quarantine] + expected[quarantine]
    if fault.cause:
        value, file, number = LOST[fault.when]
        expected[scores] = without(expected[scores], file, number)
        entry = {"file": file, "row": number, "line": number + 2, "values": {"value": str(value)}}
        entry |= {"reason": fault.cause}
        expected[quarantine] += json.dumps(entry).encode() + b"\n"
    return expected


def without(scores: bytes, file: str, row: int) -> bytes:
    """Take a row out of the scores of a calm run: its cell was predicted without it, in one call."""
    kept = []
    for line in scores.decode().splitlines():
        number, twice, rows, name = line.split(",")
        if name == file and int(number) // 1024 == row // 1024:
            rows = str(int(rows) - 1)
        if (name, number) != (file, str(row)):
            kept.append(f"{number},{twice},{rows},{name}\n")
    return "".join(kept).encode()


def check_counts(output: Path, fault: Row) -> None:
    """Check what the receipt says of attempts, retries and deaths."""
    invocation = json.loads((output / "_predictions.receipt.json").read_text())["invocation"]
    # where a row is lost, the last attempt fails as well, before the rest is scored
    attempts = BATCHES + fault.retries + bool(fault.cause)
    assert (invocation["attempts"], invocation["retries"]) == (attempts, fault.retries)
    if fault.cause:
        # a probe may kill a worker, too
        assert fault.deaths <= invocation["worker_deaths"] <= invocation["probes"]
    else:
        assert fault.deaths == invocation["worker_deaths"]


FULL_DISK = """
mount -t tmpfs -o size="$1" tmpfs "$2" || exit 99
output=$2; shift 2
"$@" 2>&1; echo "exit $?"
mount -o remount,size=16m "$output"
"$@" 2>&1; echo "exit $?"
ls -A "$output"; cat "$output/predictions.csv" >&2
"""


def may_mount() -> bool:
    """Tell whether a process may have a disk of its own here."""
    mount = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return (
        shutil.which("unshare") is not None and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif("not may_mount()", reason="no name space of its own, no disk to be filled")
@pytest.mark.parametrize(
    ("room", "says"), [("68k", "the scores cannot be staged"), ("132k", "predictions.csv: cannot be written")]
)
def test_disk_that_is_full(job: Job, tmp_path: Path, room: str, says: str) -> None:
    """A disk with too little room for the parts, or for the score file beside them, is no end: with more, it goes on.

    Args:
        job: to be done.
        tmp_path: where.
        room: on the disk, for the first run.
        says: what fails then.
    """
    output = tmp_path / "score"
    output.mkdir()
    command = [sys.executable, "-m", "runtime.cli", *job.arguments, "--output", str(output)]
    ended = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", FULL_DISK, "sh", room, str(output), *command],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    first, again, names = re.split(r"exit \d+\n", ended.stdout)
    assert re.findall(r"exit (\d+)", ended.stdout) == [str(TRY_LATER), "0"], ended.stdout
    assert says in first
    assert re.search(FULL, first), first
    assert "resuming: " in again
    assert names.split() == ["_predictions.quarantine.jsonl", "_predictions.receipt.json", "predictions.csv"]
    assert ended.stderr == job.calm["predictions.csv"].decode()
