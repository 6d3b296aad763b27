"""A deployment and its invocation, put together into the options of a job."""

from __future__ import annotations

import math
import os
from typing import Any

from runtime.deployment import Deployment, Settings, read_deployment
from runtime.errors import UsageError
from runtime.invocation import Invocation, Overrides, apply, from_flags, from_request, merge
from runtime.limits import usable_cpus
from runtime.located import Names, find_input, find_output, given_model, known_names, locate
from runtime.options import OF_WORKSPACES

__all__ = ["INVOCATION", "deployment_options"]

INVOCATION = (
    "request", "file", "set", "mini_batch_size", "instance_count", "deployment_name", "experiment_name", "usual_output",
    *OF_WORKSPACES,
)  # fmt: skip
"""Options of an invocation that are none of a job: they are spent here."""

IN_THE_FILE = ("output_action", "environment_variables", "code", "scoring_script", "arguments")
"""Options that only the deployment's file says (contract 6.2)."""

INIT_LEAST_S = 600
NOT_FOR_SCRIPTS = (
    ("keep", ()), ("method", "predict"), ("params", ()), ("types", ()), ("date_format", None), ("strict", False),
    ("chunk_rows", None), ("cells_per_mini_batch", None), ("limit", None), ("delimiter", ","), ("encoding", "utf-8"),
    ("input_format", None), ("input_header", True), ("input_columns", ()), ("max_quarantined", None),
)  # fmt: skip
"""Options that say how rows are read and scored, which a script does itself, and what they are unless given."""


def deployment_options(given: dict[str, Any]) -> dict[str, Any]:
    """Turn a deployment, what it is invoked with, and the options given beside into the options of a job.

    An option given wins over the invocation, and that over the deployment.

    Args:
        given: options as `runtime.run` takes them, ``deployment`` among them; ``usual_output`` is the output where
            neither an option nor the invocation says one.

    Raises:
        DeploymentError: the deployment or the invocation is wrong; with all that is wrong.
        UsageError: they do not go together, or name what is not known here.
    """
    for name in IN_THE_FILE:
        if given.get(name):
            raise UsageError(f"{name}: no invocation can override it; set it in the deployment's YAML")
    options = {name: value for name, value in given.items() if name not in INVOCATION}
    deployment = read_deployment(os.fspath(given["deployment"]), model_is_given=bool(given.get("model")))
    invocation = _invocation(given)
    if deployment.name and invocation.deployment_name not in ("", deployment.name):
        raise UsageError(
            f"--deployment-name {invocation.deployment_name}: {deployment.file} is the deployment {deployment.name}"
        )
    names = known_names(given, (os.path.dirname(os.path.abspath(deployment.file)), os.getcwd()))
    settings = _settings(deployment, invocation, given)
    notices = [*(f"warning: {text}" for text in deployment.warnings), *invocation.notices]
    options["deployment"] = deployment.file
    options |= given_model(given["model"], names) if given.get("model") else _model(deployment, names)
    if not invocation.input:
        raise UsageError("--input is missing (or inputs in --file, or inputData in --request)")
    options |= find_input(invocation.input, invocation.input_type, names)
    if invocation.job_name:
        options["job_name"] = invocation.job_name
    options |= find_output(invocation.output or given.get("usual_output") or "", settings.output_file_name, names)
    # of two options that contradict each other, the one that was given wins
    options.setdefault("strict", deployment.strict and not given.get("chunk_rows"))
    if deployment.chunk_rows is not None and not options["strict"]:
        options.setdefault("chunk_rows", deployment.chunk_rows)
    options |= {
        "mini_batch_size": settings.mini_batch_size,
        "error_threshold": settings.error_threshold,
        "max_retries": settings.retry_settings.max_retries,
        "output_action": settings.output_action,
        "logging_level": settings.logging_level,
        "environment_variables": settings.environment_variables,
    }
    options.setdefault("timeout_s", float(settings.retry_settings.timeout_s))
    options.setdefault("output_format", "azureml")
    if deployment.code_configuration is None:
        rule = _no_code(options, settings)
        if invocation.experiment_name:
            notices.append(f"--experiment-name {invocation.experiment_name}: has no effect without a scoring script")
    else:
        rule = _script(options, deployment, settings, names, given)
        if invocation.experiment_name:
            experiment = ("MLFLOW_EXPERIMENT_NAME", invocation.experiment_name)
            options["environment_variables"] = (experiment, *options["environment_variables"])
        if settings.output_action == "summary_only" and (
            given.get("output_file_name") or invocation.overrides.output_file_name
        ):
            notices.append(
                "output_file_name: has no effect with output_action summary_only, for the script names files"
            )
    options["notices"] = (*notices, rule)
    return options


