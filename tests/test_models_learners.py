"""Learners on disk: round trips in a fresh process, damage, strangers."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from babyvlm.core.basics import WrongInput
from babyvlm.models.learners import BabyLlavaLearner, ClipLearner
from babyvlm.models.load import load_learner, save_learner, seal
from babyvlm.models.sizes import new_model
from babyvlm.models.tokenizer import train_tokenizer

HEARD = ["look at the ball", "where is the red ball", "a little duck", "où est le canard"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(HEARD)


@pytest.fixture(scope="module")
def pictures():
    rand = np.random.default_rng(0)
    return [rand.integers(0, 255, shape, np.uint8) for shape in ((64, 64, 3), (33, 90, 3), (240, 7, 3), (1, 1, 3))]


def saved(folder, family, tokenizer):
    folder.mkdir()
    save_learner(folder, new_model(family, "tiny", tokenizer), tokenizer, {"ball": 2})
    seal(folder)
    return folder


FRESH = """
import sys, numpy as np, torch
from transformers import AutoModel, AutoTokenizer
import babyvlm.models.{module}
torch.set_num_threads(1)
model = AutoModel.from_pretrained(sys.argv[1]).eval()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
with torch.no_grad():
    ids = tokenizer(["look at the ball"], return_tensors="pt")
    pixels = torch.linspace(-1, 1, 3*64*64).view(1, 3, 64, 64)
    if "{module}" == "clip": out = model(pixels, ids.input_ids, ids.attention_mask).image_embeds
    else: out = model(torch.cat([torch.full((1, model.config.places), 4), ids.input_ids], 1), pixels).logits
np.save(sys.argv[2], out.numpy())
"""


@pytest.mark.parametrize("family", ["clip", "babyllava"])
def test_auto_classes_in_a_fresh_process(family, tokenizer, tmp_path):
    folder = saved(tmp_path / "learner", family, tokenizer)
    subprocess.run([sys.executable, "-c", FRESH.format(module=family), folder, tmp_path / "out.npy"], check=True)
    model, ids = new_model(family, "tiny", tokenizer).eval(), tokenizer(["look at the ball"], return_tensors="pt")
    pixels = torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64)
    with torch.no_grad():
        if family == "clip":
            here = model.image_features(pixels)
        else:
            here = model(torch.cat([torch.full((1, model.config.places), 4), ids.input_ids], 1), pixels).logits
    assert np.allclose(np.load(tmp_path / "out.npy"), here, atol=1e-5)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "preprocess.json"])
def test_a_flipped_byte_or_a_missing_file_is_named(name, tokenizer, tmp_path):
    folder = saved(tmp_path / "learner", "clip", tokenizer)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(WrongInput, match=f"{name} is damaged"):
        load_learner(folder)
    (folder / name).unlink()
    with pytest.raises(WrongInput, match=f"{name} is missing"):
        load_learner(folder)


def test_wrong_folders_are_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "gpt").mkdir()
    (tmp_path / "gpt" / "config.json").write_text(json.dumps(dict(model_type="gpt2")))
    (tmp_path / "half" / "checkpoints").mkdir(parents=True)
    for path, part in (("nowhere", "does not exist"), ("file", "is a file"), ("empty", "neither run.json nor config.json"), ("gpt", "gpt2"), ("half", "latest is missing")):
        with pytest.raises(WrongInput, match=part) as caught:
            load_learner(tmp_path / path)
        assert "\n" not in str(caught.value)


def test_nothing_pickled(tokenizer, tmp_path):
    folder = saved(tmp_path / "learner", "babyllava", tokenizer)
    assert {p.suffix for p in folder.iterdir()} <= {".json", ".safetensors", ""}


def test_scores_do_not_depend_on_company(tokenizer, pictures):
    clip = ClipLearner(new_model("clip", "tiny", tokenizer), tokenizer)
    talker = BabyLlavaLearner(new_model("babyllava", "tiny", tokenizer), tokenizer)
    alone = np.concatenate([clip.similarity([picture], HEARD) for picture in pictures])
    assert np.allclose(clip.similarity(pictures, HEARD), alone, atol=1e-5)
    together, counts = talker.logprob([[p] for p in pictures], [HEARD] * len(pictures))
    alone = np.concatenate([talker.logprob([[p]], [[h]])[0] for p in pictures for h in HEARD]).reshape(together.shape)
    assert np.allclose(together, alone, atol=1e-3) and (counts > 0).all()


def test_odd_words_and_empty_ones(tokenizer, pictures):
    clip = ClipLearner(new_model("clip", "tiny", tokenizer), tokenizer)
    talker = BabyLlavaLearner(new_model("babyllava", "tiny", tokenizer), tokenizer)
    odd = ["", "!?", "いぬ", "<image> <eos>", "word " * 300]
    assert np.isfinite(clip.similarity(pictures[:1], odd)).all()
    assert np.isfinite(talker.logprob([pictures[:1]], [odd[:4]])[0]).all()


def test_strangers_clip_folder(tmp_path, pictures, tokenizer):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    small = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
    text = small | dict(vocab_size=len(tokenizer), max_position_embeddings=16, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    vision = small | dict(image_size=32, patch_size=8)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(tmp_path / "them")
    with pytest.raises(WrongInput, match="them"):
        load_learner(tmp_path / "them")
    CLIPImageProcessor(size=dict(shortest_edge=32), crop_size=dict(height=32, width=32)).save_pretrained(tmp_path / "them")
    tokenizer.save_pretrained(tmp_path / "them")
    learner = load_learner(tmp_path / "them")
    scores = learner.similarity(pictures[:3], HEARD)
    assert scores.shape == (3, 4) and np.abs(scores).max() <= 1.001 and learner.max_px == 32 and learner.name == "them"
    assert not np.allclose(learner.fresh(1).similarity(pictures[:3], HEARD), scores)


def test_words_json_is_needed(tokenizer, tmp_path):
    folder = saved(tmp_path / "learner", "clip", tokenizer)
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "SHA256SUMS").unlink()
    (copy / "tokenizer_words.json").unlink()
    with pytest.raises(WrongInput, match="tokenizer_words.json"):
        load_learner(copy)
