"""Is the step ever starved? What a batch costs beside the step that learns from it, by where its pictures come from.

    python runs/data_road.py            about two minutes on two cores
    python runs/data_road.py --short    a form for tests

Needs nothing but the package and data_samples/nursery. Prints one table and writes nothing. Costs are CPU milliseconds,
the least of several batches, so that other programs on the machine do not count; waits are wall time."""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from babyvlm.core.device import device
from babyvlm.curation.pipeline import curate
from babyvlm.models.sizes import new_model
from babyvlm.models.tokenizer import train_tokenizer
from babyvlm.nursery.stream import Pairs
from babyvlm.nursery.world import World
from babyvlm.pretraining.ahead import Ahead, workers_for
from babyvlm.pretraining.batches import Batches
from babyvlm.pretraining.features import tower_features
from babyvlm.pretraining.loop import Trainer
from babyvlm.pretraining.pictures import Decoded
from babyvlm.pretraining.sources import make_source

SAMPLE = Path(__file__).parents[1] / "data_samples" / "nursery"


def least_cpu_ms(function, times):
    "The least CPU milliseconds of several calls, the first left out."
    costs = []
    for k in range(times + 1):
        start = time.process_time()
        function(k)
        costs.append(1000 * (time.process_time() - start))
    return min(costs[1:])


def waits(trainer, batches, workers, steps):
    "Median wall milliseconds of a step and of its wait, the first two left out."
    step_ms, wait_ms = [], []
    with Ahead(batches, workers) as ahead:
        for step in range(steps):
            start = time.perf_counter()
            batch, seen = ahead(step)
            trainer.take(batch)
            step_ms.append(1000 * (time.perf_counter() - start))
            wait_ms.append(1000 * seen["wait_s"])
    return statistics.median(step_ms[2:]), statistics.median(wait_ms[2:])


def sources(corpus, px):
    "Where pictures may come from: a cache, the corpus' own JPEGs, a world that is rendered."
    cached, decoded = (make_source(corpus, "image", px) for _ in range(2))
    decoded._store = Decoded(corpus, list(decoded.frames.frame_id), px)  # as where there is no room for a cache
    return dict(cached=cached, decoded=decoded, rendered=make_source(Pairs(World(minutes=300, children=2, px=px, seed=1)), "image", px))


def main(short=False):
    times, steps, folder = (2, 4, tempfile.mkdtemp()) if short else (12, 24, tempfile.mkdtemp())
    corpus = curate(SAMPLE, Path(folder) / "corpus", fps=5, px=128, quiet=True)
    tokenizer = train_tokenizer(make_source(corpus, "text", 64).texts)
    rows = []
    for family, objective in (dict(clip="contrastive") if short else dict(clip="contrastive", babyllava="causal_lm")).items():
        model = new_model(family, "tiny", tokenizer, seed=0).to(device())
        for name, source in sources(corpus, model.config.vision_config.image_px).items():
            few = 16 if short else 64
            batches = Batches(source, tokenizer, model.config, objective, few, 0)  # a world so long that no scene comes twice
            cost = least_cpu_ms(batches, times if name != "rendered" else 2)
            for workers in (0, max(1, workers_for(batches))):
                step, wait = waits(Trainer(model, [objective], 1e-3, 10**6), batches, workers, steps if workers or name != "rendered" else 5)
                rows.append((family, name, workers, cost, step, wait))
        source = make_source(corpus, "image", model.config.vision_config.image_px)
        batches = Batches(source, tokenizer, model.config, objective, few, 0, features=tower_features(source, model.vision))
        frozen = Trainer(model, [objective], 1e-3, 10**6, freeze=["vision"])
        rows.append((family, "features", 0, least_cpu_ms(batches, times), *waits(frozen, batches, 0, steps)))
    print(f"{device()}, {torch.get_num_threads()} threads, tiny, batches of {few}\n")
    print("| learner | pictures | workers | batch, CPU ms | step, ms | waits for it, ms |\n|---|---|---|---|---|---|")
    for family, name, workers, cost, step, wait in rows:
        print(f"| {family} | {name} | {workers} | {cost:.1f} | {step:.0f} | {wait:.1f} |")
    return rows


if __name__ == "__main__":
    main("--short" in sys.argv)
