"""A cell scored: misfits cost their rows, or strictly their file; a mini-batch of failed files fails."""

import gzip
import json
from dataclasses import replace

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.cell_score import CellScore, cell_scores
from scoring.cells import MiniBatch, covered_digest
from scoring.errors import PredictionError
from scoring.files import InputSpec, list_inputs
from scoring.rows import Dialect
from scoring.scan import Begin
from scoring.scanner import Scan
from scoring.specs import ColumnSpec, ReadPlan

COLUMNS = (ColumnSpec(name="n", type="long"), ColumnSpec(name="x", type="double"))
PLAN = ReadPlan(columns=COLUMNS, dialect=Dialect())
STRICT = replace(PLAN, strict=True)


class Doubling:
    """Doubles a column of a table, or says how large an image is; and counts its calls."""

    classes = ()

    def __init__(self):
        self.calls = 0

    def columns(self, header, sample):  # noqa: ARG002 - as the protocol has it
        """Know the columns."""
        return COLUMNS

    def predict(self, rows):
        """Double what may be doubled."""
        self.calls += 1
        if isinstance(rows, np.ndarray):
            return [rows.size]
        for number, error in {
            13: RuntimeError("unlucky"),
            14: SystemExit(3),
            15: RuntimeError(),
            16: MemoryError(),
        }.items():
            if number in rows["n"].to_pylist():
                raise error
        return rows["x"].to_numpy() * (2 if 17 not in rows["n"].to_pylist() else np.array([[2], [2]]))

    def kind(self, column):
        """Know no type."""


def batch_of(root, cell_rows=0, **options):
    """All of a folder as one mini-batch."""
    files = list_inputs(InputSpec(url=str(root), unknown="fail", **options)).files
    return MiniBatch(
        number=0, cells=tuple(Scan(files, Dialect(), Begin(spool=str(root), spool_bytes=1), cell_rows).run())
    )


def scored(root, plan=STRICT):
    """The cells of a folder, scored one by one."""
    return [CellScore(Doubling(), plan, cell) for cell in batch_of(root).cells]


def entries(score):
    """The lines of the quarantine."""
    return [json.loads(line) for line in score.quarantine.splitlines()]


def failure(name, text):
    """What Azure ML says of a file that failed."""
    return f"Error processing input file: '{name}'. Exception: {text}"


FAILING = {
    "no long": (b"n,x\n1,1\nmany,2\n", "invalid literal for int() with base 10: 'many' (row 1, column 'n')", 2),
    "no double": (b"n,x\n1,1\n2,2\n3,odd\n", "could not convert string to float: 'odd' (row 2, column 'x')", 3),
    "a blank": (b"n,x\n,1\n", "blank where the signature says long (row 0, column 'n')", 1),
    "too few fields": (b"n,x\n1\n2,2\n", "1 fields where the header has 2 (row 0)", 2),
    "a column missing": (b"n,y\n1,1\n2,2\n", "column 'x' is missing", 2),
    "the model raises": (b"n,x\n13,1\n2,2\n", "unlucky", 2),
    "the model exits": (b"n,x\n14,1\n", "3", 1),
    "the model raises without a word": (b"n,x\n15,1\n", "RuntimeError", 1),
    "too many predictions": (b"n,x\n17,1\n", "the model returned 2 predictions for 1 row", 1),
}


@pytest.mark.parametrize(("data", "text", "rows"), FAILING.values(), ids=FAILING.keys())
def test_strictly_a_bad_row_costs_its_file(tmp_path, data, text, rows):
    """No row of a file is written where one misfits or the model fails, and all are accounted for (contract 4.2)."""
    (tmp_path / "a.csv").write_bytes(data)
    (score,) = scored(tmp_path)
    reason = failure("a.csv", text)
    assert entries(score) == [{"file": "a.csv", "row": None, "rows": rows, "reason": reason}]
    assert (bytes(score.lines), score.names, score.failed, score.causes) == (b"", (), reason, {reason: rows})
    (account,) = score.accounts
    assert (account.rows, account.given_up, account.quarantined) == (rows, rows, 0)
    assert account.digest == covered_digest(batch_of(tmp_path).slices[0])
    raised = ("unlucky", "3", "RuntimeError", "the model returned 2 predictions for 1 row")
    assert ("Traceback" in score.detail) == (text in raised)


def test_strictly_values_are_not_shown_where_they_must_not_be(tmp_path):
    """Where the quarantine may hold no values, neither may the reason of a file."""
    (tmp_path / "a.csv").write_bytes(b"n,x\nsecret,2\n")
    (score,) = scored(tmp_path, replace(STRICT, quarantine_values=False))
    assert b"secret" not in score.quarantine
    assert score.failed == failure("a.csv", "not a long (row 0, column 'n')")


def test_without_strictness_rows_fail_alone(tmp_path):
    """Rows that do not fit go aside, and what the model raises is the caller's."""
    (tmp_path / "a.csv").write_bytes(b"n,x\n1,1\nmany,2\n3,3\n")
    (score,) = scored(tmp_path, PLAN)
    assert bytes(score.lines) == b"0,2.0,a.csv\n2,6.0,a.csv\n"
    assert ([entry["row"] for entry in entries(score)], score.failed, score.names) == ([1], "", ("prediction",))
    for number, error in {13: RuntimeError, 14: SystemExit, 16: MemoryError, 17: PredictionError}.items():
        (tmp_path / "a.csv").write_text(f"n,x\n{number},1\n")
        with pytest.raises(error):
            scored(tmp_path, PLAN)


