"""What surprises people in a deployment that runs: known traps, told before they snap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from runtime.findings import listed
from runtime.options import Options
from scoring.cells import InputFile, MiniBatch
from scoring.scan import Grid

__all__ = ["Measured", "traps"]

MANY_FILES = 100
SMALL_BYTES = 2**20
DEFAULT_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What scoring the first mini-batch took."""

    batch: MiniBatch
    seconds: float
    grid: Grid


def traps(options: Options, files: tuple[InputFile, ...], measured: Measured | None) -> Iterator[str]:
    """Say what is allowed and seldom meant.

    Args:
        options: of the job.
        files: its input; nothing where that is not known.
        measured: of its first mini-batch, where one was scored.
    """
    if options.deployment and options.error_threshold == -1:
        yield (
            "error_threshold is -1, the default: the job completes however many files fail; "
            "give 0 to fail with the first"
        )
    if options.by_file and options.output_action == "append_row" and options.output_format == "azureml":
        name = options.output_name
        if name.endswith(".csv"):
            yield (
                f"{name} is separated by spaces and has no header, as Azure ML writes it: "
                "read it with sep=' ' and header=None, or give --format csv"
            )
    if options.files_per_mini_batch == 1 and len(files) >= MANY_FILES:
        mean_bytes = sum(file.size_bytes for file in files) / len(files)
        if mean_bytes < SMALL_BYTES:
            yield (
                f"mini_batch_size is 1, which makes {len(files):,} mini-batches of {size(mean_bytes)} on average: "
                "more files each cost less"
            )
    if not options.by_file and (options.strict or options.output_format == "azureml"):
        yield from _same_names(files)
    if measured is not None and options.deployment and options.timeout_s is not None:
        yield from _timeout(options, options.timeout_s, files, measured)


def _same_names(files: tuple[InputFile, ...]) -> Iterator[str]:
    counts = Counter(file.name.rpartition("/")[2] for file in files)
    for base, count in list(counts.items()):
        if count > 1:
            names = [file.name for file in files if file.name.rpartition("/")[2] == base]
            yield f"the scores of {listed(names)} all name their file {base}, which is all that Azure ML's format has"
            return


def _timeout(options: Options, timeout_s: float, files: tuple[InputFile, ...], measured: Measured) -> Iterator[str]:
    """Estimate the longest mini-batch from the first: by its bytes for a script, else by its rows."""
    batch = measured.batch
    done = batch.size_bytes if options.by_file else batch.rows
    total_bytes = sum(file.size_bytes for file in files)
    if not done or not total_bytes:
        return
    share = 1.0 if options.by_file else measured.grid.estimated_rows / total_bytes
    # of a job whose rows are cut, too: Azure ML would call predict with whole files
    longest = max(_batches(files, max(1, options.mini_batch_size)), key=_bytes)
    seconds = max(measured.seconds, measured.seconds * _bytes(longest) * share / done)
    if seconds <= timeout_s:
        return
    size_text = size(_bytes(longest))
    default = ", the default" if timeout_s == DEFAULT_TIMEOUT_S else ""
    names = listed([file.name for file in longest])
    cut = not options.by_file and options.grid != 0
    where = "; here rows are cut, but Azure ML scores whole files" if cut else ""
    yield (
        f"the timeout is {timeout_s:g} s{default}, and a mini-batch of {names} ({size_text}) may take about "
        f"{seconds:,.0f} s, judged by the first: raise retry_settings.timeout, or lower mini_batch_size{where}"
    )


def _batches(files: tuple[InputFile, ...], files_per_batch: int) -> Iterator[tuple[InputFile, ...]]:
    for _, group in groupby(files, key=lambda file: file.name.rpartition("/")[0]):
        folder = tuple(group)
        yield from (folder[start : start + files_per_batch] for start in range(0, len(folder), files_per_batch))


def _bytes(files: tuple[InputFile, ...]) -> int:
    return sum(file.size_bytes for file in files)


def size(size_bytes: float) -> str:
    """Write a number of bytes for a person."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size_bytes < 1024 or unit == "GiB":
            return f"{size_bytes:,.0f} {unit}" if unit == "bytes" else f"{size_bytes:,.1f} {unit}"
        size_bytes /= 1024
    raise AssertionError
