"""The score file on Blob storage, where it is more than its contract: blocks, conditions, leases, limits."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobBlock, BlobClient, ContainerClient, ContentSettings

from runtime import blob_joining, blob_parts, blob_publishing
from runtime.blob_parts import BLOCK_BYTES
from runtime.blob_publishing import MOST_BLOCKS
from runtime.blob_score_file import BlobScoreFile
from runtime.errors import OutputBusyError, OutputError
from runtime.parts import PartKey
from runtime.plan import MAX_PARTS_PER_INPUT, Plan
from scoring.blob_access import BlobAccess, container_client
from scoring.cells import Cell, InputFile, Slice
from scoring.scan import ScanEnd
from tests.azure.azurite import Azurite
from tests.azure.fault_proxy import FaultProxy
from tests.score_contract import HEADER, LOST, MINE, NAME, PARTS, QUARANTINE, RECEIPT, WHOLE, complete, found, key_of
from tests.test_score_contract import BlobPlace
from tests.thorough import usual

FOLDER = "to/score/"


@pytest.fixture
def access(azurite: Azurite) -> BlobAccess:
    """Return an empty container."""
    return azurite.new_container()


@pytest.fixture
def place(access: BlobAccess) -> BlobPlace:
    """Return an empty place."""
    return BlobPlace(access, access)


@pytest.fixture
def client(access: BlobAccess) -> Iterator[ContainerClient]:
    """Return the library's own client."""
    with container_client(access) as client:
        yield client


@pytest.fixture
def blob(client: ContainerClient) -> BlobClient:
    """Return the library's own client of the score file."""
    return client.get_blob_client(FOLDER + NAME)


def claimed(place: BlobPlace) -> BlobScoreFile:
    """Claim the output and record the job."""
    output = place.output()
    output.claim()
    if output.job() is None:
        output.record_job({"fingerprint": MINE})
    return output


def stage(output: BlobScoreFile, data: bytes, start: int = 0) -> tuple[str, int]:
    """Stage a part."""
    writer = output.staging.begin()
    writer.write(data)
    key = key_of(data, writer.nonce, start, account=False)
    writer.commit(key, quarantine=b"" if data else LOST, account=b"")
    return key, len(data)


def test_staged_blocks_are_seen_by_nobody(place: BlobPlace, client: ContainerClient, blob: BlobClient) -> None:
    """A reader finds no file and a lister no name, until all is there."""
    output = claimed(place)
    stage(output, PARTS[0])
    assert not blob.exists()
    assert output.size_bytes() is None
    assert [name for name in client.list_blob_names() if NAME in name and ".staging/" not in name] == []
    assert len(blob.get_block_list("uncommitted")[1]) == 1
    complete(output)
    assert blob.download_blob().readall() == HEADER + PARTS[0]
    assert blob.get_block_list("all")[1] == []


def test_blob_says_what_made_it(place: BlobPlace, blob: BlobClient) -> None:
    """Type and metadata tell; those that were there stay where rows are appended, but for a checksum of the old."""
    output = claimed(place)
    stage(output, PARTS[0])
    published = complete(output)
    properties = blob.get_blob_properties()
    assert properties.content_settings.content_type == "text/csv"
    assert properties.metadata["scoreline_fingerprint"] == MINE
    assert properties.metadata["scoreline_crc32"] == f"{published.size_bytes}-{published.crc32:08x}"
    blob.upload_blob(
        HEADER, overwrite=True, metadata={"owner": "me"},
        content_settings=ContentSettings(content_type="text/plain", content_md5=_md5(HEADER)),
    )  # fmt: skip
    output = claimed(place)
    stage(output, PARTS[0])
    complete(output, "append")
    properties = blob.get_blob_properties()
    assert properties.metadata["owner"] == "me"
    assert properties.content_settings.content_type == "text/plain"
    assert properties.content_settings.content_md5 != _md5(HEADER)


def _md5(data: bytes) -> bytearray:
    return bytearray(hashlib.md5(data, usedforsecurity=False).digest())


