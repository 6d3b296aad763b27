"""Whole jobs from storage to storage: every way to name a place and to reach it, each mode, and what goes wrong."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet
import pytest
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import BlobLeaseClient, BlobServiceClient, generate_account_sas, generate_container_sas

from runtime import credentials
from scoring.blob_access import BlobAccess, container_client
from tests.azure.azurite import ACCOUNT, KEY, Azurite
from tests.azure.fault_proxy import DROPPED_BEFORE, Fault, FaultProxy, Request, Status
from tests.csv_texts import PACKED
from tests.runtime.commands import Outcome, scoreline
from tests.thorough import usual

# Azure's library leaves a connection on which an answer was cut off to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning")

SCORE, RECEIPT, QUARANTINE = "predictions.csv", "_predictions.receipt.json", "_predictions.quarantine.jsonl"
COMPLETE = "already complete, nothing to do"
MANY = ("--chunk-rows", "16", "--cells-per-mini-batch", "1")
"""Options for a job of many mini-batches."""
Run = Callable[..., Outcome]
Disk = Callable[..., dict[str, bytes]]


@pytest.fixture(autouse=True)
def nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take all that this machine may say of identities out of the environment."""
    for name in list(os.environ):
        if name.startswith(("AZURE", "IDENTITY_", "MSI_", "DEFAULT_IDENTITY_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def folder(heart_rows: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of inputs, one folder for each kind."""
    folder = tmp_path_factory.mktemp("inputs")
    first, odd, last = (heart_rows(rows).read_bytes() for rows in (60, 40, 50))
    lines = odd.splitlines()
    lines[7] = lines[7].replace(b",", b"x,", 1)
    odd = b"\n".join([*lines, b""])
    files = {
        "csv/a.csv": first, "csv/b.csv": odd, "csv/sub/c.csv": last, "csv/_no.csv": b"?", "one/a b+%20é.csv": last,
        "packed/a.csv.gz": PACKED[".gz"](first), "packed/b.csv.zst": PACKED[".zst"](odd),
    }  # fmt: skip
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "parquet").mkdir()
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(heart_rows(40)), folder / "parquet/a.parquet", row_group_size=15)
    return folder


@pytest.fixture(scope="module")
def container(azurite: Azurite, folder: Path) -> BlobAccess:
    """Return a container that has the inputs; each test writes to a folder of its own."""
    access = azurite.new_container()
    fill(access, folder)
    return access


