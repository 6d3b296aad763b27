"""Who may import whom, read from the source and seen in a fresh process."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("runtime", "scoring")

# What the driver must never load: these belong in workers.
HEAVY = frozenset({"mlflow", "numpy", "pandas", "pyarrow", "ray", "sklearn"})

# The modules that become or hold a worker: these may load any of scoring, and only inside functions.
WORKER_SIDE = frozenset({"runtime.engines.inline", "runtime.worker"})

# The homes of foreign libraries in the driver, one or two each. Add a module here only with a reason.
HOMES = {
    "click": {"runtime.cli", "runtime.variables"},
    "fsspec": {"runtime.store_parts"},
    "rich": {"runtime.display"},
    "yaml": {"runtime.model", "runtime.deployment_yaml"},
}

# Names that say nothing about what is inside.
EMPTY_NAMES = frozenset(
    {"base", "common", "core", "helper", "helpers", "manager", "managers", "misc", "types", "util", "utils"}
)

# Put together from pieces, so that this file does not find itself.
HOSTS_AND_PATHS = re.compile(
    rf"(pypi|pythonhosted)\.{'org'}|npmjs\.{'(org|com)'}|(?<![\w.~-])/(work|root|tmp/v|home/\w+|opt/wheels){'/'}"
)


def top(name: str) -> str:
    """Return the package a dotted name belongs to."""
    return name.partition(".")[0]


def module_paths() -> dict[str, Path]:
    """Return the file of every module of both packages."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


MODULES = module_paths()
DRIVER = sorted(name for name in MODULES if top(name) == "runtime")
SCORING = sorted(name for name in MODULES if top(name) == "scoring")


@pytest.mark.parametrize("module", SCORING)
def test_scoring_never_imports_runtime(module: str) -> None:
    """A worker knows nothing of the driver."""
    assert {name for name in imports(module) if top(name) == "runtime"} == set()


@pytest.mark.parametrize("module", DRIVER)
def test_runtime_never_imports_heavy_libraries(module: str) -> None:
    """No module of the driver names a library that belongs in workers, not even inside a function."""
    assert {name for name in imports(module) if top(name) in HEAVY} == set()


@pytest.mark.parametrize("module", DRIVER)
def test_runtime_imports_only_light_scoring(module: str) -> None:
    """What the driver takes from scoring loads no heavy library; the worker side may load the rest, when it runs."""
    named = imports(module, at_start_only=True) if module in WORKER_SIDE else imports(module)
    heavy = {name: sorted(loaded(name) & HEAVY) for name in named if top(name) == "scoring"}
    assert {name: libraries for name, libraries in heavy.items() if libraries} == {}


@pytest.mark.parametrize("library", HOMES)
def test_foreign_library_stays_at_home(library: str) -> None:
    """A foreign library is known to the one or two modules that hide it."""
    assert len(HOMES[library]) <= 2
    users = {module for module in DRIVER if any(top(name) == library for name in imports(module))}
    assert users - HOMES[library] == set()


@pytest.mark.parametrize(
    "statement",
    [
        "import runtime, runtime.cli",
        "from runtime import run",
        pytest.param("import " + ", ".join(DRIVER), id="import every module of runtime"),
    ],
)
def test_fresh_driver_has_no_heavy_library(statement: str) -> None:
    """A driver process that has just started has loaded nothing that belongs in workers."""
    show = f"{statement}; import sys; print(*sorted(sys.modules.keys() & set({sorted(HEAVY)})))"
    fresh = subprocess.run([sys.executable, "-c", show], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (fresh.stdout.split(), fresh.stderr) == ([], "")


def test_runtime_exports_exactly_its_public_names() -> None:
    """The names of the Python interface are pinned."""
    import runtime

    assert sorted(runtime.__all__) == ["__version__", "run", "validate"]
    assert callable(runtime.run)
    assert callable(runtime.validate)


@pytest.mark.parametrize("module", MODULES)
def test_module_name_says_what_is_inside(module: str) -> None:
    """No module is called utils, common or the like."""
    assert set(module.split(".")) & EMPTY_NAMES == set()


def test_tracked_files_name_no_registry_and_no_machine() -> None:
    """Nothing in the repository points at a package registry or at a folder of somebody's machine."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    found = []
    for path in (ROOT / name for name in listed.stdout.decode().split("\0") if name):
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in HOSTS_AND_PATHS.finditer(text)]
    assert found == []


@cache
def imports(module: str, *, at_start_only: bool = False) -> frozenset[str]:
    """Return the dotted names a module imports; of `from a import b` both `a` and `a.b`.

    Args:
        module: a module of this repository.
        at_start_only: leave out what is imported inside functions or for type checkers only.
    """
    path = MODULES[module]
    tree = ast.parse(path.read_text(), str(path))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in _run_at_start(tree) if at_start_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*parents, *([node.module] if node.module else [])])
            found |= {source, *(f"{source}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def _run_at_start(node: ast.AST) -> Iterator[ast.AST]:
    """Walk what runs when a module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _run_at_start(child)


def loaded(name: str) -> set[str]:
    """Return the packages in memory after importing a module of this repository, and its own modules."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        dotted = waiting.pop()
        # The packages above it are imported first; a name inside a module is none of them.
        for module in (dotted.rsplit(".", level)[0] for level in range(dotted.count(".") + 1)):
            if module in MODULES and module not in seen:
                seen.add(module)
                waiting += imports(module, at_start_only=True)
        if top(dotted) not in PACKAGES:
            seen.add(top(dotted))
    return seen
