#!/usr/bin/env python3
"""SASRec, a sequential recommender in PyTorch, with the output layer and the loss of your choice.

A transformer reads the items of a user in order of time and predicts each next one out of V. The last item of each
user is for the test, the one before it for validation (leave-one-out); both are ranked among all V items but those
that the user already has, by `fastnce.torch.rank_of_labels`, without a matrix of users by items.

    python examples/sequential_recommender.py                                  # a synthetic log: half a minute
    python examples/sequential_recommender.py --log mine.txt.xz                # full softmax
    python examples/sequential_recommender.py --log mine.txt.xz --loss gbce    # see LOSSES below

A log has a user a line: an id of the user, then ids of items, integers, in order of time; plain, .gz or .xz. Needs
PyTorch (`pip install torch`); shows a progress bar where tqdm is installed and writes events for TensorBoard to
`--tensorboard DIRECTORY`.

Shape letters: V items, D width, L length of a history, B users in a batch, n positions of them that have a next item,
S sampled items.
"""

from __future__ import annotations

import argparse
import gzip
import json
import lzma
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fastnce
import fastnce.torch
from fastnce import Ragged, metrics

EVALUATED = 4096  # users at once
PARTS = 4  # of a batch, by length: most histories are short, and the model computes its padding, too


class Log(NamedTuple):
    """Items of each user in order of time, as classes 0 .. V - 1: the most frequent one is 0."""

    users: list[list[int]]
    counts: Tensor
    """``[V]``: how often each item occurs in what is trained on."""


def read_log(path: Path) -> list[list[int]]:
    """The items of each user."""
    openers: dict[str, Callable[..., IO[str]]] = {".gz": gzip.open, ".xz": lzma.open}
    with openers.get(path.suffix, open)(path, "rt", encoding="utf-8") as lines:
        return [[int(item) for item in line.split()[1:]] for line in lines]


def synthetic_log(users: int = 2000, items: int = 500, seed: int = 7) -> list[list[int]]:
    """Users who walk through the items: four times in five to one of three that follow an item, else to any."""
    draw = random.Random(seed)
    following = [draw.sample(range(items), 3) for _ in range(items)]
    log = []
    for _ in range(users):
        walk = [draw.randrange(items)]
        while len(walk) < 5 or draw.random() < 0.85:
            known = [item for item in following[walk[-1]] if item not in walk]
            walk.append(draw.choice(known) if known and draw.random() < 0.8 else draw.randrange(items))
        log.append(walk)
    return log


def ranked(log: list[list[int]]) -> Log:
    """Items in the order of their frequency, as samplers and caches like it; users of at least three items."""
    users = [items for items in log if len(items) >= 3]
    if max(map(len, users), default=0) < 4:
        raise SystemExit(
            "the log has no user of four items or more, two of which to learn from: expected one a line, "
            "`user item item item item ...`"
        )
    counts: dict[int, int] = {}
    for items in users:
        for at, item in enumerate(items):
            counts[item] = counts.get(item, 0) + (at < len(items) - 2)
    order = sorted(counts, key=lambda item: (-counts[item], item))
    rank = {item: k for k, item in enumerate(order)}
    return Log([[rank[item] for item in items] for items in users], torch.tensor([counts[item] for item in order]))


class Block(nn.Module):
    """Self-attention of one head, and a feed-forward layer, each added to what it reads."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.before_attention, self.before_layer = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention_in, self.attention_out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.layer = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, L, D]`` to ``[B, L, D]``; no position reads a later one."""
        query, key, value = self.attention_in(self.before_attention(x)).chunk(3, dim=-1)
        share = self.dropout.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=share, is_causal=True)
        x = x + self.dropout(self.attention_out(mixed))
        x = x + self.dropout(self.layer(self.before_layer(x)))
        return x


