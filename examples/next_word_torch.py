"""Word embeddings that predict the next word: PyTorch. The same model, batches and samples as in NumPy and in JAX."""

import lzma
from collections import Counter
from pathlib import Path

import numpy as np
import torch

import fastnce.torch

V, D, B, S, STEPS, RATE = 10_000, 64, 512, 128, 200, 20.0  # classes, width, batch, samples

with lzma.open(Path(__file__).parent / "data" / "public_domain.txt.xz", "rt") as file:
    words = file.read().split()
rank = {word: i for i, (word, _) in enumerate(Counter(words).most_common(V))}
text = torch.tensor([rank[word] for word in words if word in rank])

rng = np.random.default_rng(0)
embeddings = torch.nn.Embedding(V, D, sparse=True)
embeddings.weight.data = torch.from_numpy(rng.normal(0, 0.1, (V, D)).astype(np.float32))
criterion = fastnce.torch.NCELoss(V, D, S, seed=1)
torch.nn.init.zeros_(criterion.weight)
optimiser = torch.optim.SGD([*embeddings.parameters(), *criterion.parameters()], lr=RATE)

for step in range(STEPS):
    places = torch.from_numpy(rng.integers(len(text) - 1, size=B))
    loss = criterion(embeddings(text[places]), text[places + 1])
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    if step % 10 == 9:
        print(step + 1, loss.item())
