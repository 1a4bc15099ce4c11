"""A training step of TensorFlow: `tf.nn.nce_loss`, its gradients, and the fused sparse Adagrad of
`tf.compat.v1.train.AdagradOptimizer`, one graph for all of it.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from adapters import tensorflow
from shapes import Candidates, Case


class Peer(tensorflow.Peer):
    def prepare(self, case: Case) -> None:
        S, V, T = case.shape.S, case.shape.V, case.shape.T
        tables = [tf.Variable(table) for table in case.table()]
        optimizer = tf.compat.v1.train.AdagradOptimizer(0.01)
        self._batches = [tuple(map(tf.constant, batch)) for batch in case.batches]

        @tf.function(autograph=False)
        def step(labels: tf.Tensor, inputs: tf.Tensor) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                loss = tf.nn.nce_loss(*tables, labels, inputs, S, V, T)
            *gradients, dx = tape.gradient(loss, [*tables, inputs])
            with tf.control_dependencies([optimizer.apply_gradients(zip(gradients, tables, strict=True))]):
                return tf.identity(loss), tf.identity(dx)

        self._step = step

    def step(self, batch: int, candidates: Candidates | None = None) -> Any:
        return self._step(*self._batches[batch])

    def outputs(self, result: Any) -> None:
        """None: the tables are not those that were given any more."""
