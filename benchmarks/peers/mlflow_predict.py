"""Score CSV files with `mlflow models predict`, a command for each file, as many at a time as there are workers.

Usage: python mlflow_predict.py MODEL INPUT_DIR_OR_FILE OUT_FOLDER WORKERS
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def main() -> None:
    """Run the commands."""
    url, source, out, workers = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    paths = sorted(source.glob("*.csv")) if source.is_dir() else [source]
    mlflow = Path(sys.executable).with_name("mlflow")
    out.mkdir()

    def predict(path: Path) -> None:
        to = out / f"{path.name}.json"
        command = [mlflow, "models", "predict", "-m", url, "-i", path, "-o", to, "-t", "csv", "--env-manager", "local"]
        subprocess.run(command, check=True)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(predict, paths))


if __name__ == "__main__":
    main()
