"""Choose the credential that a container on Azure storage is reached with. One rule, the first that fits.

1. a shared access signature in the URI
2. AZURE_STORAGE_AUTH_MODE=login: the identity (8), whatever else is set
3. AZURE_STORAGE_CONNECTION_STRING, where it is of the URI's account
4. AZURE_STORAGE_SAS_TOKEN, where AZURE_STORAGE_ACCOUNT names the URI's account or is not set
5. AZURE_STORAGE_KEY or AZURE_STORAGE_ACCOUNT_KEY, likewise
6. AZURE_STORAGE_ANON=true, unless something is to be written: nobody
7. nobody, where an input can be listed or read without a credential: a public container
8. the identity of the machine or of who signed in: managed identity, workload identity, service principal, az login

It is chosen for each container by itself, before anything is read, and told by name, never by value. We alone choose:
the clients get what was chosen and look at no variable, for some would let a variable win over what they were given.
"""

from __future__ import annotations

import functools
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from runtime.clouds import cloud_of_authority, cloud_of_storage
from runtime.errors import UsageError
from runtime.redaction import hide, masked, quiet_loggers
from runtime.storage_check import TO_READ, TO_WRITE, check_signature
from runtime.storage_error import container_of, unreachable
from runtime.uris import BlobPath
from runtime.workspace import Purpose
from scoring.blob_access import PROOFS, STORAGE_SCOPE, BlobAccess, sas_expiry, token_credential
from scoring.errors import InputBusyError

__all__ = ["blob_endpoint", "choose_access", "identity_token", "told"]

ANSWER_S = 10
TOKEN_S = 20
"""Seconds until an identity counts as not there; `az` alone may take five."""
API_VERSION = "2021-08-06"

EMULATOR = "devstoreaccount1"
EMULATOR_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""No secret: every emulator has this key (learn.microsoft.com/azure/storage/common/storage-use-azurite)."""
EMULATOR_URL = f"http://127.0.0.1:10000/{EMULATOR}"

CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
ACCOUNTS = ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME")
KEYS = ("AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY")
SIGNATURE = "AZURE_STORAGE_SAS_TOKEN"
ANONYMOUS = "AZURE_STORAGE_ANON"
MODE = "AZURE_STORAGE_AUTH_MODE"
UNLIKELY = ("SharedTokenCacheCredential", "VisualStudioCodeCredential", "BrokerCredential")
"""What is tried on the desks of developers, and told to nobody."""
MOST_REASON = 160
SHORT_REASON = 30
OF_IDENTITIES = ("AZURE_", "DEFAULT_IDENTITY_", "IDENTITY_", "MSI_", "PATH")
TRUE = ("1", "true", "yes", "on")
_MAGIC = re.compile(r"[*?\[]")


def choose_access(place: BlobPath, *, environ: Mapping[str, str], purpose: Purpose = "input") -> BlobAccess:
    """Choose how a container is reached, by the rule of this module.

    Asks storage once, for an input that may be public, and the identity once; neither takes longer than some seconds.

    Raises:
        UsageError: there is no credential, or one that cannot be; the message says what was tried.
        InputError: the account does not exist, or a signature ended or does not permit to read.
        OutputError: likewise, to write.
        InputBusyError: the account cannot be reached now.
    """
    access = BlobAccess(account_url=blob_endpoint(place), container=place.container, kind="anonymous")
    access = _chosen(access, place, environ, purpose)
    # what a signature says of itself needs no network
    check_signature(access, TO_WRITE if purpose == "output" else TO_READ, output=purpose == "output")
    return access


def _chosen(access: BlobAccess, place: BlobPath, environ: Mapping[str, str], purpose: Purpose) -> BlobAccess:
    if place.sas:
        return _with_signature(access, place.sas, "the URI")
    tried: list[str] = []
    if _value(environ, MODE).lower() != "login":
        chosen = _of_environment(access, environ, tried)
        if chosen is not None:
            return chosen
        if purpose != "output":
            if _value(environ, ANONYMOUS).lower() in TRUE:
                return replace(access, source=ANONYMOUS)
            if _is_public(access, "" if place.is_folder else place.path):
                return replace(access, source="a public container")
            tried.append("no credential at all (it is not public)")
    return _identity(access, environ, tried)


def blob_endpoint(place: BlobPath) -> str:
    """Return the URL of the account's blob endpoint, by which all is read and written."""
    return place.account_url.replace(".dfs.", ".blob.", 1) if place.kind == "dfs" else place.account_url