@pytest.fixture
def out(container: BlobAccess) -> BlobAccess:
    """Return an empty container."""
    access = replace(container, container=f"t{uuid.uuid4().hex[:12]}")
    with container_client(access) as client:
        client.create_container()
    return access


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment have the key of the account."""
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)


@pytest.fixture(scope="module")
def on_disk(heart_model: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """Return a function that runs a job on local disk, and gives what it leaves but for the receipt."""
    known: dict[tuple[str, ...], dict[str, bytes]] = {}

    def run(path: str, *arguments: str) -> dict[str, bytes]:
        if (path, *arguments) not in known:
            output = tmp_path_factory.mktemp("calm")
            places = ("--model", heart_model, "--input", folder / path, "--output", output)
            outcome = scoreline("run", *places, "--max-quarantined", "100%", *arguments)
            assert outcome.code == 0, outcome.stderr
            known[path, *arguments] = {
                each.name: each.read_bytes() for each in output.iterdir() if each.name != RECEIPT
            }
        return known[path, *arguments]

    return run


@pytest.fixture
def run(heart_model: Path) -> Run:
    """Return a function that runs a job of the model."""
    return partial(scoreline, "run", "--model", heart_model, "--max-quarantined", "100%")


def fill(access: BlobAccess, folder: Path) -> None:
    """Upload a folder."""
    with container_client(access) as client:
        for path in folder.rglob("*"):
            if path.is_file():
                client.upload_blob(str(path.relative_to(folder)), path.read_bytes())


def sas(access: BlobAccess, permission: str = "rwdl", year: int = 2999) -> str:
    """Sign for a container."""
    return generate_container_sas(
        ACCOUNT, access.container, account_key=KEY, permission=permission, expiry=f"{year}-01-01T00:00:00Z"
    )


def account_sas(year: int) -> str:
    """Sign for the account."""
    return generate_account_sas(
        ACCOUNT, KEY, resource_types="sco", permission="rwdlac", expiry=f"{year}-01-01T00:00:00Z"
    )


def found(access: BlobAccess, *, whole: bool = True) -> dict[str, bytes]:
    """Read all that there is of an output: beside what it shall have there is but a receipt, which is not returned."""
    with container_client(access) as client:
        blobs = {name: client.download_blob(name).readall() for name in client.list_blob_names()}
    if not whole:
        return {name.removeprefix("out/"): data for name, data in blobs.items()}
    receipt = json.loads(blobs.pop(f"out/{RECEIPT}"))
    assert receipt["output"]["size_bytes"] == len(blobs[f"out/{SCORE}"])
    assert receipt["output"]["crc32"] is not None
    return {name.removeprefix("out/"): data for name, data in blobs.items()}


def etags(access: BlobAccess) -> dict[str, str]:
    """Return what tells that a blob did not change."""
    with container_client(access) as client:
        return {each.name: each.etag for each in client.list_blobs()}


# Names

OF_WORKSPACE = "subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
WORKSPACE = """\
datastores:
  lake: {{account_name: {account}, container_name: {container}, endpoint: "http://127.0.0.1:{port}"}}
  scores: {{account_name: {account}, container_name: {out}, endpoint: "http://127.0.0.1:{port}"}}
