"""Recipes: every one of them walks, stages hand on what they learnt, and what cannot be is said in one line."""

import json
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pretraining_corpus import coloured_corpus
from safetensors.torch import load_file

from babyvlm.cli import main
from babyvlm.core.basics import WrongInput, read_json, write_json
from babyvlm.core.corpus import write_table
from babyvlm.core.records import encode_image
from babyvlm.models.load import load_learner
from babyvlm.pretraining.recipes import pretrain
from babyvlm.pretraining.stages import recipes

TWO = dict(name="two", model="babyllava", stages=[
    dict(name="look", objectives=["contrastive"], model="clip", batch=8),
    dict(name="talk", objectives=["causal_lm"], views=["image", "interleaved"], freeze=["vision", "image_head"], cached=True, batch=4)])  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return coloured_corpus(tmp_path_factory.mktemp("world") / "corpus")


STEPS = 70  # thirty-five a stage, so that a checkpoint lies within each


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(run, name="model.safetensors"):
    return load_file(run / "checkpoints" / (run / "checkpoints" / "latest").read_text().strip() / name)


def same(a, b):
    return a.keys() == b.keys() and all(a[k].equal(b[k]) for k in a)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    "Eight recordings of fourteen grey frames, at 2.5 a second, and nothing said."
    folder, rand = tmp_path_factory.mktemp("world") / "films", np.random.default_rng(0)
    folder.mkdir()
    names = [f"film_{k}" for k in range(8)]
    picture = lambda: dict(bytes=encode_image(rand.integers(0, 255, (64, 64, 3), np.uint8)), path=None)  # noqa: E731
    frames = [dict(frame_id=f"{n}_{k}", recording_id=n, time_s=0.4 * k, image=picture(), keep=True) for n in names for k in range(14)]
    tables = dict(recordings=[dict(recording_id=n, child_id="a", age_days=1, duration_s=5.6, status="ok", problem="") for n in names], utterances=[], image=[],
                  splits=[dict(recording_id=n, child_id="a", split="train") for n in names], frames=frames)  # fmt: skip
    for name, rows in tables.items():
        write_table(folder / f"{name}{'-0' * (name == 'frames')}.parquet", rows, name)
    write_json(folder / "corpus.json", dict(counts=dict(pairs=0), parameters=dict(fps=2.5)))
    return folder


@pytest.mark.parametrize("name", [name for name in recipes if name != "predict"])
def test_every_recipe_walks_and_round_trips(name, corpus, tmp_path):
    stages = recipes[name]["stages"]
    run = pretrain(corpus, tmp_path / "run", name, steps=2 * len(stages))
    card = read_json(run / "run.json")
    assert card["status"] == "finished" and [s["name"] for s in card["stages"]] == [s["name"] for s in stages]
    assert len(lines(run)) == sum(s["steps"] for s in card["stages"]) == 2 * len(stages)
    assert all(np.isfinite(row["loss"]) for row in lines(run)) and card["cost"]["flops"] > 0
    assert load_learner(run).name == name and load_learner(run).step == 2 * len(stages)


def test_the_predictor_watches_films_with_the_tower_of_another_run(films, corpus, tmp_path):
    seeing = pretrain(corpus, tmp_path / "clip", "clip", steps=2)
    run = pretrain(films, tmp_path / "run", "predict", steps=3, start=seeing)
    card = read_json(run / "run.json")
    assert [s["name"] for s in card["stages"]] == ["predict"] and card["stages"][0]["cache_flops"] > 0 and len(card["ledger"]["corpora"]) == 2
    assert load_learner(run).name == "predict" and all(weights(run)[k].equal(v) for k, v in weights(seeing).items() if k.startswith("vision."))
    with pytest.raises(WrongInput, match="image"):
        pretrain(films, tmp_path / "alone", "predict", steps=3)


