"""CONTRIBUTING's recipes, followed: what they add is small, is in no front end, and passes the tests of its kind."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from fastnce import _core

ROOT = Path(__file__).parent.parent
RECIPES = Path(__file__).parent / "recipes"
MOST_FILES, MOST_LINES = 5, 150
FRONT_ENDS = ("csrc/bindings/", "python/fastnce/torch/", "python/fastnce/jax/")


def test_a_loss_is_five_small_files_and_no_front_end():
    text = (RECIPES / "loss.patch").read_text()
    files = re.findall(r"^\+\+\+ b/(.+)$", text, re.MULTILINE)
    assert len(files) <= MOST_FILES, files
    assert len(re.findall(r"^\+(?!\+\+ )", text, re.MULTILINE)) <= MOST_LINES
    assert [file for file in files if file.startswith(FRONT_ENDS)] == []


def test_a_loss_passes_the_tests_of_every_loss(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("needs git, which applies the patch")
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    for folder in ("python", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(_core.__file__, tmp_path / "python/fastnce")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    subprocess.run(["git", "apply", RECIPES / "loss.patch"], cwd=tmp_path, check=True)
    # Without site, so that the tests import the copy, not what is installed.
    path = os.pathsep.join(map(str, (tmp_path / "python", sysconfig.get_path("purelib"))))
    command = [sys.executable, "-S", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "damped"]
    files = [f"tests/test_{name}.py" for name in ("loss_family", "gradients", "reference_losses")]
    done = subprocess.run(
        [*command, *files], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) > 50
