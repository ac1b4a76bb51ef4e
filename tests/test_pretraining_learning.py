"""The road of `runs/learning.py` in its short form: it walks, counts and judges; that it learns is for the long form to show."""

import importlib.util
import json
from pathlib import Path

import pytest

from babyvlm.core.basics import WrongInput

SCRIPT = Path(__file__).parent.parent / "runs" / "learning.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("learning", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_recipe_has_tasks(script):
    assert set(script.TRAINED_FOR) == set(script.recipes)


def test_the_short_road(script, tmp_path):
    result = script.learning(tmp_path, names=("clip", "babyllava-v2"), fast=True)
    assert {row["recipe"] for row in result["rows"]} == {"clip", "babyllava-v2"} and len(result["rows"]) == 8
    assert all({"untrained", "shortcut"} <= set(row["baselines"]) for row in result["rows"] if row["score"] is not None)
    assert json.loads((tmp_path / "learning.json").read_text())["fast"] is True
    costs = result["runs"]["0"]
    assert [s["name"] for s in costs["babyllava-v2"]["stages"]] == ["see", "listen", "align", "joint", "instruct"]
    assert costs["clip"]["cost"]["flops"] > 0 and all(script.line_of(row) for row in result["rows"])


def test_the_verdict_needs_all_four(script):
    row = dict(comparisons=[dict(vs=name, above=True) for name in script.BESIDE])
    assert script.verdict(row)["holds"]
    row["comparisons"][3]["above"] = False
    assert not script.verdict(row)["holds"] and not script.verdict(dict(comparisons=None))["holds"]


def test_wrong_words(script, tmp_path):
    with pytest.raises(WrongInput, match="parrot"):
        script.learning(tmp_path, names=("parrot",))
    with pytest.raises(WrongInput, match="RECIPE=NUMBER"):
        script.steps_asked(["clip:9"])
