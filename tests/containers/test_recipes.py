"""The recipes in docker/ are read by their places' own clients, and say what the command line takes."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from runtime.cli import scoreline as command
from runtime.errors import FAILED, REFUSED
from runtime.variables import check_names, names_of

ROOT = Path(__file__).parents[2]
RUN = command.commands["run"]
RECIPES = {
    "azure-ml": ROOT / "docker/azure-ml/job.yml",
    "kubernetes": ROOT / "docker/kubernetes/job.yaml",
    "compose": ROOT / "docker/compose.yaml",
}
SLIPS = {
    "azure-ml": ("mode: direct", "mode: directly"),
    "kubernetes": ("restartPolicy:", "restartPolice:"),
    "compose": ("stop_grace_period:", "stop_grace:"),
}
PROGRAM = Path(__file__).with_name("check_recipes.py")
DOCKERFILE = ROOT / "docker/Dockerfile"


@pytest.fixture
def clients() -> Path:
    """Return the Python that has the clients."""
    python = ROOT / ".venv-recipes/bin/python"
    if not python.exists():
        pytest.skip("the clients that read the recipes are not installed: `make test` does that (.venv-recipes)")
    return python


def read(kind: str) -> Any:
    """Read a recipe."""
    return yaml.safe_load(RECIPES[kind].read_text("utf-8"))


@pytest.mark.timeout(300)
def test_clients_take_the_recipes(clients: Path, tmp_path: Path) -> None:
    """Each is valid for what its place reads it with, and one with a slip of the pen is not."""
    wrong = {}
    for kind, (right, slip) in SLIPS.items():
        wrong[kind] = tmp_path / f"{kind}.yml"
        text = RECIPES[kind].read_text("utf-8")
        assert right in text
        wrong[kind].write_text(text.replace(right, slip))
    words = [f"{kind}={path}" for recipes in (RECIPES, wrong) for kind, path in recipes.items()]
    done = subprocess.run([clients, "-W", "ignore", PROGRAM, *words], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert {kind: found[str(path)] for kind, path in RECIPES.items()} == dict.fromkeys(RECIPES, "")
    said = {kind: found[str(path)] for kind, path in wrong.items()}
    assert "mode" in said["azure-ml"]
    assert "restartPolice" in said["kubernetes"]
    assert "stop_grace" in said["compose"]


def test_azure_ml_job_runs_the_command() -> None:
    """Its command is one of ours, becomes the process that is signalled, and reads and writes storage directly."""
    job = read("azure-ml")
    first, program, subcommand, *arguments = shlex.split(job["command"])
    assert (first, program, subcommand) == ("exec", "scoreline", "run")
    given = RUN.make_context("run", arguments).params
    assert given["input"] == "${{inputs.data}}"
    assert given["output"] == "${{outputs.score}}"
    assert [place["mode"] for place in (job["inputs"]["data"], job["outputs"]["score"])] == ["direct", "direct"]
    assert job["outputs"]["score"]["path"]
    assert list(check_names(job["environment_variables"], RUN.params)) == []


def test_kubernetes_job_knows_the_exit_codes() -> None:
    """What would fail again fails the job, what a node took away is no failure, and the rest is resumed."""
    job = read("kubernetes")["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    fails, ignores = job["podFailurePolicy"]["rules"]
    assert (fails["action"], fails["onExitCodes"]["containerName"]) == ("FailJob", container["name"])
    assert sorted(fails["onExitCodes"]["values"]) == [FAILED, REFUSED]
    assert (ignores["action"], ignores["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert pod["restartPolicy"] == "Never"
    variables = {each["name"]: each["value"] for each in container["env"]}
    known = {name for each in RUN.params for name in names_of(each)}
    assert set(variables) <= known
    assert float(variables["SCORELINE_GRACE"]) < pod["terminationGracePeriodSeconds"]
    assert container["args"] == ["run"]
    places = {volume["mountPath"] for volume in container["volumeMounts"]}
    assert places == {"/data", "/tmp"}
    assert all(variables[f"SCORELINE_{name}"].startswith("/data/") for name in ("MODEL", "INPUT", "OUTPUT"))


def test_compose_file_runs_the_command() -> None:
    """What it starts is a command of ours, from blob to blob."""
    subcommand, *arguments = read("compose")["services"]["scoreline"]["command"]
    given = RUN.make_context(subcommand, arguments).params
    places = {given[name].split("/")[2] for name in ("model", "input", "output")}
    assert places == {"azurite:10000"}


def test_page_runs_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of docs/containers.md that run the image give it options that there are."""
    page = (ROOT / "docs/containers.md").read_text("utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    runs = [shlex.split(block.replace("\\\n", " ")) for block in blocks if block.startswith("docker run")]
    assert len(runs) == 2
    for words in runs:
        with monkeypatch.context() as patch:
            for name, _, value in (word.partition("=") for word in words if word.startswith("SCORELINE_")):
                patch.setenv(name, value)
            subcommand, *arguments = words[words.index("scoreline") + 1 :]
            given = RUN.make_context(subcommand, arguments).params
            assert [given[name] for name in ("model", "input", "output")] == ["heart-model", "heart-data", "scores"]


def test_dockerfile_agrees_with_the_project() -> None:
    """The version is that of the project, the entry point is the command, and no shell stands between."""
    text = DOCKERFILE.read_text("utf-8")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert f"ARG VERSION={version}\n" in text
    found = re.search(r"^ENTRYPOINT (.+)$", text, re.MULTILINE)
    assert found is not None
    assert json.loads(found[1])[-1] == "scoreline"
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    sources = " ".join(re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", text, re.MULTILINE)).split()
    assert sources
    assert {f"!{source.partition('/')[0]}" for source in sources} <= set(ignored)
    assert all((ROOT / source).exists() for source in sources)


@pytest.mark.parametrize(
    ("right", "slip", "told"),
    [("", "", ""), ("--from=own", "--from=owner", "DL3022"), ('-n "$MODEL"', "-n $MODEL", "SC2070")],
    ids=["as it is", "stage", "quotes"],
)
def test_linter_reads_the_dockerfile(clients: Path, tmp_path: Path, right: str, slip: str, told: str) -> None:
    """Nothing is wrong for hadolint, which reads the shell inside as well; what would be is found."""
    text = DOCKERFILE.read_text("utf-8")
    assert right in text
    path = tmp_path / "Dockerfile"
    path.write_text(text.replace(right, slip))
    done = subprocess.run([clients.with_name("hadolint"), path], capture_output=True, text=True, check=False)
    assert done.returncode == bool(told), done.stdout + done.stderr
    assert told in done.stdout
