"""Globs of blobs, listings of any length, and public files, from servers that know ranges and from others."""

import glob
import http.server
import threading
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.blob_access import BlobAccess
from scoring.cells import InputFile
from scoring.errors import InputBusyError, InputError
from scoring.files import InputSpec, list_inputs
from scoring.remote_files import BlobRanges, HttpRanges, blob_path, find_blobs, glob_matches
from tests.csv_texts import examples

# Globs

SEGMENTS = st.text("ab.*", min_size=1, max_size=3).filter(lambda text: text not in (".", ".."))
NAMED = st.text("ab.", min_size=1, max_size=3).filter(lambda text: text.strip("."))
PATTERNS = st.lists(st.one_of(SEGMENTS, st.sampled_from(["*", "**", "[ab]", "[!a]*", "?", ".*", "*.b"])), min_size=1)


@examples(200)
@given(
    st.sets(st.lists(NAMED, min_size=1, max_size=3).map("/".join), max_size=8),
    PATTERNS.map("/".join),
)
def test_globs_match_what_those_of_local_files_do(private_temporary_folder, names, pattern):
    """A glob takes the blobs that it would take as files."""
    root = private_temporary_folder / f"{time.monotonic_ns()}"
    for name in names:
        try:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue
    files = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    found = {path for path in glob.glob(pattern, root_dir=root, recursive=True) if (root / path).is_file()}
    assert {name for name in files if glob_matches(name, pattern)} == found


# A listing of blobs

NAMES = 100_000
PAGE = 5_000


