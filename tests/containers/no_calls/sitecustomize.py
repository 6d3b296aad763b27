"""Every Python process that finds this on its path notes whom it would call, in the file SCORELINE_TEST_CALLS."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

CALLS = os.environ.get("SCORELINE_TEST_CALLS")


def note(event: str, arguments: tuple[Any, ...]) -> None:
    """Write a line for a name that is looked up, or an address that is called."""
    if event == "socket.connect" and arguments[0].family == socket.AF_UNIX:
        return
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        assert CALLS is not None
        with open(CALLS, "a", encoding="utf-8") as file:
            file.write(f"{event} {arguments[1:] if event == 'socket.connect' else arguments} by {sys.argv}\n")


if CALLS:
    sys.addaudithook(note)
