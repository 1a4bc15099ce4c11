"""``Word2Vec``: trains word vectors from a text, in gensim's habits."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, SupportsFloat, SupportsIndex

import fastnce
from fastnce._errors import is_a, not_negative
from fastnce.word2vec import _checkpoint, _corpus, _files, _progress, _text, _words
from fastnce.word2vec._options import Loss, Options, integer
from fastnce.word2vec._training import AfterEpoch, Training

Path = str | os.PathLike[str]


class Word2Vec:
    """Skip-gram word vectors, trained when the object is made.

        >>> model = Word2Vec(corpus_file="text.txt", vector_size=100, epochs=5)
        >>> model.wv.most_similar("economy")

    For each word of the text and each word within its window, in one paragraph, the loss of negative sampling is::

        loss = softplus(-v[word] . u[context]) + negative * E(softplus(v[word] . u[noise]))

    v: the word vectors, ``wv``; u: ``outputs``; noise: a word drawn by its count to the power of ``ns_exponent``. For
    each word, the size of the window is drawn from 1 to ``window``; words more frequent than ``sample`` are left out at
    random.
    On one thread, results are the same in each run, bit for bit; several threads update the vectors without locks.

    Args:
        sentences: An iterable of lists of words (str), or of item ids (int): sessions, baskets. It is read once.
        corpus_file: A file, or a list of files, in place of ``sentences``: UTF-8, one paragraph a line, words separated
            by spaces; plain, ``.gz`` or ``.xz``; ``"-"`` is the standard input.
        vector_size: D, the width of a vector.
        alpha: The learning rate at the beginning; it falls linearly to ``min_alpha``. ``None``: 0.05, less where
            ``negative`` or ``window`` are larger than 5. gensim's is 0.025.
        window: The largest distance between a word and its context.
        min_count: Words that occur less often are left out.
        sample: Words with a larger share of the text are thinned out; 0: none.
        seed: Of the initial vectors and all draws.
        workers: Threads; ``None``: as many as :func:`fastnce.get_num_threads` says.
        min_alpha: The learning rate at the end.
        negative: Noise words for each pair of a word and a context, k.
        ns_exponent: The power of the counts by which noise is drawn.
        epochs: Passes over the text.
        loss: ``"negative_sampling"``, ``"nce"`` or ``"sampled_softmax"``.
        errors: What becomes of bytes of a file that are not UTF-8: ``"strict"`` (an error that says where),
            ``"replace"`` or ``"ignore"``.
        progress: Show loss, words per second and time left on standard error.
        checkpoint: A file to which the state is written every ``checkpoint_seconds`` and at Ctrl-C. It replaces an
            older checkpoint; any other file of that name is an error.
        checkpoint_seconds: How often.
        resume: Go on from ``checkpoint``. Text and options must be those of the interrupted run. On one thread the
            result is that of a run that was never interrupted, bit for bit.
        after_epoch: Called as ``after_epoch(epochs done, vectors so far)``, a :class:`KeyedVectors`; a str that it
            returns is shown.
        sg: 1, as scripts for gensim pass it: skip-gram is the only model.

    Raises:
        ValueError: Unusable options, text or checkpoint.
        DivergedError: The loss or the vectors are not finite, or far too large.
        TrainingInterrupted: A ``KeyboardInterrupt``, at Ctrl-C or SIGTERM, after the piece that was being trained.
    """

    def __init__(
        self,
        sentences: Iterable[Iterable[Any]] | None = None,
        corpus_file: Path | Sequence[Path] | None = None,
        *,
        vector_size: SupportsIndex = 100,
        alpha: SupportsFloat | None = None,
        window: SupportsIndex = 5,
        min_count: SupportsIndex = 5,
        sample: SupportsFloat = 1e-3,
        seed: SupportsIndex = 1,
        workers: SupportsIndex | None = None,
        min_alpha: SupportsFloat = 1e-4,
        negative: SupportsIndex = 5,
        ns_exponent: SupportsFloat = 0.75,
        epochs: SupportsIndex = 5,
        loss: Loss = "negative_sampling",
        errors: str = "strict",
        progress: bool = False,
        checkpoint: Path | None = None,
        checkpoint_seconds: SupportsFloat = 600.0,
        resume: bool = False,
        after_epoch: AfterEpoch | None = None,
        sg: SupportsIndex = 1,
    ) -> None:
        if sg != 1:
            raise ValueError(f"sg = {sg!r}: expected 1; skip-gram is the only model")
        given: dict[str, Any] = {
            "vector_size": vector_size,
            "alpha": alpha,
            "min_alpha": min_alpha,
            "window": window,
            "min_count": min_count,
            "sample": sample,
            "negative": negative,
            "ns_exponent": ns_exponent,
            "epochs": epochs,
            "loss": loss,
            "seed": seed,
        }
        options = Options(**given)  # which converts
        threads = fastnce.get_num_threads() if workers is None else integer("workers", workers, 1, 4096)
        seconds = not_negative(checkpoint_seconds, "checkpoint_seconds")
        if resume and checkpoint is None:
            raise ValueError("resume=True needs checkpoint=, the file to go on from")
        paths = _paths(sentences, corpus_file)
        if checkpoint is not None:
            _files.require_writable(checkpoint)
            _files.require_distinct([checkpoint], paths)
            if resume:
                _checkpoint.require(checkpoint, options)
            else:
                _checkpoint.require_replaceable(checkpoint)
        if sentences is not None:
            corpus = _corpus.read_sentences(sentences, options.min_count)
        else:
            corpus = _read(paths, options.min_count, errors, progress)
        if checkpoint is not None:
            _words.encoded(corpus.words)  # raises for words that a checkpoint cannot hold
        training = Training(corpus, options)
        if resume and checkpoint is not None:
            _checkpoint.resume(checkpoint, training)
        schedule = None if checkpoint is None else _checkpoint.Schedule(checkpoint, seconds)
        training.run(threads, progress, schedule, after_epoch)
        corpus.close()
        self._training = training
        self.wv = training.keyed_vectors()
        """The word vectors: a :class:`KeyedVectors`."""
        self.outputs = training.outputs
        """``[V, D]``: the output (context) vectors; gensim's ``syn1neg``."""
        self.losses = training.losses
        """Loss per pair of each epoch."""
        self.vector_size = options.vector_size
        """D."""
        self.total_words = corpus.total
        """Words of the text."""
        self.words_per_second = (training.words - training.started_at) / training.seconds if training.seconds else 0.0
        """Words of the text, in all epochs, for each second in the training loop."""

    def save_checkpoint(self, path: Path) -> None:
        """Write the state, as during training: ``resume`` gives this model without training again."""
        _checkpoint.Schedule(path, 0).write(self._training)


