#!/usr/bin/env python3
"""The language model of language_model.py on several processes, its output table spread over them.

Embedding and GRU are replicated in `DistributedDataParallel`; `ShardedNCELoss` holds every P-th row of the output table
on each of the P ranks. Each rank reads its own part of the text. A checkpoint is written after each epoch, and goes on
with any number of processes.

    torchrun --nproc-per-node 2 examples/sharded_language_model.py
    torchrun --nproc-per-node 2 examples/sharded_language_model.py --checkpoint folder    # again: goes on from there

Needs PyTorch (`pip install torch`).
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
import torch.distributed as dist
from language_model import SHIPPED_CORPUS, batches, natural, read_corpus
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import fastnce
from fastnce.torch import softmax_loss
from fastnce.torch.distributed import ShardedNCELoss, even_batches, load_checkpoint, save_checkpoint

BODY = "body-{}.pt"
"""Of the replicated part, beside the checkpoint of the table."""


class Body(nn.Module):
    """Embedding and GRU: ``[N, D]`` for words ``[L, C]``."""

    def __init__(self, num_words: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_words, dim)
        self.gru = nn.GRU(dim, dim, batch_first=True)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)

    def forward(self, words: Tensor) -> Tensor:
        """The state after each word; each batch begins anew."""
        hidden, _ = self.gru(self.embedding(words))
        return hidden.flatten(0, 1)


class Trainer:
    """A model over all ranks, its optimizers, and the epochs that are done."""

    def __init__(self, counts: Tensor, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.body = DistributedDataParallel(Body(len(counts), args.dim))
        self.head = ShardedNCELoss(len(counts), args.dim, args.sampled, seed=args.seed)
        log_probability = (counts / counts.sum()).log()
        with torch.no_grad():
            self.head.bias.copy_(log_probability[dist.get_rank() :: dist.get_world_size()])
        self.body_optimizer = torch.optim.Adagrad(self.body.parameters(), args.lr)
        self.head_optimizer = torch.optim.Adagrad(self.head.parameters(), args.lr)
        self.epochs = 0

    def step(self, words: Tensor, following: Tensor) -> float:
        """Train on this rank's batch."""
        loss = self.head(self.body(words), following)
        for optimizer in (self.body_optimizer, self.head_optimizer):
            optimizer.zero_grad()
        loss.backward()
        for optimizer in (self.body_optimizer, self.head_optimizer):
            optimizer.step()
        return loss.item()

    def save(self, folder: Path) -> None:
        """Write a checkpoint: the table for any number of ranks, the replicated body by the first. The body first, so
        that the table's checkpoint, which names the epoch, never names one that is not there."""
        if dist.get_rank() == 0:
            folder.mkdir(parents=True, exist_ok=True)
            state = {"body": self.body.module.state_dict(), "optimizer": self.body_optimizer.state_dict()}
            torch.save(state, folder / BODY.format(self.epochs))
        save_checkpoint(folder, self.head, self.head_optimizer, {"epochs": self.epochs})
        if dist.get_rank() == 0:
            (folder / BODY.format(self.epochs - 1)).unlink(missing_ok=True)

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint."""
        self.epochs = load_checkpoint(folder, self.head, self.head_optimizer)["epochs"]
        state = torch.load(folder / BODY.format(self.epochs))
        self.body.module.load_state_dict(state["body"])
        self.body_optimizer.load_state_dict(state["optimizer"])


@torch.no_grad()
def perplexity(trainer: Trainer, ids: Tensor) -> float:
    """Of a text under the full softmax. The table of this vocabulary fits one process, which gathers it."""
    parts: list[tuple[Tensor, Tensor]] = [None] * dist.get_world_size()  # type: ignore[list-item]
    dist.all_gather_object(parts, (trainer.head.weight, trainer.head.bias))
    weight, bias = (torch.empty(trainer.head.num_classes, *part.shape[1:]) for part in parts[0])
    for rank, (rows, biases) in enumerate(parts):
        weight[rank :: len(parts)], bias[rank :: len(parts)] = rows, biases
    total, count = 0.0, 0
    for words, following in batches(ids):
        total += softmax_loss(trainer.body.module(words), following, weight, bias, reduction="sum").item()
        count += len(following)
    return math.exp(total / count)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train a language model on several processes; run it by torchrun.")
    add = parser.add_argument
    add("--corpus", type=Path, default=SHIPPED_CORPUS, help="text; one paragraph per line, blank line after a document")
    add("--checkpoint", type=Path, help="folder, shared by all processes: written after each epoch, read at the start")
    add("--sampled", type=natural, default=1024, help="number of sampled words per step, of all ranks")
    add("--dim", type=natural, default=128, help="width of embeddings and GRU")
    add("--epochs", type=natural, default=2, help="passes over the text")
    add("--min-count", type=natural, default=2, help="words that occur less often are replaced by <unk>")
    add("--lr", type=float, default=0.05, help="learning rate of Adagrad")
    add("--seed", type=int, default=1, help="random seed of weights and samples")
    return parser.parse_args()


def main() -> None:
    """Read, train, evaluate."""
    args = parse_arguments()
    torch.set_num_threads(1)
    fastnce.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    corpus = read_corpus(args.corpus, args.min_count)
    trainer = Trainer(corpus.counts, args)
    if args.checkpoint and (args.checkpoint / "latest.json").exists():
        trainer.load(args.checkpoint)
    own = corpus.train.tensor_split(size)[rank]
    if rank == 0:
        processes = "1 process" if size == 1 else f"{size} processes"
        print(f"{processes}, {len(corpus.counts):,} words, {len(trainer.head.weight):,} rows on rank 0", flush=True)
    while trainer.epochs < args.epochs:
        begin = time.perf_counter()
        losses = [trainer.step(*batch) for batch in even_batches(batches(own))]
        trainer.epochs += 1
        if args.checkpoint:
            trainer.save(args.checkpoint)
        held_out = perplexity(trainer, corpus.held_out)
        if rank == 0:
            print(
                f"epoch {trainer.epochs}: loss {sum(losses) / len(losses):.3f}, "
                f"{1e3 * (time.perf_counter() - begin) / len(losses):.0f} ms per step, "
                f"held-out perplexity {held_out:.1f}",
                flush=True,
            )
    dist.barrier()  # gloo may wait for ever if it is torn down while another rank still uses it
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
