"""Which credential reaches a place on storage: one rule, told by name and never by value."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from runtime.credentials import choose_access, told
from runtime.errors import InputError, OutputError, UsageError
from runtime.uris import BlobPath, parse_uri
from scoring.blob_access import BlobAccess, container_client, token_credential
from scoring.errors import InputBusyError
from tests.runtime.local_service import Asked, Service, as_json, local_service, token

KEY = "c2VjcmV0" * 11
OTHER_KEY = "b3RoZXIx" * 11
SAS = "sv=2024-11-04&sr=c&sp=rwdl&se=2999-01-01T00%3A00%3A00Z&sig=c2VjcmV0c2ln%2B%3D"
HEART = "https://heart.blob.core.windows.net/data/in"
CHINA = "https://heart.blob.core.chinacloudapi.cn/data/in"
EMULATED = "http://127.0.0.1:10000/devstoreaccount1/data/in"
CONNECTION = f"DefaultEndpointsProtocol=https;AccountName=heart;AccountKey={KEY};EndpointSuffix=core.windows.net"
EMULATOR = f"AccountName=devstoreaccount1;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;"
SIGNED_CONNECTION = f"BlobEndpoint=https://heart.blob.core.windows.net/;SharedAccessSignature={SAS}"

CONNECTION_VARIABLE = "AZURE_STORAGE_CONNECTION_STRING"
SIGNATURE_VARIABLE = "AZURE_STORAGE_SAS_TOKEN"


@pytest.fixture(autouse=True)
def nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take all that this machine may say of identities out of the environment."""
    for name in list(os.environ):
        if name.startswith(("AZURE", "IDENTITY_", "MSI_", "DEFAULT_IDENTITY_")):
            monkeypatch.delenv(name)


@pytest.fixture
def service() -> Iterator[Service]:
    """Serve storage and identities on this machine."""
    with local_service() as found:
        yield found


def place(text: str) -> BlobPath:
    """Read the URI of a place on storage."""
    uri = parse_uri(text)
    assert isinstance(uri, BlobPath)
    return uri


@pytest.mark.parametrize(
    ("uri", "environ", "kind", "source", "secret"),
    [
        pytest.param(f"{HEART}?{SAS}", {"AZURE_STORAGE_KEY": KEY}, "sas", "the URI", SAS, id="1 URI first"),
        pytest.param(HEART, {CONNECTION_VARIABLE: CONNECTION}, "account_key", CONNECTION_VARIABLE, KEY, id="3"),
        pytest.param(HEART, {CONNECTION_VARIABLE: SIGNED_CONNECTION}, "sas", CONNECTION_VARIABLE, SAS, id="3 signed"),
        pytest.param(
            HEART, {CONNECTION_VARIABLE: CONNECTION, SIGNATURE_VARIABLE: SAS, "AZURE_STORAGE_KEY": OTHER_KEY},
            "account_key", CONNECTION_VARIABLE, KEY, id="3 before 4 and 5",
        ),
        pytest.param(
            HEART, {CONNECTION_VARIABLE: CONNECTION.replace("heart", "lungs"), "AZURE_STORAGE_KEY": OTHER_KEY},
            "account_key", "AZURE_STORAGE_KEY", OTHER_KEY, id="3 of another account",
        ),
        pytest.param(
            CHINA, {CONNECTION_VARIABLE: CONNECTION, "AZURE_STORAGE_KEY": OTHER_KEY},
            "account_key", "AZURE_STORAGE_KEY", OTHER_KEY, id="3 of another cloud",
        ),
        pytest.param(
            "wasbs://data@heart.blob.core.chinacloudapi.cn/in",
            {CONNECTION_VARIABLE: CONNECTION.replace("core.windows.net", "core.chinacloudapi.cn")},
            "account_key", CONNECTION_VARIABLE, KEY, id="3 in China",
        ),
        pytest.param(
            CHINA, {CONNECTION_VARIABLE: SIGNED_CONNECTION, "AZURE_STORAGE_KEY": OTHER_KEY},
            "account_key", "AZURE_STORAGE_KEY", OTHER_KEY, id="3 endpoint of another cloud",
        ),
        pytest.param(
            "https://heart.z13.blob.storage.azure.net/data", {CONNECTION_VARIABLE: CONNECTION},
            "account_key", CONNECTION_VARIABLE, KEY, id="3 zone",
        ),
        pytest.param(
            "abfss://data@heart.privatelink.dfs.core.windows.net/", {CONNECTION_VARIABLE: CONNECTION},
            "account_key", CONNECTION_VARIABLE, KEY, id="3 private link",
        ),
        pytest.param(EMULATED, {CONNECTION_VARIABLE: EMULATOR}, "account_key", CONNECTION_VARIABLE, KEY, id="3 http"),
        pytest.param(
            HEART, {SIGNATURE_VARIABLE: f"?{SAS}", "AZURE_STORAGE_KEY": KEY}, "sas", SIGNATURE_VARIABLE, SAS, id="4",
        ),
        pytest.param(
            HEART, {SIGNATURE_VARIABLE: SAS, "AZURE_STORAGE_ACCOUNT": "Heart"}, "sas", SIGNATURE_VARIABLE, SAS,
            id="4 named",
        ),
        pytest.param(
            HEART, {"AZURE_STORAGE_ACCOUNT_KEY": KEY, "AZURE_STORAGE_ACCOUNT_NAME": "heart"},
            "account_key", "AZURE_STORAGE_ACCOUNT_KEY", KEY, id="5",
        ),
        pytest.param(HEART, {"AZURE_STORAGE_ANON": "true"}, "anonymous", "AZURE_STORAGE_ANON", "", id="6"),
        pytest.param(
            HEART, {"AZURE_STORAGE_KEY": KEY, "AZURE_STORAGE_ACCOUNT": "lungs", "AZURE_STORAGE_ANON": "1"},
            "anonymous", "AZURE_STORAGE_ANON", "", id="6 key of another account",
        ),
    ],
)  # fmt: skip
def test_first_that_fits(uri: str, environ: dict[str, str], kind: str, source: str, secret: str) -> None:
    """Of all that the URI and the environment say, the first of the rule that is of this account; it is named."""
    access = choose_access(place(uri), environ=environ)
    assert (access.kind, access.source, access.secret) == (kind, source, secret)
    assert source in told(access)
    for text in (repr(access), told(access)):
        assert not (secret and secret in text)
        assert "c2VjcmV0" not in text


