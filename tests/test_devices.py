"""What is asked of each framework on a CUDA device, with stand-ins for the frameworks."""

from __future__ import annotations

import contextlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fastnce import _core, _devices


def array_of(framework):
    """An array whose class that framework defines."""
    return type("Array", (), {"__module__": f"{framework}.arrays"})()


@pytest.fixture
def on_cuda(monkeypatch):
    monkeypatch.setattr(_core, "cuda_device_of", lambda example, name: 1)


@pytest.mark.parametrize(
    ("framework", "kind"),
    [("torch", "_Torch"), ("cupy", "_Cupy"), ("jax", "_Jax"), ("jaxlib", "_Jax"), ("numba", "Device")],
)
def test_the_framework_is_that_of_the_array(framework, kind, on_cuda):
    example = array_of(framework)
    subclass = type("Own", (type(example),), {"__module__": "elsewhere"})()
    for array in (example, subclass):
        device = _devices.cuda_device_of(array, "inputs", 10)
        assert type(device).__name__ == kind
        assert (device.index, str(device)) == (1, "cuda:1")
        assert device.waits == (framework not in ("torch", "cupy"))


def test_torch_is_asked_for_the_devices_stream_and_memory(on_cuda, monkeypatch):
    cuda = SimpleNamespace(
        current_stream=lambda index: SimpleNamespace(cuda_stream=70 + index),
        device=lambda index: contextlib.nullcontext(index),
        is_current_stream_capturing=lambda: True,
    )
    made = np.zeros((3, 2), np.float32)
    tensor = SimpleNamespace(data_ptr=lambda: made.ctypes.data)
    asked = []

    def empty(shape, **options):
        asked.append((shape, options))
        return tensor

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, empty=empty, float32="torch.float32"))
    device = _devices.cuda_device_of(array_of("torch"), "inputs", 10)
    assert device.stream == 71
    assert device.captures
    with device.current() as current:
        assert current == 1
    assert device.empty("float32", (3, 2)) == (tensor, made.ctypes.data)
    assert asked == [((3, 2), {"dtype": "torch.float32", "device": "cuda:1"})]
    assert device.hand_over(tensor) is tensor


def test_cupy_is_asked_for_the_devices_stream_and_memory(on_cuda, monkeypatch):
    cuda = SimpleNamespace(
        get_current_stream=lambda index: SimpleNamespace(ptr=70 + index, is_capturing=lambda: True),
        Device=lambda index: index,
    )
    array = SimpleNamespace(data=SimpleNamespace(ptr=4096))
    asked = []

    def empty(*arguments):
        asked.append(arguments)
        return array

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda, empty=empty))
    device = _devices.cuda_device_of(array_of("cupy"), "inputs", 10)
    assert device.stream == 71
    assert device.captures
    assert device.current() == 1
    assert device.empty("int64", (3,)) == (array, 4096)
    device.empty("bfloat16", (3, 2))
    assert asked == [((3,), "int64"), ((3, 2), "uint16")]


@pytest.mark.parametrize(
    ("dtype", "num_classes", "wide", "handed_over"),
    [
        ("int64", 2**31, False, True),
        ("int64", 2**31 + 1, False, False),
        ("int64", 2**31 + 1, True, True),
        ("float32", 2**40, False, True),
    ],
)
def test_jax_gets_no_ids_that_it_would_wrap(dtype, num_classes, wide, handed_over, on_cuda, monkeypatch):
    jax = SimpleNamespace(
        config=SimpleNamespace(jax_enable_x64=wide), dlpack=SimpleNamespace(from_dlpack=lambda array: "jax array")
    )
    monkeypatch.setitem(sys.modules, "jax", jax)
    array = SimpleNamespace(dtype=dtype)
    result = _devices.cuda_device_of(array_of("jax"), "inputs", num_classes).hand_over(array)
    assert result == ("jax array" if handed_over else array)
