"""What --explain says: each choice, and why."""

from __future__ import annotations

import gzip
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime import run, validate
from runtime.explain import explained
from runtime.limits import Cpus
from runtime.memory import find_memory
from runtime.options import Options
from runtime.staffing import Staffing
from scoring.cells import InputFile
from scoring.scan import Grid

ONE = InputFile(name="a.csv", url="a.csv", size_bytes=10, version="")
GRID = Grid(cell_rows=32_768, estimated_rows=1_000_000, bytes_per_row=40.0)
STAFFING = Staffing(
    workers=2,
    asked=False,
    alone=False,
    cpus=Cpus(usable=2, affinity=4, quota=1.5),
    memory=None,
    model_bytes=3 * 2**20,
    allowance_bytes=48 * 2**20,
)


def lines(
    tmp_path: Path, given: dict[str, Any] | None = None, *, resumed: bool = False, threads: int = 1, **other: Any
) -> dict[str, str]:
    """Return what is explained of a job, by its first word."""
    options = Options.of(**{"model": "m", "input": "i", "output": "o", **(given or {})})
    chosen = {"staffing": STAFFING, "grid": GRID, "files": [ONE], **other}
    spec = options.input_spec(())
    said = explained(options, resumed=resumed, threads=threads, spec=spec, spool=str(tmp_path), **chosen)
    return dict(line.split(": ", 1) for line in said)


def test_every_choice_is_a_line(tmp_path: Path) -> None:
    """All of them, in one order, with the reason."""
    found = lines(tmp_path)
    assert list(found) == [
        "CPUs", "memory", "engine", "workers", "threads", "grid", "mini-batch", "spool", "credentials",
    ]  # fmt: skip
    assert found["CPUs"] == "2 (it may run on 4; its cgroups set a quota of 1.5)"
    assert found["memory"].startswith("no limit of a cgroup")
    assert found["workers"] == "2, one for each CPU"
    assert found["mini-batch"].startswith("1 call at first, then as many as take 2 s")
    assert found["spool"] == "not used, for the files are read where they lie"
    assert found["credentials"] == "none needed, for nothing lies on storage"


def grid(cell_rows: int, rows: int, row_bytes: float = 40.0) -> Grid:
    """Return a grid."""
    return Grid(cell_rows=cell_rows, estimated_rows=rows, bytes_per_row=row_bytes)


@pytest.mark.parametrize(
    ("of", "given", "expected"),
    [
        (GRID, {}, "32,768 rows a call of the model, a sixteenth of about 1,000,000 rows of 40 bytes;"),
        (GRID, {"chunk_rows": 32_768}, "32,768 rows a call of the model, as --chunk-rows says,"),
        (grid(1_024, 50), {}, "1,024 rows a call of the model, the least there are, for about 50 rows"),
        (grid(2_048, 10**6, 4_000), {}, "2,048 rows a call of the model, up to 8 MiB of about 1,000,000 rows"),
        (grid(256, 10**6, 100_000), {}, "256 rows a call of the model, up to 32 MiB of about 1,000,000 rows"),
        (grid(131_072, 10**9), {}, "131,072 rows a call of the model, the most there are"),
        (grid(0, 9), {"strict": True, "mini_batch_size": 2}, "one call of the model for each file, as --strict"),
        (grid(0, 9), {"chunk_rows": 0}, "one call of the model for each file, as --chunk-rows"),
    ],
)
def test_grid_has_its_reason(tmp_path: Path, of: Grid, given: dict[str, Any], expected: str) -> None:
    """The bound that decided is named."""
    assert lines(tmp_path, given, grid=of)["grid"].startswith(expected)


def test_grid_of_what_is_staged_is_told(tmp_path: Path) -> None:
    """A job that goes on keeps its grid, whatever it would choose now."""
    told = lines(tmp_path, grid=grid(4_096, 10**6), resumed=True)["grid"]
    assert told.startswith("4,096 rows a call of the model, as in what is staged already")


def test_workers_have_their_reason(tmp_path: Path) -> None:
    """CPUs, an option, or memory."""
    (tmp_path / "memory.max").write_text(str(2**30))
    (tmp_path / "memory.current").write_text(str(2**28))
    memory = find_memory(tmp_path, tmp_path / "nothing")
    asked = replace(STAFFING, asked=True, workers=7)
    assert lines(tmp_path, {"workers": 7}, staffing=asked)["workers"].startswith("7, as --workers says")
    alone = lines(tmp_path, staffing=replace(STAFFING, alone=True, memory=memory))
    assert alone["workers"].startswith("2 at most, one for each CPU; one starts alone")
    assert alone["memory"] == f"1 GiB, of which 666 MiB may be used now ({tmp_path}/memory.max)"
    assert lines(tmp_path, {"engine": "inline"})["workers"] == "1, for the engine is inline"
    assert lines(tmp_path, {"threads": 3}, threads=3)["threads"] == "3 a worker, as --threads says"


def test_spool_is_told_where_it_is_used(tmp_path: Path) -> None:
    """Compressed input is decompressed into it, and its limit is told."""
    packed = InputFile(name="a.csv.gz", url="a.csv.gz", size_bytes=10, version="")
    told = lines(tmp_path, {"spool_bytes": 2**20}, files=[packed])["spool"]
    assert told == f"up to 1 MiB for what is decompressed or decoded, as --spool says ({tmp_path})"
    assert lines(tmp_path, {"encoding": "utf-16"})["spool"].endswith(f"half of what is free ({tmp_path})")


def test_limit_of_each_process_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `ulimit -v` sets binds every process by itself."""
    limits = {resource.RLIMIT_AS: (2**31, -1)}
    monkeypatch.setattr("resource.getrlimit", lambda kind: limits.get(kind, (resource.RLIM_INFINITY, -1)))
    assert lines(tmp_path)["memory"].endswith("; 2 GiB for each process (RLIMIT_AS)")


def test_run_says_it_when_asked(heart_model: Path, heart_rows: Callable[..., Path], tmp_path: Path) -> None:
    """The lines come before the scores, and a job that nobody asks says none of them."""
    (tmp_path / "in").mkdir()
    with gzip.open(tmp_path / "in" / "a.csv.gz", "wb") as file:
        file.write(heart_rows(30).read_bytes())
    job = {"model": heart_model, "input": tmp_path / "in", "engine": "inline"}
    said: list[str] = []
    run(**job, output=tmp_path / "out", explain=True, notice=said.append)
    assert {"workers: 1, for the engine is inline"} < set(said)
    assert any(each.startswith("grid: 1,024 rows a call of the model, the least") for each in said)
    assert any(each.startswith("spool: up to ") and f"{os.sep}out{os.sep}" in each for each in said)
    silent: list[str] = []
    run(**job, output=tmp_path / "silent", notice=silent.append)
    assert not [each for each in silent if each.partition(":")[0] in ("grid", "workers", "spool")]


def test_validate_says_it_when_asked(heart_model: Path, heart_rows: Callable[..., Path], tmp_path: Path) -> None:
    """A look tells what a run would choose, also where the output's folder is not there yet."""
    told: list[str] = []
    found = validate(
        tell=lambda kind, text: told.append(f"{kind}: {text}"),
        model=str(heart_model),
        input=str(heart_rows(30)),
        engine="inline",
        output=str(tmp_path / "not" / "there"),
        explain=True,
    )
    assert not found.errors
    assert "ok: workers: 1, for the engine is inline" in told
    assert found.checked["chosen"]["grid"].startswith("1,024 rows a call of the model")
