"""Word vectors (word2vec) from text, and vectors of items from sessions.

    >>> from fastnce.word2vec import Word2Vec
    >>> model = Word2Vec(corpus_file="text.txt")
    >>> model.wv.most_similar("economy")
    >>> model.wv.save("vectors.txt")

On the command line: ``fastnce word2vec text.txt -o vectors.txt``.
"""

from fastnce.word2vec._evaluate import WordPairs
from fastnce.word2vec._interrupt import TrainingInterrupted
from fastnce.word2vec._model import Word2Vec
from fastnce.word2vec._picture import plot_map
from fastnce.word2vec._training import DivergedError
from fastnce.word2vec._vectors import KeyedVectors

__all__ = ["DivergedError", "KeyedVectors", "TrainingInterrupted", "Word2Vec", "WordPairs", "plot_map"]
