"""What a person sees of a running job."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from typing import Any

import pytest

from runtime import display
from runtime.display import Display, closing_lines
from runtime.job import Report
from runtime.progress import Progress, QuarantineLimit
from runtime.receipt import Receipt
from scoring.cells import SliceAccount


class Terminal(io.StringIO):
    """A stream that takes itself for a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture
def report() -> Report:
    """Return where a job stands: half of its rows are scored, a few lost."""
    progress = Progress(limit=QuarantineLimit.parse(None))
    account = SliceAccount(
        name="a.csv", start=0, stop=500, digest=b"", rows=5_000, quarantined=7, given_up=1, problem=""
    )
    progress.staged(0, "key", 100, [account], [])
    return Report(
        stage="scoring", progress=progress, files=3, bytes_total=1_000, estimated_rows=10_000, workers=2,
        scoring_since=1.0, resumed_rows=1_000,
    )  # fmt: skip


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that lets seconds pass."""
    now = [100.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    return pass_by


def test_line_every_ten_seconds_where_there_is_no_terminal(report: Report, later: Callable[[float], None]) -> None:
    """A log gets a line now and then, with what was done, how fast, and how long it will take."""
    stream = io.StringIO()
    shown = Display(quiet=False, stream=stream)
    for _ in range(25):
        shown.watch(report)
        later(1.0)
    shown.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    # 4,000 rows of this run in 109 s, 5,000 to go
    assert lines[0] == "scored 5,000 rows (50% of 3 files), 37 rows/s, about 136 s left, 8 quarantined"


@pytest.mark.parametrize("stage", ["loading", "publishing"])
def test_line_names_the_stage(report: Report, later: Callable[[float], None], stage: str) -> None:
    """Before and after scoring it says what is done instead."""
    stream = io.StringIO()
    shown = Display(quiet=False, stream=stream)
    report.stage = stage
    later(11.0)
    shown.watch(report)
    assert stream.getvalue() == f"{stage} ...\n"


def test_nothing_is_known_at_first(later: Callable[[float], None]) -> None:
    """A report without progress, or without a row, breaks nothing."""
    stream = io.StringIO()
    shown = Display(quiet=False, stream=stream)
    later(11.0)
    shown.watch(Report())
    shown.watch(Report(progress=Progress(limit=QuarantineLimit.parse(None)), stage="scoring", scoring_since=111.0))
    assert stream.getvalue() == "scored 0 rows (0% of 0 files), 0 rows/s, about 0 s left\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_quiet_shows_nothing(report: Report, later: Callable[[float], None], terminal: bool) -> None:
    """Neither lines nor a bar nor notices."""
    stream = Terminal() if terminal else io.StringIO()
    shown = Display(quiet=True, stream=stream)
    later(11.0)
    shown.notice("something")
    shown.watch(report)
    shown.close()
    assert stream.getvalue() == ""


def test_bar_on_a_terminal(report: Report, later: Callable[[float], None]) -> None:
    """It has rows, rate, files and what is in quarantine; a notice stands above it; at the end it is gone."""
    stream = Terminal()
    shown = Display(quiet=False, stream=stream)
    later(1.0)
    shown.watch(report)
    shown.notice("skipped 1 hidden file [/not markup]")
    later(1.0)
    report.stage = "publishing"
    shown.watch(report)
    shown.close()
    shown.notice("after it")
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    assert "scoring" in text
    assert "skipped 1 hidden file [/not markup]" in text
    assert text.endswith("after it\n")
    assert "50%" in text
    assert "100%" in text


def test_bar_is_not_drawn_for_every_look(report: Report, later: Callable[[float], None]) -> None:
    """Looking is cheap: the bar changes five times a second at most."""
    stream = Terminal()
    shown = Display(quiet=False, stream=stream)
    later(1.0)
    shown.watch(report)
    assert report.progress is not None
    report.progress.rows = 7_777
    for _ in range(3):
        later(0.05)
        shown.watch(report)
    shown.close()
    assert "7,777" not in stream.getvalue()


def content(**changes: Any) -> Receipt:
    """Return a receipt with what the last lines look at."""
    return Receipt(
        {
            "output": {"url": "/o/predictions.csv", "quarantine": "/o/q.jsonl"},
            "rows": {"read": 2_000, "scored": 1_990, "quarantined": 9, "given_up": 1},
            "causes": {},
            "files": [],
            "timings": {"total_s": 3.21, "scoring_s": 2.0},
            "invocation": {"resumed_rows": 0},
            **changes,
        }
    )


def told(receipt: Receipt, **options: Any) -> list[str]:
    """Return the last lines."""
    lines: list[str] = []
    closing_lines(receipt, lines.append, **options)
    return lines


def test_last_line_says_where_and_how_many() -> None:
    """Where the scores are, rows, quarantined, seconds and rows a second; what was resumed is not counted as speed."""
    assert told(content()) == ["/o/predictions.csv: 1,990 rows, 10 quarantined (/o/q.jsonl), 3.2 s, 1,000 rows/s"]
    assert told(content(invocation={"resumed_rows": 1_000}))[-1].endswith("500 rows/s")
    assert told(content(), kept=False) == ["not kept: 1,990 rows, 10 quarantined, 3.2 s, 1,000 rows/s"]


def test_causes_stand_above_the_last_line() -> None:
    """The most frequent first, and no more than ten; a file that was not read to its end is named."""
    causes = {f"c{number}: blank where the signature says long": 5_000 - number for number in range(14)}
    files = [{"file": "a.csv"}, {"file": "torn.csv.gz", "problem": "the file ends too early"}]
    lines = told(content(causes=causes, files=files))
    assert len(lines) == 13
    assert lines[0] == "not scored: c0: 5,000 blanks where the signature says long"
    assert lines[10] == "not scored: 4 other causes, see /o/q.jsonl"
    assert lines[11] == "not read to its end: torn.csv.gz: the file ends too early"


def test_nobody_reads_and_the_job_goes_on() -> None:
    """A notice that finds its reader gone is lost, and nothing else."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", buffering=1) as stream:
        Display(quiet=False, stream=stream).notice("said to nobody")
        # what the stream still holds must not fail when it is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)
