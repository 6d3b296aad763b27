"""What a command takes is measured over its whole process tree."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.measure import CommandError, measure

# the grandchild is of another session and outlives its parent
ORPHAN = """
import subprocess, sys
busy = "import time\\nwhile time.process_time() < 0.3: pass"
subprocess.Popen([sys.executable, "-c", busy], start_new_session=True)
"""


def test_orphans_count(tmp_path: Path) -> None:
    """The CPU seconds of a process that outlived the command are counted."""
    run = measure([sys.executable, "-c", ORPHAN], env=os.environ, cwd=tmp_path)
    assert run.cpu_s >= 0.3
    assert run.first_s is None


def test_first_scores(tmp_path: Path) -> None:
    """What is empty, hidden or unfinished is no score yet; the first that is, is noted."""
    script = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
(folder / "below").mkdir(parents=True)
for name in (".hidden", "new-part", "probe-1-link", "_SUCCESS"):
    (folder / name).write_text("x")
(folder / "empty").touch()
time.sleep(0.5)
(folder / "below" / "part-0.csv").write_text("1")
print("done")
"""
    folder = tmp_path / "out"
    run = measure([sys.executable, "-c", script, str(folder)], env=os.environ, cwd=tmp_path, watch=folder)
    assert run.first_s is not None
    assert 0.5 <= run.first_s <= run.wall_s
    assert run.stdout.strip() == "done"


def test_memory_is_sampled_when_asked_for(tmp_path: Path) -> None:
    """The peak holds what the command held."""
    script = "import time; held = bytearray(50_000_000); time.sleep(2)"
    assert measure([sys.executable, "-c", script], env=os.environ, cwd=tmp_path, memory=True).peak_pss_bytes > 5e7
    assert measure([sys.executable, "-c", ""], env=os.environ, cwd=tmp_path).peak_pss_bytes == 0


def test_a_command_that_fails_is_no_figure(tmp_path: Path) -> None:
    """Its exit code and last words are told."""
    with pytest.raises(CommandError, match=r"exit 3(.|\n)*last words"):
        measure([sys.executable, "-c", "import sys; print('last words'); sys.exit(3)"], env=os.environ, cwd=tmp_path)