def _settings(deployment: Deployment, invocation: Invocation, given: dict[str, Any]) -> Settings:
    """Give the settings of the deployment with the invocation's in, and with the options given above them."""
    names = ("error_threshold", "max_retries", "logging_level", "output_file_name")
    over = {name: given[name] for name in names if given.get(name) is not None}
    if given.get("timeout_s") is not None:
        over["timeout_s"] = math.ceil(given["timeout_s"])
    return apply(Overrides(**over), apply(invocation.overrides, deployment.settings))


def _invocation(given: dict[str, Any]) -> Invocation:
    flags = from_flags(
        input=os.fspath(given.get("input") or ""),
        input_type=given.get("input_type") or "",
        output_path=os.fspath(given.get("output") or ""),
        mini_batch_size=given.get("mini_batch_size"),
        instance_count=given.get("instance_count"),
        file=os.fspath(given.get("file") or ""),
        settings=given.get("set") or (),
        deployment_name=given.get("deployment_name") or "",
        experiment_name=given.get("experiment_name") or "",
        job_name=given.get("job_name") or "",
    )
    request = given.get("request")
    return merge(flags, from_request(os.fspath(request))) if request else flags


def _model(deployment: Deployment, names: Names) -> dict[str, Any]:
    """Find the model that the file of the deployment names (contract 7.3)."""
    model = deployment.model
    if model.type == "triton_model":
        raise UsageError(f"{deployment.file}: model.type triton_model is not scored here; use mlflow_model or a script")
    text = model.path or model.reference
    if not text:
        return {"model": ""}
    try:
        return locate(text, names, "model", relative_to=os.path.dirname(os.path.abspath(deployment.file)))
    except UsageError as error:
        raise UsageError(f"{deployment.file}: model: {error}\nor give --model PATH") from None


def _no_code(options: dict[str, Any], settings: Settings) -> str:
    """Score by the MLflow model alone; return the sentence that says by which rule."""
    if settings.output_action == "summary_only":
        raise UsageError(
            "output_action summary_only needs a scoring script, for a model writes no output of its own; use append_row"
        )
    # how many there are where nobody says is chosen later, when more is known
    workers = options.get("workers") or usable_cpus()
    many = f"{workers} worker{'s' * (workers > 1)}"
    if options["strict"]:
        return f"{many}; strict: one predict per file, {settings.mini_batch_size} files a mini-batch, as in Azure ML"
    if options.get("chunk_rows") == 0:
        return f"{many}; one predict per file"
    return f"{many}; rows are cut and grouped (--strict scores file by file, as Azure ML does)"


def _script(
    options: dict[str, Any],
    deployment: Deployment,
    settings: Settings,
    names: Names,
    given: dict[str, Any],
) -> str:
    """Score by the scoring script; return the sentence that says by which rule."""
    code = deployment.code_configuration
    assert code is not None
    for name, usual in NOT_FOR_SCRIPTS:
        value = given.get(name, usual)
        if value is not None and value != usual and (value or usual):
            raise UsageError(
                f"--{name.replace('_', '-')}: {deployment.file} has a scoring script, which reads and scores itself"
            )
    folder = os.path.dirname(os.path.abspath(deployment.file))
    try:
        options |= locate(code.code, names, "code", relative_to=folder)
    except UsageError as error:
        raise UsageError(f"{deployment.file}: code_configuration.code: {error}") from None
    asked = settings.instance_count * settings.max_concurrency_per_instance
    given_workers = options.get("workers")
    workers = options["workers"] = given_workers or min(asked, usable_cpus())
    options["scoring_script"] = code.scoring_script
    options.setdefault("init_timeout_s", float(max(INIT_LEAST_S, 3 * settings.retry_settings.timeout_s + 30)))
    # the names of Azure ML's driver, which scripts may look for (contract 2.4)
    options["arguments"] = (
        "--mini_batch_size", str(settings.mini_batch_size),
        "--error_threshold", str(settings.error_threshold),
        "--output_action", settings.output_action,
        "--logging_level", settings.logging_level,
        "--run_invocation_timeout", str(settings.retry_settings.timeout_s),
        "--run_max_try", str(settings.retry_settings.max_retries + 1),
        "--append_row_file_name", options["output_file_name"],
        "--process_count_per_node", str(settings.max_concurrency_per_instance),
        "--scoring_module_name", code.scoring_script,
    )  # fmt: skip
    options["strict"] = False
    options.pop("chunk_rows", None)
    few = workers < asked and not given_workers
    limited = f" (asked for {asked}, this machine has {usable_cpus()} CPUs)" if few else ""
    return (
        f"{workers} worker{'s' * (workers > 1)}{limited}; {code.scoring_script} gets {settings.mini_batch_size} "
        f"file{'s' * (settings.mini_batch_size > 1)} a call"
    )
