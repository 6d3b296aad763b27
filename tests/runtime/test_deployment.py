"""Deployment files that are right: both layouts, every key, the REST form; ids name the contract's section."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.deployment import (
    CodeConfiguration,
    Deployment,
    ModelReference,
    RetrySettings,
    Settings,
    read_deployment,
)
from runtime.errors import DeploymentError

HEAD = "name: blue\nendpoint_name: heart\nmodel: azureml:heart:1\n"
ARM = "/subscriptions/s/resourceGroups/r/providers/Microsoft.MachineLearningServices/workspaces/w"

CURRENT = """\
$schema: https://azuremlschemas.azureedge.net/latest/modelBatchDeployment.schema.json
name: mnist-torch-dpl
description: A deployment using Torch to solve the MNIST classification dataset.
endpoint_name: mnist-batch
type: model
model:
  name: mnist-classifier-torch
  path: model
code_configuration:
  code: code
  scoring_script: batch_driver.py
environment:
  name: batch-torch-py38
  image: mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04:latest
  conda_file: environment/conda.yaml
compute: azureml:batch-cluster
resources:
  instance_count: 2
settings:
  max_concurrency_per_instance: 2
  mini_batch_size: 10
  output_action: append_row
  output_file_name: predictions.csv
  retry_settings:
    max_retries: 3
    timeout: 30
  error_threshold: -1
  logging_level: info
"""

CLASSIC = """\
$schema: https://azuremlschemas.azureedge.net/latest/batchDeployment.schema.json
name: mnist-torch-dpl
description: >-
  A deployment using Torch to solve
  the MNIST classification dataset.
endpoint_name: mnist-batch
model:
  name: mnist-classifier-torch
  path: ./model/
code_configuration:
  code: ./code
  scoring_script: ./batch_driver.py
environment: azureml:batch-torch-py38@latest
compute: azureml:batch-cluster
resources:
  instance_count: 1
max_concurrency_per_instance: 2
mini_batch_size: 10
output_action: append_row
output_file_name: predictions.csv
retry_settings:
  max_retries: 3
  timeout: 30
error_threshold: -1
logging_level: info
"""

NO_CODE = """\
$schema: https://azuremlschemas.azureedge.net/latest/modelBatchDeployment.schema.json
endpoint_name: heart-classifier-batch
name: classifier-xgboost-mlflow
description: A heart condition classifier based on XGBoost
type: model
model: azureml:heart-classifier-mlflow@latest
compute: azureml:batch-cluster
resources:
  instance_count: 2
settings:
  max_concurrency_per_instance: 2
  mini_batch_size: 2
  output_action: append_row
  output_file_name: predictions.csv
  retry_settings:
    max_retries: 3
    timeout: 300
  error_threshold: -1
  logging_level: info
"""

PARQUET_OUTPUT = """\
$schema: https://azuremlschemas.azureedge.net/latest/modelBatchDeployment.schema.json
endpoint_name: heart-classifier-batch
name: classifier-xgboost-custom
type: model
model: azureml:heart-classifier-sklpipe@latest
environment:
  build:
    path: environment
    dockerfile_path: Dockerfile
code_configuration:
  code: code
  scoring_script: batch_driver.py
compute: azureml:batch-cluster
tags:
  device_batching: 16
resources: {instance_count: 2}
settings:
  environment_variables:
    OPENAI_API_BASE: $OPENAI_API_BASE
    BATCH: 16
  output_action: summary_only
  retry_settings:
    timeout: 300
  logging_level: info
"""


@pytest.fixture(autouse=True)
def beside_a_model_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start every test in a folder with a model and a scoring script."""
    for folder in ("model", "code/src", "my model"):
        (tmp_path / folder).mkdir(parents=True)
    for script in ("code/batch_driver.py", "code/src/score.py"):
        (tmp_path / script).write_text("def run(mini_batch):\n    return ['\\d' for _ in mini_batch]\n")
    monkeypatch.chdir(tmp_path)


def read(text: str, file: str = "deployment.yml") -> Deployment:
    """Write a deployment file and read it."""
    Path(file).write_text(text, encoding="utf-8")
    return read_deployment(file)


