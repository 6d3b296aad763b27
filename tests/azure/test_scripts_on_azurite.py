"""Scoring scripts whose input and output lie on storage: they see local files, and nothing that they write is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import pytest
from azure.storage.blob import generate_container_sas

from runtime import run
from runtime.errors import OutputBusyError, ScorelineError, exit_code
from scoring.blob_access import BlobAccess, container_client
from tests.azure.azurite import ACCOUNT, KEY, Azurite
from tests.azure.fault_proxy import DROPPED_AFTER, DROPPED_BEFORE, Fault, FaultProxy, Request, Status
from tests.faults.script_jobs import wait_for_orphans
from tests.faults.scripts import scoring_script
from tests.thorough import usual

FILES = tuple(f"{folder}{number:02}.txt" for folder in ("", "sub/", "sub/é b/") for number in range(4))
IN_A_PROCESS = "import json, sys\nfrom runtime import run\nrun(**json.load(sys.stdin))\n"
OUTPUT = 'os.environ["AZUREML_BI_OUTPUT_PATH"]'
RECEIPT = "_predictions.receipt.json"
QUARANTINE = "_predictions.quarantine.jsonl"
STAGED = ".predictions.csv.staging/lock"


class Job:
    """A scoring script with input and output in one container; it may be run again and again."""

    def __init__(self, access: BlobAccess, folder: Path, script: str, **options: Any) -> None:
        self.access = access
        self.folder = folder
        self.said: list[str] = []
        self.signature = ""
        (folder / "code").mkdir()
        (folder / "code/score.py").write_text(script)
        self.options: dict[str, Any] = {
            "code": str(folder / "code"), "scoring_script": "score.py", "input": access.url_of("in/"),
            "recursive": True, "output": access.url_of("out/"), "logs": str(folder / "logs"), "mini_batch_size": 1,
            "error_threshold": -1, "timeout_s": 100.0, "task_overhead_s": 10.0, "init_timeout_s": 60.0,
            "output_format": "azureml", "output_header": False, "workers": 2, "output_action": "append_row",
            "environment_variables": [(name, str(folder / name.lower())) for name in ("CALLS", "MARK", "GATE")],
            **options,
        }  # fmt: skip

    def sign(self) -> None:
        """Let a signature in the URI of the output prove who writes there."""
        self.signature = generate_container_sas(
            ACCOUNT, self.access.container, account_key=KEY, permission="rwdl", expiry="2999-01-01T00:00:00Z"
        )
        self.options["output"] += f"?{self.signature}"

    def run(self, **options: Any) -> dict[str, Any]:
        """Run the job in this process."""
        return run(notice=self.said.append, **{**self.options, **options}).content

    def start(self) -> subprocess.Popen[bytes]:
        """Run the job in a process of its own, to be killed."""
        process = subprocess.Popen([sys.executable, "-c", IN_A_PROCESS], stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(json.dumps(self.options).encode())
        process.stdin.close()
        return process

    def killed_after(self, ready: Callable[[], bool]) -> None:
        """Kill a run as soon as something is so."""
        process = self.start()
        deadline = time.monotonic() + 60
        while not ready():
            assert process.poll() is None, "it ended before"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        process.wait()
        wait_for_orphans()
        (self.folder / "gate").touch()

    def blobs(self) -> dict[str, bytes]:
        """Read all blobs below the output, hidden ones too."""
        with container_client(self.access) as client:
            names = list(client.list_blob_names(name_starts_with="out/"))
            return {name.removeprefix("out/"): client.download_blob(name).readall() for name in names}

    def written(self) -> dict[str, bytes]:
        """Read what the script wrote: all but what is the job's own."""
        own = ("_predictions.", ".predictions.csv.staging/")
        return {name: data for name, data in self.blobs().items() if not name.startswith(own)}

    @property
    def calls(self) -> list[str]:
        """The names of the files that `run` was called with, sorted."""
        path = self.folder / "calls"
        return sorted(path.read_text().split("\n")[:-1]) if path.exists() else []


@pytest.fixture
def make(azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """Put files into a container, and make a job of them."""
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)

    def job(script: str, *, files: tuple[str, ...] = FILES, **options: Any) -> Job:
        access = azurite.new_container()
        with container_client(access) as client:
            for name in files:
                client.upload_blob(f"in/{name}", name)
        return Job(access, tmp_path, script, **options)

    return job