OWN = dict(
    chunked=dict(model="clip", stages=[dict(objectives=["contrastive_chunked"])]),
    soft=dict(model="clip", config=dict(text_kind="lstm"), stages=[dict(objectives=["soft_contrastive"])]),
    sigmoid=dict(model="clip", config=dict(bias=-10.0), stages=[dict(objectives=["sigmoid"])]),
    smaller=dict(model="clip", stages=[dict(objectives=["contrastive"], px=32, keep=0.5, accumulate=2, order="age")]),
    masked=dict(model="babyllava", stages=[dict(objectives=["masked_lm", "causal_lm"], views=["image", "video"], accumulate=2)]),
    hybrid=dict(model="babyllava", stages=[dict(objectives=["hybrid_lm"], views=["interleaved", "instruct", "text"], schedule="cosine")]),
    both=dict(model="babyllava", config=dict(contrast=True), stages=[dict(objectives=["contrastive", "causal_lm"])]),
)


@pytest.mark.parametrize("name", list(OWN))
def test_recipes_of_ones_own_walk(name, corpus, tmp_path):
    stage = OWN[name]["stages"][0]
    turns = max(len(stage["objectives"]), len(stage.get("views", [1])))
    run = pretrain(corpus, tmp_path / "run", dict(name=name, **OWN[name]), steps=2 * turns)
    rows = lines(run)
    assert len(rows) == 2 * turns and all(np.isfinite(row["loss"]) for row in rows)
    assert len({row.get("objective") for row in rows}) == len(stage["objectives"]) and load_learner(run).name == name


def test_the_nursery_trains_while_it_is_drawn(tmp_path):
    from babyvlm.nursery.stream import Pairs
    from babyvlm.nursery.world import FIRST_WORDS

    world = replace(FIRST_WORDS, minutes=0.4, children=1, px=64, pace=2.0)
    run = pretrain(Pairs(world), tmp_path / "run", "clip", steps=3)
    card = read_json(run / "run.json")
    assert card["ledger"]["corpora"][0]["sources"] == ["nursery"] and card["seen"]["pairs"] == 3 * card["stages"][0]["batch"]


def test_parts_are_handed_on_and_kept_still(corpus, tmp_path):
    run = pretrain(corpus, tmp_path / "run", TWO, steps=12)
    looked, talked = (load_file(run / "checkpoints" / f"step-{step:06d}" / "model.safetensors") for step in (6, 12))
    seeing = [name for name in looked if name.startswith(("vision.", "image_head."))]
    assert seeing and all(talked[name].equal(looked[name]) for name in seeing)
    assert [row["stage"] for row in lines(run)] == ["look"] * 6 + ["talk"] * 6
    assert len(read_json(run / "run.json")["stages"][1]["chance"]) == 2


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    return pretrain(corpus, tmp_path_factory.mktemp("runs") / "whole", TWO, steps=STEPS)


@pytest.mark.parametrize("at, back_to", [(3, 0), (27, 20), (35, 35), (44, 40)])
def test_stopped_anywhere_it_ends_the_same(at, back_to, whole, corpus, tmp_path):

    def stop(trainer, row, seen):
        stop.count += 1
        if stop.count == at + 1:
            raise Stop

    stop.count = 0
    with pytest.raises(Stop):
        pretrain(corpus, tmp_path / "cut", TWO, steps=STEPS, callbacks=[stop])
    cut = pretrain(corpus, tmp_path / "cut", TWO, steps=STEPS, resume=True)
    assert read_json(cut / "run.json")["resumed_from"] == [back_to]
    assert [(r["step"], r["loss"], r["lr"]) for r in lines(whole)] == [(r["step"], r["loss"], r["lr"]) for r in lines(cut)]
    assert same(weights(whole), weights(cut)) and same(weights(whole, "trainer.safetensors"), weights(cut, "trainer.safetensors"))
    assert read_json(cut / "run.json")["seen"] == read_json(whole / "run.json")["seen"]


