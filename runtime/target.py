"""What scores: an MLflow model by itself, or a scoring script with the model it loads."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.errors import OutputError, UsageError
from runtime.model import (
    OF_A_JOB,
    ModelFolder,
    code_digest,
    fetch_model,
    find_model,
    is_remote,
    model_digest,
    read_mlmodel,
)
from runtime.options import Options
from runtime.scratch import Scratch
from runtime.script_output import open_folder
from scoring.blob_access import BlobAccess
from scoring.files import local_path
from scoring.specs import ScorerSpec, ScriptSpec

__all__ = ["ModelTarget", "ScriptTarget", "find_target", "stage_model"]

Notice = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTarget:
    """An MLflow model.

    Attributes:
        uri: as it was asked for.
        path: the folder that has the ``MLmodel`` file.
        written: what the job writes on this machine, which may lie in it.
    """

    uri: str
    path: str
    written: tuple[str, ...] = ()
    by_file: bool = False

    @property
    def preload(self) -> str:
        """What the fork server imports for."""
        return self.path

    @property
    def environment(self) -> tuple[tuple[str, str], ...]:
        """Variables of the workers' environment: none of its own."""
        return ()

    def digest(self) -> str:
        """Digest its content."""
        return model_digest(self.path, self.written)

    def mlmodel(self) -> dict[str, Any]:
        """Read its ``MLmodel`` file."""
        return read_mlmodel(self.path)

    def scorer(self, options: Options, *, threads: int, work: str, logs: str) -> ScorerSpec:  # noqa: ARG002 (one shape)
        """Say how a worker uses it."""
        return ScorerSpec(
            model_path=self.path, method=options.method, params=options.params, types=options.types, threads=threads
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptTarget:
    """A scoring script (contract section 2).

    Attributes:
        uri: of its model, as it was asked for; the script where there is none.
        path: folder or file of the model; empty for none.
        code: folder of the code.
        script: path of the script.
        environment: variables of the workers' environment.
        written: what the job writes on this machine, which may lie in these folders.
    """

    uri: str
    path: str
    code: str
    script: str
    written: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = field(repr=False)
    by_file: bool = True

    @property
    def preload(self) -> str:
        """What the fork server imports for."""
        return self.script

    def digest(self) -> str:
        """Digest the content of model and code, and the environment."""
        whole = hashlib.sha256()
        whole.update((model_digest(self.path, self.written) if self.path else "-").encode())
        whole.update(code_digest(self.code, self.written).encode())
        for name, value in sorted(self.environment):
            whole.update(f"{name}\0{value}\0".encode("utf-8", "surrogateescape"))
        return whole.hexdigest()

    def mlmodel(self) -> dict[str, Any]:
        """Read the ``MLmodel`` file, if the model has one."""
        return read_mlmodel(self.path) if os.path.exists(os.path.join(self.path, "MLmodel")) else {}

    def scorer(self, options: Options, *, threads: int, work: str, logs: str) -> ScriptSpec:
        """Say how a worker uses it; its model is staged in the working folder."""
        tracking = Path(logs or work, "mlruns").as_uri()
        written = open_folder(options, work)
        output = options.output_folder if written is None else written.path
        return ScriptSpec(
            code=self.code,
            scoring_script=os.path.relpath(self.script, self.code),
            model_dir=stage_model(self.path, work) if self.path else "",
            output_path=output,
            output=written,
            environment=self.environment,
            arguments=(*options.arguments, "--output", output),
            logging_level=options.logging_level,
            output_action=options.output_action,
            output_format=options.output_format,
            work=work,
            logs=logs,
            tracking=tracking,
            threads=threads,
        )


def find_target(options: Options, stack: ExitStack, notice: Notice) -> ModelTarget | ScriptTarget:
    """Find what scores, and fetch a model and code that are remote.

    Raises:
        UsageError: it is not there, or is not what it is said to be.
        ModelLoadError: the model cannot be fetched.
    """
    if not options.scoring_script:
        model = _model(options.model, options.model_access, stack, notice)
        return ModelTarget(uri=model.uri, path=model.path, written=_written(options))
    code = options.code
    if options.code_access is not None:
        code = _from_storage(options.code_access, code, stack, notice)
    script = os.path.join(code, options.scoring_script)
    if not os.path.isfile(script):
        raise UsageError(f"{os.path.join(options.code, options.scoring_script)}: no such scoring script")
    if options.model_access is not None:
        path = _from_storage(options.model_access, options.model, stack, notice)
    elif is_remote(options.model):
        path = _model(options.model, None, stack, notice).path
    else:
        path = os.path.abspath(local_path(options.model)) if options.model else ""
        if path and not os.path.exists(path):
            raise UsageError(f"{options.model}: no such model")
    return ScriptTarget(
        uri=options.model or os.path.join(options.code, options.scoring_script), path=path, code=code, script=script,
        written=_written(options), environment=options.environment_variables,
    )  # fmt: skip


def _written(options: Options) -> tuple[str, ...]:
    """Name what the job writes on this machine; a folder of Python files is code, whatever is written into it."""
    folders = [options.job_folder, *([options.logs] if options.logs else [])]
    files = []
    if options.output_access is None:
        folders.append(options.output_folder)
        files.append(os.path.join(options.output_folder, options.output_name))
    return (*files, *(folder for folder in folders if not glob.glob("*.py", root_dir=folder)))


def _model(uri: str, access: BlobAccess | None, stack: ExitStack, notice: Notice) -> ModelFolder:
    if access is not None:
        path = _from_storage(access, uri, stack, notice)
        try:
            return ModelFolder(uri=uri, path=find_model(path).path)
        except UsageError as error:
            raise UsageError(str(error).replace(path, uri)) from None
    if not is_remote(uri):
        return find_model(uri)
    return fetch_model(uri, _temporary(uri, stack, notice))


def _from_storage(access: BlobAccess, url: str, stack: ExitStack, notice: Notice) -> str:
    """Fetch a folder or file of Azure storage, for as long as the job lasts."""
    from runtime.storage_fetch import fetch_folder, path_in

    return fetch_folder(access, path_in(access, url), _temporary(url, stack, notice))


def _temporary(uri: str, stack: ExitStack, notice: Notice) -> str:
    scratch = Scratch()
    stack.callback(scratch.remove)
    scratch.make()
    notice(f"fetching {uri}")
    return str(scratch.work)


def stage_model(path: str, work: str) -> str:
    """Make the folder that ``AZUREML_MODEL_DIR`` names: it holds the model's folder or file, and nothing else.

    Files are linked where the disk is the same, else copied (contract 2.5).

    Raises:
        OutputError: the disk is full or fails.
    """
    root = os.path.join(work, "model")
    source = os.path.realpath(path)
    target = os.path.join(root, os.path.basename(os.path.normpath(path)))
    try:
        os.makedirs(root)
        if os.path.isfile(source):
            _link(source, target)
        else:
            shutil.copytree(source, target, copy_function=_link, ignore=_not_of_the_model)
    except (OSError, shutil.Error) as error:
        # of a tree all failures come at once, as (from, to, why)
        why = error.args[0][0][2] if isinstance(error, shutil.Error) else error
        raise OutputError(f"{target}: the model cannot be staged: {why}") from None
    return root


def _not_of_the_model(_: str, names: list[str]) -> list[str]:
    """Name what is not staged: what Python leaves, and what jobs write, as this one where its output lies inside."""
    return [name for name in names if name == "__pycache__" or OF_A_JOB.fullmatch(name)]


def _link(source: str, target: str) -> str:
    try:
        # a link to a link would hang in the air elsewhere
        os.link(os.path.realpath(source), target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP):
            raise
        shutil.copy2(source, target)
    return target
