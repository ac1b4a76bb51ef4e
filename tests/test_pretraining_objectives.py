"""Objectives with real, very small models: each learns a planted signal, batches in parts give the gradients of the whole, and what cannot be learnt is said."""
import math

import numpy as np
import pytest
import torch

from babyvlm.core.basics import WrongInput
from babyvlm.models.babyllava import BabyLlava, BabyLlavaConfig, language_config
from babyvlm.models.clip import Clip, ClipConfig, text_config
from babyvlm.models.tokenizer import train_tokenizer
from babyvlm.models.vision import VisionConfig, to_pixels
from babyvlm.pretraining.language import IGNORED
from babyvlm.pretraining.layouts import Item, alike, fitting, layouts, overlaps, segments
from babyvlm.pretraining.objectives import at_chance, calls, not_learning, objectives, whole_batch
from babyvlm.pretraining.parts import cut_rows, in_parts, rows_of

COLOURS = dict(red=(200, 30, 30), blue=(30, 50, 200), green=(30, 150, 50), yellow=(220, 190, 30), pink=(230, 130, 170), white=(235, 235, 235), black=(25, 25, 25), brown=(110, 70, 30))
LANGUAGE = ("causal_lm", "masked_lm", "hybrid_lm")
TOKENIZER = train_tokenizer([f"{a} {c} {b}" for c in COLOURS for a in ("a", "the", "look at the") for b in ("ball", "one")])


def special(): return {k: getattr(TOKENIZER, k) for k in ("pad_token_id", "bos_token_id", "eos_token_id")}


def vision(): return VisionConfig(image_px=32, stem=[16, 32], width=32, layers=1, heads=2)


def seer(**more):
    torch.manual_seed(0)
    layers = more.pop("layers", 0)
    return Clip(ClipConfig(vision(), text_config(len(TOKENIZER), width=32, layers=layers, heads=2, **special()), joint=16, first_temperature=.2, **more))


def talker(**more):
    torch.manual_seed(0)
    return BabyLlava(BabyLlavaConfig(vision(), language_config(len(TOKENIZER), width=64, layers=2, heads=2, **special()), image_token_id=TOKENIZER.image_token_id, **more))


def cards(rand, names):
    "Coloured cards on noise, as a model wants them."
    pictures = rand.integers(90, 130, (len(names), 32, 32, 3)).astype(np.uint8)
    for picture, name in zip(pictures, names):
        x, y = rand.integers(2, 14, 2)
        picture[y:y + 14, x:x + 14] = COLOURS[name]
    return to_pixels(pictures)


def batch_of(name, model, rand, pairs=16):
    "A batch of cards, each with a sentence that names its colour; a language model is asked for the colour alone."
    names = [str(c) for c in rand.choice(list(COLOURS), pairs)]
    starts, ends = rand.choice(["a", "the", "look at the"], pairs), rand.choice(["ball", "one"], pairs)
    sentence = (lambda i, a, c, b: Item((i, a, c), (False, True))) if name in LANGUAGE else (lambda i, a, c, b: Item((i, f"{a} {c} {b}"), (True,)))
    items = fitting([sentence(i, a, c, b) for i, (a, c, b) in enumerate(zip(starts, names, ends))], TOKENIZER, model.config, name)
    return layouts[name](items, TOKENIZER, model.config, rand) | dict(pixel_values=cards(rand, names))


