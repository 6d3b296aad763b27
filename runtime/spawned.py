"""A worker in a fresh process, where there is no safe fork server."""

from __future__ import annotations

import sys

from runtime.forkserver import start_worker
from scoring.lifetime import die_with_parent

if __name__ == "__main__":
    die_with_parent(int(sys.argv[3]))
    start_worker(int(sys.argv[1]), int(sys.argv[2]))
