"""The code and the environment of a deployment, as its file names them (contract 1.2)."""

from __future__ import annotations

import difflib
import os
import platform
import warnings
from dataclasses import dataclass, field

from runtime.deployment_section import Section, shown
from runtime.errors import UriError
from runtime.uris import AssetId, AssetName, BlobPath, DatastorePath, LocalPath, parse_uri

__all__ = ["CodeConfiguration", "read_code_configuration", "read_environment"]

BUILD_KEYS = ("path", "dockerfile_path")
ENVIRONMENT_KEYS = (
    "name", "version", "image", "conda_file", "build", "description", "tags", "properties", "os_type",
    "inference_config", "datastore",
)  # fmt: skip
ENVIRONMENT_READ_ONLY = ("$schema", "id", "creation_context", "latest_version")


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeConfiguration:
    """The scoring script of a deployment (contract 1.2).

    Attributes:
        code: the absolute folder of the code, or as written: a reference to a code asset, or a URI on storage.
        scoring_script: the script, relative to it.
    """

    code: str = field(repr=False)  # a URL may be signed
    scoring_script: str


def read_code_configuration(root: Section, folder: str) -> CodeConfiguration | None:
    """Read ``code_configuration``, and check that its script is there and compiles."""
    section = root.section("code_configuration")
    if section is None or root.entries["code_configuration"].value.bare:
        return None
    code_key = "code_id" if root.rest else "code"
    section.refuse_unknown((code_key, "scoring_script"), places={})
    section.require(code_key, "give the folder of the scoring script, relative to this file")
    section.require("scoring_script", "give the script, relative to the folder of the code")
    code = section.filled(code_key, "the folder of the scoring script")
    script = section.filled("scoring_script", "the path of a Python file")
    if script is not None:
        script = _plain_script(section, script)
    if code is None:
        return None
    try:
        uri = parse_uri(code, relative_to=folder)
    except UriError as error:
        section.refuse(code_key, str(error))
        return None
    if isinstance(uri, AssetName | AssetId | BlobPath | DatastorePath):
        return CodeConfiguration(code=code, scoring_script=script) if script is not None else None
    if not isinstance(uri, LocalPath):
        section.refuse(code_key, "cannot hold the code; give a local folder, or one on Azure storage")
        return None
    path = uri.path
    if not os.path.isdir(path):
        what = "a file; give its folder, and the file as scoring_script" if os.path.exists(path) else "no such folder"
        section.refuse(code_key, f"{shown(code)}: {what}; paths are relative to the folder of this file")
        return None
    if script is None:
        return None
    wrong = _wrong_script(path, script)
    if wrong is not None:
        section.refuse("scoring_script", wrong)
    return CodeConfiguration(code=path, scoring_script=script)


def read_environment(root: Section) -> str:
    """Read ``environment``, for information: as written, or the name or image of an inline one."""
    key = "environment_id" if root.rest else "environment"
    entry = root.entry(key)
    if entry is None:
        return ""
    if root.rest or entry.value.kind == "a text":
        return root.filled(key, "azureml:<name>:<version> or a mapping") or ""
    environment = root.section(key, "azureml:<name>:<version> or a mapping")
    if environment is None:
        return ""
    for name in ("channels", "dependencies"):
        if name in environment.entries:
            environment.refuse(name, "belongs into the file that conda_file names, not into the deployment")
    environment.refuse_unknown(
        ENVIRONMENT_KEYS, ignored=(*ENVIRONMENT_READ_ONLY, "channels", "dependencies"), places={}
    )
    texts = {name: environment.text(name) for name in ("name", "version", "image", "description", "datastore")}
    environment.choice("os_type", ("linux", "windows"))
    environment.pairs("tags")
    environment.section("properties")
    environment.section("inference_config")
    conda = environment.entry("conda_file")
    if conda is not None and conda.value.kind != "a text":
        environment.section("conda_file", "the path of a conda file, or a mapping")
    build = environment.section("build")
    if build is not None:
        build.refuse_unknown(BUILD_KEYS, places={})
        for name in BUILD_KEYS:
            build.text(name)
    return texts["name"] or texts["image"] or "inline"


def _plain_script(section: Section, script: str) -> str | None:
    """Normalise the path of a scoring script, or note why it is none."""
    plain = os.path.normpath(script)
    if "\\" in script:
        section.refuse("scoring_script", f"{shown(script)} has backslashes; write folders with /")
        return None
    if os.path.isabs(plain) or plain.split(os.sep)[0] == "..":
        section.refuse("scoring_script", f"{shown(script)} is outside the code; give a path relative to code")
        return None
    if not plain.lower().endswith(".py"):
        section.refuse("scoring_script", f"{shown(script)} is no Python file; give the path of one that ends in .py")
        return None
    return plain


def _wrong_script(code: str, script: str) -> str | None:
    """Say what is wrong with a scoring script: not there, or no Python."""
    path = os.path.join(code, script)
    if not os.path.isfile(path):
        folder, name = os.path.split(path)
        try:
            there = sorted(entry for entry in os.listdir(folder) if entry.endswith(".py"))
        except PermissionError as error:
            return f"{shown(script)}: its folder cannot be read: {error.strerror}"
        except OSError:
            there = []
        close = difflib.get_close_matches(name, there, 1)
        near = f"; did you mean {os.path.join(os.path.dirname(script), close[0])}?" if close else ""
        return f"{shown(script)}: no such file in the folder of the code{near}"
    try:
        with open(path, "rb") as source:
            text = source.read()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an odd escape; the import will show them
            compile(text, path, "exec", dont_inherit=True)
    except OSError as error:
        return f"{shown(script)}: cannot be read: {error.strerror}"
    except SyntaxError as error:
        return f"{script}:{error.lineno or 1}: Python {_python()} cannot compile it: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte, brackets in hundreds of brackets
        return f"{script}: Python {_python()} cannot compile it: {str(error) or 'too deeply nested'}"
    return None


def _python() -> str:
    return platform.python_version().rpartition(".")[0]
