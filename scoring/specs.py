"""What a worker is told, as plain data: the model to load and how to read for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from scoring.output_files import OutputFolder
from scoring.rows import Dialect

COLUMN_TYPES = ("long", "integer", "double", "float", "boolean", "string", "datetime", "binary")
"""The types of MLflow's signatures that a CSV field can be read as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSpec:
    """One column the model wants.

    Attributes:
        name: its name.
        type: one of `COLUMN_TYPES`.
        required: whether a file must have it.
    """

    name: str
    type: str
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerSpec:
    """A model, and how it is used.

    Attributes:
        model_path: folder with the ``MLmodel`` file.
        method: what is called for each cell: ``predict`` or a method of the model inside.
        params: parameters of ``predict`` as (name, text).
        types: columns whose type is given here, as (name, type); they win over the signature.
        threads: native threads, and ``n_jobs``, of one worker.
    """

    model_path: str
    method: str = "predict"
    params: tuple[tuple[str, str], ...] = ()
    types: tuple[tuple[str, str], ...] = ()
    threads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptSpec:
    """A scoring script, and how it is used (contract section 2).

    Attributes:
        code: absolute folder of the code, which comes first on ``sys.path``.
        scoring_script: the script, relative to it.
        model_dir: ``AZUREML_MODEL_DIR``, staged already; empty leaves the variable unset.
        output_path: ``AZUREML_BI_OUTPUT_PATH``, which exists.
        output: where on storage belongs what the script writes there; None where that is the output itself.
        environment: the deployment's environment variables; their values are shown nowhere.
        arguments: what follows the script's path in ``sys.argv``.
        logging_level: warning, info or debug.
        output_action: append_row or summary_only.
        output_format: azureml (fields parted by a space, no header), csv or jsonl.
        work: folder in which each worker makes its working directory.
        logs: folder of the job's logs; empty for none.
        tracking: ``MLFLOW_TRACKING_URI`` where none is set.
        threads: native threads of one worker.
    """

    code: str
    scoring_script: str
    model_dir: str = ""
    output_path: str = ""
    output: OutputFolder | None = None
    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    arguments: tuple[str, ...] = ()
    logging_level: str = "info"
    output_action: str = "append_row"
    output_format: str = "azureml"
    work: str = ""
    logs: str = ""
    tracking: str = ""
    threads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPlan:
    """How the cells of a job are read.

    Attributes:
        columns: what the model wants, in order.
        dialect: how the files are written.
        keep: input columns whose text is copied to the output.
        date_format: how dates are written, where not in ISO 8601.
        quarantine_values: whether values go to the quarantine file.
        strict: whether a row that does not fit, or that the model does not take, fails its whole file (contract 4.2).
        output_format: csv; azureml: the same, with the basename, for a file without header; jsonl: an object a line.
        file_names: how a line names its file: path, below the input root, or basename.
    """

    columns: tuple[ColumnSpec, ...]
    dialect: Dialect
    keep: tuple[str, ...] = ()
    date_format: str | None = None
    quarantine_values: bool = True
    strict: bool = False
    output_format: str = "csv"
    file_names: str = "path"
