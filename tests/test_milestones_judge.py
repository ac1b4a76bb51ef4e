"""Judging: kills, equal bytes, and a page that nothing can break out of."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest

from babyvlm.core.basics import WrongInput, read_json
from babyvlm.core.learner import Coin, Constant, Oracle
from babyvlm.core.trials import Choice, Part, Trial, TrialsWriter, read_trials
from babyvlm.milestones.judge import judge
from babyvlm.milestones.pieces import read_report, text_table
from babyvlm.milestones.report import page

HOSTILE = '</title></style><script>alert("x")</script><img src="http://evil.example/x.png" onerror="alert(1)">\x00 & é'


def write_trials(folder, n=24, word="thing", level="Public", task="picture_vocabulary"):
    random = np.random.default_rng(0)
    with TrialsWriter(folder, dict(name="test"), 0) as writer:
        for i in range(n):
            for form in ("choose_image", "choose_text"):
                noun = f"{word} {i % 3}"
                shared = dict(trial_id=f"{form}{i}", suite="first_words", answer=["0"], chance=1 / 3, group=dict(scene=f"s{i}", noun=noun),
                              source=dict(release_level=level))  # fmt: skip
                paths = [writer.image(random.integers(0, 255, (8, 8, 3), dtype=np.uint8)) for _ in range(3)]
                if form == "choose_image":
                    writer.add(Trial(task=task, form=form, context=[Part("text", f"where is {noun}")],
                                     choices=[Choice(str(k), [Part("image", path=p)]) for k, p in enumerate(paths)], **shared))  # fmt: skip
                else:
                    writer.add(Trial(task="counting", form=form, context=[Part("image", path=paths[0])],
                                     choices=[Choice(str(k), statement=f"{noun} {i} {k}") for k in range(3)], **shared))  # fmt: skip
        for hidden in (0, 1):
            for revealed in (0, 1):
                film = np.stack([np.full((8, 8, 3), v, np.uint8) for v in (hidden * 90, 50, 60, revealed * 200)])
                writer.add(Trial(f"q{hidden}{revealed}", "first_words", "permanence_vanish", "surprise", [Part("clip", path=writer.clip(film, 5))], [], [], .5,
                                 dict(scene="q"), dict(violation=hidden != revealed), quad_id="q", reveal_frame=3, source=dict(release_level=level)))  # fmt: skip
    return read_trials(folder)


def named(learner, name):
    learner.name = name
    return learner


def without_times(folder):
    "All bytes of a report, timing aside."
    text = (folder / "report.html").read_text()
    card = json.loads((folder / "report.json").read_text())
    return re.sub(r'<p id="cost">.*?</p>', "", text), {**card, "cost": None}, (folder / "trials.parquet").read_bytes()


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    trials = write_trials(tmp_path / "trials")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        judge([Oracle(trials), Coin(0)], trials, tmp_path / name, seed=seed)
    assert without_times(tmp_path / "a") == without_times(tmp_path / "b")
    assert without_times(tmp_path / "a")[2] != without_times(tmp_path / "c")[2]


def test_every_line_has_every_field(tmp_path):
    trials = write_trials(tmp_path / "trials")
    report = judge([Oracle(trials), named(Constant(), "blank"), named(type("Bare", (), {})(), "bare")], trials, tmp_path / "out")
    fields = "suite task learner status reason metric score lo hi chance corrected n groups tie_rate errors heard_share baselines paired by norm".split()
    assert {"format", "learners", "trials_sha256", "tasks", "eligibility", "cost"} <= set(report)
    for line in report["tasks"]:
        assert set(fields) <= set(line)
        assert set(line["baselines"]) == {"untrained", "text_blind", "image_blind", "shuffled", "shortcut"}
        assert line["status"] == "ok" or line["reason"] and line["score"] is None
        if line["status"] == "ok":
            assert set(line["paired"]) >= {"vs", "delta", "lo", "hi", "p"} and 0 <= line["lo"] <= line["score"] <= line["hi"] <= 1
            assert not any(c["above"] for c in line["comparisons"])  # far fewer than 400 trials
    by_name = {(t["learner"], t["task"]): t for t in report["tasks"]}
    assert by_name["oracle", "counting"]["score"] == by_name["oracle", "permanence_vanish"]["score"] == 1
    assert by_name["blank", "counting"]["score"] == pytest.approx(1 / 3, abs=1e-5) and by_name["blank", "counting"]["tie_rate"] == 1
    assert by_name["bare", "counting"]["status"] == by_name["bare", "permanence_vanish"]["status"] == "not_applicable"
    assert read_json(tmp_path / "out" / "report.json")["tasks"] == report["tasks"] == read_report(tmp_path / "out")["tasks"]
    assert len(text_table(report).splitlines()) == 10


def test_a_failing_learner_ends_in_a_report(tmp_path):
    trials = write_trials(tmp_path / "trials", n=6)

    class Fails(Oracle):
        name = "fails"

        def score(self, context, answer):
            if answer == "where is thing 1":
                raise MemoryError("too much")
            return super().score(context, answer)

    report = judge([Fails(trials)], trials, tmp_path / "out")
    line = next(t for t in report["tasks"] if t["task"] == "picture_vocabulary")
    assert line["errors"] == 2 and line["score"] == pytest.approx(4 / 6, abs=1e-5) and line["n"] == 6
    assert "2 failed and counted as wrong" in (tmp_path / "out" / "report.html").read_text()


SLOW = """
import sys, time
sys.path.insert(0, {tests!r})
from test_milestones_judge import *
trials = read_trials({trials!r})
class Slow(Oracle):
    def score(self, context, answer):
        if not {fast}: time.sleep(.02)
        return super().score(context, answer)
    def similarity(self, images, texts):
        with open({log!r}, "a") as log: log.write(" ".join(texts) + chr(10))
        return super().similarity(images, texts)
