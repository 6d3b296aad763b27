"""The body of a REST invocation, as documented or as the SDK sends it (contract 6.1)."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.errors import DeploymentError, UsageError, exit_code
from runtime.invocation import Invocation, Overrides, from_request

FOLDER = "https://account.blob.core.windows.net/data/heart"
ARM = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"


def read(tmp_path: Path, properties: Any) -> Invocation:
    """Return what a body with these properties asks for."""
    file = tmp_path / "body.json"
    file.write_text(json.dumps({"properties": properties}), encoding="utf-8")
    return from_request(str(file))


def refused(tmp_path: Path, properties: Any) -> tuple[str, ...]:
    """Return what is wrong with these properties, each without the name of the file and of the outer key."""
    with pytest.raises(DeploymentError) as error:
        read(tmp_path, properties)
    assert exit_code(error.value) == 2
    start = f"{tmp_path / 'body.json'}: properties."
    assert all(each.startswith(start) for each in error.value.problems)
    return tuple(each.removeprefix(start) for each in error.value.problems)


def an_input(**changes: Any) -> dict[str, Any]:
    """Return input data as documented, with changes."""
    return {"InputData": {"heart": {"JobInputType": "UriFolder", "Uri": FOLDER, **changes}}}


def test_body_as_documented(tmp_path: Path) -> None:
    """The documents write keys with a capital, and an output below a datastore's ARM id."""
    output = f"{ARM}/datastores/blob/paths/batch-jobs/my-unique-path"
    got = read(
        tmp_path,
        {
            **an_input(),
            "OutputData": {"score": {"JobOutputType": "UriFile", "Uri": output}},
            "properties": {"experimentName": "my-experiment"},
        },
    )
    assert got == Invocation(
        input=FOLDER, input_type="uri_folder", output=output, experiment_name="my-experiment", overrides=Overrides()
    )


def test_body_as_the_sdk_sends_it(tmp_path: Path) -> None:
    """The SDK names the input by its type, writes numbers as numbers and the timeout as a duration."""
    got = read(
        tmp_path,
        {
            "compute": {"instanceCount": 2},
            "errorThreshold": 5,
            "inputData": {"UriFile": {"jobInputType": "UriFile", "uri": "azureml:heart:1"}},
            "miniBatchSize": 20,
            "name": "batch-1",
            "outputData": {
                "output_name": {"jobOutputType": "UriFile", "uri": "azureml://datastores/blob/paths//out/o.csv"}
            },
            "properties": {"experimentName": "e"},
            "retrySettings": {"maxRetries": 1, "timeout": "PT1M"},
        },
    )
    assert got == Invocation(
        input="azureml:heart:1",
        input_type="uri_file",
        output="azureml://datastores/blob/paths//out/o.csv",
        experiment_name="e",
        job_name="batch-1",
        overrides=Overrides(mini_batch_size=20, instance_count=2, max_retries=1, timeout_s=60, error_threshold=5),
    )


