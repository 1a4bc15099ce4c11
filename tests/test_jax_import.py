"""Importing fastnce.jax where something is missing says what. Runs with and without JAX."""

from __future__ import annotations

import subprocess
import sys


def import_error(preparation):
    script = f"""
import sys, types, fastnce
{preparation}
try:
    import fastnce.jax
except ImportError as error:
    print(error)
"""
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_without_jax_it_says_so():
    assert import_error("sys.modules['jax'] = None") == "fastnce.jax needs JAX, which is not installed: pip install jax"


def test_with_too_old_a_jax_it_names_the_version_needed():
    pretend = "sys.modules['jax'] = types.ModuleType('jax')\nsys.modules['jax'].__version__ = '0.4.35'"
    assert import_error(pretend) == (
        "fastnce.jax needs jax 0.5 or newer, and jax 0.4.35 is installed: pip install --upgrade jax"
    )


def test_every_build_has_the_handlers():
    output = import_error("sys.modules['jax'] = None; print(*sorted(fastnce._core.jax_handlers['cpu']))")
    names = ("log_uniform", "rank_of_labels", "sampled_loss", "set_rows", "top_k", "update_rows")
    assert output.splitlines()[0].split() == [f"fastnce_{name}" for name in names]


def test_the_library_works_without_it():
    assert import_error("sys.modules['jax'] = None; print(fastnce.get_num_threads() > 0)").splitlines()[0] == "True"
