"""Strangers' models as learners: small random ones of each kind, saved and loaded as anyone's are."""

import json

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BlipConfig, BlipForConditionalGeneration, BlipForImageTextRetrieval, BlipImageProcessor, CLIPConfig, CLIPImageProcessor, CLIPModel, GPT2Config,
    GPT2LMHeadModel, LlavaConfig, LlavaForConditionalGeneration, PreTrainedTokenizerFast, SiglipConfig, SiglipImageProcessor, SiglipModel,
)  # fmt: skip

from babyvlm.core.basics import WrongInput
from babyvlm.core.learner import can
from babyvlm.core.trials import Choice, Part, Trial, TrialsWriter, read_trials
from babyvlm.models.adapters import LanguageModel, Llava, blank_of
from babyvlm.models.adopted import as_learner
from babyvlm.models.load import load_learner
from babyvlm.models.tokenizer import train_tokenizer

HEARD = ["look at the ball", "where is the red ball", "a little duck", "is it a cup or a book", "it is green"]
KINDS = ["clip", "siglip", "blip_retrieval", "blip_caption", "llava", "gpt2"]
TEMPLATE = "{% for m in messages %}look {% for c in m.content %}{{ c.text }}{% endfor %}{% endfor %} is it"


def byte_level():
    "A tokenizer such as GPT-2's: a word that goes on has a blank in its first token."
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    inner.train_from_iterator(HEARD * 5, trainers.BpeTrainer(vocab_size=400, special_tokens=["<end>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<end>", eos_token="<end>")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    here, tokenizer = tmp_path_factory.mktemp("strangers"), train_tokenizer(HEARD)
    special = {k: getattr(tokenizer, k) for k in ("pad_token_id", "bos_token_id", "eos_token_id")}
    tower = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
    text, vision = tower | special | dict(vocab_size=len(tokenizer), max_position_embeddings=48), tower | dict(image_size=32, patch_size=8)
    crop, whole = CLIPImageProcessor(size=dict(shortest_edge=32), crop_size=dict(height=32, width=32)), dict(size=dict(height=32, width=32))
    blip = BlipConfig(text_config=text | dict(encoder_hidden_size=32, sep_token_id=2), vision_config=vision, projection_dim=24, image_text_hidden_size=24)
    speaker = dict(model_type="llama", num_key_value_heads=2) | text | dict(max_position_embeddings=256)
    bytewise = byte_level()
    made = dict(
        clip=(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)), tokenizer, crop),
        siglip=(SiglipModel(SiglipConfig(text_config=text, vision_config=vision)), tokenizer, SiglipImageProcessor(**whole)),
        blip_retrieval=(BlipForImageTextRetrieval(blip), tokenizer, BlipImageProcessor(**whole)),
        blip_caption=(BlipForConditionalGeneration(blip), tokenizer, BlipImageProcessor(**whole)),
        llava=(LlavaForConditionalGeneration(LlavaConfig(vision_config=dict(model_type="clip_vision_model") | vision, text_config=speaker, image_token_index=4)), tokenizer, crop),
        gpt2=(GPT2LMHeadModel(GPT2Config(vocab_size=len(bytewise), n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)), bytewise),
    )
    for name, parts in made.items():
        for part in parts:
            part.save_pretrained(here / name)
    return here


@pytest.fixture(scope="module")
def pictures():
    rand = np.random.default_rng(0)
    return [rand.integers(0, 255, shape, np.uint8) for shape in ((64, 64, 3), (33, 90, 3), (240, 7, 3), (3, 3, 3), (1, 1, 3))]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_do_not_depend_on_company(kind, folder, pictures):
    learner = load_learner(folder / kind)
    if can(learner, "similarity"):
        together, ask = learner.similarity(pictures, HEARD), lambda p, t: learner.similarity([p], [t])
    else:
        together, ask = learner.logprob([[p] for p in pictures], [HEARD] * len(pictures))[0], lambda p, t: learner.logprob([[p]], [[t]])[0]
        assert (together < 0).all()
    alone = np.array([[ask(p, t)[0, 0] for t in HEARD] for p in pictures])
    assert np.isfinite(together).all() and np.allclose(together, alone, atol=1e-4)
    assert learner.name == kind and learner.words_heard is None and len(learner.run_sha256) == 64 and repr(learner)


