"""A deployment with its invocation and its workspace.yml, as the options of a job (contract 6.2, 6.4, 7.2, 7.3)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.deployed import deployment_options
from runtime.errors import UsageError, exit_code
from runtime.limits import usable_cpus
from runtime.options import Options
from tests.runtime.commands import scoreline

ARM = "/subscriptions/s/resourceGroups/r/providers/Microsoft.MachineLearningServices/workspaces/w"
LONG = "azureml://subscriptions/s/resourcegroups/r/workspaces/w"
BLOBS = "https://acct.blob.core.windows.net/data"
SIGNED = f"{BLOBS}/in?sv=2024-11-04&sp=rwdl&sig=c2VjcmV0"
ENDED = f"{BLOBS}/in?sv=2024-11-04&se=2024-12-01&sig=c2VjcmV0"

SCRIPT = """\
import os

def init():
    global model
    model = " ".join(sorted(os.listdir(os.environ["AZUREML_MODEL_DIR"])))

def run(mini_batch):
    return [f"{os.path.basename(path)} {open(path).read()} {model}" for path in mini_batch]
"""
BLUE = """\
name: blue
endpoint_name: texts
type: model
model: {path: model}
code_configuration: {code: code, scoring_script: score.py}
environment: azureml:env:1
compute: azureml:cluster
"""
GREEN = """\
name: green
endpoint_name: texts
type: model
model: {path: model, type: mlflow_model}
compute: azureml:cluster
"""
WORKSPACE = """\
datastores:
  here: {path: store}
  away: {type: azure_blob, account_name: acct, container_name: data}
