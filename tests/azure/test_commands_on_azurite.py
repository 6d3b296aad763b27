"""Commands on places on storage: a look before a job, a receipt held against its output, and the first rows alone."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from azure.storage.blob import generate_container_sas
from PIL import Image

from runtime import run, validate
from runtime.errors import OutputError, ScorelineError, UsageError
from runtime.job import run_limited
from runtime.receipt_check import check_receipt
from scoring import sample
from scoring.blob_access import BlobAccess, container_client
from scoring.files import InputSpec, list_inputs
from scoring.rows import Dialect
from scoring.sample import Order, samples
from scoring.specs import ColumnSpec, ReadPlan
from tests.azure.azurite import ACCOUNT, KEY, Azurite
from tests.azure.fault_proxy import FaultProxy
from tests.thorough import usual

COLUMNS = (ColumnSpec(name="a", type="long"), ColumnSpec(name="b", type="string", required=False))
CSV = "a,b\n" + "".join(f"{number},x{number}\n" for number in range(2_000)) + "oops,last\n"


@pytest.fixture
def access(azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> BlobAccess:
    """Return a container that the environment has the key of."""
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    return azurite.new_container()


def upload(access: BlobAccess, files: dict[str, bytes]) -> None:
    """Put files into a container."""
    with container_client(access) as client:
        for name, data in files.items():
            client.upload_blob(name, data, overwrite=True)


def blobs(access: BlobAccess) -> dict[str, bytes]:
    """Read all that is in a container."""
    with container_client(access) as client:
        return {name: client.download_blob(name).readall() for name in client.list_blob_names()}


# Looking into files


def parquet(rows: int) -> bytes:
    """Write a Parquet file of several row groups and wide columns."""
    sink = io.BytesIO()
    table = pa.table({"a": range(rows), "b": [f"{number}" * 40 for number in range(rows)], "c": [None] * rows})
    pq.write_table(table, sink, row_group_size=50, compression="none")
    return sink.getvalue()


def image() -> bytes:
    """Write a picture."""
    sink = io.BytesIO()
    Image.new("RGB", (9, 9)).save(sink, "PNG")
    return sink.getvalue()


FILES: dict[str, bytes] = {
    "small.csv": b"a,b\n1,x\nx,y\n", "large.csv": CSV.encode(), "e\u0301 m%20.csv": b"b\n1\n", "empty.csv": b"",
    "packed.csv.gz": gzip.compress(CSV.encode(), mtime=0), "quoted.csv": CSV.replace(",x", ',"\n,').encode()[:-10],
    "groups.parquet": parquet(1_000), "few.parquet": parquet(3), "torn.parquet": parquet(1_000)[:-9],
    "dot.png": image(), "no.png": b"?",
}  # fmt: skip


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few thousand bytes be a large file."""
    monkeypatch.setattr(sample, "PIECE_BYTES", 4_096)
    monkeypatch.setattr(sample, "PIECE_ROWS", 70)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("dialect", [Dialect(), Dialect(encoding="latin-1")], ids=["utf-8", "latin-1"])
