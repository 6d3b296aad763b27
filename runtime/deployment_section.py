"""A mapping of a deployment file, asked key by key; all that is wrong is noted, not only the first."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

from runtime.deployment_yaml import Entry, one_line, read_yaml
from runtime.errors import DeploymentError

__all__ = ["Problems", "Section", "read_section", "shown", "snake"]

INT_MAX = 2**31 - 1
TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
MERGE = "merge keys are not read here, nor by Azure ML; write the keys out"


class Problems:
    """All that is wrong with one file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[tuple[int, str]] = []

    def sentence(self, line: int, key: str, text: str) -> str:
        """Write where and what as one line."""
        return one_line(f"{self.file}:{line}: {key}: {text}" if key else f"{self.file}:{line}: {text}")

    def add(self, line: int, key: str, text: str) -> None:
        """Note one more; a second time counts once."""
        found = (line, self.sentence(line, key, text))
        if found not in self._found:
            self._found.append(found)

    def raise_any(self) -> None:
        """Raise a `DeploymentError` with all of them in the order of the file, if there are any."""
        if self._found:
            raise DeploymentError([text for _, text in sorted(self._found, key=lambda found: found[0])])


class Section:
    """One mapping of a file, asked key by key.

    Each question notes what is wrong and goes on with None, as for a key that is absent. A key whose value is
    written as null is absent.

    Args:
        entries: its keys.
        key: its dotted name; empty for the root.
        line: where it starts.
        problems: where to note what is wrong.
        rest: keys and enums are spelled as in Azure's REST interface (contract 1.4).
    """

    def __init__(
        self, entries: Iterable[Entry], *, key: str, line: int, problems: Problems, rest: bool = False
    ) -> None:
        self.key = key
        self.line = line
        self.problems = problems
        self.rest = rest
        self.entries: dict[str, Entry] = {}
        for entry in entries:
            self.entries.setdefault(snake(entry.name) if rest else entry.name, entry)

    def entry(self, name: str) -> Entry | None:
        """Return a key that is given, and not as null."""
        entry = self.entries.get(name)
        return None if entry is None or entry.value.null else entry

    def dotted(self, name: str) -> str:
        """Spell a key of this section in full, as the file would."""
        return _below(self.key, _camel(name) if self.rest else name)

    def require(self, name: str, advice: str) -> None:
        """Note that a key must be given, where it is not."""
        if self.entry(name) is None:
            self.problems.add(self.line, self.dotted(name), f"missing; {advice}")

    def refuse(self, name: str, text: str) -> None:
        """Note what is wrong with a key that is given."""
        entry = self.entries[name]
        self.problems.add(entry.line, entry.key, text)

    def refuse_unknown(self, known: Iterable[str], *, ignored: Iterable[str] = (), places: Mapping[str, str]) -> None:
        """Note the keys that do not belong here, each with the nearest that does.

        Args:
            known: the keys of this section.
            ignored: keys that may stand here and mean nothing.
            places: where keys of other sections belong, in full.
        """
        names = tuple(known)
        listed = ", ".join(_camel(name) if self.rest else name for name in names)
        for name, entry in self.entries.items():
            if name in names or name in ignored:
                continue
            if name == "<<":
                self.problems.add(entry.line, entry.key, MERGE)
                continue
            meant = _nearest(name, names, places)
            meant = _camel(meant) if self.rest and meant in names else meant
            hint = f"; did you mean {meant}?" if meant else ""
            self.problems.add(entry.line, entry.key, f"unknown key{hint} (known here: {listed})")

    def scalar(self, name: str, wanted: str) -> str | None:
        """Return the text of a value as it is written.

        Args:
            name: the key.
            wanted: what it must be, for the message where it is a list or a mapping.
        """
        entry = self.entry(name)
        if entry is None:
            return None
        if entry.value.kind != "a text":
            self.refuse(name, f"must be {wanted}, not {entry.value.kind}")
            return None
        return entry.value.text

    def text(self, name: str) -> str | None:
        """Return a text."""
        return self.scalar(name, "a text")

    def filled(self, name: str, wanted: str = "a text") -> str | None:
        """Return a text that is not empty."""
        text = self.scalar(name, wanted)
        if text is not None and not text.strip():
            self.refuse(name, f"has no value; give {wanted}, or remove the key")
            return None
        return text

    def whole(self, name: str, *, least: int, most: int = INT_MAX, reason: str = "") -> int | None:
        """Return a whole number, which may also be written as a text."""
        span = f"a whole number from {least} to {most}"
        wanted = f"a whole number of at least {least}" if most == INT_MAX else span
        text = self.filled(name, wanted)
        if text is None:
            return None
        # int() would take any digits of Unicode, and refuse very many
        value = int(text) if re.fullmatch(r"\s*[+-]?[0-9][0-9_]{0,30}(?<!_)\s*", text) and "__" not in text else None
        if value is None or not least <= value <= most:
            wanted = span if value is not None and value > most else wanted
            self.refuse(name, f"must be {wanted}, not {shown(text)}{reason}")
            return None
        return value

    def truth(self, name: str) -> bool | None:
        """Return true or false."""
        text = self.filled(name, "true or false")
        if text is not None and text.lower() not in TRUTHS:
            self.refuse(name, f"must be true or false, not {shown(text)}")
            return None
        return None if text is None else TRUTHS[text.lower()]

    def choice(self, name: str, allowed: Sequence[str]) -> str | None:
        """Return one of a few words, which may be written in any letter case.

        The spelling of Azure's REST interface (``AppendRow``) is taken only where that is spoken.
        """
        wanted = f"{', '.join(allowed[:-1])} or {allowed[-1]}"
        text = self.filled(name, wanted)
        if text is None or text.lower() in allowed:
            return text and text.lower()
        same = [word for word in allowed if word.replace("_", "") == re.sub(r"[\W_]", "", text).lower()]
        if same and self.rest:
            return same[0]
        if same:
            self.refuse(name, f"{shown(text)} is not the spelling in YAML; write {same[0]} (allowed: {wanted})")
            return None
        close = difflib.get_close_matches(text.lower(), allowed, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        self.refuse(name, f"must be {wanted}, not {shown(text)}{hint}")
        return None

    def texts(self, name: str) -> tuple[str, ...] | None:
        """Return a list of texts; a single text is a list of one."""
        entry = self.entry(name)
        if entry is None:
            return None
        values = (entry.value,) if entry.value.kind == "a text" else entry.value.items
        if entry.value.kind == "a mapping" or not all(value.kind == "a text" for value in values):
            self.refuse(name, "must be a text or a list of texts")
            return None
        return tuple(value.text for value in values)

    def section(self, name: str, wanted: str = "a mapping", *, as_written: bool = False) -> Section | None:
        """Return a mapping below this one; a key without a value is an empty mapping.

        Args:
            name: the key.
            wanted: what it must be, for the message where it is something else.
            as_written: its keys are the user's own words, which are not respelled.
        """
        entry = self.entry(name)
        if entry is None:
            return None
        value = entry.value
        if value.kind == "a mapping" or value.bare:
            return Section(
                value.entries, key=entry.key, line=entry.line, problems=self.problems, rest=self.rest and not as_written
            )
        self.refuse(name, f"must be {wanted}, not {value.kind}")
        return None

    def pairs(self, name: str) -> tuple[tuple[str, str], ...] | None:
        """Return a mapping of names to texts, the texts as they are written; messages never show them."""
        section = self.section(name, "a mapping of names to values", as_written=True)
        if section is None:
            return None
        found = []
        for pair, entry in section.entries.items():
            if pair == "<<":
                section.refuse(pair, MERGE)
            elif entry.value.kind == "a text":
                found.append((pair, entry.value.text))
            else:
                section.refuse(pair, f"must be a text, a number, true or false, not {entry.value.kind}")
        return tuple(found)


def read_section(file: str) -> Section:
    """Read a file as one mapping.

    Raises:
        DeploymentError: it cannot be read, is no YAML, or no mapping.
    """
    problems = Problems(file)
    root = read_yaml(file, problems.add)
    return Section(root.entries, key="", line=1, problems=problems)


def snake(name: str) -> str:
    """Spell ``miniBatchSize``, ``MiniBatchSize`` and ``mini-batch-size`` as ``mini_batch_size``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.replace("-", "_")).lower()


def shown(text: str) -> str:
    """Quote a text for a message: cut where it is long, without the signature of a URL."""
    if "?" in text and ("://" in text or "sig=" in text.lower()):
        text = text.partition("?")[0] + "?***"
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _below(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _nearest(name: str, names: Sequence[str], places: Mapping[str, str]) -> str:
    """Find the key that was meant: here in another spelling, elsewhere, or nearly it."""
    plain = snake(name)
    if plain in names:
        return plain
    if plain in places:
        return places[plain]
    close = difflib.get_close_matches(plain, [*names, *places], 1)
    if not close:
        return ""
    return close[0] if close[0] in names else places[close[0]]
