"""Secrets are masked wherever text leaves, and libraries that would log them are quiet."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from runtime.redaction import hide, masked, quiet_loggers
from scoring.blob_access import BlobAccess, container_client
from tests.runtime.local_service import local_service

SAS = "sv=2024-11-04&sp=rl&sig=c2VjcmV0c2ln%2Babc%3D"
KEY = "a2V5" * 22


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://a.b/c?sv=1&sig=abc%2Bdef%3D&se=2", "https://a.b/c?sv=1&sig=***&se=2"),
        ("https://a.b/c?sig=%2Babc%3D&se=2", "https://a.b/c?sig=***&se=2"),
        ("sig=%s in a format", "sig=%s in a format"),
        ("GET /c?SIG=abc HTTP/1.1", "GET /c?SIG=*** HTTP/1.1"),
        ("AccountName=a;AccountKey=abc/+==;EndpointSuffix=x", "AccountName=a;AccountKey=***;EndpointSuffix=x"),
        ("BlobEndpoint=u;SharedAccessSignature=sv=1&sig=abc;x", "BlobEndpoint=u;SharedAccessSignature=***;x"),
        ('{"client_secret": "abc", "client_id": "c"}', '{"client_secret": "***", "client_id": "c"}'),
        ("{'account_key': 'abc', 'sas_token': 'def'}", "{'account_key': '***', 'sas_token': '***'}"),
        ("'Authorization': 'Bearer abc.def'", "'Authorization': 'Bearer ***'"),
        ("Authorization: SharedKey acct:abc=", "Authorization: SharedKey ***"),
        ('{"access_token":"abc"}', '{"access_token":"***"}'),
        ("password=abc and more", "password=*** and more"),
        ("design=good; the signal, keys of a dict: assigned", "design=good; the signal, keys of a dict: assigned"),
        ("row 3: column sigma: 4", "row 3: column sigma: 4"),
    ],
)
def test_masked(text: str, shown: str) -> None:
    """Values are masked where secrets usually stand; the rest stays as it is."""
    assert masked(text) == shown


def test_known_secrets_are_masked_anywhere() -> None:
    """A secret of this job is masked in every form, wherever it stands."""
    hide(SAS, "cGFzc3dvcmQ/+=", "", "ab")
    for text in (SAS, "c2VjcmV0c2ln+abc=", "c2VjcmV0c2ln%2Babc%3D", "cGFzc3dvcmQ/+=", "cGFzc3dvcmQ%2F%2B%3D"):
        assert masked(f"<{text}>") == "<***>"
    assert masked("cab") == "cab"


def test_arguments_are_hidden_from_who_lists_processes() -> None:
    """What follows the question mark of a URI is gone from the command line that the system shows, and else nothing."""
    signed = f"https://a.blob.core.windows.net/c/in?{SAS}"
    program = (
        "import sys; from runtime.redaction import hide_arguments; hide_arguments(); "
        "print(open('/proc/self/cmdline').read().split(chr(0))[3:]); print(sys.argv[1:])"
    )
    given = ["--input", signed, "--set", f"outputs.o.path=abfss://c@a.b/x?{SAS}", "--include", "part-?.csv", "last?"]
    shown = [
        re.sub(r"(?<=[a-z]\?).+", lambda found: "*" * len(found[0]), each) if "://" in each else each for each in given
    ]
    done = subprocess.run([sys.executable, "-c", program, *given], capture_output=True, text=True, check=True)
    assert done.stdout == f"{[*shown, '']}\n{given}\n"


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Give the lines that any library logs, at its most talkative."""
    found: list[str] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    root, names = logging.getLogger(), ("urllib3", "urllib3.connectionpool", "azure")
    loggers = [root, *(logging.getLogger(name) for name in names)]
    before = [(logger, logger.level, list(logger.filters)) for logger in loggers]
    handler = Keeping(level=logging.DEBUG)
    root.addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.filters = []
    yield found
    root.removeHandler(handler)
    for logger, level, filters in before:
        logger.setLevel(level)
        logger.filters = filters


def ask(kind: str, secret: str) -> None:
    """Ask a container for a name, by a real client."""
    with local_service() as service:
        service.answer = lambda _: (403, {"x-ms-error-code": "AuthorizationFailure"}, b"")
        access = BlobAccess(
            account_url=f"{service.url}/acct", container="data", kind=kind, secret=secret, patience=0  # type: ignore[arg-type]
        )  # fmt: skip
        with container_client(access) as client, pytest.raises(Exception, match="AuthorizationFailure") as error:
            list(client.list_blob_names())
        assert secret not in str(error.value)
        assert "c2VjcmV0" not in str(error.value)


def test_libraries_are_quiet(lines: list[str]) -> None:
    """What urllib3 would log of a signed address is not logged, even where a scoring script asks for it."""
    ask("sas", SAS)
    assert "c2VjcmV0" in "\n".join(lines)
    lines.clear()
    quiet_loggers()
    ask("sas", SAS)
    ask("account_key", KEY)
    assert lines == []
    for name in ("urllib3", "urllib3.connectionpool", "azure"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    ask("sas", SAS)
    ask("account_key", KEY)
    assert any("/acct/data?" in line and "***" in line for line in lines)
    for secret in ("c2VjcmV0", KEY):
        assert secret not in "\n".join(lines)


def test_quiet_twice() -> None:
    """Being asked again changes nothing."""
    teller = logging.getLogger("urllib3.connectionpool")
    quiet_loggers()
    filters = list(teller.filters)
    quiet_loggers()
    assert teller.filters == filters
