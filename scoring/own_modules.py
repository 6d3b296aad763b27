"""Modules of user code that have the names of ours.

A scoring script, or the code saved with a model, may bring a `runtime`, a `scoring` or a `__main__` of its own. Both
sides keep theirs: while user code runs, ours are out of `sys.modules` and its own are in, and afterwards the other way
round (contract 2.4, design.md section 8).

    modules = UserModules()
    with modules:
        script.run(mini_batch)

Nothing of ours may be imported inside, neither by name nor by a pickle: what is needed there is imported before.
A thread that user code leaves behind sees whichever side runs at the moment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType, TracebackType
from typing import Self

__all__ = ["HOME", "PACKAGES", "PassedOver", "UserModules"]

PACKAGES = ("runtime", "scoring")
"""Our packages."""
_NAMES = frozenset((*PACKAGES, "__main__"))
_STARTS = frozenset(name[:7] for name in _NAMES)
HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""The folder they are in."""


class PassedOver:
    """A finder on ``sys.meta_path`` of some top-level modules, as if some folders were not on ``sys.path``.

    What is in these folders alone is found all the same, by the finders behind it.
    """

    def __init__(self, names: Iterable[str], folders: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._folders = frozenset(os.path.realpath(folder) for folder in folders)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find one of the modules elsewhere."""
        if path is not None or name not in self._names:
            return None
        others = [entry for entry in sys.path if os.path.realpath(entry) not in self._folders]
        return PathFinder.find_spec(name, others, target)


class UserModules:
    """The modules that user code has under the names of ours; inside ``with`` they are the ones in place.

    It costs 0.3 ms a time where mlflow is loaded (2,600 modules, on 2 cores): they are all looked at, for user code may
    import more of its own at any time.
    """

    def __init__(self) -> None:
        # a bare one: what user code starts with `spawn` would import our command line again, by its name
        self._theirs: dict[str, ModuleType] = {"__main__": ModuleType("__main__")}
        self._ours: dict[str, ModuleType] = {}
        # a folder `scoring` without an `__init__.py` would lose against our package, wherever it is on the path
        self._finder = PassedOver(PACKAGES, [HOME])

    def __enter__(self) -> Self:
        self._ours = _taken_out()
        sys.modules.update(self._theirs)
        sys.meta_path.insert(0, self._finder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        self._theirs = _taken_out()
        sys.modules.update(self._ours)


def _taken_out() -> dict[str, ModuleType]:
    """Take all modules of these names out of ``sys.modules``."""
    # half the time of asking each name what it starts with
    near = [name for name in list(sys.modules) if name[:7] in _STARTS]
    return {name: sys.modules.pop(name) for name in near if name.partition(".")[0] in _NAMES}
