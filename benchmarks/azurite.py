"""Run the same job blob to blob and on local disk, and a loop over what adlfs opens, in turn, on Azurite."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.environments import python_of_ours
from benchmarks.measure import Run
from benchmarks.results import Line
from benchmarks.runs import (
    ENV,
    PEERS,
    Bench,
    OurRun,
    log,
    median_wall_s,
    run,
    run_job,
    run_scoreline,
    workload,
)
from benchmarks.same_rows import check_same_bytes
from benchmarks.workloads import make_model, make_workload
from tests.azure.server import ACCOUNT, KEY, NoAzuriteError, Server, start

CONTAINER = "bench"
PEAK_AT_MOST = 1.25


def azurite_one_big(bench: Bench) -> list[Line]:
    """One file on Azurite, against local disk and against a loop with adlfs."""
    return blob_to_blob(bench, "one_big", at_most=1.5)


def azurite_many_small(bench: Bench) -> list[Line]:
    """Many small blobs on Azurite, against local disk and against a loop with adlfs."""
    return blob_to_blob(bench, "many_small", at_most=3.0)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Azurite with the input of one workload in it.

    Attributes:
        server: it.
        store: reads and writes its container.
        source: path of the input in the container: a file, or a folder with a slash at its end.
    """

    server: Server
    store: Any
    source: str

    @property
    def environment(self) -> dict[str, str]:
        """How Scoreline and the loop learn of the key; no variable of the caller speaks of another account."""
        endpoint = f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.server.url};"
        mine = {name: value for name, value in ENV.items() if not name.startswith("AZURE_")}
        return mine | {"AZURE_STORAGE_CONNECTION_STRING": f"DefaultEndpointsProtocol=http;{endpoint}"}

    def url(self, path: str) -> str:
        """Return the address of a blob or folder."""
        return f"{self.server.url}/{CONTAINER}/{path}"

    def fetch(self, path: str, to: Path) -> Path:
        """Copy a blob to a file, and delete it: it would only fill Azurite's memory."""
        with to.open("wb") as file:
            for chunk in self.store.get(path).stream(min_chunk_size=8 * 2**20):
                file.write(chunk)
        self.store.delete(path)
        return to


@dataclass(frozen=True, kw_only=True)
class _Round:
    """One run of each."""

    local: Run
    ours: Run
    loop: Run
    server_cpu_s: float


def blob_to_blob(bench: Bench, name: str, *, at_most: float) -> list[Line]:
    """Compare the whole job on Azurite with the same on local disk, and with the loop."""
    try:
        with _holding(make_workload(bench.data, workload(bench, name))) as place:
            rounds = [_round(bench, name, place, number) for number in range(bench.runs)]
            peaks = None if bench.quick else _peaks(bench, name, place)
    except NoAzuriteError as error:
        log.print(f"azurite_{name} is skipped: {error}")
        return []
    ours, local, loop = [each.ours for each in rounds], [each.local for each in rounds], [each.loop for each in rounds]
    what = f"{workload(bench, name).described}, blob to blob on Azurite"
    shared: dict[str, Any] = {
        "name": f"azurite_{name}",
        "what": what,
        "unit": "s",
        "ours": tuple(run.wall_s for run in ours),
        "ours_cpu_s": statistics.median(run.cpu_s for run in ours),
        "server_cpu_s": statistics.median(each.server_cpu_s for each in rounds),
    }
    lines = [
        Line(
            **shared,
            other=tuple(run.wall_s for run in local),
            other_name="local disk",
            figure=median_wall_s(ours) / median_wall_s(local),
            at_most=at_most,
            other_cpu_s=statistics.median(run.cpu_s for run in local),
        ),
        Line(
            **shared,
            other=tuple(run.wall_s for run in loop),
            other_name="adlfs loop",
            figure=median_wall_s(loop) / median_wall_s(ours),
            at_least=2.0,
            other_cpu_s=statistics.median(run.cpu_s for run in loop),
        ),
    ]
    if peaks is not None:
        on_azurite, on_disk = peaks
        peak = Line(
            name=f"azurite_{name}",
            measure="peak PSS",
            what=what,
            unit="MB",
            ours=(on_azurite / 1e6,),
            other=(on_disk / 1e6,),
            other_name="local disk",
            figure=on_azurite / on_disk,
            at_most=PEAK_AT_MOST,
        )
        lines.append(peak)
    return lines


@contextmanager
def _holding(source: Path) -> Iterator[_Place]:
    """Start Azurite with the files of a workload in it."""
    from obstore.store import AzureStore

    from scoring.blob_access import container_client, object_store

    with start() as server:
        access = server.access(CONTAINER)
        with container_client(access) as client:
            client.create_container()
        store: AzureStore = object_store(access)
        files = sorted(source.glob("*.csv")) if source.is_dir() else [source]
        for path in files:
            store.put(f"input/{path.name}", path)
        yield _Place(server=server, store=store, source="input/" if source.is_dir() else f"input/{source.name}")


def _round(bench: Bench, name: str, place: _Place, number: int) -> _Round:
    """Run the job on local disk, on Azurite, and the loop; check that all three wrote the same."""
    model = make_model(bench.data, "logistic")
    local = run_scoreline(bench, model, make_workload(bench.data, workload(bench, name)))
    before_s = _cpu_s(place.server)
    ours = _on_azurite(bench, model, place)
    server_cpu_s = _cpu_s(place.server) - before_s
    script = [python_of_ours(bench.data), str(PEERS / "adlfs_loop.py"), str(model)]
    source = f"{CONTAINER}/{place.source}".rstrip("/")
    loop = run(bench, [*script, source, f"{CONTAINER}/loop.csv"], env=place.environment)
    check_same_bytes(local.scores, ours.scores)
    check_same_bytes(local.scores, place.fetch("loop.csv", bench.scratch / "loop.csv"))
    log.print(
        f"azurite_{name} {number + 1}/{bench.runs}: scoreline {ours.run.wall_s:.2f} s (Azurite's CPU "
        f"{server_cpu_s:.2f} s), local disk {local.run.wall_s:.2f} s, adlfs loop {loop.wall_s:.2f} s"
    )
    return _Round(local=local.run, ours=ours.run, loop=loop, server_cpu_s=server_cpu_s)


def _on_azurite(bench: Bench, model: Path, place: _Place, *, memory: bool = False) -> OurRun:
    """Score blob to blob, and fetch the scores."""
    measured, receipt = run_job(
        bench, model, place.url(place.source), place.url("output/"), env=place.environment, memory=memory
    )
    scores = place.fetch("output/predictions.csv", bench.scratch / "from-azurite.csv")
    place.store.delete("output/_predictions.receipt.json")
    return OurRun(run=measured, receipt=receipt, scores=scores)


def _peaks(bench: Bench, name: str, place: _Place) -> tuple[int, int]:
    """Return the peak PSS of the process tree on Azurite, without Azurite's own, and on local disk."""
    model = make_model(bench.data, "logistic")
    on_azurite = _on_azurite(bench, model, place, memory=True).run.peak_pss_bytes
    source = make_workload(bench.data, workload(bench, name))
    on_disk = run_scoreline(bench, model, source, memory=True).run.peak_pss_bytes
    log.print(f"azurite_{name}: peak PSS {on_azurite / 1e6:.0f} MB, on local disk {on_disk / 1e6:.0f} MB")
    return on_azurite, on_disk


def _cpu_s(server: Server) -> float:
    times = psutil.Process(server.process.pid).cpu_times()
    return float(times.user + times.system)
