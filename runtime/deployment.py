"""The deployment file of Azure ML, read and checked (contract section 1): YAML in both layouts, the REST form."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from runtime.deployment_code import CodeConfiguration, read_code_configuration, read_environment
from runtime.deployment_model import ModelReference, read_model
from runtime.deployment_section import Section, read_section, shown
from runtime.deployment_settings import SETTINGS, RetrySettings, Settings, read_settings

__all__ = ["CodeConfiguration", "Deployment", "ModelReference", "RetrySettings", "Settings", "read_deployment"]

ROOT = (
    "name", "endpoint_name", "description", "type", "tags", "properties", "model", "code_configuration",
    "environment", "compute", "resources", "settings",
)  # fmt: skip
READ_ONLY = ("$schema", "id", "provisioning_state", "creation_context", "resourceGroup")

REST_ROOT = ("name", "id", "type", "location", "identity", "kind", "sku", "system_data", "tags", "properties")
REST_PROPERTIES = (
    "model", "code_configuration", "environment_id", "environment_variables", "compute", "resources",
    "error_threshold", "logging_level", "max_concurrency_per_instance", "mini_batch_size", "output_action",
    "output_file_name", "retry_settings", "properties", "description", "deployment_configuration",
)  # fmt: skip

# Where a key belongs that people look for in another place.
PLACES = {
    "max_retries": "settings.retry_settings.max_retries",
    "timeout": "settings.retry_settings.timeout",
    "code": "code_configuration.code",
    "scoring_script": "code_configuration.scoring_script",
    "instance_type": "resources.instance_type",
    "image": "environment.image",
    "conda_file": "environment.conda_file",
    "path": "model.path",
}
ENDPOINT_NAME = re.compile(r"(?=.{3,32}$)[a-zA-Z][-a-zA-Z0-9]*[a-zA-Z0-9]")
YAML_ONLY = frozenset({*ROOT, *SETTINGS}) - {"name", "type", "tags", "properties"}
DROPPED_AT_ROOT = ("error_threshold", "environment_variables")
TAG_PREFIX = "scoreline."
TAGS = ("scoreline.chunk_rows", "scoreline.strict")
PIPELINE = (
    "pipeline deployments are not run here; write a deployment with type: model for each scoring step "
    "and run them one after the other, or leave the pipeline to Azure ML"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A deployment file, read (contract 1.2).

    Attributes:
        file: the file, as it was named.
        name: of the deployment; empty only in the REST form, where the URL has it.
        endpoint_name: of the endpoint; empty only in the REST form.
        description: free text.
        tags: as (name, text as written).
        model: what scores.
        code_configuration: the scoring script; none for MLflow models that are scored without.
        environment: a reference as written, or the name or image of an inline one; informative.
        compute: as written; informative.
        settings: how the job runs.
        chunk_rows: the tag ``scoreline.chunk_rows``: rows of one call of ``predict``, 0 for a whole file.
        strict: the tag ``scoreline.strict``: one call of ``predict`` for each file, as Azure ML does.
        warnings: what Azure ML would do differently with this file, a sentence each.
    """

    file: str
    name: str
    endpoint_name: str
    description: str
    tags: tuple[tuple[str, str], ...]
    model: ModelReference
    code_configuration: CodeConfiguration | None
    environment: str
    compute: str
    settings: Settings
    chunk_rows: int | None = None
    strict: bool = False
    warnings: tuple[str, ...] = ()


def read_deployment(path: str, *, model_is_given: bool = False) -> Deployment:
    """Read a deployment file: YAML in either layout, or the JSON of Azure's REST interface.

    Args:
        path: the file; relative paths inside it are relative to its folder.
        model_is_given: another model will be used than the file's, so that a local one need not be there.

    Raises:
        DeploymentError: with all that is wrong, in the order of the file.
    """
    root = read_section(path)
    problems = root.problems
    folder = os.path.dirname(os.path.abspath(path))
    if _is_rest(root):
        top, root, inner = _rest_sections(root)
    else:
        top, inner = root, _yaml_settings(root)
    name, endpoint_name = _names(top)
    model = read_model(root, folder, must_exist=not model_is_given)
    code = read_code_configuration(root, folder)
    settings = read_settings(root, inner)
    script = root.entry("code_configuration")
    if script is None or script.value.bare:
        _check_no_code(root, inner, model, settings)
    tags = top.pairs("tags") or ()
    chunk_rows, strict = _own_tags(top)
    root.section("properties")
    deployment = Deployment(
        file=path,
        name=name,
        endpoint_name=endpoint_name,
        description=root.text("description") or "",
        tags=tags,
        model=model or ModelReference(),
        code_configuration=code,
        environment=read_environment(root),
        compute=root.filled("compute") or "",
        settings=settings,
        chunk_rows=chunk_rows,
        strict=strict,
        warnings=() if root.rest else tuple(_warnings(root, inner)),
    )
    problems.raise_any()
    return deployment


