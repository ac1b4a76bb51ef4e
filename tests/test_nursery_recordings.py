"""What the nursery's notebooks cannot show well: many processes, kills, other readers, bad places to write."""
import csv
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import av
import numpy as np
import pytest

from babyvlm.core.basics import WrongInput, read_json
from babyvlm.nursery import recordings, voice
from babyvlm.nursery.film import soundtrack
from babyvlm.nursery.recordings import make_recordings, masks_at, write_recording
from babyvlm.nursery.script import frames, script
from babyvlm.nursery.words import NUMBERS, VOCABULARY, plural
from babyvlm.nursery.world import FIRST_WORDS, plan, turned, world_of

DIALS = dict(minutes=.2, children=2, px=64, fps=2, pace=3, seed=5, longest=.1, voice="hum")
WORLD = turned(FIRST_WORDS, **DIALS)
IMPORTS = "from babyvlm.nursery.recordings import make_recordings; from babyvlm.nursery.world import FIRST_WORDS"


def receipts(out):
    return {name: r["sha256"] for name, r in read_json(out / "nursery.json")["recordings"].items()}


def jsonl(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return make_recordings(tmp_path_factory.mktemp("nursery") / "one", WORLD, workers=1, progress=False)


def test_two_workers_make_the_same(out, tmp_path):
    two = make_recordings(tmp_path / "two", WORLD, workers=2, progress=False)
    assert receipts(two) == receipts(out) and len(receipts(out)) == 4
    for truth in (out / "truth").iterdir():
        assert truth.read_bytes() == (two / "truth" / truth.name).read_bytes()
        assert truth.read_bytes()[4:8] == bytes(4)  # gzip time stamp
    for transcript in out.glob("*.vtt"):
        assert transcript.read_bytes() == (two / transcript.name).read_bytes()
    assert (out / "recordings.csv").read_bytes() == (two / "recordings.csv").read_bytes()


def test_other_threads_and_hash_seed_make_the_same(out, tmp_path):
    code = f"{IMPORTS}; make_recordings({str(tmp_path / 'x')!r}, FIRST_WORDS, workers=1, progress=False, **{DIALS!r})"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "PYTHONHASHSEED": "7"})
    assert receipts(tmp_path / "x") == receipts(out)


def test_a_recording_alone_is_the_same(out, tmp_path):
    (tmp_path / "truth").mkdir()
    planned, world = plan(WORLD), world_of(read_json(out / "nursery.json")["parameters"])
    assert world == WORLD and write_recording(tmp_path, planned[2], world)["sha256"] == receipts(out)[planned[2].recording_id]


def test_another_seed_makes_others(out, tmp_path):
    other = make_recordings(tmp_path / "other", WORLD, workers=1, progress=False, seed=6, children=1)
    assert not {s["frames"] for s in receipts(other).values()} & {s["frames"] for s in receipts(out).values()}


def test_folder_holds_what_the_design_says(out):
    rows = list(csv.DictReader((out / "recordings.csv").open()))
    assert list(rows[0]) == ["recording_id", "child_id", "age_days", "path", "transcript", "release_level", "consent_scope"]
    for row in rows:
        name = row["recording_id"]
        assert re.fullmatch(r"child_[a-z]+_m\d\d_\d\d", name) and name.startswith(row["child_id"])
        assert 6 * 30 <= int(row["age_days"]) <= 31 * 31 and f"_m{int(int(row['age_days']) / 30.4375 + .02):02d}_" in name
        assert (out / row["path"]).is_file() and (out / row["transcript"]).stem == (out / row["path"]).stem == name
        assert row["release_level"] == "Public" and row["consent_scope"] == "synthetic: nursery"
    assert not [p for p in out.rglob("*") if p.name.startswith(".")]


