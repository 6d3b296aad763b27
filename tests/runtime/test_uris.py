"""All forms of URIs that Azure ML knows, read as typed values (contract 7.1), and outputs split (contract 6.4)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime.errors import UriError, exit_code
from runtime.uris import (
    AssetId,
    AssetName,
    BlobPath,
    DatastorePath,
    JobOutput,
    LocalPath,
    PublicFile,
    RunArtifact,
    Uri,
    WorkspaceId,
    parse_uri,
    split_output,
)

W = WorkspaceId(subscription="s-1", resource_group="rg", name="ws")
LONG = "subscriptions/s-1/resourcegroups/rg/workspaces/ws"
ARM = "subscriptions/s-1/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"
SAS = "sv=2022-11-02&sp=rl&sig=c2VjcmV0%2Fhidden%3D"


def name(**fields: str) -> AssetName:
    """Return the asset heart."""
    return AssetName(**{"name": "heart", **fields})


def asset(**fields: str) -> AssetId:
    """Return version 3 of the data asset heart in the workspace."""
    return AssetId(**{"workspace": W, "kind": "data", "name": "heart", "version": "3", **fields})  # type: ignore[arg-type]


def store(path: str = "a/b.csv", **fields: Any) -> DatastorePath:
    """Return a path in the datastore ds."""
    return DatastorePath(datastore="ds", path=path, **{"is_folder": not path, **fields})


def blob(path: str = "a/b.csv", suffix: str = "core.windows.net", kind: str = "blob", **fields: Any) -> BlobPath:
    """Return a path in the container box."""
    account_url = fields.pop("account_url", f"https://acct.{kind}.{suffix}")
    return BlobPath(account_url=account_url, container="box", path=path, kind=kind, **{"is_folder": not path, **fields})


def local(path: str, **fields: bool) -> LocalPath:
    """Return a path below the folder that the tests are relative to."""
    return LocalPath(path=path, **fields)


FORMS: dict[str, tuple[str, Uri]] = {
    "7.1 1 name and version": ("azureml:heart:3", name(version="3")),
    "7.1 1 scheme in capitals": ("AzureML:heart:3", name(version="3")),
    "7.1 1 version as it is written": ("azureml:heart:1.10", name(version="1.10")),
    "7.1 1 version with a colon": ("azureml:heart:1:2", name(version="1:2")),
    "7.1 1 spaces around": ("  azureml:heart:3\n", name(version="3")),
    "7.1 2 label": ("azureml:heart@latest", name(label="latest")),
    "7.1 2 the last @ splits": ("azureml:he@rt@latest", name(name="he@rt", label="latest")),
    "7.1 3 name alone": ("azureml:heart", name()),
    "7.1 4 short": ("azureml://datastores/ds/paths/a/b.csv", store()),
    "7.1 4 keywords in capitals": ("AZUREML://DataStores/ds/Paths/a/b.csv", store()),
    "7.1 4 case of names stays": ("azureml://datastores/Ds/paths/A", DatastorePath(datastore="Ds", path="A")),
    "7.1 4 root": ("azureml://datastores/ds", store("")),
    "7.1 4 root with a slash": ("azureml://datastores/ds/", store("")),
    "7.1 4 root with paths": ("azureml://datastores/ds/paths/", store("")),
    "7.1 4 trailing slash": ("azureml://datastores/ds/paths/a/", store("a", is_folder=True)),
    "7.1 4 doubled slash behind paths": ("azureml://datastores/ds/paths//p/f", store("p/f")),
    "7.1 4 doubled slash further on": ("azureml://datastores/ds/paths/p//f", store("p//f")),
    "7.1 4 decoded once": ("azureml://datastores/ds/paths/a%20b%2520c", store("a b%20c")),
    "7.1 4 a space as it is": ("azureml://datastores/ds/paths/a b/ä.csv", store("a b/ä.csv")),
    "7.1 4 a percent that encodes nothing": ("azureml://datastores/ds/paths/100%.csv", store("100%.csv")),
    "7.1 4 a glob": ("azureml://datastores/ds/paths/part-?.csv", store("part-?.csv")),
    "7.1 5 long": (f"azureml://{LONG}/datastores/ds/paths/a/b.csv", store(workspace=W)),
    "7.1 5 resourceGroups": (
        f"azureml://{LONG.replace('resourceg', 'resourceG')}/datastores/ds/paths/a/b.csv",
        store(workspace=W),
    ),
    "7.1 5 with the provider": (f"azureml://{ARM}/datastores/ds/paths/a/b.csv", store(workspace=W)),
    "7.1 5 root": (f"azureml://{LONG}/datastores/ds", store("", workspace=W)),
    "7.1 6 data": (f"azureml://{LONG}/data/heart/versions/3", asset()),
    "7.1 6 with the provider": (f"azureml://{ARM}/data/heart/versions/3", asset()),
    "7.1 7 single slash, model": (f"azureml:/{ARM}/models/heart/versions/3", asset(kind="models")),
    "7.1 7 single slash, datastore": (f"azureml:/{ARM}/datastores/ds/paths/a/b.csv", store(workspace=W)),
    "7.1 8 data": (f"/{ARM}/data/heart/versions/3", asset()),
    "7.1 8 model": (f"/{ARM}/models/heart/versions/3", asset(kind="models")),
    "7.1 8 code": (f"/{ARM}/codes/heart/versions/3", asset(kind="codes")),
    "7.1 8 environment": (f"/{ARM}/environments/heart/versions/3", asset(kind="environments")),
    "7.1 8 label": (f"/{ARM}/data/heart/labels/latest", asset(version="", label="latest")),
    "7.1 8 all in capitals": (f"/{ARM}/data/heart/versions/3".upper(), AssetId(
        workspace=WorkspaceId(subscription="S-1", resource_group="RG", name="WS"),
        kind="data", name="HEART", version="3",
    )),
    "7.1 9 path": (f"/{ARM}/datastores/ds/paths/a/b.csv", store(workspace=W)),
    "7.1 9 root": (f"/{ARM}/datastores/ds", store("", workspace=W)),
    "7.1 14 job output": ("azureml://jobs/j/outputs/o/paths/m/x", JobOutput(job="j", output="o", path="m/x")),
    "7.1 14 job output, root": ("azureml://jobs/j/outputs/o", JobOutput(job="j", output="o", is_folder=True)),
    "7.1 14 job output, long": (f"azureml://{LONG}/jobs/j/outputs/o/paths/m", JobOutput(
        job="j", output="o", path="m", workspace=W,
    )),
    "7.1 14 run": ("runs:/abc/model", RunArtifact(uri="runs:/abc/model")),
    "7.1 14 ExperimentRun": (
        "azureml://datastores/ds/ExperimentRun/dcid.abc/model",
        store("ExperimentRun/dcid.abc/model"),
    ),
    "MLflow registry": ("models:/heart@champion", RunArtifact(uri="models:/heart@champion")),
    "MLflow artifacts": ("MLflow-Artifacts:/1/abc/m", RunArtifact(uri="mlflow-artifacts:/1/abc/m")),
    "MLflow server": ("mlflow-artifacts://host:5000/1/m", RunArtifact(uri="mlflow-artifacts://host:5000/1/m")),
    "7.1 16 blob": ("https://acct.blob.core.windows.net/box/a/b.csv", blob()),
    "7.1 16 host in capitals": ("HTTPS://Acct.Blob.Core.Windows.Net/box/a/b.csv", blob()),
    "7.1 16 container alone": ("https://acct.blob.core.windows.net/box", blob("")),
    "7.1 16 trailing slash": ("https://acct.blob.core.windows.net/box/a/", blob("a", is_folder=True)),
    "7.1 16 decoded once": ("https://acct.blob.core.windows.net/box/a%20b%2520.csv", blob("a b%20.csv")),
    "7.1 16 signature": (f"https://acct.blob.core.windows.net/box/a/b.csv?{SAS}", blob(sas=SAS)),
    "7.1 16 signature with a ?": ("https://acct.blob.core.windows.net/box/a?x=?&sig=1", blob("a", sas="x=?&sig=1")),
    "7.1 16 China": ("https://acct.blob.core.chinacloudapi.cn/box/a/b.csv", blob(suffix="core.chinacloudapi.cn")),
    "7.1 16 US government": (
        "https://acct.blob.core.usgovcloudapi.net/box/a/b.csv",
        blob(suffix="core.usgovcloudapi.net"),
    ),
    "7.1 16 Germany": ("https://acct.blob.core.cloudapi.de/box/a/b.csv", blob(suffix="core.cloudapi.de")),
    "7.1 16 zone": (
        "https://acct.z12.blob.storage.azure.net/box/a/b.csv",
        blob(account_url="https://acct.z12.blob.storage.azure.net"),
    ),
    "7.1 16 private link": (
        "https://acct.privatelink.blob.core.windows.net/box/a/b.csv",
        blob(account_url="https://acct.privatelink.blob.core.windows.net"),
    ),
    "7.1 16 emulator": (
        "http://127.0.0.1:10000/devstoreaccount1/box/a/b.csv",
        blob(account_url="http://127.0.0.1:10000/devstoreaccount1"),
    ),
    "7.1 17 dfs": ("https://acct.dfs.core.windows.net/box/a/b.csv", blob(kind="dfs")),
    "7.1 17 signature": (f"https://acct.dfs.core.windows.net/box/a/b.csv?{SAS}", blob(kind="dfs", sas=SAS)),
    "7.1 18 wasbs": ("wasbs://box@acct.blob.core.windows.net/a/b.csv", blob()),
    "7.1 18 wasb": ("wasb://box@acct.blob.core.chinacloudapi.cn/a/b.csv", blob(suffix="core.chinacloudapi.cn")),
    "7.1 18 signature": (f"wasbs://box@acct.blob.core.windows.net/a/b.csv?{SAS}", blob(sas=SAS)),
    "7.1 19 abfss": ("abfss://box@acct.dfs.core.windows.net/a/b.csv", blob(kind="dfs")),
    "7.1 19 abfs": ("ABFS://box@acct.dfs.core.windows.net/a/", blob("a", kind="dfs", is_folder=True)),
    "7.1 19 account first": ("abfs://acct.dfs.core.windows.net/box/a/b.csv", blob(kind="dfs")),
    "7.1 21 https": ("https://example.com/a/b.csv", PublicFile(address="https://example.com/a/b.csv")),
    "7.1 21 http": ("http://localhost:8000/b.csv", PublicFile(address="http://localhost:8000/b.csv")),
    "7.1 21 encoding stays": ("https://Example.com/a%20b.csv", PublicFile(address="https://example.com/a%20b.csv")),
    "7.1 21 query": (
        "https://example.com/b.csv?token=abc",
        PublicFile(address="https://example.com/b.csv", query="token=abc"),
    ),
    "7.1 21 a host that only looks like storage": (
        "https://acct.blob.core.windows.net.example.com/box/a",
        PublicFile(address="https://acct.blob.core.windows.net.example.com/box/a"),
    ),
    "7.1 22 relative": ("data/a.csv", local("/base/data/a.csv")),
    "7.1 22 relative with dots": ("../data/a.csv", local("/data/a.csv")),
    "7.1 22 the folder itself": (".", local("/base", is_folder=True)),
    "7.1 22 absolute": ("/data/a.csv", local("/data/a.csv")),
    "7.1 22 doubled slash in front": ("//data/a.csv", local("/data/a.csv")),
    "7.1 22 trailing slash": ("/data/", local("/data", is_folder=True)),
    "7.1 22 root": ("/", local("/", is_folder=True)),
    "7.1 22 a glob": ("data/part-?.csv", local("/base/data/part-?.csv")),
    "7.1 22 a percent": ("data/a%20b.csv", local("/base/data/a%20b.csv")),
    "7.1 22 a colon": ("data/10:00.csv", local("/base/data/10:00.csv")),
    "7.1 22 a colon, and no letter first": ("2026-11-22T10:00.csv", local("/base/2026-11-22T10:00.csv")),
    "7.1 22 a colon behind letters": ("heart:3", local("/base/heart:3")),
    "7.1 22 an @": ("photo@2x.png", local("/base/photo@2x.png")),
    "7.1 22 spaces at the ends": (" a.csv ", local("/base/ a.csv ")),
    "7.1 22 file: relative": ("file:data/a.csv", local("/base/data/a.csv")),
    "7.1 22 file: one slash": ("file:/data/a.csv", local("/data/a.csv")),
    "7.1 22 file: URL": ("file:///data/a%20b.csv", local("/data/a b.csv")),
    "7.1 22 file: localhost": ("FILE://localhost/data/a.csv", local("/data/a.csv")),
    "7.1 22 file: a glob": ("file:///data/part-?.csv", local("/data/part-?.csv")),
    "7.1 22 file: ends in a slash": ("file:///data/", local("/data", is_folder=True)),
    "7.1 22 file: what reads as an id": ("file:///subscriptions/a", local("/subscriptions/a")),
    "7.1 22 folder:": ("folder:./data", local("/base/data", is_folder=True)),
    "7.1 22 folder: URL": ("folder:///data", local("/data", is_folder=True)),
}  # fmt: skip


@pytest.mark.parametrize(("text", "uri"), FORMS.values(), ids=FORMS)
def test_form_is_read(text: str, uri: Uri) -> None:
    """Every form gives a value of its type, with its parts decoded and its keywords in any letter case."""
    assert uri == parse_uri(text, relative_to="/base")


@pytest.mark.parametrize(("text", "uri"), FORMS.values(), ids=FORMS)
def test_text_of_a_value_reads_back(text: str, uri: Uri) -> None:
    """What is printed is a URI again: of the same value, but for what is hidden behind the question mark."""
    again = parse_uri(str(uri), relative_to="/elsewhere")
    assert str(uri) == str(again)
    if "?***" not in str(uri):
        assert uri == again
    assert "?***" in str(uri) or not isinstance(uri, BlobPath | PublicFile) or "?" not in text


def test_canonical_texts() -> None:
    """The printed form is one that Azure ML reads, whatever form was given."""
    assert f"azureml:/{ARM}/data/heart/versions/3" == str(parse_uri(f"/{ARM}/data/heart/versions/3"))
    assert f"azureml://{LONG}/datastores/ds/paths/a%20b" == str(parse_uri(f"/{ARM}/datastores/ds/paths/a b"))
    assert str(parse_uri("abfss://box@acct.dfs.core.windows.net/a b")) == "https://acct.dfs.core.windows.net/box/a%20b"
    assert str(parse_uri("file:///subscriptions/a%20b")) == "file:///subscriptions/a%20b"


REFUSED = {
    "7.1 10 compute": (
        "/subscriptions/s/resourceGroups/g/workspaces/w/computes/c",
        "{}: a compute, which holds neither data nor a model; jobs run on this machine",
    ),
    "7.1 11 location": (
        "azureml://locations/eastus/workspaces/1-2/data/heart/versions/3",
        "{}: names a workspace by its inner id, which is not looked up here; write azureml:heart:3",
    ),
    "7.1 11 location and label": (
        "azureml://locations/eastus/workspaces/1-2/models/heart/versions/labels/latest",
        "{}: names a workspace by its inner id, which is not looked up here; write azureml:heart@latest",
    ),
    "7.1 12 registry": (
        "azureml://registries/azureml/models/heart/versions/3",
        (
            "{}: registries are not asked here; download the asset (az ml model download --registry-name …) and "
            "give its local path"
        ),
    ),
    "7.1 12 feed": (
        "azureml://feeds/azureml/models/heart",
        "{}: an address inside the service; download the asset and give its local path",
    ),
    "7.1 13 without subscription": (
        "azureml://resourceGroups/g/workspaces/w/models/heart/versions/3",
        "{}: names an asset without its subscription; write azureml:heart:3",
    ),
    "7.1 13 model": (
        "azureml://models/heart/versions/3",
        "{}: names an asset without its subscription; write azureml:heart:3",
    ),
    "7.1 13 data": (
        "azureml://data/heart/versions/3",
        "{}: names an asset without its subscription; write azureml:heart:3",
    ),
    "7.1 13 unfinished": (
        "azureml://data/heart",
        "{}: names an asset without its subscription; write azureml:<name>:<version>",
    ),
    "7.1 15 slashes before a name": (
        "azureml://heart:3",
        "{}: an asset is written without slashes: azureml:heart:3",
    ),
    "7.1 20 Gen1": (
        "adl://acct.azuredatalakestore.net/a",
        "{}: Azure Data Lake Gen1 was retired; move the data to Gen2 and write abfss://…",
    ),
    "empty": ("", "an empty text, where a path or a URI must be"),
    "blank": (" \n", "an empty text, where a path or a URI must be"),
    "control character": ("a\x00b", "a\\x00b: a control character, which no path or URI has here"),
    "line end": ("a\nb", "a\\nb: a control character, which no path or URI has here"),
    "not UTF-8": ("azureml:\udce9", "azureml:\\udce9: not UTF-8; write the odd characters of a URI with %"),
    "no name": (
        "azureml:",
        "{}: write azureml:<name>:<version>, azureml:<name>@<label> or azureml://datastores/…/paths/…",
    ),
    "no version behind the colon": (
        "azureml:heart:",
        "{}: write azureml:<name>:<version>, azureml:<name>@<label> or azureml://datastores/…/paths/…",
    ),
    "a version and a label": (
        "azureml:heart:3@latest",
        "{}: write azureml:<name>:<version>, azureml:<name>@<label> or azureml://datastores/…/paths/…",
    ),
    "a path behind azureml:": (
        "azureml:./data",
        "{}: write azureml:<name>:<version>, azureml:<name>@<label> or azureml://datastores/…/paths/…",
    ),
    "unknown word": (
        "azureml://datastore/ds/paths/a",
        "{}: after azureml:// comes datastores/…, subscriptions/… or jobs/…; an asset is azureml:<name>:<version>",
    ),
    "no datastore": ("azureml://datastores/", "{}: no datastore; write azureml://datastores/<datastore>/paths/<path>"),
    "no paths": ("azureml://datastores/ds/a/b", "{}: write azureml://datastores/ds/paths/a/b"),
    "out of the datastore": (
        "azureml://datastores/ds/paths/a/../../b",
        "{}: a path on storage has no segment . or ..; write it out",
    ),
    "out of the datastore, encoded": (
        "azureml://datastores/ds/paths/%2e%2e/b",
        "{}: a path on storage has no segment . or ..; write it out",
    ),
    "encoded line end": (
        "azureml://datastores/ds/paths/a%0Ab",
        "{}: a control character written with %, which no path has here",
    ),
    "encoded, not UTF-8": (
        "azureml://datastores/ds/paths/%ff",
        "{}: the characters written with % are not UTF-8",
    ),
    "no output of the job": ("azureml://jobs/j", "{}: write azureml://jobs/<job>/outputs/<output>/paths/<path>"),
    "no workspace": (
        "/subscriptions/s/resourceGroups/g",
        (
            "{}: no id of Azure ML; write /subscriptions/<id>/resourceGroups/<group>/providers/"
            "Microsoft.MachineLearningServices/workspaces/<workspace>/…, or file:///… for a local path"
        ),
    ),
    "no version in the id": (
        "/subscriptions/s/resourceGroups/g/workspaces/w/data/heart",
        (
            "{}: after the workspace comes data/<name>/versions/<version>, models/<name>/versions/<version> or "
            "datastores/<datastore>/paths/<path>"
        ),
    ),
    "no container": (
        "https://acct.blob.core.windows.net/",
        "{}: no container; write https://acct.blob.core.windows.net/<container>/<path>",
    ),
    "no account": ("abfss://box/a", "{}: write abfss://<container>@<account>.dfs.core.windows.net/<path>"),
    "no account for wasbs": ("wasbs://box/a", "{}: write wasbs://<container>@<account>.blob.core.windows.net/<path>"),
    "no host": ("https:///a", "{}: no host; write https://<host>/<path>"),
    "no port": ("https://example.com:x/a", "{}: no host; write https://<host>/<path>"),
    "no file": ("https://example.com", "{}: no file; write its whole address"),
    "one slash": ("https:/example.com/a", "{}: write https://<host>/<path>, with two slashes"),
    "no run": ("runs:abc/model", "{}: write runs:/<run>/<path>"),
    "no model": ("models:/", "{}: write models:/<name>/<version>"),
    "another machine": ("file://host/a", "{}: names this machine only, not host; write file:///path"),
    "no path": ("file:", "{}: no path; write file:///path"),
    "Windows": (
        "C:\\data\\a.csv",
        "{}: a path of Windows; give a path of this machine, which inside WSL starts with /mnt/c/",
    ),
    "Windows with slashes": (
        "c:/data/a.csv",
        "{}: a path of Windows; give a path of this machine, which inside WSL starts with /mnt/c/",
    ),
    "Windows share": (
        "\\\\host\\data",
        "{}: a path of Windows; give a path of this machine, which inside WSL starts with /mnt/c/",
    ),
    "another scheme": (
        "s3://bucket/a",
        "{}: s3:// is not known here; write a local path, https://…, abfss://…, wasbs://… or azureml://datastores/…",
    ),
    "no file name": ("a\ud800b", "a\\ud800b: has characters that no file name can have"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_form_says_what_to_do(text: str, message: str) -> None:
    """What is not served is recognised, and refused before any work with a sentence that helps."""
    with pytest.raises(UriError) as refused:
        parse_uri(text)
    assert message.format(text) == str(refused.value)
    assert exit_code(refused.value) == 2


SECRETS = {
    "blob": "https://acct.blob.core.windows.net/box/a?sv=1&sig=HIDDEN",
    "dfs": "https://acct.dfs.core.windows.net/box/a?sv=1&sig=HIDDEN",
    "wasbs": "wasbs://box@acct.blob.core.windows.net/a?sig=HIDDEN",
    "abfss": "abfss://box@acct.dfs.core.windows.net/a?sig=HIDDEN",
    "emulator": "http://127.0.0.1:10000/devstoreaccount1/box/a?sig=HIDDEN",
    "public": "https://example.com/a.csv?token=HIDDEN",
    "encoded question mark": "https://acct.blob.core.windows.net/box/a%3Fsv=1&sig=HIDDEN",
    "encoded throughout": "https://acct.blob.core.windows.net/box/a%3Fsv%3D1%26sig%3DHIDDEN",
    "no question mark": "https://acct.blob.core.windows.net/box/a&sig=HIDDEN",
    "public, encoded": "https://example.com/a%3Ftoken=HIDDEN",
    "no scheme": "acct.blob.core.windows.net/box/a?sv=1&sig=HIDDEN",
    "wrong scheme": "htps://acct.blob.core.windows.net/box/a?sv=1&sig=HIDDEN",
    "one slash": "https:/acct.blob.core.windows.net/box/a?sig=HIDDEN",
    "no container": "https://acct.blob.core.windows.net/?sig=HIDDEN",
    "no account": "abfss://box/a?sig=HIDDEN",
    "datastore": "azureml://datastores/ds/paths/a?sv=1&sig=HIDDEN",
    "datastore's name": "azureml://datastores/ds?sv=1&sig=HIDDEN",
    "asset": "azureml:heart:3?sig=HIDDEN",
    "id": "/subscriptions/s/resourceGroups/g/workspaces/w/data/heart/versions/3?sig=HIDDEN",
    "file": "file:///a?sv=1&sig=HIDDEN",
    "MLflow": "runs:/r/m?sig=HIDDEN",
    "MLflow password": "mlflow-artifacts://user:HIDDEN@host/a",
    "password": "https://user:HIDDEN@example.com/a",
    "password with a slash": "https://user:a/HIDDEN@example.com/a",
    "password, one slash": "https:/user:HIDDEN@example.com/a",
    "key of another store": "s3://key:HIDDEN@bucket/a",
    "adl": "adl://acct.azuredatalakestore.net/a?sig=HIDDEN",
    "line end": "https://acct.blob.core.windows.net/box/a?sig=HIDDEN\nx",
}


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
def test_signature_shows_nowhere(text: str) -> None:
    """A signature, a token or a password is in no text, representation or message; only `url` has it."""
    try:
        uri = parse_uri(text)
    except UriError as error:
        assert "HIDDEN" not in f"{error} {error!r} {error.__cause__} {error.__context__}"  # noqa: PT017
    else:
        assert isinstance(uri, BlobPath | PublicFile)
        assert "HIDDEN" not in f"{uri} {uri!r}"
        assert str(uri).endswith("?***")
        assert uri.url.endswith("HIDDEN")


def test_url_is_the_true_address() -> None:
    """The address that is asked has the path encoded, and the signature as it was given."""
    uri = parse_uri(f"abfss://box@acct.dfs.core.windows.net/a%20b/100%25 ä#?.csv{SAS}")
    assert isinstance(uri, BlobPath)
    assert uri.url == f"https://acct.dfs.core.windows.net/box/a%20b/100%25%20%C3%A4%23?.csv{SAS}"
    assert uri.path == "a b/100% ä#"


def test_relative_path_starts_at_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without another folder a path is relative to where the command runs, and ~ is the home folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/users/me")
    assert parse_uri("a.csv") == LocalPath(path=f"{tmp_path}/a.csv")
    assert parse_uri("~/a.csv") == LocalPath(path="/users/me/a.csv")
    assert parse_uri("file:~/a.csv") == LocalPath(path=f"{tmp_path}/~/a.csv")


def test_working_folder_that_was_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path cannot be found from a folder that is gone."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(UriError, match=r"^a\.csv: the working folder was deleted; give an absolute path$"):
        parse_uri("a.csv")


PIECES = st.sampled_from([
    "azureml:", "//", "/", ":", "@", "?", "%", "%2", "%20", "%00", "%ff", "..", "datastores", "paths", "subscriptions",
    "resourcegroups", "workspaces", "data", "models", "versions", "labels", "jobs", "outputs", "https:", "abfss:",
    "wasb:", "file:", "folder:", "runs:", "acct.blob.core.windows.net", "acct.dfs.core.windows.net", "[", "]", "\\",
    "c:", "~", " ", "sig=", "&", "#", "\udce9", "\ud800", "devstoreaccount1", "ä", "x",
])  # fmt: skip


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
@example("https://[")
@example("file://[::1/a")
@example("~\ud800")
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever the text, there is a value whose text reads back alike, or a UriError on one line."""
    try:
        uri = parse_uri(text, relative_to="/base")
    except UriError as error:
        assert str(error).isprintable()  # noqa: PT017
    else:
        again = parse_uri(str(uri), relative_to="/elsewhere")
        assert str(uri) == str(again)
        assert type(uri) is type(again)


