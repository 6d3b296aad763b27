"""The options of a job, checked against each other before anything is done."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from runtime.errors import UsageError
from runtime.progress import QuarantineLimit
from runtime.score_file import IfExists
from scoring.blob_access import BlobAccess
from scoring.files import InputSpec, local_path
from scoring.rows import Dialect
from scoring.specs import COLUMN_TYPES

__all__ = ["Options"]

# what only workspace.yml can find, or storage has; paths, file: URLs and what MLflow fetches are taken as they are
ELSEWHERE = re.compile(r"\s*(azureml:|folder:|/subscriptions/|(https?|wasbs?|abfss?|az|adl)://)", re.IGNORECASE)
PLACES = ("model", "input", "output")
OF_WORKSPACES = ("workspace", "subscription", "resource_group", "workspace_name")
ACCESSES = ("model_access", "code_access", "input_access", "output_access")
FORBIDDEN_IN_NAMES = frozenset('~"#%&*:<>?/\\{|}')


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `scoreline run` takes, by the same names.

    Attributes:
        model: folder with an ``MLmodel`` file, ``models:/name/version``, ``models:/name@alias`` or ``runs:/…``;
            where a script scores, whatever folder or file it loads, or nothing.
        deployment: the deployment file they come from, if one was given.
        model_access: how a model on Azure storage is reached.
        code: absolute folder of the scoring script, or its address on storage; empty where the model scores by itself.
        code_access: how code on Azure storage is reached.
        scoring_script: the script, relative to it.
        environment_variables: of the deployment; they are shown nowhere.
        arguments: what follows the script's path in its ``sys.argv``.
        logging_level: warning, info or debug.
        output_action: append_row or summary_only.
        output_format: csv, azureml (as Azure ML writes rows) or jsonl.
        strict: one predict per file, and a file with a bad row fails, as Azure ML has it.
        mini_batch_size: files of one mini-batch, where whole files are scored; 0: as many as suits.
        error_threshold: failed files tolerated, -1 for any number; None: a mini-batch that fails stops the job.
        max_retries: how often a mini-batch is tried again; None: once.
        init_timeout_s: how long a script may load; None: for ever.
        task_overhead_s: how much longer than its timeout the first call of a worker may take.
        logs: folder of the logs; empty: chosen for deployments, none for a model.
        isolate: whether rows that fail a mini-batch are looked for, or files where a script scores; None: rows are.
        on_mismatch: warn or fail where a model was saved with other versions than run here.
        input: file, folder or glob: a local path, a ``file:`` URL, or an address on storage, without any secret.
        input_access: how an input on Azure storage is reached.
        input_query: what stood behind the question mark of a public file's address.
        output: folder for the score file, or the file itself (ending in .csv); empty: ``./scoreline/<job name>/score``;
            on storage always the folder, without any secret.
        output_access: how an output on Azure storage is reached.
        job_name: name of the job; the same name resumes.
        job_name_given: whether it was chosen, and not made up.
        input_type: uri_folder or uri_file; empty: what is found.
        include: globs that file names must match.
        recursive: look into sub-folders.
        input_format: csv reads every file as CSV; empty goes by the extension.
        input_header: whether files begin with a header.
        input_columns: names of the columns where they do not.
        delimiter: between the fields of a record.
        encoding: of the files.
        types: (column, type) that win over the signature.
        date_format: how dates are written, as for strptime; None: ISO 8601.
        output_file_name: name of the score file.
        if_exists: fail, overwrite or append.
        output_header: whether the score file begins with a header.
        keep: input columns copied to the output.
        method: what is called: predict, predict_proba, …
        params: (name, value) parameters of predict.
        workers: processes; 0: the CPUs this container may use.
        threads: native threads of each.
        chunk_rows: rows of one predict call; 0: whole files; None: chosen from the input.
        cells_per_mini_batch: cells handed out at a time; 0: chosen as the work goes.
        limit: score only so many rows.
        max_quarantined: rows, or percent of rows, that may fail.
        quarantine_values: keep or none: whether values are copied to the quarantine.
        timeout_s: seconds one mini-batch may take; None: for ever.
        grace_s: seconds that running mini-batches get when a signal stops the job.
        spool_bytes: disk for decoded input; 0: half of what is free.
        restart: discard what is staged or complete, and score again.
        engine: local (by itself), forkserver, spawn or inline.
        explain: say what was chosen, and why.
        notices: sentences to say before the job begins.
        debug: let workers write to standard error.
    """

    model: str = ""
    model_access: BlobAccess | None = field(default=None, repr=False)
    input: str = ""
    input_access: BlobAccess | None = field(default=None, repr=False)
    input_query: str = field(default="", repr=False)
    deployment: str = ""
    code: str = ""
    code_access: BlobAccess | None = field(default=None, repr=False)
    scoring_script: str = ""
    environment_variables: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    arguments: tuple[str, ...] = ()
    logging_level: str = "info"
    output_action: str = "append_row"
    output_format: str = "csv"
    strict: bool = False
    mini_batch_size: int = 0
    error_threshold: int | None = None
    max_retries: int | None = None
    init_timeout_s: float | None = None
    task_overhead_s: float = 600.0
    logs: str = ""
    isolate: bool | None = None
    on_mismatch: Literal["warn", "fail"] = "warn"
    output: str = ""
    output_access: BlobAccess | None = field(default=None, repr=False)
    job_name: str = ""
    job_name_given: bool = True
    input_type: str = ""
    include: tuple[str, ...] = ()
    recursive: bool = False
    input_format: str = ""
    input_header: bool = True
    input_columns: tuple[str, ...] = ()
    delimiter: str = ","
    encoding: str = "utf-8"
    types: tuple[tuple[str, str], ...] = ()
    date_format: str | None = None
    output_file_name: str = "predictions.csv"
    if_exists: IfExists = "fail"
    output_header: bool = True
    keep: tuple[str, ...] = ()
    method: str = "predict"
    params: tuple[tuple[str, str], ...] = ()
    workers: int = 0
    threads: int = 0
    chunk_rows: int | None = None
    cells_per_mini_batch: int = 0
    limit: int = 0
    max_quarantined: str | None = None
    quarantine_values: Literal["keep", "none"] = "keep"
    timeout_s: float | None = None
    grace_s: float = 20.0
    spool_bytes: int = 0
    restart: bool = False
    engine: Literal["local", "forkserver", "spawn", "inline"] = "local"
    explain: bool = False
    notices: tuple[str, ...] = ()
    debug: bool = False

    @classmethod
    def of(cls, **options: Any) -> Options:
        """Check options and put defaults where there are none.

        Raises:
            UsageError: one of them cannot be, or contradicts another.
        """
        if options.get("deployment"):
            from runtime.deployed import deployment_options

            options = deployment_options(options)
        elif any(options.get(name) for name in OF_WORKSPACES) or any(_is_elsewhere(options.get(n)) for n in PLACES):
            from runtime.located import located_options

            options = located_options(options)
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(options) - known)
        if unknown:
            raise UsageError(f"run() has no option {', '.join(unknown)}")
        if not options.get("input"):
            raise UsageError("--input is missing")
        if not options.get("model") and not options.get("scoring_script"):
            raise UsageError("--model is missing")
        options = {name: str(value) if isinstance(value, os.PathLike) else value for name, value in options.items()}
        for name in ("include", "input_columns", "keep"):
            options[name] = _texts(name, options.get(name, ()))
        if isinstance(options.get("max_quarantined"), int):
            options["max_quarantined"] = str(options["max_quarantined"])
        if isinstance(options.get("quarantine_values"), bool):
            options["quarantine_values"] = "keep" if options["quarantine_values"] else "none"
        for name in ("types", "params"):
            options[name] = _pairs(options.get(name, ()))
        options["delimiter"] = _delimiter(options.get("delimiter", ","))
        if options.get("output_header") is None:
            options["output_header"] = options.get("output_format", "csv") == "csv"
        if any(options.get(name) for name in ACCESSES):
            from runtime.credentials import told

            sentences = dict.fromkeys(told(options[name]) for name in ACCESSES if options.get(name))
            options["notices"] = (*options.get("notices", ()), *sentences)
        if not options.get("output") and not options.get("job_name"):
            options["job_name"] = _generated_job_name()
            options["job_name_given"] = False
        result = cls(**options)
        result._check()
        return result

    def _check(self) -> None:
        self._check_numbers()
        self._check_choices()
        self._check_names()
        if self.input_columns and self.input_header:
            raise UsageError("--input-columns names the columns of files without a header: add --no-input-header")
        if self.output_header and self.output_format != "csv":
            raise UsageError(f"--output-header: format {self.output_format} has no header; use --format csv")
        if self.by_file and self.engine == "inline":
            raise UsageError("--engine inline: a scoring script changes its process, which would be this one")
        if self.strict and self.chunk_rows:
            raise UsageError("--strict scores whole files: leave --chunk-rows out")
        if self.restart and self.if_exists == "append":
            raise UsageError(
                "--restart with --if-exists append would add the same rows twice; use --if-exists overwrite"
            )

    def _check_numbers(self) -> None:
        for name, least in (
            ("workers", 0),
            ("threads", 0),
            ("limit", 0),
            ("cells_per_mini_batch", 0),
            ("chunk_rows", 0),
            ("mini_batch_size", 0),
            ("max_retries", 0),
            ("error_threshold", -1),
        ):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise UsageError(
                    f"--{name.replace('_', '-')} must be a whole number of at least {least}, not {value!r}"
                )
        for name in ("timeout_s", "init_timeout_s"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                option = name.removesuffix("_s").replace("_", "-")
                raise UsageError(f"--{option} must be more than 0 seconds, not {value:g}")
        try:
            QuarantineLimit.parse(self.max_quarantined)
        except ValueError:
            raise UsageError(
                f"--max-quarantined {self.max_quarantined}: give a number of rows (100) or a percentage (0.5%)"
            ) from None

    def _check_choices(self) -> None:
        _one_of("--if-exists", self.if_exists, ("fail", "overwrite", "append"))
        _one_of("--engine", self.engine, ("local", "forkserver", "spawn", "inline"))
        _one_of("--format", self.output_format, ("csv", "azureml", "jsonl"))
        _one_of("--on-mismatch", self.on_mismatch, ("warn", "fail"))
        _one_of("output_action", self.output_action, ("append_row", "summary_only"))
        _one_of("--input-type", self.input_type, ("", "uri_folder", "uri_file"))
        _one_of("--input-format", self.input_format, ("", "csv"))
        _one_of("--quarantine-values", self.quarantine_values, ("keep", "none"))
        try:
            # codecs that are none of text can be looked up as well
            "a".encode(self.encoding)
        except LookupError:
            raise UsageError(f"--encoding {self.encoding}: no such encoding; see Python's standard encodings") from None
        for column, kind in self.types:
            _one_of(f"--types {column}", kind, COLUMN_TYPES)

    def _check_names(self) -> None:
        bad = sorted(FORBIDDEN_IN_NAMES & set(self.output_file_name))
        if bad or self.output_file_name in ("", ".", ".."):
            raise UsageError(
                f"--output-file-name {self.output_file_name!r}: a file name without {' '.join(bad) or 'a name'}"
            )
        for option, names in (("--keep", self.keep), ("--input-columns", self.input_columns)):
            if len(set(names)) < len(names):
                raise UsageError(f"{option} names a column twice")
        if self.job_name and (os.sep in self.job_name or self.job_name in (".", "..")):
            raise UsageError(f"--job-name {self.job_name}: a name, not a path")

    @property
    def quarantine_limit(self) -> QuarantineLimit:
        """What the quarantine may hold."""
        return QuarantineLimit.parse(self.max_quarantined)

    @property
    def by_file(self) -> bool:
        """Whether a scoring script takes whole files."""
        return bool(self.scoring_script)

    @property
    def isolates(self) -> bool:
        """Whether a mini-batch whose attempts are used up is looked into."""
        return (not self.by_file if self.isolate is None else self.isolate) and not self.strict

    @property
    def files_per_mini_batch(self) -> int:
        """Files of one mini-batch where whole files are scored; 0 where rows are cut and grouped."""
        return self.mini_batch_size if self.by_file or self.strict else 0

    @property
    def stall_s(self) -> float | None:
        """How long nothing may move in a deployment (contract 5.5); None: for ever."""
        if not self.deployment or self.timeout_s is None:
            return None
        # a worker may load, and then make its first call
        return 3 * (self.timeout_s + self.task_overhead_s) + (self.init_timeout_s or 0.0)

    @property
    def job_folder(self) -> str:
        """The folder of the job: its output and its logs lie in it, unless they are told to lie elsewhere."""
        on_disk = self.output_access is None
        if on_disk and os.path.basename(self.output_folder) == "score" and self.job_name:
            return os.path.dirname(self.output_folder)
        return os.path.abspath(os.path.join("scoreline", self.job_name or os.path.basename(self.output_folder)))

    @property
    def grid(self) -> int:
        """Rows of a cell: -1 chooses them, 0 makes one cell of each file."""
        if self.by_file or self.strict:
            return 0
        return -1 if self.chunk_rows is None else self.chunk_rows

    @property
    def _output_is_file(self) -> bool:
        """Whether --output names the file itself: it ends in an extension, and is no folder."""
        if self.output_access is not None:
            return False
        name = os.path.basename(self.output)
        is_file = os.path.splitext(name)[1] == ".csv" or (bool(self.deployment) and name == self.output_file_name)
        return is_file and not os.path.isdir(self.output)

    @property
    def output_folder(self) -> str:
        """Where the score file shall be."""
        if not self.output:
            return os.path.abspath(os.path.join("scoreline", self.job_name, "score"))
        if self.output_access is not None:
            return self.output.rstrip("/")
        path = local_path(self.output)
        return os.path.dirname(path) if self._output_is_file else path

    @property
    def output_name(self) -> str:
        """What the score file shall be called."""
        return os.path.basename(self.output) if self._output_is_file else self.output_file_name

    def input_spec(self, signature_names: tuple[str, ...]) -> InputSpec:
        """Say what to list and how to read it.

        Args:
            signature_names: the columns of files without a header, where no option names them.

        Raises:
            UsageError: there is no header, and nothing that names the columns.
        """
        columns = () if self.input_header else self.input_columns or signature_names
        if not self.input_header and not columns:
            raise UsageError(
                "--no-input-header: the model's signature names no columns; name them with --input-columns a,b,c"
            )
        return InputSpec(
            url=self.input,
            access=self.input_access,
            query=self.input_query,
            input_type=self.input_type,
            include=self.include,
            recursive=self.recursive,
            input_format=self.input_format,
            kind="files" if self.by_file else "rows",
            unknown="fail" if self.deployment else "refuse",
            dialect=Dialect(
                delimiter=self.delimiter, encoding=self.encoding, header=self.input_header, columns=tuple(columns)
            ),
        )

    def settings(self) -> dict[str, Any]:
        """Return the settings that alter bytes: together with the model they make the fingerprint."""
        names = (
            "input_format", "input_header", "input_columns", "delimiter", "encoding", "types", "date_format",
            "output_header", "keep", "method", "params", "chunk_rows", "limit", "quarantine_values",
        )  # fmt: skip
        values = {name: getattr(self, name) for name in names}
        # what was not there when the first jobs were staged is named only where it is not as it was then
        usual = {
            "scoring_script": "", "output_action": "append_row", "output_format": "csv", "strict": False,
            "logging_level": "info",
        }  # fmt: skip
        values |= {name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value}
        if self.by_file or self.strict:
            values["mini_batch_size"] = self.mini_batch_size
        return {name: _listed(value) for name, value in values.items()}


def _is_elsewhere(text: Any) -> bool:
    return isinstance(text, str) and ELSEWHERE.match(text) is not None


def _generated_job_name() -> str:
    """Make up a name for a job: when it began, and something that no other has."""
    return time.strftime("job-%Y%m%d-%H%M%S-") + uuid.uuid4().hex[:4]


def _listed(value: Any) -> Any:
    return [_listed(each) for each in value] if isinstance(value, tuple) else value


def _texts(name: str, value: str | Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(value.split(",")) if name != "include" else (value,)
    return tuple(value)


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:
    if hasattr(value, "items"):
        value = value.items()
    return tuple((str(name), str(text)) for name, text in value)


def _delimiter(text: str) -> str:
    text = {"\\t": "\t", "tab": "\t"}.get(text, text)
    if len(text) != 1 or not text.isascii() or text in '"\r\n':
        raise UsageError(f"--delimiter {text!r}: give one ASCII character, for example ';' or '\\t'")
    return text


def _one_of(option: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        shown = ", ".join(str(each) for each in allowed if isinstance(each, str) and each)
        raise UsageError(f"{option} must be one of {shown}, not {value!r}")
