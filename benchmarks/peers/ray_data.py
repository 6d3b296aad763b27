"""Score CSV files with Ray Data: an actor pool that loads the model once in each actor.

Usage: python ray_data.py MODEL INPUT_DIR_OR_FILE OUT_FOLDER WORKERS
"""

import sys
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
import ray
from pyarrow import csv

BATCH_ROWS = 65_536


class Scorer:
    """What each actor holds."""

    def __init__(self, url: str) -> None:
        self.model = mlflow.pyfunc.load_model(url)

    def __call__(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Score a batch; the path says which file each row is of."""
        file = frame.pop("path")
        return pd.DataFrame({"prediction": self.model.predict(frame), "file": file})


def main() -> None:
    """Read, score and write as one streaming pipeline, in the order of the input."""
    url, source, out, workers = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    paths = sorted(str(path) for path in source.glob("*.csv*")) if source.is_dir() else [str(source)]
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    # without it nothing says which row a prediction is of
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    rows = ray.data.read_csv(
        paths,
        file_extensions=None,
        include_paths=True,
        parse_options=csv.ParseOptions(newlines_in_values=True),
        # an empty text is a text, as for the other programs' readers of these files
        convert_options=csv.ConvertOptions(strings_can_be_null=False),
    )
    scored = rows.map_batches(
        Scorer,
        fn_constructor_args=(url,),
        batch_format="pandas",
        batch_size=BATCH_ROWS,
        compute=ray.data.ActorPoolStrategy(size=workers),
        # half a CPU each, so that tasks that read and write find one
        num_cpus=0.5,
    )
    scored.write_csv(out)


if __name__ == "__main__":
    main()