def torch(**changes: Any) -> Deployment:
    """Return what `CURRENT` says, but for some changes."""
    here = Path.cwd()
    values: dict[str, Any] = {
        "file": "deployment.yml",
        "name": "mnist-torch-dpl",
        "endpoint_name": "mnist-batch",
        "description": "A deployment using Torch to solve the MNIST classification dataset.",
        "tags": (),
        "model": ModelReference(name="mnist-classifier-torch", path=str(here / "model")),
        "code_configuration": CodeConfiguration(code=str(here / "code"), scoring_script="batch_driver.py"),
        "environment": "batch-torch-py38",
        "compute": "azureml:batch-cluster",
        "settings": Settings(max_concurrency_per_instance=2, instance_count=2),
    }
    return Deployment(**values | changes)


def test_current_layout_is_read_whole() -> None:
    """1.1: with type: model, the settings stand under their own key."""
    assert read(CURRENT) == torch()


def test_classic_layout_is_read_whole() -> None:
    """1.1: without a type, the settings stand at the root."""
    expected = torch(
        environment="azureml:batch-torch-py38@latest",
        settings=Settings(max_concurrency_per_instance=2, instance_count=1),
    )
    assert read(CLASSIC) == expected


def test_mlflow_model_needs_no_code_and_no_environment() -> None:
    """4.1: a model that is registered may be an MLflow model, which is scored without a script."""
    deployment = read(NO_CODE)
    assert deployment.model == ModelReference(reference="azureml:heart-classifier-mlflow@latest")
    assert (deployment.code_configuration, deployment.environment, deployment.warnings) == (None, "", ())
    assert deployment.settings == Settings(
        mini_batch_size=2,
        max_concurrency_per_instance=2,
        instance_count=2,
        retry_settings=RetrySettings(max_retries=3, timeout_s=300),
    )


def test_summary_only_needs_no_file_name() -> None:
    """1.3: a script that writes its own output; its variables reach it as they are written."""
    deployment = read(PARQUET_OUTPUT)
    assert deployment.tags == (("device_batching", "16"),)
    assert deployment.environment == "inline"
    assert deployment.settings == Settings(
        output_action="summary_only",
        instance_count=2,
        retry_settings=RetrySettings(max_retries=3, timeout_s=300),
        environment_variables=(("OPENAI_API_BASE", "$OPENAI_API_BASE"), ("BATCH", "16")),
    )


def test_least_deployment_has_the_defaults_of_azure() -> None:
    """1.3: what is not given is Azure's default."""
    assert read(HEAD).settings == Settings(
        mini_batch_size=10,
        max_concurrency_per_instance=1,
        instance_count=1,
        error_threshold=-1,
        retry_settings=RetrySettings(max_retries=3, timeout_s=30),
        logging_level="info",
        output_action="append_row",
        output_file_name="predictions.csv",
        environment_variables=(),
    )
    assert read(HEAD + "settings:\n").settings == Settings()