WRITES = f"""
    for path, name in zip(mini_batch, names):
        target = os.path.join({OUTPUT}, *path.split("-files/")[1].split("/")[:-1])
        os.makedirs(target, exist_ok=True)
        with open(os.path.join(target, name + ".out"), "wb") as out:
            out.write(open(path, "rb").read().upper())
"""
WAITS = """
    import time
    while len(open(os.environ["CALLS"]).read().splitlines()) > 8 and not os.path.exists(os.environ["GATE"]):
        time.sleep(0.01)
"""
"""What a script does that is to be killed under way, however slow whoever kills it is."""
WRITTEN = {f"{name}.out": name.encode().upper() for name in FILES}


def test_files_are_seen_as_on_disk(make: Callable[..., Job]) -> None:
    """Local copies have the names, the folders and the content of the blobs; the arguments name a local folder."""
    body = f"""
        assert {OUTPUT} == sys.argv[sys.argv.index("--output") + 1] and os.path.isdir({OUTPUT})
        rows = [path.split("-files/")[1].replace(" ", "_") + "=" + open(path).read().replace(" ", "_")
                for path in mini_batch]
        return rows
    """
    job = make(scoring_script(body), mini_batch_size=3)
    receipt = job.run()
    blobs = job.blobs()
    assert sorted(blobs) == [RECEIPT, "predictions.csv"]
    shown = [name.replace(" ", "_") for name in sorted(FILES, key=lambda name: (os.path.dirname(name), name))]
    assert blobs["predictions.csv"].decode().splitlines() == [f"{name}={name}" for name in shown]
    assert receipt["rows"] == {"read": 12, "scored": 12, "quarantined": 0, "given_up": 0}


def test_copies_are_bounded(make: Callable[..., Job]) -> None:
    """No more lies on disk than the spool may hold and a file; what is scored goes."""
    body = """
        root = mini_batch[0].split("-files/")[0].rpartition("/")[0]
        time.sleep(0.1)
        sizes = [os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(root) for name in names]
        return [f"{sum(sizes)} {len(open(mini_batch[0]).read())}"]
    """
    job = make(scoring_script(body, top="import time"), files=(), spool_bytes=300_000)
    with container_client(job.access) as client:
        for number in range(24):
            client.upload_blob(f"in/{number:02}.txt", "x" * 100_000)
    job.run()
    lines = job.blobs()["predictions.csv"].decode().splitlines()
    assert [line.split()[1] for line in lines] == ["100000"] * 24
    assert max(int(line.split()[0]) for line in lines) <= 500_000


def test_spool_too_small_for_a_mini_batch_holds_it(make: Callable[..., Job]) -> None:
    """A script is given all files of its mini-batch, which nobody can remove before."""
    job = make(scoring_script('return [f"{len(mini_batch)} {each[-6:]}" for each in mini_batch]'), mini_batch_size=3)
    receipt = job.run(spool_bytes=1)
    lines = job.blobs()["predictions.csv"].decode().splitlines()
    # no mini-batch has files of two folders
    assert lines == [f"{3 if number < 3 else 1} {number:02}.txt" for _ in range(3) for number in range(4)]
    assert receipt["rows"]["scored"] == 12


@pytest.mark.parametrize("action", ["append_row", "summary_only"])
def test_written_files_are_kept(make: Callable[..., Job], action: str) -> None:
    """What a script writes into the output folder lies below the output on storage, and a rerun does nothing."""
    job = make(scoring_script(WRITES), output_action=action)
    receipt = job.run()
    blobs = job.written()
    scores = blobs.pop("predictions.csv", b"").decode().splitlines()
    assert blobs == WRITTEN
    assert len(scores) == (len(FILES) if action == "append_row" else 0)
    assert receipt["rows"]["scored"] == len(FILES)
    assert job.run() == receipt
    assert len(job.calls) == len(FILES)
    assert job.said[-1].startswith("already complete")


