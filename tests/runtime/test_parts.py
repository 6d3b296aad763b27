"""Parts, and the keys that say all a resume needs to know."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime.disk_abilities import DiskAbilities
from runtime.parts import (
    ACCOUNT,
    KEY_LENGTH,
    QUARANTINE,
    LocalParts,
    PartKey,
    account_bytes,
    is_whole,
    read_account,
)  # fmt: skip
from scoring.cells import SliceAccount

NAMES = st.text(max_size=20).map(lambda text: os.fsdecode(text.encode("utf-8", "replace")))


def _bytes(width: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=width, max_size=width)


def _number(width: int) -> st.SearchStrategy[int]:
    return st.integers(0, 256**width - 1)


KEYS = st.builds(
    PartKey,
    fingerprint=_bytes(6), name_digest=_bytes(4), start=_number(5), length=_number(5), rows=_number(4),
    lines=_number(4), identity=_bytes(4), input_digest=_bytes(8), crc=_number(4), nonce=_bytes(3),
    quarantine=st.booleans(), account=st.booleans(), unscored=st.booleans(),
)  # fmt: skip

ACCOUNTS = st.builds(
    SliceAccount,
    name=NAMES, start=_number(5), stop=_number(5), digest=_bytes(8), rows=_number(4),
    quarantined=_number(4), given_up=_number(4), problem=st.text(max_size=20),
)  # fmt: skip


@given(KEYS)
def test_key_says_what_was_put_in(key: PartKey) -> None:
    """A key is 64 characters that any file system takes, and is read back as it was."""
    text = key.encode()
    assert len(text) == KEY_LENGTH
    assert text.replace("-", "").replace("_", "").isalnum()
    assert key == PartKey.decode(text)


@given(KEYS.map(PartKey.encode), st.integers(0, KEY_LENGTH - 1), st.characters())
@example("B" * 64, 0, "!")
def test_key_with_another_character_is_another_key_or_none(text: str, place: int, character: str) -> None:
    """What is read as a key is written as the very same text."""
    changed = text[:place] + character + text[place + 1 :]
    key = PartKey.decode(changed)
    assert key is None or key.encode() == changed


@given(st.text(max_size=80))
@example("")
@example("=" * 64)
@example("A" * 64)
@example("\u00e4" * 64)
@example("F" + "=" * 63)
@example("Fw" * 30 + "!!!!")
def test_junk_is_no_key(text: str) -> None:
    """Whatever lies among the parts, it raises nothing, and is a key only if it is one."""
    key = PartKey.decode(text)
    assert key is None or key.encode() == text


@given(st.lists(ACCOUNTS, max_size=4), st.dictionaries(st.text(max_size=10), _number(4), max_size=3))
def test_account_is_read_back(accounts: list[SliceAccount], causes: dict[str, int]) -> None:
    """What became of the rows of a part is read back as it was written."""
    assert (tuple(accounts), tuple(causes.items())) == read_account(account_bytes(accounts, causes.items()))


def test_account_keeps_names_that_are_no_text(tmp_path: Path) -> None:
    """A file name of bytes that are no UTF-8 comes back as the same name."""
    name = os.fsdecode(b"caf\xe9.csv")
    account = SliceAccount(name=name, start=0, stop=1, digest=bytes(8), rows=1)
    (tmp_path / "account").write_bytes(account_bytes([account], ()))
    (found,), _ = read_account((tmp_path / "account").read_bytes())
    assert name == found.name


def _key(**changes: Any) -> str:
    values: dict[str, Any] = {
        "fingerprint": bytes(6), "name_digest": bytes(4), "start": 0, "length": 9, "rows": 1, "lines": 1,
        "identity": bytes(4), "input_digest": bytes(8), "crc": 0, "nonce": bytes(3),
    }  # fmt: skip
    return PartKey(**{**values, **changes}).encode()


def test_part_is_seen_when_it_is_whole(tmp_path: Path) -> None:
    """While a part is written nothing has its name; then its quarantine and its account are there with it."""
    key = _key(quarantine=True, account=True)
    writer = LocalParts(str(tmp_path)).begin()
    writer.write(b"0,1,a.csv\n")
    writer.write(memoryview(b"1,0,a.csv\n"))
    assert [path.name[0] for path in tmp_path.iterdir()] == ["."]
    writer.commit(key, quarantine=b"{}\n", account=b"[]")
    assert sorted([key, key + QUARANTINE, key + ACCOUNT]) == sorted(path.name for path in tmp_path.iterdir())
    assert (tmp_path / key).read_bytes() == b"0,1,a.csv\n1,0,a.csv\n"


def test_part_without_scores_is_its_quarantine(tmp_path: Path) -> None:
    """Nothing of zero bytes is staged."""
    key = _key(quarantine=True, unscored=True)
    LocalParts(str(tmp_path)).begin().commit(key, quarantine=b"{}\n", account=b"")
    assert [path.name for path in tmp_path.iterdir()] == [key + QUARANTINE]


def test_part_given_up_leaves_nothing(tmp_path: Path) -> None:
    """An attempt that fails takes its bytes with it."""
    writer = LocalParts(str(tmp_path)).begin()
    writer.write(b"0,1,a.csv\n")
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_two_attempts_have_two_names(tmp_path: Path) -> None:
    """A late write of one attempt never stands for another's."""
    parts = LocalParts(str(tmp_path))
    writers = [parts.begin() for _ in range(20)]
    assert len({writer.nonce for writer in writers}) == 20
    for writer in writers:
        writer.abort()


def test_late_orphan_cannot_stage(tmp_path: Path) -> None:
    """Staging never makes its folder: where the driver has removed it, it fails."""
    folder = tmp_path / "parts"
    with pytest.raises(FileNotFoundError):
        LocalParts(str(folder)).begin()
    assert not folder.exists()


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _swap(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])


@pytest.mark.parametrize("damage", [_cut, _zero, _swap, os.unlink])
@pytest.mark.parametrize("suffix", ["", QUARANTINE, ACCOUNT])
@pytest.mark.parametrize("renames", [True, False])
@pytest.mark.parametrize("scored", [True, False])
def test_part_is_whole_with_all_that_goes_with_it(
    tmp_path: Path, renames: bool, scored: bool, suffix: str, damage: Callable[[Path], object]
) -> None:
    """Scores, quarantine or account that the machine lost when it went down: each makes the part one to do again."""
    lines, lost = b"0,1,a.csv\n" * scored, b'{"row": 7}\n' * 3
    text = _key(quarantine=True, account=True, unscored=not scored, crc=zlib.crc32(lines))
    key = PartKey.decode(text)
    assert key is not None
    writer = LocalParts(str(tmp_path), DiskAbilities(renames=renames)).begin()
    writer.write(lines)
    accounts = [SliceAccount(name="a.csv", start=0, stop=1, digest=bytes(8), rows=4, quarantined=3)]
    writer.commit(text, quarantine=lost, account=account_bytes(accounts, [("why", 3)], lost))
    assert is_whole(tmp_path, text, key)
    if scored or suffix:
        damage(tmp_path / (text + suffix))
        assert not is_whole(tmp_path, text, key)
