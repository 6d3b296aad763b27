"""A scoring script: imported once, `init()` once, then `run()` for each mini-batch (contract section 2)."""

from __future__ import annotations

import inspect
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import TextIOWrapper
from types import ModuleType
from typing import Any, NoReturn

from scoring import append_row, entry_script
from scoring.errors import ModelLoadError, ModelUseError, PredictionError, StorageError
from scoring.output_files import OutputFiles
from scoring.own_modules import UserModules
from scoring.script_import import import_script
from scoring.specs import ScriptSpec

__all__ = ["MiniBatchContext", "Script", "ScriptResult", "conceal"]

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}
_SECRET_LENGTH = 6
"""Shorter values of environment variables are switches and numbers, which every other text holds too."""
_TEXT_LENGTH = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptResult:
    """What became of one mini-batch.

    Attributes:
        lines: what is appended to the output; nothing under summary_only.
        columns: names of the columns, where the format is csv and there are rows.
        items: rows or elements returned, which Azure ML counts against the files (contract 2.3).
    """

    lines: bytes
    columns: tuple[str, ...]
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniBatchContext:
    """What a `run` with a second parameter is told (contract 2.2)."""

    minibatch_index: int
    partition_key_value: dict[str, str] = field(default_factory=dict)
    dataset_index: int = 0