def train(name, model, steps, lr=3e-3, pairs=16):
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=lr), []
    for step in range(steps):
        batch = batch_of(name, model, np.random.default_rng(step), pairs)
        loss = objectives[name](getattr(model.train(), calls[name])(**batch), batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def named_by_contrast(model):
    "Share of new cards whose colour is found among all the colours, by matching."
    names = [*COLOURS]*4
    words = layouts["contrastive"]([Item((i, f"the {c} ball"), (True,)) for i, c in enumerate(COLOURS)], TOKENIZER, model.config, None)
    out = model.eval().contrast(**words | dict(pixel_values=cards(np.random.default_rng(99), names)))
    return float((out.logits.argmax(1) == torch.arange(8).repeat(4)).float().mean())


@torch.no_grad()
def named_by_words(name, model, hide):
    "Share of new cards whose colour is the likeliest colour at its place, going on or filled in."
    names = [*COLOURS]*4
    items = [Item((i, f"the {c}"), (True,)) for i, c in enumerate(names)]
    batch = layouts["causal_lm"](items, TOKENIZER, model.config, None)
    where = model.config.places + 2                                           # after <bos> and "the"
    colours = torch.tensor([TOKENIZER(f" {c}", add_special_tokens=False).input_ids[0] for c in COLOURS])
    ids = batch["input_ids"].clone()
    if hide: ids[:, where] = TOKENIZER.unk_token_id
    out = model.eval()(input_ids=ids, pixel_values=cards(np.random.default_rng(99), names), bidirectional=hide)
    scores = out.logits[:, where - (name != "masked_lm")][:, colours]
    return float((scores.argmax(1) == torch.arange(8).repeat(4)).float().mean())


@pytest.mark.parametrize("name", whole_batch)
def test_contrasts_learn_a_planted_signal(name):
    model = seer(bias=-2. if name == "sigmoid" else None)
    before, losses = named_by_contrast(model), train(name, model, 120 if name == "sigmoid" else 60)
    chance = at_chance(name, 16, len(TOKENIZER))
    assert before < .4 and named_by_contrast(model) > .8
    assert np.mean(losses[-5:]) < .85*chance and not not_learning(losses, chance)


@pytest.mark.parametrize("name", LANGUAGE)
def test_language_objectives_learn_a_planted_signal(name):
    model = talker()
    losses = train(name, model, dict(causal_lm=180, masked_lm=110, hybrid_lm=220)[name], 2e-3, 24)
    assert np.mean(losses[-5:]) < .3*at_chance(name, 24, len(TOKENIZER))
    for hide in dict(causal_lm=[False], masked_lm=[True], hybrid_lm=[False, True])[name]:
        assert named_by_words(name, model, hide) > .8, hide


def test_a_model_that_both_matches_and_speaks():
    model = talker(contrast=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(200):
        name = ("contrastive", "causal_lm")[step % 2]
        batch = batch_of(name, model, np.random.default_rng(step), 24)
        loss = objectives[name](getattr(model.train(), calls[name])(**batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert named_by_contrast(model) > .8 and named_by_words("causal_lm", model, False) > .8


def test_unrelated_pairs_are_flagged():
    model, losses = seer(), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(60):
        batch = batch_of("contrastive", model, np.random.default_rng(step), 16)
        batch["pixel_values"] = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(step))
        loss = objectives["contrastive"](model.train().contrast(**batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert not_learning(losses, at_chance("contrastive", 16, len(TOKENIZER)))


def gradients(model, name, batch, parts):
    model.train().zero_grad()
    torch.manual_seed(3)
    loss = in_parts(model, name, batch, parts)
    return loss, {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", whole_batch)
@pytest.mark.parametrize("make", [seer, lambda: seer(layers=2), lambda: seer(text_kind="lstm"), lambda: talker(contrast=True)], ids=["mean", "transformer", "lstm", "talker"])
def test_parts_of_a_contrast_have_the_gradients_of_the_whole(name, make):
    model = make()
    batch = batch_of(name, model, np.random.default_rng(0), 12)
    loss, whole = gradients(model, name, batch, 1)
    for parts in (2, 5, 40):
        again, parted = gradients(model, name, batch, parts)
        assert torch.isclose(loss, again, rtol=1e-5) and whole.keys() == parted.keys()
        largest = max(g.abs().max() for g in whole.values())
        assert all((whole[k] - parted[k]).abs().max() < 1e-4*largest for k in whole)  # rounding; naive parts are a tenth off


@pytest.mark.parametrize("name", LANGUAGE)
def test_parts_of_a_mean_have_the_gradients_of_the_whole(name):
    model = talker(whole=False)
    rand = np.random.default_rng(0)
    items = [Item((0, "a red ball", 1, "look at the blue one"), (True, True)), Item(("the pink ball",), (True,)), Item((2, 3, "a", "green one"), (False, True)), Item((4, ""), (True,)), Item((5, "look at the white ball"), (True,))]
    batch = layouts[name](items, TOKENIZER, model.config, rand) | dict(pixel_values=cards(rand, [*COLOURS][:6]))
    loss, whole = gradients(model, name, batch, 1)
    for parts in (2, 3, 5, 9):
        again, parted = gradients(model, name, batch, parts)
        assert torch.isclose(loss, again, rtol=1e-5)
        assert all((whole[k] - parted[k]).abs().max() < 1e-4*max(g.abs().max() for g in whole.values()) for k in whole)


def test_dropped_tokens_are_the_same_in_both_runs():
    "The towers drop tokens at random; a loss from the vectors of a recorded first run must equal the one that is returned, and the gradient must be its own."
    model, name = seer(), "contrastive"
    batch = batch_of(name, model, np.random.default_rng(0), 12) | dict(keep=.5)
    loss, parted = gradients(model, name, batch, 3)
    model.zero_grad()
    torch.manual_seed(3)
    pieces = [model.pooled(pixel_values=batch["pixel_values"][i:i + 4], input_ids=batch["input_ids"][i:i + 4], attention_mask=batch["attention_mask"][i:i + 4], keep=.5) for i in (0, 4, 8)]
    plain = objectives[name](model.join(*map(torch.cat, zip(*pieces))), batch)
    plain.backward()
    assert torch.isclose(loss, plain, rtol=1e-6)
    assert all(torch.allclose(parted[k], p.grad, atol=1e-6) for k, p in model.named_parameters() if p.grad is not None)


def test_a_scaler_may_stand_between():
    model, seen = seer(), []
    batch = batch_of("contrastive", model, np.random.default_rng(0), 8)
    _, plain = gradients(model, "contrastive", batch, 2)
    model.zero_grad()
    torch.manual_seed(3)
    in_parts(model, "contrastive", batch, 2, backward=lambda loss: (seen.append(loss.item()), (1024*loss).backward()))
    assert len(seen) == 1 and all(torch.allclose(p.grad/1024, plain[k], atol=1e-6) for k, p in model.named_parameters() if p.grad is not None)


def test_half_precision_in_parts_is_near_the_whole():
    model = seer()
    batch = batch_of("contrastive", model, np.random.default_rng(0), 8)
    cast = lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    _, whole = gradients(model, "contrastive", batch, 1)
    model.zero_grad()
    torch.manual_seed(3)
    in_parts(model, "contrastive", batch, 2, cast=cast)
    norm = torch.cat([g.flatten() for g in whole.values()]).norm()
    apart = torch.cat([(p.grad - whole[k]).flatten() for k, p in model.named_parameters() if k in whole]).norm()
    assert apart < .1*norm


def test_frozen_towers_and_their_features_go_through_parts():
    model = seer()
    batch = batch_of("contrastive", model, np.random.default_rng(0), 8)
    model.vision.requires_grad_(False)
    loss, by_pixels = gradients(model, "contrastive", batch, 2)
    with torch.no_grad(): features = model.vision.eval()(batch.pop("pixel_values"))
    again, by_features = gradients(model, "contrastive", batch | dict(vision_tokens=features), 2)
    assert torch.isclose(loss, again, rtol=1e-5) and not any(k.startswith("vision") for k in by_features)
    assert all(torch.allclose(by_pixels[k], by_features[k], atol=1e-5) for k in by_features)


def test_a_film_cannot_be_taken_in_parts():
    with pytest.raises(WrongInput, match="accumulate=1"): in_parts(seer(), "future_latents", {}, 2)


def test_rows_keep_their_pictures():
    rand, model = np.random.default_rng(0), talker(whole=False)
    items = [Item((0, 1, "a red ball"), (True,)), Item(("the one",), (True,)), Item((2, "a ball", 3, "one"), (True, True))]
    batch = layouts["causal_lm"](items, TOKENIZER, model.config, rand) | dict(pixel_values=cards(rand, ["red", "red", "blue", "pink"]))
    with torch.no_grad():
        whole = model.eval()(**batch).logits
        rows = [model(**cut_rows(batch, i, i + 1)).logits for i in range(3)]
    assert rows_of(batch) == 3 and torch.allclose(torch.cat(rows), whole, atol=1e-4)


@pytest.mark.parametrize("name", LANGUAGE)
def test_nothing_asked_stops_the_run(name):
    model = talker()
    for items in ([Item((0, ""), (False,))], [Item((0, "the red ball"), (False,))]):
        batch = layouts[name](items, TOKENIZER, model.config, np.random.default_rng(0)) | dict(pixel_values=cards(np.random.default_rng(0), ["red"]))
        with pytest.raises(WrongInput, match="no token of this batch is asked for"): in_parts(model, name, batch, 1)
        with pytest.raises(WrongInput, match="no token of this batch is asked for"): in_parts(model, name, batch, 2)


@pytest.mark.parametrize("name", [n for n in layouts if n != "future_latents"])
def test_layouts_are_functions_of_their_draw(name):
    model = talker(contrast=True)
    items = [Item((i, f"the {c} ball"), (True,)) for i, c in enumerate(COLOURS)]
    one, two = (layouts[name](items, TOKENIZER, model.config, np.random.default_rng(5)) for _ in range(2))
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) if torch.is_tensor(one[k]) else one[k] == two[k] for k in one)


def test_hidden_words_are_hidden():
    model, rand = talker(), np.random.default_rng(0)
    items = [Item((i, "look at the red ball"), (True,)) for i in range(300)]
    plain, batch = (layouts[name](items, TOKENIZER, model.config, rand) for name in ("causal_lm", "masked_lm"))
    hidden = batch["labels"] != IGNORED
    assert torch.equal(batch["labels"][hidden], plain["input_ids"][hidden])
    same = (batch["input_ids"] == plain["input_ids"])[hidden].float().mean()
    assert .04 < same < .2 and .15 < hidden.sum()/(plain["labels"] != IGNORED).sum() < .3        # at least one of every row
    random = batch["input_ids"][hidden & (batch["input_ids"] != TOKENIZER.unk_token_id)]
    assert (random >= len(TOKENIZER.all_special_ids)).all()                                      # never a picture's place or the end


def test_what_the_learner_does_not_hear_is_not_told_apart():
    model = seer()
    items = [Item((0, "Look at the RED ball!"), (True,)), Item((1, "look at the red ball"), (True,)), Item((2, "the ball red"), (True,))]
    batch = layouts["contrastive"](items, TOKENIZER, model.config, None)
    assert batch["same"].tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    assert alike(items) == dict(repeated=2/3, confusable=0.)
    assert alike([Item((0, "the ball is red"), (True,)), Item((1, "Is the ball red?"), (True,))]) == dict(repeated=0., confusable=1.)
    assert alike([Item(("", 3), (True,))]) == dict(repeated=0., confusable=0.) and segments(Item(("", 3, "a ball"), (True,)*2)) == [([3], "a ball")]


def test_contrast_without_a_pair_is_refused():
    for item in (Item(("words alone",), (True,)), Item((0, 1), ()), Item((0, "a ball", 1), (True,))):
        with pytest.raises(WrongInput, match="stands alone"): layouts["contrastive"]([item], TOKENIZER, seer().config, None)


def test_long_items_lose_their_end_with_its_pictures():
    model = talker()
    model.config.text_config.max_position_embeddings = 2*model.config.places + 20
    item = Item(tuple(part for i in range(6) for part in (i, "look at the red ball")), (True,)*6)
    [short] = fitting([item], TOKENIZER, model.config, "causal_lm")
    assert short.pictures == [0, 1] and len(short.texts) == len(short.asked) == 2
    assert layouts["causal_lm"]([short], TOKENIZER, model.config, None)["input_ids"].shape[1] <= 2*model.config.places + 20
    with pytest.raises(WrongInput, match="does not fit"): layouts["causal_lm"]([item], TOKENIZER, model.config, None)


def test_overlap_is_of_names():
    near = overlaps(["where is the ball", "it is a red ball", "where is the cup", "ball", ""])
    assert near[0, 2] == 0 and near[0, 1] > 0 and near[0, 3] == 1 and near.diagonal().tolist() == [1.]*5 and near[4, :4].sum() == 0


@pytest.mark.parametrize("steps", [20, 60, 300, 3000])
def test_the_judge_of_learning(steps):
    draw = np.random.default_rng(steps)
    def verdict(gain): return not_learning(math.log(64)*(1 - gain) + .1*draw.normal(size=steps), math.log(64))
    assert np.mean([verdict(0.) for _ in range(100)]) > .97 and np.mean([verdict(.1) for _ in range(100)]) < .03
    late = np.full(steps, math.log(64)) + .05*draw.normal(size=steps)
    late[-20:] -= .5
    assert not not_learning(late, math.log(64)) and (steps < 40 or not_learning(late[:-20], math.log(64)))
