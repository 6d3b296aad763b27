"""What names stand for, asked of the workspace itself: one GET each, with a token of the identity."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import OutputBusyError, ScorelineError, UsageError
from runtime.located import known_names, locate
from runtime.management import AzureWorkspace, workspace_of
from runtime.options import Options
from runtime.uris import WorkspaceId
from tests.runtime.commands import scoreline
from tests.runtime.local_service import Asked, Service, as_json, local_service, token

WORKSPACE = WorkspaceId(subscription="s-1", resource_group="rg", name="ws")
ARM = "/subscriptions/s-1/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"
LONG = "azureml://subscriptions/s-1/resourcegroups/rg/workspaces/ws"
KEY = "c2VjcmV0" * 11
FLAGS = {"subscription": "s-1", "resource_group": "rg", "workspace_name": "ws"}
VARIABLES = {
    "AZUREML_ARM_SUBSCRIPTION": "s-1", "AZUREML_ARM_RESOURCEGROUP": "rg", "AZUREML_ARM_WORKSPACE_NAME": "ws",
}  # fmt: skip

BLOBS = {
    "datastoreType": "AzureBlob", "accountName": "heart", "containerName": "data", "endpoint": "core.windows.net",
    "protocol": "https", "credentials": {"credentialsType": "AccountKey"},
}  # fmt: skip
KNOWN: dict[str, Any] = {
    "datastores/blobs": BLOBS,
    "datastores/china": {**BLOBS, "endpoint": "core.chinacloudapi.cn"},
    "datastores/plain": {name: BLOBS[name] for name in ("datastoreType", "accountName", "containerName")},
    "datastores/emulated": {**BLOBS, "accountName": "devstoreaccount1", "endpoint": "http://127.0.0.1:9/"},
    "datastores/lake": {"datastoreType": "AzureDataLakeGen2", "accountName": "heart", "filesystem": "fs"},
    "datastores/share": {"datastoreType": "AzureFile", "accountName": "heart", "fileShareName": "f"},
    "datastores/new": {"datastoreType": "Quantum"},
    "datastores/half": {"datastoreType": "AzureBlob", "accountName": "heart"},
    "data/rows": {"latestVersion": "3", "nextVersion": "4"},
    "data/rows/versions/3": {"dataType": "uri_file", "dataUri": f"{LONG}/datastores/blobs/paths/a%20b.csv"},
    "data/rows/versions/1": {"dataType": "uri_folder", "dataUri": "azureml://datastores/blobs/paths/old/"},
    "data/table/versions/1": {"dataType": "mltable", "dataUri": f"{LONG}/datastores/blobs/paths/t"},
    "data/odd/versions/1": {"dataType": "uri_file", "dataUri": "s3://bucket/a"},
    "data/none": {"latestVersion": None},
    "models/heart/versions/7": {"modelType": "mlflow_model", "modelUri": f"{LONG}/datastores/blobs/paths/m/7"},
    "codes/c/versions/1": {"codeUri": "https://heart.blob.core.windows.net/code/c1"},
}


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """Serve a workspace and the identity of this machine; nothing else is known of either."""
    for name in list(os.environ):
        if name.startswith(("AZURE", "IDENTITY_", "MSI_", "DEFAULT_IDENTITY_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def answer(asked: Asked) -> tuple[int, dict[str, str], bytes]:
        place, _, query = asked.path.partition("?")
        if query != "api-version=2023-10-01" or asked.headers.get("Authorization") != "Bearer eyJ0b2tlbg":
            return token(asked) or as_json({"error": {"code": "InvalidAuthenticationToken"}}, 401)
        name = place.removeprefix(f"{ARM}/")
        if name not in KNOWN:
            return as_json({"error": {"code": "UserError", "message": "secret of the service"}}, 404)
        return as_json({"name": name, "properties": KNOWN[name]})

    with local_service() as found:
        found.answer = answer
        monkeypatch.setenv("SCORELINE_MANAGEMENT_ENDPOINT", found.url)
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{found.url}/identity")
        monkeypatch.setenv("IDENTITY_HEADER", "proof")
        monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
        yield found


def found(text: str, purpose: str = "input", **given: str) -> dict[str, Any]:
    """Return what a URI stands for."""
    return locate(text, known_names(given, (os.getcwd(),)), purpose)  # type: ignore[arg-type]


def asked(service: Service) -> list[str]:
    """Return what the workspace was asked for, below its own path."""
    below = [path.partition("?")[0] for path in service.paths() if path.startswith("/subscriptions/")]
    assert all(path.startswith(f"{ARM}/") for path in below)
    return [path.removeprefix(f"{ARM}/") for path in below]


@pytest.mark.parametrize(
    ("text", "place", "names"),
    [
        (f"{LONG}/datastores/blobs/paths/in/", "https://heart.blob.core.windows.net/data/in/", ["datastores/blobs"]),
        (f"{LONG}/datastores/china", "https://heart.blob.core.chinacloudapi.cn/data", ["datastores/china"]),
        (f"{LONG}/datastores/plain/paths/x", "https://heart.blob.core.windows.net/data/x", ["datastores/plain"]),
        (f"{LONG}/datastores/lake/paths/x", "https://heart.blob.core.windows.net/fs/x", ["datastores/lake"]),
        (
            f"{LONG}/datastores/emulated/paths/x", "http://127.0.0.1:9/devstoreaccount1/data/x",
            ["datastores/emulated"],
        ),
        (f"{ARM}/datastores/blobs/paths/x", "https://heart.blob.core.windows.net/data/x", ["datastores/blobs"]),
        (
            f"{LONG}/data/rows/versions/3", "https://heart.blob.core.windows.net/data/a%20b.csv",
            ["data/rows/versions/3", "datastores/blobs"],
        ),
        (
            f"azureml:{ARM}/data/rows/labels/latest", "https://heart.blob.core.windows.net/data/a%20b.csv",
            ["data/rows", "data/rows/versions/3", "datastores/blobs"],
        ),
    ],
)  # fmt: skip
def test_long_forms(service: Service, text: str, place: str, names: list[str]) -> None:
    """The workspace of the URI is asked: one GET for each name on the way."""
    given = found(text)
    assert (given["input"], given["input_access"].secret) == (place, KEY)
    assert asked(service) == names


@pytest.mark.parametrize("way", ["flags", "variables", "both"])
@pytest.mark.usefixtures("service")
def test_short_forms(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """The workspace of short forms is said by flags, else by the variables of Azure ML's jobs."""
    for name, text in VARIABLES.items():
        if way != "flags":
            monkeypatch.setenv(name, "other" if way == "both" else text)
    flags = FLAGS if way != "variables" else {}
    assert found("azureml:rows:1", **flags)["input"] == "https://heart.blob.core.windows.net/data/old/"
    assert found("azureml:rows", **flags)["input"] == "https://heart.blob.core.windows.net/data/a%20b.csv"
    assert found("azureml:heart:7", "model", **flags)["model"] == "https://heart.blob.core.windows.net/data/m/7"
    assert found("azureml:c:1", "code", **flags)["code"] == "https://heart.blob.core.windows.net/code/c1"
    place = found("azureml://datastores/blobs/paths/out/s.csv", "output", **flags)
    assert place["output"] == "https://heart.blob.core.windows.net/data/out/s.csv"