class Script:
    """A scoring script of one worker; it makes the process its own: environment, working directory, arguments.

    Args:
        spec: The script, and how it is used.
        number: Of the worker.

    Raises:
        ModelLoadError: The script cannot be imported, or its `init` failed; the cause is what it raised.
        ModelUseError: It has no `run`, or one that takes no mini-batch.
    """

    def __init__(self, spec: ScriptSpec, number: int) -> None:
        self._spec = spec
        self._path = os.path.normpath(os.path.join(spec.code, spec.scoring_script))
        if not os.path.isfile(self._path):
            raise ModelUseError(f"{spec.scoring_script}: there is no such scoring script in {spec.code}")
        self._modules = UserModules()
        self._written = OutputFiles(spec.output) if spec.output is not None else None
        self._settle(number)
        with self._modules:
            self._module = self._imported()
            self._run, self._wants_context = self._checked_run()
            self._init()

    def run(self, paths: Sequence[str], *, mini_batch_index: int) -> ScriptResult:
        """Score the files of a mini-batch; whatever the script raises passes, SystemExit too.

        Raises:
            PredictionError: It returned what Azure ML refuses.
        """
        batch = list(paths)
        try:
            # an element's `str`, and the body of a generator, are the script's code too
            with self._modules:
                if self._wants_context:
                    result = self._run(batch, MiniBatchContext(minibatch_index=mini_batch_index))
                else:
                    result = self._run(batch)
                if inspect.iscoroutine(result):
                    result.close()  # or Python warns that nobody awaited it
                rows = append_row.rows_of(result)
                written = rows if self._spec.output_action != "summary_only" else []
                lines, columns = append_row.lines_of(written, self._spec.output_format)
                return ScriptResult(lines=lines, columns=columns, items=len(rows))
        finally:
            _flush()

    def send_output(self) -> None:
        """Send to storage what the script wrote into the output folder, where that is only a copy of the output.

        Raises:
            PredictionError: a file has a name that it cannot have there.
            StorageError: storage refuses it or does not answer.
        """
        if self._written is not None:
            self._written.send()

    def shutdown(self) -> None:
        """Let the script say goodbye; where it fails, that is told on standard error and changes nothing."""
        with self._modules:
            try:
                shutdown = getattr(self._module, "shutdown", None)
                if callable(shutdown):
                    shutdown()
                _end_mlflow_run()
            except (Exception, SystemExit) as error:  # noqa: BLE001 (all mini-batches are scored by now)
                sentence = self._sentence("shutdown() failed", error)
                trace = conceal("".join(traceback.format_exception(error)), self._spec.environment)
                sys.stderr.write(f"{sentence}; what was scored stays\n{trace}")
        # what cannot be sent now, the driver sends or tells
        with suppress(StorageError, PredictionError):
            self.send_output()
        _flush()

    def _settle(self, number: int) -> None:
        """Give the process what the script expects of it (contract 2.4 and 2.5)."""
        spec = self._spec
        folder = os.path.dirname(self._path)
        _set_environment(spec)
        try:
            working_dir = os.path.abspath(os.path.join(spec.work, entry_script.agent_name_of(number)))
            os.makedirs(working_dir, exist_ok=True)
            logs = spec.logs and os.path.abspath(spec.logs)
            # what is relative was meant from here
            others = [os.path.abspath(entry) for entry in sys.path]
            os.chdir(working_dir)
            level = _LEVELS.get(spec.logging_level.lower(), logging.INFO)
            entry_script.install(
                number=number,
                folder=folder,
                working_dir=working_dir,
                output_dir=spec.output_path,
                logs=logs,
                level=level,
            )
        except OSError as error:
            raise ModelLoadError(
                f"{spec.scoring_script}: the worker cannot make its folder {error.filename}: {error.strerror}"
            ) from error
        if isinstance(sys.stdout, TextIOWrapper):
            # what a script printed before it hung is what its author looks for; a file's name may be no UTF-8
            sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
        logging.basicConfig(stream=sys.stdout, level=level, format=entry_script.LINE_FORMAT, force=True)
        sys.argv = [self._path, *spec.arguments]
        given = [entry for entry in dict(spec.environment).get("PYTHONPATH", "").split(os.pathsep) if entry]
        sys.path[:] = dict.fromkeys([os.path.normpath(spec.code), folder, *given, *others])

    def _imported(self) -> ModuleType:
        try:
            return import_script(os.path.normpath(self._spec.code), self._path)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 (it is raised again as the cause)
            self._fail("it cannot be imported", error)

    def _checked_run(self) -> tuple[Callable[..., Any], bool]:
        """Return the script's `run`, and whether it wants a context."""
        script = self._spec.scoring_script
        for name in ("init", "run", "shutdown"):
            if inspect.iscoroutinefunction(getattr(self._module, name, None)):
                raise ModelUseError(f"{script}: {name}() is async, and nobody awaits it; define it with def alone")
        run = getattr(self._module, "run", None)
        if not callable(run):
            what = "has no function run(mini_batch)" if run is None else f"has a run of type {type(run).__name__}"
            raise ModelUseError(f"{script}: the script {what}; define one that returns a row for each file")
        if inspect.isasyncgenfunction(run):
            raise ModelUseError(f"{script}: run() is async, and nobody awaits it; define it with def alone")
        try:
            parameters = list(inspect.signature(run).parameters.values())
        except (TypeError, ValueError):  # it is written in C
            return run, False
        return run, self._takes_context(parameters)

    def _takes_context(self, parameters: list[inspect.Parameter]) -> bool:
        """Tell whether `run` wants a second argument: it must have one, or names it a context."""
        script = self._spec.scoring_script
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        positional = [parameter for parameter in parameters if parameter.kind in kinds]
        if not positional and not any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
            raise ModelUseError(f"{script}: run() takes no mini-batch; define run(mini_batch)")
        needed = [parameter.name for parameter in positional if parameter.default is inspect.Parameter.empty][2:]
        needed += [
            parameter.name
            for parameter in parameters
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.default is inspect.Parameter.empty
        ]
        if needed:
            raise ModelUseError(
                f"{script}: run() needs {', '.join(needed)}, which nobody gives; it is called as run(mini_batch) or "
                "run(mini_batch, mini_batch_context)"
            )
        if len(positional) < 2:
            return False
        # `threshold=0.5` is the script's own affair
        second = positional[1]
        return second.default is inspect.Parameter.empty or "context" in second.name.lower()

    def _init(self) -> None:
        init = getattr(self._module, "init", None)
        if init is None:
            return
        try:
            init()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 (it is raised again as the cause)
            self._fail("init() failed", error)
        finally:
            _flush()

    def _fail(self, what: str, error: BaseException) -> NoReturn:
        advice = ""
        if isinstance(error, ModuleNotFoundError):
            advice = "; install it where this runs, or put it into the folder of the code"
        elif isinstance(error, SystemExit) and _is_of_argparse(error):
            advice = "; it parses sys.argv, where Azure ML's own arguments stand: use parse_known_args()"
        raise ModelLoadError(self._sentence(what, error) + advice) from error

    def _sentence(self, what: str, error: BaseException) -> str:
        """Say in one line what the script raised, and where."""
        text = ""
        with suppress(Exception):  # the script's exceptions may fail to describe themselves
            # a syntax error ends with its place, which is said anyway
            text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())[:_TEXT_LENGTH]
        said = f"{type(error).__name__}: {text}" if text else type(error).__name__
        return conceal(f"{self._spec.scoring_script}: {what}: {said} ({self._place(error)})", self._spec.environment)

    def _place(self, error: BaseException) -> str:
        """Name the last line of the script's code that was running."""
        code = os.path.join(os.path.normpath(self._spec.code), "")
        places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
        if isinstance(error, SyntaxError) and error.filename:
            places.append((error.filename, error.lineno))
        inside = [place for place in places if place[0].startswith(code)]
        file, line = (inside or [(self._path, None)])[-1]
        name = os.path.relpath(file, code)
        return f"{name}:{line}" if line else name


