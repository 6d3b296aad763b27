"""What every output does: a suite of tests that take a place as a fixture, see `tests/test_score_contract.py`.

stage      a part is there whole or not at all; the same again is no second one; another attempt is another part
resume     a new driver finds what was staged, and what was recorded
discard    nothing of it counts, or is seen by a reader or a lister
publish    all or nothing, in plan order, in each mode; the receipt last; once, wherever it was killed
claim      one driver at a time; that of a process that died ends
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import pytest

from runtime.errors import OutputBusyError, OutputError
from runtime.parts import PartKey, account_bytes
from runtime.score_file import IfExists, Published
from scoring.cells import SliceAccount

NAME = "predictions.csv"
RECEIPT = "_predictions.receipt.json"
QUARANTINE = "_predictions.quarantine.jsonl"
HEADER = b"row,prediction,file\n"
PARTS = (b"0,1,a.csv\n1,0,a.csv\n", b"", b"2,1,a.csv\n")
"""Score bytes; a part without any is its quarantine alone."""
WHOLE = HEADER + b"".join(PARTS)
LOST = b'{"row": 7}\n'
MINE, OTHERS = "11" * 32, "22" * 32


class Place(Protocol):
    """A folder of some store.

    Attributes:
        stride: where a process is killed at any step, at each n-th of them.
    """

    stride: int

    def output(self) -> Any:
        """Return the output there, as a new driver has it."""
        ...

    def writer(self, output: Any) -> Any:
        """Begin a part, as a worker does."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Write a file there by other means."""
        ...

    def get(self, name: str) -> bytes | None:
        """Read a file there by other means."""
        ...

    def names(self) -> set[str]:
        """Return the first parts of the names that a lister sees there."""
        ...

    def watch(self, change: Callable[[str], None]) -> None:
        """Have each change to the store told before it is made, in this process, until it ends."""
        ...

    def last_words(self) -> bytes:
        """Return what a process must leave behind for its changes to be seen."""
        ...

    def listen(self, words: bytes) -> None:
        """Take what a process left behind."""
        ...


def key_of(data: bytes, nonce: bytes, place: int = 0, fingerprint: str = MINE, **flags: bool) -> str:
    """Name a part that covers the n-th byte of its input."""
    return PartKey(
        fingerprint=bytes.fromhex(fingerprint)[:6], name_digest=b"name", start=place, length=1, rows=2, lines=2,
        identity=b"iden", input_digest=b"indigest", crc=zlib.crc32(data), nonce=nonce,
        **{"quarantine": not data, "account": not data, "unscored": not data, **flags},
    ).encode()  # fmt: skip


def account_of(lost: bytes) -> bytes:
    """Write what became of a row that was lost."""
    account = SliceAccount(name="a.csv", start=0, stop=1, digest=bytes(8), rows=1, quarantined=1)
    return account_bytes([account], [("odd", 1)], lost)


def stage_one(place: Place, output: Any, data: bytes, start: int = 0, fingerprint: str = MINE) -> tuple[str, int]:
    """Stage a part as a worker does."""
    writer = place.writer(output)
    writer.write(data)
    key = key_of(data, writer.nonce, start, fingerprint)
    lost = b"" if data else LOST
    writer.commit(key, quarantine=lost, account=account_of(lost) if lost else b"")
    return key, len(data)


def stage(place: Place, output: Any, parts: Sequence[bytes] = PARTS) -> list[tuple[str, int]]:
    """Stage parts; return them in plan order."""
    return [stage_one(place, output, data, start) for start, data in enumerate(parts)]


def found(output: Any, fingerprint: str = MINE) -> list[tuple[str, int]]:
    """Return what is staged, in plan order."""
    staged = output.staged(bytes.fromhex(fingerprint)[:6])
    return [(text, size_bytes) for key, text, size_bytes in sorted(staged, key=lambda each: each[0].start)]


