"""The JSON of a REST body: keys in any letter case, and every value with its place (contract 6.1)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from runtime.channel import Channel, shown, unknown_key
from runtime.errors import UsageError

__all__ = ["Field", "fields_of", "letters", "read_json", "without_effect"]


class Field(NamedTuple):
    """A value of the body, and where it stands."""

    value: Any
    place: str


def read_json(file: str, shown_file: str) -> Any:
    """Return the parsed body; a JSON object is a tuple of (key, value), so that a key given twice is seen."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(file, "rb") as opened:
                data = opened.read()
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=tuple, parse_constant=_no_constant)
    except OSError as error:
        raise UsageError(f"{shown_file}: cannot read the request: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{shown_file}: the request is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise UsageError(f"{shown_file}:{error.lineno}: the request is no JSON: {error.msg}") from None
    except ValueError as error:
        raise UsageError(f"{shown_file}: the request is no JSON: {error}") from None
    except RecursionError:
        raise UsageError(f"{shown_file}: the request is nested too deeply") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def fields_of(
    channel: Channel,
    parent: Field,
    keys: tuple[str, ...],
    *,
    also: tuple[str, ...] = (),
    elsewhere: Mapping[str, str] | None = None,
    top: bool = False,
) -> dict[str, Field] | None:
    """Return the entries of a JSON object by their documented keys, whose case does not count; null is absent.

    Args:
        channel: takes what is wrong.
        parent: the object.
        keys: what may be in it.
        also: what may be in it and is not worth advertising.
        elsewhere: what to say of keys that belong to another place, by their letters.
        top: whether it is the body itself.
    """
    if not isinstance(parent.value, tuple):
        channel.refuse(parent.place, f"must be a map with {', '.join(keys)}, not {shown(parent.value)}")
        return None
    by_letters = {key.lower(): key for key in (*keys, *also)}
    found: dict[str, Field] = {}
    seen: dict[str, str] = {}
    for written, value in parent.value:
        place = f"{parent.place}: {written}" if top else f"{parent.place}.{written}"
        key = by_letters.get(written.lower())
        if key is None:
            channel.refuse(place, (elsewhere or {}).get(letters(written)) or unknown_key(written, keys))
        elif key in seen:
            channel.refuse(place, f"given twice, first as {seen[key]}; keep one")
        else:
            seen[key] = written
            if value is not None:
                found[key] = Field(value, place)
    return found


def without_effect(channel: Channel, fields: dict[str, Field], keys: Iterable[str], sentence: str) -> None:
    """Say of keys that are given that they do nothing."""
    for key in keys:
        if key in fields:
            channel.notice(fields[key].place, sentence)


def letters(text: Any) -> str:
    """Return a word in the spelling by which words are compared; nothing for what is no text."""
    return text.replace("_", "").lower() if isinstance(text, str) else ""
