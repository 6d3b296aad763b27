"""The score file: claimed by one driver, published whole or not at all, whatever happens between two steps."""

from __future__ import annotations

import json
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import OutputBusyError, OutputError
from runtime.parts import LocalParts, PartKey
from runtime.score_file import IfExists, Published, ScoreFile
from tests.faults.poor_disk.sitecustomize import install
from tests.thorough import usual

HEADER = b"row,prediction,file\n"
PARTS = [b"0,1,a.csv\n1,0,a.csv\n", b"", b"2,1,a.csv\n"]
"""Score bytes; a part without any is its quarantine alone."""
WHOLE = HEADER + b"".join(PARTS)
LOST = b'{"row": 7}\n'
MINE, OTHERS = "11" * 32, "22" * 32


def stage(output: ScoreFile, parts: Sequence[bytes] = PARTS, fingerprint: str = MINE) -> list[tuple[str, int]]:
    """Stage parts as workers do; return them in plan order."""
    staged = []
    for place, data in enumerate(parts):
        writer = LocalParts(str(output.parts), output.abilities).begin()
        writer.write(data)
        key = PartKey(
            fingerprint=bytes.fromhex(fingerprint)[:6], name_digest=b"name", start=place, length=1, rows=2, lines=2,
            identity=b"iden", input_digest=b"indigest", crc=zlib.crc32(data), nonce=writer.nonce,
            quarantine=not data, unscored=not data,
        ).encode()  # fmt: skip
        writer.commit(key, quarantine=b"" if data else LOST, account=b"")
        staged.append((key, len(data)))
    return staged


def complete(output: ScoreFile, mode: IfExists = "fail", fingerprint: str = MINE) -> Published:
    """Publish what is staged, in the order it was staged in, and write the receipt."""
    found = output.staged(bytes.fromhex(fingerprint)[:6])
    parts = [(text, size_bytes) for key, text, size_bytes in sorted(found, key=lambda each: each[0].start)]
    published = output.publish(header=HEADER, parts=parts, mode=mode, fingerprint=fingerprint)
    output.finish({"fingerprint": fingerprint, "output": {"size_bytes": published.size_bytes}, "appended": []})
    return published


@pytest.fixture
def output(tmp_path: Path) -> ScoreFile:
    """Return a claimed output with a job and its parts."""
    score = ScoreFile(str(tmp_path / "score"), "predictions.csv")
    score.claim()
    score.record_job({"fingerprint": MINE})
    return score


def test_published_file_is_its_parts_in_order(output: ScoreFile) -> None:
    """The header comes first, then the parts; sizes and checksums are those of the file; the staging folder is gone."""
    stage(output)
    published = complete(output)
    assert output.path.read_bytes() == WHOLE
    assert len(WHOLE) == published.size_bytes
    assert zlib.crc32(WHOLE) == published.crc32
    assert published.base_bytes == 0
    assert output.quarantine_path.read_bytes() == LOST
    assert sorted(os.listdir(output.folder)) == sorted(
        ["predictions.csv", "_predictions.receipt.json", "_predictions.quarantine.jsonl"]
    )


def test_published_files_may_be_read_by_others(output: ScoreFile) -> None:
    """They have the rights that the umask gives to any new file."""
    before = os.umask(0o027)
    try:
        stage(output)
        complete(output)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in output.folder.iterdir()}
    assert modes == dict.fromkeys(modes, 0o640)


@pytest.mark.parametrize(
    ("mode", "base", "expected"),
    [
        ("overwrite", b"old\n", WHOLE),
        ("overwrite", b"", WHOLE),
        ("append", HEADER + b"9,9,b.csv\n", HEADER + b"9,9,b.csv\n" + b"".join(PARTS)),
        ("append", HEADER + b"9,9,b.csv", HEADER + b"9,9,b.csv\n" + b"".join(PARTS)),
        ("append", HEADER, WHOLE),
        ("append", b"", WHOLE),
    ],
)
def test_file_that_is_there_is_replaced_or_continued(
    output: ScoreFile, mode: IfExists, base: bytes, expected: bytes
) -> None:
    """Appended rows begin on a line of their own and repeat no header; checksums are of the whole file."""
    output.path.write_bytes(base)
    stage(output)
    published = complete(output, mode)
    assert expected == output.path.read_bytes()
    assert (len(expected), zlib.crc32(expected)) == (published.size_bytes, published.crc32)
    assert published.base_bytes == (len(base) if mode == "append" else 0)


