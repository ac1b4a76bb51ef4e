"""One contestant of `train.py`, in a process and an environment of its own.

    PYTHON benchmarks/contestants.py ours|transformers|open_clip|nanovlm SPEC

SPEC is JSON: the shapes, the device, the threads. A line of JSON on the standard input is something to do; a line of JSON on the standard output is what came
of it. Beside torch it needs only the contestant's own package: nothing of another's is imported, and nothing of a peer's is copied here. Each takes the step
of its own training loop: ours is `Trainer.take` (clipping and running average included), open_clip's is its own `train_one_epoch`; transformers and nanoVLM
take what their trainers take (autocast, backward, clipping at 1, AdamW).
"""

import contextlib
import importlib.machinery
import json
import logging
import os
import sys
import tempfile
import time
import types
from statistics import median

import torch

IMAGE, BOS, EOS, FIRST = 4, 1, 2, 5  # ids: of the place of a picture, of begin and end, of the first word
AMP = dict(bf16=torch.bfloat16, fp16=torch.float16)


def cast(device, kind):
    "The context of a forward pass in a number format."
    return torch.autocast(device, AMP[kind]) if kind in AMP else contextlib.nullcontext()


def pictures(spec):
    "(B, 3, px, px), the same for all."
    px = spec["vision"]["px"]
    return torch.randn(spec["batch"], 3, px, px, generator=torch.Generator().manual_seed(1)).to(spec["device"])


def words(spec, tokens=None):
    "(B, T) ids of words, begin and end included, the same for all."
    tokens = tokens or spec["text"]["tokens"]
    ids = torch.randint(FIRST, spec["vocabulary"], (spec["batch"], tokens), generator=torch.Generator().manual_seed(2))
    ids[:, 0], ids[:, -1] = BOS, EOS
    return ids.to(spec["device"])


def rows(spec, places, tokens=None):
    "Rows (B, places + T) of picture places and words, and the labels: the words."
    said = words(spec, tokens)
    ids = torch.cat([torch.full((len(said), places), IMAGE, device=said.device), said], 1)
    return ids, ids.masked_fill(ids == IMAGE, -100)


class Vocabulary:
    "As much of a tokenizer as `new_model` asks for."

    pad_token_id, bos_token_id, eos_token_id, image_token_id = 0, BOS, EOS, IMAGE

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size


SPECIAL = dict(pad_token_id=0, bos_token_id=BOS, eos_token_id=EOS)


class Ours:
    "babyvlm: a model of the spec's shapes, or one of its own sizes; its own step."

    def __init__(self, spec):
        from babyvlm.core.device import precision
        from babyvlm.pretraining.loop import Trainer
        from babyvlm.pretraining.speed import usual_way

        torch.manual_seed(0)
        model = (self.named if "size" in spec else getattr(self, spec["objective"]))(spec).to(spec["device"])
        self.batch = dict(pixel_values=pictures(spec), **getattr(self, f"{spec['objective']}_words")(spec, model))
        self.trainer = Trainer(model, spec["objective"], lr=1e-4, steps=10**6)
        self.ways = [dict(precision=precision(spec["device"]), **usual_way(spec["device"]))]  # as it comes
        self.model = model

    def named(self, spec):
        from babyvlm.models.sizes import new_model

        model = new_model(spec["family"], spec["size"], Vocabulary(spec["vocabulary"]))
        spec["vision"] = dict(px=model.config.vision_config.image_px)
        return model

    def tower(self, spec):
        from babyvlm.models.vision import VisionConfig

        v = spec["vision"]
        return VisionConfig(image_px=v["px"], stem=[], patch=v["patch"], width=v["width"], layers=v["layers"], heads=v["heads"], position_std=0.02)

    def contrastive(self, spec):
        from babyvlm.models.clip import Clip, ClipConfig, text_config

        t = spec["text"]
        text = text_config(spec["vocabulary"], width=t["width"], layers=t["layers"], heads=t["heads"], limit=t["tokens"], **SPECIAL)
        return Clip(ClipConfig(self.tower(spec), text, joint=spec["joint"]))

    def causal_lm(self, spec):
        from babyvlm.models.babyllava import BabyLlava, BabyLlavaConfig, language_config

        t = spec["text"]
        language = language_config(spec["vocabulary"], width=t["width"], layers=t["layers"], heads=t["heads"], inner=t["inner"], tied=True, std=0.02, **SPECIAL)
        return BabyLlava(BabyLlavaConfig(self.tower(spec), language, image_token_id=IMAGE, whole=False, token_std=None, image_gain=1.0))

    def contrastive_words(self, spec, model):
        ids = words(spec)
        return dict(input_ids=ids, attention_mask=torch.ones_like(ids), same=torch.eye(len(ids), dtype=torch.bool, device=ids.device))

    def causal_lm_words(self, spec, model):
        "As our own layout makes them of items."
        from babyvlm.pretraining.layouts import Item, layouts

        with tempfile.TemporaryDirectory() as folder:
            tokenizer = word_tokenizer(spec["vocabulary"], folder)[1]
        items = [Item((k, " ".join(f"w{i}" for i in row)), (True,)) for k, row in enumerate(words(spec)[:, 1:-1].tolist())]
        made = layouts["causal_lm"](items, tokenizer, model.config, None)
        assert made["input_ids"].shape == (spec["batch"], model.config.places + spec["text"]["tokens"])
        return {name: value.to(spec["device"]) if torch.is_tensor(value) else value for name, value in made.items()}

    def go(self, way):
        from babyvlm.pretraining.speed import go

        self.trainer.kind = way["precision"]
        go(self.trainer, way)

    def loss(self):
        return self.trainer.loss(self.batch)

    def steps(self, count):
        return timed(count, lambda: self.trainer.take(self.batch)["loss"])


