"""The logs of a job: what stands in which file, when it is written, and what happens where it cannot be."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.logs import NOTHING_SUCCEEDED, JobLogs, default_logs, stalled, threshold_exceeded
from scoring.log_paths import (
    entry_script_log_folder,
    entry_script_log_path,
    error_path,
    process_name,
    stderr_path,
    stdout_path,
    summary_path,
)

NOON = 1772366400.0
"""2026-03-01, 12:00 UTC."""
TRACEBACK = 'Traceback (most recent call last):\n  File "score.py", line 7, in run\nValueError: bad row\n'


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        """Return what it shows."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands at noon."""
    return Clock()


@pytest.fixture
def told() -> list[str]:
    """Return what was told to the person who started the job."""
    return []


@pytest.fixture
def logs(tmp_path: Path, clock: Clock, told: list[str]) -> JobLogs:
    """Return logs in a folder of their own."""
    return JobLogs.at(str(tmp_path / "logs"), notice=told.append, clock=clock)


def story(logs: JobLogs, clock: Clock) -> None:
    """Run a job of three mini-batches: one succeeds, one is cured by a retry, one fails for good."""
    logs.began(["deployment: heart", "input: data, 5 files"])
    clock.now += 2
    logs.worker_ready(0, 1.96)
    logs.worker_ready(1, 2.04)
    logs.progress(3, 0, 0, 2)
    clock.now += 3
    logs.mini_batch_done(0, ["a.csv", "b.csv"], items=2, failed=0, seconds=2.5, worker=0, attempts=1)
    logs.attempt_failed(1, 1, ["c.csv", "d.csv"], kind="error", reason="ValueError: bad row", detail=TRACEBACK)
    logs.progress(3, 1, 0, 2, 6.4)
    clock.now += 4
    logs.attempt_failed(0, 2, ["e.csv"], kind="timeout", reason="run() took longer than 30 s")
    logs.mini_batch_done(1, ["c.csv", "d.csv"], items=1, failed=1, seconds=0.25, worker=1, attempts=2)
    clock.now += 5
    logs.worker_ready(2, 1.5)
    logs.progress(3, 2, 1, 2, 3.0)
    logs.attempt_failed(2, 2, ["e.csv"], kind="error", reason="ValueError: bad row", detail=TRACEBACK)
    logs.mini_batch_failed(2, ["e.csv"], reason="ValueError: bad row", seconds=0.5, worker=2, attempts=2)
    clock.now += 1
    logs.progress(3, 3, 2, 2, 0.0)
    logs.finished("Completed", ["3 mini-batches were processed"], ["d.csv", "e.csv"])


