"""The workspace mapping: read with all that is wrong in it, and followed to places (contract 7.1 to 7.3)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.errors import DeploymentError, UsageError, exit_code
from runtime.uris import BlobPath, LocalPath, PublicFile, RunArtifact, Uri, parse_uri
from runtime.workspace import Purpose, Workspace, declared_input_type, read_workspace, resolve

ARM = "/subscriptions/s-1/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"
LONG = "azureml://subscriptions/s-1/resourcegroups/rg/workspaces/ws"
OTHER = LONG.replace("workspaces/ws", "workspaces/prod")

BY_HAND = """\
datastores:
  blobs: {type: azure_blob, account_name: acct, container_name: box}
  lake: {account_name: acct, filesystem: fs, endpoint: core.chinacloudapi.cn, protocol: abfss}
  here: {path: ./store}
  emulated: {account_name: devstoreaccount1, container_name: box, endpoint: "http://127.0.0.1:10000"}
  shares: {type: azure_file, account_name: acct}
data:
  heart:
    1: ./heart-1
    9: ./heart-9
    10: {type: uri_folder, path: azureml://datastores/here/paths/heart%20x}
  named:
    1.10: ./a
    1.9: ./b
  chain: {1: "azureml:heart:10"}
  typed: {1: {type: uri_file, path: azureml:heart:9}}
  around: {1: "azureml:there:1"}
  there: {1: "azureml:around:1"}
  itself: {1: "azureml:itself@latest"}
  table: {1: {type: mltable, path: ./table}}
  public: {1: "https://example.com/a.csv?raw=true"}
  remote: {1: "azureml://datastores/blobs/paths/r/"}
  short: ./short
models:
  heart: {3: ./model, 4: {path: "runs:/abc/model", type: mlflow_model}}
  job: {1: "azureml://jobs/j/outputs/o/paths/m"}
codes:
  score: {1: ./code, 2: azureml://datastores/here/paths/code}
"""


def read(tmp_path: Path, text: str) -> Workspace:
    """Read a mapping with this text."""
    file = tmp_path / "workspace.yml"
    file.write_text(text, encoding="utf-8")
    return read_workspace(str(file))


@pytest.fixture
def by_hand(tmp_path: Path) -> Workspace:
    """Return a mapping written by hand."""
    return read(tmp_path, BY_HAND)


PLACES: dict[str, tuple[str, Purpose, str]] = {
    "7.1 1 data": ("azureml:heart:1", "input", "{}/heart-1"),
    "7.1 1 model of the same name": ("azureml:heart:3", "model", "{}/model"),
    "7.1 1 versions are texts": ("azureml:named:1.10", "input", "{}/a"),
    "7.1 2 latest, as numbers": ("azureml:heart@latest", "input", "{}/store/heart x"),
    "7.1 2 latest, as texts": ("azureml:named@latest", "input", "{}/b"),
    "7.1 3 no version": ("azureml:heart", "input", "{}/store/heart x"),
    "7.1 3 a place without version": ("azureml:short:1", "input", "{}/short"),
    "7.1 4 local": ("azureml://datastores/here/paths//a%20b/c.csv", "input", "{}/store/a b/c.csv"),
    "7.1 4 local output": ("azureml://datastores/here/paths/out/", "output", "{}/store/out/"),
    "7.1 4 local code": ("azureml://datastores/here/paths/code", "code", "{}/store/code"),
    "7.1 4 local root": ("azureml://datastores/here", "input", "{}/store/"),
    "7.1 4 blob": ("azureml://datastores/blobs/paths/a%20b", "input", "https://acct.blob.core.windows.net/box/a%20b"),
    "7.1 4 lake": ("azureml://datastores/lake/paths/a", "output", "https://acct.dfs.core.chinacloudapi.cn/fs/a"),
    "7.1 4 emulator": ("azureml://datastores/emulated", "input", "http://127.0.0.1:10000/devstoreaccount1/box"),
    "7.1 5 long": (f"{LONG}/datastores/here/paths/a", "input", "{}/store/a"),
    "7.1 6 id": (f"{LONG}/data/heart/versions/9", "input", "{}/heart-9"),
    "7.1 7 id with azureml:": (f"azureml:{ARM}/models/heart/versions/3", "model", "{}/model"),
    "7.1 8 id": (f"{ARM}/data/heart/labels/latest", "input", "{}/store/heart x"),
    "7.1 9 id of a datastore": (f"{ARM}/datastores/here/paths/a", "input", "{}/store/a"),
    "7.1 14 run": ("azureml:heart:4", "model", "runs:/abc/model"),
    "7.1 1 code": ("azureml:score:1", "code", "{}/code"),
    "7.1 8 id of code": (f"{ARM}/codes/score/versions/2", "code", "{}/store/code"),
    "chain of names": ("azureml:chain:1", "input", "{}/store/heart x"),
    "trailing slash stays": ("azureml:remote:1", "input", "https://acct.blob.core.windows.net/box/r/"),
    "public file": ("azureml:public:1", "input", "https://example.com/a.csv?***"),
    "local path": ("/data/a.csv", "input", "/data/a.csv"),
    "blob": ("abfss://fs@acct.dfs.core.windows.net/a", "output", "https://acct.dfs.core.windows.net/fs/a"),
}


@pytest.mark.parametrize(("text", "purpose", "place"), PLACES.values(), ids=PLACES)
def test_name_leads_to_its_place(by_hand: Workspace, tmp_path: Path, text: str, purpose: Purpose, place: str) -> None:
    """Assets and datastores are followed to a path, whose encoding is undone once."""
    found = resolve(parse_uri(text), by_hand, purpose=purpose)
    assert isinstance(found, LocalPath | BlobPath | PublicFile | RunArtifact)
    assert place.format(tmp_path) == str(found)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("azureml:heart:10", "uri_folder"),
        ("azureml:heart:1", ""),
        ("azureml:chain:1", "uri_folder"),
        ("azureml:typed:1", "uri_file"),
        ("azureml://datastores/here/paths/a", ""),
        ("/data", ""),
    ],
)
def test_data_asset_declares_its_type(by_hand: Workspace, text: str, kind: str) -> None:
    """The first entry on the way that says its type tells it."""
    assert kind == declared_input_type(parse_uri(text), by_hand)


NO_PLACE: dict[str, tuple[str, Purpose, str]] = {
    "no version": (
        "azureml:heart:2",
        "input",
        (
            "azureml:heart:2: {f} has of the data asset heart only version 1, 9, 10; add\n"
            '  data:\n    heart:\n      "2": PLACE\nwhere PLACE is a path, relative to that file, or a URI'
        ),
    ),
    "no asset": (
        "azureml:haert:2",
        "model",
        (
            "azureml:haert:2: {f} has no model haert (but heart); add\n"
            '  models:\n    haert:\n      "2": PLACE\nwhere PLACE is a path, relative to that file, or a URI'
        ),
    ),
    "no asset, a name to be quoted": (
        "azureml:1# x",
        "model",
        (
            'azureml:1# x: {f} has no model 1# x; add\n  models:\n    "1# x":\n      "1": PLACE\n'
            "where PLACE is a path, relative to that file, or a URI"
        ),
    ),
    "a model as input": (
        "azureml:job:1",
        "input",
        (
            "azureml:job:1: {f} has no data asset job, only a model of that name; add\n  data:\n    job:\n     "
            ' "1": PLACE\n'
            "where PLACE is a path, relative to that file, or a URI"
        ),
    ),
    "no datastore": (
        "azureml://datastores/blob/paths/a",
        "input",
        (
            "azureml://datastores/blob/paths/a: {f} has no datastore blob (but blobs); add\n"
            "  datastores:\n    blob:\n      type: azure_blob\n      account_name: ACCOUNT\n      "
            "container_name: CONTAINER\n"
            "or, for a folder of this machine, path: FOLDER instead of these three"
        ),
    ),
    "another label": (
        "azureml:heart@stable",
        "input",
        "azureml:heart@stable: of labels only latest is known here; name a version",
    ),
    "a file share": (
        "azureml://datastores/shares/paths/a",
        "input",
        (
            "azureml://datastores/shares/paths/a: shares is a datastore of the type azure_file, which is not "
            "served here; copy "
            "the data to Blob storage or ADLS Gen2, or give the datastore a path in the mapping"
        ),
    ),
    "MLTable": (
        "azureml:table:1",
        "input",
        "azureml:table:1: an MLTable, which no batch deployment takes; use uri_folder or uri_file",
    ),
    "a circle": (
        "azureml:around:1",
        "input",
        (
            "{f}: entries that lead round in a circle, from azureml:around:1 to azureml:there:1 to "
            "azureml:around:1; give one "
            "a path"
        ),
    ),
    "itself": (
        "azureml:itself@latest",
        "input",
        (
            "{f}: entries that lead round in a circle, from azureml:itself@latest to azureml:itself@latest; "
            "give one a path"
        ),
    ),
    "id of a model as input": (
        f"{ARM}/models/heart/versions/3",
        "input",
        f"azureml:{ARM}/models/heart/versions/3: names a model, but the input must be a data asset",
    ),
    "id of data as model": (
        f"{ARM}/data/heart/versions/9",
        "model",
        f"azureml:{ARM}/data/heart/versions/9: names a data asset, but the model must be a model",
    ),
    "asset as output": (
        "azureml:heart:1",
        "output",
        "azureml:heart:1: an asset cannot be the output here; give a folder, or a path in a datastore",
    ),
    "data as code": (
        "azureml:heart:1",
        "code",
        (
            "azureml:heart:1: {f} has no code asset heart, only a data asset of that name; add\n"
            '  codes:\n    heart:\n      "1": PLACE\nwhere PLACE is a path, relative to that file, or a URI'
        ),
    ),
    "output of a job": (
        "azureml:job:1",
        "model",
        (
            "azureml://jobs/j/outputs/o/paths/m: outputs of jobs are not looked up here; download it (az ml "
            "job download "
            "--name j --output-name o) and give the local path"
        ),
    ),
    "run as input": (
        "runs:/abc/data",
        "input",
        "runs:/abc/data: only a model can be given so; for the input give a path or a storage URI",
    ),
    "public output": (
        "https://example.com/a.csv",
        "output",
        "https://example.com/a.csv: nothing can be written there; give a local path or a path on Azure storage",
    ),
    "public folder": (
        "https://example.com/a/",
        "input",
        "https://example.com/a/: a folder cannot be listed there; give a file, or a path on Azure storage",
    ),
}


@pytest.mark.parametrize(("text", "purpose", "message"), NO_PLACE.values(), ids=NO_PLACE)
def test_missing_name_says_what_to_add(by_hand: Workspace, text: str, purpose: Purpose, message: str) -> None:
    """What leads to no place is refused with the lines to add, or with what to give instead."""
    with pytest.raises(UsageError) as refused:
        resolve(parse_uri(text), by_hand, purpose=purpose)
    assert message.replace("{f}", by_hand.file) == str(refused.value)
    assert exit_code(refused.value) == 2


def test_lines_to_add_are_right(tmp_path: Path) -> None:
    """A mapping made of the lines that a message gives leads to the place written there."""
    for text, purpose in (("azureml:1# x:2", "model"), ("azureml:heart", "input"), ("azureml://datastores/d", "input")):
        with pytest.raises(
            UsageError, match=r"there is no workspace\.yml that says where it is; write one with"
        ) as missing:
            resolve(parse_uri(text), None, purpose=purpose)  # type: ignore[arg-type]
        lines = [line for line in str(missing.value).splitlines()[1:] if line.startswith(" ")]
        added = "\n".join(lines).replace("PLACE", "./place").replace("ACCOUNT", "acct").replace("CONTAINER", "box")
        found = resolve(parse_uri(text), read(tmp_path, added), purpose=purpose)  # type: ignore[arg-type]
        assert str(found) in (f"{tmp_path}/place", "https://acct.blob.core.windows.net/box")


def shown(name: str = "heart", version: str = "3", **fields: object) -> dict[str, object]:
    """Return what Azure ML prints of a data asset."""
    return {
        "creation_context": {"created_at": "2026-01-01T00:00:00+00:00", "created_by": "me"},
        "id": f"{ARM}/data/{name}/versions/{version}",
        "name": name,
        "path": f"{LONG}/datastores/workspaceblobstore/paths/UI/{name}",
        "properties": {},
        "resourceGroup": "rg",
        "tags": {"a": "b"},
        "type": "uri_folder",
        "version": version,
        **fields,
    }


BLOBSTORE = {
    "account_name": "acct",
    "container_name": "box",
    "credentials": {},
    "description": "",
    "endpoint": "core.windows.net",
    "id": f"{ARM}/datastores/workspaceblobstore",
    "name": "workspaceblobstore",
    "protocol": "https",
    "resourceGroup": "rg",
    "tags": {},
    "type": "azure_blob",
}
LAKE = {
    "account_name": "acct",
    "credentials": {"client_id": "1", "client_secret": "HIDDEN", "tenant_id": "2"},
    "endpoint": "core.windows.net",
    "filesystem": "fs",
    "id": f"{ARM}/datastores/lake",
    "name": "lake",
    "protocol": "https",
    "type": "azure_data_lake_gen2",
}
FILESTORE = {
    "account_name": "acct",
    "file_share_name": "s",
    "name": "files",
    "type": "azure_file",
    "id": "x",
    "tags": {},
}
MODEL = {
    "creation_context": {"created_at": "2026-01-01T00:00:00+00:00"},
    "flavors": {"python_function": {"loader_module": "mlflow.sklearn"}},
    "id": f"{ARM}/models/heart-model/versions/7",
    "job_name": "j",
    "name": "heart-model",
    "path": f"{LONG}/datastores/workspaceblobstore/paths/models/7",
    "properties": {},
    "stage": "Development",
    "type": "mlflow_model",
    "version": "7",
}
ALL = [BLOBSTORE, LAKE, FILESTORE, shown(), MODEL]


def as_yaml(value: dict[str, object]) -> str:
    """Write what Azure ML prints with ``-o yaml``."""
    return "".join(f"{key}: {json.dumps(each)}\n" for key, each in value.items())


PASTED = {
    "one list": json.dumps(ALL, indent=2),
    "documents of JSON": "\n---\n".join(json.dumps(each, indent=2) for each in ALL),
    "documents of YAML": "---\n".join(as_yaml(each) for each in ALL),
    "sections with lists": json.dumps({"datastores": ALL[:3], "data": [shown()], "models": [MODEL]}),
    "sections with names": json.dumps({
        "datastores": {each["name"]: each for each in ALL[:3]},
        "data": {"heart": shown()},
        "models": {"heart-model": {"7": MODEL}},
    }),
    "JSON appended": "\n".join(json.dumps(each, indent=2) for each in ALL),
    "JSON with tabs": json.dumps({"datastores": ALL[:3], "data": [shown()], "models": [MODEL]}, indent="\t"),
    "by hand, then pasted": "data: {other: {1: ./x}}\n---\n" + json.dumps(ALL),
}  # fmt: skip


@pytest.mark.parametrize("text", PASTED.values(), ids=PASTED)
def test_printed_assets_are_taken_as_they_are(tmp_path: Path, text: str) -> None:
    """What az ml show and list print works however it is pasted, and no credential is kept."""
    workspace = read(tmp_path, text)
    base = "https://acct.blob.core.windows.net/box"

    def place(text: str, purpose: Purpose) -> str:
        return str(resolve(parse_uri(text), workspace, purpose=purpose))

    assert place("azureml:heart:3", "input") == f"{base}/UI/heart"
    assert place(f"{ARM}/data/heart/versions/3", "input") == f"{base}/UI/heart"
    assert place("azureml:heart-model@latest", "model") == f"{base}/models/7"
    assert place("azureml://datastores/lake/paths/a", "input") == "https://acct.dfs.core.windows.net/fs/a"
    assert declared_input_type(parse_uri("azureml:heart:3"), workspace) == "uri_folder"
    assert workspace.mapping.datastores["lake"].credentials == "service_principal"
    assert workspace.mapping.datastores["workspaceblobstore"].credentials == "none"
    assert "HIDDEN" not in repr(workspace)


@pytest.mark.parametrize(
    "text",
    [f"{OTHER}/datastores/workspaceblobstore/paths/a", f"{OTHER}/data/heart/versions/3"],
    ids=["7.1 5 datastore", "7.1 6 data"],
)
def test_entry_of_another_workspace_is_not_used(tmp_path: Path, text: str) -> None:
    """A long form names its workspace, and what was printed of another may have other data under that name."""
    workspace = read(tmp_path, json.dumps(ALL))
    with pytest.raises(
        UsageError, match="has it of another workspace, ws of rg; paste that of the workspace asked for"
    ):
        resolve(parse_uri(text), workspace, purpose="input")


def test_names_of_a_workspace_have_no_letter_case(tmp_path: Path) -> None:
    """ARM writes groups and workspaces in any letter case."""
    workspace = read(tmp_path, json.dumps(ALL))
    text = f"{LONG}/datastores/workspaceblobstore/paths/a".replace("/rg/", "/RG/").replace("/ws/", "/Ws/")
    assert str(resolve(parse_uri(text), workspace, purpose="input")) == "https://acct.blob.core.windows.net/box/a"


CREDENTIALS = {
    "account_key": ("{account_key: HIDDEN}", "account_key"),
    "sas_token": ("{sas_token: HIDDEN}", "sas"),
    "certificate": ("{client_id: a, thumbprint: HIDDEN}", "certificate"),
    "type beside": ("{type: service_principal}", "service_principal"),
    "nothing": ("{}", "none"),
    "null": ("null", ""),
    "kind": ("account_key", "account_key"),
    "kind as REST writes it": ("ServicePrincipal", "service_principal"),
    "identity": ("identity", "none"),
}


@pytest.mark.parametrize(("text", "kind"), CREDENTIALS.values(), ids=CREDENTIALS)
def test_of_credentials_the_kind_is_kept(tmp_path: Path, text: str, kind: str) -> None:
    """Which kind of credential a datastore has is known, its value is nowhere."""
    workspace = read(tmp_path, f"datastores: {{d: {{account_name: a, container_name: b, credentials: {text}}}}}")
    assert kind == workspace.mapping.datastores["d"].credentials
    assert "HIDDEN" not in repr(workspace)


STORE_KEYS = "path, type, account_name, container_name, filesystem, endpoint, protocol, credentials"
WRONG = {
    "unknown section": (
        "datastore:\n  a: {path: x}\n",
        ["{}:1: datastore: unknown key; did you mean datastores? (known: datastores, data, models, codes)"],
    ),
    "unknown key of a datastore": (
        "datastores:\n  a:\n    account_name: a\n    container_nam: b\n    container_name: b\n",
        [f"{{}}:4: datastores.a.container_nam: unknown key; did you mean container_name? (known: {STORE_KEYS})"],
    ),
    "unknown key of data": (
        "data:\n  a:\n    1:\n      path: x\n      kind: uri_file\n",
        ["{}:5: data.a.1.kind: unknown key (known: path, type, version)"],
    ),
    "several at once, by line": (
        "models:\n  m: {1: {typ: custom_model, path: x}}\ndata:\n  a: {1: {type: folder, path: x}}\n",
        [
            "{}:2: models.m.1.typ: unknown key; did you mean type? (known: path, type, version)",
            "{}:4: data.a.1.type: must be one of uri_folder, uri_file, mltable",
        ],
    ),
    "a key as credentials": (
        "datastores:\n  a: {account_name: a, container_name: b, credentials: HIDDEN==}\n",
        [
            ("{}:2: datastores.a.credentials: must be their kind, never their value: one of none, account_key, sas, "
            "service_principal, certificate")
        ],
    ),
    "a key beside": (
        "datastores:\n  a: {account_name: a, container_name: b, account_key: HIDDEN}\n",
        [f"{{}}:2: datastores.a.account_key: unknown key; did you mean account_name? (known: {STORE_KEYS})"],
    ),
    "a signature": (
        'data:\n  a:\n    1: "https://acct.blob.core.windows.net/box/a?sig=HIDDEN"\n',
        [
            ("{}:3: data.a.1: https://acct.blob.core.windows.net/box/a?***: a signature does not belong into this "
            "file; remove what follows the ?")
        ],
    ),
    "a token": (
        'data:\n  a:\n    1:\n      path: "https://example.com/a?token=HIDDEN"\n',
        [
            ("{}:4: data.a.1.path: https://example.com/a?***: a signature does not belong into this "
            "file; remove what follows the ?")
        ],
    ),
    "a URI that is refused": (
        "models:\n  m:\n    1: azureml://registries/r/models/m/versions/1\n",
        [
            ("{}:3: models.m.1: azureml://registries/r/models/m/versions/1: registries are not asked here; download "
            "the asset (az ml model download --registry-name …) and give its local path")
        ],
    ),
    "no path": (
        "data:\n  a:\n    1: {type: uri_file}\n",
        ["{}:3: data.a.1: must have a path: a local one relative to this file, or a URI"],
    ),
    "null": (
        "data:\n  a:\n    1: null\n",
        ["{}:3: data.a.1: must have a path: a local one relative to this file, or a URI"],
    ),
    "no path, but what an asset has": (
        "models:\n  m: {pth: x, type: custom_model}\n",
        [
            "{}:2: models.m: must have a path: a local one relative to this file, or a URI",
            "{}:2: models.m.pth: unknown key; did you mean path? (known: path, type, version)",
        ],
    ),
    "no versions": (
        "data:\n  a: []\n",
        ['{}:2: data.a: must be a mapping of versions to paths or URIs, such as {"1": ./folder}'],
    ),
    "a section that is a text": ("data: here\n", ["{}:1: data: must be a mapping of names"]),
    "a datastore on storage": (
        "datastores:\n  a: {path: https://acct.blob.core.windows.net/box}\n",
        [
            ("{}:2: datastores.a.path: must be a local folder; a container is written as account_name and "
            "container_name, without path")
        ],
    ),
    "neither folder nor container": (
        "datastores:\n  a: {account_name: acct}\n",
        [
            ("{}:2: datastores.a.container_name: must be the name of the container of azure_blob, "
            "or give path: a local folder")
        ],
    ),
    "wrong parts": (
        ("datastores:\n  a:\n    account_name: https://acct\n    container_name: b\n    endpoint: '?sig=HIDDEN'\n"
        "    protocol: ftp\n"),
        [
            "{}:3: datastores.a.account_name: must be the name of a storage account",
            "{}:5: datastores.a.endpoint: must be like core.windows.net, or the URL of the account",
            "{}:6: datastores.a.protocol: must be one of https, http, wasbs, wasb, abfss, abfs",
        ],
    ),
    "a type of datastore": (
        "datastores:\n  a: {type: s3, account_name: a}\n",
        [
            ("{}:2: datastores.a.type: must be one of azure_blob, azure_data_lake_gen2, azure_file, "
            "azure_data_lake_gen1, one_lake")
        ],
    ),
    "another name inside": (
        "datastores:\n  a: {name: b, path: x}\n",
        ["{}:2: datastores.a.name: b stands below a; one name must go"],
    ),
    "twice in a document": (
        "data: {a: {1: x}}\ndata: {b: {1: x}}\n",
        ["{}:2: data: given twice, first on line 1; keep one"],
    ),
    "twice in two documents": (
        "data: {a: {1: x}}\n---\ndata: {a: {1: y}}\n",
        ["{}: document 2.data.a.1: version 1 of a is given twice; keep one"],
    ),
    "a list of az ml data list": (
        json.dumps([{"name": "heart", "latest_version": "3", "type": "uri_folder"}]),
        ["{}: heart: a list without places; paste az ml data show or model show"],
    ),
    "printed without name": (
        "data:\n  - {path: x, type: uri_file}\n",
        ["{}:2: an entry of data without its name; add name, or write it below its name"],
    ),
    "a text": ("hello\n", ["{}: must be a mapping with the keys datastores, data, models, codes, not a text"]),
    "a list in a list": ("- [{}]\n", ["{}: a list in a list; write one list of what az ml … show prints"]),
    "not YAML": (
        "data: {a: b\n",
        [
            ("{}:2:1: not YAML: expected ',' or '}', but got '<stream end>', "
            "while parsing a flow mapping of line 1")
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "problems"), WRONG.values(), ids=WRONG)
def test_mistake_in_the_mapping_is_named(tmp_path: Path, text: str, problems: list[str]) -> None:
    """All that is wrong is said at once, with file, line, key and what is allowed; values of secrets never."""
    with pytest.raises(DeploymentError) as refused:
        read(tmp_path, text)
    file = str(tmp_path / "workspace.yml")
    assert tuple(problem.replace("{}", file, 1) for problem in problems) == refused.value.problems
    assert "HIDDEN" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "{}", "data:\n", "---\n---\n", "datastores: null\n"])
def test_empty_mapping_has_no_entries(tmp_path: Path, text: str) -> None:
    """A file, or a section of it, may be empty still."""
    assert read(tmp_path, text).mapping == read(tmp_path, "models: {}").mapping


@pytest.mark.parametrize(
    "text",
    ["&a [*a]", "--- &a\ndata: {x: *a}\n---\ndata: {x: {1: ./x}}\n", "data: &a {x: *a}"],
    ids=["list", "documents", "one document"],
)
def test_alias_without_end_is_no_hang(tmp_path: Path, text: str) -> None:
    """A mapping that contains itself is refused, not followed."""
    with pytest.raises(DeploymentError):
        read(tmp_path, text)


def test_aliases_that_multiply_are_read_once(tmp_path: Path) -> None:
    """A list that names another nine times, which does the same, costs no more than it has lines."""
    lines = ["- &l0 [x]", *(f"- &l{each} [{', '.join([f'*l{each - 1}'] * 9)}]" for each in range(1, 40))]
    with pytest.raises(DeploymentError, match="a list in a list"):
        read(tmp_path, "\n".join(lines))
    with pytest.raises(DeploymentError, match="x: unknown key"):
        read(tmp_path, "\n".join(lines) + "\n---\nx: 1\n")


def test_mapping_that_is_not_there(tmp_path: Path) -> None:
    """A file that cannot be read is named."""
    file = tmp_path / "none.yml"
    with pytest.raises(UsageError) as refused:
        read_workspace(str(file))
    assert f"{file}: no such file" == str(refused.value)


def test_paths_are_relative_to_the_mapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder the command runs in does not matter."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "workspace.yml").write_text("data: {a: {1: ../x, 2: 'file:y', 3: /z}}")
    monkeypatch.chdir(tmp_path)
    workspace = read_workspace("below/workspace.yml")

    def place(text: str) -> Uri:
        return resolve(parse_uri(text), workspace, purpose="input")

    assert [place(f"azureml:a:{version}") for version in (1, 2, 3)] == [
        LocalPath(path=f"{tmp_path}/x"),
        LocalPath(path=f"{tmp_path}/below/y"),
        LocalPath(path="/z"),
    ]