def _paths(sentences: object, corpus_file: Path | Sequence[Path] | None) -> list[Path]:
    """The files of the text; none if there are ``sentences``."""
    if sentences is not None and corpus_file is not None:
        raise TypeError(
            f"both sentences and corpus_file (the second argument without a name, {corpus_file!r:.50}) are given: "
            "expected one of them; options need their names, as in vector_size=50"
        )
    if isinstance(sentences, str | bytes | os.PathLike):
        raise TypeError(
            f"sentences {is_a(sentences)}: expected an iterable of lists of words; give a file as corpus_file="
        )
    if sentences is None and corpus_file is None:
        raise TypeError("neither sentences nor corpus_file is given: expected one of them")
    if isinstance(corpus_file, str | os.PathLike):
        return [corpus_file]
    try:
        paths = [] if corpus_file is None else list(corpus_file)
    except TypeError:
        raise TypeError(f"corpus_file {is_a(corpus_file)}: expected the name of a file, or a list of names") from None
    if sentences is None and not paths:
        raise ValueError("corpus_file is an empty list: expected at least one file")
    return paths


def _read(paths: list[Path], min_count: int, errors: str, show: bool) -> _corpus.Corpus:
    for path in paths:
        if os.fspath(path) != "-":
            os.stat(path)  # raises before others are read
    plain = all(os.path.isfile(path) and not _text.suffix(path) for path in paths)
    size = sum(os.path.getsize(path) for path in paths) if plain else None
    bar = _progress.progress(show, "reading", size, "B")
    try:
        return _corpus.read_files(paths, min_count, errors, bar.update)
    finally:
        bar.close()
