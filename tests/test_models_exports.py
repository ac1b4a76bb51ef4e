"""What leaves the house: used in a process of its own, by interfaces written down from the peers' descriptions."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pytest
import torch
from PIL import Image

from babyvlm.cli.export import export_run
from babyvlm.core.basics import WrongInput, write_json
from babyvlm.core.trials import Choice, Part, Trial, TrialsWriter, read_trials
from babyvlm.models.examinee import Examinee, Extractor, Speaker
from babyvlm.models.exports import export, exporters
from babyvlm.models.load import load_learner, save_learner, seal
from babyvlm.models.sizes import new_model
from babyvlm.models.tokenizer import train_tokenizer

HEARD = ["look at the ball", "where is the red one", "a little duck", "it is green", "is it a or b"]
PAINT = dict(red=(200, 40, 40), green=(40, 160, 60), blue=(40, 70, 200), yellow=(230, 200, 40))
SECRET = "family-of-child-seven"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    "Two runs as `pretrain` leaves them, whose card names a place that nobody else should read."
    here, tokenizer = tmp_path_factory.mktemp(SECRET), train_tokenizer(HEARD)
    for family in ("clip", "babyllava"):
        step = here / family / "checkpoints" / "step-000020"
        step.mkdir(parents=True)
        save_learner(step, new_model(family, "tiny", tokenizer, seed=1), tokenizer, {"ball": 2, "red": 1})
        write_json(step / "trainer.json", dict(step=20, seen=dict(words=300, pairs=40)))
        (step / "trainer.safetensors").write_bytes(b"optimizer")
        seal(step)
        (here / family / "checkpoints" / "latest").write_text("step-000020")
        corpus = dict(path=f"/data/{SECRET}/corpus", sha256="c" * 64)
        write_json(here / family / "run.json", dict(recipe=family, seed=1, corpus=corpus | dict(children=[SECRET]), settings=dict(corpus=corpus["path"]),
                                                    start=corpus["path"], ledger=dict(corpora=[corpus], teachers=["none"], tracks=[])))  # fmt: skip
    return here


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    folder = tmp_path_factory.mktemp("items") / "trials"
    with TrialsWriter(folder, dict(name="squares"), seed=0) as writer:
        path = {c: writer.image(np.full((32, 32, 3), rgb, np.uint8)) for c, rgb in PAINT.items()}
        for i, right in enumerate([*PAINT, *PAINT]):
            shared = dict(suite="squares", answer=[right], chance=0.25, group=dict(scene=f"s{i}"))
            writer.add(Trial(f"f{i}", task="find", form="choose_image", context=[Part("text", f"where is the {right} one")],
                             choices=[Choice(c, [Part("image", path=path[c])]) for c in PAINT], **shared))  # fmt: skip
            writer.add(Trial(f"n{i}", task="name", form="choose_text", context=[Part("image", path=path[right])],
                             choices=[Choice(c, statement=f"it is {c}") for c in PAINT], **shared))  # fmt: skip
    return read_trials(folder)


@pytest.fixture(scope="module")
def lmms(runs, trials, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "lmms"
    export(runs / "babyllava", out, "lmms-eval", trials)
    return out


FAKE_HARNESS = dict(
    model="""
import abc
class lmms(abc.ABC):
    is_simple = True
    def __init__(self):
        self._rank, self._world_size, self.task_dict = 0, 1, {}
        self.cache_hook = type("Hook", (), dict(add_partial=lambda self, attr, req, res: None))()
    @abc.abstractmethod
    def loglikelihood(self, requests): ...
    @abc.abstractmethod
    def generate_until(self, requests): ...
    @abc.abstractmethod
    def generate_until_multi_round(self, requests): ...
""",
    registry="""
MODEL_REGISTRY = {}
def register_model(*names):
    def decorate(cls):
        MODEL_REGISTRY.update({name: cls for name in names})
        return cls
    return decorate
