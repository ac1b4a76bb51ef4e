"""Towers and models of every family: plain `transformers` in a fresh process, parts, frozen parts, other picture sizes, damage."""

import json
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from babyvlm.core.basics import WrongInput
from babyvlm.models.babyllava import BabyLlavaConfig, looks
from babyvlm.models.load import load_learner, preprocessing, save_learner, seal
from babyvlm.models.resnext import ResNeXt, load_weights
from babyvlm.models.sizes import families, new_model, sizes
from babyvlm.models.tokenizer import train_tokenizer
from babyvlm.models.vision import VisionConfig, VisionTower

HEARD = ["look at the ball", "where is the red ball", "a little duck"]
VARIANTS = {
    "clip": ("clip", {}),
    "lstm": ("clip", dict(text_kind="lstm", bias=-10.0, first_temperature=0.1)),
    "transformer": ("clip", dict(text_kind="transformer")),
    "cvcl": ("cvcl", {}),
    "babyllava": ("babyllava", {}),
    "both": ("babyllava", dict(contrast=True)),
    "v1": ("babyllava-gpt2", {}),
    "predictor": ("predictor", {}),
}
MATCHING = ["clip", "lstm", "transformer", "cvcl", "both"]
SPEAKING = ["babyllava", "both", "v1"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(HEARD)


def made(name, tokenizer, seed=0, **more):
    family, config = VARIANTS[name]
    return new_model(family, "tiny", tokenizer, seed, **config | more)


def pixels(count=2, px=64):
    return torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (count, 3, px, px)).astype(np.float32))


def inputs(name, model, tokenizer):
    "A batch as the model's own objective would hand it over."
    words = tokenizer(HEARD[:1] * 2, return_tensors="pt")
    if name == "predictor":
        return dict(pixel_values=pixels(6), frames=torch.arange(6).view(2, 3))
    if name in SPEAKING:
        return dict(pixel_values=pixels(), input_ids=torch.cat([torch.full((2, model.config.places), 4), words.input_ids], 1))
    return dict(pixel_values=pixels(), input_ids=words.input_ids, attention_mask=words.attention_mask)


def first_tensor(out):
    return next(v for v in out.values() if torch.is_tensor(v))


FRESH = """
import sys, json, numpy as np
import babyvlm.models
from transformers import AutoConfig, AutoModel, AutoTokenizer
import torch
torch.set_num_threads(1)
assert not [m for m in sys.modules if m.startswith("babyvlm.") and m.split(".")[1] not in ("core", "models")]
for name in sys.argv[2:]:
    folder = sys.argv[1] + "/" + name
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    batch = {k: torch.from_numpy(v) for k, v in np.load(folder + ".npz").items()}
    with torch.no_grad(): out = model(**batch)
    np.save(folder + ".npy", next(v for v in out.values() if torch.is_tensor(v)).numpy())
"""


def test_every_family_opens_with_transformers_alone(tokenizer, tmp_path):
    here = {}
    for name in VARIANTS:
        model = made(name, tokenizer, 1)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.02)
        save_learner(tmp_path / name, model, tokenizer, {"ball": 1})
        batch = inputs(name, model, tokenizer)
        np.savez(tmp_path / f"{name}.npz", **{k: v.numpy() for k, v in batch.items()})
        with torch.no_grad():
            here[name] = first_tensor(model.eval()(**batch)).numpy()
    subprocess.run([sys.executable, "-c", FRESH, str(tmp_path), *VARIANTS], check=True)
    for name, mine in here.items():
        assert np.allclose(np.load(tmp_path / f"{name}.npy"), mine, rtol=1e-4, atol=1e-4), name  # another process may sum in another order
        assert {p.suffix for p in (tmp_path / name).iterdir()} <= {".json", ".safetensors"}


