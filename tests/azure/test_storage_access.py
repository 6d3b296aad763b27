"""How places on storage are reached, looked at before scoring, and fetched: asked of a real server."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import obstore
import pytest
from azure.storage.blob import BlobServiceClient, generate_blob_sas, generate_container_sas

from runtime.credentials import choose_access, told
from runtime.errors import InputError, OutputError, UsageError
from runtime.options import Options
from runtime.storage_check import check_places, check_readable, check_writable
from runtime.storage_fetch import fetch_folder, path_in
from runtime.uris import BlobPath, parse_uri
from scoring.blob_access import BlobAccess, container_client, object_store
from scoring.errors import InputBusyError
from tests.azure.azurite import ACCOUNT, KEY, Azurite
from tests.runtime.commands import scoreline

EXPIRY = "2999-01-01T00:00:00Z"
SCRIPT = """\
import os

def init():
    pass

def run(mini_batch):
    return [os.path.basename(path) + " " + open(path).read() for path in mini_batch]
"""
DEPLOYMENT = """\
name: blue
endpoint_name: texts
type: model
model: {{path: "{model}"}}
code_configuration: {{code: "{code}", scoring_script: score.py}}
environment: azureml:env:1
compute: azureml:cluster
"""


@pytest.fixture(autouse=True)
def nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take all that this machine may say of identities out of the environment."""
    for name in list(os.environ):
        if name.startswith(("AZURE", "IDENTITY_", "MSI_", "DEFAULT_IDENTITY_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def container(azurite: Azurite) -> BlobAccess:
    """Return a container with an input, reached by the key."""
    access = azurite.new_container(patience=0)
    put(access, {"in/a b.csv": b"x\n1\n", "in/deep/c.csv": b"x\n2\n", "other.csv": b"x\n3\n"})
    return access


def put(access: BlobAccess, blobs: dict[str, bytes]) -> None:
    """Write blobs."""
    with container_client(access) as client:
        for name, data in blobs.items():
            client.upload_blob(name, data)


def sas(access: BlobAccess, permission: str = "rwdl", expiry: str = EXPIRY, blob: str = "") -> str:
    """Sign for a container, or for one blob."""
    if blob:
        return generate_blob_sas(ACCOUNT, access.container, blob, account_key=KEY, permission=permission, expiry=expiry)
    return generate_container_sas(ACCOUNT, access.container, account_key=KEY, permission=permission, expiry=expiry)


def signed(access: BlobAccess, signature: str) -> BlobAccess:
    """Reach a container by a signature."""
    return replace(access, kind="sas", source="the URI", secret=signature)


def place(text: str) -> BlobPath:
    """Read the URI of a place on storage."""
    uri = parse_uri(text)
    assert isinstance(uri, BlobPath)
    return uri


def names(access: BlobAccess) -> list[str]:
    """List a container."""
    with container_client(access) as client:
        return sorted(client.list_blob_names())


@pytest.mark.parametrize("public", ["container", "blob"])
def test_public_container(azurite: Azurite, public: str) -> None:
    """What the server lets everybody list or read needs no credential, and is read without one."""
    access = azurite.access(f"p{uuid.uuid4().hex[:12]}")
    with BlobServiceClient(access.account_url, credential=KEY) as service:
        service.create_container(access.container, public_access=public)
    put(access, {"in/a.csv": b"x\n1\n"})
    chosen = choose_access(place(access.url_of("in/a.csv")), environ={})
    assert told(chosen) == f"container {access.container} of account {ACCOUNT}: no credential (a public container)"
    check_readable(chosen, "in/a.csv")
    if public == "container":
        check_readable(choose_access(place(access.url_of("in/")), environ={}), "in/")
    with pytest.raises(UsageError, match="no credential was found"):
        choose_access(place(access.url_of("out/")), environ={}, purpose="output")


def test_private_container(container: BlobAccess) -> None:
    """What nobody may read without a credential is not tried any further."""
    with pytest.raises(UsageError, match="tried no credential at all"):
        choose_access(place(container.url_of("in/")), environ={})


@pytest.mark.parametrize("way", ["connection string", "signed connection string", "signature", "key", "URI"])
def test_credential_works(container: BlobAccess, way: str) -> None:
    """Each kind reads and writes, by plain http too, and is no part of what is shown."""
    signature = sas(container)
    environ = {
        "connection string": {
            "AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=http;"
            f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={container.account_url};"
        },
        "signed connection string": {
            "AZURE_STORAGE_CONNECTION_STRING": f"BlobEndpoint={container.account_url};SharedAccessSignature={signature}"
        },
        "signature": {"AZURE_STORAGE_SAS_TOKEN": signature},
        "key": {"AZURE_STORAGE_KEY": KEY, "AZURE_STORAGE_ACCOUNT": ACCOUNT},
    }.get(way, {})
    uri = container.url_of("in/") + (f"?{signature}" if way == "URI" else "")
    before = names(container)
    for purpose in ("input", "output"):
        access = choose_access(place(uri), environ=environ, purpose=purpose)  # type: ignore[arg-type]
        check_readable(access, "in/")
        check_writable(access, "out", "p.csv")
        for secret in (KEY, signature, signature.rpartition("sig=")[2]):
            assert secret not in repr(access) + told(access)
    assert names(container) == before


NO_KEY = "A" * 86 + "=="
SAID = [
    {"AZURE_STORAGE_ACCOUNT_KEY": NO_KEY, "AZURE_STORAGE_ACCOUNT_NAME": "other"},
    {"AZURE_STORAGE_ACCESS_KEY": NO_KEY, "AZURE_STORAGE_MASTER_KEY": NO_KEY},
    {"AZURE_STORAGE_TOKEN": "t", "AZURE_STORAGE_SAS_TOKEN": "sig=x", "AZURE_STORAGE_SAS_KEY": "sig=x"},
    {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:1/x"},
    {"AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s", "AZURE_TENANT_ID": "t"},
    {"AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t", "AZURE_FEDERATED_TOKEN_FILE": "/nowhere"},
    {"AZURE_SKIP_SIGNATURE": "true", "AZURE_STORAGE_ANON": "true"},
    {"AZURE_STORAGE_CONNECTION_STRING": f"AccountName=other;AccountKey={NO_KEY}", "AZURE_CONTAINER_NAME": "other"},
]


@pytest.mark.parametrize("said", SAID, ids=lambda said: next(iter(said)))
@pytest.mark.parametrize("kind", ["account_key", "sas", "anonymous"])
def test_environment_wins_over_nothing(
    azurite: Azurite, container: BlobAccess, monkeypatch: pytest.MonkeyPatch, said: dict[str, str], kind: str
) -> None:
    """Clients use what they are given, whatever variables their libraries would look at."""
    access = container
    if kind == "sas":
        access = signed(container, sas(container))
    if kind == "anonymous":
        access = replace(azurite.access(f"p{uuid.uuid4().hex[:12]}"), kind="anonymous", secret="")
        with BlobServiceClient(access.account_url, credential=KEY) as service:
            public = service.create_container(access.container, public_access="container")
            public.upload_blob("other.csv", b"x\n3\n")
    for name, text in said.items():
        monkeypatch.setenv(name, text)
    assert bytes(obstore.get(object_store(access), "other.csv").bytes()) == b"x\n3\n"
    assert [name for page in obstore.list(object_store(access)) for name in page]
    with container_client(access) as client:
        assert "other.csv" in client.list_blob_names()


def test_looks_leave_nothing(container: BlobAccess) -> None:
    """What was looked at is as it was: no blob is there that was not, and none has changed."""
    before = names(container)
    check_writable(container, "in", "a b.csv")
    check_writable(container, "", "p.csv")
    check_readable(container, "")
    check_readable(container, "in/")
    check_readable(container, "in/a b.csv")
    check_readable(container, "in/missing.csv")
    assert names(container) == before


@pytest.mark.parametrize(
    ("change", "read", "write"),
    [
        pytest.param(
            lambda given: replace(given, container="missing"), "has no container missing", "has no container missing",
            id="no container",
        ),
        pytest.param(
            lambda given: replace(given, secret="A" * 86 + "=="), "account key of the test is refused",
            "account key of the test is refused", id="wrong key",
        ),
        pytest.param(
            lambda given: replace(given, kind="anonymous", secret=""), "is not public", "is not public", id="nobody"
        ),
        pytest.param(lambda given: signed(given, sas(given, "rl")), "", "does not permit to write or delete", id="rl"),
        pytest.param(lambda given: signed(given, sas(given, "l")), "permit to read", "permit to read or write", id="l"),
        pytest.param(lambda given: signed(given, sas(given, "r")), "permit to list", "permit to write or", id="r"),
        pytest.param(
            lambda given: signed(given, sas(given, expiry="2024-01-01T00:00:00Z")), "ended at 2024-01-01T00:00:00Z",
            "ended at 2024-01-01T00:00:00Z", id="ended",
        ),
        pytest.param(
            lambda given: signed(given, sas(given, "rl").replace("sp=rl", "sp=rwdl")), "is refused", "is refused",
            id="signature that says more than it is",
        ),
        pytest.param(lambda given: signed(given, f"{sas(given)[:-8]}AAAA%3D"), "cut off", "cut off", id="cut off"),
        pytest.param(
            lambda given: signed(given, sas(replace(given, container="other"))), "is refused", "is refused",
            id="of another container",
        ),
    ],
)  # fmt: skip
def test_one_sentence_says_what_lacks(
    container: BlobAccess, change: Callable[[BlobAccess], BlobAccess], read: str, write: str
) -> None:
    """The server's refusal becomes one sentence without any secret, and nothing is tried for minutes."""
    given = change(container)
    for look, says, kind in (
        (lambda: check_readable(given, "in/"), read, InputError),
        (lambda: check_writable(given, "out", "p.csv"), write, OutputError),
    ):
        if not says:
            look()
            continue
        with pytest.raises(kind) as error:
            look()
        assert says in str(error.value)
        assert "\n" not in str(error.value)
        assert not given.secret or given.secret not in str(error.value)


def test_signature_for_one_file(container: BlobAccess) -> None:
    """It reads that file, and lists nothing."""
    access = choose_access(
        place(f"{container.url_of('other.csv')}?{sas(container, 'r', blob='other.csv')}"), environ={}
    )
    check_readable(access, "other.csv")
    with pytest.raises(InputError, match="does not permit to list"):
        check_readable(access, "")


# Folders that are fetched


def test_folder_is_fetched_as_it_is(container: BlobAccess, tmp_path: Path) -> None:
    """All that is below a path lies in a folder of its name; markers of folders are no files."""
    put(container, {"in/deep": b"", "in/empty/": b"", "in/none.txt": b"", "inner/x": b"no"})
    path = fetch_folder(container, path_in(container, f"{container.url_of('in')}/"), str(tmp_path / "to"))
    assert path == str(tmp_path / "to/in")
    found = {str(each.relative_to(path)): each.read_bytes() for each in Path(path).rglob("*") if each.is_file()}
    assert found == {"a b.csv": b"x\n1\n", "deep/c.csv": b"x\n2\n", "none.txt": b""}


@pytest.mark.parametrize(
    ("path", "at", "files"),
    [
        ("other.csv", "other.csv", ["other.csv"]),
        ("in/a b.csv", "a b.csv", ["a b.csv"]),
        ("m/MLmodel", "m", ["m/MLmodel", "m/data/model.pkl"]),
        ("m", "m", ["m/MLmodel", "m/data/model.pkl"]),
    ],
)
def test_what_is_fetched(container: BlobAccess, tmp_path: Path, path: str, at: str, files: list[str]) -> None:
    """One blob becomes one file; of a model's MLmodel file the whole model is meant."""
    put(container, {"m/MLmodel": b"y", "m/data/model.pkl": b"z"})
    assert fetch_folder(container, path, str(tmp_path)) == str(tmp_path / at)
    assert sorted(str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*") if each.is_file()) == files


def test_whole_container_is_fetched(container: BlobAccess, tmp_path: Path) -> None:
    """The root of a container has the container's name."""
    assert fetch_folder(container, "", str(tmp_path)) == str(tmp_path / container.container)
    assert (tmp_path / container.container / "in/a b.csv").exists()


@pytest.mark.parametrize(
    ("change", "path", "kind", "says"),
    [
        (lambda given: given, "nothing/here", UsageError, "nothing/here: no such file or folder"),
        (lambda given: replace(given, container="missing"), "in", UsageError, "missing"),
        (lambda given: signed(given, sas(given, "l")), "in", UsageError, "may be listed, but not read"),
        (lambda given: signed(given, f"{sas(given)[:-8]}AAAA%3D"), "in", UsageError, "the signature of the URI"),
        (
            lambda given: replace(given, account_url="http://127.0.0.1:1/devstoreaccount1"), "in", InputBusyError,
            "try again later",
        ),
    ],
)  # fmt: skip
def test_folder_that_cannot_be_fetched(
    container: BlobAccess, tmp_path: Path, *, change: Callable[[BlobAccess], BlobAccess], path: str,
    kind: type[Exception], says: str,
) -> None:  # fmt: skip
    """One sentence says why, without any secret."""
    given = change(container)
    with pytest.raises(kind, match=says) as error:
        fetch_folder(given, path, str(tmp_path))
    assert given.secret not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["in/%2E%2E/%2E%2E/out", "in/../../out", "in//out", "in/%2Fout"])
def test_blob_that_would_lead_elsewhere(container: BlobAccess, tmp_path: Path, name: str) -> None:
    """A name is a stranger's: one with dots or empty segments is refused, and nothing is written."""
    host, _, account = container.account_url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host)
    connection.request(
        "PUT", f"/{account}/{container.container}/{name}?{sas(container)}", body=b"x",
        headers={"x-ms-blob-type": "BlockBlob", "x-ms-version": "2021-08-06"},
    )  # fmt: skip
    assert connection.getresponse().status == http.client.CREATED
    connection.close()
    with pytest.raises(UsageError, match="cannot be read; rename it"):
        fetch_folder(container, "in", str(tmp_path / "deep/to"))
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, ""),
        ({"input": "in/a%20b.csv"}, ""),
        ({"input": "in/*/c.csv"}, ""),
        ({"input": "in", "input_type": "uri_folder"}, ""),
        ({"input": "in/*/c.csv", "permission": "r"}, "does not permit to list"),
        ({"input": "in", "input_type": "uri_folder", "permission": "r"}, "does not permit to list"),
        ({"input": "in/a%20b.csv", "permission": "r"}, ""),
        ({"output": "missing"}, "has no container"),
    ],
)
def test_places_of_a_job(container: BlobAccess, given: dict[str, str], says: str) -> None:
    """Input and output of a job are looked at as they will be used: a file, a folder, a glob, a folder to write to."""
    signature = sas(container, given.get("permission", "rl"))
    missing = replace(container, container="missing") if given.get("output") else container
    signed_output = f"{missing.url_of('out/s.csv')}?{sas(missing)}"
    options = Options.of(
        model="m", input=f"{container.url_of(given.get('input', 'in/'))}?{signature}", output=signed_output,
        input_type=given.get("input_type", ""),
    )  # fmt: skip
    assert signature not in repr(options)
    if says:
        with pytest.raises((InputError, OutputError), match=says):
            check_places(options)
    else:
        check_places(options)