def _yaml_settings(root: Section) -> Section | None:
    """Check the keys at the root, and return those under ``settings``."""
    kind = root.choice("type", ("model", "pipeline"))
    if kind == "pipeline":
        root.refuse("type", PIPELINE)
        # What else is in it are the keys of another kind of file
        root.problems.raise_any()
    places = PLACES | {name: f"settings.{name}" for name in SETTINGS}
    if _is_model(root):
        root.refuse_unknown(ROOT, ignored=(*READ_ONLY, *SETTINGS), places=places)
    else:
        root.refuse_unknown((*ROOT, *SETTINGS), ignored=READ_ONLY, places=PLACES)
    if _is_model(root):
        root.require("compute", "type: model needs it in Azure ML; here it is not used, so any azureml:<name> will do")
    inner = root.section("settings")
    if inner is not None:
        inner.refuse_unknown(SETTINGS, places=PLACES | {name: name for name in ROOT})
    return inner


def _rest_sections(root: Section) -> tuple[Section, Section, None]:
    """Return the root and the ``properties`` of the REST form (contract 1.4), which has no ``settings``."""
    top = Section(root.entries.values(), key="", line=1, problems=root.problems, rest=True)
    top.refuse_unknown(REST_ROOT, ignored=("$schema",), places={})
    properties = top.section("properties") or Section((), key="properties", line=1, problems=root.problems, rest=True)
    kind = properties.section("deployment_configuration")
    if kind is not None and (kind.text("deployment_configuration_type") or "").lower().startswith("pipeline"):
        kind.refuse("deployment_configuration_type", PIPELINE)
        root.problems.raise_any()
    properties.refuse_unknown(REST_PROPERTIES, ignored=("provisioning_state",), places={})
    return top, properties, None


def _is_rest(root: Section) -> bool:
    """Tell the REST form by its root: all that says what the deployment is stands under ``properties``."""
    entry = root.entry("properties")
    return entry is not None and entry.value.kind == "a mapping" and not set(root.entries) & YAML_ONLY


def _is_model(root: Section) -> bool:
    entry = root.entry("type")
    return entry is not None and entry.value.text.lower() == "model"


def _names(top: Section) -> tuple[str, str]:
    """Return the names of the deployment and its endpoint."""
    if top.rest:
        named = re.search(r"/batchEndpoints/([^/]+)/deployments/([^/]+)/?$", top.text("id") or "", re.IGNORECASE)
        endpoint_name, name = named.groups() if named else ("", "")
        return (top.text("name") or name).rpartition("/")[2], endpoint_name
    top.require("name", "give the name of the deployment")
    top.require("endpoint_name", "give the name of the endpoint; here it is not used, so any will do")
    name, endpoint_name = top.filled("name") or "", top.filled("endpoint_name") or ""
    if endpoint_name and not ENDPOINT_NAME.fullmatch(endpoint_name):
        top.refuse(
            "endpoint_name",
            f"{shown(endpoint_name)} is no name of an endpoint: 3 to 32 letters, digits and hyphens, "
            "the first a letter, the last no hyphen",
        )
    return name, endpoint_name


def _check_no_code(root: Section, inner: Section | None, model: ModelReference | None, settings: Settings) -> None:
    """Check what holds without a scoring script: an MLflow model, and rows to append (contract 4.1 and 4.3)."""
    if model is not None and not model.reference and model.type != "mlflow_model":
        kind = f"a {model.type}" if model.type else "a model without a type is a custom_model, which"
        root.problems.add(
            root.line,
            "code_configuration",
            f"missing; {kind} needs a scoring script; for an MLflow model write model.type: mlflow_model",
        )
    if settings.output_action == "summary_only":
        place = inner if inner is not None and inner.entry("output_action") else root
        place.refuse("output_action", "summary_only needs a scoring script that writes the output; write append_row")


def _own_tags(top: Section) -> tuple[int | None, bool]:
    """Return the tags that are ours: ``scoreline.chunk_rows`` and ``scoreline.strict``."""
    tags = top.section("tags", "a mapping of names to values", as_written=True)
    if tags is None:
        return None, False
    own = [entry for name, entry in tags.entries.items() if name.startswith(TAG_PREFIX)]
    ours = Section(own, key=tags.key, line=tags.line, problems=tags.problems)
    ours.refuse_unknown(TAGS, places={})
    chunk_rows = ours.whole("scoreline.chunk_rows", least=0)
    return chunk_rows, ours.truth("scoreline.strict") or False


def _warnings(root: Section, inner: Section | None) -> Iterator[str]:
    """Say which keys at the root are not what Azure ML takes beside ``type: model`` (contract 1.1)."""
    if not _is_model(root):
        return
    for name in SETTINGS:
        entry = root.entry(name)
        if entry is None or (inner is not None and inner.entry(name)):
            continue
        effect = "silently ignores" if name in DROPPED_AT_ROOT else "refuses"
        yield root.problems.sentence(
            entry.line, entry.key, f"applied here, but Azure ML {effect} it at the root beside type: model; "
            f"move it to settings.{name}",
        )  # fmt: skip
