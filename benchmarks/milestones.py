"""How fast and how lean the scorer is, alone and beside a peer's on the same learner and pictures.

    python benchmarks/milestones.py [OUT] [--quick] [--peer PATH] [--only many beside memory start] [--threads 2]

PATH is a checkout of EgoBabyVLM (`evaluation/multimodal/machine_devbench` in it); nothing of it is copied here or needed without it. Its own module is run as
it is, on a folder in its own layout, with the same learner (an untrained `tiny` dual encoder, fp32, without any memory of pictures) and the same picture files;
packages of the peer that only launch or configure jobs (hydra, omegaconf, stopes, submitit) are replaced by stand-ins of a few lines where they are not
installed. Answers are compared trial by trial. Needs a machine that does nothing else: two free cores, 2 GB of memory, about 6 minutes (--quick: half a minute,
for trying it out). Writes OUT/milestones_DATE.json and OUT/milestones_DATE.md; OUT is the folder of this file by default.
"""

import contextlib
import importlib
import importlib.util
import io
import json
import logging
import sys
import tempfile
import time
import types
from pathlib import Path

import numpy as np
from common import Goal, apart, described, parser, report

GOALS = {
    "many_s": Goal("seconds for 10,000 image–text trials of a tiny dual encoder, reading and encoding included", 120, less=True),
    "beside_once": Goal("times the peer's trials/s, no stimulus used twice", 2),
    "beside_twice": Goal("times the peer's trials/s, each stimulus used twice", 4),
    "memory_growth_mb": Goal("MB more that scoring takes for the most trials than for the fewest: peak of what Python and numpy allocate, less what is left at the"
                             " end (the marks), with a store of 2 MB for vectors (64 MB by default)", 8, less=True),
    "start_s": Goal("seconds from the start of a process to the first new question of an interrupted report", 2, less=True),
}  # fmt: skip


class Plain:
    "An untrained tiny dual encoder that remembers no picture; for us a learner, for the peer a feature extractor."

    name = "tiny dual encoder"

    def __init__(self):
        from babyvlm.models.learners import ClipLearner
        from babyvlm.models.sizes import new_model
        from babyvlm.models.tokenizer import train_tokenizer

        tokenizer = train_tokenizer([f"thing {k}" for k in range(500)], vocabulary=600)
        self.inner = ClipLearner(new_model("clip", "tiny", tokenizer, seed=0), tokenizer)

    def embed_images(self, images):
        return self.inner._look(list(images)).numpy()

    def embed_texts(self, texts):
        return self.inner.embed_texts(texts)

    def extract_features(self, batch):
        import torch

        return dict(image_features=self.inner._look([np.asarray(i) for i in batch["image"]]), text_features=torch.as_tensor(self.inner.embed_texts(batch["text"])))

    def compute_similarity(self, a, b, *, normalize=None):
        return a @ b.T  # both have unit norm


def picture(k, px=64):
    "A smooth picture like no other, uint8 (px, px, 3)."
    random, (y, x) = np.random.default_rng(k), np.mgrid[:px, :px] / px
    waves = [sum(np.sin(6.3 * (f * x + g * y) + h) for f, g, h in random.normal(size=(3, 3)) * 2) for _ in range(3)]
    return np.clip(128 + 40 * np.stack(waves, -1), 0, 255).astype(np.uint8)


def lexical(n, twice):
    "`[(right picture, wrong picture, caption)]`: every stimulus used once, or every one twice."
    if not twice:
        return [(2 * i, 2 * i + 1, f"thing {i}") for i in range(n)]
    return [(i, (i + 1) % n, f"thing {i // 2}") for i in range(n)]


def ours(folder, items, px):
    "A trials folder of these items."
    from babyvlm.core.trials import Choice, Part, Trial, TrialsWriter

    with TrialsWriter(folder, dict(name="benchmark"), 0) as writer:
        kept = {k: writer.image(picture(k, px)) for k in sorted({k for a, b, _ in items for k in (a, b)})}
        for i, (right, wrong, caption) in enumerate(items):
            writer.add(Trial(f"t{i:06}", "benchmark", "nouns", "choose_image", [Part("text", caption)],
                             [Choice("right", [Part("image", path=kept[right])]), Choice("wrong", [Part("image", path=kept[wrong])])], ["right"], 0.5))  # fmt: skip
    return kept


def theirs(root, folder, items, kept):
    "The same items and the same files in the peer's layout."
    nouns = root / "Lexical" / "Nouns"
    nouns.mkdir(parents=True)
    item = lambda a, b, caption: dict(image_positive=str(folder / kept[a]), image_negative=str(folder / kept[b]), caption_positive=caption, frequency_bin="[4,8)", category="x")
    (nouns / "manifest_nouns_realistic.json").write_text(json.dumps(dict(items=[item(*i) for i in items])))


