"""Published benchmarks as trials: every layout and quirk, two thousand broken files, and the leaderboard's rules recomputed."""

import copy
import importlib
import itertools
import json
import math
import random
import re

import numpy as np
import pytest
from PIL import Image

from babyvlm.core.basics import WrongInput
from babyvlm.core.learner import Coin, Oracle
from babyvlm.core.trials import Choice, Part, Trial, TrialsWriter, Turn, from_line, read_trials, to_line
from babyvlm.milestones.asking import score_trials
from babyvlm.milestones.devcv import import_devcv
from babyvlm.milestones.devcv_more import import_v1, open_trials
from babyvlm.milestones.leaderboard_rules import BENCHMARKS, COMPASS
from babyvlm.milestones.leaderboards import leaderboard_scores, write_scores

DIRECTIONS = "'top', 'bottom', 'left', 'right', 'top right', 'top left', 'bottom right', or 'bottom left'"
CORNERS = "(A) top left or (B) top right or (C) bottom left or (D) bottom right of the image?"

# folder, prompt, pictures, ending, gold → form, task, choices, answer, part of what is asked or said
PUBLISHED = [
    ("count", "<image> How many cups do you see?", 1, "jpeg", "12", "choose_text", "counting", 12, "12", "twelve cups"),
    ("localize", f"<image> Point at the cup. Is it in the {CORNERS}", 1, "jpg", "D", "choose_text", "localization", 4, "D", "the cup is on the bottom right"),
    ("leftright", "<image> Which of the following is the same as this? Answer with a number. (A) <image> (B) <image> (C) <image>", 4, "jpeg", "C",
     "choose_image", "left_right", 3, "C", "which is the same"),
    ("leftright", "<image> Which of the following is the same as this? (A) <image> (B) <image> (C) <image>", 4, "jpg", "2", "choose_image", "left_right", 3, "B", "which is the same"),
    ("spatialdetails", "<image> Which of the following contains exactly this object? (A) <image> (B) <image> (C) <image>. Pay attention to details and give only a letter A-C.",
     4, "jpg", "A", "choose_image", "spatial_details", 3, "A", "where is this one"),
    ("spatial", "<image> Which of the following contains exactly this object? (A) <image> (B) <image> (C) <image> (D) <image>. Pay attention to details and give a letter A-D.",
     5, "jpg", "D", "choose_image", "spatial_details", 4, "D", "where is this one"),
    ("compare_real", "Which image has more people? (A) <image> (B) <image>", 2, "jpg", "B", "choose_image", "who_has_more", 2, "B", "more people"),
    ("compare_real", "Which image has more of car? (A) <image> (B) <image>", 2, "jpg", "B", "choose_image", "who_has_more", 2, "B", "more car"),
    ("who_has_more", "Which image has more keys? (A) <image> (B) <image>", 2, "jpg", "A", "choose_image", "who_has_more", 2, "A", "more keys"),
    ("compare_synthetic", "Which image has more tapes? Answer (A) <image> (B) <image>", 2, "jpeg", "A", "choose_image", "who_has_more_synthetic", 2, "A", "more tapes"),
    ("whohasmore_synthetic", "Which image has more TVs? (A) <image> (B) <image>", 2, "jpg", "A", "choose_image", "who_has_more_synthetic", 2, "A", "more tvs"),
    ("picture_vocabulary", "<image><image><image><image>\n Touch the image of 'cup' (A) the first image (B) the second image (C) the third image (D) the fourth image.", 4, "png", "C",
     "choose_image", "picture_vocabulary", 4, "C", "where is the cup"),
    ("picture_vocabulary", "Touch the image of 'cup' (A)<image> (B)<image> (C)<image> (D)<image>", 4, "png", "B", "choose_image", "picture_vocabulary", 4, "B", "where is the cup"),
    ("picture_vocab", "<image> Touch the image of 'Gregarious' (A) top left image (B) top right image (C) bottom left image (D) bottom right image.", 1, "PNG", "D",
     "choose_image", "picture_vocabulary", 4, "D", "where is the gregarious"),
    ("picture_vocab_selected", "<image> Touch the image of 'Stick' (A) top left image (B) top right image (C) bottom left image (D) bottom right image.", 1, "PNG", "D",
     "choose_image", "picture_vocabulary_selected", 4, "D", "where is the stick"),
    ("vdr-binary", "<image>" * 6 + " does the cup leave the frame through the right side of the frame or the left side of the frame? respond ONLY with 'right' or 'left'.", 6, "jpg", "left",
     "sequence", "delayed_response", 2, "left", "the cup goes out on the left"),
    ("vdr-binary", "<image>" * 9 + " do the cups collectively leave the frame through the bottom side of the frame or the top side of the frame? respond ONLY with 'bottom' or 'top'.", 9,
     "jpg", "Top", "sequence", "delayed_response", 2, "top", "the cups go out on the top"),
    ("vdr-open", "<image>" * 5 + f" which part of the frame does the cup leave from? respond ONLY with one of: {DIRECTIONS}.", 5, "jpg", "bottom left",
     "sequence", "delayed_response_open", 8, "bottom left", "the cup goes out on the bottom left"),
    ("vdr", "<image>" * 50 + "\nWhere does it hide? (A) left (B) right", 50, "png", "B", "sequence", "delayed_response", 2, "B", "it hides on the right"),
    ("subitize", "How many cups do you see?", 1, "jpg", "three", "choose_text", "subitizing", 12, "3", "three cups"),
]  # fmt: skip
MEMORY = ["Touch the new image. (A) <image>", "Let's try more. Touch the new image. (A) <image> (B) <image>"]
AT_FRONT = ["<image>\n Touch the new image. (A) the first image", "<image><image>\n Let's try more. Touch the new image. (A) the first image (B) the second image"]


