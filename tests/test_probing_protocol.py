"""One protocol for many backbones: mismatches are refused, and noise is not called a difference."""
import json

import numpy as np
import pytest
import torch
from scipy import stats

from babyvlm.core.basics import WrongInput, rng
from babyvlm.probing.linear import linear
from babyvlm.probing.protocol import Contract, Encoder, Question, bootstrap, duels, grid, outcome, prepared, ranks, read_contract, seed_ties, tower_encoder, vectors, win_tie_loss
from babyvlm.probing.splits import folds

CONTRACT = Contract(8)
STREAM = np.random.default_rng(0)
LABELS = np.arange(120) % 4
IMAGES = [STREAM.integers(0, 256, (12, 9, 3)).astype(np.uint8) for _ in LABELS]


def question(name="label", predict=None):
    return Question(name, LABELS, predict or linear(), np.arange(120), folds(np.arange(120), LABELS, 4))


def planted(strength, seed):
    "An encoder that knows the label, more or less."
    place = {p.tobytes(): k for k, p in enumerate(prepared(IMAGES, CONTRACT).pixels)}
    return lambda pixels: np.stack([strength * np.eye(4)[LABELS[place[p.tobytes()]]] + rng(0, seed, place[p.tobytes()]).normal(size=4) for p in pixels])


def test_preparing_is_what_the_contract_says(tmp_path):
    grey = [np.full((10, 10, 3), 51, np.uint8)]
    assert np.allclose(prepared(grey, Contract(4, (.1, .2, .3), (.5, .25, .1))).pixels[0, :, 0, 0], [(0.2 - .1) / .5, 0, -1], atol=1e-6)
    (tmp_path/"preprocess.json").write_text(json.dumps(dict(format=1, image_px=64, mean=[.5] * 3, std=[.5] * 3)))
    assert read_contract(tmp_path) == Contract(64)


@pytest.mark.parametrize("other", [Contract(9), Contract(8, (.4, .5, .5)), Contract(8, std=(.2, .5, .5))])
def test_a_mismatch_is_refused(other, tmp_path):
    encoder = Encoder("noise", 0, lambda pixels: pixels[:, :, 0, 0], CONTRACT, "key")
    with pytest.raises(WrongInput, match="trained on"): encoder(prepared(IMAGES, other))
    vectors(encoder, prepared(IMAGES, CONTRACT), tmp_path)
    with pytest.raises(WrongInput, match="trained on"): vectors(encoder, prepared(IMAGES, other), tmp_path)
    with pytest.raises(WrongInput, match="trained on"): grid([encoder], IMAGES, [question()], tmp_path, contract=other)
    assert encoder(prepared(IMAGES, other), anyway=True).shape == (120, 3)


def test_the_cache_follows_weights_and_pictures(tmp_path):
    torch.manual_seed(0)
    tower = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5))
    first = tower_encoder("one", 0, tower, CONTRACT)
    x = vectors(first, prepared(IMAGES, CONTRACT), tmp_path)
    assert np.array_equal(x, vectors(first, prepared(IMAGES, CONTRACT), tmp_path)) and len(list(tmp_path.glob("*.npy"))) == 1
    with torch.no_grad(): tower[1].bias += 1
    changed = tower_encoder("one", 0, tower, CONTRACT)
    assert np.allclose(vectors(changed, prepared(IMAGES, CONTRACT), tmp_path), x + 1, atol=1e-5)
    vectors(changed, prepared(IMAGES[::-1], CONTRACT), tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 3


def test_the_best_is_first_and_noise_is_last():
    encoders = [Encoder(kind, seed, planted(strength, f"{kind}{seed}"), CONTRACT) for kind, strength in (("noise", 0), ("some", 1.2), ("much", 3)) for seed in (0, 1)]
    table = grid(encoders, IMAGES, [question("linear"), question("freer", linear(10.))])
    order, met = ranks(table, draws=200), duels(table, draws=500)
    assert list(order.index) == ["much", "some", "noise"] and order.loc["noise", "lo"] > 2.5
    share = win_tie_loss(met)
    assert share.loc["much", "win"] == 1 and share.loc["noise", "loss"] == 1
    assert seed_ties(met)[1] == 6 and seed_ties(met)[0] >= .5
    with pytest.raises(WrongInput, match="different examples"): ranks(table.iloc[3:])


@pytest.mark.parametrize("G", [12, 60])
def test_nothing_is_found_in_noise(G):
    "A thousand pairs of equal encoders: one in twenty, with the binomial's interval."
    def null(k):
        stream, n = rng(k, "null", G), 3 * G
        ease = stream.uniform(.2, .8, G)[np.arange(n) % G]
        return bootstrap(*(stream.random((2, n)) < ease), np.arange(n) % G, draws=300, seed=k)
    wrong = sum(outcome(null(k)) != "tie" for k in range(1000))
    assert stats.binomtest(wrong, 1000, .05).pvalue > .001


def test_a_planted_difference_is_found_with_its_size():
    stream = rng(0, "planted")
    a, b = stream.random(2000) < .7, stream.random(2000) < .6
    row = bootstrap(a, b, np.arange(2000) // 2)
    assert row["lo"] < .1 < row["hi"] and outcome(row) == "win" and row["p"] < .01
    back = bootstrap(b, a, np.arange(2000) // 2)
    assert back["delta"] == -row["delta"] and outcome(back) == "loss"
    same = bootstrap(a, a, np.arange(2000))
    assert outcome(same) == "tie" and same["p"] == 1
