"""The scripts that try all suites, in their short form: they count right, find what is planted, go on where they stopped, and say it."""

import importlib.util
import json
from pathlib import Path

import pytest

from babyvlm.core.basics import WrongInput, rng
from babyvlm.core.trials import read_trials
from babyvlm.milestones.suites import milestone
from babyvlm.milestones.suites import suites as rows
from babyvlm.nursery.asking import ask_text, crossed, write_suite
from babyvlm.nursery.stimuli import Still, permanence_vanish
from babyvlm.nursery.suites import TASKS_OF, suites
from babyvlm.nursery.words import counted
from pretraining_corpus import coloured_corpus

RUNS = Path(__file__).parent.parent / "runs"


def script(name):
    spec = importlib.util.spec_from_file_location(f"runs_{name}", RUNS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def one_or_two(studio, n):
    "A toy or two?"
    rows = crossed(n, rng(studio.seed, "stimuli", "one or two"), right=(0, 1), noun=studio.nouns)
    orders = [Still("same", ((row["noun"], None, "little"),) * (row["right"] + 1), k) for k, row in enumerate(rows)]
    studio.shoot(orders)
    for k, (row, order) in enumerate(zip(rows, orders)):
        ask_text(studio, "one_or_two", k, [order], [counted(1, row["noun"]), counted(2, row["noun"])], row["right"], group=dict(noun=row["noun"]), facts=dict(count=row["right"] + 1), foil_factor="number", min_px=32)


def leaning(studio, n):
    "The same, but a duck always comes alone."
    for k in range(n):
        noun = ("duck", "cup")[k % 2]
        right = 0 if noun == "duck" else int(rng(k, "leaning").integers(2))
        ask_text(studio, "leaning", k, [Still("same", ((noun, None, "little"),) * (right + 1), k)], [counted(1, noun), counted(2, noun)], right, group=dict(noun=noun), facts=dict(count=right + 1), min_px=32)


def vanishing(studio, n):
    permanence_vanish(studio, max(1, n // 4))


@pytest.fixture
def tried(monkeypatch):
    module = script("suites")
    monkeypatch.setattr(module, "TWINS", dict(clip=1, babyllava=1, predictor=1))
    monkeypatch.setattr(module, "TASKS_OF", dict(sums=dict(one_or_two=one_or_two, leaning=leaning), more=dict(one_or_two=one_or_two)))
    return module


def test_the_short_road(tried, tmp_path):
    result = tried.suites(tmp_path, tasks=["one_or_two"], fast=True)
    (row,) = result["rows"]  # a task of two suites is tried once
    assert (row["suite"], row["form"], row["n"], row["chance"]) == ("sums", "choose_text", 16, 0.5)
    assert row["controls"]["oracle"]["score"] == 1 and row["controls"]["constant"]["score"] == 0.5 and {"coin", "untrained"} <= set(row["controls"])
    assert row["speed"]["same"] and row["speed"]["pictures"] == 16 and row["speed"]["pictures_per_s"] > 0 and row["twin"] == "clip"
    assert row["balance"]["is_the_answer"] == ["count"] and row["balance"]["answers_differ_by"] == 0
    assert not (tmp_path / "trials" / "sums--one_or_two").exists()
    assert json.loads((tmp_path / "suites.json").read_text())["rows"][0]["task"] == "one_or_two" and "| sums | one_or_two |" in (tmp_path / "suites.md").read_text()
    page = (tmp_path / "pages" / "sums.html").read_text()
    assert "What was tried on this task" in page and "Take" in page
    before = (tmp_path / "done" / "sums--one_or_two.json").stat().st_mtime_ns
    tried.suites(tmp_path, tasks=["one_or_two"], fast=True)
    assert (tmp_path / "done" / "sums--one_or_two.json").stat().st_mtime_ns == before


def test_a_leaning_task_is_caught(tried, tmp_path):
    trials, pictures, _ = tried.made(tmp_path / "t", "sums", "leaning", 64, 32, 0)
    found = tried.balance(trials)
    assert [t["fact"] for t in found["tied_to"]] == ["noun"] and found["answers_differ_by"] > 0.3 and pictures == 64
    even, _, _ = tried.made(tmp_path / "e", "sums", "one_or_two", 160, 32, 0)
    assert tried.balance(even)["tied_to"] == []


def test_what_is_far_from_chance_is_named(tried):
    fine = dict(oracle=dict(score=1.0), constant=dict(score=0.5), coin=dict(score=0.5, lo=0.45, hi=0.55), text_blind=dict(score=0.55), untrained=dict(score=0.5))
    assert tried.far(fine, 0.5, "choose_text") == [] and tried.far(fine | dict(untrained=dict(score=0.3)), 0.5, "choose_text") == []
    bad = fine | dict(oracle=dict(score=0.99), image_blind=dict(score=0.61), constant=dict(score=0.6))
    assert tried.far(bad, 0.5, "choose_text") == ["image_blind", "constant", "oracle"]
    assert tried.far(fine | dict(untrained=dict(score=0.3), copying=dict(score=0.9)), 0.5, "surprise") == ["untrained", "copying"]
    square = dict(oracle=dict(score=1.0), constant=dict(score=0.1667), image_blind=dict(score=0.54, chance=0.5))
    assert tried.far(square, 1 / 6, "two_by_two") == []
    with pytest.raises(WrongInput, match="parrots"): tried.chosen(["parrots"], None)
    with pytest.raises(WrongInput, match="parroting"): tried.chosen(None, ["parroting"])


def test_films_are_counted_frame_by_frame(tried, tmp_path, monkeypatch):
    monkeypatch.setattr(tried, "TASKS_OF", dict(films=dict(vanishing=vanishing)))
    trials, pictures, _ = tried.made(tmp_path / "f", "films", "vanishing", 4, 32, 0)
    assert len(trials) == 4 and pictures == sum(len(trials.clip(t.context[0].path).frames) for t in trials)
    controls = tried.plain_controls(trials)
    assert controls["oracle"]["score"] == 1 and controls["constant"]["score"] == 0.5


def line(key, seed, score=0.9, above=True):
    compared = [dict(vs=vs, delta=0.1, lo=0.05 if above else -0.05, hi=0.2, p=0.0, above=above or vs == "chance") for vs in ("chance", "untrained", "shortcut")]
    compared[0] |= dict(lo=0.05)
    base = dict(untrained=dict(score=0.26), text_blind=None, image_blind=None, shuffled=None, shortcut=dict(score=0.4, cue="length", ceiling=None))
    return dict(suite="s", task=key, learner=f"clip {seed}", status="ok", reason="", score=score, lo=score - 0.03, hi=score + 0.03, chance=0.25, n=480, comparisons=compared, baselines=base, ceiling=None, heard_share=1.0, grade="",
                by=dict(delay=dict(short=dict(score=score), long=dict(score=0.5))))  # fmt: skip


def test_a_milestone_is_met_in_every_seed_or_not(tmp_path):
    milestones = script("milestones")
    every = milestones.summary("s", "t", "clip", [line("t", seed) for seed in range(3)])
    assert every["outcome"] == "met" and "untrained 26" in milestones.claim(every) and "**90 90 90**" == milestones.cell(every) and "by delay: short 90, long 50" in milestones.split(every)
    some = milestones.summary("s", "t", "clip", [line("t", 0), line("t", 1, above=False)])
    assert some["outcome"] == "in some seeds" and some["lost_to"] == dict(untrained=1, length=1) and "(some)" in milestones.cell(some)
    none = milestones.summary("s", "t", "clip", [line("t", 0, above=False)])
    assert none["outcome"] == "not met" and "length (1 of 1)" in milestones.missed(none)
    silent = milestones.summary("s", "t", "clip", [line("t", 0) | dict(status="not_applicable", reason="needs surprise", score=None)])
    assert silent["outcome"] == "cannot be asked" and milestones.cell(silent) == "–"
    with pytest.raises(WrongInput, match="parrots"): milestones.milestones(tmp_path, names=["parrots"])
    with pytest.raises(WrongInput, match="parrot"): milestones.milestones(tmp_path, recipes=["parrot"])


def test_one_report_over_learners_and_seeds(tmp_path):
    milestones = script("milestones")
    result = milestones.milestones(tmp_path, seeds=(0,), recipes=("clip",), names=["space"], fast=True)
    assert {r["task"] for r in result["rows"]} == set(TASKS_OF["space"]) and {r["outcome"] for r in result["rows"]} <= {"too few trials", "cannot be asked"}
    assert "| space |" in (tmp_path / "milestones.md").read_text() and (tmp_path / "reports" / "space" / "report.html").is_file()
    again = milestones.runs_of(tmp_path / "new", 0, ("clip",), milestones.FAST, have=[tmp_path])
    assert again["clip"] == tmp_path / "seed0" / "clip"  # a finished run is taken as it is


def test_two_reports_in_one_table():
    milestones, row = script("milestones"), lambda task, recipe, n: dict(suite="space", task=task, recipe=recipe, n=n)
    first, second = TASKS_OF["space"]
    earlier = dict(seeds=[0], n=16, films_asked=16, fast=True, without=[second], minutes=dict(space=1.0), recipes=["clip"], rows=[row(first, "clip", 1)])
    later = earlier | dict(recipes=["cvcl", "clip"], without=[], minutes=dict(space=2.0), rows=[row(second, "cvcl", 2), row(first, "cvcl", 2)])
    both = milestones.joined(later, earlier)
    assert [(r["task"], r["recipe"], r["n"]) for r in both["rows"]] == [(first, "clip", 1), (first, "cvcl", 2), (second, "cvcl", 2)]
    assert both["recipes"] == ["clip", "cvcl"] and both["without"] == [] and milestones.joined(later | dict(rows=[row(first, "clip", 3)]), earlier)["rows"][0]["n"] == 3
    with pytest.raises(WrongInput, match="its n is 16, and here it is 480"): milestones.joined(later | dict(n=480), earlier)
    assert milestones.reports_of("space", dict(n=16, films_asked=16), (), [second]) == dict(space=dict(only=[second], count=16)) and milestones.reports_of("composition", {}, (), [second]) == {}


def test_a_year_in_order(tmp_path):
    year = script("year")
    result = year.year(tmp_path, seeds=(0,), names=("space",), shuffled=False, fast=True)
    (seed,) = result["seeds"]
    assert seed["words"] > 0 and len(seed["rows"]) == len(TASKS_OF["space"]) and max(r["points"] for r in seed["rows"]) >= 2  # earlier checkpoints were judged
    ages = year.ages_of(tmp_path / "seed0" / "corpus")
    assert 5.9 < min(ages) < max(ages) < 18.1
    assert "<svg" in (tmp_path / "seed0" / "year.html").read_text() and "| space |" in (tmp_path / "year.md").read_text()
    with pytest.raises(WrongInput, match="parrot"): year.year(tmp_path, recipe="parrot")
    with pytest.raises(WrongInput, match="parrots"): year.year(tmp_path, names=["parrots"])


def test_every_task_has_its_milestone_and_every_milestone_its_task():
    for suite, tasks in TASKS_OF.items():
        assert set(tasks) == {m.task for m in rows[suite]}, suite
        assert all(milestone(suite, task).title != task.replace("_", " ").capitalize() or milestone(suite, task).asks for task in tasks)


def test_all_suites_at_once(tmp_path):
    tasks = suites["all"].keywords["tasks"]
    assert set(tasks) == {task for some in TASKS_OF.values() for task in some}
    together = {task: tasks[task] for task in list(tasks)[:1]}
    trials = read_trials(write_suite(tmp_path / "all", "all", together, n=16, px=32, workers=1))
    home = next(suite for suite, some in TASKS_OF.items() if list(tasks)[0] in some)
    assert trials.tasks == [(home, list(tasks)[0])]


def test_what_a_caption_names(monkeypatch):
    monkeypatch.syspath_prepend(str(RUNS))
    captions = script("captions")
    facts = [dict(noun="duck", colour="red"), dict(noun="ball", colour="blue"), dict(noun="cup", colour="red"), dict(noun="hat", colour="red")]
    said = ["a red duck", "a duck and a ball", "look at that", "a blue hat"]
    assert captions.named(said, facts) == [1.0, 0.0, 0.0, 1.0]
    assert captions.coloured(said, facts) == dict(n=2, right=0.5)
    assert captions.coloured(["a cup"], facts[2:3])["right"] is None


def test_from_nothing_in_short(tmp_path):
    scratch = script("scratch")
    corpus = coloured_corpus(tmp_path / "corpus")
    result = scratch.scratch(tmp_path / "out", corpus, ("in_turn", "tower_first_patches_only"), fast=True)
    assert [row["steps"] for row in result["rows"]] == [dict(joint=8), dict(see=4, joint=4)]
    assert all(row["looking"] and 0 < row["spread"] < 2 and set(row["scores"]) == set(scratch.TASKS) for row in result["rows"])
    assert (tmp_path / "out" / "scratch.md").read_text().count("\n") == 4
    with pytest.raises(WrongInput, match="backwards"):
        scratch.scratch(tmp_path / "out", corpus, ("backwards",))
