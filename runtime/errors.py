"""What the driver can meet; it continues the tree of `scoring.errors`.

    ScorelineError
    ├── InputError, ModelLoadError, PredictionError    (scoring.errors)
    ├── UsageError             options that contradict each other or cannot be
    │   ├── UriError           a URI that cannot be read, or names what is not served here
    │   └── DeploymentError    all that is wrong with a deployment file
    ├── OutputError            the output exists already or cannot be written
    │   └── OutputBusyError    not now: another driver holds it, the disk is full
    ├── ResumeError            parts are staged of a job with another model or other settings
    ├── WorkerError            workers die or fail in a way that no retry cures
    ├── ThresholdError         more rows went to the quarantine than allowed
    └── InterruptedJobError    a signal stopped the job

Each class carries the exit code of the command (`exit_code`), which is an interface: 1 failed and will fail again,
2 refused before any work, 75 try later, 128 + signal interrupted and resumable.
"""

from __future__ import annotations

from collections.abc import Sequence

from scoring.errors import InputBusyError, InputError, ModelLoadError, ModelUseError, PredictionError, ScorelineError

__all__ = [
    "DeploymentError",
    "InputBusyError",
    "InputError",
    "InterruptedJobError",
    "ModelLoadError",
    "ModelUseError",
    "OutputBusyError",
    "OutputError",
    "PredictionError",
    "ResumeError",
    "ScorelineError",
    "ThresholdError",
    "UriError",
    "UsageError",
    "WorkerError",
    "exit_code",
]

FAILED = 1
REFUSED = 2
TRY_LATER = 75


class UsageError(ScorelineError):
    """Options contradict each other, or cannot be."""


class UriError(UsageError):
    """A URI cannot be read, or names what is not served here."""


class DeploymentError(UsageError):
    """A deployment file is wrong.

    Attributes:
        problems: all that is wrong with it, a sentence each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class OutputError(ScorelineError):
    """The output exists already, or cannot be written."""


class OutputBusyError(OutputError):
    """The output cannot be written now; the same command may work later."""


class ResumeError(ScorelineError):
    """Parts are staged of a job with another model or other settings."""


class WorkerError(ScorelineError):
    """Workers die or fail in a way that no retry cures."""


class ThresholdError(ScorelineError):
    """More rows went to the quarantine than allowed."""


class InterruptedJobError(ScorelineError):
    """A signal stopped the job; what is staged is kept."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


def exit_code(error: ScorelineError) -> int:
    """Return the exit code of the command for an error."""
    match error:
        case InterruptedJobError():
            return 128 + error.signal_number
        case InputBusyError() | OutputBusyError():
            return TRY_LATER
        case InputError() | ModelUseError() | OutputError() | ResumeError() | UsageError():
            return REFUSED
        case _:
            return FAILED
