"""What is planned before an output that is not on disk appears, the same for every store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from runtime.checksums import crc32_combined
from runtime.errors import OutputError
from runtime.parts import PartKey

__all__ = [
    "RUNNING", "beside", "other_header", "quarantined", "read_object", "receipt_bytes", "sums", "taken_meanwhile",
]  # fmt: skip

RUNNING = "running.json"
"""The mark of a driver that runs (`runtime.running`), beside what is staged."""


def beside(name: str) -> tuple[str, str]:
    """Return the names of receipt and quarantine of a score file."""
    stem = name.rsplit(".", 1)[0] if "." in name[1:] else name
    return f"_{stem}.receipt.json", f"_{stem}.quarantine.jsonl"


def sums(parts: Sequence[tuple[str, int]]) -> tuple[int, int]:
    """Return size and CRC-32 of all parts, one behind the other."""
    size_bytes = crc = 0
    for text, part_bytes in parts:
        key = PartKey.decode(text)
        if key is not None and part_bytes:
            crc = crc32_combined(crc, key.crc, part_bytes)
            size_bytes += part_bytes
    return size_bytes, crc


def quarantined(parts: Sequence[tuple[str, int]]) -> list[str]:
    """Return the keys of the parts that have a quarantine part."""
    return [text for text, _ in parts if (key := PartKey.decode(text)) is not None and key.quarantine]


def receipt_bytes(receipt: dict[str, Any]) -> bytes:
    """Write a receipt."""
    # what stands for a file name that is no text becomes an escape of JSON
    return (json.dumps(receipt, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def read_object(url: str, data: bytes | None) -> dict[str, Any] | None:
    """Read a record, None where there is none.

    Raises:
        OutputError: it cannot be understood.
    """
    if data is None:
        return None
    try:
        content = json.loads(data.decode("utf-8", "surrogateescape"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise OutputError(f"{url}: is damaged; move it away, or use --restart")
    return content


def other_header(url: str, header: bytes) -> OutputError:
    """Refuse to append rows of another kind."""
    return OutputError(
        f"{url} has another header than the rows to append ({header.decode().strip()}); "
        "append them to another file, or use --if-exists overwrite"
    )


def taken_meanwhile(url: str, *, changed: bool) -> OutputError:
    """Refuse to replace what something else wrote while this job ran."""
    if changed:
        return OutputError(f"{url} was changed by something else while this job ran; nothing was published")
    return OutputError(f"{url} exists by now; nothing was published (see --if-exists)")