@pytest.mark.parametrize("name", ["cvcl", "v1", "both", "predictor"])
def test_a_learner_comes_back_and_its_twin_is_another(name, tokenizer, tmp_path):
    save_learner(tmp_path / "learner", made(name, tokenizer, 2), tokenizer, {"ball": 1})
    seal(tmp_path / "learner")
    learner = load_learner(tmp_path / "learner")
    expected = made(name, tokenizer, 2).state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in learner.model.state_dict().items())
    twin = learner.fresh(2).model.state_dict()
    assert any(not torch.equal(v, expected[k]) for k, v in learner.fresh(3).model.state_dict().items())
    assert all(torch.equal(v, expected[k]) for k, v in twin.items())


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json", "preprocess.json", "tokenizer_words.json"])
def test_what_is_broken_or_missing_is_named(file, sealed, tokenizer, tmp_path):
    folder = tmp_path / "learner"
    save_learner(folder, made("clip", tokenizer), tokenizer, {"ball": 1})
    if sealed:
        seal(folder)
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        with pytest.raises(WrongInput, match=file.replace(".", r"\.")) as caught:
            load_learner(folder)
        assert "\n" not in str(caught.value)
        (folder / file).unlink(missing_ok=True)


def test_a_weight_too_few_is_no_learner(tokenizer, tmp_path):
    save_learner(tmp_path / "learner", made("clip", tokenizer), tokenizer)
    weights = load_file(tmp_path / "learner" / "model.safetensors")
    del weights["image_head.norm.running_mean"]
    save_file(weights, tmp_path / "learner" / "model.safetensors")
    with pytest.raises(WrongInput, match="running_mean"):
        load_learner(tmp_path / "learner")


@pytest.mark.parametrize(("part", "key", "value"), [("text_config", "model_type", "parrot"), ("vision_config", "kind", "eye"), (None, "model_type", "babyvlm_elsewhere")])
def test_an_unknown_shape_in_config_json_is_one_line(part, key, value, tokenizer, tmp_path):
    save_learner(tmp_path / "learner", made("babyllava", tokenizer), tokenizer)
    config = json.loads((tmp_path / "learner" / "config.json").read_text())
    (config[part] if part else config)[key] = value
    (tmp_path / "learner" / "config.json").write_text(json.dumps(config))
    with pytest.raises(WrongInput, match=value) as caught:
        load_learner(tmp_path / "learner")
    assert "\n" not in str(caught.value)