class SASRec(nn.Module):
    """Kang and McAuley 2018: item and position embeddings, blocks, a layer norm. Output rows are the item embeddings.

    Items stand at the end of the L positions, as in the paper. Here histories begin at column 0 of a batch that is
    as wide as its longest, and are told their positions: the same, with less padding to compute.
    """

    def __init__(self, num_items: int, dim: int, length: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.items, self.positions = nn.Embedding(num_items, dim), nn.Embedding(length, dim)
        for table in (self.items, self.positions):
            nn.init.normal_(table.weight, std=0.02)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(dim, dropout) for _ in range(blocks)))
        self.norm = nn.LayerNorm(dim)

    def forward(self, histories: Tensor, lengths: Tensor) -> Tensor:
        """Hidden states ``[B, L, D]`` of histories ``[B, L]``; what comes after ``lengths [B]`` means nothing."""
        last = self.positions.num_embeddings
        at = last - lengths[:, None] + torch.arange(histories.shape[1])
        x = self.items(histories) * self.items.embedding_dim**0.5 + self.positions(at.clamp(max=last - 1))
        return self.norm(self.blocks(self.dropout(x)))


class Batch(NamedTuple):
    """Positions of some users, and the items that follow."""

    hidden: Tensor
    """``[n, D]``."""
    target: Tensor
    """``[n]``."""
    known: list[list[int]]
    """Of each position: the items that its user has in the training log."""


class Task(NamedTuple):
    """What losses know besides the batch."""

    weight: Tensor
    """``[V, D]``, the item embeddings."""
    counts: Tensor
    sampled: int
    seed: int


Loss = Callable[[Batch], Tensor]


def full_softmax(task: Task) -> Loss:
    """Cross entropy over all V items."""
    return lambda batch: fastnce.torch.softmax_loss(batch.hidden, batch.target, task.weight, None)


def sampled_softmax(kind: str) -> Callable[[Task], Loss]:
    """Cross entropy over S items that the batch shares, corrected by log Q: uniform, unigram, or half of each."""

    def make(task: Task) -> Loss:
        size = len(task.counts)
        uniform = fastnce.UniformSampler(size, task.sampled, seed=task.seed)
        unigram = fastnce.UnigramSampler.from_counts(
            task.counts.clamp(min=1), task.sampled, power=1.0, seed=task.seed + 1
        )
        half = task.sampled // 2
        mixed = fastnce.MixedSampler([(uniform, task.sampled - half), (unigram, half)])
        sampler = {"uniform": uniform, "unigram": unigram, "mixed": mixed}[kind]
        return lambda batch: fastnce.torch.sampled_softmax_loss(
            batch.hidden, batch.target, task.weight, None, sampler(batch.target), sparse=False
        )

    return make


def own_negatives(task: Task, sampled: int) -> Callable[[Batch], Any]:
    """Draws S items for each position, uniformly, none that its user has."""
    sampler = fastnce.UniformSampler(len(task.counts), sampled, unique=False, seed=task.seed)

    def draw(batch: Batch) -> Any:
        offsets = torch.tensor([0, *map(len, batch.known)]).cumsum(0)
        known = Ragged(torch.tensor([item for items in batch.known for item in items]), offsets)
        return sampler(batch.target, num_groups=len(batch.target), exclude=known)

    return draw


def per_example(task: Task) -> Loss:
    """Cross entropy over the next item and S others of each position's own."""
    draw = own_negatives(task, task.sampled)
    return lambda batch: fastnce.torch.sampled_softmax_loss(
        batch.hidden, batch.target, task.weight, None, draw(batch), sparse=False
    )


def binary(sampled: int | None, calibration: float) -> Callable[[Task], Loss]:
    """Binary cross entropy of the next item and of some others; with a calibration, gBCE."""

    def make(task: Task) -> Loss:
        count = sampled or task.sampled
        draw = own_negatives(task, count)
        beta = fastnce.gbce_weight(count, len(task.counts), calibration)
        return lambda batch: fastnce.torch.negative_sampling_loss(
            batch.hidden, batch.target, task.weight, None, draw(batch)[0], positive_weight=beta, sparse=False
        )

    return make