def complete(output: Any, mode: IfExists = "fail", parts: Sequence[tuple[str, int]] | None = None) -> Published:
    """Publish what is staged, in the order it was staged in, and write the receipt."""
    parts = found(output) if parts is None else parts
    published: Published = output.publish(header=HEADER, parts=parts, mode=mode, fingerprint=MINE)
    output.finish({"fingerprint": MINE, "output": {"size_bytes": published.size_bytes}, "appended": [{"offset": 0}]})
    return published


def claimed(place: Place, fingerprint: str = MINE) -> Any:
    """Claim the output, and record a job unless one is there."""
    output = place.output()
    output.claim()
    if output.job() is None:
        output.discard()
        output.record_job({"fingerprint": fingerprint})
    return output


def killed_at(place: Place, step: int, work: Callable[[], object]) -> str | None:
    """Do some work in a child process that dies before its n-th change to the store; None where it comes to its end."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        left = step

        def change(what: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                end(what)

        def end(what: str | None) -> None:
            with open(writer, "wb") as pipe:
                pipe.write(json.dumps(what).encode() + b"\n" + place.last_words())
            os._exit(9 if what else 0)

        with suppress(BaseException):
            place.watch(change)
            work()
            end(None)
        os._exit(1)
    os.close(writer)
    with open(reader, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 9), "the work itself failed"
    what, _, words = told.partition(b"\n")
    place.listen(words)
    told_what: str | None = json.loads(what)
    return told_what


def test_published_file_is_its_parts_in_order(place: Place) -> None:
    """The header comes first, then the parts; sizes and checksums are those of the file; nothing else is left."""
    output = claimed(place)
    staged = stage(place, output)
    assert staged == found(output)
    assert place.get(NAME) is None
    published = complete(output)
    assert place.get(NAME) == WHOLE
    assert (published.size_bytes, published.crc32, published.base_bytes) == (len(WHOLE), zlib.crc32(WHOLE), 0)
    assert place.get(QUARANTINE) == LOST
    assert published.quarantine_range == (0, len(LOST))
    assert place.names() == {NAME, RECEIPT, QUARANTINE}
    assert place.output().receipt()["fingerprint"] == MINE


def test_plan_order_is_not_the_order_of_staging(place: Place) -> None:
    """Workers stage as they come to it; the file has the order of the plan."""
    output = claimed(place)
    last, first = stage_one(place, output, b"1,1,b.csv\n", 1), stage_one(place, output, b"0,1,a.csv\n", 0)
    complete(output, parts=[first, last])
    assert place.get(NAME) == HEADER + b"0,1,a.csv\n1,1,b.csv\n"


def test_part_is_seen_when_it_is_whole(place: Place) -> None:
    """While it is written, and when it was given up, nothing counts as staged."""
    output = claimed(place)
    writer = place.writer(output)
    writer.write(b"0,1,a.csv\n")
    assert found(output) == []
    key = key_of(b"0,1,a.csv\n1,0,a.csv\n", writer.nonce)
    writer.write(memoryview(b"1,0,a.csv\n"))
    writer.commit(key, quarantine=b"", account=b"")
    given_up = place.writer(output)
    given_up.write(b"x")
    given_up.abort()
    assert found(output) == [(key, 20)]
    assert place.names() <= {f".{NAME}.staging"}
    output.discard()
    output.release()


def test_same_part_again_is_no_second_one(place: Place) -> None:
    """A worker that heard no answer stages the same again."""
    output = claimed(place)
    first = place.writer(output)
    key = key_of(PARTS[0], first.nonce)
    for writer in (first, place.writer(output)):
        writer.write(PARTS[0])
        writer.commit(key, quarantine=b"", account=b"")
    assert found(output) == [(key, len(PARTS[0]))]
    complete(output)
    assert place.get(NAME) == HEADER + PARTS[0]


def test_another_attempt_does_not_double(place: Place) -> None:
    """What a dead worker staged late stands beside the part that counts, and is never published."""
    output = claimed(place)
    counts = stage(place, output, PARTS)
    late = stage(place, output, PARTS)
    assert sorted(found(output)) == sorted([*counts, *late])
    complete(output, parts=counts)
    assert place.get(NAME) == WHOLE
    assert place.get(QUARANTINE) == LOST


@pytest.mark.parametrize(
    ("data", "flags", "quarantine", "account"),
    [
        (PARTS[0], {"quarantine": True}, b"", b""),
        (PARTS[0], {"account": True}, b"", b""),
        (b"", {"unscored": True, "account": False}, b"", b""),
        (b"", {"unscored": True, "account": True}, LOST, b""),
    ],
)
def test_part_without_what_belongs_to_it_is_none(
    place: Place, data: bytes, flags: dict[str, bool], quarantine: bytes, account: bytes
) -> None:
    """Killed between the blocks of a part, a worker has staged nothing."""
    output = claimed(place)
    writer = place.writer(output)
    writer.write(data)
    writer.commit(key_of(data, writer.nonce, **flags), quarantine=quarantine, account=account)
    assert found(output) == []
    output.discard()
    output.release()


def test_resume_finds_what_was_staged(place: Place) -> None:
    """A new driver reads the job, the columns, the parts and their accounts."""
    output = claimed(place)
    output.record_header(["prediction", "höhe"])
    staged = stage(place, output)
    output.record_job({"fingerprint": MINE, "columns": ["x"]})
    output.release()
    again = place.output()
    again.claim()
    assert again.job() == {"fingerprint": MINE, "columns": ["x"]}
    assert again.header() == ("prediction", "höhe")
    assert staged == found(again)
    assert found(again, OTHERS) == []
    assert again.account(staged[1][0]) == account_of(LOST)
    complete(again)
    assert place.get(NAME) == WHOLE


def test_discarded_parts_never_come_back(place: Place) -> None:
    """They do not count, nobody sees them, and the same job staged anew is published without them."""
    output = claimed(place)
    stage(place, output)
    output.record_header(["prediction"])
    output.discard()
    assert (output.job(), output.header(), found(output)) == (None, (), [])
    output.release()
    assert place.names() == set()
    again = claimed(place)
    assert found(again) == []
    stage(place, again, [b"0,0,b.csv\n"])
    complete(again)
    assert place.get(NAME) == HEADER + b"0,0,b.csv\n"
    assert place.get(QUARANTINE) is None


@pytest.mark.parametrize(
    ("mode", "base", "expected"),
    [
        ("overwrite", b"old\n", WHOLE),
        ("overwrite", b"", WHOLE),
        ("append", None, WHOLE),
        ("append", HEADER + b"9,9,b.csv\n", HEADER + b"9,9,b.csv\n" + b"".join(PARTS)),
        ("append", HEADER + b"9,9,b.csv", HEADER + b"9,9,b.csv\n" + b"".join(PARTS)),
        ("append", HEADER, WHOLE),
        ("append", b"", WHOLE),
    ],
)
def test_file_that_is_there_is_replaced_or_continued(
    place: Place, mode: IfExists, base: bytes | None, expected: bytes
) -> None:
    """Appended rows begin on a line of their own and repeat no header; checksums are of the whole file."""
    if base is not None:
        place.put(NAME, base)
    output = claimed(place)
    stage(place, output)
    assert place.get(NAME) == base
    published = complete(output, mode)
    assert expected == place.get(NAME)
    assert (published.size_bytes, published.crc32) == (len(expected), zlib.crc32(expected))
    assert published.base_bytes == (len(base or b"") if mode == "append" else 0)


def test_job_after_job_is_appended(place: Place) -> None:
    """Each is added once, and what the receipt before told is told again."""
    expected = HEADER
    for number in range(3):
        output = claimed(place)
        assert found(output) == []
        stage(place, output, [b"%d,1,a.csv\n" % number, b""])
        published = complete(output, "append" if number else "fail")
        expected += b"%d,1,a.csv\n" % number
        assert place.get(NAME) == expected
        assert (published.size_bytes, published.crc32) == (len(expected), zlib.crc32(expected))
        assert published.quarantine_range == (number * len(LOST), len(LOST))
        assert published.appended == (({"offset": 0},) if number else ())
    assert place.get(QUARANTINE) == LOST * 3


def test_quarantine_of_before_is_continued_or_goes(place: Place) -> None:
    """Appending keeps the lines that are there; overwriting without a lost row removes them."""
    place.put(NAME, HEADER)
    place.put(QUARANTINE, b'{"row": 1}')
    output = claimed(place)
    stage(place, output)
    complete(output, "append")
    assert place.get(QUARANTINE) == b'{"row": 1}\n' + LOST
    output = claimed(place)
    stage(place, output, [b"0,1,a.csv\n"])
    complete(output, "append")
    assert place.get(QUARANTINE) == b'{"row": 1}\n' + LOST
    output = claimed(place)
    stage(place, output, [b"0,1,a.csv\n"])
    published = complete(output, "overwrite")
    assert place.get(QUARANTINE) is None
    assert published.quarantine is None


@pytest.mark.parametrize("base", [b"row,score,file\n0,1,a.csv\n", b"row,prediction\n", b"row,prediction,file", b"x"])
def test_append_refuses_another_header(place: Place, base: bytes) -> None:
    """One file never has rows of two kinds."""
    place.put(NAME, base)
    output = claimed(place)
    stage(place, output)
    with pytest.raises(OutputError, match=r"has another header than the rows to append \(row,prediction,file\)"):
        complete(output, "append")
    output.release()
    assert base == place.get(NAME)


def test_file_that_appears_meanwhile_is_not_replaced(place: Place) -> None:
    """Between the start and the publication the file may have come from somewhere else: it stays."""
    output = claimed(place)
    staged = stage(place, output, PARTS[:1])
    place.put(NAME, b"somebody's")
    with pytest.raises(OutputError, match="exists by now; nothing was published"):
        complete(output, parts=staged)
    output.release()
    assert place.get(NAME) == b"somebody's"


def test_file_that_changes_meanwhile_is_not_replaced(place: Place) -> None:
    """A file that is no longer the one to be continued stays as it is."""
    place.put(NAME, HEADER)
    output = claimed(place)
    parts = stage(place, output)
    output.publish(header=HEADER, parts=parts, mode="append", fingerprint=MINE)
    place.put(NAME, HEADER + b"changed\n")
    with pytest.raises(OutputError, match="was changed by something else while this job ran"):
        output.publish(header=HEADER, parts=parts, mode="append", fingerprint=MINE)
    output.release()
    assert place.get(NAME) == HEADER + b"changed\n"


def test_marks_make_a_quarantine_and_no_file(place: Place) -> None:
    """Where a script wrote the output itself, parts are marks: what could not be scored appears, and the receipt."""
    output = claimed(place)
    parts = stage(place, output, [b"1", b""])
    published = output.publish(header=b"", parts=parts, mode="fail", fingerprint=MINE, score_file=False)
    output.finish({"fingerprint": MINE})
    assert (published.size_bytes, published.quarantine_range) == (None, (0, len(LOST)))
    assert place.names() == {RECEIPT, QUARANTINE}
    assert place.get(QUARANTINE) == LOST


def test_claim_keeps_others_out(place: Place) -> None:
    """A second driver is told at once who holds the output; when that one is gone, it may have it."""
    output, second = claimed(place), place.output()
    with pytest.raises(OutputBusyError, match=rf"another driver holds this output \(process {os.getpid()} on .+\)"):
        second.claim()
    output.release()
    second.claim()
    second.release()


def test_claim_that_staged_nothing_leaves_nothing(place: Place) -> None:
    """An output for which nothing was scored is as if nobody had claimed it."""
    output = claimed(place)
    output.release()
    assert place.names() == set()


def test_mark_of_a_driver_stays_until_it_is_taken_away(place: Place) -> None:
    """Whoever claims next finds it, and nobody does once it was taken away."""
    first = place.output()
    first.claim()
    assert first.running() is None
    first.record_running(b"three")
    first.record_running(b"two")
    assert first.running() == b"two"
    first.record_running(None)
    first.record_running(None)
    assert first.running() is None
    first.release()


def test_mark_is_there_at_any_moment(place: Place) -> None:
    """Whoever looks while it is written never finds none, or a shorter one; a reader beside may see half of each."""
    first, second = place.output(), place.output()
    first.claim()
    marks = [b"one", b"two"]
    first.record_running(marks[0])
    stopped = threading.Event()

    def write() -> None:
        try:
            for number in range(200):
                first.record_running(marks[number % 2])
        finally:
            stopped.set()

    writing = threading.Thread(target=write)
    writing.start()
    seen = {second.running()}
    while not stopped.is_set():
        seen.add(second.running())
    writing.join()
    assert {len(mark) for mark in seen if mark is not None} == {3}
    assert None not in seen
    assert first.running() == marks[1]
    first.record_running(None)
    first.release()


def test_claim_of_a_process_that_died_ends(place: Place) -> None:
    """Killed, a driver holds nothing any more; what it recorded is there."""

    def die() -> None:
        output = place.output()
        output.claim()
        output.record_job({"fingerprint": MINE})
        # a change more, before which it is killed
        stage(place, output)

    steps = 1
    while killed_at(place, steps, die) is not None and claimed_job(place) is None:
        steps += 1
    assert steps > 1


def claimed_job(place: Place) -> dict[str, Any] | None:
    """Return the job that is recorded, and give up the claim that this took."""
    output = place.output()
    output.claim()
    job: dict[str, Any] | None = output.job()
    output.release()
    return job


def test_job_that_is_complete_is_forgotten(place: Place) -> None:
    """Killed when only the clearing was left, it leaves nothing to the next claim."""
    output = claimed(place)
    stage(place, output)
    output.record_header(["prediction"])
    output.publish(header=HEADER, parts=found(output), mode="fail", fingerprint=MINE)
    output.release()
    again = place.output()
    again.claim()
    assert again.publishing(MINE)
    assert not again.publishing(OTHERS)
    again.forget(MINE)
    assert not again.publishing(MINE)
    again.release()
    assert place.names() == {NAME, QUARANTINE}


@pytest.mark.parametrize(
    ("mode", "base", "expected"),
    [
        ("fail", None, WHOLE),
        ("overwrite", HEADER + b"9,9,b.csv\n", WHOLE),
        ("append", HEADER + b"9,9,b.csv\n", HEADER + b"9,9,b.csv\n" + b"".join(PARTS)),
    ],
)
def test_publication_killed_at_any_step_goes_on(
    new_place: Callable[[], Place], mode: IfExists, base: bytes | None, expected: bytes
) -> None:
    """Killed before any one change to the store, the file is as before or whole; the same again completes it, once."""
    steps: list[str | None] = []
    while not steps or steps[-1] is not None:
        place = new_place()
        if base is not None:
            place.put(NAME, base)
            place.put(QUARANTINE, LOST)
            place.put(RECEIPT, b'{"appended": [{"offset": 0}]}')
        output = claimed(place)
        staged = stage(place, output)
        output.release()

        def work(place: Place = place) -> None:
            again = place.output()
            again.claim()
            complete(again, mode)

        steps.append(killed_at(place, len(steps) * place.stride + 1, work))
        now = place.get(NAME)
        assert now in (base, expected), steps[-1]
        receipt = json.loads(place.get(RECEIPT) or b"{}")
        if receipt.get("fingerprint") == MINE:
            assert now == expected, steps[-1]
            assert steps[-1] is None or place.get(QUARANTINE) is not None
            again = place.output()
            again.claim()
            again.forget(MINE)
            again.release()
        else:
            again = place.output()
            again.claim()
            assert staged == found(again), steps[-1]
            complete(again, mode)
            assert expected == place.get(NAME), steps[-1]
        assert LOST * (2 if mode == "append" else 1) == place.get(QUARANTINE), steps[-1]
        assert place.names() == {NAME, RECEIPT, QUARANTINE}, steps[-1]
    assert len(steps) * place.stride > 5
