"""What `--file inputs.yml` and `--set key=value` say: the named inputs and outputs, the overrides (contract 6.2)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from runtime.channel import LITERAL, LITERAL_TYPES, OUTPUT_TYPE, Channel, nearest, shown, unknown_key
from runtime.deployment_section import Section, read_section
from runtime.errors import DeploymentError, UsageError
from runtime.request_data import datastore_folder

__all__ = ["read_named"]

SETTABLE = {
    "mini_batch_size": "mini_batch_size",
    "error_threshold": "error_threshold",
    "output_file_name": "output_file_name",
    "retry_settings.max_retries": "max_retries",
    "retry_settings.timeout": "timeout_s",
    "compute.instance_count": "instance_count",
    "job_name": "job_name",
}
"""What `--set` overrides, as the SDK names it (contract 6.2)."""

WITHOUT_EFFECT = ("compute.target", "compute.instance_type", "compute.location")
DATASTORE_KEYS = ("output_dataset.datastore_id", "output_dataset.path")
NAMED_KEYS = ("inputs.<name>.type", "inputs.<name>.path", "outputs.<name>.type", "outputs.<name>.path")
REFUSED = {
    "logging_level": "the command line cannot override it; the REST body can (--request, loggingLevel), "
    "or the deployment's YAML (logging_level)",
    "max_concurrency_per_instance": "the command line cannot override it; the REST body can (--request, "
    "maxConcurrencyPerInstance), or the deployment's YAML (max_concurrency_per_instance)",
    "instance_count": "Azure ML's SDK refuses this key; write --set compute.instance_count=… "
    "or --instance-count",
    "max_retries": "Azure ML's SDK refuses this key; write --set retry_settings.max_retries=…",
    "timeout": "Azure ML's SDK refuses this key; write --set retry_settings.timeout=…",
    **dict.fromkeys(
        ("output_action", "environment_variables", "model", "code_configuration", "scoring_script", "environment"),
        "no invocation can override it; set it in the deployment's YAML",
    ),
    **dict.fromkeys(("input_data", "dataset"), "write --input, or --set inputs.<name>.path=…"),
    "output_data": "write --output-path, or --set outputs.<name>.path=…",
}
MODES = ("ro_mount", "rw_mount", "download", "direct", "eval_mount", "eval_download", "upload")
KINDS = ("inputs", "outputs")
ENTRY_KEYS = ("type", "path", "mode")
LITERAL_KEYS = ("default", "value")
LONG_FORM = "; write {type: uri_folder, path: …}"


class _Entry(NamedTuple):
    """One key of one named input or output."""

    kind: str
    name: str
    key: str
    value: str
    place: str


def read_named(channel: Channel, file: str, settings: Sequence[str]) -> None:
    """Read `--file` and `--set` into a channel.

    Args:
        channel: takes what they say, and what is wrong with it.
        file: path of inputs.yml; empty for none.
        settings: texts such as ``retry_settings.timeout=60``.

    Raises:
        UsageError: the file cannot be read, or is no YAML.
    """
    entries = _entries_of_file(channel, file) if file else []
    entries += _entries_of_settings(channel, settings)
    for kind in KINDS:
        _give_entries(channel, [entry for entry in entries if entry.kind == kind])


def _entries_of_settings(channel: Channel, settings: Sequence[str]) -> list[_Entry]:
    """Give what `--set` overrides to the channel, and return what it says of inputs and outputs."""
    entries = []
    folder: dict[str, str] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        key = key.strip()
        place = f"--set {key}"
        named = re.fullmatch(r"(inputs|outputs)\.(.*)\.([^.]*)", key)
        if not equals or not key:
            channel.refuse("--set", f"needs key=value, not {shown(key)}")
        elif key in SETTABLE:
            channel.give(SETTABLE[key], value, place)
        elif named:
            entries.append(_Entry(named[1], named[2], named[3], value, place))
        elif key in DATASTORE_KEYS:
            if folder.setdefault(key, value) != value:
                channel.refuse(place, f"is given twice ({folder[key]} and {value}); give one of them")
        elif key in WITHOUT_EFFECT:
            channel.notice(place, "has no effect here: the job runs on this machine")
        else:
            refused = REFUSED.get(key) or REFUSED.get(key.partition(".")[0])
            channel.refuse(place, refused or unknown_key(key, (*SETTABLE, *DATASTORE_KEYS, *NAMED_KEYS)))
    if folder:
        _give_folder(channel, folder)
    return entries


def _give_folder(channel: Channel, folder: dict[str, str]) -> None:
    for key in DATASTORE_KEYS:
        if key not in folder:
            channel.refuse(f"--set {key}", f"missing; {' and '.join(DATASTORE_KEYS)} go together")
            return
    try:
        output = datastore_folder(folder[DATASTORE_KEYS[0]], folder[DATASTORE_KEYS[1]])
    except ValueError as problem:
        channel.refuse("--set output_dataset", str(problem))
    else:
        channel.give("output", output, "--set output_dataset")


def _give_entries(channel: Channel, entries: list[_Entry]) -> None:
    """Give the one input, or the one output, to the channel."""
    if not entries:
        return
    kind = entries[0].kind
    names = list(dict.fromkeys(entry.name for entry in entries))
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9_]+", name):
            place = next(entry.place for entry in entries if entry.name == name)
            channel.refuse(place, f"the name {shown(name)} may have letters, digits and _ only")
    if len(names) > 1:
        takes = "takes exactly one data input" if kind == "inputs" else "writes one output"
        channel.refuse(entries[-1].place, f"a model deployment {takes}, not {len(names)} ({', '.join(names)})")
        return
    if kind == "inputs" and _literal(entries):
        channel.refuse(entries[0].place, LITERAL.format(folder="uri_folder", file="uri_file"))
        return
    for entry in entries:
        _give_entry(channel, entry)
    if kind == "inputs" and "path" not in {entry.key for entry in entries}:
        channel.refuse(entries[0].place.removesuffix(f".{entries[0].key}"), "has no path; give the folder or file")


def _literal(entries: list[_Entry]) -> bool:
    """Tell whether an input is a value, and no data."""
    return any(
        entry.key in LITERAL_KEYS or (entry.key == "type" and entry.value.lower() in LITERAL_TYPES) for entry in entries
    )


def _give_entry(channel: Channel, entry: _Entry) -> None:
    data = "input" if entry.kind == "inputs" else "output"
    if entry.key == "path":
        channel.give(data, entry.value, entry.place)
    elif entry.key == "type" and data == "input":
        channel.give("input_type", entry.value, entry.place)
    elif entry.key == "type":
        if entry.value.lower() != "uri_file":
            channel.refuse(entry.place, OUTPUT_TYPE.format(file="uri_file"))
    elif entry.key == "mode":
        if entry.value in MODES:
            channel.notice(entry.place, f"{entry.value} has no effect here: how files are fetched is not part of a job")
        else:
            sentence = f"must be one of {', '.join(MODES)}, not {shown(entry.value)}{nearest(entry.value, MODES)}"
            channel.refuse(entry.place, sentence)
    elif entry.key:
        channel.refuse(entry.place, unknown_key(entry.key, ENTRY_KEYS))


def _entries_of_file(channel: Channel, file: str) -> list[_Entry]:
    """Return what inputs.yml says of inputs and outputs; all else in it is refused with its line."""
    if not os.path.isfile(file):
        raise UsageError(f"--file {file}: no such file; name a YAML file with inputs: {{<name>: {{type, path}}}}")
    root = read_section(file)
    entries = []
    for kind in KINDS:
        named = root.section(kind)
        for name in named.entries if named else ():
            entries += _entries_of_section(named, kind, name) if named else []
    for name in root.entries.keys() & REFUSED.keys():
        root.refuse(name, REFUSED[name])
    places = {name: f"--set {name}=…" for name in (*SETTABLE, *DATASTORE_KEYS)}
    root.refuse_unknown(KINDS, ignored=REFUSED, places=places)
    try:
        root.problems.raise_any()
    except DeploymentError as error:
        channel.problems += error.problems
    return entries


def _entries_of_section(named: Section, kind: str, name: str) -> list[_Entry]:
    """Return the keys of one input or output."""
    whole = named.entry(name)
    if kind == "inputs" and whole and whole.value.kind == "a text" and whole.value.text:
        named.refuse(name, LITERAL.format(folder="uri_folder", file="uri_file") + LONG_FORM)
        return []
    section = named.section(name)
    if section is None:
        return []
    section.refuse_unknown(ENTRY_KEYS, ignored=LITERAL_KEYS, places={})
    place = f"{named.problems.file}:{section.line}: {section.key}"
    entries = [_Entry(kind, name, "", "", place)]
    for key in (*ENTRY_KEYS, *LITERAL_KEYS):
        value = section.text(key)
        if value is None and section.entry(key):
            return []
        if value is not None:
            at = section.entries[key]
            entries.append(_Entry(kind, name, key, value, f"{named.problems.file}:{at.line}: {at.key}"))
    return entries