def draw(path, number=0, size=(6, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    Image.fromarray(np.random.default_rng(number).integers(0, 255, (*size, 3), dtype=np.uint8)).save(path, kind)


def published(name, prompts, golds, images, **more):
    turns = [dict(zip(("from", "value"), pair)) for prompt, gold in zip(prompts, golds) for pair in (("human", prompt), ("gpt", gold))]
    return dict(id=name, conversations=turns, image=images, **more)


def publish(folder, items, missing=()):
    for number, path in enumerate(dict.fromkeys(p for item in items for p in item["image"])):
        if path not in missing:
            draw(folder / path, number)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.json").write_text(json.dumps(items))
    return folder


def memory_item(name="memory_task_1", rounds=15, prompts=MEMORY, labels=True, seed=0):
    "A third of the rounds teach, each then comes back twice; every repeat is the same file."
    shuffle, base = random.Random(seed), rounds // 3
    old = [*range(base), *range(base)]
    shuffle.shuffle(old)
    shown = [[0]] + [[k - 1, k] for k in range(1, base)] + [[k, base + i] for i, k in enumerate(old)]
    shown = [shuffle.sample(row, len(row)) for row in shown]
    golds = ["AB"[row.index(max(row))] for row in shown]
    images = [f"images/{name}_{k}.jpg" for row in shown for k in row]
    words = dict(labels=[[f"thing{k}" for k in row] for row in shown]) if labels else {}
    return published(name, [prompts[0], *[prompts[1]] * (rounds - 1)], golds, images, **words)


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda c: f"{c[0]}-{c[2]}")
def test_every_published_prompt(tmp_path, case):
    folder, prompt, many, ending, gold, form, task, choices, answer, words = case
    item = published(f"{folder}_1", [prompt], [gold], [f"images/{folder}_{k}.{ending}" for k in range(many)])
    trials = import_devcv(publish(tmp_path / "ego4d_sample" / folder, [item]).parent, tmp_path / "out")
    (trial,) = trials
    assert (trial.form, trial.task, len(trial.choices), trial.answer, trial.suite) == (form, task, choices, [answer], "devcv_ego4d")
    assert trial.chance == pytest.approx(1 / choices) and trial.facts["gold"] == answer and trial.facts["prompt"].count("<image>") == many
    right = next(c for c in trial.choices if c.id == answer)
    assert words == (right.statement or trial.question)
    assert set(re.findall("[a-z]+", words)) <= set(trial.prompt_words)
    shown = trial.pictures + [p.path for c in trial.choices for p in c.parts if p.type == "image"]
    assert len(shown) == (4 if "composite" == trial.facts["layout"] else many) and all(trials.image(p).ndim == 3 for p in shown)
    assert trials.card["generator"]["problems"] == [] and trial.source["release_level"] == "Private"

    (said,) = import_devcv(tmp_path / "ego4d_sample", tmp_path / "said", verbatim=True)
    assert said.facts["answer_kind"] == ("number" if folder in ("count", "subitize") else "direction" if folder in ("vdr-binary", "vdr-open") else "letter")
    assert said.form == "open" and said.answer == [answer] and len(said.pictures) == many and len(said.choices) == choices
    bare = " ".join(said.facts["prompt"].replace("<image>", " ").split())
    assert " ".join(said.question.split()) == bare.strip()


@pytest.mark.parametrize("prompts", [MEMORY, AT_FRONT], ids=["letters", "ordinals"])
@pytest.mark.parametrize("rounds", [15, 30])
def test_memory_whole_windowed_and_as_published(tmp_path, prompts, rounds):
    item = memory_item(rounds=rounds, prompts=prompts)
    folder = publish(tmp_path / "memory", [item, memory_item("memory_task_2", rounds, labels=False, seed=1)])
    trials = import_devcv(folder.parent, tmp_path / "out")
    assert [len(t.turns) for t in trials] == [rounds] * 2 and trials[0].facts["labels"] == item["labels"] and "labels" not in trials[1].facts
    assert "1 of 2 dialogues have no labels" in " ".join(trials.card["generator"]["notes"])
    said = import_devcv(folder.parent, tmp_path / "said", verbatim=True)
    assert [p.type for p in said[0].turns[1].context].count("image") == 2 and not said[0].turns[1].choices[0].parts

    windows = import_devcv(folder.parent, tmp_path / "windows", longest=6)
    assert len(windows) == 2 * (rounds - 1) and "cut into windows" in " ".join(windows.card["generator"]["notes"])
    assert len({t.trial_id for t in windows}) == len(windows)
    for trial in windows:
        *study, test = trial.turns
        known = [t.choices[0].parts[0].path for t in study]
        old = [c.parts[0].path for c in test.choices if c.id not in test.answer]
        new = [c.parts[0].path for c in test.choices if c.id in test.answer]
        assert all(len(t.choices) == 1 for t in study) and old[0] in known and new[0] not in known
        assert len(known) + 2 <= 6 and len(set(known)) == len(known) == trial.facts["window"]["pictures"]


def test_long_clips_are_thinned_and_said_so(tmp_path):
    frames = [f"images/f{k}.png" for k in range(50)]
    publish(tmp_path / "vdr", [published("v", ["<image>" * 50 + " Where does it hide? (A) left (B) right"], ["A"], frames)])
    whole, thin = import_devcv(tmp_path, tmp_path / "a"), import_devcv(tmp_path / "vdr", tmp_path / "b", longest=8)
    assert len(whole[0].pictures) == 50 and len(thin[0].pictures) == 8 and thin[0].facts["window"] == dict(pictures=8, of=50)
    assert thin[0].pictures[0] == whole[0].pictures[0] and thin[0].pictures[-1] == whole[0].pictures[-1]
    assert "1 of 1 items are longer than 8 pictures" in thin.card["generator"]["notes"][0]
    with pytest.raises(WrongInput, match="exclude each other"):
        import_devcv(tmp_path / "vdr", tmp_path / "c", longest=8, verbatim=True)


def test_flat_folders_splits_and_prompts_without_markers(tmp_path):
    count = published("count_1", ["How many cups do you see?"], ["2"], ["images/a.jpg"])
    right = published("r", ["Which of the following is the same as this? (A) (B) (C)"], ["C"], [f"images/{n}.jpg" for n in "abcd"])
    for name, item in (("pv_test", None), ("count_test", count), ("leftright_instructions_train", right), ("leftright_val", right), ("MANIFEST", dict(seed=1)), ("audit", dict(flaws=[]))):
        if item:
            (tmp_path / "ego4d").mkdir(exist_ok=True)
            (tmp_path / "ego4d" / f"{name}.json").write_text(json.dumps(item if name in ("MANIFEST", "audit") else [item]))
    for n in "abcd":
        draw(tmp_path / "ego4d" / "images" / f"{n}.jpg", ord(n))
    trials = open_trials(tmp_path / "ego4d", tmp_path / "out")
    assert sorted((t.task, t.split) for t in trials) == [("counting", "test"), ("left_right", "train"), ("left_right", "val")]
    query = next(t for t in trials if t.task == "left_right")
    assert len(query.pictures) == 1 and [c.id for c in query.choices] == list("ABC")
    assert [t.split for t in open_trials(tmp_path / "ego4d", tmp_path / "test", splits="test")] == ["test"]
    single = import_devcv(tmp_path / "ego4d" / "count_test.json", tmp_path / "one")
    assert len(single) == 1 and len(single[0].pictures) == 1


def test_quirks_are_kept_and_named(tmp_path):
    same = published("count_6", ["Which image has more bowls? Answer (A) <image> (B) <image>"], ["B"], ["images/a.jpeg", "images/a.jpeg"])
    notes = published("count_6", ["Which image has more cups? Answer (A) <image> (B) <image>"], ["A"], ["images/a.jpg", "images/gone.jpeg"], notes="first should have 2 second should have 1", gif="x.gif")
    dated = published("Y_20190426_1412_01_clip_010", ["Which image has more cups? (A) <image> (B) <image>"], ["A"], ["images/b.jpg", "images/Y_20190426_1412_03_1.jpg"])
    folder = publish(tmp_path / "saycam" / "val" / "compare_synthetic", [same, notes, dated], missing=("images/gone.jpeg", "images/a.jpg", "images/Y_20190426_1412_03_1.jpg"))
    trials = import_devcv(tmp_path / "saycam", tmp_path / "out")
    first, second, third = trials
    assert first.choices[0].parts[0].path == first.choices[1].parts[0].path == second.choices[0].parts[0].path  # .jpg asked for, .jpeg there
    assert len({t.trial_id for t in trials}) == 3 and second.facts["counts"] == [2, 1] and {t.split for t in trials} == {"val"}
    problems = trials.card["generator"]["problems"]
    assert [p["trial_id"] for p in problems] == [second.trial_id, third.trial_id] and "images/gone.jpeg is missing" in problems[0]["problem"]
    assert third.group["child"] == "Y" and third.group["scene"] == third.group["session"]
    text = (tmp_path / "out" / "trials.jsonl").read_text() + (tmp_path / "out" / "trials.json").read_text()
    assert "20190426" not in text and str(tmp_path) not in text
    with pytest.raises(WrongInput, match="missing"):
        trials.image(second.choices[1].parts[0].path)
    assert (folder / "data.json").is_file()


def test_pictures_are_copied_byte_for_byte(tmp_path):
    publish(tmp_path / "leftright", [published("r", [PUBLISHED[2][1]], ["A"], ["images/a.jpeg", "images/a.jpeg", "images/b.jpg", "images/c.jpg"])])
    trials = import_devcv(tmp_path, tmp_path / "out")
    assert trials.bytes(trials[0].pictures[0]) == (tmp_path / "leftright" / "images" / "a.jpeg").read_bytes()
    assert trials[0].pictures[0] == trials[0].choices[0].parts[0].path and len(list((tmp_path / "out" / "media").iterdir())) == 3


def test_the_same_folder_gives_the_same_bytes_and_is_read_once(tmp_path):
    publish(tmp_path / "a" / "memory", [memory_item()])
    one, two = import_devcv(tmp_path / "a", tmp_path / "one"), import_devcv(tmp_path / "a", tmp_path / "two")
    assert all((tmp_path / "one" / n).read_bytes() == (tmp_path / "two" / n).read_bytes() for n in ("trials.json", "trials.jsonl"))
    stamp = (tmp_path / "one" / "trials.jsonl").stat().st_mtime_ns
    assert open_trials(tmp_path / "a", tmp_path / "one").sha256 == one.sha256 and (tmp_path / "one" / "trials.jsonl").stat().st_mtime_ns == stamp
    assert len(open_trials(tmp_path / "a", tmp_path / "one", longest=4)) == 14 and two[0].turns


@pytest.mark.parametrize("change,key", [
    (dict(id=[1]), "id"), (dict(image=None), "image"), (dict(image=["a.jpg", 3]), "image"), (dict(image=["a.jpg"] * 2), "image"), (dict(image=["../../../etc/passwd"]), "image"),
    (dict(image=["/etc/passwd"]), "image"), (dict(conversations=None), "conversations"), (dict(conversations=[]), "conversations"), (dict(conversations=[dict(value="x")] * 2), "conversations"),
    (dict(conversations=[{"from": "human", "value": "<image> How many cups do you see?"}, {"from": "gpt", "value": "a lot"}]), "conversations"),
    (dict(conversations=[{"from": "human", "value": "<image> (A) <image> (A) <image>"}, {"from": "gpt", "value": "A"}], image=list("abc")), "conversations"),
    (dict(labels=[["a"], ["b"]]), "labels"), (dict(labels="cup"), "labels"), (dict(bb=["x"] * 4), "bb"), (dict(notes=3), "notes"), (dict(id="\ud800"), "id"),
])  # fmt: skip
def test_a_malformed_file_names_itself_the_item_and_the_key(tmp_path, change, key):
    good = published("count_1", ["<image> How many cups do you see?"], ["2"], ["a.jpg"])
    folder = publish(tmp_path / "count", [good])
    (folder / "data.json").write_text(json.dumps([good, {**good, **change}]))
    with pytest.raises(WrongInput) as error:
        import_devcv(tmp_path, tmp_path / "out")
    assert "count/data.json item 1" in str(error.value) and f"key '{key}'" in str(error.value) and not (tmp_path / "out").exists()


JUNK = [None, True, 0, -1, 3.5, 10**400, math.nan, math.inf, "", " ", "A", "<image>", "(A)", "(A) <image>", "\ud800", "\x00", "\u2028", "é", "..", "{option}", "x" * 5000, [], {}, [[]], [None], {"": ""}, {"from": "gpt"}]  # fmt: skip


def spots(value, path=()):
    "Every place in a JSON value."
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from spots(value[key], (*path, key))


def mutated(value, dice):
    "The value with one to three things wrong, as JSON text that may itself be broken."
    value, junk = json.loads(json.dumps(value)), lambda: copy.deepcopy(dice.choice(JUNK))
    for _ in range(dice.choice((1, 1, 2, 3))):
        path = dice.choice([p for p in spots(value) if p] or [()])
        if not path:
            break
        *way, last = path
        place = value
        for key in way:
            place = place[key]
        deed = dice.randrange(5)
        if deed == 0:
            del place[last]
        elif deed == 1 and isinstance(place, list):
            place.insert(last, dice.choice([copy.deepcopy(place[last]), junk()]))
        elif deed == 2 and isinstance(place[last], str) and place[last]:
            text, k = place[last], dice.randrange(len(place[last]))
            place[last] = text[:k] + dice.choice(["", "<image>", "(B)", "'", " ", "\n", text[k:] * 2]) + text[k + dice.randrange(9) :]
        elif deed == 3 and isinstance(place, dict):
            place[dice.choice(["id", "image", "labels", "notes", "bb", "form", "turns", "x"])] = dice.choice([copy.deepcopy(place[last]), junk()])
        else:
            place[last] = junk()
    return value


def damaged(text, dice):
    "The bytes with a cut, a flip or a nest too deep."
    data, k = bytearray(text.encode("utf-8", "surrogatepass")), dice.randrange(max(1, len(text)))
    deed = dice.randrange(4)
    if deed == 0:
        return bytes(data[:k])
    if deed == 1:
        data[k : k + 1] = bytes([dice.randrange(256)])
    elif deed == 2:
        del data[k : k + dice.randrange(40)]
    else:
        data[k:k] = b"[" * 3000
    return bytes(data)


@pytest.mark.parametrize("part", range(4))
def test_500_of_2000_broken_data_files_give_trials_or_a_named_problem(tmp_path, part):
    dice = random.Random(part)
    items = [published("count_1", ["<image> How many cups do you see?"], ["2"], ["images/a.png"], bb=[1, 2, 3, 4]), memory_item(rounds=3),
             published("p", [PUBLISHED[13][1]], ["D"], ["images/b.png"]), published("v", [PUBLISHED[15][1]], ["left"], ["images/a.png"] * 6, notes="first should have 2 second should have 1"),
             published("l", [PUBLISHED[2][1]], ["C"], ["images/a.png"] * 4), published("w", [PUBLISHED[11][1]], ["C"], ["images/b.png"] * 4)]  # fmt: skip
    folder, made, named = publish(tmp_path / "count", items), 0, 0
    for _ in range(500):
        text = json.dumps(mutated(dice.sample(items, 2), dice))
        (folder / "data.json").write_bytes(damaged(text, dice) if dice.random() < 0.25 else text.encode())
        how = dice.choice([{}, {}, dict(verbatim=True), dict(longest=2)])
        try:
            trials = import_devcv(tmp_path / "count", tmp_path / "out", **how)
        except WrongInput as error:
            assert "data.json" in str(error) and re.search(r"item \d.*key '|not whole JSON|list of items", str(error), re.S), str(error)[:300]
            named += 1
        else:
            assert all(from_line(to_line(t)) == t for t in trials) and all(0 < t.chance <= 1 for t in trials)
            made += 1
    assert made > 50 and named > 50


@pytest.mark.parametrize("part", range(4))
def test_500_of_2000_broken_trials_files_give_trials_or_a_named_problem(tmp_path, part):
    dice, folder = random.Random(100 + part), tmp_path / "trials"
    with TrialsWriter(folder, dict(name="test")) as writer:
        a, b = (writer.image(np.full((4, 4, 3), v, np.uint8)) for v in (10, 200))
        pair = [Choice("0", [Part("image", path=a)], "a cup"), Choice("1", [Part("image", path=b)], "a ball")]
        shared = dict(suite="s", answer=["0"], chance=0.5, group=dict(scene="s0", noun="cup"), min_px=8, prompt_words=["where"], age_months=[6, 9], source=dict(release_level="Public"))
        writer.add(Trial("t0", task="find", form="choose_image", context=[Part("text", "where is the cup", onset_s=0.5)], choices=pair, **shared))
        writer.add(Trial("t1", task="say", form="choose_text", context=[Part("image", path=a)], choices=[Choice(c.id, statement=c.statement) for c in pair], **shared))
        writer.add(Trial("t2", task="both", form="two_by_two", context=[], choices=pair, **(shared | dict(answer=["0", "1"]))))
        writer.add(Trial("t3", task="memory", form="turns", context=[], choices=[], turns=[Turn([Part("text", "which is new")], pair, ["1"])], **(shared | dict(answer=[]))))
        writer.add(Trial("t4", task="how_many", form="open", context=[Part("image", path=a), Part("text", "how many")], choices=[], **(shared | dict(answer=["two"]))))
    lines, made, named = (folder / "trials.jsonl").read_text().splitlines(), 0, 0
    (folder / "trials.json").unlink()
    for k in range(500):
        some = dice.sample(lines, 3)
        some[1] = json.dumps(mutated(json.loads(some[1]), dice))
        text = "\n".join(some) + "\n"
        (folder / "trials.jsonl").write_bytes(damaged(text, dice) if dice.random() < 0.2 else text.encode())
        try:
            trials = read_trials(folder)
        except WrongInput as error:
            assert "trials.jsonl" in str(error) and re.search(r"line \d|not UTF-8", str(error)), str(error)[:300]
            named += 1
        else:
            made += 1
            assert all(to_line(from_line(to_line(t))) == to_line(t) for t in trials)
            if k % 10 == 0:  # whatever can be read can be scored: an item that fails is wrong, never a crash
                marks = score_trials(Coin(0), list(trials), trials)
                assert all(0 <= m.credit <= 1 for m in marks)
    assert made > 50 and named > 50


V1 = dict(
    labeled_s=lambda n: "trial_id,target_category,real_category,image\n" + "".join(f"{k},ball,{w},{w}/{k}.jpeg\n" for k in range(n) for w in ("car", "ball", "cup", "hat")),
    vtwt=lambda n: "image,positive_phrase,negative_phrase\n" + "".join(f"S_20130405_0910_01_{k}.jpg,see {k},eat {k}\n" for k in range(n)),
    baby_winoground=lambda n: "instance_id,positive_phrase,negative_phrase,image,image_tag\n" + "".join(f"{k},see {k},eat {k},{k}{t[0]}.jpg,{t}\n" for k in range(n) for t in ("positive", "negative")),
    SAYCam_caption=lambda n: "image,text\n" + "".join(f'{k}.jpg,"there is {k} , look"\n' for k in range(n)),
)  # fmt: skip


def first_babyvlm(folder, n=4):
    for name, text in V1.items():
        (folder / name).mkdir(parents=True)
        (folder / name / f"{name.lower()}.csv").write_text(text(n))
    numbers = itertools.count()
    for k in range(n):
        for path in [f"labeled_s/images/{w}/{k}.jpeg" for w in ("car", "ball", "cup", "hat")] + [f"vtwt/images/S_20130405_0910_01_{k}.jpg", f"SAYCam_caption/images/{k}.jpg",
                                                                                               f"baby_winoground/positive_images/{k}p.jpg", f"baby_winoground/negative_images/{k}n.jpg"]:  # fmt: skip
            draw(folder / path, next(numbers))
    return folder


def test_the_first_babyvlm(tmp_path):
    trials = open_trials(first_babyvlm(tmp_path / "dataset"), tmp_path / "out")
    counts = {t.task: (t.form, t.chance, len(t.choices)) for t in trials}
    assert counts == dict(labeled_s=("choose_image", 0.25, 4), vtwt=("choose_text", 0.5, 2), baby_winoground=("two_by_two", 1 / 6, 2), saycam_caption=("choose_text", 0.25, 4))
    assert not trials.card["generator"]["problems"] and "20130405" not in (tmp_path / "out" / "trials.jsonl").read_text()
    labeled = [t for t in trials if t.task == "labeled_s"]
    assert all(t.answer == ["1"] and t.facts["published_order"] == list("0123") for t in labeled)
    marks = score_trials(Oracle(trials), list(trials), trials)
    assert [m.credit for m in marks] == [1] * len(trials) and not any(m.error for m in marks)


def test_captions_said_freely_get_meteor(tmp_path):
    trials = open_trials(first_babyvlm(tmp_path / "dataset"), tmp_path / "out", verbatim=True)
    captions = [t for t in trials if t.task == "saycam_caption"]
    assert all(t.form == "open" and not t.choices for t in captions)
    said = [t.answer[0] if k else "a dog" for k, t in enumerate(captions)]
    rows = [dict(learner="x", suite=t.suite, task=t.task, variant="learner", trial_id=t.trial_id, scores=[], choices=[], answer=t.answer, credit=0.0, tied=False, error="", chance=0.0,
                 scene=t.trial_id, noun=None, reply=r) for t, r in zip(captions, said)]  # fmt: skip
    found = leaderboard_scores(rows, trials)["x"]["first_babyvlm"]["saycam_caption"]["metrics"]["meteor"]
    assert found == pytest.approx(3 / 4 * (1 - 0.5 * (1 / 5) ** 3))  # five words in one chunk, three times


def test_a_published_folder_may_be_given_as_trials(tmp_path, monkeypatch, capsys):
    quickstart = importlib.import_module("babyvlm.cli.quickstart")
    monkeypatch.setattr(quickstart, "learners_of", lambda runs, checkpoints="latest": [Coin(0)])
    for split in ("test", "train"):
        publish(tmp_path / "saycam" / split / "count", [published("c", [PUBLISHED[0][1]], ["2"], ["images/a.jpg"])])
    publish(tmp_path / "saycam" / "test" / "memory", [memory_item()])
    report = quickstart.judge_runs(["run"], tmp_path / "out", trials=tmp_path / "saycam")
    assert sorted((t["suite"], t["task"], t["n"]) for t in report["tasks"]) == [("devcv", "counting", 1), ("devcv", "memory", 1)]
    assert set(json.loads((tmp_path / "out" / "leaderboards" / "coin.json").read_text())["results"]) == {"baby_count", "baby_memory"}
    before = (tmp_path / "out" / "trials" / "trials.jsonl").stat().st_mtime_ns
    quickstart.judge_runs(["run"], tmp_path / "out", trials=tmp_path / "saycam")
    assert (tmp_path / "out" / "trials" / "trials.jsonl").stat().st_mtime_ns == before
    assert "report card" in capsys.readouterr().out


@pytest.mark.parametrize("name,text,word", [
    ("vtwt", "image,positive_phrase,negative_phrase\na.jpg,x\n", "row 2"), ("labeled_s", "trial_id,target_category,real_category,image\n0,a,a,x\n", "has 1 rows"),
    ("labeled_s", "trial_id,target_category,real_category,image\n" + "0,a,a,x\n" * 4, "exactly one"), ("saycam_caption", "image,text\n", "no rows"),
    ("baby_winoground", "instance_id,positive_phrase,negative_phrase,image,image_tag\n" + "0,a,b,x,positive\n" * 2, "image_tag"),
    ("saycam_caption", "image,text\na.jpg,same\nb.jpg,same\n", "nothing to tell apart"), ("vtwt", "image,positive_phrase,negative_phrase\na.jpg,x,y,z\n", "more fields"),
])  # fmt: skip
def test_a_malformed_table_names_its_row(tmp_path, name, text, word):
    (tmp_path / f"{name}.csv").write_text(text)
    with pytest.raises(WrongInput, match=word) as error:
        import_v1(tmp_path, tmp_path / "out")
    assert f"{name}.csv" in str(error.value)


def test_200_broken_tables_give_trials_or_a_named_problem(tmp_path):
    dice, folder, made = random.Random(5), first_babyvlm(tmp_path / "dataset", n=4), 0
    files = sorted(folder.rglob("*.csv"))
    texts = {f: f.read_text() for f in files}
    for _ in range(200):
        file = dice.choice(files)
        file.write_bytes(damaged(texts[file], dice))
        try:
            made += len(import_v1(file, tmp_path / "out", images=file.parent)) > 0
        except WrongInput as error:
            assert str(file) in str(error)
        file.write_text(texts[file])
    assert 5 < made < 195


def devcv_trials(n=60, seed=0):
    "Trials of every benchmark, without pictures: only what the rules look at."
    dice, found = np.random.default_rng(seed), []
    sizes = dict(picture_vocabulary="ABCD", localization="ABCD", left_right="ABC", spatial_details="ABC", who_has_more="AB", who_has_more_synthetic="AB")
    for k in range(n):
        shared = dict(suite="devcv", context=[], group=dict(scene=f"s{k // 2}"))
        for task, ids in sizes.items():
            found.append(Trial(f"{task}{k}", task=task, form="choose_text", choices=[Choice(c, statement=c) for c in ids], answer=[str(dice.choice(list(ids)))], chance=1 / len(ids), **shared))
        for task, ids in dict(delayed_response=("right", "left"), delayed_response_open=COMPASS, counting=[str(i) for i in range(1, 13)]).items():
            found.append(Trial(f"{task}{k}", task=task, form="choose_text", choices=[Choice(c, statement=c) for c in ids], answer=[str(dice.choice(list(ids)))], chance=1 / len(ids), **shared))
        pair = [Choice(c, statement=c) for c in "01"]
        found.append(Trial(f"w{k}", "babyvlm_v1", "baby_winoground", "two_by_two", [], pair, ["0", "1"], 1 / 6, shared["group"]))
        item = memory_item(f"m{k}", labels=k % 5 > 0, seed=k)
        golds = [turn["value"] for turn in item["conversations"][1::2]]
        turns = [Turn([], [Choice(c) for c in ("A" if r == 0 else "AB")], [g]) for r, g in enumerate(golds)]
        found.append(Trial(f"m{k}", task="memory", form="turns", choices=[], answer=[], chance=0.5, turns=turns, facts=dict(labels=item["labels"]) if "labels" in item else {}, **shared))
    return found


REPLIES = ["A", "b", "(C)", "d.", "the answer is B", "a cup", "Dog", "", "eleven", "3", "I see 7 of 9", "ten cups", "left", " left", "Top Left", "bottom right", "12", "é", "A-B"]


def random_rows(trials, seed=0, spoken=True):
    "Rows as trials.parquet holds them: some scored, some spoken, some failed."
    dice, rows = np.random.default_rng(seed), []
    for t in trials:
        k, broke, turns = len(t.choices), dice.random() < 0.1, t.turns or []
        scores = [] if broke else list(dice.random(4 if t.form == "two_by_two" else len(turns) or k))
        if turns and not broke:
            scores = [float(s > 0.4) for s in scores]
        elif not broke and dice.random() < 0.2:
            scores[0] = scores[-1] = 1.0  # a tie
        said = [str(dice.choice(REPLIES)) for _ in (turns or [0])] if spoken and not broke and t.form != "two_by_two" and dice.random() < 0.6 else []
        rows.append(dict(learner="x", suite=t.suite, task=t.task, variant="learner", trial_id=t.trial_id, scores=scores, choices=[c.id for c in t.choices], answer=t.answer,
                         credit=0.0 if broke else float(dice.random()), tied=False, error="out of memory" if broke else "", chance=t.chance, scene=t.group["scene"], noun=None,
                         reply="" if not said else json.dumps(said) if turns else said[0]))  # fmt: skip
    return rows


def by_hand(trials, rows, errors):
    "The leaderboard's numbers written down a second time, from the rules alone."
    row_of, lists = {r["trial_id"]: r for r in rows}, {}
    near = {d: {COMPASS[(k + s) % 8] for s in (-1, 0, 1)} for k, d in enumerate(COMPASS)}
    words = dict(zip("zero one two three four five six seven eight nine ten".split(), range(11)))

    def letter(text):
        alone = [w for w in re.split(r"\W+", text) if len(w) == 1 and w.upper() in "ABCD"]
        return alone[0].upper() if alone else None

    def numeral(text):
        for token in re.findall(r"[0-9]+|[a-z]+", text.lower()):
            if token.isdigit() or token in words:
                return int(token) if token.isdigit() else words[token]
        return None

    name_of = {b.task: name for name, b in BENCHMARKS.items()}
    for t in trials:
        row, name = row_of[t.trial_id], name_of[t.task]
        if row["error"] and errors == "dropped":
            continue

        def add(metric, value, name=name):
            lists.setdefault((name, metric), []).append(float(value))

        if t.form == "two_by_two":
            s = np.array(row["scores"] or [np.nan] * 4).reshape(2, 2)  # picture, words
            image, text = s[0, 0] > s[1, 0] and s[1, 1] > s[0, 1], s[0, 0] > s[0, 1] and s[1, 1] > s[1, 0]
            add("image_score", image), add("text_score", text), add("group_score", image and text)
            continue
        if t.turns:
            golds, base = [x.answer[0] for x in t.turns], 5
            if row["error"]:
                right = [False] * 15
            elif row["reply"]:
                right = [letter(r) == g for r, g in zip(json.loads(row["reply"]), golds)]
            else:
                right = [s == 1 or k == 0 for k, s in enumerate(row["scores"])]
            add("acc_learning", np.mean(right[:base])), add("acc_testing_raw", np.mean(right[base:]))
            labels = t.facts.get("labels")
            pairs = {} if labels is None else {w: [k for k in range(base, 15) if w in labels[k]] for k in range(base) for w in labels[k]}
            if labels is not None or errors == "wrong":
                add("acc_testing_adjusted", sum(len(ks) == 2 and all(right[k] for k in ks) for ks in pairs.values()) / base)
            continue
        reply, gold = row["reply"], t.answer[0]
        if not reply and not row["error"]:
            reply = row["choices"][int(np.argmax(row["scores"]))]
        if t.task.startswith("delayed"):
            add("acc_exact", reply.lower() == gold), add("acc_adjacent", reply.lower() in near[gold])
        else:
            add("acc", numeral(reply) == int(gold) if t.task == "counting" else letter(reply) == gold)
    return {key: float(np.mean(values)) for key, values in lists.items()}


@pytest.mark.parametrize("errors", ["wrong", "dropped"])
@pytest.mark.parametrize("seed", range(3))
def test_leaderboard_scores_equal_a_recomputation(errors, seed):
    trials = devcv_trials(seed=seed)
    rows = random_rows(trials, seed)
    found = leaderboard_scores(rows, trials, errors)["x"]
    expected = by_hand(trials, rows, errors)
    assert {(b, m): v for b, line in found["results"].items() for m, v in line.items()} == pytest.approx(expected, abs=1e-12)
    assert found["overall"] == pytest.approx(100 * sum(expected[b, x.metrics[0]] for b, x in BENCHMARKS.items()) / 11, abs=0.006) and found["missing"] == []
    assert set(found["results"]) == set(BENCHMARKS) and 0 < found["random"] < 50
    assert sum(line["errors"] for line in found["benchmarks"].values()) > 30


def test_a_coin_lands_on_the_chance_that_the_board_does_not_show(tmp_path):
    trials = devcv_trials(n=400, seed=9)
    dice, rows = np.random.default_rng(1), random_rows(trials, 4, spoken=False)
    for t, row in zip(trials, rows):
        row["error"] = ""
        row["scores"] = [float(dice.random() < 1 / len(x.choices)) for x in t.turns] if t.turns else list(dice.random(4 if t.form == "two_by_two" else len(t.choices)))
    line = leaderboard_scores(rows, trials)["x"]
    for name, found in line["benchmarks"].items():
        for metric, value in found["metrics"].items():
            chance = found["chance"][metric] * (0.8 if metric == "acc_testing_adjusted" else 1)  # a fifth of the items has no labels, and cannot win
            assert abs(value - chance) < 3.3 * math.sqrt(0.25 / 400), (name, metric, value, chance)
    assert line["random"] > 25


def test_strange_trials_under_known_names_do_no_harm(tmp_path):
    dice, pair, found, rows = random.Random(1), [Choice("0", [Part("image", path="p")], "a"), Choice("1", [Part("image", path="q")], "b")], [], []
    for task, form in itertools.product([b.task for b in BENCHMARKS.values()], ["choose_image", "open", "turns", "two_by_two", "surprise", "sequence"]):
        facts = dict(labels=dice.choice([None, 3, ["a"], [["a"]] * 2, [[1]] * 2]), published_order=dice.choice([None, 5, ["0"], ["1", "0"]]), **dice.choice([{}, dict(window={})]))
        turns = [Turn([], pair, dice.choice([[], ["1"]])) for _ in range(2)] if form == "turns" else None
        for broke in (False, True):
            choices = [] if form in ("turns", "surprise") else pair
            t = Trial(f"{task} {form} {broke}", dice.choice(["devcv", "babyvlm_v1"]), task, form, [], choices, dice.choice([[], ["0"]]), 0.5, facts=facts, turns=turns)
            rows.append(dict(learner="x", suite=t.suite, task=task, variant="learner", trial_id=t.trial_id, scores=[] if broke else [0.1, math.nan, 1.0, 0.0][: dice.randrange(5)],
                             choices=["0", "1"], answer=t.answer, credit=0.5, tied=False, error="x" * broke, chance=0.5, scene="s", noun=None, reply=dice.choice(["", "A", "[1]", "{"])))  # fmt: skip
            found.append(t)
    for errors in ("wrong", "dropped"):
        line = leaderboard_scores(rows, found, errors)["x"]
        assert all(0 <= v <= 1 for metrics in line["results"].values() for v in metrics.values())


def test_score_files_are_what_the_board_takes(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    trials = devcv_trials(n=6)
    rows = random_rows(trials)
    pq.write_table(pa.Table.from_pylist(rows + [{**r, "variant": "text_blind", "credit": 0.0, "scores": []} for r in rows]), tmp_path / "trials.parquet")
    board, ours = write_scores(tmp_path, trials)
    page = json.loads(board.read_text())
    assert set(page) == {"results"} and set(page["results"]) == set(BENCHMARKS)
    assert all(0 <= v <= 1 and m in BENCHMARKS[b].metrics for b, line in page["results"].items() for m, v in line.items())
    more = json.loads(ours.read_text())
    assert more["benchmarks"]["baby_memory"]["ceiling"] == pytest.approx(4 / 6, abs=1e-5) and "a perfect learner would get 0.667" in more["notes"][-1]  # of six dialogues two have no labels
    assert "random play gets" in more["notes"][0] and all(set(v["ours"]) == {"score", "lo", "hi", "chance", "corrected"} for v in more["benchmarks"].values())
    with pytest.raises(WrongInput, match="trials.parquet"):
        write_scores(tmp_path / "nowhere", trials)


def test_an_oracle_solves_an_imported_folder(tmp_path):
    numbers = itertools.count()
    for folder, prompt, many, ending, gold, *_ in PUBLISHED:
        if not (tmp_path / "site" / folder / "data.json").exists():
            publish(tmp_path / "site" / folder, [published(folder, [prompt], [gold], [f"images/{folder}_{k}.{ending}" for k in range(many)])])
            for k in range(many):
                draw(tmp_path / "site" / folder / "images" / f"{folder}_{k}.{ending}", next(numbers))
    publish(tmp_path / "site" / "memory", [memory_item()])
    trials = import_devcv(tmp_path / "site", tmp_path / "out")
    marks = score_trials(Oracle(trials), list(trials), trials)
    assert {m.trial_id: m.credit for m in marks} == {t.trial_id: 1 for t in trials} and not any(m.error for m in marks)


class Speaks:
    "Replies to a prompt as published; knows the answers, and says them in its own way."

    def __init__(self, trials, how="{}"):
        self.how, self.gold = how, {}
        for t in trials:
            for k, turn in enumerate(t.turns or [t]):
                shown = tuple(trials.image(p.path).tobytes() for turn_ in (t.turns or [t])[: k + 1] for p in turn_.context if p.type == "image")
                self.gold[shown, next(p.text for p in turn.context if p.type == "text")] = turn.answer[0]

    def generate(self, contexts, max_new_tokens):
        def reply(context):
            shown = tuple(part.tobytes() for part in context if not isinstance(part, str))
            said = [part for part in context if isinstance(part, str)]
            return next(self.how.format(gold) for (pixels, text), gold in self.gold.items() if pixels == shown and text in said)

        return [reply(context) for context in contexts]


@pytest.mark.parametrize("how,ours,board", [("{}", 1, 1), ("The answer is {}.", 1, None)])
def test_replies_to_published_prompts_are_scored_by_both_rules(tmp_path, how, ours, board):
    numbers = itertools.count()
    for folder, prompt, many, ending, gold, *_ in PUBLISHED:
        if folder in ("count", "leftright", "vdr-open", "localize") and not (tmp_path / "site" / folder / "data.json").exists():
            publish(tmp_path / "site" / folder, [published(folder, [prompt], [gold], [f"images/{folder}_{k}.{ending}" for k in range(many)])])
            for k in range(many):
                draw(tmp_path / "site" / folder / "images" / f"{folder}_{k}.{ending}", next(numbers))
    publish(tmp_path / "site" / "memory", [memory_item()])
    trials = import_devcv(tmp_path / "site", tmp_path / "out", verbatim=True)
    marks = score_trials(Speaks(trials, how), list(trials), trials)
    assert {m.trial_id: m.credit for m in marks} == {t.trial_id: ours for t in trials}
    rows = [dict(learner="x", suite=t.suite, task=t.task, variant="learner", trial_id=t.trial_id, scores=m.scores, choices=[c.id for c in t.choices], answer=t.answer, credit=m.credit,
                 tied=m.tied, error=m.error, chance=t.chance, scene=t.trial_id, noun=None, reply=m.reply) for t, m in zip(trials, marks)]  # fmt: skip
    results = {b: next(iter(line.values())) for b, line in leaderboard_scores(rows, trials)["x"]["results"].items()}
    if board == 1:
        assert results == dict.fromkeys(results, 1) and len(results) == 5
    else:  # a sentence is a wrong direction there, whatever it says
        assert results["baby_vdr_open"] == 0 and results["baby_localize"] == results["baby_count"] == 1