CODE = "code_configuration: {code: code, scoring_script: batch_driver.py}\n"
ROOT_ROWS = [
    ("$schema", "$schema: x", lambda read: read.name, "blue"),
    ("name", "", lambda read: read.name, "blue"),
    ("endpoint_name", "", lambda read: read.endpoint_name, "heart"),
    ("description", "description: 'on'", lambda read: read.description, "on"),
    ("description empty", "description:", lambda read: read.description, ""),
    ("type", "type: MODEL\ncompute: cpu", lambda read: read.compute, "cpu"),
    (
        "tags of any type",
        "tags: {a: 1.10, b: yes, c: x}",
        lambda read: read.tags,
        (("a", "1.10"), ("b", "yes"), ("c", "x")),
    ),
    ("tags empty", "tags:", lambda read: read.tags, ()),
    ("properties", "properties: {a: {b: [c]}}", lambda read: read.tags, ()),
    ("code", CODE, lambda read: Path(read.code_configuration.code), "code"),
    (
        "code above",
        "code_configuration: {code: ., scoring_script: code/src/score.py}",
        lambda read: (Path(read.code_configuration.code), read.code_configuration.scoring_script),
        (".", "code/src/score.py"),
    ),
    (
        "code with a prefix",
        "code_configuration: {code: 'folder:./code', scoring_script: src/score.py}",
        lambda read: Path(read.code_configuration.code),
        "code",
    ),
    (
        "code asset",
        "code_configuration: {code: azureml:code:1, scoring_script: score.py}",
        lambda read: read.code_configuration,
        CodeConfiguration(code="azureml:code:1", scoring_script="score.py"),
    ),
    (
        "code by ARM id",
        f"code_configuration: {{code: {ARM}/codes/c/versions/1, scoring_script: score.py}}",
        lambda read: read.code_configuration.code,
        f"{ARM}/codes/c/versions/1",
    ),
    ("code commented out", "code_configuration:\n#  code: code", lambda read: read.code_configuration, None),
    ("environment", "environment: azureml:env:1", lambda read: read.environment, "azureml:env:1"),
    (
        "environment inline",
        "environment: {image: i:1, conda_file: c.yml, os_type: Linux}",
        lambda read: read.environment,
        "i:1",
    ),
    (
        "environment with an inline conda file",
        "environment: {image: i:1, conda_file: {dependencies: [pip]}}",
        lambda read: read.environment,
        "i:1",
    ),
    ("compute", "compute: azureml:batch-cluster", lambda read: read.compute, "azureml:batch-cluster"),
    ("compute by its bare name", "compute: local", lambda read: read.compute, "local"),
    ("compute absent", "", lambda read: read.compute, ""),
    (
        "resources",
        (
            "resources: {instance_count: 3, instance_type: Standard_D2, properties: {}, locations: [a, b], "
            "shm_size: 2g, docker_args: --gpus, max_instance_count: 4}"
        ),
        lambda read: read.settings.instance_count,
        3,
    ),
    (
        "read-only keys",
        "id: x\nprovisioning_state: Succeeded\ncreation_context: {created_by: me}",
        lambda read: read.name,
        "blue",
    ),
]


@pytest.mark.parametrize(
    ("text", "show", "expected"), [pytest.param(*row[1:], id=f"1.2 {row[0]}") for row in ROOT_ROWS]
)
def test_root_key(text: str, show: Callable[[Deployment], object], expected: object) -> None:
    """Each key of the root is taken as the contract says; paths are absolute."""
    found = show(read(HEAD + text))
    if isinstance(found, Path):
        found, expected = found.resolve(), Path(str(expected)).resolve()
    elif isinstance(found, tuple) and found and isinstance(found[0], Path) and isinstance(expected, tuple):
        found, expected = (found[0].resolve(), *found[1:]), (Path(expected[0]).resolve(), *expected[1:])
    assert found == expected


SETTING_ROWS = [
    ("mini_batch_size: 1", "mini_batch_size", 1),
    ("mini_batch_size: '20'", "mini_batch_size", 20),
    ("mini_batch_size: 010", "mini_batch_size", 10),
    ("mini_batch_size: 1_000", "mini_batch_size", 1000),
    ("max_concurrency_per_instance: 4", "max_concurrency_per_instance", 4),
    ("instance_count: 3", "instance_count", 3),
    ("error_threshold: -1", "error_threshold", -1),
    ("error_threshold: 0", "error_threshold", 0),
    ("error_threshold: 2147483647", "error_threshold", 2147483647),
    ("error_threshold: ~", "error_threshold", -1),
    ("retry_settings: {max_retries: 0}", "retry_settings", RetrySettings(max_retries=0, timeout_s=30)),
    ("retry_settings: {max_retries: '5'}", "retry_settings", RetrySettings(max_retries=5, timeout_s=30)),
    ("retry_settings: {timeout: 1}", "retry_settings", RetrySettings(max_retries=3, timeout_s=1)),
    ("retry_settings: {timeout: 259200}", "retry_settings", RetrySettings(max_retries=3, timeout_s=259200)),
    ("retry_settings:", "retry_settings", RetrySettings()),
    ("logging_level: Warning", "logging_level", "warning"),
    ("logging_level: INFO", "logging_level", "info"),
    ("logging_level: debug", "logging_level", "debug"),
    ("output_action: Append_Row", "output_action", "append_row"),
    ("output_action: SUMMARY_ONLY", "output_action", "summary_only"),
    ("output_file_name: my scores.txt", "output_file_name", "my scores.txt"),
    ("output_file_name: 2024", "output_file_name", "2024"),
    ("output_file_name: on", "output_file_name", "on"),
    ("environment_variables: {}", "environment_variables", ()),
    ("environment_variables:", "environment_variables", ()),
    (
        "environment_variables: {on: true, A: 1.10, B: 0x1F, C: yes, D: , E: ~, F: 'a b', G: 2024-01-01}",
        "environment_variables",
        (
            ("on", "true"),
            ("A", "1.10"),
            ("B", "0x1F"),
            ("C", "yes"),
            ("D", ""),
            ("E", "~"),
            ("F", "a b"),
            ("G", "2024-01-01"),
        ),
    ),
]


