"""Disks that lack what others have, or fail: the same bytes in another way, or one sentence."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import runtime.claim as claiming
from runtime.disk_abilities import DiskAbilities, find_abilities, lacks_text
from runtime.errors import OutputBusyError, OutputError
from runtime.parts import LocalParts
from runtime.receipt_check import check_receipt
from runtime.score_file import IfExists, ScoreFile
from tests.faults import poor_disk
from tests.faults.poor_disk.sitecustomize import CALLS, install
from tests.faults.script_jobs import ScriptJob
from tests.runtime.test_score_file import LOST, MINE, PARTS, WHOLE, complete, stage
from tests.thorough import usual

ERRNOS = ("ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EINVAL", "EPERM", "EIO")
NAMED = {
    "link": "hard links", "rename": "rename", "replace": "rename over a file", "fsync": "fsync",
    "fsync folder": "fsync of a folder", "flock": "flock", "copy_file_range": "copy_file_range",
    "O_EXCL": "exclusive creation", "dot": "names that begin with a dot", "remove open": "removing open files",
}  # fmt: skip
FATAL = {("rename", "EIO"), ("replace", "EIO"), ("fsync", "EIO"), ("fsync folder", "EIO"), ("flock", "EIO"),
         ("O_EXCL", "EIO"), ("dot", "EIO")}  # fmt: skip
"""Where an I/O error is one of the disk; what is not needed is done without, whatever is said when it is tried."""
ALL = {"link": "EPERM", "rename": "ENOSYS", "fsync": "EINVAL", "fsync folder": "EINVAL", "flock": "ENOSYS",
       "copy_file_range": "EOPNOTSUPP", "O_EXCL": "EINVAL", "dot": "EINVAL", "remove open": "EBUSY"}  # fmt: skip


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return a function that takes abilities from the disk of this test's folder."""

    def poor(**rules: Any) -> None:
        install({"below": str(tmp_path), **rules}, monkeypatch.setattr)

    yield poor
    monkeypatch.undo()


def output_in(folder: Path, name: str = "predictions.csv") -> ScoreFile:
    """Return an output that nobody has claimed."""
    return ScoreFile(str(folder), name)


def published(output: ScoreFile, mode: IfExists = "fail") -> None:
    """Claim, stage as workers of this disk do, publish."""
    output.claim()
    try:
        output.record_job({"fingerprint": MINE})
        stage(output, PARTS)
        complete(output, mode)
    finally:
        output.release()


@pytest.mark.parametrize("code", ERRNOS)
@pytest.mark.parametrize("call", CALLS)
def test_each_call_refused_is_done_without_or_said(
    tmp_path: Path, disk: Callable[..., None], call: str, code: str
) -> None:
    """Each call refused by each error: the same files and a notice that names it; or one sentence."""
    disk(refused={call: code})
    output = output_in(tmp_path / "score")
    if (call, code) in FATAL:
        with pytest.raises(OutputBusyError) as caught:
            published(output)
        assert "cannot be written: Input/output error; what is staged is kept, run again to go on" in str(caught.value)
        assert "\n" not in str(caught.value)
        return
    expected: dict[IfExists, bytes] = {"fail": WHOLE, "overwrite": WHOLE, "append": WHOLE + b"".join(PARTS)}
    for mode, whole in expected.items():
        published(output, mode)
        assert output.path.read_bytes() == whole
        assert output.quarantine_path.read_bytes() == LOST * (2 if mode == "append" else 1)
        (notice,) = output.notices
        assert notice.startswith(f"the output's file system lacks {NAMED[call]}: ")
        assert sorted(os.listdir(output.folder)) == [
            "_predictions.quarantine.jsonl", "_predictions.receipt.json", "predictions.csv",
        ]  # fmt: skip


