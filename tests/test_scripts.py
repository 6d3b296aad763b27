"""Scoring scripts that misbehave: what becomes of the job, of their files, and of the machine (contract 2, 3.5, 5)."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from tests.faults.script_jobs import FILES, Outcome, ScriptJob, wait_for_orphans
from tests.faults.scripts import CURED, FAILING, GATE, HARMLESS, LOADING, REFUSED, Fault, scoring_script, script_of_all

ALL = [name.removesuffix(".txt") + " scored" for name in FILES]
OTHERS = [row for row in ALL if row[0] not in "cd"]
COMPLETE = ["_predictions.receipt.json", "predictions.csv"]


def table(faults: dict[str, Fault]) -> pytest.MarkDecorator:
    """Run a test for each of some faults."""
    return pytest.mark.parametrize("fault", [pytest.param(fault, id=name) for name, fault in faults.items()])


# While it scores


NUMBERED = list(enumerate(FAILING.values()))


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Return what came of a job whose script fails in all these ways, each in one mini-batch between good ones."""
    files = [f"{number:02}-{letter}.txt" for number, _ in NUMBERED for letter in "abcd"]
    return ScriptJob(
        tmp_path_factory.mktemp("failing"), script_of_all(FAILING.values()), files=files, timeout_s=4.0
    ).run()


@pytest.mark.parametrize(
    ("number", "fault"), [pytest.param(*each, id=name) for each, name in zip(NUMBERED, FAILING, strict=True)]
)
def test_failing_mini_batch(failing: Outcome, number: int, fault: Fault) -> None:
    """All its attempts used up, a mini-batch costs its own files, which are named with the reason, and no other."""
    good, bad = ([f"{number:02}-{letter}.txt" for letter in letters] for letters in ("ab", "cd"))
    assert failing.error is None
    assert {name: failing.calls[name] for name in good + bad} == {
        **dict.fromkeys(good, 1),
        **dict.fromkeys(bad, fault.attempts),
    }
    # the quarantine
    entries = [entry for entry in failing.quarantine if entry["file"] in bad]
    assert [(entry["file"], entry["row"], entry["rows"]) for entry in entries] == [(name, None, 1) for name in bad]
    assert all(re.search(fault.reason, entry["reason"]) for entry in entries), entries
    assert all(len(entry["reason"]) <= 1_000 for entry in entries)
    # the logs
    row = failing.mini_batches[bad[0]]
    assert (row["last_file"], row["items"], row["failed"], row["attempts"]) == (bad[1], "0", "2", str(fault.attempts))
    if fault.attempts == 1:
        return
    assert row["result"] == "failed"
    assert re.search(fault.reason, row["error"])
    errors = failing.errors_of(bad[0])
    assert [kind for kind, _ in errors] == [fault.kind] * fault.attempts
    assert all(re.search(fault.reason, text, re.MULTILINE) for _, text in errors), errors
    assert any(re.search(fault.detail, text) for _, text in errors), errors
    assert failing.log("user/error.txt").count(f"files={bad[0]}, {bad[1]} ") == fault.attempts


def test_job_with_failing_mini_batches(failing: Outcome) -> None:
    """The job completes with all that could be scored, in plan order, and says how much was lost."""
    files = 2 * len(FAILING)
    assert failing.lines == [f"{number:02}-{letter} scored" for number, _ in NUMBERED for letter in "ab"]
    assert failing.names == ["_predictions.quarantine.jsonl", *COMPLETE]
    assert failing.receipt["rows"] == {"read": 2 * files, "scored": files, "quarantined": 0, "given_up": files}
    deaths = sum(fault.attempts for fault in FAILING.values() if fault.kind != "error")
    assert failing.receipt["invocation"]["worker_deaths"] == deaths
    assert failing.receipt["invocation"]["retries"] == sum(fault.attempts - 1 for fault in FAILING.values())
    assert [entry["file"] for entry in failing.quarantine] == failing.failed_files
    assert failing.failed_files == [f"{number:02}-{letter}.txt" for number, _ in NUMBERED for letter in "cd"]
    assert failing.result[0] == "Completed"
    # an error's text may be as long as it likes
    assert sum(path.stat().st_size for path in (failing.folder / "logs").rglob("*") if path.is_file()) < 2**20
    # the first traceback is shown, and the others are in the logs
    assert len([text for text in failing.said if "the first error, while it scored" in text]) == 1