def test_body_with_everything_as_text(tmp_path: Path) -> None:
    """Every override of the REST model is taken from a text (contract 1.4), keys and enums in any letter case."""
    got = read(
        tmp_path,
        {
            "INPUTDATA": {"x": {"JOBINPUTTYPE": "urifolder", "URI": FOLDER}},
            "outputdata": {"y": {"joboutputtype": "URIFILE", "uri": "out/p.csv"}},
            "outputfilename": "p.csv",
            "MiniBatchSize": "5",
            "ErrorThreshold": "-1",
            "LoggingLevel": "DEBUG",
            "maxconcurrencyperinstance": " 4 ",
            "RetrySettings": {"MaxRetries": "0", "Timeout": "PT30S"},
            "Compute": {"InstanceCount": "3"},
            "Name": "job",
            "Properties": {"EXPERIMENTNAME": "exp"},
        },
    )
    assert got == Invocation(
        input=FOLDER,
        input_type="uri_folder",
        output="out/p.csv",
        experiment_name="exp",
        job_name="job",
        overrides=Overrides(
            mini_batch_size=5,
            instance_count=3,
            max_concurrency_per_instance=4,
            output_file_name="p.csv",
            max_retries=0,
            timeout_s=30,
            error_threshold=-1,
            logging_level="debug",
        ),
    )


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        pytest.param({"outputFileName": "o.csv"}, Overrides(output_file_name="o.csv"), id="6.1 outputFileName"),
        pytest.param({"miniBatchSize": 7}, Overrides(mini_batch_size=7), id="6.1 miniBatchSize"),
        pytest.param({"miniBatchSize": 7.0}, Overrides(mini_batch_size=7), id="6.1 miniBatchSize as a float"),
        pytest.param({"errorThreshold": 0}, Overrides(error_threshold=0), id="6.1 errorThreshold"),
        pytest.param({"loggingLevel": "Warning"}, Overrides(logging_level="warning"), id="6.1 loggingLevel"),
        pytest.param(
            {"maxConcurrencyPerInstance": 2}, Overrides(max_concurrency_per_instance=2), id="6.1 maxConcurrency"
        ),
        pytest.param({"retrySettings": {"maxRetries": 0}}, Overrides(max_retries=0), id="6.1 retrySettings.maxRetries"),
        pytest.param(
            {"retrySettings": {"timeout": "P3D"}}, Overrides(timeout_s=259200), id="6.1 retrySettings.timeout"
        ),
        pytest.param({"compute": {"instanceCount": 2}}, Overrides(instance_count=2), id="6.1 compute.instanceCount"),
        pytest.param({"miniBatchSize": None, "compute": None}, Overrides(), id="6.1 null is absent"),
        pytest.param({"partitionKeys": []}, Overrides(), id="6.1 partitionKeys, none"),
    ],
)
def test_override_is_taken(tmp_path: Path, properties: dict[str, Any], expected: Overrides) -> None:
    """What the REST model overrides is overridden, and nothing else (contract 6.2)."""
    got = read(tmp_path, properties)
    assert got == Invocation(overrides=expected)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT30S", 30),
        ("PT1M", 60),
        ("PT1H30M", 5400),
        ("P1D", 86400),
        ("P1DT1S", 86401),
        ("P0DT0H5M0S", 300),
        ("PT1.5M", 90),
        ("PT2,0S", 2),
        ("PT259200S", 259200),
    ],
)
def test_timeout_is_an_iso_duration(tmp_path: Path, text: str, seconds: int) -> None:
    """Contract 6.1: the timeout is written as ISO 8601."""
    got = read(tmp_path, {"retrySettings": {"timeout": text}})
    assert got == Invocation(overrides=Overrides(timeout_s=seconds))


def test_fraction_of_a_second_is_rounded_up(tmp_path: Path) -> None:
    """A timeout is whole seconds; that it was rounded is said."""
    got = read(tmp_path, {"retrySettings": {"timeout": "PT0.2S"}})
    assert got.overrides.timeout_s == 1
    assert [each.partition("properties.")[2] for each in got.notices] == [
        "retrySettings.timeout: PT0.2S is rounded up to 1 seconds"
    ]


@pytest.mark.parametrize(
    ("timeout", "sentence"),
    [
        (30, "must be an ISO 8601 duration such as PT30S or PT1H30M, not 30; for 30 seconds write PT30S"),
        ("30", "must be an ISO 8601 duration such as PT30S or PT1H30M, not '30'; for 30 seconds write PT30S"),
        ("00:00:30", "must be an ISO 8601 duration such as PT30S or PT1H30M, not '00:00:30'"),
        ("P", "must be an ISO 8601 duration such as PT30S or PT1H30M, not 'P'"),
        ("PT", "must be an ISO 8601 duration such as PT30S or PT1H30M, not 'PT'"),
        ("P1DT", "must be an ISO 8601 duration such as PT30S or PT1H30M, not 'P1DT'"),
        ("-PT5S", "must be an ISO 8601 duration such as PT30S or PT1H30M, not '-PT5S'"),
        ("PT٣S", "must be an ISO 8601 duration such as PT30S or PT1H30M, not 'PT٣S'"),
        (["PT5S"], "must be an ISO 8601 duration such as PT30S or PT1H30M, not a list"),
        (True, "must be an ISO 8601 duration such as PT30S or PT1H30M, not true"),
        ("P1M", "'P1M' has years or months, which have no fixed length; write days: P30D"),
        ("P1Y2M", "'P1Y2M' has years or months, which have no fixed length; write days: P30D"),
        ("PT0S", "must be a whole number of seconds from 1 to 259200, not 0"),
        ("P3DT1S", "must be a whole number of seconds from 1 to 259200, not 259201"),
    ],
    ids=str,
)
def test_timeout_that_cannot_be(tmp_path: Path, timeout: Any, sentence: str) -> None:
    """Contract 6.1 and 1.3: seconds, clock times and months are no ISO duration of a fixed length; 0 is none."""
    assert refused(tmp_path, {"retrySettings": {"timeout": timeout}}) == (f"retrySettings.timeout: {sentence}",)


