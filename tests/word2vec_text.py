"""A small text about two topics, for tests of the trainer."""

from __future__ import annotations

import random

TOPICS = (
    ["sea", "ship", "wave", "sailor", "harbour", "tide", "anchor", "fish", "sail", "storm"],
    ["field", "plough", "wheat", "farmer", "barn", "horse", "harvest", "seed", "mill", "cow"],
)


def two_topics(sentences: int = 300) -> list[list[str]]:
    """Sentences about two topics in turn, with words of falling frequency, and one that occurs once in each."""
    draw = random.Random(5)
    by_rank = [1 / rank for rank in range(1, 11)]
    return [["the", *draw.choices(TOPICS[i % 2], by_rank, k=12), f"rare{i}"] for i in range(sentences)]


def as_text(sentences: list[list[str]]) -> str:
    """One sentence a line."""
    return "".join(f"{' '.join(sentence)}\n" for sentence in sentences)
