"""The recipe `predict`: from films to a learner that expects, and the same to the bit when it is continued."""
import json
from dataclasses import replace

import numpy as np
import pytest

from babyvlm.core.basics import WrongInput, read_json
from babyvlm.core.records import Clip
from babyvlm.models.load import load_learner
from babyvlm.nursery.hide_and_seek import STORIES, Films, film, write_films
from babyvlm.pretraining.recipes import pretrain

# quick to train: a film of few frames, a small network over time
STAGE = dict(name="predict", objectives=["future_latents"], views=["film"], lr=2e-3, batch=8, freeze=["vision"], cached=True)
RECIPE = dict(model="predictor", steps=12, config=dict(width=32, layers=1, heads=2, frames=6, ahead=[1, 2]), stages=[STAGE])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_films(tmp_path_factory.mktemp("films")/"corpus", 24, frames=6, fps=2.5, workers=1)


def test_films_become_a_learner_that_expects(corpus, tmp_path):
    run = pretrain(corpus, tmp_path/"run", RECIPE, steps=12)
    card = read_json(run/"run.json")
    losses = [json.loads(line)["loss"] for line in (run/"metrics.jsonl").read_text().splitlines()]
    assert card["status"] == "finished" and card["chance_loss"] == 1. and losses[0] == pytest.approx(1., abs=1e-4)     # at first it copies
    assert np.mean(losses[-4:]) < .97 and not card["not_learning"]
    learner, clip = load_learner(run), Clip(film(9, 0, fps=5., frames=20).images, 5.)
    rows = learner.surprise([clip])
    assert rows.shape == (1, 20) and not np.allclose(rows, learner.fresh(0).surprise([clip]))


def test_an_online_library_trains_too(tmp_path):
    recipe = dict(RECIPE, stages=[dict(STAGE, cached=False)])
    run = pretrain(Films(12, frames=6), tmp_path/"run", recipe, steps=2)
    assert read_json(run/"run.json")["seen"]["frames"] == 2*8*6


def test_a_film_too_short_is_one_clear_line(tmp_path):
    short = write_films(tmp_path/"short", 3, frames=4, px=32, workers=1)
    with pytest.raises(WrongInput, match="frames in a row"):
        pretrain(short, tmp_path/"run", RECIPE, steps=2)


def test_every_story_is_told_and_no_film_gives_its_ending_away():
    "Up to the fall of the screen, hiding and not hiding look alike: the last upright frames of a `hides` film do not show its toy."
    films = Films(60, px=32, frames=2, fps=.4)
    stories = [film.story for film in films]
    assert len(set(stories)) >= len(STORIES) - 1
    one = film(0, 3)
    assert (film(0, 3).images == one.images).all() and (film(1, 3).images != one.images).any() and one == replace(one)
