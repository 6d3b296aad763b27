"""Any CSV text, read in every way, on any grid: what a worker stages is what the reference says."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engines import Ready, Score, Scored, Setup
from runtime.engines.inline import InlineEngine
from runtime.parts import ACCOUNT, QUARANTINE, LocalParts
from runtime.plan import Plan
from runtime.receipt import header_line
from scoring import reference, slices
from scoring.cells import InputFile, MiniBatch
from scoring.files import InputSpec, list_inputs
from scoring.reference import Column
from scoring.rows import Dialect
from scoring.scan import Begin, ScanEnd
from scoring.scanner import Scan
from scoring.specs import ColumnSpec, ReadPlan, ScorerSpec
from tests.csv_texts import PACKED, csv_files, examples, plain_csv_files, write_files
from tests.echo_model import echo
from tests.old_releases import save_code

SIGNATURES = [
    [Column(name="n", type="long"), Column(name="x", type="double"), Column(name="s", type="string")],
    [
        Column(name="i", type="integer"),
        Column(name="f", type="float", required=False),
        Column(name="b", type="boolean", required=False),
        Column(name="t", type="datetime"),
        Column(name="y", type="binary", required=False),
        Column(name="n", type="long", required=False),
    ],
    [Column(name="only", type="double")],
    [Column(name="only", type="string")],
]


@pytest.fixture(scope="module")
def echo_model(tmp_path_factory):
    """The folder of a model without a signature that answers with what it was given."""
    return save_code(tmp_path_factory.mktemp("models") / "echo", Path(__file__).with_name("echo_model.py"))


@dataclass(frozen=True, kw_only=True)
class Written:
    """What the parts of a job hold, put together as publishing does, and what the workers counted."""

    scores: bytes
    quarantine: list[dict]
    rows_read: int
    rows_scored: int


class Inline:
    """The way of rows through scanner, plan and worker, in this process, for one way of reading."""

    def __init__(self, model: Path, folder: Path, **options: object) -> None:
        """Load the model."""
        self.dialect = Dialect(**{name: options[name] for name in options if name not in ("keep", "date_format")})
        self.keep = options.get("keep", ())
        plan = ReadPlan(columns=(), dialect=self.dialect, keep=self.keep, date_format=options.get("date_format"))
        self.engine = InlineEngine()
        self.engine.start(
            Setup(
                scorer=ScorerSpec(model_path=str(model)),
                plan=plan,
                staging=LocalParts(str(folder)),
                fingerprint=b"\0" * 6,
            )
        )
        assert [type(event) for event in self.engine.wait(0)] == [Ready]
        self.folder = folder

    def score(self, root: Path, columns: list[Column], cell_rows: int, cells_per_batch: int) -> Written:
        """Score a folder of files."""
        files = list_inputs(InputSpec(url=str(root), recursive=True, dialect=self.dialect)).files
        wanted = tuple(ColumnSpec(name=column.name, type=column.type, required=column.required) for column in columns)
        scores, names = b"", ()
        quarantine = []
        accounts = []
        with tempfile.TemporaryDirectory() as spool:
            begin = Begin(cell_rows=cell_rows, spool=spool, spool_bytes=2**20)
            for batch in _batches(files, Scan(files, self.dialect, begin, cell_rows), cells_per_batch):
                self.engine.submit(Score(batch=batch, columns=wanted))
                (event,) = self.engine.wait(0)
                assert isinstance(event, Scored), event
                accounts += event.accounts
                names = names or event.columns
                scores += self._taken(event.key) if event.size_bytes else b""
                quarantine += [json.loads(line) for line in self._taken(event.key + QUARANTINE).splitlines()]
                self._taken(event.key + ACCOUNT)
        header = header_line(["row", *self.keep, *names, "file"]) if scores else b""
        lost = sum(account.quarantined + account.given_up for account in accounts)
        rows = sum(account.rows for account in accounts)
        return Written(scores=header + scores, quarantine=quarantine, rows_read=rows, rows_scored=rows - lost)

    def _taken(self, name: str) -> bytes:
        """Take a part, if there is one, out of the staging folder."""
        path = self.folder / name
        if not path.is_file():
            return b""
        data = path.read_bytes()
        path.unlink()
        return data


def _batches(files: Sequence[InputFile], scan: Scan, cells_per_batch: int) -> Iterator[MiniBatch]:
    plan = Plan(tuple(files), workers=1, cells_per_batch=cells_per_batch)
    for message in scan.run():
        plan.add(message)
    plan.add(ScanEnd(rows=scan.rows))
    while batch := plan.next():
        yield batch


READINGS = {
    "as it is": {},
    "semicolons": {"delimiter": ";"},
    "tabs": {"delimiter": "\t"},
    "latin-1": {"encoding": "latin-1"},
    "cp1252": {"encoding": "cp1252"},
    "utf-16": {"encoding": "utf-16"},
    "kept columns": {"keep": ("n", "note é")},
    "kept column of an odd name": {"keep": ('odd,"\r',)},
    "dates of our own": {"date_format": "%Y/%m/%d"},
    "no header": {"header": False},
}


@st.composite
def jobs(draw, *, delimiter=",", encoding="utf-8", header=True, **_):
    """A signature, files that are meant for it more or less, and how they are stored, cut and scanned."""
    columns = draw(st.sampled_from(SIGNATURES))
    files = csv_files(columns, delimiter=delimiter, header=header, min_files=1)
    if header:
        files = draw(st.sampled_from([files, files, plain_csv_files(columns, delimiter=delimiter)]))
    found = []
    for name, data in draw(files):
        extension = draw(st.sampled_from(["", "", "", *PACKED]))
        text = data if encoding != "utf-16" else data.decode("utf-8", "replace").encode("utf-16")
        found.append((name + extension, text, PACKED.get(extension, bytes)(text)))
    found.sort(key=lambda file: file[0].encode())
    cell_rows = draw(st.sampled_from([0, 1, 2, 3, 7, 16, 1000]))
    return columns, found, cell_rows, draw(st.integers(1, 4)), draw(st.sampled_from([1, 3, 10, 64, 2**22]))


@pytest.mark.parametrize("options", READINGS.values(), ids=READINGS.keys())
def test_any_text_is_scored_as_the_reference_does(options, echo_model, tmp_path):
    """Scores and quarantine of any files, however they are cut and handed out, are those of the reference."""
    inline = Inline(echo_model, tmp_path, **options)

    @examples(25)
    @given(jobs(**options))
    def scored_alike(drawn):
        columns, files, cell_rows, cells_per_batch, block_bytes = drawn
        named = {} if options.get("header", True) else {"input_columns": [column.name for column in columns]}
        expected = reference.score(
            [(name, data) for name, data, _ in files], columns, echo, cell_rows=cell_rows, **options, **named
        )
        with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
            patch.setattr(slices, "BLOCK_BYTES", block_bytes)
            write_files(Path(root), [(name, packed) for name, _, packed in files])
            inline.dialect = replace(inline.dialect, columns=tuple(named.get("input_columns", ())))
            written = inline.score(Path(root), columns, cell_rows, cells_per_batch)
        assert written.scores.decode() == expected.scores.decode()
        assert written.quarantine == expected.quarantine
        assert (written.rows_read, written.rows_scored) == (expected.rows_read, expected.rows_scored)
        assert list(tmp_path.iterdir()) == []

    scored_alike()