@pytest.mark.parametrize("layout", ["classic", "current"])
@pytest.mark.parametrize(("text", "name", "expected"), SETTING_ROWS, ids=[f"1.3 {row[0]}"[:60] for row in SETTING_ROWS])
def test_setting(layout: str, text: str, name: str, expected: object) -> None:
    """Each setting is taken in both layouts, and the others keep their defaults."""
    place = text if layout == "classic" else f"type: model\ncompute: azureml:cpu\nsettings:\n  {text}"
    deployment = read(HEAD + CODE + place)
    assert deployment.settings == Settings(**{name: expected})
    assert deployment.warnings == ()


@pytest.mark.parametrize(
    "reference",
    [
        "azureml:heart:3",
        "azureml:heart:1.10",
        "azureml:heart@latest",
        "azureml:heart",
        "AzureML:heart:3",
        f"azureml:{ARM}/models/heart/versions/3",
        "azureml://registries/azureml/models/heart/versions/3",
        "azureml://registries/azureml/models/heart/labels/latest",
        "azureml://subscriptions/s/resourcegroups/r/workspaces/w/datastores/d/paths/p",
        "azureml://locations/westeurope/workspaces/0-1/models/heart/versions/3",
        "azureml://resourceGroups/r/workspaces/w/models/heart/versions/3",
        "azureml://models/heart/versions/3",
    ],
)
def test_reference_is_kept_as_written(reference: str) -> None:
    """7.3: the forms 1, 2, 3, 7, 12, and those that slip through Azure's parser."""
    deployment = read(HEAD.replace("azureml:heart:1", reference))
    assert deployment.model == ModelReference(reference=reference)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("model", "{here}/model"),
        ("./model/", "{here}/model"),
        ("code/../model", "{here}/model"),
        ("file:model", "{here}/model"),
        ("folder:./model", "{here}/model"),
        ("file://{here}/my%20model", "{here}/my model"),
        ("{here}/model", "{here}/model"),
        ("azureml://datastores/d/paths/p", "azureml://datastores/d/paths/p"),
        ("azureml://jobs/j/outputs/o/paths/p", "azureml://jobs/j/outputs/o/paths/p"),
        ("runs:/r/model", "runs:/r/model"),
        ("https://a.blob.core.windows.net/c/m?sig=hunter2", "https://a.blob.core.windows.net/c/m?sig=hunter2"),
    ],
)
def test_inline_model_is_a_place(path: str, expected: str) -> None:
    """7.3: local paths are absolute and relative to the file; URIs are kept; a signature is in no repr."""
    here = str(Path.cwd())
    more = "name: m\n  version: 1.10\n  type: MLFLOW_MODEL\n  stage: x\n  flavors: {}"
    inline = f"\n  path: {path.format(here=here)}\n  {more}"
    deployment = read(HEAD.replace(" azureml:heart:1", inline))
    assert deployment.model == ModelReference(
        path=expected.format(here=here), name="m", version="1.10", type="mlflow_model"
    )
    assert "hunter2" not in repr(deployment)


