"""Word embeddings that predict the next word: JAX. The same model, batches and samples as in NumPy and in PyTorch."""

import functools
import lzma
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import fastnce.jax

V, D, B, S, STEPS, RATE = 10_000, 64, 512, 128, 200, 20.0  # classes, width, batch, samples

with lzma.open(Path(__file__).parent / "data" / "public_domain.txt.xz", "rt") as file:
    words = file.read().split()
rank = {word: i for i, (word, _) in enumerate(Counter(words).most_common(V))}
text = np.array([rank[word] for word in words if word in rank])

rng = np.random.default_rng(0)
embeddings = jnp.asarray(rng.normal(0, 0.1, (V, D)), jnp.float32)
weights, biases = jnp.zeros((V, D)), jnp.full(V, -jnp.log(V))
sampler = fastnce.LogUniformSampler(V, S, seed=1)  # or hand a key to nce_value_and_rows


@functools.partial(jax.jit, donate_argnums=(0, 1, 2))
def train(embeddings, weights, biases, word, target, sampled):
    options = dict(sampled_values=sampled, grad_loss=jnp.full(B, 1 / B))
    loss, dinputs, rows = fastnce.jax.nce_value_and_rows(weights, biases, target, embeddings[word], S, V, **options)
    return embeddings.at[word].add(-RATE * dinputs), *fastnce.jax.sgd_rows(weights, biases, rows, RATE), loss.mean()


for step in range(STEPS):
    places = rng.integers(len(text) - 1, size=B)
    target = text[places + 1]
    embeddings, weights, biases, loss = train(embeddings, weights, biases, text[places], target, sampler(target))
    if step % 10 == 9:
        print(step + 1, loss)
