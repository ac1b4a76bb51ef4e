"""Patching, ablation and concept neurons: planted causes are found exactly, and noise yields what its rate says."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from babyvlm.core.basics import WrongInput, rng
from babyvlm.core.trials import TrialsWriter, read_trials
from babyvlm.milestones.asking import score_trials
from babyvlm.models.learners import BabyLlavaLearner, ClipLearner
from babyvlm.models.sizes import new_model
from babyvlm.models.tokenizer import train_tokenizer
from babyvlm.nursery.stimuli import Studio, colour_words, looking_while_listening
from babyvlm.probing.ablation import ablate, average, silenced
from babyvlm.probing.neurons import beside_controls, concept_neurons, judged, selectivity, unit_site, units_of
from babyvlm.probing.patching import patch, preference
from babyvlm.probing.sites import Site, head_sites, hooked, insides, layer_sites, recording

HEARD = ["look at the ball", "look at the duck"]
LO, HI = (float(x) / 1000 for x in stats.binom.interval(.95, 1000, .05))  # of the share of 1,000 null runs


@pytest.fixture(scope="module")
def learners():
    tokenizer = train_tokenizer(HEARD)
    torch.manual_seed(0)
    return {k: kind(new_model(k, "tiny", tokenizer), tokenizer, name=k)
            for k, kind in (("clip", ClipLearner), ("babyllava", BabyLlavaLearner), ("babyllava-gpt2", BabyLlavaLearner))}


@pytest.fixture(scope="module")
def pictures():
    return list(np.random.default_rng(0).integers(0, 255, (12, 64, 64, 3), np.uint8))


class Joined(torch.nn.Module):
    "Attention over places with known heads: each reads one feature of place 0 and writes another into every place."
    def __init__(self, wires, width=6):
        super().__init__()
        self.head_dim, self.wires = 1, wires
        self.o_proj = torch.nn.Linear(len(wires), width, bias=False)
        with torch.no_grad():
            self.o_proj.weight.zero_()
            for head, (_, target, weight) in enumerate(wires): self.o_proj.weight[target, head] = weight

    def forward(self, stream):  # (B, T, D)
        heads = torch.stack([stream[..., source].mean(1) for source, _, _ in self.wires], -1)  # (B, H)
        return stream + self.o_proj(heads[:, None].expand(-1, stream.shape[1], -1)), heads  # a tuple, as transformers' modules give


class Network(torch.nn.Module):
    "Three layers of four heads; the answer is column 5 of the last place."
    def __init__(self, layers):
        super().__init__()
        self.layers = torch.nn.ModuleList([Joined(wires) for wires in layers])

    def forward(self, stream):
        for layer in self.layers: stream = layer(stream)[0]
        return stream[:, -1, 5]


def planted(seed):
    "A network with a chain through one head a layer and a shorter way around its first two links; and the share that each head carries."
    stream = rng(seed, "test", "circuit")
    layers = [[(4, 3, float(stream.normal())) for _ in range(4)] for _ in range(3)]  # noise reads 4, writes 3
    a, b, c, d = (int(k) for k in stream.integers(4, size=4))
    around, d = .2 + .6 * float(stream.random()), (c + 1 + d % 3) % 4
    layers[0][a], layers[1][b] = (0, 1, 1.), (1, 2, 1.)
    layers[2][c], layers[2][d] = (2, 5, 1 - around), (0, 5, around)
    shares = {(0, a): 1 - around, (1, b): 1 - around, (2, c): 1 - around, (2, d): around}
    return Network(layers), [shares.get((layer, head), 0) for layer in range(3) for head in range(4)]


@pytest.mark.parametrize("seed", range(20))
def test_patching_recovers_a_planted_circuit(seed):
    network, shares = planted(seed)
    draw = torch.Generator().manual_seed(seed)
    def item(cue):
        stream = torch.zeros(3, 5, 6)  # three trials an item
        stream[..., 0], stream[..., 4] = cue, torch.randn(3, 5, generator=draw)
        return stream
    found = patch(network, head_sites(network), [(item(1.), item(-1.)) for _ in range(4)], lambda model, x: model(x).detach().numpy()).table()
    assert len(found) == 12 and np.allclose(found.restored, shares, atol=1e-5)
    assert found.found.tolist() == [share > 0 for share in shares]
    assert np.allclose(found.gain, 2 * np.array(shares), atol=1e-5)


@pytest.mark.parametrize("kind", ["babyllava", "babyllava-gpt2"])
def test_the_picture_reaches_a_word_through_its_last_place_only(learners, pictures, kind):
    learner = learners[kind]
    def ask(model, picture):
        scores = model.logprob([[picture, "look at the"]], [["ball", "duck"]])[0][0]
        return scores[0] - scores[1]
    last = layer_sites(learner, "language")[-1]
    with recording(learner, [last]) as kept: ask(learner, pictures[0])
    length = kept[last][0].shape[1]
    sites = [Site(last.module, places=(at, at + 1)) for at in (0, length - 2, length - 1)]  # what is read ends before the last token of the answers
    table = patch(learner, sites, [(pictures[0], pictures[1]), (pictures[2], pictures[3])], ask)
    assert np.allclose(table.patched[:, -1], table.clean, atol=1e-4)
    assert np.allclose(table.patched[:, :-1], table.corrupt[:, None], atol=1e-6)
    assert not np.allclose(table.clean, table.corrupt, atol=1e-4)


def test_the_last_layer_of_a_tower_carries_all(learners, pictures):
    clip = learners["clip"]
    pairs = [(([pictures[0]], HEARD), ([pictures[1]], HEARD))]
    found = patch(clip, [*layer_sites(clip, "vision"), Site("vision.transformer.layernorm")], pairs)
    assert np.allclose(found.patched[:, -2:], found.clean[:, None], atol=1e-6)
    assert not np.allclose(found.clean, found.corrupt, atol=1e-4)


def test_hooks_leave_no_trace_even_after_an_error(learners, pictures):
    clip = learners["clip"]
    before = clip.similarity(pictures, HEARD)
    with pytest.raises(ZeroDivisionError), hooked(clip, {layer_sites(clip)[0]: lambda value, given: value * 0}):
        clip.similarity(pictures[:2], HEARD)
        raise ZeroDivisionError("on purpose")
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in clip.model.modules())
    assert np.array_equal(clip.similarity(pictures, HEARD), before)


def test_an_attention_that_calls_no_projection_is_refused():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
        def forward(self, x): return self.attention(x, x, x)[0].sum((1, 2))
    model, x = Model(), torch.randn(2, 3, 8)
    assert len(head_sites(model)) == 2
    with pytest.raises(WrongInput, match="never ran"), torch.no_grad():
        ablate(model, head_sites(model), lambda m: m(x).numpy(), [0, 1])


def share_within(p):
    share = np.mean(np.asarray(p) < .05)
    assert len(p) == 1000 and LO <= share <= HI, f"{share:.3f} of 1,000 null runs at p < .05, expected {LO:.3f} to {HI:.3f}"


def random_network(seed):
    torch.manual_seed(seed)
    wires = [(k % 4, (k + 1) % 6, 3 * float(w)) for k, w in enumerate(torch.randn(4))]
    first = Joined(wires)
    class Tail(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers, self.out = torch.nn.ModuleList([first]), torch.nn.Sequential(torch.nn.Tanh(), torch.nn.Linear(6, 1))
        def forward(self, x): return self.out(self.layers[0](x)[0])[:, -1, 0]
    return Tail().requires_grad_(False)


def test_patching_finds_nothing_in_noise():
    def run(seed, scenes=20, each=2):
        network, stream = random_network(seed), rng(seed, "test", "patch null")
        sign = np.repeat(stream.choice([-1, 1], scenes), each)
        clean, corrupt = torch.randn(2, scenes * each, 3, 6)
        return patch(network, head_sites(network), [(clean, corrupt)], lambda m, x: sign * m(x).numpy(), np.repeat(np.arange(scenes), each)).table()
    tables = [run(seed) for seed in range(1000)]
    share_within([table.p[0] for table in tables])
    assert np.mean([table.found.any() for table in tables]) <= HI  # any of four heads


def test_ablation_finds_nothing_in_noise():
    def run(seed, n=600, each=3):
        network = random_network(seed)
        items, right = torch.randn(n, 3, 6), torch.randint(2, (n,)).bool()
        middle = network(items).median()
        return ablate(network, head_sites(network)[:1], lambda m: ((m(items) > middle) == right).numpy(), np.arange(n) // each).p[0]
    p = np.array([run(seed) for seed in range(1000)])
    assert np.mean(p < 1) > .9  # this head matters to nearly every network
    share_within(p)


def test_neurons_find_nothing_in_noise():
    def run(seed):
        stream, scenes = rng(seed, "test", "neuron null"), np.repeat(np.arange(40), 2)
        units = stream.normal(size=(40, 60))[scenes] + stream.normal(size=(80, 60))
        has = stream.permutation(np.arange(40) % 2 == 0)[scenes]
        return concept_neurons(units, dict(thing=has), scenes, seed=seed).iloc[0]
    rows = [run(seed) for seed in range(1000)]
    share_within([row.p for row in rows])
    assert np.mean([row.chosen for row in rows]) > .7 and abs(np.mean([row.selectivity for row in rows]) - .5) < .01


def test_selectivity_is_the_area_under_the_curve():
    stream = rng(0, "test", "auc")
    for _ in range(20):
        values, has = stream.integers(0, 6, (40, 5)), stream.random(40) < .4
        assert np.allclose(selectivity(values, has), [roc_auc_score(has, values[:, u]) for u in range(5)])
        row = judged(values[:, 0], has, range(40))
        assert np.isclose(row["selectivity"], roc_auc_score(has, values[:, 0])) and row["lo"] < row["selectivity"] < row["hi"]


def test_pictures_of_one_scene_count_once():
    stream = rng(0, "test", "clusters")
    values, has = stream.normal(size=30), stream.random(30) < .5
    once = judged(values, has, range(30))
    thrice = judged(np.repeat(values, 3), np.repeat(has, 3), np.repeat(np.arange(30), 3))
    naive = judged(np.repeat(values, 3), np.repeat(has, 3), range(90))
    assert np.isclose(once["p"], thrice["p"], rtol=1e-6) and naive["hi"] - naive["lo"] < .7 * (once["hi"] - once["lo"])


class Painter:
    "A learner whose heads see one colour each; the last is never listened to."
    name, words = "painter", {"red": 0, "green": 1, "blue": 2, "yellow": 3}

    class Eye(torch.nn.Module):
        head_dim = 1
        def __init__(self):
            super().__init__()
            self.o_proj = torch.nn.Linear(5, 4, bias=False)
            with torch.no_grad(): self.o_proj.weight.copy_(torch.eye(5)[:4])
        def forward(self, x):
            r, g, b = x.float().flatten(1, 2).div(255).unbind(-1)
            seen = [r - (g + b) / 2, g - (r + b) / 2, b - (r + g) / 2, torch.minimum(r, g) - b - (r - g).abs(), r + g + b]
            return self.o_proj(torch.stack([s.clamp(min=0).pow(2).sum(1) for s in seen], 1))

    def __init__(self): self.model = torch.nn.Sequential(self.Eye()).requires_grad_(False)

    def similarity(self, images, texts):
        scores = self.model(torch.tensor(np.stack(images))).numpy()
        named = [next((k for word, k in self.words.items() if word in text.split()), None) for text in texts]
        return np.stack([np.zeros(len(scores)) if k is None else scores[:, k] for k in named], 1)


def test_a_head_silenced_on_milestone_trials_costs_its_own_word(tmp_path):
    with TrialsWriter(tmp_path / "trials", dict(name="test", version="1")) as writer, Studio(writer, px=32) as studio: colour_words(studio, 64)
    folder = read_trials(tmp_path / "trials")
    trials = [t for t in folder if set(t.prompt_words) & set(Painter.words)]
    asked = np.array([next(w for w in Painter.words if w in t.prompt_words) for t in trials])
    def ask(learner): return [m.credit for m in score_trials(learner, trials, folder)]
    painter, groups = Painter(), [t.group["scene"] for t in trials]
    table = ablate(painter, head_sites(painter), ask, groups)
    assert table.change.iloc[-1] == 0 and table.p.iloc[-1] == 1  # nobody listens to the last
    with recording(painter, head_sites(painter)) as kept: whole = np.array(ask(painter))
    for word in sorted(set(asked)):
        site = head_sites(painter)[Painter.words[word]]
        with silenced(painter, [site], "mean", {site: average(kept[site])}): without = np.array(ask(painter))
        assert (without[asked != word] == whole[asked != word]).all()
        assert np.allclose(without[asked == word], [t.chance for t in trials if word in t.prompt_words])
        assert whole[asked == word].mean() > .6


def test_the_recipe_tells_where_a_learner_that_knows_nothing_needs_nothing(learners, tmp_path):
    spec = importlib.util.spec_from_file_location("causes", Path(__file__).parent.parent / "runs" / "causes.py")
    causes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(causes)
    with TrialsWriter(tmp_path / "trials", dict(name="test", version="1")) as writer, Studio(writer, px=32) as studio: looking_while_listening(studio, 16)
    folder = read_trials(tmp_path / "trials")
    lost, gone = causes.losses(learners["clip"], list(folder), folder), causes.travels(learners["clip"], list(folder), folder, 4)
    assert {name: len(table) for name, table in lost.items()} == {"vision heads": 16, "vision heads of a layer": 4, "vision layers": 4}
    assert {name: len(table) for name, table in gone.items()} == {"vision": 8, "vision heads": 16}
    assert not any(table.found.any() for table in [*lost.values(), *gone.values()])


def test_units_are_looked_at_in_order_and_beside_controls(learners, pictures):
    clip, site = learners["clip"], Site("vision.transformer.layers.2")
    def look(learner): return learner.embed_images(pictures)
    units = units_of(clip, site, look)
    assert np.allclose(units[2], units_of(clip, site, lambda learner: learner.embed_images(pictures[2:3]))[0], atol=1e-5)
    assert str(unit_site(site, 3)) == "vision.transformer.layers.2 column 3"
    both = beside_controls(clip, site, look, dict(bright=np.arange(12) % 2 == 0), range(12))
    assert list(both.of) == ["learner", "untrained", "shuffled"] and both.selectivity.between(0, 1).all()


@pytest.mark.parametrize("wrong, what", [
    (lambda: preference(object(), ([0, 1], ["a"])), "neither"),
    (lambda: preference(object(), ([0], ["a"])), "choice between two"),
    (lambda: insides(object()), "no network"),
    (lambda: Site("a", side="left"), "unknown"),
    (lambda: patch(torch.nn.Linear(1, 1), [], []), "0 sites"),
    (lambda: concept_neurons(np.zeros((4, 2)), dict(a=np.array([1, 0, 1, 0], bool)), [0, 0, 1, 1]), "too few"),
    (lambda: selectivity([1., 2.], [True, True]), "2 of 2"),
])
def test_wrong_input_is_one_clear_line(wrong, what):
    with pytest.raises(WrongInput, match=what) as caught: wrong()
    assert "\n" not in str(caught.value)