def test_paths_are_relative_to_the_file_not_to_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1.2: a deployment may be named from anywhere."""
    Path("deployment.yml").write_text(CURRENT)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    deployment = read_deployment("../deployment.yml")
    assert deployment.file == "../deployment.yml"
    assert deployment.code_configuration == CodeConfiguration(
        code=str(tmp_path / "code"), scoring_script="batch_driver.py"
    )
    assert deployment.model.path == str(tmp_path / "model")


def test_model_of_the_file_need_not_be_there_where_another_is_given() -> None:
    """With --model, the path in the file is not looked at."""
    Path("deployment.yml").write_text(CURRENT.replace("path: model", "path: gone"))
    with pytest.raises(DeploymentError, match=r"model.path: 'gone': nothing is there"):
        read_deployment("deployment.yml")
    assert read_deployment("deployment.yml", model_is_given=True).model.path == str(Path.cwd() / "gone")


def test_mixture_of_layouts_is_read_and_warned_about() -> None:
    """1.1: root keys beside type: model are applied, with a word on what Azure ML does with them."""
    deployment = read(
        HEAD + "type: model\ncompute: azureml:cpu\nerror_threshold: 5\nenvironment_variables: {KEY: hunter2}\n"
        "mini_batch_size: 7\nlogging_level: debug\nsettings:\n  logging_level: DEBUG\n  output_file_name: a.csv\n"
    )
    assert deployment.settings == Settings(
        mini_batch_size=7,
        error_threshold=5,
        logging_level="debug",
        output_file_name="a.csv",
        environment_variables=(("KEY", "hunter2"),),
    )
    ignores = "applied here, but Azure ML silently ignores it at the root beside type: model; move it to settings."
    refuses = ignores.replace("silently ignores", "refuses")
    assert deployment.warnings == (
        f"deployment.yml:8: mini_batch_size: {refuses}mini_batch_size",
        f"deployment.yml:6: error_threshold: {ignores}error_threshold",
        f"deployment.yml:7: environment_variables: {ignores}environment_variables",
    )
    assert "hunter2" not in repr(deployment)


def test_settings_without_a_type_mix_with_the_root() -> None:
    """1.1: without a type both places count, the same value twice is one."""
    deployment = read(
        HEAD + "mini_batch_size: 7\nretry_settings: {timeout: 5}\n"
        "settings: {mini_batch_size: '7', retry_settings: {timeout: 5, max_retries: 3}, error_threshold: 2}\n"
    )
    assert deployment.settings == Settings(
        mini_batch_size=7, error_threshold=2, retry_settings=RetrySettings(timeout_s=5)
    )
    assert deployment.warnings == ()


@pytest.mark.parametrize(
    ("tags", "chunk_rows", "strict"),
    [
        ("{}", None, False),
        ("{scoreline.chunk_rows: 0}", 0, False),
        ("{scoreline.chunk_rows: '5000', other: x}", 5000, False),
        ("{scoreline.strict: true}", None, True),
        ("{scoreline.strict: Off, scoreline.chunk_rows: 1}", 1, False),
        ("{scoreline.strict: 'yes'}", None, True),
    ],
)
def test_own_tags(tags: str, chunk_rows: int | None, strict: bool) -> None:
    """What Azure ML has no key for is said by tags, which it keeps and ignores."""
    deployment = read(HEAD + f"tags: {tags}\n")
    assert (deployment.chunk_rows, deployment.strict) == (chunk_rows, strict)


REST = {
    "id": f"{ARM}/batchEndpoints/mnist-batch/deployments/mnist-torch-dpl",
    "name": "mnist-batch/mnist-torch-dpl",
    "type": "Microsoft.MachineLearningServices/workspaces/batchEndpoints/deployments",
    "location": "westeurope",
    "tags": {"minibatch": "10", "camelCase": "kept"},
    "systemData": {"createdBy": "me"},
    "properties": {
        "description": "Caf\u00e9 \U0001f600",
        "model": {"referenceType": "Id", "assetId": f"{ARM}/models/mnist/versions/1"},
        "codeConfiguration": {"codeId": f"{ARM}/codes/c/versions/1", "scoringScript": "batch_driver.py"},
        "environmentId": f"{ARM}/environments/e/versions/1",
        "environmentVariables": {"camelCase": "kept", "PORT": 80},
        "compute": f"{ARM}/computes/batch-cluster",
        "resources": {"instanceCount": 2, "instanceType": None, "properties": {}},
        "errorThreshold": 3,
        "loggingLevel": "Warning",
        "maxConcurrencyPerInstance": "2",
        "miniBatchSize": "5",
        "outputAction": "SummaryOnly",
        "outputFileName": "predictions.csv",
        "retrySettings": {"maxRetries": 1, "timeout": "PT1H5M"},
        "deploymentConfiguration": {"deploymentConfigurationType": "Model"},
        "provisioningState": "Succeeded",
    },
}

SAME_AS_REST = f"""\
name: mnist-torch-dpl
endpoint_name: mnist-batch
description: "Caf\u00e9 \U0001f600"
tags: {{minibatch: 10, camelCase: kept}}
type: model
model: azureml:{ARM}/models/mnist/versions/1
code_configuration: {{code: {ARM}/codes/c/versions/1, scoring_script: batch_driver.py}}
environment: {ARM}/environments/e/versions/1
compute: {ARM}/computes/batch-cluster
resources: {{instance_count: 2}}
settings:
  environment_variables: {{camelCase: kept, PORT: 80}}
  error_threshold: 3
  logging_level: warning
  max_concurrency_per_instance: 2
  mini_batch_size: 5
  output_action: summary_only
  retry_settings: {{max_retries: 1, timeout: 3900}}
