"""Check the recipes with what their places themselves read them with; tests/containers/test_recipes.py runs it.

It runs in an environment of its own, tests/containers/requirements.txt, for those clients need other versions of
libraries than Scoreline is tested with. It prints what it found as JSON: of each recipe what is wrong, or nothing.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path


def azure_ml(path: Path) -> str:
    """Load a command job as `az ml job create` does, and validate it as far as that goes without a workspace."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    from azure.ai.ml import load_job
    from azure.ai.ml.entities import Command
    from azure.ai.ml.exceptions import ValidationException
    from marshmallow.exceptions import ValidationError

    try:
        job = load_job(path)
        # it is private, and what create_or_update calls first
        found = job._validate()  # noqa: SLF001
    except (ValidationException, ValidationError) as error:
        return str(error)
    if not isinstance(job, Command):
        return f"no command job: {type(job).__name__}"
    return "" if found.passed else str(found.error_messages)


def kubernetes(path: Path) -> str:
    """Compare a manifest with the published schema of Kubernetes; a key that it does not know is wrong."""
    import kubernetes_validate
    import yaml

    try:
        for manifest in yaml.safe_load_all(path.read_text("utf-8")):
            kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{list(error.path)}: {error.message}"
    return ""


def compose(path: Path) -> str:
    """Let docker compose read a file; that needs no engine."""
    package = importlib.util.find_spec("compose")
    assert package is not None
    assert package.origin is not None
    # the script that the package installs loses the exit code
    program = Path(package.origin).with_name("docker-compose")
    words = [program, "--file", path, "config", "--quiet"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""


CHECKS = {"azure-ml": azure_ml, "kubernetes": kubernetes, "compose": compose}


if __name__ == "__main__":
    kinds_and_paths = [argument.split("=", 1) for argument in sys.argv[1:]]
    found = {path: CHECKS[kind](Path(path)) for kind, path in kinds_and_paths}
    sys.stdout.write(f"\n{json.dumps(found)}\n")
