"""Isolation as a game: a cell that hides its bad rows, and probes that find them; no process, file or clock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.isolation import (
    PROBES_PER_CELL,
    Failure,
    Isolation,
    IsolationBudget,
    Loss,
    Ranges,
    fails_alike,
    too_slow,
)

Fails = Callable[[Ranges], str]


@dataclass(kw_only=True)
class Played:
    """A cell that was isolated to the end.

    Attributes:
        isolation: how it ended.
        tried: what was tried, None for the scoring.
        scored: the rows of the scoring that passed; None where none did.
    """

    isolation: Isolation
    tried: list[Ranges | None] = field(default_factory=list)
    scored: Ranges | None = None

    @property
    def bad(self) -> set[int]:
        """The rows found."""
        return rows_of(self.isolation.bad)

    @property
    def unresolved(self) -> set[int]:
        """The rows not told apart."""
        return rows_of(self.isolation.unresolved)


def rows_of(losses: Sequence[Loss]) -> set[int]:
    """All rows of some losses."""
    return {row for start, stop, _ in losses for row in range(start, stop)}


def rest_of(isolation: Isolation) -> Ranges:
    """The rows that are to be scored."""
    spans, start = [], 0
    for lost, stop, _ in (*isolation.without, (isolation.rows, isolation.rows, "")):
        assert lost >= start, "losses overlap"
        spans.append((start, lost))
        start = stop
    return tuple(span for span in spans if span[0] < span[1])


def play(
    fails: Fails,
    sizes: Sequence[int],
    nulls: Sequence[int] = (),
    *,
    budget: int = PROBES_PER_CELL,
    proved: bool = True,
    reason: str = "it failed",
    hint: Collection[int] = (),
) -> Played:
    """Isolate a cell as the driver does: probe, score what is left, go on where that fails."""
    isolation = Isolation(reason, budget, proved=proved, hint=hint)
    game = Played(isolation=isolation)
    nulls = nulls or range(len(sizes))
    while not isolation.done:
        ranges = isolation.next()
        game.tried.append(ranges)
        assert len(game.tried) <= 2 * budget + 4, "it never ends"
        assert all(a < b <= sum(sizes) for a, b in ranges or ()), ranges
        if ranges is None:
            sets = isolation.pieces or (rest_of(isolation),)
            assert sorted(row for each in sets for a, b in each for row in range(a, b)) == [
                row for a, b in rest_of(isolation) for row in range(a, b)
            ]
            failure = next((text for each in sets if each and (text := fails(each))), "")
            game.scored = None if failure else rest_of(isolation)
        else:
            failure = fails(ranges) if ranges else ""
        if failure:
            isolation.failed(failure)
        else:
            isolation.passed(sum(sizes), sizes, nulls)
    assert isolation.next() is None
    assert bool(isolation.given_up) == (game.scored is None)
    return game


def by_rows(*bad: int, text: str = "ValueError: row {row}") -> Fails:
    """A model that fails where it meets the first of these rows."""
    rows = sorted(bad)

    def fails(ranges: Ranges) -> str:
        return next((text.format(row=row) for row in rows if any(a <= row < b for a, b in ranges)), "")

    return fails


@pytest.mark.parametrize("row", [0, 1, 65_535, 65_536, 99_999, 131_071])
@pytest.mark.parametrize(
    "sizes",
    [
        (131_072,),
        (65_536, 65_536),
        (1_072, 130_000),
        (72, *[1_000] * 131),
        (0, *[512] * 256),
        (0, 131_072),
        (1, 1, 131_070),
    ],
)
@pytest.mark.parametrize("proved", [True, False])
def test_one_poison_row_costs_under_40_probes(row: int, sizes: tuple[int, ...], proved: bool) -> None:
    """Of a cell of 131,072 rows only the bad one is lost, whatever classes there are (issue 4)."""
    game = play(by_rows(row), sizes, proved=proved)
    assert game.isolation.bad == ((row, row + 1, f"ValueError: row {row}"),)
    assert (game.unresolved, game.isolation.by_size, game.isolation.pieces) == (set(), False, ())
    assert game.scored is not None
    assert game.isolation.probes == len(game.tried) < 40
    if len(sizes) == 1:
        # learn the order, 17 halvings, one more for the first conclusion, two for the row, score
        assert len(game.tried) <= 22 + (not proved)


@pytest.mark.parametrize("proved", [True, False])
def test_class_of_nulls_that_the_model_refuses_costs_a_handful(proved: bool) -> None:
    """1 % missing values are found by three probes, and most rows are predicted once only."""
    game = play(
        lambda ranges: "ValueError: Input X contains NaN" if ranges and ranges[-1][1] > 99_000 else "",
        (99_000, 1_000),
        proved=proved,
    )
    assert game.isolation.bad == ((99_000, 100_000, "ValueError: Input X contains NaN"),)
    tried = [((99_000, 100_000),), ((99_000, 99_001),), ((99_999, 100_000),), None]
    assert game.tried == [(), *([] if proved else [((0, 100_000),)]), *tried]


def test_what_other_cells_taught_costs_two_rows() -> None:
    """Nulls of a column that other cells showed to fail are lost when the ends of them fail too: four probes in all."""
    text = "ValueError: NaN"
    sizes, nulls = (1_000, 20, 10, 10), (0, 1, 2, 3)
    fails = by_rows(*range(1_000, 1_020), *range(1_030, 1_040), text=text)
    first = play(fails, sizes, nulls, reason=text).isolation
    assert first.bad_nulls == {1}
    assert not first.by_hint
    game = play(fails, sizes, nulls, proved=False, reason=text, hint=first.bad_nulls)
    assert game.isolation.by_hint
    assert game.tried == [(), ((1_000, 1_001),), ((1_039, 1_040),), None]
    assert game.bad == rows_of(first.bad)


@pytest.mark.parametrize("bad", [(), (5,), (1_000,), (1_005,), (5, 1_000, 1_005)])
@pytest.mark.parametrize("proved", [True, False])
def test_hint_that_is_wrong_loses_nothing(bad: tuple[int, ...], proved: bool) -> None:
    """Where the nulls are no worse than the rest, the rows are found as if nobody had hinted."""
    game = play(by_rows(*bad), (1_000, 20), (0, 1), proved=proved and bool(bad), hint={1})
    assert game.bad == set(bad)
    assert not game.isolation.by_hint
    assert game.scored is not None


def test_poison_beside_nulls_that_were_expected() -> None:
    """A hint that holds does not keep a poison row from being found."""
    text = "ValueError: NaN"
    game = play(by_rows(7, *range(1_000, 1_020), text=text), (1_000, 20), (0, 1), reason=text, hint={1})
    assert game.bad == {7, *range(1_000, 1_020)}
    assert not game.isolation.by_hint


def test_column_refused_among_many_with_nulls() -> None:
    """All classes with a null in the column are lost, and no other, though there are hundreds."""
    columns, refused = 12, 1 << 5
    nulls = [0, *sorted((1 << a | 1 << b for a in range(columns) for b in range(a + 1)), key=int.bit_count)]
    sizes = [50_000, *[40] * (len(nulls) - 1)]
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    bad = {row for a, n, mask in zip(starts, sizes, nulls, strict=True) if mask & refused for row in range(a, a + n)}
    game = play(by_rows(*bad, text="NaN in row {row}"), sizes, nulls)
    assert (game.bad, game.unresolved) == (bad, set())
    assert game.isolation.probes < 25


def test_two_columns_refused_and_a_poison_row() -> None:
    """Each of several causes is found, each with its reason."""

    def fails(ranges: Ranges) -> str:
        for (start, stop), text in {(90, 94): "no a", (94, 99): "no b", (40, 41): "poison"}.items():
            if any(a < stop and start < b for a, b in ranges):
                return text
        return ""

    game = play(fails, (90, 4, 5, 1), (0, 1, 2, 4))
    assert game.isolation.bad == ((40, 41, "poison"), (90, 94, "no a"), (94, 99, "no b"))
    assert game.scored == ((0, 40), (41, 90), (99, 100))


def test_several_rows_cost_one_scoring_in_vain() -> None:
    """Once a scoring failed, what is suspect is tried before the next one."""
    game = play(by_rows(100, 5_000, 9_000), (10_000,))
    assert game.bad == {100, 5_000, 9_000}
    assert game.tried.count(None) == 2


def test_row_that_fails_alone_once_is_tried_again() -> None:
    """A row is not lost for what happens in company, or once."""
    alone = iter(["by chance"])

    def fails(ranges: Ranges) -> str:
        if ranges == ((7, 8),):
            return next(alone, "")
        return "in company" if ranges[-1][1] == 8 else ""

    game = play(fails, (8,))
    assert (game.isolation.without, game.scored) == ((), ((0, 8),))
    assert ((7, 8),) in game.isolation.pieces


def test_chance_is_not_taken_for_size() -> None:
    """What passed before and fails when it is scored is scored once more, not cut."""
    rest = iter(["", "by chance"])
    truly = by_rows(0, 1)
    game = play(lambda ranges: next(rest, "") if ranges == ((2, 8),) else truly(ranges), (8,))
    assert (game.bad, game.isolation.by_size, game.scored) == ({0, 1}, False, ((2, 8),))


def test_search_is_left_where_the_budget_ends() -> None:
    """However many classes there are to look through, no more is tried than allowed, and one more scoring."""
    game = play(by_rows(35), [3] * 256, budget=16)
    assert game.isolation.probes <= 16
    assert 35 in game.unresolved
    assert game.scored is not None


def test_class_whose_ends_fail_otherwise_is_not_lost() -> None:
    """Rows that fail each for a reason of its own do not stand for those between them."""
    game = play(lambda ranges: "first" if ranges[0][0] <= 10 < ranges[0][1] else by_rows(29)(ranges), (10, 20))
    assert game.bad == {10, 29}
    assert [reason for *_, reason in game.isolation.bad] == ["first", "ValueError: row 29"]


def test_mixture_of_nulls_is_never_judged_by_its_ends() -> None:
    """Where the columns that are null differ, each row is found by itself."""
    game = play(by_rows(10, 12, 19, text="NaN"), (10, 10), (0, -1))
    assert game.bad == {10, 12, 19}


def test_cell_that_passes_is_lost_nothing() -> None:
    """What failed by chance passes when it is tried as a whole, or scored."""
    for proved in (True, False):
        game = play(lambda _: "", (1_000, 10), proved=proved)
        assert (game.isolation.without, game.scored) == ((), ((0, 1_010),))
    assert play(lambda _: "", (1_000,), proved=False).tried == [(), ((0, 1_000),), None]
    assert play(lambda _: "", (0,)).tried == [(), None]


@pytest.mark.parametrize("limit", [300, 512, 700, 1_023])
def test_too_many_rows_at_once_are_no_poison(limit: int) -> None:
    """What passes in parts is scored in these parts, and nothing is lost."""

    def fails(ranges: Ranges) -> str:
        return "killed, likely out of memory" if sum(b - a for a, b in ranges) > limit else ""

    for proved in (True, False):
        game = play(fails, (1_024,), proved=proved)
        assert game.isolation.by_size
        assert (game.isolation.without, game.scored) == ((), ((0, 1_024),))
        assert len(game.isolation.pieces) <= 4
        assert game.isolation.probes <= 10


def test_poison_in_a_cell_that_is_too_large() -> None:
    """The row is lost, and the others are scored in pieces."""
    poison = by_rows(300)
    game = play(lambda ranges: poison(ranges) or ("memory" if sum(b - a for a, b in ranges) > 600 else ""), (1_024,))
    assert game.bad == {300}
    assert game.isolation.by_size
    assert game.scored == ((0, 300), (301, 1_024))


def test_cell_that_cannot_be_read_is_given_up() -> None:
    """Where not even the order of its rows can be told, there is nothing to isolate."""
    isolation = Isolation("timeout")
    isolation.failed("SIGSEGV")
    assert (isolation.next(), isolation.done) == ((), False)
    isolation.failed("killed, likely out of memory")
    assert (isolation.next(), isolation.done) == (None, True)
    assert isolation.given_up == "not isolated: killed, likely out of memory"


def test_cell_of_which_everything_fails_is_not_searched_for_long() -> None:
    """Single rows that all fail are not looked for one by one."""
    game = play(lambda ranges: "ValueError: broken" if ranges else "", (131_072,))
    assert len(game.bad) == 1
    assert game.bad | game.unresolved == set(range(131_072))
    assert {reason for *_, reason in game.isolation.unresolved} == {"not isolated: ValueError: broken"}
    assert game.isolation.probes < 40


def test_good_rows_are_saved_in_blocks_when_the_budget_ends() -> None:
    """Of many bad rows some are found, and of the others not the whole cell is lost."""
    bad = range(5_000, 131_072, 11_000)
    game = play(by_rows(*bad), (131_072,))
    assert game.bad < set(bad) < game.bad | game.unresolved
    assert len(game.unresolved) < 100_000
    assert game.scored is not None
    assert game.isolation.probes <= PROBES_PER_CELL


classes = st.lists(st.integers(0, 12), min_size=1, max_size=8).filter(sum)


@given(
    sizes=classes, bad=st.sets(st.integers(0, 95), max_size=6), budget=st.integers(0, 200), proved=st.booleans(),
    data=st.data(),
)  # fmt: skip
def test_any_rows_any_classes_any_budget(
    sizes: list[int], bad: set[int], budget: int, proved: bool, data: st.DataObject
) -> None:
    """Bad rows are found exactly, but for classes judged by their ends and what the budget leaves open."""
    nulls = [0, *data.draw(st.lists(st.integers(1, 7), min_size=len(sizes) - 1, max_size=len(sizes) - 1, unique=True))]
    bad = {row for row in bad if row < sum(sizes)}
    text = data.draw(st.sampled_from(["SIGSEGV", "bad {row}", "bad at {row} of 'some'"]))
    game = play(by_rows(*bad, text=text), sizes, nulls, budget=budget, proved=proved)
    assert game.isolation.probes == len(game.tried) <= max(budget, 0) + 2
    if game.isolation.given_up:
        assert budget < 3
        return
    judged: set[int] = set()
    for place, size in enumerate(sizes):
        rows = range(sum(sizes[:place]), sum(sizes[:place]) + size)
        if place and size > 2 and set(rows) <= game.bad:
            judged |= set(rows)
    assert game.bad - judged <= bad
    assert bad <= game.bad | game.unresolved
    assert not game.bad & game.unresolved
    if budget >= 150:
        assert game.unresolved == set()
    if not bad and not proved:
        assert not game.isolation.without
    if game.unresolved:
        assert all(reason.startswith("not isolated: ") for *_, reason in game.isolation.unresolved)


@given(
    rows=st.integers(1, 3_000), bad=st.sets(st.integers(0, 2_999), max_size=3),
    flaky=st.dictionaries(st.integers(0, 2_999), st.integers(1, 2), max_size=3),
)  # fmt: skip
def test_row_that_fails_by_chance_is_never_lost(rows: int, bad: set[int], flaky: dict[int, int]) -> None:
    """A row that fails once and passes then is good; the bad ones are found all the same."""
    bad = {row for row in bad if row < rows}
    left = {row: times for row, times in flaky.items() if row not in bad}
    truly = by_rows(*bad)

    def fails(ranges: Ranges) -> str:
        for row, times in left.items():
            if times and any(a <= row < b for a, b in ranges):
                left[row] -= 1
                # alone it fails once at the most: twice is what poison is
                left[row] = min(left[row], 0 if ranges == ((row, row + 1),) else 2)
                return "by chance"
        return truly(ranges)

    game = play(fails, (rows,), budget=200)
    assert game.isolation.given_up == ""
    assert game.bad | game.unresolved >= bad
    assert game.bad == bad or game.unresolved
    assert not game.unresolved


@given(st.lists(st.booleans(), max_size=200), st.integers(0, 70), classes)
def test_whatever_is_answered_it_ends(answers: list[bool], budget: int, sizes: list[int]) -> None:
    """A model that answers at random ends within its budget, and every row ends once."""
    told = iter(answers)
    game = play(lambda _: "random" if next(told, False) else "", sizes, budget=budget)
    if not game.isolation.given_up:
        scored = {row for a, b in game.scored or () for row in range(a, b)}
        assert scored | game.bad | game.unresolved == set(range(sum(sizes)))
        assert len(scored) + len(game.bad) + len(game.unresolved) == sum(sizes)
    assert game.isolation.probes <= budget + 2


def test_budget_of_a_job() -> None:
    """64 probes a cell, 1,000 and 1 % of the cells in all; what is not used is given back."""
    budget = IsolationBudget()
    assert [budget.take(0) for _ in range(17)] == [64] * 15 + [40, 0]
    assert budget.take(10_000) == 64
    assert budget.take(10_000) == 36
    budget.give_back(50)
    assert (budget.take(10_000), budget.taken) == (50, 1_100)


def failures(count: int, *reasons: str, files: int = 100, timed_out: bool = False) -> list[Failure]:
    """So many failed mini-batches."""
    return [
        Failure(
            files=frozenset({f"{number % files}.csv"}),
            reason=reasons[number % len(reasons)].format(number=number),
            timed_out=timed_out,
        )
        for number in range(count)
    ]


LIKE = "KeyError: 'column {number}' at {number}.5"
ALIKE = {
    "20 of many": (failures(20, LIKE), {}, True),
    "19 of many": (failures(19, LIKE), {}, False),
    "all 5 there are": (failures(5, LIKE), {"batches": 5}, True),
    "5 of 6": (failures(5, LIKE), {"batches": 6}, False),
    "of 2 files of many": (failures(30, LIKE, files=2), {}, False),
    "of the 2 files there are": (failures(30, LIKE, files=2), {"files": 2}, True),
    "something is scored": (failures(20, LIKE), {"scored": 1}, False),
    "nothing was isolated yet": (failures(20, LIKE), {"isolated": 0}, False),
    "two texts": (failures(20, LIKE, "SIGSEGV"), {}, False),
    "one mini-batch, one file": (failures(1, LIKE), {"batches": 1, "files": 1}, True),
    "nothing": ([], {"batches": 0}, False),
}


@pytest.mark.parametrize(("failed", "given", "stops"), ALIKE.values(), ids=ALIKE.keys())
def test_everything_fails_alike(failed: list[Failure], given: dict[str, int], stops: bool) -> None:
    """The first 20 mini-batches, or all, of three files, or all, with one text stop the job (design.md section 8)."""
    known: dict[str, int | None] = {"scored": 0, "isolated": 1, "batches": None, "files": 100, **given}
    text = fails_alike(failed, **known)  # type: ignore[arg-type]
    assert text == ("KeyError: 'column 0' at 0.5" if stops else "")


def test_apostrophes_hide_no_difference() -> None:
    """What stands between two words with apostrophes is no quoted value."""
    failed = failures(20, "can't read a, don't ask", "can't read b, don't ask")
    assert fails_alike(failed, scored=0, isolated=1, batches=None, files=100) == ""


def test_first_mini_batches_that_time_out() -> None:
    """They are no poison, and the sentence says what helps; something scored, or another failure, says it was not."""
    slow = failures(3, "timeout", timed_out=True)
    sentence = too_slow(slow, scored=0, batches=None, timeout_s=300)
    assert sentence.startswith("the first 3 mini-batches all took longer than 300 s and nothing was scored")
    for option in ("--timeout", "--chunk-rows", "--workers"):
        assert option in sentence
    assert too_slow(slow[:1], scored=0, batches=1, timeout_s=0.5).startswith("the first mini-batch took longer")
    assert too_slow(slow[:2], scored=0, batches=None, timeout_s=300) == ""
    assert too_slow(slow, scored=1, batches=None, timeout_s=300) == ""
    assert too_slow([*slow, *failures(1, "SIGSEGV")], scored=0, batches=None, timeout_s=300) == ""
    assert too_slow([], scored=0, batches=0, timeout_s=300) == ""
