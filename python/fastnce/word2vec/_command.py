"""The commands ``fastnce word2vec`` and ``fastnce similar``."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastnce.word2vec import _arguments, _checkpoint, _evaluate, _files, _formats, _picture, _progress
from fastnce.word2vec._interrupt import TrainingInterrupted
from fastnce.word2vec._model import Word2Vec
from fastnce.word2vec._training import AfterEpoch
from fastnce.word2vec._vectors import KeyedVectors

_OPTIONS = {
    "the same call with resume=True": "--resume",
    "errors='replace' or errors='ignore'": "--errors replace or --errors ignore",
}
"""Python's words in messages, and the command line's."""
_MAPPED = 10
"""Words of a map, each with some neighbours."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command. The exit code: 0, 1 after an error, 2 for wrong arguments, 128 + the signal that ended it."""
    args = _arguments.parse(arguments)
    try:
        {"word2vec": _word2vec, "similar": _similar}[args.command](args)
    except TrainingInterrupted as interrupted:
        return _fail(str(interrupted), 128 + interrupted.signum)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except KeyError as error:
        return _fail(error.args[0], 1)
    except BrokenPipeError:  # `fastnce similar ... | head`
        return 1
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except (ValueError, ArithmeticError, ImportError, MemoryError) as error:
        return _fail(str(error) or "not enough memory", 1)
    return 0


def _fail(message: str, code: int) -> int:
    for python, option in _OPTIONS.items():
        message = message.replace(python, option)
    _progress.show(f"fastnce: {message}")
    return code


def _word2vec(args: argparse.Namespace) -> None:
    _files.require_writable(args.output)
    _formats.require_format(args.output)
    _require_plot(args.plot)
    checkpoint = args.checkpoint or f"{args.output}.checkpoint"
    written = [*_formats.written(args.output), checkpoint, args.plot]
    read = [*args.corpus, args.similarity, args.analogies]
    _files.require_distinct(filter(None, written), filter(None, read))
    if not args.resume and os.path.isfile(checkpoint):
        _checkpoint.require_replaceable(checkpoint)
        raise ValueError(f"{checkpoint} is of an interrupted run: --resume goes on from there; remove it to begin anew")
    say: Callable[[str], None] = (lambda line: None) if args.quiet else _progress.show
    model = Word2Vec(
        corpus_file=args.corpus,
        vector_size=args.dim,
        alpha=args.alpha,
        window=args.window,
        min_count=args.min_count,
        sample=args.sample,
        seed=args.seed,
        workers=args.threads,
        min_alpha=args.min_alpha,
        negative=args.negative,
        ns_exponent=args.ns_exponent,
        epochs=args.epochs,
        loss=args.loss,
        errors=args.errors,
        progress=not args.quiet,
        checkpoint=checkpoint,
        checkpoint_seconds=args.checkpoint_every,
        resume=args.resume,
        after_epoch=_evaluation(args),
    )
    rate = f"; {model.words_per_second:,.0f} words/s" if model.words_per_second else ""
    say(f"{model.total_words:,} words, {len(model.wv):,} in the vocabulary{rate}")
    try:
        model.wv.save(args.output)
    except (OSError, MemoryError, KeyboardInterrupt):  # which must not cost the training
        with contextlib.suppress(OSError):
            model.save_checkpoint(checkpoint)
            say(f"the trained state is in {checkpoint}: --resume writes the vectors")
        raise
    say(f"saved {args.output}")
    if args.plot is not None:
        _picture.plot_map(args.plot, model.wv, _picture.mapped_words(model.wv, _MAPPED))
        say(f"map: {args.plot}")
    if os.path.isfile(checkpoint):  # and not a device
        os.remove(os.path.realpath(checkpoint))  # done: there is nothing to go on with


def _evaluation(args: argparse.Namespace) -> AfterEpoch | None:
    """What --similarity and --analogies show after each epoch. Their files are read once now, to fail early."""
    if args.similarity:
        _evaluate.judged_pairs(args.similarity)
    if args.analogies:
        _evaluate.analogies(args.analogies)

    def after_epoch(done: int, vectors: KeyedVectors) -> str:
        notes = []
        try:
            if args.similarity:
                pairs = vectors.evaluate_word_pairs(args.similarity)
                notes.append(f"similarity {pairs.spearman:.3f} ({pairs.oov_ratio:.0f} % unknown)")
            if args.analogies:
                notes.append(f"analogies {vectors.evaluate_word_analogies(args.analogies)[0]:.1%}")
        except (ValueError, OSError) as error:  # is no reason to end the training
            notes.append(str(error))
        return ", ".join(notes)

    return after_epoch if args.similarity or args.analogies else None


def _require_plot(path: Path | None) -> None:
    if path is not None:
        _files.require_writable(path)
        _picture.require(path)


def _similar(args: argparse.Namespace) -> None:
    _require_plot(args.plot)
    if args.plot is not None:
        _files.require_distinct([args.plot], [args.vectors])
    vectors = KeyedVectors.load(args.vectors)
    words, minus = ([_key(vectors, word) for word in given] for given in (args.words, args.minus))
    queries = [(words, minus)] if minus else [([word], []) for word in words]
    answers = [vectors.most_similar(*query, args.topn) for query in queries]
    lines = []
    for (positive, negative), answer in zip(queries, answers, strict=True):
        lines.append(" ".join([" + ".join(map(str, positive)), *(f"- {word}" for word in negative)]))
        lines += [f"  {cosine:.3f}  {word}" for word, cosine in answer]
    _print(lines)
    if args.plot is not None:
        _picture.plot_map(args.plot, vectors, [*words, *minus])


def _print(lines: list[str]) -> None:
    """Print at once: what fails when the interpreter ends is shown as a traceback."""
    try:
        print("\n".join(lines), flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left
        raise


def _key(vectors: KeyedVectors, word: str) -> Any:
    """A word of the command line as it is in the file, where ids of items are integers."""
    if word not in vectors:
        with contextlib.suppress(ValueError):
            return int(word) if int(word) in vectors else word
    return word
