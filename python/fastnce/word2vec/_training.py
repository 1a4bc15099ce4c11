"""The run: pieces of text go to the training loop; between two of them are progress, checks, checkpoints and Ctrl-C."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable

import numpy as np

from fastnce import _core
from fastnce.word2vec import _checkpoint, _interrupt, _progress, _tables
from fastnce.word2vec._corpus import Corpus, Ids
from fastnce.word2vec._options import Options
from fastnce.word2vec._tables import Floats
from fastnce.word2vec._vectors import KeyedVectors

PIECE = 1 << 20
"""Ids at a time: some 0.2 s of training."""

AfterEpoch = Callable[[int, KeyedVectors], str | None]
"""Called with the number of epochs done and the vectors so far; what it returns is shown with the epoch's loss."""

_PROBED = 1 << 14
"""Ids on which the loss of the untrained vectors is measured first."""
_WORSE = 1.05
"""A piece whose loss is so many times that of the untrained vectors has diverged. Few pairs may have it by chance."""
_FEW = 1000
_LARGEST = 1e2
"""Of the entries of vectors: trained ones have some units."""
_SHARES = 16
"""After each piece one of so many shares of the tables is looked through, in turn: all of it would cost 2 %."""


class DivergedError(ArithmeticError):
    """The loss or the vectors are not finite, or the vectors have grown beyond all use."""


