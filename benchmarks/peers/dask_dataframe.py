"""Score CSV files with a Dask DataFrame on a local cluster of one-threaded processes.

Usage: python dask_dataframe.py MODEL INPUT_DIR_OR_FILE OUT_FOLDER WORKERS [--whole-files]
"""

import sys
from pathlib import Path

import dask.dataframe as dd
import mlflow.pyfunc
import pandas as pd
from dask.distributed import Client, LocalCluster, Worker, WorkerPlugin, get_worker


class Model(WorkerPlugin):
    """Loads the model once in each worker."""

    def __init__(self, url: str) -> None:
        self.url = url

    def setup(self, worker: Worker) -> None:
        """Load it."""
        worker.model = mlflow.pyfunc.load_model(self.url)


def score(frame: pd.DataFrame) -> pd.DataFrame:
    """Score a partition; the path says which file each row is of."""
    file = frame.pop("file")
    return pd.DataFrame({"prediction": get_worker().model.predict(frame), "file": file})


def main() -> None:
    """Read, score and write partition by partition."""
    url, source, out, workers = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    paths = sorted(str(path) for path in source.glob("*.csv*")) if source.is_dir() else [str(source)]
    # Dask cuts at any line's end: wrong inside of quotes, and impossible where files are compressed
    whole = "--whole-files" in sys.argv or paths[0].endswith(".gz")
    reading = {"blocksize": None} if whole else {}
    compression = "gzip" if paths[0].endswith(".gz") else None
    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster:
        client = Client(cluster)
        client.register_plugin(Model(url))
        frame = dd.read_csv(paths, include_path_column="file", compression=compression, **reading)
        scored = frame.map_partitions(score, meta={"prediction": "f8", "file": "str"})
        scored.to_csv(f"{out}/part-*.csv", index=False)


if __name__ == "__main__":
    main()