OUTPUTS = {
    "6.4 extension": ("azureml://datastores/ds/paths/out/p.csv", "azureml://datastores/ds/paths/out/", "p.csv"),
    "6.4 another extension": ("azureml://datastores/ds/paths/out/p.txt", "azureml://datastores/ds/paths/out/", "p.txt"),
    "6.4 output_file_name without extension": ("/no/out/scores", "/no/out/", "scores"),
    "6.4 no extension": ("azureml://datastores/ds/paths/out", "azureml://datastores/ds/paths/out", "scores"),
    "6.4 trailing slash": ("azureml://datastores/ds/paths/v1.2/", "azureml://datastores/ds/paths/v1.2/", "scores"),
    "6.4 trailing slash behind the file name": ("/no/scores/", "/no/scores/", "scores"),
    "6.4 hidden folder": ("/no/.scores", "/no/.scores", "scores"),
    "6.4 ends in a dot": ("/no/out.", "/no/out.", "scores"),
    "6.4 doubled slash of the SDK": (
        "azureml://datastores/ds/paths//out/p.csv",
        "azureml://datastores/ds/paths/out/",
        "p.csv",
    ),
    "6.4 file at the root": ("azureml://datastores/ds/paths/p.csv", "azureml://datastores/ds", "p.csv"),
    "6.4 root": ("azureml://datastores/ds", "azureml://datastores/ds", "scores"),
    "6.4 blob": (
        "https://acct.blob.core.windows.net/box/o/p.csv?sig=1",
        "https://acct.blob.core.windows.net/box/o/?***",
        "p.csv",
    ),
    "6.4 adls": ("abfss://box@acct.dfs.core.windows.net/p.csv", "https://acct.dfs.core.windows.net/box", "p.csv"),
    "6.4 local file": ("/no/p.csv", "/no/", "p.csv"),
    "6.4 local file at the root": ("/p.csv", "/", "p.csv"),
    "6.4 folder: with an extension": ("folder:/no/p.csv", "/no/p.csv/", "scores"),
}