def test_options_of_a_job(service: Service) -> None:
    """Model, input and output by name; what the data asset says of itself; nothing is asked twice."""
    options = Options.of(
        model="azureml:heart:7", input="azureml:rows:3", output=f"{LONG}/datastores/lake/paths/out/", **FLAGS
    )
    assert (options.input, options.input_type) == ("https://heart.blob.core.windows.net/data/a%20b.csv", "uri_file")
    assert options.model == "https://heart.blob.core.windows.net/data/m/7"
    assert options.output_folder == "https://heart.blob.core.windows.net/fs/out"
    assert KEY not in repr(options)
    assert asked(service) == [
        "models/heart/versions/7", "datastores/blobs", "data/rows/versions/3", "datastores/lake"
    ]  # fmt: skip
    assert options.notices == (
        "container data of account heart: account key of AZURE_STORAGE_KEY",
        "container fs of account heart: account key of AZURE_STORAGE_KEY",
    )


def test_mapping_wins(service: Service, tmp_path: Path) -> None:
    """What workspace.yml knows is not asked for, and what it lacks is."""
    (tmp_path / "workspace.yml").write_text("data: {rows: {'3': ./here.csv}}\ndatastores: {blobs: ./store}\n")
    assert found("azureml:rows:3", **FLAGS)["input"] == str(tmp_path / "here.csv")
    assert found(f"{LONG}/datastores/blobs/paths/x")["input"] == str(tmp_path / "store/x")
    assert asked(service) == []
    assert found("azureml:rows:1", **FLAGS)["input"] == str(tmp_path / "store/old")
    assert asked(service) == ["data/rows/versions/1"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            f"{LONG}/datastores/gone/paths/x",
            "datastore gone: there is none in the workspace ws of rg of subscription s-1 (UserError); check the names",
        ),
        (f"{LONG}/datastores/share", "share is a datastore of the type AzureFile, which is not served here"),
        (f"{LONG}/datastores/new", "new is a datastore of the type Quantum, which is not served here"),
        (f"{LONG}/datastores/half", "ws names no account and container of the datastore half"),
        (f"{LONG}/data/rows/versions/9", "version 9 of the data asset rows: there is none in the workspace ws"),
        (f"{LONG}/data/table/versions/1", "an MLTable, which no batch deployment takes"),
        (f"{LONG}/data/odd/versions/1", "ws has no place for the data asset odd that is known here: s3://bucket/a"),
        (f"{LONG}/data/none/labels/latest", "the data asset none has no latest version in ws; name a version"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("service")
def test_what_is_not_found(text: str, says: str) -> None:
    """One sentence says which name, in which workspace, and what to do."""
    with pytest.raises(UsageError) as error:
        found(text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert "secret of the service" not in str(error.value)


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (401, UsageError, "the token of ManagedIdentityCredential is refused at 127.0.0.1:"),
        (403, UsageError, "the identity of ManagedIdentityCredential may not read it in the workspace ws of rg; give"),
        (400, UsageError, "refuses to tell it (Odd)"),
        (302, UsageError, "refuses to tell it"),
        (503, OutputBusyError, "is busy or away (HTTP 503); try again later"),
        (200, UsageError, "answers what is no datastore blobs; is SCORELINE_MANAGEMENT_ENDPOINT or a proxy"),
    ],
)
def test_what_the_service_refuses(
    service: Service, monkeypatch: pytest.MonkeyPatch, status: int, kind: type[ScorelineError], says: str
) -> None:
    """One sentence for each, and the token goes nowhere else."""
    monkeypatch.setattr("runtime.management.PAUSE_S", 0.01)
    refusal = as_json({"error": {"code": "Odd"}}, status)
    headers = {**refusal[1], "Location": f"{service.url}/elsewhere"}
    service.answer = lambda asked: token(asked) or (status, headers, refusal[2])
    with pytest.raises(kind) as error:
        found(f"{LONG}/datastores/blobs")
    assert says in str(error.value)
    assert "eyJ0b2tlbg" not in str(error.value)
    assert len(asked(service)) == (3 if status == 503 else 1)
    assert not [path for path in service.paths() if "elsewhere" in path]