@pytest.mark.parametrize("id_length", [0, 8, 32])
def test_rows_are_appended_behind_blobs_of_others(
    place: BlobPlace, blob: BlobClient, monkeypatch: pytest.MonkeyPatch, id_length: int
) -> None:
    """What was made in one request, or of blocks with other ids, is copied; what is ours is referred to."""
    monkeypatch.setattr(blob_publishing, "COPIED_BYTES", 7)
    base = HEADER + b"9,9,b.csv\n"
    if id_length:
        pieces = [base[start : start + 10] for start in range(0, len(base), 10)]
        ids = [f"{number:0{id_length}}" for number in range(len(pieces))]
        for block, piece in zip(ids, pieces, strict=True):
            blob.stage_block(block, piece)
        blob.commit_block_list([BlobBlock(block) for block in ids])
    else:
        blob.upload_blob(base)
    for _ in range(2):
        output = claimed(place)
        stage(output, PARTS[0])
        published = complete(output, "append")
        base += PARTS[0]
        assert blob.download_blob().readall() == base
        assert (published.size_bytes, published.crc32) == (len(base), zlib.crc32(base))
    lengths = {len(each.id) for each in blob.get_block_list("committed")[0]}
    assert lengths == {64}


def test_appending_to_ours_reads_nothing_of_it(azurite: Azurite, place: BlobPlace) -> None:
    """Its blocks are referred to, and its checksum stands beside them; first line and last byte are looked at."""
    output = claimed(place)
    stage(output, b"0,1,a.csv\n" * 300_000)
    complete(output)
    with FaultProxy(azurite.port) as proxy:
        behind = BlobPlace(azurite.access(place.access.container, port=proxy.port), place.access)
        output = claimed(behind)
        stage(output, PARTS[0])
        published = complete(output, "append")
    assert published.crc32 == zlib.crc32(HEADER + b"0,1,a.csv\n" * 300_000 + PARTS[0])
    assert proxy.bytes_down < 100_000


def test_other_input_after_a_kill_doubles_nothing(place: BlobPlace) -> None:
    """Killed when the file had appeared, then given more input: what both have is there once, in the new order."""
    place.put(NAME, HEADER + b"9,9,b.csv\n")
    place.put(QUARANTINE, b"{}\n")
    output = claimed(place)
    first, lost = stage(output, b"0,1,a.csv\n", 1), stage(output, b"", 2)
    output.publish(header=HEADER, parts=[first, lost], mode="append", fingerprint=MINE)
    output.release()
    again = claimed(place)
    assert found(again) == [first, lost]
    before = stage(again, b"0,0,0.csv\n", 0)
    published = complete(again, "append", [before, first])
    expected = HEADER + b"9,9,b.csv\n0,0,0.csv\n0,1,a.csv\n"
    assert place.get(NAME) == expected
    assert (published.base_bytes, published.crc32) == (len(HEADER) + 10, zlib.crc32(expected))
    assert place.get(QUARANTINE) == b"{}\n"
    assert published.quarantine_range == (3, 0)


@pytest.mark.parametrize("path", [NAME, QUARANTINE])
def test_blocks_another_program_left_are_cleared(place: BlobPlace, client: ContainerClient, path: str) -> None:
    """A writer that crashed leaves blocks with ids of another length, beside which nothing can be staged for a week."""
    other = client.get_blob_client(FOLDER + path)
    other.stage_block("0" * 32, b"left")
    output = claimed(place)
    assert not other.exists()
    stage(output, PARTS[0])
    stage(output, b"", 1)
    complete(output)
    assert place.get(NAME) == HEADER + PARTS[0]
    assert place.get(QUARANTINE) == LOST


def test_clearing_that_was_killed_is_finished(place: BlobPlace, blob: BlobClient) -> None:
    """Blocks are cleared by an empty file that is deleted at once: one that is left is nobody's output."""
    blob.commit_block_list([], metadata={"scoreline_cleared": "1"})
    output = claimed(place)
    assert output.size_bytes() is None
    output.release()
    assert place.names() == set()


def test_blocks_another_program_left_beside_a_file_are_told(place: BlobPlace, blob: BlobClient) -> None:
    """A file of others is not rewritten to get rid of them."""
    blob.upload_blob(b"theirs")
    blob.stage_block("0" * 32, b"left")
    with pytest.raises(OutputError, match="has blocks that another program staged and never committed"):
        claimed(place)
    assert place.get(NAME) == b"theirs"
    assert place.names() == {NAME}


@pytest.mark.parametrize("path", [NAME, QUARANTINE])
def test_append_blob_is_refused(place: BlobPlace, client: ContainerClient, path: str) -> None:
    """Blocks cannot be staged at it; it is left as it is."""
    client.upload_blob(FOLDER + path, b"rows", blob_type="AppendBlob")
    with pytest.raises(OutputError, match="is no block blob; delete it, or choose another --output"):
        claimed(place)
    assert place.get(path) == b"rows"


