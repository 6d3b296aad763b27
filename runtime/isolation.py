"""Isolation: which rows of a cell the model does not take (design.md section 8).

    cell that fails ── next() ──▶ probe of some rows ── passed() or failed() ──▶ next() ── … ──▶ None
                                                                                                  │
                              passed(): staged ◀── score it without the rows found, in one call ◀─┘
                              failed(): there is more to find, next() goes on

Rows are named by their places in the order of `scoring.isolate`: those without nulls first, then a class for each set
of columns that are null. Nothing is staged by a probe; the last one is the scoring itself. No process, file or clock is
known here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = [
    "PROBES_PER_CELL", "Failure", "Isolation", "IsolationBudget", "Loss", "Ranges", "alike_text", "fails_alike",
    "too_slow",
]  # fmt: skip

PROBES_PER_CELL = 64
PROBES_PER_JOB = 1_000
CELLS_PER_PROBE = 100
"""A job may use a probe more for each so many cells."""
LEAST_PROBES = 3
"""One to learn the order, one to look, one to score."""
SPARE_PROBES = 4
"""What a search needs beyond its halvings."""
BLOCKS = 16
CROWD = 3
"""More bad rows than this are not looked for one by one: so many blocks are tried instead."""
ALIKE_BATCHES = 20
ALIKE_FILES = 3
SLOW_BATCHES = 3

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Rows as (start, stop), parted and in order."""
Loss: TypeAlias = tuple[int, int, str]
"""Rows from start to stop, and why they are not scored."""
Probes: TypeAlias = Generator[Ranges | None, str, None]
Answer: TypeAlias = Generator[Ranges | None, str, str]
Verdict: TypeAlias = Generator[Ranges | None, str, bool]

_VARYING = re.compile(r"(?<!\w)'[^']*'(?!\w)|(?<!\w)\"[^\"]*\"(?!\w)|\d+(?:[.,_]\d+)*(?:[eE][-+]?\d+)?")


class _SpentError(Exception):
    """The budget is used up."""