def test_a_cached_tower_learns_as_an_open_one_that_never_varies(corpus, tmp_path):
    stage = dict(name="talk", objectives=["causal_lm"], freeze=["vision", "image_head"], batch=8)
    run = pretrain(corpus, tmp_path / "run", dict(model="babyllava", stages=[stage | dict(cached=True)]), steps=6)
    open_one = pretrain(corpus, tmp_path / "open", dict(model="babyllava", stages=[stage]), steps=6)
    cached, seen = (read_json(r / "run.json")["stages"][0] for r in (run, open_one))
    assert cached["step_flops"] < seen["step_flops"] and cached["cache_flops"] > 0 and lines(run)[-1]["loss"] < lines(run)[0]["loss"]


def test_order_once_ends_with_the_data(corpus, tmp_path):
    run = pretrain(corpus, tmp_path / "run", dict(model="clip", stages=[dict(objectives=["contrastive"], order="once", batch=4)]), steps=50)
    assert read_json(run / "run.json")["stages"][0]["steps"] == 4 == len(lines(run))


def test_pairs_made_while_training(tmp_path):
    rand = np.random.default_rng(0)
    pairs = [SimpleNamespace(images=rand.integers(0, 255, (1, 64, 64, 3), np.uint8), text=f"a {w} one", recording_id="r", age_days=1, times_s=(0.0,)) for w in ("red", "blue") * 6]
    run = pretrain(pairs, tmp_path / "run", "clip", steps=4)
    card = read_json(run / "run.json")
    assert card["corpus"]["children"] == [] and card["ledger"]["corpora"][0]["words"] is None and "red" in load_learner(run).words_heard
    assert pretrain(pairs, tmp_path / "run", "clip", steps=4, resume=True) == run
    with pytest.raises(WrongInput, match="corpus"):
        pretrain(pairs[:8], tmp_path / "run", "clip", steps=4, resume=True)


def test_the_ledger_follows_the_towers(corpus, tmp_path):
    other = coloured_corpus(tmp_path / "other", ids="rec0a1b2c3d4e5f6g")
    first = pretrain(other, tmp_path / "first", "clip", steps=2)
    assert read_json(first / "run.json")["ledger"]["tracks"] == ["babyvlm", "egobabyvlm", "babylm_strict", "babylm_strict_small"]
    second = read_json(pretrain(corpus, tmp_path / "second", "babyllava", steps=2, start=first) / "run.json")["ledger"]
    assert len(second["corpora"]) == 2 and "egobabyvlm" not in second["tracks"] and "unnamed" in second["barred"]["egobabyvlm"]


def test_a_missing_view_is_named(tmp_path):
    plain = coloured_corpus(tmp_path / "plain", views=())
    for recipe, view in (("babyllava-v1", "text"), ("babyllava-v2", "text"), ("predict", "film")):
        with pytest.raises(WrongInput, match=view) as caught:
            pretrain(plain, tmp_path / "out", recipe, steps=6)
        assert "\n" not in str(caught.value) and not list((tmp_path / "out").glob("*"))


@pytest.fixture
def halfway(corpus, tmp_path):
    "A run that was cut off in its second half."

    def stop(trainer, row, seen):
        if trainer.step == 22:
            raise Stop

    with pytest.raises(Stop):
        pretrain(corpus, tmp_path / "run", "clip", steps=40, callbacks=[stop])
    return tmp_path / "run"


@pytest.mark.parametrize("what, value, said", [("vision_config", dict(image_px=96), "pictures of 96 px"), ("text_config", dict(vocab_size=77), "a vocabulary of 77 tokens")])
def test_other_pictures_or_words_on_resume(what, value, said, halfway, corpus):
    from babyvlm.models.load import seal

    folder = halfway / "checkpoints" / "step-000020"
    config = json.loads((folder / "config.json").read_text())
    config[what] |= value
    (folder / "config.json").write_text(json.dumps(config))
    seal(folder)
    before = (halfway / "metrics.jsonl").read_bytes()
    with pytest.raises(WrongInput, match=said):
        pretrain(corpus, halfway, "clip", steps=40, resume=True)
    assert len(before.splitlines()) >= 20 and folder.is_dir()


