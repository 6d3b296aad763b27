"""Build docker/Dockerfile and run what it makes: `make image-test`.

    python -m tests.containers.check_image [FOLDER]

FOLDER keeps the base image, the images and the work for the next time; without it they are deleted at the end.
A job is run as the image's user, stopped by SIGTERM while it scores, and resumed, twice: by `buildah run`, and as
process 1 of namespaces as a container engine makes them.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import psutil
import yaml

from tests.azure.server import NoAzuriteError, start
from tests.containers.images import ORPHAN, ROOT, UNSHARE, NoImagesError, Store, check_machine, pip_settings

IMAGE = "localhost/scoreline:test"
USER = 10_001
STRANGER = 54_321
MARK = "SCORELINE_TEST_RUN"
PATIENCE_S = 300
FILES, ROWS, CHUNK = 4, 40_000, 50
"""Enough cells that a signal finds some scored and some not."""
JOB = [
    "run", "--model", "/data/demo/heart-model", "--input", "/data/demo/heart-data", "--chunk-rows", str(CHUNK),
    "--cells-per-mini-batch", "1", "--workers", "2",
]  # fmt: skip

TIMES = """\
import subprocess, sys, time
def seconds(*words):
    best = 1e9
    for _ in range(3):
        start = time.monotonic()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        best = min(best, time.monotonic() - start)
    return f"{best:.1f} s"
