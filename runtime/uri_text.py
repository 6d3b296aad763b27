"""The text of a URI: decoded once, encoded again, and shown without what may be a secret."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from runtime.errors import UriError

__all__ = ["decoded", "encoded", "has_control", "has_secret", "refusal", "shown"]

MOST_SHOWN = 300
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SECRET = re.compile(r"[?&;](?:sig|[\w-]*(?:secret|password|key|token|signature))=", re.IGNORECASE)
_HIDDEN = re.compile(r"\?|%3f|(?<![a-z])sig(?:=|%3d)", re.IGNORECASE)
_PASSWORD = re.compile(r"(?<=:/)(/*)[^@]*:[^@]*@")


def shown(text: str) -> str:
    """Cut a text off where a secret may begin, and keep it on one line."""
    hidden = _HIDDEN.search(text)
    plain = _PASSWORD.sub(r"\1***@", text if hidden is None else text[: hidden.start()])
    plain = plain if len(plain) <= MOST_SHOWN else f"{plain[:MOST_SHOWN]}…"
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in plain)


def refusal(text: str, why: str) -> UriError:
    """Make the error that refuses a text, shown as far as it may be."""
    return UriError(f"{shown(text)}: {why}")


def has_control(text: str) -> bool:
    """Tell whether a text has a control character or a line end."""
    return _CONTROL.search(text) is not None


def has_secret(text: str) -> bool:
    """Tell whether a text has a query with a signature, a key or a token."""
    return _SECRET.search(text) is not None


def encoded(path: str) -> str:
    """Encode of a path what would read back as something else; the rest stays readable."""
    return re.sub(r"[%?\s]", lambda character: quote(character[0]), path)


def decoded(path: str, text: str) -> str:
    """Decode a path on storage once (contract 7.1).

    Args:
        path: the part of the URI.
        text: the whole of it, for messages.

    Raises:
        UriError: no store would find anything by it.
    """
    try:
        plain = unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise refusal(text, "the characters written with % are not UTF-8") from None
    if has_control(plain):
        raise refusal(text, "a control character written with %, which no path has here")
    if has_secret(plain):
        raise refusal(text, "a signature is part of the path; write it behind one plain ? of an https:// address")
    if not {".", ".."}.isdisjoint(plain.split("/")):
        raise refusal(text, "a path on storage has no segment . or ..; write it out")
    return plain