@table(CURED)
def test_failure_that_a_retry_cures(tmp_path: Path, fault: Fault) -> None:
    """What a second attempt scores has not failed, whatever the threshold (contract 5.3, 5.4)."""
    outcome = ScriptJob(
        tmp_path, fault.script, error_threshold=0, timeout_s=4.0 if fault.kind == "timeout" else 60.0
    ).run()
    assert outcome.error is None
    assert outcome.lines == ALL
    assert outcome.names == COMPLETE
    assert outcome.receipt["rows"] == {"read": 5, "scored": 5, "quarantined": 0, "given_up": 0}
    assert outcome.receipt["invocation"]["retries"] == 1
    assert outcome.mini_batches["c.txt"] | {"result": "succeeded", "attempts": "2"} == outcome.mini_batches["c.txt"]
    assert outcome.failed_files == []
    assert outcome.calls == {name: 2 if name[0] in "cd" else 1 for name in FILES}
    assert re.search(fault.reason, outcome.log("user/error/0/*.txt"))


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Return what came of a job of one worker, whose script does all this one after the other."""
    files = [f"{number:02}-{letter}.txt" for number in range(len(HARMLESS)) for letter in "cd"]
    return ScriptJob(
        tmp_path_factory.mktemp("harmless"), script_of_all(HARMLESS.values()), files=files, workers=1
    ).run()


@pytest.mark.parametrize("number", [pytest.param(number, id=name) for number, name in enumerate(HARMLESS)])
def test_harmless_mischief(harmless: Outcome, number: int) -> None:
    """What a script does to its own process is its own affair: its files are scored, once."""
    assert harmless.error is None
    for name in (f"{number:02}-c", f"{number:02}-d"):
        assert f"{name} scored" in harmless.lines
        assert harmless.calls[f"{name}.txt"] == 1
    assert harmless.mini_batches[f"{number:02}-c.txt"]["attempts"] == "1"


def test_job_with_harmless_mischief(harmless: Outcome) -> None:
    """The job completes with all rows in plan order, by the one worker it began with."""
    rows = [f"{number:02}-{letter} scored" for number in range(len(HARMLESS)) for letter in "cd"]
    assert [line for line in harmless.lines if line != "more"] == rows
    assert harmless.names == COMPLETE
    assert harmless.receipt["invocation"]["retries"] == harmless.receipt["invocation"]["worker_deaths"] == 0
    assert harmless.result[0] == "Completed"


def test_first_failure_in_each_process(tmp_path: Path) -> None:
    """A script that fails once wherever it is new is retried where it is not."""
    top = "fresh = True"
    body = "global fresh\nif fresh:\n    fresh = False\n    raise ValueError('warming up')"
    outcome = ScriptJob(tmp_path, scoring_script(body, top=top), error_threshold=0, max_retries=2).run()
    assert outcome.error is None
    assert outcome.lines == ALL
    assert 1 <= outcome.receipt["invocation"]["retries"] <= 2
    assert outcome.failed_files == []


@pytest.mark.parametrize(
    ("fault", "bad", "timeout_s"),
    [("os._exit(3)", 8, 60.0), ("import time; time.sleep(600)", 4, 3.0)],
    ids=["dies", "hangs"],
)
def test_workers_are_replaced_until_the_job_ends(tmp_path: Path, fault: str, bad: int, timeout_s: float) -> None:
    """However many die one after the other, each costs its own mini-batch an attempt and no more (contract 5.2)."""
    files = [f"{number}.txt" for number in range(bad + 1)]
    script = scoring_script(f"if names[0] < '{bad}':\n    {fault}")
    job = ScriptJob(tmp_path, script, files=files, mini_batch_size=1, max_retries=0, timeout_s=timeout_s)
    outcome = job.run()
    assert outcome.error is None
    assert outcome.lines == [f"{bad} scored"]
    assert outcome.failed_files == files[:bad]
    assert outcome.receipt["invocation"]["worker_deaths"] == bad


def test_script_that_always_raises(tmp_path: Path) -> None:
    """Nothing succeeded: the job fails in Azure ML's words whatever the threshold, and publishes nothing."""
    outcome = ScriptJob(tmp_path, scoring_script("raise ValueError('never ' + names[0])")).run()
    assert outcome.code == 1
    assert re.fullmatch(
        r"No succeeded mini batch item returned from run\(\): \w\.txt.* \(ValueError: never \w\.txt\).*; "
        "nothing was published",
        outcome.message,
    )
    assert outcome.names == []
    assert outcome.result[:2] == ["Failed", f"reason: {outcome.message}"]
    assert outcome.failed_files == list(FILES)
    assert outcome.calls == dict.fromkeys(FILES, 2)
    # the first traceback reaches whoever watches, with the files it was about; the others are in the logs
    (trace,) = [text for text in outcome.said if "Traceback" in text]
    assert re.search(r"ValueError: never \w\.txt\n\(the first error, while it scored \w\.txt[,;] ", trace)


