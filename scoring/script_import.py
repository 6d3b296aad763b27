"""Import a scoring script as a module that `pickle`, `from . import` and its own siblings agree with (contract 2.4).

It is called as its path says, ``src/score.py`` is ``src.score``. Where Python would find another module under that
name, or none, the script is imported aside as ``scoring_script_…``, and the other module keeps its name.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

from scoring.own_modules import HOME, PACKAGES, PassedOver

__all__ = ["import_script"]


def import_script(code: str, path: str) -> ModuleType:
    """Import the script at an absolute path below the folder of the code, which is on ``sys.path``."""
    parts = os.path.splitext(os.path.relpath(path, code))[0].split(os.sep)
    folders = {os.path.realpath(code), os.path.realpath(os.path.dirname(path))}
    if _is_taken(parts[0], folders):
        sys.meta_path.insert(0, PassedOver([parts[0]], folders))
    elif _is_found(code, path, parts):
        return importlib.import_module(".".join(parts))
    return _imported_aside(code, path, parts)


def _is_taken(name: str, folders: set[str]) -> bool:
    """Tell whether a library, Python's own or an installed one, has this name."""
    if name in sys.stdlib_module_names:
        return True
    loaded = sys.modules.get(name)
    if loaded is not None:
        places = [*getattr(loaded, "__path__", ()), getattr(loaded, "__file__", None) or ""]
        return not any(os.path.dirname(os.path.realpath(place)) in folders for place in places if place)
    elsewhere = PassedOver([name], folders | ({HOME} if name in PACKAGES else set())).find_spec(name)
    # a folder without an `__init__.py` yields to whatever else has the name
    return elsewhere is not None and elsewhere.loader is not None


def _is_found(code: str, path: str, parts: list[str]) -> bool:
    """Tell whether Python finds the script itself where its dotted name leads."""
    folder = code
    for part in parts[:-1]:
        spec = PathFinder.find_spec(part, [folder]) if "." not in part else None
        folder = os.path.join(folder, part)
        if spec is None or folder not in (spec.submodule_search_locations or ()):
            return False
    if "." in parts[-1]:
        return False
    spec = PathFinder.find_spec(parts[-1], [folder])
    return spec is not None and spec.origin == path


def _imported_aside(code: str, path: str, parts: list[str]) -> ModuleType:
    """Import the script, and the folders above it as packages, under names that nobody else has."""
    names = [re.sub(r"\W", "_", part) for part in parts]
    names[0] = f"scoring_script_{names[0]}"
    folder = code
    for place, part in enumerate(parts[:-1], start=1):
        folder = os.path.join(folder, part)
        _execute(_package_spec(".".join(names[:place]), folder))
    name = ".".join(names)
    spec = spec_from_file_location(name, path, loader=SourceFileLoader(name, path))
    assert spec is not None
    return _execute(spec)


def _package_spec(name: str, folder: str) -> ModuleSpec:
    first = os.path.join(folder, "__init__.py")
    spec = None
    if os.path.isfile(first):
        spec = spec_from_file_location(name, first, submodule_search_locations=[folder])
    if spec is None:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [folder]
    return spec


def _execute(spec: ModuleSpec) -> ModuleType:
    module = module_from_spec(spec)
    # before it runs, or what it imports cannot import it in turn
    sys.modules[spec.name] = module
    if spec.loader is not None:
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(spec.name, None)
            raise
    return sys.modules[spec.name]