def test_service_that_comes_back(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked again where it was busy for a moment."""
    monkeypatch.setattr("runtime.management.PAUSE_S", 0.01)
    usual, busy = service.answer, [as_json({}, 429), as_json({}, 503)]
    service.answer = lambda each: token(each) or (busy.pop() if busy else usual(each))
    assert found(f"{LONG}/datastores/blobs")["input"] == "https://heart.blob.core.windows.net/data"


@pytest.mark.usefixtures("service")
def test_service_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be there later: the error is that of what may be tried again."""
    monkeypatch.setattr("runtime.management.PAUSE_S", 0.01)
    monkeypatch.setenv("SCORELINE_MANAGEMENT_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(OutputBusyError, match=r"127\.0\.0\.1:1 cannot be reached .*or write what it stands for into"):
        found(f"{LONG}/datastores/blobs")


def test_no_identity(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a token nothing is asked, and what helps is named."""
    monkeypatch.setenv("IDENTITY_HEADER", "wrong")
    with pytest.raises(UsageError, match="to ask the workspace an identity is needed, and none gives a token"):
        found(f"{LONG}/datastores/blobs")
    assert asked(service) == []


@pytest.mark.parametrize(
    ("environ", "resource"),
    [
        ({}, "https://management.azure.com"),
        ({"AZURE_AUTHORITY_HOST": "https://login.chinacloudapi.cn/"}, "https://management.chinacloudapi.cn"),
        ({"AZURE_AUTHORITY_HOST": "login.microsoftonline.us"}, "https://management.usgovcloudapi.net"),
        ({"AZUREML_CURRENT_CLOUD": "AzureUSGovernment"}, "https://management.usgovcloudapi.net"),
    ],
)
def test_clouds(service: Service, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], resource: str) -> None:
    """The token is for the management service of the cloud that identities sign in to."""
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    found(f"{LONG}/datastores/blobs")
    assert f"resource={resource}" in next(path for path in service.paths() if path.startswith("/identity"))


@pytest.mark.parametrize("endpoint", ["http://example.com", "ftp://127.0.0.1", "http://127.0.0.1.example.com"])
def test_token_is_sent_in_the_open_to_nobody(service: Service, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Without TLS it goes to this machine alone."""
    monkeypatch.setenv("SCORELINE_MANAGEMENT_ENDPOINT", endpoint)
    with pytest.raises(UsageError, match="SCORELINE_MANAGEMENT_ENDPOINT: must begin with https://"):
        found(f"{LONG}/datastores/blobs")
    assert service.asked == []


def test_nobody_says_which_workspace(service: Service) -> None:
    """The sentence has both ways out: lines for workspace.yml, and the flags."""
    with pytest.raises(UsageError) as error:
        found("azureml:rows:3")
    assert '  data:\n    rows:\n      "3": PLACE' in str(error.value)
    assert "--subscription, --resource-group, --workspace-name (or AZUREML_ARM_*)" in str(error.value)
    assert service.asked == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"subscription": "s"}, "not named in full: --resource-group (or AZUREML_ARM_RESOURCEGROUP) and --workspace-n"),
        ({**FLAGS, "workspace_name": "a/b"}, "--workspace-name (or AZUREML_ARM_WORKSPACE_NAME): 'a/b' is no name"),
    ],
)  # fmt: skip
def test_workspace_that_is_not_named(given: dict[str, str], says: str) -> None:
    """Half a name is none."""
    with pytest.raises(UsageError) as error:
        workspace_of(given, {})
    assert says in str(error.value)


