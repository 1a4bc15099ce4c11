"""Sampled softmax: fastnce's beside its own nce_loss and beside that of TensorFlow, PyTorch and JAX.

    python bench/peers/sampled_softmax.py --shapes w2v,sgns

Measured as the peers are (run.py), written to a JSON file of its own; prints its table.
"""

from __future__ import annotations

from client import FASTNCE, SOFTMAX_MEMBERS
from named_shapes import compare
from report import softmax_tables

if __name__ == "__main__":
    compare("sampled_softmax", [FASTNCE, *SOFTMAX_MEMBERS], softmax_tables, __doc__)
