"""How many workers there are, by CPUs, memory, the model's size and the grid."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.limits import usable_cpus
from runtime.memory import Memory, find_memory, own_bytes
from runtime.options import Options
from runtime.staffing import folder_bytes, staff
from scoring.scan import Grid

MIB = 2**20
GRID = Grid(cell_rows=32_768, estimated_rows=1_000_000, bytes_per_row=40.0)


@pytest.fixture
def limited(tmp_path: Path) -> Callable[..., Memory]:
    """Return a way to have a limit of so many MiB, of which so many are in use."""

    def limit(mebibytes: int, used: int = 0) -> Memory:
        (tmp_path / "memory.max").write_text(str(mebibytes * MIB))
        (tmp_path / "memory.current").write_text(str(used * MIB))
        memory = find_memory(tmp_path, tmp_path / "nothing")
        assert memory is not None
        return memory

    return limit


@pytest.fixture
def model(tmp_path: Path) -> str:
    """Make a model of 100 MiB, which takes no room."""
    folder = tmp_path / "model"
    (folder / "artifacts").mkdir(parents=True)
    with open(folder / "artifacts" / "table.bin", "wb") as file:
        file.truncate(100 * MIB)
    return str(folder)


def options(**given: object) -> Options:
    """Return options of a job."""
    return Options.of(**{"model": "m", "input": "i", "output": "o", **given})


def test_size_of_a_model_is_that_of_all_its_files(model: str, tmp_path: Path) -> None:
    """Folders below count, links that lead nowhere do not, and a file is a model, too."""
    (Path(model) / "broken").symlink_to(tmp_path / "nowhere")
    (Path(model) / "MLmodel").write_text("12345")
    assert folder_bytes(model) == 100 * MIB + 5
    assert folder_bytes(f"{model}/MLmodel") == 5
    assert folder_bytes("") == 0


def test_workers_are_the_cpus_where_memory_has_no_limit(model: str) -> None:
    """Without a limit all workers start at once."""
    found = staff(options(), model_path=model, grid=GRID, memory=None)
    assert (found.workers, found.alone, found.asked) == (usable_cpus(), False, False)


@pytest.mark.parametrize(
    ("limit", "workers", "alone"),
    # 400 MiB for all, and 248 MiB for each: twice the model, and a cell
    [
        ((8_000, 0), 8, False),
        ((2_400, 0), 8, True),
        ((2_700, 0), 8, False),
        ((2_700, 100), 8, True),
        ((500, 0), 1, False),
    ],
)
def test_one_worker_starts_alone_where_memory_may_be_too_little(
    limited: Callable[..., Memory],
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    limit: tuple[int, int],
    *,
    workers: int,
    alone: bool,
) -> None:
    """The size of the model on disk and what is in use already say whether one must tell the others."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(workers)))
    found = staff(options(), model_path=model, grid=GRID, memory=limited(*limit))
    assert (found.workers, found.alone) == (workers, alone)


def test_workers_that_are_asked_for_start_at_once(limited: Callable[..., Memory], model: str) -> None:
    """A number that somebody gave is obeyed, and so is an engine that has one worker."""
    memory = limited(600)
    found = staff(options(workers=8), model_path=model, grid=GRID, memory=memory)
    assert (found.workers, found.alone, found.asked) == (8, False, True)
    assert staff(options(engine="inline"), model_path=model, grid=GRID, memory=memory).workers == 1


@pytest.mark.parametrize(
    ("used", "own", "fits"),
    # 0.9 of 2,000 MiB, less what is used, less 48 MiB for a cell of the first; the others take their own and 48 MiB
    [(400, 300, 4), (400, 10, 8), (400, 5_000, 1), (1_790, 10, 1), (1_990, 300, 1), (1_404, 300, 2), (1_405, 300, 1)],
)
def test_first_worker_tells_how_many_fit(
    limited: Callable[..., Memory], monkeypatch: pytest.MonkeyPatch, used: int, own: int, fits: int
) -> None:
    """What the first worker holds, and a cell for each, is what the others take; one there is always."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    found = staff(options(), model_path="", grid=GRID, memory=limited(2_000, used))
    workers, why = found.fitting(own * MIB)
    assert workers == fits
    told = f"memory is enough for {fits} of 8 workers: each takes about "
    assert why.startswith(told) if fits < 8 else not why


def test_large_cells_want_room(limited: Callable[..., Memory]) -> None:
    """What a cell may take follows from its bytes as text."""
    wide = Grid(cell_rows=2_048, estimated_rows=100_000, bytes_per_row=4_096.0)
    assert staff(options(), model_path="", grid=wide, memory=limited(900)).allowance_bytes == 24 * 8 * MIB
    wider = Grid(cell_rows=1_024, estimated_rows=100_000, bytes_per_row=32_768.0)
    assert staff(options(), model_path="", grid=wider, memory=limited(900)).allowance_bytes == (24 + 3 * 8) * 8 * MIB


@pytest.mark.parametrize(("mebibytes", "warned"), [(600, True), (2_048, False)])
def test_limit_of_each_process_is_warned_of_where_it_is_small(
    model: str, monkeypatch: pytest.MonkeyPatch, *, mebibytes: int, warned: bool
) -> None:
    """No number of workers helps there, so that whoever set it must know."""
    limits = {resource.RLIMIT_AS: (mebibytes * MIB, -1)}
    monkeypatch.setattr("resource.getrlimit", lambda kind: limits.get(kind, (resource.RLIM_INFINITY, -1)))
    warning = staff(options(), model_path=model, grid=GRID, memory=None).process_warning
    told = "warning: RLIMIT_AS lets each process have 600 MiB, and a worker may want 888 MiB: raise it (ulimit), or"
    assert warning == (f"{told} give a smaller --chunk-rows" if warned else "")


def test_own_memory_of_a_process_is_what_nobody_shares() -> None:
    """A block of memory that is written to counts; a process that has ended has none."""
    before = own_bytes()
    block = bytearray(b"x" * 64 * MIB)
    assert 60 * MIB < own_bytes() - before < 80 * MIB
    assert len(block) == 64 * MIB
    assert own_bytes(2**22 + 1) == 0
