"""The data road on a real, curated corpus: views, sources, batches, workers, features."""

import runpy
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from babyvlm.core.basics import WrongInput, write_json
from babyvlm.core.corpus import SCHEMAS, read_corpus, read_table, write_table
from babyvlm.core.trials import Choice, Part, Trial, Trials, TrialsWriter, read_trials
from babyvlm.curation.pipeline import curate
from babyvlm.curation.transcripts import spoken
from babyvlm.curation.views import FEWEST, MOST, PAUSE_S, add_instruct
from babyvlm.models.sizes import new_model
from babyvlm.models.tokenizer import train_tokenizer
from babyvlm.nursery.stream import Pairs
from babyvlm.nursery.world import World
from babyvlm.pretraining import pictures
from babyvlm.pretraining.ahead import Ahead
from babyvlm.pretraining.batches import Batches
from babyvlm.pretraining.features import tower_features
from babyvlm.pretraining.objectives import calls, objectives
from babyvlm.pretraining.sources import make_source, views

SAMPLE = Path(__file__).parents[1] / "data_samples" / "nursery"
FITTING = {"contrastive": ("image", "video", "interleaved", "instruct"), "causal_lm": ("image", "video", "interleaved", "text", "instruct"), "masked_lm": ("text",), "future_latents": ("film",)}


def same(one, other):
    return set(one) == set(other) and all(torch.equal(v, other[k]) if hasattr(v, "shape") else v == other[k] for k, v in one.items())


def trials_in(folder, split, n=3):
    with TrialsWriter(folder, dict(name="some")) as writer:
        paths = [writer.image(np.full((40, 40, 3), 60 * k, np.uint8)) for k in range(4)]
        for k in range(n):
            choices = [Choice(str(i), [Part("image", path=paths[i])]) for i in range(4)]
            writer.add(Trial(f"t{k}", "s", "find", "choose_image", [Part("text", "where is the duck")], choices, [str(k)], 0.25, split=split, source=dict(release_level="Private")))
    return folder


