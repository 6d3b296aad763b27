"""`make bench` may be stopped, given again, and run in slices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import bench
from benchmarks.results import Line, load_lines, machine, save_lines

HELP = Line(name="help", what="help", unit="s", ours=(0.1,), other=(0.1,), other_name="click", figure=1.0, commit="abc")
DRIVER = replace(HELP, name="driver", other_name="limit")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Return the file of a run at another time."""
    path = tmp_path / "results" / f"{machine()}.json"
    save_lines(path, [DRIVER, HELP])
    return path


def measure(kept: Path, monkeypatch: pytest.MonkeyPatch, *options: str, commit: str, figure: float) -> None:
    """Run the command at a commit, where every measurement of the driver has that figure."""
    monkeypatch.setattr(bench, "commit", lambda: commit)
    monkeypatch.setitem(bench.MEASUREMENTS, "driver", lambda _: [replace(DRIVER, figure=figure, commit="")])
    bench.main(["--results", str(kept.parent), "--data", str(kept.parent / "data"), "--only", "driver", *options])


def test_a_slice_replaces_its_own_lines_alone(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured is kept with its commit beside what was measured before, and shown on the page."""
    measure(kept, monkeypatch, commit="def", figure=2.0)
    driver, other = load_lines(kept)
    assert (driver.figure, driver.commit) == (2.0, "def")
    assert driver.when
    assert other == HELP
    page = kept.with_suffix(".md").read_text()
    assert "| driver |" in page
    assert "| help |" in page


def test_resuming_leaves_out_what_is_measured_at_this_commit(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the same commit nothing runs again; at another one it does."""
    measure(kept, monkeypatch, "--resume", commit="abc", figure=2.0)
    assert load_lines(kept) == [DRIVER, HELP]
    measure(kept, monkeypatch, "--resume", commit="def", figure=3.0)
    assert [line.figure for line in load_lines(kept)] == [3.0, 1.0]


def test_a_quick_bench_keeps_nothing(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its figures are no figures to quote."""
    before = kept.read_bytes()
    measure(kept, monkeypatch, "--quick", commit="def", figure=2.0)
    assert kept.read_bytes() == before
    assert not kept.with_suffix(".md").exists()


@pytest.mark.parametrize("option", ["--runs", "--workers"])
def test_none_is_no_number_of_runs(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What would fail after the first measurement is refused before it."""
    with pytest.raises(SystemExit):
        bench.main([option, "0"])
    assert f"argument {option}: invalid count value: '0'" in capsys.readouterr().err