data:
  texts:
    "1": {type: uri_folder, path: azureml://datastores/here/paths/texts}
    "2": {type: uri_file, path: azureml://datastores/here/paths/texts/b.txt}
    "3": azureml://datastores/away/paths/texts
models:
  heart: {"1": store/old, "2": azureml://datastores/here/paths/new}
  broken: {"1": azureml:broken@latest}
  texts: {"3": azureml://datastores/away/paths/texts}
codes:
  texts: {"1": code}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with two deployments, the model and the script of both, and a workspace.yml; we are in it."""
    for folder in ("code", "model", "store/texts", "store/old", "store/new"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "code/score.py").write_text(SCRIPT)
    for name in "abc":
        (tmp_path / f"store/texts/{name}.txt").write_text(name.upper())
    (tmp_path / "blue.yml").write_text(BLUE)
    (tmp_path / "green.yml").write_text(GREEN)
    (tmp_path / "workspace.yml").write_text(WORKSPACE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def options(deployment: str = "blue.yml", **given: Any) -> dict[str, Any]:
    """Return the options of a job."""
    return deployment_options({"deployment": deployment, "input": "store/texts", **given})


def refused(deployment: str = "blue.yml", **given: Any) -> str:
    """Return why there is no job."""
    with pytest.raises(UsageError) as error:
        options(deployment, **given)
    assert exit_code(error.value) == 2
    assert "c2VjcmV0" not in str(error.value)
    return str(error.value)


def edit(name: str, old: str, new: str) -> None:
    """Change the text of a file."""
    text = Path(name).read_text()
    assert old in text
    Path(name).write_text(text.replace(old, new))


# Which of them wins


@pytest.mark.parametrize(
    ("setting", "flag", "option", "values"),
    [
        pytest.param("mini_batch_size: 5", "mini_batch_size=6", "mini_batch_size", (5, 6, None), id="mini-batch size"),
        pytest.param("error_threshold: 5", "error_threshold=6", "error_threshold", (5, 6, 7), id="error threshold"),
        pytest.param(
            "retry_settings: {max_retries: 5}", "retry_settings.max_retries=6", "max_retries", (5, 6, 0), id="retries"
        ),
        pytest.param(
            "retry_settings: {timeout: 5}", "retry_settings.timeout=6", "timeout_s", (5.0, 6.0, 1.5), id="timeout"
        ),
        pytest.param("logging_level: debug", None, "logging_level", ("debug", None, "warning"), id="logging level"),
        pytest.param(
            "output_file_name: a.csv", "output_file_name=b.csv", "output_file_name", ("a.csv", "b.csv", "c.csv"),
            id="output file name",
        ),
    ],
)  # fmt: skip
def test_option_wins_over_invocation_and_that_over_deployment(
    here: Path, setting: str, flag: str | None, option: str, values: tuple[Any, Any, Any]
) -> None:
    """Each of them says what the next one does not (contract 6.2)."""
    (here / "blue.yml").write_text(f"{BLUE}settings: {{{setting}}}\n")
    in_file, in_flag, in_option = values
    assert options()[option] == in_file
    flags = {} if flag is None else {"set": [flag]}
    if flag is not None:
        assert options(**flags)[option] == in_flag
    if in_option is not None:
        assert options(**flags, **{option: in_option})[option] == in_option


def test_defaults_of_azure(here: Path) -> None:
    """Where nobody says anything, it is as Azure ML has it (contract 1.3)."""
    found = options()
    names = ("mini_batch_size", "error_threshold", "max_retries", "timeout_s", "output_action", "output_format")
    assert [found[name] for name in names] == [10, -1, 3, 30.0, "append_row", "azureml"]
    assert (found["code"], found["scoring_script"]) == (str(here / "code"), "score.py")
    assert (found["output"], found["output_file_name"], found["workers"]) == ("", "predictions.csv", 1)
    assert options(output_format="csv")["output_format"] == "csv"


@pytest.mark.parametrize(
    ("tags", "given", "strict", "chunk_rows"),
    [
        pytest.param("{}", {}, False, None, id="nothing said"),
        pytest.param("{scoreline.strict: true}", {}, True, None, id="tag strict"),
        pytest.param("{scoreline.strict: true}", {"strict": False}, False, None, id="option over tag strict"),
        pytest.param("{scoreline.strict: true}", {"chunk_rows": 5}, False, 5, id="contrary option over tag strict"),
        pytest.param("{scoreline.chunk_rows: 4}", {}, False, 4, id="tag chunk_rows"),
        pytest.param("{scoreline.chunk_rows: 4}", {"chunk_rows": 5}, False, 5, id="option over tag chunk_rows"),
        pytest.param("{scoreline.chunk_rows: 4}", {"strict": True}, True, None, id="contrary option over chunk_rows"),
    ],
)
def test_tags_are_options_of_the_deployment(
    here: Path, tags: str, given: dict[str, Any], strict: bool, chunk_rows: int | None
) -> None:
    """A tag is a default, which an option replaces; together they are never a contradiction."""
    (here / "green.yml").write_text(f"{GREEN}tags: {tags}\n")
    found = options("green.yml", **given)
    assert (found["strict"], found.get("chunk_rows")) == (strict, chunk_rows)
    Options.of(**{"deployment": "green.yml", "input": "store/texts", **given})


@pytest.mark.parametrize("name", ["output_action", "environment_variables", "code", "scoring_script", "arguments"])
def test_what_only_the_file_says(name: str) -> None:
    """No invocation overrides it (contract 6.2)."""
    wanted = f"{name}: no invocation can override it; set it in the deployment's YAML"
    assert refused(**{name: ("a",)}) == wanted


def test_deployment_name() -> None:
    """It must be that of the file, if both have one."""
    assert options(deployment_name="blue")["scoring_script"] == "score.py"
    assert refused(deployment_name="red") == "--deployment-name red: blue.yml is the deployment blue"


def test_job_name() -> None:
    """It comes from whichever says it."""
    assert options(set=["job_name=nightly"])["job_name"] == "nightly"
    assert options(job_name="nightly")["job_name"] == "nightly"
    assert "job_name" not in options()


def test_paths_may_be_objects(here: Path) -> None:
    """Python may give paths as they come."""
    found = deployment_options(
        {"deployment": here / "blue.yml", "input": here / "store", "output": here / "out", "model": here / "model"}
    )
    names = ("input", "output", "model")
    assert [found[name] for name in names] == [f"{here}/store", f"{here}/out/", f"{here}/model"]


# The script, and what it is told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("keep", ("id",)), ("method", "predict_proba"), ("params", (("a", "1"),)), ("types", {"a": "long"}),
        ("date_format", "%d"), ("strict", True), ("chunk_rows", 5), ("cells_per_mini_batch", 2), ("limit", 5),
        ("delimiter", ";"), ("encoding", "latin-1"), ("input_format", "csv"), ("input_header", False),
        ("input_columns", ("a",)), ("max_quarantined", "5"),
    ],
)  # fmt: skip
def test_options_of_rows_are_refused_for_scripts(name: str, value: object) -> None:
    """A script reads and scores itself; the same options are those of a model without one."""
    option = f"--{name.replace('_', '-')}"
    assert refused(**{name: value}) == f"{option}: blue.yml has a scoring script, which reads and scores itself"
    assert options("green.yml", **{name: value})[name] == value


def test_usual_values_are_no_options() -> None:
    """What the command gives for an option that was left out is not refused."""
    usual = {"keep": (), "method": "predict", "params": (), "types": (), "delimiter": ",", "encoding": "utf-8"}
    assert options(**usual, input_header=True, limit=0, max_quarantined=None)["scoring_script"] == "score.py"


@pytest.mark.parametrize("more", [0, 3])
def test_workers_of_a_script(here: Path, more: int) -> None:
    """As many as instances times concurrency, capped at the CPUs, and said (issue 3, point 6)."""
    cpus = usable_cpus()
    (here / "blue.yml").write_text(f"{BLUE}settings: {{max_concurrency_per_instance: {cpus + more}}}\n")
    found = options(instance_count=1)
    limited = f" (asked for {cpus + more}, this machine has {cpus} CPUs)" if more else ""
    many = f"{cpus} worker{'s' * (cpus > 1)}"
    assert found["workers"] == cpus
    assert found["notices"][-1] == f"{many}{limited}; score.py gets 10 files a call"


def test_workers_given() -> None:
    """They are what is wanted, be it more or fewer, and nothing is said of limits."""
    found = options(workers=usable_cpus() + 1, instance_count=3, mini_batch_size=1)
    assert found["workers"] == usable_cpus() + 1
    assert found["notices"][-1] == f"{usable_cpus() + 1} workers; score.py gets 1 file a call"
    assert options(workers=1, instance_count=3)["notices"][-1] == "1 worker; score.py gets 10 files a call"


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({}, "3 workers; rows are cut and grouped (--strict scores file by file, as Azure ML does)"),
        ({"chunk_rows": 0}, "3 workers; one predict per file"),
        ({"strict": True}, "3 workers; strict: one predict per file, 10 files a mini-batch, as in Azure ML"),
    ],
)
def test_rule_of_a_model_without_script(given: dict[str, Any], rule: str) -> None:
    """The last notice says by which rule it is scored (design 9)."""
    assert options("green.yml", workers=3, **given)["notices"][-1] == rule


def test_workers_of_a_model_are_the_cpus() -> None:
    """Instances and concurrency are for scripts: here nobody asks for a number, so that the CPUs and memory decide."""
    assert not options("green.yml", instance_count=1).get("workers")
    assert options("green.yml", workers=3)["workers"] == 3


def test_arguments_of_the_script() -> None:
    """They say what the settings are after all overrides (contract 2.4)."""
    arguments = options(
        set=["retry_settings.max_retries=1"], timeout_s=1.5, mini_batch_size=7, error_threshold=2, output="o/scores.txt"
    )["arguments"]
    told = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert told == {
        "--mini_batch_size": "7",
        "--error_threshold": "2",
        "--output_action": "append_row",
        "--logging_level": "info",
        "--run_invocation_timeout": "2",
        "--run_max_try": "2",
        "--append_row_file_name": "scores.txt",
        "--process_count_per_node": "1",
        "--scoring_module_name": "score.py",
    }


def test_experiment_name() -> None:
    """A script logs to it; a model alone logs nothing."""
    assert options(experiment_name="e")["environment_variables"] == (("MLFLOW_EXPERIMENT_NAME", "e"),)
    found = options("green.yml", experiment_name="e")
    assert found["environment_variables"] == ()
    assert found["notices"][0] == "--experiment-name e: has no effect without a scoring script"


def test_file_name_under_summary_only(here: Path) -> None:
    """The script names its files (contract 3.3), so an override does nothing, and that is said."""
    (here / "blue.yml").write_text(f"{BLUE}settings: {{output_action: summary_only}}\n")
    said = "output_file_name: has no effect with output_action summary_only, for the script names files"
    assert said in options(set=["output_file_name=a.csv"])["notices"]
    assert said in options(output_file_name="a.csv")["notices"]
    assert said not in options()["notices"]


# Models


@pytest.mark.parametrize(
    ("model", "found"),
    [
        pytest.param("azureml:heart:1", "{here}/store/old", id="1 name and version"),
        pytest.param("azureml:heart@latest", "{here}/store/new", id="2 label"),
        pytest.param("azureml:heart", "{here}/store/new", id="3 name alone"),
        pytest.param(f"azureml:{ARM}/models/heart/versions/1", "{here}/store/old", id="7 ARM id"),
        pytest.param(f"{LONG}/models/heart/versions/1", "{here}/store/old", id="6 long form"),
        pytest.param("{path: store/old}", "{here}/store/old", id="22 inline, local"),
        pytest.param("{path: azureml://datastores/here/paths/new}", "{here}/store/new", id="4 inline, datastore"),
        pytest.param(f"{{path: {LONG}/datastores/here/paths/new/}}", "{here}/store/new", id="5 inline, long form"),
        pytest.param("{path: runs:/abc/model}", "runs:/abc/model", id="14 inline, run"),
    ],
)
def test_model_references(here: Path, model: str, found: str) -> None:
    """Each form that the file may have (contract 7.3)."""
    edit("blue.yml", "{path: model}", model)
    assert options()["model"] == found.format(here=here)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        pytest.param("azureml:heart:9", ["blue.yml: model: azureml:heart:9: ", "workspace.yml", '"9": '], id="version"),
        pytest.param("azureml:lungs:1", ["blue.yml: model: azureml:lungs:1: ", "  models:\n    lungs:"], id="name"),
        pytest.param("azureml:broken:1", ["blue.yml: model: ", "circle"], id="circle"),
        pytest.param("azureml:heart@best", ["blue.yml: model: azureml:heart@best: ", "latest"], id="label"),
        pytest.param(
            "{path: https://example.com/m}", ["blue.yml: model: model https://example.com/m: a folder"], id="21 public"
        ),
        pytest.param("azureml://registries/g/models/heart/versions/1", ["az ml model download"], id="12 registry"),
        pytest.param("{path: azureml://jobs/j/outputs/o/paths/m}", ["az ml job download"], id="14 job output"),
    ],
)  # fmt: skip
def test_model_that_is_not_found(here: Path, model: str, says: list[str]) -> None:
    """The sentence names the file and what helps: lines for workspace.yml, or --model, which is asked first."""
    edit("blue.yml", "{path: model}", model)
    message = refused()
    for part in says:
        assert part in message
    assert message.endswith("\nor give --model PATH")
    assert ("--subscription" in message) == ("workspace.yml has no" in message or "only version" in message)
    assert options(model="store/old")["model"] == "store/old"
    assert options(model="azureml:heart:2")["model"] == str(here / "store/new")


def test_model_of_the_option() -> None:
    """It replaces an inline path that is not there, and a model of a type that is not scored."""
    edit("blue.yml", "{path: model}", "{path: nowhere, type: triton_model}")
    assert options(model="models:/heart/1")["model"] == "models:/heart/1"
    assert refused(model="azureml:heart:3").startswith("azureml:heart:3: ")
    edit("blue.yml", "nowhere", "model")
    assert refused() == "blue.yml: model.type triton_model is not scored here; use mlflow_model or a script"


def test_workspace_file(here: Path) -> None:
    """The one named, else the one beside the deployment, else the one here (issue 3, point 8)."""
    edit("blue.yml", "{path: model}", "azureml:heart:1")
    (here / "other.yml").write_text('models: {heart: {"1": other}}\n')
    assert options(workspace="other.yml")["model"] == str(here / "other")
    (here / "elsewhere").mkdir()
    for name in ("blue.yml", "code"):
        os.symlink(here / name, here / "elsewhere" / name)
    assert options("elsewhere/blue.yml")["model"] == str(here / "store/old")
    (here / "elsewhere/workspace.yml").write_text('models: {heart: {"1": beside}}\n')
    assert options("elsewhere/blue.yml")["model"] == str(here / "elsewhere/beside")
    assert "nowhere.yml" in refused(workspace="nowhere.yml")


# Code


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("azureml:texts:1", id="1 name and version"),
        pytest.param(f"azureml:{ARM}/codes/texts/versions/1", id="7 one slash"),
        pytest.param(f"{ARM}/codes/texts/versions/1", id="8 ARM id"),
        pytest.param("./code/", id="22 relative to the file"),
    ],
)
def test_code(here: Path, code: str) -> None:
    """A folder, or a code asset that workspace.yml knows (contract 1.2)."""
    edit("blue.yml", "code: code", f"code: {code}")
    found = options()
    assert (found["code"], found["scoring_script"]) == (str(here / "code"), "score.py")


def test_code_that_is_not_found() -> None:
    """The sentence names the file, the key and the lines to add."""
    edit("blue.yml", "code: code", "code: azureml:texts:2")
    message = refused()
    assert message.startswith("blue.yml: code_configuration.code: azureml:texts:2: ")
    assert '  codes:\n    texts:\n      "2": ' in message


def test_workspace_file_of_azure(here: Path) -> None:
    """The file that makes a workspace may have the same name; it is no matter where nothing is to be found by it."""
    (here / "workspace.yml").write_text("$schema: https://x/workspace.schema.json\nname: w\nlocation: eastus\n")
    assert options(output="out")["input"] == str(here / "store/texts")
    assert "workspace.yml:2: name: unknown key" in refused(input="azureml:texts:1")
    assert "workspace.yml:2: name: unknown key" in refused(workspace="workspace.yml")


# Inputs


@pytest.mark.parametrize(
    ("text", "path", "kind"),
    [
        pytest.param("azureml:texts:1", "{here}/store/texts", "uri_folder", id="1 name and version"),
        pytest.param("AzureML:texts:2", "{here}/store/texts/b.txt", "uri_file", id="1 letter case"),
        pytest.param("azureml://datastores/here/paths/texts/", "{here}/store/texts", "", id="4 datastore"),
        pytest.param(
            "azureml://datastores/here/paths//texts/a.txt", "{here}/store/texts/a.txt", "", id="4 two slashes"
        ),
        pytest.param("azureml://datastores/here", "{here}/store", "", id="4 root"),
        pytest.param(f"{LONG}/datastores/here/paths/texts", "{here}/store/texts", "", id="5 long form"),
        pytest.param(f"{LONG}/data/texts/versions/1", "{here}/store/texts", "uri_folder", id="6 long asset id"),
        pytest.param(f"azureml:{ARM}/data/texts/versions/2", "{here}/store/texts/b.txt", "uri_file", id="7 one slash"),
        pytest.param(f"{ARM}/data/texts/versions/2", "{here}/store/texts/b.txt", "uri_file", id="8 ARM id"),
        pytest.param(f"{ARM}/datastores/here/paths/texts", "{here}/store/texts", "", id="9 ARM datastore path"),
        pytest.param("store/texts", "{here}/store/texts", "", id="22 relative"),
        pytest.param("file:store/texts", "{here}/store/texts", "", id="22 file:"),
        pytest.param("folder:store/texts", "{here}/store/texts", "", id="22 folder:"),
        pytest.param("file:///data/a%20b", "/data/a b", "", id="22 file URL"),
        pytest.param("store/*/[ab].t?t", "{here}/store/*/[ab].t?t", "", id="22 glob"),
    ],
)
def test_inputs(here: Path, text: str, path: str, kind: str) -> None:
    """Each form that an invocation may have, and the type that the data asset declares (contract 7.2)."""
    found = options(input=text)
    assert (found["input"], found["input_type"]) == (path.format(here=here), kind)
    assert options(input=text, input_type="uri_file")["input_type"] == "uri_file"


@pytest.mark.parametrize(
    ("text", "path", "kind", "source"),
    [
        pytest.param(SIGNED, f"{BLOBS}/in", "sas", "the URI", id="16 signed"),
        pytest.param(f"{BLOBS}/a%20b/*.csv", f"{BLOBS}/a%20b/*.csv", "account_key", "AZURE_STORAGE_KEY", id="16 glob"),
        pytest.param(
            "abfss://data@acct.dfs.core.windows.net/in/", f"{BLOBS}/in/", "account_key", "AZURE_STORAGE_KEY", id="19"
        ),
        pytest.param("az://data@acct.blob.core.windows.net/in", f"{BLOBS}/in", "account_key", "AZURE_STORAGE_KEY"),
        pytest.param("azureml:texts:3", f"{BLOBS}/texts", "account_key", "AZURE_STORAGE_KEY", id="1 data asset"),
        pytest.param("azureml://datastores/away", BLOBS, "account_key", "AZURE_STORAGE_KEY", id="4 root"),
        pytest.param(
            "azureml://datastores/away/paths/x y", f"{BLOBS}/x%20y", "account_key", "AZURE_STORAGE_KEY", id="4 path"
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("purpose", ["input", "model"])
def test_places_on_storage(account_key: str, *, purpose: str, text: str, path: str, kind: str, source: str) -> None:
    """A place on storage becomes an address of the blob endpoint without secret, with what reaches it beside it."""
    for given in (
        options(**{purpose: text}),
        vars_of(Options.of(**{"model": "m", "input": "i", "output": "o", purpose: text})),
    ):
        access = given[f"{purpose}_access"]
        assert (given[purpose], access.kind, access.source) == (path, kind, source)
        assert (access.account_url, access.container) == tuple(BLOBS.rsplit("/", 1))
        assert access.secret in (account_key, "sv=2024-11-04&sp=rwdl&sig=c2VjcmV0")
        assert access.secret not in repr(given)


def vars_of(found: Options) -> dict[str, Any]:
    """Return what options hold."""
    assert "c2VjcmV0" not in repr(found)
    return {name: getattr(found, name) for name in found.__slots__}


@pytest.fixture
def account_key(monkeypatch: pytest.MonkeyPatch) -> str:
    """Set the key of an account, so that nothing is asked over the network, and return it."""
    monkeypatch.setenv("AZURE_STORAGE_KEY", "c2VjcmV0" * 11)
    return "c2VjcmV0" * 11


def test_public_file() -> None:
    """What stands behind its question mark may be a secret, and is kept beside the address."""
    found = options(input="https://example.com/a.csv?token=c2VjcmV0")
    assert (found["input"], found["input_query"]) == ("https://example.com/a.csv", "token=c2VjcmV0")


def test_code_on_storage(account_key: str) -> None:
    """The folder of a scoring script may lie on storage too."""
    for code in (f"{BLOBS}/src", "azureml://datastores/away/paths/src"):
        Path("blue.yml").write_text(BLUE.replace("code: code", f"code: {code}"))
        found = options()
        assert (found["code"], found["code_access"].secret) == (f"{BLOBS}/src", account_key)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(
            "texts:1", "input texts:1: no such file or folder; a data asset is written azureml:texts:1", id="1 bare"
        ),
        pytest.param("", "--input is missing (or inputs in --file, or inputData in --request)", id="none"),
    ],
)  # fmt: skip
def test_inputs_that_are_not_read(text: str, says: str) -> None:
    """One sentence says it."""
    assert refused(input=text) == says


# Outputs


@pytest.mark.parametrize(
    ("text", "folder", "name"),
    [
        pytest.param("out", "{here}/out/", "predictions.csv", id="folder"),
        pytest.param("out.csv", "{here}/", "out.csv", id="file"),
        pytest.param("out.csv/", "{here}/out.csv/", "predictions.csv", id="trailing slash"),
        pytest.param("store.csv", "{here}/store.csv/", "predictions.csv", id="existing folder"),
        pytest.param("deep/out.parquet", "{here}/deep/", "out.parquet", id="any extension"),
        pytest.param("file:deep/out.csv", "{here}/deep/", "out.csv", id="file:"),
        pytest.param("folder:out.csv", "{here}/out.csv/", "predictions.csv", id="folder:"),
        pytest.param("azureml://datastores/here/paths/o/scores.csv", "{here}/store/o/", "scores.csv", id="4 file"),
        pytest.param("azureml://datastores/here/paths//o/", "{here}/store/o/", "predictions.csv", id="4 folder"),
        pytest.param(
            "azureml://datastores/here/paths/in.csv", "{here}/store/in.csv/", "predictions.csv", id="4 is there"
        ),
        pytest.param(f"{LONG}/datastores/here/paths/o", "{here}/store/o/", "predictions.csv", id="5 long form"),
        pytest.param(f"{ARM}/datastores/here/paths/o", "{here}/store/o/", "predictions.csv", id="9 ARM"),
        pytest.param("/", "/", "predictions.csv", id="root"),
    ],
)
def test_outputs(here: Path, text: str, folder: str, name: str) -> None:
    """A last segment with an extension is the file; a slash, or a folder that is there, says otherwise (6.4)."""
    (here / "store.csv").mkdir()
    (here / "store/in.csv").mkdir()
    found = options(output=text)
    assert (found["output"], found["output_file_name"]) == (folder.format(here=here), name)
    checked = Options.of(deployment="blue.yml", input="store/texts", output=text)
    assert (checked.output_folder, checked.output_name) == (folder.format(here=here).rstrip("/") or "/", name)


def test_output_that_is_called_as_the_file_shall_be(here: Path) -> None:
    """The name of the file, even without an extension, is the file (contract 6.4)."""
    found = options(output="deep/scores", set=["output_file_name=scores"])
    assert (found["output"], found["output_file_name"]) == (f"{here}/deep/", "scores")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("https://example.com/a.csv?sig=c2VjcmV0", "https://example.com/a.csv?***: ", id="21 public"),
        pytest.param("azureml:texts:1", "azureml:texts:1: ", id="1 asset"),
        pytest.param("runs:/abc/model", "runs:/abc/model: ", id="14 run"),
    ],
)  # fmt: skip
def test_outputs_that_are_not_written(text: str, says: str) -> None:
    """They are refused before any work, each with what to give instead."""
    assert refused(output=text).startswith(says)


# Without a deployment


@pytest.mark.parametrize("named", [{}, {"workspace": "workspace.yml"}], ids=["found", "named"])
def test_model_run_finds_names_too(here: Path, named: dict[str, str]) -> None:
    """What `--model`, `--input` and `--output` name is found by workspace.yml as well."""
    found = Options.of(
        model="azureml:heart:1", input="azureml:texts:2", output="azureml://datastores/here/paths/o/s.csv", **named
    )
    assert (found.model, found.input, found.input_type) == (
        str(here / "store/old"), str(here / "store/texts/b.txt"), "uri_file",
    )  # fmt: skip
    assert (found.output_folder, found.output_name) == (str(here / "store/o"), "s.csv")


def test_model_run_leaves_paths_alone() -> None:
    """Beside a name, a path stays as it was given."""
    found = Options.of(model="runs:/abc/model", input="azureml:texts:1", output="out")
    assert (found.model, found.output, found.output_file_name) == ("runs:/abc/model", "out", "predictions.csv")
    found = Options.of(model=Path("m"), input="file:a", workspace="workspace.yml")
    assert (found.model, found.input) == ("m", "file:a")


def test_model_run_knows_folder(here: Path) -> None:
    """The prefix folder: is no part of a path (contract 7.1, form 22)."""
    found = Options.of(model="folder:m", input="folder:i", output="folder:o.csv")
    assert (found.model, found.input, found.output_folder) == (f"{here}/m", f"{here}/i", f"{here}/o.csv")


@pytest.mark.parametrize(
    ("text", "folder", "name"),
    [
        ("abfss://c@acct.dfs.core.windows.net/o/", "https://acct.blob.core.windows.net/c/o", "predictions.csv"),
        ("abfss://c@acct.dfs.core.windows.net/o/s.csv", "https://acct.blob.core.windows.net/c/o", "s.csv"),
        ("azureml://datastores/away/paths/x.parquet", BLOBS, "x.parquet"),
        (f"{SIGNED.replace('/in?', '/in/o.csv?')}", f"{BLOBS}/in", "o.csv"),
        (BLOBS, BLOBS, "predictions.csv"),
    ],
)
@pytest.mark.usefixtures("account_key")
def test_output_on_storage(text: str, folder: str, name: str) -> None:
    """Its folder and its file are told apart as on disk (contract 6.4); logs stay on this machine."""
    for found in (
        Options.of(model="m", input="i", output=text), Options.of(deployment="blue.yml", input="store", output=text)
    ):  # fmt: skip
        assert (found.output_folder, found.output_name, found.output) == (folder, name, f"{folder}/")
        assert found.output_access is not None
        assert found.job_folder.startswith(os.getcwd())
        assert found.notices[-1].startswith(f"container {found.output_access.container} of account acct: ")
        assert "c2VjcmV0" not in repr(found)


def test_plain_run_imports_nothing_more() -> None:
    """Paths need neither the parser of URIs nor that of deployments."""
    program = (
        "import sys; from runtime.options import Options; "
        "Options.of(model='m', input='data/*.csv', output='file:///o'); "
        "print({'yaml', 'runtime.deployed', 'runtime.located', 'runtime.uris', 'runtime.workspace'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# End to end


def test_script_job_by_names(here: Path) -> None:
    """Model, code, input and output by their names: the job reads and writes what workspace.yml says they are."""
    edit("blue.yml", "{path: model}", "azureml:heart:2")
    edit("blue.yml", "code: code", "code: azureml:texts:1")
    outcome = scoreline(
        "run", "blue.yml", "--input", "azureml:texts:1", "--output", "azureml://datastores/here/paths/o/scores.txt",
        "--mini-batch-size", "2", "--engine", "local",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    assert (here / "store/o/scores.txt").read_text() == "a.txt A new\nb.txt B new\nc.txt C new\n"
    assert "1 worker; score.py gets 2 files a call" in outcome.stderr


def test_model_job_by_names(here: Path, heart_model: Path, heart_rows: Callable[[int], Path]) -> None:
    """The same without a deployment: a model, its input and its output by name."""
    (here / "workspace.yml").write_text(
        f"models: {{heart: {{1: {heart_model}}}}}\n"
        f"data: {{rows: {{7: {heart_rows(20)}}}}}\n"
        "datastores: {here: store}\n"
    )
    outcome = scoreline(
        "run", "--model", "azureml:heart:1", "--input", "azureml:rows@latest",
        "--output", "azureml://datastores/here/paths/o/scores.csv",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    assert (here / "store/o/scores.csv").read_text().count("\n") == 21


def test_signature_is_in_no_message() -> None:
    """Whatever the command says of a signed URL, it says it without the signature."""
    for option in ("--input", "--output", "--model"):
        given = {"--input": "store/texts", option: ENDED}
        outcome = scoreline("run", "blue.yml", *(text for pair in given.items() for text in pair))
        assert outcome.code == 2
        assert "container data of account acct: the shared access signature of the URI ended" in outcome.stderr
        assert "c2VjcmV0" not in outcome.stdout + outcome.stderr


def test_script_job_by_a_request(here: Path) -> None:
    """The REST body of an invocation, with ids as Azure's portal shows them (contract 6.1)."""
    body = {
        "properties": {
            "InputData": {"x": {"JobInputType": "UriFile", "Uri": f"{ARM}/data/texts/versions/2"}},
            "OutputData": {
                "y": {"JobOutputType": "UriFile", "Uri": f"{LONG}/datastores/here/paths/day one/predictions.csv"}
            },
        }
    }
    (here / "body.json").write_text(json.dumps(body))
    outcome = scoreline("run", "blue.yml", "--request", "body.json", "--engine", "local")
    assert outcome.code == 0, outcome.stderr
    assert (here / "store/day one/predictions.csv").read_text() == "b.txt B model\n"