@contextmanager
def serving(handler):
    """A server on this machine, for as long as needed: its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Quiet(http.server.BaseHTTPRequestHandler):
    """Answers without a word on standard error."""

    protocol_version = "HTTP/1.1"
    asked: list[str]

    def log_message(self, *_):
        """Say nothing."""

    def answer(self, status, body=b"", **headers):
        """Answer."""
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class ManyBlobs(Quiet):
    """A container of many blobs, listed as the service does it: in pages, each with a marker for the next."""

    pages = 0

    def do_GET(self):
        """Answer with a page."""
        type(self).pages += 1
        query = parse_qs(urlsplit(self.path).query)
        first = int(query.get("marker", ["0"])[0])
        blobs = "".join(
            f"<Blob><Name>in/{number:06}.csv</Name><Properties><Last-Modified>Sun, 22 Nov 2026 10:00:00 GMT"
            f"</Last-Modified><Etag>0x{number:X}</Etag><Content-Length>{number + 1}</Content-Length>"
            "<Content-Type>text/csv</Content-Type><BlobType>BlockBlob</BlobType></Properties></Blob>"
            for number in range(first, min(NAMES, first + PAGE))
        )
        following = str(first + PAGE) if first + PAGE < NAMES else ""
        text = f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker>{following}</NextMarker></EnumerationResults>"
        self.answer(200, text.encode(), Content_Type="application/xml")


def test_a_hundred_thousand_blobs():
    """A long listing comes in pages, each asked for once, in seconds."""
    with serving(ManyBlobs) as address:
        access = BlobAccess(account_url=f"{address}/devstoreaccount1", container="c", kind="anonymous")
        files = list_inputs(InputSpec(url=access.url_of("in/"), access=access)).files
    assert len(files) == NAMES
    assert ManyBlobs.pages == NAMES // PAGE
    assert files[17] == InputFile(name="000017.csv", url=access.url_of("in/000017.csv"), size_bytes=18, version="0x11")
    assert [file.name for file in files] == sorted(file.name for file in files)


def test_address_of_a_blob():
    """The path of a blob is what stands behind its container, decoded."""
    access = BlobAccess(account_url="https://a.blob.core.windows.net", container="c", kind="anonymous")
    paths = ["c/d%20e/%23.csv", "c/", "c", "c/x/"]
    assert [blob_path(access, f"https://a.blob.core.windows.net/{path}") for path in paths] == [
        "d e/#.csv",
        "",
        "",
        "x/",
    ]
    with pytest.raises(InputError, match="not in the container"):
        blob_path(access, "https://a.blob.core.windows.net/cc/x")


def test_storage_that_is_away():
    """A host that does not answer is no fault of the input: it may be tried later."""
    access = BlobAccess(
        account_url="http://127.0.0.1:9/devstoreaccount1", container="c", kind="sas", secret="sig=geheim", patience=0
    )
    with pytest.raises(InputBusyError, match="cannot be listed: it does not answer; try again later") as caught:
        find_blobs(access, access.url_of("x"), input_type="")
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(("status", "sentence"), [(403, "does not permit to read it"), (500, "it answered 500")])
def test_storage_that_lets_us_in_no_longer(status, sentence, monkeypatch):
    """What storage refuses while the job runs stops it, and it may go on later."""
    monkeypatch.setattr("scoring.remote_files.TRIES", 1)

    class Refusing(Quiet):
        def do_GET(self):
            self.answer(status, b"<Error/>")

    with serving(Refusing) as address:
        access = BlobAccess(
            account_url=f"{address}/devstoreaccount1", container="c", kind="sas", secret="sig=geheim", patience=0
        )
        file = InputFile(name="x", url=access.url_of("x"), size_bytes=9, version="1")
        with pytest.raises(InputBusyError, match=sentence) as caught:
            BlobRanges(access).get(file, 0, 9)
    assert "geheim" not in str(caught.value)


# Public files

DATA = bytes(range(256)) * 40


def file_server(*, ranges=True, etag='"1"', length=True):
    """A class of a server of one file."""

    class OneFile(Quiet):
        data = DATA
        tag = etag
        asked: list[str] = []  # noqa: RUF012 (one for each class made)

        def do_GET(self):
            """Answer with the file, or some of it."""
            wanted = self.headers.get("Range")
            self.asked.append(wanted or "all")
            if not self.path.startswith("/d/a%20b.csv?token=geheim"):
                self.answer(404)
            elif ranges and wanted:
                first, last = map(int, wanted.removeprefix("bytes=").split("-"))
                if first >= len(self.data):
                    self.answer(416, Content_Range=f"bytes */{len(self.data)}")
                    return
                body = self.data[first : last + 1]
                span = f"bytes {first}-{first + len(body) - 1}/{len(self.data)}"
                self.answer(206, body, Content_Range=span, ETag=self.tag)
            elif length:
                self.answer(200, self.data, ETag=self.tag)
            else:
                self.send_response(200)
                self.send_header("Connection", "close")
                self.end_headers()

    return OneFile


@pytest.mark.parametrize("ranges", [True, False])
def test_read_a_public_file(ranges):
    """A file is one input; its ranges are fetched, or read in order where the server gives only all of it."""
    handler = file_server(ranges=ranges)
    with serving(handler) as address:
        url = f"{address}/d/a%20b.csv"
        spec = InputSpec(url=url, query="token=geheim")
        (file,) = list_inputs(spec).files
        assert file == InputFile(name="a b.csv", url=url, size_bytes=len(DATA), version="1")
        found = HttpRanges(url, spec.query)
        found.find()
        assert found.ranged is ranges
        assert (found.in_flight == 1) is not ranges
        bounds = [0, 1, 5000, 5001, len(DATA)]
        assert b"".join(found.get(file, a, b) for a, b in pairwise(bounds)) == DATA
        # from the start again
        assert found.get(file, 3, 10) == DATA[3:10]
        found.close()
    assert "geheim" not in repr(spec)


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("change", [{"tag": '"2"'}, {"data": DATA + b"?"}])
def test_a_public_file_that_changes(ranges, change, monkeypatch):
    """A file that is another meanwhile fails with a sentence; none of its bytes are taken."""
    monkeypatch.setattr("scoring.remote_files.TRIES", 1)
    handler = file_server(ranges=ranges)
    with serving(handler) as address:
        found = HttpRanges(f"{address}/d/a%20b.csv", "token=geheim")
        listed = found.find()
        file = InputFile(name="x", url=listed.url, size_bytes=listed.size_bytes, version=listed.version)
        for name, value in change.items():
            setattr(handler, name, value)
        if "data" in change and not ranges:
            # without ranges only the tag tells
            return
        with pytest.raises(InputError, match="changed while it was read"):
            found.get(file, 0, 10)
        found.close()


@pytest.mark.parametrize(
    ("path", "options", "kind", "sentence"),
    [
        ("/d/none.csv", {}, InputError, r"/d/none.csv: there is no such file \(its server answered 404\)"),
        ("/d/a%20b.csv", {"ranges": False, "length": False}, InputError, "does not say how large it is"),
    ],
)
def test_a_public_file_that_is_refused(path, options, kind, sentence):
    """What is not there, or has no end, is refused in a sentence that shows no token."""
    with serving(file_server(**options)) as address:
        with pytest.raises(kind, match=sentence) as caught:
            list_inputs(InputSpec(url=address + path, query="token=geheim"))
        assert "geheim" not in str(caught.value)
        with pytest.raises(InputError, match="cannot be listed; name one file"):
            list_inputs(InputSpec(url=address + "/d/", input_type="uri_folder"))


def test_an_empty_public_file():
    """A file without a byte has no first one to ask for."""
    handler = file_server()
    handler.data = b""
    with serving(handler) as address:
        (file,) = list_inputs(InputSpec(url=f"{address}/d/a%20b.csv", query="token=geheim")).files
    assert file.size_bytes == 0


def test_a_public_host_that_is_away():
    """A host that does not answer may be tried later."""
    with pytest.raises(InputBusyError, match="does not answer; try again later") as caught:
        list_inputs(InputSpec(url="http://127.0.0.1:9/a.csv", query="token=geheim"))
    assert "geheim" not in str(caught.value)


def test_spec_is_remote():
    """Addresses are, and paths are not."""
    access = BlobAccess(account_url="https://a", container="c", kind="anonymous")
    specs = [InputSpec(url=url) for url in ("https://a/b", "http://a/b", str(Path("/a")), "file:///a", "httpx")]
    assert [spec.is_remote for spec in specs] == [True, True, False, False, False]
    assert InputSpec(url="a", access=access).is_remote
