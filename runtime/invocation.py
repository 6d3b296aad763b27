"""One invocation of a deployment: its input, its output, and what it overrides (contract section 6).

flags, --set, --file      the command line, by the names of `az ml batch-endpoint invoke`
--request body.json       the REST body, as documented or as the SDK sends it
merge                     both, where they do not contradict each other
apply                     the settings of the deployment with the overrides in
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from runtime.channel import SECRET, Channel
from runtime.errors import DeploymentError
from runtime.inputs_file import read_named
from runtime.request import read_request

if TYPE_CHECKING:
    from runtime.deployment import Settings

__all__ = ["Invocation", "Overrides", "apply", "from_flags", "from_request", "merge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Settings of a deployment that one invocation has otherwise (contract 6.2); None where it says nothing.

    Attributes:
        mini_batch_size: files of one call.
        instance_count: nodes.
        max_concurrency_per_instance: workers of each node.
        output_file_name: name of the score file.
        max_retries: attempts after the first.
        timeout_s: seconds one call may take.
        error_threshold: failed files that the job survives; -1 for any number.
        logging_level: warning, info or debug.
    """

    mini_batch_size: int | None = None
    instance_count: int | None = None
    max_concurrency_per_instance: int | None = None
    output_file_name: str | None = None
    max_retries: int | None = None
    timeout_s: int | None = None
    error_threshold: int | None = None
    logging_level: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What is asked of a deployment; an empty text where nothing was said.

    Attributes:
        input: path or URI as written; it may carry a SAS token.
        input_type: uri_folder or uri_file.
        output: path or URI as written, a file or a folder (contract 6.4); it may carry a SAS token.
        deployment_name: the deployment that is asked.
        experiment_name: of the job.
        job_name: of the job.
        overrides: of the deployment's settings.
        notices: what was accepted and has no effect here, a sentence each.
    """

    input: str = field(default="", repr=False)
    input_type: str = ""
    output: str = field(default="", repr=False)
    deployment_name: str = ""
    experiment_name: str = ""
    job_name: str = ""
    overrides: Overrides = Overrides()
    notices: tuple[str, ...] = ()


TEXTS = ("input", "input_type", "output", "deployment_name", "experiment_name", "job_name")
OVERRIDES = tuple(each.name for each in fields(Overrides))


def from_flags(
    *,
    input: str = "",  # noqa: A002 - it is the flag's name
    input_type: str = "",
    output_path: str = "",
    mini_batch_size: int | None = None,
    instance_count: int | None = None,
    file: str = "",
    settings: Sequence[str] = (),
    deployment_name: str = "",
    experiment_name: str = "",
    job_name: str = "",
) -> Invocation:
    """Return what the flags of the command line ask for (contract 6.2).

    Args:
        input: `--input`.
        input_type: `--input-type`.
        output_path: `--output-path`.
        mini_batch_size: `--mini-batch-size`.
        instance_count: `--instance-count`.
        file: `--file`, the path of inputs.yml.
        settings: each `--set`, as key=value.
        deployment_name: `--deployment-name`.
        experiment_name: `--experiment-name`.
        job_name: `--job-name`.

    Raises:
        DeploymentError: with all that is wrong.
        UsageError: the file cannot be read, or is no YAML.
    """
    channel = Channel()
    flags = (
        ("input", input, "--input"),
        ("input_type", input_type, "--input-type"),
        ("output", output_path, "--output-path"),
        ("mini_batch_size", mini_batch_size, "--mini-batch-size"),
        ("instance_count", instance_count, "--instance-count"),
        ("deployment_name", deployment_name, "--deployment-name"),
        ("experiment_name", experiment_name, "--experiment-name"),
        ("job_name", job_name, "--job-name"),
    )
    for name, value, flag in flags:
        if value not in ("", None):
            channel.give(name, value, flag)
    read_named(channel, file, settings)
    return _invocation(channel)


def from_request(file: str) -> Invocation:
    """Return what the body of a REST invocation asks for (contract 6.1).

    Args:
        file: a JSON file; ``-`` for standard input.

    Raises:
        DeploymentError: with all that is wrong.
        UsageError: it cannot be read, or is no JSON.
    """
    return _invocation(read_request(file))


def merge(flags: Invocation, request: Invocation) -> Invocation:
    """Return what both ask for together.

    Raises:
        DeploymentError: both say the same thing differently.
    """
    problems = []
    values = _given(request, TEXTS) | _given(request.overrides, OVERRIDES)
    for name, value in (_given(flags, TEXTS) | _given(flags.overrides, OVERRIDES)).items():
        if values.setdefault(name, value) != value:
            both = "" if name in SECRET else f" ({value} and {values[name]})"
            problems.append(f"{name}: the flags and the request contradict each other{both}; give it once")
    if problems:
        raise DeploymentError(problems)
    return _of_values(values, flags.notices + request.notices)


def apply(overrides: Overrides, settings: Settings) -> Settings:
    """Return the settings of a deployment with the overrides of an invocation in (contract 6.2)."""
    given = _given(overrides, OVERRIDES)
    retry = {name: given.pop(name) for name in ("max_retries", "timeout_s") if name in given}
    if retry:
        given["retry_settings"] = dataclasses.replace(settings.retry_settings, **retry)
    return dataclasses.replace(settings, **given)


def _given(said: Invocation | Overrides, names: Sequence[str]) -> dict[str, Any]:
    """Return what was said, and leave out what was not."""
    return {name: getattr(said, name) for name in names if getattr(said, name) not in ("", None)}


def _invocation(channel: Channel) -> Invocation:
    channel.check()
    return _of_values(channel.values, tuple(channel.notices))


def _of_values(values: dict[str, Any], notices: tuple[str, ...]) -> Invocation:
    overrides = Overrides(**{name: values[name] for name in OVERRIDES if name in values})
    texts = {name: values[name] for name in TEXTS if name in values}
    return Invocation(**texts, overrides=overrides, notices=notices)