data:
  hearts: {{"1": azureml://datastores/lake/paths/csv/, "2": {{type: uri_folder, path: "{url}/{container}/csv"}}}}
models:
  heart: {{"1": azureml://datastores/lake/paths/model}}
"""
FORMS = {
    "http": ("{url}/{container}/csv/", "{url}/{out}/out/"),
    "http, signed": ("{url}/{container}/csv?{read}", "{url}/{out}/out/?{write}"),
    "blob": ("https://{account}.blob.core.windows.net/{container}/csv",) * 2,
    "dfs": ("https://{account}.dfs.core.windows.net/{container}/csv/",) * 2,
    "blob in China": ("https://{account}.blob.core.chinacloudapi.cn/{container}/csv/",) * 2,
    "dfs of the US government": ("https://{account}.dfs.core.usgovcloudapi.net/{container}/csv/",) * 2,
    "blob in a zone": ("https://{account}.z13.blob.storage.azure.net/{container}/csv/",) * 2,
    "wasbs": ("wasbs://{container}@{account}.blob.core.windows.net/csv",) * 2,
    "wasb": ("wasb://{container}@{account}.blob.core.windows.net/csv",) * 2,
    "abfss": ("abfss://{container}@{account}.dfs.core.windows.net/csv",) * 2,
    "abfs in China": ("abfs://{container}@{account}.dfs.core.chinacloudapi.cn/csv/",) * 2,
    "az": ("az://{container}@{account}.blob.core.windows.net/csv/",) * 2,
    "datastore": ("azureml://datastores/lake/paths/csv/", "azureml://datastores/scores/paths/out/predictions.csv"),
    "datastore, long": (
        "azureml://subscriptions/s/resourcegroups/g/workspaces/w/datastores/lake/paths/csv",
        f"azureml://{OF_WORKSPACE}/datastores/scores/paths/out",
    ),
    "datastore, ARM": (
        f"/{OF_WORKSPACE}/datastores/lake/paths/csv", f"azureml:/{OF_WORKSPACE}/datastores/scores/paths/out/"
    ),
    "data asset": ("azureml:hearts:1", "{url}/{out}/out"),
    "data asset, latest": ("azureml:hearts@latest", "{url}/{out}/out"),
    "data asset, long": (f"azureml://{OF_WORKSPACE}/data/hearts/versions/1", "{url}/{out}/out"),
    "data asset, ARM": (f"/{OF_WORKSPACE}/data/hearts/versions/2", "{url}/{out}/out"),
}  # fmt: skip
"""From and to where; where both are alike, the output is the folder out of another container."""
READ_ALIKE = (
    "blob in China", "dfs of the US government", "blob in a zone", "wasb", "abfs in China", "az", "datastore, long",
    "datastore, ARM", "data asset, latest", "data asset, long",
)  # fmt: skip
"""What `tests/runtime/test_uris.py` shows to be read as others are."""


@pytest.mark.parametrize("form", usual(FORMS, seldom=READ_ALIKE))
def test_form_of_a_uri(
    *, azurite: Azurite, container: BlobAccess, out: BlobAccess, on_disk: Disk, run: Run,
    monkeypatch: pytest.MonkeyPatch, form: str,
) -> None:  # fmt: skip
    """It names an input, and a place to write to; what is written are the bytes of a job on local disk."""
    words = {
        "url": container.account_url, "container": container.container, "out": out.container, "account": ACCOUNT,
        "port": azurite.port, "read": sas(container, "rl"), "write": sas(out),
    }  # fmt: skip
    source, target = FORMS[form]
    if source == target:
        target = target.replace("{container}", "{out}").replace("/csv", "/out")
    if "signed" not in form:
        connection = f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={container.account_url};"
        # what an emulator holds is there, whatever cloud is named
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"DefaultEndpointsProtocol=http;{connection}")
    Path("workspace.yml").write_text(WORKSPACE.format(**words))
    outcome = run("--input", source.format(**words), "--output", target.format(**words))
    assert outcome.code == 0, outcome.stderr
    assert found(out) == on_disk("csv")


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("csv/a.csv", ()),
        ("csv/b.csv", ("--input-type", "uri_file")),
        ("csv", ("--input-type", "uri_folder")),
        ("csv", ("--recursive",)),
        ("csv", ("--include", "a*", "--chunk-rows", "16")),
        ("csv/[ab].csv", ()),
        ("csv/**/*.csv", ("--chunk-rows", "0")),
        ("one/a b+%20é.csv", ()),
        ("packed", ()),
        ("parquet", ("--keep", "age", "--chunk-rows", "10")),
    ],
)
@pytest.mark.usefixtures("key")
def test_what_is_read(
    *, container: BlobAccess, out: BlobAccess, on_disk: Disk, run: Run, path: str, options: tuple[str, ...]
) -> None:
    """Files, folders, globs, packed and other formats give the bytes that they give on local disk."""
    source = container.url_of(path.replace("%", "%25").replace(" ", "%20"))
    outcome = run("--input", source, "--output", out.url_of("out/"), *options)
    assert outcome.code == 0, outcome.stderr
    assert found(out) == on_disk(path, *options)


@pytest.mark.usefixtures("key")
def test_first_rows(container: BlobAccess, folder: Path, run: Run) -> None:
    """A limit prints the rows that it prints on local disk."""
    outcomes = [run("--input", source, "--limit", "70") for source in (container.url_of("csv/"), folder / "csv")]
    assert [outcome.code for outcome in outcomes] == [0, 0]
    assert outcomes[0].stdout == outcomes[1].stdout
    # one of them is lost, and there is a header
    assert len(outcomes[0].stdout.splitlines()) == 70


# What is there already


@pytest.mark.usefixtures("key")
def test_modes(container: BlobAccess, out: BlobAccess, on_disk: Disk, run: Run) -> None:
    """What is there is kept, appended to once, or replaced; the same command again changes nothing."""
    target = ("--output", out.url_of("out/"))
    first, second = on_disk("csv/b.csv"), on_disk("one")
    both = {SCORE: first[SCORE] + second[SCORE].partition(b"\n")[2], QUARANTINE: first[QUARANTINE]}
    csv, one, packed = (container.url_of(path) for path in ("csv/b.csv", "one/", "packed/a.csv.gz"))
    for source, mode, code, said, blobs in (
        (csv, "fail", 0, "", first),
        (csv, "fail", 0, COMPLETE, first),
        (csv, "append", 0, COMPLETE, first),
        (one, "fail", 2, "exists already: was made from other input files", first),
        (one, "append", 0, "", both),
        (one, "append", 0, COMPLETE, both),
        (csv, "append", 0, COMPLETE, both),
        (csv, "overwrite", 0, COMPLETE, both),
        (packed, "overwrite", 0, "", on_disk("packed/a.csv.gz")),
        (one, "overwrite", 0, "", second),
        (one, "overwrite", 0, COMPLETE, second),
    ):
        before = etags(out)
        outcome = run("--input", source, *target, "--if-exists", mode)
        assert (outcome.code, said in outcome.stderr) == (code, True), (source, mode, outcome.stderr)
        assert found(out) == blobs, (source, mode)
        assert (etags(out) == before) == bool(said), (source, mode)


# Who asks


@pytest.mark.parametrize("way", ["another signature", "key after a signature", "signature of the account"])
def test_other_credential_resumes(
    *, container: BlobAccess, out: BlobAccess, on_disk: Disk, run: Run, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A job that stopped goes on with another credential of the same places: the job is the same."""
    outcomes = []
    for year, quarantined in ((2998, "0"), (2999, "100%")):
        read, write = sas(container, "rl", year), sas(out, "rwdl", year)
        source, target = f"{container.url_of('csv/')}?{read}", f"{out.url_of('out/')}?{write}"
        if way == "key after a signature" and year == 2999:
            monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
            source, target = container.url_of("csv/"), out.url_of("out/")
        if way == "signature of the account":
            monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", account_sas(year))
            source, target = container.url_of("csv/"), out.url_of("out/")
        outcomes.append(run("--input", source, "--output", target, *MANY, "--max-quarantined", quarantined))
        texts = [outcomes[-1].stderr, *map(bytes.decode, found(out, whole=False).values())]
        assert not any(secret in text for text in texts for secret in (read, write, "sig=", KEY))
    assert [outcome.code for outcome in outcomes] == [1, 0], outcomes
    assert "resuming: " in outcomes[1].stderr
    assert found(out) == on_disk("csv", *MANY)


def test_everybody_may_read(
    *, azurite: Azurite, folder: Path, out: BlobAccess, on_disk: Disk, run: Run
) -> None:  # fmt: skip
    """A public container is read without any credential; what is written needs one."""
    access = azurite.access(f"p{uuid.uuid4().hex[:12]}")
    with BlobServiceClient(access.account_url, credential=KEY) as service:
        service.create_container(access.container, public_access="container")
    fill(access, folder)
    refused = run("--input", access.url_of("csv/"), "--output", access.url_of("out/"))
    assert refused.code == 2
    assert "no credential was found" in refused.last_line
    outcome = run("--input", access.url_of("csv/"), "--output", f"{out.url_of('out/')}?{sas(out)}")
    assert outcome.code == 0, outcome.stderr
    assert f"container {access.container} of account {ACCOUNT}: no credential (a public container)" in outcome.stderr
    assert found(out) == on_disk("csv")


# What goes wrong under way


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, soon: None) -> None:  # noqa: ARG001
    """Have whoever reads and writes try again but once, and soon."""
    monkeypatch.setattr(credentials, "BlobAccess", partial(BlobAccess, patience=1))


REFUSED = "a credential that is let in to go on"
AWAY: dict[str, tuple[str, int, Fault, str]] = {
    # what the first request is that is not answered, and how often its kind was before
    "stage": ("stage", 3, DROPPED_BEFORE, "storage does not answer"),
    "stage, refused": ("stage", 3, Status(code=403), "storage refused the credential"),
    "read": ("read", 0, DROPPED_BEFORE, ""),
    "read, refused": ("read", 0, Status(code=403), "with credentials that do, to go on"),
    "lease": ("lease", 4, Status(code=503, retry_after_s=0), r"storage answers 503 \(ServerBusy\)"),
    "lease, refused": ("lease", 4, Status(code=403), REFUSED),
    "commit": ("commit", 0, DROPPED_BEFORE, "storage does not answer"),
    "commit, refused": ("commit", 0, Status(code=403), REFUSED),
}


@pytest.mark.parametrize("case", usual(AWAY, seldom=["stage", "lease", "commit, refused"]))
@pytest.mark.usefixtures("key", "impatient")
def test_storage_that_stays_away(
    *, azurite: Azurite, container: BlobAccess, out: BlobAccess, on_disk: Disk, run: Run, case: str
) -> None:  # fmt: skip
    """From some moment on nothing is answered, or all is refused: exit 75, and the same command completes the job."""
    kind, before, fault, says = AWAY[case]
    met = 0

    def rule(request: Request) -> Fault:
        nonlocal met
        # the driver looks whether an output is there; of the input, only the second file is waited for
        met += request.kind == kind and (kind != "read" or "/csv/b.csv" in request.target)
        return fault if met > before else None

    with FaultProxy(azurite.port, rule) as proxy:
        through = [azurite.access(each.container, port=proxy.port) for each in (container, out)]
        command = ("--input", through[0].url_of("csv/"), "--output", through[1].url_of("out/"), *MANY)
        stopped = run(*command)
        # whoever is not answered has tried again: nobody else does, which would take a multiple of minutes
        assert before < met <= before + (8 if kind == "read" else 2)
        assert stopped.code == 75, stopped.stderr
        assert re.search(says, stopped.last_line)
        assert found(out, whole=False).keys() & {SCORE, RECEIPT} == set()
        proxy.rule = lambda _: None
        # the process that held it lives on, for it is that of this test
        with container_client(out) as client, suppress(ResourceNotFoundError, ResourceExistsError):
            lock = client.get_blob_client("out/.predictions.csv.staging/lock")
            BlobLeaseClient(lock).break_lease(0)
        outcome = run(*command)
    assert outcome.code == 0, outcome.stderr
    assert ("resuming: " in outcome.stderr) == (kind in ("stage", "commit"))
    assert found(out) == on_disk("csv", *MANY)


@pytest.mark.usefixtures("key")
def test_input_that_changes(
    *, azurite: Azurite, folder: Path, out: BlobAccess, on_disk: Disk, run: Run
) -> None:  # fmt: skip
    """A blob that is written while the job runs fails, with a sentence, and it alone; when it rests, it is scored."""
    files = replace(out, container=f"{out.container}in")
    with container_client(files) as client:
        client.create_container()
    fill(files, folder / "csv")

    def rule(request: Request) -> Fault:
        if request.kind == "read" and "/b.csv" in request.target:
            with container_client(files) as client:
                client.upload_blob("b.csv", (folder / "csv/b.csv").read_bytes(), overwrite=True)
        return None

    reason = "changed while it was read; run again when it rests"
    with FaultProxy(azurite.port, rule) as proxy:
        through = azurite.access(files.container, port=proxy.port)
        command = ("--input", through.url_of("[ab].csv"), "--output", out.url_of("out/"), *MANY)
        changed = run(*command)
        assert changed.code == 0, changed.stderr
        assert f"not read to its end: b.csv: {reason}\n" in changed.stderr
        blobs = found(out)
        assert blobs[SCORE] == on_disk("csv/a.csv", *MANY)[SCORE]
        assert [json.loads(line) for line in blobs[QUARANTINE].splitlines()] == [
            {"file": "b.csv", "row": None, "rows": None, "reason": reason}
        ]
        proxy.rule = lambda _: None
        assert run(*command).code == 2
        assert run(*command, "--if-exists", "overwrite").code == 0
    assert found(out) == on_disk("csv/[ab].csv", *MANY)