def test_quarantine_of_before_is_continued_or_goes(output: ScoreFile) -> None:
    """Appending keeps the lines that are there; overwriting without a lost row removes them."""
    output.path.write_bytes(HEADER)
    output.quarantine_path.write_bytes(b'{"row": 1}\n')
    stage(output)
    complete(output, "append")
    assert output.quarantine_path.read_bytes() == b'{"row": 1}\n' + LOST
    output.claim()
    stage(output, [b"0,1,a.csv\n"])
    complete(output, "overwrite")
    assert not output.quarantine_path.exists()


@pytest.mark.parametrize("base", [b"row,score,file\n0,1,a.csv\n", b"row,prediction\n", b"row,prediction,file", b"x"])
def test_append_refuses_another_header(output: ScoreFile, base: bytes) -> None:
    """One file never has rows of two kinds."""
    output.path.write_bytes(base)
    stage(output)
    with pytest.raises(OutputError, match=r"has another header than the rows to append \(row,prediction,file\)"):
        complete(output, "append")
    output.release()
    assert base == output.path.read_bytes()


def test_file_that_appears_meanwhile_is_not_replaced(output: ScoreFile) -> None:
    """Between the plan and the publication the file may have come from somewhere else: it stays."""
    stage(output)
    output.path.write_bytes(b"somebody's")
    with pytest.raises(OutputError, match="exists by now; nothing was published"):
        complete(output)
    output.release()
    assert output.path.read_bytes() == b"somebody's"


def test_file_that_changes_meanwhile_is_not_replaced(output: ScoreFile) -> None:
    """A file that is no longer the one to be replaced or continued stays as it is."""
    output.path.write_bytes(HEADER)
    parts = stage(output)
    output.publish(header=HEADER, parts=parts, mode="append", fingerprint=MINE)
    output.path.write_bytes(HEADER + b"changed\n")
    with pytest.raises(OutputError, match="was changed by something else while this job ran"):
        output.publish(header=HEADER, parts=parts, mode="append", fingerprint=MINE)
    output.release()
    assert output.path.read_bytes() == HEADER + b"changed\n"


def test_part_that_became_shorter_is_noticed(output: ScoreFile) -> None:
    """A part that lost bytes on disk is never published."""
    parts = stage(output, [b"0,1,a.csv\n" * 10])
    os.truncate(output.parts / parts[0][0], 7)
    with pytest.raises(OutputError, match="its parts changed after they were staged; run again"):
        output.publish(header=HEADER, parts=parts, mode="fail", fingerprint=MINE)
    output.release()
    assert not output.path.exists()


def test_part_that_lost_bytes_is_scored_anew(output: ScoreFile) -> None:
    """After the machine went down, a part may lack bytes, or hold others: it counts as not staged."""
    parts = stage(output, [b"0,1,a.csv\n" * 10, b"0,1,b.csv\n" * 10, b"0,1,c.csv\n"])
    os.truncate(output.parts / parts[0][0], 7)
    (output.parts / parts[1][0]).write_bytes(bytes(100))
    found = [text for _, text, _ in output.staged(bytes.fromhex(MINE)[:6])]
    output.release()
    assert found == [parts[2][0]]


@pytest.mark.parametrize("appeared", [False, True])
def test_plan_of_another_input_is_void(output: ScoreFile, appeared: bool) -> None:
    """Killed while publishing, then given other input under the same settings: the new rows are appended."""
    output.path.write_bytes(HEADER)
    before = stage(output, [b"0,1,a.csv\n"])
    output.publish(header=HEADER, parts=before, mode="append", fingerprint=MINE)
    if not appeared:
        # a new file with the bytes of before is another version: as if the kill had come a step earlier
        stage_only = json.loads((output.staging_folder / "publish.json").read_text())
        output.path.write_bytes(HEADER)
        status = output.path.stat()
        stage_only["base"] = {
            "size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "inode": status.st_ino,
        }  # fmt: skip
        (output.staging_folder / "publish.json").write_text(json.dumps(stage_only))
    after = stage(output, [b"0,0,b.csv\n", b"1,0,b.csv\n"])
    published = output.publish(header=HEADER, parts=after, mode="append", fingerprint=MINE)
    output.finish({})
    base = HEADER + b"0,1,a.csv\n" if appeared else HEADER
    assert base + b"0,0,b.csv\n1,0,b.csv\n" == output.path.read_bytes()
    assert zlib.crc32(output.path.read_bytes()) == published.crc32


