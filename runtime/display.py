"""What a person sees of a running job, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from runtime.progress import cause_text

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from runtime.job import Report
    from runtime.receipt import Receipt

__all__ = ["Display", "closing_lines"]

LINE_EVERY_S = 10.0
BAR_EVERY_S = 0.2
MOST_CAUSES = 10


class Display:
    """A progress bar on a terminal, a plain line every 10 s elsewhere, nothing when quiet."""

    def __init__(self, *, quiet: bool, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._terminal = self._stream.isatty() and not quiet
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._last = time.monotonic()
        self._looked = 0.0

    def notice(self, text: str) -> None:
        """Show a sentence."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            self._print(text)

    def _print(self, text: str) -> None:
        # who reads no longer must not end the job
        with suppress(BrokenPipeError):
            print(text, file=self._stream, flush=True)

    def watch(self, report: Report) -> None:
        """Show where a job stands."""
        if self._quiet or report.progress is None:
            return
        now = time.monotonic()
        if self._terminal:
            if now - self._looked >= BAR_EVERY_S:
                self._looked = now
                self._update_bar(report, now)
        elif now - self._last >= LINE_EVERY_S:
            self._last = now
            self._print(_line(report, now))

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _update_bar(self, report: Report, now: float) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        assert report.progress is not None
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[detail]}"),
                TimeRemainingColumn(),
                console=Console(file=self._stream),
                transient=True,
            )
            self._task = self._bar.add_task("loading", total=None, detail="")
            self._bar.start()
        rows = report.progress.rows
        assert self._task is not None
        self._bar.update(
            self._task,
            description=report.stage,
            completed={"loading": 0, "scoring": report.progress.bytes_done}.get(report.stage, report.bytes_total),
            total=None if report.stage == "loading" else report.bytes_total,
            refresh=True,
            detail=f"{rows:,} {report.unit}, {_rate(report, now):,.0f} {report.unit}/s, "
            f"{_files(report)}{_quarantined(report)}",
        )


def _rate(report: Report, now: float) -> float:
    assert report.progress is not None
    fresh = report.progress.rows - report.resumed_rows
    return fresh / max(now - report.scoring_since, 1e-3) if report.scoring_since else 0.0


def _files(report: Report) -> str:
    return f"{report.files:,} file{'' if report.files == 1 else 's'}"


def _quarantined(report: Report) -> str:
    assert report.progress is not None
    lost = report.progress.quarantined + report.progress.given_up
    return f", {lost:,} quarantined" if lost else ""


def _line(report: Report, now: float) -> str:
    assert report.progress is not None
    if report.stage != "scoring":
        return f"{report.stage} ..."
    rows, rate = report.progress.rows, _rate(report, now)
    done = report.progress.bytes_done / max(report.bytes_total, 1)
    left = max(report.estimated_rows - rows, 0) / rate if rate else 0.0
    return (
        f"scored {rows:,} {report.unit} ({min(done, 1.0):.0%} of {_files(report)}), {rate:,.0f} {report.unit}/s, "
        f"about {left:,.0f} s left{_quarantined(report)}"
    )


def closing_lines(receipt: Receipt, tell: Callable[[str], None], *, kept: bool = True) -> None:
    """Say what was not scored and why, and last where the scores are, if they were kept."""
    rows = receipt.rows
    lost = rows["quarantined"] + rows["given_up"]
    causes = list(receipt.causes.items())
    for cause, count in causes[:MOST_CAUSES]:
        tell(f"not scored: {cause_text(cause, count)}")
    if len(causes) > MOST_CAUSES:
        tell(f"not scored: {len(causes) - MOST_CAUSES:,} other causes, see {receipt.content['output']['quarantine']}")
    for file in receipt.content["files"]:
        if file.get("problem"):
            tell(f"not read to its end: {file['file']}: {file['problem']}")
    failed = receipt.content.get("failed_files", {})
    for name, reason in list(failed.items())[:MOST_CAUSES]:
        tell(f"FAILED FILE: {name}: {reason}")
    if len(failed) > MOST_CAUSES:
        tell(f"FAILED FILES: {len(failed) - MOST_CAUSES:,} more, see the receipt")
    seconds = receipt.timings["total_s"]
    fresh = rows["read"] - receipt.content["invocation"]["resumed_rows"]
    unit = receipt.content.get("unit", "rows")
    quarantine = receipt.content["output"]["quarantine"]
    not_scored = f"{lost:,} {'quarantined' if unit == 'rows' else 'failed'}"
    quarantined = not_scored + (f" ({quarantine})" if lost and kept else "")
    tell(
        f"{receipt.url if kept else 'not kept'}: {rows['scored']:,} {unit}, {quarantined}, {seconds:.1f} s, "
        f"{fresh / max(receipt.timings['scoring_s'], 1e-3):,.0f} {unit}/s"
    )