@pytest.mark.parametrize("action", ["append_row", "summary_only"])
def test_killed_job_keeps_what_was_written(make: Callable[..., Job], action: str) -> None:
    """After SIGKILL all files of the mini-batches that are staged are there at the end, and none is scored again."""
    job = make(scoring_script(WRITES + WAITS), output_action=action)
    job.killed_after(lambda: len(job.calls) >= 6)
    first = len(job.calls)
    assert job.written()
    receipt = job.run()
    blobs = job.written()
    blobs.pop("predictions.csv", None)
    assert blobs == WRITTEN
    resumed = receipt["invocation"]["resumed"]
    assert resumed >= first - 2
    assert len(job.calls) == first + len(FILES) - resumed
    assert receipt["rows"]["scored"] == len(FILES)
    assert not any(name.startswith(".") for name in job.blobs())


def test_appended_file_is_kept(make: Callable[..., Job]) -> None:
    """A file that mini-batches append to goes on after a kill, on a machine that has nothing of it."""
    body = f"""
    import fcntl
    with open(os.path.join({OUTPUT}, "all.txt"), "a") as out:
        fcntl.flock(out, fcntl.LOCK_EX)
        out.write("".join(name + "\\n" for name in names))
    {WAITS}"""
    files = tuple(f"{number:02}.txt" for number in range(12))
    job = make(scoring_script(body), files=files)
    job.killed_after(lambda: len(job.calls) >= 6)
    receipt = job.run()
    lines = job.written()["all.txt"].decode().splitlines()
    assert sorted(set(lines)) == list(files)
    # what was written and not staged is written again, as on disk
    assert len(lines) <= len(files) + 2
    assert receipt["invocation"]["resumed"] >= 4


def test_last_words_and_second_thoughts(make: Callable[..., Job]) -> None:
    """What shutdown writes, large files, files that were renamed or changed and empty ones end as they are on disk."""
    top = f"""
        folder = {OUTPUT}
        def init():
            open(os.path.join(folder, "empty"), "w").close()
        def shutdown():
            with open(os.path.join(folder, "last"), "w") as out:
                out.write("words")
    """
    body = """
        with open(os.path.join(folder, "large-" + names[0]), "wb") as out:
            out.write(names[0].encode() * 2_000_000)
        with open(os.path.join(folder, "tmp"), "w") as out:
            out.write("x")
        if names[0] == "01.txt":
            os.rename(os.path.join(folder, "tmp"), os.path.join(folder, "kept"))
    """
    job = make(scoring_script(body, top=top), files=("00.txt", "01.txt"), workers=1)
    job.run()
    blobs = job.written()
    assert blobs.pop("predictions.csv").splitlines() == [b"00 scored", b"01 scored"]
    large = {f"large-{name}": name.encode() * 2_000_000 for name in ("00.txt", "01.txt")}
    assert blobs == {"empty": b"", "last": b"words", "kept": b"x", **large}


OWN = [(a, n) for a in ("append_row", "summary_only") for n in ("predictions.csv", RECEIPT, QUARANTINE, STAGED)]


@pytest.mark.parametrize(
    ("action", "name"), usual(OWN, seldom=[each for each in OWN if each not in (OWN[0], OWN[-1])])
)
def test_files_of_the_job_are_not_overwritten(make: Callable[..., Job], action: str, name: str) -> None:
    """A script that writes a file by the name of one of the job's own is told so, and nothing is overwritten."""
    body = f"""
        target = os.path.join({OUTPUT}, {name!r})
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w") as out:
            out.write("mine")
    """
    job = make(scoring_script(body), files=("a.txt", "b.txt"), error_threshold=0, output_action=action)
    with pytest.raises(ScorelineError, match=f"wrote {name} into the output folder, and on storage that is") as caught:
        job.run()
    assert exit_code(caught.value) == 1
    assert b"mine" not in job.blobs().values()


FAULTS: dict[str, tuple[tuple[Fault, ...], ...]] = {
    "busy, dropped": ((Status(code=503, retry_after_s=0), Status(code=500)), (DROPPED_BEFORE, DROPPED_AFTER)),
    "throttling": ((Status(code=429),), (Status(code=429),)),
}
"""What meets the requests of one file, and of another."""


