"""The programs that Scoreline is raced against, and the races."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.environments import PEERS, is_made, python_of, python_of_ours, versions_of
from benchmarks.models import ModelKind
from benchmarks.same_rows import check_same_bytes, check_same_rows, read_json_of_each, read_parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A program people write or use instead.

    Attributes:
        name: as tables show it.
        script: in the folder `peers`.
        environment: the requirements it is installed from; empty: it needs no more than Scoreline does.
        packages: whose versions are of interest.
        at_least: how many times its wall time Scoreline's shall be, where a race says nothing else.
        parallel: whether it takes all workers.
        check: compares what lies in the folder it wrote into with Scoreline's score file.
    """

    name: str
    script: str
    environment: str = ""
    packages: tuple[str, ...] = ()
    at_least: float = 1.0
    parallel: bool = True
    check: Callable[[Path, Path], None]

    def python(self, data: Path) -> str:
        """Return the Python that runs it; makes its environment where there is none."""
        return python_of(data, self.environment) if self.environment else python_of_ours(data)

    def is_installed(self, data: Path) -> bool:
        """Tell whether it could run now."""
        return not self.environment or is_made(data, self.environment)

    def versions(self, data: Path) -> dict[str, str]:
        """Return the versions of interest."""
        return versions_of(self.python(data), self.packages) if self.packages else {}

    def command(self, data: Path, model: Path, source: Path, out: Path, workers: int) -> list[str]:
        """Return the command that scores `source` into the folder `out`, which is not there yet."""
        return [self.python(data), str(PEERS / self.script), str(model), str(source), str(out), str(workers)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """One workload, scored by Scoreline and its peers in turn.

    Attributes:
        workload: its name.
        model: the kind of model.
        peers: the names of the peers that take part.
        at_least: how many times faster Scoreline shall be, by peer, where it is not what the peer says.
        options: more words of a peer's command, by peer.
        once: whether it runs once only, being so long.
    """

    workload: str
    model: ModelKind = "logistic"
    peers: tuple[str, ...]
    at_least: dict[str, float] = field(default_factory=dict)
    options: dict[str, tuple[str, ...]] = field(default_factory=dict)
    once: bool = False


def _same_file(ours: Path, out: Path) -> None:
    check_same_bytes(ours, out / "scores.csv")


def _same_parts(ours: Path, out: Path) -> None:
    check_same_rows(ours, read_parts(out))


def _same_json(ours: Path, out: Path) -> None:
    check_same_rows(ours, read_json_of_each(out))


PEER_LIST = (
    Peer(name="pool", script="pool.py", at_least=1.3, check=_same_file),
    Peer(name="ray", script="ray_data.py", environment="ray", packages=("ray",), at_least=4.0, check=_same_parts),
    Peer(
        name="dask",
        script="dask_dataframe.py",
        environment="dask",
        packages=("dask", "distributed"),
        at_least=2.5,
        check=_same_parts,
    ),
    Peer(
        name="spark", script="spark_udf.py", environment="spark", packages=("pyspark",), at_least=8.0, check=_same_parts
    ),
    Peer(name="mlflow", script="mlflow_predict.py", check=_same_json),
    Peer(name="streaming", script="streaming.py", parallel=False, check=_same_file),
    Peer(name="plain", script="plain_script.py", parallel=False, check=_same_file),
)
PEER_BY_NAME = {peer.name: peer for peer in PEER_LIST}

_ALWAYS = ("pool", "ray", "dask", "streaming")
RACES = {
    "many_small": Race(workload="many_small", peers=(*_ALWAYS, "spark"), at_least={"pool": 4.5}),
    "many_big": Race(workload="many_big", peers=(*_ALWAYS, "spark")),
    "million": Race(workload="million", peers=_ALWAYS, once=True),
    "one_big": Race(workload="one_big", peers=(*_ALWAYS, "spark", "mlflow"), at_least={"pool": 2.7}),
    "huge": Race(workload="huge", peers=_ALWAYS, at_least={"pool": 2.7}, once=True),
    "quoted": Race(workload="quoted", model="notes", peers=_ALWAYS, options={"dask": ("--whole-files",)}),
    "wide": Race(workload="wide", model="wide", peers=(*_ALWAYS, "mlflow")),
    "gz": Race(workload="gz", peers=_ALWAYS),
    "gradient_boosting": Race(workload="heavy", model="gradient_boosting", peers=_ALWAYS),
    "forest": Race(workload="heavy", model="forest", peers=_ALWAYS),
    "tiny": Race(workload="tiny", peers=("pool", "ray", "dask", "plain", "mlflow")),
    "skewed": Race(workload="skewed", peers=_ALWAYS),
    "artifact": Race(workload="heavy", model="lookup", peers=_ALWAYS),
}
