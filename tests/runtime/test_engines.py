"""Every engine keeps the contract of engines."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import pytest

from runtime.engines import Engine, Ready
from runtime.engines.inline import InlineEngine
from runtime.engines.local import LocalEngine
from runtime.forkserver import ForkServer
from tests.engine_contract import *  # noqa: F403 (the suite)
from tests.engine_contract import Hire, Hired
from tests.thorough import usual

CRASHES = [
    ("exit", "exit code 3"),
    ("segv", "SIGSEGV"),
    ("kill", "SIGKILL, likely out of memory"),
    ("abort", "SIGABRT"),
]


def inline(model: Path, log: IO[bytes], **_: Any) -> Engine:  # noqa: ARG001 (as all)
    """Begin an engine in this process."""
    return InlineEngine()


def forkserver(model: Path, log: IO[bytes], *, workers: int = 2) -> Engine:
    """Begin an engine whose workers are forked."""
    return LocalEngine(workers, threads=1, log=log, server=ForkServer(str(model), threads=1, log=log))


def spawn(model: Path, log: IO[bytes], *, workers: int = 2) -> Engine:  # noqa: ARG001 (as all)
    """Begin an engine whose workers are fresh processes."""
    return LocalEngine(workers, threads=1, log=log, server=None)


@pytest.fixture(scope="module")
def hiring(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[..., Engine], ExitStack], Hire]:
    """Return a function that makes a function that hires, closing all when a stack does."""

    def bound(begin: Callable[..., Engine], stack: ExitStack) -> Hire:
        def hire(model: Path, **options: Any) -> Hired:
            log = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (the stack closes it)
            engine = begin(model, log, **options)
            stack.callback(engine.close)
            hired = Hired(engine=engine, folder=tmp_path_factory.mktemp("engine"), log=log)
            hired.start(model)
            return hired

        return hire

    return bound


@pytest.fixture(scope="module", params=[inline, forkserver, spawn], ids=lambda each: each.__name__)
def engine(request: pytest.FixtureRequest, hiring: Any, models: Path) -> Iterator[Hired]:
    """Return an engine of each kind, ready with the model `by_row`, that no test may break."""
    with ExitStack() as stack:
        hired = hiring(request.param, stack)(models / "by_row", workers=1)
        hired.ready = hired.events(*[Ready] * hired.engine.workers)
        yield hired


@pytest.fixture(params=[inline, forkserver, spawn], ids=lambda each: each.__name__)
def any_hire(request: pytest.FixtureRequest, hiring: Any) -> Iterator[Hire]:
    """Return a function that hires workers of each kind."""
    with ExitStack() as stack:
        yield hiring(request.param, stack)


@pytest.fixture(params=[forkserver, spawn], ids=lambda each: each.__name__)
def hire(request: pytest.FixtureRequest, hiring: Any) -> Iterator[Hire]:
    """Return a function that hires workers which are processes."""
    with ExitStack() as stack:
        yield hiring(request.param, stack)


@pytest.fixture(params=usual([forkserver, spawn], seldom=[spawn]), ids=lambda each: each.__name__)
def some_hire(request: pytest.FixtureRequest, hiring: Any) -> Iterator[Hire]:
    """Return a function that hires workers which are processes, mostly those of a fork server."""
    with ExitStack() as stack:
        yield hiring(request.param, stack)


@pytest.fixture
def crashes(request: pytest.FixtureRequest) -> list[tuple[str, str]]:
    """Return what kills a worker, and what is told of it; a fresh process costs seconds, so only some then."""
    return CRASHES if request.node.callspec.params["hire"] is forkserver else CRASHES[1:3]


@pytest.fixture
def forking(hiring: Any) -> Iterator[Hire]:
    """Return a function that hires workers from a fork server."""
    with ExitStack() as stack:
        yield hiring(forkserver, stack)
