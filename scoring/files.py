"""List input files, and read them as streams of decoded bytes."""

from __future__ import annotations

import codecs
import fnmatch
import glob
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import unquote, urlsplit

from scoring.cells import InputFile
from scoring.errors import InputError
from scoring.patient_files import open_patiently
from scoring.rows import Dialect

if TYPE_CHECKING:
    from scoring.blob_access import BlobAccess
    from scoring.remote_files import Found

CSV_EXTENSIONS = (".csv", ".csv.gz", ".csv.zst")
PARQUET_EXTENSIONS = (".parquet", ".pqt")
IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".tiff", ".bmp", ".gif")
KNOWN_EXTENSIONS = (*CSV_EXTENSIONS, *PARQUET_EXTENSIONS, *IMAGE_EXTENSIONS)
COMPRESSED_EXTENSIONS = (".gz", ".zst")
HEAD_BYTES = 64 * 2**10
COMPRESSED_READ_BYTES = 512 * 2**10
AS_CSV = "read it as CSV with --input-format csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """What to list and how to read it.

    Attributes:
        url: a file, a folder or a glob: a local path, a ``file:`` URL, the percent-encoded address of a blob, or of a
            public file; without any secret.
        input_type: ``uri_folder``, ``uri_file``, or empty: whatever is found.
        include: globs that names must match (any one); empty takes all.
        recursive: whether to look into sub-folders.
        input_format: ``csv`` reads every file as CSV; empty goes by the extension.
        dialect: how the CSV files are written.
        kind: rows: what can be scored row by row or image by image; files: every file there is, whatever its name, for
            a scoring script (contract 5.1).
        unknown: what becomes of a file that nothing can read: refuse: nothing is scored; fail: it fails alone.
        access: how the container of blobs is reached.
        query: what stands behind the question mark of a public file's address, and may be a secret.
    """

    url: str
    input_type: str = ""
    include: tuple[str, ...] = ()
    recursive: bool = False
    input_format: str = ""
    dialect: Dialect = Dialect()
    kind: Literal["rows", "files"] = "rows"
    unknown: Literal["refuse", "fail"] = "refuse"
    access: BlobAccess | None = field(default=None, repr=False)
    query: str = field(default="", repr=False)

    @property
    def is_remote(self) -> bool:
        """Whether it is fetched over the network."""
        return self.access is not None or self.url.lower().startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The input files in plan order, and how many were left out, by reason."""

    files: tuple[InputFile, ...]
    skipped: tuple[tuple[str, int], ...] = ()


def local_path(url: str) -> str:
    """Turn a local path or ``file:`` URL into an absolute path.

    Raises:
        InputError: the URL is of another scheme.
    """
    if url.lower().startswith("file:"):
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise InputError(f"{url}: a file: URL names this machine only, not {parts.netloc!r}; write file:///path")
        return os.path.abspath(unquote(parts.path))
    scheme = url.split("://", 1)[0] if "://" in url else ""
    if scheme:
        raise InputError(f"{url}: {scheme}:// is not read yet; use a local path or a file: URL")
    return os.path.abspath(os.path.expanduser(url))


def list_inputs(spec: InputSpec) -> Listing:
    """List the input once, sorted by the bytes of the paths below its root; for a script folder by folder.

    Raises:
        InputError: nothing is there, nothing of it can be scored, or a file has an extension no reader knows.
        InputBusyError: storage does not answer.
    """
    if spec.is_remote:
        return _list_remote(spec)
    path = local_path(spec.url)
    exists = os.path.exists(path)
    globbed = not exists and glob.has_magic(path)
    if globbed:
        if spec.input_type == "uri_file":
            raise InputError(f"{spec.url}: a glob names many files; use --input-type uri_folder or leave it out")
        root, names = _globbed(path)
    elif not exists:
        hint = " (it is a link to nothing)" if os.path.islink(path) else ""
        raise InputError(f"{spec.url}: no such file or folder{hint}")
    elif os.path.isdir(path):
        if spec.input_type == "uri_file":
            raise InputError(f"{spec.url} is a folder, but --input-type says uri_file; use uri_folder")
        root, names = path, list(_below(path, "", hidden=spec.kind == "files"))
    else:
        if spec.input_type == "uri_folder":
            raise InputError(f"{spec.url} is a file, but --input-type says uri_folder; use uri_file")
        _refuse_unknown(spec, [os.path.basename(path)], AS_CSV)
        return Listing(files=(_stat(spec, os.path.dirname(path), os.path.basename(path)),))
    kept, skipped = _select(spec, names, globbed=globbed)
    return Listing(files=tuple(_stat(spec, root, name) for name in kept), skipped=skipped)


def _list_remote(spec: InputSpec) -> Listing:
    from scoring.remote_files import HttpRanges, find_blobs

    if spec.access is not None:
        kind, found = find_blobs(spec.access, spec.url, input_type=spec.input_type)
    elif spec.input_type == "uri_folder":
        raise InputError(f"{spec.url}: a folder at a public address cannot be listed; name one file, as uri_file")
    else:
        kind, found = "file", [HttpRanges(spec.url, spec.query).find()]
    if kind == "file":
        _refuse_unknown(spec, [each.name for each in found], AS_CSV)
        return Listing(files=tuple(_input_file(spec, each) for each in found))
    by_name = {each.name: each for each in found}
    kept, skipped = _select(spec, list(by_name), globbed=kind == "glob")
    return Listing(files=tuple(_input_file(spec, by_name[name]) for name in kept), skipped=skipped)


