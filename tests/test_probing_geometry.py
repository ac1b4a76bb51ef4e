"""Geometry, maps and dense probes: formulas against their definitions, planted signals found, and nothing found in noise."""

import numpy as np
import pytest
from scipy.stats import binom, spearmanr

from babyvlm.core.basics import WrongInput, rng
from babyvlm.probing.controls import held_out
from babyvlm.probing.dense import GROUND, enlarged, in_places, mean_iou, on_grid, segmentation
from babyvlm.probing.depth import depth_order, in_order, ordered
from babyvlm.probing.geometry import MEASURES, alike, by_shuffling, centred, cosine, distances, inner, jackknifed, nearer, u_centred
from babyvlm.probing.joint_space import alignment, even_spread, modality_gap, uniformity, units
from babyvlm.probing.maps import Map, mapped, together, turned
from babyvlm.probing.splits import split
from babyvlm.probing.word_frequency import frequency_effect, told_apart

RUNS = 1000


def false_alarms(p_of, runs=RUNS):
    "How many of so many null runs come out with p < .05 or, where p moves in steps, p = .05."
    return sum(p_of(np.random.default_rng(seed)) <= 0.05 + 1e-9 for seed in range(runs))


def at_five_percent(count, runs=RUNS):
    low, high = binom.interval(0.99, runs, 0.05)
    return low <= count <= high


# --- formulas


def test_linear_cka_is_the_formula_on_features():
    "Kornblith et al. 2019, equation 4 and the lines above it."
    x, y = (np.random.default_rng(seed).normal(2, 1, (30, d)) for seed, d in ((0, 5), (1, 9)))
    a, b = x - x.mean(0), y - y.mean(0)
    by_features = np.linalg.norm(b.T @ a) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    assert alike(x, y, "cka_biased", shuffles=0).value == pytest.approx(by_features, abs=1e-12)


def song(k, l):
    "Song et al. 2012, equation 5, word for word."
    n, one = len(k), np.ones(len(k))
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))
    return (np.trace(k @ l) + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * one @ k @ l @ one) / (n * (n - 3))


def test_debiased_cka_is_songs_estimator():
    x, y = (np.random.default_rng(seed).normal(size=(20, d)) for seed, d in ((0, 5), (1, 9)))
    k, l = x @ x.T, y @ y.T
    assert alike(x, y, shuffles=0).value == pytest.approx(song(k, l) / np.sqrt(song(k, k) * song(l, l)), abs=1e-12)


def test_debiased_cka_of_noise_is_zero_on_average_and_the_usual_one_is_not():
    draws = [[np.random.default_rng((seed, side)).normal(size=(20, 100)) for side in (0, 1)] for seed in range(200)]
    debiased, usual = (np.array([cosine(how(inner(x)), how(inner(y))) for x, y in draws]) for how in (u_centred, centred))
    assert abs(debiased.mean()) < 4 * debiased.std() / np.sqrt(200) and usual.min() > 0.7