GOLDEN = {
    "job_result.txt": """\
Completed
reason: 3 mini-batches were processed
began: 2026-03-01T12:00:00Z
ended: 2026-03-01T12:00:15Z
duration_s: 15.0
progress: scheduled=3 processed=3 failed_files=2 error_threshold=2 eta_s=0
failed files: 2
  d.csv
  e.csv
""",
    "job_progress_overview.txt": """\
================================================================================
2026-03-01T12:00:00Z began
2026-03-01T12:00:00Z deployment: heart
2026-03-01T12:00:00Z input: data, 5 files
2026-03-01T12:00:02Z process000 is ready after 2.0 s
2026-03-01T12:00:02Z process001 is ready after 2.0 s
2026-03-01T12:00:02Z scheduled=3 processed=0 failed_files=0 error_threshold=2 eta_s=unknown
2026-03-01T12:00:14Z process002 is ready after 1.5 s
2026-03-01T12:00:14Z scheduled=3 processed=2 failed_files=1 error_threshold=2 eta_s=3
2026-03-01T12:00:15Z scheduled=3 processed=3 failed_files=2 error_threshold=2 eta_s=0
2026-03-01T12:00:15Z finished: Completed
2026-03-01T12:00:15Z reason: 3 mini-batches were processed
""",
    "job_error.txt": """\
2026-03-01T12:00:05Z error: ValueError: bad row; first of c.csv, d.csv, see user/error/0/process001.txt
2026-03-01T12:00:09Z timeout: run() took longer than 30 s; first of e.csv, see user/error/0/process000.txt
2026-03-01T12:00:15Z failed attempts: 3
  2 x error: ValueError: bad row
  1 x timeout: run() took longer than 30 s
""",
    "user/error.txt": """\
2026-03-01T12:00:05Z process001 mini_batch=1 kind=error files=c.csv, d.csv reason=ValueError: bad row
2026-03-01T12:00:09Z process000 mini_batch=2 kind=timeout files=e.csv reason=run() took longer than 30 s
2026-03-01T12:00:14Z process002 mini_batch=2 kind=error files=e.csv reason=ValueError: bad row
""",
    "user/error/0/process000.txt": """\
2026-03-01T12:00:09Z process000 mini_batch=2 kind=timeout
  e.csv
run() took longer than 30 s

""",
    "user/error/0/process001.txt": f"""\
2026-03-01T12:00:05Z process001 mini_batch=1 kind=error
  c.csv
  d.csv
ValueError: bad row
{TRACEBACK}
""",
    "user/error/0/process002.txt": f"""\
2026-03-01T12:00:14Z process002 mini_batch=2 kind=error
  e.csv
ValueError: bad row
{TRACEBACK}
""",
    "sys/job_report/processed_mini-batches.csv": """\
run,ended,mini_batch,result,node,process,files,items,failed,attempts,elapsed_s,first_file,last_file,error
2026-03-01T12:00:00Z,2026-03-01T12:00:05Z,0,succeeded,0,process000,2,2,0,1,2.500,a.csv,b.csv,
2026-03-01T12:00:00Z,2026-03-01T12:00:09Z,1,succeeded,0,process001,2,1,1,2,0.250,c.csv,d.csv,
2026-03-01T12:00:00Z,2026-03-01T12:00:14Z,2,failed,0,process002,1,0,1,2,0.500,e.csv,e.csv,ValueError: bad row
""",
    "sys/node/0/process000.txt": """\
run: 2026-03-01T12:00:00Z
process: process000
start: 2026-03-01T12:00:02Z
duration_s: 7.0
run_time_s: 2.500
mini_batches: 1
failed_attempts: 1
items_total: 2
items_succeeded: 2
items_failed: 0

""",
    "sys/node/0/process001.txt": """\
run: 2026-03-01T12:00:00Z
process: process001
start: 2026-03-01T12:00:02Z
duration_s: 7.0
run_time_s: 0.250
mini_batches: 1
failed_attempts: 1
items_total: 2
items_succeeded: 1
items_failed: 1

""",
    "sys/node/0/process002.txt": """\
run: 2026-03-01T12:00:00Z
process: process002
start: 2026-03-01T12:00:14Z
duration_s: 0.0
run_time_s: 0.500
mini_batches: 1
failed_attempts: 1
items_total: 1
items_succeeded: 0
items_failed: 1

""",
}


def texts(logs: JobLogs) -> dict[str, str]:
    """Return what stands in each file, the readme aside."""
    root = Path(logs.folder)
    files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    return {name: path.read_text("utf-8") for name, path in files.items() if name != "readme.txt"}


def lines(logs: JobLogs, name: str) -> list[str]:
    """Return the lines of a file."""
    return (Path(logs.folder) / name).read_text("utf-8").splitlines()


def test_story_is_told(logs: JobLogs, clock: Clock, told: list[str]) -> None:
    """Every file of contract 3.5 that the driver writes tells its side of the job, and there are no others."""
    story(logs, clock)
    assert (texts(logs), told) == (GOLDEN, [])


def test_readme_names_what_there_is(logs: JobLogs, clock: Clock) -> None:
    """The readme has an entry for every file of the driver and of the workers (contract 3.5)."""
    story(logs, clock)
    readme = (Path(logs.folder) / "readme.txt").read_text("utf-8")
    for path in (stdout_path("", 0), stderr_path("", 0), entry_script_log_path("", 0), *texts(logs)):
        generic = path.replace("/0/", "/<node>/")
        for number in range(3):
            generic = generic.replace(process_name(number), "<process>")
        assert generic in readme


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (stdout_path, "logs/user/stdout/0/process007.stdout.txt"),
        (stderr_path, "logs/user/stderr/0/process007.stderr.txt"),
        (entry_script_log_path, "logs/user/entry_script_log/0/process007.log.txt"),
        (error_path, "logs/user/error/0/process007.txt"),
        (summary_path, "logs/sys/node/0/process007.txt"),
    ],
)
def test_path_is_that_of_azure(path: Callable[[str, int], str], expected: str) -> None:
    """A worker's files have the names of contract 3.5."""
    assert path("logs", 7) == expected