def test_truth_has_its_fields(out):
    for path in (out / "truth").glob("*.frames.jsonl.gz"):
        name = path.name.split(".")[0]
        said = {u["utterance_id"]: u for u in jsonl(out / "truth" / f"{name}.utterances.jsonl.gz")}
        rows = jsonl(path)
        assert [r["frame"] for r in rows] == list(range(len(rows)))
        for r in rows:
            assert {"frame", "time_s", "objects", "gaze_target", "pointing_target", "speaker", "utterance_id", "camera"} <= set(r)
            ids = {o["id"] for o in r["objects"]}
            assert all({"id", "noun", "colour", "box", "visible_px", "amodal_px"} <= set(o) and o["visible_px"] <= o["amodal_px"] for o in r["objects"])
            assert r["pointing_target"] is None or r["pointing_target"] in ids
            assert r["gaze_target"] in ids | {"infant"} | {f"to:{i}" for i in ids | {"infant"}}
            if r["utterance_id"]:
                u = said[r["utterance_id"]]
                assert u["onset_s"] <= r["time_s"] < u["offset_s"] and (u["target"] is None or u["target"] in ids)
        for u in said.values():
            assert {"utterance_id", "onset_s", "offset_s", "speaker_type", "words", "target", "related"} <= set(u)
            assert u["words"][0][1] == u["onset_s"] and u["words"][-1][1] < u["offset_s"] and {w for w, _ in u["words"]} <= set(VOCABULARY)


def test_transcripts_are_well_formed(out):
    for path in out.glob("*.vtt"):
        head, *cues = path.read_text(encoding="utf-8").strip().split("\n\n")
        assert head == "WEBVTT" and cues
        end = 0
        for cue in cues:
            _, times, text = cue.split("\n")
            h0, m0, s0, h1, m1, s1 = map(float, re.fullmatch(r"(\d\d):(\d\d):(\d\d\.\d{3}) --> (\d\d):(\d\d):(\d\d\.\d{3})", times).groups())
            start, stop = 3600 * h0 + 60 * m0 + s0, 3600 * h1 + 60 * m1 + s1
            assert end <= start < stop <= 6 and re.fullmatch(r"<v\.(FEM caregiver|MAL father|OCH sibling|CHI child)>[a-z ]+", text)
            end = stop


def test_both_readers_agree(out):
    import decord
    for path in out.glob("*.mp4"):
        with av.open(str(path)) as file:
            assert file.streams.video[0].codec_context.name in ("h264", "mpeg4") and file.streams.audio[0].codec_context.name == "aac"
            assert file.streams.audio[0].rate == 16000 and file.streams.audio[0].channels == 1
            ours = np.stack([f.to_ndarray(format="rgb24") for f in file.decode(video=0)])
        reader = decord.VideoReader(str(path), num_threads=1)
        theirs = reader.get_batch(range(len(reader))).asnumpy()
        assert ours.shape == theirs.shape == (12, 64, 64, 3) and abs(ours.astype(int) - theirs).mean() < 3
        assert abs(reader.get_avg_fps() - 2) < .01
        sound = decord.AudioReader(str(path), sample_rate=16000, mono=True)[:].asnumpy()
        assert abs(sound.shape[-1] / 16000 - 6) < .15 and np.abs(sound).max() > .05


def test_the_encoder_keeps_the_pictures(out):
    planned = plan(WORLD)[0]
    rendered = np.stack([image for image, _ in frames(script(planned, WORLD))])
    with av.open(str(out / f"{planned.recording_id}.mp4")) as file:
        decoded = np.stack([f.to_ndarray(format="rgb24") for f in file.decode(video=0)])
    error = ((rendered.astype(float) - decoded) ** 2).mean((1, 2, 3))
    assert (10 * np.log10(255 ** 2 / error) > 26).all()


def test_sound_is_where_the_transcript_says(out):
    story = script(plan(WORLD)[0], WORLD)
    track = soundtrack(story, "hum")
    for u in story.said:
        assert np.abs(track[int(u.onset_s * 16000):int(u.offset_s * 16000)]).max() > .05
    loud = np.zeros(len(track), bool)
    for u in story.said:
        loud[round(u.onset_s * 16000):round(u.offset_s * 16000) + 2] = True
    assert not track[~loud].any()


def test_timing_does_not_depend_on_the_engine(monkeypatch):
    class Odd:  # an engine three times as slow, which forgets a word
        rate = 22050
        def __call__(self, text, speaker):
            return np.random.default_rng(0).normal(0, .1, self.rate * len(text)).astype(np.float32), [(0, 0.), (4, 1.)]
    story = script(plan(WORLD)[0], WORLD)
    hum = soundtrack(story, "hum")
    voice._spoken.cache_clear()
    monkeypatch.setattr(voice, "espeak", Odd)
    for text in ("look at the red ball", "ball", "the cup is on the left", "zebra crossing"):
        odd, rate, words = voice.say(text, "espeak")
        plain, _, same = voice.say(text, "hum")
        assert rate == 16000 and words == same and odd.shape == plain.shape and odd.dtype == plain.dtype == np.float32
    assert soundtrack(story, "espeak").shape == hum.shape
    voice._spoken.cache_clear()


