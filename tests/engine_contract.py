"""What every engine does: a suite of tests that take an engine as a fixture, see `tests/runtime/test_engines.py`.

The tests with `engine` hold for every engine; those with `hire` for engines whose workers are processes, which may die,
as do those with `some_hire`, which are made for each of these by `make thorough` alone:

    what happens to a worker            what the driver is told              and then
    the model raises                    Failed(error), the traceback         it does the next
    it exits, is killed, crashes        Failed(crashed), how it ended        Returned for what was queued, a new one
    it takes too long                   Failed(timeout)                      the same
    the staging folder is gone          Failed(storage)                      it does the next
    it cannot load the model            LoadFailed                           nobody is hired
    it dies while it loads              LoadFailed, once it was the last     the others go on
    workers die again and again         LoadFailed                           nobody is hired
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import psutil
import pytest

from runtime.engines import Engine, Event, Failed, LoadFailed, Probe, Probed, Ready, Returned, Score, Scored, Setup
from runtime.parts import LocalParts, PartKey
from scoring.cells import Cell, MiniBatch, identity_digest
from scoring.files import InputSpec, list_inputs
from scoring.rows import Dialect
from scoring.scan import Begin
from scoring.scanner import Scan
from scoring.specs import ReadPlan, ScorerSpec
from tests.faults.saving import write_actions

FINGERPRINT = b"engine"
PATIENCE_S = 60.0


@dataclass(slots=True)
class Hired:
    """An engine at work in a folder.

    Attributes:
        ready: what the first workers said.
    """

    engine: Engine
    folder: Path
    log: Any
    ready: list[Event] = field(default_factory=list)
    _batches: int = 0

    @property
    def staging(self) -> Path:
        """Where parts are staged."""
        return self.folder / "parts"

    def start(self, model: Path) -> None:
        """Have the workers load a model."""
        self.staging.mkdir()
        plan = ReadPlan(columns=(), dialect=Dialect())
        scorer = ScorerSpec(model_path=str(model))
        staging = LocalParts(str(self.staging))
        self.engine.start(Setup(scorer=scorer, plan=plan, staging=staging, fingerprint=FINGERPRINT))

    def cell(self, *actions: str) -> Cell:
        """Write rows, and cut them as the scanner does."""
        self._batches += 1
        path = write_actions(self.folder / f"{self._batches}.csv", *actions)
        files = list_inputs(InputSpec(url=str(path))).files
        (cell,) = Scan(files, Dialect(), Begin(), 1_024).run()
        assert isinstance(cell, Cell)
        return cell

    def submit(self, *actions: str, timeout_s: float | None = None) -> int:
        """Hand out a mini-batch with a row for each action; return its number."""
        cell = self.cell(*actions)
        files = list_inputs(InputSpec(url=cell.slices[0].url)).files
        batch = MiniBatch(number=self._batches, cells=(cell,), identity=identity_digest(files))
        self.engine.submit(Score(batch=batch, timeout_s=timeout_s))
        return batch.number

    def events(self, *kinds: type, within_s: float = PATIENCE_S) -> list[Any]:
        """Wait until so many events of these kinds came, and return all that came."""
        wanted = list(kinds)
        found: list[Any] = []
        deadline = time.monotonic() + within_s
        while wanted:
            left = deadline - time.monotonic()
            if left <= 0:
                pytest.fail(f"no {', '.join(kind.__name__ for kind in wanted)} came, only {found}")
            for event in self.engine.wait(left):
                found.append(event)
                if type(event) in wanted:
                    wanted.remove(type(event))
        return found

    def scored(self, *actions: str) -> Scored:
        """Score a mini-batch."""
        number = self.submit(*actions)
        (event,) = [event for event in self.events(Scored) if isinstance(event, Scored)]
        assert event.number == number
        return event

    def words(self) -> str:
        """Return what workers printed."""
        self.log.seek(0)
        return str(self.log.read().decode())


Hire = Callable[..., Hired]


def only(events: Iterable[Any], kind: type) -> Any:
    """Return the one event of a kind."""
    (found,) = (event for event in events if isinstance(event, kind))
    return found


def test_worker_is_ready_when_the_model_is_loaded(engine: Hired) -> None:
    """Each worker says once what columns the model wants and with which libraries it is loaded, and then wants work."""
    assert [type(event) for event in engine.ready] == [Ready] * engine.engine.workers
    ready = only(engine.ready[:1], Ready)
    assert [(column.name, column.type, column.required) for column in ready.columns] == [
        ("value", "long", True),
        ("action", "string", True),
        ("mark", "string", False),
    ]
    assert {"mlflow", "numpy", "pandas", "pyarrow"} <= {name for name, _ in ready.versions}
    assert engine.engine.wanted() > 0


def test_mini_batch_is_staged_under_its_key(engine: Hired) -> None:
    """The part is there when the outcome comes, and its key says what it covers."""
    event = engine.scored("ok", "ok", "ok")
    key = PartKey.decode(event.key)
    assert key is not None
    name = f"{event.number}.csv"
    assert (engine.staging / event.key).read_text() == f"0,0,{name}\n1,2,{name}\n2,4,{name}\n"
    assert (engine.staging / event.key).stat().st_size == event.size_bytes
    assert (key.fingerprint, key.rows, key.lines, key.start) == (FINGERPRINT, 3, 4, 0)
    assert key.length == (engine.folder / name).stat().st_size
    assert event.columns == ("prediction",)
    assert [(account.name, account.rows, account.quarantined) for account in event.accounts] == [(name, 3, 0)]
    assert 0 <= event.predict_s <= event.seconds


def test_work_of_thousands_of_files_waits_for_nobody(engine: Hired) -> None:
    """Work and answers that are larger than a pipe holds do not stop each other."""
    (part,) = engine.cell("ok").slices
    many = Cell(slices=tuple(replace(part, name=f"{number:06}-{'x' * 64}.csv") for number in range(4_000)))
    batches = [MiniBatch(number=number, cells=(many,), identity=b"many") for number in (101, 102, 103)]
    waiting = list(batches)
    done: list[Scored] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(done) < len(batches) and time.monotonic() < deadline:
        while waiting and engine.engine.wanted() > 0:
            engine.engine.submit(Score(batch=waiting.pop(0)))
        done += [event for event in engine.engine.wait(1.0) if isinstance(event, Scored)]
    assert [event.number for event in done] == [101, 102, 103]
    assert {len(event.accounts) for event in done} == {4_000}


def test_row_that_does_not_fit_is_counted(engine: Hired) -> None:
    """Quarantined rows come with the outcome, and their causes; the others are scored."""
    cell = engine.cell("ok", "ok")
    path = Path(cell.slices[0].url)
    path.write_text(path.read_text().replace("1,ok", "x,ok"))
    batch = MiniBatch(number=99, cells=(cell,))
    engine.engine.submit(Score(batch=batch))
    event = only(engine.events(Scored), Scored)
    assert [(account.rows, account.quarantined) for account in event.accounts] == [(2, 1)]
    assert event.causes == (("value: not a long", 1),)
    assert len((engine.staging / f"{event.key}.quarantine").read_bytes().splitlines()) == 1


def test_model_that_raises_is_a_failure_with_its_traceback(engine: Hired) -> None:
    """What the model raises comes as a sentence, with the traceback behind it; the worker goes on."""
    number = engine.submit("ok", "raise")
    event = only(engine.events(Failed), Failed)
    assert (event.number, event.kind) == (number, "error")
    assert event.reason == "ValueError: no prediction for this row"
    assert re.search(r'by_row\.py", line \d+, in act', event.detail)
    assert engine.scored("ok").size_bytes > 0


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("short", r"(?=.*\b1\b)(?=.*\b2\b).*rows"),
        ("deep", r"3|three"),
        ("sys.exit", "SystemExit"),
    ],
)
def test_answer_that_cannot_be_written_is_a_failure(engine: Hired, action: str, reason: str) -> None:
    """Another number of rows, or three dimensions, fails the mini-batch with a sentence; nothing is staged."""
    before = sorted(engine.staging.iterdir())
    engine.submit("ok", action)
    event = only(engine.events(Failed), Failed)
    assert event.kind == "error"
    assert re.search(reason, event.reason), event.reason
    assert sorted(engine.staging.iterdir()) == before


def test_part_that_cannot_be_staged_is_a_failure_of_storage(engine: Hired) -> None:
    """Where the staging folder is gone, the worker does not make it anew, and goes on when it is back."""
    away = engine.staging.with_name("away")
    engine.staging.rename(away)
    engine.submit("ok")
    event = only(engine.events(Failed), Failed)
    away.rename(engine.staging)
    assert event.kind == "storage"
    assert "cannot be staged" in event.reason
    assert "No such file or directory" in event.reason
    assert not event.may_pass
    assert engine.scored("ok").size_bytes > 0


@pytest.mark.parametrize(
    ("actions", "objects"), [(["ok"] * 40, False), (["mean"] * 40, True), (["random"] * 40, True), (["ok"], False)]
)
def test_probe_finds_what_rows_scored_together_change(engine: Hired, actions: list[str], objects: bool) -> None:
    """Predictions that are another when rows are cut elsewhere, or random, are objected to."""
    engine.engine.submit(Probe(cell=engine.cell(*actions), rows=1_000))
    event = only(engine.events(Probed), Probed)
    assert (event.objection != "") == objects
    assert "use --chunk-rows 0" in event.objection or not objects
    assert [column.name for column in event.columns] == ["value", "action", "mark"]


def test_wait_ends_with_the_time_or_with_a_pipe(engine: Hired) -> None:
    """Without an event it returns when the time is over, or at once when the other pipe has something to read."""
    ours, theirs = Pipe()
    with ours, theirs:
        began = time.monotonic()
        assert engine.engine.wait(0.2, ours) == []
        assert time.monotonic() - began > 0.15
        theirs.send("there is something")
        began = time.monotonic()
        assert engine.engine.wait(PATIENCE_S, ours) == []
        assert time.monotonic() - began < PATIENCE_S / 2


def test_model_that_does_not_load_is_told(any_hire: Hire, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What went wrong comes as one sentence, and nobody wants work."""
    monkeypatch.setenv("FAULT", "raise")
    hired = any_hire(models / "on_load", workers=1)
    event = only(hired.events(LoadFailed), LoadFailed)
    reason = r"on_load: the model cannot be loaded: ValueError: the weights are torn \(on_load\.py:\d+\)"
    assert re.search(reason, event.reason), event.reason
    assert hired.engine.wanted() == 0


