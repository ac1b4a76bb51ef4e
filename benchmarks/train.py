"""How fast and how lean training is, beside transformers, open_clip and nanoVLM at the same shapes, batch and threads.

    python benchmarks/train.py [OUT] [--quick] [--only contrastive generative share memory road milestone] [--open-clip PYTHON|make] [--nanovlm PATH]
                               [--threads 2] [--rounds 7] [--corpus FOLDER --trials FOLDER] [--minutes 4 12]

PYTHON is that of an environment with open_clip_torch (`make` makes one under ~/.cache/babyvlm with pip: 700 MB); PATH is a checkout of nanoVLM. Who is not given
is left out, nothing of theirs is copied here, and each runs in a process of its own (contestants.py, courses.py). A peer first tries its ways, fp32 and the
machine's half precision, each with eager and fused attention where it has a choice, and keeps the best; ours goes as it comes. Then all take turns, round by
round, and a ratio is the median over the rounds of peer's seconds to ours in that round. Ratios under 1.15 are no difference. Floating-point operations are
counted in each process, and must agree, but for what nobody asks where pictures stand: the last layer's say, and the scores of words. The share of the peak is of
matrix products of 2048 × 2048 in the same format, measured between the same steps. `milestone` trains on one corpus (made here where none is given): each
first tries its ways for the first of the minutes, and who is not there yet tries again for the others, with what came furthest. The time until picture vocabulary is .8
counts, a peer that never is there counts as its longest training, and the learning curves are kept. On a machine with a GPU all of this is measured there (memory is
the card's then).
Needs a machine that does nothing else, two free cores, 6 GB of memory, half an hour, and for `milestone` hours (--quick: minutes, for trying it out). Writes
OUT/train_DATE.json and OUT/train_DATE.md; OUT is the folder of this file by default.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
PEERS = dict(contrastive=("transformers", "open_clip"), causal_lm=("transformers", "nanovlm"))
ASKED = dict(contrastive=dict(transformers=1.0, open_clip=1.4), causal_lm=dict(transformers=1.1, nanovlm=1.3))
OBJECTIVES = dict(contrastive="contrastive", generative="causal_lm")

CASES = {  # widths, depths and tokens; one batch for all
    "contrastive": {
        "reference": dict(vision=dict(px=128, patch=16, width=192, layers=12, heads=3), text=dict(width=192, layers=6, heads=3, tokens=24), joint=192, batch=64),
        "tiny": dict(vision=dict(px=64, patch=16, width=128, layers=4, heads=4), text=dict(width=128, layers=2, heads=4, tokens=24), joint=128, batch=128),
        "small": dict(vision=dict(px=128, patch=16, width=256, layers=10, heads=8), text=dict(width=256, layers=4, heads=8, tokens=24), joint=256, batch=64),
    },
    "generative": {
        "reference": dict(vision=dict(px=128, patch=16, width=192, layers=6, heads=3), text=dict(width=256, layers=6, heads=4, inner=688, tokens=48), batch=32),
        "tiny": dict(vision=dict(px=64, patch=16, width=128, layers=4, heads=4), text=dict(width=128, layers=3, heads=4, inner=384, tokens=24), batch=128),
        "small": dict(vision=dict(px=128, patch=16, width=256, layers=10, heads=8), text=dict(width=256, layers=5, heads=8, inner=768, tokens=24), batch=64),
    },
}
QUICK = dict(vision=dict(px=32, patch=8, width=64, layers=2, heads=2), text=dict(width=64, layers=2, heads=2, inner=96, tokens=8), joint=64, batch=8)
VOCABULARY = 2000
FAMILIES = dict(clip="contrastive", babyllava="causal_lm")


class Contestant:
    "One contestant's process."

    def __init__(self, name, spec, options):
        from babyvlm.core.device import device, precision

        where = device()
        kinds = list(dict.fromkeys(["fp32", precision(where)]))
        self.name, root = name, str(options.nanovlm.resolve()) if options.nanovlm else ""
        self.spec = dict(vocabulary=VOCABULARY, device=where, kinds=kinds, threads=options.threads, root=root) | spec
        threads = {k: str(options.threads) for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        python = options.open_clip if name == "open_clip" else sys.executable
        self.process = subprocess.Popen([python, HERE / "contestants.py", name, json.dumps(self.spec)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=os.environ | threads | dict(PYTHONPATH=str(HERE.parent), HF_HUB_OFFLINE="1"))  # fmt: skip

    def ask(self, do, **more):
        self.process.stdin.write(json.dumps(dict(do=do, **more)) + "\n")
        self.process.stdin.flush()
        if not (line := self.process.stdout.readline()):
            raise RuntimeError(f"{self.name} ended with status {self.process.wait()}; what it said stands above")
        return json.loads(line)

    def try_ways(self, steps, rounds):
        "Keep the fastest way of those that count; the median seconds of a step in each."
        known = self.ask("hello")
        self.parameters, ways = known["parameters"], known["ways"]
        self.flops = self.ask("flops", way=ways[0])
        spent = [[] for _ in ways]
        for _ in range(rounds + 1):
            for way, seconds in zip(ways, spent):
                seconds.append(median(self.ask("steps", way=way, count=steps)["seconds"]))
        tried = [median(seconds[1:]) for seconds in spent]
        counted = [k for k, way in enumerate(ways) if way["attention"] != "by hand"]
        self.way = ways[min(counted, key=tried.__getitem__)]
        self.tried = [dict(**way, s=round(s, 4)) for way, s in zip(ways, tried)]
        self.seconds = []

    def turn(self, steps):
        "Some steps; the median of their seconds is this round's."
        self.seconds.append(median(self.ask("steps", way=self.way, count=steps)["seconds"]))

    def figures(self):
        s, batch = median(self.seconds), self.spec["batch"]
        return dict(way=self.way, s_per_step=round(s, 4), least_s=round(min(self.seconds), 4), most_s=round(max(self.seconds), 4), items_per_s=round(batch / s, 1),
                    gflop_per_step=round(self.flops / 1e9, 2), parameters=self.parameters, peak_mb=round(self.ask("peak") / 2**20), tried=self.tried)  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.stdin.close()
        self.process.wait(60)


def race(spec, options, steps, rounds, tries=2):
    "Ours and its peers at one set of shapes, in turns; the figures of each, and how many times slower each peer's step is."
    names = ["ours", *(name for name in PEERS[spec["objective"]] if given(name, options))]
    with contextlib.ExitStack() as stack:
        several = [stack.enter_context(Contestant(name, spec, options)) for name in names]
        for one in several:
            one.try_ways(steps, tries)
        check_work({one.name: one.flops for one in several}, unasked(spec))
        for turn in range(rounds):
            for one in several[:: 1 if turn % 2 else -1]:
                one.turn(steps)
        ratios = {one.name: round(median(p / o for p, o in zip(one.seconds, several[0].seconds)), 2) for one in several[1:]}
        return dict(rounds=rounds, steps_a_round=steps, batch=spec["batch"], times_ours=ratios, **{one.name: one.figures() for one in several})


def check_work(flops, spare=0):
    "All take steps of the same size, to a twentieth; `spare` is what some may leave undone."
    if max(flops.values()) > 1.05 * min(flops.values()) + spare:
        raise RuntimeError(f"not the same work: {flops} floating-point operations a step")


def unasked(spec):
    "Operations that a step spends on the places of pictures where nothing is asked of them: in the last layer, after what others look at there, and in scoring words."
    if spec["objective"] != "causal_lm":
        return 0
    text, places = spec["text"], (spec["vision"]["px"] // spec["vision"]["patch"]) ** 2
    layer = text["width"] + 3 * text["inner"] + 2 * (places + text["tokens"])  # the output's matrix, the gated layer, scores and weighted sum, each times the width
    return 6 * spec["batch"] * places * text["width"] * (layer + spec.get("vocabulary", VOCABULARY))


def given(name, options):
    return name == "transformers" or bool(getattr(options, name))


def raced(case, options, quick):
    "A case at all its shapes."
    objective = OBJECTIVES[case]
    if quick:
        return dict(reference=race(QUICK | dict(objective=objective), options, 2, 2, 1))
    return {shape: race(spec | dict(objective=objective), options, 2, options.rounds) for shape, spec in CASES[case].items()}


def named(family, size, batch, tokens=24):
    "One of our own sizes."
    return dict(objective=FAMILIES[family], family=family, size=size, batch=batch, text=dict(tokens=tokens), vocabulary=4096)


def share(options, quick):
    "Which share of the matrix-product peak of the same minutes a step reaches, for each size that fits."
    from babyvlm.core.device import device

    found, more = {}, 4 if device() == "cuda" else 1
    for family in FAMILIES:
        for size, batch in (("tiny", 8),) if quick else (("tiny", 128 * more), ("small", 64 * more), ("base", 16 * more)):
            if size == "base" and room() < 12 * 2**30:
                found[f"{family} {size}"] = "left out: too little memory is free"
                continue
            with Contestant("ours", named(family, size, batch), options) as one:
                one.try_ways(1, 1)
                peaks = []
                for _ in range(2 if quick else options.rounds):
                    peaks.append(one.ask("gemm", way=one.way))
                    one.turn(1 if size == "base" else 2)
                shares = [one.flops / s / p for s, p in zip(one.seconds, peaks)]
                found[f"{family} {size}"] = dict(share=round(median(shares), 3), least=round(min(shares), 3), most=round(max(shares), 3), peak_gflops=round(median(peaks) / 1e9),
                                                 batch=batch, **one.figures())  # fmt: skip
    return found


def room():
    from babyvlm.core.device import free_memory

    return free_memory()


def memory(options, quick):
    "Peak memory of a fresh process that takes two steps of a batch of 128, imports and all."
    found = {}
    for size in ("tiny",) if quick else ("tiny", "small"):
        for family in FAMILIES:
            with Contestant("ours", named(family, size, 8 if quick else 128), options) as one:
                one.ask("steps", way=one.ask("hello")["ways"][0], count=2)
                found[f"{family} {size}"] = round(one.ask("peak") / 1e9, 2)
    return found


def world(minutes):
    "The quickstart's world, with other minutes."
    from babyvlm.cli.quickstart import WORLD

    return WORLD | dict(minutes=minutes)


def make_corpus(folder, minutes, seed=0):
    "Recordings of the nursery, curated; the corpus's folder."
    from babyvlm.curation.pipeline import curate
    from babyvlm.nursery.recordings import make_recordings
    from babyvlm.nursery.world import FIRST_WORDS

    dials = world(minutes)
    make_recordings(folder / "recordings", FIRST_WORDS, seed=seed, **dials)
    curate(folder / "recordings", folder / "corpus", fps=dials["fps"], px=dials["px"], seed=seed)
    return folder / "corpus"


def road(options, quick):
    "Which share of the training time the step waits for its batch: pictures kept at training size, decoded anew each time, and made by the nursery while it trains."
    from babyvlm.core.corpus import read_corpus
    from babyvlm.nursery.world import FIRST_WORDS, turned
    from babyvlm.nursery.stream import Pairs
    from babyvlm.pretraining.pictures import Decoded
    from babyvlm.pretraining.sources import make_source

    with tempfile.TemporaryDirectory() as folder:
        corpus = read_corpus(options.corpus or make_corpus(Path(folder), 1.0 if quick else 8.0))
        kept, decoded = make_source(corpus), make_source(corpus)
        decoded._store = Decoded(corpus, list(decoded.frames.frame_id), decoded.px)
        online = make_source(Pairs(turned(FIRST_WORDS, **world(40.0))))
        many, few = (3, 2) if quick else (60, 12)
        return dict(kept=waited(kept, "clip", many, options), decoded=waited(decoded, "clip", many, options), kept_babyllava=waited(kept, "babyllava", many, options),
                    online=waited(online, "clip", few, options))  # fmt: skip


def waited(source, family, steps, options, batch=64):
    "Train a tiny learner for some steps; the share of the time that went into waiting for batches."
    import torch
    from babyvlm.core.device import device
    from babyvlm.models.sizes import new_model
    from babyvlm.models.tokenizer import train_tokenizer
    from babyvlm.pretraining.ahead import Ahead
    from babyvlm.pretraining.batches import Batches
    from babyvlm.pretraining.loop import Trainer, fit
    from contestants import now

    torch.set_num_threads(options.threads)
    tokenizer, seen = train_tokenizer(source.texts), []
    model = new_model(family, "tiny", tokenizer).to(device())
    trainer = Trainer(model, FAMILIES[family], lr=1e-3, steps=steps + 2)
    made = Batches(source, tokenizer, model.config, FAMILIES[family], batch, seed=0)
    with Ahead(made) as batches:
        fit(trainer, batches, [lambda trainer, row, note: seen.append((now(device()), note["wait_s"]))])
    total, waits = seen[-1][0] - seen[1][0], [wait for _, wait in seen[2:]]
    return dict(share=round(sum(waits) / total, 4), wait_ms=round(1000 * median(waits), 2), s_per_step=round(total / len(waits), 4), workers=batches.workers, batch=made.batch)


def milestone(options, quick):
    "Seconds of training until picture vocabulary reaches .8 on one corpus, and the learning curves."
    from courses import OURS, learn

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        corpus = options.corpus or make_corpus(folder, 1.0 if quick else 40.0)
        trials = options.trials or make_trials(folder / "trials", 60 if quick else 480)
        peers = [name for name in ("open_clip", "nanovlm") if given(name, options)]
        return learn(corpus, trials, folder, [*(f"ours {name}" for name in OURS), *peers], options, quick)


def make_trials(folder, count):
    from babyvlm.nursery.stimuli import write_first_words

    return write_first_words(folder, n=count, px=world(1)["px"], permanence=0, tasks=("picture_vocabulary",))


MEASURES = {name: (lambda o, m=m: m(o, False), lambda o, m=m: m(o, True)) for name, m in dict(
    contrastive=lambda o, quick: raced("contrastive", o, quick), generative=lambda o, quick: raced("generative", o, quick),
    share=share, memory=memory, road=road, milestone=milestone).items()}  # fmt: skip


def goals():
    "A goal for each figure that has one."
    from common import Goal

    found = {}
    for case, objective in OBJECTIVES.items():
        for shape in CASES[case]:
            for peer, asked in ASKED[objective].items():
                found[f"{case}_{shape}_{peer}"] = Goal(f"{case} step, {shape} shapes: times as fast as {peer} at its best", asked)
    for family in FAMILIES:
        found[f"share_{family}"] = Goal(f"share of the matrix-product peak of the same run, {family} small", 0.5)
        found |= {f"memory_{family}_{size}": Goal(f"GB at most, {family} {size}, a batch of 128", most, less=True) for size, most in (("tiny", 1.5), ("small", 4.0))}
    found |= {f"road_{name}": Goal(f"share of the training time spent waiting for batches, {what}", 0.05, less=True) for name, what in
              dict(kept="clip tiny, pictures kept at training size", decoded="clip tiny, pictures decoded each time", kept_babyllava="babyllava tiny, pictures kept").items()}  # fmt: skip
    return found | {f"milestone_{peer}": Goal(f"picture vocabulary at .8: times as soon as {peer}'s own loop", 2) for peer in ("open_clip", "nanovlm")}


def figures(result):
    "The figures that have a goal."
    found = {f"{case}_{shape}_{peer}": ratio for case in OBJECTIVES for shape, race in result.get(case, {}).items() for peer, ratio in race["times_ours"].items()}
    if "share" in result:
        found |= {f"share_{family}": figure["share"] for family in FAMILIES if (figure := result["share"].get(f"{family} small"))}
    found |= {f"memory_{name.replace(' ', '_')}": gb for name, gb in result.get("memory", {}).items()}
    found |= {f"road_{name}": one["share"] for name, one in result.get("road", {}).items() if name != "online"}
    return found | {f"milestone_{peer}": ratio for peer, ratio in result.get("milestone", {}).get("times_ours", {}).items()}


def make_environment(folder):
    "An environment with open_clip, made with pip where it is not there yet; its Python."
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (folder / "made").exists():
        import torch

        print(f"making {folder} …", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "-q"]
        subprocess.run([*pip, f"torch=={torch.__version__.split('+')[0]}", "numpy", "pillow", "ftfy", "regex", "tqdm", "huggingface_hub", "safetensors", "pyyaml"], check=True)
        subprocess.run([*pip, "--no-deps", "torchvision==0.28.0", "timm", "open_clip_torch==3.3.0"], check=True)
        (folder / "made").touch()
    return str(python)


def main():
    from common import described, parser, report

    asked = parser(__doc__, MEASURES)
    asked.add_argument("--open-clip", help="the Python of an environment with open_clip_torch, or `make`")
    asked.add_argument("--nanovlm", type=Path, help="a checkout of nanoVLM")
    asked.add_argument("--threads", type=int, default=2)
    asked.add_argument("--rounds", type=int, default=7)
    asked.add_argument("--corpus", type=Path, help="for `road` and `milestone`; one is made where none is given")
    asked.add_argument("--trials", type=Path, help="for `milestone`, with picture vocabulary in it")
    asked.add_argument("--minutes", type=float, nargs="+", default=[4, 12], help="lengths of the trainings of `milestone`")
    options = asked.parse_args()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(options.threads)  # before torch is imported
    import torch
    import transformers
    from babyvlm.core.device import device

    if options.open_clip == "make":
        options.open_clip = make_environment(Path.home() / ".cache" / "babyvlm" / "open_clip")
    machine = described(torch, transformers, threads=options.threads)
    if device() == "cuda":
        machine["processor"] = f"{torch.cuda.get_device_name()} beside {machine['processor']}"
    report("train", "Training's speed and memory", options, machine, MEASURES, figures, goals(), options)


if __name__ == "__main__":
    main()