def stand_ins():
    "Import names that the peer needs only to configure and launch jobs."
    def module(name, **content):
        try:
            if name in sys.modules or importlib.util.find_spec(name):
                return
        except ModuleNotFoundError:
            pass
        made = types.ModuleType(name)
        vars(made).update(content)
        sys.modules[name] = made

    module("omegaconf", MISSING="???", OmegaConf=type("OmegaConf", (), dict(is_config=staticmethod(lambda x: False), create=staticmethod(lambda x: x),
           to_yaml=staticmethod(json.dumps))), DictConfig=dict)
    module("hydra", utils=None)
    module("hydra.utils", instantiate=None)
    module("submitit")
    module("stopes")
    base = type("StopesModule", (), {"__init__": lambda self, config, kind: setattr(self, "config", config)})
    module("stopes.core", Requirements=dict, StopesModule=base)


def peer_answers(path, root, learner, out):
    "`(right or not per trial, seconds)` of EgoBabyVLM's own module on its own layout."
    stand_ins()
    if str(path) not in sys.path:
        sys.path.insert(0, str(path))
    base = importlib.import_module("evaluation.multimodal.machine_devbench.base")

    class Module(base.MachineDevBenchEvalModule):
        def _create_model(self, device="cpu"):
            return learner

    config = types.SimpleNamespace(output_dir=str(out), name="beside", style="realistic", model=types.SimpleNamespace(name="tiny"), tasks=None, batch_size=32,
                                   num_workers=0, seed=42, data_root=str(root))  # fmt: skip
    module = Module(config)
    logging.disable(logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()):
        begun = time.perf_counter()
        records = module.run()["raw_records"]
    return [r["prediction"] == 0 for r in records], time.perf_counter() - begun


def our_answers(folder, learner):
    "`(right or not per trial, seconds)` of the built-in scorer, reading the folder included."
    from babyvlm.core.trials import read_trials
    from babyvlm.milestones.asking import score_trials

    begun = time.perf_counter()
    trials = read_trials(folder)
    marks = score_trials(learner, trials, trials)
    seconds = time.perf_counter() - begun
    assert not any(m.error for m in marks), next(m.error for m in marks if m.error)
    return [m.credit == 1 for m in marks], seconds


def beside(peer, n=600, repeats=3, px=64):
    "Trials/s of both, best of some repeats in turn, where each stimulus is used once and twice; and whether they agree."
    if peer is None:
        return dict(skipped="no --peer PATH was given")
    learner, found = Plain(), {}
    for name, twice in (("once", False), ("twice", True)):
        items = lexical(n, twice)
        with tempfile.TemporaryDirectory() as place:
            place = Path(place)
            theirs(place / "tree", place / "trials", items, ours(place / "trials", items, px))
            our_answers(place / "trials", learner)  # warm up
            rounds = [(our_answers(place / "trials", learner), peer_answers(peer, place / "tree", learner, place / "out")) for _ in range(repeats)]
        mine, other = (min(r[k][1] for r in rounds) for k in (0, 1))
        same = sum(a == b for a, b in zip(rounds[0][0][0], rounds[0][1][0], strict=True))
        found[name] = dict(trials=n, our_trials_per_s=round(n / mine, 1), peer_trials_per_s=round(n / other, 1), times=round(other / mine, 2), same_answers=same)
    return found


def many(n=10_000, px=64):
    "Seconds for so many trials of two new pictures and a new text each."
    learner = Plain()
    with tempfile.TemporaryDirectory() as place:
        items = lexical(n, False)
        ours(Path(place) / "trials", items, px)
        our_answers_of = our_answers(Path(place) / "trials", learner)
    return dict(trials=n, seconds=round(our_answers_of[1], 1), trials_per_s=round(n / our_answers_of[1], 1), share_right=round(float(np.mean(our_answers_of[0])), 3))


LEAN = """
import json, tracemalloc
import numpy as np
from babyvlm.core.trials import Choice, Part, Trial
from babyvlm.milestones import store
from babyvlm.milestones.asking import score_trials
store.KEPT_BYTES = 2_000_000  # the vectors of a thousand trials fill it
class Endless:
    "Pictures made as they are asked for, so that nothing but the scorer can fill the memory."
    def image(self, path): return np.full((64, 64, 3), int(path) % 251, np.uint8)
class Means:
    def embed_images(self, images): return np.stack([im[:2, :64].mean(-1).reshape(-1) + 1. for im in images])
    def embed_texts(self, texts): return np.stack([np.arange(128) % (int(t.split()[1]) + 2.) for t in texts])
def trial(i):
    return Trial(f"t{{i}}", "s", "t", "choose_image", [Part("text", f"thing {{i}}")], [Choice(c, [Part("image", path=str(2 * i + k))]) for k, c in enumerate("ab")], ["a"], .5)
score_trials(Means(), [trial(i) for i in range(100)], Endless())
trials = [trial(i) for i in range({n})]
tracemalloc.start()
marks = score_trials(Means(), trials, Endless())
left, peak = tracemalloc.get_traced_memory()
print(json.dumps(dict(trials=len(trials), marks_mb=round(left / 1e6, 1), scoring_mb=round((peak - left) / 1e6, 1))))
"""


