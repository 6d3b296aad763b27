"""What the usual run of the tests leaves out, because other cases show nearly the same: `make thorough` runs it too."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

__all__ = ["THOROUGH", "usual"]

THOROUGH = os.environ.get("SCORELINE_THOROUGH") == "1"
Case = TypeVar("Case")


def usual(cases: Iterable[Case], *, seldom: Iterable[Case]) -> list[Case]:
    """Return cases of a test, without those that only a thorough run has."""
    left_out = [] if THOROUGH else list(seldom)
    return [case for case in cases if case not in left_out]
