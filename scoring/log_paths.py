"""Where the files of a job's logs lie (contract 3.5), for the driver and for the workers that write them."""

from __future__ import annotations

import os

__all__ = [
    "NODE",
    "README",
    "entry_script_log_folder",
    "entry_script_log_path",
    "error_path",
    "process_name",
    "stderr_path",
    "stdout_path",
    "summary_path",
]

NODE = "0"
"""The name of this machine among the nodes of a job."""

README = """\
Logs of a batch scoring job, laid out as Azure ML lays them out.

job_result.txt                          how the job ended and why, and the files that failed; the newest run first
job_progress_overview.txt               mini-batches scheduled and processed, by time
job_error.txt                           which errors there were, and how often
user/error.txt                          failed attempts, a line each
user/error/<node>/<process>.txt         tracebacks of the scoring script
user/stdout/<node>/<process>.stdout.txt what the scoring script printed
user/stderr/<node>/<process>.stderr.txt what it wrote to standard error
user/entry_script_log/<node>/<process>.log.txt
                                        what it logged with EntryScript().logger
sys/job_report/processed_mini-batches.csv
                                        every mini-batch: result, process, seconds, error
sys/node/<node>/<process>.txt           every worker: files that succeeded and failed, start, duration

<node> is 0, <process> is process000 and so on; a worker that replaces another has a new number. Times are UTC.
"""


def process_name(worker: int) -> str:
    """Name a worker as Azure ML does: ``process000`` and so on."""
    return f"process{worker:03d}"


def stdout_path(logs: str, worker: int) -> str:
    """Return the file that takes what a worker's script prints."""
    return os.path.join(logs, "user", "stdout", NODE, f"{process_name(worker)}.stdout.txt")


def stderr_path(logs: str, worker: int) -> str:
    """Return the file that takes what a worker's script writes to standard error."""
    return os.path.join(logs, "user", "stderr", NODE, f"{process_name(worker)}.stderr.txt")


def entry_script_log_folder(logs: str) -> str:
    """Return the folder that is ``EntryScript().log_dir`` (contract 2.6)."""
    return os.path.join(logs, "user", "entry_script_log", NODE)


def entry_script_log_path(logs: str, worker: int) -> str:
    """Return the file of a worker's ``EntryScript().logger`` (contract 2.6)."""
    return os.path.join(entry_script_log_folder(logs), f"{process_name(worker)}.log.txt")


def error_path(logs: str, worker: int) -> str:
    """Return the file of the tracebacks of a worker's script."""
    return os.path.join(logs, "user", "error", NODE, f"{process_name(worker)}.txt")


def summary_path(logs: str, worker: int) -> str:
    """Return the file that sums up what a worker did."""
    return os.path.join(logs, "sys", "node", NODE, f"{process_name(worker)}.txt")
