"""A YAML or JSON file as plain values that know their line; a scalar is its text as written.

So ``version: 1.10`` is not 1.1, and a key ``on`` is not true, which is also how Azure ML's client reads these files.
"""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from runtime.errors import DeploymentError

__all__ = ["Entry", "Located", "one_line", "read_documents", "read_yaml"]

MAX_FILE_BYTES = 2**20
MAX_KEY = 80
NULLS = frozenset({"~", "null", "Null", "NULL"})
PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("binary", "bool", "float", "int", "map", "merge", "null", "seq", "str", "timestamp", "value")
)

# PyYAML's words, where they would quote a value, which may be a secret, or help nobody.
SYNTAX_WORDS = (
    ("found undefined alias", "an alias (*) without its anchor (&); put the value into quotes if it starts with *"),
    ("found undefined tag handle", "a tag (!) that is not declared; put the value into quotes if it starts with !"),
    ("second occurrence", "an anchor (&) that is taken already"),
    ("found character '\\t'", "a tab where only spaces may stand; indent with spaces"),
    ("found unexpected end of stream", "the file ends inside a quoted text"),
    ("but found another document", "a second document starts here, but a file holds one"),
    ("mapping values are not allowed here", "a colon where no key can be; check the indentation, or quote the value"),
    ("could not find expected ':'", "a key without a colon before this place"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A value of the file.

    Attributes:
        kind: what it is, in words.
        line: where it starts.
        text: of a scalar, as written; messages decide whether it may be shown.
        bare: nothing at all, where a value could be.
        null: the word null, as exported JSON has for what is not set.
        items: of a list.
        entries: of a mapping, in order; of a key that is given twice, the first.
    """

    kind: Literal["a text", "a list", "a mapping"]
    line: int
    text: str = field(default="", repr=False)
    bare: bool = False
    null: bool = False
    items: tuple[Located, ...] = ()
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One key of a mapping and its value.

    Attributes:
        name: the key.
        key: for messages: the key below all keys around it, with dots, as written up to a =.
        line: where the key stands.
        value: what it has.
    """

    name: str
    key: str
    line: int
    value: Located


Note = Callable[[int, str, str], None]


def read_yaml(file: str, note: Note) -> Located:
    """Read a file that holds one mapping.

    Args:
        file: the file.
        note: told, as line, key and text, what is wrong whatever the keys mean: duplicates and foreign tags.

    Raises:
        DeploymentError: it cannot be read, is no YAML, or no mapping.
    """
    text = _read_text(file)
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        if root is None or (isinstance(root, ScalarNode) and not root.value):
            raise _error(file, "the file is empty; it must be a mapping of keys to values, such as name: blue")
        value = _located(root, "", note, {})
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(file, error) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _error(f"{file}:{line}", f"not YAML: the control character U+{ord(text[error.position]):04X}") from None
    except RecursionError:
        raise _error(file, "lists or mappings inside each other, too deep to read") from None
    if value.kind != "a mapping":
        raise _error(
            f"{file}:{value.line}", f"must be a mapping of keys to values, such as name: blue, not {value.kind}"
        )
    return value


def one_line(text: str) -> str:
    """Escape what would break a message into lines, or move the cursor of who reads it."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def read_documents(file: str) -> list[Any]:
    """Read all YAML documents of a file, every scalar as it is written: a version 1.10 is no number.

    Raises:
        DeploymentError: it cannot be read, or is no YAML.
    """
    try:
        return list(yaml.load_all(_read_text(file), yaml.BaseLoader))
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(file, error) from None
    except (yaml.YAMLError, RecursionError):
        raise _error(file, "not YAML") from None


def _read_text(file: str) -> str:
    if os.path.isdir(file):
        raise _error(file, "a folder; name the YAML file inside it")
    try:
        with open(file, "rb") as source:
            data = source.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise _error(file, "no such file") from None
    except OSError as error:
        raise _error(file, f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise _error(file, "larger than 1 MiB, so another file must be meant; name a YAML or JSON file")
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _error(f"{file}:{line}", "not a text file in UTF-8, so it is no YAML") from None
    if "\0" in text:
        raise _error(file, "a binary file, so it is no YAML")
    if "\t" in text and text.lstrip().startswith("{"):
        # JSON may be indented with tabs, which YAML refuses; inside its texts a tab is always escaped
        try:
            json.loads(text)
        except ValueError:
            return text
        return text.replace("\t", " ")
    return text


def _error(place: str, text: str) -> DeploymentError:
    return DeploymentError([one_line(f"{place}: {text}")])


def _syntax_error(file: str, error: yaml.MarkedYAMLError) -> DeploymentError:
    mark = error.problem_mark or error.context_mark
    words = next((words for start, words in SYNTAX_WORDS if start in str(error.problem)), str(error.problem))
    started = error.context_mark
    since = f", {error.context} of line {started.line + 1}" if started and mark and started.line != mark.line else ""
    since = "" if "document" in words or "anchor" in words else since
    place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
    return _error(place, f"not YAML: {words}{since}")


def _located(node: Node, key: str, note: Note, known: dict[int, Located | None]) -> Located:
    """Turn a node into a plain value; what an alias names again is turned once."""
    line = node.start_mark.line + 1
    if id(node) in known:
        again = known[id(node)]
        if again is None:
            note(line, key, "an alias (*) for what is around it, so it has no end")
        return again or Located(kind="a mapping", line=line)
    known[id(node)] = None
    if node.tag not in PLAIN_TAGS:
        note(line, key, "has a tag (!), which is not read here; remove it, or quote the value")
    if isinstance(node, ScalarNode):
        plain = node.style is None
        # JSON may write one character as two escapes, which YAML reads as two halves
        text = str(node.value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        value = Located(kind="a text", line=line, text=text, bare=plain and not text, null=plain and text in NULLS)
    elif isinstance(node, MappingNode):
        value = Located(kind="a mapping", line=line, entries=_entries(node, key, note, known))
    else:
        items = (_located(item, f"{key}[{number}]", note, known) for number, item in enumerate(node.value))
        value = Located(kind="a list", line=line, items=tuple(items))
    known[id(node)] = value
    return value


def _entries(node: MappingNode, key: str, note: Note, known: dict[int, Located | None]) -> tuple[Entry, ...]:
    entries: dict[str, Entry] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, ScalarNode):
            note(line, key, "a key must be a text; put into quotes what has braces or brackets")
            continue
        name = str(key_node.value)
        shown = name.partition("=")[0][:MAX_KEY]  # behind it is a value, where KEY=value was meant
        dotted = f"{key}.{shown}" if key else shown
        value = _located(value_node, dotted, note, known)
        if name in entries:
            note(line, dotted, f"given twice, first on line {entries[name].line}; keep one")
        else:
            entries[name] = Entry(name=name, key=dotted, line=line, value=value)
    return tuple(entries.values())