@pytest.mark.parametrize(
    ("returned", "lines", "failed"),
    [
        ("rows[:1]", ["a scored", "c scored", "e scored"], 2),
        ("rows + ['more', 'and more']", [*ALL[:2], "more", "and more", *ALL[2:4], "more", "and more", ALL[4]], 0),
        ("rows * (names[0] != 'c.txt')", OTHERS, 2),
    ],
    ids=["fewer", "more", "none"],
)
def test_counting_of_items(tmp_path: Path, returned: str, lines: list[str], failed: int) -> None:
    """Items fewer than files are failed files; more are written all the same (contract 2.3)."""
    script = scoring_script(f"return {returned}")
    outcome = ScriptJob(tmp_path, script).run()
    assert outcome.error is None
    assert [line for line in outcome.lines if "more" not in line] == [line for line in lines if "more" not in line]
    assert outcome.receipt["rows"]["given_up"] == failed
    assert sum(entry["rows"] for entry in outcome.quarantine) == failed
    assert outcome.receipt["invocation"]["retries"] == 0
    assert sum(int(row["failed"]) for row in outcome.mini_batches.values()) == failed


# Time


def test_first_call_has_more_time(tmp_path: Path) -> None:
    """The first call of a process may take the overhead longer; a later one that takes as long is killed."""
    script = scoring_script("time.sleep({'a.txt': 0.9, 'c.txt': 600.0}.get(names[0], 0.0))", top="import time")
    outcome = ScriptJob(tmp_path, script, workers=1, timeout_s=0.5, task_overhead_s=60.0, max_retries=0).run()
    assert outcome.error is None
    assert outcome.lines == OTHERS
    assert outcome.failed_files == ["c.txt", "d.txt"]
    assert outcome.receipt["invocation"]["worker_deaths"] == 1


def test_first_call_may_not_hang(tmp_path: Path) -> None:
    """The first call is killed after timeout and overhead."""
    script = scoring_script("if 'a.txt' in names:\n    time.sleep(600)", top="import time")
    began = time.monotonic()
    outcome = ScriptJob(tmp_path, script, workers=1, timeout_s=3.0, task_overhead_s=1.0, max_retries=0).run()
    assert time.monotonic() - began > 4.0
    assert outcome.lines == ["c scored", "d scored", "e scored"]
    assert "4 s" in outcome.quarantine[0]["reason"]


INIT = """
    import time
    def init():
        with open(os.environ["CALLS"] + ".init", "a") as calls:
            calls.write("init\\n")
        {body}
"""


def inits(folder: Path) -> int:
    """Count how often `init` was called."""
    path = folder / "calls.init"
    return path.read_text().count("init") if path.exists() else 0


def test_slow_init_is_under_no_timeout(tmp_path: Path) -> None:
    """Loading takes what it takes, also longer than the timeout of a mini-batch (contract 2.1)."""
    script = scoring_script(top=INIT.format(body="time.sleep(3.2)"))
    outcome = ScriptJob(tmp_path, script, timeout_s=3.0).run()
    assert outcome.lines == ALL
    assert outcome.receipt["invocation"]["worker_deaths"] == 0


def test_init_that_hangs(tmp_path: Path) -> None:
    """An init that takes too long is tried in two processes; then the job fails and says so."""
    script = scoring_script(top=INIT.format(body="time.sleep(600)"))
    outcome = ScriptJob(tmp_path, script, workers=1, init_timeout_s=2.5).run()
    assert outcome.code == 1
    assert outcome.message == (
        "the worker was not ready within 2.5 s, for the script was being imported, or in its init(); "
        "--init-timeout allows more"
    )
    assert outcome.log("user/error/0/*.txt").count("the worker was not ready within 2.5 s") == 2
    # on a machine that is busy, one of them may be ended before it comes so far
    assert inits(tmp_path) <= 2
    assert (outcome.calls, outcome.names) == ({}, [])


