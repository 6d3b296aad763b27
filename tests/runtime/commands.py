"""The command line, given in this process: one worker's model is loaded there in a moment."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from click.testing import CliRunner

from runtime.cli import scoreline as command


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a command."""

    code: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        """The last line that a person sees."""
        return self.stderr.splitlines()[-1] if self.stderr else ""


def scoreline(*arguments: object) -> Outcome:
    """Give a command; a run is scored in this process."""
    texts = [str(each) for each in arguments]
    if texts[:1] == ["run"] and "--engine" not in texts:
        texts += ["--engine", "inline"]
    # click before 8.2 mixes the streams unless told otherwise, and no later one can be told
    apart = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
    result = CliRunner(**apart).invoke(command, texts)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)
