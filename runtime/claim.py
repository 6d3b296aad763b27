"""The claim of one driver on an output: a lock of the kernel, or a file of its own where there are no such locks.

A lock ends with its process, wherever that ran. The file says who made it: on the same machine one looks whether that
process lives; of one on another machine only the time is known at which it renewed its claim.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from runtime.disk import create_new, write_all, write_over
from runtime.disk_abilities import REFUSED
from runtime.errors import OutputBusyError
from runtime.holder import described, is_dead, runs_here, this_process

__all__ = ["CLAIM", "LOCK", "Claim"]

LOCK = "lock"
CLAIM = "claim"
RENEW_S = 10.0
STALE_S = 120.0
"""More than the clocks of two machines, and what a mount remembers of a file, are apart."""
SETTLE_S = 0.1
_REMOVED_LATER = (".nfs", ".fuse_hidden")


class Claim:
    """The hold on an output.

    Args:
        output: the score file, for messages.
        staging: its staging folder.

    Attributes:
        locked: whether the kernel holds it.
        notices: what a person should be told of how it was had.
        lost: whether another driver was seen to have it, where no kernel holds it.
    """

    def __init__(self, output: Path, staging: Path) -> None:
        self.locked = True
        self.lost = False
        self.notices: list[str] = []
        self._output = output
        self._staging = staging
        self._lock: int | None = None
        self._mine = b""
        self._stopped = threading.Event()
        self._renewing: threading.Thread | None = None

    def take(self) -> None:
        """Become the one driver of this output; the staging folder is made.

        Raises:
            OutputBusyError: another driver holds it.
            OSError: the folder cannot be written.
        """
        while True:
            self._staging.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                # a driver that ends removes the folder
                self._lock = self._locked()
                self._look_at_other()
                if self._lock is None:
                    self.locked = False
                    self._take_file()
                return

    def _locked(self) -> int | None:
        """Lock the file; None where there are no locks."""
        path = self._staging / LOCK
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno not in REFUSED:
                raise
            return None
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._busy(os.pread(lock, 4096, 0)) from None
            except OSError as error:
                if error.errno not in REFUSED:
                    raise
                os.close(lock)
                return None
            _check_same(lock, path)
            # it is for the message alone that the other driver gets
            with suppress(OSError):
                os.ftruncate(lock, 0)
                os.pwrite(lock, this_process(), 0)
        except BaseException:
            with suppress(OSError):
                os.close(lock)
            raise
        return lock

    def _look_at_other(self) -> None:
        """See whether a driver holds the output in the other way: it may see the same files differently."""
        if self._lock is None:
            with suppress(FileNotFoundError):
                holder = (self._staging / LOCK).read_bytes()
                if runs_here(holder):
                    raise self._busy(holder)
            return
        try:
            while self._is_held():
                pass
        except BaseException:
            self._unlock()
            raise

    def _take_file(self) -> None:
        path = self._staging / CLAIM
        self._mine = json.dumps({**json.loads(this_process()), "nonce": os.urandom(8).hex()}).encode()
        while True:
            try:
                descriptor = create_new(path)
            except FileExistsError:
                self._is_held()
                continue
            try:
                # where creating does not tell that it was there, its content does
                if os.fstat(descriptor).st_size:
                    self._is_held()
                    continue
                write_all(descriptor, self._mine)
            finally:
                os.close(descriptor)
            break
        # two may have seen the same dead holder, or a disk that lets both create the file: the last one has it
        time.sleep(SETTLE_S)
        self.check()
        self._renewing = threading.Thread(target=self._renew, name="claim", daemon=True)
        self._renewing.start()

    def _is_held(self) -> bool:
        """Remove the claim of a driver that is gone; False where there is none.

        Raises:
            OutputBusyError: it is not gone, as far as is known.
        """
        path = self._staging / CLAIM
        try:
            holder, renewed = path.read_bytes(), path.stat().st_mtime
        except FileNotFoundError:
            return False
        if runs_here(holder):
            raise self._busy(holder)
        if not is_dead(holder):
            still_s = self._now() - renewed
            if still_s < STALE_S:
                raise self._busy(holder, f"; if it is gone, try again in {STALE_S - max(0.0, still_s):.0f} s")
            self.notices.append(
                f"{described(holder)} held this output and has not said so for {still_s:,.0f} s: taken over from it"
            )
        path.unlink(missing_ok=True)
        return True

    def _now(self) -> float:
        """Return the time as the file system gives it to files: its clock may not be ours."""
        path = self._staging / f"probe-{os.getpid()}-{os.urandom(3).hex()}"
        try:
            with open(path, "wb") as file:
                file.write(b"1")
            return path.stat().st_mtime
        finally:
            path.unlink(missing_ok=True)

    def _renew(self) -> None:
        path = self._staging / CLAIM
        while not self._stopped.wait(RENEW_S):
            with suppress(OSError):
                try:
                    self.check()
                except OutputBusyError:
                    self.lost = True
                    return
                try:
                    os.utime(path)
                except OSError:
                    write_over(path, self._mine)

    def check(self) -> None:
        """See that the claim is still there.

        Raises:
            OutputBusyError: another driver has it by now, or what is staged was removed.
            OSError: it cannot be read.
        """
        path = self._staging / (LOCK if self.locked else CLAIM)
        with suppress(FileNotFoundError):
            if self._lock is None:
                if path.read_bytes() == self._mine:
                    return
            else:
                _check_same(self._lock, path)
                return
        if not path.exists():
            raise OutputBusyError(
                f"{self._output}: what is staged in {self._staging.name} was removed while the job ran: by another "
                "driver that completed it, or by a scoring script that emptied AZUREML_BI_OUTPUT_PATH"
            )
        raise OutputBusyError(f"{self._output}: another driver took this output over; it goes on with what is staged")

    def release(self) -> None:
        """Give the output up."""
        self._stopped.set()
        if self._renewing is not None:
            self._renewing.join()
            self._renewing = None
            with suppress(OSError):
                path = self._staging / CLAIM
                if path.read_bytes() == self._mine:
                    path.unlink()
        self._unlock()

    def remove(self) -> None:
        """Give the output up, and remove the staging folder, of which the claim is all that is left."""
        lock = self._staging / LOCK
        removed = True
        try:
            # while it is held: afterwards it may be another driver's
            lock.unlink(missing_ok=True)
        except OSError:
            removed = False
        self.release()
        if not removed:
            # not all systems remove a file that is open
            with suppress(OSError):
                os.unlink(lock)
        for _ in range(20):
            with suppress(OSError):
                self._staging.rmdir()
                return
            if not any(name.startswith(_REMOVED_LATER) for name in _names(self._staging)):
                return
            # what stands for an open file goes a moment after it is closed
            time.sleep(0.02)

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _busy(self, holder: bytes, hint: str = "") -> OutputBusyError:
        return OutputBusyError(f"{self._output}: another driver holds this output ({described(holder)}){hint}")


def _check_same(lock: int, path: Path) -> None:
    """See that the name still stands for the open file: a driver that ended may have removed it between.

    Raises:
        FileNotFoundError: it does not.
    """
    if not os.path.samestat(os.fstat(lock), os.stat(path)):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
