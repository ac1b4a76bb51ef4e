"""Does it say what it sees? Captions of one toy, and whether they name it.

    python runs/captions.py OUT --have FOLDER [--seeds 0 1 2] [--recipes clip cvcl babyllava babyllava-v1 babyllava-v2] [--n 480]

FOLDER holds seedN/RECIPE, runs of `runs/milestones.py`. Pictures are those of the task `captioning` (`nursery.two_words`): one toy in a scene that no recording shows, every noun, colour and size as often
as every other. A caption is the likeliest next token, again and again, after the picture alone. It is right where it names the toy and no other one. Beside each learner: the same learner told a grey picture
(one caption for all) and the picture of another trial, and its untrained twin. And to tell speaking from seeing, all learners choose: which of the nouns fits best ("a duck")? A learner that cannot speak only
chooses. Writes OUT/captions.json and OUT/captions.md.
"""

import datetime
from collections import Counter

import numpy as np
from sides import asking, run_of, share

from babyvlm.cli.quickstart import make_suite
from babyvlm.core.basics import make_folder, write_json
from babyvlm.core.statistics import paired
from babyvlm.core.trials import read_trials
from babyvlm.milestones.baselines import partners
from babyvlm.models.load import load_learner
from babyvlm.nursery.things import COLOURS, FIRST_NOUNS, FIRST_SIZES
from babyvlm.probing.composition import fit_of


def shown(folder, n):
    "Pictures of one toy each, and what is known of each."
    trials = read_trials(make_suite("toolbox", folder, 0, n, px=64, only=["captioning"]))
    return [trials.image(t.context[0].path) for t in trials], [t.facts for t in trials]


def named(captions, facts):
    "Credit for each caption: 1 where it names the toy, and no other."
    return [float({*caption.split()} & {*FIRST_NOUNS} == {fact["noun"]}) for caption, fact in zip(captions, facts)]


def coloured(captions, facts):
    "Of the captions that name a colour, the share that name the right one; and how many do."
    told = [(colours, fact["colour"]) for caption, fact in zip(captions, facts) if (colours := {*caption.split()} & {*COLOURS})]
    return dict(n=len(told), right=round(float(np.mean([colours == {colour} for colours, colour in told])), 4) if told else None)


def chosen(learner, images):
    "The noun that fits each picture best; and the same when each noun's mean over the pictures is taken off, which evens out words that fit everything."
    fit = fit_of(learner, images, [f"a {noun}" for noun in FIRST_NOUNS])  # pictures × nouns
    return [[FIRST_NOUNS[k] for k in some.argmax(1)] for some in (fit, fit - fit.mean(0))]


def told(learner, seed, images, facts):
    "What a learner chooses, and what it says, scored beside its controls."
    choice, evened = (share(named(nouns, facts)) for nouns in chosen(learner, images))
    if not hasattr(learner, "generate"):
        return dict(choice=choice, evened=evened, scores={})
    said = dict(learner=learner.generate([[image] for image in images]), untrained=learner.fresh(seed).generate([[image] for image in images]))
    said["other picture"] = [said["learner"][k] for k in partners(len(images), seed)]
    said["grey picture"] = learner.generate([[np.full_like(images[0], 127)]]) * len(images)
    credit = {who: named(captions, facts) for who, captions in said.items()}
    of_size = lambda size: round(float(np.mean([c for c, fact in zip(credit["learner"], facts) if fact["size"] == size])), 4)
    return dict(choice=choice, evened=evened, scores={who: share(c) for who, c in credit.items()}, minus={who: paired(credit["learner"], c, range(len(images))) for who, c in credit.items() if who != "learner"},
                by_size={size: of_size(size) for size in FIRST_SIZES}, colours=coloured(said["learner"], facts), silent=sum(not {*c.split()} & {*FIRST_NOUNS} for c in said["learner"]), commonest=Counter(said["learner"]).most_common(5))  # fmt: skip


def captions(out, have, seeds, recipes, n):
    "Everything; returns what is written to OUT/captions.json."
    out, rows = make_folder(out), []
    images, facts = shown(out / "trials", n)
    for recipe in recipes:
        for seed in seeds:
            rows.append(dict(recipe=recipe, seed=seed) | told(load_learner(run_of(have, seed, recipe)), seed, images, facts))
    result = dict(date=str(datetime.date.today()), n=n, rows=rows)
    write_json(out / "captions.json", result)
    (out / "captions.md").write_text(table(rows) + "\n")
    return result


def spread(score):
    return "{:.2f} [{:.2f}, {:.2f}]".format(*score)


def table(rows):
    whos = ("learner", "untrained", "other picture", "grey picture")
    lines = [f"| learner | chooses among {len(FIRST_NOUNS)} | the same, evened | says | {' | '.join(f'says, {who}' for who in whos[1:])} | {' | '.join(f'says, a {size} toy' for size in FIRST_SIZES)} | names no toy | right colour, where it names one |"]
    lines.append("|" + " --- |" * (5 + len(whos) + len(FIRST_SIZES)))
    for r in rows:
        cells = [f"{r['recipe']} {r['seed']}", spread(r["choice"]), spread(r["evened"])]
        if r["scores"]:
            cells += [*(spread(r["scores"][who]) for who in whos), *(f"{r['by_size'][size]:.2f}" for size in FIRST_SIZES), str(r["silent"]), f"{r['colours']['right']:.2f} of {r['colours']['n']}" if r["colours"]["n"] else "–"]
        lines.append("| " + " | ".join(cells + ["–"] * (5 + len(whos) + len(FIRST_SIZES) - len(cells))) + " |")
    return "\n".join(lines)


def main():
    parser = asking(__doc__, ("clip", "cvcl", "babyllava", "babyllava-v1", "babyllava-v2"))
    parser.add_argument("--n", type=int, default=480)
    options = parser.parse_args()
    captions(options.out, options.have, options.seeds, options.recipes, options.n)
    print((options.out / "captions.md").read_text())


if __name__ == "__main__":
    main()
