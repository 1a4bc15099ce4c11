"""Training steps: fastnce's beside its own nce_loss_and_grad and beside those of PyTorch and TensorFlow.

    python bench/peers/train_step.py --shapes sgns,lm

Measured as the peers are (run.py), written to a JSON file of its own; prints its table.
"""

from __future__ import annotations

from client import FASTNCE, TRAINING_MEMBERS
from named_shapes import compare
from report import training_tables

if __name__ == "__main__":
    compare("train_step", [FASTNCE, *TRAINING_MEMBERS], training_tables, __doc__)
