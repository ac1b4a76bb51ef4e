"""The predictor: nothing from the future, everything of the past, a tower that does not collapse, an untrained twin at chance."""
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from babyvlm.core.basics import WrongInput
from babyvlm.core.records import Clip
from babyvlm.milestones.baselines import PixelChange
from babyvlm.milestones.surprise import score_quadruplets
from babyvlm.models.predictor import Predictor, PredictorConfig
from babyvlm.models.predictor_learner import PredictorLearner
from babyvlm.models.tokenizer import train_tokenizer
from babyvlm.models.vision import VisionConfig, to_pixels
from babyvlm.nursery.stimuli import vanishing
from babyvlm.pretraining.future import collapse, film, future_latents


def small(seed=0, awake=True, **more):
    "A predictor that, awake, already expects something."
    torch.manual_seed(seed)
    model = Predictor(PredictorConfig(VisionConfig(layers=1), **dict(width=32, layers=2, heads=2, frames=8) | more)).eval()
    if awake: torch.nn.init.normal_(model.change.weight, std=.1)
    return model


def pictures(n, seed=0):
    return to_pixels(np.random.default_rng(seed).integers(0, 255, (n, 64, 64, 3), np.uint8))


@pytest.mark.parametrize("cut", [1, 3, 6])
def test_the_future_changes_nothing_and_the_past_does(cut):
    model, pixels = small(), pictures(14)
    frames = torch.arange(7)[None]
    later, earlier = frames.clone(), frames.clone()
    later[:, cut:] += 7
    earlier[:, :cut] += 7
    with torch.no_grad(): a, b, c = (model(pixels, f).predicted for f in (frames, later, earlier))
    assert torch.allclose(a[:, :cut], b[:, :cut], atol=1e-5)
    assert (a[:, -1] - c[:, -1]).abs().max() > 1e-4


def test_attention_implementations_agree():
    model, pixels = small(), pictures(6)
    with torch.no_grad():
        eager = model(pixels).predicted
        model.set_attn_implementation("sdpa")
        assert torch.allclose(eager, model(pixels).predicted, atol=1e-4)


def test_films_of_a_batch_do_not_see_each_other():
    model, pixels = small(), pictures(10)
    with torch.no_grad():
        both = model(pixels, torch.arange(10).view(2, 5)).predicted
        alone = model(pixels[5:], torch.arange(5)[None]).predicted
    assert torch.allclose(both[1:], alone, atol=1e-5)


def test_it_round_trips_in_a_fresh_process(tmp_path):
    model, pixels = small(), pictures(4)
    model.save_pretrained(tmp_path/"saved")
    with torch.no_grad(): np.save(tmp_path/"told.npy", model(pixels).predicted.numpy())
    code = ("import sys, numpy as np, torch; from transformers import AutoModel; import babyvlm.models.predictor; from babyvlm.models.vision import to_pixels;"
            "pixels = to_pixels(np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), np.uint8)); model = AutoModel.from_pretrained(sys.argv[1]).eval();"
            "out = model(pixels).predicted.detach().numpy(); assert np.allclose(out, np.load(sys.argv[2]), atol=1e-6)")
    subprocess.run([sys.executable, "-c", code, str(tmp_path/"saved"), str(tmp_path/"told.npy")], check=True)


def test_a_tower_trained_alone_collapses_and_the_variance_term_holds_it():
    """The tower's own shortcut is a constant; with the term its tokens keep differing between pictures."""
    def spread_after(guarded):
        model = small(awake=False, ahead=[1]).train()
        rand = np.random.default_rng(0)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(12):
            out = model(to_pixels(rand.integers(0, 255, (16, 64, 64, 3), np.uint8)), torch.arange(16).view(4, 4))
            error = (out.predicted[:, :-1, 0] - out.latents[:, 1:]).square().mean()          # with gradient into the target: the road to collapse
            loss = error + collapse(out.latents) if guarded else error
            optimizer.zero_grad(); loss.backward(); optimizer.step()
        with torch.no_grad(): return collapse(model.latents(pictures(32, 1))[None]).item()
    free, held = spread_after(False), spread_after(True)
    assert held < .5*free


def test_a_joint_step_reaches_the_tower_and_a_frozen_tower_is_left_alone():
    model, pixels = small(), pictures(8)
    future_latents(model(pixels, torch.arange(8).view(2, 4))).backward()
    assert model.vision.stem.layers[0].weight.grad.abs().sum() > 0
    frozen = small()
    frozen.vision.requires_grad_(False)
    future_latents(frozen(pixels, torch.arange(8).view(2, 4))).backward()
    assert frozen.vision.stem.layers[0].weight.grad is None and frozen.enter.weight.grad.abs().sum() > 0


def test_the_layout_counts_rows_film_by_film():
    items = [SimpleNamespace(parts=tuple(range(5)))]*3
    assert film(items, None, None, None)["frames"].tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12, 13, 14]]
    with pytest.raises(WrongInput, match="one length"):
        film([items[0], SimpleNamespace(parts=(1, 2))], None, None, None)


@pytest.fixture(scope="module")
def quadruplets():
    "Two quadruplets of films as trials, and what loads their clips."
    trials, clips = [], {}
    for q in range(2):
        begin, end, reveal, _ = vanishing((7, q, 64))
        for hidden, there in ((True, True), (True, False), (False, False), (False, True)):
            name = f"{q}{hidden:d}{there:d}"
            clips[name] = Clip(np.concatenate([begin[hidden], end[there]]), 5.)
            trials.append(SimpleNamespace(trial_id=name, quad_id=str(q), reveal_frame=reveal, context=[SimpleNamespace(type="clip", path=name)], choices=[], facts=dict(hidden=hidden, revealed=there)))
    return trials, clips.get


def test_untrained_twin_and_pixel_change_are_at_chance(quadruplets):
    "Whoever expects no change is surprised alike by both possible and both impossible films: every quadruplet is a tie."
    twin = PredictorLearner(small(awake=False, frames=14), train_tokenizer(["look"]))
    for learner in (twin, twin.fresh(3), PixelChange()):
        marks = score_quadruplets(learner, *quadruplets)
        assert [m.credit for m in marks] == [.5, .5] and all(m.tied for m in marks)


def test_surprise_depends_on_what_was_hidden_once_something_is_expected(quadruplets):
    marks = score_quadruplets(PredictorLearner(small(frames=14), train_tokenizer(["look"])), *quadruplets)
    assert all(m.scores[0] != m.scores[1] and not m.error for m in marks)


@pytest.mark.parametrize("length", [1, 2, 7, 13, 14, 15, 29, 40])
def test_every_frame_of_a_film_of_any_length_is_judged_once(length):
    learner = PredictorLearner(small(), train_tokenizer(["look"]))
    clip = Clip(np.random.default_rng(length).integers(0, 255, (length, 64, 64, 3), np.uint8), 2.5)
    row = learner.surprise([clip])[0]
    assert row.shape == (length,) and row[0] == 0 and (row[1:] > 0).all()