def test_folders_of_the_workers_are_there(logs: JobLogs) -> None:
    """Workers can write at once."""
    for path in (stdout_path(logs.folder, 12), stderr_path(logs.folder, 12), entry_script_log_path(logs.folder, 12)):
        Path(path).write_text("x")
    assert Path(entry_script_log_folder(logs.folder)).is_dir()


def test_second_run_loses_nothing(logs: JobLogs, clock: Clock, tmp_path: Path) -> None:
    """Files grow; the report keeps one header; the newest result stands first."""
    story(logs, clock)
    clock.now = NOON + 3600
    second = JobLogs.at(str(tmp_path / "logs"), clock=clock)
    story(second, clock)
    found = texts(second)
    later = {name: text.replace("T12:", "T13:") for name, text in GOLDEN.items()}
    report = "sys/job_report/processed_mini-batches.csv"
    header, _, rows = later.pop(report).partition("\n")
    assert found.pop(report) == GOLDEN[report] + rows
    result = "job_result.txt"
    assert found.pop(result) == f"{later.pop(result)}{'=' * 80}\n{GOLDEN[result]}"
    assert found == {name: GOLDEN[name] + text for name, text in later.items()}
    assert header.startswith("run,")


def test_report_is_a_table(logs: JobLogs) -> None:
    """Names and errors with commas, quotes, line ends and bytes that are no UTF-8 stay in their cells."""
    logs.mini_batch_failed(4, ['a,"b".csv', "c\r\nd\udce9.csv"], reason="x,\ny\u2028z", seconds=1, worker=0, attempts=1)
    logs.finished("Failed", [], ["c\r\nd\udce9.csv"])
    with open(Path(logs.folder) / "sys/job_report/processed_mini-batches.csv", newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["first_file"], row["last_file"], row["error"]) == ('a,"b".csv', "c d\\udce9.csv", "x, y z")
    assert lines(logs, "job_result.txt")[-1] == "  c d\\udce9.csv"


def test_torn_line_is_ended(logs: JobLogs, tmp_path: Path, clock: Clock) -> None:
    """The first row of a run does not continue a row that a killed run left unfinished."""
    story(logs, clock)
    report = tmp_path / "logs/sys/job_report/processed_mini-batches.csv"
    report.write_text(report.read_text()[:-20])
    second = JobLogs.at(str(tmp_path / "logs"), clock=clock)
    second.mini_batch_done(9, ["z.csv"], items=1, failed=0, seconds=1, worker=0, attempts=1)
    second.finished("Completed", [], [])
    assert [line.split(",")[2] for line in report.read_text().splitlines()] == ["mini_batch", "0", "1", "2", "9"]


def test_other_header_is_followed_by_ours(tmp_path: Path, clock: Clock) -> None:
    """A report that another version wrote keeps its rows, and ours get their header."""
    report = tmp_path / "sys/job_report/processed_mini-batches.csv"
    report.parent.mkdir(parents=True)
    report.write_text("number,result\n1,fine\n")
    logs = JobLogs.at(str(tmp_path), clock=clock)
    logs.mini_batch_done(9, ["z.csv"], items=1, failed=0, seconds=1, worker=0, attempts=1)
    logs.finished("Completed", [], [])
    assert report.read_text().splitlines()[:2] == ["number,result", "1,fine"]
    assert report.read_text().splitlines()[2].startswith("run,ended,mini_batch")


def test_progress_speaks_every_ten_seconds(logs: JobLogs, clock: Clock) -> None:
    """The overview has the first, the last and no two within ten seconds."""
    for second in range(35):
        clock.now = NOON + second
        logs.progress(40, second, 0, -1, 40.0 - second)
    logs.finished("Canceled", [], [])
    told = [line.split()[2] for line in lines(logs, "job_progress_overview.txt") if "processed=" in line]
    assert told == ["processed=0", "processed=10", "processed=20", "processed=30", "processed=34"]


