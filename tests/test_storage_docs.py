"""The commands of docs/storage.md are what they say: each place is reached by the credential that is told there."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from runtime.cli import scoreline
from runtime.credentials import choose_access
from runtime.uris import BlobPath, parse_uri
from tests.runtime.local_service import local_service, token

PAGE = Path(__file__).parents[1] / "docs/storage.md"
VALUES = {
    "KEY": "c2VjcmV0" * 11, "SAS": "sv=2024-11-04&sp=rwdl&se=2999-01-01&sig=c2VjcmV0", "CLIENT": "c", "TENANT": "t",
    "SECRET": "s", "SUBSCRIPTION": "s",
}  # fmt: skip
KINDS = {
    "AZURE_STORAGE_SAS_TOKEN": "sas", "AZURE_STORAGE_KEY": "account_key", "AZURE_STORAGE_ANON": "anonymous",
    "AZURE_STORAGE_CONNECTION_STRING": "account_key",
}  # fmt: skip


def commands() -> list[str]:
    """Return the commands of the page."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [block.replace("\\\n", " ") for block in blocks]


@pytest.mark.parametrize("command", commands(), ids=lambda command: command[:60])
def test_command_reaches_what_it_says(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a command that is known, and its places on storage are reached by the credential that it sets."""
    for name in list(os.environ):
        if name.startswith(("AZURE", "IDENTITY_", "MSI_", "DEFAULT_IDENTITY_")):
            monkeypatch.delenv(name)
    words = [re.sub(r"\$([A-Z]+)", lambda found: VALUES[found[1]], word) for word in shlex.split(command)]
    start = words.index("scoreline")
    environ = dict(word.split("=", 1) for word in words[:start])
    run = scoreline.commands["run"]
    given = run.make_context("run", words[start + 2 :]).params
    with local_service() as service:
        # a machine with an identity, whatever it is
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{service.url}/identity")
        monkeypatch.setenv("IDENTITY_HEADER", "proof")
        service.answer = lambda asked: token(asked) or (404, {}, b"")
        expected = next((KINDS[name] for name in environ if name in KINDS), "sas" if "?" in command else "identity")
        # whether an input is public would be asked of Azure
        purpose = "output" if expected == "identity" else "input"
        places = [uri for name in ("model", "input", "output") if isinstance(uri := parse_uri(given[name]), BlobPath)]
        kinds = {choose_access(place, environ=environ, purpose=purpose).kind for place in places}
    assert kinds <= {expected}
    assert kinds or "azureml:" in command


def test_page_has_each_credential() -> None:
    """No variable of the rule is missing on the page."""
    import runtime.credentials as rule

    text = PAGE.read_text("utf-8")
    for name in (rule.CONNECTION, rule.SIGNATURE, rule.ANONYMOUS, rule.MODE, *rule.KEYS):
        assert f"`{name}" in text
    assert len(commands()) >= 14
