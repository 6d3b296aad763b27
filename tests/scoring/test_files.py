"""Listing the input, and the decoded bytes of each kind of file."""

import bz2
import codecs
import gzip
import os
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from scoring.cells import InputFile
from scoring.errors import InputError
from scoring.files import DecodedStream, InputSpec, check_readable, is_compressed, list_inputs, local_path, unreadable
from scoring.rows import Dialect
from tests.csv_texts import chunked, examples


@pytest.fixture
def folder(tmp_path):
    """A folder of files to read, and of others."""
    names = [
        *("b.csv", "a.csv", "B.CSV", "é.csv", "a b.csv.gz", "z.csv.zst"),
        *("_done.csv", ".hidden.csv", "sub/c.csv", "sub/_skip.csv", "sub/deep/d.csv", "_old/e.csv", ".git/f.csv"),
    ]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"x\n1\n")
    return tmp_path


def names_of(listing):
    """The names listed, in order."""
    return [file.name for file in listing.files]


def stored(path: Path, data: bytes) -> InputFile:
    """Write a file, and know it as input."""
    path.write_bytes(data)
    return InputFile(name=path.name, url=str(path), size_bytes=len(data), version="")


def decoded(file: InputFile, dialect: Dialect | None = None, size_bytes: int = 7) -> bytes:
    """Read a file as its slices count it."""
    stream = DecodedStream(file, dialect or Dialect())
    try:
        return b"".join(iter(lambda: stream.read(size_bytes), b""))
    finally:
        stream.close()


# Listing


def test_list_a_folder(folder):
    """Files at the top are listed by the bytes of their names; hidden and nested ones are counted."""
    listing = list_inputs(InputSpec(url=str(folder)))
    assert names_of(listing) == ["B.CSV", "a b.csv.gz", "a.csv", "b.csv", "z.csv.zst", "é.csv"]
    assert dict(listing.skipped) == {"hidden": 5, "nested": 2}
    for file in listing.files:
        assert (file.url, file.size_bytes) == (str(folder / file.name), 4)
        assert file.version == str(os.stat(file.url).st_mtime_ns)


def test_list_a_folder_and_all_below(folder):
    """With sub-folders, names are paths below the root; what is hidden stays so wherever it is."""
    listing = list_inputs(InputSpec(url=str(folder), recursive=True))
    assert names_of(listing) == [
        *("B.CSV", "a b.csv.gz", "a.csv", "b.csv", "sub/c.csv", "sub/deep/d.csv", "z.csv.zst", "é.csv"),
    ]
    assert dict(listing.skipped) == {"hidden": 5}


def test_list_a_folder_by_patterns(folder):
    """Only names that match one of the patterns are listed, letter case and all."""
    listing = list_inputs(InputSpec(url=str(folder), include=("a*", "*.zst")))
    assert names_of(listing) == ["a b.csv.gz", "a.csv", "z.csv.zst"]
    assert dict(listing.skipped) == {"hidden": 5, "nested": 2, "not included": 3}


def test_list_a_file(folder):
    """A file is listed by its own name, hidden or not."""
    for name in ("b.csv", "_done.csv"):
        listing = list_inputs(InputSpec(url=(folder / name).as_uri()))
        assert (names_of(listing), listing.skipped) == ([name], ())


def test_list_a_glob(folder):
    """A glob lists what it matches, named below the last folder it names."""
    assert names_of(list_inputs(InputSpec(url=f"{folder}/[ab].csv"))) == ["a.csv", "b.csv"]
    assert names_of(list_inputs(InputSpec(url=f"{folder}/sub/**/*.csv"))) == ["c.csv", "deep/d.csv"]
    assert names_of(list_inputs(InputSpec(url=f"{folder}/*/c.csv"))) == ["sub/c.csv"]


def test_list_a_file_whose_name_is_a_glob(folder):
    """What is there by this very name is no glob."""
    stored(folder / "[ab].csv", b"x\n")
    assert names_of(list_inputs(InputSpec(url=f"{folder}/[ab].csv"))) == ["[ab].csv"]


def test_list_links(folder):
    """Links are followed to files and folders; a circle of them is an error."""
    (folder / "link.csv").symlink_to(folder / "sub" / "c.csv")
    (folder / "below").symlink_to(folder / "sub")
    names = names_of(list_inputs(InputSpec(url=str(folder), recursive=True)))
    assert {"link.csv", "below/c.csv"} < set(names)
    for name in ("same", "sub/above", "sub/also"):
        # 2 to the power of 40 ways
        (folder / name).symlink_to(folder)
    assert names_of(list_inputs(InputSpec(url=str(folder), recursive=True))) == names
    (folder / "loop.csv").symlink_to(folder / "loop.csv")
    with pytest.raises(InputError, match=r"loop\.csv: "):
        list_inputs(InputSpec(url=str(folder)))


