"""The input and the output in a REST body, today's form and the deprecated one (contract 6.1)."""

from __future__ import annotations

import re
from typing import Any

from runtime.channel import LITERAL, LITERAL_TYPES, MODEL_TYPES, OUTPUT_TYPE, PIPELINE, Channel, nearest, shown
from runtime.request_fields import Field, fields_of, letters

__all__ = ["datastore_folder", "read_input", "read_output"]

MODES = ("ReadOnlyMount", "ReadWriteMount", "Download", "Direct", "EvalMount", "EvalDownload", "Upload")
DATASET_KEYS = {"dataurl": "path", "datasetid": "datasetId", "datasetversion": "datasetName"}


def read_input(channel: Channel, fields: dict[str, Field]) -> None:
    """Give the one data input to the channel; its name is ignored."""
    if "inputData" in fields and "dataset" in fields:
        place = fields["dataset"].place
        channel.refuse(place, "contradicts inputData; give inputData alone, dataset is its deprecated form")
    elif "dataset" in fields:
        _read_dataset(channel, fields["dataset"])
    elif "inputData" in fields:
        entry = _only_entry(channel, fields["inputData"], "takes exactly one data input", least=1)
        if entry:
            _read_job_input(channel, entry)


def _read_job_input(channel: Channel, entry: Field) -> None:
    fields = fields_of(channel, entry, ("jobInputType", "uri", "mode"), also=("value", "description"))
    if fields is None:
        return
    given = fields.get("jobInputType", Field(None, f"{entry.place}.jobInputType"))
    value, place = given.value, given.place
    kind = letters(value)
    if kind in LITERAL_TYPES or "value" in fields:
        channel.refuse(entry.place, LITERAL.format(folder="UriFolder", file="UriFile"))
        return
    _take_mode(channel, fields.get("mode"), "has no effect here: how files are fetched is not part of a job")
    if value is None:
        channel.refuse(place, "missing; give UriFolder or UriFile")
    elif kind in MODEL_TYPES:
        channel.refuse(place, PIPELINE.format(MODEL_TYPES[kind], folder="UriFolder", file="UriFile"))
    elif kind in ("urifolder", "urifile"):
        channel.give("input_type", {"urifolder": "uri_folder", "urifile": "uri_file"}[kind], place)
    else:
        near = nearest(value, ("UriFolder", "UriFile"))
        channel.refuse(place, f"must be UriFolder or UriFile, not {shown(value)}{near}")
    if "uri" in fields:
        channel.give("input", *fields["uri"])
    else:
        channel.refuse(f"{entry.place}.uri", "missing; give the URI of the folder or file to score")


def _read_dataset(channel: Channel, dataset: Field) -> None:
    """Read the deprecated form of an input; its type is what is found there."""
    fields = fields_of(channel, dataset, ("dataInputType", "path", "datasetId", "datasetName", "datasetVersion"))
    if fields is None:
        return
    if "dataInputType" not in fields:
        channel.refuse(f"{dataset.place}.dataInputType", "missing; give DataUrl, DatasetId or DatasetVersion")
        return
    value, place = fields["dataInputType"]
    key = DATASET_KEYS.get(letters(value))
    if key is None:
        names = ("DataUrl", "DatasetId", "DatasetVersion")
        channel.refuse(place, f"must be one of {', '.join(names)}, not {shown(value)}{nearest(value, names)}")
        return
    if key not in fields:
        channel.refuse(f"{dataset.place}.{key}", f"missing; {value} needs it")
        return
    uri = fields[key]
    if key == "datasetName":
        version = fields.get("datasetVersion", Field("", "")).value
        for part in (uri.value, version):
            if isinstance(part, bool) or not isinstance(part, str | int):
                channel.refuse(dataset.place, f"datasetName and datasetVersion must be texts, not {shown(part)}")
                return
        uri = Field(f"azureml:{uri.value}:{version}" if version else f"azureml:{uri.value}@latest", uri.place)
    channel.notice(dataset.place, "is deprecated in Azure ML; inputData takes the same input")
    channel.give("input", *uri)


