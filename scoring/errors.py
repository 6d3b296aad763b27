"""What can go wrong, as sentences for the person who started the job.

    ScorelineError
    ├── InputError          the input cannot be listed or read
    │   └── InputBusyError  not now: storage does not answer, or lets us in no longer; there is no room for a copy
    ├── ModelLoadError      the model cannot be loaded
    │   └── ModelUseError   the model cannot be used in the way asked for
    └── PredictionError     what the model returned cannot be written

`runtime.errors` continues the tree with what only the driver meets.
"""

from __future__ import annotations

__all__ = ["InputBusyError", "InputError", "ModelLoadError", "ModelUseError", "PredictionError", "ScorelineError"]


class ScorelineError(Exception):
    """A failure explained in one sentence: what, where, why, what to do."""


class InputError(ScorelineError):
    """The input cannot be listed or read."""


class InputBusyError(InputError):
    """The input cannot be read now; the same command may work later."""


class ModelLoadError(ScorelineError):
    """The model cannot be loaded."""


class ModelUseError(ModelLoadError):
    """The model cannot be used in the way asked for."""


class PredictionError(ScorelineError):
    """What the model returned cannot be written."""
