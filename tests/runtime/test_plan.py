"""The plan: cells packed into mini-batches, and places that are staged already."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InputError
from runtime.plan import MAX_PARTS_PER_INPUT, READ_AHEAD_CELLS, Plan, Scanner
from scoring.cells import Cell, InputFile, MiniBatch, Slice
from scoring.files import InputSpec, Listing
from scoring.scan import Begin, Grid, ScanEnd, StagedCells

ROWS = 100


def files(count: int) -> tuple[InputFile, ...]:
    """Return files as a scanner lists them."""
    return tuple(InputFile(name=f"{n}.csv", url=f"/{n}.csv", size_bytes=10, version="1") for n in range(count))


def cell(number: int, file: int = 0) -> Cell:
    """Return one cell of a file."""
    first_row = number * ROWS
    part = Slice(
        file=file, name=f"{file}.csv", url=f"/{file}.csv", offset=0, start=number, stop=number + 1, first_row=first_row,
        rows=ROWS,
    )  # fmt: skip
    return Cell(slices=(part,))


def drained(plan: Plan) -> list[MiniBatch]:
    """Take mini-batches until there is none."""
    return list(iter(plan.next, None))


def sizes(batches: list[MiniBatch]) -> list[int]:
    """Return how many cells each mini-batch has."""
    return [len(batch.cells) for batch in batches]


def test_first_mini_batches_have_one_cell() -> None:
    """As long as nobody knows how long a cell takes, each is handed out by itself."""
    plan = Plan(files(1), workers=2)
    for number in range(6):
        plan.add(cell(number))
    assert sizes(drained(plan)) == [1] * 6


def test_mini_batches_aim_at_a_time() -> None:
    """Fast cells are handed out many at a time, slow ones alone."""
    fast, slow = (Plan(files(1), workers=1, estimated_cells=1_000) for _ in range(2))
    for plan, seconds in ((fast, 0.1), (slow, 5.0)):
        for number in range(200):
            plan.add(cell(number))
        plan.learn(1, seconds)
    assert sizes(drained(fast)[:1]) == [20]
    assert sizes(drained(slow)[:1]) == [1]


def test_mini_batches_shrink_towards_the_end() -> None:
    """All workers end together: nobody is given much when little is left."""
    plan = Plan(files(1), workers=2)
    for number in range(200):
        plan.add(cell(number))
    plan.add(ScanEnd(rows=200 * ROWS))
    plan.learn(1, 0.001)
    given_out = sizes(drained(plan))
    assert sum(given_out) == 200
    assert given_out == sorted(given_out, reverse=True)
    assert given_out[0] == 25
    assert given_out[-8:] == [1] * 8


def test_fixed_size_waits_for_enough_cells() -> None:
    """A size that was chosen is kept, but for the end and for places that are staged already."""
    plan = Plan(files(1), workers=2, cells_per_batch=3)
    plan.add(cell(0))
    plan.add(cell(1))
    assert plan.next() is None
    plan.add(cell(2))
    assert sizes(drained(plan)) == [3]
    plan.add(cell(3))
    plan.add(StagedCells(key="k", cells=(cell(4), cell(5))))
    plan.add(cell(6))
    assert sizes(drained(plan)) == [1]
    assert plan.next_staged() is not None
    assert plan.next() is None
    plan.add(ScanEnd(rows=0))
    assert sizes(drained(plan)) == [1]
    assert plan.exhausted


def test_names_of_columns_are_kept_once() -> None:
    """A thousand cells of a thousand columns take the memory of one name of each."""
    plan = Plan(files(1), workers=1)
    for number in range(3):
        (part,) = cell(number).slices
        names = "a", f"b{number // 2}"
        # as they come through a pipe: equal, and not the same
        plan.add(Cell(slices=(replace(part, columns=names),)))
    first, second, third = (batch.cells[0].slices[0] for batch in drained(plan))
    assert first.columns is second.columns
    assert third.columns == ("a", "b1")


def test_staged_place_keeps_its_number() -> None:
    """Numbers follow the order of the input, so that parts of now and of before can be put in one row."""
    plan = Plan(files(1), workers=1, cells_per_batch=1)
    plan.add(cell(0))
    plan.add(StagedCells(key="k", cells=(cell(1),)))
    plan.add(cell(2))
    plan.add(ScanEnd(rows=0))
    assert not plan.has_staged
    assert plan.next_staged() is None
    first = plan.next()
    assert plan.has_staged
    assert plan.next() is None
    staged = plan.next_staged()
    last = plan.next()
    assert first is not None
    assert staged is not None
    assert last is not None
    assert [first.number, staged.number, last.number] == [0, 1, 2]
    assert staged.key == "k"


def test_scanner_is_not_read_too_far_ahead() -> None:
    """The driver stops to listen when it holds many cells nobody wants yet."""
    plan = Plan(files(1), workers=1)
    assert plan.wants_cells
    for number in range(READ_AHEAD_CELLS):
        plan.add(cell(number))
    assert not plan.wants_cells
    plan.next()
    assert plan.wants_cells
    plan.add(ScanEnd(rows=0))
    assert not plan.wants_cells


def test_huge_input_has_a_bounded_number_of_parts() -> None:
    """However slow a cell is, an input is staged in at most about 20,000 parts."""
    plan = Plan(files(1), workers=2, estimated_cells=100_000)
    plan.learn(1, 1_000.0)
    for number in range(50):
        plan.add(cell(number))
    assert sizes(drained(plan)) == [5] * 10


@pytest.mark.parametrize(("estimated", "most"), [(50_000, MAX_PARTS_PER_INPUT), (20_000, 30_000)])
def test_slow_scanner_makes_no_more_parts(estimated: int, most: int) -> None:
    """Workers that have each cell as soon as it is found make no more parts, and few more than were thought of."""
    plan = Plan(files(1), workers=2, estimated_cells=estimated)
    plan.learn(1, 1_000.0)
    taken, found = 0, cell(0)
    for _ in range(50_000):
        plan.add(found)
        taken += sum(sizes(drained(plan)))
    plan.add(ScanEnd(rows=0))
    assert taken + sum(sizes(drained(plan))) == 50_000
    assert plan.taken <= most


def test_what_there_is_is_taken_where_the_scanner_waits() -> None:
    """A full spool holds fewer cells than a mini-batch should have; whole folders are not torn for that."""
    plan = Plan(files(1), workers=2, estimated_cells=100_000)
    plan.add(cell(0))
    assert plan.next() is None
    batch = plan.next(waits=False)
    assert batch is not None
    assert sizes([batch]) == [1]
    by_folder = Plan(files(1), workers=2, cells_per_batch=2, by_folder=True)
    by_folder.add(cell(0))
    assert by_folder.next(waits=False) is None


def test_large_mini_batch_is_found_in_time() -> None:
    """Whoever wants more cells at once than the driver holds otherwise has them."""
    plan = Plan(files(1), workers=1, cells_per_batch=READ_AHEAD_CELLS + 1)
    number = 0
    while plan.wants_cells:
        plan.add(cell(number))
        number += 1
    assert sizes(drained(plan)) == [READ_AHEAD_CELLS + 1]


def test_mini_batch_knows_the_files_it_covers() -> None:
    """Two mini-batches of one file have one identity, and another file has another."""
    plan = Plan(files(2), workers=1, cells_per_batch=1)
    for each in (cell(0), cell(1), cell(0, file=1)):
        plan.add(each)
    plan.add(ScanEnd(rows=0))
    one, two, other = (batch.identity for batch in drained(plan))
    assert one == two != other


def test_mini_batch_is_named_for_a_person() -> None:
    """Messages name a mini-batch by its files and rows."""
    assert MiniBatch(number=7, cells=(cell(1), cell(2))).describe() == "0.csv rows 100 to 299"
    assert MiniBatch(number=7, cells=(cell(1), cell(0, file=1))).describe() == "0.csv to 1.csv (200 rows)"


@given(
    st.lists(st.integers(0, 3), max_size=30),
    st.integers(0, 4),
    st.integers(1, 5),
    st.lists(st.floats(0.001, 10), max_size=5),
    st.randoms(use_true_random=False),
)
def test_every_cell_is_taken_once_and_in_order(
    items: list[int], fixed: int, workers: int, seconds: list[float], order: random.Random
) -> None:
    """However cells come, are staged and are taken, all of them are handed out once, in the order of the input."""
    plan = Plan(files(1), workers=workers, cells_per_batch=fixed, estimated_cells=order.randrange(50))
    coming: list[Cell | StagedCells | ScanEnd] = []
    count = 0
    for staged in items:
        cells = tuple(cell(count + place) for place in range(max(staged, 1)))
        count += len(cells)
        coming.append(StagedCells(key=str(count), cells=cells) if staged else cells[0])
    coming.append(ScanEnd(rows=count * ROWS))
    taken: list[int] = []
    numbers: list[int] = []
    while not plan.exhausted:
        if coming and order.random() < 0.5:
            plan.add(coming.pop(0))
        if seconds and order.random() < 0.3:
            plan.learn(1, seconds.pop())
        found = plan.next_staged() or plan.next()
        if found is not None:
            numbers.append(found.number)
            taken += [part.start for each in found.cells for part in each.slices]
    assert list(range(count)) == taken
    assert list(range(len(numbers))) == numbers
    assert plan.rows == count * ROWS


@pytest.fixture
def begun(tmp_path: Path) -> Callable[[str], Scanner]:
    """Return a function that starts a scanner on a file of this text."""

    def begin(text: str) -> Scanner:
        path = tmp_path / "rows.csv"
        path.write_text(text)
        with open(os.devnull, "wb") as log:
            return Scanner(InputSpec(url=str(path)), log)

    return begin


def test_scanner_lists_and_then_cuts(begun: Callable[[str], Scanner], tmp_path: Path) -> None:
    """It is a process that first says what is there, and then the cells of the grid to its end."""
    scanner = begun("a\n" + "1\n" * 2_500)
    try:
        assert [file.name for file in scanner.expect(Listing).files] == ["rows.csv"]
        assert scanner.begin(Begin(cell_rows=1_024, spool=str(tmp_path), spool_bytes=2**20)).cell_rows == 1_024
        messages = [scanner.receive() for _ in range(4)]
    finally:
        scanner.close()
    assert [each.rows for each in messages[:3] if isinstance(each, Cell)] == [1_024, 1_024, 452]
    assert messages[3] == ScanEnd(rows=2_500)


def test_scanner_that_dies_is_an_error_of_the_input(begun: Callable[[str], Scanner]) -> None:
    """The driver never waits for a scanner that is gone."""
    scanner = begun("a\n1\n")
    try:
        scanner.expect(Listing)
        # what it cannot understand ends it
        scanner.pipe.send("nonsense")
        with pytest.raises(
            InputError, match=r"the scanner ended unexpectedly \(exit code 1\); --debug shows what it said"
        ):
            scanner.expect(Grid)
    finally:
        scanner.close()


def test_scanner_that_died_before_it_was_told_to_begin(begun: Callable[[str], Scanner]) -> None:
    """A pipe without a reader is a scanner that died, not a reader of our output who has enough."""
    scanner = begun("a\n1\n")
    try:
        scanner.expect(Listing)
        process = scanner._process  # noqa: SLF001 (nobody else may kill it)
        process.kill()
        process.wait()
        with pytest.raises(InputError, match=r"the scanner ended unexpectedly \(exit code -9\)"):
            scanner.begin(Begin())
    finally:
        scanner.close()


@pytest.mark.parametrize(
    ("cell_s", "patience_s", "probe_s"), [(0.1, 300.0, 30.0), (10.0, 300.0, 200.0), (60.0, 1_200.0, 1_200.0)]
)
def test_probe_of_several_rows_is_waited_for_less_long(cell_s: float, patience_s: float, probe_s: float) -> None:
    """A hang in a cell is halved some ten times: each probe that hangs shall not cost what a mini-batch may."""
    plan = Plan((), workers=2)
    assert plan.probe_patience_s() is None
    for _ in range(5):
        plan.learn(1, cell_s)
    assert plan.patience_s(1) == patience_s
    assert plan.probe_patience_s() == probe_s