def test_files_look_as_on_disk(access: BlobAccess, tmp_path: Path, dialect: Dialect) -> None:
    """What is seen of a file on storage is what would be seen of it on disk; nothing is left."""
    upload(access, {f"in/{name}": data for name, data in FILES.items()})
    for folder in ("in", "there", "here"):
        (tmp_path / folder).mkdir()
    for name, data in FILES.items():
        (tmp_path / "in" / name).write_bytes(data)
    seen = {}
    places = {"here": InputSpec(url=str(tmp_path / "in")), "there": InputSpec(url=access.url_of("in"), access=access)}
    plan = ReadPlan(columns=COLUMNS, dialect=dialect)
    for where, place in places.items():
        spec = replace(place, dialect=dialect)
        order = Order(files=list_inputs(spec).files, plan=plan, folder=str(tmp_path / where), input=spec)
        seen[where] = list(samples(order))
    assert seen["there"] == seen["here"]
    by_name = {each.name: each for each in seen["there"]}
    assert by_name["large.csv"].causes[0].examples == ((-1, "oops"),) or not dialect.direct
    assert by_name["groups.parquet"].rows == 140
    assert by_name["torn.parquet"].problem
    assert os.listdir(tmp_path / "there") == []


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("a.csv", b"a\0b\n1\n", "not a text file (it has a zero byte at 1)"),
        ("a.csv.gz", b"a,b\n1,x\n", "not a gz file, whatever its name says"),
    ],
)
def test_no_text(access: BlobAccess, tmp_path: Path, name: str, data: bytes, problem: str) -> None:
    """What is no text is told as that of a file on disk is told by its listing."""
    upload(access, {f"in/{name}": data})
    spec = InputSpec(url=access.url_of("in"), access=access)
    plan = ReadPlan(columns=(), dialect=Dialect())
    (seen,) = samples(Order(files=list_inputs(spec).files, plan=plan, folder=str(tmp_path), input=spec))
    assert seen.problem.startswith(problem)


# Looking at a job


@pytest.fixture(scope="module")
def files(heart_model: Path, heart_rows: Callable[..., Path]) -> dict[str, bytes]:
    """Return a model and patients, as they are to lie in a container."""
    model = {f"model/{path.relative_to(heart_model)}": path for path in heart_model.rglob("*") if path.is_file()}
    rows = {f"in/{number}.csv": heart_rows(300, number) for number in range(2)}
    return {name: path.read_bytes() for name, path in (model | rows).items()}


def places_in(access: BlobAccess) -> dict[str, Any]:
    """Return the options of a job in a container."""
    named = {"model": access.url_of("model"), "input": access.url_of("in/"), "output": access.url_of("out/")}
    return {**named, "engine": "inline"}


@pytest.fixture
def places(access: BlobAccess, files: dict[str, bytes]) -> dict[str, Any]:
    """Put a model and patients into the container, and return options that name them."""
    upload(access, files)
    return places_in(access)


def test_look_at_a_job(access: BlobAccess, places: dict[str, Any]) -> None:
    """All is found well, the credential is named as something well too, and storage is left as it was."""
    before = blobs(access)
    told: list[tuple[str, str]] = []
    findings = validate(tell=lambda *each: told.append(each), **{**places, "engine": "local", "workers": 1})
    assert (findings.errors, findings.warnings) == ((), ())
    assert ("ok", f"container {access.container} of account {ACCOUNT}: account key of AZURE_STORAGE_KEY") in told
    assert ("ok", "looked into 2 of 2 files, at 600 rows") in told
    assert findings.checked["rows_scored"] == 600
    assert blobs(access) == before
    with container_client(access) as client:
        hidden = [blob.name for blob in client.list_blobs(include=["uncommittedblobs"]) if blob.name not in before]
    # a block that was staged to see whether that is permitted, and that nobody sees
    assert hidden == ["out/.predictions.csv.staging/probe"]


def test_look_into_bad_files(access: BlobAccess, places: dict[str, Any]) -> None:
    """Rows that do not fit are told, wherever they lie."""
    upload(access, {"in/2.csv": blobs(access)["in/0.csv"].replace(b"\n", b"\nx", 1), "in/3.csv": b"nothing\n1\n"})
    errors = "\n".join(validate(**places).errors)
    assert "3.csv" in errors
    assert "2.csv" in errors


def test_a_look_fetches_little(azurite: Azurite, places: dict[str, Any], access: BlobAccess) -> None:
    """Of a large file only its ends are fetched, and what the first mini-batch and the read-ahead need."""
    head, _, rows = blobs(access)["in/0.csv"].partition(b"\n")
    data = head + b"\n" + rows * 5_000
    with container_client(access) as client:
        client.upload_blob("large/0.csv", data)
    assert len(data) > 50 * 2**20
    with FaultProxy(azurite.port) as proxy:
        url = azurite.access(access.container, port=proxy.port).url_of("large/")
        findings = validate(**{**places, "input": url})
    assert findings.errors == ()
    assert findings.checked["rows_sampled"] > 10_000
    assert proxy.bytes_down < 30 * 2**20


