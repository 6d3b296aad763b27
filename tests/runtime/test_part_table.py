"""What is staged, by its place in the plan, wherever it is kept."""

from __future__ import annotations

import random
import resource
import tracemalloc
from base64 import urlsafe_b64encode

import pytest

from runtime import part_table
from runtime.part_table import PartTable


def key_of(number: int) -> str:
    """Make a key such as parts have."""
    return urlsafe_b64encode(random.Random(number).randbytes(48)).decode()


def some_parts(count: int) -> dict[int, tuple[str, int]]:
    """Make parts in the order in which workers stage them, with gaps: keys, none, and what is no key."""
    parts = {number: (key_of(number), 2**33 + number) for number in range(count) if number % 7 != 3}
    parts |= {4: ("", 0), 8: ("key 8", 100), 12: ("x" * 63 + "=", 1)}
    numbers = [*parts]
    random.Random(0).shuffle(numbers)
    return {number: parts[number] for number in numbers}


@pytest.mark.parametrize("kept", [0, 10, 2_500, 20_000])
def test_parts_are_found_again(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table is a dict of its parts, in the order of the plan, whether in memory or in a file."""
    monkeypatch.setattr(part_table, "_KEPT", kept)
    parts, table = some_parts(3_000), PartTable()
    for number, part in parts.items():
        table[number] = part
        assert table[number] == part
    assert (len(table), [*table], dict(table)) == (len(parts), sorted(parts), parts)
    assert [number in table for number in (-1, 3, 4, 2_998, 2_999, 3_000)] == [False, False, True, True, False, False]
    for missing in (-1, 3, 3_000):
        with pytest.raises(KeyError):
            table[missing]


@pytest.mark.parametrize("kept", [0, 10])
def test_last_part_of_a_place_counts(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that is staged again has its new part, and is counted once."""
    monkeypatch.setattr(part_table, "_KEPT", kept)
    table = PartTable()
    for part in (("key", 1), (key_of(0), 2), ("", 0), ("another", 3), (key_of(1), 4)):
        table[5] = part
        assert dict(table) == {5: part}


def test_full_disk_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What finds no room in the file is kept in memory, and so is what was in the file."""
    monkeypatch.setattr(part_table, "_KEPT", 10)
    parts, table = some_parts(300), PartTable()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # in the midst of a record, which is written in part
    resource.setrlimit(resource.RLIMIT_FSIZE, (57 * 100 + 20, hard))
    try:
        for number, part in sorted(parts.items()):
            table[number] = part
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert dict(table) == parts


def test_memory_does_not_grow_with_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the parts that automatic planning makes, nothing of them is kept in memory."""
    monkeypatch.setattr(part_table, "_KEPT", 1_000)
    table = PartTable()
    for number in range(1_000):
        table[number] = (key_of(0), 100)
    tracemalloc.start()
    for number in range(1_000, 10_000):
        table[number] = (key_of(0), 100)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(table) == 10_000
    assert grown < 50_000
