"""Blobs as input: listed as files are, fetched once, pinned to what was listed, and cut as on local disk."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runtime.errors import InputBusyError, InputError, OutputError
from runtime.job import refuse_output_in_input
from runtime.pieces import ScriptScore
from runtime.plan import Scanner
from scoring.blob_access import BlobAccess, container_client
from scoring.cells import (
    Cell,
    InputFile,
    MiniBatch,
    Slice,
    covered_digest,
    identity_digest,
    input_digest,
    name_digest,
)
from scoring.files import InputSpec, Listing
from scoring.readers import fetch
from scoring.scan import Begin, Grid, ScanEnd, StagedCells, StagedCover
from scoring.script import ScriptResult
from tests.azure.azurite import Azurite
from tests.azure.fault_proxy import CUT, DROPPED_BEFORE, Fault, FaultProxy, Request, Status
from tests.csv_texts import PACKED, write_files

ROWS = b"".join(b"%d,x%d\n" % (number, number * 7) for number in range(200_000))


@dataclass(slots=True)
class Scanned:
    """What a scanner said, and what lay where it said so."""

    listing: Listing
    grid: Grid | None = None
    said: list[Cell | StagedCells] = field(default_factory=list)
    data: dict[tuple[str, int], bytes] = field(default_factory=dict)
    digests: dict[tuple[str, int], bytes] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    most_spooled: int = 0

    @property
    def parts(self) -> list[Slice]:
        """All slices that are read."""
        return [part for each in self.said if isinstance(each, Cell) for part in each.slices]


@pytest.fixture
def scan(tmp_path: Path) -> Iterator[Callable[..., Scanned]]:
    """Scan with a process of its own, as a job does; what is spooled is looked at and removed."""
    begun: list[Scanner] = []

    def run(spec: InputSpec, *, listed: Callable[[], None] | None = None, **options: Any) -> Scanned:
        spool = tmp_path / f"spool{len(begun)}"
        spool.mkdir()
        with open(os.devnull, "wb") as log:
            begun.append(Scanner(spec, log))
        scanner = begun[-1]
        found = Scanned(scanner.expect(Listing))
        if listed is not None:
            listed()
        found.grid = scanner.begin(Begin(**{"spool": str(spool), "spool_bytes": 2**30, **options}))
        while not isinstance(message := scanner.receive(), ScanEnd):
            assert isinstance(message, Cell | StagedCells)
            found.said.append(message)
            lying = [path.stat().st_size for path in spool.rglob("*") if path.is_file()]
            found.most_spooled = max(found.most_spooled, sum(lying))
            cells = (message,) if isinstance(message, Cell) else message.cells
            for part in [part for cell in cells for part in cell.slices]:
                if isinstance(message, Cell) and not part.problem:
                    found.data[part.name, part.start] = fetch(part)
                    found.digests[part.name, part.start] = covered_digest(part)
                if Path(part.url).is_relative_to(spool):
                    found.paths.append(str(Path(part.url).relative_to(spool)))
                    os.unlink(part.url)
        assert not [path for path in spool.rglob("*") if path.is_file()]
        return found

    yield run
    for each in begun:
        each.close()


@pytest.fixture
def upload(azurite: Azurite) -> Callable[..., BlobAccess]:
    """Put files into a container of their own."""

    def put(files: dict[str, bytes], **metadata: dict[str, str]) -> BlobAccess:
        access = azurite.new_container(patience=1)
        with container_client(access) as client:
            for name, data in files.items():
                client.upload_blob(name, data, metadata=metadata.get(name.replace("/", "_")))
        return access

    return put


def parquet(rows: int, group_rows: int) -> bytes:
    """A Parquet file of so many rows."""
    table = pa.table({"n": range(rows), "s": [f"x{number * 7919 % 10**6}" for number in range(rows)]})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=group_rows, compression="none")
    return sink.getvalue()


def names_of(found: Scanned) -> list[str]:
    """The names listed."""
    return [file.name for file in found.listing.files]


# Listing

FILES = {
    "in/b.csv": b"a\n1\n", "in/a.csv": b"a\n1\n", "in/B.csv": b"a\n1\n", "in/é ü.csv": b"a\n1\n",
    "in/a b%20+&#c.csv": b"a\n1\n", "in/_skip.csv": b"a\n1\n", "in/.hidden.csv": b"a\n1\n", "in/sub/c.csv": b"a\n1\n",
    "in/sub/deep/d.csv": b"a\n1\n", "in/sub/_old/e.csv": b"a\n1\n", "in/sub/": b"", "in/gone/": b"", "in/flagged": b"",
    "in/empty.csv": b"", "in": b"", "inside.csv": b"a\n1\n", "other/x[1].csv": b"a\n1\n", "other/y.txt": b"?",
}  # fmt: skip
TOP = ["B.csv", "a b%20+&#c.csv", "a.csv", "b.csv", "empty.csv", "é ü.csv"]


@pytest.fixture(scope="module")
def blobs(azurite: Azurite) -> BlobAccess:
    """A container of blobs to list, and others."""
    access = azurite.new_container(patience=1)
    with container_client(access) as client:
        for name, data in FILES.items():
            marker = {"hdi_isfolder": "true"} if name in ("in/flagged", "in") else None
            client.upload_blob(name, data, metadata=marker)
    return access


@pytest.mark.parametrize(
    ("path", "options", "names", "skipped"),
    [
        ("in", {}, TOP, {"hidden": 3, "nested": 2}),
        ("in/", {}, TOP, {"hidden": 3, "nested": 2}),
        ("in", {"recursive": True}, sorted([*TOP, "sub/c.csv", "sub/deep/d.csv"], key=str.encode), {"hidden": 3}),
        ("in", {"include": ("a*",)}, ["a b%20+&#c.csv", "a.csv"], {"hidden": 3, "nested": 2, "not included": 4}),
        ("in/a.csv", {}, ["a.csv"], {}),
        ("in/a.csv", {"input_type": "uri_file"}, ["a.csv"], {}),
        ("in/a%20b%2520+&%23c.csv", {}, ["a b%20+&#c.csv"], {}),
        ("in/[ab]*.csv", {}, ["a b%20+&#c.csv", "a.csv", "b.csv"], {}),
        ("in/**/[cd].csv", {}, ["sub/c.csv", "sub/deep/d.csv"], {}),
        ("other/x[1].csv", {}, ["x[1].csv"], {}),
        ("", {"include": ("*.csv",)}, ["inside.csv"], {"nested": 10, "hidden": 3}),
        ("in/sub", {"kind": "files", "recursive": True}, ["c.csv", "_old/e.csv", "deep/d.csv"], {}),
    ],
)
def test_list_blobs(  # noqa: PLR0917 (a table)
    blobs: BlobAccess, scan: Callable[..., Scanned], path: str, options: dict[str, Any],
    names: list[str], skipped: dict[str, int],
) -> None:  # fmt: skip
    """Blobs are listed as files are, without those that stand for folders."""
    found = scan(InputSpec(url=blobs.url_of(path), access=blobs, **options), cell_rows=1)
    assert names_of(found) == names
    assert dict(found.listing.skipped) == skipped


@pytest.mark.parametrize(
    ("path", "options", "sentence"),
    [
        ("none", {}, "/none: no such file or folder"),
        ("in/none.csv", {"input_type": "uri_file"}, "no such file or folder"),
        ("in/a.csv", {"input_type": "uri_folder"}, "no such file or folder"),
        ("in/x*.csv", {}, "no input files"),
        ("other", {}, "no reader for y.txt"),
    ],
)
def test_refuse_what_cannot_be_listed(
    blobs: BlobAccess, scan: Callable[..., Scanned], path: str, options: dict[str, Any], sentence: str
) -> None:
    """What is not there, or cannot be scored, is refused in a sentence."""
    with pytest.raises(InputError, match=sentence) as caught:
        scan(InputSpec(url=blobs.url_of(path), access=blobs, **options))
    assert not isinstance(caught.value, InputBusyError)


def test_refuse_containers(blobs: BlobAccess, scan: Callable[..., Scanned]) -> None:
    """A container that is not there, or not ours, is refused without a word of what was to prove us."""
    secret = "bm90aGluZyBnb29k" * 4 + "bm90aGluZyBnb29kAAAAAA=="
    for access, sentence in [
        (replace(blobs, container="nothere"), "there is no container 'nothere' in"),
        (replace(blobs, secret=secret, source="AZURE_KEY"), "the account key of AZURE_KEY does not permit to list it"),
        (replace(blobs, kind="anonymous", secret=""), "anonymous access does not permit to list it"),
    ]:
        with pytest.raises(InputError, match=sentence) as caught:
            scan(InputSpec(url=access.url_of("in"), access=access))
        assert secret not in str(caught.value)


# Reading

INPUTS: dict[str, dict[str, bytes]] = {
    "one large file": {"a.csv": b"n,s\n" + ROWS},
    "many small files": {f"f{number:03}.csv": b"n,s\n" + ROWS[: 500 + number] for number in range(150)},
    "compressed": {"a.csv.gz": PACKED[".gz"](b"n,s\n" + ROWS), "b.csv.zst": PACKED[".zst"](b"n,s\n" + ROWS)},
    "parquet": {"a.parquet": parquet(150_000, 10_000), "b.parquet": parquet(300, 100), "c.parquet": b"no such thing"},
    "one row group": {"a.parquet": parquet(200_000, 200_000)},
    "empty": {"a.csv": b"", "b.csv": b"n,s\n", "c.csv": b"n,s\n1,2\n"},
    "images": {f"{number}.png": os.urandom(3000) for number in range(20)},
}


@pytest.mark.parametrize("files", INPUTS.values(), ids=INPUTS.keys())
def test_blobs_are_cut_as_files_are(
    azurite: Azurite, upload: Callable[..., BlobAccess], scan: Callable[..., Scanned], tmp_path: Path,
    files: dict[str, bytes],
) -> None:  # fmt: skip
    """The grid, the cells and the bytes are those of the same files on disk, and are fetched once."""
    write_files(tmp_path / "in", files.items())
    local = scan(InputSpec(url=str(tmp_path / "in")))
    access = upload({f"in/{name}": data for name, data in files.items()})
    with FaultProxy(upstream=azurite.port) as proxy:
        through = azurite.access(access.container, port=proxy.port)
        remote = scan(InputSpec(url=through.url_of("in"), access=through))
    assert remote.grid == local.grid
    # which bytes of a block are scanned with others is no part of what is scored
    plain = [replace(part, url="", offset=0, plain=True, odd_numbers=False) for part in remote.parts]
    assert plain == [replace(part, url="", offset=0, plain=True, odd_numbers=False) for part in local.parts]
    assert [len(each.slices) for each in remote.said] == [len(each.slices) for each in local.said]
    assert remote.digests == local.digests
    if "parquet" not in next(iter(files)):
        assert remote.data == local.data
    # an answer has a head of some 400 bytes besides
    read = [request for request, _ in proxy.requests if request.kind == "read"]
    assert proxy.bytes_down - 600 * len(proxy.requests) <= 1.05 * sum(map(len, files.values())) + 600 * len(files)
    assert len(read) <= len(files) + sum(map(len, files.values())) // 2**20


def test_parquet_is_read_from_what_lies_in_the_spool(upload: Callable[..., BlobAccess], tmp_path: Path) -> None:
    """A slice of a Parquet file takes the room of its row groups, not of the file, and Arrow reads them there."""
    data = parquet(300_000, 20_000)
    access = upload({"a.parquet": data})
    spool = tmp_path / "spool"
    spool.mkdir()
    with open(os.devnull, "wb") as log:
        scanner = Scanner(InputSpec(url=access.url_of("a.parquet"), access=access), log)
    try:
        scanner.expect(Listing)
        scanner.begin(Begin(cell_rows=20_000, spool=str(spool), spool_bytes=2**30))
        numbers: list[int] = []
        while isinstance(cell := scanner.receive(), Cell):
            (part,) = cell.slices
            used = os.stat(part.url).st_blocks * 512
            assert used < (part.stop - part.start) + 2**18
            group = part.first_row // 20_000
            numbers += pq.ParquetFile(part.url).read_row_group(group, columns=["n"]).column(0).to_pylist()
    finally:
        scanner.close()
    assert numbers == list(range(300_000))


def test_files_for_a_script_keep_their_names(upload: Callable[..., BlobAccess], scan: Callable[..., Scanned]) -> None:
    """A script finds local copies under the names and folders of the blobs, not more of them than there is room for."""
    files = {
        f"in/{folder}/{name}": os.urandom(40_000) for folder in "ab" for name in ("x.txt", "y z.csv", ".é", "w.bin")
    }
    access = upload(files)
    spec = InputSpec(url=access.url_of("in"), access=access, kind="files", recursive=True)
    found = scan(spec, spool_bytes=60_000)
    assert [path.split("/", 1)[1] for path in found.paths] == names_of(found)
    assert {f"in/{name}": data for (name, _), data in found.data.items()} == files
    assert [part.format for part in found.parts] == ["file"] * 8
    assert found.most_spooled <= 60_000 + 2 * 40_000


def test_a_file_and_a_folder_of_one_name(upload: Callable[..., BlobAccess], scan: Callable[..., Scanned]) -> None:
    """On storage a blob may be called as the folder of another; both are read."""
    files = {"in/a": b"1", "in/a/b": b"2", "in/a/b/c": b"3"}
    access = upload(files)
    found = scan(InputSpec(url=access.url_of("in"), access=access, kind="files", recursive=True))
    assert {f"in/{name}": data for (name, _), data in found.data.items()} == files
    assert [Path(path).name for path in found.paths] == ["a", "b", "c"]


@pytest.mark.parametrize("kind", ["rows", "files"])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("other bytes", "changed while it was read; run again when it rests"),
        ("gone", "vanished after it was listed; run again when the input rests"),
    ],
)
def test_a_blob_that_changes(
    upload: Callable[..., BlobAccess], scan: Callable[..., Scanned], change: str, sentence: str, kind: Any
) -> None:
    """A blob that is not what was listed fails alone, with a sentence, wherever it is met."""
    files = {f"{name}.csv": b"n,s\n" + ROWS[:4000] for name in "abc"}
    access = upload(files)

    def other() -> None:
        with container_client(access) as client:
            if change == "gone":
                client.delete_blob("b.csv")
            else:
                client.upload_blob("b.csv", files["b.csv"], overwrite=True)

    found = scan(InputSpec(url=access.url_of(""), access=access, kind=kind), listed=other)
    assert [(part.name, part.problem) for part in found.parts] == [("a.csv", ""), ("b.csv", sentence), ("c.csv", "")]
    assert found.parts[1].rows == 0


@pytest.mark.parametrize("unknown", ["refuse", "fail"])
def test_a_blob_that_is_no_text(upload: Callable[..., BlobAccess], scan: Callable[..., Scanned], unknown: Any) -> None:
    """What is found out of a file on disk before the job is found out of a blob when it comes."""
    access = upload({"a.csv": b"n\n1\n", "b.csv": b"n\n\0\n", "c.csv.gz": b"n\n1\n"})
    spec = InputSpec(url=access.url_of(""), access=access, unknown=unknown)
    if unknown == "refuse":
        with pytest.raises(InputError, match=r"/b.csv: not a text file \(it has a zero byte at 2\)"):
            scan(spec, cell_rows=4)
        return
    found = scan(spec, cell_rows=4)
    assert [part.problem[:14] for part in found.parts] == ["", "not a text fil", "not a gz file,"]


# Faults


@pytest.mark.parametrize("fault", [CUT, DROPPED_BEFORE, Status(code=503), Status(code=500)])
def test_faults_of_the_network_are_overcome(
    azurite: Azurite, upload: Callable[..., BlobAccess], scan: Callable[..., Scanned], fault: Fault
) -> None:
    """Of many answers some are lost or cut; the bytes are the same."""
    files = {f"{name}.csv": b"n,s\n" + ROWS for name in "ab"}
    access = upload(files)

    def rule(request: Request) -> Fault:
        return fault if request.kind in ("read", "list") and request.number % 3 == 2 else None

    with FaultProxy(upstream=azurite.port, rule=rule) as proxy:
        through = azurite.access(access.container, port=proxy.port)
        found = scan(InputSpec(url=through.url_of(""), access=through))
    assert any(met == fault for _, met in proxy.requests)
    for name, data in files.items():
        assert b"".join(found.data[name, part.start] for part in found.parts if part.name == name) == data


def test_storage_that_goes_away(
    azurite: Azurite, upload: Callable[..., BlobAccess], scan: Callable[..., Scanned]
) -> None:
    """Where reads are refused for good, the job stops and may go on later; no file is blamed."""
    access = upload({"a.csv": b"n,s\n" + ROWS})
    with FaultProxy(
        upstream=azurite.port, rule=lambda request: Status(code=403) if request.kind == "read" else None
    ) as proxy:
        through = azurite.access(access.container, port=proxy.port)
        with pytest.raises(InputBusyError, match="does not permit to read it; run again with credentials"):
            scan(InputSpec(url=through.url_of(""), access=through))


# What is staged already


def cover_of(cells: list[Cell], files: tuple[InputFile, ...], digests: dict[tuple[str, int], bytes]) -> StagedCover:
    """What the key of a part of these cells would say."""
    parts = [part for cell in cells for part in cell.slices]
    return StagedCover(
        key=str(len(parts)),
        name_digest=name_digest(parts[0].name),
        start=parts[0].start,
        length=sum(part.stop - part.start for part in parts),
        rows=sum(part.rows for part in parts),
        lines=sum(part.lines for part in parts),
        identity=identity_digest([files[number] for number in dict.fromkeys(part.file for part in parts)]),
        input_digest=input_digest((part.name, part.start, part.stop, digests[part.name, part.start]) for part in parts),
    )


@pytest.mark.parametrize(
    "kind", ["one large file", "many small files", "parquet", "images", "files for a script", "compressed"]
)
def test_what_is_staged_is_not_fetched_again(
    azurite: Azurite, upload: Callable[..., BlobAccess], scan: Callable[..., Scanned], kind: str
) -> None:
    """A job that goes on fetches what is left, and a header besides; packed files alone are fetched whole."""
    files = INPUTS["many small files" if kind == "files for a script" else kind]
    if kind == "parquet":
        files = {name: files[name] for name in ("a.parquet", "b.parquet")}
    access = upload(files)
    with FaultProxy(upstream=azurite.port) as proxy:
        through = azurite.access(access.container, port=proxy.port)
        spec = InputSpec(
            url=through.url_of(""), access=through, kind="files" if kind == "files for a script" else "rows"
        )
        grid = {"cell_rows": 10_000 if kind != "files for a script" else 0, "steady": True}
        first = scan(spec, **grid)
        cells = [each for each in first.said if isinstance(each, Cell)]
        assert len(cells) >= 3
        left = len(cells) // 2
        runs = [cells[:left], cells[left + 1 :]]
        covers = tuple(cover_of(run, first.listing.files, first.digests) for run in runs)
        before = proxy.bytes_down
        requests = len(proxy.requests)
        again = scan(spec, staged=covers, **grid)
        fetched = proxy.bytes_down - before - 600 * (len(proxy.requests) - requests) - 300 * len(files)
    assert [type(each) for each in again.said] == [StagedCells, Cell, StagedCells]
    bare = [replace(part, url="", plain=True, odd_numbers=False) for part in cells[left].slices]
    assert [replace(part, url="", plain=True, odd_numbers=False) for part in again.parts] == bare
    assert {place: again.data[place] for place in again.data} == {
        place: data for place, data in first.data.items() if place in again.data
    }
    left_bytes = sum(part.stop - part.start for part in cells[left].slices)
    if kind != "compressed":
        assert fetched <= left_bytes + 2**16 + 2000


def test_all_staged_fetches_nothing(
    azurite: Azurite, upload: Callable[..., BlobAccess], scan: Callable[..., Scanned]
) -> None:
    """Where all is staged, the listing is the one request."""
    access = upload({"a.csv": b"n,s\n" + ROWS})
    with FaultProxy(upstream=azurite.port) as proxy:
        through = azurite.access(access.container, port=proxy.port)
        spec = InputSpec(url=through.url_of(""), access=through)
        first = scan(spec, cell_rows=20_000)
        cells = [each for each in first.said if isinstance(each, Cell)]
        covers = tuple(cover_of([cell], first.listing.files, first.digests) for cell in cells)
        proxy.requests.clear()
        again = scan(spec, cell_rows=20_000, staged=covers)
    assert [type(each) for each in again.said] == [StagedCells] * 10
    assert [request.kind for request, _ in proxy.requests] == ["list"]
    assert again.grid == Grid(cell_rows=20_000, estimated_rows=200_000)


# What becomes of it in a job


class Echo:
    """A script that returns the names of its files."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def run(self, paths: list[str], *, mini_batch_index: int) -> ScriptResult:
        """Score the files of a mini-batch."""
        self.seen += paths
        lines = "".join(f"{mini_batch_index} {Path(path).name}\n" for path in paths).encode()
        return ScriptResult(lines=lines, columns=(), items=len(paths))

    def send_output(self) -> None:
        """Send nothing: it writes no files."""


