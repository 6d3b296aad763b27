"""Build images without a container engine: buildah from Debian, on a base image made from Debian's packages.

The base is tagged as the one that docker/Dockerfile names, so that the file is built as it is, and nothing is pulled.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["BASE", "ORPHAN", "ROOT", "UNSHARE", "NoImagesError", "Store", "check_machine", "pip_settings"]

ROOT = Path(__file__).parents[2]
BASE = "localhost/python:3.11-slim-bookworm"
DEBIAN = "bookworm"
PACKAGES = "python3,python3-venv,ca-certificates"
TOOLS = ("buildah", "mmdebstrap", "unshare", "chroot")
UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc")
PATIENCE_S = 600
"""Seconds that the base image may take: most of it is fetched."""
DISK_BYTES = 15_000_000_000
"""What the images of a run take, each of their layers whole (vfs), and as much again."""

ORPHAN = """\
import os, sys, time
if not os.fork():
    # the child leaves a child of its own behind, which ends a moment later
    if not os.fork():
        time.sleep(0.2)
        os._exit(0)
    os._exit(0)
os.wait()
deadline = time.monotonic() + 60
def others():
    return [name for name in os.listdir("/proc") if name.isdecimal() and int(name) not in (1, os.getpid())]
while others():
    if time.monotonic() > deadline:
        sys.exit(f"never waited for: {others()}")
    time.sleep(0.05)
"""
"""A program that fails unless process 1 waits for processes that lost their parents."""


class NoImagesError(Exception):
    """No image can be built on this machine, whatever the files are; the message says why."""


def check_machine(folder: Path) -> None:
    """See whether images can be built and run here.

    Args:
        folder: where they are to lie.

    Raises:
        NoImagesError: they cannot.
    """
    if os.geteuid():
        raise NoImagesError("images are built by root here (buildah --isolation chroot)")
    missing = [name for name in TOOLS if shutil.which(name) is None]
    if missing:
        raise NoImagesError(f"not installed: {', '.join(missing)} (apt-get install buildah mmdebstrap)")
    free = shutil.disk_usage(folder).free
    if free < DISK_BYTES:
        raise NoImagesError(f"{folder} has {free / 1e9:.0f} GB free, and {DISK_BYTES / 1e9:.0f} GB are needed")
    done = subprocess.run([*UNSHARE, "true"], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise NoImagesError(f"this machine lets nobody make namespaces: {done.stderr.strip()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Images and containers of one folder, apart from those of the machine.

    Attributes:
        folder: that holds them.
    """

    folder: Path

    def buildah(self, *words: str) -> list[str]:
        """Return a command of buildah for this store."""
        return [
            "buildah", "--root", str(self.folder / "images"), "--runroot", str(self.folder / "run"),
            "--storage-driver", "vfs", *words,
        ]  # fmt: skip

    def run(self, *words: str) -> str:
        """Give a command of buildah; return what it prints.

        Raises:
            subprocess.CalledProcessError: it fails; what it said is on standard error.
        """
        return subprocess.run(self.buildah(*words), stdout=subprocess.PIPE, text=True, check=True).stdout.strip()

    def make_base(self) -> None:
        """Make the base image from Debian's packages, fetched from where this machine fetches them; run it once.

        Raises:
            NoImagesError: the packages cannot be had, or buildah runs nothing here.
        """
        archive = self.folder / "base.tar"
        if not archive.exists():
            unfinished = archive.with_suffix(".new.tar")
            # lists of the machine's sources are no part of an image
            clean = 'rm -rf "$1"/etc/apt/sources.list* "$1"/var/lib/apt/lists/*'
            words = ["--quiet", "--variant=minbase", f"--include={PACKAGES}", f"--customize-hook={clean}"]
            words += [f"--aptopt={file}" for file in sorted(Path("/etc/apt/apt.conf.d").glob("99*"))]
            sources = [*Path("/etc/apt").glob("sources.list"), *Path("/etc/apt/sources.list.d").glob("debian.*")]
            try:
                command = ["mmdebstrap", *words, DEBIAN, str(unfinished), *map(str, sources)]
                subprocess.run(command, check=True, timeout=PATIENCE_S)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                raise NoImagesError("mmdebstrap cannot fetch Debian's packages for the base image") from error
            unfinished.rename(archive)
        try:
            container = self.run("from", "--pull-never", "scratch")
            self.run("add", "--quiet", container, str(archive), "/")
            self.run("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", container)
            self.run("run", "--isolation", "chroot", container, "--", "python3", "-c", "import venv")
            self.run("commit", "--quiet", "--rm", container, BASE)
        except subprocess.CalledProcessError as error:
            raise NoImagesError("buildah makes and runs no base image here") from error

    def size(self, image: str) -> str:
        """Return the size of an image as buildah writes it, its base included."""
        return self.run("images", "--format", "{{.Size}}", image)

    def inspect(self, image: str) -> dict[str, Any]:
        """Return what an image says of itself."""
        found: dict[str, Any] = json.loads(self.run("inspect", "--type", "image", image))
        return found


def pip_settings(folder: Path, python: str) -> list[str]:
    """Return the words for buildah that let pip inside a build fetch from where it does on this machine.

    The settings go in as a secret, and the files that they name as mounts: neither ends in the image.

    Args:
        folder: for the file of the settings.
        python: whose pip is asked.
    """
    said = subprocess.run(
        [python, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    found = dict(re.findall(r"^(?:global|:env:)\.([\w-]+)='(.*)'$", said, re.MULTILINE))
    lines = ["[global]"]
    words = ["--secret", f"id=pip,src={folder / 'pip.conf'}"]
    for name, value in found.items():
        # an index in files here holds what the real one has as well, and lies in more folders than it names
        kept = [word for word in value.split() if not word.startswith("file:")]
        words += [f"--volume={word}:{word}:ro" for word in kept if word.startswith("/") and os.path.exists(word)]
        lines += [f"{name} = {' '.join(kept)}"] if kept else []
    (folder / "pip.conf").write_text("\n".join([*lines, ""]))
    return words
