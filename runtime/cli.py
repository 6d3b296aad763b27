"""The command line."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from runtime.variables import (
    DEPLOYMENT,
    MODEL_DIR,
    OUTPUT_PATH,
    Option,
    check_names,
    from_environment,
    given_name,
    model_of_azureml,
)

if TYPE_CHECKING:
    from runtime.forkserver import ForkServer

__all__ = ["main"]

ASYNC_CLIENT = "aiohttp"
DEPLOYMENT_FILES = (".yml", ".yaml", ".json")
HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=HELP)
@click.version_option(package_name="scoreline", prog_name="scoreline")
def scoreline() -> None:
    """Score files with an MLflow model, in parallel: nothing lost, nothing twice, the same bytes every time."""


def _pairs(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{value!r} is not name=value", param_hint=given_name(context, parameter))
        pairs.append((name, text))
    return tuple(pairs)


def _names(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(name for name in value.split(",")) if value else ()


def _one(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> str | None:
    if not values:
        return None
    if len(values) > 1:
        raise click.BadParameter(
            "given twice; a glob takes many files: --input 'data/*.csv'", param_hint=parameter.opts[0]
        )
    return values[0]


def _deployment(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> str | None:
    for word in words[1:] if words and words[0].lower().endswith(DEPLOYMENT_FILES) else words:
        hint = "quote a glob, so that the shell leaves it alone: --input 'data/*.csv'"
        raise click.UsageError(f"Got unexpected extra argument ({word}); {hint}")
    return words[0] if words else os.environ.get(DEPLOYMENT) or None


option = functools.partial(click.option, cls=Option)

RUN_OPTIONS: list[Callable[..., Any]] = [
    option(
        "--model",
        default=None,
        help="Folder with an MLmodel file (a local path or a URI on Azure storage), models:/name/version, "
        "models:/name@alias or runs:/…; beside a deployment: instead of the model it names.",
    ),
    option(
        "--input",
        "input",
        multiple=True,
        callback=_one,
        help="File, folder or glob to score: a local path, a URI on Azure storage or of a datastore, the name of a "
        "data asset, or the https address of a file.",
    ),
    option(
        "--output",
        "--output-path",
        "output",
        default=None,
        help="Folder for the score file, or the file, on this machine or on Azure storage.  "
        "[default: ./scoreline/JOB NAME/score]",
    ),
    option("--job-name", default="", help="Name of the job; the same name resumes.  [default: made up]"),
    option(
        "--input-type",
        type=click.Choice(["uri_folder", "uri_file"]),
        default=None,
        help="What --input is.  [default: what is found]",
    ),
    option(
        "--include", multiple=True, metavar="GLOB", help="Take only files whose names match; may be repeated."
    ),
    option("--recursive", is_flag=True, help="Look into sub-folders."),
    option(
        "--input-format", type=click.Choice(["csv"]), default=None, help="Read every file so, whatever its extension."
    ),
    option(
        "--input-header/--no-input-header", default=True, help="Whether files begin with a header.  [default: they do]"
    ),
    option(
        "--input-columns", callback=_names, metavar="A,B", help="Names of the columns of files without a header."
    ),
    option("--delimiter", default=",", show_default=True, help="Between fields; '\\t' is a tab."),
    option("--encoding", default="utf-8", show_default=True, help="Of the files."),
    option(
        "--types",
        multiple=True,
        callback=_pairs,
        metavar="COLUMN=TYPE",
        help="Type of a column, before the signature's; may be repeated.",
    ),
    option("--date-format", default=None, help="How dates are written, as for strptime.  [default: ISO 8601]"),
    option(
        "--output-file-name",
        default=None,
        help="Name of the score file.  [default: the deployment's, or predictions.csv]",
    ),
    option(
        "--format",
        "output_format",
        type=click.Choice(["azureml", "csv", "jsonl"]),
        default=None,
        help="How scores are written.  [default: azureml for a deployment, csv for a model]",
    ),
    option(
        "--if-exists",
        type=click.Choice(["fail", "overwrite", "append"]),
        default="fail",
        show_default=True,
        help="What to do with a score file that is there.",
    ),
    option(
        "--output-header/--no-output-header",
        default=None,
        help="Whether the score file begins with a header.  [default: with format csv it does]",
    ),
    option("--keep", callback=_names, metavar="A,B", help="Copy these input columns before the predictions."),
    option("--method", default="predict", show_default=True, help="What to call: predict, predict_proba, …"),
    option(
        "--param",
        "params",
        multiple=True,
        callback=_pairs,
        metavar="NAME=VALUE",
        help="Parameter of the model's predict; may be repeated.",
    ),
    option(
        "--workers", type=click.IntRange(1), default=None, help="Processes.  [default: the CPUs this container may use]"
    ),
    option(
        "--threads", type=click.IntRange(1), default=None, help="Native threads of each worker.  [default: 1]"
    ),
    option(
        "--chunk-rows",
        type=click.IntRange(0),
        default=None,
        help="Rows of one predict call; 0: one call for each file.  [default: chosen from the input]",
    ),
    option(
        "--strict",
        is_flag=True,
        default=None,
        help="As Azure ML scores a model: one predict per file, and a file with a row that does not fit fails.",
    ),
    option(
        "--cells-per-mini-batch",
        type=click.IntRange(1),
        default=None,
        help="Predict calls handed out at a time; never changes the output.  [default: chosen as the work goes]",
    ),
    option(
        "--isolate/--no-isolate",
        default=None,
        help="Look for the rows (or files, with a scoring script) that fail a mini-batch, and score the others.  "
        "[default: rows, not files]",
    ),
    option("--limit", type=click.IntRange(1), default=None, help="Score the first rows only, and print them."),
    option(
        "--max-quarantined",
        default=None,
        metavar="N|N%",
        help="Stop when more rows cannot be scored.  [default: 1%, and at least 10]",
    ),
    option(
        "--quarantine-values",
        type=click.Choice(["keep", "none"]),
        default="keep",
        show_default=True,
        help="Whether the quarantine file holds values.",
    ),
    option(
        "--timeout",
        "timeout_s",
        type=float,
        default=None,
        metavar="SECONDS",
        help="For one mini-batch; the first of each worker has longer.  [default: the deployment's, or none]",
    ),
    option(
        "--task-overhead-timeout",
        "task_overhead_s",
        type=click.FloatRange(0),
        default=600.0,
        show_default=True,
        metavar="SECONDS",
        help="How much longer the first mini-batch of a worker may take.",
    ),
    option(
        "--init-timeout",
        "init_timeout_s",
        type=float,
        default=None,
        metavar="SECONDS",
        help="For a scoring script to load and init().  [default: 600, or 3 timeouts and 30 s]",
    ),
    option(
        "--logs", default=None, metavar="DIR", help="Folder for logs.  [default: in a deployment's job folder]"
    ),
    option(
        "--on-mismatch",
        type=click.Choice(["warn", "fail"]),
        default="warn",
        show_default=True,
        help="What to do where the model was saved with other versions than run here.",
    ),
    option(
        "--grace",
        "grace_s",
        type=float,
        default=20.0,
        show_default=True,
        metavar="SECONDS",
        help="For running mini-batches when a signal stops the job.",
    ),
    option(
        "--spool",
        "spool_bytes",
        type=click.IntRange(0),
        default=None,
        metavar="BYTES",
        help="Disk for decompressed input.  [default: half of what is free]",
    ),
    option(
        "--explain", is_flag=True, help="Say what was chosen (workers, grid, mini-batches, …), and why, a line each."
    ),
    option("--restart", is_flag=True, help="Discard what is staged or complete, and score again."),
    option(
        "--engine",
        type=click.Choice(["local", "forkserver", "spawn", "inline"]),
        default="local",
        show_default=True,
        help="Where workers run.",
    ),
]


INVOCATION_OPTIONS: list[Callable[..., Any]] = [
    option("--mini-batch-size", type=int, default=None, help="Files of one mini-batch of a deployment."),
    option("--instance-count", type=int, default=None, help="Instances of a deployment: workers, here."),
    option("--set", "set", multiple=True, metavar="A.B=C", help="Override a setting; may be repeated."),
    option("--file", default=None, metavar="YAML", help="Inputs and outputs of the job, as for az ml."),
    option("--request", default=None, metavar="JSON", help="Body of a REST invocation; - reads standard input."),
    option("--deployment-name", default=None, help="Refuse a deployment of another name."),
    option("--experiment-name", default=None, help="MLflow experiment that a scoring script logs to."),
    option(
        "--workspace",
        default=None,
        metavar="YAML",
        help="What names of datastores, data and models stand for.  [default: workspace.yml, if there is one]",
    ),
    option(
        "--subscription", default=None, metavar="ID", help="Of the workspace that is asked what names stand for."
    ),
    option("--resource-group", default=None, metavar="NAME", help="Of that workspace."),
    option(
        "--workspace-name", default=None, metavar="NAME", help="Its name.  [default of all three: AZUREML_ARM_*]"
    ),
]


def _with(options: list[Callable[..., Any]]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@scoreline.command(context_settings=HELP)
@click.argument("deployment", nargs=-1, metavar="[DEPLOYMENT.YML]", callback=_deployment)
@_with(RUN_OPTIONS)
@_with(INVOCATION_OPTIONS)
@option("--json", "as_json", is_flag=True, help="Print the receipt to standard output.")
@option("--quiet", is_flag=True, help="Show errors only.")
@option("--debug", is_flag=True, help="Show what workers print, and tracebacks.")
def run(*, as_json: bool, quiet: bool, debug: bool, **options: Any) -> None:
    """Score files with an MLflow model, or as an Azure ML batch deployment says.

    Give --model, or the YAML file of a deployment with its model and scoring script as they are. The scores appear as
    one file, in the order of the input, with a receipt. A run that was stopped, by whatever, goes on when the same
    command is given again.

    \b
    Exit codes: 0 complete, 1 failed and would fail again, 2 refused before any work,
    75 try later, 130 or 143 interrupted (the same command resumes).
    """  # noqa: D301 (click wants the character itself)
    if as_json and options["limit"]:
        raise click.UsageError("--limit prints rows and --json prints the receipt: give one of them")
    given = _given(options, quiet=quiet)
    sys.exit(_run(given, as_json=as_json, quiet=quiet, debug=debug))


def _given(options: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Keep what was given, by arguments or by variables, and refuse what only a deployment takes."""
    given = {name: value for name, value in options.items() if value not in (None, "")}
    notices = [*check_names(os.environ, scoreline.commands["run"].params), *_of_variables(given)]
    for notice in () if quiet else notices:
        click.echo(notice, err=True)
    only = ("mini_batch_size", "instance_count", "set", "file", "request", "deployment_name", "experiment_name")
    if "deployment" not in given:
        if "model" not in given:
            raise click.UsageError("Give --model, or the YAML file of a deployment.")
        for name in only:
            if given.get(name):
                option = name.replace("_", "-")
                raise click.UsageError(f"--{option} goes with the YAML file of a deployment, not with --model alone")
        if "input" not in given:
            raise click.UsageError("Missing option '--input'.")
        given = {name: value for name, value in given.items() if name not in only}
    return given


