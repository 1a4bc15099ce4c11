#!/usr/bin/env python3
"""A small language model in PyTorch, with noise-contrastive estimation in place of the softmax over all words.

A GRU reads a text and predicts each next word out of V. In training, the full softmax multiplies each of the N
positions of a batch with the rows of all V words; `fastnce.torch.NCELoss` uses only the N true words and S sampled
ones, and its gradients are sparse. Evaluation is the same for all losses: the perplexity of held-out documents under
the full softmax.

    python examples/language_model.py                                      # NCELoss: about a minute
    python examples/language_model.py --loss softmax --lr 0.1              # nn.Linear, cross entropy: five minutes
    python examples/language_model.py --loss torch-nce                     # NCE written by hand in PyTorch
    python examples/language_model.py --corpus mine.txt.gz --sampled 256   # your own text: plain, .gz or .xz

Needs PyTorch (`pip install torch`). With the same seed, the three losses start from the same weights and see the same
batches. If other programs keep the cores busy, `--threads 1` is faster, because threads wait for each other.

Shape letters: V words in the vocabulary, D width, L streams of text read side by side, C words of each in a batch,
N = L C positions in a batch, S sampled words.
"""

from __future__ import annotations

import argparse
import gzip
import lzma
import math
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fastnce
import fastnce.torch

torch.sparse.check_sparse_tensor_invariants.disable()  # as by default; said aloud, optimizers do not warn of it

SHIPPED_CORPUS = Path(__file__).parent / "data" / "public_domain.txt.xz"
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
UNKNOWN, END_OF_PARAGRAPH = "<unk>", "<end>"
HELD_OUT = 20  # every 20th document
STREAMS, CHUNK = 32, 32  # L, C
PROGRESS = 200  # steps between two lines of progress


class Corpus(NamedTuple):
    """A text as word ids. Ids are ranks: 0 is the most frequent word, as the log-uniform sampler expects."""

    counts: Tensor
    """``[V]``: how often each word occurs in the training text; all the rare ones are one word, in its place."""
    train: Tensor
    """The documents to train on, one after the other."""
    held_out: Tensor
    """The documents to evaluate on."""