@pytest.mark.parametrize(
    ("uri", "account_url", "account"),
    [
        ("abfss://data@heart.dfs.core.windows.net/x", "https://heart.blob.core.windows.net", "heart"),
        ("https://heart.dfs.core.usgovcloudapi.net/data", "https://heart.blob.core.usgovcloudapi.net", "heart"),
        ("wasbs://data@heart.blob.core.chinacloudapi.cn/", "https://heart.blob.core.chinacloudapi.cn", "heart"),
        ("az://data@dfs.dfs.core.windows.net/x", "https://dfs.blob.core.windows.net", "dfs"),
        (
            "https://heart.privatelink.dfs.core.windows.net/data",
            "https://heart.privatelink.blob.core.windows.net", "heart",
        ),
        ("https://heart.z13.blob.storage.azure.net/data", "https://heart.z13.blob.storage.azure.net", "heart"),
        (EMULATED, "http://127.0.0.1:10000/devstoreaccount1", "devstoreaccount1"),
    ],
)  # fmt: skip
def test_all_goes_to_the_blob_endpoint(uri: str, account_url: str, account: str) -> None:
    """Whatever host the URI names, reading and writing is done at the blob endpoint, with the account's own name."""
    access = choose_access(place(uri), environ={"AZURE_STORAGE_KEY": KEY})
    assert (access.account_url, access.container, access.account) == (account_url, "data", account)
    with container_client(access) as client:
        assert client.url == f"{account_url}/data"


def test_development_storage() -> None:
    """The short form of a connection string is the emulator, whatever cloud the URI names."""
    for text, endpoint in (
        ("UseDevelopmentStorage=true", "http://127.0.0.1:10000/devstoreaccount1"),
        (
            "UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://azurite",
            "http://azurite:10000/devstoreaccount1",
        ),
    ):
        for uri in (EMULATED, "abfss://data@devstoreaccount1.dfs.core.windows.net/in"):
            access = choose_access(place(uri), environ={CONNECTION_VARIABLE: text})
            assert (access.kind, access.account_url) == ("account_key", endpoint)


@pytest.mark.parametrize(
    ("uri", "environ", "says"),
    [
        pytest.param(f"{HEART}?sv=2024-11-04", {}, "is no shared access signature, for it has no sig=", id="cut off"),
        pytest.param(HEART, {"AZURE_STORAGE_KEY": "not a key"}, "AZURE_STORAGE_KEY is no account key", id="key"),
        pytest.param(HEART, {CONNECTION_VARIABLE: "heart"}, f"{CONNECTION_VARIABLE}: no connection", id="string"),
        pytest.param(HEART, {SIGNATURE_VARIABLE: "c2VjcmV0"}, SIGNATURE_VARIABLE, id="signature"),
    ],
)  # fmt: skip
def test_what_is_no_credential(uri: str, environ: dict[str, str], says: str) -> None:
    """A credential that cannot be is refused at once, without its value."""
    with pytest.raises(UsageError) as error:
        choose_access(place(uri), environ=environ)
    assert says in str(error.value)
    assert "c2VjcmV0" not in str(error.value)
    assert "not a key" not in str(error.value)


