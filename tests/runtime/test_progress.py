"""Progress as a table: outcomes in, what is next out; no process, file or clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engines import Failed, Returned, Scored
from runtime.errors import (
    OutputBusyError,
    PredictionError,
    ScorelineError,
    ThresholdError,
    WorkerError,
    exit_code,
)
from runtime.progress import MAX_ATTEMPTS, NO_RESULT, Progress, QuarantineLimit
from scoring.cells import Cell, MiniBatch, Slice, SliceAccount

ROWS = 10


def batch(number: int) -> MiniBatch:
    """Return a mini-batch of ten rows of a file of its own."""
    part = Slice(file=number, name=f"{number}.csv", url="", offset=0, start=0, stop=50, rows=ROWS)
    return MiniBatch(number=number, cells=(Cell(slices=(part,)),))


def scored(
    number: int, *, quarantined: int = 0, given_up: int = 0, columns: tuple[str, ...] = ("prediction",)
) -> Scored:
    """Return the good outcome of a mini-batch."""
    account = SliceAccount(
        name=f"{number}.csv", start=0, stop=50, digest=b"", rows=ROWS, quarantined=quarantined, given_up=given_up
    )
    causes = ((("chol: not a long", quarantined),) if quarantined else ()) + ((("lost", given_up),) if given_up else ())
    return Scored(
        number=number, key=f"key {number}", size_bytes=100, columns=columns, accounts=(account,), causes=causes,
        seconds=1.0, predict_s=0.5,
    )  # fmt: skip


def failed(number: int, kind: Literal["error", "storage", "timeout", "crashed"] = "error") -> Failed:
    """Return a bad outcome of a mini-batch."""
    return Failed(number=number, kind=kind, reason=f"ValueError: {kind}", detail="Traceback ...")


@pytest.fixture
def progress() -> Progress:
    """Return progress with the usual limit."""
    return Progress(limit=QuarantineLimit.parse(None))


def test_scored_mini_batch_is_done(progress: Progress) -> None:
    """Its part has its place, and its rows are counted."""
    progress.started(batch(0))
    assert not progress.idle
    progress.scored_batch(scored(0, quarantined=2))
    assert progress.idle
    assert progress.parts == {0: ("key 0", 100)}
    assert (progress.rows, progress.scored, progress.quarantined, progress.given_up) == (10, 8, 2, 0)
    assert (progress.attempts, progress.retries, progress.deaths.total()) == (1, 0, 0)
    assert progress.files["0.csv"].scored == 8
    assert progress.bytes_done == 50
    assert progress.columns == ("prediction",)


@pytest.mark.parametrize(("kind", "deaths"), [("error", 0), ("timeout", 1), ("crashed", 1)])
def test_failed_mini_batch_is_tried_once_more(
    progress: Progress, kind: Literal["error", "timeout", "crashed"], deaths: int
) -> None:
    """A first failure, of whatever kind but storage, is followed by another attempt."""
    progress.started(batch(0))
    progress.failed(failed(0, kind))
    assert progress.error is None
    assert not progress.idle
    again = progress.again()
    assert again is not None
    assert again.number == 0
    assert progress.again() is None
    progress.started(again)
    progress.scored_batch(scored(0))
    assert (progress.attempts, progress.retries, progress.deaths.total()) == (2, 1, deaths)


@pytest.mark.parametrize("kind", ["error", "timeout", "crashed"])
def test_second_failure_stops_the_job(progress: Progress, kind: Literal["error", "timeout", "crashed"]) -> None:
    """The message says what, where and why; the traceback of the first failure is kept."""
    for _ in range(MAX_ATTEMPTS):
        progress.started(batch(3))
        progress.failed(failed(3, kind))
        progress.again()
    assert isinstance(progress.error, WorkerError)
    assert exit_code(progress.error) == 1
    assert str(progress.error).startswith(
        f"3.csv rows 0 to 9 could not be scored in 2 attempts: ValueError: {kind}; nothing was published"
    )
    assert progress.detail == "Traceback ..."


@pytest.mark.parametrize(("isolates", "attempts"), [(False, 4), (True, 2)], ids=["script", "no-code"])
def test_failure_that_repeats_itself(progress: Progress, isolates: bool, attempts: int) -> None:
    """A script has each attempt its deployment grants (contract 5.3); else rows are looked for once it repeats."""
    progress.isolates, progress.max_attempts = isolates, 4
    waiting: MiniBatch | None = batch(0)
    while waiting:
        progress.started(waiting)
        progress.failed(failed(0))
        waiting = progress.again()
    assert progress.attempts == attempts
    assert bool(progress.exhausted) == isolates


def test_storage_that_may_recover_is_tried_again_apart_from_the_model(progress: Progress) -> None:
    """What a disk fails at is tried three times more, each after a longer wait; the model keeps all its attempts."""
    waits = []
    progress.started(batch(0))
    for _ in range(3):
        progress.failed(replace(failed(0, "storage"), may_pass=True))
        assert progress.error is None
        waits.append(progress.wait_s(0))
        again = progress.again()
        assert again is not None
        progress.started(again)
    assert waits == [0.2, 0.8, 3.2]
    progress.failed(failed(0))
    assert progress.error is None
    progress.again()
    progress.started(batch(0))
    progress.failed(replace(failed(0, "storage"), may_pass=True))
    assert isinstance(progress.error, OutputBusyError)
    assert progress.wait_s(1) == 0


def test_what_others_failed_with_is_looked_into_without_another_attempt(progress: Progress) -> None:
    """The third mini-batch that fails with one text, whatever its numbers, is isolated at once, as one not proved."""
    progress.isolates = True
    for number in range(4):
        progress.started(batch(number))
        progress.failed(replace(failed(number), reason=f"ValueError: row {number} of 'x{number}'"))
    assert [each.batch.number for each in progress.exhausted] == [2, 3]
    assert not any(each.proved for each in progress.exhausted)
    progress.isolated.add("KeyError: #")
    progress.started(batch(4))
    progress.failed(replace(failed(4), reason="KeyError: 4"))
    assert [each.batch.number for each in progress.exhausted] == [2, 3, 4]
    assert progress.retries == 2


def test_full_disk_is_never_tried_again(progress: Progress) -> None:
    """A full disk stops the job at once, for the same command to go on later."""
    progress.started(batch(0))
    progress.failed(failed(0, "storage"))
    assert isinstance(progress.error, OutputBusyError)
    assert exit_code(progress.error) == 75
    assert progress.again() is None


def test_returned_mini_batch_counts_no_attempt(progress: Progress) -> None:
    """What no worker began is handed out again before all that failed, and may still fail once."""
    for number in range(2):
        progress.started(batch(number))
    progress.failed(failed(0))
    progress.returned(Returned(number=1))
    assert [again.number for again in iter(progress.again, None)] == [1, 0]
    assert progress.attempts == 1


def test_files_that_a_script_returned_nothing_for_say_so(progress: Progress) -> None:
    """That one row of one was not scored would say nothing to the author of a script."""
    progress.started(batch(0))
    progress.scored_batch(replace(scored(0, given_up=ROWS), causes=((NO_RESULT, 1),)))
    assert progress.failures_text() == "0.csv (run() returned no result)"


def test_other_columns_stop_the_job(progress: Progress) -> None:
    """One output cannot hold two sets of columns."""
    for number in range(2):
        progress.started(batch(number))
    progress.scored_batch(scored(0))
    progress.scored_batch(scored(1, columns=("label", "score")))
    assert isinstance(progress.error, PredictionError)
    assert "other columns than before: label, score instead of prediction" in str(progress.error)


def test_mini_batch_without_a_scored_row_has_no_columns(progress: Progress) -> None:
    """Where nothing was predicted, nothing is known of the columns, and nothing is wrong."""
    progress.started(batch(0))
    progress.scored_batch(scored(0, quarantined=10, columns=()))
    assert progress.error is None
    assert progress.columns == ()
    assert progress.scored == 0


LIMITS: list[tuple[str | None, int, int, bool]] = [
    (None, 10, 100, False),
    (None, 11, 100, True),
    (None, 10, 10, False),
    (None, 20, 2_000, False),
    (None, 21, 2_000, True),
    ("0", 0, 100, False),
    ("0", 1, 100, True),
    ("0%", 1, 100, True),
    ("5", 5, 6, False),
    ("5", 6, 1_000_000, True),
    ("1%", 1, 100, False),
    ("1%", 2, 100, True),
    ("0.5%", 5, 1_000, False),
    ("0.5%", 6, 1_000, True),
    ("100%", 100, 100, False),
]


@pytest.mark.parametrize(("text", "lost", "rows", "exceeded"), LIMITS)
def test_limit_of_the_quarantine(text: str | None, lost: int, rows: int, exceeded: bool) -> None:
    """A number counts rows, a percentage rows of a hundred; nothing is 1 % once that is more than ten rows."""
    assert exceeded == QuarantineLimit.parse(text).exceeded(lost, rows)


@pytest.mark.parametrize("text", ["", "x", "-1", "101%", "-1%", "1.5", "%", "nan%", "inf", "1 000"])
def test_limit_must_be_a_number(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError):  # noqa: PT011 (its text is for nobody: the options say what is wrong)
        QuarantineLimit.parse(text)


@pytest.mark.parametrize(("text", "shown"), [("5", "5"), ("12345", "12,345"), ("0.5%", "0.5 %"), (None, "1 %")])
def test_limit_is_shown_as_it_is_given(text: str | None, shown: str) -> None:
    """Messages repeat the limit."""
    assert shown == str(QuarantineLimit.parse(text))


def test_rows_given_up_count_against_the_limit(progress: Progress) -> None:
    """Rows of a file that failed as a whole are lost as well."""
    for number, lost in enumerate([{"quarantined": 6}, {"given_up": 5}]):
        progress.started(batch(number))
        progress.scored_batch(scored(number, **lost))
    progress.check_limit(None)
    assert progress.error is None
    progress.check_limit(20)
    assert isinstance(progress.error, ThresholdError)
    assert exit_code(progress.error) == 1
    assert str(progress.error).startswith(
        "11 of 20 rows cannot be scored, more than --max-quarantined 1 % allows: chol: 6 values not a long; "
    )


@pytest.mark.parametrize(("limit", "stops"), [(None, True), ("100%", False), ("5", False)])
def test_file_whose_rows_cannot_be_counted_must_be_accepted(limit: str | None, stops: bool) -> None:
    """The loss of an unknown number of rows is forgiven only to who gives a limit."""
    progress = Progress(limit=QuarantineLimit.parse(limit))
    broken = SliceAccount(name="torn.csv.gz", start=0, stop=9, digest=b"", rows=0, problem="the file ends too early")
    progress.staged(0, "key", 100, [broken], [])
    progress.check_limit(1_000)
    assert stops == isinstance(progress.error, ThresholdError)
    assert progress.error is None or str(progress.error).startswith("torn.csv.gz: the file ends too early; an unknown")


def test_most_frequent_cause_is_named(progress: Progress) -> None:
    """What stops a job is what met most rows."""
    assert progress.main_cause() == "no cause known"
    progress.causes.update({"a": 1, "b": 3_000, "c": 2})
    assert progress.main_cause() == "b (3,000)"


Outcome = Literal["scored", "staged", "failed", "crashed", "returned"]


@given(
    st.lists(st.tuples(st.integers(0, ROWS), st.lists(st.sampled_from(["failed", "crashed", "returned"]), max_size=4))),
    st.randoms(use_true_random=False),
)
def test_every_row_is_counted_once(plan: list[tuple[int, list[Outcome]]], order: random.Random) -> None:
    """Whatever befalls mini-batches, in whatever order: the job stops, or each row was counted exactly once."""
    progress = Progress(limit=QuarantineLimit.parse("100%"))
    fates = {number: list(outcomes) for number, (_, outcomes) in enumerate(plan)}
    lost = {number: quarantined for number, (quarantined, _) in enumerate(plan)}
    waiting = [batch(number) for number in fates]
    running: list[MiniBatch] = []
    while progress.error is None and (waiting or not progress.idle):
        again = progress.again() if order.random() < 0.5 else None
        if again is None and waiting:
            again = waiting.pop(0)
        if again is not None:
            progress.started(again)
            running.append(again)
        if running and order.random() < 0.5:
            number = running.pop(order.randrange(len(running))).number
            _befall(progress, number, fates[number].pop(0) if fates[number] else "scored", lost[number])
    failures = [sum(outcome != "returned" for outcome in outcomes) for _, outcomes in plan]
    assert (progress.error is not None) == any(count >= MAX_ATTEMPTS for count in failures)
    if progress.error is None:
        assert sorted(progress.parts) == list(range(len(plan)))
        assert progress.rows == ROWS * len(plan)
        assert progress.quarantined == sum(lost.values()) == sum(progress.causes.values())
        assert progress.scored == sum(count.scored for count in progress.files.values())
        assert progress.attempts == len(plan) + sum(failures)
        assert progress.retries == sum(failures)


def _befall(progress: Progress, number: int, outcome: Outcome, quarantined: int) -> None:
    table: dict[str, Callable[[], object]] = {
        "scored": lambda: progress.scored_batch(scored(number, quarantined=quarantined)),
        "failed": lambda: progress.failed(failed(number)),
        "crashed": lambda: progress.failed(failed(number, "crashed")),
        "returned": lambda: progress.returned(Returned(number=number)),
    }
    table[outcome]()


def test_every_failure_has_an_exit_code() -> None:
    """The exit code is an interface: 1 fails again, 2 was refused, 75 later."""
    codes: dict[type[ScorelineError], int] = {
        WorkerError: 1,
        ThresholdError: 1,
        PredictionError: 1,
        OutputBusyError: 75,
    }
    assert codes == {kind: exit_code(kind("")) for kind in codes}