def told(access: BlobAccess) -> str:
    """Tell by what a container is reached: a sentence without any secret."""
    match access.kind:
        case "sas":
            until = sas_expiry(access.secret)
            what = f"shared access signature of {access.source}" + (f", valid until {masked(until)}" if until else "")
        case "account_key":
            what = f"account key of {access.source}"
        case "identity":
            what = f"identity of {access.source}"
        case _:
            what = f"no credential ({access.source})"
    return f"{container_of(access)}: {what}"


# What the environment has


def _value(environ: Mapping[str, str], *names: str) -> str:
    return next((text for name in names if (text := environ.get(name, "").strip())), "")


def _of_environment(access: BlobAccess, environ: Mapping[str, str], tried: list[str]) -> BlobAccess | None:
    """Return what the variables say of this account, and note those that speak of another."""
    if text := _value(environ, CONNECTION):
        hide(text)
        connection = _Connection.read(text)
        if connection.is_of(access):
            return connection.access(access)
        tried.append(f"{CONNECTION} (of account {connection.account or 'unknown'})")
    of = _value(environ, *ACCOUNTS)
    for name, kind in ((SIGNATURE, "sas"), *((name, "account_key") for name in KEYS)):
        text = _value(environ, name)
        if not text:
            continue
        if of and of.lower() != access.account.lower():
            tried.append(f"{name} (of account {of})")
        elif kind == "sas":
            return _with_signature(access, text, name)
        else:
            return _with_key(access, text, name)
    return None


def _with_signature(access: BlobAccess, text: str, source: str) -> BlobAccess:
    secret = text.strip().removeprefix("?")
    hide(secret)
    if "sig" not in dict(parse_qsl(secret)):
        raise UsageError(
            f"{container_of(access)}: what {source} has behind the question mark is no shared access signature, for it "
            "has no sig=; quote the whole address, since a shell cuts at &"
        )
    return replace(access, kind="sas", source=source, secret=secret)


