"""Training: what is learnt, what each piece is given, divergence, checkpoints."""

from __future__ import annotations

import errno
import mmap
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastnce import _core
from fastnce.word2vec import (
    DivergedError,
    KeyedVectors,
    TrainingInterrupted,
    Word2Vec,
    _checkpoint,
    _corpus,
    _tables,
    _training,
)
from fastnce.word2vec._options import Options
from word2vec_text import TOPICS, as_text, two_topics

SMALL: dict[str, Any] = {"vector_size": 12, "min_count": 2, "sample": 0, "workers": 1}


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a thousand ids: five or six of them are an epoch of two_topics()."""
    monkeypatch.setattr(_training, "PIECE", 1000)


def contrast(vectors: KeyedVectors) -> float:
    """The mean cosine within the topics, less that between them."""
    unit = vectors.unit_vectors()
    sea, field = (unit[[vectors.get_index(word) for word in topic]] for topic in TOPICS)
    return min((sea @ sea.T).mean(), (field @ field.T).mean()) - (sea @ field.T).mean()


@pytest.mark.parametrize("loss", ["negative_sampling", "nce", "sampled_softmax"])
@pytest.mark.parametrize("workers", [1, 2])
def test_words_of_a_topic_come_together(loss: Any, workers: int) -> None:
    alpha = 0.02 if loss == "sampled_softmax" else 0.05
    model = Word2Vec(two_topics(), **SMALL | {"workers": workers}, epochs=20, alpha=alpha, loss=loss)
    assert sorted(model.wv.index_to_key) == sorted(["the", *TOPICS[0], *TOPICS[1]])  # what occurs once is left out
    assert model.wv.index_to_key[0] == "sea"
    assert contrast(model.wv) > 0.3
    assert len(model.losses) == 20
    assert model.losses[-1] < model.losses[0]
    assert model.total_words == 300 * 14
    assert model.words_per_second > 0
    assert {word for word, _ in model.wv.most_similar("ship", topn=5)} < {*TOPICS[0], "the"}


def test_one_thread_repeats_itself_and_the_seed_counts() -> None:
    first, again, other = (Word2Vec(two_topics(), **SMALL, epochs=2, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(again.wv.vectors, first.wv.vectors)
    np.testing.assert_array_equal(again.outputs, first.outputs)
    assert again.losses == first.losses
    assert np.abs(other.wv.vectors - first.wv.vectors).max() > 0.01


def test_a_call_of_gensim_with_sg_trains_skip_gram() -> None:
    of_gensim, here = (Word2Vec(two_topics(), **SMALL, epochs=1, **given) for given in ({"sg": 1}, {}))
    np.testing.assert_array_equal(of_gensim.wv.vectors, here.wv.vectors)
    assert of_gensim.vector_size == 12


def test_files_sentences_and_sessions_of_one_text_train_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(as_text(two_topics()))
    numbers: dict[str, int] = {}
    sessions = [[numbers.setdefault(word, len(numbers)) for word in sentence] for sentence in two_topics()]
    of_file, of_list, of_ids = (
        Word2Vec(**SMALL, epochs=1, **given)
        for given in ({"corpus_file": path}, {"sentences": iter(two_topics())}, {"sentences": sessions})
    )
    np.testing.assert_array_equal(of_list.wv.vectors, of_file.wv.vectors)
    np.testing.assert_array_equal(of_ids.wv.vectors, of_file.wv.vectors)
    assert of_ids.wv.index_to_key == [numbers[word] for word in of_file.wv.index_to_key]
    np.testing.assert_array_equal(of_ids.wv[numbers["sea"]], of_file.wv["sea"])


class Recorded:
    """In place of the training loop: what it is given, and results as a test sets them."""

    def __init__(self, result: Callable[[int], tuple[float, int, int]]) -> None:
        self.calls: list[tuple[np.ndarray, int, tuple[float, float], int]] = []
        self.result = result

    def __call__(self, vectors: np.ndarray, outputs: np.ndarray, counts: np.ndarray, **options: Any) -> Recorded:
        self.vectors, self.outputs, self.counts, self.options = vectors, outputs, counts, options
        return self

    def train(self, ids: np.ndarray, place: int, rates: tuple[float, float], threads: int) -> tuple[float, int, int]:
        if rates == (0.0, 0.0):  # how good the vectors are before training
            return 400.0, 4, 3
        self.calls.append((ids, place, rates, threads))
        return self.result(len(self.calls))


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, small_pieces: None) -> Iterator[Recorded]:
    loop = Recorded(lambda call: (2.0 * call, 4, 3))
    monkeypatch.setattr(_core, "SkipGram", loop)
    return loop


def test_pieces_cover_each_epoch_and_the_rate_falls_linearly(recorded: Recorded) -> None:
    sentences = two_topics()
    seen = []
    model = Word2Vec(
        sentences, **SMALL | {"workers": 3}, epochs=2, alpha=0.5, min_alpha=0.1, after_epoch=lambda n, _: seen.append(n)
    )
    per_epoch = 14 * 300  # 13 words of each sentence and its end
    places = [place for _, place, _, _ in recorded.calls]
    sizes = [len(ids) for ids, _, _, _ in recorded.calls]
    assert places == np.cumsum([0, *sizes[:-1]]).tolist()
    assert sum(sizes) == 2 * per_epoch
    assert per_epoch in places
    text = np.concatenate([ids for ids, _, _, _ in recorded.calls])
    words = model.wv.index_to_key
    expected = [i for s in sentences for i in (*(words.index(w) for w in s if not w.startswith("rare")), -1)]
    assert text.tolist() == 2 * expected
    for (_, place, rates, threads), size in zip(recorded.calls, sizes, strict=True):
        np.testing.assert_allclose(rates, [0.5 - 0.4 * at / (2 * per_epoch) for at in (place, place + size)])
        assert threads == 3
    half = len(recorded.calls) // 2
    assert model.losses == [
        2 * sum(range(1, half + 1)) / (4 * half),
        2 * sum(range(half + 1, 2 * half + 1)) / (4 * half),
    ]
    assert seen == [1, 2]


def test_the_loop_gets_the_options_and_the_tables_of_word2vec(recorded: Recorded) -> None:
    options = {"window": 3, "negative": 7, "sample": 0.01, "ns_exponent": 0.5, "loss": "nce", "seed": 9}
    model = Word2Vec(two_topics(), vector_size=20, workers=1, min_count=2, **options)
    assert recorded.options == options
    assert recorded.vectors is model.wv.vectors
    np.testing.assert_array_equal(recorded.counts, model.wv.counts)
    assert np.abs(recorded.vectors).max() <= 0.5 / 20
    assert np.abs(recorded.vectors).mean() == pytest.approx(0.25 / 20, rel=0.1)
    assert not recorded.outputs.any()


@pytest.mark.parametrize(("rows", "width"), [(7, 5), (7, 16), (50_000, 100)])
def test_rows_of_tables_are_aligned_and_padded(rows: int, width: int) -> None:
    table = _tables.zeros(rows, width)
    assert table.shape == (rows, width)
    assert table.ctypes.data % 64 == 0
    assert table.strides == (-(-width // 16) * 64, 4)
    assert not table.any()
    table[-1] = 1
    first, second = (_tables.initial_vectors(rows, width, seed) for seed in (1, 2))
    assert (first != second).any()


def test_a_table_that_is_too_large_says_how_large(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(
        MemoryError, match=r"^no memory for a table of 100000 x 65536 numbers, 24.4 GiB: .* vector_size"
    ):
        _tables.zeros(100_000, 65536)


def test_a_loss_that_is_not_finite_ends_the_training(recorded: Recorded) -> None:
    recorded.result = lambda call: (float("nan") if call == 3 else 1.0, 4, 3)
    with pytest.raises(
        DivergedError, match=r"^training diverged after \d\d% of the run: the loss is nan .*; lower alpha"
    ):
        Word2Vec(two_topics(), **SMALL, epochs=1)
    assert len(recorded.calls) == 3


def test_a_loss_above_that_of_untrained_vectors_ends_the_training(recorded: Recorded) -> None:
    recorded.result = lambda call: (2000 * (90.0 + 10 * call), 2000, 3)  # untrained: 100 per pair
    with pytest.raises(DivergedError, match=r"the loss is 110 per pair \(100 untrained\)"):
        Word2Vec(two_topics(), **SMALL, epochs=1)
    assert len(recorded.calls) == 2


def test_a_text_that_gets_less_predictable_does_not_pass_for_divergence() -> None:
    """Before training, the loss is measured on the first 2^14 ids: here of words by themselves, or of two words."""
    many = [[f"w{(7 * i + j) % 300}" for j in range(10)] for i in range(600)]
    for first in ([["title"]] * 9000, [["a", "b"]] * 6000):
        assert len(Word2Vec(first + many, **SMALL, epochs=1, alpha=1e-3).losses) == 1


def test_vectors_that_explode_end_the_training(recorded: Recorded) -> None:
    def explode(call: int) -> tuple[float, int, int]:
        recorded.outputs[2] = 10.0**call  # row 2 is looked at after the third piece
        return 1.0, 4, 3

    recorded.result = explode
    with pytest.raises(DivergedError, match=r"the largest entry 1e[+]03; lower alpha"):
        Word2Vec(two_topics(), **SMALL, epochs=1)


def test_a_learning_rate_that_is_too_high_is_found() -> None:
    with pytest.raises(DivergedError, match=r"lower alpha \(50\), or negative \(5\), or window \(5\)"):
        Word2Vec(two_topics(), **SMALL, alpha=50)


def test_a_text_without_pairs_is_refused() -> None:
    for sentences, sample in (([["a"], ["b"]] * 5, 0), ([["a", "b"]] * 5, 1e-9)):
        with pytest.raises(
            ValueError, match=r"^no paragraph .* two words of the vocabulary, or none after .* expected"
        ):
            Word2Vec(sentences, **SMALL | {"sample": sample})


def test_a_rate_may_fall_to_zero() -> None:
    """For these numbers alpha - (alpha / N) N is below 0, rounded."""
    model = Word2Vec([list("abcde")] * 359, **SMALL, epochs=1, alpha=0.017, min_alpha=0)
    assert len(model.losses) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vector_size": 0}, "vector_size = 0: expected 1 to 65536"),
        ({"window": 1.5}, "window = 1.5: expected an integer"),
        ({"epochs": 0}, "epochs = 0: expected 1 to "),
        ({"sample": -1}, "sample = -1: expected a finite number, at least 0"),
        ({"alpha": "fast"}, "alpha is a str: expected a number"),
        ({"alpha": 1e-5}, r"alpha = 1e-05: expected a number above 0, at least min_alpha = 0.0001"),
        ({"loss": "hinge"}, "loss = 'hinge': expected one of 'negative_sampling', 'nce', 'sampled_softmax'"),
        ({"min_alpha": "x"}, "min_alpha is a str: expected a number"),
        ({"ns_exponent": float("inf")}, "ns_exponent = inf: expected a finite number"),
        ({"alpha": 10**400}, "alpha is too large for float64: expected a finite number"),
        ({"workers": 0}, "workers = 0: expected 1 to 4096"),
        ({"workers": 4097}, "workers = 4097: expected 1 to 4096"),
        ({"workers": 1.5}, "workers = 1.5: expected an integer"),
        ({"checkpoint_seconds": "x"}, "checkpoint_seconds is a str: expected a number"),
        ({"checkpoint_seconds": float("nan")}, "checkpoint_seconds = nan: expected a finite number, at least 0"),
        ({"resume": True}, "resume=True needs checkpoint="),
        ({"sg": 0}, "sg = 0: expected 1; skip-gram is the only model"),
        ({"sg": None}, "sg = None: expected 1; skip-gram is the only model"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_out_of_range_are_refused_before_the_text_is_read(options: dict[str, Any], message: str) -> None:
    def unread() -> Iterator[list[str]]:
        raise AssertionError("the text was read")
        yield []

    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        Word2Vec(unread(), **options)


def checkpoint_after(path: Path, pieces: int, **options: Any) -> None:
    """A run that ends with an error after so many pieces; a checkpoint was written after each of them."""

    class Stopped(Exception):
        pass

    left = [pieces]
    write = _checkpoint.Schedule.write

    def counted(schedule: _checkpoint.Schedule, training: _training.Training) -> None:
        write(schedule, training)
        left[0] -= 1
        if left[0] == 0:
            raise Stopped

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(_checkpoint.Schedule, "write", counted)
        Word2Vec(two_topics(), **SMALL | options, checkpoint=path, checkpoint_seconds=0)


@pytest.mark.parametrize("pieces", [1, 5, 7])
def test_a_resumed_run_has_the_bits_of_one_that_was_never_stopped(
    tmp_path: Path, small_pieces: None, pieces: int
) -> None:
    path = tmp_path / "checkpoint"
    options: dict[str, Any] = {"epochs": 3, "sample": 0.01}
    whole = Word2Vec(two_topics(), **SMALL | options)
    checkpoint_after(path, pieces, **options)
    resumed = Word2Vec(two_topics(), **SMALL | options, checkpoint=path, resume=True)
    np.testing.assert_array_equal(resumed.wv.vectors, whole.wv.vectors)
    np.testing.assert_array_equal(resumed.outputs, whole.outputs)
    assert resumed.losses == whole.losses


def test_a_run_goes_on_with_other_threads_and_another_interval(tmp_path: Path, small_pieces: None) -> None:
    path = tmp_path / "checkpoint"
    checkpoint_after(path, 5, epochs=2)
    again = {"workers": 2, "checkpoint": path, "checkpoint_seconds": 5, "resume": path.exists()}
    assert len(Word2Vec(two_topics(), **SMALL | again, epochs=2).losses) == 2


def test_an_interruption_passes_between_processes() -> None:
    """As in concurrent.futures: it is pickled."""
    passed = pickle.loads(pickle.dumps(TrainingInterrupted("why", signal.SIGTERM)))
    assert (str(passed), passed.signum) == ("why", signal.SIGTERM)


def test_a_trained_model_keeps_no_temporary_file(tmp_path: Path) -> None:
    files = len(os.listdir("/dev/fd"))
    model = Word2Vec(two_topics(), **SMALL, epochs=1)
    assert len(os.listdir("/dev/fd")) == files
    model.save_checkpoint(tmp_path / "checkpoint")


def test_a_finished_run_is_resumed_without_training(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    model = Word2Vec(two_topics(), **SMALL, epochs=1)
    model.save_checkpoint(path)
    resumed = Word2Vec(two_topics(), **SMALL, epochs=1, checkpoint=path, resume=True)
    np.testing.assert_array_equal(resumed.wv.vectors, model.wv.vectors)
    assert resumed.losses == model.losses


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, small_pieces: None) -> None:
    path = tmp_path / "checkpoint"
    checkpoint_after(path, 1, epochs=2)
    resume: dict[str, Any] = {"checkpoint": path, "resume": True, "epochs": 2}
    unread = iter([1])  # a text that is no list of sentences
    with pytest.raises(
        ValueError, match=r"^\S+checkpoint is of a run with other options: .* window = 3, not 5, seed = 2, not 1$"
    ):
        Word2Vec(unread, **SMALL | resume, window=3, seed=2)
    with pytest.raises(
        ValueError, match="checkpoint is of a run with another text: expected the same files in the same"
    ):
        Word2Vec(two_topics()[::-1], **SMALL | resume)
    renamed = [[f"_{word}" for word in sentence] for sentence in two_topics()]
    with pytest.raises(ValueError, match="checkpoint is of a run with another text"):
        Word2Vec(renamed, **SMALL | resume)
    with pytest.raises(FileNotFoundError, match=r"^\[Errno 2\] no such checkpoint: expected one to resume from"):
        Word2Vec(unread, **SMALL | resume | {"checkpoint": tmp_path / "none"})


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path: Path, small_pieces: None) -> None:
    path = tmp_path / "checkpoint"
    checkpoint_after(path, 1, epochs=2)
    good = path.read_bytes()
    at = good.index(b"vectors.npy") + 600
    flipped = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
    for damaged in (b"", b"text", good[:100], good[:-1], good[: len(good) // 2], flipped):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="checkpoint is damaged, or no checkpoint: "):
            Word2Vec(two_topics(), **SMALL, epochs=2, checkpoint=path, resume=True)
    for name in ("v.npz", "v.npy"):
        KeyedVectors(["a"], np.zeros((1, 12), np.float32)).save(tmp_path / name)
        with pytest.raises(ValueError, match=f"{name} is damaged, or no checkpoint: "):
            Word2Vec(two_topics(), **SMALL, epochs=2, checkpoint=tmp_path / name, resume=True)


def test_a_checkpoint_replaces_no_file_of_another_kind(tmp_path: Path) -> None:
    unread = iter([1])  # a text that is no list of sentences
    (tmp_path / "note.txt").write_text("note")
    (tmp_path / "empty").touch()
    np.savez(tmp_path / "a.npz", state=np.frombuffer(b"[1]", np.uint8))
    KeyedVectors(["a"], np.zeros((1, 12), np.float32)).save(tmp_path / "v.npz")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for path in before:
        with pytest.raises(ValueError, match=rf"{path.name} exists and is no checkpoint .*; choose another name$"):
            Word2Vec(unread, **SMALL, checkpoint=path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_run_begun_anew_replaces_the_checkpoint_of_another_run(tmp_path: Path, small_pieces: None) -> None:
    path = tmp_path / "checkpoint"
    checkpoint_after(path, 1, epochs=2)
    checkpoint_after(path, 2, epochs=3)
    resumed = Word2Vec(two_topics(), **SMALL, epochs=3, checkpoint=path, resume=True)
    assert len(resumed.losses) == 3


def test_vectors_that_are_not_finite_replace_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    path.write_text("good")
    training = _training.Training(_corpus.read_sentences(two_topics(), 2), Options(vector_size=4, min_count=2))
    training.vectors[-1, 2] = np.inf
    with pytest.raises(DivergedError, match="not all vectors are finite"):
        _checkpoint.Schedule(path, 0).write(training)
    assert path.read_text() == "good"


def test_a_place_where_no_checkpoint_can_be_written_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        Word2Vec(two_topics(), checkpoint=tmp_path / "none" / "checkpoint")
    if os.getuid() != 0:
        tmp_path.chmod(0o500)
        with pytest.raises(PermissionError, match="no permission to write to this folder"):
            Word2Vec(two_topics(), checkpoint=tmp_path / "checkpoint")


def test_words_that_no_checkpoint_can_hold_are_refused_before_training(tmp_path: Path, recorded: Recorded) -> None:
    path = tmp_path / "checkpoint"
    for word, message in (("a\nb", "has a line feed"), ("a\udcff", r"a word has '\\udcff', which is no character")):
        with pytest.raises(ValueError, match=message):
            Word2Vec([[word, "c"]] * 9, **SMALL, checkpoint=path)
        assert Word2Vec([[word, "c"]] * 9, **SMALL, epochs=1).wv.index_to_key == [word, "c"]


def test_a_checkpoint_does_not_replace_the_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(as_text(two_topics()))
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(ValueError, match="link would replace another file of this run: expected a name of its own"):
        Word2Vec(corpus_file=path, **SMALL, checkpoint=tmp_path / "link")


@pytest.mark.parametrize(
    ("given", "alpha"),
    [({}, 0.05), ({"negative": 10}, 0.025), ({"negative": 15, "window": 10}, 1.5 / 165), ({"window": 1}, 0.05)],
)
def test_the_rate_begins_lower_where_a_position_has_more_negatives(given: dict[str, int], alpha: float) -> None:
    assert Options(**given).alpha == pytest.approx(alpha)
    assert Options(**given, alpha=0.04).alpha == 0.04


@pytest.mark.parametrize("given", [{}, {"negative": 10}, {"negative": 15, "window": 10}], ids=str)
@pytest.mark.parametrize("loss", ["negative_sampling", "nce", "sampled_softmax"])
def test_the_defaults_do_not_diverge_on_a_small_text(loss: str, given: dict[str, int]) -> None:
    model = Word2Vec(two_topics(), **SMALL, epochs=10, loss=loss, **given)
    assert abs(model.wv.vectors).max() < 10