def test_progress_goes_on_when_the_clock_is_set_back(logs: JobLogs, clock: Clock) -> None:
    """An hour less on the clock is no hour of silence."""
    logs.progress(2, 0, 0, -1)
    clock.now -= 3600
    logs.progress(2, 1, 0, -1)
    clock.now += 1
    logs.progress(2, 1, 0, -1)
    assert [line[:20] for line in lines(logs, "job_progress_overview.txt")] == [
        "2026-03-01T12:00:00Z",
        "2026-03-01T11:00:00Z",
    ]


def test_text_waits_a_second(logs: JobLogs, clock: Clock) -> None:
    """What is told within a second is written together, at the next call after it."""
    logs.attempt_failed(0, 0, ["a.csv"], kind="error", reason="first")
    logs.attempt_failed(0, 1, ["b.csv"], kind="error", reason="second")
    clock.now += 0.5
    logs.progress(2, 0, 0, -1)
    before = texts(logs).get("user/error.txt", "")
    clock.now += 0.6
    logs.progress(2, 0, 0, -1)
    assert "second" not in before
    assert [line.rpartition("=")[2] for line in lines(logs, "user/error.txt")] == ["first", "second"]


def test_much_text_does_not_wait(logs: JobLogs) -> None:
    """Memory holds a megabyte of it at most."""
    logs.progress(1, 0, 0, -1)
    for number in range(5):
        logs.attempt_failed(0, number, ["a.csv"], kind="error", reason="big", detail=f"{number}" * 2**19)
    assert os.path.getsize(error_path(logs.folder, 0)) > 2**21


def test_same_traceback_is_written_once(logs: JobLogs) -> None:
    """A worker that fails alike on every file does not fill the disk; another worker's file has it too."""
    for number in range(3):
        logs.attempt_failed(number % 2, number, ["a.csv"], kind="error", reason="bad", detail=TRACEBACK)
    logs.finished("Failed", [], [])
    first, second = (Path(error_path(logs.folder, worker)).read_text() for worker in (0, 1))
    assert (first.count(TRACEBACK), second.count(TRACEBACK)) == (1, 1)
    assert first.endswith("a.csv\nbad\n(traceback as of the attempt before)\n\n")


def test_load_failure_has_no_mini_batch(logs: JobLogs) -> None:
    """A failing init() is an error of the script without a file."""
    logs.attempt_failed(0, -1, [], kind="load", reason="init() raised ValueError: no model", detail=TRACEBACK)
    logs.finished("Failed", [], [])
    line = "2026-03-01T12:00:00Z process000 kind=load reason=init() raised ValueError: no model"
    assert lines(logs, "user/error.txt") == [line]
    assert lines(logs, "job_error.txt")[0].endswith("no model; see user/error/0/process000.txt")


def test_many_files_and_causes_are_cut_short(logs: JobLogs) -> None:
    """One line names three files of a mini-batch; the summary tells a hundred causes apart, and counts all."""
    for number in range(150):
        logs.attempt_failed(0, number, ["a", "b", "c", "d", "e"], kind="error", reason=f"bad value {number}")
    logs.finished("Failed", [], [])
    assert "files=a, b, c and 2 more reason" in lines(logs, "user/error.txt")[0]
    summary = lines(logs, "job_error.txt")
    assert summary[100:102] == ["2026-03-01T12:00:00Z failed attempts: 150", "  50 x other reasons"]
    assert len(summary) == 100 + 2 + 100


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (NOTHING_SUCCEEDED, "No succeeded mini batch item returned from run()"),
        (threshold_exceeded(3, 2), "The number of failed files, 3, exceeds error_threshold 2"),
        (stalled(180.0), "No progress update in 180 seconds"),
    ],
    ids=["contract 4.2", "contract 5.4", "contract 5.5"],
)
def test_result_gives_the_reason_of_azure(logs: JobLogs, reason: str, expected: str) -> None:
    """A failed job says so in its first line and why in its second (contract 5.7)."""
    logs.finished("Failed", [reason], [])
    assert lines(logs, "job_result.txt")[:2] == ["Failed", f"reason: {expected}"]


FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")


@FULL
@pytest.mark.parametrize("name", ["user/error.txt", "job_result.txt.new", "readme.txt.new"])
def test_full_disk_stops_logging_and_is_told_once(tmp_path: Path, clock: Clock, told: list[str], name: str) -> None:
    """No space left: the job is told once, goes on, and nothing is raised."""
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).symlink_to("/dev/full")
    logs = JobLogs.at(str(tmp_path), notice=told.append, clock=clock)
    story(logs, clock)
    story(logs, clock)
    told_once = f"logs cannot be written to {tmp_path}: No space left on device; the job goes on without them"
    assert told == [told_once]


def test_folder_that_cannot_be_made_is_told_once(tmp_path: Path, clock: Clock, told: list[str]) -> None:
    """A file in the way of the folder does not stop the job."""
    (tmp_path / "file").write_text("")
    logs = JobLogs.at(str(tmp_path / "file/logs"), notice=told.append, clock=clock)
    story(logs, clock)
    assert told == [f"logs cannot be written to {tmp_path}/file/logs: Not a directory; the job goes on without them"]


def test_folder_that_vanishes_is_told_once(logs: JobLogs, clock: Clock, told: list[str]) -> None:
    """Nothing is raised where somebody removes the logs of a running job."""
    logs.began([])
    os.rename(logs.folder, f"{logs.folder}.gone")
    story(logs, clock)
    assert len(told) == 1


def test_hundred_thousand_mini_batches_are_cheap(tmp_path: Path) -> None:
    """A mini-batch costs microseconds: a file opened for each would take ten times as long."""
    logs = JobLogs.at(str(tmp_path))
    files = [f"{number}.csv" for number in range(10)]
    before = time.process_time()
    for number in range(100_000):
        logs.mini_batch_done(number, files, items=10, failed=0, seconds=0.1, worker=number % 4, attempts=1)
        logs.progress(100_000, number, 0, -1, 1.0)
    logs.finished("Completed", [], [])
    assert time.process_time() - before < 4.0
    assert len(lines(logs, "sys/job_report/processed_mini-batches.csv")) == 100_001


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with temporary files below it."""
    (tmp_path / "cwd").mkdir()
    (tmp_path / "temporary").mkdir()
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return tmp_path


@pytest.mark.parametrize(
    ("job_folder", "environ", "expected"),
    [
        pytest.param("job", {}, "cwd/job/logs", id="beside the job"),
        pytest.param("job", {"AZUREML_RUN_ID": "r"}, "cwd/logs", id="in a job of Azure ML"),
        pytest.param("job", {"AZUREML_RUN_ID": ""}, "cwd/job/logs", id="variable empty"),
        pytest.param("../file", {}, "temporary/scoreline-logs-", id="job folder not writable"),
        pytest.param("abfss://f@a.dfs.core.windows.net/x", {}, "temporary/scoreline-logs-", id="job folder remote"),
        pytest.param("", {}, "temporary/scoreline-logs-", id="no job folder"),
    ],
)
def test_default_folder(elsewhere: Path, job_folder: str, environ: dict[str, str], expected: str) -> None:
    """The logs lie where Azure ML uploads them, else beside the job, else where something can be written."""
    folder = default_logs(job_folder, environ)
    assert folder.startswith(str(elsewhere / expected))
    assert os.listdir(folder) == []


def test_default_folder_in_azure_falls_back(elsewhere: Path) -> None:
    """A ./logs that cannot be written gives way to the job's folder."""
    (elsewhere / "cwd/logs").write_text("")
    assert default_logs("job", {"AZUREML_RUN_ID": "r"}) == str(elsewhere / "cwd/job/logs")


def test_default_folder_is_told_where_nothing_is_writable(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    """Even then no error is raised: the logs say that they cannot be written."""
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere / "file"))
    folder = default_logs(str(elsewhere / "file"), {})
    JobLogs.at(folder, notice=told.append)
    assert folder == str(elsewhere / "file/logs")
    assert len(told) == 1