def test_memory_that_is_short_is_no_fault_of_the_file(tmp_path):
    """Want of memory passes up, so that another attempt is made, strictly too."""
    (tmp_path / "a.csv").write_bytes(b"n,x\n16,1\n")
    with pytest.raises(MemoryError):
        scored(tmp_path)


def test_strictly_the_model_is_called_once_a_file(tmp_path):
    """Each file is one call, and a file with a misfit none."""
    for name, rows in {"a": "1,1\n" * 500, "b": "2,2\n" * 3, "c": "odd,1\n", "d": ""}.items():
        (tmp_path / f"{name}.csv").write_text("n,x\n" + rows)
    model = Doubling()
    scores = list(cell_scores(model, STRICT, batch_of(tmp_path)))
    assert (model.calls, [bytes(score.lines).count(b"\n") for score in scores]) == (2, [500, 3, 0, 0])


def test_strictly_a_file_that_cannot_be_read_on_gives_nothing(tmp_path):
    """The rows before the trouble are not written either; how many there would be nobody knows."""
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"n,x\n" + b"1,1\n" * 5000)[:-9])
    (cell,) = batch_of(tmp_path).cells
    assert [bool(part.problem) for part in cell.slices] == [False, True]
    score = CellScore(Doubling(), STRICT, cell)
    (entry,) = entries(score)
    assert (entry["row"], entry["rows"], bytes(score.lines)) == (None, None, b"")
    assert entry["reason"].startswith(failure("a.csv.gz", "cannot be decompressed: "))
    assert [each.given_up for each in score.accounts] == [cell.rows, 0]
    assert bool(score.accounts[1].problem)
    assert bytes(CellScore(Doubling(), PLAN, cell).lines).count(b"\n") == cell.rows


@pytest.mark.parametrize("plan", [STRICT, PLAN], ids=["strict", "not strict"])
def test_files_of_an_unknown_type_fail_alone(tmp_path, plan, capsys):
    """A file that nothing reads is named in Azure ML's words, and the others are scored (contract 4.2)."""
    (tmp_path / "a.avro").write_bytes(b"?")
    (tmp_path / "b.csv").write_bytes(b"n,x\n1,1\n")
    scores = list(cell_scores(Doubling(), plan, batch_of(tmp_path)))
    text = "Error processing input file: 'a.avro'. File type 'avro' is not supported"
    assert entries(scores[0]) == [{"file": "a.avro", "row": None, "rows": None, "reason": text}]
    assert (scores[0].failed, scores[0].accounts[0].problem, scores[0].causes) == (text, text, {text: 1})
    assert bytes(scores[1].lines) == b"0,2.0,b.csv\n"
    assert capsys.readouterr().err == f"ERROR:azureml:{text}\n"


def test_strictly_a_mini_batch_fails_when_all_its_files_did(tmp_path):
    """When every file failed so does the mini-batch, behind the last file; not when one did not (contract 4.2)."""
    (tmp_path / "a.csv").write_bytes(b"n,x\nodd,1\n")
    (tmp_path / "b.csv").write_bytes(b"n,x\n13,1\n")
    pieces = cell_scores(Doubling(), STRICT, batch_of(tmp_path))
    assert [next(pieces).accounts[0].given_up, next(pieces).accounts[0].given_up] == [1, 1]
    with pytest.raises(ValueError, match="No objects to concatenate") as raised:
        next(pieces)
    assert str(raised.value) == "No objects to concatenate"
    assert raised.value.__notes__ == [
        failure("a.csv", "invalid literal for int() with base 10: 'odd' (row 0, column 'n')"),
        failure("b.csv", "unlucky"),
    ]  # fmt: skip
    assert len(list(cell_scores(Doubling(), PLAN, batch_of(tmp_path, include=("a.csv",))))) == 1
    (tmp_path / "c.csv").write_bytes(b"n,x\n")
    assert len(list(cell_scores(Doubling(), STRICT, batch_of(tmp_path)))) == 3


@pytest.mark.parametrize("plan", [STRICT, PLAN], ids=["strict", "not strict"])
def test_files_of_every_format(tmp_path, plan):
    """Tables and images beside each other are scored each in its way."""
    (tmp_path / "a.csv").write_bytes(b"n,x\n1,1\n2,2\n")
    pq.write_table(pa.table({"n": [1], "x": [0.5]}), tmp_path / "b.parquet")
    PIL.Image.new("L", (4, 3)).save(tmp_path / "c.png")
    (tmp_path / "d.gif").write_bytes(b"no image")
    scores = scored(tmp_path, plan)
    assert (
        b"".join(bytes(score.lines) for score in scores) == b"0,2.0,a.csv\n1,4.0,a.csv\n0,1.0,b.parquet\n0,12,c.png\n"
    )
    assert [sum(each.given_up for each in score.accounts) for score in scores] == [0, 0, 0, 1]
    reason = "cannot be read as an image: no format is recognised"
    assert entries(scores[3])[0]["reason"] == (failure("d.gif", reason) if plan.strict else reason)


def test_columns_that_only_a_later_file_can_tell(tmp_path):
    """Where the first file of the input was an image, a table tells its columns itself."""
    (tmp_path / "a.csv").write_bytes(b"x,n\n1,1\n")
    (score,) = scored(tmp_path, replace(PLAN, columns=()))
    assert bytes(score.lines) == b"0,2.0,a.csv\n"
