"""The fork server forks only where that is safe."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path

import pytest

from runtime import forkserver, run
from runtime.forkserver import ForkServer, open_log, worker_environment


def test_workers_begin_afresh_where_a_library_started_a_thread(
    tmp_path: Path, heart_model: Path, heart_rows: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that a thread of the server holds cannot stay locked in a worker: that one is a new process."""
    monkeypatch.setenv("JE_ARROW_MALLOC_CONF", "background_thread:true")
    receipt = run(model=heart_model, input=heart_rows(50), output=tmp_path / "out", workers=1, engine="forkserver")
    assert receipt.rows == {"read": 50, "scored": 50, "quarantined": 0, "given_up": 0}


def test_workers_are_capped_and_send_nothing_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thread caps win over the caller's environment; what is a taste stays the caller's."""
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000")
    environment = worker_environment(3)
    assert environment["OMP_NUM_THREADS"] == environment["OPENBLAS_NUM_THREADS"] == "3"
    assert environment["MALLOC_TRIM_THRESHOLD_"] == "1000"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [("always [madvise] never", 8), ("[always] madvise never", 8), ("always madvise [never]", 256), (None, 256)],
)
def test_largest_arrays_are_given_back_where_pages_are_huge(
    setting: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faulting small pages in again takes a quarter of a light model's time, so that there memory is kept."""
    path = tmp_path / "enabled"
    if setting is not None:
        path.write_text(setting + "\n")
    monkeypatch.setattr(forkserver, "_HUGE_PAGES", str(path))
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    assert worker_environment(1)["MALLOC_MMAP_THRESHOLD_"] == str(expected * 2**20)


def test_driver_that_goes_while_a_worker_is_forked_leaves_no_traceback(tmp_path: Path) -> None:
    """The end of the driver is the end of the server, whatever it is about to tell."""
    with open_log(debug=False) as log:
        server = ForkServer(str(tmp_path), threads=1, log=log)
        ours, theirs = Pipe()
        with ours, theirs:
            # it asks again before the server, which imports still, has forked the first
            for number in range(2):
                server.fork(number, theirs.fileno())
            server.hang_up()
            server.stop(60.0)
        log.seek(0)
        assert b"Traceback" not in log.read()
