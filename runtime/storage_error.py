"""What storage answered, or that it did not, as one sentence that says what to do.

Foreign errors are told apart by what they carry (`status_code`, `error_code`, the error of the socket beneath), so that
nothing of Azure's libraries is imported here.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from runtime.clouds import CLOUDS, cloud_of_storage
from runtime.errors import InputError, OutputBusyError, OutputError, ScorelineError
from runtime.redaction import masked
from scoring.blob_access import BlobAccess
from scoring.errors import InputBusyError

__all__ = ["container_of", "credential_of", "storage_error", "unreachable"]

AWAY = (408, 429, 500, 502, 503, 504)
NO_SUCH_HOST = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
NO_CONTAINER = ("ContainerNotFound", "FilesystemNotFound", "ContainerBeingDeleted")
NOT_PROVED = ("AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation")
NOT_PUBLIC = ("PublicAccessNotPermitted", "ResourceNotFound", "NoAuthenticationInformation")
OF_SIGNATURES = {
    "AuthorizationServiceMismatch": "is not for Blob storage (ss); make one with b among its services",
    "AuthorizationResourceTypeMismatch": "is not for containers and objects (srt); make one with srt=co",
    "AuthorizationSourceIPMismatch": "is for other addresses than this machine's (sip); make one without",
    "AuthorizationProtocolMismatch": "is for https only (spr); write https:// in the address",
}
ROLES = {"write to": "Storage Blob Data Contributor"}


def container_of(access: BlobAccess) -> str:
    """Name a container and its account, for sentences."""
    return f"container {access.container} of account {access.account}"


def credential_of(access: BlobAccess) -> str:
    """Name what proves who asks, never showing it."""
    match access.kind:
        case "sas":
            return f"the shared access signature of {access.source}"
        case "account_key":
            return f"the account key of {access.source}"
        case "identity":
            return "the identity" + (f" of {access.source}" if access.source else "")
    return "nobody, for no credential was found" if not access.source else f"nobody ({access.source})"


def _classes(*, output: bool) -> tuple[type[ScorelineError], type[ScorelineError]]:
    """Return the classes of what will be refused again, and of what may work later."""
    return (OutputError, OutputBusyError) if output else (InputError, InputBusyError)


def unreachable(access: BlobAccess, error: BaseException, *, output: bool) -> ScorelineError:
    """Say that no answer came: the host does not exist, or is not to be reached now."""
    refused, busy = _classes(output=output)
    host = urlsplit(access.account_url).hostname or ""
    for each in _causes(error):
        if isinstance(each, socket.gaierror) and each.errno in NO_SUCH_HOST:
            near = " inside its network only" if ".privatelink." in host else ""
            clouds = ", ".join(cloud.storage[0] for cloud in CLOUDS)
            return refused(
                f"account {access.account}: there is no host {host}{near}; check the name of the account, and its "
                f"cloud (hosts end in {clouds})"
            )
        if isinstance(each, ssl.SSLError):
            return refused(
                f"account {access.account}: there is no secure connection to {host} ({_reason(each)}); where a proxy "
                "is between, SSL_CERT_FILE and REQUESTS_CA_BUNDLE name its certificates"
            )
    return busy(
        f"account {access.account}: {host} cannot be reached now ({_network_reason(error)}); "
        "what is staged is kept, the same command goes on from there"
    )


def storage_error(error: Exception, access: BlobAccess, *, doing: str, output: bool) -> ScorelineError:
    """Turn an error of a client into a sentence.

    Args:
        error: as the client raised it.
        access: by which the client was made.
        doing: list, read, or write to: what the container was asked for.
        output: whether it is the output, which decides the class.
    """
    refused, busy = _classes(output=output)
    status = int(getattr(error, "status_code", None) or 0)
    code = getattr(error, "error_code", None) or ""
    code = str(getattr(code, "value", code))
    place, credential = container_of(access), credential_of(access)
    if not status:
        if type(error).__name__ == "ClientAuthenticationError":
            return refused(f"{place}: {credential} gets no token: {_first_line(str(error))}")
        return unreachable(access, error, output=output)
    if code == "ContainerBeingDeleted":
        return busy(f"{place}: it is being deleted; try again when that is done, or name another one")
    if code in NO_CONTAINER:
        return refused(
            f"account {access.account} has no container {access.container}; check the name, or make it: "
            f"az storage container create --account-name {access.account} --name {access.container}"
        )
    if status in AWAY:
        return busy(
            f"{place}: storage is busy or away ({code or f'HTTP {status}'}); what is staged is kept, the same command "
            "goes on from there"
        )
    if status in (401, 403, 404, 409) and (why := _refusal(access, status, code, doing)):
        return refused(f"{place}: {why}")
    return refused(f"{place}: cannot {doing} it as {credential}: {code or f'HTTP {status}'}")


def _refusal(access: BlobAccess, status: int, code: str, doing: str) -> str:
    """Say why a request was refused; nothing where only the code says it."""
    credential = credential_of(access)
    if access.kind == "anonymous" and (status in (401, 403) or code in NOT_PUBLIC):
        return (
            f"is not public, so that without a credential nobody can {doing} it; give a shared access signature in the "
            "URI, AZURE_STORAGE_KEY or an identity (az login)"
        )
    if access.kind == "sas" and code in OF_SIGNATURES:
        return f"{credential} {OF_SIGNATURES[code]}"
    if code == "KeyBasedAuthenticationNotPermitted":
        return f"the account takes no keys, so not {credential}; unset it, so that an identity is used (az login)"
    if code == "AccountIsDisabled":
        return "the account is disabled"
    # an emulator, whose account is a path, has no firewall: by this code it refuses keys and signatures
    if code in NOT_PROVED or (code == "AuthorizationFailure" and urlsplit(access.account_url).path.strip("/")):
        return _not_proved(access, code)
    if code == "AuthorizationPermissionMismatch":
        if access.kind == "sas":
            has = "".join(parse_qs(access.secret).get("sp", [""]))
            return f"{credential} does not permit to {doing} it" + (f" (sp={masked(has)})" if has else "")
        role = ROLES.get(doing, "Storage Blob Data Reader")
        return (
            f"{credential} may not {doing} it; give it the role {role} on the account (which takes some minutes), or "
            "an ACL of the folder"
        )
    if code == "AuthorizationFailure":
        other = ", or the signature is of something else" if access.kind == "sas" else ""
        return (
            f"the firewall of the account refuses this machine{other}; allow its address or its subnet (Networking of "
            "the account), or go through a private endpoint"
        )
    return ""


def _not_proved(access: BlobAccess, code: str) -> str:
    credential = credential_of(access)
    match access.kind:
        case "sas":
            return (
                f"{credential} is refused: it is cut off, of another container, ended, or signed with a key that was "
                "changed; make a new one"
            )
        case "account_key":
            return (
                f"{credential} is refused: it is none of this account (AZURE_STORAGE_ACCOUNT says of which it is), was "
                "changed, or the clock of this machine is wrong"
            )
    cloud = cloud_of_storage(urlsplit(access.account_url).hostname or "")
    authority = f", AZURE_AUTHORITY_HOST=https://{cloud.authorities[0]}" if cloud is not None else ""
    return (
        f"{credential} is refused ({code}): it is of another tenant or another cloud; sign in where the account is "
        f"(AZURE_TENANT_ID{authority})"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Give an error and those beneath it, by whatever way its library keeps them."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, BaseException) and id(each) not in seen:
            seen.add(id(each))
            yield each
            inner = (getattr(each, name, None) for name in ("inner_exception", "reason", "__cause__", "__context__"))
            waiting += [*inner, *each.args]


def _network_reason(error: BaseException) -> str:
    for each in _causes(error):
        if isinstance(each, TimeoutError) or "Timeout" in type(each).__name__:
            return "no answer in time"
        if isinstance(each, OSError) and each.errno in errno.errorcode:
            return _reason(each)
        if isinstance(each, socket.gaierror):
            return _reason(each)
    return _first_line(str(error)) or type(error).__name__


def _reason(error: OSError) -> str:
    return masked((error.strerror or str(error)).splitlines()[0])


def _first_line(text: str) -> str:
    return masked((text.strip().splitlines() or [""])[0])
