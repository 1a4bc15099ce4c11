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


def test_without_handlers_it_says_how_to_get_them():
    pretend = "sys.modules['jax'] = types.ModuleType('jax')\nvars(fastnce._core).pop('jax_handlers', None)"
    message = import_error(pretend)
    assert "this build of fastnce lacks" in message
    assert "--no-build-isolation" in message


def test_the_library_works_without_it():
    assert import_error("sys.modules['jax'] = None; print(fastnce.get_num_threads() > 0)").splitlines()[0] == "True"
