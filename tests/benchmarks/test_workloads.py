"""The inputs are what their names say, and the peers are pinned."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.contenders import PEER_BY_NAME, RACES
from benchmarks.environments import CONSTRAINTS, PEERS
from benchmarks.workloads import QUICK_WORKLOADS, WORKLOADS, Workload, make_workload

ROOT = Path(__file__).parents[2]


def test_notes_have_newlines_and_quotes_inside(tmp_path: Path) -> None:
    """Every row ends in a text of three lines, quoted, some with quotes in it."""
    path = make_workload(tmp_path, Workload(files=1, rows=200, shape="notes"))
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header[-1] == "note"
    assert len(rows) == 200
    assert all(row[-1].count("\n") == 2 for row in rows)
    assert any('"' in row[-1] for row in rows)


def test_skewed_and_zipped_files(tmp_path: Path) -> None:
    """The first file has most rows; zipped files hold what plain ones would; all rows are counted."""
    work = Workload(files=3, rows=5, first_rows=50, zipped=True)
    folder = make_workload(tmp_path, work)
    texts = [gzip.decompress(path.read_bytes()) for path in sorted(folder.iterdir())]
    assert [text.count(b"\n") - 1 for text in texts] == [50, 5, 5]
    assert work.all_rows == 60
    assert work.size_bytes(tmp_path) == sum(path.stat().st_size for path in folder.iterdir())
    plain = make_workload(tmp_path, Workload(files=3, rows=5, first_rows=50))
    assert [path.read_bytes() for path in sorted(plain.iterdir())] == texts


def test_wide_rows(tmp_path: Path) -> None:
    """A row has 600 numbers."""
    path = make_workload(tmp_path, Workload(files=1, rows=3, shape="wide"))
    assert [line.count(",") for line in path.read_text().splitlines()] == [599] * 4


def test_races_name_what_there_is() -> None:
    """Every race has its workload, in full size and quick, and its peers a program."""
    for race in RACES.values():
        assert race.workload in WORKLOADS.keys() & QUICK_WORKLOADS.keys()
        assert {*race.at_least, *race.options} <= {*race.peers}
        assert all((PEERS / PEER_BY_NAME[peer].script).exists() for peer in race.peers)


@pytest.mark.parametrize("path", sorted(PEERS.glob("*.txt")), ids=lambda path: path.stem)
def test_requirements_are_pinned(path: Path) -> None:
    """A peer's environment is what its file and constraints.txt say, and nothing is named but packages."""
    pinned = {line.partition("==")[0].lower() for line in CONSTRAINTS.read_text().splitlines()}
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "-c ../../constraints.txt"
    for line in lines[1:]:
        assert re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[0-9][0-9A-Za-z.]*", line) or line in pinned, line


def test_the_loop_with_an_engine_that_does_nothing(tmp_path: Path) -> None:
    """The driver is measured over as many mini-batches as there are rows."""
    path = make_workload(tmp_path, Workload(files=1, rows=300))
    command = [sys.executable, "-m", "benchmarks.driver", str(path)]
    found = subprocess.run(command, cwd=ROOT, env=os.environ, check=True, capture_output=True, text=True)
    figures = json.loads(found.stdout)
    assert figures["batches"] == 300
    assert figures["wall_s"] >= 0
    assert figures["cpu_s"] > 0
