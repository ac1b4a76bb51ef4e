"""What inside a learner makes it answer? Ablation by head and layer, patching from clean to corrupted trials, and units for nouns; all beside the untrained twin.

    python runs/causes.py OUT RUN [RUN …] --trials DIR [--task picture_vocabulary] [--most 480] [--pairs 120] [--seed 0]

RUN is a run folder and DIR a trials folder (a quickstart leaves both; its trials lie in report/trials). Writes OUT/causes.json and figures, and prints one line a table.
"""

import argparse
import datetime
import json
import time
from pathlib import Path

import numpy as np

from babyvlm.core.basics import fast
from babyvlm.core.trials import read_trials
from babyvlm.milestones.asking import score_trials
from babyvlm.milestones.tally import scene_of
from babyvlm.models.load import load_learner
from babyvlm.probing.ablation import ablate
from babyvlm.probing.neurons import beside_controls, unit_site
from babyvlm.probing.patching import pairs_of, patch, show_effects
from babyvlm.probing.sites import Site, head_sites, layer_sites


def plain(table):
    "A table as plain numbers."
    return json.loads(table.round(4).to_json(orient="records"))


def towers(learner):
    "Parts of module names: the tower that looks, and the one that speaks where it has layers."
    return [name for name in ("vision", "language") if layer_sites(learner, name)]


def losses(learner, trials, media):
    "The change in score on milestone trials without each head, each layer, and all heads of a layer together."
    def ask(one): return [mark.credit for mark in score_trials(one, trials, media)]
    groups, found = [scene_of(trial) for trial in trials], {}
    for name in towers(learner):
        heads = head_sites(learner, name)
        layers = dict.fromkeys(head.module for head in heads)
        found[f"{name} heads"] = ablate(learner, heads, ask, groups)
        found[f"{name} heads of a layer"] = ablate(learner, [[head for head in heads if head.module == layer] for layer in layers], ask, groups)
        found[f"{name} layers"] = ablate(learner, layer_sites(learner, name), ask, groups, "skip")
    return found


def travels(learner, trials, media, most):
    "Where the difference between two pictures goes: what attention and perceptron of each vision layer add, each head, and in a language model each layer at the picture's places and at the words."
    pairs, groups = pairs_of(trials, media)
    pairs, groups, found = pairs[:most], groups[:most], {}
    added = [Site(f"{layer.module}.{part}") for layer in layer_sites(learner, "vision") for part in ("attention", "mlp")]
    found["vision"] = patch(learner, added, pairs, groups=groups).table()
    found["vision heads"] = patch(learner, head_sites(learner, "vision"), pairs, groups=groups).table()
    if layers := layer_sites(learner, "language"):
        places = learner.model.config.places
        spans = dict(picture=(0, places), words=(places, None))
        sites = [Site(layer.module, places=span, label=f"layer {k}, {what}") for what, span in spans.items() for k, layer in enumerate(layers)]
        found["language"] = patch(learner, sites, pairs, groups=groups).table()
    return found


def units(learner, every, trials, media, seed):
    "Units of the last vision layer for each noun, chosen on half of the pictures; what is lost without the found ones is asked of some trials."
    nouns = {next(c.parts[0].path for c in trial.choices if c.id in trial.answer): trial.group["noun"] for trial in every}
    pictures, names = [media.image(path) for path in nouns], np.array(list(nouns.values()))
    concepts, site = {str(noun): names == noun for noun in sorted(set(names))}, layer_sites(learner, "vision")[-1]
    def look(one): return [one._look([picture]) for picture in pictures]
    table = beside_controls(learner, site, look, concepts, list(nouns), seed=seed)
    mine = table[(table.of == "learner") & table.found]
    if mine.empty: return dict(neurons=table)
    def ask(one): return [mark.credit for mark in score_trials(one, trials, media)]
    parts = [unit_site(site, unit) for unit in dict.fromkeys(mine.unit)]
    return dict(neurons=table, without_them=ablate(learner, parts, ask, [scene_of(t) for t in trials]))


def study(learner, every, trials, media, pairs, seed):
    "All tables of one learner and, where it applies, of its twin."
    found = {}
    for who, one in (("learner", learner), ("untrained", learner.fresh(seed))):
        began = time.time()
        found[who] = dict(ablation=losses(one, trials, media), patching=travels(one, trials, media, pairs))
        found[who]["seconds"] = round(time.time() - began, 1)
    return found | dict(units=units(learner, every, trials, media, seed))


def lines(key, found):
    "One line a table, for people."
    for who in ("learner", "untrained"):
        for name, table in found[who]["ablation"].items():
            least = table.loc[table.change.idxmin()]
            yield f"{key}, {who}, without {name}: {table.found.sum()} of {len(table)} matter; intact {least.intact:.3f}, most lost without {least.site}: {least.change:+.3f} [{least.lo:+.3f}, {least.hi:+.3f}]"
        for name, table in found[who]["patching"].items():
            if table.restored.isna().all(): yield f"{key}, {who}, patched in {name}: the two trials score alike, so there is nothing to bring back"
            else: yield f"{key}, {who}, patched in {name}: {table.found.sum()} of {len(table)} matter; " + ", ".join(f"{r.site} {r.restored:.2f} [{r.restored_lo:.2f}, {r.restored_hi:.2f}]" for r in table.nlargest(6, "restored").itertuples())
    for of, table in found["units"]["neurons"].groupby("of", sort=False):
        yield f"{key}, units, {of}: {table.found.sum()} of {len(table)} nouns have one; selectivity {table.chosen.mean():.3f} where chosen, {table.selectivity.mean():.3f} where tested"
    if "without_them" in found["units"]:
        table = found["units"]["without_them"]
        yield f"{key}, without one such unit: change {table.change.mean():+.4f} on average, {table.found.sum()} of {len(table)} matter"


def as_plain(found): return {k: as_plain(v) if isinstance(v, dict) else plain(v) if hasattr(v, "to_json") else v for k, v in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--trials", type=Path, required=True)
    parser.add_argument("--task", default="picture_vocabulary")
    parser.add_argument("--most", type=int, default=32 if fast() else 480)
    parser.add_argument("--pairs", type=int, default=8 if fast() else 120)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    media = read_trials(options.trials)
    every = [trial for trial in media if trial.task == options.task]
    trials = every[:options.most]
    result = dict(date=str(datetime.date.today()), task=options.task, trials=len(trials), pairs=options.pairs, seed=options.seed, learners={})
    for run in options.runs:
        learner = load_learner(run)
        key = f"{learner.name}, seed {learner.seed}, step {learner.step}"
        found = study(learner, every, trials, media, options.pairs, options.seed)
        for name, table in found["learner"]["patching"].items(): show_effects(table, "restored").savefig(options.out / f"{learner.name}_{name.replace(' ', '_')}.png", dpi=80)
        for name, table in found["learner"]["ablation"].items(): show_effects(table, "change").savefig(options.out / f"{learner.name}_without_{name.replace(' ', '_')}.png", dpi=80)
        result["learners"][key] = as_plain(found)
        (options.out / "causes.json").write_text(json.dumps(result))
        print(*lines(key, found), sep="\n", flush=True)


if __name__ == "__main__":
    main()