@pytest.mark.parametrize("fault", ["raise RuntimeError('torn')", "os._exit(9)"], ids=["raises", "dies"])
def test_init_that_fails(tmp_path: Path, fault: str) -> None:
    """It is tried again in a fresh process, and the job fails where it fails there too (contract 2.1)."""
    script = scoring_script(top=INIT.format(body=fault))
    outcome = ScriptJob(tmp_path, script, workers=1).run()
    assert outcome.code == 1
    assert (inits(tmp_path), outcome.calls, outcome.names) == (2, {}, [])
    assert outcome.result[0] == "Failed"


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("fault", ["raise RuntimeError('not yet')", "os._exit(9)"], ids=["raises", "dies"])
def test_init_that_fails_in_the_first_process_only(tmp_path: Path, workers: int, fault: str) -> None:
    """A failure that does not repeat costs nothing, and stands in the logs."""
    script = scoring_script(top=INIT.format(body=FIRST_ONLY.format(fault=fault)))
    outcome = ScriptJob(tmp_path, script, workers=workers).run()
    assert outcome.error is None
    assert outcome.lines == ALL
    assert outcome.calls == dict.fromkeys(FILES, 1)
    if workers == 1:
        # with another worker the job may be done before the failure is told
        assert re.search(r"not yet|exit code 9", outcome.log("user/error/0/*.txt"))


FIRST_ONLY = """
        try:
            os.close(os.open(os.environ["MARK"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        {fault}
"""


# While it is loaded


@table(LOADING)
def test_script_that_does_not_load(tmp_path: Path, fault: Fault) -> None:
    """The job fails with what the script raised and where; nothing is scored or published (contract 2.1, 2.4)."""
    outcome = ScriptJob(tmp_path, fault.script).run()
    assert outcome.code == 1
    assert re.search(fault.reason, outcome.message), outcome.message
    assert (outcome.calls, outcome.names) == ({}, [])
    assert outcome.result[0] == "Failed"
    assert re.search(fault.reason, outcome.log("user/error/0/*.txt"))
    assert re.search(fault.detail, outcome.log("user/error/0/*.txt"))
    if fault.detail:
        assert any(re.search(fault.detail, text) for text in outcome.said)


@table(REFUSED)
def test_script_that_is_none(tmp_path: Path, fault: Fault) -> None:
    """What cannot be called is refused before init, with what to do."""
    mark = tmp_path / "mark"
    script = f"def init():\n    open({str(mark)!r}, 'w')\n{fault.top}\n"
    outcome = ScriptJob(tmp_path, script).run()
    assert outcome.code == 2
    assert re.search(fault.reason, outcome.message), outcome.message
    assert "define" in outcome.message
    assert not any("Traceback" in text for text in outcome.said)
    assert outcome.names == []
    assert not mark.exists()


# In the end

SHUTDOWN = """
    import threading, time
    def shutdown():
        print("goodbye")
        {body}
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('not so fast')", "shutdown() failed: ValueError: not so fast"),
        ("sys.exit(3)", "shutdown() failed: SystemExit: 3"),
        ("raise KeyboardInterrupt", ""),
        ("os._exit(3)", ""),
        ("os.kill(os.getpid(), 9)", ""),
        ("threading.Thread(target=time.sleep, args=(600,)).start()", ""),
    ],
)
def test_shutdown_that_fails(tmp_path: Path, body: str, said: str) -> None:
    """What shutdown does wrong is logged, and changes nothing (contract 2.1)."""
    outcome = ScriptJob(tmp_path, scoring_script(top=SHUTDOWN.format(body=body)), workers=1).run()
    assert outcome.error is None
    assert outcome.lines == ALL
    assert outcome.names == COMPLETE
    assert said in outcome.log("user/stderr/0/*.txt")
    assert outcome.result[0] == "Completed"


def test_shutdown_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its time, and no more."""
    monkeypatch.setattr("runtime.hiring.SHUTDOWN_S", 1.0)
    outcome = ScriptJob(tmp_path, scoring_script(top=SHUTDOWN.format(body="time.sleep(600)"))).run()
    assert outcome.lines == ALL
    assert outcome.receipt["timings"]["total_s"] < 300


