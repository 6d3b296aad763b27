"""The settings of a deployment: under ``settings``, at the root, or in both places (contract 1.1 and 1.3)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from runtime.deployment_section import Section, shown

__all__ = ["SETTINGS", "RetrySettings", "Settings", "read_settings"]

MAX_TIMEOUT_S = 259_200
MAX_FILE_NAME = 260
NOT_IN_FILE_NAMES = '~"#%&*:<>?/\\{|}'
OUTPUT_ACTIONS = ("append_row", "summary_only")
LOGGING_LEVELS = ("warning", "info", "debug")
RETRY_SETTINGS = ("max_retries", "timeout")
RESOURCES = (
    "instance_count", "instance_type", "properties", "locations", "shm_size", "docker_args", "max_instance_count",
)  # fmt: skip
SETTINGS = (
    "mini_batch_size", "max_concurrency_per_instance", "instance_count", "error_threshold", "retry_settings",
    "logging_level", "output_action", "output_file_name", "environment_variables",
)  # fmt: skip

DURATION = re.compile(r"P(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9})(?:\.0*)?S)?)?", re.IGNORECASE)

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    """How often and how long a mini-batch is tried (contract 1.3).

    Attributes:
        max_retries: tries after the first.
        timeout_s: seconds one call of ``run`` may take.
    """

    max_retries: int = 3
    timeout_s: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a deployment, with Azure ML's defaults (contract 1.3).

    Attributes:
        mini_batch_size: files of one call of ``run``.
        max_concurrency_per_instance: workers of one instance.
        instance_count: instances, also given as ``resources.instance_count``.
        error_threshold: failed files the job may have; -1 ignores all.
        retry_settings: how often and how long a mini-batch is tried.
        logging_level: warning, info or debug.
        output_action: append_row or summary_only.
        output_file_name: the file of ``append_row``.
        environment_variables: what is set in each worker, the texts as written; the values are shown nowhere.
    """

    mini_batch_size: int = 10
    max_concurrency_per_instance: int = 1
    instance_count: int = 1
    error_threshold: int = -1
    retry_settings: RetrySettings = RetrySettings()
    logging_level: str = "info"
    output_action: str = "append_row"
    output_file_name: str = "predictions.csv"
    environment_variables: tuple[tuple[str, str], ...] = field(default=(), repr=False)


def read_settings(root: Section, inner: Section | None) -> Settings:
    """Read the settings from both places they may stand in.

    Args:
        root: the keys of the deployment, or its ``properties`` in the REST form.
        inner: the keys under ``settings``, where there are any.
    """

    def either(name: str, read: Callable[[Section], Value | None], default: Value) -> Value:
        return _either(root, inner, name, read, default)

    instances = either("instance_count", lambda place: place.whole("instance_count", least=1), 1)
    output_action = either("output_action", lambda place: place.choice("output_action", OUTPUT_ACTIONS), "append_row")
    return Settings(
        mini_batch_size=either("mini_batch_size", lambda place: place.whole("mini_batch_size", least=1), 10),
        max_concurrency_per_instance=either(
            "max_concurrency_per_instance", lambda place: place.whole("max_concurrency_per_instance", least=1), 1
        ),
        instance_count=_resources(root, inner, instances),
        error_threshold=either("error_threshold", lambda place: place.whole("error_threshold", least=-1), -1),
        retry_settings=either("retry_settings", _retry_settings, RetrySettings()),
        logging_level=either("logging_level", lambda place: place.choice("logging_level", LOGGING_LEVELS), "info"),
        output_action=output_action,
        output_file_name=either(
            "output_file_name", lambda place: _output_file_name(place, output_action), "predictions.csv"
        ),
        environment_variables=either("environment_variables", _environment_variables, ()),
    )


def _either(
    root: Section, inner: Section | None, name: str, read: Callable[[Section], Value | None], default: Value
) -> Value:
    """Read a setting where it is given; in both places the values must be the same."""
    outer = read(root)
    value = read(inner) if inner is not None else None
    if inner is not None and outer is not None and value is not None and outer != value:
        first, second = sorted((root, inner), key=lambda place: place.entries[name].line)
        other = first.entries[name]
        second.refuse(name, f"{other.key} on line {other.line} has another value; keep one of them")
    return value if value is not None else outer if outer is not None else default