REFUSALS = {
    "no container": ({"input": "x/in/", "output": "y/out/"}, ["x; check the name", "y; check the name"]),
    "nothing there": ({"input": "/none/"}, ["no such file or folder"]),
    "inside": ({"output": "/in/"}, ["lies inside the input"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused(access: BlobAccess, places: dict[str, Any], case: str) -> None:
    """Each place that cannot be is told by itself, once."""
    changed, sentences = REFUSALS[case]
    container = access.url_of("").rstrip("/")
    findings = validate(**{**places, **{name: container + text for name, text in changed.items()}})
    assert len(findings.errors) == len(sentences), findings.errors
    for sentence, error in zip(sentences, findings.errors, strict=True):
        assert sentence in error


@pytest.mark.parametrize(("permission", "refused"), [("rl", "does not permit to write"), ("rwdl", "")])
def test_signature_for_the_output(
    access: BlobAccess, places: dict[str, Any], monkeypatch: pytest.MonkeyPatch, permission: str, refused: str
) -> None:
    """A signature that does not permit to write is refused before anything is looked at; it is shown nowhere."""
    monkeypatch.delenv("AZURE_STORAGE_KEY")
    signature = generate_container_sas(
        ACCOUNT, access.container, account_key=KEY, permission=permission, expiry="2999-01-01T00:00:00Z"
    )
    findings = validate(
        **{name: text if name == "engine" else f"{text}?{signature}" for name, text in places.items()}
    )
    assert any(refused in error for error in findings.errors) if refused else findings.errors == ()
    assert "sig=" not in str(findings)


def test_look_at_what_is_there(access: BlobAccess, places: dict[str, Any]) -> None:
    """A job that is complete is told so, and an output of another job is refused."""
    run(**places)
    told: list[tuple[str, str]] = []
    validate(tell=lambda *each: told.append(each), **places)
    assert ("ok", f"{access.url_of('out/predictions.csv')}: complete already; a run would do nothing") in told
    (error,) = validate(**places, method="predict_proba").errors
    assert "exists already: another job wrote it" in error


# The first rows


def test_first_rows(access: BlobAccess, places: dict[str, Any]) -> None:
    """The first rows are those of the whole, and nothing is written to storage."""
    before = blobs(access)
    lines, receipt = run_limited(**places, limit=5)
    assert blobs(access) == before
    assert receipt.rows["scored"] == 5
    run(**places)
    assert blobs(access)["out/predictions.csv"].decode().startswith(lines)


# A receipt held against its output


@pytest.fixture(scope="module")
def outcome(azurite: Azurite, files: dict[str, bytes]) -> BlobAccess:
    """Return a container with a job that was scored, with a row that does not fit; not to be changed."""
    access = azurite.new_container()
    upload(access, {**files, "in/1.csv": files["in/1.csv"].replace(b"\n", b"\nx", 1)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZURE_STORAGE_KEY", KEY)
        run(**places_in(access))
    return access


@pytest.fixture
def scored(outcome: BlobAccess, monkeypatch: pytest.MonkeyPatch) -> BlobAccess:
    """Return it, with its key in the environment."""
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    return outcome


@pytest.fixture
def copied(outcome: BlobAccess, access: BlobAccess) -> BlobAccess:
    """Return a copy of what was scored, to be changed; its receipt names the first one."""
    upload(access, blobs(outcome))
    return access


PLACES = ["out", "out/", "out/predictions.csv", "out/_predictions.receipt.json"]


@pytest.mark.parametrize("place", usual(PLACES, seldom=PLACES[1:3]))
def test_true_receipt(scored: BlobAccess, place: str) -> None:
    """A receipt on storage is found by folder, score file or its own address, and holds."""
    before = blobs(scored)
    told: list[tuple[str, str]] = []
    findings = check_receipt(scored.url_of(place), tell=lambda *each: told.append(each))
    assert (findings.errors, findings.warnings) == ((), ())
    assert findings.checked["receipt"] == scored.url_of("out/_predictions.receipt.json")
    assert findings.checked["score_file"] == scored.url_of("out/predictions.csv")
    assert ("ok", "predictions.csv has 599 rows, as the receipt says") in told
    assert any("1 quarantined" in text for _, text in told)
    assert blobs(scored) == before


def test_signature_that_reads(scored: BlobAccess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may read may check."""
    monkeypatch.delenv("AZURE_STORAGE_KEY")
    signature = generate_container_sas(
        ACCOUNT, scored.container, account_key=KEY, permission="rl", expiry="2999-01-01T00:00:00Z"
    )
    assert check_receipt(f"{scored.url_of('out/')}?{signature}").errors == ()


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("predictions.csv", b"row,prediction,file\n", "predictions.csv has 20 bytes, and the receipt says"),
        ("predictions.csv", None, "predictions.csv is not there, and the receipt says"),
        ("_predictions.quarantine.jsonl", None, "_predictions.quarantine.jsonl is not there"),
    ],
)
def test_false_receipt(copied: BlobAccess, name: str, data: bytes | None, error: str) -> None:
    """What was changed or deleted since is told."""
    with container_client(copied) as client:
        client.delete_blob(f"out/{name}")
    if data is not None:
        upload(copied, {f"out/{name}": data})
    for place in ("out/", "out/predictions.csv"):
        assert any(each.startswith(error) for each in check_receipt(copied.url_of(place)).errors)


@pytest.mark.parametrize(
    ("place", "options", "kind", "sentence"),
    [
        ("in/", {}, OutputError, "/in: there is no receipt in it: no job was completed there"),
        ("none.csv", {}, OutputError, "there is no receipt"),
        ("out/", {"recount_input": True}, UsageError, "and rows are counted on disk only; give --input"),
        ("out/", {"input": "https://a.blob.core.windows.net/c/in"}, UsageError, "looked at on disk only"),
    ],
)
def test_no_check(
    scored: BlobAccess, place: str, options: dict[str, Any], kind: type[ScorelineError], sentence: str
) -> None:
    """What cannot be checked is refused in a sentence that names no temporary folder."""
    with pytest.raises(kind, match=sentence) as caught:
        check_receipt(scored.url_of(place), **options)
    assert "/tmp" not in str(caught.value)


def test_damaged_receipt(access: BlobAccess) -> None:
    """A receipt that is none is told by its address; so is an output that is not complete."""
    upload(access, {"out/_predictions.receipt.json": json.dumps({"format": 99}).encode()})
    with pytest.raises(OutputError, match=f"^{access.url_of('out')}/_predictions.receipt.json: is of format 99"):
        check_receipt(access.url_of("out/"))
    upload(access, {"begun/.predictions.csv.staging/job.json": b"{}"})
    with pytest.raises(OutputError, match="its job is not complete, run the same command again"):
        check_receipt(access.url_of("begun/"))


# The command itself


@pytest.mark.parametrize("engine", ["forkserver", "inline"])
def test_command_has_no_asynchronous_client(access: BlobAccess, heart_model: Path, engine: str) -> None:
    """What only an asynchronous client needs is loaded where code of a model runs, not in a driver of its own."""
    command = [
        "-m", "runtime.cli", "run", "--engine", engine, "--model", heart_model, "--input", access.url_of("none/"),
        "--output", access.url_of("out/"),
    ]  # fmt: skip
    done = subprocess.run([sys.executable, "-X", "importtime", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr[-2_000:]
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "azure.storage.blob" in loaded
    assert ("aiohttp.client" in loaded) == (engine == "inline")
