"""Options by environment variables, for schedulers that set nothing else.

An argument wins over its variable ``SCORELINE_…``, that over what a deployment's file says, that over what Azure ML
sets (``AZUREML_MODEL_DIR`` and ``AZUREML_BI_OUTPUT_PATH``), and that over the default. An empty variable says nothing.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

import click
from click.core import ParameterSource

__all__ = ["Option", "check_names", "from_environment", "given_name", "model_of_azureml", "names_of"]

PREFIX = "SCORELINE_"
DEPLOYMENT = "SCORELINE_DEPLOYMENT"
MODEL_DIR = "AZUREML_MODEL_DIR"
OUTPUT_PATH = "AZUREML_BI_OUTPUT_PATH"

LIKENESS = 0.75
"""From here on a name is taken for a slip of the pen: one letter of five may be wrong, missing or too many."""

NO_OPTIONS = re.compile(
    r"SCORELINE_(MANAGEMENT_ENDPOINT|TEST_\w+|AZURITE|CRASH_PLAN|EXAMPLES|THOROUGH|TORTURE"
    r"|SERVICE_(HOST|PORT\w*)|PORT(_\d+_(TCP|UDP)\w*)?)"
)
"""Read elsewhere, used by the tests, or set by Kubernetes in every pod beside a service named scoreline."""


class Option(click.Option):
    """An option that a variable may give as well: ``SCORELINE_CHUNK_ROWS`` is ``--chunk-rows``.

    Where an option may be repeated its variable holds several values as words of a shell: parted by white space, and
    quoted where they hold some.
    """

    def value_from_envvar(self, ctx: click.Context) -> str | list[str] | None:
        """Return what the variable holds; None where it is not set, or empty."""
        name = next((name for name in names_of(self) if os.environ.get(name)), None)
        if name is None:
            return None
        text = os.environ[name]
        # the input is one place, whatever stands in its name
        if not self.multiple or self.name == "input":
            return [text] if self.multiple else text
        try:
            return shlex.split(text)
        except ValueError as error:
            raise click.UsageError(f"{name}: {str(error).lower()}; quote words as in a shell", ctx) from None

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Return what a sentence about a wrong value begins with: the option, or the variable that gave it."""
        name = given_name(ctx, self)
        return f"'{name}'" if name.startswith(PREFIX) else super().get_error_hint(ctx)


def names_of(parameter: click.Parameter) -> list[str]:
    """List the variables of an option, one for each of its long names."""
    return [PREFIX + name[2:].replace("-", "_").upper() for name in parameter.opts if name.startswith("--")]


def given_name(ctx: click.Context | None, parameter: click.Parameter) -> str:
    """Return what gave a parameter its value: the name of the option, or that of a variable."""
    if ctx is not None and ctx.get_parameter_source(parameter.name or "") is ParameterSource.ENVIRONMENT:
        return next((name for name in names_of(parameter) if os.environ.get(name)), parameter.opts[0])
    return parameter.opts[0]


def from_environment(ctx: click.Context) -> list[str]:
    """List the variables that gave this command its options, in the order of the options."""
    found = [given_name(ctx, each) for each in ctx.command.params]
    return [name for name in found if name.startswith(PREFIX)]


def check_names(environ: Mapping[str, str], parameters: Sequence[click.Parameter]) -> Iterator[str]:
    """Look for variables that begin like ours and stand for no option; say a sentence for each that is like none.

    Args:
        environ: the variables.
        parameters: of the command that has all options.

    Raises:
        UsageError: one differs from an option's by a slip of the pen.
    """
    known = {name for each in parameters for name in names_of(each)} | {DEPLOYMENT}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in known or NO_OPTIONS.fullmatch(name):
            continue
        # what all have in common must not make all alike
        plain = {each.removeprefix(PREFIX): each for each in known}
        near = difflib.get_close_matches(name.removeprefix(PREFIX), plain, n=1, cutoff=LIKENESS)
        if near:
            raise click.UsageError(f"{name}: there is no such option; did you mean {plain[near[0]]}?")
        yield f"{name}: there is no such option, so it is not looked at; `scoreline run --help` lists them"


def model_of_azureml(environ: Mapping[str, str]) -> str | None:
    """Find the model that ``AZUREML_MODEL_DIR`` names: the folder itself, or the one model in it; None where not set.

    Raises:
        UsageError: there is none, or there are several.
    """
    folder = environ.get(MODEL_DIR)
    if not folder:
        return None
    if os.path.isfile(os.path.join(folder, "MLmodel")):
        return folder
    try:
        inside = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    except OSError as error:
        raise click.UsageError(f"{MODEL_DIR} {folder}: {error.strerror}; give --model") from None
    models = [path for path in inside if os.path.isfile(os.path.join(path, "MLmodel"))]
    if len(models) != 1:
        found = "no folder in it has" if not models else f"{len(models)} folders in it have"
        raise click.UsageError(f"{MODEL_DIR} {folder}: {found} an MLmodel file; give --model")
    return models[0]