class Isolation:
    """The search for the bad rows of one cell.

    Every row ends as good, in `bad` or in `unresolved`. A row is bad when it failed alone, twice; a class of nulls is
    when it failed, and its first and last row did alone, with one text; one with more nulls than such a class when the
    ends of all of these did. A row that fails once only is good.

    Attributes:
        rows: rows of the cell that fit, once that is known.
        probes: how many there were, scoring included.
        bad: the rows found, each run with its reason.
        unresolved: rows that the budget did not suffice to tell apart, with ``not isolated: …``.
        by_size: whether too many rows at once were what failed: all of them pass in `pieces`.
        pieces: the sets of rows that pass in one call each, together all that are not lost; empty: all in one call.
        given_up: why the cell is given up as a whole; then nothing more is to be done.
        done: whether the cell is scored or given up.
        bad_nulls: the columns, a bit a column, whose nulls the model does not take.
        by_hint: whether all bad rows were those that other cells had let expect.
        reason: why the cell failed as a whole.
    """

    def __init__(
        self, reason: str, budget: int = PROBES_PER_CELL, *, proved: bool = False, hint: Collection[int] = ()
    ) -> None:
        """Begin.

        Args:
            reason: why the mini-batch of the cell failed.
            budget: probes allowed.
            proved: whether it held this cell only, and failed often enough for the cell itself to be known to fail.
            hint: `bad_nulls` of other cells: such rows are looked at first.
        """
        self.rows = 0
        self.probes = 0
        self.bad: tuple[Loss, ...] = ()
        self.unresolved: tuple[Loss, ...] = ()
        self.by_size = False
        self.pieces: tuple[Ranges, ...] = ()
        self.given_up = ""
        self.done = False
        self.bad_nulls: set[int] = set()
        self.by_hint = False
        self.reason = reason
        self._reason = reason
        self._budget = budget
        self._proved = proved
        self._hint = hint
        self._classes: tuple[Ranges, ...] = ()
        self._nulls: tuple[int, ...] = ()
        self._judged: set[int] = set()
        self._suspects: Ranges = ()
        self._passing: list[Ranges] = []
        self._inference: Literal["unproved", "proved", "refuted"] = "unproved"
        self._steps = self._isolate()
        self._next: Ranges | None = None
        self._advance(None)

    def next(self) -> Ranges | None:
        """Say which rows to try now, `()` to learn the order only; None: score, or give up what is `given_up`."""
        return self._next

    @property
    def without(self) -> tuple[Loss, ...]:
        """All rows that are not to be scored, in order."""
        return tuple(sorted(self.bad + self.unresolved))

    def passed(self, rows: int = 0, sizes: Sequence[int] = (), nulls: Sequence[int] = ()) -> None:
        """Learn that what `next` said passed.

        Args:
            rows: rows of the cell that fit.
            sizes: how many of them are in each class.
            nulls: which columns are null in each class, a bit a column; -1 where that differs.
        """
        if sizes and not self._classes:
            self.rows, self._nulls = rows, tuple(nulls)
            starts = [sum(sizes[:place]) for place in range(len(sizes))]
            self._classes = tuple(
                ((start, start + size),) if size else () for start, size in zip(starts, sizes, strict=True)
            )
        self._advance("")

    def failed(self, reason: str) -> None:
        """Learn that what `next` said failed."""
        self._advance(reason or "failed without a word")

    def _advance(self, outcome: str | None) -> None:
        try:
            self._next = next(self._steps) if outcome is None else self._steps.send(outcome)
        except StopIteration:
            self._next, self.done = None, True

    def _isolate(self) -> Probes:
        failure = self._reason
        if self._budget >= LEAST_PROBES:
            failure = (yield from self._ask(())) and (yield from self._ask(()))
        if not failure:
            failure = yield from self._find()
        if failure:
            self.given_up = _not_isolated(failure)

    def _find(self) -> Answer:
        """Find the bad rows and score the rest; return why that fails still."""
        everything: Ranges = ((0, self.rows),) if self.rows else ()
        self._suspects = everything
        try:
            if self._hint and (yield from self._follow_hint()) and not (yield from self._ask(None)):
                self.by_hint = True
                return ""
            if not self._proved and not (everything and (yield from self._try(everything))):
                if not (yield from self._ask(None)):
                    return ""
                self._suspects, self._passing = everything, []
            if (yield from self._narrow()):
                return ""
        except _SpentError:
            self._leave()
        failure = yield from self._ask(None)
        if failure and not self.by_size and self._cut_to_size():
            failure = yield from self._ask(None)
        return failure

    def _follow_hint(self) -> Verdict:
        """Judge the classes of nulls that failed in other cells by the ends of them all; False: they are no worse."""
        places = [
            place for place, nulls in enumerate(self._nulls)
            if nulls > 0 and self._classes[place] and any(bad & nulls == bad for bad in self._hint)
        ]  # fmt: skip
        at_first = places and (yield from self._try(_first(self._classes[places[0]])))
        at_last = at_first and (yield from self._try(_last(self._classes[places[-1]])))
        if not (at_first and at_last and _alike((self.reason, at_first, at_last))):
            return False
        for place in places:
            self._judged.add(place)
            self._lose(self._classes[place], at_first)
        self._proved = True
        return True

    def _ask(self, ranges: Ranges | None) -> Answer:
        failure = yield ranges
        self.probes += 1
        self._reason = failure or self._reason
        return failure

    def _try(self, ranges: Ranges) -> Answer:
        """Try some rows, unless only the probe that scores is left."""
        if self._left() < 1:
            raise _SpentError
        failure = yield from self._ask(ranges)
        if not failure:
            self._passing.append(ranges)
            self._suspects = _minus(self._suspects, ranges)
        return failure

    def _left(self) -> int:
        return self._budget - self.probes - 1

    def _narrow(self) -> Verdict:
        """Find bad rows until the rest is scored; False: it is to be scored once more, as is now known."""
        again = False
        while self._suspects:
            rows, known = _count(self._suspects), len(self.bad)
            enough = self._left() >= (rows - 1).bit_length() + SPARE_PROBES
            if not enough or (rows > BLOCKS and self._crowded()):
                # single rows cannot all be found
                yield from self._save(min(self._left(), BLOCKS) if enough else self._left())
                if not enough or not self._passing:
                    self._leave()
                    return False
                continue
            yield from self._search()
            if self._suspects and (again or len(self.bad) == known) and (yield from self._try(self._suspects)):
                continue
            if not (yield from self._ask(None)):
                return True
            again = True
        self._cut_to_size()
        return False

    def _search(self) -> Probes:
        """Halve the suspects, one of which is bad, until it is known; what passes is suspect no more."""
        suspects, tested = self._suspects, False
        while _count(suspects) > 1:
            index = self._whole_class(suspects)
            if index is not None:
                self._judged.add(index)
                if (yield from self._judge_class(index, tested=tested)):
                    return
                suspects = _minus(suspects, _first(suspects))
            one, other = self._cut(suspects)
            if (yield from self._try(one)):
                suspects, tested = one, True
                continue
            # where one half passes, the other fails, unless it was size or chance: the first time that is tried
            suspects, tested = other, False
            if self._inference != "proved":
                tested = bool((yield from self._try(other)))
                if not tested:
                    self._inference = "refuted"
                    return
                if self._inference == "unproved":
                    self._inference = "proved"
        if not (yield from self._judge_row(suspects, failures=int(tested))) and not tested:
            self._inference = "refuted"

    def _judge_row(self, row: Ranges, *, failures: int) -> Verdict:
        """Try a single row until it failed twice or passed."""
        reason = self._reason
        for _ in range(2 - failures):
            reason = yield from self._try(row)
            if not reason:
                return False
        self._lose(row, reason)
        return True

    def _judge_class(self, index: int, *, tested: bool) -> Verdict:
        """Judge a class of nulls by its ends; False: they are no worse than the rest."""
        ranges, reason = self._classes[index], self._reason
        if not tested:
            reason = yield from self._try(ranges)
            if not reason:
                self._inference = "refuted"
                return True
        first, last = _first(ranges), _last(ranges)
        at_first = yield from self._try(first)
        if not at_first:
            return False
        at_last = yield from self._try(last)
        if _alike((reason, at_first, at_last)):
            self._lose(ranges, at_first)
            self.bad_nulls.add(self._nulls[index])
            yield from self._judge_supersets(index, reason)
            return True
        yield from self._judge_row(first, failures=1)
        if at_last:
            yield from self._judge_row(last, failures=1)
        return True

    def _judge_supersets(self, index: int, reason: str) -> Probes:
        """Judge all classes with the nulls of a bad one and more, by the ends of them all."""
        bad = self._nulls[index]
        others = [
            place for place, nulls in enumerate(self._nulls)
            if nulls > 0 and nulls & bad == bad and self._classes[place] and self._is_suspect(self._classes[place])
        ]  # fmt: skip
        if sum(_count(self._classes[place]) for place in others) < 3:
            return
        at_first = yield from self._try(_first(self._classes[others[0]]))
        at_last = at_first and (yield from self._try(_last(self._classes[others[-1]])))
        if _alike((reason, at_first, at_last)):
            for place in others:
                self._judged.add(place)
                self._lose(self._classes[place], at_first)

    def _whole_class(self, suspects: Ranges) -> int | None:
        """Find the class of nulls, not judged yet, that these are all rows of; of two rows each is tried anyway."""
        for index, (ranges, nulls) in enumerate(zip(self._classes, self._nulls, strict=True)):
            if nulls > 0 and ranges == suspects and index not in self._judged and _count(ranges) > 2:
                return index
        return None

    def _is_suspect(self, ranges: Ranges) -> bool:
        return not _minus(ranges, self._suspects)

    def _cut(self, suspects: Ranges) -> tuple[Ranges, Ranges]:
        """Cut in two, the first to be tried first: rows without nulls from those with, then classes, then rows."""
        parts = [part for part in (_common(suspects, ranges) for ranges in self._classes) if part]
        if len(parts) == 1:
            return _halves(suspects)
        clean = _common(suspects, self._classes[0])
        if clean:
            # the smaller one, for that may spare a call with nearly all rows
            one, other = sorted((clean, _minus(suspects, clean)), key=_count)
            return one, other
        # fewer nulls come first: a class whose nulls are in others too is found before them
        one = tuple(span for part in parts[: len(parts) // 2] for span in part)
        return one, _minus(suspects, one)

    def _crowded(self) -> bool:
        """Tell whether the suspects hold more bad rows than can be found one by one, as those found so far let expect.

        They were found from the first row on, and of the rows behind the last one nothing is known.
        """
        found, suspects = len(self.bad), _count(self._suspects)
        if not self._passing:
            return found > 0
        return found > 1 and found * suspects > CROWD * (self.rows - suspects)

    def _save(self, blocks: int) -> Probes:
        """Try what is suspect in so many blocks, so that those which pass are saved."""
        for block in _blocks(self._suspects, min(blocks, _count(self._suspects))):
            yield from self._try(block)

    def _leave(self) -> None:
        self.unresolved = tuple((start, stop, _not_isolated(self._reason)) for start, stop in self._suspects)

    def _lose(self, ranges: Ranges, reason: str) -> None:
        self._suspects = _minus(self._suspects, ranges)
        self.bad = tuple(sorted((*self.bad, *((start, stop, reason) for start, stop in ranges))))

    def _cut_to_size(self) -> bool:
        """Find the pieces, the largest that passed, in which all passes that does not pass at once."""
        whole = rest = _minus(((0, self.rows),), tuple((start, stop) for start, stop, _ in self.without))
        pieces: list[Ranges] = []
        for ranges in sorted(self._passing, key=_count, reverse=True):
            piece = _common(rest, ranges)
            if piece and piece != whole:
                pieces.append(piece)
                rest = _minus(rest, piece)
        if pieces and not rest:
            self.by_size, self.pieces = True, tuple(pieces)
        return self.by_size


@dataclass(slots=True)
class IsolationBudget:
    """The probes of a job: 64 a cell, 1,000 and one for each hundred cells in all.

    Attributes:
        taken: probes used or promised.
    """

    taken: int = 0

    def take(self, cells: int) -> int:
        """Promise probes for one more cell of a job of so many; 0 where there are none left."""
        probes = max(0, min(PROBES_PER_CELL, PROBES_PER_JOB + cells // CELLS_PER_PROBE - self.taken))
        self.taken += probes
        return probes

    def give_back(self, probes: int) -> None:
        """Take back what a cell did not use."""
        self.taken -= probes


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A mini-batch whose attempts are used up.

    Attributes:
        files: the names of its files.
        reason: why the last attempt failed.
        timed_out: whether it took too long.
    """

    files: frozenset[str]
    reason: str
    timed_out: bool = False


def fails_alike(failures: Sequence[Failure], *, scored: int, isolated: int, batches: int | None, files: int) -> str:
    """Say why everything fails from the start, so that the job may stop early (design.md section 8).

    A null that the model refuses fails every mini-batch alike, too, and is no reason to stop: so the first isolation is
    waited for.

    Args:
        failures: of all mini-batches so far, the first ones first.
        scored: rows scored so far.
        isolated: cells whose isolation has ended.
        batches: mini-batches of the job, once they are known.
        files: files of the input.

    Returns:
        The text of the first failure; empty where something may come of it yet.
    """
    if scored or not isolated or not failures:
        return ""
    if len(failures) < ALIKE_BATCHES and len(failures) != batches:
        return ""
    named = frozenset[str]().union(*(failure.files for failure in failures))
    if len(named) < min(ALIKE_FILES, files) or not _alike(failure.reason for failure in failures):
        return ""
    return failures[0].reason


def too_slow(failures: Sequence[Failure], *, scored: int, batches: int | None, timeout_s: float) -> str:
    """Say what to do when the first mini-batches all take too long, which is no fault of single rows.

    Args:
        failures: of all mini-batches so far, the first ones first.
        scored: rows scored so far.
        batches: mini-batches of the job, once they are known.
        timeout_s: how long one may take.

    Returns:
        A sentence; empty where something else may be the matter.
    """
    if scored or not failures or not all(failure.timed_out for failure in failures):
        return ""
    if len(failures) < SLOW_BATCHES and len(failures) != batches:
        return ""
    which = "the first mini-batch" if len(failures) == 1 else f"the first {len(failures):,} mini-batches all"
    return (
        f"{which} took longer than {timeout_s:g} s and nothing was scored, which is no fault of single rows: "
        "allow more by --timeout, cut smaller cells by --chunk-rows, or let fewer share the machine by --workers"
    )


def alike_text(reason: str) -> str:
    """Leave the numbers and the quoted values out of a reason: what is the same for other rows stays."""
    return _VARYING.sub("#", reason)


def _not_isolated(reason: str) -> str:
    return reason if reason.startswith("not isolated: ") else f"not isolated: {reason}"


def _alike(reasons: Iterable[str]) -> bool:
    """Tell whether all say the same, whatever the numbers and the quoted values in it; nothing said is no reason."""
    texts = {alike_text(reason) for reason in reasons}
    return len(texts) == 1 and "" not in texts


def _count(ranges: Ranges) -> int:
    return sum(stop - start for start, stop in ranges)


def _first(ranges: Ranges) -> Ranges:
    return ((ranges[0][0], ranges[0][0] + 1),)


def _last(ranges: Ranges) -> Ranges:
    return ((ranges[-1][1] - 1, ranges[-1][1]),)


def _common(one: Ranges, other: Ranges) -> Ranges:
    """Return the rows that are in both."""
    spans = ((max(a, c), min(b, d)) for a, b in one for c, d in other)
    return tuple(span for span in spans if span[0] < span[1])


def _minus(one: Ranges, other: Ranges) -> Ranges:
    """Return the rows of one that are not in the other."""
    for start, stop in other:
        one = tuple(
            span
            for a, b in one
            for span in ((a, min(b, start)), (max(a, stop), b))
            if span[0] < span[1]
        )  # fmt: skip
    return one


def _head(ranges: Ranges, rows: int) -> Ranges:
    """Return the first so many rows."""
    spans: list[tuple[int, int]] = []
    for start, stop in ranges:
        if rows > 0:
            spans.append((start, min(stop, start + rows)))
            rows -= stop - start
    return tuple(spans)


def _halves(ranges: Ranges) -> tuple[Ranges, Ranges]:
    half = _head(ranges, _count(ranges) // 2)
    return half, _minus(ranges, half)


def _blocks(ranges: Ranges, blocks: int) -> list[Ranges]:
    """Cut into so many blocks of about the same number of rows."""
    cut: list[Ranges] = []
    for left in range(blocks, 0, -1):
        block = _head(ranges, -(-_count(ranges) // left))
        cut.append(block)
        ranges = _minus(ranges, block)
    return cut
