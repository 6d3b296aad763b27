"""What a job will take: from what a look measures to the sentence."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runtime import validate
from runtime.engines import Setup
from runtime.engines.inline import InlineEngine
from runtime.estimate import Estimate, estimate, process_age_s
from runtime.memory import tree_bytes
from runtime.parts import LocalParts
from runtime.rehearsal import Pace, rehearse
from scoring.cells import Cell
from scoring.files import InputSpec, list_inputs
from scoring.rows import Dialect
from scoring.scan import Begin
from scoring.scanner import Scan
from scoring.specs import ReadPlan, ScorerSpec
from tests.faults.saving import write_actions
from tests.old_releases import save_code
from tests.runtime.commands import scoreline

MIB = 2**20
SLOW_S = 0.25
SLOW = f"""
import time
import mlflow.pyfunc
from mlflow.models import set_model

class Slow(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        time.sleep({SLOW_S})
        return model_input["value"] * 2.0

set_model(Slow())
"""


def pace(workers: int = 2, *, rows_s: float = 100_000.0, first_s: float = 0.1, row_bytes: float = 0.0) -> Pace:
    """Return a pace of cells of 10,000 rows."""
    cell_s = 10_000 / rows_s * workers
    return Pace(
        workers=workers,
        rows=50_000,
        rows_s=rows_s,
        cell_s=cell_s,
        first_s=max(first_s, cell_s),
        row_bytes=row_bytes,
        peak_bytes=300 * MIB,
    )


def of(found: Pace, rows: int, *, cell_rows: int = 10_000, input_bytes: float = 0.0, cpus: int = 64) -> Estimate:
    """Estimate a job of so many rows that starts in 2 s."""
    return estimate(
        found,
        start_s=2.0,
        rows=rows,
        cell_rows=cell_rows,
        input_bytes=input_bytes,
        cpus=cpus,
        unit="rows",
        looked_at=found.rows,
    )


@pytest.mark.parametrize(
    ("found", "rows", "scoring_s"),
    [
        # all workers at their pace, and half a cell of one of them at the end
        (pace(), 1_000_000, 10.1),
        (pace(rows_s=50_000.0), 1_000_000, 20.2),
        # one worker waits for nobody
        (pace(1), 1_000_000, 10.0),
        # a first call that takes longer is made once
        (pace(first_s=1.2), 1_000_000, 11.1),
        # fewer cells than workers, or just one
        (pace(8), 40_000, 0.8),
        (pace(8), 10, 0.0008),
    ],
)
def test_scoring_follows_from_the_pace(found: Pace, rows: int, scoring_s: float) -> None:
    """Rows by the pace of as many workers as have something to do."""
    assert of(found, rows).scoring_s == pytest.approx(scoring_s)


@pytest.mark.parametrize(
    ("input_bytes", "cpus", "longer_s"),
    [
        # 10 s of scanning, of which 1.7 go by while the model is loaded
        (3e9, 2, 4.15),
        (3e9, 1, 10.0),
        (450e6, 2, 0.0),
        (3e9, 3, 0.0),
    ],
)
def test_scanner_takes_a_cpu_from_workers(input_bytes: float, cpus: int, longer_s: float) -> None:
    """Where every CPU has a worker, what the scanner takes is theirs; but not what it takes before they are ready."""
    without, beside = (of(pace(), 1_000_000, input_bytes=size, cpus=cpus).scoring_s for size in (0.0, input_bytes))
    assert beside - without == pytest.approx(longer_s)


def test_estimate_is_told_with_what_it_rests_on() -> None:
    """The sentence names its parts, the workers and the condition."""
    found = of(pace(row_bytes=30.0), 100_000_000)
    assert found.publish_s == pytest.approx(5.15)
    assert found.wall_s == pytest.approx(2.0 + 1000.1 + 5.15)
    assert found.text == (
        "a run will take about 17 min (start 2 s, scoring 17 min, publishing 5.2 s) and 300 MiB of memory, with 2 "
        "workers: an estimate, if the machine is as busy as now and all is like the 50,000 rows tried"
    )
    assert found.to_json()["wall_s"] == round(found.wall_s, 3)
    assert "5.2 s), with 2 workers" in replace(found, peak_bytes=0).text


def test_age_of_a_process_that_has_long_been_there_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program did before it asked is no part of the job."""
    assert 0.0 <= process_age_s() < 20.0
    monkeypatch.setattr("time.clock_gettime", lambda _: 10**9)
    assert process_age_s() == 0.3


def test_memory_of_a_process_is_that_of_all_below_it() -> None:
    """A grandchild counts."""
    inner = f"block = bytearray(b'x' * {64 * MIB}); print('made', flush=True); input()"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    before = tree_bytes(os.getpid())
    with subprocess.Popen([sys.executable, "-c", outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"made\n"
        assert tree_bytes(os.getpid()) - before > 50 * MIB
        process.communicate(b"\n")
    assert tree_bytes(process.pid) == 0


def test_small_job_is_estimated_from_its_first_mini_batch(
    heart_model: Path, heart_rows: Callable[..., Path]
) -> None:
    """No more is tried for it than was."""
    told: list[str] = []
    found = validate(
        tell=lambda _, text: told.append(text), model=str(heart_model), input=str(heart_rows(30)), engine="inline"
    )
    said = found.checked["estimate"]
    assert (said["workers"], said["looked_at"], said["unit"]) == (1, 30, "rows")
    assert said["peak_bytes"] > 50 * MIB
    assert said["wall_s"] == pytest.approx(said["start_s"] + said["scoring_s"] + said["publish_s"], abs=0.01)
    assert told[-1].startswith("a run will take about ")
    assert not [text for text in told if text.startswith("trying")]


def test_large_job_is_rehearsed_with_all_workers(tmp_path: Path) -> None:
    """Two workers that sleep for each cell take half as long as one would, and that is known without scoring all.

    The spool may hold less than they are given: nobody makes room there.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    (tmp_path / "slow.py").write_text(SLOW)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        signature = ModelSignature(inputs=Schema([ColSpec(DataType.long, "value")]))
        save_code(tmp_path / "model", tmp_path / "slow.py", signature=signature)
    cells = 400
    text = "value\n" + "".join(f"{row % 9}\n" for row in range(cells * 1_024))
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(text.encode()))
    options = ["--model", tmp_path / "model", "--input", tmp_path / "in.csv.gz", "--output", tmp_path / "out"]
    outcome = scoreline("validate", *options, "--workers", "2", "--chunk-rows", "1024", "--spool", "1", "--json")
    assert outcome.code == 0, outcome.stderr
    said = json.loads(outcome.stdout)["checked"]["estimate"]
    assert said["workers"] == 2
    # each sleeps through half of the cells at least; what more there is depends on the machine
    assert said["scoring_s"] > cells * SLOW_S / 2 * 0.95
    assert 1_024 <= said["looked_at"] < 400 * 1_024
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("actions", "fails"), [(["ok", "ok"], False), (["ok", "raise"], True)])
def test_pace_of_one_worker(models: Path, tmp_path: Path, actions: list[str], *, fails: bool) -> None:
    """It scores the same cells over and over; what fails has no pace, for nobody knows how long a run looks into it."""
    (tmp_path / "parts").mkdir()
    files = list_inputs(InputSpec(url=str(write_actions(tmp_path / "in.csv", *actions)))).files
    cells = [cell for cell in Scan(files, Dialect(), Begin(), 1_024).run() if isinstance(cell, Cell)]
    engine = InlineEngine()
    plan = ReadPlan(columns=(), dialect=Dialect())
    scorer = ScorerSpec(model_path=str(models / "by_row"))
    engine.start(Setup(scorer=scorer, plan=plan, staging=LocalParts(str(tmp_path / "parts")), fingerprint=b"engine"))
    found = rehearse(engine, cells, (), files, 1)
    engine.close()
    if fails:
        assert found is None
        return
    assert found is not None
    parts = [path.stat().st_size for path in (tmp_path / "parts").iterdir() if path.suffix == ""]
    assert found.rows == 2 * len(parts)
    assert found.workers == 1
    assert found.row_bytes == parts[0] / 2
    # one call after the other, each of two rows
    assert found.rows_s == pytest.approx(2 / found.cell_s)
    assert found.first_s > 0
    assert found.peak_bytes > 50 * MIB