LITERAL = "a model deployment takes no literal; its one input is data of type UriFolder or UriFile"
OUTPUT = (
    "Job output type must be 'uri_file'. Give UriFile and the URI of a file that does not exist yet, "
    "for example …/predictions.csv"
)
PIPELINE = "is for pipeline deployments; a model deployment takes UriFolder or UriFile"
NO_INVOCATION = "no invocation can override it; set it in the deployment's YAML"
WHOLE = "must be a whole number"


@pytest.mark.parametrize(
    ("properties", "sentence"),
    [
        pytest.param(
            {"inputData": {}}, "inputData: a model deployment takes exactly one data input, not none", id="6.1 no input"
        ),
        pytest.param(
            {"inputData": {"a": {}, "b": {}}},
            "inputData: a model deployment takes exactly one data input, not 2 (a, b)",
            id="6.1 two inputs",
        ),
        pytest.param(
            {"inputData": {"n": {"jobInputType": "Literal", "value": "5"}}}, f"inputData.n: {LITERAL}", id="6.1 Literal"
        ),
        pytest.param({"inputData": {"n": {"value": 5}}}, f"inputData.n: {LITERAL}", id="6.1 literal without a type"),
        *(
            pytest.param(
                an_input(JobInputType=name), f"InputData.heart.JobInputType: {name} {PIPELINE}", id=f"6.1 input {name}"
            )
            for name in ("MLTable", "CustomModel", "MLFlowModel", "TritonModel")
        ),
        pytest.param(
            an_input(JobInputType="UriFoldr"),
            "InputData.heart.JobInputType: must be UriFolder or UriFile, not 'UriFoldr'; did you mean UriFolder?",
            id="6.1 input type misspelled",
        ),
        pytest.param(
            an_input(JobInputType=None),
            "InputData.heart.jobInputType: missing; give UriFolder or UriFile",
            id="6.1 input type missing",
        ),
        pytest.param(
            an_input(Uri=None),
            "InputData.heart.uri: missing; give the URI of the folder or file to score",
            id="6.1 uri missing",
        ),
        pytest.param(an_input(Uri=""), "InputData.heart.Uri: must be a path or URI", id="6.1 uri empty"),
        pytest.param(an_input(Uri={"a": 1}), "InputData.heart.Uri: must be a path or URI", id="6.1 uri no text"),
        pytest.param(
            an_input(mode="ReadOnly"),
            "InputData.heart.mode: must be one of ReadOnlyMount, ReadWriteMount, Download, Direct, EvalMount, "
            "EvalDownload, Upload, not 'ReadOnly'; did you mean ReadOnlyMount?",
            id="6.1 mode",
        ),
        pytest.param(
            an_input(Url="x"),
            "InputData.heart.Url: unknown key; did you mean uri? (known here: jobInputType, uri, mode)",
            id="6.1 unknown key of an input",
        ),
        pytest.param(
            an_input(uri="x"), "InputData.heart.uri: given twice, first as Uri; keep one", id="6.1 key in two cases"
        ),
        pytest.param(
            {"inputData": {"n": "text"}},
            "inputData.n: must be a map with jobInputType, uri, mode, not 'text'",
            id="6.1 input is no map",
        ),
        pytest.param(
            {"inputData": ["a"]},
            "inputData: must be a map of a name to an entry, not a list",
            id="6.1 inputs are no map",
        ),
        *(
            pytest.param(
                {"outputData": {"score": {"jobOutputType": name, "uri": "x"}}},
                f"outputData.score.jobOutputType: {OUTPUT}",
                id=f"6.1 output {name}",
            )
            for name in ("UriFolder", "MLTable", "CustomModel", "MLFlowModel", "TritonModel", "")
        ),
        pytest.param(
            {"outputData": {"score": {"uri": "x"}}},
            "outputData.score.jobOutputType: missing; give UriFile",
            id="6.1 output type missing",
        ),
        pytest.param(
            {"outputData": {"a": {}, "b": {}}},
            "outputData: a model deployment writes one output, not 2 (a, b)",
            id="6.1 two outputs",
        ),
        pytest.param(
            {"partitionKeys": ["store"]},
            "partitionKeys: partition keys are not supported; mini-batches are made of files, "
            "so write a file for each partition",
            id="6.1 partitionKeys",
        ),
        pytest.param({"outputAction": "SummaryOnly"}, f"outputAction: {NO_INVOCATION}", id="6.2 output_action"),
        pytest.param(
            {"environmentVariables": {"KEY": "secret"}}, f"environmentVariables: {NO_INVOCATION}", id="6.2 environment"
        ),
        pytest.param({"model": "azureml:m:1"}, f"model: {NO_INVOCATION}", id="6.2 model"),
        pytest.param({"codeConfiguration": {}}, f"codeConfiguration: {NO_INVOCATION}", id="6.2 script"),
        pytest.param(
            {"instanceCount": 2},
            "instanceCount: belongs below compute: properties.compute.instanceCount",
            id="6.2 instanceCount elsewhere",
        ),
        pytest.param(
            {"maxRetries": 2},
            "maxRetries: belongs below retrySettings: properties.retrySettings.maxRetries",
            id="6.2 maxRetries elsewhere",
        ),
        pytest.param(
            {"retrySettings": {"max_retries": 2}},
            "retrySettings.max_retries: unknown key; did you mean maxRetries? (known here: maxRetries, timeout)",
            id="6.1 spelling of YAML",
        ),
        pytest.param({"miniBatchSize": 0}, f"miniBatchSize: {WHOLE} of at least 1, not 0", id="1.3 mini_batch_size"),
        pytest.param(
            {"miniBatchSize": 2.5}, f"miniBatchSize: {WHOLE} of at least 1, not 2.5", id="1.3 mini_batch_size, fraction"
        ),
        pytest.param(
            {"miniBatchSize": True}, f"miniBatchSize: {WHOLE} of at least 1, not true", id="1.3 mini_batch_size, bool"
        ),
        pytest.param(
            {"miniBatchSize": "1_0"}, f"miniBatchSize: {WHOLE} of at least 1, not '1_0'", id="1.3 number with _"
        ),
        pytest.param(
            {"maxConcurrencyPerInstance": 0},
            f"maxConcurrencyPerInstance: {WHOLE} of at least 1, not 0",
            id="1.3 max_concurrency_per_instance",
        ),
        pytest.param(
            {"errorThreshold": -2},
            f"errorThreshold: {WHOLE} from -1 to 2147483647, not -2",
            id="1.3 error_threshold, too small",
        ),
        pytest.param(
            {"errorThreshold": 2**31},
            f"errorThreshold: {WHOLE} from -1 to 2147483647, not 2147483648",
            id="1.3 error_threshold, too great",
        ),
        pytest.param(
            {"retrySettings": {"maxRetries": -1}},
            f"retrySettings.maxRetries: {WHOLE} of at least 0, not -1",
            id="1.3 max_retries",
        ),
        pytest.param(
            {"compute": {"instanceCount": "two"}},
            f"compute.instanceCount: {WHOLE} of at least 1, not 'two'",
            id="1.3 instance_count",
        ),
        pytest.param(
            {"loggingLevel": "Error"},
            "loggingLevel: must be warning, info or debug, not 'Error'",
            id="1.3 logging_level",
        ),
        pytest.param(
            {"outputFileName": "a/b:c.csv"},
            "outputFileName: must be a file name without / :; a folder goes to --output-path or outputData",
            id="1.3 output_file_name",
        ),
        pytest.param(
            {"outputFileName": "x" * 261},
            "outputFileName: must have at most 260 characters, not 261",
            id="1.3 output_file_name, long",
        ),
        pytest.param(
            {"outputFileName": ".."},
            "outputFileName: must be the name of a file, not '..'",
            id="1.3 output_file_name, ..",
        ),
        pytest.param({"name": "a/b"}, "name: must be a name and no path, not 'a/b'", id="6.2 job name"),
        pytest.param(
            {"compute": 5},
            "compute: must be a map with instanceCount, instanceType, target, location, isLocal, properties, not 5",
            id="6.1 compute is no map",
        ),
    ],
)
def test_body_that_is_refused(tmp_path: Path, properties: dict[str, Any], sentence: str) -> None:
    """The one thing wrong is told with its place, as written, and what to do."""
    assert refused(tmp_path, properties) == (sentence,)