class Training:
    """A run, from its first piece or from a checkpoint to its end. N: ids of one epoch."""

    def __init__(self, corpus: Corpus, options: Options) -> None:
        self.corpus = corpus
        self.options = options
        self.vectors = _tables.initial_vectors(len(corpus.words), options.vector_size, options.seed)
        self.outputs = _tables.zeros(len(corpus.words), options.vector_size)
        self.position = 0
        """In ``[0, epochs * N]``: the next id."""
        self.loss, self.pairs = 0.0, 0
        """Of the current epoch: summed loss, and pairs of centre and context."""
        self.losses: list[float] = []
        """Loss per pair of each finished epoch."""
        self.untrained = math.nan
        """Loss per pair of the initial vectors: the largest of those that were measured."""
        self.seconds = 0.0
        """Spent in the training loop by this process."""
        self._pieces = 0
        self.started_at = 0
        """How many words were done when this process began to train."""

    @property
    def total(self) -> int:
        """Ids of all epochs."""
        return self.options.epochs * self.corpus.length

    @property
    def words(self) -> int:
        """Words of the text that are done, in all epochs, with those that are not in the vocabulary."""
        return round(self.position / self.corpus.length * self.corpus.total)

    def keyed_vectors(self) -> KeyedVectors:
        """The vectors so far, not copied."""
        return KeyedVectors(self.corpus.words, self.vectors, self.corpus.counts)

    def run(
        self,
        threads: int,
        show: bool = False,
        checkpoint: _checkpoint.Schedule | None = None,
        after_epoch: AfterEpoch | None = None,
    ) -> None:
        """Train to the end. Raises ``TrainingInterrupted`` after a piece during which SIGINT or SIGTERM came."""
        if self.position == 0:
            self.untrained = self._untrained_loss(self.corpus.piece(0, _PROBED), 0, 1)
        model = self._model(self.vectors, self.outputs)
        self.started_at = self.words
        words = self.options.epochs * self.corpus.total
        bar = _progress.progress(show, "training", words, "words", self.words)
        with contextlib.closing(bar), _interrupt.noticed() as requests:
            while self.position < self.total:
                before = self.words
                self._train_piece(model, threads)
                bar.update(self.words - before, f"loss {self.loss / max(self.pairs, 1):.3f}")
                if self.position % self.corpus.length == 0:
                    self._end_epoch(bar, after_epoch)
                if requests.signum is not None:
                    raise self._interrupted(requests.signum, checkpoint)
                if checkpoint is not None and checkpoint.due() and self.position < self.total:
                    checkpoint.write(self)
        self.require_finite()

    def _model(self, vectors: Floats, outputs: Floats) -> _core.SkipGram:
        options = self.options
        return _core.SkipGram(
            vectors,
            outputs,
            self.corpus.counts,
            window=options.window,
            negative=options.negative,
            sample=options.sample,
            ns_exponent=options.ns_exponent,
            loss=options.loss,
            seed=options.seed,
        )

    def _untrained_loss(self, ids: Ids, place: int, threads: int) -> float:
        """Loss per pair before training. Outputs are zeros then, and so is every logit, whatever D and the vectors."""
        vectors, outputs = (np.zeros((len(self.corpus.words), 1), np.float32) for _ in range(2))
        loss, pairs, _ = self._model(vectors, outputs).train(ids, place, (0.0, 0.0), threads)
        return loss / max(pairs, 1)

    def _train_piece(self, model: _core.SkipGram, threads: int) -> None:
        ids = self.corpus.piece(self.position % self.corpus.length, PIECE)
        fall = (self.options.rate - self.options.min_alpha) / self.total
        places = self.position, self.position + len(ids)
        # Rounded, the rate of the last id may be below min_alpha, and so below 0.
        first, last = (max(self.options.rate - fall * place, self.options.min_alpha) for place in places)
        start = time.perf_counter()
        loss, pairs, _ = model.train(ids, self.position, (first, last), threads)
        self.seconds += time.perf_counter() - start
        per_pair = loss / max(pairs, 1)
        if self._is_worse(per_pair, pairs):  # or this part of the text is less predictable than those before
            self.untrained = max(self.untrained, self._untrained_loss(ids, self.position, threads))
        self.position += len(ids)
        self.loss += loss
        self.pairs += pairs
        self._require_sane(per_pair, pairs)

    def _is_worse(self, loss: float, pairs: int) -> bool:
        """Whether a loss per pair is worse than that of untrained vectors."""
        return pairs > _FEW and loss > _WORSE * self.untrained

    def _require_sane(self, loss: float, pairs: int) -> None:
        """Look for signs of divergence after a piece with this loss per pair."""
        share = self._pieces % _SHARES
        self._pieces += 1
        largest = max(float(np.abs(table[share::_SHARES]).max(initial=0)) for table in (self.vectors, self.outputs))
        if not math.isfinite(loss) or self._is_worse(loss, pairs) or not largest <= _LARGEST:
            raise self._diverged(
                f"the loss is {loss:.3g} per pair ({self.untrained:.3g} untrained), the largest entry {largest:.3g}"
            )

    def _end_epoch(self, bar: _progress.Silent, after_epoch: AfterEpoch | None) -> None:
        if self.pairs == 0:
            raise ValueError(
                "no paragraph of the text has two words of the vocabulary, or none after those that are too frequent "
                "were thinned out: expected paragraphs of several words; lower min_count, or set sample = 0"
            )
        self.losses.append(self.loss / self.pairs)
        self.loss, self.pairs = 0.0, 0
        done = len(self.losses)
        note = after_epoch(done, self.keyed_vectors()) if after_epoch is not None else None
        line = f"epoch {done}/{self.options.epochs}: loss {self.losses[-1]:.3f} per pair"
        bar.write(f"{line}, {note}" if note else line)

    def require_finite(self) -> None:
        """Raise ``DivergedError`` unless all vectors are finite."""
        for table in (self.vectors, self.outputs):
            if not math.isfinite(float(table.sum(dtype=np.float64))):
                raise self._diverged("not all vectors are finite")

    def _diverged(self, what: str) -> DivergedError:
        return DivergedError(
            f"training diverged after {self.position / self.total:.0%} of the run: {what}; lower alpha "
            f"({self.options.rate:g}), or negative ({self.options.negative}), or window ({self.options.window})"
        )

    def _interrupted(self, signum: int, checkpoint: _checkpoint.Schedule | None) -> _interrupt.TrainingInterrupted:
        message = f"interrupted after {self.position / self.total:.1%} of the run"
        if checkpoint is not None:
            checkpoint.write(self)
            message += f"; the checkpoint is {checkpoint.path}: the same call with resume=True goes on from there"
        return _interrupt.TrainingInterrupted(message, signum)
