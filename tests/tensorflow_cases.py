"""What the tests beside TensorFlow share: shapes, and TensorFlow's gradients as dense tables."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cases import Case

SHAPES = [
    Case(
        batch=1 + 7 * i % 40,
        dim=1 + 11 * i % 70,
        sampled=1 + 13 * i % 60,
        num_true=1 + i % 5,
        remove_hits=i % 2 == 1,
        distinct=True,  # where samples repeat, TensorFlow removes the last duplicate of a hit only
        seed=i,
    )
    for i in range(20)
]


def dense(slices, shape):
    """TensorFlow's IndexedSlices, ids repeated and in any order, as a table."""
    table = np.zeros(shape)
    np.add.at(table, slices.indices.numpy(), slices.values.numpy().astype(np.float64))
    return table


def tensorflow_gradients(problem, loss_function):
    """Loss and dense gradients of ``sum(grad_loss * loss)``."""
    inputs = tf.Variable(problem.inputs)
    weights, biases = tf.Variable(problem.weights), tf.Variable(problem.biases)
    with tf.GradientTape() as tape:
        loss = loss_function(weights, biases, inputs)
        total = tf.reduce_sum(loss * problem.options["grad_loss"])
    dx, dw, dc = tape.gradient(total, [inputs, weights, biases])
    return loss, dx, dense(dw, weights.shape), dense(dc, biases.shape)
