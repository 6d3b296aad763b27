"""What a look at a job finds: errors, warnings, and what is well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from scoring.sample import EXAMPLES, Cause, Sampled

__all__ = [
    "Findings",
    "Kind",
    "Notebook",
    "Tell",
    "causes_told",
    "listed",
    "number",
    "sample_errors",
    "sample_warnings",
]

Kind = Literal["error", "warning", "ok"]
Tell = Callable[[Kind, str], None]

SHOWN_FILES = 3
SHOWN_VALUE = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What `runtime.validate` found.

    Attributes:
        errors: what a run refuses, or what it cannot score, a sentence each.
        warnings: what a run does not mind, and whoever starts it may.
        checked: what was looked at, as plain values.
    """

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    checked: dict[str, Any] = field(default_factory=dict)


class Notebook:
    """Findings while they are made; each is told once, as soon as it is known.

    Attributes:
        checked: see `Findings`.
    """

    def __init__(self, tell: Tell | None = None) -> None:
        self.checked: dict[str, Any] = {}
        self._tell = tell or (lambda *_: None)
        self._found: dict[tuple[Kind, str], None] = {}

    def error(self, text: str) -> None:
        """Note what a run refuses or cannot score."""
        self._note("error", text)

    def warning(self, text: str) -> None:
        """Note what whoever starts a run may mind."""
        self._note("warning", text)

    def ok(self, text: str) -> None:
        """Tell what is well."""
        self._note("ok", text)

    def _note(self, kind: Kind, text: str) -> None:
        if (kind, text) not in self._found:
            self._found[kind, text] = None
            self._tell(kind, text)

    def findings(self) -> Findings:
        """Return all of them."""
        errors, warnings = (tuple(text for kind, text in self._found if kind == each) for each in ("error", "warning"))
        return Findings(errors=errors, warnings=warnings, checked=self.checked)


def number(count: int, noun: str) -> str:
    """Count something: ``1 file``, ``2,000 files``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Name the first few of many."""
    if len(names) > SHOWN_FILES:
        return f"{', '.join(names[:SHOWN_FILES])} and {len(names) - SHOWN_FILES:,} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def sample_errors(samples: Sequence[Sampled], keep: Sequence[str]) -> Iterator[str]:
    """Say which files cannot be read, which columns are missing, and which rows do not fit: a sentence for each cause.

    Args:
        samples: of the files looked at.
        keep: the columns that --keep wants.
    """
    for each in samples:
        if each.problem:
            yield f"{each.name}: {each.problem}"
    for column, files in _by(samples, "missing").items():
        wanted_by = " (of --keep)" if column in keep else ""
        yield f"column {column!r}{wanted_by} is missing in {listed(files)}"
    causes: dict[tuple[str | None, str], list[tuple[str, Cause]]] = {}
    for each in samples:
        for cause in each.causes:
            causes.setdefault((cause.column, cause.reason), []).append((each.name, cause))
    for (where, reason), found in causes.items():
        rows = sum(cause.rows for _, cause in found)
        examples = [_example(name, *example) for name, cause in found for example in cause.examples][:EXAMPLES]
        more = f" and {rows - len(examples):,} more" if rows > len(examples) else ""
        what = f"column {where!r}: {reason}" if where is not None else reason
        yield f"{what} in {number(rows, 'row')}: {', '.join(examples)}{more}"


def sample_warnings(samples: Sequence[Sampled]) -> Iterator[str]:
    """Say which columns nobody reads."""
    by_files: dict[tuple[str, ...], list[str]] = {}
    for column, files in _by(samples, "extra").items():
        by_files.setdefault(tuple(files), []).append(column)
    for of, columns in by_files.items():
        one = len(columns) == 1
        yield (
            f"column{'' if one else 's'} {listed([repr(column) for column in columns])} of {listed(of)} "
            f"{'is' if one else 'are'} not in the signature, and ignored"
        )


def causes_told(samples: Sequence[Sampled]) -> frozenset[str]:
    """Name the causes that samples tell already, as a worker that meets them again names them."""
    told: set[str] = set()
    for each in samples:
        told |= {f"{cause.column}: {cause.reason}" if cause.column else cause.reason for cause in each.causes}
        told |= {f"rows of files without column {name!r}" for name in each.missing}
        told |= {each.problem, f"{each.name}: {each.problem}"} if each.problem else set()
    return frozenset(told)


def _by(samples: Sequence[Sampled], attribute: Literal["missing", "extra"]) -> dict[str, list[str]]:
    files: dict[str, list[str]] = {}
    for each in samples:
        for column in getattr(each, attribute):
            files.setdefault(column, []).append(each.name)
    return files


def _example(file: str, row: int, value: str | None) -> str:
    place = f"{file} row {row}" if row >= 0 else f"{file} row {-row} from the end"
    if value is None:
        return place
    return f"{place} ({value[:SHOWN_VALUE]!r}{'…' if len(value) > SHOWN_VALUE else ''})"
