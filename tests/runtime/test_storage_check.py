"""What storage would refuse in the middle of a job is said before it, in one sentence each.

The answers here are those that the service documents and an emulator never gives; tests/azure asks an emulator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from runtime.errors import InputError, OutputBusyError, OutputError
from runtime.storage_check import check_readable, check_signature, check_writable
from scoring.blob_access import BlobAccess
from scoring.errors import InputBusyError
from tests.runtime.local_service import Asked, Service, local_service

KEY = "c2VjcmV0" * 11
SAS = "sv=2024-11-04&sp=rwdl&sig=c2VjcmV0"
NAMES = b"<EnumerationResults><Blobs>%s</Blobs><NextMarker/></EnumerationResults>"
ONE = b"<Blob><Name>in/a.csv</Name></Blob>"


@pytest.fixture
def service() -> Iterator[Service]:
    """Serve a container on this machine that permits everything."""
    with local_service() as found:
        found.answer = permitting("")
        yield found


def permitting(
    name: str, status: int = 403, code: str = "AuthorizationPermissionMismatch"
) -> Callable[[Asked], tuple[int, dict[str, str], bytes]]:
    """Make a container that permits all but one thing: to list, read, write or delete."""

    def answer(asked: Asked) -> tuple[int, dict[str, str], bytes]:
        doing = {"PUT": "write", "DELETE": "delete", "HEAD": "read"}.get(asked.method, "list")
        if name in (doing, "all"):
            return status, {"x-ms-error-code": code}, b""
        if doing == "delete":
            return 404, {"x-ms-error-code": "BlobNotFound"}, b""
        if doing == "list":
            return 200, {"Content-Type": "application/xml"}, NAMES % ONE
        return (201 if doing == "write" else 200), {}, b""

    return answer


def access(service: Service, kind: str) -> BlobAccess:
    """Say how the container is reached."""
    secret = {"sas": SAS, "account_key": KEY}.get(kind, "")
    source = {"sas": "the URI", "account_key": "AZURE_STORAGE_KEY"}.get(kind, "")
    return BlobAccess(account_url=service.url, container="data", kind=kind, source=source, secret=secret)  # type: ignore[arg-type]


def refusal(given: BlobAccess, doing: str) -> str:
    """Return why the container cannot be read or written."""
    with pytest.raises((InputError, OutputError)) as error:
        check_writable(given, "out", "p.csv") if doing == "write" else check_readable(given, "in/")
    assert isinstance(error.value, OutputError if doing == "write" else InputError)
    assert "c2VjcmV0" not in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_calls_that_change_nothing(service: Service) -> None:
    """Reading is one listing of one name and its properties; writing stages one block that nobody commits."""
    check_readable(access(service, "account_key"), "in/")
    asked = [(each.method, each.path) for each in service.asked]
    assert [method for method, _ in asked] == ["GET", "HEAD"]
    assert "maxresults=1" in asked[0][1]
    assert asked[1][1] == "/data/in/a.csv"
    service.asked.clear()
    check_writable(access(service, "account_key"), "out", "p.csv")
    asked = [(each.method, each.path.partition("?")[0]) for each in service.asked]
    assert asked == [
        ("GET", "/data"), ("HEAD", "/data/out/p.csv"), ("PUT", "/data/out/.p.csv.staging/probe"),
        ("DELETE", "/data/out/.p.csv.staging/probe.none"),
    ]  # fmt: skip
    assert "comp=block&" in next(each.path for each in service.asked if each.method == "PUT")


def test_file_is_looked_at_by_itself(service: Service) -> None:
    """A signature for one file can list nothing, and need not."""
    service.answer = permitting("list")
    check_readable(access(service, "sas"), "in/a.csv")
    assert [each.method for each in service.asked] == ["HEAD"]


@pytest.mark.parametrize(
    ("purpose", "lacks", "says"),
    [
        ("read", "list", "does not permit to list it (sp=rwdl)"),
        ("read", "read", "does not permit to read it (sp=rwdl)"),
        ("write", "list", "does not permit to list it"),
        ("write", "write", "does not permit to write to it"),
        ("write", "delete", "does not permit to delete from it"),
    ],
)
def test_permission_that_lacks(service: Service, purpose: str, lacks: str, says: str) -> None:
    """Each permission is tried by a call of its own."""
    service.answer = permitting(lacks)
    assert refusal(access(service, "sas"), purpose) == (
        f"container data of account 127: the shared access signature of the URI {says}"
        + (" (sp=rwdl)" if not says.endswith(")") else "")
    )


@pytest.mark.parametrize(
    ("kind", "status", "code", "says"),
    [
        ("account_key", 403, "AuthenticationFailed", "the account key of AZURE_STORAGE_KEY is refused: it is none of"),
        ("account_key", 403, "KeyBasedAuthenticationNotPermitted", "the account takes no keys, so not the account key"),
        ("account_key", 403, "AuthorizationFailure", "the firewall of the account refuses this machine; allow"),
        ("account_key", 403, "AccountIsDisabled", "the account is disabled"),
        ("account_key", 404, "FilesystemNotFound", "account 127 has no container data; check the name, or make it: az"),
        ("account_key", 400, "OutOfRangeInput", "as the account key of AZURE_STORAGE_KEY: OutOfRangeInput"),
        ("sas", 403, "AuthenticationFailed", "the shared access signature of the URI is refused: it is cut off"),
        ("sas", 403, "AuthorizationFailure", "refuses this machine, or the signature is of something else; allow"),
        ("sas", 403, "AuthorizationServiceMismatch", "is not for Blob storage (ss)"),
        ("sas", 403, "AuthorizationResourceTypeMismatch", "is not for containers and objects (srt)"),
        ("sas", 403, "AuthorizationSourceIPMismatch", "is for other addresses than this machine's (sip)"),
        ("sas", 403, "AuthorizationProtocolMismatch", "is for https only (spr)"),
        ("anonymous", 409, "PublicAccessNotPermitted", "is not public"),
        ("anonymous", 404, "ResourceNotFound", "is not public"),
        ("anonymous", 401, "NoAuthenticationInformation", "is not public"),
    ],
)
@pytest.mark.parametrize("purpose", ["read", "write"])
def test_what_the_service_refuses(
    service: Service, *, kind: str, status: int, code: str, says: str, purpose: str
) -> None:
    """Each code has a sentence that says what to do."""
    service.answer = permitting("all", status, code)
    assert says in refusal(access(service, kind), purpose)


@pytest.mark.parametrize(("status", "code"), [(503, "ServerBusy"), (500, "OperationTimedOut"), (429, "TooMany")])
def test_storage_that_is_busy(service: Service, status: int, code: str) -> None:
    """What may pass has a class of its own, and the sentence says that nothing is lost."""
    service.answer = permitting("all", status, code)
    with pytest.raises(InputBusyError, match=f"busy or away .{code}"):
        check_readable(access(service, "account_key"), "")
    with pytest.raises(OutputBusyError, match=r"what is staged is kept, the same command"):
        check_writable(access(service, "account_key"), "", "p.csv")


def test_container_that_is_being_deleted(service: Service) -> None:
    """It may be made again later."""
    service.answer = permitting("all", 409, "ContainerBeingDeleted")
    with pytest.raises(OutputBusyError, match="it is being deleted"):
        check_writable(access(service, "account_key"), "", "p.csv")


def test_account_that_does_not_exist() -> None:
    """A host without address is refused within seconds; the clouds are named."""
    given = BlobAccess(account_url="https://heart.blob.core.invalid", container="data", kind="account_key", secret=KEY)
    says = "account heart: there is no host heart.blob.core.invalid; check the name of the account, and its cloud"
    assert says in refusal(given, "read")
    assert says in refusal(given, "write")


def test_storage_that_is_not_there() -> None:
    """A host that exists and does not answer may do so later; that is known within seconds."""
    given = BlobAccess(account_url="http://127.0.0.1:1/acct", container="data", kind="account_key", secret=KEY)
    with pytest.raises(InputBusyError, match=r"127\.0\.0\.1 cannot be reached now \(Connection refused\)"):
        check_readable(given, "")
    with pytest.raises(OutputBusyError, match=r"127\.0\.0\.1 cannot be reached now \(Connection refused\)"):
        check_writable(given, "", "p.csv")


def test_certificate_that_is_not_trusted(service: Service) -> None:
    """What speaks no TLS, or has a strange certificate, may be a proxy in the way."""
    given = BlobAccess(
        account_url=service.url.replace("http:", "https:"), container="data", kind="account_key", secret=KEY
    )
    assert "there is no secure connection to 127.0.0.1 (" in refusal(given, "read")


def test_signature_is_believed_before_anything_is_asked(service: Service) -> None:
    """Of what it says of itself the checks know without a request, also when it ended since it was chosen."""
    ended = BlobAccess(
        account_url=service.url, container="data", kind="sas", source="the URI", secret=f"se=2024-01-01&{SAS}"
    )
    assert "ended at 2024-01-01; make a new one" in refusal(ended, "read")
    assert "ended at 2024-01-01; make a new one" in refusal(ended, "write")
    with pytest.raises(InputError, match=r"does not permit to list \(sp=r\)"):
        check_signature(replace(ended, secret="sp=r&sig=c2VjcmV0"), "rl", output=False)
    assert service.asked == []
