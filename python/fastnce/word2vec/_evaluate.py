"""How good word vectors are: analogies and human judgements of similarity, as gensim and word2vec count them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

import fastnce
from fastnce.word2vec import _text

if TYPE_CHECKING:
    from fastnce.word2vec._vectors import KeyedVectors

Path = str | os.PathLike[str]
Doubles = npt.NDArray[np.float64]

_CONSIDERED = 5
"""Of the words nearest to b - a + c, how many are looked through for one that is none of the question's words."""


class WordPairs(NamedTuple):
    """Correlations of cosines with judgements."""

    pearson: float
    spearman: float
    oov_ratio: float
    """Percentage of pairs that have a word that is not in the vocabulary."""


def _known_words(vectors: KeyedVectors, restrict_vocab: int | None, case_insensitive: bool) -> dict[Any, int]:
    """Rows of the words that count; of several that differ in case only, the most frequent one."""
    known: dict[Any, int] = {}
    for i, key in enumerate(vectors.index_to_key[:restrict_vocab]):
        known.setdefault(str(key).upper() if case_insensitive else key, i)
    return known


def _lines(path: Path) -> Iterator[str]:
    with _text.opened(path) as file:
        for line in file:
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                raise ValueError(f"{os.fspath(path)}: {error}: expected UTF-8") from None


def analogies(path: Path) -> list[tuple[str, list[list[str]]]]:
    """The sections of a file, ``(name, analogies)``. Raises ``ValueError`` where there is no analogy."""
    sections: list[tuple[str, list[list[str]]]] = []
    for number, line in enumerate(_lines(path)):
        if line.startswith(": "):
            sections.append((line.lstrip(": ").strip(), []))
            continue
        if not sections:
            raise ValueError(f"{os.fspath(path)}, line {number + 1}: expected ': ' and the name of a section first")
        words = line.split()
        if len(words) == 4:
            sections[-1][1].append(words)
    if not any(questions for _, questions in sections):
        raise ValueError(
            f"{os.fspath(path)} has no analogy: expected lines 'a b c d' after a line ': ' and the name of a section"
        )
    return sections


def judged_pairs(path: Path, delimiter: str = "\t") -> list[tuple[str, str, float]]:
    """The pairs of a file, ``(word, word, judgement)``. Raises ``ValueError`` where there are fewer than two."""
    pairs = []
    for line in _lines(path):
        if line.startswith("#"):
            continue
        try:
            a, b, judgement = line.split(delimiter)
            pairs.append((a, b, float(judgement)))
        except ValueError:
            continue  # as gensim does: an empty line, a heading
    if len(pairs) < 2:
        form = f"'word{delimiter}word{delimiter}number'".replace("\t", "<tab>")
        raise ValueError(f"{os.fspath(path)} has {len(pairs)} lines of the form {form}: expected 2 or more")
    return pairs


def word_analogies(
    vectors: KeyedVectors, path: Path, restrict_vocab: int | None, case_insensitive: bool
) -> tuple[float, list[dict[str, Any]]]:
    """:meth:`KeyedVectors.evaluate_word_analogies`."""
    known = _known_words(vectors, restrict_vocab, case_insensitive)
    sections: list[dict[str, Any]] = []
    questions, asked_in = [], []
    for name, listed in analogies(path):
        sections.append({"section": name, "correct": [], "incorrect": []})
        for words in listed:
            asked = tuple(word.upper() if case_insensitive else word for word in words)
            if all(word in known for word in asked):
                questions.append(asked)
                asked_in.append(sections[-1])
    if not questions:
        raise ValueError(f"{os.fspath(path)}: expected at least one analogy 'a b c d' whose words are all known")
    rows = np.array([[known[word] for word in question[:3]] for question in questions])
    for question, nearest, section in zip(questions, _nearest(vectors, rows, restrict_vocab), asked_in, strict=True):
        names = (str(vectors.index_to_key[i]) for i in nearest if i >= 0)
        answers = (name.upper() if case_insensitive else name for name in names)
        answer = next((name for name in answers if name not in question[:3]), None)
        section["correct" if answer == question[3] else "incorrect"].append(question)
    total = {
        "section": "Total accuracy",
        "correct": [question for section in sections for question in section["correct"]],
        "incorrect": [question for section in sections for question in section["incorrect"]],
    }
    return len(total["correct"]) / len(questions), [*sections, total]


def _nearest(vectors: KeyedVectors, rows: npt.NDArray[np.int64], restrict_vocab: int | None) -> npt.NDArray[np.int64]:
    """``[Q, n]``: the words nearest to b - a + c, without these, for rows ``[Q, 3]`` of a, b, c."""
    unit = vectors.unit_vectors()
    a, b, c = (unit[rows[:, i]] for i in range(3))
    exclude = fastnce.Ragged(rows.ravel(), np.arange(0, rows.size + 1, 3))
    searched = unit[:restrict_vocab]
    ids: npt.NDArray[np.int64]
    _, ids = fastnce.top_k(searched, None, b - a + c, min(_CONSIDERED, len(searched)), exclude)
    return ids


def word_pairs(
    vectors: KeyedVectors, path: Path, delimiter: str, restrict_vocab: int | None, case_insensitive: bool
) -> WordPairs:
    """:meth:`KeyedVectors.evaluate_word_pairs`."""
    known = _known_words(vectors, restrict_vocab, case_insensitive)
    judged, rows, unknown = [], [], 0
    for *pair, value in judged_pairs(path, delimiter):
        a, b = (word.upper() if case_insensitive else word for word in pair)
        if a in known and b in known:
            judged.append(value)
            rows.append((known[a], known[b]))
        else:
            unknown += 1
    if len(judged) < 2:
        raise ValueError(
            f"{os.fspath(path)} has {len(judged)} pairs whose words are both known: expected 2 or more; are its words "
            "written as those of the text?"
        )
    unit = vectors.unit_vectors()
    left, right = np.array(rows).T
    cosines = np.einsum("pd,pd->p", unit[left].astype(np.float64), unit[right].astype(np.float64))
    gold = np.array(judged)
    return WordPairs(
        correlation(gold, cosines),
        correlation(mean_ranks(gold), mean_ranks(cosines)),
        100 * unknown / (unknown + len(judged)),
    )


def correlation(x: Doubles, y: Doubles) -> float:
    """Pearson's; NaN where one of them is constant."""
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else float("nan")


def mean_ranks(values: Doubles) -> Doubles:
    """The rank of each value, 1 for the smallest; equal ones share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Doubles = (last - (counts - 1) / 2)[inverse]
    return ranks