def test_shutdown_is_waited_for(tmp_path: Path) -> None:
    """What a script does in the end is done when the job completes: once in each worker."""
    body = "time.sleep(0.5); open(f'{os.environ[\"CALLS\"]}.{os.getpid()}', 'w')"
    outcome = ScriptJob(tmp_path, scoring_script(top=SHUTDOWN.format(body=body))).run()
    assert outcome.lines == ALL
    assert len(list(tmp_path.glob("calls.*"))) == outcome.log("user/stdout/0/*.txt").count("goodbye") >= 1


# Words


def test_script_that_prints_much(tmp_path: Path) -> None:
    """100 MB of words, and 10 MB below Python, go to files of the logs, and through no memory of the driver."""
    body = """
        if "c.txt" in names:
            for _ in range(100):
                print("x" * 2**20)
            os.write(2, b"y" * 10 * 2**20)
            raise ValueError("said enough")
    """
    job = ScriptJob(tmp_path, scoring_script(body), max_retries=0)
    driver = psutil.Process()
    before = driver.memory_info().rss
    most = 0

    def look(_: object) -> None:
        nonlocal most
        most = max(most, driver.memory_info().rss)

    outcome = job.run(watch=look)
    assert most - before < 30 * 2**20
    assert outcome.lines == OTHERS
    (printed,) = (path.stat().st_size for path in (tmp_path / "logs/user/stdout/0").iterdir() if path.stat().st_size)
    assert printed == 100 * (2**20 + 1)
    assert max(path.stat().st_size for path in (tmp_path / "logs/user/stderr/0").iterdir()) >= 10 * 2**20
    assert sum(len(text) for text in outcome.said) < 100_000


def test_words_that_find_no_room_cost_no_file(tmp_path: Path) -> None:
    """Logs on a full disk are no reason for a script that prints to fail, where it is imported or in run."""
    speaks = 'import sys\nprint("a word")\nprint("another", file=sys.stderr)'
    full = "import os\nfor descriptor in (1, 2):\n    os.dup2(os.open('/dev/full', os.O_WRONLY), descriptor)\n"
    outcome = ScriptJob(tmp_path, scoring_script(speaks, top=full + speaks)).run()
    assert outcome.error is None
    assert outcome.receipt["rows"]["scored"] == 5


def test_words_before_a_death_are_kept(tmp_path: Path) -> None:
    """What was printed before the process died stands in its log, by Python and by what is below."""
    body = "print('by Python', names[0], flush=True)\nos.write(1, b'below\\n')\nif 'c.txt' in names:\n    os._exit(3)"
    outcome = ScriptJob(tmp_path, scoring_script(body), max_retries=0).run()
    words = outcome.log("user/stdout/0/*.txt")
    assert sorted(re.findall(r"by Python (\w)", words)) == ["a", "c", "e"]
    assert words.count("below") == 3


@pytest.mark.parametrize("logs", [True, False], ids=["logs", "no logs"])
def test_values_of_the_environment_stay_secret(tmp_path: Path, logs: bool) -> None:
    """A value that a script tells in its errors is in no message, log, quarantine or receipt of ours."""
    secret = "hunter2-and-more"
    body = """
        if "c.txt" in names:
            raise ValueError("cannot log in with " + os.environ["PASSWORD"])
        if "e.txt" in names:
            sys.stderr.write(os.environ["PASSWORD"])
            sys.stderr.flush()
            os._exit(3)
    """
    job = ScriptJob(tmp_path, scoring_script(body), **({} if logs else {"logs": ""}))
    job.options["environment_variables"].append(("PASSWORD", secret))
    outcome = job.run()
    assert outcome.lines == ALL[:2]
    assert [entry["reason"] for entry in outcome.quarantine][:1] == ["ValueError: cannot log in with $PASSWORD"]
    assert not [text for text in outcome.said if secret in text]
    written = [path for folder in ("logs", "score") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    # its own words are its own
    assert {path.parent.parent.name for path in written if secret in path.read_text()} <= {"stderr"}


# Rows


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ("'x' * 10 * 2**20", "x" * 10 * 2**20),
        ("'bad \\udcff name'", r"bad \udcff name"),
        ("b'bytes'", "b'bytes'"),
        ("'first\\nsecond'", "first\nsecond"),
        ("float('nan')", "nan"),
    ],
    ids=["very long", "no UTF-8", "bytes", "two lines", "no number"],
)
def test_odd_rows(tmp_path: Path, row: str, line: str) -> None:
    """Rows are written as Azure ML writes them: one str each (contract 3.1)."""
    outcome = ScriptJob(tmp_path, scoring_script(f"return [{row}]"), files=["a.txt"]).run()
    assert "\n".join(outcome.lines) == line


