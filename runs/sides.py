"""Left and right: why a learner that says on which side a toy is does not know a scene from its mirror image.

    python runs/sides.py OUT --have FOLDER [--seeds 0 1 2] [--recipes clip babyllava] [--scenes 320]

FOLDER holds seedN/RECIPE, runs of the quickstart. A follow-up of `runs/milestones.py`: there `clip` tells the corner of a single toy in words, and is at chance when two toys and their mirror image are compared.
Each scene is asked about four times, and so is the untrained twin: the side of one toy in words; its height; which of two mirror images of two toys a sentence is about; and which of two sentences a picture of two toys is about.
Sentences are those of the nursery ("the ball is on the top left"). Writes OUT/sides.json and OUT/sides.md; the runs are those of `runs/milestones.py`.
"""

import argparse
import datetime
from pathlib import Path

import numpy as np

from babyvlm.core.basics import WrongInput, make_folder, rng, write_json
from babyvlm.core.statistics import interval
from babyvlm.models.load import load_learner
from babyvlm.nursery.moments import moment
from babyvlm.nursery.speech import talk
from babyvlm.nursery.stimuli import Still
from babyvlm.nursery.things import COLOURS, FIRST_NOUNS, FIRST_SIZES
from babyvlm.nursery.toolbox_pictures import SideBySide
from babyvlm.nursery.words import CORNERS, SIDES
from babyvlm.nursery.world import FIRST_WORDS
from babyvlm.probing.composition import fit_of

SEED, PX = 77, 64
ASKED = dict(one_side="one toy: its side", one_height="one toy: its height", two_which_picture="two toys: which mirror image", two_which_words="two toys: left or right, in words")


def sentence(noun, corner):
    return f"the {noun} is on the {corner}"


def pictures_of(number):
    "A scene of each kind: one toy in a corner, and two side by side with their mirror image; the first of the two is on the left, but in the mirror."
    stream = rng(SEED, "sides", number)
    nouns, colours = [str(w) for w in stream.permutation(FIRST_NOUNS)[:2]], [str(c) for c in stream.permutation(list(COLOURS))[:2]]
    size, (high, left) = FIRST_SIZES[number % 2], CORNERS[number // 2 % 4].split()
    toys = tuple((noun, colour, size) for noun, colour in zip(nouns, colours))
    one = Still("corner", toys[:1], number, f"{high} {left}").draw(SEED, PX)[0]
    two = [SideBySide(toys, number, 0, high == "top", mirror).draw(SEED, PX)[0] for mirror in (False, True)]
    return dict(nouns=nouns, high=high, left=left, one=one, two=two)


def answers(learner, scene):
    "Credit for each question, 0 to 1; what has two halves is their mean."
    noun, high, left = scene["nouns"][0], scene["high"], scene["left"]
    row, side = CORNERS[int(np.argmax(fit_of(learner, [scene["one"]], [sentence(noun, corner) for corner in CORNERS])[0]))].split()
    fit = fit_of(learner, scene["two"], [sentence(noun, f"{high} {where}") for where in SIDES])  # pictures × sentences: the diagonal is right
    return dict(one_side=float(side == left), one_height=float(row == high),
                two_which_picture=((fit[0, 0] > fit[1, 0]) + (fit[1, 1] > fit[0, 1])) / 2, two_which_words=((fit[0, 0] > fit[0, 1]) + (fit[1, 1] > fit[1, 0])) / 2)  # fmt: skip


def share(credits):
    score, lo, hi = interval(credits, list(range(len(credits))))
    return [round(score, 4), round(lo, 4), round(hi, 4)]


def run_of(have, seed, recipe):
    "The folder of a run; `WrongInput` where none of those given has it."
    places = [Path(folder) / f"seed{seed}" / recipe for folder in have]
    if not (there := [place for place in places if place.is_dir()]):
        raise WrongInput(f"--have: there is no {' or '.join(map(str, places))}; train it first, with babyvlm quickstart --seed {seed}")
    return there[0]


def said(scenes=3000):
    "Of two lines about each of some scenes of the plain world: how many name a side truly, and how many of those with other toys in view."
    named = []
    for k in range(scenes):
        stream = rng(SEED, "said", k)
        scene = moment(stream, FIRST_WORDS)
        named += [len(scene.toys) > 1 for line in talk(scene, stream, lines=2, nouns=FIRST_WORDS.vocabulary) if line.related and set(SIDES) & set(line.words)]
    return dict(lines=2 * scenes, naming_a_side=len(named), with_other_toys=sum(named))


def sides(out, have, seeds, recipes, scenes):
    "Everything; returns what is written to OUT/sides.json."
    out, some, rows = make_folder(out), [pictures_of(k) for k in range(scenes)], []
    for recipe in recipes:
        for seed in seeds:
            learner = load_learner(run_of(have, seed, recipe))
            for who, asked in (("learner", learner), ("untrained", learner.fresh(seed))):
                credits = [answers(asked, scene) for scene in some]
                rows.append(dict(recipe=recipe, seed=seed, who=who) | {name: share([c[name] for c in credits]) for name in ASKED})
    result = dict(date=str(datetime.date.today()), scenes=scenes, said=said(), rows=rows)
    write_json(out / "sides.json", result)
    lines = [f"| learner | {' | '.join(ASKED.values())} |", "|" + " --- |" * (1 + len(ASKED))]
    lines += [f"| {r['recipe']} {r['seed']}{'' if r['who'] == 'learner' else ', untrained'} | {' | '.join(f'{r[name][0]:.2f} [{r[name][1]:.2f}, {r[name][2]:.2f}]' for name in ASKED)} |" for r in rows]
    (out / "sides.md").write_text("\n".join(lines) + "\n")
    return result


def asking(about, recipes=()):
    "The options of a script that asks runs of a folder."
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--have", nargs="+", type=Path, required=True, help="folders that hold seedN/RECIPE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    if recipes:
        parser.add_argument("--recipes", nargs="+", default=list(recipes))
    return parser


def main():
    parser = asking(__doc__, ("clip", "babyllava"))
    parser.add_argument("--scenes", type=int, default=320)
    options = parser.parse_args()
    sides(options.out, options.have, options.seeds, options.recipes, options.scenes)
    print((options.out / "sides.md").read_text())


if __name__ == "__main__":
    main()
