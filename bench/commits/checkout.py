"""A commit of this repository, built and installed in a virtual environment of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from options import ROOT


class Build(NamedTuple):
    commit: str
    """Full hash."""
    title: str
    python: Path


def git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def build(revision: str, folder: Path) -> Build:
    """Build below `folder`, unless an earlier run has left the same commit there."""
    commit = git("rev-parse", "--verify", f"{revision}^{{commit}}")
    home = folder / commit[:12]
    python, finished = home / "venv" / "bin" / "python", home / "finished"
    if not finished.exists():
        shutil.rmtree(home, ignore_errors=True)
        _install(commit, home, python)
        finished.touch()
    return Build(commit, git("log", "-1", "--format=%s", commit), python)


def _install(commit: str, home: Path, python: Path) -> None:
    source = home / "source"
    source.mkdir(parents=True)
    # Not `git worktree`: that would leave an entry in the repository if this process were killed.
    with subprocess.Popen(["git", "-C", str(ROOT), "archive", commit], stdout=subprocess.PIPE) as archive:
        subprocess.run(["tar", "-x", "-C", str(source)], stdin=archive.stdout, check=True)
    if archive.returncode:
        raise subprocess.CalledProcessError(archive.returncode, archive.args)
    print(f"{commit[:12]}: building in {home}", file=sys.stderr)

    def run(*command: str | Path) -> None:
        subprocess.run(command, cwd=source, check=True, stdout=sys.stderr)

    run(sys.executable, "-m", "venv", python.parents[1])
    run(python, "-m", "pip", "install", "--quiet", "--upgrade", "pip>=25.1")
    run(python, "-m", "pip", "install", "--quiet", "--group", "build", "ml-dtypes")
    run("tools/build_extension.sh", python, home / "build", "OFF")
    shutil.rmtree(source)
    shutil.rmtree(home / "build")