def test_disk_that_can_nothing(tmp_path: Path, disk: Callable[..., None]) -> None:
    """All of it at once: the notice names all, and what is published is the same."""
    disk(refused=ALL)
    output = output_in(tmp_path / "score")
    modes: tuple[IfExists, ...] = ("fail", "overwrite", "append")
    for mode in modes:
        published(output, mode)
    assert output.path.read_bytes() == WHOLE + b"".join(PARTS)
    assert output.quarantine_path.read_bytes() == LOST * 2
    (notice,) = output.notices
    assert notice == (
        "the output's file system lacks flock, exclusive creation, rename, hard links, fsync, fsync of a folder, "
        "copy_file_range, names that begin with a dot, removing open files: a driver that dies on another machine "
        "holds this output for two minutes; the score file is copied into place, so read it only when its receipt is "
        "there; after a power failure hold what was published against its receipt (scoreline receipt check)"
    )
    assert len(os.listdir(output.folder)) == 3


def test_good_disk_is_not_spoken_of(tmp_path: Path) -> None:
    """There is no notice, and nothing is left of what was tried."""
    output = output_in(tmp_path / "score")
    output.claim()
    assert (output.abilities, output.notices) == (DiskAbilities(), ())
    assert sorted(os.listdir(output.staging_folder)) == ["lock", "parts", "spool", "work"]
    assert os.listdir(output.parts) == []
    output.release()


@pytest.mark.parametrize(
    ("limit", "name", "says"),
    [
        (60, "predictions.csv", "its file system does not take names of 75 bytes, which Scoreline needs"),
        (143, f"{'n' * 140}.csv", "choose a shorter --output-file-name"),
        (255, f"{'n' * 240}.csv", "choose a shorter --output-file-name"),
        (255, f"{'n' * 280}.csv", "choose a shorter --output-file-name"),
    ],
)
def test_names_too_long_are_one_sentence(
    tmp_path: Path, disk: Callable[..., None], limit: int, name: str, says: str
) -> None:
    """Before any work it is said that a name is too long, and what to do; nothing is left."""
    disk(name_bytes=limit)
    output = output_in(tmp_path / "score", name)
    with pytest.raises(OutputError) as caught:
        output.claim()
    output.release()
    assert says in str(caught.value)
    assert type(caught.value) is OutputError
    assert not output.staging_folder.exists() if len(name) < 200 else True
    assert list(tmp_path.iterdir()) == []


def test_short_names_are_enough(tmp_path: Path, disk: Callable[..., None]) -> None:
    """143 bytes, which is what an encrypted home folder takes, are enough for any part."""
    disk(name_bytes=143)
    output = output_in(tmp_path / "score")
    published(output)
    assert (output.path.read_bytes(), output.notices) == (WHOLE, ())