def test_odd_key_stays_on_one_line(tmp_path: Path) -> None:
    """A key with a line break or half a character is told in one line that can be printed."""
    (problem,) = refused(tmp_path, {"a\nb\ud800": 1})
    assert problem.startswith(r"a\nb\ud800: unknown key")


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    """Nobody has to mend a body one error at a time."""
    problems = refused(
        tmp_path,
        {
            "inputData": {"n": {"jobInputType": "MLTable"}},
            "outputData": {"o": {"jobOutputType": "UriFolder"}},
            "miniBatchSise": 3,
            "retrySettings": {"timeout": 5, "maxRetries": -1},
        },
    )
    assert sorted(each.partition(":")[0] for each in problems) == [
        "inputData.n.jobInputType",
        "inputData.n.uri",
        "miniBatchSise",
        "outputData.o.jobOutputType",
        "retrySettings.maxRetries",
        "retrySettings.timeout",
    ]


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        pytest.param({"dataInputType": "DataUrl", "path": FOLDER}, FOLDER, id="6.1 DataUrl"),
        pytest.param(
            {"dataInputType": "DatasetId", "datasetId": f"{ARM}/data/d/versions/1"},
            f"{ARM}/data/d/versions/1",
            id="6.1 DatasetId",
        ),
        pytest.param(
            {"DataInputType": "datasetversion", "DatasetName": "d", "DatasetVersion": 2},
            "azureml:d:2",
            id="6.1 DatasetVersion",
        ),
        pytest.param(
            {"dataInputType": "DatasetVersion", "datasetName": "d"}, "azureml:d@latest", id="6.1 DatasetVersion, latest"
        ),
    ],
)
def test_deprecated_input(tmp_path: Path, dataset: dict[str, Any], expected: str) -> None:
    """The deprecated form is taken with a notice; whether it is a folder or a file shows when it is looked at."""
    got = read(tmp_path, {"dataset": dataset})
    assert (got.input, got.input_type) == (expected, "")
    assert [each.partition("properties.")[2] for each in got.notices] == [
        "dataset: is deprecated in Azure ML; inputData takes the same input"
    ]


