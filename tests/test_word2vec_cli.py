"""The command line, as a user runs it: files, progress, errors in one line, Ctrl-C, kill -9, a full disk."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from fastnce.word2vec import KeyedVectors, Word2Vec, _command, _picture
from word2vec_text import TOPICS, as_text, two_topics

OPTIONS = ["--dim", "12", "--min-count", "2", "--sample", "0.01", "--epochs", "3", "--threads", "1"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text(as_text(two_topics()))
    return path


def run(*arguments: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "fastnce", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120)


def run_with(patch: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command with pieces of a thousand ids (five to six an epoch), after some lines of Python."""
    script = f"""
import os, resource, signal, sys
from fastnce import _core
from fastnce.word2vec import _command, _files, _training
_training.PIECE = 1000
{textwrap.dedent(patch)}
sys.exit(_command.main(sys.argv[1:]))
"""
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def error_of(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """The one line that a failed command has written."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_text_becomes_vectors_and_vectors_answer_questions(tmp_path: Path, corpus: Path) -> None:
    output = tmp_path / "vectors.txt"
    done = run("word2vec", corpus, "-o", output, *OPTIONS, "--epochs", "20")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    losses = [float(loss) for loss in re.findall(r"epoch \d+/20: loss ([\d.]+) per pair\n", done.stderr)]
    assert len(losses) == 20
    assert losses[-1] < losses[0]
    assert re.search(r"^4,200 words, 21 in the vocabulary; [\d,]+ words/s$", done.stderr, re.MULTILINE)
    assert done.stderr.endswith(f"saved {output}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.txt", "vectors.txt"]

    shown = run("similar", output, "ship", "cow", "--topn", "3")
    assert shown.returncode == 0, shown.stderr
    ship, *near_ship, cow, _, _, _ = shown.stdout.splitlines()
    assert (ship, cow) == ("ship", "cow")
    assert {line.split()[1] for line in near_ship} < {*TOPICS[0], "the"}
    expected = KeyedVectors.load(output).most_similar(["ship", "cow"], ["sea"], topn=2)
    shown = run("similar", output, "ship", "cow", "--minus", "sea", "--topn", "2")
    assert shown.stdout == "ship + cow - sea\n" + "".join(f"  {cosine:.3f}  {word}\n" for word, cosine in expected)
    assert error_of(run("similar", output, "whale")) == "fastnce: 'whale' is not among the 21 words"


@pytest.mark.parametrize("suffix", [".vec", ".bin", ".npz", ".npy", ".txt.gz"])
def test_the_name_of_the_output_says_its_format(tmp_path: Path, corpus: Path, suffix: str) -> None:
    for name in (f"a{suffix}", "b.txt"):
        done = run("word2vec", corpus, "-o", tmp_path / name, *OPTIONS, "--quiet")
        assert (done.returncode, done.stderr) == (0, "")
    a, b = (KeyedVectors.load(tmp_path / name) for name in (f"a{suffix}", "b.txt"))
    assert a.index_to_key == b.index_to_key
    np.testing.assert_array_equal(a.vectors, b.vectors)


def test_a_text_may_come_by_standard_input_and_from_several_files(tmp_path: Path, corpus: Path) -> None:
    lines = corpus.read_text().splitlines(keepends=True)
    (tmp_path / "1.txt").write_text("".join(lines[:100]))
    (tmp_path / "2.txt").write_text("".join(lines[100:]))
    outputs = [tmp_path / f"{i}.bin" for i in range(3)]
    run("word2vec", corpus, "-o", outputs[0], *OPTIONS)
    run("word2vec", tmp_path / "1.txt", tmp_path / "2.txt", "-o", outputs[1], *OPTIONS)
    run("word2vec", "-", "-o", outputs[2], *OPTIONS, stdin=corpus.read_text())
    assert outputs[0].read_bytes() == outputs[1].read_bytes() == outputs[2].read_bytes()


def test_vectors_are_evaluated_after_each_epoch(tmp_path: Path, corpus: Path) -> None:
    pairs, analogies = tmp_path / "pairs.tsv", tmp_path / "analogies.txt"
    pairs.write_text("sea\tship\t9\nsea\tcow\t1\nfield\tcow\t8\nfield\tunknown\t3\n")
    analogies.write_text(": topics\nsea ship field plough\nsea wave field wheat\n")
    output = tmp_path / "v.npz"
    done = run("word2vec", corpus, "-o", output, *OPTIONS, "--similarity", pairs, "--analogies", analogies)
    found = re.findall(r"epoch \d/3: loss .* pair, similarity (\S+) \(25 % unknown\), analogies (\S+)%\n", done.stderr)
    assert len(found) == 3, done.stderr
    vectors = KeyedVectors.load(output)
    assert found[-1][0] == f"{vectors.evaluate_word_pairs(pairs).spearman:.3f}"
    assert found[-1][1] == f"{100 * vectors.evaluate_word_analogies(analogies)[0]:.1f}"
    pairs.write_text("a\tb\t1\nc\td\t2\n")  # unknown words are no reason to lose a training
    done = run("word2vec", corpus, "-o", output, *OPTIONS, "--similarity", pairs)
    assert done.returncode == 0
    assert "pairs.tsv has 0 pairs whose words are both known" in done.stderr
    assert error_of(run("word2vec", corpus, "-o", output, "--analogies", tmp_path / "none")).endswith(
        "No such file or directory"
    )


def test_progress_is_shown_with_tqdm_and_without(tmp_path: Path, corpus: Path) -> None:
    done = run("word2vec", corpus, "-o", tmp_path / "v.bin", *OPTIONS)
    pytest.importorskip("tqdm", reason="pip install tqdm")
    assert "training: 100%" in done.stderr
    assert re.search(r"words/s, loss [\d.]+\]", done.stderr)
    without = "sys.modules['tqdm'] = None\nfrom fastnce.word2vec import _progress\n_progress.Lines._SECONDS = 0"
    done = run_with(without, "word2vec", corpus, "-o", tmp_path / "v.bin", *OPTIONS)
    assert done.returncode == 0, done.stderr
    line = r"^training: [\d,]+ words \(\d+%\), [\d,]+ words/s, loss [\d.]+, \d+ s left$"
    assert len(re.findall(line, done.stderr, re.MULTILINE)) >= 15
    assert "epoch 3/3: loss " in done.stderr


@pytest.mark.parametrize("tqdm", ["", "sys.modules['tqdm'] = None"], ids=["tqdm", "lines"])
@pytest.mark.parametrize("stderr", ["None", "open('/dev/full', 'w')"], ids=["closed", "full"])
def test_progress_that_cannot_be_shown_does_not_end_the_run(
    tmp_path: Path, corpus: Path, tqdm: str, stderr: str
) -> None:
    output = tmp_path / "v.bin"
    without = f"{tqdm}\nfrom fastnce.word2vec import _progress\n_progress.Lines._SECONDS = 0\nsys.stderr = {stderr}"
    done = run_with(without, "word2vec", corpus, "-o", output, *OPTIONS)
    assert done.stdout == ""
    assert output.read_bytes() == bits_of_whole_run(tmp_path, corpus)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("none.txt -o v.txt", "fastnce: none.txt: No such file or directory"),
        ("corpus.txt -o v", "fastnce: v: the name says no format: expected one that ends in .txt, "),
        ("corpus.txt -o none/v.txt", "fastnce: .*none: no such folder"),
        ("corpus.txt -o v.txt --resume", "fastnce: v.txt.checkpoint: no such checkpoint: expected one to resume from"),
        ("corpus.txt -o v.txt --min-count 9999", "fastnce: min_count = 9999 leaves 0 of 321 words in the vocabulary"),
        (
            "bad.txt -o v.txt",
            "fastnce: bad.txt, line 1, byte 0: 0xff is not UTF-8: .* pass --errors replace or --errors ignore$",
        ),
        ("corpus.txt -o v.txt --alpha 50 --min-count 2", "fastnce: training diverged after .*; lower alpha"),
        ("corpus.txt -o v.txt --plot none/map.png", "fastnce: .*none: no such folder"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, message: str
) -> None:
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfea\0b\0")
    (tmp_path / "v.txt").write_text("old")
    monkeypatch.chdir(tmp_path)
    assert re.match(message, error_of(run("word2vec", "--quiet", *arguments.split())))
    assert (tmp_path / "v.txt").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.txt", "corpus.txt", "v.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("word2vec a.txt", "the following arguments are required: -o/--output"),
        ("word2vec a.txt -o v.txt --dim 0", "argument --dim: 0 is not an integer of at least 1"),
        ("word2vec a.txt -o v.txt --alpha nan", "argument --alpha: nan is not a number of at least 0"),
        ("word2vec a.txt -o v.txt --loss hinge", "argument --loss: invalid choice: 'hinge'"),
        ("similar v.txt", "the following arguments are required: WORD"),
        ("embed", "argument COMMAND: invalid choice: 'embed'"),
    ],
)
def test_wrong_arguments_end_with_code_2(arguments: str, message: str) -> None:
    done = run(*arguments.split())
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_lists_defaults() -> None:
    for command in ("word2vec", "similar"):
        assert "default: " in run(command, "--help").stdout
    assert "Word vectors from text" in run("--help").stdout


def bits_of_whole_run(tmp_path: Path, corpus: Path) -> bytes:
    output = tmp_path / "whole.bin"
    assert run_with("", "word2vec", corpus, "-o", output, *OPTIONS).returncode == 0
    return output.read_bytes()


SIGNAL_IN_PIECE = """
class SkipGram(_core.SkipGram):
    pieces = 0
    def train(self, *arguments):
        SkipGram.pieces += 1
        if SkipGram.pieces == {piece}:
            os.kill(os.getpid(), signal.{name})
        return super().train(*arguments)
_core.SkipGram = SkipGram
"""


@pytest.mark.parametrize(("name", "code", "piece"), [("SIGINT", 130, 8), ("SIGTERM", 143, 5)])
def test_a_signal_ends_with_a_checkpoint_from_which_the_run_goes_on(
    tmp_path: Path, corpus: Path, name: str, code: int, piece: int
) -> None:
    output = tmp_path / "v.bin"
    command: list[str | Path] = ["word2vec", corpus, "-o", output, *OPTIONS]
    done = run_with(SIGNAL_IN_PIECE.format(name=name, piece=piece), *command)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    message = (
        rf"fastnce: interrupted after [\d.]+% of the run; the checkpoint is {output}.checkpoint: --resume goes on.*"
    )
    assert re.fullmatch(message, done.stderr.splitlines()[-1])
    assert not output.exists()

    done = run_with("", *command, "--resume")
    assert done.returncode == 0, done.stderr
    assert output.read_bytes() == bits_of_whole_run(tmp_path, corpus)
    assert not (tmp_path / "v.bin.checkpoint").exists()


def test_a_run_begins_where_no_other_file_is_in_the_place_of_its_checkpoint(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["word2vec", str(corpus), "-o", "v.bin", *OPTIONS, "--quiet", "--checkpoint", "c"]
    Word2Vec(two_topics(), vector_size=4, min_count=2, epochs=1).save_checkpoint("c")
    for content, message in (
        (Path("c").read_bytes(), "c is of an interrupted run: --resume goes on from there; remove it to begin anew"),
        (b"note", "c exists and is no checkpoint of fastnce, or is damaged: expected a new file; choose another name"),
    ):
        Path("c").write_bytes(content)
        assert _command.main(command) == 1
        assert capsys.readouterr().err == f"fastnce: {message}\n"
        assert Path("c").read_bytes() == content
    assert not Path("v.bin").exists()
    Path("c").unlink()
    assert _command.main(command) == 0


@pytest.mark.parametrize(
    ("option", "content", "message"),
    [
        ("--similarity", "sea ship 9\n", "f has 0 lines of the form 'word<tab>word<tab>number': expected 2 or more"),
        ("--similarity", "", "f has 0 lines of the form 'word<tab>word<tab>number': expected 2 or more"),
        ("--analogies", "a b c d\n", "f, line 1: expected ': ' and the name of a section first"),
        ("--analogies", ": s\na b\n", "f has no analogy: expected lines 'a b c d' after a line ': ' and the name of"),
    ],
)
def test_evaluation_files_of_another_format_are_refused_before_the_text_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
    content: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_command, "Word2Vec", None)
    Path("f").write_text(content)
    assert _command.main(["word2vec", "corpus.txt", "-o", "v.bin", option, "f"]) == 1
    assert capsys.readouterr().err.startswith(f"fastnce: {message}")


def test_kill_9_in_the_middle_of_a_checkpoint_leaves_the_one_before(tmp_path: Path, corpus: Path) -> None:
    output, checkpoint = tmp_path / "v.bin", tmp_path / "c"
    command: list[str | Path] = ["word2vec", corpus, "-o", output, *OPTIONS, "--checkpoint", checkpoint]
    kill = """
    synced = os.fsync
    files = 0
    def fsync(descriptor):  # of the file, then of its folder
        global files
        files += 1
        if files == 5:  # the third checkpoint is written, not yet renamed
            assert os.path.getsize(sys.argv[-1] + ".partial") > 0
            os.truncate(sys.argv[-1] + ".partial", 500)
            os.kill(os.getpid(), signal.SIGKILL)
        synced(descriptor)
    os.fsync = fsync
    sys.argv.insert(1, "word2vec")
    """
    done = run_with(kill, corpus, "-o", output, *OPTIONS, "--checkpoint-every", "0", "--checkpoint", checkpoint)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "c.partial").stat().st_size == 500
    done = run_with("", *command, "--resume")
    assert done.returncode == 0, done.stderr
    assert output.read_bytes() == bits_of_whole_run(tmp_path, corpus)
    assert not (tmp_path / "c.partial").exists() or (tmp_path / "c.partial").stat().st_size == 500


FULL = """
from fastnce.word2vec import _training
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
run = _training.Training.run
def full_after(training, *arguments):
    run(training, *arguments)
    resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, resource.RLIM_INFINITY))