@pytest.mark.parametrize(
    ("says", "purpose", "message"),
    [
        ("se=2024-12-01T00:00:00Z&sp=rl", "input", "ended at 2024-12-01T00:00:00Z; make a new one"),
        ("se=2024-12-01&sp=rl", "input", "ended at 2024-12-01; make a new one"),
        ("se=2024-12-01T00%3A00Z&sp=rwdl", "output", "ended at 2024-12-01T00:00Z; make a new one"),
        ("se=2999-01-01&st=2998-01-01&sp=rl", "input", "begins only at 2998-01-01"),
        ("se=2999-01-01&sp=l", "input", "does not permit to read (sp=l)"),
        ("se=2999-01-01&sp=rl", "output", "does not permit to write or delete (sp=rl); make one with sp=rwdl"),
        ("se=2999-01-01&sp=rwdl&sr=b", "output", "is for one blob only (sr=b)"),
    ],
)
def test_signature_says_that_it_will_not_do(says: str, purpose: str, message: str) -> None:
    """What a signature says of itself is believed before anything is asked."""
    with pytest.raises(OutputError if purpose == "output" else InputError) as error:
        choose_access(place(f"{HEART}?{says}&sig=c2VjcmV0"), environ={}, purpose=purpose)  # type: ignore[arg-type]
    assert message in str(error.value)
    assert str(error.value).startswith("container data of account heart: the shared access signature of the URI ")
    assert "c2VjcmV0" not in str(error.value)


def test_signature_of_a_stored_policy_says_nothing() -> None:
    """Its time and its permissions are known to storage alone."""
    assert choose_access(place(f"{HEART}?si=policy&sig=c2VjcmV0"), environ={}, purpose="output").kind == "sas"


def test_each_account_has_its_own() -> None:
    """Two accounts of one job are reached by two credentials."""
    environ = {CONNECTION_VARIABLE: CONNECTION, "AZURE_STORAGE_ACCOUNT": "lungs", "AZURE_STORAGE_KEY": OTHER_KEY}
    lungs = choose_access(place("https://lungs.blob.core.windows.net/data"), environ=environ, purpose="output")
    heart = choose_access(place(HEART), environ=environ)
    assert (heart.secret, lungs.secret) == (KEY, OTHER_KEY)


# What is asked over the network


def stored(service: Service) -> BlobPath:
    """Return a place that the service stores, as an emulator does."""
    return place(f"{service.url}/devstoreaccount1/data/in/a.csv")


@pytest.mark.parametrize("allowed", ["GET", "HEAD"])
def test_public_container(service: Service, allowed: str) -> None:
    """What can be listed or read without a credential is reached without one: one harmless request, or two."""
    service.answer = lambda asked: (200 if asked.method == allowed else 404, {}, b"")
    access = choose_access(stored(service), environ={})
    assert (access.kind, access.source) == ("anonymous", "a public container")
    assert [each.method for each in service.asked] == ["GET", "HEAD"][: 1 if allowed == "GET" else 2]
    assert service.paths()[0] == "/devstoreaccount1/data?restype=container&comp=list&maxresults=1"
    assert all("Authorization" not in each.headers for each in service.asked)


def identified(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the service be the endpoint of a managed identity as well."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{service.url}/identity")
    monkeypatch.setenv("IDENTITY_HEADER", "proof")


