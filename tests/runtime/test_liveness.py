"""No job waits for what cannot come: for room that nobody makes, or for a model that never answers."""

from __future__ import annotations

import gzip
import os
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from runtime import plan, run, validate
from runtime.engines import Event, Probe, Scored, Work, inline
from runtime.errors import UsageError, WorkerError
from tests.faults.saving import write_actions


@pytest.fixture
def by_row(models: Path) -> Path:
    """Return the model that does what its rows say."""
    return models / "by_row"


class ProbesLate(inline.InlineEngine):
    """Two workers, of which the one with the probe is slow: it begins when the other has scored something."""

    held: Probe | None = None

    def submit(self, work: Work) -> None:
        """Keep the probe."""
        if isinstance(work, Probe):
            self.held = work
        else:
            super().submit(work)

    def wait(self, timeout_s: float, also: Connection | None = None) -> list[Event]:
        """Give the probe away when something is scored."""
        events = super().wait(timeout_s, also)
        if self.held is not None and any(isinstance(event, Scored) for event in events):
            super().submit(self.held)
            self.held = None
        return events


def write_packed(folder: Path, files: Mapping[str, int]) -> Path:
    """Write compressed files of so many rows each."""
    folder.mkdir()
    for name, rows in files.items():
        text = "value,action,mark\n" + "".join(f"{row},,\n" for row in range(rows))
        (folder / name).write_bytes(gzip.compress(text.encode()))
    return folder


def scored(*, model: Path, output: Path, **options: Any) -> list[str]:
    """Score, and return where the rows came from."""
    receipt = run(model=model, output=output, **options).content
    lines = (output / "predictions.csv").read_text().splitlines()[1:]
    assert receipt["rows"]["scored"] == len(lines)
    return [line.rpartition(",")[2] for line in lines]


def test_files_without_rows_make_room_in_the_spool(by_row: Path, tmp_path: Path) -> None:
    """They are out of the way before anybody knows what a row looks like, and when all is found to be complete."""
    files = write_packed(tmp_path / "in", {"a.csv.gz": 0, "b.csv.gz": 0, "c.csv.gz": 0, "d.csv.gz": 2})
    job: dict[str, Any] = {
        "model": by_row, "input": files, "output": tmp_path / "out", "chunk_rows": 0, "spool_bytes": 1,
        "engine": "inline",
    }  # fmt: skip
    assert scored(**job) == ["d.csv.gz"] * 2
    for file in files.iterdir():
        os.utime(file, ns=(1, 1))
    assert scored(**job) == ["d.csv.gz"] * 2


def test_very_many_files_without_rows_come_first(
    by_row: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the driver keeps at hand hide no row behind them."""
    monkeypatch.setattr(plan, "READ_AHEAD_CELLS", 10)
    (tmp_path / "in").mkdir()
    for number in range(25):
        (tmp_path / "in" / f"{number:02}.csv").write_text("value,action,mark\n")
    (tmp_path / "in" / "last.csv").write_text("value,action,mark\n1,,\n")
    rows = scored(model=by_row, input=tmp_path / "in", output=tmp_path / "out", chunk_rows=0, engine="inline")
    assert rows == ["last.csv"]


def test_second_cell_is_found_beside_a_full_spool(by_row: Path, tmp_path: Path) -> None:
    """Whether there is one decides whether rows are probed before the first is scored, which makes room."""
    files = write_packed(tmp_path / "in", {"a.csv.gz": 600, "b.csv.gz": 600, "c.csv.gz": 600})
    rows = scored(model=by_row, input=files, output=tmp_path / "out", spool_bytes=1, engine="inline")
    assert rows == ["a.csv.gz"] * 600 + ["b.csv.gz"] * 600 + ["c.csv.gz"] * 600


def test_cell_is_kept_until_it_was_probed(by_row: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another worker scores it before the probe comes to it, the probe finds what it would have found."""
    monkeypatch.setattr(inline, "InlineEngine", ProbesLate)
    text = write_actions(tmp_path / "in.csv", *["mean"] * 1_100).read_bytes()
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(text))
    with pytest.raises(UsageError, match="predictions depend on which rows are scored together"):
        run(model=by_row, input=tmp_path / "in.csv.gz", output=tmp_path / "out", engine="inline", spool_bytes=1)


def test_probe_that_hangs_is_stopped(by_row: Path, tmp_path: Path) -> None:
    """What looks at the first rows before they are scored has a time, too; their scoring then tells of it."""
    rows = write_actions(tmp_path / "in.csv", "hang", *["ok"] * 1_100)
    job: dict[str, Any] = {
        "model": by_row, "input": rows, "output": tmp_path / "out", "timeout_s": 0.5, "task_overhead_s": 0.0,
        "isolate": False, "workers": 1,
    }  # fmt: skip
    with pytest.raises(WorkerError, match=r"rows 0 to 1,023 could not be scored .*: not done within 0\.5 s"):
        run(**job)
    assert any("not done within 0.5 s" in error for error in validate(**job).errors)


def test_first_mini_batch_that_hangs_is_stopped(
    by_row: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knew how long one may take when it began; those after it tell."""
    monkeypatch.setattr(plan, "PATIENCE_LEAST_S", 0.5)
    rows = write_actions(tmp_path / "in.csv", "hang", *["ok"] * 15)
    with pytest.raises(WorkerError, match=r"could not be scored .*: not done within "):
        run(
            model=by_row, input=rows, output=tmp_path / "out", chunk_rows=1, cells_per_mini_batch=1, workers=2,
            task_overhead_s=0.0, isolate=False,
        )  # fmt: skip
