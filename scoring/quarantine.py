"""The lines of the quarantine file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def quarantine_lines(entries: Iterable[dict[str, Any]]) -> bytes:
    """Write an entry a line, as JSON."""
    return b"".join(
        json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n" for entry in entries
    )
