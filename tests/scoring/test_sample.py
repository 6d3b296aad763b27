"""Looking into files before a job: their columns, their first and last rows, whether they can be read."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from PIL import Image

from scoring import sample
from scoring.cells import InputFile
from scoring.rows import Dialect
from scoring.sample import Cause, Sampled, sampled
from scoring.specs import ColumnSpec, ReadPlan

COLUMNS = (ColumnSpec(name="a", type="long"), ColumnSpec(name="b", type="string", required=False))
CSV = "a,b\n1,x\n2,y\n"
PIECE = 4_096


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few thousand bytes be a large file."""
    monkeypatch.setattr(sample, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(sample, "PIECE_ROWS", 10)


def look(
    path: Path, format_name: str = "csv", *, dialect: Dialect | None = None, keep: tuple[str, ...] = ()
) -> Sampled:
    """Look into a file."""
    file = InputFile(name=path.name, url=str(path), size_bytes=path.stat().st_size, version="1", format=format_name)
    pieces = path.parent / "pieces"
    pieces.mkdir(exist_ok=True)
    return sampled(file, ReadPlan(columns=COLUMNS, dialect=dialect or Dialect(), keep=keep), str(pieces))


def written(folder: Path, content: str | bytes, name: str = "in.csv") -> Path:
    """Write a file."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def cause(column: str | None, reason: str, *examples: tuple[int, str | None], rows: int = 0) -> Cause:
    """Say why rows do not fit."""
    return Cause(column=column, reason=reason, rows=rows or len(examples), examples=examples)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (CSV, Sampled(name="in.csv", rows=2)),
        ("\ufeff" + CSV, Sampled(name="in.csv", rows=2)),
        (CSV.replace("\n", "\r\n"), Sampled(name="in.csv", rows=2)),
        ("", Sampled(name="in.csv")),
        ("a,b\n", Sampled(name="in.csv")),
        ("b,id\nx,1\n", Sampled(name="in.csv", rows=1, missing=("a",), extra=("id",))),
        ("a\n1\n", Sampled(name="in.csv", rows=1)),
        (
            "a,b\nx,x\n2,y\n,\n3\n",
            Sampled(
                name="in.csv",
                rows=4,
                causes=(
                    cause("a", "not a long", (0, "x")),
                    cause("a", "blank where the signature says long", (2, None)),
                    cause(None, "1 fields where the header has 2", (3, "3")),
                ),
            ),
        ),
        (
            "a,b\n" + "no,\n" * 9,
            Sampled(name="in.csv", rows=9, causes=(cause("a", "not a long", (0, "no"), (1, "no"), (2, "no"), rows=9),)),
        ),
        ("a,b\n1,\"x\n", Sampled(name="in.csv", rows=1, causes=(cause(None, "quote is never closed", (0, '1,"x\n')),))),
        (b"a,b\n1,\xff\n", Sampled(name="in.csv", rows=1, causes=(cause(None, "not valid utf-8", (0, "1,\\xff")),))),
    ],
    ids=[
        "fits", "byte order mark", "CRLF", "empty", "header alone", "other columns", "optional column", "misfits",
        "three examples", "open quote", "no UTF-8",
    ],
)  # fmt: skip
def test_small_file_is_read_whole(tmp_path: Path, content: str | bytes, expected: Sampled) -> None:
    """All of its rows are looked at, and numbered as they are in the file."""
    assert look(written(tmp_path, content)) == expected


def test_every_misfit_of_a_row_counts(tmp_path: Path) -> None:
    """Where a job names the first, and the others beside it, each cause is told."""
    columns = (ColumnSpec(name="a", type="long"), ColumnSpec(name="b", type="boolean"))
    file = written(tmp_path, "a,b\nx,y\n1,true\n")
    plan = ReadPlan(columns=columns, dialect=Dialect())
    listed = InputFile(name="in.csv", url=str(file), size_bytes=14, version="1")
    found = sampled(listed, plan, str(tmp_path)).causes
    assert found == (cause("a", "not a long", (0, "x")), cause("b", "not a boolean", (0, "y")))


def test_columns_to_keep_are_wanted_too(tmp_path: Path) -> None:
    """They are missing where they are not there, and not too many where they are."""
    file = written(tmp_path, "a,b,id\n1,x,7\n")
    assert look(file, keep=("id",)).extra == ()
    assert look(file, keep=("id", "no")).missing == ("no",)


def large(bad_first: str = "", bad_last: str = "", *, middle: str = "5,fine", end: str = "\n") -> str:
    """Write a file of three pieces, with rows that do not fit at its ends."""
    rows = ["a,b", *filter(None, [bad_first]), *[middle] * (3 * PIECE // len(middle + end)), *filter(None, [bad_last])]
    return end.join(rows) + end


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize(
    ("middle", "records"),
    [("5,fine", 1), ('5,"a ""word"", and\nanother, two"', 1), ('5,2" pipe\n5,"in\nquotes"\n5,3" pipe', 3)],
    ids=["plain", "quoted lines", "stray quotes"],
)
def test_large_file_is_looked_at_from_both_ends(tmp_path: Path, middle: str, records: int, end: str) -> None:
    """Rows near the end are numbered from there, and no line inside quotes is taken for a row."""
    found = look(written(tmp_path, large("x,first", "y,last", middle=middle.replace("\n", end), end=end)))
    assert found.causes == (cause("a", "not a long", (0, "x"), (-1, "y")),)
    assert (found.missing, found.extra, found.problem) == ((), (), "")
    assert 1 < found.rows * len(middle + end) / records / PIECE < 2.1


def test_footer_of_a_large_file_is_met(tmp_path: Path) -> None:
    """The line of totals that some programs write."""
    found = look(written(tmp_path, large(bad_last="total 99")))
    assert found.causes == (cause(None, "1 fields where the header has 2", (-1, "total 99")),)


def test_middle_of_a_large_file_is_not_looked_at(tmp_path: Path) -> None:
    """What is not sampled is not told."""
    text = large()
    half = text.index("\n", len(text) // 2) + 1
    assert look(written(tmp_path, text[:half] + "x,middle\n" + text[half:])).causes == ()


def test_file_without_header_has_its_ends_looked_at(tmp_path: Path) -> None:
    """The names come from elsewhere, and the first line is a row."""
    rows = large("x,first", "y,last").split("\n", 1)[1]
    found = look(written(tmp_path, rows), dialect=Dialect(header=False, columns=("a", "b")))
    assert found.causes == (cause("a", "not a long", (0, "x"), (-1, "y")),)


def test_record_of_more_than_a_piece(tmp_path: Path) -> None:
    """Nothing is said of what cannot be seen to its end."""
    assert look(written(tmp_path, "a,b\n1," + "x" * 3 * PIECE + "\n")) == Sampled(name="in.csv")


@pytest.mark.parametrize(("extension", "pack"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_compressed_file(tmp_path: Path, extension: str, pack: Callable[[bytes], bytes]) -> None:
    """A large one is looked at from its begin; a torn one cannot be read."""
    whole = look(written(tmp_path, pack(b"a,b\nx,1\n"), f"in.csv{extension}"))
    assert whole.causes == (cause("a", "not a long", (0, "x")),)
    begin = look(written(tmp_path, pack(large("x,first", "y,last").encode()), f"in.csv{extension}"))
    assert begin.causes == (cause("a", "not a long", (0, "x")),)
    torn = look(written(tmp_path, pack(CSV.encode())[:-4], f"in.csv{extension}"))
    assert torn.problem.startswith("cannot be decompressed: ")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "cp1252"])
def test_encoding(tmp_path: Path, encoding: str) -> None:
    """Both those that are cut as they are and those that are decoded first."""
    path = written(tmp_path, "a,b\nä,Köln\n2,Köln\n".encode(encoding))
    assert look(path, dialect=Dialect(encoding=encoding)).causes == (cause("a", "not a long", (0, "ä")),)
    path = written(tmp_path, large("ä,Köln", middle="5,Köln").encode(encoding))
    assert look(path, dialect=Dialect(encoding=encoding)).causes == (cause("a", "not a long", (0, "ä")),)


def write_table(path: Path, values: list[object], **options: int) -> Path:
    """Write a Parquet file with one column of text."""
    pq.write_table(pa.table({"a": pa.array(values, pa.string()), "more": [0] * len(values)}), path, **options)
    return path


@pytest.mark.parametrize("options", [{}, {"row_group_size": 20}, {"row_group_size": 3}], ids=["one", "few", "many"])
def test_parquet_is_looked_at_from_both_ends(tmp_path: Path, options: dict[str, int]) -> None:
    """Its rows are numbered exactly, in however many row groups they are."""
    values: list[object] = ["1"] * 100
    values[1] = values[50] = values[98] = "x"
    values[99] = None
    found = look(write_table(tmp_path / "in.parquet", values, **options), "parquet")
    assert found.causes == (
        cause("a", "not a long", (1, "x"), (98, "x")),
        cause("a", "blank where the signature says long", (99, None)),
    )
    assert (found.missing, found.extra) == ((), ("more",))
    assert found.rows <= 20


def test_small_parquet_is_read_whole(tmp_path: Path) -> None:
    """No row is looked at twice."""
    found = look(write_table(tmp_path / "in.parquet", ["1"] * 9 + ["x"] * 9), "parquet")
    assert found.rows == 18
    assert found.causes == (cause("a", "not a long", (9, "x"), (10, "x"), (11, "x"), rows=9),)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Each says why; what a script reads may hold anything."""
    torn = written(tmp_path, b"PAR1 and no more", "in.parquet")
    assert look(torn, "parquet").problem.startswith("cannot be read as Parquet: ")
    no_image = written(tmp_path, b"GIF89a and no more", "in.gif")
    assert look(no_image, "image").problem.startswith("cannot be read as an image")
    assert look(no_image, "file") == Sampled(name="in.gif", rows=1)
    gone = InputFile(name="gone", url=str(tmp_path / "gone"), size_bytes=1, version="1", format="file")
    plan = ReadPlan(columns=(), dialect=Dialect())
    assert sampled(gone, plan, str(tmp_path)).problem == "cannot be read: No such file or directory"


def test_image_that_can_be_read(tmp_path: Path) -> None:
    """It is a row."""
    Image.new("RGB", (2, 2)).save(tmp_path / "in.png")
    assert look(tmp_path / "in.png", "image") == Sampled(name="in.png", rows=1)


def test_values_are_left_out_where_nobody_may_see_them(tmp_path: Path) -> None:
    """They do not even leave the process that reads them."""
    plan = ReadPlan(columns=COLUMNS, dialect=Dialect(), quarantine_values=False)
    file = written(tmp_path, "a,b\nsecret,x\nsecret\n")
    found = sampled(InputFile(name="in.csv", url=str(file), size_bytes=20, version="1"), plan, str(tmp_path))
    assert found.causes == (
        cause("a", "not a long", (0, None)),
        cause(None, "1 fields where the header has 2", (1, None)),
    )