@pytest.mark.parametrize("kind", KINDS)
def test_twins_are_untrained_and_the_learner_stays(kind, folder, pictures):
    learner = load_learner(folder / kind)
    ask = lambda who: who.similarity(pictures[:2], HEARD) if can(who, "similarity") else who.logprob([[p] for p in pictures[:2]], [HEARD] * 2)[0]
    before = ask(learner)
    assert np.allclose(ask(learner.fresh(3)), ask(learner.fresh(3))) and not np.allclose(ask(learner.fresh(3)), ask(learner.fresh(4)))
    assert np.allclose(ask(learner), before) and not np.allclose(ask(learner.fresh(3)), before)


@pytest.mark.parametrize("kind", ["blip_caption", "llava", "gpt2"])
def test_odd_words_and_special_tokens_are_words(kind, folder, pictures):
    learner = load_learner(folder / kind)
    odd = ["!?", "いぬ", "<image> <eos> <end>", "ball " * 5]
    assert np.isfinite(learner.logprob([[pictures[0], "look"]], [odd])[0]).all()
    assert all(isinstance(text, str) for text in learner.generate([[pictures[0], "<image> look"]], max_new_tokens=4))


def test_words_that_go_on_keep_their_blank(folder):
    learner = load_learner(folder / "gpt2")
    ids = learner.tokenizer("look at the ball").input_ids
    with torch.no_grad():
        line = learner.model(torch.tensor([[0] + learner.tokenizer(" look at the ball").input_ids])).logits.log_softmax(-1)[0]
    joined = [0] + learner.tokenizer(" look at the ball").input_ids
    assert blank_of(learner.tokenizer) == " " and len(ids) == 4
    assert np.isclose(learner.logprob([["look at the"]], [["ball"]])[0][0, 0], line[-2, joined[-1]].item(), atol=1e-4)


def test_generation_is_the_likeliest_word_again_and_again(folder, pictures):
    learner = load_learner(folder / "llava")
    ids, images = learner._layout([pictures[0], "look at"])
    row = list(ids)
    for _ in range(4):
        row.append(int(learner._predict([row], images)[0, -1].argmax()))
        if row[-1] == learner.tokenizer.eos_token_id:
            break
    assert learner.generate([[pictures[0], "look at"]], 4) == [learner.tokenizer.decode(row[len(ids) :], skip_special_tokens=True).strip()]


def test_a_chat_template_frames_the_turn(folder, pictures, tmp_path):
    plain = Llava(folder / "llava")
    tokenizer = plain.tokenizer
    copy = tmp_path / "chatty"
    for part in (plain.model, tokenizer, plain.processor):
        part.save_pretrained(copy)
    (copy / "chat_template.jinja").write_text(TEMPLATE)
    chatty = load_learner(copy)
    assert (chatty.before, chatty.after) == ("look ", " is it")
    asked = chatty.logprob([[pictures[0], "the ball"]], [["green"]])[0]
    assert np.isclose(asked, plain.logprob([["look", pictures[0], "the ball", "is it"]], [["green"]])[0], atol=1e-4)