def read_corpus(path: Path, min_count: int) -> Corpus:
    """Read a text, lower-cased: one paragraph a line, a blank line between documents."""
    openers: dict[str, Callable[..., IO[str]]] = {".gz": gzip.open, ".xz": lzma.open}
    documents: list[list[str]] = [[]]
    with openers.get(path.suffix, open)(path, "rt", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if words := WORD.findall(line.lower()):
                documents[-1] += [*words, END_OF_PARAGRAPH]
            elif documents[-1]:
                documents.append([])
    train = [word for i, document in enumerate(documents) if i % HELD_OUT for word in document]
    held_out = [word for document in documents[::HELD_OUT] for word in document]

    counts = Counter(train)
    frequent = Counter({word: count for word, count in counts.items() if count >= min_count})
    # Held-out documents may have unknown words where the training text has none: that word must exist.
    frequent[UNKNOWN] = max(counts.total() - frequent.total(), 1)
    ranked = frequent.most_common()
    rank = {word: i for i, (word, _) in enumerate(ranked)}
    ids = ([rank.get(word, rank[UNKNOWN]) for word in part] for part in (train, held_out))
    return Corpus(torch.tensor([count for _, count in ranked]), *map(torch.tensor, ids))


def batches(ids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut a text into L streams and read them side by side: ``(words [L, C], the words after them [N])``.

    Stream l goes on in the next batch where it stopped in this one, and the GRU's state with it.
    """
    length = (len(ids) - 1) // STREAMS
    words, following = (ids[shift : shift + STREAMS * length].view(STREAMS, length) for shift in (0, 1))
    for start in range(0, length, CHUNK):
        here = slice(start, start + CHUNK)
        yield words[:, here], following[:, here].reshape(-1)


class FullSoftmax(nn.Linear):
    """``nn.Linear`` and cross entropy: a logit for every word."""

    def forward(self, hidden: Tensor, target: Tensor) -> Tensor:
        """The mean loss of ``hidden [N, D]``, ``target [N]``."""
        return F.cross_entropy(super().forward(hidden), target)


class TorchNCE(nn.Module):
    """Noise-contrastive estimation by hand: `fastnce.torch.NCELoss`, but with repetition among the samples.

    That is the cheap way to sample in PyTorch: by the inverse of the distribution function, and the expected count of
    a word is S times its probability. Rows of true and sampled words are gathered together, once.
    """

    def __init__(self, num_classes: int, dim: int, num_sampled: int) -> None:
        super().__init__()
        self.num_sampled = num_sampled
        self.weight = nn.Parameter(torch.empty(num_classes, dim))
        self.bias = nn.Parameter(torch.empty(num_classes))
        self.log_range = math.log1p(num_classes)
        ranks = torch.arange(1, num_classes + 1, dtype=torch.float64)
        log_count = (ranks.reciprocal().log1p() * (num_sampled / self.log_range)).log()  # log Q
        self.register_buffer("log_count", log_count.float())

    def forward(self, hidden: Tensor, target: Tensor) -> Tensor:
        """The mean loss of ``hidden [N, D]``, ``target [N]``."""
        uniform = torch.rand(self.num_sampled, dtype=torch.float64)
        # exp() may round up to V + 1.
        sampled = (uniform * self.log_range).exp().long().sub(1).clamp(max=len(self.weight) - 1)
        ids = torch.cat([target, sampled])
        shift = F.embedding(ids, self.bias.unsqueeze(1)).squeeze(1) - self.log_count[ids]
        true_rows, sampled_rows = F.embedding(ids, self.weight).split([len(target), self.num_sampled])
        true = torch.linalg.vecdot(hidden, true_rows) + shift[: len(target)]
        noise = torch.addmm(shift[len(target) :], hidden, sampled_rows.t())
        return (F.softplus(-true).sum() + F.softplus(noise).sum()) / len(target)


class LanguageModel(nn.Module):
    """Embedding, GRU, and an output layer with ``weight [V, D]`` and ``bias [V]`` that is called for the loss."""

    def __init__(self, counts: Tensor, args: argparse.Namespace) -> None:
        super().__init__()
        shape = len(counts), args.dim
        self.embedding = nn.Embedding(*shape, sparse=True)
        self.gru = nn.GRU(args.dim, args.dim, batch_first=True)
        self.dropout = nn.Dropout(args.dropout)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        bound = 1 / math.sqrt(args.dim)
        weight = torch.empty(shape).uniform_(-bound, bound)

        self.output: nn.Module
        if args.loss == "nce":
            self.output = fastnce.torch.NCELoss(*shape, num_sampled=args.sampled, seed=args.seed)
        elif args.loss == "softmax":
            self.output = FullSoftmax(args.dim, len(counts))
        else:
            self.output = TorchNCE(*shape, args.sampled)
        with torch.no_grad():
            self.output.weight.copy_(weight)
            # Starting from each word's own log-probability, the model learns only what the context adds to it.
            self.output.bias.copy_((counts / counts.sum()).log())

    def forward(self, words: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """``(hidden [N, D], the GRU's state after them)`` for ``words [L, C]``."""
        hidden, state = self.gru(self.dropout(self.embedding(words)), state)
        return self.dropout(hidden).flatten(0, 1), state.detach()  # gradients end where the batch does


class Step(NamedTuple):
    """What a training step tells."""

    loss: float
    seconds: float
    output_seconds: float
    """The share of the output layer: its loss, its gradients, and the update of its tables."""


class Trainer:
    """A model and its optimizers.

    Adagrad is fair to all losses: a sparse gradient gives the same update as a dense one with zeros.
    """

    def __init__(self, counts: Tensor, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.model = LanguageModel(counts, args)
        self._sparse = torch.optim.Adagrad(self.model.embedding.parameters(), args.lr)
        self._gru = torch.optim.Adagrad(self.model.gru.parameters(), args.lr)
        # One pass over a table for a dense gradient; sparse ones do not have it.
        self._output = torch.optim.Adagrad(self.model.output.parameters(), args.lr, fused=args.loss != "nce" or None)

    def step(self, words: Tensor, following: Tensor, state: Tensor | None) -> tuple[Step, Tensor]:
        """Train on a batch."""
        start = time.perf_counter()
        hidden, state = self.model(words, state)

        # The output layer runs separately, so that its time can be measured.
        output_start = time.perf_counter()
        leaf = hidden.detach().requires_grad_()
        loss = self.model.output(leaf, following)
        loss.backward()
        self._output.step()
        self._output.zero_grad()
        output_seconds = time.perf_counter() - output_start

        hidden.backward(leaf.grad)
        nn.utils.clip_grad_norm_(self.model.gru.parameters(), 1.0)  # which sparse gradients do not allow
        for optimizer in (self._sparse, self._gru):
            optimizer.step()
            optimizer.zero_grad()
        return Step(loss.item(), time.perf_counter() - start, output_seconds), state


class Quality(NamedTuple):
    """How well a model predicts a text."""

    perplexity: float
    """Under the full softmax."""
    self_normalized: float
    """With exp(logit) used as the probability, without normalisation. NCE trains towards that."""
    log_z: float
    """Mean logarithm of the softmax's denominator. At 0, exp(logit) is a probability."""


@torch.no_grad()
def evaluate(model: LanguageModel, ids: Tensor) -> Quality:
    """Perplexity over all words, with any training loss."""
    model.eval()
    state, count, logits, log_z = None, 0, 0.0, 0.0
    for words, following in batches(ids):
        hidden, state = model(words, state)
        scores = F.linear(hidden, model.output.weight, model.output.bias)
        logits += scores.gather(1, following.unsqueeze(1)).sum().item()
        log_z += scores.logsumexp(1).sum().item()
        count += len(following)
    model.train()
    return Quality(math.exp((log_z - logits) / count), math.exp(-logits / count), log_z / count)


def train(corpus: Corpus, args: argparse.Namespace) -> Iterator[tuple[list[Step], Quality]]:
    """The steps of each epoch, and the model's quality after it."""
    trainer = Trainer(corpus.counts, args)
    for epoch in range(1, args.epochs + 1):
        state, steps = None, []
        for words, following in batches(corpus.train):
            step, state = trainer.step(words, following, state)
            steps.append(step)
            if len(steps) % PROGRESS == 0:
                loss = statistics.mean(step.loss for step in steps[-PROGRESS:])
                print(f"epoch {epoch:2}, step {len(steps)}: loss {loss:.3f}", flush=True)
        yield steps, evaluate(trainer.model, corpus.held_out)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line, or ``arguments``."""
    parser = argparse.ArgumentParser(
        description="Train a language model (embedding, GRU) with noise-contrastive estimation or the full softmax.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--loss", choices=["nce", "softmax", "torch-nce"], default="nce", help="training loss of the output layer")
    add("--corpus", type=Path, default=SHIPPED_CORPUS, help="text; one paragraph per line, blank line after a document")
    add("--sampled", type=natural, default=1024, help="number of sampled words per batch (num_sampled)")
    add("--dim", type=natural, default=128, help="width of embeddings and GRU")
    add("--epochs", type=natural, default=3, help="passes over the text")
    add("--lr", type=float, default=0.05, help="learning rate of Adagrad")
    add("--dropout", type=float, default=0.2, help="dropout probability before and after the GRU")
    add("--min-count", type=natural, default=2, help="words that occur less often are replaced by <unk>")
    add("--threads", type=natural, default=2, help="threads of PyTorch and fastnce; use 1 if the cores are busy")
    add("--seed", type=int, default=1, help="random seed of weights, dropout and samples")
    args = parser.parse_args(arguments)
    if not args.corpus.is_file():
        parser.error(f"--corpus {args.corpus}: no such file")
    return args


def natural(text: str) -> int:
    """An integer of at least 1, for the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not an integer of at least 1")
    return int(text)


def main() -> None:
    """Read, train, evaluate."""
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    fastnce.set_num_threads(args.threads)
    corpus = read_corpus(args.corpus, args.min_count)
    print(
        f"{args.corpus.name}: {len(corpus.train):,} words to train on, {len(corpus.held_out):,} held out, "
        f"{len(corpus.counts):,} different ones",
        flush=True,
    )
    if min(len(corpus.train), len(corpus.held_out)) <= STREAMS:
        sys.exit(
            f"--corpus {args.corpus}: expected more than {STREAMS} words in every part; the 1st, 21st, 41st document "
            "and so on are held out, and documents end with a blank line"
        )
    if args.loss != "softmax" and args.sampled > len(corpus.counts):
        sys.exit(f"--sampled {args.sampled}: expected no more than the vocabulary of {len(corpus.counts)} words")
    for epoch, (steps, quality) in enumerate(train(corpus, args), 1):
        total, output = (1e3 * statistics.median(times) for times in list(zip(*steps, strict=True))[1:])
        print(
            f"epoch {epoch:2}: loss {statistics.mean(step.loss for step in steps):.3f}, {total:.1f} ms per step "
            f"({output:.1f} output layer), held-out perplexity {quality.perplexity:.1f} "
            f"(self-normalised {quality.self_normalized:.1f}, mean log Z {quality.log_z:+.3f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
