"""No secret is in any log, error, receipt, process title, temporary file or blob of a run: all of them are searched."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import generate_container_sas

from scoring.blob_access import BlobAccess, container_client
from tests.azure.azurite import ACCOUNT, KEY, Azurite

HIDDEN_WITHIN_S = 60.0
"""By when the command has overwritten its own arguments, once for all: Python must have started."""

SCRIPT = """\
import http.client, logging, os, sys

def say_all():
    # what people are told to write where they want to see what requests are made
    http.client.HTTPConnection.debuglevel = 1
    logging.basicConfig(level=logging.DEBUG)
    for name in ("", "urllib3", "urllib3.connectionpool", "requests.packages.urllib3", "azure", "requests"):
        logging.getLogger(name).setLevel(logging.DEBUG)
        logging.getLogger(name).propagate = True

say_all()

def init():
    print(sys.argv)

def run(mini_batch):
    # storage's client may have been made meanwhile
    say_all()
    print(mini_batch)
    for path in mini_batch:
        if path.endswith("1.csv"):
            raise ValueError(path)
    return [os.path.basename(path) + " " + str(len(open(path).read())) for path in mini_batch]
"""
DEPLOYMENT = """\
name: blue
endpoint_name: texts
type: model
model: {{path: "{model}"}}
code_configuration: {{code: "{code}", scoring_script: score.py}}
environment: azureml:env:1
compute: azureml:cluster
settings: {{logging_level: debug, mini_batch_size: 1, error_threshold: -1}}
"""


@dataclass(slots=True)
class Search:
    """What is looked for, and where it was found.

    Attributes:
        secrets: in every form they may be written in.
        found: places.
        hidden: whether the driver was seen with its arguments hidden.
    """

    secrets: set[bytes]
    found: set[str] = field(default_factory=set)
    hidden: bool = False

    @classmethod
    def of(cls, *secrets: str) -> Search:
        """Look for secrets: raw, quoted, and the part of a signature that signs."""
        parts = [value for secret in secrets for name, value in parse_qsl(secret) if name == "sig"]
        forms = {form for text in (*secrets, *parts) for form in (text, quote(text, safe=""), quote(text))}
        return cls(secrets={form.encode() for form in forms})

    def text(self, place: str, text: bytes) -> None:
        """Search a text."""
        if any(secret in text for secret in self.secrets):
            self.found.add(place)

    def folder(self, folder: Path) -> None:
        """Search all files below a folder, and their names."""
        for path, folders, files in os.walk(folder):
            self.text(path, "\n".join((path, *folders, *files)).encode("utf-8", "surrogateescape"))
            for name in files:
                try:
                    self.text(f"{path}/{name}", Path(path, name).read_bytes())
                except OSError:
                    # gone meanwhile, or a socket
                    continue

    def processes(self, driver: int, began: float) -> None:
        """Search the command lines of all processes, that of the driver when it has hidden its own."""
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            try:
                words = Path(entry.path, "cmdline").read_bytes()
            except OSError:
                continue
            if int(entry.name) == driver:
                self.hidden = self.hidden or b"?***" in words
                if not self.hidden and time.monotonic() < began + HIDDEN_WITHIN_S:
                    continue
            self.text(f"process {entry.name}", words)

    def container(self, access: BlobAccess, below: str = "") -> set[str]:
        """Search names, contents and metadata of all blobs, the hidden and the uncommitted ones too; return names."""
        names = set()
        with container_client(access) as client:
            for blob in client.list_blobs(name_starts_with=below, include=["metadata", "uncommittedblobs"]):
                names.add(blob.name)
                self.text(f"blob {blob.name}", f"{blob.name} {blob.metadata}".encode())
                with suppress(ResourceNotFoundError):
                    # it may be gone by now
                    self.text(f"blob {blob.name}", client.download_blob(blob.name).readall() if blob.size else b"")
        return names


def run(
    search: Search, folder: Path, *arguments: str, environ: dict[str, str], staged_at: BlobAccess | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Give a command, and search processes and files, and what is staged, while it runs, and all that is left."""
    search.hidden = False
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    began, over = time.monotonic(), threading.Event()
    process = subprocess.Popen(
        [sys.executable, "-m", "runtime.cli", *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary), "AZURE_LOG_LEVEL": "debug", **environ},
    )  # fmt: skip

    def watch() -> None:
        for number in itertools.count():
            if over.wait(0.05):
                break
            search.processes(process.pid, began)
            search.folder(folder)
            if staged_at is not None and number % 5 == 0:
                search.container(staged_at, "out/")

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        out, err = process.communicate(timeout=100)
    finally:
        over.set()
        watcher.join()
        process.kill()
    search.folder(folder)
    search.text("standard output", out)
    search.text("standard error", err)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.fixture
def container(azurite: Azurite, heart_model: Path, heart_rows: Callable[[int], Path]) -> BlobAccess:
    """Return a container with a model, code and inputs."""
    access = azurite.new_container()
    with container_client(access) as client:
        for path in heart_model.rglob("*"):
            if path.is_file():
                client.upload_blob(f"model/{path.relative_to(heart_model)}", path.read_bytes())
        rows = heart_rows(20_000).read_bytes()
        for number in range(3):
            client.upload_blob(f"in/{number}.csv", rows)
        client.upload_blob("code/score.py", SCRIPT.encode())
    return access


@pytest.fixture
def signature(container: BlobAccess) -> str:
    """Return a signature for the container."""
    return generate_container_sas(
        ACCOUNT, container.container, account_key=KEY, permission="rwdl", expiry="2999-01-01T00:00:00Z"
    )