def _below(root: str, prefix: str, *, hidden: bool, around: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the names of all files, but not those behind a link to one of the real folders around it, which are again.

    Through two such links there are more ways than anybody could ever walk.
    """
    around = around or (os.path.realpath(root),)
    try:
        entries = list(os.scandir(os.path.join(root, prefix)))
    except OSError as error:
        raise InputError(f"{os.path.join(root, prefix)}: cannot be listed: {error.strerror}") from None
    for entry in entries:
        name = prefix + entry.name
        if _is_folder(entry):
            # where nothing hidden is read, nothing below it is looked at
            if entry.name.startswith(("_", ".")) and not hidden:
                yield name
            else:
                real = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(around[-1], entry.name)
                if real not in around:
                    yield from _below(root, name + "/", hidden=hidden, around=(*around, real))
        else:
            yield name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # a circle of links: as a file it is told by its name
        return False


def _globbed(pattern: str) -> tuple[str, list[str]]:
    root = pattern
    while glob.has_magic(root):
        root = os.path.dirname(root)
    names = [os.path.relpath(path, root) for path in glob.glob(pattern, recursive=True) if not os.path.isdir(path)]
    return root, [name.replace(os.sep, "/") for name in names]


def _select(spec: InputSpec, names: list[str], *, globbed: bool) -> tuple[list[str], tuple[tuple[str, int], ...]]:
    """Choose the files to read, in order, and count the others."""
    skipped = {"hidden": 0, "nested": 0, "not included": 0}
    kept = []
    for name in names:
        if spec.kind == "rows" and any(part.startswith(("_", ".")) for part in name.split("/")):
            skipped["hidden"] += 1
        elif "/" in name and not spec.recursive and not globbed:
            skipped["nested"] += 1
        elif spec.include and not any(fnmatch.fnmatchcase(name, pattern) for pattern in spec.include):
            skipped["not included"] += 1
        else:
            kept.append(name)
    counts = tuple((reason, count) for reason, count in skipped.items() if count)
    if not kept:
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in counts)
        hint = "; --recursive looks into sub-folders" if skipped["nested"] else ""
        raise InputError(f"{spec.url}: no input files" + (f" ({left_out} left out{hint})" if left_out else ""))
    _refuse_unknown(spec, kept, "choose files with --include '*.csv', or read all as CSV with --input-format csv")
    kept.sort(key=_by_folder if spec.kind == "files" else _by_path)
    return kept, counts


def _by_path(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _by_folder(name: str) -> tuple[bytes, bytes]:
    """Keep the files of a folder together, which paths do not: ``a-b/c`` stands between ``a`` and ``a/b``."""
    folder, _, base = name.rpartition("/")
    return _by_path(folder), _by_path(base)


def _format(spec: InputSpec, name: str) -> str:
    if spec.kind == "files":
        return "file"
    lower = name.lower()
    if spec.input_format == "csv" or lower.endswith(CSV_EXTENSIONS):
        return "csv"
    if lower.endswith(PARQUET_EXTENSIONS):
        return "parquet"
    return "image" if lower.endswith(IMAGE_EXTENSIONS) else "unknown"


def _refuse_unknown(spec: InputSpec, names: list[str], advice: str) -> None:
    if spec.unknown == "fail":
        return
    unknown = [name for name in names if _format(spec, name) == "unknown"]
    if unknown:
        shown = ", ".join(sorted(unknown)[:5]) + (f" and {len(unknown) - 5:,} more" if len(unknown) > 5 else "")
        raise InputError(f"{spec.url}: no reader for {shown} (known: {' '.join(KNOWN_EXTENSIONS)}); {advice}")


def _stat(spec: InputSpec, root: str, name: str) -> InputFile:
    path = os.path.join(root, name)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise InputError(f"{path}: it is a link to nothing") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: it is no regular file; copy it to one first")
    return _as_input(spec, name, path, status.st_size, str(status.st_mtime_ns))


def _input_file(spec: InputSpec, found: Found) -> InputFile:
    return _as_input(spec, found.name, found.url, found.size_bytes, found.version)


def _as_input(spec: InputSpec, name: str, url: str, size_bytes: int, version: str) -> InputFile:
    known = _format(spec, name)
    problem = _unsupported(name) if known == "unknown" else ""
    return InputFile(name=name, url=url, size_bytes=size_bytes, version=version, format=known, problem=problem)


def _unsupported(name: str) -> str:
    """Say that nothing reads such a file, in the words of Azure ML (contract 4.2)."""
    extension = os.path.splitext(name)[1].removeprefix(".")
    return f"Error processing input file: '{name}'. File type '{extension}' is not supported"


def is_compressed(name: str) -> bool:
    """Tell whether a CSV file is decompressed while it is read."""
    return name.lower().endswith(COMPRESSED_EXTENSIONS)


def check_readable(file: InputFile, dialect: Dialect) -> None:
    """Refuse a file that cannot be opened, or a CSV file whose first bytes are no text.

    Raises:
        InputError: it names the file and the reason.
    """
    trouble = unreadable(file, dialect)
    if trouble:
        raise InputError(f"{file.url}: {trouble}")


def unreadable(file: InputFile, dialect: Dialect) -> str:
    """Say why a file cannot be opened, or why the first bytes of a CSV file are no text; empty where all is well.

    What else is wrong with a file of another format shows when it is read. What a scoring script reads, or nothing
    does, is not looked at.
    """
    if file.format not in ("csv", "parquet", "image"):
        return ""
    try:
        with open_patiently(file.url) as source:
            head = source.read(HEAD_BYTES) if file.format == "csv" else b""
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return head_trouble(file, head, dialect) if file.format == "csv" else ""


def head_trouble(file: InputFile, head: bytes, dialect: Dialect) -> str:
    """Say why the first bytes of a CSV file are no text; empty where all is well."""
    if is_compressed(file.name):
        magic = b"\x1f\x8b" if file.name.lower().endswith(".gz") else b"\x28\xb5\x2f\xfd"
        if head and not head.startswith(magic):
            return f"not a {file.name.rsplit('.', 1)[1]} file, whatever its name says"
    elif dialect.direct and b"\0" in head:
        return (
            f"not a text file (it has a zero byte at {head.index(0):,}); leave it out with --include, "
            "or name its --encoding if it is UTF-16 or UTF-32"
        )
    return ""


class RawStream(Protocol):
    """Bytes as they are stored: a file on disk, a part of it, or what is fetched."""

    def read(self, size_bytes: int = -1, /) -> bytes | None:
        """Read the next bytes, no more than asked for; none at the end."""
        ...

    def tell(self) -> int:
        """Return the offset of what is read next."""
        ...

    def close(self) -> None:
        """Stop reading."""
        ...


class FileRange:
    """Some bytes of a file on disk, from one offset up to another."""

    def __init__(self, path: str, start: int, stop: int) -> None:
        self._file = open_patiently(path)
        self._file.seek(start)
        self._stop = stop

    def read(self, size_bytes: int = -1, /) -> bytes | None:
        """Read the next bytes."""
        left = self._stop - self._file.tell()
        return self._file.read(left if size_bytes < 0 else min(left, size_bytes))

    def tell(self) -> int:
        """Return the offset of what is read next."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class DecodedStream:
    """The bytes of a file as its slices count them: decompressed, and as UTF-8 where they cannot be cut as they are.

    Args:
        file: which.
        dialect: how it is written.
        raw: its bytes as stored; without, they are read where the file is.
    """

    def __init__(self, file: InputFile, dialect: Dialect, raw: RawStream | None = None) -> None:
        self._raw: RawStream = open_patiently(file.url) if raw is None else raw
        self._inflated = _inflate(self._raw, file.name) if is_compressed(file.name) else None
        self._decoder = None if dialect.direct else codecs.getincrementaldecoder(dialect.encoding)()
        self._encoding = dialect.encoding
        self._ended = False

    @property
    def stored_bytes(self) -> int:
        """How many bytes of the file were read so far."""
        return self._raw.tell()

    def read(self, size_bytes: int) -> bytes:
        """Read the next bytes, about as many as asked for; none at the end.

        Raises:
            InputError: the file is torn or not in its encoding.
            OSError: it cannot be read.
        """
        while not self._ended:
            data = next(self._inflated, b"") if self._inflated else self._raw.read(size_bytes) or b""
            self._ended = not data
            if self._decoder is None:
                return data
            try:
                text = self._decoder.decode(data, final=self._ended)
            except UnicodeDecodeError as error:
                raise InputError(f"not valid {self._encoding}: {error.reason}") from None
            if text:
                return text.encode("utf-8", "surrogatepass")
        return b""

    def close(self) -> None:
        """Close the file."""
        self._raw.close()


def _inflate(source: RawStream, name: str) -> Iterator[bytes]:
    """Decompress a gz or zst file of any number of members or frames.

    Raises:
        InputError: it ends too early, or is damaged.
    """
    begin, damage = _decompressor(name)
    data = b""
    while data or (data := source.read(COMPRESSED_READ_BYTES) or b""):
        member = begin()
        while True:
            try:
                text = member.decompress(data)
            except damage as error:
                raise InputError(f"cannot be decompressed: {error}") from None
            if text:
                yield text
            if member.eof:
                # some tools pad the end of a gzip file with zeros
                data = member.unused_data.lstrip(b"\0")
                break
            data = source.read(COMPRESSED_READ_BYTES) or b""
            if not data:
                raise InputError("cannot be decompressed: the file ends in the middle of its compressed data")


def _decompressor(name: str) -> tuple[Callable[[], Any], type[Exception]]:
    if name.lower().endswith(".zst"):
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError
    return lambda: zlib.decompressobj(wbits=31), zlib.error
