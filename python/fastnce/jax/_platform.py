"""What runs on the CPU only: other platforms are refused when a program is lowered, where JAX first names them."""

from __future__ import annotations

from typing import Any

import jax
import jax.extend
from jax.interpreters import batching, mlir


def on_cpu_only(array: Any, beside: Any) -> Any:
    """`array`, of integers, in a program that is for the CPU; `beside` decides the platform of a call outside ``jit``.

    Raises ValueError when lowered for another platform.
    """
    return _on_cpu_only(array, jax.lax.stop_gradient(beside))


def _refuse(context: Any, *_: Any) -> Any:
    platforms = ", ".join(context.module_context.platforms)
    raise ValueError(f"the platform is {platforms}: expected cpu, where all classes are gone through")


_identity = jax.extend.core.Primitive("fastnce_on_cpu_only")
_identity.def_abstract_eval(lambda array, beside: array)
batching.primitive_batchers[_identity] = lambda operands, axes: (_identity.bind(*operands), axes[0])
mlir.register_lowering(_identity, _refuse)
mlir.register_lowering(_identity, lambda context, array, beside: [array], platform="cpu")
_on_cpu_only = jax.jit(_identity.bind)  # a primitive without a rule for eager calls