def test_list_names_that_are_no_text(tmp_path):
    """A name of any bytes is listed, in the order of its bytes."""
    for name in (b"\xff.csv", b"\xc3\xa9.csv", b"z.csv"):
        stored(tmp_path / os.fsdecode(name), b"x\n")
    listing = list_inputs(InputSpec(url=str(tmp_path)))
    assert [os.fsencode(name) for name in names_of(listing)] == [b"z.csv", b"\xc3\xa9.csv", b"\xff.csv"]


REFUSED = {
    "nothing there": ({"url": "none"}, "none: no such file or folder"),
    "a glob of nothing": ({"url": "none*"}, r"none\*: no input files"),
    "hidden files only": ({"url": "_old"}, None),
    "an empty folder": ({"url": "empty"}, "empty: no input files$"),
    "nested files only": ({"url": "nest"}, r"no input files \(1 nested left out; --recursive looks into sub-folders\)"),
    "nothing included": ({"url": ".", "include": ("*.tsv",)}, r"\(5 hidden, 8 nested, 7 not included left out"),
    "another scheme": ({"url": "s3://bucket/x"}, "s3:// is not read yet"),
    "another machine": ({"url": "file://other/x"}, "a file: URL names this machine only"),
    "a folder for a file": ({"url": "sub", "input_type": "uri_file"}, "is a folder, but --input-type says uri_file"),
    "a file for a folder": ({"url": "a.csv", "input_type": "uri_folder"}, "a file, but --input-type says uri_folder"),
    "a glob for a file": ({"url": "*.csv", "input_type": "uri_file"}, "a glob names many files"),
    "a link to nothing": ({"url": "gone.csv"}, r"no such file or folder \(it is a link to nothing\)"),
    "links to nothing": ({"url": "links"}, "lost.csv: it is a link to nothing"),
    "a pipe": ({"url": "pipes"}, "p.csv: it is no regular file; copy it to one first"),
    "no reader": ({"url": "tables"}, r"no reader for t\.txt, u\.tsv .*--include '\*\.csv'.*--input-format csv"),
    "no reader of a file": ({"url": "tables/u.tsv"}, "no reader for u.tsv .*--input-format csv"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_list_refuses(folder, monkeypatch, options, message):
    """What cannot be listed, or not be read, is refused before any work, and the message says what to do."""
    monkeypatch.chdir(folder)
    for name in ("empty", "nest/inner", "links", "pipes", "tables"):
        (folder / name).mkdir(parents=True)
    stored(folder / "nest" / "inner" / "a.csv", b"x\n")
    (folder / "gone.csv").symlink_to("nowhere")
    (folder / "links" / "lost.csv").symlink_to("nowhere")
    os.mkfifo(folder / "pipes" / "p.csv")
    for name in ("a.csv", "t.txt", "u.tsv"):
        stored(folder / "tables" / name, b"x\n")
    if message is None:
        assert names_of(list_inputs(InputSpec(**options))) == ["e.csv"]
        return
    with pytest.raises(InputError, match=message):
        list_inputs(InputSpec(**options))


def test_list_any_extension_as_csv(folder):
    """With the format given, extensions say nothing but how a file is compressed."""
    stored(folder / "t.txt", b"x\n")
    stored(folder / "u.gz", gzip.compress(b"x\n"))
    listing = list_inputs(InputSpec(url=str(folder), include=("t.txt", "u.gz"), input_format="csv"))
    assert [decoded(file) for file in listing.files] == [b"x\n", b"x\n"]


KNOWN = {
    "a.csv": "csv", "b.CSV.gz": "csv", "c.csv.zst": "csv", "d.parquet": "parquet", "e.PQT": "parquet",
    "f.png": "image", "g.JPG": "image", "h.jpeg": "image", "i.tiff": "image", "j.bmp": "image", "k.gif": "image",
}  # fmt: skip


def test_list_every_known_extension(tmp_path):
    """The extension says how a file is read, in any letter case (contract 4.2)."""
    for name in KNOWN:
        stored(tmp_path / name, b"x\n")
    assert {file.name: file.format for file in list_inputs(InputSpec(url=str(tmp_path))).files} == KNOWN
    as_csv = list_inputs(InputSpec(url=str(tmp_path), input_format="csv"))
    assert {file.format for file in as_csv.files} == {"csv"}


@pytest.mark.parametrize(
    ("name", "extension"), [("a.avro", "avro"), ("b.csv.bz2", "bz2"), ("README", ""), ("c.TXT", "TXT")]
)
def test_list_what_nothing_reads(tmp_path, name, extension):
    """A file that nothing reads is refused with all that is known, or is listed as one that fails, in Azure's words."""
    stored(tmp_path / "z.csv", b"x\n")
    stored(tmp_path / name, b"x\n")
    known = r"\.csv \.csv\.gz \.csv\.zst \.parquet \.pqt \.png \.jpg \.jpeg \.tiff \.bmp \.gif"
    with pytest.raises(InputError, match=rf"no reader for {name} \(known: {known}\); choose files with"):
        list_inputs(InputSpec(url=str(tmp_path)))
    for url in (tmp_path, tmp_path / name):
        unknown = list_inputs(InputSpec(url=str(url), unknown="fail")).files[0]
        text = f"Error processing input file: '{name}'. File type '{extension}' is not supported"
        assert (unknown.name, unknown.format, unknown.problem) == (name, "unknown", text)


def test_list_files_for_a_script(folder):
    """A script gets every file at the top, hidden and unknown ones too; what is nested is counted (contract 5.1)."""
    stored(folder / "notes.TXT", b"")
    listing = list_inputs(InputSpec(url=str(folder), kind="files"))
    assert names_of(listing) == [
        *(".hidden.csv", "B.CSV", "_done.csv", "a b.csv.gz", "a.csv", "b.csv", "notes.TXT", "z.csv.zst", "é.csv"),
    ]
    assert (dict(listing.skipped), {file.format for file in listing.files}) == ({"nested": 5}, {"file"})
    assert {file.problem for file in listing.files} == {""}


def test_list_files_for_a_script_and_all_below(tmp_path):
    """Files of one folder stand together, which the order of their paths would not give (contract 5.1)."""
    for name in ("a", "a.b/1", "a-b/1", "b/x/1", "b/2", "b.c/1", "z", ".git/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        stored(tmp_path / name, b"")
    listing = list_inputs(InputSpec(url=str(tmp_path), kind="files", recursive=True))
    assert names_of(listing) == ["a", "z", ".git/1", "a-b/1", "a.b/1", "b/2", "b.c/1", "b/x/1"]
    assert listing.skipped == ()


def test_local_paths(tmp_path, monkeypatch):
    """Paths and file: URLs become absolute paths."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("a") == local_path("~/a") == local_path(f"file://localhost{tmp_path}/a") == str(tmp_path / "a")
    assert local_path("file:///x%20y/%C3%A9") == "/x y/é"


# Reading

TEXT = "".join(f"{row},é{row % 7}\n" for row in range(3000)).encode()
pack_zst = zstandard.ZstdCompressor().compress
STORED = {
    "a.csv": TEXT,
    "a.csv.gz": gzip.compress(TEXT),
    "members.csv.gz": gzip.compress(TEXT[:999]) + gzip.compress(b"") + gzip.compress(TEXT[999:]),
    "padded.csv.gz": gzip.compress(TEXT) + b"\0" * 700,
    "A.CSV.GZ": gzip.compress(TEXT),
    "a.csv.zst": pack_zst(TEXT),
    "frames.csv.zst": b"".join(pack_zst(TEXT[at : at + 5000]) for at in range(0, len(TEXT), 5000)),
}


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("size_bytes", [1000, 2**20])
def test_read_decompresses(tmp_path, name, size_bytes):
    """A file is read as its text, of however many members it is."""
    assert decoded(stored(tmp_path / name, STORED[name]), size_bytes=size_bytes) == TEXT


@examples(30)
@given(st.binary(max_size=40).flatmap(chunked), st.sampled_from([".gz", ".zst"]))
def test_read_any_members(private_temporary_folder, pieces, extension):
    """Members of any content are read one behind the other."""
    pack = gzip.compress if extension == ".gz" else pack_zst
    path = private_temporary_folder / f"members.csv{extension}"
    assert decoded(stored(path, b"".join(map(pack, pieces)))) == b"".join(pieces)
    path.unlink()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7", "shift_jis", "cp037"])
def test_read_transcodes(tmp_path, encoding):
    """Text whose records cannot be found in its bytes is read as UTF-8, wherever the reads fall."""
    text = "a,ab\r\n1,2\n" * 50 + ("数\n" * 50 if encoding.startswith("utf") else "")
    file = stored(tmp_path / "a.csv", text.encode(encoding))
    for size_bytes in (1, 3, 1000):
        assert decoded(file, Dialect(encoding=encoding), size_bytes) == text.encode()


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ISO_8859-15", "cp1252", "windows-1251", "koi8-r", "ascii"])
def test_read_leaves_bytes_as_they_are(tmp_path, encoding):
    """Text that keeps ASCII is cut as it stands, so that a byte that is not valid costs its record alone."""
    assert codecs.lookup(encoding)
    data = bytes(range(1, 256))
    assert decoded(stored(tmp_path / "a.csv", data), Dialect(encoding=encoding)) == data


BROKEN = {
    "cut gz": ("a.csv.gz", STORED["a.csv.gz"][:-9], Dialect(), "the file ends in the middle of its compressed data"),
    "cut zst": ("a.csv.zst", STORED["a.csv.zst"][:-9], Dialect(), "the file ends in the middle of its compressed data"),
    "damaged gz": ("a.csv.gz", STORED["a.csv.gz"][:50] + b"\xff" * 99, Dialect(), "cannot be decompressed: "),
    "damaged zst": ("a.csv.zst", STORED["a.csv.zst"][:9] + b"\xff" * 99, Dialect(), "cannot be decompressed: "),
    "rubbish behind gz": ("a.csv.gz", STORED["a.csv.gz"] + b"more", Dialect(), "cannot be decompressed: "),
    "cut utf-16": ("a.csv", "ab".encode("utf-16")[:-1], Dialect(encoding="utf-16"), "not valid utf-16: truncated data"),
    "lone surrogate": ("a.csv", b"\x00\xd8a\0", Dialect(encoding="utf-16-le"), "not valid utf-16-le: illegal"),
    "odd shift_jis": ("a.csv", b"a\n\xff", Dialect(encoding="shift_jis"), "not valid shift_jis: illegal"),
}


@pytest.mark.parametrize(("name", "data", "dialect", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_read_broken_files(tmp_path, name, data, dialect, message):
    """A file that is torn, damaged or in another encoding is an error that says so."""
    with pytest.raises(InputError, match=message):
        decoded(stored(tmp_path / name, data), dialect)


def test_stored_bytes_of_a_stream(tmp_path):
    """A stream tells how much of the file as stored it has read."""
    file = stored(tmp_path / "a.csv.gz", STORED["a.csv.gz"])
    stream = DecodedStream(file, Dialect())
    assert stream.stored_bytes == 0
    while stream.read(1000):
        pass
    assert stream.stored_bytes == file.size_bytes
    stream.close()


UNREADABLE = {
    "a zero byte": ("a.csv", b"a,b\n1,\0\n", r"not a text file \(it has a zero byte at 6\); leave it out with"),
    "UTF-16": ("a.csv", "a,b\n".encode("utf-16"), "or name its --encoding if it is UTF-16"),
    "no gzip file": ("a.csv.gz", b"a,b\n", "not a gz file, whatever its name says"),
    "no zstandard file": ("a.csv.zst", bz2.compress(b"a"), "not a zst file, whatever its name says"),
}


@pytest.mark.parametrize(("name", "data", "message"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_check_refuses_what_is_no_text(tmp_path, name, data, message):
    """A file whose first bytes are no text is refused before any work."""
    with pytest.raises(InputError, match=message):
        check_readable(stored(tmp_path / name, data), Dialect())


def test_check_refuses_what_cannot_be_opened(tmp_path):
    """A file that cannot be opened is refused, with the system's reason."""
    file = InputFile(name="a.csv", url=str(tmp_path / "a.csv"), size_bytes=0, version="")
    with pytest.raises(InputError, match=r"a\.csv: cannot be read: No such file or directory"):
        check_readable(file, Dialect())


def test_check_leaves_what_a_script_reads(tmp_path):
    """What a scoring script reads, or nothing does, is not looked at; Parquet and images are only opened."""
    for kind in ("file", "unknown"):
        gone = InputFile(name="a.csv", url=str(tmp_path / "gone"), size_bytes=0, version="", format=kind)
        assert unreadable(gone, Dialect()) == ""
    for name in ("a.parquet", "a.png"):
        listed = stored(tmp_path / name, b"\0")
        (listed,) = list_inputs(InputSpec(url=listed.url)).files
        assert unreadable(listed, Dialect()) == ""
        (tmp_path / name).unlink()
        assert unreadable(listed, Dialect()) == "cannot be read: No such file or directory"


@pytest.mark.parametrize("name", [*STORED, "empty.csv", "empty.csv.gz", "empty.csv.zst"])
def test_check_accepts_text(tmp_path, name):
    """Text is accepted, compressed or not, and so is a file of no bytes."""
    check_readable(stored(tmp_path / name, STORED.get(name, b"")), Dialect())
    check_readable(stored(tmp_path / "wide.csv", "a,b\n".encode("utf-16")), Dialect(encoding="utf-16"))
    assert is_compressed(name) == (name.rsplit(".", 1)[1].lower() != "csv")
