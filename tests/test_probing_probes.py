"""Probes on frozen features: what was planted is found, in noise nothing is, and no group stands on both sides."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from babyvlm.core.basics import WrongInput, rng
from babyvlm.probing.abx import abx, abx_gain
from babyvlm.probing.controls import held_out, with_controls
from babyvlm.probing.features import OUTPUT, features, layers, learner_key
from babyvlm.probing.linear import linear
from babyvlm.probing.neighbours import few_shot, neighbours, unit
from babyvlm.probing.splits import apart, folds, grouped, split

NULL_RUNS = 1000
EACH = 3  # pictures of a scene


def null_world(seed, scenes=40):
    "Vectors that know nothing of the labels; the pictures of a scene look alike and share their label."
    stream, scene = rng(seed, "null world"), np.repeat(np.arange(scenes), EACH)
    return (
        stream.normal(size=(scenes, 4))[scene] + stream.normal(size=(scenes * EACH, 4)),
        np.array(["cup", "duck"])[stream.integers(0, 2, scenes)][scene],
        scene,
    )


def halves(n):
    return np.arange(n // 2), np.arange(n // 2, n)


def probe_p(predict):
    def p(seed):
        x, labels, scenes = null_world(seed)
        return held_out(predict, x, labels, scenes, halves(len(x))).p

    return p


def gain_p(seed):
    x, labels, scenes = null_world(seed)
    twin = rng(seed, "twin").normal(size=x.shape)
    return with_controls(few_shot(20, draws=1), x, twin, labels, scenes, halves(len(x)), shuffles=1)["gain"]["p"]


def abx_p(seed):
    x, labels, scenes = null_world(seed, scenes=16)
    return 1.0 if len(set(labels)) < 2 else abx(x, labels, scenes, shuffles=199, seed=seed).p


@pytest.mark.parametrize(
    "p", [probe_p(linear()), probe_p(neighbours()), probe_p(few_shot(3, draws=5)), gain_p, abx_p], ids=["linear", "neighbours", "few_shot", "gain", "abx"]
)
def test_nothing_is_found_in_noise(p):
    # p of a count of 199 shuffles lies on the grid of 1/200, so that five in a hundred of them are .05 or less
    alarms = sum(p(seed) <= 0.05 for seed in range(NULL_RUNS))
    low, high = binom.interval(0.95, NULL_RUNS, 0.05)
    assert low <= alarms <= high, f"{alarms} of {NULL_RUNS}, expected {low:.0f} to {high:.0f}"


def test_the_gain_of_abx_errs_on_the_careful_side():
    def p(seed):
        x, labels, scenes = null_world(seed, scenes=16)
        return abx_gain(x, rng(seed, "twin").normal(size=x.shape), labels, scenes)["p"] if len(set(labels)) > 1 else 1.0

    assert sum(p(seed) <= 0.05 for seed in range(300)) <= binom.ppf(0.995, 300, 0.05)


@pytest.mark.parametrize("predict", [linear(), neighbours(), few_shot()], ids=["linear", "neighbours", "few_shot"])
def test_what_was_planted_is_found(predict):
    for seed in range(5):
        stream, scenes = rng(seed, "planted"), np.repeat(np.arange(60), 4)
        kinds = stream.integers(0, 3, 240)
        noise = stream.normal(size=(240, 16))
        labels = np.array(["ball", "cup", "duck"])[kinds]
        table = with_controls(predict, noise + 3 * np.eye(16)[kinds], noise, labels, scenes, split(scenes, labels, seed=seed))
        assert table["trained"].lo > 0.6 and table["trained"].p < 0.001 and table["gain"]["lo"] > 0.2
        assert abs(table["shuffled"].score - 1 / 3) < 0.1


def test_abx_finds_what_was_planted():
    for seed in range(5):
        stream, scenes, kinds = rng(seed, "planted"), np.repeat(np.arange(40), 2), np.tile(np.arange(4), 20)
        noise = stream.normal(size=(80, 8))
        planted = noise + 1.5 * np.eye(8)[kinds]
        assert abx(planted, kinds, scenes, seed=seed).p == 1 / 200
        assert abx_gain(planted, noise, kinds, scenes)["lo"] > 0


def test_intervals_of_abx_hold_the_truth():
    held = []
    for seed in range(200):
        stream, scenes, kinds = rng(seed, "coverage"), np.repeat(np.arange(30), 2), np.tile(np.arange(3), 20)
        x = stream.normal(size=(60, 6)) + 0.7 * stream.normal(size=(30, 6))[scenes] + np.eye(6)[kinds]
        found = abx(x, kinds, scenes, shuffles=0)
        held.append((found.score, found.lo, found.hi))
    score, lo, hi = np.array(held).T
    assert 0.9 <= ((lo <= score.mean()) & (score.mean() <= hi)).mean() <= 0.99


def test_linear_probe_equals_scikit_learn():
    for seed in range(5):
        stream = rng(seed, "sklearn")
        x, labels = stream.normal(size=(200, 12)) * stream.uniform(0.1, 100, 12), np.array(["a", "b", "c"])[stream.integers(0, 3, 200)]
        train, test = halves(200)
        scale = StandardScaler().fit(x[train])
        theirs = LogisticRegression(max_iter=2000).fit(scale.transform(x[train]), labels[train]).predict(scale.transform(x[test]))
        assert (linear()(x[train], labels[train], x[test]) == theirs).all()


def test_neighbours_equal_scikit_learn_where_votes_cannot_tie():
    for seed in range(5):
        stream = rng(seed, "sklearn")
        x, labels = stream.normal(size=(200, 12)), np.array(["a", "b"])[stream.integers(0, 2, 200)]
        train, test = halves(200)
        theirs = KNeighborsClassifier(5, metric="cosine").fit(x[train], labels[train]).predict(x[test])
        assert (neighbours(5)(x[train], labels[train], x[test]) == theirs).all()
    assert np.isfinite(unit(np.zeros((2, 3)))).all()


@pytest.mark.parametrize("seed", range(30))
def test_no_group_on_both_sides(seed):
    stream = rng(seed, "groups")
    n = int(stream.integers(30, 300))
    scenes, children = stream.integers(0, n // 3, n), stream.integers(0, 12, n)
    pictures = np.arange(n)
    pictures[stream.permutation(n)[: n // 20]] = stream.integers(0, n, n // 20)  # a few the same as others
    groups = [scenes, children, grouped(scenes, pictures)][seed % 3]
    sides = [split(groups, share=0.3, seed=seed), *folds(groups, k=3, seed=seed)]
    for train, test in sides:
        apart(train, test, groups)
        assert sorted([*train, *test]) == list(range(n)) and len(train) and len(test)
    assert sorted(np.concatenate([test for _, test in sides[1:]])) == list(range(n))


def test_a_group_on_both_sides_is_refused_by_the_probe():
    x, labels, scenes = null_world(0)
    with pytest.raises(WrongInput, match="stands on both sides"):
        held_out(linear(), x, labels, scenes, (np.arange(0, 61), np.arange(61, 120)))


class Convolutional:
    "A stranger: a bare network with two blocks, nothing of ours."

    def __init__(self, dtype=torch.float32):
        torch.manual_seed(3)
        blocks = [torch.nn.Sequential(torch.nn.Conv2d(k, 8, 3, 2, 1), torch.nn.ReLU()) for k in (3, 8)]
        self.model = torch.nn.Sequential(*blocks).to(dtype)
        self.dtype = dtype

    def embed_images(self, images):
        x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(self.dtype) / 255
        with torch.inference_mode():
            return self.model(x).float().mean((2, 3)).numpy()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_stranger_is_hooked_and_cached(tmp_path, dtype):
    stranger, images = Convolutional(dtype), list(rng(0, "pictures").integers(0, 255, (5, 16, 16, 3)).astype(np.uint8))
    blocks = [name for name, module in stranger.model.named_modules() if name in ("0", "1")]
    found = features(stranger, images, [*blocks, OUTPUT], folder=tmp_path, batch=2)
    assert [a.shape for a in found.values()] == [(5, 8)] * 3 and all(a.dtype == np.float32 for a in found.values())
    assert np.allclose(found["1"], found[OUTPUT], atol=1e-2)
    assert len(list(tmp_path.glob("*.npy"))) == 3 and layers(stranger, images[0])[-1] == OUTPUT
    stranger.embed_images = None  # what is kept needs no looking
    again = features(stranger, images, [*blocks, OUTPUT], folder=tmp_path)
    assert all((again[site] == found[site]).all() for site in found)
    before = learner_key(stranger)
    with torch.no_grad():
        next(stranger.model.parameters()).view(-1)[0] += 1
    assert learner_key(stranger) != before


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "A learner that has learnt nothing, in a folder."
    from babyvlm.models.load import save_learner
    from babyvlm.models.sizes import new_model
    from babyvlm.models.tokenizer import train_tokenizer

    folder = tmp_path_factory.mktemp("learner")
    tokenizer = train_tokenizer(["look at the ball", "where is the duck"])
    save_learner(folder, new_model("clip", "tiny", tokenizer, seed=1), tokenizer, {"ball": 1})  # its untrained twin has seed 0
    return folder


def test_probe_command(run, tmp_path, capsys):
    from babyvlm.cli.probe import probe_run

    report = probe_run(run, tmp_path / "out", pictures=64)
    written = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert written["format"] == 1 and written["rows"] == report["rows"] and written["source"] == "nursery"
    assert {row["question"] for row in report["rows"]} == {"noun", "colour", "colour of new nouns"}
    assert len(report["rows"]) == 3 * 5 * 4 and len(list((tmp_path / "out" / "features").glob("*.npy"))) == 10
    assert "linear probe" in capsys.readouterr().out and (tmp_path / "out" / "probe.html").read_text().count("<svg") == 3
    with pytest.raises(WrongInput, match="pictures"):
        probe_run(run, tmp_path / "out", pictures=80)


def test_probe_command_says_what_is_wrong(run, tmp_path):
    from babyvlm.cli.probe import probe_run

    with pytest.raises(WrongInput, match="does not exist"):
        probe_run(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(WrongInput, match="corpus"):
        probe_run(run, tmp_path / "out", corpus=tmp_path)
