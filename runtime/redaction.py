"""Secrets are masked in every text that leaves this process, and libraries that would log them are kept quiet."""

from __future__ import annotations

import ctypes
import logging
import re
from urllib.parse import parse_qsl, quote, quote_plus, unquote

__all__ = ["hide", "hide_arguments", "masked", "quiet_loggers"]

MASK = "***"
LEAST_CHARS = 6
"""What is shorter is a word of a sentence rather than a secret."""

LOUD = ("adlfs", "aiohttp", "azure", "fsspec", "msal", "requests", "urllib3")
"""Loggers of the libraries that reach storage; at DEBUG some write whole addresses, signature and all."""
TELLS_ADDRESSES = "urllib3.connectionpool"

_NAMES = (
    r"sig|account_?key|shared_?access_?(?:signature|key)|sas_?token|client_?secret|client_?assertion|"
    r"(?:access|refresh|id)_?token|password|secret"
)
# of a signature in a connection string the first = and & belong to the value
_WHOLE = re.compile(r"(shared_?access_?signature\s*=\s*)[^;\s\"']+", re.IGNORECASE)
_VALUE = re.compile(
    rf"\b((?:{_NAMES})[\"']?\s*(?:=|%3d|:)\s*[\"']?)(?:%[0-9a-f]{{2}}|[^&;,\s\"'%])[^&;,\s\"']*", re.IGNORECASE
)
_HEADER = re.compile(
    r"(authorization[\"']?\s*[:=]\s*[\"']?)(?:(bearer|sharedkey(?:lite)?|basic)\s+)?[^\s\"',]+", re.IGNORECASE
)
_KNOWN: set[str] = set()
_SIGNED_ARGUMENT = re.compile(rb"[a-z]+://[^\0?]*\?([^\0]+)", re.IGNORECASE)
ARGUMENTS_START, ARGUMENTS_END = 45, 46
"""Fields of /proc/self/stat behind the name of the command (proc(5): 48 and 49)."""


def hide(*secrets: str) -> None:
    """Remember secrets of this job, so that `masked` knows them wherever they stand."""
    for secret in secrets:
        # of a shared access signature the value that signs is one by itself
        parts = [value for name, value in parse_qsl(secret) if name == "sig"]
        for text in (secret, *parts):
            _KNOWN.update(
                form
                for form in (text, quote(text, safe=""), quote(text), quote_plus(text), unquote(text))
                if len(form) >= LEAST_CHARS
            )


def masked(text: str) -> str:
    """Write stars for the secrets in a text: those that were remembered, and whatever stands where one is usual."""
    for secret in sorted(_KNOWN, key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = _WHOLE.sub(rf"\1{MASK}", text)
    text = _HEADER.sub(lambda found: f"{found[1]}{f'{found[2]} ' if found[2] else ''}{MASK}", text)
    return _VALUE.sub(rf"\1{MASK}", text)


def hide_arguments() -> None:
    """Write stars over what stands behind a question mark in the URIs that this process was started with.

    Whoever lists processes sees the arguments of all. They can be overwritten where the kernel says where they lie
    (Linux); elsewhere they stay.
    """
    try:
        with open("/proc/self/stat", "rb") as source:
            fields = source.read().rpartition(b")")[2].split()
        with open("/proc/self/cmdline", "rb") as source:
            shown = source.read()
        start, end = int(fields[ARGUMENTS_START]), int(fields[ARGUMENTS_END])
    except (OSError, ValueError, IndexError):
        return
    # what lies there must be what is shown, or the place is another one
    if not shown or end - start != len(shown) or ctypes.string_at(start, len(shown)) != shown:
        return
    for found in _SIGNED_ARGUMENT.finditer(shown):
        ctypes.memset(start + found.start(1), ord("*"), found.end(1) - found.start(1))


def quiet_loggers() -> None:
    """Keep the libraries that reach storage from logging addresses, whatever a scoring script sets for its own logs."""
    for name in (*LOUD, TELLS_ADDRESSES):
        logger = logging.getLogger(name)
        # a level of its own: that of the root, which a script may lower, counts no more
        logger.setLevel(max(logger.level, logging.WARNING))
    # identities are tried in order; that one of them failed is told where all did
    logging.getLogger("azure.identity").setLevel(logging.CRITICAL)
    teller = logging.getLogger(TELLS_ADDRESSES)
    if not any(isinstance(each, _Masking) for each in teller.filters):
        teller.addFilter(_Masking())


class _Masking(logging.Filter):
    """Masks the secrets of a record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, masked."""
        record.msg, record.args = masked(record.getMessage()), ()
        return True
