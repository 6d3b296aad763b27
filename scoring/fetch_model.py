"""Fetch a model by MLflow: ``python -m scoring.fetch_model URI FOLDER`` prints where it is."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    import mlflow.artifacts

    try:
        path = mlflow.artifacts.download_artifacts(artifact_uri=sys.argv[1], dst_path=sys.argv[2])
    except Exception as error:  # noqa: BLE001 (whatever MLflow raises is the answer)
        sys.exit(f"{type(error).__name__}: {error}".replace("\n", " "))
    sys.stdout.write(f"{path}\n")
