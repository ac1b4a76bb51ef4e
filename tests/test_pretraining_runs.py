"""Runs: kills, damage, small corpora, refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from babyvlm.core.basics import WrongInput, read_json, write_json
from babyvlm.core.corpus import write_table
from babyvlm.core.records import encode_image
from babyvlm.models.load import load_learner
from babyvlm.pretraining.recipes import pretrain

COLOURS = dict(red=(200, 30, 30), blue=(30, 50, 200), green=(30, 150, 50), yellow=(220, 190, 30))


def make_corpus(folder, count=12, split="train"):
    rand = np.random.default_rng(0)
    folder.mkdir()
    said = [(f"u{i:03d}", list(COLOURS)[i % 4]) for i in range(count)]

    def picture(word):
        image = rand.integers(90, 130, (48, 64, 3)).astype(np.uint8)
        image[10:34, 16:40] = COLOURS[word]
        return dict(bytes=encode_image(image), path=None)

    write_table(folder / "recordings.parquet", [dict(recording_id="r", child_id="a", path="r.mp4", status="ok", problem="")], "recordings")
    write_table(folder / "utterances.parquet", [dict(utterance_id=u, recording_id="r", text=f"a {w} one", keep=True) for u, w in said], "utterances")
    write_table(folder / "frames-0.parquet", [dict(frame_id=f"f{u}", recording_id="r", image=picture(w), keep=True) for u, w in said], "frames")
    write_table(folder / "image.parquet", [dict(pair_id=f"p{u}", utterance_id=u, frame_id=f"f{u}", recording_id="r") for u, _ in said], "image")
    write_table(folder / "splits.parquet", [dict(recording_id="r", child_id="a", split=split)], "splits")
    write_json(folder / "corpus.json", dict(counts=dict(pairs=count)))
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("world") / "corpus")


def start(corpus, out, recipe, steps, *more, threads=1):
    code = ("import sys; from babyvlm.pretraining.recipes import pretrain; a = sys.argv; "
            "pretrain(a[1], a[2], a[3], steps=int(a[4]), resume=True, start=a[5] if len(a) > 5 else None)")  # fmt: skip
    return subprocess.Popen([sys.executable, "-c", code, corpus, out, recipe, str(steps), *map(str, more)],
                            env=dict(os.environ, OMP_NUM_THREADS=str(threads)), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # fmt: skip


def wait_for_step(run, step, process):
    log = run / "metrics.jsonl"
    while not (log.is_file() and len(log.read_text().splitlines()) >= step):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)


def weights(run, name="model.safetensors"):
    return load_file(run / "checkpoints" / (run / "checkpoints" / "latest").read_text().strip() / name)


def same(a, b):
    assert a.keys() == b.keys()
    return all(a[k].equal(b[k]) for k in a)


@pytest.mark.parametrize("recipe, threads", [("clip", 1), ("clip", 2), ("babyllava", 2)])
def test_killed_and_resumed_equals_undisturbed(recipe, threads, corpus, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(corpus, whole, recipe, 45, threads=threads).wait() == 0
    process = start(corpus, killed, recipe, 45, threads=threads)
    wait_for_step(killed, 33, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert read_json(killed / "run.json")["status"] == "running"
    assert start(corpus, killed, recipe, 45).wait() == 0  # the card knows the number of threads
    card = read_json(killed / "run.json")
    assert card["resumed_from"] in ([20], [40]) and card["status"] == "finished"
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (whole, killed)]
    assert [row["step"] for row in lines[1]] == list(range(1, 46))
    assert [(row["loss"], row["lr"]) for row in lines[0]] == [(row["loss"], row["lr"]) for row in lines[1]]
    assert same(weights(whole), weights(killed)) and same(weights(whole, "trainer.safetensors"), weights(killed, "trainer.safetensors"))
    assert card["seen"] == read_json(whole / "run.json")["seen"] and read_json(whole / "run.json")["resumed_from"] == []


def test_killed_before_the_first_checkpoint(corpus, tmp_path):
    run = tmp_path / "run"
    process = start(corpus, run, "clip", 20)
    wait_for_step(run, 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert start(corpus, run, "clip", 20).wait() == 0
    assert read_json(run / "run.json")["resumed_from"] == [0]
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 20


def test_interrupt_leaves_a_resumable_run(corpus, tmp_path):
    run = tmp_path / "run"
    process = start(corpus, run, "clip", 400)
    wait_for_step(run, 3, process)
    process.send_signal(signal.SIGINT)
    assert process.wait() != 0
    card = read_json(run / "run.json")
    step = int((run / "checkpoints" / "latest").read_text().strip()[5:])
    assert card["status"] == "stopped" and step >= 3 and len((run / "metrics.jsonl").read_text().splitlines()) == step


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    return pretrain(corpus, tmp_path_factory.mktemp("runs") / "clip", "clip", steps=3)


def test_a_small_corpus_trains_and_says_so(corpus, tmp_path, capsys):
    run = pretrain(corpus, tmp_path / "run", "clip", steps=2)
    said = capsys.readouterr().out
    assert read_json(run / "run.json")["stages"][0]["batch"] == 12 and "shrinks to 12" in said
    one = make_corpus(tmp_path / "one", count=1)
    for recipe in ("clip", "babyllava"):
        pretrain(one, tmp_path / recipe, recipe, steps=2)


def test_run_card_is_complete(run):
    card = read_json(run / "run.json")
    keys = "format status recipe stages size parameters image_px seed corpus ledger cost seen resumed_from chance_loss not_learning threads versions"
    assert set(keys.split()) <= set(card)
    assert {"name", "objectives", "steps", "lr", "batch"} <= set(card["stages"][0])
    assert {"cpu_s", "wall_s", "flops", "peak_mb", "device"} <= set(card["cost"]) and card["cost"]["flops"] > 1e8
    assert card["corpus"]["children"] == ["a"] and card["seen"] == dict(pairs=36, words=108, frames=36)


def test_a_damaged_checkpoint_is_named_on_resume(corpus, tmp_path):
    run = tmp_path / "run"
    process = start(corpus, run, "clip", 100)
    wait_for_step(run, 21, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    file = run / "checkpoints" / (run / "checkpoints" / "latest").read_text().strip() / "trainer.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(WrongInput, match="trainer.safetensors is damaged"):
        pretrain(corpus, run, "clip", steps=100, resume=True)
    file.unlink()
    with pytest.raises(WrongInput, match="trainer.safetensors is missing"):
        load_learner(run)


def test_refusals_leave_nothing_behind(corpus, run, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("a file")
    empty = make_corpus(tmp_path / "empty", split="test")
    for wrong, part in (
        (dict(corpus=tmp_path / "nowhere"), "does not exist"),
        (dict(corpus=taken), "is a file"),
        (dict(corpus=empty), "nothing of the view .image."),
        (dict(out=taken), "is a file"),
        (dict(out=corpus), "no run.json"),
        (dict(out=run), "--resume"),
        (dict(out=run, resume=True), "steps"),
        (dict(recipe="parrot"), "--recipe"),
        (dict(size="huge"), "--size"),
        (dict(minutes=1.0), "not both"),
        (dict(steps=0), "--steps"),
        (dict(start=tmp_path / "nowhere"), "does not exist"),
        (dict(start=corpus), "latest"),
        (dict(size="small", recipe="babyllava", start=run), "another size"),
    ):
        asked = dict(corpus=corpus, out=tmp_path / "out", recipe="clip", steps=2) | wrong
        with pytest.raises(WrongInput, match=part) as caught:
            pretrain(**asked)
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.glob("out/*"))


def test_no_room_for_a_checkpoint(corpus, tmp_path, monkeypatch):
    import babyvlm.pretraining.checkpoints as checkpoints

    run = pretrain(corpus, tmp_path / "run", "clip", steps=2)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(WrongInput, match="No space left"):
        pretrain(corpus, tmp_path / "other", "clip", steps=2)
    assert load_learner(run) and not [p for p in Path(tmp_path / "other" / "checkpoints").iterdir()]


def test_minutes_become_steps_once(corpus, tmp_path):
    run = pretrain(corpus, tmp_path / "run", "clip", minutes=0.02)
    steps = read_json(run / "run.json")["stages"][0]["steps"]
    assert steps >= 1 and len((run / "metrics.jsonl").read_text().splitlines()) == steps
    assert pretrain(corpus, run, "clip", minutes=0.02, resume=True) == run
