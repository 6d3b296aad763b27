"""What can be said of a job before anything of it runs: its options, its model, its output."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from runtime.errors import DeploymentError, ScorelineError, UsageError
from runtime.findings import Notebook
from runtime.job import asked_record, refuse_output_in_input
from runtime.options import ACCESSES, Options
from runtime.output import Output, output_of
from runtime.receipt import inputs_digest
from runtime.record import JobRecord
from runtime.requirements import describe, mismatches
from runtime.target import ModelTarget, ScriptTarget, find_target
from scoring.files import InputSpec, Listing
from scoring.specs import COLUMN_TYPES, ColumnSpec

__all__ = ["check_input", "check_model", "check_options", "check_output", "check_requirements", "signed_columns"]

Target = ModelTarget | ScriptTarget
WARNING = "warning: "


def check_options(given: dict[str, Any], notes: Notebook) -> Options | None:
    """Check the options, and the deployment and its invocation with them; None where a run refuses them."""
    try:
        options = Options.of(**given)
    except ScorelineError as error:
        for problem in error.problems if isinstance(error, DeploymentError) else (str(error),):
            notes.error(problem)
        return None
    reached = _how_reached(options)
    said = [text for text in options.notices if text not in reached]
    # the last that a deployment says is by which rule it is scored
    rule = said.pop() if options.deployment else ""
    for text in said:
        notes.warning(text.removeprefix(WARNING))
    if options.deployment:
        notes.ok(f"{options.deployment}: {rule}")
        notes.checked["deployment"] = options.deployment
    for text in reached:
        notes.ok(text)
    return options


def _how_reached(options: Options) -> list[str]:
    """Say by which credential each container is reached."""
    accesses = [access for name in ACCESSES if (access := getattr(options, name)) is not None]
    if not accesses:
        return []
    from runtime.credentials import told

    return list(dict.fromkeys(map(told, accesses)))


def check_model(options: Options, stack: ExitStack, notes: Notebook) -> Target | None:
    """Find what scores; None where a run refuses it."""
    try:
        target = find_target(options, stack, lambda _: None)
        # here a damaged MLmodel file is met
        target.mlmodel()
    except ScorelineError as error:
        notes.error(str(error))
        return None
    notes.checked["model"] = target.uri
    return target


def signed_columns(options: Options, target: Target | None) -> tuple[ColumnSpec, ...]:
    """Read the columns off the signature of a model that does not load, as far as it names them."""
    if target is None or target.by_file:
        return ()
    try:
        inputs = json.loads((target.mlmodel().get("signature") or {}).get("inputs") or "[]")
        types = {each["name"]: each["type"] for each in inputs} | dict(options.types)
        return tuple(
            ColumnSpec(name=each["name"], type=types[each["name"]], required=each.get("required", True))
            for each in inputs
            if types[each["name"]] in COLUMN_TYPES
        )
    except (ScorelineError, ValueError, LookupError, TypeError, AttributeError):
        return ()


def check_requirements(options: Options, target: Target, notes: Notebook) -> None:
    """Say how what the model was saved with differs from what runs here."""
    if not os.path.isdir(target.path):
        return
    found = mismatches(target.path)
    notes.checked["mismatches"] = [asdict(each) for each in found]
    if found and options.on_mismatch == "fail":
        notes.error(f"{describe(found)}; --on-mismatch warn scores all the same")
    elif found:
        notes.warning(describe(found))


def check_input(options: Options, notes: Notebook) -> bool:
    """See whether an input on storage can be listed and read."""
    try:
        _check_places(replace(options, output_access=None))
    except ScorelineError as error:
        notes.error(str(error))
        return False
    return True


def _check_places(options: Options) -> None:
    if options.input_access is not None or options.output_access is not None:
        from runtime.storage_check import check_places

        check_places(options)


def check_output(
    options: Options, target: Target | None, spec: InputSpec | None, listing: Listing | None, notes: Notebook
) -> None:
    """See whether a run could write where it shall, as far as that can be told without the claim."""
    output = output_of(options)
    try:
        if spec is not None:
            refuse_output_in_input(output, spec)
        if options.output_access is None:
            _refuse_unwritable(output)
        _check_places(replace(options, input_access=None))
        if target is not None and not options.restart:
            _check_what_is_there(options, target, output, listing, notes)
    except ScorelineError as error:
        notes.error(str(error))


def _check_what_is_there(
    options: Options, target: Target, output: Output, listing: Listing | None, notes: Notebook
) -> None:
    size_bytes, staged, receipt = output.size_bytes(), output.job(), output.receipt()
    if size_bytes is None and staged is None:
        return
    asked = asked_record(options, target)
    if staged is not None:
        JobRecord.from_json(staged).resumed_as(asked, output.url)
    known = []
    if receipt is not None and receipt["output"]["size_bytes"] == size_bytes:
        known = [each["inputs"] for each in receipt["appended"] if each["fingerprint"] == asked.fingerprint]
    if known and (listing is None or inputs_digest(listing.files) in known):
        notes.ok(f"{output.url}: complete already; a run would do nothing")
    elif size_bytes is None or options.if_exists != "fail" or output.publishing(asked.fingerprint):
        return
    elif known:
        notes.warning(
            f"{output.url} exists already, of this very job but of other files, or of other times of them: "
            "a run refuses it unless every byte of them is the same"
        )
    else:
        notes.error(
            f"{output.url} exists already: another job wrote it; choose another --output or --job-name, "
            "or say --if-exists overwrite or append"
        )


def _refuse_unwritable(output: Output) -> None:
    asked = folder = Path(output.url).parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise UsageError(f"{asked}: cannot be made, for {folder} is no folder; choose another --output")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{asked}: cannot be written, for {folder} is read-only; choose another --output")