def test_letters_that_are_changed_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that gives names back in capitals could not give back the keys of parts."""
    monkeypatch.setattr(os, "listdir", lambda path, real=os.listdir: [name.upper() for name in real(path)])
    output = output_in(tmp_path)
    with pytest.raises(OutputError, match="its file system changes the letters of file names"):
        output.claim()
    monkeypatch.undo()
    output.release()


def poor_run(folder: Path, rules: dict[str, Any], *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command whose processes, all of them, see a poor disk."""
    path = os.pathsep.join([os.path.dirname(poor_disk.__path__[0]) + "/poor_disk", os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    if rules:
        environment["SCORELINE_TEST_DISK"] = json.dumps({"below": str(folder), **rules})
    return subprocess.run(
        [sys.executable, "-m", "runtime.cli", *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


SCRIPT = """
def init():
    pass
def run(mini_batch):
    if mini_batch[0].endswith("3.txt"):
        raise ValueError("no prediction")
    return [open(path).read() for path in mini_batch]
"""
DEPLOYMENT = """
name: poor
endpoint_name: poor
type: model
model: {path: model, type: custom_model}
code_configuration: {code: code, scoring_script: score.py}
environment: {image: none}
compute: azureml:none
settings: {mini_batch_size: 1, max_concurrency_per_instance: 2, error_threshold: -1, retry_settings: {max_retries: 0}}
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Return a job of six mini-batches with a scoring script, which begins in a moment; one of them fails."""
    folder = tmp_path_factory.mktemp("job")
    for name in ("in", "model", "code"):
        (folder / name).mkdir()
    (folder / "code/score.py").write_text(SCRIPT)
    (folder / "deployment.yml").write_text(DEPLOYMENT)
    for number in range(6):
        (folder / f"in/{number}.txt").write_text(f"{number} scored")
    return ["run", folder / "deployment.yml", "--input", folder / "in", "--logs", folder / "logs"]


@pytest.fixture(scope="module")
def model_job(
    tmp_path_factory: pytest.TempPathFactory, heart_model: Path, heart_rows: Callable[..., Path]
) -> list[object]:
    """Return a job of two files, one with a row that does not fit, and of six mini-batches."""
    data = tmp_path_factory.mktemp("in")
    for number in (1, 2):
        lines = heart_rows(3_000, number).read_text().splitlines()
        lines[5:5] = ["1,2"] * (number - 1)
        (data / f"{number}.csv").write_text("\n".join(lines))
    return [
        "run", "--model", heart_model, "--input", data, "--chunk-rows", 1024, "--cells-per-mini-batch", 1,
        "--workers", 2,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, job: list[object]) -> dict[str, bytes]:
    """Return what the job writes on a good disk."""
    folder = tmp_path_factory.mktemp("calm")
    outcome = poor_run(folder, {}, *job, "--output", folder)
    assert (outcome.returncode, "file system lacks" in outcome.stderr) == (0, False)
    return scores(folder)


def scores(folder: Path) -> dict[str, bytes]:
    """Read what is published, but for the receipt."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if "receipt" not in path.name}


LACKS = [
    {call: code}
    for call, code in zip(
        CALLS,
        ("EPERM", "ENOSYS", "EPERM", "EOPNOTSUPP", "EINVAL", "ENOSYS", "EOPNOTSUPP", "EINVAL", "EPERM", "EBUSY"),
        strict=True,
    )
]


ALIKE = [each for each in LACKS if not {"rename", "replace", "link", "flock"} & each.keys()]


@pytest.mark.parametrize("refused", usual([*LACKS, ALL], seldom=ALIKE), ids="+".join)
def test_job_on_a_poor_disk(tmp_path: Path, job: list[object], calm: dict[str, bytes], refused: dict[str, str]) -> None:
    """Driver, scanner and workers alike: the bytes are those of a good disk, and the receipt is true."""
    check_on_a_poor_disk(tmp_path, job, calm, refused)


def test_model_on_a_poor_disk(tmp_path: Path, model_job: list[object]) -> None:
    """So it is where rows are scored."""
    outcome = poor_run(tmp_path, {}, *model_job, "--output", tmp_path / "calm")
    assert outcome.returncode == 0, outcome.stderr
    check_on_a_poor_disk(tmp_path, model_job, scores(tmp_path / "calm"), ALL)


def check_on_a_poor_disk(tmp_path: Path, job: list[object], calm: dict[str, bytes], refused: dict[str, str]) -> None:
    """Run a job on a disk that refuses some calls, and give the same command again."""
    output = tmp_path / "score"
    outcome = poor_run(output, {"refused": refused}, *job, "--output", output)
    assert outcome.returncode == 0, outcome.stderr
    assert scores(output) == calm
    assert check_receipt(output).errors == ()
    for call in refused:
        assert NAMED[call] in outcome.stderr.partition("the output's file system lacks ")[2]
    again = poor_run(output, {"refused": refused}, *job, "--output", output)
    assert again.returncode == 0
    assert "already complete, nothing to do" in again.stderr


FAILING = {
    "worker begins a part": ["create", "EIO", "/parts/.", 1],
    "worker ends a part": ["rename", "EIO", "/parts/.", 1],
    "plan to publish": ["create", "EIO", "publish.json", 0],
    "join": ["write", "EIO", "/joined", 1],
    "joined made durable": ["fsync", "EIO", "/joined", 0],
    "appear": ["link", "EIO", "/joined", 0],
    "disk full": ["write", "ENOSPC", "/joined", 1],
    "folder made durable": ["fsync folder", "EIO", "/score", 2],
    "receipt": ["fsync", "EIO", "receipt.json", 0],
}


@pytest.mark.parametrize(
    "moment", usual(FAILING, seldom=["plan to publish", "joined made durable", "folder made durable"])
)
def test_disk_that_fails_later(tmp_path: Path, job: list[object], calm: dict[str, bytes], moment: str) -> None:
    """The job ends with 75 and keeps what is staged; once the disk is well, the same command completes it."""
    output = tmp_path / "score"
    rules = {"failing": FAILING[moment], "refused": {"copy_file_range": "EIO"}}
    outcome = poor_run(output, rules, *job, "--output", output)
    assert outcome.returncode == 75, outcome.stderr
    last = outcome.stderr.splitlines()[-1]
    assert last.startswith("scoreline: ")
    assert last.endswith("what is staged is kept, run again to go on")
    assert "_predictions.receipt.json" not in os.listdir(output)
    assert scores_of_parts(output) > 0
    outcome = poor_run(output, {}, *job, "--output", output)
    assert outcome.returncode == 0, outcome.stderr
    assert "resuming: " in outcome.stderr
    assert scores(output) == calm
    assert check_receipt(output).errors == ()


def scores_of_parts(output: Path) -> int:
    """Count what is staged."""
    (parts,) = output.glob("*predictions.csv.staging/parts")
    return sum(len(path.name) == 64 for path in parts.iterdir())


HOLDER = """
import sys
from runtime.score_file import ScoreFile
output = ScoreFile(sys.argv[1], "predictions.csv")
output.claim()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Return another driver that holds the output, on a disk without locks."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([poor_disk.__path__[0], os.environ.get("PYTHONPATH", "")]),
        "SCORELINE_TEST_DISK": json.dumps({"below": str(tmp_path), "refused": {"flock": "ENOLCK"}}),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], env=environment, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("locks", [False, True])
def test_claim_without_locks(
    tmp_path: Path, disk: Callable[..., None], holder: subprocess.Popen[str], locks: bool
) -> None:
    """A file of its own keeps others out, even those that have locks, as long as its driver lives."""
    disk(refused={} if locks else {"flock": "ENOLCK"})
    output = output_in(tmp_path)
    with pytest.raises(OutputBusyError, match=rf"another driver holds this output \(process {holder.pid} on .+\)$"):
        output.claim()
    output.release()
    holder.kill()
    holder.wait()
    output.claim()
    assert (output.staging_folder / "claim").exists() != locks
    output.release()
    assert list(tmp_path.iterdir()) == []


def test_lock_keeps_out_who_has_none(tmp_path: Path, disk: Callable[..., None]) -> None:
    """A driver whose locks are refused sees that of another."""
    first = output_in(tmp_path)
    first.claim()
    disk(refused={"flock": "ENOSYS"})
    with pytest.raises(OutputBusyError, match=rf"\(process {os.getpid()} on "):
        output_in(tmp_path).claim()
    first.release()


def test_two_that_claim_at_once(tmp_path: Path, disk: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both can create the file, only the last one has it, and the other is told."""
    disk(refused={"flock": "ENOSYS"})
    first, second = output_in(tmp_path), output_in(tmp_path)

    def settle(_: float, real: Callable[[float], None] = time.sleep) -> None:
        monkeypatch.setattr(time, "sleep", real)
        # the second did not see what the first has created
        (first.staging_folder / "claim").unlink()
        second.claim()

    monkeypatch.setattr(time, "sleep", settle)
    with pytest.raises(OutputBusyError, match="another driver took this output over"):
        first.claim()
    first.release()
    assert (second.staging_folder / "claim").exists()
    second.release()
    assert list(tmp_path.iterdir()) == []


def write_claim(output: ScoreFile, age_s: float, **changes: Any) -> None:
    """Leave the claim of another driver."""
    output.staging_folder.mkdir(parents=True)
    status = {"host": "elsewhere", "pid": 7, "boot": "another", "space": 1, "started": 1, **changes}
    (output.staging_folder / "claim").write_text(json.dumps(status))
    at = time.time() - age_s
    os.utime(output.staging_folder / "claim", (at, at))


def test_claim_of_another_machine_ends_with_time(tmp_path: Path, disk: Callable[..., None]) -> None:
    """It is kept while it is renewed, and said when it may be broken; then it is broken, and that is said."""
    disk(refused={"flock": "ENOSYS"})
    output = output_in(tmp_path)
    write_claim(output, 50)
    with pytest.raises(OutputBusyError, match=r"\(process 7 on elsewhere\); if it is gone, try again in (6\d|70) s$"):
        output.claim()
    at = time.time() - 130
    os.utime(output.staging_folder / "claim", (at, at))
    output.claim()
    assert re.fullmatch(
        r"process 7 on elsewhere held this output and has not said so for 1[34]\d s: taken over from it",
        output.notices[0],
    )
    output.release()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}'])
def test_claim_that_says_nothing(tmp_path: Path, disk: Callable[..., None], text: str) -> None:
    """A driver killed before it wrote its name is told by time alone."""
    disk(refused={"flock": "ENOSYS"})
    output = output_in(tmp_path)
    write_claim(output, 0)
    (output.staging_folder / "claim").write_text(text)
    with pytest.raises(OutputBusyError, match="its name is not known"):
        output.claim()
    os.utime(output.staging_folder / "claim", (1, 1))
    output.claim()
    output.release()


@pytest.mark.parametrize("refused", [{}, {"utime": "ENOSYS"}, {"utime": "ENOSYS", "overwrite": "EPERM"}])
def test_claim_is_renewed(
    tmp_path: Path, disk: Callable[..., None], monkeypatch: pytest.MonkeyPatch, refused: dict[str, str]
) -> None:
    """Whoever looks from another machine sees that its driver lives, on mounts that write whole files only, too."""
    monkeypatch.setattr(claiming, "RENEW_S", 0.01)
    disk(refused={"flock": "ENOSYS", **refused})
    output = output_in(tmp_path)
    output.claim()
    os.utime(output.staging_folder / "claim", (1, 1))
    deadline = time.monotonic() + 60
    while (output.staging_folder / "claim").stat().st_mtime < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (output.staging_folder / "claim").stat().st_mtime > 2
    output.release()


def test_mark_is_renewed_where_files_are_written_whole_only(tmp_path: Path, disk: Callable[..., None]) -> None:
    """Else a job that is killed for its memory would start with as many workers each time."""
    disk(refused={"overwrite": "EPERM"})
    output = output_in(tmp_path)
    output.claim()
    for mark in (b"four workers", b"two workers"):
        output.record_running(mark)
        assert output.running() == mark
    output.record_running(None)
    output.release()


@pytest.mark.parametrize("locks", [False, True])
def test_driver_that_lost_its_claim_publishes_nothing(tmp_path: Path, disk: Callable[..., None], locks: bool) -> None:
    """One that stood still while another took over learns of it before anything appears."""
    disk(refused={} if locks else {"flock": "ENOSYS"})
    output = output_in(tmp_path)
    output.claim()
    stage(output)
    name = "lock" if locks else "claim"
    (output.staging_folder / name).unlink()
    (output.staging_folder / name).write_text("{}")
    with pytest.raises(OutputBusyError, match="another driver took this output over"):
        complete(output)
    assert not output.path.exists()
    output.release()
    assert (output.staging_folder / name).read_text() == "{}"


def test_driver_that_lost_its_claim_stops(
    tmp_path: Path, disk: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Woken after another driver took over, a job ends instead of scoring on; what the other one writes stays."""
    disk(refused={"flock": "ENOSYS"})
    monkeypatch.setattr(claiming, "RENEW_S", 0.05)
    steals = """
        import os, pathlib, time
        def init():
            pass
        def run(names):
            parts = pathlib.Path(os.environ["STAGING"])
            (parts / "parts" / ".theirs").write_text("half a part of the other driver")
            # last and at once: from here on this process may be stopped at any moment
            mine = parts / f"claim-{os.getpid()}"
            mine.write_text("{}")
            mine.replace(parts / "claim")
            time.sleep(600)
        """
    job = ScriptJob(
        tmp_path, textwrap.dedent(steals), timeout_s=900.0,
        environment_variables=[("STAGING", str(tmp_path / "score/.predictions.csv.staging"))],
    )  # fmt: skip
    outcome = job.run()
    assert isinstance(outcome.error, OutputBusyError)
    assert "another driver took this output over" in str(outcome.error)
    staging = tmp_path / "score/.predictions.csv.staging"
    assert (staging / "claim").read_text() == "{}"
    assert (staging / "parts/.theirs").exists()


def test_stopped_holder_without_locks_is_named(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    """A driver that was stopped still holds the output, and that is said."""
    holder.send_signal(signal.SIGSTOP)
    while psutil.Process(holder.pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.001)
    with pytest.raises(OutputBusyError, match="which is stopped"):
        output_in(tmp_path).claim()
    holder.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("abilities", [DiskAbilities(), DiskAbilities(renames=False)], ids=["good", "poor"])
def test_late_orphan_cannot_stage(tmp_path: Path, abilities: DiskAbilities) -> None:
    """Whatever the disk can, a part of a folder that is gone fails."""
    with pytest.raises(FileNotFoundError):
        LocalParts(str(tmp_path / "parts"), abilities).begin()


def test_part_that_cannot_be_written_whole_is_not_there(tmp_path: Path, disk: Callable[..., None]) -> None:
    """Without rename, a disk that is full in the midst of a part leaves nothing of it."""
    writer = LocalParts(str(tmp_path), DiskAbilities(renames=False)).begin()
    writer.write(b"0,1,a.csv\n" * 10)
    disk(failing=["write", "ENOSPC", "/key", 0])
    with pytest.raises(OSError, match="No space left"):
        writer.commit("key", quarantine=b"", account=b"")
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_torn_part_without_rename_is_scored_anew(tmp_path: Path, disk: Callable[..., None]) -> None:
    """A part that was being written when its worker was killed has the name of a part, and not its bytes."""
    disk(refused={"rename": "ENOSYS"})
    output = output_in(tmp_path)
    output.claim()
    (key, size_bytes), *others = stage(output)
    os.truncate(output.parts / key, size_bytes // 2)
    found = [text for _, text, _ in output.staged(bytes.fromhex(MINE)[:6])]
    output.release()
    assert sorted(found) == sorted(text for text, _ in others)


def test_what_is_lacking_is_said_in_words() -> None:
    """Each has its name, and what it means where that matters to anybody."""
    assert lacks_text(DiskAbilities()) == ""
    harmless = "the output's file system lacks hard links: other ways are taken, with the same result"
    assert lacks_text(DiskAbilities(links=False)) == harmless
    both = lacks_text(DiskAbilities(renames=False, replaces=False))
    assert both.startswith("the output's file system lacks rename: the score file is copied into place")


def test_probe_says_which(tmp_path: Path, disk: Callable[..., None]) -> None:
    """Everything that is refused is found, and nothing else."""
    (tmp_path / "parts").mkdir()
    disk(refused=ALL)
    found = find_abilities(tmp_path, locks=False, hides=False, longest_name=75)
    lacks = dict.fromkeys(DiskAbilities.__slots__, False)
    assert found == DiskAbilities(**lacks)
    assert os.listdir(tmp_path) == ["parts"]


def test_what_is_lacking_is_in_the_documentation() -> None:
    """Each name that a notice has, and each of its meanings, is explained in docs/output.md."""
    text = (Path(__file__).parents[2] / "docs/output.md").read_text()
    for lacking in DiskAbilities.__slots__:
        names, _, meaning = (
            lacks_text(DiskAbilities(**{lacking: False}))
            .removeprefix("the output's file system lacks ")
            .partition(": ")
        )
        assert f"`{names}`" in text
        assert meaning.startswith("other ways") or meaning in text