def _is_of_argparse(error: SystemExit) -> bool:
    """Tell whether an `argparse.ArgumentParser` ended the process, for it met arguments that it does not know."""
    return any(frame.f_globals.get("__name__") == "argparse" for frame, _ in traceback.walk_tb(error.__traceback__))


def conceal(text: str, environment: Sequence[tuple[str, str]]) -> str:
    """Put the names of environment variables, as ``$NAME``, where a text holds their values."""
    for name, value in sorted(environment, key=lambda each: -len(each[1])):
        if len(value) >= _SECRET_LENGTH:
            text = text.replace(value, f"${name}")
    return text


def _set_environment(spec: ScriptSpec) -> None:
    """Set the variables that a script may read (contract 2.5).

    Raises:
        ModelUseError: One cannot be set.
    """
    for name, value in spec.environment:
        try:
            os.environ[name] = value
        except (OSError, ValueError):
            # not the cause, which would show the value
            raise ModelUseError(
                f"environment_variables: {name!r} cannot be set: it has a name or a value that no process can have"
            ) from None
        if name == "TZ":
            time.tzset()
    if spec.model_dir:
        os.environ["AZUREML_MODEL_DIR"] = spec.model_dir
    if spec.output_path:
        os.environ["AZUREML_BI_OUTPUT_PATH"] = spec.output_path
    if spec.tracking and not os.environ.get("MLFLOW_TRACKING_URI"):
        os.environ["MLFLOW_TRACKING_URI"] = spec.tracking
        # MLflow from 3.7 on wants to be asked twice for a folder. A data base takes 1.5 s to make, and several
        # workers that make it at once fail; a folder takes 0.04 s and has room for all (2 cores, MLflow 3.17).
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")


def _end_mlflow_run() -> None:
    """End the run that a script's first ``mlflow.log_*`` began: workers end without what is done at exit."""
    mlflow = sys.modules.get("mlflow")
    active, end = getattr(mlflow, "active_run", None), getattr(mlflow, "end_run", None)
    if active is not None and end is not None and active() is not None:
        end()


def _flush() -> None:
    """Keep what was printed, even if the process is killed in the next mini-batch."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # the script closed or replaced it
            stream.flush()