"""


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_rest_form_is_the_same_deployment(indent: int | str | None, ascii_only: bool) -> None:
    """1.4: the JSON of the REST interface, however it is indented and escaped."""
    rest = read(json.dumps(REST, indent=indent, ensure_ascii=ascii_only))
    assert rest == read(SAME_AS_REST)


def test_rest_form_may_be_a_request_that_names_nothing() -> None:
    """1.4: the body of a PUT; the names are in its URL."""
    deployment = read(json.dumps({"properties": {"model": {"assetId": "azureml://registries/r/models/m/versions/1"}}}))
    assert (deployment.name, deployment.endpoint_name) == ("", "")
    assert deployment.model == ModelReference(reference="azureml://registries/r/models/m/versions/1")


def test_output_of_the_command_line_tool_is_read() -> None:
    """1.4: what `az ml batch-deployment show -o json` prints is YAML's keys, with nulls and read-only keys."""
    shown = {
        "id": f"{ARM}/batchEndpoints/heart/deployments/blue",
        "name": "blue",
        "endpoint_name": "heart",
        "description": None,
        "type": "model",
        "provisioning_state": "Succeeded",
        "resourceGroup": "r",
        "model": f"azureml:{ARM}/models/heart/versions/1",
        "code_configuration": None,
        "environment": None,
        "compute": f"azureml:{ARM}/computes/cpu",
        "tags": {},
        "properties": {},
        "resources": {"instance_count": 1, "properties": {}},
        "settings": {"logging_level": "Info", "mini_batch_size": 10, "output_file_name": "predictions.csv"},
    }
    deployment = read(json.dumps(shown))
    assert deployment.settings == Settings()
    assert (deployment.name, deployment.description, deployment.code_configuration) == ("blue", "", None)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_file_may_come_from_any_editor(encoding: str, newline: str) -> None:
    """Byte order marks and the line ends of Windows change nothing."""
    text = CURRENT.replace("Torch", "Törch").replace("\n", newline)
    Path("deployment.yml").write_bytes(text.encode(encoding))
    assert read_deployment("deployment.yml") == torch(
        description="A deployment using Törch to solve the MNIST classification dataset."
    )


def test_aliases_are_followed() -> None:
    """One retry_settings may be written once and named twice."""
    deployment = read(HEAD + "retry_settings: &retry {timeout: 5}\nsettings: {retry_settings: *retry}\n")
    assert deployment.settings.retry_settings == RetrySettings(timeout_s=5)


LINES = st.sampled_from([line for text in (CURRENT, CLASSIC, SAME_AS_REST) for line in text.splitlines()])
SCRAPS = st.text("abc:-#{}[]&*!|>'\"%@` \n\t\\~0?,<=\x85\u2028\ud83d", max_size=12)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.one_of(LINES, SCRAPS), max_size=30))
def test_any_text_is_a_deployment_or_a_list_of_sentences(lines: list[str]) -> None:
    """Whatever stands in the file, the answer is a deployment, or lines that all name the file."""
    Path("deployment.yml").write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    problems: tuple[str, ...] = ("deployment.yml: none",)
    try:
        read_deployment("deployment.yml")
    except DeploymentError as error:
        problems = error.problems
    assert problems
    assert all(problem.startswith("deployment.yml:") and len(problem.splitlines()) == 1 for problem in problems)
