"""The clouds of Azure: by which hosts storage, identities and management are found in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CLOUDS", "PUBLIC", "Cloud", "cloud_of_authority", "cloud_of_storage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """One of the clouds.

    Attributes:
        name: for people.
        variable: as Azure's own tools call it.
        storage: what the hosts of storage accounts end in.
        authorities: hosts where identities sign in; the first is the usual one.
        management: URL of the management service.
    """

    name: str
    variable: str
    storage: tuple[str, ...]
    authorities: tuple[str, ...]
    management: str


PUBLIC = Cloud(
    name="the public cloud of Azure",
    variable="AzureCloud",
    storage=("core.windows.net", "storage.azure.net"),
    authorities=("login.microsoftonline.com", "login.windows.net", "login.microsoft.com"),
    management="https://management.azure.com",
)
CLOUDS = (
    PUBLIC,
    Cloud(
        name="Azure in China",
        variable="AzureChinaCloud",
        storage=("core.chinacloudapi.cn",),
        authorities=("login.chinacloudapi.cn", "login.partner.microsoftonline.cn"),
        management="https://management.chinacloudapi.cn",
    ),
    Cloud(
        name="Azure for the US government",
        variable="AzureUSGovernment",
        storage=("core.usgovcloudapi.net",),
        authorities=("login.microsoftonline.us",),
        management="https://management.usgovcloudapi.net",
    ),
)


def cloud_of_storage(host: str) -> Cloud | None:
    """Tell by its host in which cloud a storage account is; None where that cannot be told."""
    return next((cloud for cloud in CLOUDS if host.lower().endswith(tuple(f".{each}" for each in cloud.storage))), None)


def cloud_of_authority(environ: Mapping[str, str]) -> Cloud | None:
    """Tell in which cloud identities sign in: AZURE_AUTHORITY_HOST says it, else AZUREML_CURRENT_CLOUD.

    None where it is one that is not known here; where nothing is said, the public cloud.
    """
    authority = environ.get("AZURE_AUTHORITY_HOST", "").strip().lower()
    if authority:
        host = authority.rpartition("://")[2].partition("/")[0]
        return next((cloud for cloud in CLOUDS if host in cloud.authorities), None)
    named = environ.get("AZUREML_CURRENT_CLOUD", "").strip().lower()
    return next((cloud for cloud in CLOUDS if cloud.variable.lower() == named), PUBLIC if not named else None)