def test_names_of_files_that_are_no_text(tmp_path: Path) -> None:
    """A file whose name is no UTF-8 is scored, and named where it fails."""
    job = ScriptJob(tmp_path, scoring_script("if names[0][0] == 'z':\n    raise ValueError(names[0])"))
    for name in (b"y\xff.txt", b"z\xff.txt"):
        (tmp_path / "in" / os.fsdecode(name)).write_text("odd")
    outcome = job.run(mini_batch_size=1)
    assert outcome.error is None
    assert outcome.lines == [*ALL, "y\\udcff scored"]
    assert len(outcome.quarantine) == 1
    assert outcome.receipt["rows"]["given_up"] == 1


# Killed


def test_job_whose_output_lies_with_its_code_goes_on(tmp_path: Path) -> None:
    """A deployment may be run in the folder that is its code and its model: what the job writes is neither."""
    fails = "if names[0] == 'c.txt' and not os.path.exists(os.environ['MARK']): raise RuntimeError('not yet')"
    code = tmp_path / "code"
    job = ScriptJob(
        tmp_path, scoring_script(body=fails), model=str(code), output=str(code / "may/score"), logs=str(code / "logs"),
        error_threshold=0, max_retries=0, workers=1,
    )  # fmt: skip
    assert "error_threshold 0" in job.run().message
    (tmp_path / "mark").touch()
    outcome = job.run()
    assert outcome.error is None
    assert outcome.calls["a.txt"] == 1
    assert (code / "may/score/predictions.csv").read_text().splitlines() == ALL
    assert any("already complete" in text for text in job.run().said)


def test_killed_script_job_goes_on(tmp_path: Path) -> None:
    """After SIGKILL of the driver the same command scores the rest alone, to the same bytes as a calm run."""
    files = [f"{number:02}.txt" for number in range(20)]
    script = scoring_script(f"{dedent(GATE)}if '17.txt' in names:\n    raise ValueError('never')", top="import time")
    jobs = []
    for name in ("calm", "killed"):
        (tmp_path / name).mkdir()
        jobs.append(ScriptJob(tmp_path / name, script, files=files, timeout_s=100.0))
        jobs[-1].stop_at("~")
    calm = jobs[0].run()
    assert len(calm.lines) == 18
    job = jobs[1]
    staged = 0
    for stop in ("10.txt", "16.txt"):
        job.stop_at(stop)
        staged = job.killed_after(staged + 2)
    job.stop_at("~")
    outcome = job.run()
    assert outcome.error is None
    assert (outcome.output / "predictions.csv").read_bytes() == (calm.output / "predictions.csv").read_bytes()
    assert outcome.quarantine == calm.quarantine
    assert outcome.failed_files == calm.failed_files == ["16.txt", "17.txt"]
    assert outcome.receipt["invocation"]["resumed"] == staged
    assert sum(calm.calls.values()) == 22
    # what was running at a kill ran again: two workers, two kills
    assert sum(outcome.calls.values()) <= 22 + 2 * 2 * 2 + 2 * 2
    once = [name for name in files[:4] if outcome.calls[name] == 1]
    assert len(once) >= 2


def test_stopped_script_job_is_canceled(tmp_path: Path) -> None:
    """SIGTERM ends it with 143, Canceled; what is staged is not scored again."""
    files = [f"{number:02}.txt" for number in range(20)]
    job = ScriptJob(tmp_path, scoring_script(GATE, top="import time"), files=files, timeout_s=100.0)
    job.stop_at("06.txt")
    process = job.start()
    job.until_staged(2, process)
    process.send_signal(signal.SIGTERM)
    job.stop_at("~")
    process.wait(60)
    wait_for_orphans()
    assert (tmp_path / "logs/job_result.txt").read_text().startswith("Canceled\nreason: stopped by SIGTERM; ")
    outcome = job.run()
    assert outcome.lines == [f"{name[:2]} scored" for name in files]
    assert outcome.receipt["invocation"]["resumed"] > 0
    # what a worker had begun behind what it was allowed to end
    assert sum(outcome.calls.values()) <= len(files) + 2 * 2
