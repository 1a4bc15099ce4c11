"""TensorFlow: `tf.nn.nce_loss` or `tf.nn.sampled_softmax_loss` with its own sampler, gradients as IndexedSlices, one
graph for all of it.

Tables as variables or as tensors measure the same; a concrete function saves each call the signature look-up.
The slices stay as TensorFlow returns them, with duplicate ids: coalescing, which the others do, is left to
its optimizers.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from protocol import Adapter, Outputs, coalesce
from shapes import Candidates, Case


class Peer(Adapter):
    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        # One graph per shape is meant, and no reason for its warnings about retracing.
        tf.get_logger().setLevel("ERROR")
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)

    def versions(self) -> dict[str, Any]:
        return {"tensorflow": tf.__version__}

    def prepare(self, case: Case) -> None:
        S, V, T = case.shape.S, case.shape.V, case.shape.T
        loss_function = getattr(tf.nn, case.loss)
        with tf.device("CPU"):
            weights, biases = (tf.Variable(array) for array in case.table())
            self._batches = [(tf.constant(labels), tf.constant(inputs)) for labels, inputs in case.batches]

        @tf.function
        def loss_and_grad(labels: tf.Tensor, inputs: tf.Tensor, *sampled_values: tf.Tensor) -> Any:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([weights, biases, inputs])
                loss = loss_function(weights, biases, labels, inputs, S, V, T, sampled_values or None)
            dw, db, dx = tape.gradient(loss, [weights, biases, inputs])
            # Returned means computed: nothing of this can be pruned from the graph.
            return loss, dx, (dw.indices, dw.values), (db.indices, db.values)

        self._checked = loss_and_grad
        self._timed = loss_and_grad.get_concrete_function(*self._batches[0])

    def step(self, batch: int, candidates: Candidates | None = None) -> Any:
        # Eager execution on a CPU is synchronous: when a function returns, its results are there.
        if candidates is None:
            return self._timed(*self._batches[batch])
        return self._checked(*self._batches[batch], *(tf.constant(array) for array in candidates))

    def outputs(self, result: Any) -> Outputs:
        loss, dx, dw, db = result
        ids, weight_rows = coalesce(*(tensor.numpy() for tensor in dw))
        _, bias_rows = coalesce(*(tensor.numpy() for tensor in db))
        return Outputs(loss.numpy(), dx.numpy(), ids, weight_rows, bias_rows)