def credential(how: str, container: BlobAccess, signature: str) -> tuple[str, dict[str, str]]:
    """Return how a place is signed, and what the environment says."""
    url = container.account_url
    environ = {
        "URI": {},
        "key": {"AZURE_STORAGE_KEY": KEY},
        "signed connection string": {
            "AZURE_STORAGE_CONNECTION_STRING": f"BlobEndpoint={url};SharedAccessSignature={signature}"
        },
    }
    return f"?{signature}" if how == "URI" else "", environ[how]


def test_search_finds(tmp_path: Path, container: BlobAccess, signature: str) -> None:
    """What is in a file, a process or a blob would be found."""
    search = Search.of(signature, KEY)
    (tmp_path / "a").write_text(f"x{parse_qsl(signature)[-1][1]}y")
    search.folder(tmp_path)
    command = [sys.executable, "-c", "print(flush=True); input()", KEY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        search.processes(0, time.monotonic())
        process.communicate(b"\n")
    with container_client(container) as client:
        client.upload_blob("leak", b"", metadata={"why": quote(KEY, safe="")})
    search.container(container)
    assert search.found == {f"{tmp_path}/a", f"process {process.pid}", "blob leak"}


def test_model_job(container: BlobAccess, signature: str, tmp_path: Path, heart_rows: Callable[[int], Path]) -> None:
    """A job from storage to storage, staged, resumed and then complete already, with all that can be said said."""
    search = Search.of(signature, KEY)
    rows = heart_rows(20_000).read_bytes().splitlines(keepends=True)
    rows[19_000] = rows[19_000].replace(b",", b"x,", 1)
    with container_client(container) as client:
        client.upload_blob("in/2.csv", b"".join(rows), overwrite=True)
    places = [
        text for name, path in (("model", "model"), ("input", "in/"), ("output", "out/"))
        for text in (f"--{name}", f"{container.url_of(path)}?{signature}")
    ]  # fmt: skip
    common = ("run", *places, "--debug", "--workers", "2", "--cells-per-mini-batch", "1", "--chunk-rows", "4096")
    for said, most, code in (("rows cannot be scored", "0", 1), ("resuming: ", "1", 0), ("already complete", "1", 0)):
        staged_at = None if said == "already complete" else container
        done = run(search, tmp_path, *common, "--max-quarantined", most, environ={}, staged_at=staged_at)
        assert done.returncode == code, done.stderr.decode()
        assert said.encode() in done.stderr, done.stderr.decode()
        assert search.hidden
        assert f"container {container.container} of account {ACCOUNT}: ".encode() in done.stderr
        # what is searched must be there to be found
        hidden = {f"out/.predictions.csv.staging/{name}" for name in ("job.json", "header")}
        assert (hidden <= search.container(container)) == bool(code)
    names = search.container(container)
    assert {"out/predictions.csv", "out/_predictions.receipt.json", "out/_predictions.quarantine.jsonl"} <= names
    assert search.found == set()


@pytest.mark.parametrize("how", ["URI", "signed connection string", "key"])
def test_script_job(container: BlobAccess, signature: str, tmp_path: Path, how: str) -> None:
    """A job of a scoring script that logs all it can, and fails; model and code lie on storage as well."""
    signed, environ = credential(how, container, signature)
    search = Search.of(signature, KEY)
    # the file of the deployment is the user's own, and says what it says
    deployment = tmp_path / "mine"
    deployment.mkdir()
    model, code = (f"{container.url_of(name)}{signed}" for name in ("model", "code"))
    (deployment / "blue.yml").write_text(DEPLOYMENT.format(model=model, code=code))
    folder = tmp_path / "job"
    folder.mkdir()
    done = run(
        search, folder, "run", str(deployment / "blue.yml"), "--input", container.url_of("in/") + signed,
        "--output", container.url_of("out/") + signed, "--debug", environ=environ, staged_at=container,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert search.hidden == (how == "URI")
    logs = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and "user" in str(path))
    # what was made to speak did speak
    assert b"DEBUG urllib3.connectionpool" in logs
    assert b"sig=***" in logs or KEY in str(environ)

    assert {"out/predictions.csv", "out/_predictions.quarantine.jsonl"} <= search.container(container)
    assert search.found == set()


@pytest.mark.parametrize(
    ("change", "debug", "code"),
    [
        pytest.param(lambda uri: uri.replace("/in/", "/none/"), True, 2, id="nothing there"),
        pytest.param(lambda uri: uri.replace("sp=rwdl", "sp=rl"), True, 2, id="refused"),
        pytest.param(lambda uri: uri.replace("sig=", "sig=A"), True, 2, id="wrong signature, debug"),
        pytest.param(lambda uri: uri.replace("se=2999", "se=2019"), False, 2, id="ended"),
        pytest.param(lambda uri: uri.replace("://127.0.0.1", "://127.0.0.2"), False, 75, id="away"),
        pytest.param(lambda uri: uri.replace("://127.0.0.1", "://127.0.0.2"), True, 75, id="away, debug"),
    ],
)
def test_errors(
    *, container: BlobAccess, signature: str, tmp_path: Path, heart_model: Path, change: Callable[[str], str],
    code: int, debug: bool,
) -> None:  # fmt: skip
    """What goes wrong is told without them, with a traceback too."""
    search = Search.of(signature, signature.replace("sig=", "sig=A"), KEY)
    places = [change(f"{container.url_of(path)}?{signature}") for path in ("in/", "in/out/")]
    done = run(
        search, tmp_path, "run", "--model", str(heart_model), "--input", places[0], "--output", places[1],
        *["--debug"] * debug, environ={},
    )  # fmt: skip
    assert done.returncode == (1 if debug else code), done.stderr.decode()
    assert search.found == set()
