"""The training benchmark: equal work, fair clocks, a goal for every figure."""

import argparse
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def beside(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def spec(objective):
    import train

    return train.QUICK | dict(objective=objective, vocabulary=50, device="cpu", kinds=["fp32"], threads=1)


@pytest.mark.parametrize("objective", ["contrastive", "causal_lm"])
def test_ours_does_the_work_of_transformers(objective):
    import contestants
    import train

    ours, theirs = contestants.Ours(spec(objective)), contestants.Transformers(spec(objective))
    train.check_work(dict(ours=contestants.flops(ours), transformers=contestants.flops(theirs)), train.unasked(spec(objective)))
    assert contestants.flops(ours) > 1e6
    for one in (ours, theirs):
        first = one.steps(1)["loss"]
        assert one.steps(3)["loss"] < first  # it learns its one batch by heart


def test_other_work_is_refused():
    import train

    with pytest.raises(RuntimeError, match="not the same work"):
        train.check_work(dict(ours=100, transformers=112))


def test_every_figure_has_a_goal():
    import common
    import train

    race = dict(times_ours=dict(transformers=1.0))
    result = dict(contrastive=dict(reference=race | dict(times_ours=dict(open_clip=1.2))), generative=dict(small=race), memory={"clip tiny": 0.9},
                  share={"clip small": dict(share=0.6), "clip tiny": dict(share=0.2)}, road=dict(kept=dict(share=0.01), online=dict(share=0.8)),
                  milestone=dict(times_ours=dict(nanovlm=2.5)), date="", quick=False, version="", machine=common.described())  # fmt: skip
    found, goals = train.figures(result), train.goals()
    assert found == dict(contrastive_reference_open_clip=1.2, generative_small_transformers=1.0, share_clip=0.6, memory_clip_tiny=0.9, road_kept=0.01, milestone_nanovlm=2.5)
    page = common.page("train", "Training", result, found, goals, train.MEASURES)
    assert page.count("(missed)") == 2 and "times as fast as open_clip" in page


def test_a_contestant_answers_from_a_process_of_its_own():
    import train

    options = argparse.Namespace(nanovlm=None, open_clip=None, threads=1)
    with train.Contestant("ours", spec("contrastive"), options) as one:
        one.try_ways(1, 1)
        one.turn(2)
        found = one.figures()
    assert found["s_per_step"] > 0 and found["peak_mb"] > 100 and found["way"]["attention"] == "eager"
    assert one.process.returncode == 0


def test_a_contestant_that_dies_is_named():
    import train

    options = argparse.Namespace(nanovlm=BENCHMARKS / "nowhere", open_clip=None, threads=1)
    with pytest.raises(RuntimeError, match="nanovlm ended with status 1"), train.Contestant("nanovlm", spec("causal_lm"), options) as one:
        one.ask("hello")


def test_asking_is_not_on_the_clock():
    import courses

    curve = courses.Curve(lambda: time.sleep(0.2) or 0.5, every=0.05)
    for step in range(3):
        time.sleep(0.06)
        curve(step)
    curve(3, last=True)
    assert [p["step"] for p in curve.points] == [0, 1, 2, 3] and curve.points[-1]["s"] < 0.6 and curve.spent() < 0.6


def test_sooner():
    import courses

    points = [dict(s=10, score=0.5), dict(s=20, score=0.8), dict(s=30, score=0.79)]
    assert courses.reached(points) == 20 and courses.reached(points[:1]) is None
    assert courses.reached([dict(s=5, score=0.9, tower_alone=True), *points]) == 20
    assert courses.sooner(20, 50) == 2.5 and courses.sooner(None, 50) == 0


def test_who_is_not_there_tries_again_with_what_came_furthest():
    import courses

    run = lambda last, reached_s=None, s=90, learner="open_clip", **setting: dict(learner=learner, **setting, last=last, reached_s=reached_s, curve=[dict(s=5), dict(s=s)])
    tried = [dict(patch=8, lr=1e-3), dict(patch=16, lr=1e-3)]
    runs = [run(0.3, patch=8, lr=1e-3), run(0.6, patch=16, lr=1e-3, s=110), run(0.9, learner="ours clip")]
    assert courses.furthest("open_clip", runs, tried) == [tried[1]] and courses.longest("open_clip", runs) == 110
    assert courses.furthest("open_clip", [*runs, run(0.5, reached_s=80, patch=8, lr=1e-3)], tried) == []