@pytest.mark.parametrize("mode", [{}, {"AZURE_STORAGE_AUTH_MODE": "login", "AZURE_STORAGE_KEY": KEY}])
def test_managed_identity(service: Service, monkeypatch: pytest.MonkeyPatch, mode: dict[str, str]) -> None:
    """Where nothing else fits, or it is asked for, the identity is: one token, for storage."""
    identified(service, monkeypatch)
    service.answer = lambda asked: token(asked) or (403, {}, b"")
    access = choose_access(stored(service), environ=mode)
    assert (access.kind, access.source) == ("identity", "ManagedIdentityCredential")
    assert told(access).endswith("identity of ManagedIdentityCredential")
    tokens = [path for path in service.paths() if path.startswith("/identity")]
    assert len(tokens) == 1
    assert "resource=https://storage.azure.com" in tokens[0]
    assert len(service.asked) == (1 if mode else 3)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"MSI_ENDPOINT": "http://127.0.0.1:1/", "MSI_SECRET": "s"}, "ManagedIdentityCredential"),
        ({"IDENTITY_ENDPOINT": "http://127.0.0.1:1/", "AZURE_CLIENT_ID": "c"}, "ManagedIdentityCredential"),
        ({}, "DefaultAzureCredential"),
        (
            {
                "IDENTITY_ENDPOINT": "http://127.0.0.1:1/", "AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t",
                "AZURE_CLIENT_SECRET": "c2VjcmV0",
            },
            "DefaultAzureCredential",
        ),
    ],
)  # fmt: skip
def test_kind_of_identity(monkeypatch: pytest.MonkeyPatch, said: dict[str, str], kind: str) -> None:
    """The machine's managed identity is asked alone, unless another one was set: the chain takes minutes to fail."""
    for name, text in said.items():
        monkeypatch.setenv(name, text)
    credential = token_credential(BlobAccess(account_url="", container="", kind="identity"))
    assert type(credential).__name__ == kind
    credential.close()


def test_output_is_not_tried_without_credential(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may write to a public container without one."""
    identified(service, monkeypatch)
    service.answer = lambda asked: token(asked) or (200, {}, b"")
    environ = {"AZURE_STORAGE_ANON": "true"}
    assert choose_access(stored(service), environ=environ, purpose="output").kind == "identity"


def test_no_identity(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence names what was tried, within seconds, and shows no value."""
    identified(service, monkeypatch)
    monkeypatch.setenv("IDENTITY_HEADER", "wrong")
    service.answer = lambda asked: token(asked) or (403, {}, b"")
    environ = {
        CONNECTION_VARIABLE: CONNECTION.replace("heart", "lungs"),
        "AZURE_STORAGE_ACCOUNT": "liver", "AZURE_STORAGE_KEY": KEY,
    }  # fmt: skip
    with pytest.raises(UsageError) as error:
        choose_access(stored(service), environ=environ)
    message = str(error.value)
    assert message.startswith("container data of account devstoreaccount1: no credential was found: tried ")
    for part in (
        f"{CONNECTION_VARIABLE} (of account lungs)", "AZURE_STORAGE_KEY (of account liver)", "it is not public",
        "the identity gives no token", "az login",
    ):  # fmt: skip
        assert part in message
    assert "c2VjcmV0" not in message
    assert "wrong" not in message
    assert "\n" not in message


def test_no_identity_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any is told the kinds that were tried."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError) as error:
        choose_access(place(HEART), environ={}, purpose="output")
    assert re.search(r"tried EnvironmentCredential, .*ManagedIdentityCredential", str(error.value))
    assert "no AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_SAS_TOKEN" in str(error.value)


@pytest.mark.parametrize(
    ("uri", "authority", "says"),
    [
        (CHINA, "", "is in Azure in China, but the identity signs in at login.microsoftonline.com; set"),
        (CHINA, "", "; set AZURE_AUTHORITY_HOST=https://login.chinacloudapi.cn"),
        (HEART, "https://login.microsoftonline.us/", "set AZURE_AUTHORITY_HOST=https://login.microsoftonline.com"),
    ],
)  # fmt: skip
def test_service_principal_of_another_cloud(uri: str, authority: str, says: str) -> None:
    """A service principal signs in at one cloud only, and that is compared with the account's."""
    environ = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "c2VjcmV0"}
    with pytest.raises(UsageError, match=re.escape(says)):
        choose_access(place(uri), environ={**environ, "AZURE_AUTHORITY_HOST": authority}, purpose="output")


def test_account_that_does_not_exist() -> None:
    """A host without address ends it, before any identity is asked."""
    access = BlobPath(account_url="https://heart.blob.core.invalid", container="data")
    with pytest.raises(InputError) as error:
        choose_access(access, environ={})
    assert "account heart: there is no host heart.blob.core.invalid" in str(error.value)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_storage_that_is_busy(service: Service, status: int) -> None:
    """That it does not answer says nothing of being public, and may pass."""

    def answer(_: Asked) -> tuple[int, dict[str, str], bytes]:
        return as_json({}, status)

    service.answer = answer
    with pytest.raises(InputBusyError, match=f"busy or away .HTTP {status}"):
        choose_access(stored(service), environ={})


def test_secret_is_in_no_repr() -> None:
    """What was chosen can be shown."""
    access = BlobAccess(account_url="https://a.b", container="c", kind="sas", secret=SAS)
    assert SAS not in repr(access)