def test_engine_may_be_closed_at_any_time(any_hire: Hire, models: Path) -> None:
    """Before anybody is ready, and twice, closing leaves nothing."""
    hired = any_hire(models / "by_row")
    hired.engine.close()
    hired.engine.close()
    assert hired.engine.wanted() == 0


# Workers that are processes


def test_worker_that_dies_is_a_failure_and_is_replaced(
    hire: Hire, models: Path, crashes: list[tuple[str, str]]
) -> None:
    """The mini-batch at work failed, by what is named; the one behind it comes back; another worker goes on."""
    hired = hire(models / "by_row", workers=1)
    hired.events(Ready)
    for action, cause in crashes:
        number, queued = hired.submit("ok", action), hired.submit("ok")
        events = hired.events(Failed, Returned, Ready)
        event = only(events, Failed)
        assert (event.number, event.kind) == (number, "crashed")
        assert re.search(rf"the worker process died \({cause}\)", event.reason), (action, event.reason)
        assert only(events, Returned).number == queued
        assert hired.scored("ok").size_bytes > 0
    assert [path.name for path in hired.staging.iterdir() if not path.name.startswith(".")]


def test_worker_that_takes_too_long_is_killed_and_replaced(hire: Hire, models: Path) -> None:
    """The time counts from where the worker begins a mini-batch; its children end with it."""
    hired = hire(models / "by_row", workers=1)
    hired.events(Ready)
    number, queued = hired.submit("child", "hang", timeout_s=2.0), hired.submit("ok")
    events = hired.events(Failed, Returned, Ready)
    event = only(events, Failed)
    assert (event.number, event.kind, event.reason) == (number, "timeout", "not done within 2 s")
    assert only(events, Returned).number == queued
    assert hired.scored("ok").size_bytes > 0


