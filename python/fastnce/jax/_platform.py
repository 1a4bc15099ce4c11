"""What runs on the CPU only: other platforms are refused when a program is lowered, where JAX first names them."""

from __future__ import annotations

from typing import Any

import jax
import jax.extend
from jax.interpreters import batching, mlir


def on_cpu_only(array: Any, beside: Any, what: str) -> Any:
    """`array`, of integers, in a program that is for the CPU; `beside` decides the platform of a call outside ``jit``.

    Raises ValueError, which says that ``what`` is there, when lowered for another platform.
    """
    return _on_cpu_only(array, jax.lax.stop_gradient(beside), what=what)


def _refuse(context: Any, *_: Any, what: str) -> Any:
    platforms = ", ".join(context.module_context.platforms)
    raise ValueError(f"the platform is {platforms}: expected cpu, where {what}")


_identity = jax.extend.core.Primitive("fastnce_on_cpu_only")
_identity.def_abstract_eval(lambda array, beside, what: array)
batching.primitive_batchers[_identity] = lambda operands, axes, what: (_identity.bind(*operands, what=what), axes[0])
mlir.register_lowering(_identity, _refuse)
mlir.register_lowering(_identity, lambda context, array, beside, what: [array], platform="cpu")
_on_cpu_only = jax.jit(_identity.bind, static_argnames="what")  # a primitive without a rule for eager calls