@pytest.fixture(scope="module")
def top(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def corpus(top):
    made = curate(SAMPLE, top / "corpus", fps=5, px=64, quiet=True)
    return add_instruct(made, trials_in(top / "trials", "train"))


@pytest.fixture(scope="module")
def tokenizer(corpus):
    return train_tokenizer(make_source(corpus, "text", 32).texts + make_source(corpus, "instruct", 32).texts)


@pytest.fixture(scope="module")
def model(tokenizer):
    return new_model("babyllava", "tiny", tokenizer, seed=0)


def test_the_views_agree_with_the_tables(corpus):
    said, frames = corpus.utterances.set_index("utterance_id"), corpus.frames().set_index("frame_id")
    assert {name: corpus.card["views"][name] for name in ("image", "video", "interleaved", "text")} == {name: len(corpus.view(name)) for name in ("image", "video", "interleaved", "text")}
    for row in corpus.view("video").itertuples():
        times = frames.time_s[list(row.frame_ids)].to_numpy()
        assert len(times) >= 2 and (np.diff(times) > 0).all() and set(frames.recording_id[list(row.frame_ids)]) == {row.recording_id}
        assert said.onset_s[row.utterance_id] - 0.41 <= times[0] and times[-1] <= said.offset_s[row.utterance_id] + 0.41
        assert said.keep[row.utterance_id]
    spoken_of = Counter(u for row in corpus.view("interleaved").itertuples() for u in row.utterance_ids)
    assert max(spoken_of.values()) == 1 and set(spoken_of) <= set(said.index[said.keep])
    for row in corpus.view("interleaved").itertuples():
        assert FEWEST <= len(row.utterance_ids) == len(row.frame_ids) <= MOST
        some = said.loc[list(row.utterance_ids)]
        assert some.onset_s.is_monotonic_increasing and (some.onset_s.to_numpy()[1:] - some.offset_s.to_numpy()[:-1] <= PAUSE_S).all()
    heard = said[(said.speaker_type != "CHI") & said.text.map(lambda text: bool(spoken(text)))]
    assert sorted(corpus.view("text").utterance_id) == sorted(heard.index) and len(heard) >= said.keep.sum()
    for name in ("video", "interleaved", "text", "instruct"):
        assert read_table(corpus.path / f"{name}.parquet").columns.tolist() == SCHEMAS[name].names


def test_no_source_sees_another_split(corpus):
    split = dict(zip(corpus.splits.recording_id, corpus.splits.split))
    assert set(split.values()) == {"train", "val", "test"}
    for name in ("image", "video", "interleaved", "text", "film"):
        for part in ("train", "val"):
            source = make_source(corpus, name, 32, part, pictures=4 if name == "film" else None)
            assert {split[r] for r in source.recordings} == {part} and {split[r] for r in source.frames.recording_id} <= {part}


@pytest.mark.parametrize("objective, view", [(o, v) for o, some in FITTING.items() for v in some])
def test_every_view_can_be_learned_from(corpus, tokenizer, model, objective, view):
    if objective not in objectives:
        pytest.fail(f"{objective} is not an objective any more")
    if objective == "contrastive":
        model = new_model("clip", "tiny", tokenizer, seed=0)
    if objective == "future_latents":
        model = new_model("predictor", "tiny", tokenizer, seed=0)
    batches = Batches(make_source(corpus, view, model.config.vision_config.image_px), tokenizer, model.config, objective, 4, seed=0)
    batch, seen = batches(1)
    loss = objectives[objective](getattr(model.train(), calls[objective])(**batch), batch)
    loss.backward()
    assert torch.isfinite(loss) and seen["pairs"] == batches.batch and seen["frames"] == (len(batch["pixel_values"]) if "pixel_values" in batch else 0)
    again, _ = Batches(batches.source, tokenizer, model.config, objective, 4, seed=0)(1)
    assert same(batch, again)


def test_cached_and_decoded_pictures_are_the_same(corpus, monkeypatch, top):
    copy = shutil.copytree(corpus.path, top / "full disk", ignore=shutil.ignore_patterns("cache"))
    cached = make_source(corpus, "image", 40)
    assert not cached.slow
    monkeypatch.setattr(pictures, "SPARE", 0.0)  # neither disk nor memory has room
    decoded = make_source(read_corpus(copy), "image", 40)
    rows = np.random.default_rng(0).integers(0, len(cached.frames), 50)
    assert (cached.pictures(rows) == decoded.pictures(rows)).all()
    assert decoded.slow and not list((copy / "cache").glob("*.npy"))


def test_a_damaged_cache_is_made_again(corpus):
    before = make_source(corpus, "image", 24).pictures(range(5))
    [file] = (corpus.path / "cache").glob("pictures-24-*.npy")
    file.write_bytes(file.read_bytes()[:2000])
    assert (make_source(corpus, "image", 24).pictures(range(5)) == before).all()


def test_other_sizes_fit_their_places(corpus, tokenizer, model):
    for px, source_px, keep in ((32, 64, 1.0), (None, 32, 1.0), (None, 64, 0.5)):
        batches = Batches(make_source(corpus, "video", source_px), tokenizer, model.config, "causal_lm", 4, 0, px=px, keep=keep)
        batch, _ = batches(0)
        out = model.train()(**batch)
        assert batch["pixel_values"].shape[-1] == (px or source_px) and torch.isfinite(objectives["causal_lm"](out, batch))
        assert (batch["input_ids"] == model.config.image_token_id).sum() == batch["pictures"].sum() * model.config.places_at(px or source_px, keep)


@pytest.mark.parametrize("kind", ["corpus", "decoded", "online"])
def test_who_makes_the_batches_changes_nothing(corpus, tokenizer, model, kind, monkeypatch):
    if kind == "decoded":
        monkeypatch.setattr(pictures, "SPARE", 0.0)
        source = make_source(corpus, "video", 56)
        assert source.slow
    else:
        source = make_source(corpus, "video", 48) if kind == "corpus" else make_source(Pairs(World(minutes=2, children=1, px=48, seed=3), images=2), "video", 48)
    batches = Batches(source, tokenizer, model.config, "causal_lm", 4, seed=1)
    state = torch.get_rng_state()
    with Ahead(batches, workers=2) as ahead:
        for step in (0, 1, 2, 3, 9, 10):
            (mine, seen), (theirs, held) = batches(step), ahead(step)
            assert same(mine, theirs) and held.items() >= seen.items()
        assert ahead.batch == batches.batch and ahead.steps == batches.steps
    assert torch.equal(torch.get_rng_state(), state)


def test_once_is_a_childhood(corpus, tokenizer, model):
    batches = Batches(make_source(corpus, "image", 32), tokenizer, model.config, "causal_lm", 3, seed=0, order="once")
    met = [item for step in range(batches.steps) for item in batches.items(step)]
    when = [(item.age_days, item.recording_id, item.time_s) for item in met]
    assert when == sorted(when) and len(set(when)) == len(when) == len(batches.source) // 3 * 3 and len({age for age, *_ in when}) > 1
    with pytest.raises(WrongInput, match="are over after"):
        batches(batches.steps)
    ages = [np.mean([item.age_days for item in Batches(batches.source, tokenizer, model.config, "causal_lm", 3, 0, "age", steps=40).items(step)]) for step in (0, 39)]
    assert ages[0] < ages[1]


def test_every_item_comes_once_in_a_pass(corpus, tokenizer, model):
    source = make_source(corpus, "image", 32)
    for bucket in (True, False):
        batches = Batches(source, tokenizer, model.config, "causal_lm", 4, seed=0, bucket=bucket)
        for turn in range(2):
            met = np.concatenate([batches.order(turn * batches.steps + step) for step in range(batches.steps)])
            assert len(np.unique(met)) == len(met) == len(source) // 4 * 4


def test_features_stand_for_pictures(corpus, tokenizer, model):
    source = make_source(corpus, "interleaved", model.config.vision_config.image_px)
    features = tower_features(source, model.vision)
    plain = Batches(source, tokenizer, model.config, "causal_lm", 2, 0, augmented=False)(0)[0]
    kept = Batches(source, tokenizer, model.config, "causal_lm", 2, 0, features=features, keep=0.5)(0)[0]
    assert "pixel_values" not in kept and torch.equal(kept["input_ids"], plain["input_ids"])
    with torch.no_grad():
        one, other = (model.eval()(**batch).logits for batch in (plain, kept))
    assert (one - other).abs().max() < 0.05 * one.std()


def test_instructions_stay_and_are_named(corpus, top):
    before = corpus.view("instruct")
    again = curate(SAMPLE, corpus.path, fps=5, px=64, quiet=True)
    assert again.sha256 == corpus.sha256 and again.view("instruct").equals(before) and again.card["release_level"] == "Private"
    assert again.card["views"]["instruct"] == len(before) == 6
    with pytest.raises(WrongInput, match="none of the 3 trials .* 'train'"):
        add_instruct(corpus.path, trials_in(top / "tests", "test"))
    tests = read_trials(top / "tests")
    mine = add_instruct(shutil.copytree(corpus.path, top / "mine"), Trials(tests.path, [replace(t, split="train") for t in tests][:1], tests.card))
    assert len(mine.view("instruct")) == 2 and mine.sha256 != corpus.sha256


def test_a_corpus_from_before_the_views(corpus, top):
    old = shutil.copytree(corpus.path, top / "old")
    for name in ("video", "interleaved", "text", "instruct"):
        (old / f"{name}.parquet").unlink()
    write_json(old / "corpus.json", {k: v for k, v in corpus.card.items() if k not in ("views", "instruct")})
    for name in ("video", "interleaved", "text", "instruct"):
        with pytest.raises(WrongInput, match=f"no {name} view.*{'add_instruct' if name == 'instruct' else 'babyvlm curate'}"):
            make_source(read_corpus(old), name)
    assert len(make_source(read_corpus(old), "image", 32)) and len(make_source(read_corpus(old), "film", 32, pictures=4))
    assert set(curate(SAMPLE, old, fps=5, px=64, quiet=True).card["views"]) == {"image", "video", "interleaved", "text"}


def test_the_measurement_runs():
    rows = runpy.run_path(str(Path(__file__).parents[1] / "runs" / "data_road.py"))["main"](short=True)
    assert {name for _, name, *_ in rows} == {"cached", "decoded", "rendered", "features"} and all(cost > 0 and step > 0 and wait >= 0 for *_, cost, step, wait in rows)


def test_wrong_sources_are_refused(corpus, top):
    empty = top / "empty"
    empty.mkdir()
    for table in ("recordings", "utterances", "image", "splits", "video", "interleaved", "text", "instruct"):
        write_table(empty / f"{table}.parquet", [], table)
    write_json(empty / "corpus.json", dict(counts={}))
    for name in views:
        with pytest.raises(WrongInput, match=f"nothing of the view '{name}' in its 'train' split"):
            make_source(read_corpus(empty), name)
    for name in ("interleaved", "instruct", "smell"):
        with pytest.raises(WrongInput, match=name):
            make_source(Pairs(World(minutes=1, children=1, px=48)), name)
    with pytest.raises(WrongInput, match="lacks .* frames"):
        lost = shutil.copytree(corpus.path, top / "lost", ignore=shutil.ignore_patterns("cache"))
        source = make_source(read_corpus(lost), "image", 32)
        for file in list(lost.glob("frames-*.parquet"))[:6]:
            write_table(file, [], "frames")
        source.pictures([0])
    with pytest.raises(WrongInput, match="has no frame .* which its image view names"):
        make_source(read_corpus(lost), "image", 32)
