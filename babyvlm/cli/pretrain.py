"""`babyvlm pretrain`: a corpus and a recipe, by name or in a file, to a run. Explained in nbs/pretraining/28_recipes.ipynb."""

import json
from pathlib import Path

from babyvlm.core.basics import WrongInput


def train(corpus, out, recipe, tensorboard=False, **options):
    "Train as asked; a recipe that ends in .json is read from that file, and curves go to OUT/tensorboard where they are wanted."
    from babyvlm.pretraining.callbacks import TensorBoard
    from babyvlm.pretraining.recipes import pretrain

    watchers = [lambda run, step: TensorBoard(run / "tensorboard", step)] if tensorboard else []
    return pretrain(corpus, out, read_recipe(recipe) if recipe.endswith(".json") else recipe, watchers=watchers, **options)


def read_recipe(path) -> dict:
    "A recipe in a file: a dict as in `babyvlm.pretraining.stages.recipes`."
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise WrongInput(f"--recipe: {path} cannot be read ({error.strerror}); give a recipe's name or a JSON file") from None
    except ValueError as error:
        raise WrongInput(f"--recipe: {path} is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise WrongInput(f"--recipe: {path} holds no object; give one with model and stages")
    return dict(name=Path(path).stem) | found