def test_model_on_storage(
    container: BlobAccess, heart_model: Path, heart_rows: Callable[[int], Path], tmp_path: Path
) -> None:
    """A model is fetched once and then used as one on disk: the same bytes, and the same job for a resume."""
    put(container, {
        f"models/heart/{each.relative_to(heart_model)}": each.read_bytes()
        for each in heart_model.rglob("*") if each.is_file()
    })  # fmt: skip
    outputs = []
    for signature in (sas(container, "rl"), sas(container, "rlw")):
        uri = f"{container.url_of('models/heart')}?{signature}"
        for model in (uri, str(heart_model)):
            output = tmp_path / str(len(outputs))
            outcome = scoreline("run", "--model", model, "--input", heart_rows(20), "--output", output)
            assert outcome.code == 0, outcome.stderr
            outputs.append((output / "predictions.csv").read_bytes())
            shown = outcome.stderr + (output / "_predictions.receipt.json").read_text()
            assert signature not in shown
            assert signature.rpartition("sig=")[2] not in shown
            if model == uri:
                assert f"fetching {container.url_of('models/heart')}\n" in outcome.stderr
                assert f"container {container.container} of account {ACCOUNT}: shared access" in outcome.stderr
                assert f'"{container.url_of("models/heart")}"' in shown
    assert len(set(outputs)) == 1
    # another signature is the same job: it is complete already
    again = scoreline("run", "--model", uri, "--input", heart_rows(20), "--output", tmp_path / "0")
    assert (again.code, "already complete" in again.stderr) == (0, True)


def test_code_and_model_on_storage(container: BlobAccess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A scoring script and what it loads may lie on storage both."""
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    put(container, {"src/score.py": SCRIPT.encode(), "model/weights": b"w"})
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("A")
    text = DEPLOYMENT.format(model=container.url_of("model"), code=container.url_of("src"))
    (tmp_path / "blue.yml").write_text(text)
    outcome = scoreline("run", "blue.yml", "--input", "texts", "--output", "out/", "--engine", "local")
    assert outcome.code == 0, outcome.stderr
    assert (tmp_path / "out/predictions.csv").read_text() == "a.txt A\n"


def test_fetching_needs_no_library_in_the_driver(container: BlobAccess, tmp_path: Path) -> None:
    """The driver stays light: what fetches is another process, and its arguments name no secret."""
    program = (
        "import json, sys; from scoring.blob_access import BlobAccess; from runtime.storage_fetch import fetch_folder; "
        "fetch_folder(BlobAccess(**json.load(sys.stdin)), 'in', sys.argv[1]); "
        "print({'obstore', 'azure.storage.blob', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], input=json.dumps(asdict(container)), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout == "set()\n"