def test_rsa_is_spearman_over_pairs():
    x, y = (np.random.default_rng(seed).normal(size=(15, 4)).round(0) for seed in (0, 1))
    upper = np.triu_indices(15, 1)
    assert alike(x, y, "rsa", shuffles=0).value == pytest.approx(spearmanr(distances(x)[upper], distances(y)[upper]).statistic, abs=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
def test_turning_scaling_and_shifting_change_nothing(measure):
    stream = np.random.default_rng(0)
    x, y, turn = stream.normal(size=(20, 6)), stream.normal(size=(20, 3)), np.linalg.qr(stream.normal(size=(6, 6)))[0]
    one, other = alike(x, y, measure, shuffles=99), alike(550 + 3 * x @ turn, y, measure, shuffles=99)
    assert one.value == pytest.approx(other.value, abs=1e-9) and one.lo == pytest.approx(other.lo, abs=1e-9) and one.p == other.p


def test_a_scene_counts_once():
    stream = np.random.default_rng(0)
    x, y, scenes = stream.normal(size=(10, 4)), stream.normal(size=(10, 4)), np.repeat(np.arange(10), 5)
    once, often = alike(x, y, shuffles=99), alike(x[scenes], y[scenes], groups=scenes, shuffles=99)
    assert often.n == 10 and (once.value, once.lo, once.p) == pytest.approx((often.value, often.lo, often.p))


def test_alignment_uniformity_and_gap_are_wang_isola_and_liang():
    stream = np.random.default_rng(0)
    a, b = units(stream.normal(size=(30, 5))), units(stream.normal(size=(30, 5)) + 1)
    assert alignment(a, b).value == pytest.approx(np.mean(np.linalg.norm(a - b, axis=1) ** 2))
    assert alignment(a, b).chance == pytest.approx(np.mean([np.sum((a[i] - b[j]) ** 2) for i in range(30) for j in range(30) if i != j]))
    assert uniformity(a).value == pytest.approx(np.log(np.mean([np.exp(-2 * np.sum((a[i] - a[j]) ** 2)) for i in range(30) for j in range(i)])))
    assert modality_gap(a, b).value == pytest.approx(np.linalg.norm(a.mean(0) - b.mean(0)))


@pytest.mark.parametrize("dimensions", [2, 8, 128])
def test_an_even_spread_has_the_uniformity_that_is_said(dimensions):
    x = units(np.random.default_rng(0).normal(size=(600, dimensions)))
    assert uniformity(x).value == pytest.approx(even_spread(dimensions), abs=0.05)


def test_a_words_score_is_the_area_under_its_curve():
    from sklearn.metrics import roc_auc_score

    stream = np.random.default_rng(0)
    nouns, similarity = stream.choice(["ball", "cup", "duck"], 60), stream.normal(size=(60, 3)).round(1)
    expected = [roc_auc_score(nouns == word, similarity[:, k]) for k, word in enumerate(("ball", "cup", "duck"))]
    assert told_apart(similarity, nouns, ["ball", "cup", "duck"]) == pytest.approx(expected)


def test_mean_iou_by_hand():
    truth, said = np.full((6, 2, 2), "a"), np.full((6, 2, 2), "a")
    truth[:, 0], said[:, 0, 0] = "b", "b"
    assert mean_iou(said, truth, range(6)).value == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_places_of_every_grid_cover_every_pixel():
    labels = np.random.default_rng(0).choice(["a", "b"], (3, 13, 13))
    assert (in_places(labels, 13, 13) == labels).all() and (enlarged(in_places(labels, 13, 13), 13) == labels).all()
    x = np.arange(2 * 10 * 1).reshape(2, 10, 1)
    assert on_grid(x)[0].ravel().tolist() == list(range(1, 10))


def test_order_of_depth_by_hand():
    far = np.log([[1.0, 1.05, 2, 4]])
    assert in_order(np.array([[3.0, 2, 1, 4]]), far).tolist() == [3 / 5]


# --- intervals hold what they promise


@pytest.mark.parametrize("measure", ["cka", "rsa"])
def test_the_interval_covers_the_truth(measure):
    def two(seed, n):
        stream = np.random.default_rng(seed)
        x = stream.normal(size=(n, 6))
        return x, x + stream.normal(size=x.shape)

    relate, centre = MEASURES[measure]
    truth = np.mean([cosine(*(centre(relate(z)) for z in two(10_000 + k, 800))) for k in range(3)])
    found = [alike(*two(seed, 40), measure, shuffles=0) for seed in range(100)]
    assert np.mean([one.lo <= truth <= one.hi for one in found]) >= 0.88


# --- planted signals


@pytest.mark.parametrize("measure", ["cka", "rsa"])
def test_a_planted_kinship_is_found(measure):
    stream = np.random.default_rng(0)
    y = stream.normal(size=(60, 10))
    x, twin = np.hstack([y, stream.normal(size=(60, 10))]), stream.normal(size=(60, 30))
    assert alike(x, y, measure, shuffles=199).p == 0.005 and nearer(x, twin, y, measure)["lo"] > 0


def test_a_planted_frequency_effect_is_found():
    counts = np.logspace(0, 3, 20).round()
    found = frequency_effect(counts, 0.5 + 0.1 * np.log10(counts) + np.random.default_rng(0).normal(0, 0.03, 20))
    assert found.lo < 0.1 < found.hi and found.p == 0.001


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_planted_kinds_are_found_on_a_map(method):
    stream, kinds = np.random.default_rng(0), np.repeat(range(3), 20)
    assert together(mapped(3 * stream.normal(size=(3, 20))[kinds] + stream.normal(size=(60, 20)), method).points, kinds).p == 0.005


def rooms(stream, scenes=20, noise=0.3):
    "Vectors that carry a blob's label and the distance of each place, truth, and vectors that carry nothing."
    labels = np.full((scenes, 8, 8), GROUND)
    for k, (a, b) in enumerate(stream.integers(0, 2, (scenes, 2)) * 4):
        labels[k, a : a + 4, b : b + 4] = ("ball", "cup")[k % 2]
    depth = np.exp(stream.normal(size=(scenes, 4, 4))).repeat(2, 1).repeat(2, 2)
    signal = np.concatenate([in_places(labels, 4, 4)[..., None] == ["ball", "cup"], np.log(depth[:, ::2, ::2, None])], -1)
    return signal + noise * stream.normal(size=signal.shape), labels, depth, stream.normal(size=(scenes, 4, 4, 5))


def test_planted_masks_and_depths_are_found_and_controls_are_not():
    x, labels, depth, nothing = rooms(np.random.default_rng(0))
    for found in (segmentation(x, nothing, labels, range(20)), depth_order(x, nothing, depth, range(20))):
        assert found["trained"].score > 0.8 and found["trained"].lo > 0.5 and found["gain"]["lo"] > 0 and found["over_place"]["lo"] > 0
        assert found["shuffled"].lo < found["shuffled"].chance < found["shuffled"].hi and found["untrained"].p > 0.05


# --- nothing in noise


@pytest.mark.parametrize("measure", MEASURES)
def test_no_kinship_in_noise(measure):
    relate, centre = MEASURES[measure]

    def p_of(seed):
        stream = rng(seed, "no kinship")
        return by_shuffling(*(centre(relate(stream.normal(size=(12, d)))) for d in (30, 4)), 199, seed)

    assert at_five_percent(sum(p_of(seed) <= 0.05 + 1e-9 for seed in range(RUNS)))


def test_nearer_errs_on_the_careful_side():
    def p_of(stream):
        y = stream.normal(size=(24, 6))
        return nearer(y + stream.normal(size=y.shape), y + stream.normal(size=y.shape), y)["p"]

    assert 0 < false_alarms(p_of, 300) <= binom.ppf(0.995, 300, 0.05)


SCENES = np.repeat(np.arange(15), 2)


def paired_noise(stream):
    return (stream.normal(size=(15, 6))[SCENES] + 0.5 * stream.normal(size=(30, 6)) for _ in range(2))


def test_no_alignment_and_no_gap_in_noise():
    assert at_five_percent(false_alarms(lambda stream: alignment(*paired_noise(stream), SCENES).p))
    assert at_five_percent(false_alarms(lambda stream: modality_gap(*paired_noise(stream), SCENES, swaps=199, seed=int(stream.integers(10**6))).p))


def test_no_frequency_effect_in_noise():
    assert at_five_percent(false_alarms(lambda stream: frequency_effect(stream.integers(1, 500, 12), stream.random(12), 99, int(stream.integers(10**6))).p))


def test_no_kinds_together_in_noise():
    kinds = np.repeat(range(3), 5)
    assert at_five_percent(false_alarms(lambda stream: together(stream.normal(size=(15, 2)), kinds, k=3, shuffles=19, seed=int(stream.integers(10**6))).p))


def nearest_mean(train_x, train_labels, test_x):
    "A probe that is fast enough to be asked a thousand times."
    names = np.unique(train_labels)
    means = np.stack([train_x[train_labels == name].mean(0) for name in names])
    return names[((test_x[:, None] - means) ** 2).sum(-1).argmin(1)]


def test_no_masks_in_noise():
    labels, scenes = rooms(np.random.default_rng(0))[1], np.repeat(np.arange(20), 16)
    asked = in_places(labels, 4, 4).ravel()
    sides = split(scenes, asked)
    assert at_five_percent(false_alarms(lambda stream: held_out(nearest_mean, stream.normal(size=(320, 3)), asked, scenes, sides).p))


def least_squares(train_x, train_far, test_x):
    return test_x @ np.linalg.lstsq(train_x, train_far, rcond=None)[0]


def test_no_depth_in_noise():
    far, sides = np.random.default_rng(0).normal(size=(20, 4, 4)), split(range(20))
    assert at_five_percent(false_alarms(lambda stream: ordered(stream.normal(size=(20, 4, 4, 3)), far, range(20), sides, least_squares).p))


# --- what fails, fails in one line


def test_errors_say_what_to_do():
    x = np.random.default_rng(0).normal(size=(20, 3))
    for wrong in (lambda: alike(x, x[:9]), lambda: alike(x[:4], x[:4]), lambda: alike(x, x, "other"), lambda: alignment(x, x[:, :2]), lambda: mapped(x[:3]),
                  lambda: turned(Map(x, "pca", 1.0), Map(x[:5], "pca", 1.0)), lambda: frequency_effect([0] * 20, x[:, 0]), lambda: on_grid(x), lambda: jackknifed(np.mean, [0, 1])):
        with pytest.raises(WrongInput) as error:
            wrong()
        assert "\n" not in str(error.value) and len(str(error.value)) > 30
