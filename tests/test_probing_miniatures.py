"""Bags of words and the battle of the tiny backbones, in their FAST forms."""
import importlib.util
from pathlib import Path

import numpy as np

TOP = Path(__file__).parent.parent


def load(name):
    spec = importlib.util.spec_from_file_location(name, TOP/"runs"/f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_miniature_in_its_fast_form(tmp_path, monkeypatch):
    run = load("bags_of_words")
    seen, held = run.bags(0)
    assert len(seen) + len(held) == 90 and not set(seen) & set(held)
    for few, number in (("NOUNS", 3), ("CLEAR", 4)): monkeypatch.setattr(run, few, getattr(run, few)[:number])   # less to draw
    plan = run.FAST | dict(steps=2, squares=2)
    result = run.bags_of_words(tmp_path, [0], plan, workers=1)
    arms = {cell["arm"] for cell in result["cells"]}
    assert len(arms) == 8 and all(cost["confusable"] == 0 for arm, cost in result["costs"]["0"].items() if arm.startswith("apart"))
    assert {cell["score"] for cell in result["cells"] if cell["arm"] == "a perfect bag of words" and cell["task"] == "relation_swap"} == {.5}
    assert "relation_swap" in run.page(result)


def test_captions_of_the_miniature_are_true_and_negatives_false():
    run = load("bags_of_words")
    stream = np.random.default_rng(0)
    toys = (("ball", "red"), ("duck", "blue"))
    for _ in range(60):
        said = run.caption(toys, stream)
        assert run.true_of(said, toys)
        for other in run.NEGATIVES["+ both"](said[1]):
            assert run.turned_truth(other, [toys]) == (said[0] == "both" and other in run.turned(said[1], run.CLASSES))


def test_the_battle_in_its_fast_form(tmp_path, monkeypatch):
    run = load("battle")
    monkeypatch.setattr(run, "BACKBONES", {kind: run.BACKBONES[kind] for kind in ("vit", "resnext")})
    result = run.battle(tmp_path, [0], dict(learn=16, ask=48, steps=2, batch=16, rate=1e-3), workers=1)
    assert len(result["ranks"]) == 8 and len(list((tmp_path/"cache").glob("*.npy"))) == 8
    assert set(result["mismatch"]) == {"size", "normalisation"} and isinstance(result["refuted"], list)
    assert "vit, untrained" in run.page(result) and result["seed_ties"] == dict(share=None, duels=0)
    before = len(list((tmp_path/"cache").glob("*.npy")))
    assert run.again(tmp_path, workers=1)["ranks"] == result["ranks"] and len(list((tmp_path/"cache").glob("*.npy"))) == before