def read_output(channel: Channel, fields: dict[str, Field]) -> None:
    """Give the output to the channel, if there is one; its name is ignored."""
    if "outputData" in fields and "outputDataset" in fields:
        place = fields["outputDataset"].place
        channel.refuse(place, "contradicts outputData; give outputData alone, outputDataset is its deprecated form")
    elif "outputDataset" in fields:
        _read_output_dataset(channel, fields["outputDataset"])
    elif "outputData" in fields:
        entry = _only_entry(channel, fields["outputData"], "writes one output", least=0)
        if entry:
            _read_job_output(channel, entry)


def _read_job_output(channel: Channel, entry: Field) -> None:
    fields = fields_of(channel, entry, ("jobOutputType", "uri", "mode"), also=("description",))
    if fields is None:
        return
    if "jobOutputType" not in fields:
        channel.refuse(f"{entry.place}.jobOutputType", "missing; give UriFile")
    elif letters(fields["jobOutputType"].value) != "urifile":
        channel.refuse(fields["jobOutputType"].place, OUTPUT_TYPE.format(file="UriFile"))
    _take_mode(channel, fields.get("mode"), "has no effect here: the output is written once, at the end")
    if "uri" in fields:
        channel.give("output", *fields["uri"])


def _read_output_dataset(channel: Channel, dataset: Field) -> None:
    """Read the deprecated form of an output: a folder of a datastore."""
    ignored = ("datasetType", "description", "isAnonymous", "properties", "tags")
    fields = fields_of(channel, dataset, ("datastoreId", "path"), also=ignored)
    if fields is None:
        return
    missing = [key for key in ("datastoreId", "path") if key not in fields]
    for key in missing:
        channel.refuse(f"{dataset.place}.{key}", "missing; outputDataset needs datastoreId and path")
    if not missing:
        channel.notice(dataset.place, "is deprecated in Azure ML; outputData takes the same output")
        try:
            folder = datastore_folder(fields["datastoreId"].value, fields["path"].value)
        except ValueError as problem:
            channel.refuse(dataset.place, str(problem))
        else:
            channel.give("output", folder, dataset.place)


def datastore_folder(datastore: Any, path: Any) -> str:
    """Return the URI of a folder of a datastore, which is named or given by its ARM id (contract 6.4).

    Raises:
        ValueError: the datastore is neither, or the path no text.
    """
    if not isinstance(path, str):
        raise ValueError(f"the path must be a text, not {shown(path)}")  # noqa: TRY004 - a value of the body
    text = datastore.strip().rstrip("/") if isinstance(datastore, str) else ""
    inside = f"/paths/{path.strip('/')}".rstrip("/") + "/"
    if re.search(r"/datastores/[^/]+$", text, re.IGNORECASE):
        return text + inside
    name = text.removeprefix("azureml:")
    if re.fullmatch(r"[A-Za-z0-9_-]+", name):
        return f"azureml://datastores/{name}{inside}"
    raise ValueError("the datastore must be its name or its ARM id (/subscriptions/…/datastores/<name>)")


def _only_entry(channel: Channel, entries: Field, sentence: str, *, least: int) -> Field | None:
    """Return the one entry of a map; its name is ignored."""
    if not isinstance(entries.value, tuple):
        channel.refuse(entries.place, f"must be a map of a name to an entry, not {shown(entries.value)}")
        return None
    if not least <= len(entries.value) <= 1:
        names = ", ".join(name for name, _ in entries.value)
        found = f"{len(entries.value)} ({names})" if names else "none"
        channel.refuse(entries.place, f"a model deployment {sentence}, not {found}")
        return None
    for name, value in entries.value:
        return Field(value, f"{entries.place}.{name}")
    return None


def _take_mode(channel: Channel, mode: Field | None, sentence: str) -> None:
    """Check a mode, and say that it does nothing."""
    if mode is None:
        return
    if letters(mode.value) in {letters(each) for each in MODES}:
        channel.notice(mode.place, f"{mode.value} {sentence}")
    else:
        near = nearest(mode.value, MODES)
        channel.refuse(mode.place, f"must be one of {', '.join(MODES)}, not {shown(mode.value)}{near}")