class Peer:
    "A model that gives its own loss, and the usual step round it."

    ways, clip = (), 1.0

    def ready(self, model, spec):
        self.model, self.device = model.to(spec["device"]).train(), spec["device"]
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=self.device in ("cpu", "cuda"))
        self.way = self.ways[0]
        self.scaler = torch.amp.GradScaler(self.device, enabled="fp16" in spec["kinds"])

    def step(self):
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss()
        scaler = self.scaler if self.way["precision"] == "fp16" else torch.amp.GradScaler(self.device, enabled=False)
        scaler.scale(loss).backward()
        scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        scaler.step(self.optimizer)
        scaler.update()
        return loss.item()

    def steps(self, count):
        return timed(count, self.step)


class Transformers(Peer):
    "CLIPModel or LlavaForConditionalGeneration of transformers."

    def __init__(self, spec):
        self.ways = [dict(precision=k, attention=a) for k in spec["kinds"] for a in ("eager", "sdpa")]
        torch.manual_seed(0)
        self.ready(getattr(self, spec["objective"])(spec), spec)

    def tower(self, spec, **more):
        from transformers import CLIPVisionConfig

        v = spec["vision"]
        return CLIPVisionConfig(hidden_size=v["width"], intermediate_size=4 * v["width"], num_hidden_layers=v["layers"], num_attention_heads=v["heads"],
                                image_size=v["px"], patch_size=v["patch"], hidden_act="gelu", **more)  # fmt: skip

    def contrastive(self, spec):
        from transformers import CLIPConfig, CLIPModel, CLIPTextConfig

        t = spec["text"]
        text = CLIPTextConfig(vocab_size=spec["vocabulary"], hidden_size=t["width"], intermediate_size=4 * t["width"], num_hidden_layers=t["layers"],
                              num_attention_heads=t["heads"], max_position_embeddings=t["tokens"], hidden_act="gelu", **SPECIAL)  # fmt: skip
        config = CLIPConfig(text_config=text.to_dict(), vision_config=self.tower(spec, projection_dim=spec["joint"]).to_dict(), projection_dim=spec["joint"])
        self.batch = dict(input_ids=words(spec), pixel_values=pictures(spec), return_loss=True)
        return CLIPModel(config)

    def causal_lm(self, spec):
        from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

        t, places = spec["text"], (spec["vision"]["px"] // spec["vision"]["patch"]) ** 2
        text = LlamaConfig(vocab_size=spec["vocabulary"], hidden_size=t["width"], intermediate_size=t["inner"], num_hidden_layers=t["layers"], use_cache=False,
                           num_attention_heads=t["heads"], num_key_value_heads=t["heads"], tie_word_embeddings=True, **SPECIAL)  # fmt: skip
        config = LlavaConfig(vision_config=self.tower(spec), text_config=text, image_token_index=IMAGE, image_seq_length=places, vision_feature_layer=-1,
                             vision_feature_select_strategy="default", tie_word_embeddings=True)  # fmt: skip
        ids, labels = rows(spec, places)
        self.batch = dict(input_ids=ids, labels=labels, pixel_values=pictures(spec))
        return LlavaForConditionalGeneration(config)

    def go(self, way):
        self.way = way
        self.model.set_attn_implementation(way["attention"])

    def loss(self):
        with cast(self.device, self.way["precision"]):
            return self.model(**self.batch).loss


def stand_in_operators():
    "torchvision without its compiled operators: their names are enough for it to be imported."
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        sys.modules.pop("torchvision", None)
    else:
        return
    from torch import library

    operators = library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return operators  # it must be kept


class OpenClip:
    "open_clip: its model, its loss, its own loop over an epoch of so many batches."

    names = dict(fp32="fp32", bf16="amp_bf16", fp16="amp")

    def __init__(self, spec):
        self.operators = stand_in_operators()
        import open_clip
        from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

        v, t = spec["vision"], spec["text"]
        self.ways, self.device, self.size = [dict(precision=k, attention="its own") for k in spec["kinds"]], spec["device"], spec["batch"]
        torch.manual_seed(0)
        see = CLIPVisionCfg(layers=v["layers"], width=v["width"], head_width=v["width"] // v["heads"], patch_size=v["patch"], image_size=v["px"])
        hear = CLIPTextCfg(context_length=t["tokens"], vocab_size=spec["vocabulary"], width=t["width"], heads=t["heads"], layers=t["layers"], pool_type="eos", eos_id=EOS)
        self.model = CLIP(spec["joint"], see, hear, output_dict=True).to(self.device)
        self.criterion, self.batch = open_clip.ClipLoss(), (pictures(spec), words(spec))
        thin = [p for p in self.model.parameters() if p.ndim < 2]
        thick = [p for p in self.model.parameters() if p.ndim > 1]
        groups = [dict(params=thin, weight_decay=0.0), dict(params=thick, weight_decay=0.2)]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.98), eps=1e-6, fused=self.device in ("cpu", "cuda"))
        self.go(self.ways[0])

    def go(self, way):
        self.way = way
        self.args = types.SimpleNamespace(device=self.device, precision=self.names[way["precision"]], accum_freq=1, skip_scheduler=True, distill=False, horovod=False,
            grad_clip_norm=None, batch_size=self.size, world_size=1, rank=0, local_rank=0, log_every_n_steps=100, wandb=False, distributed=False)  # fmt: skip
        self.scaler = torch.amp.GradScaler(self.device) if way["precision"] == "fp16" else None

    def loss(self):
        with cast(self.device, self.way["precision"]):
            return sum(self.criterion(**self.model(*self.batch), output_dict=True).values())

    def steps(self, count):
        from open_clip_train.train import train_one_epoch

        loader, seen = [self.batch] * count, []
        data = types.SimpleNamespace(set_epoch=lambda epoch: None, dataloader=Loader(loader, self.size))
        criterion = lambda *args, **more: seen.append(self.criterion(*args, **more)) or dict(seen[-1])
        start = now(self.device)
        train_one_epoch(self.model, dict(train=data), criterion, 0, self.optimizer, self.scaler, None, None, self.args)
        spent = now(self.device) - start
        return dict(seconds=[spent / count] * count, loss=sum(v.item() for v in seen[-1].values()))


