"""Run a race: Scoreline and its peers in turn, every output compared before a time counts."""

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from subprocess import CalledProcessError

from benchmarks.contenders import PEER_BY_NAME, RACES, Peer, Race
from benchmarks.environments import EnvironmentDiffersError
from benchmarks.measure import CommandError, Run
from benchmarks.results import Line
from benchmarks.runs import (
    Bench,
    bare_s_per_row,
    log,
    median_wall_s,
    peak_bytes,
    run_peer,
    run_scoreline,
    workload,
)
from benchmarks.same_rows import OutputsDifferError
from benchmarks.workloads import make_model, make_workload

LARGE_BYTES = 100_000_000
"""From here on the memory of the parallel peers must be more than Scoreline's."""
STREAMING_TIMES = 1.5
QUICK_PEERS = frozenset({"pool", "streaming", "plain"})
QUICK_RACE = "many_small"
"""The one race of a quick bench in which the peers with a start-up of many seconds take part."""

failures: list[str] = []
"""The peers that have no line, and why."""


def race(bench: Bench, name: str) -> list[Line]:
    """Run one race and return a line for each peer, and those about memory."""
    this = RACES[name]
    peers = _peers(bench, name)
    if not peers:
        return []
    ours, theirs = _interleaved(bench, name, this, peers, runs=1 if this.once else bench.runs)
    work = workload(bench, this.workload)
    bare_s = 0.0 if bench.quick else bare_s_per_row(bench, this.workload, this.model) * work.all_rows
    lines: list[Line] = []
    for peer in peers:
        if peer.name in theirs:
            with _failing(name, peer):
                lines += _lines(bench, name, peer, ours=ours, theirs=theirs[peer.name], bare_s=bare_s)
    return lines


def peers_of(bench: Bench, name: str) -> list[str]:
    """Name those who take part in a race, as far as they were asked for."""
    names = [peer for peer in RACES[name].peers if not bench.peers or peer in bench.peers]
    if bench.quick and name != QUICK_RACE and not bench.peers:
        return [peer for peer in names if peer in QUICK_PEERS]
    return names


def _peers(bench: Bench, name: str) -> list[Peer]:
    peers = [PEER_BY_NAME[peer] for peer in peers_of(bench, name)]
    if bench.quick and not bench.peers:
        # making an environment takes longer than all of a quick bench
        missing = [peer.name for peer in peers if not peer.is_installed(bench.data)]
        for peer in missing:
            log.print(f"{name}: {peer} is left out, as it is not installed; --peers {peer} installs it")
        peers = [peer for peer in peers if peer.name not in missing]
    ready = []
    for peer in peers:
        with _failing(name, peer):
            peer.python(bench.data)
            ready.append(peer)
    return ready


def _interleaved(
    bench: Bench, name: str, this: Race, peers: Sequence[Peer], *, runs: int
) -> tuple[list[Run], dict[str, list[Run]]]:
    model = make_model(bench.data, this.model)
    source = make_workload(bench.data, workload(bench, this.workload))
    ours: list[Run] = []
    theirs: dict[str, list[Run]] = {peer.name: [] for peer in peers}
    for number in range(runs):
        mine = run_scoreline(bench, model, source)
        ours.append(mine.run)
        log.print(f"{name} {number + 1}/{runs}: scoreline {mine.run.wall_s:.2f} s")
        for peer in [peer for peer in peers if peer.name in theirs]:
            # dropped where it fails: it has no time that counts, and the others have
            earlier = theirs.pop(peer.name)
            with _failing(name, peer):
                run, out = run_peer(bench, peer, model, source, options=this.options.get(peer.name, ()))
                peer.check(mine.scores, out)
                theirs[peer.name] = [*earlier, run]
                log.print(f"{name} {number + 1}/{runs}: {peer.name} {run.wall_s:.2f} s, the same scores")
    return ours, theirs


@contextmanager
def _failing(name: str, peer: Peer) -> Iterator[None]:
    """Note that a peer cannot be installed, failed, or wrote something else than Scoreline, and go on."""
    try:
        yield
    except (CommandError, OutputsDifferError, EnvironmentDiffersError, CalledProcessError) as error:
        failures.append(f"{name}: {peer.name} has no line: {error}")
        log.print(failures[-1])


def _lines(
    bench: Bench, name: str, peer: Peer, *, ours: Sequence[Run], theirs: Sequence[Run], bare_s: float
) -> list[Line]:
    this = RACES[name]
    work = workload(bench, this.workload)
    size_bytes = work.size_bytes(bench.data)
    # Sampled in runs of their own, as sampling slows what it looks at.
    our_peak = 0 if bench.quick else peak_bytes(bench, this.workload, this.model)
    peer_peak = 0 if bench.quick else _peer_peak_bytes(bench, name, peer)
    wall = Line(
        name=name,
        what=work.described,
        unit="s",
        ours=tuple(run.wall_s for run in ours),
        other=tuple(run.wall_s for run in theirs),
        other_name=peer.name,
        figure=median_wall_s(theirs) / median_wall_s(ours),
        at_least=this.at_least.get(peer.name, peer.at_least),
        ours_cpu_s=statistics.median(run.cpu_s for run in ours),
        other_cpu_s=statistics.median(run.cpu_s for run in theirs),
        ours_peak_bytes=our_peak,
        other_peak_bytes=peer_peak,
        ours_first_s=_first_s(ours),
        other_first_s=_first_s(theirs),
        bare_s=bare_s,
        rows=work.all_rows,
        input_bytes=size_bytes,
        workers=bench.workers,
        versions=peer.versions(bench.data),
    )
    if not our_peak or size_bytes < LARGE_BYTES or not (peer.parallel or peer.name == "streaming"):
        return [wall]
    memory = Line(
        name=name,
        measure="peak PSS",
        what=work.described,
        unit="MB",
        ours=(our_peak / 1e6,),
        other=(peer_peak / 1e6,),
        other_name=peer.name,
        figure=our_peak / peer_peak,
        at_most=1.0 if peer.parallel else STREAMING_TIMES,
    )
    return [wall, memory]


def _peer_peak_bytes(bench: Bench, name: str, peer: Peer) -> int:
    """Run a peer once more and return the peak PSS of its process tree."""
    this = RACES[name]
    model = make_model(bench.data, this.model)
    source = make_workload(bench.data, workload(bench, this.workload))
    options = this.options.get(peer.name, ())
    peak = run_peer(bench, peer, model, source, memory=True, options=options)[0].peak_pss_bytes
    log.print(f"{name}: {peer.name}'s peak PSS {peak / 1e6:.0f} MB")
    return peak


def _first_s(runs: Sequence[Run]) -> float:
    seen = [run.first_s for run in runs if run.first_s is not None]
    return statistics.median(seen) if seen else 0.0
