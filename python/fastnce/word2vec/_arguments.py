"""The command line's arguments."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from fastnce.word2vec import _formats
from fastnce.word2vec._options import LOSSES, Options

_DEFAULT = Options()


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The arguments of ``fastnce COMMAND``; ends the process with code 2 where they make no sense."""
    parser = argparse.ArgumentParser(prog="fastnce", description="Word vectors from text.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_word2vec(commands)
    _add_similar(commands)
    return parser.parse_args(arguments)


class _ShowsDefaults(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def _add_word2vec(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "word2vec",
        help="train word vectors",
        description="Train skip-gram word vectors. A text is UTF-8, one paragraph a line, words separated by spaces.",
        formatter_class=_ShowsDefaults,
    )
    add = parser.add_argument
    add("corpus", nargs="+", metavar="CORPUS", help="text files, plain, .gz or .xz; - is the standard input")
    add("-o", "--output", required=True, metavar="VECTORS", help=f"file to write: {', '.join(_formats.FORMATS)}")
    add("--dim", type=_natural, default=_DEFAULT.vector_size, help="width of a vector")
    add("--window", type=_natural, default=_DEFAULT.window, help="largest distance between a word and its context")
    add(
        "--negative", type=_natural, default=_DEFAULT.negative, help="noise words for each pair of a word and a context"
    )
    add("--min-count", type=_count, default=_DEFAULT.min_count, help="words that occur less often are left out")
    add("--sample", type=_amount, default=_DEFAULT.sample, help="words with a larger share are thinned out; 0: none")
    add("--epochs", type=_natural, default=_DEFAULT.epochs, help="passes over the text")
    add(
        "--alpha",
        type=_amount,
        help="learning rate at the beginning (default: 0.05, less where negatives or window are larger)",
    )
    add("--min-alpha", type=_amount, default=_DEFAULT.min_alpha, help="learning rate at the end")
    add("--ns-exponent", type=float, default=_DEFAULT.ns_exponent, help="power of the counts by which noise is drawn")
    add("--loss", choices=LOSSES, default=_DEFAULT.loss, help="what is minimised")
    add("--threads", type=_natural, help="threads (default: all cores); with 1, runs repeat to the bit")
    add("--seed", type=_count, default=_DEFAULT.seed, help="random seed")
    add("--errors", choices=("strict", "replace", "ignore"), default="strict", help="what to do with bytes not UTF-8")
    add("--similarity", metavar="FILE", help="lines 'word<tab>word<tab>number', evaluated after each epoch")
    add("--analogies", metavar="FILE", help="lines 'a b c d' in sections ': name', evaluated after each epoch")
    add("--checkpoint", metavar="FILE", help="where the state is saved (default: VECTORS.checkpoint)")
    add("--checkpoint-every", type=_amount, default=600.0, metavar="SECONDS", help="how often; always at Ctrl-C")
    add("--resume", action="store_true", help="go on from the checkpoint")
    add(
        "--plot",
        type=Path,
        metavar="FILE",
        help="draw a 2-D map of ten frequent words and their neighbours (Matplotlib)",
    )
    add("--quiet", action="store_true", help="show no progress")


def _add_similar(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "similar",
        help="show the nearest words",
        description="Show the words nearest to each WORD; with --minus, those nearest to the sum of WORDs without "
        "others: 'fastnce similar vectors.txt king woman --minus man'.",
        formatter_class=_ShowsDefaults,
    )
    add = parser.add_argument
    add("vectors", metavar="VECTORS", help=f"file of vectors: {', '.join(_formats.FORMATS)}; .txt.gz, .bin.gz")
    add("words", nargs="+", metavar="WORD", help="a word of the vocabulary")
    add("--minus", nargs="+", default=[], metavar="WORD", help="words that are subtracted")
    add("--topn", type=_natural, default=10, help="how many")
    add("--plot", type=Path, metavar="FILE", help="draw a 2-D map of the words and their neighbours (Matplotlib)")


def _count(text: str) -> int:
    """An integer of at least 0."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text} is not an integer of at least 0")
    return int(text)


def _natural(text: str) -> int:
    """An integer of at least 1."""
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not an integer of at least 1")
    return int(text)


def _amount(text: str) -> float:
    """A number of at least 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return number