def _with_key(access: BlobAccess, text: str, source: str) -> BlobAccess:
    hide(text)
    if not re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", text) or len(text) % 4:
        raise UsageError(f"{container_of(access)}: {source} is no account key, which is base64; copy it once more")
    return replace(access, kind="account_key", source=source, secret=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Connection:
    """A connection string, as far as it matters here."""

    account: str = ""
    endpoint: str = ""
    suffix: str = ""
    key: str = field(default="", repr=False)
    sas: str = field(default="", repr=False)

    @classmethod
    def read(cls, text: str) -> _Connection:
        """Read the text.

        Raises:
            UsageError: it is none.
        """
        parts = {name.strip().lower(): value.strip() for name, _, value in (p.partition("=") for p in text.split(";"))}
        if parts.get("usedevelopmentstorage", "").lower() == "true":
            host = parts.get("developmentstorageproxyuri", "").rstrip("/")
            endpoint = f"{host}:10000/{EMULATOR}" if host else EMULATOR_URL
            return cls(account=EMULATOR, endpoint=endpoint, key=EMULATOR_KEY)
        endpoint = parts.get("blobendpoint", "").rstrip("/")
        connection = cls(
            account=parts.get("accountname", "") or (_account(endpoint) if endpoint else ""), endpoint=endpoint,
            suffix=parts.get("endpointsuffix", ""), key=parts.get("accountkey", ""),
            sas=parts.get("sharedaccesssignature", ""),
        )  # fmt: skip
        hide(connection.key, connection.sas)
        if not connection.account or not (connection.key or connection.sas):
            raise UsageError(
                f"{CONNECTION}: no connection string; it has AccountName and AccountKey, or BlobEndpoint and "
                "SharedAccessSignature; quote it, since a shell cuts at ;"
            )
        return connection

    def is_of(self, access: BlobAccess) -> bool:
        """Tell whether it is of the account of a URI."""
        if self.endpoint and _place(self.endpoint) == _place(access.account_url):
            return True
        if self.account.lower() != access.account.lower():
            return False
        # another cloud may have an account of the same name
        ours = cloud_of_storage(urlsplit(self.endpoint).hostname or f".{self.suffix}")
        theirs = cloud_of_storage(urlsplit(access.account_url).hostname or "")
        return ours is None or theirs is None or ours == theirs

    def access(self, asked: BlobAccess) -> BlobAccess:
        """Say how the container is reached by it."""
        # what an emulator holds is nowhere else, whatever cloud the URI names
        if urlsplit(self.endpoint).path.strip("/"):
            asked = replace(asked, account_url=self.endpoint)
        if self.key:
            return _with_key(asked, self.key, CONNECTION)
        return _with_signature(asked, self.sas, CONNECTION)


def _account(endpoint: str) -> str:
    return BlobAccess(account_url=endpoint, container="", kind="anonymous").account


def _place(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.netloc.lower(), parts.path.strip("/")


# Nobody, and identities


def _is_public(access: BlobAccess, file: str) -> bool:
    """Ask for one name of the container, and for the file if it is one, without a credential."""
    asked = [("GET", f"{access.account_url}/{access.container}?restype=container&comp=list&maxresults=1")]
    if file and not _MAGIC.search(file):
        asked.append(("HEAD", access.url_of(quote(file))))
    for method, url in asked:
        # http is for emulators alone, as `runtime.uris` sees to
        request = urllib.request.Request(url, method=method, headers={"x-ms-version": API_VERSION})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S):  # noqa: S310
                return True
        except urllib.error.HTTPError as error:
            error.close()
            if error.code >= 500 or error.code == 429:
                raise InputBusyError(
                    f"{container_of(access)}: storage is busy or away (HTTP {error.code}); try again later"
                ) from None
        except OSError as error:
            raise unreachable(access, error, output=False) from None
    return False


def _identity(access: BlobAccess, environ: Mapping[str, str], tried: list[str]) -> BlobAccess:
    _refuse_other_cloud(access, environ)
    chosen = replace(access, kind="identity")
    found = identity_token(chosen, STORAGE_SCOPE)
    if isinstance(found, Token):
        return replace(chosen, source=found.source)
    variables = [name for name in (CONNECTION, SIGNATURE, *KEYS) if not _value(environ, name)]
    unset = f"no {', '.join(variables[:-1])} or {variables[-1]} is set; " if len(variables) == 4 else ""
    before = f"tried {', '.join(tried)}; " if tried else ""
    raise UsageError(
        f"{container_of(access)}: no credential was found: {unset}{before}the identity gives no token: {found}. "
        "Give a shared access signature in the URI, set one of these variables, or sign in (az login)"
    )


def _refuse_other_cloud(access: BlobAccess, environ: Mapping[str, str]) -> None:
    """Refuse a service principal that would sign in to another cloud; other identities know theirs by themselves."""
    if not (_value(environ, "AZURE_TENANT_ID") and _value(environ, *PROOFS)):
        return
    ours, theirs = cloud_of_authority(environ), cloud_of_storage(urlsplit(access.account_url).hostname or "")
    if ours is not None and theirs is not None and ours != theirs:
        raise UsageError(
            f"{container_of(access)}: is in {theirs.name}, but the identity signs in at {ours.authorities[0]}; set "
            f"AZURE_AUTHORITY_HOST=https://{theirs.authorities[0]}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token of an identity, and which identity it was."""

    source: str
    text: str = field(repr=False)


def identity_token(access: BlobAccess, scope: str) -> Token | str:
    """Ask the identity once for a token, and return it, or the reasons why there is none.

    The libraries would try for more than a minute, and storage's clients four times that.
    """
    said = tuple((name, text) for name, text in os.environ.items() if name.startswith(OF_IDENTITIES))
    return _asked(access.client_id, scope, said)


@functools.lru_cache(maxsize=8)
def _asked(client_id: str, scope: str, said: tuple[tuple[str, str], ...]) -> Token | str:
    """Ask, once for all that the environment says of identities."""
    del said
    quiet_loggers()
    answers: list[Token | str] = []

    def ask() -> None:
        try:
            access = BlobAccess(account_url="", container="", kind="identity", client_id=client_id)
            credential = token_credential(access)
            token = credential.get_token(scope)
            hide(token.token)
            answers.append(Token(source=_name(credential), text=token.token))
        except Exception as error:  # noqa: BLE001 (whatever one of many libraries raises is the reason)
            answers.append(_reasons(str(error)))

    # a thread that hangs in a connection ends with the process
    thread = threading.Thread(target=ask, daemon=True, name="scoreline-identity")
    thread.start()
    thread.join(TOKEN_S)
    return answers[0] if answers else f"no answer within {TOKEN_S} seconds"


def _name(credential: Any) -> str:
    """Name an identity; of a chain the one that gave the token."""
    return type(getattr(credential, "_successful_credential", None) or credential).__name__


def _reasons(text: str) -> str:
    """Give of the text of a chain which identities it tried, each with the first sentence of its reason."""
    tried = re.findall(r"^\t(\w+): (.*)", text, re.MULTILINE)
    if not tried:
        return masked(text.strip().splitlines()[0] if text.strip() else "no reason given").rstrip(".")
    likely = [name + _because(name, why) for name, why in tried if name not in UNLIKELY]
    return masked(f"tried {', '.join(likely)}")


def _because(name: str, text: str) -> str:
    """Give the first sentence of a reason in brackets, unless it only says that there is none of the name."""
    first = re.split(r"(?<=[a-z\])])\. |\n", text.strip())[0].rstrip(".")[:MOST_REASON]
    return "" if "unavailable" in first and len(first) < len(name) + SHORT_REASON else f" ({first})"
