"""What can go wrong, as sentences for the person who started the job.

    ScorelineError
    ├── InputError          the input cannot be listed or read
    │   └── InputBusyError  not now: storage does not answer, or lets us in no longer; there is no room for a copy
    ├── ModelLoadError      the model cannot be loaded
    │   └── ModelUseError   the model cannot be used in the way asked for
    ├── PredictionError     what the model returned cannot be written
    └── StorageError        storage failed in a way that may pass

`runtime.errors` continues the tree with what only the driver meets.
"""

from __future__ import annotations

import errno

__all__ = [
    "InputBusyError", "InputError", "ModelLoadError", "ModelUseError", "PredictionError", "ScorelineError",
    "StorageError", "may_pass",
]  # fmt: skip

_MAY_PASS = frozenset({
    errno.EIO, errno.EAGAIN, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO, errno.ENETDOWN,
    errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.ECONNRESET,
    errno.ECONNABORTED, errno.ENOTCONN, errno.EPIPE,
})  # fmt: skip


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


class StorageError(ScorelineError):
    """Storage failed in a way that may pass."""


def may_pass(error: OSError) -> bool:
    """Tell whether a failure of a disk, a mount or a network is worth another try."""
    return error.errno in _MAY_PASS