def _of_variables(given: dict[str, Any]) -> list[str]:
    """Add what Azure ML sets, where nothing else says it, and say which variables count."""
    names = from_environment(click.get_current_context())
    if "deployment" in given and given["deployment"] == os.environ.get(DEPLOYMENT):
        names.insert(0, DEPLOYMENT)
    if "model" not in given and "deployment" not in given and (model := model_of_azureml(os.environ)):
        given["model"] = model
        names.append(MODEL_DIR)
    if "output" not in given and (output := os.environ.get(OUTPUT_PATH)):
        # a file or a request that goes with a deployment may name an output, too
        given["usual_output" if "deployment" in given else "output"] = output
        names.append(OUTPUT_PATH)
    return [f"options from the environment: {', '.join(names)}"] if names else []


def _run(options: dict[str, Any], *, as_json: bool, quiet: bool, debug: bool) -> int:
    if options.get("engine") == "inline" and sys.modules.get(ASYNC_CLIENT, sys) is None:
        # code of the model runs in this process, and may want it
        del sys.modules[ASYNC_CLIENT]
    options["server"] = _early_server(options, debug=debug)
    from runtime.display import Display, closing_lines
    from runtime.errors import ScorelineError, exit_code
    from runtime.job import run as run_job
    from runtime.job import run_limited

    display = Display(quiet=quiet)
    receipt = None
    try:
        if options.get("limit"):
            lines, receipt = run_limited(watch=display.watch, notice=display.notice, debug=debug, **options)
            display.close()
            sys.stdout.write(lines)
            closing_lines(receipt, display.notice, kept=False)
        else:
            receipt = run_job(watch=display.watch, notice=display.notice, debug=debug, **options)
            display.close()
            if as_json:
                text = json.dumps(receipt.content, indent=1, ensure_ascii=False)
                # a file name may be no text: what stands for it is an escape of JSON
                click.echo(text.encode("utf-8", "backslashreplace"))
            closing_lines(receipt, display.notice)
    except ScorelineError as error:
        display.close()
        if debug:
            raise
        click.echo(f"scoreline: {error}", err=True)
        return exit_code(error)
    except KeyboardInterrupt:
        display.close()
        click.echo("scoreline: stopped at once; what is staged is kept, the same command goes on from there", err=True)
        return 130
    except BrokenPipeError:
        _drop_output()
        return 1 if receipt is None else 0
    except Exception as error:
        # the one place around the job: a fault of ours, told without a traceback
        display.close()
        if debug:
            raise
        click.echo(
            f"scoreline: {type(error).__name__}: {error} (a fault of Scoreline's; --debug shows where, "
            "what is staged is kept)",
            err=True,
        )
        return 1
    return 0