""",
)

ORGANISER = """
import importlib.util, json, sys
from types import SimpleNamespace
from PIL import Image
folder, picture, style = sys.argv[1:]
assert importlib.util.find_spec("babyvlm") is None, "the organisers have not installed it"
spec = importlib.util.spec_from_file_location("submitted", f"{folder}/" + ("model.py" if style == "simple" else "model_chat.py"))
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
from lmms_eval.api.registry import MODEL_REGISTRY
name = json.load(open(f"{folder}/submission.json"))["registered_model"] + ("" if style == "simple" else "_chat")
model = MODEL_REGISTRY[name](pretrained=f"{folder}/checkpoint", conv_template="baby_v1", batch_size=16, device="cuda:0")
import babyvlm
doc = dict(image=[picture, picture], conversations=[{"from": "human", "value": "which is new (A) <image>"}, {"from": "gpt", "value": "A"}, {"from": "human", "value": "and now <image>"}, {"from": "gpt", "value": "A"}])
model.task_dict = {"dev": {"test": [doc]}}
visual = lambda doc: [Image.open(p).convert("RGB") for p in doc["image"]]
ask = lambda *args: SimpleNamespace(args=args)
said = lambda doc: [{"role": "user", "content": [{"type": "image", "url": Image.open(picture)}, {"type": "image", "url": Image.open(picture)}, {"type": "text", "text": "what is it"}]}]
one = ask("what is it", {"max_new_tokens": 1024}, visual, 0, "dev", "test") if style == "simple" else ask("what is it", said, {"max_new_tokens": 1024}, 0, "dev", "test")
print(json.dumps(dict(
    where=babyvlm.__file__, simple=model.is_simple, replies=model.generate_until([one]),
    rounds=model.generate_until_multi_round([ask("", {"max_new_tokens": 4}, visual, None, 0, "dev", "test")]),
    losses=model.loglikelihood([ask("look at the", answer, lambda doc: visual(doc)[:1], 0, "dev", "test") for answer in ("ball", "green duck", lambda doc: "red")]))))
"""


@pytest.mark.parametrize("style", ["simple", "chat"])
def test_the_organisers_need_nothing_of_ours(style, lmms, runs, tmp_path):
    "Another process, without babyvlm, with a harness of abstract methods; the answers are the learner's own, and a lower number is a likelier answer."
    api = tmp_path / "site" / "lmms_eval" / "api"
    api.mkdir(parents=True)
    (api.parent / "__init__.py").write_text("")
    (api / "__init__.py").write_text("")
    for name, text in FAKE_HARNESS.items():
        (api / f"{name}.py").write_text(text)
    picture = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (70, 50, 3), np.uint8)).save(picture)
    hide = "import sys\nsys.path = [p for p in sys.path if not __import__('os').path.isdir(__import__('os').path.join(p or '.', 'babyvlm'))]\n"
    hide += "sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
    env = dict(PATH="/usr/bin:/bin", PYTHONPATH=str(tmp_path / "site"), HOME=str(tmp_path), OMP_NUM_THREADS="1")
    done = subprocess.run([sys.executable, "-c", hide + ORGANISER, lmms, picture, style], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert Path(said["where"]).is_relative_to(lmms / "checkpoint" / "code") and said["simple"] == (style == "simple")
    learner, image = load_learner(runs / "babyllava"), np.asarray(Image.open(picture))
    sums, counts = learner.logprob([[image, "look at the"]] * 3, [["ball"], ["green duck"], ["red"]])
    losses = [loss for loss, _ in said["losses"]]
    assert np.allclose(losses, -sums[:, 0] / counts[:, 0], atol=1e-4) and np.argmin(losses) == np.argmax(sums / counts) and all(loss > 0 for loss in losses)
    assert all(isinstance(greedy, bool) for _, greedy in said["losses"])
    assert said["replies"] == learner.generate([[image, image, "what is it"]], 32)
    first = learner.generate([["which is new (A)", image]], 4)[0]
    second = learner.generate([["which is new (A)", image] + [first] * bool(first) + ["and now", image]], 4)[0]
    assert json.loads(said["rounds"][0]) == [first, second]


def test_the_submission_passes_the_boards_check_but_for_the_address(lmms):
    form = json.loads((lmms / "submission.json").read_text())
    assert form["model_name"] and "REPLACE" in form["checkpoint"] and (lmms / "model.py").is_file()
    wanted = {"model_type", "vision_encoder", "language_model", "training_data", "num_parameters", "model_description", "main_contributions"}
    assert wanted == set(form["metadata"]) and all(form["metadata"].values()) and isinstance(form["metadata"]["num_parameters"], int)


@pytest.mark.parametrize("family, to", [("clip", "hf"), ("babyllava", "hf"), ("babyllava", "lmms-eval"), ("clip", "egobabyvlm"), ("babyllava", "egobabyvlm"), ("clip", "devbench")])
def test_nothing_says_where_the_recordings_lay(family, to, runs, trials, tmp_path):
    export(runs / family, tmp_path / "out", to, trials)
    files = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert files and not any(SECRET.encode() in p.read_bytes() for p in files)
    assert not any(p.name in ("trainer.safetensors", "trainer.json") for p in files)
    if to != "devbench":
        card = json.loads(next(p for p in files if p.name == "card.json").read_text())
        assert card["ledger"]["corpora"] == [dict(name="corpus", sha256="c" * 64)]


def test_a_copy_is_the_same_learner_and_knows_its_past(runs, trials, tmp_path):
    export(runs / "clip", tmp_path / "hf", "hf", trials)
    one, two = load_learner(runs / "clip"), load_learner(tmp_path / "hf")
    picture = [np.full((50, 40, 3), 99, np.uint8)]
    assert np.allclose(one.similarity(picture, HEARD), two.similarity(picture, HEARD)) and two.name == "clip" and two.seed == 1
    assert two.words_heard == {"ball", "red"} and two.ledger["teachers"] == ["none"]
    (tmp_path / "hf" / "config.json").write_text("{}")
    with pytest.raises(WrongInput, match="config.json is damaged"):
        load_learner(tmp_path / "hf")


def test_transformers_alone_opens_the_folder(runs, trials, tmp_path):
    export(runs / "babyllava", tmp_path / "hf", "hf", trials)
    code = """