def test_flags_of_the_command(service: Service, tmp_path: Path) -> None:
    """The command takes the flags, beside a deployment and without one; what is not found is told there."""
    outcome = scoreline(
        "run", "--model", "azureml:gone:1", "--input", "azureml:rows:3", "--subscription", "s-1",
        "--resource-group", "rg", "--workspace-name", "ws",
    )  # fmt: skip
    assert (outcome.code, "version 1 of the model gone: there is none" in outcome.stderr) == (2, True)
    (tmp_path / "d.yml").write_text(
        "name: d\nendpoint_name: heart\ntype: model\nmodel: azureml:gone:2\ncompute: azureml:c\n"
    )
    outcome = scoreline(
        "run", "d.yml", "--input", "azureml:rows:3", "--subscription", "s-1", "--resource-group", "rg",
        "--workspace-name", "ws",
    )  # fmt: skip
    assert (outcome.code, "d.yml: model: azureml:gone:2: version 2 of the model gone: there" in outcome.stderr) == (
        2, True,
    )  # fmt: skip
    assert asked(service) == ["models/gone/versions/1", "models/gone/versions/2"]


def test_repr_shows_no_environment() -> None:
    """The environment may hold secrets."""
    assert "c2VjcmV0" not in repr(AzureWorkspace(usual=WORKSPACE, environ={"AZURE_STORAGE_KEY": KEY}))
