"""Which parts of the input need not be read again, because their scores are staged: decided without reading.

A staged part says where it begins, how many bytes it covers and which files these are (`StagedCover`). Where offsets in
slices are offsets in files, that tells where it ends. It stands for its cells where the grid surely has borders at both
ends. Borders inside a large file, and around files that are a row each, follow from the file alone. Which small files
are scored together depends on their neighbours: there a part is trusted only while the listing is the one that all
staged parts were made of. Everything else is read, and compared (`scoring.scanner`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scoring.cells import TABLES, Cell, InputFile, Slice, identity_digest, is_small, name_digest
from scoring.files import HEAD_BYTES, is_compressed
from scoring.remote_streams import Piece
from scoring.rows import Dialect
from scoring.scan import StagedCells, StagedCover

__all__ = ["Span", "Step", "covered_cells", "find_spans", "steps_of"]


@dataclass(frozen=True, slots=True)
class Span:
    """A staged part and the pieces of files it covers, in plan order."""

    cover: StagedCover
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """What is done with some bytes of a file.

    Attributes:
        kind: skip: they are staged; head: look for the header; count: rows and lines; read: cut them into slices.
        piece: which bytes.
        span: the part that covers them, where they are staged.
    """

    kind: Literal["skip", "head", "count", "read"]
    piece: Piece
    span: Span | None = None


def find_spans(
    files: Sequence[InputFile], covers: Sequence[StagedCover], dialect: Dialect, cell_rows: int, *, steady: bool
) -> list[Span]:
    """Find what is staged, in plan order, none of it twice.

    Args:
        files: the listing.
        covers: what is staged.
        dialect: how CSV files are written.
        cell_rows: the grid.
        steady: whether all of it was made of this very listing.
    """
    by_place: dict[tuple[bytes, int], list[StagedCover]] = {}
    starts: dict[bytes, list[int]] = {}
    for cover in covers:
        places = by_place.setdefault((cover.name_digest, cover.start), [])
        if not places:
            starts.setdefault(cover.name_digest, []).append(cover.start)
        places.append(cover)
    for each in starts.values():
        each.sort()
    spans: list[Span] = []
    index = position = 0
    while starts and index < len(files):
        digest = name_digest(files[index].name)
        for start in starts.get(digest, ()):
            if start < position:
                continue
            span = next(filter(None, (
                _span(files, index, cover, dialect, cell_rows, steady=steady) for cover in by_place[digest, start]
            )), None)  # fmt: skip
            if span is None:
                continue
            spans.append(span)
            last = span.pieces[-1]
            if last.file != index:
                break
            position = last.stop
        last_file, stop = (spans[-1].pieces[-1].file, spans[-1].pieces[-1].stop) if spans else (index, 0)
        if last_file > index and stop < files[last_file].size_bytes:
            index, position = last_file, stop
        else:
            index, position = max(last_file, index) + 1, 0
    return spans


def _span(
    files: Sequence[InputFile], index: int, cover: StagedCover, dialect: Dialect, cell_rows: int, *, steady: bool
) -> Span | None:
    pieces: list[Piece] = []
    start, left = cover.start, cover.length
    for number in range(index, len(files)):
        file = files[number]
        # where the length is reached, files without a byte may follow
        if not _enterable(file, dialect) or start > file.size_bytes or (pieces and not left and file.size_bytes):
            return None
        piece = Piece(number, start, min(file.size_bytes, start + left))
        pieces.append(piece)
        start, left = 0, left - (piece.stop - piece.start)
        if not left and identity_digest(files[each.file] for each in pieces) == cover.identity:
            sure = steady or all(_is_sure(files[each.file], each, pieces, cover, cell_rows) for each in pieces)
            return Span(cover, tuple(pieces)) if sure and _is_whole(files, pieces, cover, cell_rows) else None
        if piece.stop < file.size_bytes:
            return None
    return None


def _enterable(file: InputFile, dialect: Dialect) -> bool:
    """Tell whether offsets in slices are those in the file."""
    return bool(file.format != "csv" or file.problem or (dialect.direct and not is_compressed(file.name)))


def _is_sure(file: InputFile, piece: Piece, pieces: Sequence[Piece], cover: StagedCover, cell_rows: int) -> bool:
    """Tell whether the grid has borders around this piece, whatever its neighbours are."""
    if file.format not in TABLES or piece.start > 0 or piece.stop < file.size_bytes:
        return True
    return len(pieces) == 1 and not is_small(cover.rows, cell_rows)


def _is_whole(files: Sequence[InputFile], pieces: Sequence[Piece], cover: StagedCover, cell_rows: int) -> bool:
    """Tell whether the rows can be whole cells."""
    if len(pieces) > 1 or files[pieces[0].file].format != "csv" or not cell_rows:
        return True
    return pieces[0].stop == files[pieces[0].file].size_bytes or cover.rows % cell_rows == 0


def steps_of(files: Sequence[InputFile], spans: Sequence[Span]) -> Iterator[list[Step]]:
    """Say what is done with each file, in order; together the steps that skip and read cover it once."""
    number = 0
    pending: list[tuple[Piece, Span]] = []
    for index, file in enumerate(files):
        while number < len(spans) and spans[number].pieces[0].file == index:
            pending += [(piece, spans[number]) for piece in spans[number].pieces]
            number += 1
        here = [(piece, span) for piece, span in pending if piece.file == index]
        pending = pending[len(here) :]
        steps: list[Step] = []
        position = 0
        for piece, span in here:
            if piece.start > position:
                steps.append(Step("read", Piece(index, position, piece.start)))
            steps.append(Step("skip", piece, span))
            position = piece.stop
        if position < file.size_bytes or not here:
            steps.append(Step("read", Piece(index, position, file.size_bytes)))
        yield list(_with_heads(file, steps))


def _with_heads(file: InputFile, steps: list[Step]) -> Iterator[Step]:
    """Add what must be known of a CSV file before it is read from somewhere inside."""
    reads = [number for number, step in enumerate(steps) if step.kind == "read"]
    last_read = reads[-1] if reads else -1
    known = file.format != "csv"
    for number, step in enumerate(steps):
        piece = step.piece
        if step.kind == "read" and not known:
            if piece.start:
                yield Step("head", Piece(piece.file, 0, min(HEAD_BYTES, file.size_bytes)))
            known = True
        yield step
        if step.span is not None and len(step.span.pieces) > 1 and number < last_read and file.format == "csv":
            # how many of its rows are of this file, the key does not say
            yield Step("count", Piece(piece.file, 0, piece.stop))
            known = True


def covered_cells(files: Sequence[InputFile], span: Span, cell_rows: int, row: int, line: int) -> StagedCells:
    """Make cells that stand for those covered: as many, as far as is known, with as many rows.

    How the rows of several tables are divided is not known here: their account says it, which is staged beside them.

    Args:
        files: the listing.
        span: the part.
        cell_rows: the grid.
        row: number of its first row, where it lies in one file.
        line: number of its first line.
    """
    cover = span.cover
    if all(files[piece.file].format not in TABLES for piece in span.pieces):
        parts = [_part(files, piece, rows=0 if files[piece.file].problem else 1) for piece in span.pieces]
        return StagedCells(key=cover.key, cells=tuple(Cell(slices=(part,)) for part in parts))
    first, *others = span.pieces
    if others or not cell_rows:
        part = replace(_part(files, first, rows=cover.rows), first_row=row, first_line=line, lines=cover.lines)
        rest = (_part(files, piece, rows=0) for piece in others)
        return StagedCells(key=cover.key, cells=(Cell(slices=(part, *rest)),))
    cells: list[Cell] = []
    for taken in range(0, max(1, cover.rows), cell_rows):
        # where the cells between begin is not known, only how many rows they have
        piece = first if not taken else replace(first, start=first.stop)
        part = _part(files, piece, rows=min(cell_rows, cover.rows - taken))
        lines = 0 if taken else cover.lines
        cells.append(Cell(slices=(replace(part, first_row=row + taken, first_line=line, lines=lines),)))
    return StagedCells(key=cover.key, cells=tuple(cells))


def _part(files: Sequence[InputFile], piece: Piece, *, rows: int) -> Slice:
    file = files[piece.file]
    known = "file" if file.format == "unknown" else file.format
    return Slice(
        file=piece.file, name=file.name, url=file.url, format=known, offset=piece.start, start=piece.start,
        stop=piece.stop, rows=rows,
    )  # fmt: skip
