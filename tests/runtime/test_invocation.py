"""An invocation by the flags of `az ml batch-endpoint invoke`, by a request, and by both (contract section 6)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from runtime.deployment import RetrySettings, Settings
from runtime.errors import DeploymentError, UsageError, exit_code
from runtime.invocation import Invocation, Overrides, apply, from_flags, from_request, merge


def inputs_file(tmp_path: Path, text: str) -> str:
    """Write an inputs.yml and return its path."""
    file = tmp_path / "inputs.yml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def refused(**flags: Any) -> tuple[str, ...]:
    """Return what is wrong with these flags."""
    with pytest.raises(DeploymentError) as error:
        from_flags(**flags)
    assert exit_code(error.value) == 2
    return error.value.problems


def refused_file(tmp_path: Path, text: str) -> tuple[str, ...]:
    """Return what is wrong with an inputs.yml, each from its line on."""
    file = inputs_file(tmp_path, text)
    return tuple(each.removeprefix(f"{file}:") for each in refused(file=file))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        pytest.param({}, Invocation(), id="6.2 nothing"),
        pytest.param({"input": "data "}, Invocation(input="data "), id="6.2 --input"),
        pytest.param({"input_type": "uri_file"}, Invocation(input_type="uri_file"), id="6.2 --input-type"),
        pytest.param(
            {"output_path": "azureml://datastores/d/paths/p"},
            Invocation(output="azureml://datastores/d/paths/p"),
            id="6.2 --output-path",
        ),
        pytest.param(
            {"mini_batch_size": 5}, Invocation(overrides=Overrides(mini_batch_size=5)), id="6.2 --mini-batch-size"
        ),
        pytest.param(
            {"instance_count": 2}, Invocation(overrides=Overrides(instance_count=2)), id="6.2 --instance-count"
        ),
        pytest.param({"deployment_name": "blue"}, Invocation(deployment_name="blue"), id="6.2 --deployment-name"),
        pytest.param({"experiment_name": "e"}, Invocation(experiment_name="e"), id="6.2 --experiment-name"),
        pytest.param({"job_name": "j"}, Invocation(job_name="j"), id="6.2 --job-name"),
        pytest.param(
            {"settings": ["mini_batch_size=5"]},
            Invocation(overrides=Overrides(mini_batch_size=5)),
            id="6.2 --set mini_batch_size",
        ),
        pytest.param(
            {"settings": ["compute.instance_count=2"]},
            Invocation(overrides=Overrides(instance_count=2)),
            id="6.2 --set compute.instance_count",
        ),
        pytest.param(
            {"settings": ["output_file_name=o=p.csv"]},
            Invocation(overrides=Overrides(output_file_name="o=p.csv")),
            id="6.2 --set output_file_name",
        ),
        pytest.param(
            {"settings": ["output_dataset.datastore_id=blob", "output_dataset.path=/p/"]},
            Invocation(output="azureml://datastores/blob/paths/p/"),
            id="6.2 --set output_dataset",
        ),
        pytest.param(
            {"settings": ["outputs.score.type=uri_file", "outputs.score.path=o.csv"]},
            Invocation(output="o.csv"),
            id="6.2 --set outputs",
        ),
        pytest.param(
            {"settings": ["retry_settings.max_retries=0"]},
            Invocation(overrides=Overrides(max_retries=0)),
            id="6.2 --set retry_settings.max_retries",
        ),
        pytest.param(
            {"settings": ["retry_settings.timeout=90"]},
            Invocation(overrides=Overrides(timeout_s=90)),
            id="6.2 --set retry_settings.timeout",
        ),
        pytest.param(
            {"settings": ["error_threshold=-1"]},
            Invocation(overrides=Overrides(error_threshold=-1)),
            id="6.2 --set error_threshold",
        ),
        pytest.param({"settings": ["job_name=j"]}, Invocation(job_name="j"), id="6.2 --set job_name"),
        pytest.param(
            {"settings": ["inputs.heart_data.type=URI_FILE", "inputs.heart_data.path=azureml:heart:1"]},
            Invocation(input="azureml:heart:1", input_type="uri_file"),
            id="6.2 --set inputs",
        ),
        pytest.param(
            {"mini_batch_size": 5, "settings": ["mini_batch_size=05", "mini_batch_size=5"]},
            Invocation(overrides=Overrides(mini_batch_size=5)),
            id="6.2 the same thing said three times",
        ),
    ],
)
def test_flags_are_taken(flags: dict[str, Any], expected: Invocation) -> None:
    """Every way to say it by the command line gives it, and nothing else."""
    assert from_flags(**flags) == expected


COMMAND_LINE = "the command line cannot override it; the REST body can"
NO_INVOCATION = "no invocation can override it; set it in the deployment's YAML"
REFUSED_BY_SDK = "Azure ML's SDK refuses this key; write --set"
LITERAL = "a model deployment takes no literal; its one input is data of type uri_folder or uri_file"
OUTPUT = (
    "Job output type must be 'uri_file'. Give uri_file and the URI of a file that does not exist yet, "
    "for example …/predictions.csv"
)
PIPELINE = "is for pipeline deployments; a model deployment takes uri_folder or uri_file"
SETTABLE = (
    "(known here: mini_batch_size, error_threshold, output_file_name, retry_settings.max_retries, "
    "retry_settings.timeout, compute.instance_count, job_name, output_dataset.datastore_id, output_dataset.path, "
    "inputs.<name>.type, inputs.<name>.path, outputs.<name>.type, outputs.<name>.path)"
)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        pytest.param(
            "logging_level=debug",
            f"logging_level: {COMMAND_LINE} (--request, loggingLevel), or the deployment's YAML (logging_level)",
            id="6.2 logging_level",
        ),
        pytest.param(
            "max_concurrency_per_instance=2",
            f"max_concurrency_per_instance: {COMMAND_LINE} (--request, maxConcurrencyPerInstance), "
            "or the deployment's YAML (max_concurrency_per_instance)",
            id="6.2 max_concurrency_per_instance",
        ),
        pytest.param("output_action=summary_only", f"output_action: {NO_INVOCATION}", id="6.2 output_action"),
        pytest.param(
            "environment_variables.KEY=secret", f"environment_variables.KEY: {NO_INVOCATION}", id="6.2 environment"
        ),
        pytest.param("model=azureml:m:1", f"model: {NO_INVOCATION}", id="6.2 model"),
        pytest.param(
            "code_configuration.scoring_script=x.py",
            f"code_configuration.scoring_script: {NO_INVOCATION}",
            id="6.2 script",
        ),
        pytest.param(
            "instance_count=2",
            f"instance_count: {REFUSED_BY_SDK} compute.instance_count=… or --instance-count",
            id="6.2 instance_count",
        ),
        pytest.param(
            "max_retries=2", f"max_retries: {REFUSED_BY_SDK} retry_settings.max_retries=…", id="6.2 max_retries"
        ),
        pytest.param("timeout=2", f"timeout: {REFUSED_BY_SDK} retry_settings.timeout=…", id="6.2 timeout"),
        pytest.param("input_data=x", "input_data: write --input, or --set inputs.<name>.path=…", id="6.2 input_data"),
        pytest.param("dataset=x", "dataset: write --input, or --set inputs.<name>.path=…", id="6.2 dataset"),
        pytest.param(
            "output_data=x", "output_data: write --output-path, or --set outputs.<name>.path=…", id="6.2 output_data"
        ),
        pytest.param(
            "settings.mini_batch_size=3",
            f"settings.mini_batch_size: unknown key; did you mean mini_batch_size? {SETTABLE}",
            id="6.2 unknown key with a near one",
        ),
        pytest.param("x=3", f"x: unknown key {SETTABLE}", id="6.2 unknown key"),
        pytest.param(
            "Error_Threshold=3",
            f"Error_Threshold: unknown key; did you mean error_threshold? {SETTABLE}",
            id="6.2 key in another case",
        ),
        pytest.param("mini_batch_size=0", "mini_batch_size: must be a whole number of at least 1, not '0'", id="1.3 0"),
        pytest.param(
            "retry_settings.timeout=0",
            "retry_settings.timeout: must be a whole number of seconds from 1 to 259200, not '0'",
            id="1.3 timeout",
        ),
        pytest.param(
            "retry_settings.timeout=PT30S",
            "retry_settings.timeout: must be a whole number of seconds from 1 to 259200, not 'PT30S'",
            id="6.2 timeout as a duration",
        ),
        pytest.param(
            "error_threshold=",
            "error_threshold: must be a whole number from -1 to 2147483647, not ''",
            id="6.2 without a value",
        ),
        pytest.param("output_file_name=", "output_file_name: must be the name of a file, not ''", id="1.3 no name"),
        pytest.param(
            "output_file_name=a*b.csv",
            "output_file_name: must be a file name without *; a folder goes to --output-path or outputData",
            id="1.3 output_file_name",
        ),
        pytest.param(
            "inputs.a-b.path=x",
            "inputs.a-b.path: the name 'a-b' may have letters, digits and _ only",
            id="6.2 name of an input",
        ),
        pytest.param(
            "inputs.a.type=uri_folder", "inputs.a: has no path; give the folder or file", id="6.2 input without a path"
        ),
        pytest.param("inputs.a.default=5", f"inputs.a.default: {LITERAL}", id="6.2 literal"),
        pytest.param("inputs.a.type=string", f"inputs.a.type: {LITERAL}", id="6.2 literal type"),
        pytest.param("outputs.a.type=uri_folder", f"outputs.a.type: {OUTPUT}", id="6.1 output type"),
        pytest.param(
            "outputs.a.url=x",
            "outputs.a.url: unknown key (known here: type, path, mode)",
            id="6.2 unknown key of an output",
        ),
        pytest.param(
            "output_dataset.path=p",
            "output_dataset.datastore_id: missing; output_dataset.datastore_id and output_dataset.path go together",
            id="6.2 output_dataset without a datastore",
        ),
    ],
)
def test_set_that_is_refused(setting: str, sentence: str) -> None:
    """An override that the command line does not allow is refused with the channel that does (contract 6.2)."""
    assert refused(settings=[setting]) == (f"--set {sentence}",)


@pytest.mark.parametrize("setting", ["mini_batch_size", "", "=3"])
def test_set_without_key_and_value(setting: str) -> None:
    """Each --set is a key and a value."""
    (problem,) = refused(settings=[setting])
    assert problem.startswith("--set: needs key=value, not ")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        pytest.param({"input_type": "mltable"}, f"--input-type: MLTable {PIPELINE}", id="7.2 MLTable"),
        pytest.param({"input_type": "integer"}, f"--input-type: {LITERAL}", id="6.1 literal"),
        pytest.param(
            {"input_type": "UriFolder"},
            "--input-type: must be uri_folder or uri_file, not 'UriFolder'; did you mean uri_folder?",
            id="6.2 spelling of the REST interface",
        ),
        pytest.param(
            {"mini_batch_size": 0},
            "--mini-batch-size: must be a whole number of at least 1, not 0",
            id="1.3 --mini-batch-size",
        ),
        pytest.param(
            {"instance_count": -1},
            "--instance-count: must be a whole number of at least 1, not -1",
            id="1.3 --instance-count",
        ),
        pytest.param({"job_name": ".."}, "--job-name: must be a name and no path, not '..'", id="6.2 --job-name"),
        pytest.param(
            {"experiment_name": " "}, "--experiment-name: must be a name, not ' '", id="6.2 --experiment-name"
        ),
        pytest.param(
            {"mini_batch_size": 5, "settings": ["mini_batch_size=6"]},
            "--set mini_batch_size: contradicts --mini-batch-size (5 and 6); give one of them",
            id="6.2 flag and --set",
        ),
        pytest.param(
            {"instance_count": 1, "settings": ["compute.instance_count=2"]},
            "--set compute.instance_count: contradicts --instance-count (1 and 2); give one of them",
            id="6.2 flag and --set, other key",
        ),
        pytest.param(
            {"settings": ["error_threshold=5", "error_threshold=6"]},
            "--set error_threshold: contradicts --set error_threshold (5 and 6); give one of them",
            id="6.2 --set twice",
        ),
        pytest.param(
            {"input": "https://x/?sig=SECRET", "settings": ["inputs.a.path=https://x/?sig=OTHER-SECRET"]},
            "--set inputs.a.path: contradicts --input; give one of them",
            id="6.2 --input and --set",
        ),
        pytest.param(
            {"output_path": "o", "settings": ["outputs.a.path=p"]},
            "--set outputs.a.path: contradicts --output-path; give one of them",
            id="6.2 --output-path and --set",
        ),
        pytest.param(
            {"output_path": "o", "settings": ["output_dataset.path=p", "output_dataset.datastore_id=d"]},
            "--set output_dataset: contradicts --output-path; give one of them",
            id="6.2 --output-path and output_dataset",
        ),
        pytest.param(
            {"settings": ["inputs.a.path=x", "inputs.b.path=x"]},
            "--set inputs.b.path: a model deployment takes exactly one data input, not 2 (a, b)",
            id="6.1 two inputs",
        ),
        pytest.param(
            {"settings": ["outputs.a.path=x", "outputs.b.path=x"]},
            "--set outputs.b.path: a model deployment writes one output, not 2 (a, b)",
            id="6.1 two outputs",
        ),
    ],
)
def test_flags_that_are_refused(flags: dict[str, Any], sentence: str) -> None:
    """A value that cannot be, and a thing given twice differently, are refused by the name of the flag."""
    assert refused(**flags) == (sentence,)


def test_file_as_documented(tmp_path: Path) -> None:
    """Contract 6.2: inputs.yml names the input and the output; a path stays as it is written."""
    file = inputs_file(
        tmp_path,
        "inputs:\n  heart_data:\n    type: uri_folder\n    path: data/heart\n"
        "outputs:\n  score:\n    type: uri_file\n    path: azureml://datastores/blob/paths/out/p.csv\n",
    )
    expected = Invocation(
        input="data/heart", input_type="uri_folder", output="azureml://datastores/blob/paths/out/p.csv"
    )
    assert from_flags(file=file) == expected
    assert from_flags(file=file, input="data/heart", settings=["inputs.heart_data.path=data/heart"]) == expected


def test_file_takes_values_as_written(tmp_path: Path) -> None:
    """A folder named 2024 or 010 is that folder, and no number; without a type the target decides (contract 7.2)."""
    assert from_flags(file=inputs_file(tmp_path, "inputs: {a: {path: 010}}")) == Invocation(input="010")
    assert from_flags(file=inputs_file(tmp_path, '{"inputs": {"a": {"path": "on", "type": null}}}')).input == "on"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param(
            "inputs:\n  a:\n    typ: uri_folder\n    path: x\n",
            "3: inputs.a.typ: unknown key; did you mean type? (known here: type, path, mode)",
            id="6.2 unknown key of an input",
        ),
        pytest.param(
            "inputs:\n  a:\n    path: x\noutput:\n",
            "4: output: unknown key; did you mean outputs? (known here: inputs, outputs)",
            id="6.2 unknown key",
        ),
        pytest.param(
            "mini_batch_size: 5\n",
            "1: mini_batch_size: unknown key; did you mean --set mini_batch_size=…? (known here: inputs, outputs)",
            id="6.2 override in the file",
        ),
        pytest.param(
            "\nlogging_level: debug\n",
            f"2: logging_level: {COMMAND_LINE} (--request, loggingLevel), or the deployment's YAML (logging_level)",
            id="6.2 override of another channel",
        ),
        pytest.param("output_action: x\n", f"1: output_action: {NO_INVOCATION}", id="6.2 override of no channel"),
        pytest.param(
            "inputs:\n  a: {path: x}\n  b: {path: x}\n",
            "3: inputs.b.path: a model deployment takes exactly one data input, not 2 (a, b)",
            id="6.1 two inputs",
        ),
        pytest.param("inputs:\n  a:\n", "2: inputs.a: has no path; give the folder or file", id="6.2 empty input"),
        pytest.param(
            "inputs:\n  a:\n    path:\n", "3: inputs.a.path: must be a path or URI", id="6.2 path without a value"
        ),
        pytest.param(
            "inputs:\n  a:\n    path: [x]\n", "3: inputs.a.path: must be a text, not a list", id="6.2 path is a list"
        ),
        pytest.param(
            "inputs:\n  a b:\n    path: x\n",
            "2: inputs.a b: the name 'a b' may have letters, digits and _ only",
            id="6.2 name of an input",
        ),
        pytest.param(
            "inputs:\n  a: {type: string, default: x}\n", f"2: inputs.a: {LITERAL}", id="6.1 literal as documented"
        ),
        pytest.param(
            "inputs:\n  a: 5\n", f"2: inputs.a: {LITERAL}; write {{type: uri_folder, path: …}}", id="6.1 bare value"
        ),
        pytest.param("inputs: 5\n", "1: inputs: must be a mapping, not a text", id="6.2 inputs are no mapping"),
        pytest.param(
            "inputs:\n  a: {type: mltable, path: x}\n", f"2: inputs.a.type: MLTable {PIPELINE}", id="7.2 MLTable"
        ),
        pytest.param(
            "inputs:\n  a: {type: uri_fldr, path: x}\n",
            "2: inputs.a.type: must be uri_folder or uri_file, not 'uri_fldr'; did you mean uri_folder?",
            id="6.2 type misspelled",
        ),
        pytest.param(
            "inputs:\n  a: {path: x, mode: downlod}\n",
            "2: inputs.a.mode: must be one of ro_mount, rw_mount, download, direct, eval_mount, eval_download, upload, "
            "not 'downlod'; did you mean download?",
            id="6.2 mode",
        ),
        pytest.param(
            "outputs:\n  a: {type: uri_folder, path: x}\n", f"2: outputs.a.type: {OUTPUT}", id="6.1 output type"
        ),
    ],
)
def test_file_that_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    """The one thing wrong is told with file, line and key, and what to do."""
    assert refused_file(tmp_path, text) == (sentence,)


def test_key_given_twice_in_the_file(tmp_path: Path) -> None:
    """A key given twice is refused with both lines."""
    (problem,) = refused_file(tmp_path, "inputs:\n  a:\n    path: x\n    path: y\n")
    assert problem.startswith("4: inputs.a.path: given twice")
    assert "line 3" in problem


def test_file_contradicts_a_flag(tmp_path: Path) -> None:
    """The same thing said differently is refused; a URI is not shown, for it may carry a SAS token."""
    file = inputs_file(tmp_path, "inputs:\n  a:\n    type: uri_file\n    path: https://x/y?sig=SECRET\n")
    assert refused(file=file, input="z", input_type="uri_folder") == (
        f"{file}:3: inputs.a.type: contradicts --input-type (uri_folder and uri_file); give one of them",
        f"{file}:4: inputs.a.path: contradicts --input; give one of them",
    )


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    """Flags, --set and the file are checked together."""
    file = inputs_file(tmp_path, "inputs:\n  a: {pat: x}\nother: 1\n")
    problems = refused(mini_batch_size=0, file=file, settings=["max_retries=3", "outputs.o.type=uri_folder"])
    assert [each.removeprefix(file).split(": ")[0:2] for each in problems] == [
        ["--mini-batch-size", "must be a whole number of at least 1, not 0"],
        [":2", "inputs.a.pat"],
        [":3", "other"],
        ["--set max_retries", f"{REFUSED_BY_SDK} retry_settings.max_retries=…"],
        [":2", "inputs.a"],
        ["--set outputs.o.type", OUTPUT],
    ]


@pytest.mark.parametrize("text", ["", "- a\n", "inputs: [\n", "inputs: {a: \x00}\n", "a: " + "[" * 5000], ids=repr)
def test_file_that_is_no_yaml_mapping(tmp_path: Path, text: str) -> None:
    """What is no YAML, or no mapping, is refused by the name of the file."""
    file = inputs_file(tmp_path, text)
    with pytest.raises(UsageError) as error:
        from_flags(file=file)
    assert str(error.value).startswith(f"{file}:")


def test_file_that_is_not_there(tmp_path: Path) -> None:
    """A missing file is told with what it should hold."""
    with pytest.raises(UsageError, match=r"--file .*none\.yml: no such file; name a YAML file with inputs"):
        from_flags(file=str(tmp_path / "none.yml"))


def test_what_has_no_effect_is_said(tmp_path: Path) -> None:
    """What Azure ML takes and has no meaning here is accepted, and says so."""
    file = inputs_file(tmp_path, "inputs: {a: {path: x, mode: ro_mount}}")
    got = from_flags(file=file, settings=["compute.instance_type=big"])
    assert got.input == "x"
    assert got.notices == (
        "--set compute.instance_type: has no effect here: the job runs on this machine",
        f"{file}:1: inputs.a.mode: ro_mount has no effect here: how files are fetched is not part of a job",
    )


def test_sas_token_is_in_no_representation() -> None:
    """An invocation can be logged whatever its URIs carry."""
    got = from_flags(input="https://x/y?sig=SECRET", output_path="https://x/z?sig=SECRET")
    assert got.input.endswith("SECRET")
    assert "SECRET" not in repr(got)


def test_flags_and_request_together(tmp_path: Path) -> None:
    """What only one of both says is taken, and so is what both say alike; the notices of both are kept."""
    body = tmp_path / "body.json"
    body.write_text(
        json.dumps({"properties": {"miniBatchSize": "5", "loggingLevel": "Debug", "tags": {"a": "b"}, "name": "j"}})
    )
    flags = from_flags(input="data", mini_batch_size=5, settings=["retry_settings.max_retries=0", "compute.location=x"])
    got = merge(flags, from_request(str(body)))
    assert dataclasses.replace(got, notices=()) == Invocation(
        input="data", job_name="j", overrides=Overrides(mini_batch_size=5, logging_level="debug", max_retries=0)
    )
    assert [each.split(": ")[-2].split(" ")[0] for each in got.notices] == ["has", "properties.tags"]


@pytest.mark.parametrize(
    ("flags", "request_", "problems"),
    [
        pytest.param(
            Invocation(overrides=Overrides(mini_batch_size=5, max_retries=0)),
            Invocation(overrides=Overrides(mini_batch_size=6, max_retries=3)),
            (
                "mini_batch_size: the flags and the request contradict each other (5 and 6); give it once",
                "max_retries: the flags and the request contradict each other (0 and 3); give it once",
            ),
            id="6.2 overrides, 0 among them",
        ),
        pytest.param(
            Invocation(input="https://x/?sig=SECRET", output="a", job_name="j"),
            Invocation(input="y", output="b", job_name="k"),
            (
                "input: the flags and the request contradict each other; give it once",
                "output: the flags and the request contradict each other; give it once",
                "job_name: the flags and the request contradict each other (j and k); give it once",
            ),
            id="6.2 URIs are not shown",
        ),
    ],
)
def test_flags_and_request_that_contradict_each_other(
    flags: Invocation, request_: Invocation, problems: tuple[str, ...]
) -> None:
    """What both say differently is refused, all of it at once."""
    with pytest.raises(DeploymentError) as error:
        merge(flags, request_)
    assert error.value.problems == problems


def test_overrides_win_over_the_deployment() -> None:
    """An override takes the place of the deployment's value (contract 6.2), 0 and -1 too; the rest stays."""
    settings = Settings(
        mini_batch_size=3, error_threshold=7, output_action="append_row", environment_variables=(("A", "b"),)
    )
    assert apply(Overrides(), settings) == settings
    assert apply(Overrides(max_retries=0), settings).retry_settings == RetrySettings(max_retries=0)
    assert apply(
        Overrides(
            mini_batch_size=1,
            instance_count=2,
            max_concurrency_per_instance=4,
            output_file_name="o.csv",
            max_retries=5,
            timeout_s=60,
            error_threshold=-1,
            logging_level="debug",
        ),
        settings,
    ) == Settings(
        mini_batch_size=1,
        instance_count=2,
        max_concurrency_per_instance=4,
        output_file_name="o.csv",
        retry_settings=RetrySettings(max_retries=5, timeout_s=60),
        error_threshold=-1,
        logging_level="debug",
        environment_variables=(("A", "b"),),
    )