print("scoreline --help:", seconds("scoreline", "--help"))
print("python -c 'import mlflow.pyfunc':", seconds("python", "-c", "import mlflow.pyfunc"))
print("a whole job of 100 rows:", seconds(*sys.argv[1:]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that was built, as a container of it.

    Attributes:
        store: that holds it.
        container: its name for buildah.
        entrypoint: what it starts with.
        environment: what it sets.
        work: the folder of this machine that is its /data.
    """

    store: Store
    container: str
    entrypoint: list[str]
    environment: list[str]
    work: Path

    def buildah(self, *words: str, mark: str = "") -> list[str]:
        """Return the command that runs words by `buildah run`, which leaves the entry point out."""
        given = ["--isolation", "chroot", "--volume", f"{self.work}:/data", "--env", f"{MARK}={mark}"]
        return self.store.buildah("run", *given, self.container, "--", *words)

    def alone(self, *words: str, mark: str = "", user: int = USER) -> list[str]:
        """Return the command that runs words as process 1, without a network and on files that cannot be written."""
        root = self.store.run("mount", self.container)
        script = str(Path(__file__).with_name("inside.sh"))
        return [*UNSHARE, "sh", script, root, str(self.work), str(user), *self.environment, f"{MARK}={mark}", *words]


def build(store: Store, tell: Callable[[str], None]) -> None:
    """Build the image from the files as they are."""
    start = time.monotonic()
    words = ["build", "--isolation", "chroot", "--pull-never", "--quiet", "--format", "docker"]
    words += pip_settings(store.folder, sys.executable)
    store.run(*words, "--file", str(ROOT / "docker/Dockerfile"), "--tag", IMAGE, str(ROOT))
    tell(f"docker/Dockerfile: {time.monotonic() - start:.0f} s")


def started(store: Store, work: Path) -> Image:
    """Make a container of the image."""
    config = store.inspect(IMAGE)["Docker"]["config"]
    assert config["User"] == f"{USER}:{USER}", config["User"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == "Scoreline", labels
    work.mkdir()
    os.chown(work, USER, USER)
    container = store.run("from", "--pull-never", IMAGE)
    return Image(
        store=store, container=container, entrypoint=config["Entrypoint"], environment=config["Env"], work=work
    )


def check_content(image: Image, tell: Callable[[str], None]) -> None:
    """No tool that builds or installs, no setting of this machine, and nobody is root."""
    root = Path(image.store.run("mount", image.container))
    for name in ("gcc", "cc", "make"):
        assert not list(root.glob(f"usr/bin/{name}")), name
    assert not list(root.glob("opt/scoreline/bin/pip*"))
    assert not (root / "etc/pip.conf").exists()
    (packages,) = root.glob("opt/scoreline/lib/python3*/site-packages")
    for package in ("runtime", "scoring"):
        there = {file.relative_to(packages) for file in (packages / package).rglob("*")}
        source = {file.relative_to(ROOT) for file in (ROOT / package).rglob("*.*") if file.suffix != ".pyc"}
        assert source <= there, source - there
    done = subprocess.run(image.buildah("id", "-u"), stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == str(USER), done.stdout
    tell(f"size of the image: {image.store.size(IMAGE)}")


def check_job(image: Image, output: str, command: Callable[..., list[str]], tell: Callable[[str], None]) -> bytes:
    """Stop a job by SIGTERM while it scores, look at its exit code, and resume it; return the scores."""
    words = [*image.entrypoint, *JOB, "--output", f"/data/{output}"]
    folder = image.work / output
    parts = folder / ".predictions.csv.staging/parts"
    mark = uuid.uuid4().hex
    with subprocess.Popen(command(*words, mark=mark), stderr=subprocess.PIPE, text=True) as job:
        try:
            _until(lambda: parts.is_dir() and len(list(parts.glob("[!.]*"))) >= 5, job)
            init = _until(lambda: _init(mark), job)
            init.send_signal(signal.SIGTERM)
            said = job.communicate(timeout=PATIENCE_S)[1]
        finally:
            job.kill()
    assert job.returncode == 143, (job.returncode, said)
    assert "stopped by SIGTERM" in said, said
    assert not (folder / "predictions.csv").exists()
    done = subprocess.run(command(*words), stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "resuming: " in done.stderr, done.stderr
    tell(f"  exit code 143, then {next(line for line in done.stderr.splitlines() if 'resuming' in line)}")
    return (folder / "predictions.csv").read_bytes()


def _init(mark: str) -> psutil.Process | None:
    """Find the first process of the image: the one that the signal of an engine goes to."""
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            if process.info["name"] == "dumb-init" and process.environ().get(MARK) == mark:
                return process
    return None


def _until(condition: Callable[[], Any], job: subprocess.Popen[str]) -> Any:
    """Wait for something to become true; fail if the job ends before."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert job.poll() is None, f"it ended too early: {job.communicate()[1]}"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def check_first_process(image: Image, tell: Callable[[str], None]) -> None:
    """Process 1 waits for processes that lost their parents, keeps exit codes, and takes any user."""
    *init, _ = image.entrypoint
    reaped = subprocess.run(image.alone(*init, "python", "-c", ORPHAN), check=False)
    assert reaped.returncode == 0
    refused = subprocess.run(
        image.alone(*image.entrypoint, "run", "--model", "nowhere", "--input", "nowhere"),
        stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 2, refused.stderr
    words = [*image.entrypoint, *JOB, "--limit", "3"]
    done = subprocess.run(image.alone(*words, user=STRANGER), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4, done.stdout
    tell(f"process 1 leaves no zombie, keeps exit codes, and runs as user {STRANGER}, whom the image does not know")


def check(store: Store, work: Path, tell: Callable[[str], None]) -> None:
    """Run what was built."""
    image = started(store, work)
    check_content(image, tell)
    subprocess.run(
        image.buildah(*image.entrypoint, "demo", "--folder", "demo", "--files", str(FILES), "--rows", str(ROWS)),
        stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    calm = [*image.entrypoint, *JOB[:-1], "1", "--output", "/data/calm", "--quiet"]
    subprocess.run(image.buildah(*calm), check=True)
    expected = (work / "calm/predictions.csv").read_bytes()
    tell(f"scored {FILES * ROWS:,} rows as user {USER}; stopped and resumed by buildah run:")
    assert check_job(image, "by-buildah", image.buildah, tell) == expected
    tell("as process 1, with read-only files, 64 MB of /dev/shm and no network:")
    assert check_job(image, "alone", image.alone, tell) == expected
    tell("the scores have the same bytes each time")
    check_first_process(image, tell)
    shutil.copytree(work / "demo/heart-data", work / "few", dirs_exist_ok=True)
    for file in sorted((work / "few").iterdir())[1:]:
        file.unlink()
    (first,) = (work / "few").iterdir()
    first.write_text("".join(first.read_text().splitlines(keepends=True)[:101]))
    few = ["scoreline", *JOB[:3], "--input", "/data/few", "--output", "/data/few-scores", "--chunk-rows", str(CHUNK)]
    few += ["--restart", "--workers", "1"]
    times = subprocess.run(image.alone("python", "-c", TIMES, *few), stdout=subprocess.PIPE, text=True, check=True)
    for line in times.stdout.splitlines():
        tell(line)
    check_compose(image, tell)
    check_model(image, tell)


def check_compose(image: Image, tell: Callable[[str], None]) -> None:
    """Run what docker/compose.yaml starts, in its order and twice, with Azurite on this machine."""
    services = yaml.safe_load((ROOT / "docker/compose.yaml").read_text("utf-8"))["services"]
    held = image.work.with_name("azurite")
    shutil.rmtree(held, ignore_errors=True)
    held.mkdir()
    try:
        server = start(held)
    except NoAzuriteError as error:
        tell(f"docker/compose.yaml was not run: {error}")
        return
    with server:
        for name in ("sample", "scoreline") * 2:
            service = services[name]
            words = [*service.get("entrypoint", image.entrypoint), *service["command"]]
            there = [word.replace("azurite:10000", f"127.0.0.1:{server.port}") for word in words]
            key, text = "AZURE_STORAGE_CONNECTION_STRING", f"{server.url};"
            text = service["environment"][key].replace("http://azurite:10000/devstoreaccount1;", text)
            with _empty(image) as fresh:
                done = subprocess.run(
                    fresh.buildah("env", f"{key}={text}", *there), capture_output=True, text=True, check=False
                )
            assert done.returncode == 0, (name, done.stderr)
    tell("docker/compose.yaml: sample and scoreline ran on Azurite, twice")


@contextlib.contextmanager
def _empty(image: Image) -> Iterator[Image]:
    """Give the image an empty /data, as the tmpfs of a service is whenever it starts."""
    with tempfile.TemporaryDirectory(dir=image.work.parent) as folder:
        os.chown(folder, USER, USER)
        yield replace(image, work=Path(folder))


def check_model(image: Image, tell: Callable[[str], None]) -> None:
    """Build an image for the sample model, and score with what is inside, told by variables alone."""
    start = time.monotonic()
    tag = f"{IMAGE}-heart"
    words = ["--tag", tag, "--builder", shlex.join(image.store.buildah()), "--", "--isolation", "chroot"]
    words += ["--pull-never", "--quiet", "--format", "docker", *pip_settings(image.store.folder, sys.executable)]
    subprocess.run(
        [ROOT / "docker/build-for-model", image.work / "demo/heart-model", *words],
        env={**os.environ, "PYTHON": sys.executable}, stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    tell(f"docker/build-for-model: {time.monotonic() - start:.0f} s")
    config = image.store.inspect(tag)["Docker"]["config"]
    container = image.store.run("from", "--pull-never", tag)
    variables = [*config["Env"], "SCORELINE_INPUT=few", "SCORELINE_OUTPUT=by-variables", "SCORELINE_CHUNK_ROWS=50"]
    inside = replace(image, container=container, environment=variables)
    subprocess.run(inside.alone(*config["Entrypoint"], "run"), check=True)
    scores = [image.work / name / "predictions.csv" for name in ("by-variables", "few-scores")]
    assert len({path.read_bytes() for path in scores}) == 1
    tell("the model inside scores the same, told by variables alone")


def main(folder: str = "") -> None:
    """Build, and check everything; without a folder leave nothing behind. Where nothing can be built, say so."""
    with contextlib.ExitStack() as stack:
        place = Path(folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="scoreline-images-"))).resolve()
        place.mkdir(exist_ok=True)
        # what it makes belongs to the image's user, who must get there
        place.chmod(0o755)
        store = Store(folder=place)
        work = place / "work"
        shutil.rmtree(work, ignore_errors=True)
        start = time.monotonic()
        try:
            check_machine(place)
            store.make_base()
        except NoImagesError as error:
            click.echo(f"image-test skipped: {error}")
            return
        click.echo(f"base image from Debian's packages: {time.monotonic() - start:.0f} s")
        build(store, click.echo)
        check(store, work, click.echo)
        click.echo(f"image-test passed in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