@pytest.mark.parametrize("case", usual(FAULTS, seldom=["throttling"]))
def test_sending_is_tried_again(make: Callable[..., Job], azurite: Azurite, case: str) -> None:
    """Whatever storage does to a request of a file, the file is there in the end, and the script ran once."""
    left = dict(zip((f"{name}.out" for name in FILES[:2]), FAULTS[case], strict=True))
    lock = threading.Lock()

    def rule(request: Request) -> Fault:
        name = request.target.partition("?")[0].rpartition("/")[2]
        with lock:
            if request.method != "PUT" or not left.get(name):
                return None
            fault, *others = left[name]
            left[name] = tuple(others)
            return fault

    with FaultProxy(azurite.port, rule) as proxy:
        job = make(scoring_script(WRITES), files=FILES[:4])
        job.options["output"] = azurite.access(job.access.container, port=proxy.port).url_of("out/")
        job.run()
    assert not any(left.values())
    blobs = job.written()
    blobs.pop("predictions.csv")
    assert blobs == {name: WRITTEN[name] for name in (f"{each}.out" for each in FILES[:4])}
    assert len(job.calls) == 4


@pytest.mark.parametrize("name", ["02.txt.out", "last"])
def test_storage_that_refuses(
    make: Callable[..., Job], azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What cannot be sent stops the job, which nothing was published of; the same command goes on, with all files."""
    monkeypatch.chdir(tmp_path)
    top = f"""
        def shutdown():
            with open(os.path.join({OUTPUT}, "last"), "w") as out:
                out.write("words")
    """
    refusing = [name]

    def rule(request: Request) -> Fault:
        target = request.target.partition("?")[0].rpartition("/")[2]
        return Status(code=403) if request.method == "PUT" and target in refusing else None

    with FaultProxy(azurite.port, rule) as proxy:
        job = make(scoring_script(WRITES, top=top), files=FILES[:4], workers=1)
        job.options["output"] = azurite.access(job.access.container, port=proxy.port).url_of("out/")
        with pytest.raises(OutputBusyError, match=f"/out/{name}: cannot be written: storage answers 403") as caught:
            job.run()
        assert "run again to go on" in str(caught.value)
        assert "predictions.csv" not in job.blobs()
        refusing.clear()
        receipt = job.run()
    blobs = job.written()
    assert blobs.pop("last") == b"words"
    blobs.pop("predictions.csv")
    assert blobs == {each: WRITTEN[each] for each in (f"{each}.out" for each in FILES[:4])}
    assert not list(tmp_path.rglob("unsent*"))
    assert receipt["invocation"]["resumed"] == (2 if name.startswith("0") else 4)


def test_only_what_changed_is_sent(make: Callable[..., Job], azurite: Azurite) -> None:
    """However many workers look, each file is sent once."""
    sent: list[str] = []

    def rule(request: Request) -> Fault:
        if request.method == "PUT" and ".out" in request.target:
            sent.append(request.target.partition("?")[0].rpartition("/")[2])
        return None

    with FaultProxy(azurite.port, rule) as proxy:
        files = tuple(f"{number:02}.txt" for number in range(20))
        job = make(scoring_script("    import time\n    time.sleep(0.05)\n" + WRITES), files=files, workers=3)
        job.options["output"] = azurite.access(job.access.container, port=proxy.port).url_of("out/")
        job.run()
    # one that another worker was writing just then is sent again
    assert sorted(set(sent)) == [f"{name}.out" for name in files]
    assert len(sent) <= 2 * len(files)


def test_no_signature_in_the_logs_of_a_script(make: Callable[..., Job]) -> None:
    """A script that logs all it can has no signature in its logs, and by itself none of storage's requests."""
    top = """
        import logging
        if "loud" in sys.argv:
            logging.getLogger().setLevel(logging.DEBUG)
            for name in ("urllib3", "urllib3.connectionpool", "azure", "azure.storage", "requests"):
                logging.getLogger(name).setLevel(logging.DEBUG)
    """
    body = WRITES + "\n    logging.debug('heard')\n    print('said')"
    job = make(scoring_script(body, top=top), files=FILES[:4])
    job.sign()
    for arguments in ((), ("loud",)):
        job.run(arguments=arguments, restart=True, if_exists="overwrite")
        logs = "".join(path.read_text() for path in (job.folder / "logs").rglob("*") if path.is_file())
        assert ("heard" in logs) == bool(arguments)
        assert "said" in logs
        assert ("blob" in logs.replace(job.options["output"], "")) <= bool(arguments)
        (signs,) = parse_qs(job.signature)["sig"]
        assert not any(text in logs for text in (signs, quote(signs), quote(signs, safe="")))
