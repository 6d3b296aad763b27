"""The model of a deployment, as its file names it (contract 7.3)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from runtime.deployment_section import Section, shown
from runtime.errors import UriError
from runtime.uris import AssetId, AssetName, LocalPath, parse_uri

__all__ = ["ModelReference", "read_model"]

ARM = "/subscriptions/"
MODEL_TYPES = ("custom_model", "mlflow_model", "triton_model")
MODEL_KEYS = ("name", "version", "path", "type", "description", "tags", "properties", "flavors", "stage")
MODEL_READ_ONLY = ("$schema", "id", "utc_time_created", "creation_context", "job_name", "latest_version")
ASSET_NAME = r"[^:@/\\\s]+"
ASSET = re.compile(rf"{ASSET_NAME}(?::[^@/\\\s]+|@{ASSET_NAME})?")
ASSET_PATH = re.compile(r"/(?P<kind>[A-Za-z]+)/[^/]+/(?P<by>versions|labels)/[^/]+(?:/[^/]+)?/?$", re.IGNORECASE)
URI_STARTS = ("subscriptions", "registries", "locations", "resourcegroups", "models", "datastores", "jobs", "feeds")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReference:
    """The model of a deployment (contract 7.3): either a reference, or what is inline.

    Attributes:
        reference: ``azureml:...`` as written, where the model is not inline.
        path: of an inline model: an absolute local path, or a URI as written.
        name: of an inline model.
        version: of an inline model, as written.
        type: of an inline model: custom_model, mlflow_model or triton_model; empty means custom_model.
    """

    reference: str = ""
    path: str = field(default="", repr=False)  # a URL may be signed
    name: str = ""
    version: str = ""
    type: str = ""


def read_model(root: Section, folder: str, *, must_exist: bool) -> ModelReference | None:
    """Read ``model``, in each form of contract 7.3; none where it is missing or wrong.

    Args:
        root: the keys of the deployment.
        folder: what relative paths are relative to.
        must_exist: a local model must be there.
    """
    entry = root.entry("model")
    if entry is None:
        root.require("model", "write azureml:<name>:<version>, or a mapping with the path and type of a local model")
        return None
    if root.rest:
        return _rest_model(root)
    if entry.value.kind == "a text":
        text = root.filled("model", "azureml:<name>:<version> or a mapping with a path")
        wrong = _wrong_reference(text) if text is not None else None
        if wrong is not None:
            root.refuse("model", wrong)
        return None if text is None or wrong is not None else ModelReference(reference=text)
    model = root.section("model", "azureml:<name>:<version> or a mapping with a path")
    return None if model is None else _inline_model(model, folder, must_exist=must_exist)


def _wrong_reference(text: str) -> str | None:
    """Say what is wrong with the reference of a model, and how to write what it means."""
    if text.lower().startswith(ARM):
        return f"a bare ARM id; write azureml:{text}"
    prefix, colon, rest = text.partition(":")
    if not (colon and prefix.lower() == "azureml"):
        if "://" in text or re.match(r"(runs|models|file|folder):", text, re.IGNORECASE):
            return f"{shown(text)} is a place, not a registered model; write it as model.path: model: {{path: ...}}"
        if ASSET.fullmatch(text) and (":" in text or "@" in text):
            return f"a registered model is written with its prefix: azureml:{text}"
        advice = "a registered model is written azureml:<name>:<version>, a local one model: {path: ...}"
        return f"{shown(text)} is neither a reference nor a mapping; {advice}"
    if rest.startswith("//"):
        return _wrong_uri(rest)
    if rest.startswith("/"):
        return _wrong_arm_id(rest)
    if not ASSET.fullmatch(rest):
        return f"{shown(text)} is no reference; write azureml:<name>:<version> or azureml:<name>@latest"
    return None


def _wrong_uri(rest: str) -> str | None:
    start = rest[2:].partition("/")[0]
    if start.lower() not in URI_STARTS:
        if ASSET.fullmatch(rest[2:]):
            return f"a registered model is written without slashes: azureml:{rest[2:]}"
        return f"{shown('azureml:' + rest)} names no model; after azureml:// comes one of {', '.join(URI_STARTS[:-1])}"
    asset = ASSET_PATH.search(rest)
    if asset and asset["kind"].lower() != "models" and not re.search("/(datastores|jobs)/", rest, re.IGNORECASE):
        return f"{shown('azureml:' + rest)} names one of the {asset['kind']}, not a model; write .../models/<name>/..."
    return None


def _wrong_arm_id(rest: str) -> str | None:
    asset = ASSET_PATH.search(rest)
    if not rest.lower().startswith(ARM) or asset is None:
        return (
            f"{shown('azureml:' + rest)} is no ARM id of a model; write "
            "azureml:/subscriptions/.../workspaces/<workspace>/models/<name>/versions/<version>"
        )
    if asset["kind"].lower() != "models":
        return f"{shown('azureml:' + rest)} names one of the {asset['kind']}, not a model"
    if asset["by"].lower() == "labels":
        return "an ARM id takes no label; write .../versions/<version>, or azureml:<name>@<label>"
    return None


def _inline_model(model: Section, folder: str, *, must_exist: bool) -> ModelReference | None:
    model.refuse_unknown(MODEL_KEYS, ignored=MODEL_READ_ONLY, places={})
    for key in ("description", "stage"):
        model.text(key)
    model.pairs("tags")
    for key in ("properties", "flavors"):
        model.section(key)
    name, version = model.filled("name"), model.filled("version")
    kind = model.choice("type", MODEL_TYPES)
    registered = f"azureml:{name}:{version}" if name and version else "azureml:<name>:<version>"
    model.require("path", f"give the model's folder or file, or write model: {registered} for a registered one")
    path = model.filled("path", "the model's folder or file")
    if path is None:
        return None
    try:
        uri = parse_uri(path, relative_to=folder)
    except UriError as error:
        if must_exist:
            model.refuse("path", str(error))
        uri = None
    if isinstance(uri, AssetName | AssetId):
        reference = path if path.lower().startswith("azureml:") else f"azureml:{path}"
        model.refuse("path", f"a registered model is not inline; write it as model: {reference}")
    elif isinstance(uri, LocalPath):
        if must_exist and not os.path.exists(uri.path):
            model.refuse("path", f"{shown(path)}: nothing is there; paths are relative to the folder of this file")
        path = uri.path
    return ModelReference(path=path, name=name or "", version=version or "", type=kind or "")


def _rest_model(root: Section) -> ModelReference | None:
    """Read ``model`` in the REST form: ``{referenceType: Id, assetId}``; a bare ARM id is its usual spelling there."""
    model = root.section("model", "a mapping with referenceType and assetId")
    if model is None:
        return None
    model.refuse_unknown(("reference_type", "asset_id"), places={})
    kind = model.filled("reference_type")
    if kind is not None and kind.lower() != "id":
        model.refuse("reference_type", f"must be Id, not {shown(kind)}; register the model, or write the YAML form")
        return None
    model.require("asset_id", "give the id of the model")
    text = model.filled("asset_id", "the id of a model")
    if text is None:
        return None
    reference = f"azureml:{text}" if text.lower().startswith(ARM) else text
    wrong = _wrong_reference(reference)
    if wrong is not None:
        model.refuse("asset_id", wrong)
    return ModelReference(reference=reference)
