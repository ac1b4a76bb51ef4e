"""One learner's way to a milestone, in a process and an environment of its own: for `train.py`.

    PYTHON benchmarks/courses.py "ours clip"|"ours cvcl"|"ours babyllava"|open_clip|nanovlm SPEC

All learn from the same corpus: ours by `pretrain`, from the corpus folder, as a user has it; open_clip by its own `train_one_epoch`, with its own pictures' transform,
loader and cosine schedule; nanoVLM by its own `train`, with its own collator and schedule. All find the pictures decoded at training size; the peers find the words in
tokens and their model's step timed, too, and ours does the rest on the clock. Every so often a learner is asked which of four pictures is meant, on the same trials;
that time is not counted.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import types
from functools import partial
from itertools import count
from pathlib import Path

import contestants
import numpy as np
import torch
from contestants import IMAGE, PICTURE_TOOLS, Loader, OpenClip, absent, nano_config

HERE = Path(__file__).parent
LEVEL = 0.8  # of picture vocabulary
BATCH = 64
PATCHES, CROPS, RATES = (8, 16), (0.9, 0.5), (5e-4, 1e-3)  # what a peer is tried with, in all combinations that it has; open_clip: crops, at the second rate
RESNET = 16  # the width of open_clip's other tower, a ResNet of four blocks
OURS = {"clip": [dict(), dict(layers=0)], "cvcl": [dict()], "babyllava": [dict(), dict(layers=0)]}  # and what ours are tried with
AGAINST = dict(open_clip=("ours clip", "ours cvcl"), nanovlm=("ours babyllava",))


class Curve:
    "The clock of a training, stopped while the learner is asked."

    def __init__(self, score, every):
        self.score, self.every, self.points, self.away, self.due, self.start = score, every, [], 0.0, every, time.perf_counter()
        self.note = {}  # what stands beside the next points

    def spent(self):
        return time.perf_counter() - self.start - self.away

    def __call__(self, step, last=False):
        seconds, before = self.spent(), time.perf_counter()
        if seconds < self.due and not last:
            return
        self.due = seconds + self.every
        self.points.append(dict(s=round(seconds, 1), step=step, score=round(float(self.score()), 4), **self.note))
        print(self.points[-1], file=sys.stderr, flush=True)
        self.away += time.perf_counter() - before


class Words:
    "The corpus as peers find it: pictures, and for each utterance its frames and its tokens."

    def __init__(self, folder):
        self.pictures = np.load(folder / "pictures.npy", mmap_mode="r")
        kept = np.load(folder / "words.npz")
        self.ids, self.first, self.frames, self.trial_ids, self.right = (kept[k] for k in ("ids", "first", "frames", "trial_ids", "right"))
        self.trials, self.vocabulary = kept["trials"], int(kept["vocabulary"])

    def __len__(self):
        return len(self.ids)

    def draw(self, i):
        "A frame of an utterance, (px, px, 3), and its tokens (T,), padded."
        among = self.frames[self.first[i] : self.first[i + 1]]
        return self.pictures[among[int(torch.randint(len(among), ()))]], self.ids[i]


def pack(corpus, trials, folder, limit=32):
    "Write what the peers find."
    from babyvlm.core.corpus import read_corpus
    from babyvlm.core.trials import read_trials
    from babyvlm.models.tokenizer import tokens, train_tokenizer
    from babyvlm.pretraining.sources import make_source

    folder.mkdir()
    source = make_source(read_corpus(corpus))
    tokenizer = train_tokenizer(source.texts)
    asked, images, right = questions(read_trials(trials), source.px)
    rows = [item[0] for item in source.items]
    np.save(folder / "pictures.npy", np.asarray(source.store))
    both = tokens(tokenizer, source.texts + asked, limit)[0].numpy()
    np.savez(folder / "words.npz", ids=both[: len(rows)], trial_ids=both[len(rows) :], first=np.cumsum([0, *map(len, rows)]), frames=np.concatenate(rows),
             trials=images, right=right, vocabulary=len(tokenizer))  # fmt: skip
    return folder


def questions(trials, px):
    "Of picture vocabulary: the words (n), the pictures (n, 4, px, px, 3), and which of them is right."
    from babyvlm.models.vision import square

    some = [t for t in trials if t.task == "picture_vocabulary"]
    images = np.stack([[square(trials.image(c.parts[0].path), px) for c in t.choices] for t in some])
    return [t.question for t in some], images, np.array([[c.id for c in t.choices].index(t.answer[0]) for t in some])


def ours(spec, family):
    "babyvlm's own road, from the corpus folder: as it comes, or with so many layers after the tower's stem."
    from babyvlm.core.trials import read_trials
    from babyvlm.models.learners import BabyLlavaLearner, ClipLearner
    from babyvlm.models.sizes import sizes
    from babyvlm.pretraining.course import Course
    from babyvlm.pretraining.recipes import pretrain
    from babyvlm.pretraining.run_folder import Data
    from babyvlm.pretraining.stages import full_recipe

    size = "light" if "layers" in spec else "tiny"
    if size == "light":
        sizes["light"] = sizes["tiny"] | dict(vision=sizes["tiny"]["vision"] | dict(layers=spec["layers"]))
    course = Course(Data(spec["corpus"]), full_recipe(family, size)["stages"], size, spec["seed"])
    tokenizer, (asked, images, right) = course.tokenizer, questions(read_trials(spec["trials"]), course.px)
    flat, state = [image for four in images for image in four], dict(steps=0)

    def score():
        average = state["trainer"].average
        if hasattr(average, "language"):
            scores, _ = BabyLlavaLearner(average, tokenizer).logprob([[image] for image in flat], [[text] for text in asked for _ in range(4)])
            return (scores.reshape(-1, 4).argmax(1) == right).mean()
        learner = ClipLearner(average, tokenizer)
        looks, said = learner.embed_images(flat).reshape(len(right), 4, -1), learner.embed_texts(asked)
        return (np.einsum("nkd,nd->nk", looks, said).argmax(1) == right).mean()

    def watch(trainer, row, seen):
        state["trainer"], state["steps"] = trainer, state["steps"] + 1
        curve.note = dict(tower_alone=True) if family == "babyllava" and not hasattr(trainer.average, "language") else {}
        curve(state["steps"])

    curve = Curve(score, spec["every"])
    pretrain(spec["corpus"], Path(spec["folder"]) / "run", family, size, minutes=spec["minutes"], seed=spec["seed"], callbacks=[watch])
    curve(state["steps"], last=True)
    return curve.points


class Pairs(torch.utils.data.Dataset):
    "Pictures through open_clip's transform, and tokens."

    def __init__(self, words, transform):
        self.words, self.transform = words, transform

    def __len__(self):
        return len(self.words)

    def __getitem__(self, i):
        from PIL import Image

        picture, ids = self.words.draw(i)
        return self.transform(Image.fromarray(picture)), torch.as_tensor(ids)


class Timed(Loader):
    "A loader that goes through the corpus again and again, looks at the clock before each batch, and ends with the training."

    def __init__(self, loader, curve, steps):
        super().__init__(loader, BATCH)
        self.curve, self.steps = curve, steps

    def __iter__(self):
        for done, batch in zip(range(self.steps), (batch for _ in count() for batch in self.batches)):
            if self.curve and done:
                self.curve(done)
            yield batch


def tiny(patch, px, **text):
    "Our `tiny`'s widths and depths."
    return dict(vision=dict(px=px, patch=patch, width=128, layers=4, heads=4), text=dict(width=128, heads=4, **text))


def convolutions(width, px):
    "open_clip's ResNet with a block in each of its four stages."
    return dict(px=px, patch=32, width=width, layers=[1, 1, 1, 1], heads=1)


def open_clip(spec):
    words = Words(Path(spec["packed"]))
    px = words.trials.shape[2]
    operators = contestants.stand_in_operators()
    from open_clip.transform import image_transform
    from open_clip_train.scheduler import cosine_lr
    from open_clip_train.train import train_one_epoch

    pairs = Pairs(words, image_transform(px, is_train=True, aug_cfg=dict(scale=(spec["crop"], 1.0))))
    loader = torch.utils.data.DataLoader(pairs, BATCH, shuffle=True, drop_last=True, num_workers=1, persistent_workers=True)
    plain = image_transform(px, is_train=False)
    shapes = tiny(spec.get("patch"), px, layers=2, tokens=words.ids.shape[1]) | dict(joint=128, batch=BATCH, vocabulary=words.vocabulary)
    if "resnet" in spec:
        shapes["vision"] = convolutions(spec["resnet"], px)

    def train(steps, curve=None):
        "open_clip's own loop for so many steps, with a new model."
        one = OpenClip(spec | shapes)
        one.go(dict(precision=spec["kinds"][-1]))
        one.args.skip_scheduler = False
        state["one"], schedule = one, cosine_lr(one.optimizer, spec["lr"], max(1, min(200, steps // 10)), steps)
        data = types.SimpleNamespace(set_epoch=lambda epoch: None, dataloader=Timed(loader, curve, steps))
        train_one_epoch(one.model, dict(train=data), one.criterion, 0, one.optimizer, one.scaler, schedule, None, one.args)
        return steps

    @torch.inference_mode()
    def score():
        from PIL import Image

        model = state["one"].model.eval()
        shown = torch.stack([plain(Image.fromarray(p)) for four in words.trials for p in four]).to(spec["device"])
        looks = torch.cat([model.encode_image(part, normalize=True) for part in shown.split(128)]).view(len(words.right), 4, -1)
        said = model.encode_text(torch.as_tensor(words.trial_ids).to(spec["device"]), normalize=True)
        model.train()
        return (torch.einsum("nkd,nd->nk", looks, said).argmax(1).cpu().numpy() == words.right).mean()

    state = {}
    steps = paced(spec, train)
    curve = Curve(score, spec["every"])
    curve(train(steps, curve), last=True)
    del operators
    return curve.points


def paced(spec, go, few=16):
    "How many steps fit into the minutes; what a loop needs before its first step does not count."
    spent = []
    for steps in (2, 2, 2 + few):  # the first is for warming up
        start = time.perf_counter()
        go(steps)
        spent.append(time.perf_counter() - start)
    return max(few, int(60 * spec["minutes"] / ((spent[2] - spent[1]) / few)))


class Rows(torch.utils.data.Dataset):
    "Pictures and rows of tokens as nanoVLM's collator wants them: labels stand one place ahead."

    def __init__(self, words, places):
        self.words, self.places = words, places

    def __len__(self):
        return len(self.words)

    def __getitem__(self, i):
        picture, ids = self.words.draw(i)
        ids = torch.as_tensor(ids)
        row = torch.cat([torch.full((self.places,), IMAGE), ids[ids != 0]])
        labels = torch.cat([row.masked_fill(row == IMAGE, -100)[1:], torch.tensor([-100])])
        return dict(images=[seen(picture[None])], input_ids=row, attention_mask=torch.ones_like(row), labels=labels)


def seen(pictures):
    "(n, 3, px, px) between 0 and 1."
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 255


def nanovlm(spec):
    words = Words(Path(spec["packed"]))
    px = words.trials.shape[2]
    sys.path.insert(0, spec["root"])
    sys.modules.pop("train", None)
    data_sets = dict.fromkeys(("load_dataset", "concatenate_datasets", "get_dataset_config_names", "load_from_disk"))
    with absent(**PICTURE_TOOLS, wandb={}, datasets=data_sets):
        import train as school
        from data.collators import VQACollator
        from models.config import TrainConfig
    shapes = tiny(spec["patch"], px, layers=3, inner=384) | dict(vocabulary=words.vocabulary, shuffle=16 // spec["patch"])
    places, state = (px // 16) ** 2, {}
    original = school.VisionLanguageModel
    school.VisionLanguageModel = lambda *args, **more: state.setdefault("model", original(*args, **more))

    def train(steps, curve=None):
        "nanoVLM's own loop for so many steps."
        state.clear()
        with tempfile.TemporaryDirectory() as folder:
            config = nano_config(shapes, folder)
            tokenizer = school.get_tokenizer(config.lm_tokenizer, config.vlm_extra_tokens, config.lm_chat_template)
            loader = torch.utils.data.DataLoader(Rows(words, places), BATCH, shuffle=True, drop_last=True, num_workers=1, persistent_workers=True, collate_fn=VQACollator(tokenizer, None))
            timed = Timed(loader, curve, steps)
            school.get_dataloaders = lambda *args: (timed, None, iter(timed), None)
            lr = spec["lr"]
            school.train(TrainConfig(lr_mp=lr, lr_vision_backbone=lr, lr_language_backbone=lr, batch_size=BATCH, gradient_accumulation_steps=1, max_training_steps=steps,
                                     eval_in_epochs=False, log_wandb=False, use_lmms_eval=False, stats_log_interval=10**9), config)  # fmt: skip
        return steps

    @torch.inference_mode()
    def score(rows=256):
        model, found = state["model"].eval(), []
        said = torch.as_tensor(words.trial_ids).repeat_interleave(4, 0)
        ids = torch.cat([torch.full((len(said), places), IMAGE), said], 1)
        labels = torch.cat([ids.masked_fill((ids == IMAGE) | (ids == 0), -100)[:, 1:], torch.full((len(ids), 1), -100)], 1)
        shown = seen(words.trials.reshape(-1, px, px, 3))
        for some in torch.arange(len(ids)).split(rows):
            logits = model(ids[some].to(spec["device"]), shown[some].to(spec["device"]), targets=labels[some].to(spec["device"]))[0].float().cpu()
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[some].flatten(), ignore_index=-100, reduction="none")
            found.append(-loss.view(len(some), -1).sum(1))
        model.train()
        return (torch.cat(found).view(-1, 4).argmax(1).numpy() == words.right).mean()

    steps = paced(spec, train)
    curve = Curve(score, spec["every"])
    curve(train(steps, curve), last=True)
    return curve.points


COURSES = {f"ours {name}": partial(ours, family=name) for name in OURS} | {"open_clip": open_clip, "nanovlm": nanovlm}


def settings(name, quick):
    "What a learner is tried with."
    if name.startswith("ours"):
        return OURS[name.removeprefix("ours ")][: 1 if quick else None]
    if quick:
        return [dict(patch=16, lr=1e-3, crop=0.9)]
    if name == "open_clip":
        towers = [dict(resnet=RESNET), *(dict(patch=patch) for patch in PATCHES)]
        return [tower | dict(lr=RATES[-1], crop=crop) for tower in towers for crop in CROPS]
    return [dict(patch=patch, lr=lr) for patch in PATCHES for lr in RATES]


def follow(name, spec, options):
    "One course in a process of its own; its curve."
    threads = {k: str(options.threads) for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    python = options.open_clip if name == "open_clip" else sys.executable
    with tempfile.TemporaryDirectory(dir=spec["folder"]) as folder:
        done = subprocess.run([python, HERE / "courses.py", name, json.dumps(spec | dict(folder=folder))], stdout=subprocess.PIPE, text=True, check=True,
                              env=os.environ | threads | dict(PYTHONPATH=str(HERE.parent), HF_HUB_OFFLINE="1"))  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def reached(points):
    "Seconds until the level was reached, by the learner itself and not by the tower that it is to begin with; None where it was not."
    return next((point["s"] for point in points if point["score"] >= LEVEL and not point.get("tower_alone")), None)


def furthest(name, runs, tried):
    "What a learner is tried with again, for longer: what came furthest; nothing where it was at the level."
    own = [run for run in runs if run["learner"] == name]
    if any(run["reached_s"] for run in own):
        return []
    best = max(own, key=lambda run: run["last"])
    return [next(some for some in tried if some.items() <= best.items())]


def learn(corpus, trials, folder, names, options, quick, seed=0):
    "All learners with all that they are tried with, as long as the first of the minutes; those who are not at the level again for the others, with what came furthest."
    from babyvlm.core.device import device, precision

    minutes = [0.1] if quick else options.minutes
    packed = pack(corpus, trials, folder / "packed")
    where = device()
    base = dict(corpus=str(corpus), trials=str(trials), packed=str(packed), folder=str(folder), device=where, threads=options.threads, seed=seed,
                kinds=list(dict.fromkeys(["fp32", precision(where)])), root=str(options.nanovlm.resolve()) if options.nanovlm else "")  # fmt: skip
    runs, tried = [], {name: settings(name, quick) for name in names}
    for length in minutes:
        for name in names:
            for setting in tried[name]:
                points = follow(name, base | setting | dict(minutes=length, every=60 * length / (3 if quick else 24)), options)
                runs.append(dict(learner=name, **setting, minutes=length, reached_s=reached(points), last=points[-1]["score"], curve=points))
                print(json.dumps({k: v for k, v in runs[-1].items() if k != "curve"}), file=sys.stderr, flush=True)
        tried = {name: furthest(name, runs, some) for name, some in tried.items()}
    best = {name: min((run["reached_s"] for run in runs if run["learner"] == name and run["reached_s"]), default=None) for name in names}
    mine = {peer: min((best[name] for name in own if best[name]), default=None) for peer, own in AGAINST.items() if peer in names}
    return dict(level=LEVEL, batch=BATCH, best_s=best, times_ours={peer: sooner(ours, best[peer] or longest(peer, runs)) for peer, ours in mine.items()}, runs=runs)


def longest(name, runs):
    "Seconds that a learner trained in the longest of its runs."
    return max(run["curve"][-1]["s"] for run in runs if run["learner"] == name)


def sooner(ours, theirs):
    "How many times sooner ours is there; 0 where it never is."
    return round(theirs / ours, 2) if ours else 0.0


def main():
    name, spec = sys.argv[1], json.loads(sys.argv[2])
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.disable(logging.INFO)
    torch.set_num_threads(spec["threads"])
    print(json.dumps(COURSES[name](spec)), file=out, flush=True)


if __name__ == "__main__":
    main()
