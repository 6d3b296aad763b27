"""``azureml_user.parallel_run``, the module that Azure ML puts into every worker (contract 2.6).

from azureml_user.parallel_run import EntryScript

entry_script = EntryScript()
entry_script.logger.info("once for each worker")
"""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar, Self

__all__ = ["LINE_FORMAT", "EntryScript", "agent_name_of", "install"]

LINE_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
"""How a log record of a scoring script is written, here and on standard output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    logger: logging.Logger
    log_dir: str
    output_dir: str
    agent_name: str
    working_dir: str
    folder: str


_worker: list[_Facts] = []


class EntryScript:
    """The worker as its scoring script sees it: the same object however often it is asked for (contract 2.6)."""

    _only: ClassVar[Self | None] = None

    def __new__(cls) -> Self:
        """Return the one object."""
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    @property
    def logger(self) -> logging.Logger:
        """A logger that writes to a file of this worker in `log_dir`."""
        return _worker[0].logger

    @property
    def log_dir(self) -> str:
        """The folder of such files, ``logs/user/entry_script_log/0``."""
        return _made(_worker[0].log_dir)

    @property
    def output_dir(self) -> str:
        """The folder of the output, shared by all workers: ``AZUREML_BI_OUTPUT_PATH``."""
        return _made(_worker[0].output_dir)

    @property
    def agent_name(self) -> str:
        """The name of this worker, such as ``process000``."""
        return _worker[0].agent_name

    @property
    def working_dir(self) -> str:
        """The folder that this worker alone works in."""
        return _worker[0].working_dir

    @property
    def dir(self) -> str:
        """The folder of the scoring script."""
        return _worker[0].folder


def agent_name_of(number: int) -> str:
    """Name a worker as Azure ML does (contract 2.6)."""
    return f"process{number:03}"


def install(*, number: int, folder: str, working_dir: str, output_dir: str, logs: str, level: int) -> None:
    """Make the module importable, and start the log of this worker.

    Args:
        number: Of the worker.
        folder: Of the scoring script.
        working_dir: Where the worker works.
        output_dir: ``AZUREML_BI_OUTPUT_PATH``; where empty, the working directory.
        logs: The folder of the job's logs; where empty, the logger's words go to the root logger's.
        level: Of the logger, as in `logging`.
    """
    name = agent_name_of(number)
    log_dir = os.path.join(logs, "user", "entry_script_log", "0") if logs else working_dir
    logger = logging.getLogger("azureml_user.parallel_run")
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(level)
    logger.propagate = not logs
    if logs:
        # the file is made with its first line
        file = os.path.join(_made(log_dir), f"{name}.log.txt")
        handler = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace", delay=True)
        handler.setFormatter(logging.Formatter(LINE_FORMAT))
        logger.addHandler(handler)
    _worker[:] = [
        _Facts(
            logger=logger,
            log_dir=log_dir,
            output_dir=output_dir or working_dir,
            agent_name=name,
            working_dir=working_dir,
            folder=folder,
        )
    ]
    package, module = ModuleType("azureml_user"), ModuleType("azureml_user.parallel_run")
    package.__path__ = []
    module.__dict__["EntryScript"] = EntryScript
    package.__dict__["parallel_run"] = module
    sys.modules[package.__name__] = package
    sys.modules[module.__name__] = module


def _made(folder: str) -> str:
    os.makedirs(folder, exist_ok=True)
    return folder