def test_without_an_engine_the_kit_hums(monkeypatch):
    voice._spoken.cache_clear()
    monkeypatch.setattr(voice, "espeak", lambda: None)
    assert (voice.say("a ball")[0] == voice.hum("a ball")).all()
    with pytest.raises(WrongInput, match="speech"):
        voice.say("a ball", "espeak")
    voice._spoken.cache_clear()


def test_what_is_said_is_true():
    seen = Counter()
    world = turned(FIRST_WORDS, minutes=10, children=2, seed=9, pace=3.)
    for recording in plan(world):
        story = script(recording, world)
        for u in story.said:
            if not u.line.related:
                continue
            shot, _ = story.shot(u.onset_s)
            toys, words = shot.scene.toys, set(u.line.words)
            target = next(t for t in toys if t.id == u.line.target)
            same = [t for t in toys if t.noun == target.noun]
            for number, word in enumerate(NUMBERS, 1):
                if word in words:
                    assert len(same) == number
                    seen[word] += 1
            assert (plural(target.noun) in words) <= (len(same) > 1) and (target.noun in words) <= (len(same) == 1)
            if words & {"red", "blue", "green"}:
                assert target.colour in words
                seen["colour"] += 1
            assert ("big" in words) <= (target.size == "big") and ("rug" in words) <= (shot.scene.room.place == "rug")
            seen["all"] += 1
    assert seen["all"] > 300 and all(seen[w] >= 3 for w in ("one", "two", "three", "four")) and seen["colour"] > 15


@pytest.mark.parametrize("share", [0., .3, 1.])
def test_unrelated_share_is_kept(share):
    world = turned(FIRST_WORDS, minutes=10, children=2, seed=1, pace=3., unrelated=share)
    adults = [u.line.related for r in plan(world) for u in script(r, world).said if u.line.speaker != "CHI"]
    assert abs(1 - np.mean(adults) - share) < .06


def test_left_is_left_in_the_picture():
    sides = []
    world = turned(FIRST_WORDS, minutes=4, children=3, seed=4, pace=4.)
    for recording in plan(world):
        story = script(recording, world)
        for u in story.said:
            side = set(u.line.words) & {"left", "right"}
            if side and u.line.related:
                shot, inside = story.shot(u.onset_s)
                _, row = shot.view(inside + .5, 32)
                box = next(o for o in row["objects"] if o["id"] == u.line.target)["box"]
                if box:
                    sides.append(((box[0] + box[2]) / 2 < 16) == (side == {"left"}))
    assert len(sides) >= 8 and np.mean(sides) > .9


def test_masks_agree_with_truth(out):
    name = sorted(receipts(out))[0]
    row = jsonl(out / "truth" / f"{name}.frames.jsonl.gz")[7]
    modal, amodal, depth = masks_at(out, name, row["time_s"])
    assert depth.shape == (64, 64) and depth.min() > 0
    for o in row["objects"]:
        if o["box"] and o["visible_px"] > 20:
            ys, xs = np.nonzero(modal[o["id"]])
            assert abs(len(xs) - o["visible_px"]) <= .35 * o["visible_px"] + 6
            assert np.abs(np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) - o["box"]).max() <= 4
    with pytest.raises(WrongInput, match="child_z"):
        masks_at(out, "child_z_m01_01", 0)
    with pytest.raises(WrongInput, match="lasts"):
        masks_at(out, name, 99)


def test_killed_and_continued(out, tmp_path):
    target = tmp_path / "killed"
    code = f"{IMPORTS}\nif __name__ == '__main__':\n    make_recordings({str(target)!r}, FIRST_WORDS, workers=1, progress=False, **{DIALS!r})\n"
    running = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.time() + 60
    while time.time() < deadline and not (target / "recordings.csv").exists():
        time.sleep(.01)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    first = sorted(target.glob("*.mp4"))
    assert first, "nothing was finished before the kill"
    stamps = {p: p.stat().st_mtime_ns for p in first if p.stem in receipts(target)}
    assert len(stamps) < 4, "the kill came too late"
    (target / "truth" / ".half.0.part").write_bytes(b"x")
    make_recordings(target, WORLD, workers=1, progress=False)
    assert receipts(target) == receipts(out)
    assert stamps and all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items()), "a finished recording was made again"
    assert not [p for p in target.rglob("*") if p.name.endswith(".part")]


