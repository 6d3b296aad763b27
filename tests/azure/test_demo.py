"""`make azurite-demo` shows what came of it, and its commands do the same again."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.azure.demo import show
from tests.azure.server import KEY, NoAzuriteError, find, start


def test_demo_shows_what_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It scores blob to blob and stops Azurite; the commands find there what it kept, and the key is in none."""
    try:
        find()
    except NoAzuriteError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    assert show(Path("play"), 2, 40, told.append) == 0
    text = "\n".join(told)
    assert KEY not in text
    assert re.search(r"predictions\.csv begins:\nrow,prediction,file\n0,[01],heart-000\.csv\n1,", text)
    assert '"read": 80,' in text
    port = re.search(r"listens on 127\.0\.0\.1:(\d+)", text)
    assert port is not None
    commands = {shlex.split(line[2:])[0].rpartition("/")[2]: line[2:] for line in told if line.startswith("$ ")}
    assert shlex.split(commands["node"])[1:4] == [str(find()), "--location", "play/azurite"]
    with start(tmp_path / "play/azurite") as server:
        assert server.port != int(port[1])
        address = f"AccountName=devstoreaccount1;AccountKey={KEY};BlobEndpoint={server.url};"
        environment = os.environ | {"AZURE_STORAGE_CONNECTION_STRING": f"DefaultEndpointsProtocol=http;{address}"}
        for name, expected in (("scoreline", b""), ("python", b"[80 rows x 3 columns]")):
            command = shlex.split(commands[name].replace("http://127.0.0.1:10000/devstoreaccount1", server.url))
            done = subprocess.run(command, env=environment, capture_output=True, check=False)
            assert done.returncode == 0, done.stderr
            assert expected in done.stdout
            assert name != "scoreline" or b"80 rows, 0 quarantined" in done.stderr