def test_nothing_is_unpickled(tokenizer, tmp_path, monkeypatch):
    save_learner(tmp_path / "learner", made("clip", tokenizer), tokenizer)

    def refuse(*args, **kwargs):
        raise AssertionError("something was unpickled")

    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(owner, name, refuse)
    load_learner(tmp_path / "learner")
    (tmp_path / "learner" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (tmp_path / "learner" / "model.safetensors").unlink()
    with pytest.raises(WrongInput, match=r"model\.safetensors is missing"):
        load_learner(tmp_path / "learner")


def test_preprocessing_is_what_learners_do(tokenizer, tmp_path):
    save_learner(tmp_path / "learner", made("clip", tokenizer), tokenizer)
    pictures = [np.random.default_rng(0).integers(0, 255, shape, np.uint8) for shape in ((64, 64, 3), (50, 90, 3), (200, 33, 3))]
    assert torch.equal(preprocessing(tmp_path / "learner")(pictures), load_learner(tmp_path / "learner").pixels(pictures))


@pytest.mark.parametrize("name", ["clip", "lstm", "transformer", "both"])
def test_encoding_in_parts_is_exact(name, tokenizer):
    model, words = made(name, tokenizer).train(), tokenizer(HEARD, padding=True, return_tensors="pt")
    batch = dict(pixel_values=pixels(3), input_ids=words.input_ids, attention_mask=words.attention_mask)
    assert model.exact_in_parts
    whole = model.contrast(**batch, same=None).logits
    parts = [model.pooled(**{k: v[cut] for k, v in batch.items()}) for cut in (slice(0, 1), slice(1, 3))]
    joined = model.join(*(torch.cat(side) for side in zip(*parts, strict=True))).logits
    weight = model.vision.stem.layers[0].weight
    assert torch.allclose(whole, joined, atol=1e-4)
    mine, theirs = (torch.autograd.grad(scores.softmax(1).diagonal().sum(), weight)[0] for scores in (whole, joined))
    assert (mine - theirs).norm() < 1e-3 * mine.norm()


def test_a_trained_resnext_is_not_exact_in_parts_and_a_frozen_one_is(tokenizer):
    model = made("cvcl", tokenizer).train()
    assert not model.exact_in_parts
    model.vision.requires_grad_(False)
    model.train()
    assert model.exact_in_parts and not model.vision.training and model.image_head.training
    before = {k: v.clone() for k, v in model.vision.state_dict().items()}
    whole, half = model.pooled(pixels(4))[0], model.pooled(pixels(4)[:2])[0]
    assert torch.allclose(whole[:2], half, atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in model.vision.state_dict().items())


@pytest.mark.parametrize("name", SPEAKING)
def test_the_future_is_hidden_and_padding_silent(name, tokenizer):
    model = made(name, tokenizer).eval()
    batch = inputs(name, model, tokenizer)
    ids, seen = batch["input_ids"], batch["pixel_values"]
    longer = torch.cat([ids, torch.zeros(2, 4, dtype=torch.long)], 1)
    for attention in ("eager", "sdpa"):
        model.set_attn_implementation(attention)
        with torch.no_grad():
            causal, ahead = model(ids, seen).logits, model(ids, seen, bidirectional=True).logits
            causal_longer, ahead_longer = model(longer, seen).logits, model(longer, seen, bidirectional=True).logits
            changed = torch.cat([ids[:, :-1], torch.full((2, 1), 9)], 1)
            assert torch.allclose(model(changed, seen).logits[:, :-1], causal[:, :-1], atol=1e-4)
        length = ids.shape[1]
        assert torch.allclose(causal_longer[:, :length], causal, atol=1e-4) and torch.allclose(ahead_longer[:, :length], ahead, atol=1e-4)
        assert not torch.allclose(ahead, causal, atol=1e-2)


def test_looks_against_a_naive_loop():
    rand = np.random.default_rng(0)
    real, ahead = torch.from_numpy(rand.random((4, 7)) < 0.7), torch.tensor([True, False, False, True])
    mine = looks(real, ahead)[:, 0]
    for b in range(4):
        for i in range(7):
            for j in range(7):
                assert bool(mine[b, i, j]) == bool((real[b, j] and (j <= i or ahead[b])) or i == j)


@pytest.mark.parametrize("name", SPEAKING)
def test_places_must_match_pictures(name, tokenizer):
    model = made(name, tokenizer)
    batch = inputs(name, model, tokenizer)
    for ids in (batch["input_ids"][:, 1:], torch.cat([torch.full((2, 1), 4), batch["input_ids"]], 1)):
        with pytest.raises(WrongInput, match="places"):
            model(ids, batch["pixel_values"])
    with pytest.raises(WrongInput, match="places"):
        model(batch["input_ids"])


def test_a_context_longer_than_gpt2_has_positions(tokenizer):
    model = made("v1", tokenizer)
    with pytest.raises(WrongInput, match="513 tokens"):
        model(torch.full((1, 513), 7))


@pytest.mark.parametrize("name", ["clip", "babyllava"])
@pytest.mark.parametrize(("px", "keep"), [(64, 0.5), (32, 1.0), (48, 0.6)])
def test_smaller_pictures_and_fewer_tokens_train(name, px, keep, tokenizer):
    model = made(name, tokenizer).train()
    places = model.vision.config.tokens_at(px, keep)
    batch = inputs(name, model, tokenizer) | dict(pixel_values=pixels(2, px))
    if name == "babyllava":
        assert model.config.places_at(px, keep) == places + 1
        batch["input_ids"] = torch.cat([torch.full((2, places + 1), 4), torch.tensor([[1, 7, 8]] * 2)], 1)
    assert model.vision(batch["pixel_values"], keep=keep).shape == (2, places, 128)
    first_tensor(model(**batch, keep=keep)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.vision.parameters() if p.requires_grad)


def test_kept_tokens_differ_between_pictures_and_follow_the_seed():
    tower = VisionTower(VisionConfig()).train()
    both = []
    for _ in range(2):
        torch.manual_seed(3)
        both.append(tower(pixels(2), keep=0.25))
    assert torch.equal(*both) and not torch.allclose(both[0], tower(pixels(2), keep=0.25))


@pytest.mark.parametrize("name", list(VARIANTS))
def test_every_family_takes_a_step_in_half_precision(name, tokenizer):
    model = made(name, tokenizer).train()
    batch = inputs(name, model, tokenizer)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(**batch)
    if name == "predictor":
        loss = sum(v.float().square().mean() for v in out.values() if torch.is_tensor(v))
    else:
        loss = (out.logits.float().log_softmax(-1)[..., 0]).mean()
    loss.backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    unused = {"both": ("text_head", "log_scale"), "predictor": ("time.embed_tokens",)}  # for speaking; a transformer that is handed vectors
    unused = unused.get(name, ("text.embeddings.position_embedding", "text.final_layer_norm") if VARIANTS[name][0] in ("clip", "cvcl") else ())
    assert all(n.startswith(unused) for n in silent), silent


def test_cached_features_stand_for_pictures(tokenizer):
    for name in MATCHING:
        model = made(name, tokenizer).eval()
        words = tokenizer(HEARD[:2], padding=True, return_tensors="pt")
        with torch.no_grad():
            cached = model.vision(pixels())
            one, other = (model.contrast(**seen, **words).logits for seen in (dict(pixel_values=pixels()), dict(vision_tokens=cached)))
        assert torch.equal(one, other)


def test_the_names_of_published_towers():
    with torch.device("meta"):
        names = {k: tuple(v.shape) for k, v in ResNeXt().state_dict().items()}
    known = {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_var": (64,),
        "layer1.0.conv2.weight": (128, 4, 3, 3),
        "layer1.0.downsample.1.weight": (256,),
        "layer2.0.downsample.0.weight": (512, 256, 1, 1),
        "layer3.5.conv1.weight": (512, 1024, 1, 1),
        "layer4.2.conv3.weight": (2048, 1024, 1, 1),
    }
    assert known.items() <= names.items() and len(names) == 318  # torchvision's resnext50_32x4d without `fc.weight`, `fc.bias`


def test_published_weights_in_other_wrappings(tmp_path):
    tower, other = (ResNeXt((1, 1), first=16, groups=4, group_width=16) for _ in range(2))
    bare = {k: v.clone() for k, v in tower.state_dict().items()}
    for prefix in ("", "module.", "module.backbone.", "teacher.backbone."):
        save_file({prefix + k: v.clone() for k, v in bare.items()} | {prefix + "fc.weight": torch.zeros(3, 3)}, tmp_path / "w.safetensors")
        load_weights(other, tmp_path / "w.safetensors")
        assert torch.equal(tower.eval()(pixels()), other.eval()(pixels()))
    (tmp_path / "w.pth").write_bytes(pickle.dumps(dict(a=1)))
    with pytest.raises(WrongInput, match="no safetensors file"):
        load_weights(other, tmp_path / "w.pth")


def test_sizes_grow_and_large_is_counted_without_memory(tokenizer):
    with torch.device("meta"):
        for family in families:
            counts = [sum(p.numel() for p in new_model(family, size, tokenizer).parameters()) for size in sizes]
            assert counts[0] < 5e6 and counts[:3] == sorted(counts[:3]), (family, counts)


def test_an_older_config_still_means_the_same(tokenizer, tmp_path):
    "Configurations written before there were kinds lack every new field."
    new = {"kind", "patch", "blocks", "first", "groups", "group_width", "pixel_mean", "pixel_std", "text_kind", "pooling", "bias", "whole", "contrast", "first_temperature"}
    for name in ("clip", "babyllava"):
        folder = tmp_path / name
        model = made(name, tokenizer)
        save_learner(folder, model, tokenizer)
        config = json.loads((folder / "config.json").read_text())
        for part in (config, config["vision_config"], config["text_config"]):
            for key in new & set(part):
                part.pop(key)
        (folder / "config.json").write_text(json.dumps(config))
        batch = inputs(name, model, tokenizer)
        with torch.no_grad():
            assert torch.equal(load_learner(folder).model(**batch).logits, model.eval()(**batch).logits)
    assert BabyLlavaConfig().places == 17
    shutil.rmtree(tmp_path / "clip")
