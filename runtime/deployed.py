"""A deployment and its invocation, put together into the options of a job."""

from __future__ import annotations

import os
from typing import Any

from runtime.deployment import Deployment, Settings, read_deployment
from runtime.errors import UsageError
from runtime.invocation import Invocation, apply, from_flags, from_request, merge
from runtime.limits import usable_cpus
from runtime.uris import BlobPath, LocalPath, PublicFile, Uri, parse_uri, split_output
from runtime.workspace import Workspace, declared_input_type, read_workspace, resolve

__all__ = ["INVOCATION", "deployment_options"]

INVOCATION = (
    "request", "file", "set", "mini_batch_size", "instance_count", "deployment_name", "experiment_name", "workspace",
)  # fmt: skip
"""Options of an invocation that are none of a job: they are spent here."""

INIT_LEAST_S = 600
NOT_FOR_SCRIPTS = (
    ("keep", ()), ("method", "predict"), ("params", ()), ("types", ()), ("date_format", None), ("strict", False),
    ("chunk_rows", None), ("cells_per_mini_batch", None), ("limit", None), ("delimiter", ","), ("encoding", "utf-8"),
    ("input_format", None), ("input_columns", ()), ("max_quarantined", None),
)  # fmt: skip
"""Options that say how rows are read and scored, which a script does itself, and what they are unless given."""


def deployment_options(given: dict[str, Any]) -> dict[str, Any]:
    """Turn a deployment, what it is invoked with, and the options given beside into the options of a job.

    An option given wins over the invocation, and that over the deployment.

    Args:
        given: options as `runtime.run` takes them, ``deployment`` among them.

    Raises:
        DeploymentError: the deployment or the invocation is wrong; with all that is wrong.
        UsageError: they do not go together, or name what is not known here.
    """
    options = {name: value for name, value in given.items() if name not in INVOCATION}
    deployment = read_deployment(os.fspath(given["deployment"]), model_is_given=bool(given.get("model")))
    invocation = _invocation(given)
    if invocation.deployment_name not in ("", deployment.name):
        raise UsageError(
            f"--deployment-name {invocation.deployment_name}: {deployment.file} is the deployment {deployment.name}"
        )
    workspace = _workspace(given.get("workspace"), deployment.file)
    settings = apply(invocation.overrides, deployment.settings)
    notices = [*(f"warning: {text}" for text in deployment.warnings), *invocation.notices]
    options["deployment"] = deployment.file
    options["model"] = options.get("model") or _model(deployment, workspace)
    options |= _input(invocation, workspace)
    if invocation.job_name:
        options["job_name"] = invocation.job_name
    options |= _output(invocation.output, settings, options, workspace)
    options.setdefault("strict", deployment.strict)
    if deployment.chunk_rows is not None and not options["strict"]:
        options.setdefault("chunk_rows", deployment.chunk_rows)
    options |= {
        "mini_batch_size": settings.mini_batch_size,
        "error_threshold": settings.error_threshold,
        "max_retries": settings.retry_settings.max_retries,
        "timeout_s": options.get("timeout_s") or float(settings.retry_settings.timeout_s),
        "output_action": settings.output_action,
        "logging_level": settings.logging_level,
        "environment_variables": settings.environment_variables,
    }
    options.setdefault("output_format", "azureml")
    if deployment.code_configuration is None:
        rule = _no_code(options, settings)
    else:
        rule = _script(options, deployment, settings, workspace, given)
        if invocation.experiment_name:
            experiment = ("MLFLOW_EXPERIMENT_NAME", invocation.experiment_name)
            options["environment_variables"] = (experiment, *options["environment_variables"])
    options["notices"] = (*notices, rule)
    return options


def _invocation(given: dict[str, Any]) -> Invocation:
    flags = from_flags(
        input=given.get("input") or "",
        input_type=given.get("input_type") or "",
        output_path=given.get("output") or "",
        mini_batch_size=given.get("mini_batch_size"),
        instance_count=given.get("instance_count"),
        file=given.get("file") or "",
        settings=given.get("set") or (),
        deployment_name=given.get("deployment_name") or "",
        experiment_name=given.get("experiment_name") or "",
        job_name=given.get("job_name") or "",
    )
    request = given.get("request")
    return merge(flags, from_request(request)) if request else flags


def _workspace(given: str | None, deployment_file: str) -> Workspace | None:
    """Read the mapping that was named, else the one beside the deployment or here."""
    if given:
        return read_workspace(given)
    for folder in (os.path.dirname(os.path.abspath(deployment_file)), os.getcwd()):
        path = os.path.join(folder, "workspace.yml")
        if os.path.isfile(path):
            return read_workspace(path)
    return None


def _location(uri: Uri, what: str) -> str:
    """Give the local path of a URI that was resolved, as long as other places are not served."""
    match uri:
        case LocalPath():
            return uri.path
        case BlobPath() | PublicFile():
            raise UsageError(f"{what} {uri}: is not read or written yet; use a local path or a file: URL")
    return str(uri)


def _model(deployment: Deployment, workspace: Workspace | None) -> str:
    model = deployment.model
    if model.type == "triton_model":
        raise UsageError(f"{deployment.file}: model.type triton_model is not scored here; use mlflow_model or a script")
    text = model.path or model.reference
    if not text:
        return ""
    uri = parse_uri(text, relative_to=os.path.dirname(os.path.abspath(deployment.file)))
    try:
        return _location(resolve(uri, workspace, purpose="model"), "model")
    except UsageError as error:
        raise UsageError(f"{deployment.file}: model: {error}; or give --model PATH") from None


def _input(invocation: Invocation, workspace: Workspace | None) -> dict[str, str]:
    if not invocation.input:
        raise UsageError("--input is missing (or inputs in --file, or inputData in --request)")
    uri = parse_uri(invocation.input)
    kind = invocation.input_type or (declared_input_type(uri, workspace) or "")
    return {"input": _location(resolve(uri, workspace, purpose="input"), "--input"), "input_type": kind}


def _output(output: str, settings: Settings, options: dict[str, Any], workspace: Workspace | None) -> dict[str, str]:
    """Find the folder and the file of the output (contract 6.4)."""
    name = options.get("output_file_name") or settings.output_file_name
    if not output:
        return {"output": "", "output_file_name": name}
    folder, name = split_output(parse_uri(output), name)
    return {"output": _location(resolve(folder, workspace, purpose="output"), "--output"), "output_file_name": name}


def _no_code(options: dict[str, Any], settings: Settings) -> str:
    """Score by the MLflow model alone; return the sentence that says by which rule."""
    if settings.output_action == "summary_only":
        raise UsageError(
            "output_action summary_only needs a scoring script, for a model writes no output of its own; use append_row"
        )
    workers = options["workers"] = options.get("workers") or usable_cpus()
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
    workspace: Workspace | None,
    given: dict[str, Any],
) -> str:
    """Score by the scoring script; return the sentence that says by which rule."""
    code = deployment.code_configuration
    assert code is not None
    for name, usual in NOT_FOR_SCRIPTS:
        if given.get(name, usual) not in (usual, None, (), "", False):
            raise UsageError(
                f"--{name.replace('_', '-')}: {deployment.file} has a scoring script, which reads and scores itself"
            )
    folder = os.path.dirname(os.path.abspath(deployment.file))
    path = _location(resolve(parse_uri(code.code, relative_to=folder), workspace, purpose="code"), "code")
    asked = settings.instance_count * settings.max_concurrency_per_instance
    given_workers = options.get("workers")
    workers = options["workers"] = given_workers or min(asked, usable_cpus())
    options["code"] = os.path.abspath(path)
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
