"""Importing: again, anew, and where it cannot work."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest


def run(script: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter, whose modules are its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120
    )


LOSS = """
    import numpy as np

    def loss():
        import fastnce
        ones = np.ones((50, 4), np.float32)
        return fastnce.nce_loss(ones, ones[:, 0], [1, 2], ones[:2], 5, 50, seed=1)

    before = loss()
"""

AGAIN = """
    import importlib, sys
    for module in [module for name, module in sys.modules.items() if name.split(".")[0] == "fastnce"]:
        importlib.reload(module)
    np.testing.assert_array_equal(loss(), before)
"""

ANEW = """
    import sys
    for name in [name for name in sys.modules if name.split(".")[0] == "fastnce"]:
        del sys.modules[name]
    np.testing.assert_array_equal(loss(), before)
"""


@pytest.mark.parametrize("how", [AGAIN, ANEW], ids=["reloaded", "anew"])
def test_modules_may_be_imported_more_than_once(how):
    finished = run(textwrap.dedent(LOSS) + textwrap.dedent(how))
    assert finished.returncode == 0, finished.stderr


SUB_INTERPRETER = """
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters

    script = '''
    import importlib.machinery, importlib.util
    try:
        spec = importlib.util.spec_from_file_location("fastnce._core", PATH)
        importlib.util.module_from_spec(spec)
    except ImportError as error:
        message = str(error)
    else:
        message = "imported"
    assert "sub-interpreter" in message and "processes" in message, message
    '''
    import inspect
    import fastnce._core
    failed = interpreters.run_string(
        interpreters.create(), inspect.cleandoc(script).replace("PATH", repr(fastnce._core.__file__))
    )
    assert failed is None, failed
"""


def test_a_sub_interpreter_is_refused_instead_of_hanging():
    """The compiled module alone: NumPy may refuse first, in its own words."""
    finished = run(SUB_INTERPRETER)
    assert finished.returncode == 0, finished.stderr