def test_a_worker_follows_its_parent(tmp_path):
    script_file = tmp_path / "run.py"
    script_file.write_text("from babyvlm.nursery.recordings import make_recordings\n"
                           "if __name__ == '__main__':\n"
                           f"    make_recordings({str(tmp_path / 'x')!r}, minutes=40, children=2, px=64, fps=5, workers=2, voice='hum', progress=False)\n")
    running = subprocess.Popen([sys.executable, str(script_file)], start_new_session=True)
    deadline = time.time() + 60
    while time.time() < deadline and len(list((tmp_path / "x").glob(".*.mp4.*"))) < 2:
        time.sleep(.1)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    deadline = time.time() + 120
    while time.time() < deadline:
        sizes = sorted(p.stat().st_size for p in (tmp_path / "x").rglob(".*.part"))
        time.sleep(1.5)
        if sizes == sorted(p.stat().st_size for p in (tmp_path / "x").rglob(".*.part")) and not _alive(running.pid):
            break
    assert not _alive(running.pid), "orphans are still writing"


def test_so_does_a_worker_that_draws_a_suite(tmp_path):
    script_file = tmp_path / "run.py"
    script_file.write_text("from babyvlm.nursery.suites import suites\n"
                           "if __name__ == '__main__':\n"
                           f"    suites['toolbox']({str(tmp_path / 'x')!r}, n=200, px=64, workers=2)\n")
    running = subprocess.Popen([sys.executable, str(script_file)], start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.time() + 60
    while time.time() < deadline and not list(tmp_path.rglob("*.png")):
        time.sleep(.1)
    workers = [process for process in _alive(running.pid) if "spawn_main" in process]
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert len(workers) == 2, "the kill came too late, or too early"
    deadline = time.time() + 60
    while time.time() < deadline and _alive(running.pid):
        time.sleep(.2)
    assert not _alive(running.pid), "orphans wait for work"


def _alive(session):
    "Processes of a session that are still there."
    found = []
    for stat in [p for p in os.listdir("/proc") if p.isdigit()]:
        try:
            fields = open(f"/proc/{stat}/stat").read().rpartition(")")[2].split()
            command = open(f"/proc/{stat}/cmdline").read().replace("\0", " ")
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(f"{stat} {fields[0]} {command[:200]}")
    return found


@pytest.mark.parametrize("wrong", [
    dict(minutes=0), dict(minutes=float("nan")), dict(minutes=-1), dict(minutes="ten"), dict(children=0), dict(children=1.5), dict(px=65), dict(px=30), dict(fps=0),
    dict(fps=-1), dict(fps=1000), dict(unrelated=-.1), dict(unrelated=1.01), dict(pace=.5), dict(pace=0), dict(workers=0), dict(voice="opera"), dict(seed=-1),
    dict(seed="x"), dict(seed=None), dict(minutes=1e-6), dict(longest=0), dict(events=1.5), dict(nouns="some"), dict(nouns=2), dict(nouns=99), dict(places=()),
    dict(places=("moon",)), dict(places="moon"), dict(growing=1), dict(held_out="no"), dict(zipf=-1), dict(offset_s=1e9), dict(offset_s=float("inf")), dict(wrong=2),
    dict(transcripts="srt"), dict(ages=(9, 3)), dict(ages=(3,)), dict(ages=3), dict(ages=(-1, 3)), dict(gravity=9.81)])  # fmt: skip
def test_wrong_dials(tmp_path, wrong):
    with pytest.raises(WrongInput) as error:
        make_recordings(tmp_path / "x", WORLD, progress=False, **wrong)
    assert "\n" not in str(error.value) and next(iter(wrong)) in str(error.value)
    assert not (tmp_path / "x").exists()


def test_wrong_places(out, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "full", "/proc/nursery"):
        with pytest.raises(WrongInput) as error:
            make_recordings(place, WORLD, progress=False)
        assert "\n" not in str(error.value)
    with pytest.raises(WrongInput, match="seed"):
        make_recordings(out, WORLD, progress=False, seed=1)
    with pytest.raises(WrongInput):
        masks_at(tmp_path / "nowhere", "child_a_m08_01", 0)


def test_no_space_left(tmp_path, monkeypatch):
    def full(*a, **k):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(recordings.Mp4, "write", full)
    with pytest.raises(WrongInput, match="No space left"):
        make_recordings(tmp_path / "x", WORLD, workers=1, progress=False)
    assert not list((tmp_path / "x").rglob("*.mp4")) and not list((tmp_path / "x").rglob("*.part"))