@pytest.mark.parametrize(
    ("datastore", "path", "expected"),
    [
        ("blob", "/p/q/", "azureml://datastores/blob/paths/p/q/"),
        ("azureml:blob", "p", "azureml://datastores/blob/paths/p/"),
        (f"{ARM}/datastores/blob", "p", f"{ARM}/datastores/blob/paths/p/"),
        (f"azureml:{ARM}/datastores/blob/", "p", f"azureml:{ARM}/datastores/blob/paths/p/"),
        ("azureml://datastores/blob", "p", "azureml://datastores/blob/paths/p/"),
    ],
)
def test_deprecated_output(tmp_path: Path, datastore: str, path: str, expected: str) -> None:
    """Contract 6.1: outputDataset names a folder of a datastore; the slash at its end says so (contract 6.4)."""
    got = read(tmp_path, {"outputDataset": {"datastoreId": datastore, "path": path}})
    assert got.output == expected


@pytest.mark.parametrize(
    ("properties", "sentence"),
    [
        pytest.param(
            {**an_input(), "dataset": {"dataInputType": "DataUrl", "path": "x"}},
            "dataset: contradicts inputData; give inputData alone, dataset is its deprecated form",
            id="6.1 both forms of an input",
        ),
        pytest.param(
            {"outputData": {"o": {"jobOutputType": "UriFile"}}, "outputDataset": {"datastoreId": "d", "path": "p"}},
            "outputDataset: contradicts outputData; give outputData alone, outputDataset is its deprecated form",
            id="6.1 both forms of an output",
        ),
        pytest.param(
            {"dataset": {"path": "x"}},
            "dataset.dataInputType: missing; give DataUrl, DatasetId or DatasetVersion",
            id="6.1 dataset without a type",
        ),
        pytest.param(
            {"dataset": {"dataInputType": "DataUri", "path": "x"}},
            "dataset.dataInputType: must be one of DataUrl, DatasetId, DatasetVersion, not 'DataUri'; "
            "did you mean DataUrl?",
            id="6.1 dataset of another type",
        ),
        pytest.param(
            {"dataset": {"dataInputType": "DatasetId", "path": "x"}},
            "dataset.datasetId: missing; DatasetId needs it",
            id="6.1 dataset without its id",
        ),
        pytest.param(
            {"outputDataset": {"path": "p"}},
            "outputDataset.datastoreId: missing; outputDataset needs datastoreId and path",
            id="6.1 outputDataset without a datastore",
        ),
        pytest.param(
            {"outputDataset": {"datastoreId": "https://x/y", "path": "p"}},
            "outputDataset: the datastore must be its name or its ARM id (/subscriptions/…/datastores/<name>)",
            id="6.1 outputDataset on no datastore",
        ),
    ],
)
def test_deprecated_form_that_is_refused(tmp_path: Path, properties: dict[str, Any], sentence: str) -> None:
    """The deprecated forms are checked as today's are."""
    assert refused(tmp_path, properties) == (sentence,)


