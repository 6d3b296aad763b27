"""A disk that refuses or fails at calls, in every process that Python starts with this folder on its path.

What it does not do is in ``SCORELINE_TEST_DISK``: ``{"below": folder, "refused": {call: name of an errno}}``, and for
calls that fail now and then ``"failing": [call, name of an errno, part of a path, calls before the first]``.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterable
from typing import Any

CALLS = (
    "link",
    "rename",
    "replace",
    "fsync",
    "fsync folder",
    "flock",
    "copy_file_range",
    "O_EXCL",
    "dot",
    "remove open",
)
"""What can be refused and is told; ``replace`` is to rename over a file, ``dot`` a name that begins with one.

Besides, ``overwrite`` is to open a file for writing that is there and not to empty it, ``utime`` to set its times to
now.
"""


def _paths(arguments: Iterable[Any]) -> list[str]:
    found = []
    for each in arguments:
        if isinstance(each, int):
            try:
                each = os.readlink(f"/proc/self/fd/{each}")  # noqa: PLW2901 (what the number stands for)
            except OSError:
                continue
        if isinstance(each, str | os.PathLike):
            found.append(os.path.abspath(os.fspath(each)))
    return found


def _open_here(paths: list[str]) -> bool:
    """Tell whether this process has one of the files open."""
    return any(path in paths for path in _paths(int(each) for each in os.listdir("/proc/self/fd")))


class PoorDisk:
    """What a disk does not do, and where."""

    def __init__(self, rules: dict[str, Any]) -> None:
        self._below = os.path.abspath(rules["below"])
        self._refused: dict[str, str] = rules.get("refused", {})
        self._failing: list[Any] | None = rules.get("failing")
        self._left = self._failing[3] if self._failing else 0
        self._name_bytes: int = rules.get("name_bytes", 255)

    def check(self, what: str, *arguments: Any) -> None:
        """Fail a call, if it is one that fails here."""
        paths = [path for path in _paths(arguments) if path.startswith(self._below)]
        if not paths:
            return
        if what in self._refused:
            raise _error(self._refused[what], paths[-1])
        if self._failing and what == self._failing[0] and any(self._failing[2] in path for path in paths):
            self._left -= 1
            if self._left < 0:
                raise _error(self._failing[1], paths[-1])

    def check_name(self, path: Any) -> None:
        """Fail where a name is made that cannot be."""
        for found in _paths([path]):
            name = os.path.basename(found)
            if found.startswith(self._below) and len(os.fsencode(name)) > self._name_bytes:
                raise _error("ENAMETOOLONG", found)
            if name.startswith("."):
                self.check("dot", found)

    def rename(self, source: Any, target: Any) -> None:
        """Come before a file is renamed."""
        self.check("rename", source, target)
        self.check_name(target)
        if os.path.lexists(target):
            self.check("replace", source, target)

    def open(self, path: Any, flags: int, *_: Any) -> None:
        """Come before a file is opened."""
        if flags & os.O_CREAT:
            self.check_name(path)
            self.check("create", path)
        if flags & os.O_EXCL:
            self.check("O_EXCL", path)
        if flags & (os.O_ACCMODE | os.O_TRUNC | os.O_EXCL) == os.O_WRONLY and os.path.exists(path):
            self.check("overwrite", path)

    def fsync(self, descriptor: int) -> None:
        """Come before a file or a folder is made durable."""
        self.check("fsync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync", descriptor)

    def unlink(self, path: Any, **_: Any) -> None:
        """Come before a file is removed."""
        if "remove open" in self._refused and _open_here(_paths([path])):
            self.check("remove open", path)


def _error(name: str, path: str) -> OSError:
    number = getattr(errno, name)
    return OSError(number, os.strerror(number), path)


def install(rules: dict[str, Any], put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Replace the calls that are refused or fail.

    Args:
        rules: see the top of this module.
        put: sets an attribute of a module.
    """
    disk = PoorDisk(rules)

    def wrap(module: Any, name: str, before: Callable[..., None]) -> None:
        real = getattr(module, name)

        def call(*arguments: Any, **options: Any) -> Any:
            before(*arguments)
            return real(*arguments, **options)

        put(module, name, call)

    wrap(os, "rename", disk.rename)
    wrap(os, "replace", disk.rename)
    wrap(os, "link", lambda source, target, **_: disk.check("link", source, target))
    wrap(os, "open", disk.open)
    wrap(os, "mkdir", lambda path, *_: disk.check_name(path))
    wrap(os, "fsync", disk.fsync)
    wrap(os, "unlink", disk.unlink)
    wrap(os, "remove", disk.unlink)
    wrap(os, "utime", lambda path, *times, **_: times or disk.check("utime", path))
    wrap(os, "write", lambda descriptor, *_: disk.check("write", descriptor))
    wrap(os, "copy_file_range", lambda source, target, *_: disk.check("copy_file_range", source, target))
    wrap(fcntl, "flock", lambda file, *_: disk.check("flock", file))


if "SCORELINE_TEST_DISK" in os.environ:
    install(json.loads(os.environ["SCORELINE_TEST_DISK"]))
