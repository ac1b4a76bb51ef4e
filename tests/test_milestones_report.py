"""The report card: learning curves, tables of items, release levels, a run's past, and what people do beside it."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from test_milestones_judge import HOSTILE, named, without_times, write_trials

from babyvlm.core.basics import WrongInput, write_json
from babyvlm.core.learner import Coin, Constant, Oracle
from babyvlm.core.trials import Choice, Part, Trial, TrialsWriter, read_trials
from babyvlm.milestones.judge import judge
from babyvlm.milestones.likeness import likeness, read_human, read_likeness
from babyvlm.milestones.norms import findings
from babyvlm.milestones.child_curves import CURVE, import_nih, import_peekbank, import_wordbank, read_curve
from babyvlm.milestones.report import page
from babyvlm.milestones.verdicts import key_of, mastery, verdict


def parsed(text):
    return ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))


def heard(learner, name, words, **more):
    vars(learner).update(name=name, words_seen=words, **more)
    return learner


def child(task="picture_vocabulary", age=18.0, score=0.66, **more):
    return dict(task=task, age_months=age, score=score, lo=None, hi=None, n=30, statistic="share of looks", source="a study", licence="own") | more


def test_a_past_is_a_curve_and_not_another_learner(tmp_path):
    trials = write_trials(tmp_path / "trials")
    team = [heard(Oracle(trials), "clip", 90_000, step=300), *(heard(Coin(k), f"clip step {k}", 300 * k, step=k, checkpoint_of="clip") for k in (10, 100))]
    report = judge(team, trials, tmp_path / "out", children=[child(), child(age=24.0, score=0.7, lo=0.6, hi=0.8)])
    tree = parsed((tmp_path / "out" / "report.html").read_text())
    drawn = [s for s in tree.iter("svg") if "words heard" in (s.find("title").text if s.find("title") is not None else "")]
    assert len(drawn) == 3  # of every task, films too
    words = drawn[0].find("desc").text
    assert "after 3,000 words" in words and "after 90,000 words" in words and "Children of 24 months: 70 of 100" in words
    table = next(t for t in tree.iter("table") if t.find("caption").text == "Right of 100 by words heard")
    cells = ["".join(row.itertext()) for row in table.iter("tr")]
    assert len(cells) == 1 + 3 + 2 and "3 million to 10.5 million" in cells[-2] and "(60–80)" in cells[-1]
    glance = next(t for t in tree.iter("table") if "glance" in (t.get("class") or ""))
    assert "step" not in "".join(glance.itertext()) and report["children"][0]["source"] == "a study"
    assert "Children are taken to hear 2 to 7 million words a year" in "".join(tree.itertext())
    earlier = [t for t in report["tasks"] if t["learner"].startswith("clip step")]
    assert len(earlier) == 6 and all(t["baselines"]["untrained"] is None and t["score"] is not None for t in earlier)


def test_more_words_stand_further_right(tmp_path):
    trials = write_trials(tmp_path / "trials", n=3)
    team = [heard(Coin(9), "clip", 10**7), *(heard(Coin(k), f"clip step {k}", 10**k, step=k, checkpoint_of="clip") for k in (5, 3, 6))]
    judge(team, trials, tmp_path / "out")
    tree = parsed((tmp_path / "out" / "report.html").read_text())
    drawn = next(s for s in tree.iter("svg") if s.find("title") is not None and "words heard" in s.find("title").text)
    places = [float(c.get("cx")) for c in drawn.iter("circle")]
    steps = np.diff(places)
    assert (steps > 0).all() and np.isclose(steps[1:], steps[0] / 2, atol=0.2).all()  # 10^3, 10^5, 10^6, 10^7


def mixed_levels(folder):
    "Public and private trials of one task, told apart by their questions."
    random = np.random.default_rng(0)
    with TrialsWriter(folder, dict(name="test"), 0) as writer:
        for i in range(40):
            level = ("Public", "Private", "Authorized Users", "Learning Audiences", "Unknown")[i % 5]
            choices = [Choice(str(k), [Part("image", path=writer.image(random.integers(0, 255, (48, 64, 3), dtype=np.uint8)))]) for k in range(4)]
            writer.add(Trial(f"t{i}", "s", "find", "choose_image", [Part("text", text=f"where is {'public' if level == 'Public' else 'secret'} {i}")], choices, [str(i % 4)], 0.25,
                             dict(scene=f"s{i}"), source=dict(release_level=level) if i % 2 else {"release_level": level, "licence": "x"}))  # fmt: skip
    return read_trials(folder)


def test_nothing_above_its_release_level_is_shown(tmp_path):
    trials = mixed_levels(tmp_path / "trials")
    judge([Coin(0)], trials, tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    assert "secret" not in text and "where is public" in text
    tree = parsed(text)
    assert 20 < len(list(tree.iter("img"))) <= 40 and all(i.get("alt") for i in tree.iter("img"))
    items = next(t for t in tree.iter("table") if t.get("class") == "items")
    assert len(items.findall("tbody/tr")) == 8 and all(th.get("scope") for th in items.iter("th"))


def test_the_table_of_items_holds_the_worst_and_the_best(tmp_path):
    trials = mixed_levels(tmp_path / "trials")

    right = {t.question: trials.image(next(c.parts[0].path for c in t.choices if c.id in t.answer)).tobytes() for t in trials}

    class Sure:
        "Right about t0, t10, t20, t30; very wrong about the other public ones."
        name = "sure"

        def similarity(self, images, texts):
            sign = lambda text: 1 if int(text.split()[-1]) % 10 == 0 else -1
            return np.array([[sign(text) * (image.tobytes() == right.get(text)) for text in texts] for image in images], float) if all("where" in t for t in texts) else np.zeros((len(images), len(texts)))

    judge([Sure()], trials, tmp_path / "out")
    items = next(t for t in parsed((tmp_path / "out" / "report.html").read_text()).iter("table") if t.get("class") == "items")
    asked = [row.find("th").text for row in items.findall("tbody/tr")]
    assert [int(re.search(r"\d+", a)[0]) % 10 for a in asked] == [5] * 4 + [0] * 4
    marks = ["✓" in "".join(row.itertext()) for row in items.findall("tbody/tr")]
    assert marks == [False] * 4 + [True] * 4


def test_pictures_stay_within_their_budget(tmp_path):
    random = np.random.default_rng(0)
    with TrialsWriter(tmp_path / "trials", dict(name="test"), 0) as writer:
        for i in range(64):
            choices = [Choice(str(k), [Part("image", path=writer.image(random.integers(0, 255, (64, 64, 3), dtype=np.uint8)))]) for k in range(4)]
            writer.add(Trial(f"t{i}", "s", f"task_{i % 8}", "choose_image", [Part("text", text="where")], choices, ["0"], 0.25, source=dict(release_level="Public")))
    judge([Coin(0)], read_trials(tmp_path / "trials"), tmp_path / "out")
    tree = parsed((tmp_path / "out" / "report.html").read_text())
    assert 100_000 < sum(len(i.get("src")) for i in tree.iter("img")) <= 300_000
    assert len([t for t in tree.iter("table") if t.get("class") == "items"]) == 8  # without pictures, rather than not at all


def test_a_missing_picture_is_no_crash(tmp_path):
    trials = write_trials(tmp_path / "trials", n=3)
    for file in sorted((tmp_path / "trials" / "media").iterdir())[:3]:
        file.unlink()
    report = judge([Constant()], trials, tmp_path / "out")
    assert (tmp_path / "out" / "report.html").is_file() and report["tasks"]


def test_hostile_children_and_checkpoints(tmp_path):
    trials = write_trials(tmp_path / "trials", n=3)
    team = [heard(Coin(0), HOSTILE, 900, step=2), heard(Coin(1), HOSTILE + "1", 90, step=1, checkpoint_of=HOSTILE)]
    judge(team, trials, tmp_path / "out", children=[child(source=HOSTILE, statistic=HOSTILE, licence=HOSTILE)])
    text = (tmp_path / "out" / "report.html").read_text()
    tree = parsed(text)
    assert "<script" not in text and "\x00" not in text and not [n for e in tree.iter() for n in e.attrib if n.lower().startswith("on")]
    ids = [e.get("id") for e in tree.iter() if e.get("id")]
    assert len(ids) == len(set(ids))


def test_the_page_says_what_is_known_of_children_and_gives_no_age(tmp_path):
    trials = write_trials(tmp_path / "trials", n=3, task="looking_while_listening")
    report = judge([named(Oracle(trials), "learner")], trials, tmp_path / "out")
    text = " ".join(parsed((tmp_path / "out" / "report.html").read_text()).itertext())
    assert "Children aged 6–9 months" in text and "Bergelson" in text and "published statistic" in text and "Fernald" in text
    assert not re.search(r"is \d+ months old|NIH score|mental age", text)
    norm = next(t for t in report["tasks"] if t["task"] == "looking_while_listening")["norm"]
    assert {"paradigm", "n", "statistic", "source", "licence", "ages_months"} <= set(norm["findings"][0])


def test_the_line_says_how_it_was_asked(tmp_path):
    trials = write_trials(tmp_path / "trials", n=5)

    class Reads(Oracle):
        "Only says how likely words are; long words are less likely."
        similarity = embed_images = embed_texts = embed_clips = embed_sounds = generate = fresh = None

        def logprob(self, contexts, answers):
            scores = np.array([[-2.0 * len(a.split()) + self.score(c, a) for a in row] for c, row in zip(contexts, answers)])
            return scores, np.array([[len(a.split()) for a in row] for row in answers])

    report = judge([Reads(trials)], trials, tmp_path / "out")
    line = next(t for t in report["tasks"] if t["task"] == "counting")
    assert line["metric"].endswith("by summed log-probability") and line["also"]["per_token"]["score"] == 1 == line["score"]
    assert "by log-probability per token" in (tmp_path / "out" / "report.html").read_text()


def test_landmarks_and_headings_are_told_apart(tmp_path):
    trials = write_trials(tmp_path / "trials")
    team = [heard(Oracle(trials), "clip", 9000, step=3), heard(Coin(0), "coin", 800, step=2), heard(Coin(1), "clip step 1", 90, step=1, checkpoint_of="clip")]
    judge(team, trials, tmp_path / "out", children=[child(), child("counting")])
    tree = parsed((tmp_path / "out" / "report.html").read_text())
    named_by = {e.get("id"): "".join(e.itertext()) for e in tree.iter() if e.get("id")}
    labels = [e.get("aria-label") or named_by[e.get("aria-labelledby")] for e in tree.iter("section")]
    assert len(labels) == len(set(labels)) >= 7
    assert all("".join(th.itertext()).strip() for th in tree.iter("th"))
    levels = [int(e.tag[1]) for e in tree.iter() if re.fullmatch("h[1-6]", e.tag)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b <= a + 1 for a, b in zip(levels, levels[1:]))
    scrolling = [e for e in tree.iter("div") if e.get("class") == "scroll"]
    assert scrolling and all(e.get("tabindex") == "0" and e.get("aria-label") for e in scrolling)
    charts = [s for s in tree.iter("svg") if s.get("class") == "forest"]
    tables = [d for d in tree.iter("details") if d.find("summary").text in ("All figures", "The curve in numbers")]
    assert len(charts) == len(tables) == 6  # two figures a task, and a table of numbers for each


def saved_run(folder, steps=(20, 40, 60)):
    "A run folder with some checkpoints, as pretraining leaves it."
    from babyvlm.models.load import save_learner, seal
    from babyvlm.models.sizes import new_model
    from babyvlm.models.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(["where is thing 1", "thing 2 0"])
    for step in steps:
        place = folder / "checkpoints" / f"step-{step:06d}"
        place.mkdir(parents=True)
        save_learner(place, new_model("clip", "tiny", tokenizer), tokenizer, {"where": step})
        write_json(place / "trainer.json", dict(step=step, seen=dict(words=100 * step, pairs=step), cost=dict(wall_s=1.0)))
        seal(place)
    (folder / "checkpoints" / "latest").write_text(f"step-{steps[-1]:06d}")
    write_json(folder / "run.json", dict(recipe="clip", seed=3, ledger={}, corpus=dict(path=str(folder / "gone"))))
    return folder


def test_all_checkpoints_of_a_run(tmp_path, capsys):
    from babyvlm.cli.quickstart import judge_runs

    run, _ = saved_run(tmp_path / "run"), write_trials(tmp_path / "trials", n=4)
    report = judge_runs([run], tmp_path / "out", trials=tmp_path / "trials", checkpoints="all")
    assert [(c["name"], c["step"], c["words_seen"], c["checkpoint_of"]) for c in report["learners"]] == [
        ("clip", 60, 6000, None), ("clip step 20", 20, 2000, "clip"), ("clip step 40", 40, 4000, "clip")]  # fmt: skip
    assert len({c["run_sha256"] for c in report["learners"]}) == 3 and all(c["seed"] == 3 for c in report["learners"])
    assert len(capsys.readouterr().out.splitlines()) == 5  # header, three tasks, where the page is: the past stays out of the table
    before = without_times(tmp_path / "out")
    for file in (run / "checkpoints").glob("*/model.safetensors"):
        if file.parent.name != "step-000060":
            file.write_bytes(b"gone")  # what is finished is not loaded again
    judge_runs([run], tmp_path / "out", trials=tmp_path / "trials", checkpoints="all")
    assert without_times(tmp_path / "out") == before
    with pytest.raises(WrongInput, match="learners"):
        judge_runs([run], tmp_path / "out", trials=tmp_path / "trials")  # another question, another folder


def test_two_runs_of_one_name_keep_their_pasts_apart(tmp_path):
    from babyvlm.cli.quickstart import learners_of

    runs = [saved_run(tmp_path / name, (5, 10)) for name in ("a", "b")]
    assert [(x.name, getattr(x, "checkpoint_of", None)) for x in learners_of(runs, "all")] == [
        ("clip", None), ("clip (2)", None), ("clip step 5", "clip"), ("clip (2) step 5", "clip (2)")]  # fmt: skip


def test_every_finding_can_be_checked():
    for f in findings.values():
        assert re.search(r"(19|20)\d\d|colleagues", f.source) and f.statement.startswith("Children aged") and f.n is None or f.n > 0
        assert not re.search(r"wordbank|peekbank|nih", f"{f.source} {f.statistic}".lower())  # theirs are imported by the user, not shipped


BAD = (
    "", "task\n", "x,y\n1,2\n", "\x00\x01", "task,age_months,score,n,statistic,source,licence\na,18,.5,3,s,x,\n",
    "task,age_months,score,n,statistic,source,licence\na,old,.5,3,s,x,l\n", "task,age_months,score,n,statistic,source,licence\na,18,7,3,s,x,l\n",
    "task,age_months,score,n,statistic,source,licence\na,,.5,3,s,x,l\n", "task,age_months,score,n,statistic,source,licence\na,inf,.5,3,s,x,l\n",
)  # fmt: skip


@pytest.mark.parametrize("reader", [read_curve, import_nih, import_peekbank, lambda p: import_wordbank(p, ["ball"]), read_human], ids=["curve", "nih", "peekbank", "wordbank", "human"])
def test_bad_tables_name_themselves(reader, tmp_path):
    for k, text in enumerate(BAD):
        file = tmp_path / f"bad{k}.csv"
        file.write_text(text)
        with pytest.raises(WrongInput, match=f"bad{k}.csv"):
            reader(file)
    with pytest.raises(WrongInput, match="missing.csv"):
        reader(tmp_path / "missing.csv")


def test_a_mutated_curve_is_read_or_refused(tmp_path):
    random, file = np.random.default_rng(0), tmp_path / "curve.csv"
    good = ",".join(CURVE) + "\n" + "".join(f"looking_while_listening,{a},.{a},.1,.9,{a},share,study,own\n" for a in (12, 18, 24))
    read = 0
    for _ in range(300):
        data = bytearray(good.encode())
        for _ in range(random.integers(1, 6)):
            data[random.integers(len(data))] = random.integers(256)
        file.write_bytes(bytes(data))
        try:
            rows = read_curve(file)
            read += 1
            assert all(0 <= r["score"] <= 1 and r["age_months"] >= 0 for r in rows)
        except WrongInput as error:
            assert "curve.csv" in str(error) and "\n" not in str(error)
    assert 0 < read < 300


def test_likeness_wants_arrays_that_fit(tmp_path):
    (tmp_path / "human.csv").write_text("age_bin,trial,image1,image2,image3\n4,1,.5,.25,.25\n4,2,.1,.1,.8\n")
    with pytest.raises(WrongInput, match="no .npy"):
        likeness(tmp_path)
    np.save(tmp_path / "vv_mine.npy", np.random.default_rng(0).normal(size=(2, 4, 1)))
    with pytest.raises(WrongInput, match="3 pictures"):
        likeness(tmp_path)
    (tmp_path / "vv_mine.npy").write_bytes(b"no array")
    with pytest.raises(WrongInput, match="vv_mine.npy"):
        likeness(tmp_path)
    np.save(tmp_path / "vv_mine.npy", np.array([[1.0, 0, 0], [0, 0, 1]])[:, :, None])
    table = likeness(tmp_path)
    assert list(table.learner) == ["vv_mine"] and table.n[0] == 2 and 0 <= table.kl[0] < table.uniform_kl[0] and table.accuracy[0] == 0.5


def test_a_report_can_be_read_back_into_the_same_page(tmp_path):
    trials = write_trials(tmp_path / "trials", n=3)
    report = judge([Coin(0), Constant()], trials, tmp_path / "out")
    again = json.loads((tmp_path / "out" / "report.json").read_text())
    assert page(again) == page(report) and again["pairs"]["rows"] and "Side by side" in page(again)


def line_of(learner=0.9, histogram=0.5, twin=0.25, n=480, seed=0, task="colour_words"):
    "A line of the report from marks drawn at these shares."
    from babyvlm.milestones.scoring import Mark
    from babyvlm.milestones.tally import scored

    units = [Trial(f"t{i}", "first_words", task, "choose_image", [], [Choice(c) for c in "abcd"], ["a"], 0.25, dict(scene=f"s{i}")) for i in range(n)]
    shares = dict(learner=learner, untrained=twin, text_blind=0.25, image_blind=0.25, shuffled=0.25, colour_histogram=histogram, position=0.25)
    random = np.random.default_rng(seed)
    marks = {name: [Mark(f"t{i}", [], float(right), False) for i, right in enumerate(random.random(n) < share)] for name, share in shares.items()}
    return scored(None, "clip", units, marks)


def test_a_grade_never_claims_more_than_the_numbers():
    random, seen = np.random.default_rng(0), set()
    for k in range(400):
        task = ("colour_words", "picture_vocabulary")[k % 2]
        line = line_of(*random.uniform(0.2, 1, 2), twin=random.uniform(0.2, 0.5), n=(480, 480, 480, 40)[k // 2 % 4], seed=k, task=task)
        grade, bars = key_of(line), [c for c in (*line["comparisons"], line["ceiling"]) if c]
        seen.add(grade)
        assert (line["ceiling"] is not None) == (task == "colour_words")
        if grade in ("can", "emerging"):
            assert all(c["above"] and c["lo"] > 0 for c in bars) and line["n"] >= 400
        if grade == "can":
            assert line["lo"] >= mastery(line["chance"])
        if grade == "cue":
            assert not line["ceiling"]["above"] and "colour alone is enough" in verdict(line).sentence
        assert "mastery line" not in verdict(line).sentence or grade in ("can", "emerging")
    assert seen == {"can", "emerging", "cue", "partly", "chance", "below", "few"}


def test_every_task_shows_a_correct_and_a_wrong_answer_and_not_always_the_first(tmp_path):
    random = np.random.default_rng(0)
    with TrialsWriter(tmp_path / "trials", dict(name="test"), 0) as writer:
        for i in range(48):
            paths = [writer.image(random.integers(0, 255, (24, 24, 3), dtype=np.uint8)) for _ in range(4)]
            shared = dict(suite="first_words", answer=[str(i % 4)], chance=0.25, group=dict(scene=f"s{i}"), source=dict(release_level="Public"))
            pictured = [Choice(str(k), [Part("image", path=p)]) for k, p in enumerate(paths)]
            told = [Choice(str(k), statement=f"{word} balls {i}") for k, word in enumerate(("one", "two", "three", "four"))]
            for task in ("picture_vocabulary", "looking_while_listening", "colour_words"):
                writer.add(Trial(f"{task}{i}", task=task, form="choose_image", context=[Part("text", f"where is it {i}")], choices=pictured, **shared))
            for task in ("localization", "counting"):
                writer.add(Trial(f"{task}{i}", task=task, form="choose_text", context=[Part("image", path=paths[0])], choices=told, **shared))
    judge([Coin(0)], read_trials(tmp_path / "trials"), tmp_path / "out")
    tree = parsed((tmp_path / "out" / "report.html").read_text())
    shown = [e for e in tree.iter("div") if e.get("class") == "example"]
    assert len(shown) == 10
    said = ["".join(e.itertext()) for e in shown]
    assert all("✓ correct" in a and "✗ wrong" in b for a, b in zip(said[::2], said[1::2]))
    places = [next(k for k, part in enumerate((*e.iter("figure"),) if len((*e.iter("figure"),)) > 1 else (*e.find(".//ol"),)) if "answer" in "".join(part.itertext())) for e in shown]
    assert len(set(places)) > 1 and places.count(0) < 6


def test_the_page_opens_with_who_and_a_key_and_ends_with_the_long_form(tmp_path):
    trials = write_trials(tmp_path / "trials")
    team = [heard(Oracle(trials), "clip", 9000, architecture="babyvlm_clip", parameters=1_148_865, px=64, run_sha256="ab" * 32, seed=7),
            heard(Coin(0), "heir", 800, started_from="ab" * 32)]  # fmt: skip
    report = judge(team, trials, tmp_path / "out")
    text = " ".join(parsed((tmp_path / "out" / "report.html").read_text()).itertext())
    order = ["A dual encoder in the manner of CLIP, 1.15 million weights, 64-pixel pictures.", "met 9,000 words", "began with what clip had learnt", "At a glance",
             "its twin before training", "Grade", "Task by task", "How to read this", "three quarters of the way", "What this does not say"]  # fmt: skip
    places = [text.index(part) for part in order]
    assert places == sorted(places) and "seeds 0 and 7" in text
    assert {t["grade"] for t in report["tasks"]} == {"few"} and report["learners"][1]["started_from"] == "ab" * 32


def test_people_beside_a_run(tmp_path):
    from babyvlm.cli.quickstart import judge_runs

    run, _, people = saved_run(tmp_path / "run", (5,)), write_trials(tmp_path / "trials", n=4), tmp_path / "people"
    people.mkdir()
    with pytest.raises(WrongInput, match="human_similarity.npy"):
        judge_runs([run], tmp_path / "out", trials=tmp_path / "trials", people=people)
    random = np.random.default_rng(0)
    (people / "human.csv").write_text("age_bin,trial,prop\n1.5,1,.7\n1.5,2,.6\n")
    np.save(people / "lwl_clip.npy", random.normal(size=(2, 2, 1)))
    np.save(people / "lwl_clip_images.npy", features := random.normal(size=(12, 5)))
    np.save(people / "human_similarity.npy", features @ features.T)
    report = judge_runs([run], tmp_path / "out", trials=tmp_path / "trials", people=people)
    choice, same = report["likeness"]["choices"][0], report["likeness"]["geometry"][0]
    assert choice["learner"] == "lwl_clip" and choice["n"] == 2 and same["r"] > 0.8 and same["n"] == 12
    text = " ".join(parsed((tmp_path / "out" / "report.html").read_text()).itertext())
    assert "Beside people's choices" in text and f"{1 / choice['beta']:.3g}" in text and f"{same['r']:.2f}" in text
    assert report["likeness"] == read_likeness_rounded(people)


def read_likeness_rounded(folder):
    from babyvlm.milestones.tally import rounded

    return rounded(read_likeness(folder))
