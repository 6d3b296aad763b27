"""The body of a REST invocation, as documented or as the SDK sends it (contract 6.1)."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

from runtime.channel import Channel, shown
from runtime.request_data import read_input, read_output
from runtime.request_fields import Field, fields_of, read_json, without_effect

__all__ = ["duration_s", "read_request"]

PROPERTIES = (
    "inputData", "outputData", "dataset", "outputDataset", "outputFileName", "miniBatchSize", "errorThreshold",
    "loggingLevel", "maxConcurrencyPerInstance", "retrySettings", "compute", "partitionKeys", "name", "description",
    "tags", "properties",
)  # fmt: skip
READ_ONLY = ("status", "provisioningState", "interactionEndpoints", "output")
READ_ONLY_ENVELOPE = ("id", "name", "type", "systemData")

VALUES = {
    "outputFileName": "output_file_name",
    "miniBatchSize": "mini_batch_size",
    "errorThreshold": "error_threshold",
    "loggingLevel": "logging_level",
    "maxConcurrencyPerInstance": "max_concurrency_per_instance",
    "name": "job_name",
}
ELSEWHERE = {
    "instancecount": "belongs below compute: properties.compute.instanceCount",
    "maxretries": "belongs below retrySettings: properties.retrySettings.maxRetries",
    "timeout": "belongs below retrySettings: properties.retrySettings.timeout",
    "experimentname": "belongs below properties: properties.properties.experimentName",
    **dict.fromkeys(
        ("outputaction", "environmentvariables", "model", "codeconfiguration", "scoringscript", "environmentid"),
        "no invocation can override it; set it in the deployment's YAML",
    ),
}

NUMBER = r"([0-9]{1,9}(?:[.,][0-9]{1,9})?)"
DURATION = re.compile(rf"P(?:{NUMBER}W)?(?:{NUMBER}D)?(?:T(?:{NUMBER}H)?(?:{NUMBER}M)?(?:{NUMBER}S)?)?")
SECONDS = (604_800, 86_400, 3_600, 60, 1)


def read_request(file: str) -> Channel:
    """Read the body of a REST invocation.

    Args:
        file: a JSON file; ``-`` for standard input.

    Raises:
        UsageError: it cannot be read, or is no JSON.
    """
    shown_file = "standard input" if file == "-" else file
    body = read_json(file, shown_file)
    channel = Channel()
    if not isinstance(body, tuple):
        channel.refuse(shown_file, f'the body must be {{"properties": {{…}}}}, not {shown(body)}')
        return channel
    misplaced = {each.lower() for each in (*PROPERTIES, *READ_ONLY)} - {"name", "properties"}
    for key, _ in body:
        if key.lower() in misplaced:
            channel.refuse(f"{shown_file}: {key}", f"belongs below properties: properties.{key}")
    rest = tuple((key, value) for key, value in body if key.lower() not in misplaced)
    envelope = fields_of(channel, Field(rest, shown_file), ("properties",), also=READ_ONLY_ENVELOPE, top=True) or {}
    without_effect(channel, envelope, READ_ONLY_ENVELOPE, "the service sets it; it has no effect in a request")
    if "properties" in envelope:
        _read_properties(channel, envelope["properties"])
    elif not channel.problems:
        channel.refuse(f"{shown_file}: properties", "missing; what the job shall do goes below it")
    return channel


def _read_properties(channel: Channel, properties: Field) -> None:
    fields = fields_of(channel, properties, PROPERTIES, also=READ_ONLY, elsewhere=ELSEWHERE)
    if fields is None:
        return
    for key, name in VALUES.items():
        if key in fields:
            channel.give(name, *fields[key])
    without_effect(channel, fields, READ_ONLY, "the service sets it; it has no effect in a request")
    without_effect(channel, fields, ("description", "tags"), "has no effect on a job of a model deployment")
    if "retrySettings" in fields:
        retry = fields_of(channel, fields["retrySettings"], ("maxRetries", "timeout")) or {}
        if "maxRetries" in retry:
            channel.give("max_retries", *retry["maxRetries"])
        if "timeout" in retry:
            _read_timeout(channel, retry["timeout"])
    if "compute" in fields:
        keys = ("instanceType", "target", "location", "isLocal", "properties")
        compute = fields_of(channel, fields["compute"], ("instanceCount", *keys)) or {}
        if "instanceCount" in compute:
            channel.give("instance_count", *compute["instanceCount"])
        without_effect(channel, compute, keys, "has no effect here: the job runs on this machine")
    if "partitionKeys" in fields and fields["partitionKeys"].value != []:
        channel.refuse(
            fields["partitionKeys"].place,
            "partition keys are not supported; mini-batches are made of files, so write a file for each partition",
        )
    if "properties" in fields:
        _read_job_properties(channel, fields["properties"])
    read_input(channel, fields)
    read_output(channel, fields)


def _read_timeout(channel: Channel, timeout: Field) -> None:
    try:
        exact = duration_s(timeout.value)
    except ValueError as problem:
        channel.refuse(timeout.place, str(problem))
        return
    seconds = math.ceil(exact)
    if seconds != exact:
        channel.notice(timeout.place, f"{timeout.value} is rounded up to {seconds} seconds")
    channel.give("timeout_s", seconds, timeout.place)


def duration_s(text: Any) -> Fraction:
    """Return the seconds of an ISO 8601 duration such as PT30S or PT1H30M.

    Raises:
        ValueError: it is none, or has years or months, whose length nobody knows.
    """
    found = DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if found and any(found.groups()) and not found[0].endswith("T"):
        pairs = zip(found.groups(), SECONDS, strict=True)
        return sum((Fraction(number.replace(",", ".")) * each for number, each in pairs if number), Fraction(0))
    if isinstance(text, str) and re.match(r"P[0-9.,]+[YM]", text):
        raise ValueError(f"{shown(text)} has years or months, which have no fixed length; write days: P30D")
    sentence = f"must be an ISO 8601 duration such as PT30S or PT1H30M, not {shown(text)}"
    if re.fullmatch(r"[0-9]{1,9}", str(text)):
        sentence += f"; for {text} seconds write PT{text}S"
    raise ValueError(sentence)


def _read_job_properties(channel: Channel, properties: Field) -> None:
    """Take experimentName; a job of a model deployment ignores the rest (contract 6.1)."""
    if not isinstance(properties.value, tuple):
        channel.refuse(properties.place, f"must be a map, not {shown(properties.value)}")
        return
    for key, value in properties.value:
        place = f"{properties.place}.{key}"
        if key.lower() == "experimentname":
            if value is not None:
                channel.give("experiment_name", value, place)
        else:
            channel.notice(place, "has no effect on a job of a model deployment")