def test_children_of_a_worker_end_with_it(some_hire: Hire, models: Path) -> None:
    """What a model has started does not outlive the worker, however that dies."""
    hired = some_hire(models / "by_row", workers=1)
    hired.events(Ready)
    hired.submit("child", "kill")
    hired.events(Failed, Ready)
    hired.submit("child")
    hired.events(Scored)


def test_words_of_a_model_stay_in_the_log(some_hire: Hire, models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What a model prints reaches neither output of the driver; where its worker dies, the end of it is told."""
    hired = some_hire(models / "by_row", workers=1)
    hired.events(Ready)
    hired.scored("print")
    assert "words of a model" in hired.words()
    assert "more words of a model" in hired.words()
    hired.submit("print", "kill")
    assert "words of a model" in only(hired.events(Failed), Failed).detail
    assert capfd.readouterr() == ("", "")


def test_workers_that_die_again_and_again_are_not_replaced(forking: Hire, models: Path) -> None:
    """Where no worker lives to see a result, the engine says so, and hires nobody."""
    hired = forking(models / "by_row", workers=1)
    hired.events(Ready)
    deaths = 0
    while True:
        while hired.engine.wanted() > 0:
            hired.submit("exit")
        events = hired.engine.wait(PATIENCE_S)
        deaths += sum(isinstance(event, Failed) for event in events)
        if any(isinstance(event, LoadFailed) for event in events):
            break
        assert deaths < 20
    assert "workers die again and again: the worker process died (exit code 3)" in only(events, LoadFailed).reason
    assert hired.engine.wanted() == 0


def test_worker_that_dies_while_it_loads_is_told(hire: Hire, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model too large for the machine kills whoever loads it: nobody tries it for ever."""
    monkeypatch.setenv("FAULT", "kill")
    hired = hire(models / "on_load", workers=1)
    event = only(hired.events(LoadFailed), LoadFailed)
    assert event.reason == "the worker process died (SIGKILL, likely out of memory) while it loaded the model"
    assert hired.engine.wanted() == 0


def test_others_go_on_where_one_dies_while_it_loads(
    forking: Hire, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory for one model is enough: whoever has loaded it does all the work."""
    monkeypatch.setenv("FAULT", "kill others")
    monkeypatch.setenv("MARK", str(tmp_path / "loaded"))
    hired = forking(models / "on_load", workers=3)
    events = hired.events(Ready)
    for _ in range(20):
        hired.submit("ok")
        events += hired.events(Scored)
    failed = [event for event in events if isinstance(event, LoadFailed)]
    assert {type(event) for event in events} == {Ready, Scored, LoadFailed}
    assert {(event.goes_on, event.died) for event in failed} == {(True, "SIGKILL, likely out of memory")}
    assert hired.engine.wanted() == 2


def test_close_leaves_time_only_where_there_is_grace(some_hire: Hire, models: Path) -> None:
    """What runs may end within the grace time, and is staged; what does not is killed when that is over."""
    hired = some_hire(models / "by_row", workers=2)
    hired.events(Ready, Ready)
    hired.submit("slow")
    hired.submit("hang")
    began = time.monotonic()
    hired.engine.close(grace_s=4.0)
    assert time.monotonic() - began >= 4.0
    assert len([path for path in hired.staging.iterdir() if PartKey.decode(path.name)]) == 1


def test_dismissed_workers_end_by_themselves(some_hire: Hire, models: Path) -> None:
    """They need not be waited for; what a model has started has ended when `close` returns."""
    before = descendants()
    hired = some_hire(models / "by_row", workers=2)
    hired.events(Ready, Ready)
    started = descendants() - before
    assert len(started) >= 2
    hired.scored("child")
    hired.engine.dismiss()
    _, running = psutil.wait_procs(started, timeout=PATIENCE_S)
    assert not running
    hired.engine.close()
    assert not descendants() - before


def descendants() -> set[psutil.Process]:
    """Note all processes below this one."""
    return set(psutil.Process().children(recursive=True))


# A fork server


def new_server(before: set[int]) -> psutil.Process:
    """Wait for the fork server that this process started, as soon as it can be told from its parent."""
    while True:
        for child in psutil.Process().children():
            with suppress(psutil.NoSuchProcess):
                if child.pid not in before and "runtime.forkserver" in child.cmdline():
                    return child
        time.sleep(0.001)


def children() -> set[int]:
    """Note the children of this process."""
    return {child.pid for child in psutil.Process().children()}


def test_fork_server_that_is_killed_is_replaced(forking: Hire, models: Path) -> None:
    """Its workers die with it, which is no attempt at what they did: all of that comes back, and others do it."""
    before = children()
    hired = forking(models / "by_row", workers=3)
    hired.events(Ready, Ready, Ready)
    server = new_server(before)
    numbers = {hired.submit("hang") for _ in range(4)}
    server.kill()
    events = hired.events(*[Returned] * 4, *[Ready] * 3)
    assert {event.number for event in events if isinstance(event, Returned)} == numbers
    assert not any(isinstance(event, Failed | LoadFailed) for event in events)
    assert hired.scored("ok").size_bytes > 0


def test_fork_server_that_is_killed_while_workers_load_is_replaced(forking: Hire, models: Path) -> None:
    """All of them are hired anew."""
    before = children()
    hired = forking(models / "by_row", workers=3)
    server = new_server(before)
    server.kill()
    events = hired.events(Ready, Ready, Ready)
    assert [type(event) for event in events] == [Ready] * 3
    assert hired.scored("ok").size_bytes > 0