def test_a_run_of_the_older_form_is_refused_and_still_judged(halfway, corpus, tmp_path):
    card = read_json(halfway / "run.json")
    card["stages"] = [{k: s[k] for k in ("name", "objectives", "steps", "lr", "batch")} for s in card["stages"]]
    write_json(halfway / "run.json", card)
    with pytest.raises(WrongInput, match="older version"):
        pretrain(corpus, halfway, "clip", steps=40, resume=True)
    assert load_learner(halfway).step == 20
    assert pretrain(corpus, tmp_path / "from", "babyllava", steps=2, start=halfway)


def test_not_learning_is_said(tmp_path, capsys):
    noise = np.random.default_rng(0)
    pairs = [SimpleNamespace(images=noise.integers(0, 255, (1, 64, 64, 3), np.uint8), text=f"a w{k} one", recording_id="r", age_days=1, times_s=(0.0,)) for k in range(64)]
    still = dict(model="clip", stages=[dict(objectives=["contrastive"], lr=1e-9)])
    run = pretrain(pairs, tmp_path / "run", still, steps=40)
    assert read_json(run / "run.json")["not_learning"] is True and "not learning" in capsys.readouterr().out


def test_the_command_takes_a_recipe_of_ones_own(corpus, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.json").write_text(json.dumps(TWO | dict(name="mine")))
    monkeypatch.setattr(sys, "argv", ["babyvlm", "pretrain", str(corpus), str(tmp_path / "run"), "--recipe", str(tmp_path / "mine.json"), "--steps", "4"])
    with pytest.raises(SystemExit) as leave:
        main()
    assert leave.value.code == 0 and read_json(tmp_path / "run" / "run.json")["recipe"] == "mine"
    assert "loss at chance" in capsys.readouterr().out
    for text, said in (("{", "not JSON"), ("[]", "no object"), ('{"model": "clip", "stages": [{"objectives": ["guess"]}]}', "guess")):
        (tmp_path / "bad.json").write_text(text)
        monkeypatch.setattr(sys, "argv", ["babyvlm", "pretrain", str(corpus), str(tmp_path / "bad"), "--recipe", str(tmp_path / "bad.json")])
        with pytest.raises(SystemExit) as leave:
            main()
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert leave.value.code == 2 and said in error
    shutil.rmtree(tmp_path / "run")


def test_a_single_process_and_workers_make_the_same_batches(corpus, tmp_path):
    runs = [pretrain(corpus, tmp_path / f"run{n}", TWO, steps=6, workers=n) for n in (0, 1)]
    assert [r["loss"] for r in lines(runs[0])] == [r["loss"] for r in lines(runs[1])] and same(*map(weights, runs))
    assert torch.isfinite(torch.tensor([r["loss"] for r in lines(runs[0])])).all()


def test_an_exported_run_carries_its_card(corpus, tmp_path):
    from babyvlm.models.exports import to_hf

    private = coloured_corpus(tmp_path / "smith_family")
    card = read_json(private / "corpus.json")
    write_json(private / "corpus.json", card | dict(release_level="Authorized Users"))
    for name in ("clip", "babyllava-v1"):
        run = pretrain(private, tmp_path / name, name, steps=6)
        (tmp_path / f"{name}-hf").mkdir()
        to_hf(run, tmp_path / f"{name}-hf")
        page = (tmp_path / f"{name}-hf" / "README.md").read_text()
        assert "do not upload" in page and "1 children, 0.009 hours, 48 words" in page and f"Recipe `{name}`" in page
        stages = [s["name"] for s in read_json(run / "run.json")["stages"]]
        assert all(f"| {stage} |" in page for stage in stages) and "floating-point operations" in page and "trust_remote_code" not in page
        everything = b"".join(p.read_bytes() for p in (tmp_path / f"{name}-hf").rglob("*") if p.suffix in (".json", ".md", ".py"))
        assert b"smith_family/" not in everything and str(tmp_path).encode() not in everything
