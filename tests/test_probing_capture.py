"""Captures, rollout, kinds of heads, grounding and occlusion: planted signals are found, and nothing is found in noise."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import normalized_mutual_info_score, roc_auc_score

from babyvlm.core.basics import WrongInput
from babyvlm.core.statistics import paired
from babyvlm.models.learners import BabyLlavaLearner, ClipLearner
from babyvlm.models.load import save_learner
from babyvlm.models.sizes import new_model
from babyvlm.models.tokenizer import train_tokenizer
from babyvlm.nursery.things import FIRST_NOUNS
from babyvlm.probing.capture import Capture, beside_untrained, captured, difference, rows_of
from babyvlm.probing.grounding import Sighting, asked, best_head, coverage, falls_on, grounding, grounds, verdict
from babyvlm.probing.head_kinds import dependence, distances, head_kinds, locality
from babyvlm.probing.occlusion import missed
from babyvlm.probing.rollout import rolled, rollout, whole
from babyvlm.probing.weights import recorded

TOKENIZER = train_tokenizer([f"look at the {noun}" for noun in FIRST_NOUNS])


def made(kind, **more):
    "A learner that has learnt nothing."
    model = new_model(kind, "tiny", TOKENIZER, **more)
    return (BabyLlavaLearner if kind.startswith("babyllava") else ClipLearner)(model, TOKENIZER, name=kind)


def sightings(count, things=2, px=32, seed=0):
    "Blocks of different sizes at random places that do not overlap, and pictures of noise."
    stream = np.random.default_rng(seed)
    for _ in range(count):
        masks = []
        for place in stream.permutation(16)[:things]:
            mask = np.zeros((px, px), bool)
            top, left, size = place // 4 * 8, place % 4 * 8, stream.integers(3, 9)
            mask[top : top + size, left : left + size] = True
            masks.append(mask)
        yield Sighting(stream.integers(0, 255, (px, px, 3), np.uint8), list(FIRST_NOUNS[:things]), masks)


def table_of(maps_of, some):
    "`grounding` of one head that `maps_of(sighting, k)` makes."
    return grounding([Capture("attention", [noun], maps_of(s, k)[None, None, None], s.picture) for s in some for k, noun in enumerate(s.nouns)], some)


# --- what a map's score is


def brute(map, inside, outside):
    "Mann and Whitney's count, place by place."
    won = total = 0.0
    for i, x in zip(inside.ravel(), map.ravel()):
        for o, y in zip(outside.ravel(), map.ravel()):
            won, total = won + i * o * ((x > y) + 0.5 * (x == y)), total + i * o
    return won / total


@pytest.mark.parametrize("seed", range(8))
def test_the_score_is_that_of_mann_and_whitney(seed):
    stream = np.random.default_rng(seed)
    map, inside = stream.integers(0, 4, (3, 5)).astype(float), stream.random((3, 5)) * (stream.random((3, 5)) < 0.6)
    outside = 1 - inside
    assert np.isclose(falls_on(map, inside, outside), brute(map, inside, outside))
    assert np.isclose(falls_on(map, inside, outside) + falls_on(map, outside, inside), 1)
    hard = stream.permutation(15).reshape(3, 5) < 4
    assert np.isclose(falls_on(map, hard, ~hard), roc_auc_score(hard.ravel(), map.ravel()))


@pytest.mark.parametrize("things", [2, 3, 4])
def test_a_map_that_does_not_listen_scores_exactly_a_half(things):
    some = list(sightings(20, things))
    habits = np.random.default_rng(1).normal(size=(20, 8, 8))
    number = {id(s): k for k, s in enumerate(some)}
    table = table_of(lambda s, k: habits[number[id(s)]], some)
    assert np.allclose(table.groupby(["sighting", "layer"]).rather.mean(), 0.5) and table.rather.std() > 0.1


def test_coverage_counts_pixels_on_any_grid():
    mask = np.random.default_rng(0).random((37, 50)) < 0.3
    for rows, columns in ((4, 4), (7, 3), (1, 1)):
        cells = coverage(mask, rows, columns)
        sizes = coverage(np.ones_like(mask), rows, columns)
        assert cells.shape == (rows, columns) and np.allclose(sizes, 1) and 0 <= cells.min() and cells.max() <= 1
    assert np.isclose(coverage(mask, 1, 1)[0, 0], mask.mean())


# --- planted and null


def test_noise_is_called_grounded_as_often_as_is_said():
    "1,000 learners of noise with 20 pictures each: p below .05 in one of twenty, against chance and against a twin of noise."
    some, stream = list(sightings(20)), np.random.default_rng(0)
    groups, scores = [], []
    for number, s in enumerate(some):
        cells = [coverage(m, 4, 4) for m in s.masks]
        for k in range(2):
            scores.append(falls_on(stream.normal(size=(2000, 4, 4)), cells[k], cells[1 - k]))
            groups.append(number)
    scores = np.array(scores)  # (questions, runs)
    against_chance = sum(paired(scores[:, r], 0.5, groups)["p"] < 0.05 for r in range(1000))
    against_twin = sum(paired(scores[:, r], scores[:, r + 1000], groups)["p"] < 0.05 for r in range(1000))
    for found in (against_chance, against_twin):
        assert binomtest(found, 1000, 0.05).pvalue > 0.001, found


def test_a_planted_map_is_found_and_a_weak_one_needs_pictures():
    some, stream = list(sightings(60)), np.random.default_rng(0)
    noise = table_of(lambda s, k: stream.normal(size=(4, 4)), some)
    weak = table_of(lambda s, k: 1.5 * coverage(s.masks[k], 4, 4) + stream.normal(size=(4, 4)), some)
    result = verdict(weak, noise)
    assert grounds(result) and 0.55 < result.loc["rather", "score"] < 0.95 and not grounds(verdict(noise, weak))


def test_the_best_head_is_not_chosen_on_what_it_is_judged_by():
    some, shares = list(sightings(40)), []
    for run in range(60):
        stream = np.random.default_rng(run)
        captures = [Capture("attention", [noun], stream.normal(size=(2, 4, 1, 4, 4)), s.picture) for s in some for noun in s.nouns]
        shares.append(best_head(grounding(captures, some)).rather.mean())
    assert abs(np.mean(shares) - 0.5) < 4 * np.std(shares) / np.sqrt(60)


# --- captures of learners


@pytest.mark.parametrize("kind", ["clip", "cvcl", "babyllava", "babyllava-gpt2"])
def test_every_learner_of_ours_is_captured_beside_its_twin(kind):
    some, learner = list(sightings(3)), made(kind)
    mine, twin = beside_untrained(learner, [s.picture for s in some], ["look at the ball"] * 3, seed=5)[1]
    assert mine.kind == ("attention" if "llava" in kind else "similarity") and mine.words == twin.words and rows_of(mine.words, "ball")
    assert mine.maps.shape == twin.maps.shape and np.abs(difference(mine, twin).maps).max() > 0
    table = asked(learner, some, batch=2)
    assert len(table[table.layer < 0]) == 6 and table[["on_it", "rather"]].apply(lambda c: c.between(0, 1).all()).all()


def test_wrong_input_is_one_line():
    learner, picture = made("clip"), np.zeros((8, 8, 3), np.uint8)

    class Odd:
        name = "odd"

        def capture(self, images, texts): return [dict(words=["a"], heat=np.zeros((1, 2, 2)))]

    class Flat(Odd):
        def capture(self, images, texts): return [dict(words=["a"], attention=np.zeros((1, 2, 2)))]

    calls = [
        lambda: captured(object(), [picture], ["a"]),
        lambda: captured(learner, [picture], []),
        lambda: captured(Odd(), [picture], ["a"]),
        lambda: captured(Flat(), [picture], ["a"]),
        lambda: beside_untrained(Odd(), [picture], ["a"]),
        lambda: Sighting(picture, ["ball", "duck"], [np.zeros((8, 8), bool)] * 2),
        lambda: Sighting(picture, ["ball", "duck"], [np.ones((4, 4), bool)] * 2),
        lambda: asked(learner, list(sightings(1)), frame="what is that"),
        lambda: rolled(learner, [picture], ["ball"]),
    ]
    for call in calls:
        with pytest.raises(WrongInput) as caught:
            call()
        assert "\n" not in str(caught.value) and len(str(caught.value)) > 20


def test_hooks_go_even_when_the_model_fails():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))

    def fail(): raise KeyError("no")

    with pytest.raises(KeyError):
        recorded(model, fail)
    assert not any(m._forward_hooks for m in model.modules())


# --- rollout, kinds of heads


@pytest.mark.parametrize("kind", ["babyllava", "babyllava-gpt2"])
def test_rollout_is_the_product_of_what_was_recorded(kind):
    learner, picture = made(kind), np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    capture, layers, columns = whole(learner, picture, "look at the ball")
    way = np.eye(layers.shape[-1])
    for layer in layers:
        way = (layer.mean(0) + np.eye(len(way))) / 2 @ way
    assert np.allclose(rollout(layers)[-1], way, atol=1e-6) and np.allclose(way.sum(1), 1, atol=1e-5)
    followed = rolled(learner, [picture], ["look at the ball"])[0]
    assert np.allclose(followed.maps[-1, 0].reshape(len(capture.words), -1), way[-len(capture.words) :, columns], atol=1e-6)


def test_dependence_is_normalised_mutual_information():
    stream = np.random.default_rng(0)
    counts = stream.integers(0, 5, (9, 9))
    counts[:, 0] += 20 - counts.sum(1)
    counts = np.clip(counts, 0, None)
    counts[:, 1] += counts.sum(1).max() - counts.sum(1)  # every place asks equally often
    asked_by, seen = np.repeat(np.arange(9), counts.sum(1)), np.concatenate([np.repeat(np.arange(9), row) for row in counts])
    expected = normalized_mutual_info_score(asked_by, seen, average_method="geometric")
    assert np.isclose(dependence(counts / counts.sum(1, keepdims=True)), expected)


def test_locality_does_not_depend_on_the_grid_and_is_zero_for_habits():
    stream = np.random.default_rng(0)
    for grid in (3, 5, 9, 16):
        habit = np.tile(stream.dirichlet(np.ones(grid**2) * 0.2), (grid**2, 1))
        assert abs(locality(habit)) < 1e-9 and np.isclose(locality(np.eye(grid**2)), 1)


def heads_of(grid, shares, stream, noise=0.1):
    "Heads (K, N, N) with such shares of their attention on neighbours and the rest on places of their own liking, a tenth of all of it anywhere."
    width = stream.uniform(0.3, 0.6, (len(shares), 1, 1))
    beside = np.exp(-(distances(grid) ** 2) / (2 * width**2))
    liked = np.exp(1.5 * stream.normal(size=(len(shares), 1, grid**2)))
    beside, liked = (w / w.sum(-1, keepdims=True) for w in (beside, liked))
    share = np.asarray(shares)[:, None, None]
    return (1 - noise) * (share * beside + (1 - share) * liked) + noise * stream.dirichlet(np.ones(grid**2), (len(shares), grid**2))


@pytest.mark.parametrize("grid", [4, 7, 14])
def test_planted_heads_get_their_names(grid):
    right = 0
    for kind, (low, high) in dict(local=(0.85, 1), hybrid=(0.42, 0.68), **{"global": (0, 0.28)}).items():
        stream = np.random.default_rng(grid)
        right += (head_kinds({"layer": heads_of(grid, stream.uniform(low, high, 60), stream)[None]}).kind == kind).sum()
    assert right > 0.97 * 180


def test_noise_heads_are_never_called_local():
    "A thousand heads with attention of noise: they look anywhere, on every grid; where nine places are too few to be sure, one in twenty may seem to look beside."
    for grid, most in ((3, 50), (4, 0), (7, 0)):
        noise = np.random.default_rng(grid).dirichlet(np.ones(grid**2), (1000, grid**2))
        assert (head_kinds({"layer": noise[None]}).kind != "global").sum() <= most and abs(locality(noise).mean()) < 0.02


# --- occlusion, and the recipe


class RedOrYellow:
    "Sees a red ball and a yellow duck by their colours alone, and says where when it is asked."

    name, seed, step = "planted", 0, 0
    tints = dict(ball=(220, 40, 40), duck=(230, 210, 60))

    def _share(self, image, noun): return (np.abs(image.astype(int) - self.tints.get(noun, (0, 0, 0))).max(-1) < 60).astype(float)
    def similarity(self, images, texts): return np.array([[self._share(i, t.split()[-1]).mean() for t in texts] for i in images])
    def capture(self, images, texts): return [dict(words=t.split(), similarity=np.stack([coverage(self._share(i, t.split()[-1]), 4, 4)] * len(t.split()))) for i, t in zip(images, texts)]

    def fresh(self, seed):
        twin = RedOrYellow()
        twin.tints = dict(zip(("ball", "duck"), np.random.default_rng(seed).integers(0, 255, (2, 3))))
        return twin


def coloured(count):
    "Sightings with a red ball and a yellow duck on grey noise."
    for s in sightings(count):
        s.picture = s.picture // 8 + 100
        s.nouns = ["ball", "duck"]
        for mask, tint in zip(s.masks, RedOrYellow.tints.values()):
            s.picture[mask] = tint
        yield s


def recipe():
    path = Path(__file__).parent.parent / "runs" / "grounding.py"
    spec = importlib.util.spec_from_file_location("grounding_recipe", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_missed_is_what_the_score_rests_on():
    for s in coloured(5):
        lost = missed(RedOrYellow(), s.picture, s.nouns, grid=8)
        for k in range(2):
            seen = coverage(s.masks[k], 8, 8)
            assert (lost.maps[0, 0, k][seen > 0] > 0).all() and np.abs(lost.maps[0, 0, k][seen == 0]).max() < 1e-9


def test_the_recipe_finds_a_planted_learner_and_not_its_twin():
    some = list(coloured(30))
    found = recipe().study(RedOrYellow(), some, twins=2)
    assert set(found) == {"similarity", "occlusion"} and all(row["grounds"] and row["rather"]["score"] > 0.9 for row in found.values())
    blind = recipe().study(RedOrYellow().fresh(1), some, twins=2)
    assert not any(row["grounds"] for row in blind.values())


def test_an_exchange_finds_the_part_that_speaks():
    "The twins of two pictures that exchange everything answer as each other; those that exchange nothing as themselves."
    module, learner = recipe(), made("babyllava")
    one, other = sightings(2, 2, 64)
    one.nouns, other.nouns = ["ball", "duck"], ["cup", "car"]
    asked_as_they_are = learner.logprob([[one.picture, "look at the"], [other.picture, "look at the"]], [["ball", "cup"]] * 2)[0]
    first, second = asked_as_they_are[:, 0] > asked_as_they_are[:, 1]
    assert module.exchanged(learner, one, other, lambda out: out) == [float(first), float(not second)]
    assert module.exchanged(learner, one, other, lambda out: out.flip(0)) == [float(second), float(not first)]
    assert not learner.model.connector._forward_hooks and np.allclose(learner.logprob([[one.picture, "look at the"]], [["ball", "cup"]])[0], asked_as_they_are[:1], atol=1e-4)


def test_the_recipe_runs_on_saved_learners(tmp_path, monkeypatch, capsys):
    for kind in ("clip", "babyllava"):
        save_learner(tmp_path / kind, made(kind).model, TOKENIZER, {"ball": 1})
    monkeypatch.setattr(sys, "argv", ["grounding.py", str(tmp_path / "out"), str(tmp_path / "clip"), str(tmp_path / "babyllava"), "--pictures", "4", "--twins", "1"])
    recipe().main()
    result = json.loads((tmp_path / "out" / "grounding.json").read_text())
    towers = [one.pop("tower") for one in result["learners"].values()]
    exchange = list(result["learners"].values())[1].pop("exchange")
    assert set(exchange) == {"nothing", "patches", "whole"} and all(0 <= row["lo"] <= row["score"] <= row["hi"] <= 1 for row in exchange.values())
    ways = [set(one) for one in result["learners"].values()]
    assert all(-1 <= t["learner"]["alike"] < 0.9 and sum(t["twin"]["heads"].values()) == 16 for t in towers) and "alike_in_language" in towers[1]["learner"]
    assert ways[0] == {"similarity", "occlusion"} and ways[1] == {"attention", "attention, best head", "rollout", "occlusion"}
    assert all(0 <= row["rather"]["lo"] <= row["rather"]["score"] <= row["rather"]["hi"] <= 1 for one in result["learners"].values() for row in one.values())
    assert len(capsys.readouterr().out.splitlines()) == 2 * sum(map(len, ways)) + 3