def memory(counts=(1_000, 4_000, 16_000)):
    "Peak of what Python and numpy allocate while scoring, less what is left at the end (the marks), with a store of 2 MB for vectors (64 MB by default)."
    runs = [apart(LEAN.format(n=n)) for n in counts]
    return dict(runs=runs, growth_mb=round(runs[-1]["scoring_mb"] - runs[0]["scoring_mb"], 1))


BEGIN = """
import json, os, sys, time
import numpy as np
from pathlib import Path
from babyvlm.core.learner import Coin
from babyvlm.core.trials import Choice, Part, Trial, TrialsWriter
from babyvlm.milestones.judge import judge
from babyvlm.core.trials import read_trials
if {first}:
    random = np.random.default_rng(0)
    with TrialsWriter({trials!r}, dict(name="benchmark"), 0) as writer:
        paths = [writer.image(random.integers(0, 255, (16, 16, 3), dtype=np.uint8)) for _ in range(200)]
        for task in {tasks}:
            for i in range({n}):
                writer.add(Trial(f"{{task}}{{i}}", "benchmark", task, "choose_image", [Part("text", f"which is {{i % 50}}?")],
                                 [Choice(str(k), [Part("image", path=paths[(i * 7 + k) % 200])]) for k in range(4)], [str(i % 4)], .25, dict(scene=f"s{{i}}")))
trials = read_trials({trials!r})
import babyvlm.milestones.judge as module
ask = module.ask
def asked(learner, some, *rest, **more):
    if some[0].task == {tasks}[-1]:
        print(json.dumps(dict(start_s=round(time.time() - {begun}, 3), cpu_s=round(time.process_time(), 3), kept=len(list((Path({out!r})/"kept").iterdir())))), flush=True)
        os._exit(0)
    return ask(learner, some, *rest, **more)
module.ask = asked
judge([Coin(0)], trials, {out!r})
"""


def start(n=400, tasks=8, repeats=3):
    "Seconds from the start of a process to the first new question, when all tasks but the last are finished: importing, reading, and finding what is kept."
    with tempfile.TemporaryDirectory() as place:
        names = [f"task_{k}" for k in range(tasks)]
        code = lambda first: BEGIN.format(first=first, trials=str(Path(place) / "trials"), out=str(Path(place) / "out"), tasks=names, n=n, begun=time.time())
        apart(code(True))
        runs = [apart(code(False)) for _ in range(repeats)]
    return dict(start_s=min(r["start_s"] for r in runs), all_s=[r["start_s"] for r in runs], cpu_s=min(r["cpu_s"] for r in runs), kept_files=runs[0]["kept"], trials=n * tasks)


MEASURES = {  # name -> (in full, to try it out)
    "many": (lambda peer: many(), lambda peer: many(200)), "beside": (beside, lambda peer: beside(peer, n=60, repeats=1)),
    "memory": (lambda peer: memory(), lambda peer: memory((600, 2_000))), "start": (lambda peer: start(), lambda peer: start(40, 3, 1)),
}  # fmt: skip


def figures(result):
    "The figures that have a goal."
    found = {}
    if "many" in result:
        found["many_s"] = round(result["many"]["seconds"] * 10_000 / result["many"]["trials"], 1)
    if "beside" in result and "once" in result["beside"]:
        found |= {f"beside_{k}": result["beside"][k]["times"] for k in ("once", "twice")}
    if "memory" in result:
        found["memory_growth_mb"] = result["memory"]["growth_mb"]
    if "start" in result:
        found["start_s"] = result["start"]["start_s"]
    return found


def main():
    import torch

    every = parser(__doc__, MEASURES)
    every.add_argument("--peer", type=Path, help="a checkout of EgoBabyVLM")
    every.add_argument("--threads", type=int, default=2, help="threads of torch")
    options = every.parse_args()
    torch.set_num_threads(options.threads)
    report("milestones", "The scorer's speed", options, described(torch, threads=options.threads), MEASURES, figures, GOALS, options.peer)


if __name__ == "__main__":
    main()