def _drop_output() -> None:
    """Print no more: whoever read our output has enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _early_server(options: dict[str, Any], *, debug: bool) -> ForkServer | None:
    """Start the fork server before anything else is even imported, if the model is where it says."""
    from runtime.errors import UsageError
    from runtime.forkserver import STORAGE_CLIENT, ForkServer, forks, open_log

    model = options.get("model")
    if model is None or "deployment" in options:
        # only the deployment says what is to be imported
        return None
    if not forks(options.get("engine", "local")) or not os.path.isfile(os.path.join(model, "MLmodel")):
        return None
    also = STORAGE_CLIENT if "://" in (options.get("output") or "") else ()
    try:
        log = open_log(debug=debug)
    except UsageError:
        # the job says so
        return None
    return ForkServer(os.path.abspath(model), threads=options.get("threads") or 1, log=log, also=also)


@scoreline.command(context_settings=HELP)
@click.argument("deployment", nargs=-1, metavar="[DEPLOYMENT.YML]", callback=_deployment)
@_with(RUN_OPTIONS)
@_with(INVOCATION_OPTIONS)
@option("--json", "as_json", is_flag=True, help="Print the findings as JSON, without values of the input.")
@option("--debug", is_flag=True, help="Show what workers print.")
def validate(*, as_json: bool, debug: bool, **options: Any) -> None:
    """Look at a job before it runs: what a run would refuse, rows that do not fit, and known traps.

    Takes what run takes, looks into the input, loads the model and scores one mini-batch. It publishes nothing.

    \b
    Exit codes: 0 no error, 2 errors, all of them; 130 or 143 interrupted.
    """  # noqa: D301 (click wants the character itself)
    sys.exit(_validate(_given(options, quiet=as_json), as_json=as_json, debug=debug))


def _validate(options: dict[str, Any], *, as_json: bool, debug: bool) -> int:
    from runtime.errors import InterruptedJobError, exit_code
    from runtime.validation import validate as look

    def tell(kind: str, text: str) -> None:
        click.echo(f"{kind}: {text}".replace("\n", "\n  ").encode("utf-8", "backslashreplace"))

    try:
        # what the input holds is for the eyes of whoever looks, not for a file or another program
        values = sys.stdout.isatty() and not as_json
        findings = look(tell=None if as_json else tell, values=values, debug=debug, **options)
    except InterruptedJobError as error:
        click.echo(f"scoreline: {error}", err=True)
        return exit_code(error)
    except BrokenPipeError:
        _drop_output()
        return 0
    except Exception as error:
        # the one place around the look: a fault of ours, told without a traceback
        if debug:
            raise
        click.echo(
            f"scoreline: {type(error).__name__}: {error} (a fault of Scoreline's; --debug shows where)", err=True
        )
        return 1
    if as_json:
        text = json.dumps({name: getattr(findings, name) for name in ("errors", "warnings", "checked")}, indent=1)
        click.echo(text)
    else:
        click.echo(f"{len(findings.errors):,} errors, {len(findings.warnings):,} warnings")
    return 2 if findings.errors else 0


@scoreline.group(context_settings=HELP)
def receipt() -> None:
    """Look at the receipt of a job."""


@receipt.command(context_settings=HELP)
@click.argument("output")
@click.option("--input", "input", default="", help="Where the input files are now: a file, a folder or a glob.")
@click.option("--recount-input", is_flag=True, help="Count the rows of the input files as well.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def check(*, as_json: bool, debug: bool, **options: Any) -> None:
    """Read an output again, and compare every count and checksum with its receipt.

    OUTPUT is the folder of a score file, or the score file.

    Exit codes: 0 the receipt is true, 1 something is not as it says, 2 there is no receipt.
    """
    sys.exit(_check(options, as_json=as_json, debug=debug))


def _check(options: dict[str, Any], *, as_json: bool, debug: bool) -> int:
    from runtime.errors import ScorelineError, exit_code
    from runtime.receipt_check import check_receipt

    def tell(kind: str, text: str) -> None:
        click.echo(f"{kind}: {text}".replace("\n", "\n  ").encode("utf-8", "backslashreplace"))

    try:
        findings = check_receipt(**options, tell=None if as_json else tell)
        if as_json:
            text = json.dumps({name: getattr(findings, name) for name in ("errors", "warnings", "checked")}, indent=1)
            click.echo(text)
        else:
            verdict = "is not true" if findings.errors else "is true"
            counts = f"{len(findings.errors):,} errors, {len(findings.warnings):,} warnings"
            click.echo(f"{findings.checked['receipt']} {verdict}: {counts}".encode("utf-8", "backslashreplace"))
    except ScorelineError as error:
        if debug:
            raise
        click.echo(f"scoreline: {error}".encode("utf-8", "backslashreplace"), err=True)
        return exit_code(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _drop_output()
        return 0
    return 1 if findings.errors else 0


@scoreline.command(context_settings=HELP)
@click.option("--folder", default="scoreline-demo", show_default=True, help="Where to put data, model and scores.")
@click.option("--files", type=click.IntRange(1), default=4, show_default=True, help="Files of sample data.")
@click.option("--rows", type=click.IntRange(1), default=5_000, show_default=True, help="Rows in each.")
def demo(folder: str, files: int, rows: int) -> None:
    """Make sample data and a sample model, score the one with the other, and show what came of it."""
    from runtime.demo import show

    sys.exit(show(folder, files, rows, click.echo))


def main() -> None:
    """Run the command."""
    if any("?" in each and "://" in each for each in sys.argv):
        from runtime.redaction import hide_arguments

        hide_arguments()
    # the storage client loads it only to know an asynchronous transport when it sees one: 8 MB, a tenth of a second
    sys.modules.setdefault(ASYNC_CLIENT, None)  # type: ignore[arg-type]
    scoreline()


if __name__ == "__main__":
    main()
