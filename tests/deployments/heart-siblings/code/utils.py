import os
from pathlib import Path


def name_of(path):
    return Path(path).stem


def only_file(variable):
    (file,) = (path for path in Path(os.environ[variable]).rglob("*") if path.is_file())
    return file