import sys, torch
from transformers import AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoTokenizer
folder = sys.argv[1]
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
words = AutoTokenizer.from_pretrained(folder)("look at the ball", return_tensors="pt").input_ids
assert type(model).__name__ == "BabyLlava" and model(words).logits.shape[:2] == words.shape
import numpy as np
image = np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)
pixels = AutoImageProcessor.from_pretrained(folder)(images=[image], return_tensors="pt")["pixel_values"]
from babyvlm.models.vision import square, to_pixels
assert torch.allclose(pixels, to_pixels([square(image, 64)]), atol=2/127)
language, tokenizer = AutoModelForCausalLM.from_pretrained(folder + "/language"), AutoTokenizer.from_pretrained(folder + "/language")
ids = tokenizer("look at the ball", return_tensors="pt").input_ids
assert torch.allclose(language(ids).logits, model(ids).logits, atol=1e-4)
print("fine")
"""
    env = dict(PATH="/usr/bin:/bin", PYTHONPATH=str(Path(__file__).parent.parent), HOME=str(tmp_path), HF_HOME=str(tmp_path / "hf_home"), OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "hf")], capture_output=True, text=True, env=env)
    assert done.stdout.strip() == "fine", done.stderr


@runtime_checkable
class ModuleLike(Protocol):
    def eval(self) -> Any: ...
    def train(self, mode: bool = True) -> Any: ...
    def to(self, *args, **kwargs) -> Any: ...
    def parameters(self, recurse: bool = True) -> Any: ...
    def state_dict(self, *args, **kwargs) -> Any: ...


@runtime_checkable
class MultiModal(ModuleLike, Protocol):
    @property
    def feature_dim(self) -> int: ...
    def extract_image_features(self, images) -> Any: ...
    def extract_text_features(self, text) -> Any: ...
    def extract_video_features(self, video) -> Any: ...
    def extract_features(self, inputs) -> Any: ...
    def compute_similarity(self, a, b, *, normalize=None) -> Any: ...


@runtime_checkable
class ImageText(ModuleLike, Protocol):
    @property
    def feature_dim(self) -> int: ...
    @property
    def input_size(self) -> tuple: ...
    @property
    def normalize_params(self) -> dict: ...
    def extract_features(self, inputs) -> Any: ...
    def tokenize(self, text, device=None) -> dict: ...


@runtime_checkable
class Video(ModuleLike, Protocol):
    @property
    def num_frames(self) -> int: ...
    @property
    def frame_size(self) -> tuple: ...
    @property
    def temporal_output(self) -> bool: ...


def test_the_extractor_satisfies_the_protocols(runs):
    found = Extractor(str(runs / "clip"), name="ours").eval().to("cpu")
    assert all(isinstance(found, kind) for kind in (ModuleLike, MultiModal, ImageText, Video)) and not isinstance(Speaker(str(runs / "babyllava")), MultiModal)
    images = [Image.fromarray(np.random.default_rng(k).integers(0, 255, (40 + k, 60, 3), np.uint8)) for k in range(4)]
    both = found.extract_features({"image": images, "text": HEARD[:2]})
    assert set(both) == {"image_features", "text_features"} and all(v.shape[1] == found.feature_dim for v in both.values())
    alike = found.compute_similarity(both["image_features"] * 3, both["text_features"], normalize=True)
    assert alike.shape == (4, 2) and alike.abs().max() <= 1.001 and torch.is_tensor(alike)
    assert found.tokenize(HEARD)["input_ids"].shape == found.tokenize(HEARD)["attention_mask"].shape
    with pytest.raises(WrongInput, match="no features"):
        Extractor(str(runs / "babyllava"))
    with pytest.raises(WrongInput, match="no language model"):
        Speaker(str(runs / "clip"))


def test_sentences_scored_in_their_way(runs):
    "Causal rule: the labels are the next tokens and an end; the sum of their log-probabilities ranks sentences as our learner does, but for the end."
    speaker, learner = Speaker(str(runs / "babyllava"), device="cpu"), load_learner(runs / "babyllava")
    for sentence in HEARD:
        encoded = speaker.tokenizer(sentence, return_tensors="pt", padding=True, add_special_tokens=True)
        labels = torch.cat([encoded.input_ids[:, 1:], torch.tensor([[speaker.tokenizer.eos_token_id]])], 1)
        with torch.no_grad():
            logits = speaker.model(encoded.input_ids, attention_mask=encoded.attention_mask).logits
        loss = torch.nn.functional.cross_entropy(logits[0], labels[0], reduction="none")
        assert np.isclose(-loss[:-1].sum().item(), learner.logprob([[]], [[sentence]])[0][0, 0], atol=1e-3)
    assert speaker.tokenizer.mask_token_id is None and str(speaker.device) == "cpu"


def test_devbench_arrays_against_a_recomputation(runs, trials, tmp_path):
    export(runs / "clip", tmp_path / "out", "devbench", trials)
    learner = load_learner(runs / "clip")
    for task, shape in (("find", (8, 4, 1)), ("name", (8, 1, 4))):
        found, asked = np.load(tmp_path / "out" / "evals" / task / f"{task}_clip.npy"), [t for t in trials if t.task == task]
        assert found.shape == shape
        for scores, trial in zip(found, asked):
            order = sorted(trial.choices, key=lambda c: c.id != trial.answer[0])
            images = [trials.image(c.parts[0].path) for c in order] if task == "find" else [trials.image(trial.pictures[0])]
            texts = [trial.question] if task == "find" else [c.statement for c in order]
            assert np.allclose(scores, learner.similarity(images, texts), atol=1e-5)
    manifest = (tmp_path / "out" / "assets" / "find" / "manifest.csv").read_text().splitlines()
    assert manifest[0] == "image1,image2,image3,image4,text1" and len(manifest) == 9
    assert all((tmp_path / "out" / "assets" / "find" / name).is_file() for line in manifest[1:] for name in line.split(",")[:4])


def test_rounds_keep_own_replies_and_survive_forgotten_markers(runs):
    talker, heard = Examinee(runs / "babyllava"), []
    talker.learner.generate = lambda contexts, most: heard.append([part if isinstance(part, str) else "PICTURE" for part in contexts[0]]) or [f"mine {len(heard)}"]
    picture = Image.new("L", (30, 40), 90)  # grey: one channel
    talk = [{"from": "human", "value": "look"}, {"from": "human", "value": "which"}, {"from": "gpt", "value": "right"}, {"from": "human", "value": "now?"}, {"from": "gpt", "value": "right"}]
    assert talker.rounds(talk, [picture] * 2) == ["mine 1", "mine 2"]
    assert heard == [["PICTURE", "PICTURE", "look", "which"], ["PICTURE", "PICTURE", "look", "which", "mine 1", "now?"]]


def test_the_command(runs, trials, tmp_path, capsys):
    export_run(runs / "clip", tmp_path / "out", "devbench", trials=trials.path)
    assert "devbench" in capsys.readouterr().out and (tmp_path / "out" / "README.md").is_file()
    before = sorted((p, p.stat().st_size) for p in (tmp_path / "out").rglob("*") if p.is_file())
    export_run(runs / "clip", tmp_path / "out", "devbench", trials=trials.path)
    assert sorted((p, p.stat().st_size) for p in (tmp_path / "out").rglob("*") if p.is_file()) == before
    for run, to, part in ((runs / "clip", "elsewhere", "--to"), (runs / "clip", "lmms-eval", "does not speak"), (tmp_path / "none", "hf", "does not exist"), (runs / "babyllava", "devbench", "other parameters")):
        with pytest.raises(WrongInput, match=part) as caught:
            export_run(run, tmp_path / "out" if "devbench" in to else tmp_path / "x", to, trials=trials.path)
        assert "\n" not in str(caught.value)
    assert set(exporters) == {"hf", "lmms-eval", "egobabyvlm", "devbench"}
