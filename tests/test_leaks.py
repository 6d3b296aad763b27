"""The check that runs after every test finds what a test leaves behind."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import psutil

CARELESS = '''
import os, subprocess, tempfile, threading, time
from pathlib import Path

SLEEP = ["sleep", "60"]

def test_leaves_everything():
    global child
    child = subprocess.Popen(SLEEP)
    if os.fork() == 0:
        # Its parent is gone at once: only its environment tells where it comes from.
        subprocess.Popen(SLEEP, start_new_session=True)
        os._exit(0)
    os.wait()
    threading.Thread(target=time.sleep, args=(10,), name="careless thread").start()
    for _ in range(4):
        os.pipe()
    Path(tempfile.gettempdir(), "scoreline-spool").mkdir()

def test_leaves_nothing():
    assert not Path(tempfile.gettempdir(), "scoreline-spool").exists()
'''


def test_leaks_fail_the_test_that_left_them(tmp_path: Path) -> None:
    """A process, an orphan, a thread, open files and a temporary folder are named, cleared, and blamed on one test."""
    conftest = Path(__file__).with_name("conftest.py").read_text()
    assert conftest.count("GRACE_S = 20.0") == 1
    # nothing of this ends by itself, so nothing is waited for
    (tmp_path / "conftest.py").write_text(conftest.replace("GRACE_S = 20.0", "GRACE_S = 0.5"))
    (tmp_path / "test_careless.py").write_text(CARELESS)
    pytest_run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path]
    report = subprocess.run(pytest_run, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    # Sets, because pytest repeats the text in its summary where CI is set.
    sleepers = set(re.findall(r"^process (\d+) \(.*\): sleep 60$", report, re.MULTILINE))
    assert "ERROR at teardown of test_leaves_everything" in report
    assert len(sleepers) == 2
    assert not any(_runs(int(process)) for process in sleepers)
    assert "thread careless thread" in report
    assert len(set(re.findall(r"^open file (\d+): pipe:", report, re.MULTILINE))) == 8
    assert re.search(r"^temporary file .*/scoreline-spool$", report, re.MULTILINE)
    assert "2 passed, 1 error" in report


def _runs(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
