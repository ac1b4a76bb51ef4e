"""The commands on wrong input and on full disks: one clear line, exit code 2, and nothing half-written."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from babyvlm.cli import main

RUN = "import sys; from babyvlm.cli import main; sys.argv[0] = 'babyvlm'; main()"


def babyvlm(*arguments, file_bytes=None):
    "A command in a process of its own, where asked with a limit on the size of any file it writes."
    limit = file_bytes and (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes)))
    return subprocess.run([sys.executable, "-c", RUN, *map(str, arguments)], capture_output=True, text=True, preexec_fn=limit, timeout=300)


@pytest.fixture
def line(monkeypatch, capsys):
    "Runs a command in this process and returns the one line that it must print with exit code 2."

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["babyvlm", *map(str, arguments)])
        with pytest.raises(SystemExit) as leave:
            main()
        error = capsys.readouterr().err.strip()
        last = error.splitlines()[-1]
        assert leave.value.code == 2, error
        assert last.startswith("babyvlm: ") and "Traceback" not in error, error
        return last

    return run


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    "A tiny recordings folder, corpus and run, made by the commands themselves."
    top = tmp_path_factory.mktemp("world")
    for arguments in (
        ("nursery", top / "recordings", "--minutes", 0.4, "--children", 2, "--px", 64, "--fps", 2, "--pace", 3),
        ("curate", top / "recordings", top / "corpus", "--px", 64),
        ("pretrain", top / "corpus", top / "run", "--recipe", "clip", "--steps", 4),
    ):
        done = babyvlm(*arguments)
        assert done.returncode == 0, done.stderr
    return top


def leftovers(folder: Path):
    return [p for p in folder.rglob("*") if p.name.endswith(".part")] if folder.exists() else []


FOLDER_IN = [
    ("curate", "{there}", "{out}"),
    ("pretrain", "{there}", "{out}", "--recipe", "clip", "--steps", "2"),
    ("milestones", "{there}", "{out}"),
]


@pytest.mark.parametrize("command", FOLDER_IN, ids=lambda c: c[0])
def test_missing_folder(command, tmp_path, line):
    there = tmp_path / "nowhere"
    said = line(*(part.format(there=there, out=tmp_path / "out") for part in command))
    assert "nowhere" in said
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("command", FOLDER_IN, ids=lambda c: c[0])
def test_a_file_where_a_folder_is_meant(command, tmp_path, line):
    (tmp_path / "diary.txt").write_text("not a folder")
    said = line(*(part.format(there=tmp_path / "diary.txt", out=tmp_path / "out") for part in command))
    assert "diary.txt" in said and "file" in said


def out_commands(world):
    return {
        "nursery": ("nursery", "{out}", "--minutes", "0.1", "--px", "64", "--fps", "2", "--pace", "3"),
        "curate": ("curate", world / "recordings", "{out}", "--px", "64"),
        "pretrain": ("pretrain", world / "corpus", "{out}", "--recipe", "clip", "--steps", "2"),
        "milestones": ("milestones", world / "run", "{out}"),
        "quickstart": ("quickstart", "{out}"),
    }


COMMANDS = ["nursery", "curate", "pretrain", "milestones", "quickstart"]


@pytest.mark.parametrize("name", COMMANDS)
def test_out_is_a_file(name, world, tmp_path, line):
    (tmp_path / "taken").write_text("mine")
    said = line(*(str(part).format(out=tmp_path / "taken") for part in out_commands(world)[name]))
    assert "taken" in said
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize("name", COMMANDS)
def test_out_holds_other_files(name, world, tmp_path, line):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    line(*(str(part).format(out=tmp_path / "out") for part in out_commands(world)[name]))
    assert os.listdir(tmp_path / "out") == ["thesis.tex"]


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("barred", ["/proc/babyvlm", "/sys/babyvlm/out"])
def test_out_may_not_be_written_even_by_root(name, barred, world, line):
    said = line(*(str(part).format(out=barred) for part in out_commands(world)[name]))
    assert "/babyvlm" in said


@pytest.mark.parametrize("name", COMMANDS)
def test_disk_full(name, world, tmp_path):
    "A limit on the size of a file stands in for a full disk; it holds for root too."
    arguments = [str(part).format(out=tmp_path / "out") for part in out_commands(world)[name]]
    done = babyvlm(*arguments, file_bytes=6_000)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2, done.stderr[-2000:]
    assert re.match("babyvlm: .*(no space left|make room|free space)", last) and "Traceback" not in done.stderr, done.stderr[-2000:]
    assert not leftovers(tmp_path)
    finals = ("corpus.json", "run.json", "report.html", "report.json", "latest")
    assert not [p for p in tmp_path.rglob("*") if p.name in finals and p.stat().st_size >= 6_000]


@pytest.mark.parametrize(
    "option, value",
    [("--minutes", "0"), ("--minutes", "-1"), ("--children", "0"), ("--px", "8"), ("--fps", "0"), ("--unrelated", "1.5"),
     ("--pace", "0"), ("--seed", "-1"), ("--minutes", "ten"), ("--seed", "x"), ("--world", "moon"), ("--events", "2"), ("--nouns", "99"), ("--places", "moon"),
     ("--ages", "9,3"), ("--ages", "x,3"), ("--zipf", "-1"), ("--wrong", "1.5"), ("--offset-s", "1000"), ("--transcripts", "srt"), ("--voice", "opera")],
)  # fmt: skip
def test_nursery_numbers(option, value, tmp_path, line):
    line("nursery", tmp_path / "out", option, value)
    assert not (tmp_path / "out").exists() or not os.listdir(tmp_path / "out")


def test_other_parameters_are_refused(world, line):
    assert "px" in line("nursery", world / "recordings", "--minutes", 0.4, "--children", 2, "--px", 96, "--fps", 2, "--pace", 3)
    assert "fps" in line("curate", world / "recordings", world / "corpus", "--px", 64, "--fps", 3)
    assert "seed" in line("pretrain", world / "corpus", world / "run", "--recipe", "clip", "--steps", 4, "--seed", 5, "--resume")
    line("pretrain", world / "corpus", world / "run", "--recipe", "clip", "--steps", 4)  # exists, and no --resume


def test_same_parameters_go_on(world):
    kept = {p: p.stat().st_mtime_ns for p in (world / "corpus" / "kept").iterdir()}
    for arguments in (
        ("nursery", world / "recordings", "--minutes", 0.4, "--children", 2, "--px", 64, "--fps", 2, "--pace", 3),
        ("curate", world / "recordings", world / "corpus", "--px", 64),
        ("pretrain", world / "corpus", world / "run", "--recipe", "clip", "--steps", 4, "--resume"),
    ):
        done = babyvlm(*arguments)
        assert done.returncode == 0, done.stderr
    assert kept == {p: p.stat().st_mtime_ns for p in (world / "corpus" / "kept").iterdir()}


def test_corpus_of_another_format(world, tmp_path, line):
    import shutil

    corpus = shutil.copytree(world / "corpus", tmp_path / "corpus")
    card = corpus / "corpus.json"
    card.write_text(card.read_text().replace('"format": 1', '"format": 7'))
    assert "format 7" in line("pretrain", corpus, tmp_path / "out", "--recipe", "clip", "--steps", 2)
    card.write_text(card.read_text()[:100])
    assert "corpus.json" in line("pretrain", corpus, tmp_path / "out", "--recipe", "clip", "--steps", 2)
    card.unlink()
    assert "corpus.json" in line("pretrain", corpus, tmp_path / "out", "--recipe", "clip", "--steps", 2)


def test_a_table_cut_in_half(world, tmp_path, line):
    import shutil

    corpus = shutil.copytree(world / "corpus", tmp_path / "corpus")
    for table in ("image.parquet", "utterances.parquet", "splits.parquet"):
        whole = (corpus / table).read_bytes()
        (corpus / table).write_bytes(whole[: len(whole) // 2])
        assert table in line("pretrain", corpus, tmp_path / "out", "--recipe", "clip", "--steps", 2)
        (corpus / table).write_bytes(whole)


def test_a_run_cut_in_half(world, tmp_path, line):
    import shutil

    run = shutil.copytree(world / "run", tmp_path / "run")
    newest = run / "checkpoints" / (run / "checkpoints" / "latest").read_text().strip()
    weights = newest / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "model.safetensors" in line("milestones", run, tmp_path / "out")
    weights.unlink()
    assert "model.safetensors" in line("milestones", run, tmp_path / "out")
    weights.write_bytes(whole)
    latest = (run / "checkpoints" / "latest").read_text()
    (run / "checkpoints" / "latest").unlink()
    assert "latest" in line("milestones", run, tmp_path / "out")
    (run / "checkpoints" / "latest").write_text(latest)
    (run / "run.json").write_text('{"format": 1, "recipe"')
    assert "run.json" in line("milestones", run, tmp_path / "out")


def test_unknown_names(world, tmp_path, line):
    assert "clip" in line("pretrain", world / "corpus", tmp_path / "a", "--recipe", "clop", "--steps", 2)
    assert "tiny" in line("pretrain", world / "corpus", tmp_path / "b", "--recipe", "clip", "--size", "huge", "--steps", 2)
    assert "first_words" in line("milestones", world / "run", tmp_path / "c", "--suite", "last_words")
    line("pretrain", world / "corpus", tmp_path / "d", "--recipe", "clip", "--steps", 0)
    line("pretrain", world / "corpus", tmp_path / "e", "--recipe", "babyllava", "--from", tmp_path / "nowhere", "--steps", 2)
    line("fly")
    line("pretrain")
    assert not leftovers(tmp_path)