judge([Slow(trials), Coin(0)], trials, {out!r})
"""


def start(tmp_path, fast, log):
    script = SLOW.format(tests=str(Path(__file__).parent), trials=str(tmp_path / "trials"), out=str(tmp_path / "out"), log=str(tmp_path / log), fast=fast)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def test_a_killed_evaluation_goes_on_where_it_was(tmp_path):
    trials = write_trials(tmp_path / "trials")
    first = start(tmp_path, 0, "first.log")
    done = tmp_path / "out" / "kept" / "oracle--first_words--picture_vocabulary.parquet"
    deadline = time.time() + 120
    while not done.exists() and first.poll() is None and time.time() < deadline:
        time.sleep(.02)
    assert done.exists() and first.poll() is None, "killed too late to prove anything"
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "out" / "report.html").exists()
    stamp = done.stat().st_mtime_ns
    assert start(tmp_path, 1, "second.log").wait(120) == 0
    assert done.stat().st_mtime_ns == stamp
    assert "where is" not in (tmp_path / "second.log").read_text()  # the finished task was not asked again
    judge([Oracle(trials), Coin(0)], trials, tmp_path / "whole")
    assert without_times(tmp_path / "out") == without_times(tmp_path / "whole")
    assert not [p for p in tmp_path.rglob("*.part")]


def test_a_cut_file_is_done_again(tmp_path):
    trials = write_trials(tmp_path / "trials", n=3)
    judge([Coin(0)], trials, tmp_path / "out")
    before, kept = without_times(tmp_path / "out"), sorted((tmp_path / "out" / "kept").iterdir())
    for file in kept:
        file.write_bytes(file.read_bytes()[:40])
    judge([Coin(0)], trials, tmp_path / "out")
    assert without_times(tmp_path / "out") == before


def test_wrong_places_and_other_parameters_are_refused(tmp_path):
    trials = write_trials(tmp_path / "trials", n=3)
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    for out in ("file", "full"):
        with pytest.raises(WrongInput):
            judge([Coin(0)], trials, tmp_path / out)
    judge([Coin(0)], trials, tmp_path / "out")
    with pytest.raises(WrongInput, match="seed"):
        judge([Coin(0)], trials, tmp_path / "out", seed=1)
    with pytest.raises(WrongInput, match="no report|does not exist"):
        read_report(tmp_path / "nowhere")
    inside = write_trials(tmp_path / "road" / "trials", n=3)  # quickstart keeps its trials beside the report
    assert judge([Coin(0)], inside, tmp_path / "road")["tasks"]


def parsed(text):
    return ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))


def test_the_page_is_whole_and_names_no_other_address(tmp_path):
    trials = write_trials(tmp_path / "trials")
    judge([Oracle(trials), Coin(0)], trials, tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    tree = parsed(text)
    assert not re.search(r"https?:|//|@import|url\(|javascript:", re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", text))
    assert {"script", "link", "iframe", "object", "embed", "form"}.isdisjoint(e.tag for e in tree.iter())
    ids = [e.get("id") for e in tree.iter() if e.get("id")]
    assert len(ids) == len(set(ids))
    assert {a.get("href")[1:] for a in tree.iter("a")} <= set(ids)
    assert [h.tag for h in tree.iter() if h.tag == "h1"] == ["h1"] and tree.get("lang") == "en"
    assert all(t.find("caption") is not None and t.findall(".//th[@scope]") for t in tree.iter("table"))
    assert all(i.get("alt") for i in tree.iter("img")) and {"header", "main", "footer"} <= {e.tag for e in tree.iter()}
    drawn = [s for s in tree.iter("svg") if s.get("role") == "img"]
    assert drawn and all(s.find("title").text and s.find("desc").text and s.get("aria-labelledby") for s in drawn)
    assert all(s.get("aria-hidden") == "true" for s in tree.iter("svg") if s.get("role") != "img")
    assert sum(len(i.get("src")) for i in tree.iter("img")) <= 300_000


def test_nothing_from_an_utterance_or_a_name_can_run(tmp_path):
    trials = write_trials(tmp_path / "trials", word=HOSTILE, task='x"><script>')
    coin = named(Coin(0), HOSTILE)
    coin.ledger = dict(tracks=[HOSTILE], corpora=HOSTILE)
    judge([named(Oracle(trials), "<b>oracle</b>"), coin], trials, tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    tree = parsed(text)
    assert "<script" not in text and "\x00" not in text
    assert all(i.get("src").startswith("data:image/png;base64,") for i in tree.iter("img"))
    assert not [name for e in tree.iter() for name in e.attrib if name.lower().startswith("on")]


def test_only_public_pictures_are_shown(tmp_path):
    trials = write_trials(tmp_path / "trials", level="Private")
    judge([Coin(0)], trials, tmp_path / "out")
    assert "<img" not in (tmp_path / "out" / "report.html").read_text()


def test_every_score_of_every_trial_is_kept(tmp_path):
    trials = write_trials(tmp_path / "trials")
    report = judge([Oracle(trials), Coin(0)], trials, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "trials.parquet").to_pandas()
    own = table[(table.variant == "learner")]
    for line in report["tasks"]:
        mine = own[(own.learner == line["learner"]) & (own.task == line["task"])]
        assert len(mine) == line["n"] and mine.credit.mean() == pytest.approx(line["score"], abs=1e-5)
    assert set(table.variant) >= {"learner", "untrained", "text_blind", "image_blind", "shuffled", "position", "length", "pixel_change"}
    assert page(report) != ""