@pytest.mark.parametrize("troubled", [{"b"}, {"a", "b", "c"}, set()])
def test_a_script_does_not_see_files_that_could_not_be_fetched(tmp_path: Path, troubled: set[str]) -> None:
    """They fail by themselves, with their reason; the others of their mini-batch are scored."""
    slices = []
    for number, name in enumerate("abc"):
        (tmp_path / name).write_bytes(b"1")
        bad = name in troubled
        slices.append(Slice(
            file=number, name=name, url=str(tmp_path / name), offset=0, start=0, stop=1, rows=int(not bad),
            format="file", problem="changed" if bad else "",
        ))  # fmt: skip
    batch = MiniBatch(number=7, cells=tuple(Cell(slices=(part,)) for part in slices))
    script = Echo()
    scored = ScriptScore(script, batch, marks=False)  # type: ignore[arg-type]
    good = [name for name in "abc" if name not in troubled]
    assert [Path(path).name for path in script.seen] == good
    assert scored.lines == "".join(f"7 {name}\n" for name in good).encode()
    assert [(each.name, each.rows, each.problem) for each in scored.accounts] == [
        (name, int(name in good), "" if name in good else "changed") for name in "abc"
    ]
    assert [json.loads(line) for line in scored.quarantine.splitlines()] == [
        {"file": name, "row": None, "rows": None, "reason": "changed"} for name in sorted(troubled)
    ]
    assert scored.causes == dict.fromkeys((f"{name}: changed" for name in troubled), 1)


@pytest.mark.parametrize(
    ("written", "root", "recursive", "refused"),
    [
        ("in/predictions.csv", "in", False, True),
        ("in/predictions.csv", "in/", False, True),
        ("in/out/predictions.csv", "in", False, False),
        ("in/out/predictions.csv", "in", True, True),
        ("in/out/p.csv", "", True, True),
        ("inside/p.csv", "in", True, False),
        ("a b/p.csv", "a%20b", False, True),
        ("out/p.csv", "out/p.csv", False, True),
        ("out/p.csv", "out/*.csv", False, True),
        ("out/p.csv", "in/*.csv", False, False),
    ],
)
def test_refuse_to_write_where_blobs_are_read(written: str, root: str, *, recursive: bool, refused: bool) -> None:
    """The output may not become input of this run or the next."""
    access = BlobAccess(account_url="https://a.blob.core.windows.net", container="c", kind="anonymous")

    class Output:
        url = access.url_of(written)

    spec = InputSpec(url=access.url_of(root), access=access, recursive=recursive)
    with pytest.raises(OutputError, match="lies inside the input") if refused else nullcontext():
        refuse_output_in_input(Output(), spec)  # type: ignore[arg-type]
