"""What the driver and the scanner say to each other about the one pass over the input.

driver                          scanner
  ── InputSpec, Begin ───────────▶  list, choose or take the grid
  ◀── Listing, Grid ───────────────
  ◀── Cell, StagedCells, … ────────  scan, group, match what is staged, fill the spool
  ◀── ScanEnd (or Refused) ────────
"""

from __future__ import annotations

from dataclasses import dataclass, field

from scoring.cells import Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedCover:
    """What one staged part covers, read from its key."""

    key: str
    name_digest: bytes
    start: int
    length: int
    rows: int
    identity: bytes
    input_digest: bytes
    lines: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """The driver's order to scan.

    Attributes:
        cell_rows: the grid: -1 chooses it, 0 makes one cell of each file.
        staged: parts that may be used again.
        steady: whether all of them were made of the very listing that this scanner sent.
        limit_rows: stop after so many rows; 0 reads all.
        spool: folder for decoded slices, of its own.
        spool_bytes: how much may lie there.
        spool_cells: how many of them the driver may have there, however large: what it waits for all at once.
    """

    cell_rows: int = -1
    staged: tuple[StagedCover, ...] = ()
    steady: bool = False
    limit_rows: int = 0
    spool: str = ""
    spool_bytes: int = 0
    spool_cells: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The grid, and what it follows from.

    Attributes:
        cell_rows: rows of a cell; 0: a file each.
        estimated_rows: rows the input is thought to have.
        bytes_per_row: decoded bytes of a row, as far as it was looked at; 0 where none was.
    """

    cell_rows: int
    estimated_rows: int
    bytes_per_row: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedCells:
    """Consecutive cells whose scores are staged already, under this key."""

    key: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanEnd:
    """The input was read to its end."""

    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The input cannot be scored; the text says why.

    Attributes:
        reason: a sentence.
        later: whether it may be tried again as it is.
    """

    reason: str
    later: bool = False
