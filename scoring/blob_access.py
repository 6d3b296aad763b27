"""How a container on Azure storage is reached: by which credential, with which clients.

The driver chooses (`runtime.credentials`); scanner and workers make clients of their own from what it chose, which
crosses to them as plain data and is shown nowhere: its `repr` has no secret.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient
    from obstore.store import AzureStore

__all__ = ["BlobAccess", "container_client", "object_store", "token_credential"]

CONNECT_S = 10
READ_S = 60
RETRIES = 6
PROOFS = ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_FEDERATED_TOKEN_FILE")
"""What a service principal or a workload identity proves itself by; its id would name no managed identity."""
STORAGE_SCOPE = "https://storage.azure.com/.default"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobAccess:
    """One container and how it is reached.

    Attributes:
        account_url: of the account's blob endpoint, without slash at its end; an emulator's has the account as path.
        container: its name.
        kind: what proves who asks.
        source: where that came from, to be told: a variable's name, "the URI"; never its value.
        secret: the signature without question mark, or the account key; empty for the other kinds.
        client_id: of a managed identity that was assigned by a user; empty: whichever there is.
        patience: retries of a request that storage did not answer; tests have less.
    """

    account_url: str
    container: str
    kind: Literal["sas", "account_key", "identity", "anonymous"]
    source: str = ""
    secret: str = field(default="", repr=False)
    client_id: str = ""
    patience: int = RETRIES

    @property
    def account(self) -> str:
        """The name of the account."""
        parts = urlsplit(self.account_url)
        return parts.path.strip("/") or (parts.hostname or "").split(".", 1)[0]

    def url_of(self, path: str) -> str:
        """Write the address of a blob, without any secret."""
        return f"{self.account_url}/{self.container}/{path}"


def token_credential(access: BlobAccess) -> Any:
    """Make the credential of an identity: a managed one where the machine has one and no other is set, else a chain."""
    from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

    client_id = access.client_id or os.environ.get("DEFAULT_IDENTITY_CLIENT_ID") or os.environ.get("AZURE_CLIENT_ID")
    managed = os.environ.get("MSI_ENDPOINT") or os.environ.get("IDENTITY_ENDPOINT")
    if managed and not any(os.environ.get(name) for name in PROOFS):
        return ManagedIdentityCredential(client_id=client_id) if client_id else ManagedIdentityCredential()
    return DefaultAzureCredential(managed_identity_client_id=client_id) if client_id else DefaultAzureCredential()


def container_client(access: BlobAccess) -> ContainerClient:
    """Make a client that stages and publishes; one for each process, never carried over a fork."""
    from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
    from azure.storage.blob import ContainerClient, ExponentialRetry
    from urllib3.connection import HTTPConnection

    # whoever sets it for all connections of http.client, as a script may, prints whole addresses and headers
    HTTPConnection.debuglevel = 0
    credential: Any = None
    if access.kind == "account_key":
        # the client would guess the account from the host, wrongly for a private link or a zone
        credential = AzureNamedKeyCredential(access.account, access.secret)
    elif access.kind == "sas":
        credential = AzureSasCredential(access.secret)
    elif access.kind == "identity":
        credential = token_credential(access)
    tries = access.patience
    retry = ExponentialRetry(
        initial_backoff=1, increment_base=2, random_jitter_range=1,
        retry_total=tries, retry_read=tries, retry_connect=tries, retry_status=tries,
    )  # fmt: skip
    return ContainerClient(
        access.account_url, access.container, credential=credential, retry_policy=retry,
        connection_timeout=CONNECT_S, read_timeout=READ_S, raw_response_hook=_refuse_torn,
    )  # fmt: skip


def _refuse_torn(response: Any) -> None:
    """Have a request tried again whose answer ended within its headers: Python takes those it got for all of them."""
    from azure.core.exceptions import ServiceResponseError

    raw = getattr(response.http_response.internal_response, "raw", None)
    message = getattr(getattr(raw, "_original_response", None), "msg", None)
    if raw is not None and getattr(message, "defects", None):
        raw.close()
        raise ServiceResponseError("the answer ends within its headers")


def object_store(access: BlobAccess) -> AzureStore:
    """Make a client that lists and reads, many ranges at once; one for each process, never carried over a fork."""
    from datetime import timedelta

    from obstore.store import AzureStore

    return AzureStore(
        container_name=access.container,
        account_name=access.account,
        endpoint=access.account_url,
        client_options={
            "allow_http": access.account_url.startswith("http://"),
            "connect_timeout": f"{CONNECT_S}s",
            "timeout": f"{READ_S}s",
        },
        retry_config={"max_retries": access.patience, "retry_timeout": timedelta(seconds=3 * READ_S)},
        # the library reads variables of its own, some of which win over a key or a signature that it is given: never
        # over a provider
        credential_provider=_provider(access),
        skip_signature=access.kind == "anonymous",
        use_emulator=False,
    )


def _provider(access: BlobAccess) -> Any:
    """Give what proves who asks in the form that obstore asks for."""
    if access.kind == "account_key":
        return lambda: {"access_key": access.secret, "expires_at": None}
    if access.kind == "sas":
        return lambda: {"sas_token": access.secret, "expires_at": None}
    if access.kind == "anonymous":
        return None
    from obstore.auth.azure import AzureCredentialProvider

    return AzureCredentialProvider(token_credential(access), scopes=[STORAGE_SCOPE])


def sas_expiry(sas: str) -> str:
    """Tell when a shared access signature ends, as it says itself; empty where it does not."""
    return dict(parse_qsl(sas)).get("se", "")
