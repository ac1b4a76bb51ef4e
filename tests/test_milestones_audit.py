"""The audit: planted flaws of each kind are found, clean folders give nothing, published shortcuts are named."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from babyvlm.cli import main
from babyvlm.core.basics import WrongInput
from babyvlm.core.records import encode_image
from babyvlm.core.trials import Choice, Part, Trial, TrialsWriter, read_trials
from babyvlm.milestones.audit import SAYS, SOLVERS, audit, audit_table, write_audit

NOUNS = ["duck", "cup", "ball", "shoe"]


def noise(random, shift=0.0, tint=None):
    "A picture of coarse noise, uint8 (24, 24, 3), so that no two are alike and each has a layout."
    coarse = random.normal(128 + shift, 40, (6, 6, 3)).repeat(4, 0).repeat(4, 1)
    if tint is not None:
        coarse = coarse * 0.5 + np.array(tint) * 0.5
    return np.clip(coarse + random.normal(0, 6, (24, 24, 3)), 0, 255).astype(np.uint8)


class Plan:
    "How one task of pictures is made; each planted flaw changes one of these."

    form, choices, n = "choose_image", 3, 90

    def place(self, random, i): return int(random.integers(self.choices))  # where the answer stands
    def noun(self, random, i): return NOUNS[int(random.integers(4))]
    def right(self, random, noun, query): return noise(random)
    def foil(self, random, noun, query): return noise(random)
    def data(self, pixels, right): return encode_image(pixels, "PNG")
    def foils(self, random, noun, query): return [self.foil(random, noun, query) for _ in range(self.choices - 1)]
    def fields(self, i): return {}
    def query(self, random): return None

    def trial(self, writer, random, i):
        noun, query, place = self.noun(random, i), self.query(random), self.place(random, i)
        pictures = [(p, False) for p in self.foils(random, noun, query)]
        pictures.insert(place, (self.right(random, noun, query), True))
        names = [writer.store(self.data(p, right), "png", f"{type(self).__name__}_{i}_{k}") for k, (p, right) in enumerate(pictures)]
        shown = [] if query is None else [Part("image", path=writer.store(encode_image(query, "PNG"), "png", f"{type(self).__name__}_{i}_q"))]
        plain = dict(context=[Part("text", f"where is the {noun} {i}"), *shown], choices=[Choice(str(k), [Part("image", path=p)]) for k, p in enumerate(names)])
        plain |= dict(answer=[str(place)], chance=1 / self.choices, group=dict(scene=f"{type(self).__name__}{i}", noun=noun, child="c"))
        writer.add(Trial(**dict(trial_id=f"{type(self).__name__}-{i}", suite="planted", task=type(self).__name__, form=self.form) | plain | self.fields(i)))


class Words(Plan):
    "A task of statements about one picture."

    form, choices = "choose_text", 4

    def statement(self, random, noun, right): return f"a {noun} is here"
    def picture(self, random, noun): return noise(random)

    def trial(self, writer, random, i):
        order = [str(w) for w in random.permutation(NOUNS)]
        place = self.place(random, i)
        said = [Choice(str(k), statement=self.statement(random, w, k == place)) for k, w in enumerate(order)]
        path = writer.image(self.picture(random, order[place]))
        plain = dict(context=[Part("image", path=path)], choices=said, answer=[str(place)], chance=1 / 4, group=dict(scene=f"{type(self).__name__}{i}"))
        writer.add(Trial(**dict(trial_id=f"{type(self).__name__}-{i}", suite="planted", task=type(self).__name__, form=self.form) | plain | self.fields(i)))


class Position(Plan):
    def place(self, random, i): return 1 if random.random() < .8 else int(random.integers(3))


class OddOneOut(Plan):
    def foils(self, random, noun, query):
        base = noise(random)
        return [np.clip(base + random.normal(0, 9, base.shape), 0, 255).astype(np.uint8) for _ in range(2)]


class NearestNeighbour(Plan):
    def query(self, random): return noise(random)
    def right(self, random, noun, query): return np.clip(query + random.normal(0, 9, query.shape), 0, 255).astype(np.uint8)


class FarthestNeighbour(Plan):
    choices = 2
    def query(self, random): return noise(random)
    def foil(self, random, noun, query): return np.clip(query + random.normal(0, 9, query.shape), 0, 255).astype(np.uint8)


class TextBlind(Plan):
    def right(self, random, noun, query): return noise(random, shift=40)


class FileSize(Plan):
    def data(self, pixels, right): return encode_image(pixels, "PNG") + b"\0" * (900 if right else 0)


class ImageBlind(Plan):
    def place(self, random, i): return self.spot
    def noun(self, random, i):
        self.spot = int(random.integers(3))
        return NOUNS[self.spot]


class ColourHistogram(Plan):
    tints = dict(zip(NOUNS, [(220, 30, 30), (30, 200, 30), (30, 30, 220), (210, 200, 20)]))
    def right(self, random, noun, query): return noise(random, tint=self.tints[noun])
    def foil(self, random, noun, query): return noise(random, tint=self.tints[str(random.choice([n for n in NOUNS if n != noun]))])


class NearestExample(Plan):
    n = 160
    layouts = {noun: np.random.default_rng(k).normal(0, 60, (6, 6, 3)).repeat(4, 0).repeat(4, 1) for k, noun in enumerate(NOUNS)}
    def shaped(self, random, noun):
        return np.clip(128 + self.layouts[noun] + random.normal(0, 25, (24, 24, 3)), 0, 255).astype(np.uint8)
    def right(self, random, noun, query): return self.shaped(random, noun)
    def foil(self, random, noun, query): return self.shaped(random, str(random.choice([n for n in NOUNS if n != noun])))


class ByteIdentical(Plan):
    def foils(self, random, noun, query): return [noise(random)] * 2


class PixelIdentical(Plan):
    count = 0
    def foils(self, random, noun, query): return [noise(random)] * 2
    def data(self, pixels, right):
        self.count += 1
        return encode_image(pixels, "PNG") + bytes([self.count % 256])  # read alike, stored apart


class ShownAgain(Plan):
    def query(self, random): return noise(random)
    def right(self, random, noun, query): return query


class Duplicates(Plan):
    def trial(self, writer, random, i):
        super().trial(writer, np.random.default_rng([5, i // 2]), i)
    def noun(self, random, i): return "duck"
    def fields(self, i): return dict(context=[Part("text", f"where is thing {i // 2}")])


class RepeatedIds(Plan):
    def fields(self, i): return dict(trial_id=f"again-{i // 2}")


class SplitLeaks(Plan):
    def fields(self, i): return dict(split="train" if i < 60 else "test", group=dict(session=f"session{i % 40}", child="c"))


class PictureLeaks(Plan):
    def fields(self, i): return dict(split="train" if i < 60 else "test")
    def trial(self, writer, random, i):
        super().trial(writer, np.random.default_rng([6, 0 if i in (3, 70) else i]), i)


class AbsentLabels(Plan):
    def fields(self, i): return dict(facts={} if i % 6 == 0 else dict(labels=[["duck"]]))


class NoAnswer(Plan):
    def fields(self, i): return dict(answer=[], form="sequence") if i == 7 else {}  # a choice without an answer cannot even be read


class WrongChance(Plan):
    def fields(self, i): return dict(chance=.25)


class AsksAmiss(Plan):
    def fields(self, i): return dict(facts=dict(prompt="Which is it? Answer with a number. (A) (B) (C)"))

    def trial(self, writer, random, i):
        kept = writer.add
        def lettered(trial):
            name = dict(zip("012", "ABC"))
            kept(replace(trial, choices=[replace(c, id=name[c.id]) for c in trial.choices], answer=[name[a] for a in trial.answer]))
        writer.add = lettered
        super().trial(writer, random, i)
        writer.add = kept


class BoundlessBoxes(Plan):
    def fields(self, i): return dict(facts=dict(bb=[0, 0, 640, 470] if i % 9 == 0 else [5., 5., 6., 6.]))


class Length(Words):
    def statement(self, random, noun, right): return f"a {noun} is here, as you can see" if right else f"a {noun} is {random.choice(['here', 'over there'])}"


class TellingWords(Words):
    def statement(self, random, noun, right): return f"a {noun} is {'here' if right else 'lost'}"


class ColourStatements(Words):
    def picture(self, random, noun): return noise(random, tint=ColourHistogram.tints[noun])


class SameWords(Words):
    def statement(self, random, noun, right): return "it is here" if noun in ("duck", "cup") else f"a {noun} is here"


PLANTED = {
    Position: {"position", "answer_balance"}, OddOneOut: {"odd_one_out"}, NearestNeighbour: {"nearest_neighbour"}, FarthestNeighbour: {"nearest_neighbour"},
    TextBlind: {"text_blind"}, FileSize: {"file_size"}, ImageBlind: {"image_blind"}, ColourHistogram: {"colour_histogram"}, NearestExample: {"nearest_example"},
    ByteIdentical: {"byte_identical"}, PixelIdentical: {"pixel_identical"}, ShownAgain: {"shown_again", "nearest_neighbour"}, Duplicates: {"duplicates"},
    RepeatedIds: {"repeated_ids"}, SplitLeaks: {"split_leaks"}, PictureLeaks: {"split_leaks"}, AbsentLabels: {"absent_labels"}, NoAnswer: {"absent_labels"},
    WrongChance: {"wrong_chance"}, AsksAmiss: {"asks_amiss"}, BoundlessBoxes: {"boundless_boxes"}, Length: {"length"}, TellingWords: {"image_blind"},
    ColourStatements: {"colour_histogram"}, SameWords: {"byte_identical"},
}  # fmt: skip


def folder(path, *plans, seed=0):
    with TrialsWriter(path, dict(name="planted")) as writer:
        for plan in plans:
            made, random = plan(), np.random.default_rng([seed, len(plan.__name__), *plan.__name__.encode()])
            for i in range(made.n):
                made.trial(writer, random, i)
    return read_trials(path)


def flaws(report, task=None):
    return {f["check"] for t, f in report.flaws if task in (None, t["task"])}


@pytest.mark.parametrize("plan", PLANTED, ids=lambda p: p.__name__)
def test_a_planted_flaw_is_found(plan, tmp_path):
    report = audit(folder(tmp_path / "trials", plan))
    found = flaws(report)
    assert PLANTED[plan] <= found, audit_table(report)
    assert report["verdict"] == "flaws" and all(f["items"] for _, f in report.flaws), "a flaw names its items"


@pytest.mark.parametrize("seed", range(3))
def test_clean_tasks_give_nothing(seed, tmp_path):
    report = audit(folder(tmp_path / "trials", Plan, Words, seed=seed))
    assert report["verdict"] == "clean" and not flaws(report), audit_table(report)
    tried = {f["check"] for t in report["tasks"] for f in t["findings"] if f["score"] is not None}
    assert {"position", "length", "odd_one_out", "text_blind", "image_blind", "colour_histogram", "nearest_example", "answer_balance"} <= tried


def test_only_the_flawed_task_is_named(tmp_path):
    report = audit(folder(tmp_path / "trials", Plan, Position, ByteIdentical))
    assert {t["task"]: t["verdict"] for t in report["tasks"]} == dict(Plan="clean", Position="flaws", ByteIdentical="flaws")


def test_every_flaw_can_be_planted_or_is_tested_elsewhere():
    elsewhere = {"missing_files", "changed_files", "broken_quadruplets", "pixel_change", "child_in_splits"}
    assert set().union(*PLANTED.values()) | elsewhere == set(SAYS) and len(SOLVERS) == 11


def test_missing_broken_and_changed_files_are_named_and_nothing_breaks(tmp_path):
    trials = folder(tmp_path / "trials", Plan)
    paths = [trials[k].choices[0].parts[0].path for k in (3, 4, 5)]
    (trials.path / paths[0]).unlink()
    (trials.path / paths[1]).write_bytes(b"not a picture")
    (trials.path / paths[2]).write_bytes(encode_image(noise(np.random.default_rng(9)), "PNG"))
    report = audit(read_trials(trials.path))
    found = {f["check"]: f["items"] for _, f in report.flaws}
    assert set(found["missing_files"]) == {"Plan-3", "Plan-4"} and "is missing" in found["missing_files"]["Plan-3"]
    assert "cannot be read" in found["missing_files"]["Plan-4"] and set(found["changed_files"]) == {"Plan-5"}


def test_a_child_in_two_splits_is_noted_and_no_flaw(tmp_path):
    class TwoSplits(Plan):
        def fields(self, i): return dict(split="train" if i < 60 else "test")

    report = audit(folder(tmp_path / "trials", TwoSplits))
    notes = {f["check"]: f for t in report["tasks"] for f in t["findings"] if f["status"] == "note"}
    assert report["verdict"] == "clean" and len(notes["child_in_splits"]["items"]) == 90


# --- films -----------------------------------------------------------------


def films(path, n=24, startled=False, odd=lambda h, r: h != r, drop=()):
    "Quadruplets; with `startled` the impossible films are lighter."
    random = np.random.default_rng(0)
    with TrialsWriter(path, dict(name="films")) as writer:
        for q in range(n):
            begin, end = ([random.integers(0, 200, (2, 8, 8, 3), dtype=np.uint8) for _ in range(2)] for _ in range(2))
            for h in (0, 1):
                for r in (0, 1):
                    frames = np.concatenate([begin[h], end[r] + np.uint8(40 if startled and h != r else 0)])
                    trial = Trial(f"q{q}_{h}{r}", "s", "vanish", "surprise", [Part("clip", path=writer.clip(frames, 5))], [], [], .5, dict(scene=f"q{q}"),
                                  dict(violation=odd(h, r)), quad_id=f"q{q}", reveal_frame=2)  # fmt: skip
                    if (q, h, r) not in drop:
                        writer.add(trial)
    return read_trials(path)


def test_films(tmp_path):
    assert audit(films(tmp_path / "fair"))["verdict"] == "clean"
    assert flaws(audit(films(tmp_path / "lighter", startled=True))) == {"pixel_change"}
    broken = audit(films(tmp_path / "cut", drop={(2, 0, 1)}))
    assert {f["check"]: set(f["items"]) for _, f in broken.flaws} == {"broken_quadruplets": {"q2_00", "q2_10", "q2_11"}}


# --- the nursery -----------------------------------------------------------


def test_the_nurserys_own_trials_are_clean(tmp_path):
    from babyvlm.nursery.stimuli import write_first_words

    report = audit(read_trials(write_first_words(tmp_path / "first_words", n=48, px=32, seed=1, permanence=2, workers=1)))
    assert report["verdict"] == "clean", audit_table(report)
    assert {t["task"] for t in report["tasks"]} >= {"picture_vocabulary", "localization", "counting", "permanence_vanish"}


# --- a folder in the DevCV layout, with the published shortcuts ------------


def devcv(top, n=30):
    "Left/Right, Memory, Spatial Details and Localization as published, ten thousand times smaller."
    random, count = np.random.default_rng(4), iter(range(10 ** 6))

    def save(task, split, data):
        name = f"images/{next(count)}.png"
        file = top / split / task / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return name

    def publish(task, split, rows):
        (top / split / task).mkdir(parents=True, exist_ok=True)
        (top / split / task / "data.json").write_text(json.dumps(rows))

    def fresh(): return encode_image(noise(random), "PNG")
    def say(*turns): return [dict([("from", who), ("value", text)]) for human, gpt in turns for who, text in (("human", human), ("gpt", gpt))]

    rows = []
    for i in range(n):
        query, foil, place = fresh(), fresh(), int(random.integers(3))
        files = [query, *[query if k == place else foil for k in range(3)]]
        rows.append(dict(id=f"leftright_{i}", image=[save("leftright", "test", f) for f in files], conversations=say(
            ("<image> Which of the following is the same as this? Answer with a number. (A) <image> (B) <image> (C) <image>", "ABC"[place]))))  # fmt: skip
    publish("leftright", "test", rows)

    rows = []
    for i in range(n):
        query, place = fresh(), int(random.integers(3))
        files = [query, *[query if k == place else fresh() for k in range(3)]]
        rows.append(dict(id=f"spatial_{i}", image=[save("spatialdetails", "test", f) for f in files], conversations=say(
            ("<image> Which of the following contains exactly this object? (A) <image> (B) <image> (C) <image>. Pay attention to details and give only a letter A-C.", "ABC"[place]))))  # fmt: skip
    publish("spatialdetails", "test", rows)

    rows = []
    for i in range(n):
        old, images, turns, labels = [fresh()], [], [("Touch the new image. (A) <image>", "A")], [["cat"]]
        images.append(save("memory", "test", old[0]))
        for _ in range(6):
            new, place = fresh(), int(random.integers(2))
            pair = [old[int(random.integers(len(old)))], new] if place else [new, old[int(random.integers(len(old)))]]
            images += [save("memory", "test", f) for f in pair]
            turns.append(("Let's try more. Touch the new image. (A) <image> (B) <image>", "AB"[place]))
            labels.append(["cat", "dog"])
            old.append(new)
        rows.append(dict(id=f"memory_{i}", image=images, conversations=say(*turns)) | (dict(labels=labels) if i % 6 else {}))
    publish("memory", "test", rows)

    for split in ("train", "test"):
        publish("localize", split, [dict(
            id=f"count_{i // 2}", image=[save("localize", split, fresh())], bb=[0, 0, 640, 480] if i % 5 == 0 else [9, 9, 40, 40],
            conversations=say((f"<image> Point at the {NOUNS[i % 4]}. Is it in the (A) top left or (B) top right or (C) bottom left or (D) bottom right of the image?",
                               "ABCD"[int(random.integers(4))]))) for i in range(n)])  # fmt: skip
    publish("vdr-binary", "train", [dict(id="S_20130405_0910_01_clip_001", image=[save("vdr-binary", "train", fresh()) for _ in range(5)], conversations=say(
        ("<image>" * 5 + " does the cup leave the frame through the right side of the frame or the left side of the frame? respond ONLY with 'right' or 'left'.", "left")))])  # fmt: skip
    publish("vdr-binary", "test", [dict(id="S_20130405_0910_03_clip_007", image=[save("vdr-binary", "test", fresh()) for _ in range(4)] + ["images/gone.jpg"],
        conversations=say(("<image>" * 5 + " does the ball leave the frame through the right side of the frame or the left side of the frame? respond ONLY with 'right' or 'left'.", "right")))])  # fmt: skip
    return top


def test_published_shortcuts_are_named(tmp_path, monkeypatch, capsys):
    site = devcv(tmp_path / "saycam_sample")
    monkeypatch.setattr(sys, "argv", ["babyvlm", "audit", str(site)])
    with pytest.raises(SystemExit) as leave:
        main()
    assert leave.value.code == 1
    report = json.loads((site / "audit.json").read_text())
    found = {t["task"]: {f["check"] for f in t["findings"] if f["status"] == "flaw"} for t in report["tasks"]}
    assert {"byte_identical", "shown_again", "odd_one_out", "nearest_neighbour", "asks_amiss"} <= found["left_right"]
    assert {"shown_again", "nearest_neighbour"} <= found["spatial_details"] and "byte_identical" not in found["spatial_details"]
    assert {"shown_again", "nearest_neighbour", "absent_labels"} <= found["memory"]
    assert {"boundless_boxes", "repeated_ids"} <= found["localization"]
    assert {"split_leaks", "missing_files"} <= found["delayed_response"]
    said = capsys.readouterr().out
    assert "left_right" in said and "30 of 30" in said and "audit.json" in said
    assert "20130405" not in (site / "audit.json").read_text(), "no calendar date leaves the folder"


# --- the command -----------------------------------------------------------


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["babyvlm", "audit", *map(str, arguments)])
    with pytest.raises(SystemExit) as leave:
        main()
    return leave.value.code


def test_exit_codes_and_file(tmp_path, monkeypatch, capsys):
    clean, flawed = folder(tmp_path / "clean", Plan).path, folder(tmp_path / "flawed", ByteIdentical).path
    assert run(monkeypatch, clean) == 0 and run(monkeypatch, flawed) == 1
    report = json.loads((flawed / "audit.json").read_text())
    assert report["format"] == 1 and report["verdict"] == "flaws" and report["trials"] == "flawed"
    assert len(next(f for f in report["tasks"][0]["findings"] if f["check"] == "byte_identical")["items"]) == 90
    before = (flawed / "audit.json").read_bytes()
    assert run(monkeypatch, flawed, "--out", tmp_path / "here.json") == 1 and (tmp_path / "here.json").read_bytes() == before, "the same seed gives the same bytes"
    assert run(monkeypatch, clean) == 0, "an audit beside the trials does not disturb the next one"
    assert "no flaws found" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["nowhere", "file", "empty", "cut", "malformed", "out"])
def test_wrong_input_is_one_line(wrong, tmp_path, monkeypatch, capsys):
    trials = folder(tmp_path / "trials", Plan).path
    arguments = dict(nowhere=[tmp_path / "nowhere"], file=[tmp_path / "note.txt"], empty=[tmp_path / "empty"], cut=[trials], malformed=[trials],
                     out=[trials, "--out", tmp_path / "nowhere" / "audit.json"])[wrong]  # fmt: skip
    (tmp_path / "note.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    lines = (trials / "trials.jsonl").read_text().splitlines(keepends=True)
    if wrong == "cut":
        (trials / "trials.jsonl").write_text("".join(lines[:40]))
    if wrong == "malformed":
        (trials / "trials.jsonl").write_text("".join([lines[0].replace('"chance"', '"luck"'), *lines[1:]]))
    assert run(monkeypatch, *arguments) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("babyvlm: ") and len(said.splitlines()) == 1
    assert not (trials / "audit.json").exists()


def test_an_empty_trials_folder_is_refused(tmp_path):
    with TrialsWriter(tmp_path / "trials", dict(name="none")):
        pass
    with pytest.raises(WrongInput, match="nothing to audit"):
        audit(read_trials(tmp_path / "trials"))


def test_names_are_escaped(tmp_path):
    with TrialsWriter(tmp_path / "trials", dict(name="x")) as writer:
        for i in range(2):
            path = writer.image(noise(np.random.default_rng(0)))
            writer.add(Trial(f"<script>{i}", "s", "<img src=x>", "choose_image", [Part("text", "?")], [Choice(c, [Part("image", path=path)]) for c in "ab"], ["a"], .5))
    report = audit(read_trials(tmp_path / "trials"))
    assert "<script>" not in report._repr_html_() and "<img" not in report._repr_html_() and "byte_identical" in report._repr_html_()
    write_audit(report, tmp_path / "audit.json")
    assert set(json.loads((tmp_path / "audit.json").read_text())["tasks"][0]["findings"][2]["items"]) == {"<script>0", "<script>1"}


# --- every form, few items, spoiled lines ----------------------------------


def forms(path, n=40, spoil=""):
    "One small task of each form that offers something; `spoil` names the flaw to plant."
    random = np.random.default_rng(3)

    def fresh(): return noise(random)

    with TrialsWriter(path, dict(name="forms")) as writer:
        for i in range(n):
            common, place = dict(suite="s", group=dict(scene=f"s{i}")), int(random.integers(2))
            a, b = writer.image(fresh()), writer.image(fresh())
            a = b if spoil == "square" else a
            writer.add(Trial(f"square-{i}", task="square", form="two_by_two", context=[], choices=[
                Choice("0", [Part("image", path=a)], f"a {NOUNS[i % 4]} {i}"), Choice("1", [Part("image", path=b)], f"no {NOUNS[i % 4]} {i}")],
                answer=["0", "1"], chance=1 / 6, **common))  # fmt: skip
            number = 2 if spoil == "open" and random.random() < .7 else int(random.integers(1, 5))
            writer.add(Trial(f"open-{i}", task="open", form="open", context=[Part("image", path=writer.image(fresh())), Part("text", "how many")], choices=[],
                             answer=[str(number)], chance=.25, **common))  # fmt: skip
            frames = [fresh() for _ in range(3)]
            frames[-1] = noise(random, tint=[(250, 0, 0), (0, 0, 250)][place]) if spoil == "sequence" else frames[-1]
            writer.add(Trial(f"seq-{i}", task="sequence", form="sequence", context=[Part("image", path=writer.image(f)) for f in frames] + [Part("text", "which way")],
                             choices=[Choice("left", [], "left"), Choice("right", [], "right")], answer=[["left", "right"][place]], chance=.5, **common))  # fmt: skip
            turns, old = [], [fresh()]
            for _ in range(3):
                new, repeat = fresh(), old[-1] if spoil == "turns" else fresh()
                place = int(random.integers(2))
                pair = [repeat, new] if place else [new, repeat]
                turns.append(dict(context=[Part("text", "touch the new one")] + [Part("image", path=writer.image(old[0]))],
                                  choices=[Choice("AB"[k], [Part("image", path=writer.image(p))]) for k, p in enumerate(pair)], answer=["AB"[place]]))  # fmt: skip
                old += pair
            line = Trial(f"turns-{i}", task="turns", form="turns", context=[], choices=[], answer=[], chance=.5, turns=turns, **common)
            writer.add(line)
    return read_trials(path)


@pytest.mark.parametrize("spoil, check", [("", None), ("square", "byte_identical"), ("open", "answer_balance"), ("sequence", "colour_histogram"), ("turns", "shown_again")])
def test_every_form_is_audited(spoil, check, tmp_path):
    report = audit(forms(tmp_path / "trials", spoil=spoil))
    assert {t["task"] for t in report["tasks"]} == {"square", "open", "sequence", "turns"}
    assert all(any(f["score"] is not None for f in t["findings"]) for t in report["tasks"]), "solvers are tried on each form"
    assert flaws(report, spoil) >= ({check} if check else set()), audit_table(report)
    assert {t["task"] for t, _ in report.flaws} == ({spoil} if spoil else set()), audit_table(report)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_few_items_neither_crash_nor_accuse(n, tmp_path):
    assert not flaws(audit(forms(tmp_path / "trials", n=n)))
    lone = type("Lone", (Plan,), dict(n=n))
    assert not flaws(audit(folder(tmp_path / "lone", lone)))


def spoiled(row, random):
    "The row with one value, somewhere in it, replaced or removed."
    places = []

    def walk(thing):
        for key in list(thing) if isinstance(thing, dict) else range(len(thing)):
            places.append((thing, key))
            if isinstance(thing[key], (dict, list)):
                walk(thing[key])

    walk(row)
    thing, key = places[int(random.integers(len(places)))]
    value = [None, "", 0, -1.5, "media/none.png", [], {}, [1], "é" * 9, True, "gone"][int(random.integers(11))]
    if random.random() < .2:
        del thing[key]
    else:
        thing[key] = value
    return row


def test_spoiled_lines_are_named_or_audited(tmp_path):
    path, random, done = forms(tmp_path / "trials", n=3).path, np.random.default_rng(8), dict(named=0, audited=0)
    lines = (path / "trials.jsonl").read_text().splitlines()
    for _ in range(80):
        k = int(random.integers(len(lines)))
        rows = [*lines[:k], json.dumps(spoiled(json.loads(lines[k]), random)), *lines[k + 1:]]
        (path / "trials.jsonl").write_text("\n".join(rows) + "\n")
        try:
            trials = read_trials(path)
        except WrongInput as error:
            assert "trials.jsonl line" in str(error) and "\n" not in str(error)
            done["named"] += 1
        else:
            assert audit(trials)["verdict"] in ("clean", "flaws")
            done["audited"] += 1
    assert min(done.values()) > 10, done


@pytest.mark.parametrize("arguments", [("compare", "{nowhere}", "{nowhere}"), ("export", "{nowhere}", "{out}", "--to", "hf"), ("export", "{nowhere}", "{out}", "--to", "moon"),
                                       ("milestones", "{nowhere}", "{out}", "--checkpoints", "some")])  # fmt: skip
def test_the_commands_beside_it_refuse_in_one_line(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["babyvlm", *(a.format(nowhere=tmp_path / "nowhere", out=tmp_path / "out") for a in arguments)])
    with pytest.raises(SystemExit) as leave:
        main()
    said = capsys.readouterr().err.strip()
    assert leave.value.code == 2 and said.startswith("babyvlm: ") and len(said.splitlines()) == 1
