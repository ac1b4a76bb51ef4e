"""The full world: the same however it is made, true to its dials, and the plain world of beginners unchanged."""
import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from functools import lru_cache

import numpy as np
import pytest

from babyvlm.core.basics import WrongInput, read_json
from babyvlm.nursery.film import Soundtrack, soundtrack
from babyvlm.nursery.heldout import HELD_OUT_CELLS, HELD_OUT_NOUNS, allowed
from babyvlm.nursery.recordings import event_rows, make_recordings, masks_at, utterance_rows
from babyvlm.nursery.script import frame, script, take
from babyvlm.nursery.stream import Pairs, pair, scene_count, stream
from babyvlm.nursery.things import COLOURS, NOUNS
from babyvlm.nursery.words import EVENT_LINES, VOCABULARY, plural
from babyvlm.nursery.world import FIRST_WORDS, World, plan, turned, world_of

FULL = World(minutes=.3, children=2, px=32, fps=1, pace=8., voice="hum", seed=5)


def jsonl(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def digest(x):
    return hashlib.sha256(json.dumps(x, sort_keys=True).encode()).hexdigest()[:16]


# --- the plain world ------------------------------------------------------------------------------------------------------------

FIRST_VERSION = {  # by version 0.1: what is where and who looks where; what is said and meant; transcripts
    "child_a_m17_01": ("ad3ea63a7263c52d", "3847e775ba2fc669", "d2f91846538b1978"),
    "child_a_m26_01": ("30552d0927187642", "a06717b7c44a6a04", "d89543b70bcac4c4"),
    "child_b_m06_01": ("533595cee0a892df", "c305fdd2b3288ca7", "5a42b86ac4abee81"),
    "child_b_m22_01": ("9a86555db36774a2", "5ef22f9b778b3358", "65f7811079b29045"),
}  # fmt: skip


def first_fields(frames, said):
    "Fingerprints of truth, by the fields that the first version had, pixels apart: people have been drawn anew since."
    row_fields = ("frame", "time_s", "objects", "gaze_target", "pointing_target", "camera", "speaker", "utterance_id")
    said_fields = ("utterance_id", "onset_s", "offset_s", "speaker_type", "words", "target", "related", "kind")
    rows = [dict({k: r[k] for k in row_fields}, objects=[{k: o[k] for k in ("id", "noun", "colour", "size")} for o in r["objects"]]) for r in frames]
    return digest(rows), digest([{k: u[k] for k in said_fields} for u in said])


def test_the_plain_world_is_what_it_was(tmp_path):
    dials = dict(minutes=.2, children=2, px=32, fps=2, pace=3, seed=5, longest=.1, voice="hum")
    out, found = make_recordings(tmp_path / "plain", FIRST_WORDS, workers=1, progress=False, **dials), {}
    for name in FIRST_VERSION:
        frames, said, events = (jsonl(out / "truth" / f"{name}.{table}.jsonl.gz") for table in ("frames", "utterances", "events"))
        found[name] = (*first_fields(frames, said), hashlib.sha256((out / f"{name}.vtt").read_bytes()).hexdigest()[:16])
        assert events == []
    assert found == FIRST_VERSION


def test_old_cards_are_read_as_plain():
    assert world_of(dict(minutes=1., children=1, px=128, fps=10., unrelated=.3, pace=6., seed=2, voice="hum", longest=5.)) == turned(
        FIRST_WORDS, minutes=1., px=128, pace=6., seed=2, voice="hum")
    assert world_of(json.loads(json.dumps(World(ages=(5, 11, 24)).parameters))) == World(ages=(5, 11, 24))


# --- determinism: ten seeds, two ways -------------------------------------------------------------------------------------------


def fingerprints(seed, order=None):
    "Pixels and truth of the frames of a short recording, in the order asked for; transcript and other truth."
    world = World(minutes=.27, px=32, fps=1, pace=8., voice="hum", seed=seed, ages=(3 + 2 * seed, 4 + 2 * seed))
    story = script(plan(world)[0], world)
    made = {}
    for i in order or range(16):
        image, row = frame(story, i)
        made[i] = hashlib.sha256(image.tobytes()).hexdigest()[:16], digest(json.loads(json.dumps(row, default=float)))
    return [made[i] for i in sorted(made)], digest(utterance_rows(story)), digest(event_rows(story))


@lru_cache
def in_order():
    return [fingerprints(seed) for seed in range(10)]


def test_random_access_is_the_sequence():
    for seed, expected in enumerate(in_order()):
        order = np.random.default_rng(seed).permutation(16).tolist()
        assert fingerprints(seed, order) == expected, f"seed {seed}"


def test_other_processes_threads_and_hash_seeds(tmp_path):
    code = f"import sys, json; sys.path.insert(0, {os.path.dirname(__file__)!r}); import test_nursery_world as t; print(json.dumps([t.fingerprints(s) for s in range(10)]))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "PYTHONHASHSEED": "7"})
    assert json.loads(done.stdout) == json.loads(json.dumps(in_order()))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return make_recordings(tmp_path_factory.mktemp("full") / "one", FULL, workers=1, progress=False)


def test_two_workers_make_the_same_files(out, tmp_path):
    two = make_recordings(tmp_path / "two", FULL, workers=2, progress=False)
    one_card, two_card = (read_json(folder / "nursery.json")["recordings"] for folder in (out, two))
    assert {k: r["sha256"] for k, r in one_card.items()} == {k: r["sha256"] for k, r in two_card.items()}
    for path in [*out.glob("*.vtt"), *(out / "truth").iterdir(), out / "recordings.csv"]:
        assert path.read_bytes() == (two / path.relative_to(out)).read_bytes()


def test_a_scene_alone_is_the_scene_in_its_recording():
    recording = plan(FULL)[1]
    story = script(recording, FULL)
    assert take(recording, FULL, 1) == story.takes[1]


def test_another_resolution_shows_the_same_moment():
    recording = plan(FULL)[0]
    (small, row), (large, same) = (frame(script(recording, FULL), 3, px) for px in (32, 64))
    halved = large.reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(halved - small).mean() < 12
    assert [o["id"] for o in row["objects"]] == [o["id"] for o in same["objects"]] and row["gaze_target"] == same["gaze_target"]


# --- what the dials say ---------------------------------------------------------------------------------------------------------


@lru_cache
def stories(**dials):
    world = turned(World(minutes=8, children=3, seed=3, longest=2), **dials)
    return [script(r, world) for r in plan(world)]


def test_truth_has_its_fields(out):
    for path in (out / "truth").glob("*.frames.jsonl.gz"):
        name = path.name.split(".")[0]
        said = {u["utterance_id"]: u for u in jsonl(out / "truth" / f"{name}.utterances.jsonl.gz")}
        happened = [e for e in jsonl(out / "truth" / f"{name}.events.jsonl.gz") if "event" in e]
        for r in jsonl(path):
            assert {"frame", "time_s", "objects", "people", "event", "gaze_target", "pointing_target", "speaker", "utterance_id", "camera"} <= set(r)
            for o in r["objects"]:
                assert {"id", "noun", "colour", "size", "pattern", "material", "box", "visible_px", "amodal_px"} <= set(o) and o["visible_px"] <= o["amodal_px"]
            now = [e for e in happened if e["onset_s"] <= r["time_s"] < e["offset_s"]]
            assert [e["event"] for e in now] == ([r["event"]] if r["event"] else [])
            if r["utterance_id"]:
                assert said[r["utterance_id"]]["onset_s"] <= r["time_s"] < said[r["utterance_id"]]["offset_s"]
        for u in said.values():
            assert {w for w, _ in u["words"]} <= set(VOCABULARY)


def test_something_happens_as_often_as_asked():
    played = [bool(t.happenings) for story in stories() for t in story.takes]
    assert abs(np.mean(played) - .7) < .08 and all(h.onset_s >= 0 and h.offset_s <= t.seconds for s in stories() for t in s.takes for h in t.happenings)
    assert not any(t.happenings for story in stories(events=0.) for t in story.takes)


def test_what_is_said_of_events_is_said_in_their_phase():
    told = Counter()
    for story in stories():
        for t in story.takes:
            for line, onset in t.lines:
                if line.event:
                    kind, phase = line.event.split("/")
                    (h,) = t.happenings
                    assert (h.kind, h.phase(onset)) == (kind, phase) and kind in EVENT_LINES
                    told[phase] += 1
    assert min(told[phase] for phase in ("before", "during", "after")) > 40


def test_held_out_things_are_neither_shown_nor_named():
    banned = {form for n in HELD_OUT_NOUNS for form in (n, plural(n))}
    for story in stories():
        for t in story.takes:
            assert all(allowed(toy.noun, toy.colour) for toy in t.scene.toys)
            for line, _ in t.lines:
                words = set(line.words)
                assert not words & banned, line
                assert not any(colour in words and {noun, plural(noun)} & words for noun, colour in HELD_OUT_CELLS), line
    shown = {toy.noun for story in stories(held_out=False) for t in story.takes for toy in t.scene.toys}
    assert shown & set(HELD_OUT_NOUNS)


def test_children_grow():
    world = World(minutes=24, children=1, seed=6, longest=1.)
    young, old = ([script(r, world) for r in half] for half in (plan(world)[:6], plan(world)[-6:]))
    nouns = [{toy.noun for s in half for t in s.takes for toy in t.scene.toys} for half in (young, old)]
    toys = [np.mean([len(t.scene.toys) for s in half for t in s.takes]) for half in (young, old)]
    words = [np.mean([len(u.line.words) for s in half for u in s.said if u.line.speaker == "FEM"]) for half in (young, old)]
    assert len(nouns[0]) < len(nouns[1]) and toys[0] < toys[1] and words[0] < words[1]
    assert not [u for s in young for u in s.said if u.line.kind == "word"] and [u for s in old for u in s.said if u.line.kind == "word"]


def test_faces_give_way_to_hands():
    seen = []
    for month in (2, 22):
        world = World(minutes=4, seed=2, ages=(month, month + 1))
        story, counted = script(plan(world)[0], world), []
        for t in np.arange(1.2, 240, 2.9):
            shot, inside = story.shot(t)
            counted.append(shot.view(inside, 48)[1]["people"])
        seen.append([np.mean([any(c["visible_px"] > 9 for owner, c in people.items() if kind in owner) for people in counted]) for kind in ("face", "infant_hand")])
    (face_young, hand_young), (face_old, hand_old) = seen
    assert face_young > face_old + .15 and hand_old > hand_young + .05


def test_a_home_stays_the_same_and_differs_from_others():
    skins = {s.recording.child_id: {t.scene.room.wall for t in s.takes} for s in stories()}
    everywhere = {}
    for s in stories():
        for t in s.takes:
            everywhere.setdefault((s.recording.child_id, t.scene.place), set()).add((t.scene.room.wall, t.scene.room.wallpaper, t.scene.room.rug))
    assert all(len(looks) == 1 for looks in everywhere.values()) and len(skins) == 3
    pets = {s.recording.child_id: {t.scene.pet for t in s.takes} - {None} for s in stories()}
    assert all(len(p) <= 1 for p in pets.values())


def test_zipf_is_how_unevenly_nouns_are_used():
    def share(zipf):
        used = Counter(n for s in stories(zipf=zipf, ages=(26., 30.), growing=True) for u in s.said for n in u.line.words if n in NOUNS)
        return sum(c for _, c in used.most_common(5)) / sum(used.values())
    assert share(0.) < .4 < share(1.2)


def test_wrong_nouns_are_marked():
    lines = [u.line for s in stories(wrong=.4) for u in s.said]
    wrong = [line for line in lines if line.kind == "wrong"]
    assert len(wrong) > 20 and all(line.target is None and not line.related for line in wrong)
    assert not [u for s in stories() for u in s.said if u.line.kind == "wrong"]


def test_unrelated_share_is_kept_in_the_full_world():
    adults = [u.line for s in stories(unrelated=.5) for u in s.said if u.line.voice in ("caregiver", "father", "grandmother") and not u.line.event]
    assert .4 < 1 - np.mean([line.related for line in adults]) < .75


def test_colours_of_toys_are_those_of_the_world():
    seen = Counter(toy.colour for s in stories() for t in s.takes for toy in t.scene.toys)
    assert set(seen) == set(COLOURS) and max(seen.values()) < 4 * min(seen.values())


# --- sound, stream, folder ------------------------------------------------------------------------------------------------------


def test_sound_is_mixed_piece_by_piece():
    story = stories()[0]
    whole, track = soundtrack(story, "hum"), Soundtrack(story, "hum")
    rng = np.random.default_rng(0)
    for start in rng.integers(0, len(whole), 12):
        stop = min(start + int(rng.integers(1, 40_000)), len(whole))
        assert (track[start:stop] == whole[start:stop]).all()
    assert np.abs(whole).max() <= 1 and story.heard
    for n in story.heard[:4]:
        assert np.abs(whole[round(n.onset_s * 16000):round((n.onset_s + n.seconds) * 16000)]).max() > .01


def test_stream_is_the_recordings():
    world = turned(FULL, minutes=.8)
    first = sorted(plan(world), key=lambda r: (r.age_days, r.recording_id))[0]
    story = script(first, world)
    p = pair(world, 1, images=3, truth=True)
    assert p.recording_id == first.recording_id and p.images.shape == (3, 32, 32, 3) and p.images.dtype == np.uint8
    said = next(u for u in story.said if u.line == p.line and u.onset_s <= p.times_s[0] < u.offset_s)
    assert said and p.times_s == tuple(sorted(p.times_s))
    shot, inside = story.shot(p.times_s[1])
    assert np.abs(shot.view(inside, 32)[0].astype(int) - p.images[1]).mean() < 2


def test_stream_by_number_and_by_turns():
    world, n = FULL, scene_count(FULL)
    everything = [pair(world, i).text for i in range(2 * n)]
    assert [p.text for p, _ in zip(stream(world), range(2 * n))] == everything
    assert [p.text for p, _ in zip(stream(world, 1, 3), range(2))] == everything[1:5:3]
    assert len(Pairs(world)) == n and [Pairs(world)[i].text for i in range(n)] == everything[:n] and len(list(Pairs(world))) == n
    with pytest.raises(WrongInput):
        pair(world, -1)


@pytest.mark.parametrize("which, tails", [("vtt", [".vtt"]), ("cha", [".cha"]), ("both", [".cha", ".vtt"])])
def test_transcripts_asked_for(which, tails, tmp_path):
    out = make_recordings(tmp_path / which, FULL, workers=1, progress=False, transcripts=which, children=1, minutes=.15)
    assert sorted(p.suffix for p in out.iterdir() if p.suffix in (".vtt", ".cha", ".srt")) == tails
    assert f".{'cha' if which == 'cha' else 'vtt'}," in (out / "recordings.csv").read_text()


def test_masks_again(out):
    name = sorted(p.stem for p in out.glob("*.mp4"))[0]
    row = jsonl(out / "truth" / f"{name}.frames.jsonl.gz")[6]
    modal, amodal, depth = masks_at(out, name, row["time_s"], px=64)
    assert depth.shape == (64, 64) and all((modal[k] <= amodal[k]).all() for k in modal)
    assert all(re.match(r"s\d{3}_", o["id"]) for o in row["objects"])


def test_memory_does_not_grow_with_length(tmp_path):
    resource = pytest.importorskip("resource")
    code = ("import resource, sys; from babyvlm.nursery.recordings import make_recordings; from babyvlm.nursery.world import World\n"
            "m = float(sys.argv[1]); make_recordings(sys.argv[2], World(minutes=m, longest=m, px=32, fps=.25, voice='hum'), workers=1, progress=False)\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)")
    peaks = [int(subprocess.run([sys.executable, "-c", code, str(m), str(tmp_path / str(m))], check=True, capture_output=True, text=True).stdout) for m in (1, 12)]
    unit = 1024 if sys.platform == "linux" else 1
    assert resource and (peaks[1] - peaks[0]) * unit < 12e6