def test_parts_another_program_threw_away_are_scored_again(place: BlobPlace, blob: BlobClient) -> None:
    """Whoever commits the blob meanwhile discards our blocks: nothing is published, and the next run scores anew."""
    output = claimed(place)
    parts = [stage(output, PARTS[0])]
    blob.commit_block_list([])
    blob.delete_blob()
    with pytest.raises(OutputBusyError, match="staged parts are gone; run again to score them anew"):
        output.publish(header=HEADER, parts=parts, mode="fail", fingerprint=MINE)
    assert found(output) == []
    output.discard()
    output.release()
    assert not blob.exists()


def test_small_parts_are_joined_into_few_blocks(
    place: BlobPlace, blob: BlobClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are more parts than a blob takes blocks, each is a blob of its own until it is published."""
    monkeypatch.setattr(blob_joining, "JOINED_BYTES", 60)
    output = place.output()
    output.expect(MOST_BLOCKS + 1)
    output.claim()
    output.record_job({"fingerprint": MINE})
    data = [b"%d,1,a.csv\n" % number * (number % 3) for number in range(40)]
    parts = [stage(output, data[0], 0)]
    output.release()
    # who does not expect so many goes on as it was begun
    output = claimed(place)
    parts += [stage(output, each, number) for number, each in enumerate(data) if number]
    with pytest.raises(ResourceNotFoundError):
        blob.get_block_list("all")
    assert parts == found(output)
    complete(output)
    whole = HEADER + b"".join(data)
    assert place.get(NAME) == whole
    assert place.get(QUARANTINE) == LOST * 14
    blocks = blob.get_block_list("committed")[0]
    assert 40 > len(blocks) > (len(whole) - len(HEADER)) // 60
    assert max(each.size for each in blocks) <= 60
    assert {len(each.id) for each in blocks} == {64}


def test_small_part_that_is_torn_is_noticed(place: BlobPlace, client: ContainerClient) -> None:
    """What is read for joining must be what was staged."""
    output = place.output()
    output.expect(MOST_BLOCKS + 1)
    output.claim()
    output.record_job({"fingerprint": MINE})
    key, size_bytes = stage(output, PARTS[0])
    client.upload_blob(f"{FOLDER}.{NAME}.staging/parts/{key}.{size_bytes}", b"x" * size_bytes, overwrite=True)
    with pytest.raises(OutputBusyError, match="staged parts are gone"):
        complete(output)
    output.discard()
    output.release()
    assert place.names() == set()


def test_part_larger_than_memory_goes_through_a_file(
    place: BlobPlace, blob: BlobClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is staged from a file without a name, as one block."""
    monkeypatch.setattr(blob_parts, "MEMORY_BYTES", 1_000)
    output = claimed(place)
    data = b"0,1,a.csv\n" * 1_000
    writer = output.staging.begin()
    for start in range(0, len(data), 500):
        writer.write(data[start : start + 500])
    key = key_of(data, writer.nonce)
    writer.commit(key, quarantine=b"", account=b"")
    assert [(each.id, each.size) for each in blob.get_block_list("uncommitted")[1]] == [(key, len(data))]
    complete(output)
    assert place.get(NAME) == HEADER + data


def test_part_larger_than_a_block_is_refused(place: BlobPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told before it fills the disk."""
    monkeypatch.setattr(blob_parts, "BLOCK_BYTES", 10)
    output = claimed(place)
    writer = output.staging.begin()
    with pytest.raises(OSError, match="more than 4,000 MiB of scores; use a smaller one"):
        writer.write(bytes(11))
    writer.abort()
    output.release()


def test_scratch_of_a_killed_driver_is_removed(place: BlobPlace, private_temporary_folder: Path) -> None:
    """What it left on this machine goes with the next claim; what another one uses stays."""
    used = BlobPlace(place.access, place.direct).output()
    used.claim()
    folder = _killed_driver(place, private_temporary_folder)
    assert folder.exists()
    other = BlobScoreFile(place.access, "to/other", NAME)
    other.claim()
    assert not folder.exists()
    assert used.spool.is_dir()
    other.release()
    used.release()
    assert list(private_temporary_folder.glob("scoreline-scratch-*")) == []


def _killed_driver(place: BlobPlace, temporary: Path) -> Path:
    before = set(temporary.glob("scoreline-scratch-*"))
    pid = os.fork()
    if pid == 0:
        BlobScoreFile(place.access, "to/third", NAME).claim()
        os._exit(9)
    os.waitpid(pid, 0)
    (folder,) = set(temporary.glob("scoreline-scratch-*")) - before
    return folder


DRIVER = textwrap.dedent(
    """
    import json, sys
    from runtime.blob_score_file import BlobScoreFile
    from runtime.errors import OutputError
    from scoring.blob_access import BlobAccess
    from tests.score_contract import HEADER

    access, parts, at, mode = json.loads(sys.stdin.readline())
    output = BlobScoreFile(BlobAccess(**access), "to/score", "predictions.csv")

    def stop(name):
        if name == at:
            print("here", flush=True)
            sys.stdin.readline()

    try:
        output.claim()
        if output.job() is None:
            output.record_job({"fingerprint": "11" * 32})
        stop("claimed")
        parts = [tuple(part) for part in parts] or [
            (text, size) for key, text, size in sorted(output.staged(bytes([17] * 6)), key=lambda each: each[0].start)
        ]
        from runtime.blob_container import BlobContainer
        commit, write = BlobContainer.commit, BlobContainer.write

        def slow(container, path, *arguments, **named):
            stop("commit " + path.rpartition("/")[2])
            return commit(container, path, *arguments, **named)

        def slow_write(container, path, *arguments, **named):
            stop("write " + path.rpartition("/")[2])
            return write(container, path, *arguments, **named)

        BlobContainer.commit, BlobContainer.write = slow, slow_write
        output.publish(header=HEADER, parts=parts, mode=mode, fingerprint="11" * 32)
        stop("published")
        output.finish({"fingerprint": "11" * 32, "appended": [], "pid": __import__("os").getpid()})
        print("done", flush=True)
    except OutputError as error:
        print(type(error).__name__, error, flush=True)
    finally:
        output.release()
    """
)


class Driver:
    """A driver in a process of its own, which stops at a place and waits."""

    def __init__(self, access: BlobAccess, *, at: str = "", mode: str = "fail") -> None:
        fields = ("account_url", "container", "kind", "source", "secret", "patience")
        values = {name: getattr(access, name) for name in fields}
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([values, [], at, mode]) + "\n")
        self.process.stdin.flush()

    def says(self) -> str:
        """Return the next line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def goes_on(self) -> str:
        """Let it go on from where it stopped, and return its last line."""
        out, _ = self.process.communicate("\n", timeout=60)
        return str(out).strip()


def everything(client: ContainerClient) -> dict[str, tuple[bytes, str]]:
    """Return all blobs with their contents and etags."""
    return {
        name: (client.download_blob(name).readall(), client.get_blob_client(name).get_blob_properties().etag)
        for name in client.list_blob_names()
    }


STOPS = ("claimed", "write publish.json", "commit " + QUARANTINE, "commit " + NAME, "published", "write " + RECEIPT)
FROZEN = [(mode, at) for mode in ("fail", "append") for at in STOPS]


@pytest.mark.parametrize(
    ("mode", "at"), usual(FROZEN, seldom=[("append", at) for at in STOPS if at != "commit " + NAME])
)
def test_frozen_driver_that_wakes_changes_nothing(
    place: BlobPlace, client: ContainerClient, at: str, mode: str
) -> None:
    """Stopped at any step, its lease taken, and woken when another driver has finished: not a byte changes."""
    if mode == "append":
        place.put(NAME, HEADER + b"9,9,b.csv\n")
        place.put(RECEIPT, b'{"appended": [{"offset": 0}]}')
    output = claimed(place)
    for start, data in enumerate(PARTS):
        stage(output, data, start)
    output.release()
    frozen = Driver(place.access, at=at, mode=mode)
    assert frozen.says() == "here"
    os.kill(frozen.process.pid, signal.SIGSTOP)
    # as if it had stood for longer than its lease lasts
    _break(client)
    second = Driver(place.access, mode=mode)
    assert second.says() == "done"
    assert second.goes_on() == ""
    whole = place.get(NAME)
    assert whole == (WHOLE if mode == "fail" else HEADER + b"9,9,b.csv\n" + b"".join(PARTS))
    before = everything(client)
    assert place.names() == {NAME, RECEIPT, QUARANTINE}
    os.kill(frozen.process.pid, signal.SIGCONT)
    said = frozen.goes_on()
    assert said.startswith(("OutputBusyError", "OutputError")), said
    assert everything(client) == before
    assert json.loads(place.get(RECEIPT) or b"")["pid"] == second.process.pid


def _break(client: ContainerClient) -> None:
    from azure.storage.blob import BlobLeaseClient

    BlobLeaseClient(client.get_blob_client(f"{FOLDER}.{NAME}.staging/lock")).break_lease(0)


def test_lease_of_a_driver_that_is_stopped_keeps_others_out(place: BlobPlace) -> None:
    """It may wake: another one is told who it is and that it is stopped, until its lease ends."""
    frozen = Driver(place.access, at="claimed")
    assert frozen.says() == "here"
    os.kill(frozen.process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(OutputBusyError, match=rf"\(process {frozen.process.pid} on .+, which is stopped\)"):
            place.output().claim()
    finally:
        os.kill(frozen.process.pid, signal.SIGCONT)
    assert frozen.goes_on() == "done"


def test_claim_outlives_its_lease(place: BlobPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread renews it; another driver stays out longer than the lease of the first lasts."""
    from runtime import blob_claim

    times: list[Any] = []
    renewed = blob_claim.BlobClaim._renewed  # noqa: SLF001 (counted, and done)
    monkeypatch.setattr(blob_claim, "RENEWAL_S", 0.05)
    monkeypatch.setattr(
        blob_claim.BlobClaim, "_renewed", lambda self, *given: times.append(given) or renewed(self, *given)
    )
    output = claimed(place)
    while len(times) < 10:
        assert output.job() is not None
    output.release()


def test_driver_that_wakes_learns_of_another_without_asking(
    place: BlobPlace, client: ContainerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that renews the lease finds out; the job is stopped at its next look, and takes nothing away."""
    from runtime import blob_claim

    monkeypatch.setattr(blob_claim, "RENEWAL_S", 0.05)
    output = claimed(place)
    output.check_claim()
    _break(client)
    second = claimed(place)
    stage(second, PARTS[0])
    with pytest.raises(OutputBusyError, match="this driver stood still, and another one took the output over"):
        _check_for(output, 60)
    before = everything(client)
    with suppress(OutputBusyError):
        output.release()
    assert before.keys() <= everything(client).keys()
    second.check_claim()
    complete(second)
    assert place.get(NAME) == HEADER + PARTS[0]


def _check_for(output: BlobScoreFile, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        output.check_claim()


def test_part_limits_leave_room() -> None:
    """Whatever the input, its parts are fewer than the blocks a blob may have, and smaller than a block may be."""
    # what is there may have half of all blocks before it is copied in larger ones; header and line end are two more
    assert MAX_PARTS_PER_INPUT + MOST_BLOCKS // 2 + 2 <= MOST_BLOCKS
    # twice as many as parts may be staged and not committed: a part for each attempt
    assert 2 * MAX_PARTS_PER_INPUT <= 100_000
    # 10 TB of scores in the parts of one blob
    assert 10 * 10**12 / MAX_PARTS_PER_INPUT < BLOCK_BYTES


@pytest.mark.parametrize(
    ("cells", "cell_bytes"),
    [(60_000, 8 * 2**20), (300_000, 8 * 2**20), (25_000, 8 * 2**20)],
)
def test_large_input_is_planned_in_few_parts(cells: int, cell_bytes: int) -> None:
    """Beyond 50,000 cells, and 200 GB of scores, a part has as many cells as it takes to stay under 20,000 parts."""
    file = InputFile(name="a.csv", url="a.csv", size_bytes=cells * cell_bytes, version="1")
    plan = Plan((file,), workers=16, estimated_cells=cells)
    # slow cells: by time alone each would be a part of its own
    plan.learn(1, 100.0)
    parts = largest = taken = 0
    while taken < cells:
        plan.add(_cell(taken, cell_bytes))
        taken += 1
        if taken % 1_200 and taken < cells:
            continue
        if taken == cells:
            plan.add(ScanEnd(rows=0))
        while (batch := plan.next()) is not None:
            parts += 1
            largest = max(largest, len(batch.cells))
    assert plan.exhausted
    assert parts <= MAX_PARTS_PER_INPUT
    assert parts + 2 <= MOST_BLOCKS
    assert largest * cell_bytes < BLOCK_BYTES
    if cells * cell_bytes > 200 * 10**9:
        assert parts * BLOCK_BYTES > 200 * 10**9


def _cell(number: int, size_bytes: int) -> Cell:
    return Cell(
        slices=(
            Slice(
                file=0, name="a.csv", url="a.csv", offset=0, start=number * size_bytes, stop=(number + 1) * size_bytes
            ),
        )
    )


def test_key_of_a_part_names_a_block() -> None:
    """It has the one length that all ids of our blobs have, and the service's limit."""
    key = key_of(b"1", b"\0\0\0")
    assert len(key.encode()) == 64
    assert PartKey.decode(key) is not None
