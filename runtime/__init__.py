"""The driving side of Scoreline: it plans the work, hands it out, decides about failures and publishes.

Importing this package costs nothing: the names below are looked up when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.job import run
    from runtime.validation import validate

    __version__: str

__all__ = ["__version__", "run", "validate"]


def __getattr__(name: str) -> object:
    """Look up a public name when it is first used."""
    if name == "run":
        from runtime.job import run

        return run
    if name == "validate":
        from runtime.validation import validate

        return validate
    if name == "__version__":
        from importlib.metadata import version

        return version("scoreline")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