class Loader:
    "What open_clip's loop asks of a data loader."

    def __init__(self, batches, size):
        self.batches, self.num_batches, self.num_samples = batches, len(batches), len(batches) * size

    def __iter__(self):
        return iter(self.batches)


@contextlib.contextmanager
def absent(**modules):
    "Stand-ins for modules that a peer imports and these runs never call, while it is imported."
    import transformers.utils.import_utils  # noqa: F401  looks for torchvision itself, and must have looked before

    found = {}
    for name, content in modules.items():
        name = name.replace("__", ".")
        if name in sys.modules:
            continue
        found[name] = sys.modules[name] = types.ModuleType(name)
        vars(found[name]).update(content, __path__=[], __spec__=importlib.machinery.ModuleSpec(name, None))
    try:
        yield
    finally:
        for name in found:
            del sys.modules[name]


PICTURE_TOOLS = dict(torchvision={}, torchvision__transforms={}, torchvision__transforms__functional=dict(resize=None, InterpolationMode=types.SimpleNamespace(BICUBIC=None)), einops=dict(rearrange=None))


def word_tokenizer(vocabulary, folder):
    "A folder with a tokenizer of so many words, and the tokenizer; nanoVLM wants the folder although it is never asked."
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<bos>", "<eos>", "<unk>", "<image>"]
    made = Tokenizer(models.WordLevel({name: k for k, name in enumerate(names + [f"w{k}" for k in range(FIRST, vocabulary)])}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>")
    tokenizer.save_pretrained(folder)
    return folder, tokenizer


def nano_config(spec, folder):
    "nanoVLM's configuration of these shapes."
    from models.config import VLMConfig

    v, t, shuffle = spec["vision"], spec["text"], spec.get("shuffle", 1)
    return VLMConfig(vit_hidden_dim=v["width"], vit_inter_dim=4 * v["width"], vit_patch_size=v["patch"], vit_img_size=v["px"], vit_n_heads=v["heads"],
        vit_n_blocks=v["layers"], lm_hidden_dim=t["width"], lm_inter_dim=t["inner"], lm_base_vocab_size=spec["vocabulary"], extra_token_amount=0,
        lm_vocab_size=spec["vocabulary"], lm_n_heads=t["heads"], lm_n_kv_heads=t["heads"], lm_n_blocks=t["layers"], mp_pixel_shuffle_factor=shuffle,
        mp_image_token_length=(v["px"] // v["patch"] // shuffle) ** 2, lm_max_position_embeddings=512, vlm_load_backbone_weights=False, hf_repo_name=None,
        lm_tokenizer=word_tokenizer(spec["vocabulary"], folder)[0], vlm_extra_tokens=dict(image_token="<image>"))  # fmt: skip


class NanoVlm(Peer):
    "nanoVLM's VisionLanguageModel."

    def __init__(self, spec):
        from transformers import AutoTokenizer  # noqa: F401

        by_hand = [dict(precision=k, attention="by hand") for k in spec["kinds"]]  # it has the code, and no option for it: measured beside, not counted
        self.ways = [dict(precision=k, attention="its own") for k in spec["kinds"]] + by_hand
        sys.path.insert(0, spec["root"])
        with absent(**PICTURE_TOOLS):
            from models.vision_language_model import VisionLanguageModel
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            model = VisionLanguageModel(nano_config(spec, folder), load_backbone=False)
        places = (spec["vision"]["px"] // spec["vision"]["patch"]) ** 2
        ids, labels = rows(spec, places)
        self.batch = dict(input_ids=ids, images=pictures(spec), targets=torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], -100)], 1))
        self.ready(model, spec)

    def go(self, way):
        self.way = way
        for part in self.model.modules():
            if hasattr(part, "sdpa"):
                part.sdpa = way["attention"] == "its own"

    def loss(self):
        with cast(self.device, self.way["precision"]):
            return self.model(**self.batch)[1]


