"""What storage and the way to it do wrong, one fault at a time, and what comes of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from urllib.parse import unquote

import pytest

from runtime.blob_score_file import BlobScoreFile
from runtime.errors import OutputBusyError, OutputError, exit_code
from scoring.blob_access import BlobAccess, container_client
from tests.azure.azurite import KEY, Azurite
from tests.azure.fault_proxy import CUT, DROPPED_AFTER, DROPPED_BEFORE, Delay, Fault, FaultProxy, Request, Status
from tests.score_contract import HEADER, LOST, MINE, NAME, PARTS, QUARANTINE, RECEIPT, WHOLE, account_of, found, key_of
from tests.test_score_contract import BlobPlace
from tests.thorough import usual

# Azure's library leaves a connection on which an answer was cut off to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning")

BASE = HEADER + b"9,9,b.csv\n"


@pytest.fixture
def proxy(azurite: Azurite) -> Iterator[FaultProxy]:
    """Return a proxy without a rule."""
    with FaultProxy(azurite.port) as proxy:
        yield proxy


@pytest.fixture
def place(azurite: Azurite, proxy: FaultProxy, soon: None) -> BlobPlace:  # noqa: ARG001
    """Return an empty place behind the proxy."""
    direct = azurite.new_container()
    return BlobPlace(azurite.access(direct.container, port=proxy.port, patience=2), direct)


def stage(output: BlobScoreFile) -> None:
    """Stage parts as workers do."""
    for start, data in enumerate(PARTS):
        writer = output.staging.begin()
        writer.write(data)
        lost = b"" if data else LOST
        writer.commit(key_of(data, writer.nonce, start), quarantine=lost, account=account_of(lost) if lost else b"")


def whole_job(place: BlobPlace, mode: str = "fail") -> None:
    """Do all that a job asks of its output."""
    output = place.output()
    try:
        output.claim()
        if output.job() is None:
            output.discard()
            output.record_job({"fingerprint": MINE})
        if not found(output):
            stage(output)
        output.record_header(["prediction"])
        parts = found(output)
        output.publish(header=HEADER, parts=parts, mode=mode, fingerprint=MINE)  # type: ignore[arg-type]
        output.finish({"fingerprint": MINE, "appended": []})
    finally:
        output.release()


def first_of(kind: str, fault: Fault, *, target: str = "") -> Callable[[Request], Fault]:
    """Let the first request of a kind meet a fault."""
    met: list[Request] = []

    def rule(request: Request) -> Fault:
        if request.kind == kind and target in request.target and not met:
            met.append(request)
            return fault
        return None

    return rule


def all_of(kind: str, fault: Fault) -> Callable[[Request], Fault]:
    """Let every request of a kind meet a fault."""
    return lambda request: fault if kind in ("", request.kind) else None


KINDS = ("stage", "commit", "write", "read", "look", "lease", "list", "list blocks", "delete")
FAULTS: dict[str, Fault] = {
    "dropped before": DROPPED_BEFORE, "reply lost": DROPPED_AFTER, "cut": CUT, "delay": Delay(seconds=0.3),
    "500": Status(code=500), "503": Status(code=503, retry_after_s=0), "429": Status(code=429, retry_after_s=0),
}  # fmt: skip
PASSING = [(kind, fault) for kind in KINDS for fault in FAULTS]
SELDOM = [
    (kind, fault)
    for kind, fault in PASSING
    if kind not in ("stage", "commit", "read") and fault in ("cut", "delay", "500", "429")
]


@pytest.mark.parametrize(
    ("kind", "fault"),
    [pytest.param(kind, FAULTS[fault], id=f"{fault}-{kind}") for kind, fault in usual(PASSING, seldom=SELDOM)],
)
def test_fault_that_passes_is_not_seen(place: BlobPlace, proxy: FaultProxy, kind: str, fault: Fault) -> None:
    """Each kind of request fails once in each way: the file is there once, whole, and nothing else."""
    for name, data in ((NAME, BASE), (QUARANTINE, b"{}\n"), (RECEIPT, b'{"appended": []}')):
        place.put(name, data)
    proxy.rule = first_of(kind, fault)
    whole_job(place, "append")
    assert fault in {met for _, met in proxy.requests}
    assert place.get(NAME) == BASE + b"".join(PARTS)
    assert place.get(QUARANTINE) == b"{}\n" + LOST
    assert place.names() == {NAME, RECEIPT, QUARANTINE}


@pytest.mark.parametrize("mode", ["fail", "overwrite", "append"])
def test_commit_whose_reply_is_lost_is_ours(place: BlobPlace, proxy: FaultProxy, mode: str) -> None:
    """Asked again, storage says that the condition does not hold: the blob tells that it was this publication."""
    if mode != "fail":
        place.put(NAME, BASE)
    proxy.rule = first_of("commit", DROPPED_AFTER, target=f"/{NAME}?")
    whole_job(place, mode)
    commits = [met for request, met in proxy.requests if request.kind == "commit" and f"/{NAME}?" in request.target]
    assert commits == [DROPPED_AFTER, None]
    assert place.get(NAME) == (BASE + b"".join(PARTS) if mode == "append" else WHOLE)


def test_commit_that_another_one_outran_is_theirs(place: BlobPlace, proxy: FaultProxy) -> None:
    """A blob that appears between the look and the commit is not replaced."""

    def rule(request: Request) -> Fault:
        if request.kind == "commit" and f"/{NAME}?" in request.target:
            place.put(NAME, b"theirs")
        return None

    proxy.rule = rule
    with pytest.raises(OutputError, match="exists by now; nothing was published"):
        whole_job(place)
    assert place.get(NAME) == b"theirs"


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        (("stage", DROPPED_BEFORE), OSError, "storage does not answer"),
        (("stage", Status(code=503)), OSError, r"storage answers 503 \(ServerBusy\)"),
        (("stage", Status(code=403)), OSError, r"refused the credential \(the test\): AuthorizationPermissionMismatch"),
        (
            ("commit", Status(code=500)),
            OutputBusyError,
            r"storage answers 500 \(InternalError\); what is staged is kept",
        ),
        (("commit", Status(code=429, retry_after_s=0)), OutputBusyError, r"storage answers 429 \(TooManyRequests\)"),
        (("commit", Status(code=412)), OutputBusyError, "staged parts are gone"),
        (
            ("commit", Status(code=403)),
            OutputBusyError,
            r"refused the credential \(the test\): .*; what is staged is kept, run again with a credential that",
        ),
        (("commit", DROPPED_BEFORE), OutputBusyError, "storage does not answer"),
        (("lease", Status(code=403)), OutputError, r"refused the credential \(the test\)"),
        (("write", Status(code=403, word="AuthenticationFailed")), OutputError, "AuthenticationFailed"),
        (("write", Status(code=404, word="ContainerNotFound")), OutputError, "its container does not exist"),
        (("", DROPPED_BEFORE), OutputBusyError, "storage does not answer"),
        (("", Status(code=500)), OutputBusyError, "run again to go on"),
    ],
)
def test_fault_that_stays_is_told(
    place: BlobPlace, proxy: FaultProxy, fault: tuple[str, Fault], error: type[Exception], text: str
) -> None:
    """One sentence: what, why, what to do; and when it is over, the same command completes the job."""
    proxy.rule = all_of(*fault)
    with pytest.raises(error, match=text) as raised:
        whole_job(place)
    if isinstance(raised.value, OutputError):
        assert exit_code(raised.value) == (75 if error is OutputBusyError else 2)
        assert "\n" not in str(raised.value)
        assert f"/{place.access.container}/" in str(raised.value)
    assert place.get(NAME) is None
    proxy.rule = lambda _: None
    _end_lease(place)
    whole_job(place)
    assert place.get(NAME) == WHOLE
    assert place.names() == {NAME, RECEIPT, QUARANTINE}


def _end_lease(place: BlobPlace) -> None:
    """End the lease of a driver that could not give it back, as time does."""
    from azure.core.exceptions import AzureError
    from azure.storage.blob import BlobLeaseClient

    with container_client(place.direct) as client:
        lock = client.get_blob_client(f"to/score/.{NAME}.staging/lock")
        try:
            BlobLeaseClient(lock).break_lease(0)
        except AzureError:
            assert not lock.exists() or lock.get_blob_properties().lease.state != "leased"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"container": "missing"}, r"/missing/.*its container does not exist \(ContainerNotFound\)"),
        ({"secret": "bm9uZQ=="}, r"storage refused the credential \(the test\)"),
        ({"kind": "anonymous", "secret": "", "source": ""}, r"storage refused the credential \(anonymous\)"),
        ({"account_url": "https://nosuchaccount.invalid"}, "no host of this name is known"),
    ],
)
def test_wrong_place_is_refused_at_once(
    azurite: Azurite,
    soon: None,  # noqa: ARG001
    changes: dict[str, str],
    text: str,
) -> None:
    """The claim finds what is wrong before anything is scored: exit code 2, one sentence, no secret."""
    access = azurite.new_container()
    values = {name: getattr(access, name) for name in ("account_url", "container", "kind", "source", "secret")}
    with pytest.raises(OutputError, match=text) as raised:
        BlobScoreFile(BlobAccess(**{**values, **changes}, patience=2), "to/score", NAME).claim()
    assert exit_code(raised.value) == 2
    assert "\n" not in str(raised.value)


def test_no_secret_is_told(
    azurite: Azurite,
    proxy: FaultProxy,
    soon: None,  # noqa: ARG001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither a key nor a signature stands in an error, a log record of ours, a repr, or a blob."""
    from azure.storage.blob import generate_container_sas

    direct = azurite.new_container()
    sas = generate_container_sas(
        "devstoreaccount1", direct.container, account_key=KEY, permission="rwdlac", expiry="2100-01-01T00:00:00Z"
    )
    signature = sas.partition("sig=")[2].partition("&")[0]
    url = azurite.access(direct.container, port=proxy.port).account_url
    access = BlobAccess(account_url=url, container=direct.container, kind="sas", secret=sas, source="it", patience=1)
    told = []
    caplog.set_level(logging.INFO)
    for fault in (DROPPED_BEFORE, DROPPED_AFTER, CUT, Status(code=500), Status(code=403), Status(code=412)):
        for kind in KINDS:
            proxy.rule = all_of(kind, fault)
            output = BlobScoreFile(access, "to/score", NAME)
            try:
                whole_job(BlobPlace(access, direct))
            except (OutputError, OSError) as error:
                told += [str(error), repr(error), repr(error.__cause__)]
            told += [repr(output), repr(vars(output))]
            proxy.rule = lambda _: None
            _end_lease(BlobPlace(access, direct))
    with container_client(direct) as client:
        told += [client.download_blob(name).readall().decode() for name in client.list_blob_names()]
    told.append(caplog.text)
    assert len(told) > 100
    assert [text for text in told for secret in (signature, unquote(signature), KEY) if secret in text] == []


def test_requests_are_few(place: BlobPlace, proxy: FaultProxy) -> None:
    """A part takes one request; all the rest is a few dozen, whatever the number of parts."""
    output = place.output()
    output.claim()
    output.record_job({"fingerprint": MINE})
    staging = output.staging
    before = len(proxy.requests)
    for number in range(50):
        writer = staging.begin()
        writer.write(b"0,1,a.csv\n")
        writer.commit(key_of(b"0,1,a.csv\n", writer.nonce, number), quarantine=b"", account=b"")
    assert len(proxy.requests) - before == 50
    output.publish(header=HEADER, parts=found(output), mode="fail", fingerprint=MINE)
    output.finish({})
    assert len(proxy.requests) - 50 < 60
