"""What the CUDA tests do where a package is missing, or is there for another device: the cases of that one skip."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import cuda_arrays
import fastnce


@pytest.fixture
def a_device(monkeypatch):
    """fastnce claims to have one; no framework has been tried on it."""
    monkeypatch.setattr(fastnce.cuda, "unavailable_reason", lambda: "")
    cuda_arrays._trouble.cache_clear()
    yield
    cuda_arrays._trouble.cache_clear()


def raising(error):
    def function(*_, **__):
        raise error

    return function


def test_a_jax_for_the_cpu_is_skipped_with_the_reason(a_device, monkeypatch):
    devices = raising(RuntimeError("Unknown backend: 'cuda' requested\nand more"))
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(devices=devices, device_put=None))
    reason = "jax has no CUDA device: RuntimeError: Unknown backend: 'cuda' requested"
    assert cuda_arrays.why_not("jax") == reason


def test_a_cupy_for_another_cuda_is_skipped_with_the_reason(a_device, monkeypatch):
    cupy = SimpleNamespace(asarray=raising(RuntimeError("driver version is insufficient for runtime version")))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert "driver version is insufficient" in cuda_arrays.why_not("cupy")


def test_a_package_that_cannot_be_imported_is_skipped_with_the_reason(a_device, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert re.match(r"torch has no CUDA device: ModuleNotFoundError: ", cuda_arrays.why_not("torch"))


def test_a_framework_that_gives_back_what_it_was_given_is_used(a_device, monkeypatch):
    class OnDevice:
        def __init__(self, array):
            self.array = array

        def get(self):
            return self.array

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(asarray=OnDevice))
    assert cuda_arrays.why_not("cupy") == ""


def test_without_ml_dtypes_only_bfloat16_is_skipped(tmp_path):
    (tmp_path / "ml_dtypes.py").write_text("raise ImportError('an ml_dtypes that is too old')")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    selected = ["tests/test_element_types.py", "tests/test_cuda_loss.py", "-k", "every_16_bit or uint16"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *selected],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^1 passed, 2 skipped", done.stdout, re.M), done.stdout
    assert "ml_dtypes cannot be imported: an ml_dtypes that is too old" in done.stdout