def now(device):
    "Seconds, when all that was asked for is done."
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(count, step):
    "Seconds of each of some steps, and the last one's loss."
    device, seconds = "cuda" if torch.cuda.is_available() else "cpu", []
    for _ in range(count):
        start = now(device)
        loss = step()
        seconds.append(now(device) - start)
    return dict(seconds=seconds, loss=loss)


def flops(one):
    "Floating-point operations of a step, attention written out so that all contestants' is counted alike."
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        one.loss().backward()
    one.model.zero_grad(set_to_none=True)
    return counter.get_total_flops()


def gemm(device, kind, side=2048, times=5):
    "FLOP/s of the best of some plain matrix products in a number format."
    a, b = (torch.randn(side, side, device=device).to(AMP.get(kind, torch.float32)) for _ in range(2))
    spent = timed(times + 1, lambda: (a @ b) is None)["seconds"][1:]
    return 2 * side**3 / median(spent)


def peak(device):
    "Bytes that this process held at most: of the card where there is one, else of memory, imports and all."
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError), open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


CONTESTANTS = dict(ours=Ours, transformers=Transformers, open_clip=OpenClip, nanovlm=NanoVlm)


def answer(one, spec, do, way=None, count=1):
    if way:
        one.go(way)
    if do == "hello":
        return dict(ways=one.ways, parameters=sum(p.numel() for p in one.model.parameters()))
    if do == "steps":
        return one.steps(count)
    return dict(flops=lambda: flops(one), gemm=lambda: gemm(spec["device"], way["precision"]), peak=lambda: peak(spec["device"]))[do]()


def main():
    name, spec = sys.argv[1], json.loads(sys.argv[2])
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a package prints goes elsewhere
    logging.disable(logging.INFO)
    torch.set_num_threads(spec["threads"])
    one = CONTESTANTS[name](spec)
    for line in sys.stdin:
        print(json.dumps(answer(one, spec, **json.loads(line))), file=out, flush=True)


if __name__ == "__main__":
    main()
