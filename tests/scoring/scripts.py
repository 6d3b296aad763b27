"""Run scoring scripts as a worker does: in a process that is theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

from scoring.specs import ScriptSpec

CHILD = """
import json, sys, traceback
from scoring.script import Script
from scoring.specs import ScriptSpec

def said(error):
    return {"raised": type(error).__name__, "text": str(error), "trace": "".join(traceback.format_exception(error))}

order = json.loads(sys.argv[1])
{before}
spec = ScriptSpec(**{name: tuple(map(tuple, value)) if name == "environment" else value
                     for name, value in order["spec"].items()})
answer = {"repr": repr(spec), "runs": []}
try:
    script = Script(spec, order["number"])
except Exception as error:
    answer["load"] = said(error)
else:
    answer["repr"] += repr(script)
    for index, batch in enumerate(order["batches"]):
        try:
            result = script.run(batch, mini_batch_index=index)
            answer["runs"].append(
                {"lines": result.lines.decode(), "columns": list(result.columns), "items": result.items}
            )
        except BaseException as error:
            answer["runs"].append(said(error))
    script.shutdown()
{after}
with open(order["answer"], "w") as file:
    json.dump(answer, file)
"""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a script did.

    Attributes:
        load: why it did not load: raised, text, trace; empty where it did.
        runs: of each mini-batch: lines, columns, items; or raised, text, trace.
        repr: of the spec and the script.
        extra: what the test's own code put into `answer["extra"]`.
    """

    load: dict[str, str]
    runs: list[dict[str, Any]]
    repr: str
    extra: Any
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        """The lines of the first mini-batch."""
        assert not self.load, self.load["trace"]
        assert "raised" not in self.runs[0], self.runs[0]["trace"]
        return str(self.runs[0]["lines"]).splitlines()


def write_files(folder: Path, files: dict[str, str]) -> Path:
    """Write files of Python, indented as the test is."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    return folder


def run_script(
    tmp_path: Path,
    files: str | dict[str, str],
    *batches: Sequence[str],
    number: int = 0,
    before: str = "",
    after: str = "",
    variables: dict[str, str] | None = None,
    **settings: Any,
) -> Told:
    """Load a script, run it on mini-batches (on one of ``/in/a.csv``, ``/in/b.csv`` where none is given), shut it down.

    Args:
        tmp_path: where its files are written: below ``code``.
        files: the script ``score.py``, or all files by name.
        batches: paths of each mini-batch.
        number: of the worker.
        before: code of the child that runs before the script is loaded.
        after: code that runs in the end; it may put something into ``answer["extra"]``.
        variables: of the child's environment.
        settings: fields of the `ScriptSpec`.
    """
    code = write_files(tmp_path / "code", {"score.py": files} if isinstance(files, str) else files)
    spec = ScriptSpec(**{"code": str(code), "scoring_script": "score.py", "work": str(tmp_path / "work"), **settings})
    answer = tmp_path / "answer.json"
    order = {
        "spec": asdict(spec),
        "number": number,
        "batches": batches or [["/in/a.csv", "/in/b.csv"]],
        "answer": str(answer),
    }
    child = CHILD.replace("{before}", dedent(before)).replace("{after}", dedent(after))
    done = subprocess.run(
        [sys.executable, "-P", "-c", child, json.dumps(order)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(variables or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(answer.read_text())
    return Told(
        load=said.get("load", {}),
        runs=said["runs"],
        repr=said["repr"],
        extra=said.get("extra"),
        stdout=done.stdout,
        stderr=done.stderr,
    )