LOSSES: dict[str, Callable[[Task], Loss]] = {
    "softmax": full_softmax,
    "uniform": sampled_softmax("uniform"),
    "unigram": sampled_softmax("unigram"),
    "mixed": sampled_softmax("mixed"),
    "per-example": per_example,
    "gbce": binary(None, 0.75),  # gSASRec, Petrov and Macdonald 2023
    "bce": binary(1, 0.0),  # SASRec as published: one negative
}


class Recommender:
    """The model and the log it learns from."""

    def __init__(self, log: Log, options: argparse.Namespace) -> None:
        self.log, self.options = log, options
        self.model = SASRec(len(log.counts), options.dim, options.length, options.blocks, options.dropout)
        self.loss = LOSSES[options.loss](Task(self.model.items.weight, log.counts, options.sampled, options.seed))
        self.optimizer = torch.optim.Adam(self.model.parameters(), options.lr, betas=(0.9, 0.98))

    def histories(self, lists: list[list[int]]) -> tuple[Tensor, Tensor]:
        """The last L items of each, as ``[B, L]`` and their lengths ``[B]``."""
        cut = [torch.tensor(items[-self.options.length :]) for items in lists]
        return nn.utils.rnn.pad_sequence(cut, batch_first=True), torch.tensor([len(items) for items in cut])

    def batches(self) -> Iterator[list[list[int]]]:
        """Users in a new order, B at a time, without their last two items."""
        users = [items[:-2] for items in self.log.users if len(items) >= 4]
        random.shuffle(users)
        yield from (users[at : at + self.options.batch] for at in range(0, len(users), self.options.batch))

    def positions(self, users: list[list[int]]) -> Batch:
        """Positions of users that have a next item."""
        histories, lengths = self.histories([items[:-1] for items in users])
        targets, _ = self.histories([items[1:] for items in users])
        has_next = torch.arange(histories.shape[1]) < lengths[:, None]
        known = [items for items, length in zip(users, lengths.tolist(), strict=True) for _ in range(length)]
        return Batch(self.model(histories, lengths)[has_next], targets[has_next], known)

    def step(self, users: list[list[int]]) -> Tensor:
        """One step of Adam; returns the mean loss."""
        users = sorted(users, key=len)
        size = -(-len(users) // PARTS)
        parts = [self.positions(users[at : at + size]) for at in range(0, len(users), size)]
        hidden, targets, known = zip(*parts, strict=True)
        loss = self.loss(Batch(torch.cat(hidden), torch.cat(targets), [*chain(*known)]))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def evaluate(self, last: int) -> dict[str, float]:
        """HR@10 and NDCG@10 of the item ``last`` from the end, 1 or 2, from those before it."""
        self.model.eval()
        ranks = []
        for at in range(0, len(self.log.users), EVALUATED):
            users = [items[: len(items) + 1 - last] for items in self.log.users[at : at + EVALUATED]]
            histories, lengths = self.histories([items[:-1] for items in users])
            hidden = self.model(histories, lengths)[torch.arange(len(users)), lengths - 1]
            seen = [item for items in users for item in items[:-1]]
            offsets = torch.tensor([0, *(len(items) - 1 for items in users)]).cumsum(0)
            target = torch.tensor([items[-1] for items in users])
            ranks.append(
                fastnce.torch.rank_of_labels(
                    hidden, target, self.model.items.weight, None, exclude=Ragged(torch.tensor(seen), offsets)
                )
            )
        self.model.train()
        every = torch.cat(ranks)
        return {"HR@10": metrics.hits_at_k(every, 10), "NDCG@10": metrics.ndcg_at_k(every, 10)}


def progress(batches: Iterator[Any], count: int, epoch: int) -> Any:
    """The batches, with a bar where tqdm is installed and somebody looks."""
    try:
        from tqdm import tqdm
    except ImportError:
        return batches
    return tqdm(batches, total=count, desc=f"epoch {epoch}", leave=False, disable=not sys.stderr.isatty())


def writer_of(directory: Path | None) -> Any:
    """TensorBoard's writer, if it is asked for."""
    if directory is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise SystemExit("--tensorboard: expected TensorBoard to be installed, `pip install tensorboard`") from None
    return SummaryWriter(str(directory))


def train(recommender: Recommender, options: argparse.Namespace) -> dict[str, Any]:
    """Trains until the validation has not improved for a while; tests the best epoch."""
    writer = writer_of(options.tensorboard)
    best: dict[str, Any] = {"NDCG@10": -1.0}
    seconds, history = [], []
    for epoch in range(1, options.epochs + 1):
        began = time.perf_counter()
        count = -(-len(recommender.log.users) // options.batch)
        losses = [recommender.step(users) for users in progress(recommender.batches(), count, epoch)]
        seconds.append(time.perf_counter() - began)
        loss, found = float(torch.stack(losses).mean()), recommender.evaluate(last=2)
        print(
            f"epoch {epoch:3}: loss {loss:.4f}, {seconds[-1]:.1f} s, validation",
            *map("{0[0]} {0[1]:.4f}".format, found.items()),
        )
        if writer is not None:
            for name, value in {"loss": loss, **found}.items():
                writer.add_scalar(name, value, epoch)
        history.append(found["NDCG@10"])
        if found["NDCG@10"] > best["NDCG@10"]:
            state = {name: value.clone() for name, value in recommender.model.state_dict().items()}
            best = {**found, "epoch": epoch, "state": state}
        if epoch - best["epoch"] >= options.patience or sum(seconds) > 60 * options.minutes:
            break
    recommender.model.load_state_dict(best["state"])
    found = recommender.evaluate(last=1)
    return {
        "loss": options.loss, "seed": options.seed, "epoch": best["epoch"], "epochs": len(seconds), **found,
        "validation": history, "seconds_per_epoch": sorted(seconds)[len(seconds) // 2],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def parse_arguments() -> argparse.Namespace:
    """The options; defaults are the papers'."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    add = parser.add_argument
    add("--log", type=Path, help="a user a line: id of the user, ids of items in order of time; default: synthetic")
    add("--loss", choices=list(LOSSES), default="softmax")
    add("--sampled", type=int, default=256, help="S, sampled items of the batch or of each position")
    add("--dim", type=int, default=64)
    add("--blocks", type=int, default=2)
    add("--length", type=int, default=50, help="L, items of a history that are read")
    add("--dropout", type=float, default=0.5)
    add("--batch", type=int, default=128, help="B, users")
    add("--lr", type=float, default=1e-3)
    add("--epochs", type=int, default=200)
    add("--patience", type=int, default=10, help="epochs without a better validation before it ends")
    add("--minutes", type=float, default=30, help="of training before it ends")
    add("--seed", type=int, default=1)
    add("--threads", type=int)
    add("--tensorboard", type=Path, metavar="DIRECTORY")
    add("--json", type=Path, help="append the results to this file, an object a line")
    return parser.parse_args()


def main() -> None:
    """Train, test, tell."""
    options = parse_arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
        fastnce.set_num_threads(options.threads)
    random.seed(options.seed)
    torch.manual_seed(options.seed)
    log = ranked(synthetic_log() if options.log is None else read_log(options.log))
    actions = sum(map(len, log.users))
    print(f"{len(log.users):,} users, {len(log.counts):,} items, {actions:,} actions")
    results = train(Recommender(log, options), options)
    print(
        f"test: HR@10 {results['HR@10']:.4f}, NDCG@10 {results['NDCG@10']:.4f} (epoch {results['epoch']}), "
        f"{results['seconds_per_epoch']:.1f} s per epoch, peak memory {results['peak_mib']:.0f} MiB"
    )
    if options.json:
        with options.json.open("a") as file:
            file.write(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