def test_weights_that_are_missing_are_not_drawn(folder, tmp_path):
    learner = load_learner(folder / "gpt2")
    for part in (learner.model, learner.tokenizer):
        part.save_pretrained(tmp_path / "cut")
    weights = load_file(tmp_path / "cut" / "model.safetensors")
    gone = next(name for name in weights if "attn" in name)
    save_file({k: v for k, v in weights.items() if k != gone}, tmp_path / "cut" / "model.safetensors", metadata=dict(format="pt"))
    with pytest.raises(WrongInput, match="cut cannot be loaded as a GPT2LMHeadModel .*weights are missing"):
        load_learner(tmp_path / "cut")
    (tmp_path / "cut" / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(WrongInput, match="cut cannot be loaded"):
        load_learner(tmp_path / "cut")


def test_what_we_cannot_hold_is_one_line(folder, tmp_path):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(json.dumps(dict(model_type="bert", architectures=["BertModel"])))
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text(json.dumps(dict(model_type="no_such_model")))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    for name, part in (("bert", "bert .BertModel"), ("odd", "cannot be read"), ("broken", "cannot be read")):
        with pytest.raises(WrongInput, match=part) as caught:
            load_learner(tmp_path / name)
        assert "\n" not in str(caught.value) and name in str(caught.value)


def test_a_name_is_looked_up_in_the_cache_alone(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    place = tmp_path / "models--lab--tiny-gpt2"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("abc123")
    (place / "snapshots").mkdir()
    (place / "snapshots" / "abc123").symlink_to(folder / "gpt2")
    assert load_learner("lab/tiny-gpt2").name == "lab/tiny-gpt2"
    for name in ("lab/other", "other"):
        with pytest.raises(WrongInput, match="hf download"):
            load_learner(name)


def test_every_stranger_is_judged(folder, tmp_path):
    from babyvlm.milestones.judge import judge

    paint = dict(red=(200, 40, 40), green=(40, 160, 60), blue=(40, 70, 200))
    with TrialsWriter(tmp_path / "trials", dict(name="squares"), seed=0) as writer:
        path = {c: writer.image(np.full((32, 32, 3), rgb, np.uint8)) for c, rgb in paint.items()}
        for i, right in enumerate([*paint] * 2):
            shared = dict(suite="squares", answer=[right], chance=1 / 3, group=dict(scene=f"s{i}"))
            writer.add(Trial(f"f{i}", task="find", form="choose_image", context=[Part("text", f"where is {right}")],
                             choices=[Choice(c, [Part("image", path=path[c])]) for c in paint], **shared))  # fmt: skip
            writer.add(Trial(f"n{i}", task="name", form="choose_text", context=[Part("image", path=path[right])],
                             choices=[Choice(c, statement=f"it is {c}") for c in paint], **shared))  # fmt: skip
    team = [load_learner(folder / kind) for kind in KINDS]
    team.append(as_learner(object(), "dark", similarity=lambda images, texts: torch.tensor([[-float(i.mean())] * len(texts) for i in images])))
    report = judge(team, read_trials(tmp_path / "trials"), tmp_path / "report")
    lines = [line for line in report["tasks"] if line["learner"] in {learner.name for learner in team}]
    assert len(lines) == 2 * len(team) and all(line["status"] != "not_applicable" and line["errors"] == 0 for line in lines)
    assert next(line for line in lines if line["learner"] == "gpt2" and line["task"] == "find")["tie_rate"] == 1  # deaf to pictures: all tied


def test_language_models_pass_over_pictures(folder, pictures):
    deaf = LanguageModel(folder / "gpt2")
    with_picture, without = (deaf.logprob([c], [["ball", "duck"]])[0] for c in ([pictures[0], "look"], ["look"]))
    assert (with_picture == without).all() and deaf.px is None and not deaf.sees_pictures


@pytest.mark.parametrize("method, function, given", [
    ("embed_images", lambda images: np.zeros((len(images) + 1, 4)), (["x"],)),
    ("embed_texts", lambda texts: np.zeros(4), (["x"],)),
    ("similarity", lambda images, texts: np.zeros((len(texts), len(images))), (["x"], ["a", "b"])),
    ("logprob", lambda contexts, answers: (np.zeros((1, 3)), np.zeros((1, 3))), ([["x"]], [["a", "b"]])),
    ("surprise", lambda clips: np.zeros(3), (["x"],)),
])  # fmt: skip
def test_a_wrong_shape_is_named(method, function, given):
    with pytest.raises(ValueError, match=f"{method} returned shape"):
        getattr(as_learner(object(), "wrong", **{method: function}), method)(*given)
