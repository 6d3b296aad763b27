"""The scanner: cells of the reference's grid, slices without a gap, and what is staged already found again."""

import os
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate, pairwise
from multiprocessing import Pipe
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring import scan_csv, scanner, slices, staged
from scoring.cells import (
    Cell,
    MiniBatch,
    Slice,
    cell_rows_for,
    file_digest,
    identity_digest,
    input_digest,
    name_digest,
    slice_digest,
)
from scoring.files import DecodedStream, FileRange, InputSpec, Listing, list_inputs
from scoring.readers import fetch
from scoring.reference import Column, grid_cells, header_names, records
from scoring.rows import Dialect
from scoring.rows import header_names as fast_header_names
from scoring.scan import Begin, Grid, Refused, ScanEnd, StagedCells, StagedCover
from scoring.scanner import Scan, choose_grid, sample
from tests.csv_texts import PACKED, csv_files, examples, write_files

COLUMNS = [Column(name="n", type="long"), Column(name="s", type="string"), Column(name="t", type="datetime")]
GRIDS = st.sampled_from([0, 1, 2, 3, 7, 16, 1000])


def listed(root, **options):
    """The files below a folder."""
    return list_inputs(InputSpec(url=str(root), recursive=True, **options)).files


@contextmanager
def scanned(files, cell_rows, block_bytes=64, dialect=Dialect(), **begin):  # noqa: B008 - frozen
    """Files on disk, and the messages of one scan of them."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices, "BLOCK_BYTES", block_bytes)
        root, spool = Path(folder, "in"), Path(folder, "spool")
        spool.mkdir()
        write_files(root, files)
        scan = Scan(
            listed(root, dialect=dialect),
            dialect,
            Begin(cell_rows=cell_rows, spool=str(spool), spool_bytes=2**20, **begin),
            cell_rows,
        )
        yield root, list(scan.run())


def rows_of(files, delimiter=","):
    """Path, rows and names of the columns of files, as the reference sees them."""
    for path, data in files:
        found = list(records(data.removeprefix(b"\xef\xbb\xbf").decode("latin-1"), delimiter))
        yield path, max(0, len(found) - 1), header_names(found[0].fields) if found else ()


@st.composite
def small_files(draw):
    """Files of any number of rows, with one of a few headers or none."""
    headers = st.sampled_from(["a,b", "b,a", "a,b,c", "a,b"])
    files = draw(st.lists(st.tuples(headers, st.integers(0, 30)), min_size=1, max_size=12))
    return [
        (f"{number:02}.csv", "".join([header, *["\n1,2"] * rows]).encode() if rows or number % 3 else b"")
        for number, (header, rows) in enumerate(files)
    ]


@examples(60)
@given(st.one_of(small_files(), csv_files(COLUMNS, min_files=1)), GRIDS, st.sampled_from([1, 5, 64, 2**22]))
def test_cells_are_those_of_the_reference(files, cell_rows, block_bytes):
    """Files are cut and grouped as the reference does it, wherever the blocks of the scan end."""
    expected = grid_cells(list(rows_of(files)), cell_rows)
    with scanned(files, cell_rows, block_bytes) as (_, cells):
        assert [
            [(part.file, part.first_row, part.first_row + part.rows) for part in cell.slices] for cell in cells
        ] == expected


@examples(60)
@given(csv_files(COLUMNS, min_files=1), GRIDS, st.sampled_from([1, 5, 64, 2**22]), st.sampled_from(["", *PACKED]))
def test_slices_cover_every_byte_and_line(files, cell_rows, block_bytes, extension):
    """The slices of a file hold its bytes one behind the other, and know the rows and lines before them."""
    stored = [(name + extension, PACKED.get(extension, bytes)(data)) for name, data in files]
    with scanned(stored, cell_rows, block_bytes) as (_, cells):
        found = [part for cell in cells for part in cell.slices]
        for number, (_, data) in enumerate(sorted(files, key=lambda file: (file[0] + extension).encode())):
            parts = [part for part in found if part.file == number]
            assert b"".join(map(fetch, parts)) == data
            assert [part.start for part in parts] + [len(data)] == [0] + [part.stop for part in parts]
            assert [part.first_row for part in parts] == [0, *accumulate(part.rows for part in parts[:-1])]
            ends = [data[: part.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n") for part in parts]
            assert [part.first_line for part in parts] == [1 + before for before in ends]
            assert all(before.first_line + before.lines == after.first_line for before, after in pairwise(parts))
            assert len({(part.columns, part.width) for part in parts}) == 1
            skipped = b"".join(fetch(part)[: part.skip_bytes] for part in parts).decode("latin-1")
            assert len(list(records(skipped.removeprefix("\xef\xbb\xbf")))) <= 1


@given(st.lists(st.sampled_from(["a", "b", "a.1", "a.2", "a.1.1", "b.1", ""]), min_size=1, max_size=8))
def test_header_names_are_those_of_the_reference(fields):
    """Names met again are numbered as the reference does."""
    assert fast_header_names(fields) == header_names(fields)


def test_cells_of_a_file_that_cannot_be_read_on(monkeypatch):
    """What comes before the trouble is cut as usual; the rest is a slice with the problem, in a cell of its own."""
    monkeypatch.setattr(scan_csv, "MAX_RECORD_BYTES", 100)
    monkeypatch.setattr(slices, "MAX_RECORD_BYTES", 100)
    torn = PACKED[".gz"](b"a\n" + b"1\n" * 7)[:-3]
    files = [("a.csv", b'a\n1\n2\n3\n"' + b"4\n" * 99), ("b.csv.gz", torn), ("c.csv", b"a\n5\n")]
    with scanned(files, 2) as (_, cells):
        parts = [[(part.name, part.rows, part.problem[:25]) for part in cell.slices] for cell in cells]
    assert parts == [
        [("a.csv", 2, "")],
        [("a.csv", 1, "")],
        [("a.csv", 0, "a record of more than 0 M")],
        *[[("b.csv.gz", 2, "")]] * 3,
        [("b.csv.gz", 1, "")],
        [("b.csv.gz", 0, "cannot be decompressed: t")],
        [("c.csv", 1, "")],
    ]


def test_cells_of_a_file_that_is_gone(tmp_path):
    """A file that went away since it was listed is a slice with the problem."""
    write_files(tmp_path, [("a.csv", b"a\n1\n"), ("b.csv", b"a\n1\n")])
    files = listed(tmp_path)
    (tmp_path / "a.csv").unlink()
    cells = list(Scan(files, Dialect(), Begin(), 10).run())
    assert [part.problem for cell in cells for part in cell.slices] == [
        "cannot be read: No such file or directory",
        "",
    ]


@given(small_files(), GRIDS, st.integers(1, 40))
def test_limit_takes_the_first_rows(files, cell_rows, limit):
    """With a limit the scan ends at this row of the input."""
    total = sum(rows for _, rows, _ in rows_of(files))
    with scanned(files, cell_rows, limit_rows=limit) as (_, cells):
        assert sum(cell.rows for cell in cells) == min(limit, total)


# Files that are not cut


def test_cells_of_files_for_a_script(tmp_path):
    """Each file is a cell of one row that covers its bytes, whatever is in it (contract 5.1)."""
    contents = {"a.txt": b"?" * 70, ".b": b"", "c.csv": b"n,x\n1\n"}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    files = list_inputs(InputSpec(url=str(tmp_path), kind="files")).files
    assert choose_grid(files, Dialect(), -1) == Grid(cell_rows=0, estimated_rows=3)
    cells = list(Scan(files, Dialect(), Begin(), 0).run())
    assert [part for cell in cells for part in cell.slices] == [
        Slice(
            file=number, name=name, url=str(tmp_path / name), offset=0, start=0, stop=len(contents[name]), rows=1,
            format="file",
        )
        for number, name in enumerate([".b", "a.txt", "c.csv"])
    ]  # fmt: skip
    assert MiniBatch(number=0, cells=tuple(cells[1:2])).describe() == "a.txt"
    assert MiniBatch(number=0, cells=tuple(cells[1:3])).describe().endswith(" (2 files)")


def test_files_of_a_script_that_are_staged(tmp_path):
    """A part of whole files is found again by their identities, and by their bytes where times differ."""
    for name, data in {"a": b"1", "b": b"22", "c": b"", "d": b"333"}.items():
        (tmp_path / name).write_bytes(data)
    spec = InputSpec(url=str(tmp_path), kind="files")
    files = list_inputs(spec).files
    parts = [part for cell in Scan(files, Dialect(), Begin(), 0).run() for part in cell.slices][:3]
    digests = [file_digest(part.url, part.start, part.stop) for part in parts]
    cover = StagedCover(
        key="k", name_digest=name_digest("a"), start=0, length=3, rows=3, identity=identity_digest(files[:3]),
        input_digest=input_digest(
            (part.name, part.start, part.stop, digest) for part, digest in zip(parts, digests, strict=True)
        ),
    )  # fmt: skip

    def staged():
        begin = Begin(staged=(cover,))
        found = list(Scan(list_inputs(spec).files, Dialect(), begin, 0).run())
        return [len(each.cells) if isinstance(each, StagedCells) else each.slices[0].name for each in found]

    assert staged() == [3, "d"]
    os.utime(tmp_path / "b", ns=(1, 1))
    assert staged() == [3, "d"]
    (tmp_path / "b").write_bytes(b"23")
    assert staged() == ["a", "b", "c", "d"]


@given(st.binary(max_size=300), st.integers(0, 300), st.integers(0, 300))
def test_digest_of_a_range(private_temporary_folder, data, start, stop):
    """A range of a file has the digest of its bytes, however long it is."""
    path = private_temporary_folder / "range"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scoring.cells.DIGEST_BYTES", 7)
        assert file_digest(str(path), start, stop) == slice_digest(data[start:stop])
    path.unlink()


def test_files_that_cannot_be_read_fail_alone_where_asked(tmp_path):
    """A deployment's file that is no text, or that nothing reads, is a slice with the problem, not the job's end."""
    write_files(tmp_path, [("a.csv", b"a,\0\n"), ("b.avro", b"?"), ("c.csv", b"a\n1\n"), ("d.csv.gz", b"a\n1\n")])
    driver, scanned = Pipe()
    for message in (InputSpec(url=str(tmp_path), unknown="fail"), Begin(cell_rows=-1)):
        driver.send(message)
    scanner.main(scanned)
    said = [driver.recv() for _ in range(7)]
    problems = [part.problem for cell in said if isinstance(cell, Cell) for part in cell.slices]
    assert [problem[:24] for problem in problems] == [
        "not a text file (it has ",
        "Error processing input f",
        "",
        "not a gz file, whatever ",
    ]
    assert isinstance(said[-1], ScanEnd)
    driver.send(InputSpec(url=str(tmp_path), include=("a.csv",)))
    scanner.main(scanned)
    assert isinstance(driver.recv(), Refused)
    driver.close()
    scanned.close()


@pytest.mark.parametrize("extension", ["", ".gz"])
def test_without_a_grid_a_file_is_one_cell(extension):
    """A file that cannot be read on is one cell all the same, where a cell is a file."""
    broken = b'a\n1\n2\n"' + b"3\n" * 99
    torn = PACKED[".gz"](b"a\n" + b"1\n" * 7)[:-3]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_csv, "MAX_RECORD_BYTES", 100)
        patch.setattr(slices, "MAX_RECORD_BYTES", 100)
        with scanned([("a.csv" + extension, torn if extension else broken), ("b.csv", b"a\n5\n")], 0) as (_, cells):
            found = [[(part.rows, bool(part.problem)) for part in cell.slices] for cell in cells]
    assert found == [[(7 if extension else 2, False), (0, True)], [(1, False)]]


# What is staged already


def cover_of(cells, files, key="key"):
    """What the key of a part of these cells would say."""
    parts = [part for cell in cells for part in cell.slices]
    return StagedCover(
        key=key,
        name_digest=name_digest(parts[0].name),
        start=parts[0].start,
        length=sum(part.stop - part.start for part in parts),
        rows=sum(part.rows for part in parts),
        identity=identity_digest([files[number] for number in dict.fromkeys(part.file for part in parts)]),
        input_digest=input_digest((part.name, part.start, part.stop, slice_digest(fetch(part))) for part in parts),
        lines=sum(part.lines for part in parts),
    )


def told(part):
    """What of a slice counts: what it covers, which rows and lines, of which columns."""
    return (
        part.file, part.start, part.stop, part.skip_bytes, part.first_row, part.rows, part.first_line, part.lines,
        part.columns, part.width, part.problem,
    )  # fmt: skip


def same_but_staged(again, cells, runs):
    """Hold a scan that skips against a full one: what is staged stands where its cells stood, all else is the same."""
    found = []
    position = 0
    for message in again:
        if isinstance(message, StagedCells):
            run = runs[int(message.key)]
            assert cells[position : position + len(run)] == run
            assert sum(cell.rows for cell in message.cells) == sum(cell.rows for cell in run)
            assert sum(cell.size_bytes for cell in message.cells) == sum(cell.size_bytes for cell in run)
            names = [part.name for cell in message.cells for part in cell.slices]
            assert list(dict.fromkeys(names)) == list(dict.fromkeys(part.name for cell in run for part in cell.slices))
            position += len(run)
            found.append(int(message.key))
        else:
            assert [told(part) for part in message.slices] == [told(part) for part in cells[position].slices]
            position += 1
    assert position == len(cells)
    return found


@contextmanager
def reads_noted():
    """Note which bytes of which files the scanner reads."""
    noted = []

    class Noted(FileRange):
        def __init__(self, path, start, stop):
            super().__init__(path, start, stop)
            self._name = path

        def read(self, size_bytes=-1):
            start = self.tell()
            data = super().read(size_bytes)
            noted.append((self._name, start, start + len(data)))
            return data

    class NotedWhole(DecodedStream):
        def __init__(self, file, dialect, raw=None):
            super().__init__(file, dialect, raw if raw is not None else Noted(file.url, 0, file.size_bytes))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staged, "HEAD_BYTES", 2)
        patch.setattr(scanner, "FileRange", Noted)
        patch.setattr(slices, "DecodedStream", NotedWhole)
        yield noted


@examples(60)
@given(st.one_of(small_files(), csv_files(COLUMNS, min_files=1)), GRIDS, st.data())
def test_staged_cells_are_found_again(files, cell_rows, data):
    """Parts of an earlier scan stand for their cells, by the times on the files or by their bytes; others do not."""
    with scanned(files, cell_rows) as (root, cells):
        listing = listed(root)
        bounds = data.draw(st.sets(st.integers(0, len(cells)), min_size=2, max_size=6), label="bounds of runs")
        runs = [cells[a:b] for a, b in pairwise(sorted(bounds))]
        used = [run for run in runs if data.draw(st.booleans(), label="staged") and any(c.size_bytes for c in run)]
        covers = tuple(cover_of(run, listing, key=str(number)) for number, run in enumerate(used))
        steady = data.draw(st.booleans(), label="steady")
        if not steady and data.draw(st.booleans(), label="touched"):
            for file in listing:
                os.utime(file.url, ns=(1, 1))
        with reads_noted() as noted:
            again = list(Scan(listed(root), Dialect(), Begin(staged=covers, steady=steady), cell_rows).run())
        assert same_but_staged(again, cells, used) == list(range(len(used)))
        if steady:
            held = [part for run in used for cell in run for part in cell.slices]
            for part in held:
                own = next(run for run in used if part in [each for cell in run for each in cell.slices])
                whole = all(each in held for cell in cells for each in cell.slices if each.file == part.file)
                # of a part of several files, what is of a file that is read on must be counted
                counted = not whole and len({each.file for cell in own for each in cell.slices}) > 1
                assert counted or not [
                    (start, stop)
                    for name, start, stop in noted
                    if name.endswith("/in/" + part.name) and start < stop and start < part.stop and stop > part.start
                    # the header is read again
                    if whole or start
                ]


CHANGES = {
    "other bytes": lambda cover: replace(cover, input_digest=b"?" * 8, identity=b"????"),
    "more rows": lambda cover: replace(cover, rows=cover.rows + 1),
    "longer": lambda cover: replace(cover, length=cover.length + 1),
    "shorter": lambda cover: replace(cover, length=cover.length - 1),
    "more rows of a touched file": lambda cover: replace(cover, rows=cover.rows + 1, identity=b"????"),
    "another file": lambda cover: replace(cover, name_digest=b"????"),
    "elsewhere": lambda cover: replace(cover, start=cover.start + 1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_staged_parts_that_do_not_fit_are_left_alone(change):
    """A part that covers anything else stands for nothing; all cells are scored again."""
    files = [("a.csv", b"a\n" + b"1\n" * 10), ("b.csv", b"a\n1\n"), ("c.csv", b"a\n1\n")]
    with scanned(files, 4) as (root, cells):
        cover = change(cover_of(cells[1:], listed(root)))
        assert list(Scan(listed(root), Dialect(), Begin(staged=(cover,)), 4).run()) == cells


def test_staged_parts_may_overlap():
    """Of parts that begin alike the first that fits is taken; what lies behind it is matched on its own."""
    with scanned([("a.csv", b"a\n" + b"1\n" * 12)], 3) as (root, cells):
        listing = listed(root)
        covers = [cover_of(run, listing, key) for run, key in [(cells[:2], "x"), (cells[:3], "y"), (cells[3:], "z")]]
        odd = replace(covers[0], length=covers[0].length + 1, identity=b"????")
        for staged, keys in [((odd, *covers), ["x", None, "z"]), (covers[::-1], ["y", "z"])]:
            again = Scan(listing, Dialect(), Begin(staged=tuple(staged)), 3).run()
            assert [getattr(message, "key", None) for message in again] == keys


# The spool


def test_spool_holds_decoded_slices():
    """Compressed and transcoded files are spooled, a file for each slice; plain ones are read where they lie."""
    text = "a,b\n" + "é,1\n" * 5
    files = [("a.csv", text.encode()), ("b.csv.gz", PACKED[".gz"](text.encode()))]
    with scanned(files, 2) as (root, cells):
        parts = [part for cell in cells for part in cell.slices]
        assert {part.url for part in parts if part.name == "a.csv"} == {str(root / "a.csv")}
        spooled = [part for part in parts if part.name == "b.csv.gz"]
        assert len({part.url for part in spooled}) == len(spooled) == 3
        assert [Path(part.url).read_bytes() for part in spooled] == [
            data.encode() for data in ("a,b\né,1\né,1\n", "é,1\né,1\n", "é,1\n")
        ]
    wide = [("a.csv", text.encode("utf-16"))]
    with scanned(wide, 0, dialect=Dialect(encoding="utf-16")) as (_, (cell,)):
        assert [fetch(part) for part in cell.slices] == [text.encode()]


def test_spool_waits_for_room(tmp_path):
    """When the spool is full, the scanner waits until slices that it gave away are removed."""
    (tmp_path / "in").mkdir()
    (tmp_path / "spool").mkdir()
    write_files(tmp_path / "in", [("a.csv.gz", PACKED[".gz"](b"a\n" + b"123456789\n" * 100))])
    begin = Begin(spool=str(tmp_path / "spool"), spool_bytes=300)
    cells = Scan(listed(tmp_path / "in"), Dialect(), begin, 10).run()
    seen = []
    most = 0

    def scan():
        seen.extend(cells)

    thread = threading.Thread(target=scan)
    thread.start()
    removed = 0
    while thread.is_alive() or removed < len(seen):
        most = max(most, sum(path.stat().st_size for path in (tmp_path / "spool").iterdir()))
        if len(seen) > removed:
            time.sleep(0.01)
            os.unlink(seen[removed].slices[0].url)
            removed += 1
    thread.join()
    assert sum(cell.rows for cell in seen) == 100
    assert 200 <= most <= 700


def test_spool_has_room_for_a_mini_batch(tmp_path):
    """As many slices as were asked for lie there, however large: the scanner waits for none of them to be removed."""
    (tmp_path / "in").mkdir()
    (tmp_path / "spool").mkdir()
    write_files(tmp_path / "in", [("a.csv.gz", PACKED[".gz"](b"a\n" + b"123456789\n" * 100))])
    begin = Begin(spool=str(tmp_path / "spool"), spool_bytes=1, spool_cells=4)
    seen = []
    thread = threading.Thread(target=lambda: seen.extend(Scan(listed(tmp_path / "in"), Dialect(), begin, 10).run()))
    thread.start()
    for removed in range(7):
        deadline = time.monotonic() + 30
        while len(seen) < removed + 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert len(seen) == removed + 4
        os.unlink(seen[removed].slices[0].url)
    thread.join()


def test_spool_counts_whole_cells(tmp_path):
    """However many small files a cell has, the driver is given so many cells as it wants at once."""
    (tmp_path / "in").mkdir()
    (tmp_path / "spool").mkdir()
    write_files(tmp_path / "in", [(f"{number:02}.csv.gz", PACKED[".gz"](b"a\n1\n")) for number in range(40)])
    begin = Begin(spool=str(tmp_path / "spool"), spool_bytes=1, spool_cells=2)
    seen = []
    thread = threading.Thread(target=lambda: seen.extend(Scan(listed(tmp_path / "in"), Dialect(), begin, 8).run()))
    thread.start()
    deadline = time.monotonic() + 30
    while thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
        assert sum(os.path.exists(each.slices[0].url) for each in seen) <= 2
        if len(seen) >= 2 and os.path.exists(seen[-2].slices[0].url):
            for part in seen[-2].slices:
                os.unlink(part.url)
    thread.join()
    assert max(len(each.slices) for each in seen) > 2
    assert sum(each.rows for each in seen) == 40


# What is said


def conversation(spec, begin=None):
    """What the scanner says to a driver."""
    ours, theirs = Pipe()
    with ours, theirs:
        thread = threading.Thread(target=scanner.main, args=(theirs,))
        thread.start()
        ours.send(spec)
        said = [ours.recv()]
        if isinstance(said[0], Listing):
            ours.send(begin)
            while not isinstance(said[-1], ScanEnd | Refused):
                said.append(ours.recv())
        thread.join()
    return said


def test_scanner_lists_chooses_and_scans(tmp_path):
    """The listing comes first, then the grid, the cells, and the end with the number of rows."""
    write_files(tmp_path, [("a.csv", b"a\n" + b"1\n" * 10), ("_b.csv", b"a\n1\n")])
    listing, grid, *cells, end = conversation(InputSpec(url=str(tmp_path)), Begin(cell_rows=4))
    assert ([file.name for file in listing.files], listing.skipped) == (["a.csv"], (("hidden", 1),))
    assert grid == Grid(cell_rows=4, estimated_rows=10)
    assert [type(cell) for cell in cells] == [Cell] * 3
    assert end == ScanEnd(rows=10)
    assert conversation(InputSpec(url=str(tmp_path)), Begin())[1].cell_rows == 1024


def test_scanner_refuses(tmp_path):
    """What cannot be listed or read is refused in a sentence."""
    (refused,) = conversation(InputSpec(url=str(tmp_path)))
    assert refused == Refused(reason=f"{tmp_path}: no input files")
    write_files(tmp_path, [("a.csv", b"\0")])
    (refused,) = conversation(InputSpec(url=str(tmp_path)))
    assert "not a text file" in refused.reason


def test_scanner_ends_with_its_driver(tmp_path):
    """When the driver goes away, the scanner ends without a word."""
    write_files(tmp_path, [("a.csv", b"a\n" + b"1\n" * 10_000)])
    ours, theirs = Pipe()
    thread = threading.Thread(target=scanner.main, args=(theirs,))
    thread.start()
    ours.send(InputSpec(url=str(tmp_path)))
    ours.recv()
    ours.send(Begin(cell_rows=1))
    ours.recv()
    ours.close()
    thread.join(timeout=60)
    theirs.close()
    assert not thread.is_alive()


# The grid


def test_sample_measures_the_first_rows(tmp_path):
    """Mean bytes of a row and the rows of all files are estimated from the first MiB of text, stored in any way."""
    text = b"abc,def\n" + b"1234,6789\n" * 20_000
    write_files(tmp_path, [("a.csv", text), ("b.csv", text), ("c.csv", b""), ("d.csv", b"a")])
    bytes_per_row, rows = sample(listed(tmp_path), Dialect())
    assert (round(bytes_per_row, 2), round(rows / 40_000, 2)) == (10.0, 1.0)
    write_files(tmp_path, [(name, PACKED[".gz"](text)) for name in ("a.csv.gz", "b.csv.gz")])
    bytes_per_row, rows = sample([file for file in listed(tmp_path) if file.name.endswith("gz")], Dialect())
    assert (round(bytes_per_row, 2), round(rows / 40_000, 1)) == (10.0, 1.0)
    assert sample((), Dialect())[1] == 0


def test_sample_leaves_trouble_to_the_scan(tmp_path):
    """A file that cannot be read tells nothing, and stops nothing."""
    write_files(tmp_path, [("a.csv.gz", PACKED[".gz"](b"a\n1\n")[:-2]), ("b.csv", b"a\n" + b"12\n" * 99)])
    assert round(sample(listed(tmp_path), Dialect())[0]) == 3


@pytest.mark.parametrize(
    ("bytes_per_row", "rows", "expected"),
    [
        (40, 10, 1024),
        (40, 16 * 2048 - 1, 1024),
        (40, 16 * 2048, 2048),
        (40, 4_000_000, 131_072),
        (40, 1e9, 131_072),
        (100, 1e9, 65_536),
        (8_192, 1e9, 1024),
        (32_000, 1e9, 1024),
        (33_000, 1e9, 512),
        (100_000, 1e9, 256),
        (1e9, 1e9, 1),
        (100_000, 10, 256),
        (0, 0, 1024),
    ],
)
def test_cell_rows_for_an_input(bytes_per_row, rows, expected):
    """The rows of a cell are a power of two, by the bytes of a row and the rows there are."""
    assert cell_rows_for(bytes_per_row=bytes_per_row, estimated_rows=rows) == expected


def test_decoded_stream_is_read_once():
    """A scan reads every byte of a file once."""
    reads = []

    class Counted(DecodedStream):
        def read(self, size_bytes):
            data = super().read(size_bytes)
            reads.append(len(data))
            return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices, "DecodedStream", Counted)
        with scanned([("a.csv", b"a\n" + b"1\n" * 1000)], 7):
            assert sum(reads) == 2002