_training.Training.run = full_after
"""


def test_a_full_disk_costs_no_training(tmp_path: Path, corpus: Path) -> None:
    output = tmp_path / "v.txt"
    output.write_text("old")
    # Room for the checkpoint, not for the longer text.
    command: list[str | Path] = ["word2vec", corpus, "-o", output, "--quiet", "--dim", "64", *OPTIONS[2:]]
    done = run_with(FULL.format(size=14_000), *command)
    assert "v.txt: File too large" in error_of(done)
    assert output.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.txt", "v.txt", "v.txt.checkpoint"]
    done = run_with("", *command, "--resume")
    assert (done.returncode, done.stderr) == (0, "")
    assert KeyedVectors.load(output).vector_size == 64
    done = run_with(FULL.format(size=500), *command)  # no room for a checkpoint either
    assert "v.txt: File too large" in error_of(done)
    assert KeyedVectors.load(output).vector_size == 64


def test_a_full_disk_during_training_keeps_the_last_checkpoint(tmp_path: Path, corpus: Path) -> None:
    output, checkpoint = tmp_path / "v.bin", tmp_path / "c"
    full = """
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    from fastnce.word2vec import _checkpoint
    write = _checkpoint.Schedule.write
    def write_and_fill(schedule, training):
        write(schedule, training)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    _checkpoint.Schedule.write = write_and_fill
    """
    command: list[str | Path] = ["word2vec", corpus, "-o", output, *OPTIONS, "--checkpoint", checkpoint]
    done = run_with(full, *command, "--checkpoint-every", "0")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"fastnce: {checkpoint}: File too large"
    done = run_with("", *command, "--resume")
    assert done.returncode == 0, done.stderr
    assert output.read_bytes() == bits_of_whole_run(tmp_path, corpus)


def test_ctrl_c_while_vectors_are_written_costs_no_training(tmp_path: Path, corpus: Path) -> None:
    output = tmp_path / "v.bin"
    interrupt = """
    from fastnce.word2vec import _formats
    def save(*_):
        raise KeyboardInterrupt
    _formats.save = save
    """
    done = run_with(interrupt, "word2vec", corpus, "-o", output, *OPTIONS)
    assert done.returncode == 130
    assert done.stderr.endswith(
        f"the trained state is in {output}.checkpoint: --resume writes the vectors\nfastnce: interrupted\n"
    )
    assert run_with("", "word2vec", corpus, "-o", output, *OPTIONS, "--resume").returncode == 0
    assert output.read_bytes() == bits_of_whole_run(tmp_path, corpus)


def test_evaluation_files_that_vanish_do_not_end_the_training(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("a\tb\t1\nc\td\t2\n")
    after_epoch = _command._evaluation(Namespace(similarity=path, analogies=None))
    path.unlink()
    assert after_epoch is not None
    assert "No such file" in str(after_epoch(1, KeyedVectors(["a"], np.zeros((1, 1), np.float32))))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("corpus.txt -o corpus.txt", "corpus.txt"),
        ("corpus.txt -o link.txt", "link.txt"),
        ("v.words.txt -o v.npy", "v.words.txt"),
        ("corpus.txt -o v.txt --checkpoint v.txt", "v.txt"),
        ("corpus.txt -o v.txt --checkpoint ./corpus.txt", "./corpus.txt"),
        ("corpus.txt -o pairs.txt --similarity pairs.txt", "pairs.txt"),
    ],
)
def test_no_file_of_a_run_replaces_another(
    tmp_path: Path,
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    named: str,
) -> None:
    (tmp_path / "link.txt").symlink_to(corpus)
    for name in ("v.words.txt", "pairs.txt"):
        (tmp_path / name).write_bytes(corpus.read_bytes())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.chdir(tmp_path)
    assert _command.main(["word2vec", *arguments.split(), *OPTIONS]) == 1
    expected = f"fastnce: {named} would replace another file of this run: expected a name of its own\n"
    assert capsys.readouterr().err == expected
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_checkpoint_that_is_no_file_is_not_removed(tmp_path: Path, corpus: Path) -> None:
    os.mkfifo(tmp_path / "c")
    (tmp_path / "link").symlink_to("real")
    for name in ("c", "link"):
        done = run("word2vec", corpus, "-o", tmp_path / "v.bin", *OPTIONS, "--checkpoint", tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert "is of an interrupted run" not in done.stderr
        assert (tmp_path / name).is_fifo() or (tmp_path / name).is_symlink()


def test_an_answer_that_cannot_be_printed_is_an_error(tmp_path: Path) -> None:
    KeyedVectors(["a", "b"], np.eye(2, dtype=np.float32)).save(tmp_path / "v.npz")
    command = [sys.executable, "-m", "fastnce", "similar", str(tmp_path / "v.npz"), "a"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=buffered)
    assert (done.returncode, done.stderr) == (1, "fastnce: [Errno 28] No space left on device\n")
    reader, writer = os.pipe()
    os.close(reader)  # as `fastnce similar ... | head` may do
    with open(writer, "w") as pipe:
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, env=buffered)
    assert (done.returncode, done.stderr) == (1, "")


def test_ids_of_items_are_asked_for_by_number(tmp_path: Path) -> None:
    KeyedVectors([7, -3], np.eye(2, dtype=np.float32)).save(tmp_path / "v.npz")
    assert run("similar", tmp_path / "v.npz", "-3", "7").stdout == "-3\n  0.000  7\n7\n  0.000  -3\n"
    assert error_of(run("similar", tmp_path / "v.npz", "8")) == "fastnce: '8' is not among the 2 words"


def test_a_map_of_no_known_format_is_refused_before_training(tmp_path: Path, corpus: Path) -> None:
    pytest.importorskip("matplotlib", reason="pip install matplotlib")
    done = run("word2vec", corpus, "-o", tmp_path / "v.bin", *OPTIONS, "--plot", tmp_path / "a.xyz")
    assert "a.xyz: the name says no format of images: expected one that ends in " in error_of(done)
    assert not (tmp_path / "v.bin").exists()


def test_a_map_of_words_is_drawn(tmp_path: Path, corpus: Path) -> None:
    pytest.importorskip("matplotlib", reason="pip install matplotlib")
    output = tmp_path / "v.npz"
    done = run("word2vec", corpus, "-o", output, *OPTIONS, "--plot", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    done = run("similar", output, "sea", "cow", "--plot", tmp_path / "b.svg")
    assert done.returncode == 0, done.stderr
    drawn = (tmp_path / "b.svg").read_text()
    assert "<svg" in drawn
    assert all(f"<!-- {word} -->" in drawn for word in ("sea", "cow"))


def test_labels_of_a_map_do_not_cover_each_other() -> None:
    rng = np.random.default_rng(1)
    plane = np.concatenate([rng.normal(0, 0.05, (30, 2)), np.zeros((2, 2)), [[1, 1], [1, -1]]])
    labels = [f"label{i}" for i in range(len(plane))]
    place = _picture.spread(plane, labels)
    apart = np.abs(place[:, None] - place)
    half = np.array([(_picture._LETTER * (len(label) + 1), _picture._LINE) for label in labels]) / 2
    covered = (half[:, None] + half - apart > 0.02).all(axis=2)
    np.fill_diagonal(covered, False)
    assert not covered.any()


def test_the_plane_of_a_map_is_that_of_the_principal_components() -> None:
    rng = np.random.default_rng(2)
    unit = (rng.normal(0, 1, (20, 6)) * [3, 2, 0.1, 0.1, 0.1, 0.1]).astype(np.float32)
    plane = _picture.principal_plane(unit)
    values = np.linalg.eigvalsh(np.cov(unit.T.astype(np.float64)))
    np.testing.assert_allclose(np.cov(plane.T), np.diag(values[::-1][:2]), atol=1e-5)
