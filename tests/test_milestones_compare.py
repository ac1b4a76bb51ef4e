"""Comparing reports: intervals that hold what they promise, shared trials only, and a page nothing breaks out of."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from test_milestones_judge import HOSTILE, named, write_trials

from babyvlm.cli.compare import compare_reports
from babyvlm.core.basics import WrongInput
from babyvlm.core.learner import Coin, Oracle
from babyvlm.milestones.compare import bootstrap, compare, holm
from babyvlm.milestones.judge import judge


def test_the_bootstrap_covers_the_truth_when_scenes_repeat():
    inside, random = 0, np.random.default_rng(0)
    for k in range(120):
        scene = random.normal(0.1, 0.5, 60)
        difference = np.repeat(scene, 5) + random.normal(0, 0.2, 300)
        found = bootstrap(difference, np.repeat(np.arange(60), 5), draws=300, seed=k)
        inside += found["lo"] <= 0.1 <= found["hi"]
    assert 105 <= inside <= 120  # 95 of 100, within 99.9 % of chance


def test_no_difference_gives_no_small_p_more_often_than_promised():
    random = np.random.default_rng(1)
    small = [bootstrap(random.choice([-1.0, 0, 1], 200), np.arange(200), draws=300, seed=k)["p"] < 0.05 for k in range(150)]
    assert sum(small) <= 18  # 5 of 100, within 99.9 % of chance


def test_holm_never_gives_less_than_it_was_given():
    random = np.random.default_rng(2)
    for _ in range(50):
        p = random.random(random.integers(1, 12)).tolist()
        corrected = holm(p)
        assert all(c >= v for c, v in zip(corrected, p)) and max(corrected) <= 1
        assert sorted(corrected) == [c for _, c in sorted(zip(p, corrected))]


def test_reports_on_the_same_trials(tmp_path, capsys):
    trials = write_trials(tmp_path / "trials")
    judge([named(Oracle(trials), HOSTILE)], trials, tmp_path / "a")
    judge([Coin(0)], trials, tmp_path / "b")
    found = compare_reports([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert found["same_trials"] and len(found["learners"]) == 2
    row = next(r for r in found["rows"] if r["task"] == "counting")
    assert row["n"] == 24 == row["win"] + row["tie"] + row["loss"] and row["loss"] == 0 and row["delta"] > 0 and row["outcome"] == "too few"
    text = (tmp_path / "out" / "compare.html").read_text()
    tree = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))
    assert "<script" not in text and len(tree.findall(".//h1")) == 1 and all(t.find("caption") is not None for t in tree.iter("table"))
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["rows"] == found["rows"]
    said = capsys.readouterr().out
    assert "too few" in said and "compare.html" in said
    assert compare([tmp_path / "a", tmp_path / "b"]) == found  # the same seed says the same


def test_only_shared_trials_count_and_names_are_told_apart(tmp_path):
    trials, more = write_trials(tmp_path / "trials", n=6), write_trials(tmp_path / "more", n=9)
    judge([Coin(0)], trials, tmp_path / "a")
    judge([Coin(1)], more, tmp_path / "b")
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert not found["same_trials"] and found["learners"] == ["coin", "coin (b)"]
    assert {r["task"]: r["n"] for r in found["rows"]} == dict(picture_vocabulary=6, counting=6, permanence_vanish=1)


def test_what_cannot_be_compared_says_why(tmp_path):
    trials = write_trials(tmp_path / "trials", n=3)
    write_trials(tmp_path / "other", n=3, task="another")
    judge([Coin(0)], trials, tmp_path / "a")
    with pytest.raises(WrongInput, match="one learner only"):
        compare([tmp_path / "a"])
    with pytest.raises(WrongInput, match="report"):
        compare([tmp_path / "a", tmp_path / "nowhere"])
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "report.json").write_text((tmp_path / "a" / "report.json").read_text())
    (tmp_path / "b" / "trials.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(WrongInput, match="trials.parquet cannot be read"):
        compare([tmp_path / "a", tmp_path / "b"])
    strange = (tmp_path / "other" / "trials.jsonl").read_text()
    (tmp_path / "other" / "trials.jsonl").write_text(re.sub(r'"trial_id": "', '"trial_id": "z', strange).replace('"quad_id": "q"', '"quad_id": "zq"'))
    from babyvlm.core.trials import read_trials

    judge([Coin(0)], read_trials(tmp_path / "other"), tmp_path / "c")
    with pytest.raises(WrongInput, match="no trial in common"):
        compare([tmp_path / "a", tmp_path / "c"])
