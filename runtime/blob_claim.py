"""The claim of an output on Blob storage: a lease that ends by itself when its driver does.

It only tells early that there is another driver. What makes two drivers safe is that each publishes over the one
version it has seen: one that was frozen, lost its lease and wakes changes nothing any more.
"""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import replace

from runtime.blob_container import BlobContainer, BlobError
from runtime.errors import OutputBusyError
from runtime.holder import described, is_dead, this_process

__all__ = ["BlobClaim"]

LEASE_S = 15
RENEWAL_S = 5.0
TRIES = 20
PAUSE_S = 0.1
"""Others may come and go between two steps of a claim, but not for long."""
_GONE = {
    "BlobNotFound", "ResourceNotFound", "ContainerNotFound", "LeaseIdMismatchWithLeaseOperation",
    "LeaseNotPresentWithLeaseOperation", "LeaseIsBrokenAndCannotBeRenewed", "LeaseLost",
    "LeaseIsBreakingAndCannotBeAcquired", "LeaseAlreadyPresent",
}  # fmt: skip


class BlobClaim:
    """A lease on a small blob that says who holds it, renewed by a thread of its own.

    Args:
        container: of the output.
        path: of the blob.
        output: how the output is named to a person.

    Attributes:
        container: by which it is reached.
    """

    def __init__(self, container: BlobContainer, path: str, output: str) -> None:
        self.container = container
        self._path = path
        self._output = output
        self._lease = ""
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._lost = False

    @property
    def held(self) -> bool:
        """Whether it is held, as far as is known."""
        return bool(self._lease) and not self._lost

    def take(self) -> None:
        """Take it; from a process of this machine that has died, at once.

        Raises:
            OutputBusyError: another driver holds it.
            BlobError: storage fails.
        """
        lease = str(uuid.uuid4())
        mine = this_process()
        for number in range(TRIES):
            time.sleep(PAUSE_S if number else 0)
            self.container.write(self._path, mine, new=True)
            version = self.container.version(self._path)
            if version is None:
                # another driver came to its end
                continue
            if not self._leased(lease):
                self._break_dead(version.etag)
                continue
            # whoever read the text of before may break this lease, but only before this
            try:
                written = self.container.write(self._path, mine, lease=lease, etag=version.etag)
            except BlobError as error:
                if error.status != 412:
                    raise
                written = False
            if written and self._renewed(self.container, lease):
                break
        else:
            raise OutputBusyError(f"{self._output}: its claim could not be had in {TRIES} tries; run again")
        self._lease = lease
        self._lost = False
        self._ending.clear()
        self._thread = threading.Thread(target=self._renew, args=(lease,), name="scoreline-claim", daemon=True)
        self._thread.start()

    def hold(self) -> None:
        """Make sure that it is still held, before something changes.

        Raises:
            OutputBusyError: another driver has taken it.
            BlobError: storage fails.
        """
        if self.held and not self._renewed(self.container, self._lease):
            self._lost = True
        self.check()

    def check(self) -> None:
        """Look whether it is still held, as far as is known without asking storage.

        Raises:
            OutputBusyError: another driver has taken it.
        """
        if not self.held:
            raise OutputBusyError(
                f"{self._output}: this driver stood still, and another one took the output over; nothing was changed"
            )

    def end(self) -> None:
        """Give it up.

        Raises:
            BlobError: storage fails; the lease ends by itself.
        """
        self.stop()
        lease, self._lease = self._lease, ""
        if not lease or self._lost:
            return
        try:
            # what is left behind would name this process while the next one has not yet named itself
            self.container.delete(self._path, lease=lease)
        except BlobError as error:
            if error.code not in _GONE and error.status != 412:
                raise

    def stop(self) -> None:
        """Renew it no more."""
        self._ending.set()
        if self._thread is not None:
            # where storage stays away a request takes long, and changes nothing any more
            self._thread.join(1.0)
            self._thread = None

    def _leased(self, lease: str) -> bool:
        try:
            blob = self.container.blob(self._path)
            self.container.ask(self._path, lambda: blob.acquire_lease(LEASE_S, lease_id=lease))
        except BlobError as error:
            if error.code in _GONE:
                return False
            raise
        return True

    def _break_dead(self, etag: str) -> None:
        from azure.core import MatchConditions
        from azure.storage.blob import BlobLeaseClient

        text = self.container.read(self._path)
        if text is None:
            return
        if not is_dead(text):
            raise OutputBusyError(
                f"{self._output}: another driver holds this output ({described(text)}); "
                f"the claim of one that has died ends within {LEASE_S} seconds"
            )
        client = BlobLeaseClient(self.container.blob(self._path))
        try:
            self.container.ask(
                self._path,
                lambda: client.break_lease(0, etag=etag, match_condition=MatchConditions.IfNotModified),
            )
        except BlobError as error:
            if error.status not in (404, 409, 412):
                raise

    def _renewed(self, container: BlobContainer, lease: str) -> bool:
        from azure.storage.blob import BlobLeaseClient

        client = BlobLeaseClient(container.blob(self._path), lease_id=lease)
        try:
            container.ask(self._path, client.renew)
        except BlobError as error:
            if error.code in _GONE:
                return False
            raise
        return True

    def _renew(self, lease: str) -> None:
        # a client of its own, which gives up soon and is back before the lease ends
        container = BlobContainer(replace(self.container.access, patience=0))
        while not self._ending.wait(RENEWAL_S):
            try:
                if not self._renewed(container, lease):
                    self._lost = True
                    break
            except BlobError:
                # storage stays away: whoever needs it will say so
                continue
        container.close()
