"""Word embeddings that predict the next word: NumPy. The same model, batches and samples as in PyTorch and in JAX."""

import lzma
from collections import Counter
from pathlib import Path

import numpy as np

import fastnce

V, D, B, S, STEPS, RATE = 10_000, 64, 512, 128, 200, 20.0  # classes, width, batch, samples

with lzma.open(Path(__file__).parent / "data" / "public_domain.txt.xz", "rt") as file:
    words = file.read().split()
rank = {word: i for i, (word, _) in enumerate(Counter(words).most_common(V))}
text = np.array([rank[word] for word in words if word in rank])

rng = np.random.default_rng(0)
embeddings = rng.normal(0, 0.1, (V, D)).astype(np.float32)
weights, biases = np.zeros((V, D), np.float32), np.full(V, -np.log(V), np.float32)
sampler = fastnce.LogUniformSampler(V, S, seed=1)

for step in range(STEPS):
    places = rng.integers(len(text) - 1, size=B)
    word, target = text[places], text[places + 1]
    loss, grads = fastnce.nce_loss_and_grad(
        weights, biases, target, embeddings[word], S, V, sampled_values=sampler(target), grad_loss=np.float32(1 / B)
    )
    weights[grads.rows.ids] -= RATE * grads.rows.weights
    biases[grads.rows.ids] -= RATE * grads.rows.biases
    np.subtract.at(embeddings, word, RATE * grads.inputs)  # words may repeat
    if step % 10 == 9:
        print(step + 1, loss.mean())
