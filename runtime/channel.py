"""One channel of an invocation: what was said through it, checked, and what is wrong with that.

The command's flags and the REST body say the same things in different words (contract 6.2). Each reader turns its words
into the names below and says where it found them; a value out of range, or the same thing said twice differently, is
kept as a problem, so that all that is wrong is told at once.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from runtime.deployment_section import shown as shown_text
from runtime.errors import DeploymentError

__all__ = [
    "LITERAL",
    "LITERAL_TYPES",
    "MODEL_TYPES",
    "OUTPUT_TYPE",
    "PIPELINE",
    "SECRET",
    "Channel",
    "nearest",
    "shown",
    "unknown_key",
]

RANGES: Mapping[str, tuple[int, int | None, str]] = {
    "mini_batch_size": (1, None, ""),
    "instance_count": (1, None, ""),
    "max_concurrency_per_instance": (1, None, ""),
    "max_retries": (0, None, ""),
    "timeout_s": (1, 259_200, " of seconds"),
    "error_threshold": (-1, 2**31 - 1, ""),
}
"""What a number may be (contract 1.3): least, most, unit."""

LOGGING_LEVELS = ("warning", "info", "debug")
FORBIDDEN_IN_NAMES = frozenset('~"#%&*:<>?/\\{|}')
LONGEST_NAME = 260
NAMES = frozenset({"deployment_name", "experiment_name", "job_name"})
SECRET = frozenset({"input", "output"})
"""What may carry a SAS token, and is never shown."""

LITERAL_TYPES = frozenset({"literal", "string", "boolean", "float", "integer", "number"})
MODEL_TYPES = {
    "mltable": "MLTable",
    "custommodel": "CustomModel",
    "mlflowmodel": "MLFlowModel",
    "tritonmodel": "TritonModel",
}
"""Types of inputs and outputs that pipeline deployments know, by their letters."""

LITERAL = "a model deployment takes no literal; its one input is data of type {folder} or {file}"
PIPELINE = "{} is for pipeline deployments; a model deployment takes {folder} or {file}"
OUTPUT_TYPE = (
    "Job output type must be 'uri_file'. Give {file} and the URI of a file that does not exist yet, "
    "for example …/predictions.csv"
)


class Channel:
    """What one channel says.

    Attributes:
        values: checked values by name.
        problems: all that is wrong, a sentence each, beginning with the place.
        notices: what is accepted and has no effect here.
    """

    __slots__ = ("_places", "notices", "problems", "values")

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.problems: list[str] = []
        self.notices: list[str] = []
        self._places: dict[str, str] = {}

    def give(self, name: str, value: Any, place: str) -> None:
        """Take a value, if it can be and nothing else was said before."""
        try:
            value = checked(name, value)
        except ValueError as problem:
            self.refuse(place, str(problem))
            return
        if name not in self.values:
            self.values[name] = value
            self._places[name] = place
        elif self.values[name] != value:
            both = "" if name in SECRET else f" ({self.values[name]} and {value})"
            self.refuse(place, f"contradicts {self._places[name]}{both}; give one of them")

    def refuse(self, place: str, sentence: str) -> None:
        """Keep what is wrong at a place."""
        self.problems.append(_one_line(f"{place}: {sentence}"))

    def notice(self, place: str, sentence: str) -> None:
        """Keep what is accepted without effect."""
        self.notices.append(_one_line(f"{place}: {sentence}"))

    def check(self) -> None:
        """Raise what is wrong.

        Raises:
            DeploymentError: with every problem.
        """
        if self.problems:
            raise DeploymentError(self.problems)


def checked(name: str, value: Any) -> Any:
    """Return a value as it is meant.

    Raises:
        ValueError: it cannot be; the message goes on from where it was found.
    """
    if name in RANGES:
        return _whole(value, *RANGES[name])
    return CHECKS.get(name, _uri)(value)


def _whole(value: Any, least: int, most: int | None, unit: str) -> int:
    """Return a whole number; digits in a text are one as well (contract 1.3)."""
    digits = re.fullmatch(r"\s*([+-]?[0-9]{1,18})(?:\.0)?\s*", str(value))
    number = int(digits[1]) if digits else None
    if number is None or number < least or (most is not None and number > most):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"must be a whole number{unit} {allowed}, not {shown(value)}")
    return number


def _logging_level(value: Any) -> str:
    if isinstance(value, str) and value.lower() in LOGGING_LEVELS:
        return value.lower()
    raise ValueError(f"must be warning, info or debug, not {shown(value)}{nearest(value, LOGGING_LEVELS)}")


def _file_name(value: Any) -> str:
    if not isinstance(value, str) or value.strip() in ("", ".", ".."):
        raise ValueError(f"must be the name of a file, not {shown(value)}")
    bad = sorted({each if each.isprintable() else repr(each) for each in value if not _may_be_in_name(each)})
    if bad:
        raise ValueError(f"must be a file name without {' '.join(bad)}; a folder goes to --output-path or outputData")
    if len(value) > LONGEST_NAME:
        raise ValueError(f"must have at most {LONGEST_NAME} characters, not {len(value)}")
    return value


def _may_be_in_name(character: str) -> bool:
    return character.isprintable() and character not in FORBIDDEN_IN_NAMES


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"must be a name, not {shown(value)}")
    return value


def _job_name(value: Any) -> str:
    if "/" in _name(value) or "\\" in value or value in (".", ".."):
        raise ValueError(f"must be a name and no path, not {shown(value)}")
    return str(value)


def _input_type(value: Any) -> str:
    if isinstance(value, str):
        text = value.lower()
        if text in ("uri_folder", "uri_file"):
            return text
        if text in LITERAL_TYPES:
            raise ValueError(LITERAL.format(folder="uri_folder", file="uri_file"))
        model_type = MODEL_TYPES.get(text.replace("_", ""))
        if model_type:
            raise ValueError(PIPELINE.format(model_type, folder="uri_folder", file="uri_file"))
    raise ValueError(f"must be uri_folder or uri_file, not {shown(value)}{nearest(value, ('uri_folder', 'uri_file'))}")


def _uri(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a path or URI")
    return value


CHECKS: Mapping[str, Callable[[Any], str]] = {
    "logging_level": _logging_level,
    "output_file_name": _file_name,
    "deployment_name": _name,
    "experiment_name": _name,
    "job_name": _job_name,
    "input_type": _input_type,
    "input": _uri,
    "output": _uri,
}


def shown(value: Any) -> str:
    """Return a value as a message shows it: short, and of what has parts only the kind."""
    if isinstance(value, tuple | dict):
        return "a map"
    if isinstance(value, list):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    return shown_text(value) if isinstance(value, str) else reprlib.repr(value)


def nearest(word: Any, words: Iterable[str]) -> str:
    """Return ``; did you mean X?``, or nothing where no word is near; case and underscores do not count."""
    by_letters = {_letters(each): each for each in words}
    found = difflib.get_close_matches(_letters(str(word)), by_letters, n=1, cutoff=0.6)
    return f"; did you mean {by_letters[found[0]]}?" if found else ""


def unknown_key(key: str, keys: Iterable[str]) -> str:
    """Return the sentence for a key that is none of those allowed."""
    keys = tuple(keys)
    return f"unknown key{nearest(key, keys)} (known here: {', '.join(keys)})"


def _one_line(text: str) -> str:
    """Return a text that a terminal shows as one line: a key may have line breaks and lone surrogates in it."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _letters(text: str) -> str:
    return text.replace("_", "").replace("-", "").lower()
