"""What PyTorch's and JAX's idioms cost: fastnce.torch and fastnce.jax beside the NumPy functions and losses by hand.

    python bench/peers/frontends.py --shapes w2v,sgns

Measured as the peers are (run.py), written to a JSON file of its own; prints its table.
"""

from __future__ import annotations

from client import FASTNCE, FRONT_ENDS
from named_shapes import compare
from report import frontends_tables

# Beside what one would write by hand.
WORKERS = [FASTNCE, *FRONT_ENDS, "pytorch", "pytorch_compile", "jax"]

if __name__ == "__main__":
    compare("frontends", WORKERS, frontends_tables, __doc__)