@pytest.fixture
def poor(tmp_path: Path, refused: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take abilities from the disk of this test's folder."""
    install({"below": str(tmp_path), "refused": refused}, monkeypatch.setattr)
    yield
    monkeypatch.undo()


@dataclass(frozen=True, slots=True)
class Step:
    """A change to the disk that was about to be made when the process was killed."""

    event: str
    path: str


CHANGES = {"os.rename", "os.link", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}


def killed_at(step: int, work: Callable[[], object]) -> Step | None:
    """Do some work in a child process that dies before its n-th change to the disk; None where it comes to its end.

    A write is half done then.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        left = step
        real_write, real_copy = os.write, os.copy_file_range

        def is_last(what: object) -> bool:
            nonlocal left
            # what is tried with the disk has its own tests
            left -= "/probe-" not in str(what)
            return left == 0 and "/probe-" not in str(what)

        def name_of(descriptor: int) -> str:
            return os.readlink(f"/proc/self/fd/{descriptor}")

        def die(event: str, what: object) -> None:
            real_write(writer, json.dumps([event, str(what)]).encode())
            os._exit(9)

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            wrote = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if (event in CHANGES or wrote) and is_last(arguments[0]):
                die(event, arguments[0])

        def write(descriptor: int, data: bytes) -> int:
            if is_last(name_of(descriptor)):
                real_write(descriptor, data[: len(data) // 2])
                die("write", name_of(descriptor))
            return real_write(descriptor, data)

        def copy(source: int, target: int, count: int) -> int:
            if is_last(name_of(target)):
                real_copy(source, target, count // 2)
                die("copy", name_of(target))
            return real_copy(source, target, count)

        status = 1
        with suppress(BaseException):
            os.write, os.copy_file_range = write, copy  # type: ignore[assignment]  # it is this child's alone
            sys.addaudithook(watch)
            work()
            status = 0
        os._exit(status)
    os.close(writer)
    _, status = os.waitpid(pid, 0)
    with open(reader, "rb") as pipe:
        told = pipe.read()
    assert os.waitstatus_to_exitcode(status) == (9 if told else 0), "the work itself failed"
    return Step(*json.loads(told)) if told else None


MODES: list[tuple[IfExists, bytes | None, bytes]] = [
    ("fail", None, WHOLE),
    ("overwrite", HEADER + b"9,9,b.csv\n", WHOLE),
    ("append", HEADER + b"9,9,b.csv\n", HEADER + b"9,9,b.csv\n" + b"".join(PARTS)),
]
DISKS: list[dict[str, str]] = [{}, {"replace": "EPERM"}, {"rename": "ENOSYS", "link": "EPERM"}]
KILLED = [(*mode, refused) for mode in MODES for refused in DISKS]
USUALLY_KILLED = {("append", "replace"), ("fail", "rename"), ("overwrite", "rename")}
"""The others are like these, or like those of tests/score_contract.py on a good disk."""


@pytest.mark.parametrize(
    ("mode", "base", "expected", "refused"),
    usual(KILLED, seldom=[each for each in KILLED if (each[0], next(iter(each[3]), "")) not in USUALLY_KILLED]),
)
@pytest.mark.usefixtures("poor")
def test_publication_killed_at_any_step_goes_on(
    tmp_path: Path, mode: IfExists, base: bytes | None, expected: bytes, refused: dict[str, str]
) -> None:
    """Killed before any one change to the disk, the file is as before or whole; the same again completes it, once.

    Where nothing appears in one step, there may be a torn file until then.
    """
    steps = []
    torn = 0
    while not steps or steps[-1] is not None:
        output = ScoreFile(str(tmp_path / str(len(steps))), "predictions.csv")
        output.folder.mkdir()
        if base is not None:
            output.path.write_bytes(base)
            output.quarantine_path.write_bytes(LOST)
            output.receipt_path.write_text('{"appended": [{"offset": 0}]}')
        output.claim()
        output.record_job({"fingerprint": MINE})
        stage(output)
        output.release()

        def work(output: ScoreFile = output) -> None:
            output.claim()
            complete(output, mode)

        steps.append(killed_at(len(steps) + 1, work))
        now = output.path.read_bytes() if output.path.exists() else None
        torn += now not in (base, expected)
        assert now in (base, expected) or (refused and expected.startswith(now or b"")), steps[-1]
        finished = (output.receipt() or {}).get("fingerprint") == MINE
        assert not finished or now == expected, steps[-1]
        if not finished:
            work()
            assert expected == output.path.read_bytes(), steps[-1]
            assert LOST * (2 if mode == "append" else 1) == output.quarantine_path.read_bytes(), steps[-1]
            assert (output.receipt() or {})["fingerprint"] == MINE
        else:
            output.claim()
            output.forget(MINE)
            output.release()
        assert not output.staging_folder.exists(), steps[-1]
    assert len(steps) > 20
    assert (torn > 0) == bool(refused and (base is not None or "rename" in refused))


def test_claim_keeps_others_out(output: ScoreFile) -> None:
    """A second driver is told at once who holds the output; when that one is gone, it may have it."""
    second = ScoreFile(str(output.folder), "predictions.csv")
    with pytest.raises(OutputBusyError, match=rf"another driver holds this output \(process {os.getpid()} on .+\)"):
        second.claim()
    output.release()
    second.claim()
    second.release()


def test_claim_that_a_script_removed_is_told(output: ScoreFile) -> None:
    """What is staged lies in the output folder, which some scripts empty: nothing is published without it."""
    shutil.rmtree(output.staging_folder)
    with pytest.raises(OutputBusyError, match="a scoring script that emptied AZUREML_BI_OUTPUT_PATH"):
        output.publish(header=HEADER, parts=[], mode="fail", fingerprint=MINE)
    assert not output.path.exists()


def test_claim_of_another_name_is_another_claim(output: ScoreFile) -> None:
    """Two score files in one folder are two outputs."""
    second = ScoreFile(str(output.folder), "other.csv")
    second.claim()
    second.release()
    output.release()


def test_claim_clears_what_a_kill_left(output: ScoreFile) -> None:
    """Parts that were never finished, and decoded input, belong to nobody any more."""
    stage(output)
    (output.parts / ".28-a36df6").write_bytes(b"0,1,a.cs")
    (output.spool / "00000001").write_bytes(b"x")
    output.release()
    output.claim()
    assert [path.name for path in output.parts.iterdir() if path.name.startswith(".")] == []
    assert list(output.spool.iterdir()) == []
    assert len(output.staged(bytes.fromhex(MINE)[:6])) == len(PARTS)
    output.release()


def test_claim_that_staged_nothing_leaves_nothing(tmp_path: Path) -> None:
    """An output for which nothing was scored is as if nobody had claimed it, folders made for it included."""
    score = ScoreFile(str(tmp_path / "scoreline" / "job" / "score"), "predictions.csv")
    score.claim()
    score.record_job({"fingerprint": MINE})
    score.release()
    assert list(tmp_path.iterdir()) == []


def test_claim_that_staged_nothing_leaves_folders_of_others(tmp_path: Path) -> None:
    """A folder that was there stays."""
    score = ScoreFile(str(tmp_path / "score"), "predictions.csv")
    score.folder.mkdir()
    score.claim()
    score.release()
    assert [path.name for path in tmp_path.iterdir()] == ["score"]
    assert list(score.folder.iterdir()) == []


def test_staged_parts_are_those_that_are_whole(output: ScoreFile) -> None:
    """A part without the quarantine it names, of another job, or with no name of a part, is none."""
    kept, lone, _ = stage(output)
    stage(output, fingerprint=OTHERS)
    (output.parts / "junk").write_bytes(b"")
    (output.parts / "x.quarantine").write_bytes(b"")
    without = PartKey.decode(kept[0])
    assert without is not None
    torn = PartKey.decode(lone[0])
    assert torn is not None
    (output.parts / (lone[0] + ".quarantine")).unlink()
    names = [text for _, text, _ in output.staged(bytes.fromhex(MINE)[:6])]
    output.release()
    assert kept[0] in names
    assert lone[0] not in names
    assert len(names) == len(PARTS) - 1


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[1]", b'"text"'])
@pytest.mark.parametrize("name", ["job.json", "receipt"])
def test_damaged_record_is_an_error_that_says_what_to_do(output: ScoreFile, name: str, content: bytes) -> None:
    """Nobody's work is thrown away because of a file that cannot be understood."""
    path = output.receipt_path if name == "receipt" else output.staging_folder / name
    path.write_bytes(content)
    with pytest.raises(OutputError, match="is damaged; move it away, or use --restart"):
        _ = output.receipt() if name == "receipt" else output.job()
    path.unlink()
    output.release()


@pytest.mark.parametrize(
    ("name", "receipt"),
    [("predictions.csv", "_predictions"), ("scores", "_scores"), (".hidden", "_.hidden"), ("a.b.c", "_a.b")],
)
def test_names_beside_the_score_file(tmp_path: Path, name: str, receipt: str) -> None:
    """What belongs to a score file is named after it, with an underscore that keeps data-lake readers away."""
    score = ScoreFile(str(tmp_path), name)
    assert score.receipt_path.name == f"{receipt}.receipt.json"
    assert score.quarantine_path.name == f"{receipt}.quarantine.jsonl"
    assert score.staging_folder.name == f".{name}.staging"