def test_newer_spelling_of_types(tmp_path: Path) -> None:
    """Newer versions of the REST interface spell the types as YAML does."""
    got = read(
        tmp_path,
        {**an_input(JobInputType="uri_file"), "outputData": {"o": {"jobOutputType": "uri_file", "uri": "o.csv"}}},
    )
    assert (got.input_type, got.output) == ("uri_file", "o.csv")


def test_what_has_no_effect_is_said(tmp_path: Path) -> None:
    """Contract 6.1: modes, tags and the like are accepted; each says that it does nothing here."""
    got = read(
        tmp_path,
        {
            **an_input(mode="ReadOnlyMount", description="d"),
            "outputData": {"o": {"jobOutputType": "UriFile", "uri": "o.csv", "mode": "Upload"}},
            "description": "d",
            "tags": {"a": "b"},
            "properties": {"other": "x"},
            "compute": {"instanceType": "x", "target": "t", "location": "l", "isLocal": False, "properties": {}},
            "status": "Running",
        },
    )
    assert sorted(each.split(": ")[1].removeprefix("properties.") for each in got.notices) == [
        "InputData.heart.mode",
        "compute.instanceType",
        "compute.isLocal",
        "compute.location",
        "compute.properties",
        "compute.target",
        "description",
        "outputData.o.mode",
        "properties.other",
        "status",
        "tags",
    ]
    assert got.overrides == Overrides()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", ":1: the request is no JSON: Expecting value"),
        ('{\n"properties": {,}}', ":2: the request is no JSON: Expecting property name"),
        ('{"properties": {"errorThreshold": NaN}}', ": the request is no JSON: NaN is no number"),
        ("[" * 100_000, ": the request is nested too deeply"),
        ("[]", ': the body must be {"properties": {…}}, not a list'),
        ("{}", ": properties: missing; what the job shall do goes below it"),
        ('{"properties": []}', ": properties: must be a map with inputData, .*, not a list"),
        ('{"inputData": {}}', ": inputData: belongs below properties: properties.inputData"),
        ('{"propertys": {}}', r": propertys: unknown key; did you mean properties\? \(known here: properties\)"),
        ('{"properties": {"name": "a", "name": "b"}}', ": properties.name: given twice, first as name; keep one"),
    ],
    ids=lambda value: value[:30],
)
def test_file_that_is_no_body(tmp_path: Path, text: str, sentence: str) -> None:
    """What is no JSON is told with its line, what is no request with its key."""
    file = tmp_path / "body.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=rf"^.*/body\.json{sentence}"):
        from_request(str(file))


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is not there, a folder, and bytes that are no text are each told by name."""
    (tmp_path / "bytes").write_bytes(b'{"a": "\xff"}')
    for name, sentence in (
        ("none", "cannot read the request: No such file"),
        (".", "cannot read the request: Is a directory"),
        ("bytes", "the request is not UTF-8 at byte 7"),
    ):
        with pytest.raises(UsageError, match=sentence):
            from_request(str(tmp_path / name))


def test_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minus reads the body from standard input, and errors name that; a byte order mark is no part of it."""
    for data, sentence in ((b'\xef\xbb\xbf{"properties": {"miniBatchSize": 3}}', ""), (b"{}", "standard input: prop")):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
        if sentence:
            with pytest.raises(DeploymentError, match=sentence):
                from_request("-")
        else:
            assert from_request("-") == Invocation(overrides=Overrides(mini_batch_size=3))


def test_sas_token_is_never_shown(tmp_path: Path) -> None:
    """The signature of a URI is kept, and shows in no representation and no message."""
    sas = f"{FOLDER}?sv=1&sig=SECRET"
    got = read(tmp_path, an_input(Uri=sas))
    assert got.input == sas
    assert "SECRET" not in repr(got)
    problems = refused(tmp_path, {**an_input(Uri=sas, JobInputType=sas), "miniBatchSize": sas, "outputFileName": sas})
    assert len(problems) == 3
    assert "SECRET" not in "\n".join(problems)
