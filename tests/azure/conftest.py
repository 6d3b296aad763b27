"""What every test on Blob storage may use."""

from __future__ import annotations

from tests.azure.azurite import azurite, soon

__all__ = ["azurite", "soon"]