def _resources(root: Section, inner: Section | None, instances: int) -> int:
    """Read ``resources``, whose ``instance_count`` may stand in the settings instead, but not in both."""
    resources = root.section("resources")
    if resources is None:
        return instances
    resources.refuse_unknown(RESOURCES, places={})
    for name in ("instance_type", "shm_size"):
        resources.text(name)
    for name in ("locations", "docker_args"):
        resources.texts(name)
    resources.section("properties")
    resources.whole("max_instance_count", least=1)
    value = resources.whole("instance_count", least=1)
    for place in (root, inner):
        if place is not None and place.entry("instance_count") and resources.entry("instance_count"):
            first, second = sorted((place, resources), key=lambda section: section.entries["instance_count"].line)
            other = first.entries["instance_count"]
            second.refuse("instance_count", f"given as {other.key} on line {other.line} too; keep one of them")
    return instances if value is None else value


def _retry_settings(place: Section) -> RetrySettings | None:
    section = place.section("retry_settings")
    if section is None:
        return None
    section.refuse_unknown(RETRY_SETTINGS, places={})
    retries = section.whole("max_retries", least=0)
    timeout = _rest_timeout(section) if place.rest else _timeout(section)
    return RetrySettings(
        max_retries=RetrySettings().max_retries if retries is None else retries,
        timeout_s=RetrySettings().timeout_s if timeout is None else timeout,
    )


def _timeout(section: Section) -> int | None:
    text = section.text("timeout")
    seconds = _duration_s(text or "")
    if seconds is not None:
        section.refuse("timeout", f"{shown(text or '')} is not the spelling in YAML; write the seconds: {seconds}")
        return None
    reason = "; Azure ML drops a 0: leave the key out for 30 seconds" if text and text.strip() == "0" else ""
    return section.whole("timeout", least=1, most=MAX_TIMEOUT_S, reason=reason)


def _rest_timeout(section: Section) -> int | None:
    text = section.filled("timeout", "a duration such as PT30S")
    if text is None:
        return None
    seconds = _duration_s(text)
    if seconds is None or not 1 <= seconds <= MAX_TIMEOUT_S:
        section.refuse("timeout", f"must be a duration from PT1S to PT72H, not {shown(text)}")
        return None
    return seconds


def _duration_s(text: str) -> int | None:
    """Read a duration of ISO 8601, in whole seconds."""
    match = DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _output_file_name(place: Section, output_action: str) -> str | None:
    if output_action == "summary_only" and place.entry("output_file_name"):
        # The service gives back its default for the key, whether it is used or not
        if not place.rest:
            place.refuse("output_file_name", "must be absent with output_action: summary_only, which writes none")
        return None
    name = place.filled("output_file_name", "a file name")
    if name is None:
        return None
    wrong = [character for character in NOT_IN_FILE_NAMES if character in name]
    if wrong:
        place.refuse(
            "output_file_name", f"{shown(name)} holds {' '.join(wrong)}; not allowed: {' '.join(NOT_IN_FILE_NAMES)}"
        )
        return None
    if name in (".", "..") or not name.isprintable() or len(name) > MAX_FILE_NAME:
        place.refuse("output_file_name", f"{shown(name)} is no file name of up to {MAX_FILE_NAME} characters")
        return None
    return name


def _environment_variables(place: Section) -> tuple[tuple[str, str], ...] | None:
    pairs = place.pairs("environment_variables")
    given = place.entry("environment_variables")
    for entry in given.value.entries if given is not None else ():
        if not entry.name or "=" in entry.name or "\0" in entry.name:
            wrong = "the name of a variable must not be empty, nor hold a = or a null character"
            place.problems.add(entry.line, entry.key, wrong)
        if "\0" in entry.value.text:
            place.problems.add(entry.line, entry.key, "holds a null character, which no variable can")
    return pairs