@pytest.mark.parametrize(("text", "folder", "file"), OUTPUTS.values(), ids=OUTPUTS)
def test_output_is_split(text: str, folder: str, file: str) -> None:
    """The last segment is the file where it looks like one, else the whole is the folder."""
    found, found_file = split_output(parse_uri(text), "scores")
    assert (folder, file) == (str(found), found_file)


def test_output_keeps_its_signature() -> None:
    """The folder of a signed file is asked with the same signature."""
    folder, _ = split_output(parse_uri(f"https://acct.blob.core.windows.net/box/o/p.csv?{SAS}"), "p.csv")
    assert isinstance(folder, BlobPath)
    assert folder.url == f"https://acct.blob.core.windows.net/box/o?{SAS}"


def test_output_folder_that_is_there_may_have_an_extension(tmp_path: Path) -> None:
    """A local folder stays one whatever its name."""
    folder = tmp_path / "out.d"
    assert split_output(parse_uri(os.fspath(folder)), "p.csv") == (
        LocalPath(path=f"{tmp_path}", is_folder=True),
        "out.d",
    )
    folder.mkdir()
    assert split_output(parse_uri(os.fspath(folder)), "p.csv") == (LocalPath(path=f"{folder}"), "p.csv")


@pytest.mark.parametrize(
    "text",
    ["azureml:heart:3", f"/{ARM}/data/heart/versions/3", "azureml://jobs/j/outputs/o", "runs:/r/m", "https://e.com/a"],
)
def test_output_must_be_a_place_to_write(text: str) -> None:
    """Assets, outputs of jobs and public files are not written to."""
    with pytest.raises(
        UriError, match="cannot be written to; give a local path, a path in a datastore, or an abfss://"
    ):
        split_output(parse_uri(text), "p.csv")
