"""Curation of strangers' folders: real files, good and bad, and what happens when it is killed."""

import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import curation_films
import numpy as np
import pyarrow.parquet as pq
import pytest
from babyvlm.core.basics import WrongInput
from babyvlm.core.corpus import SCHEMAS, read_corpus
from babyvlm.core.records import decode_image
from babyvlm.curation import one_recording, pipeline
from babyvlm.curation.pipeline import curate, problems
from babyvlm.curation.video import read_frames, read_sound
from curation_films import film, told_time

HERE = Path(__file__).parent
SRT = "1\n00:00:00,500 --> 00:00:01,600\nMOM: look at the ball\n\n2\n00:00:02,000 --> 00:00:03,000\nda ist er: für dich\n"
MESSY = "WEBVTT\n\n00:02.000 --> 00:03.500\n<v Mom>second\n\n00:00.500 --> 00:02.500\n<v Dad>first\n\n00:03.000 --> 00:01.000\nbackwards\n\n00:xx --> 00:01\nunreadable\n\n00:03.400 --> 00:03.600\n<v CHI>ba\n\n09:00.000 --> 09:01.000\nlong after\n"
CHA = "@UTF8\n@Begin\n@Participants:\tCHI Alex Target_Child, MOT Mother\n*MOT:\twhere is (the) <the ball> [/] ball ? \x15500_2000\x15\n%mor:\tx\n*CHI:\tba . \x152100_2500\x15\n*MOT:\tno times .\n@End\n"
WANDERING = np.cumsum(np.random.default_rng(1).uniform(0.03, 0.2, 45)).tolist()


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    return film(tmp_path_factory.mktemp("films") / "whole.mp4", options={"movflags": "faststart"})


@pytest.fixture(scope="module")
def strangers(tmp_path_factory, whole):
    "A folder with one of everything, curated once."
    top = tmp_path_factory.mktemp("strangers")
    home = top / "recordings" / "Kind Ä" / "Ferien 2"
    home.mkdir(parents=True)
    film(home / "Handy hochkant.MP4", WANDERING, rotation=-90)
    (home / "handy HOCHKANT.srt").write_bytes(SRT.encode("cp1252"))
    film(home / "selfie.mp4", rotation=180, mirrored=True)
    film(home / "late.mp4", [1.5 + k / 10 for k in range(30)])
    (home / "late.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:00.500\nnothing to see yet\n\n00:02.000 --> 00:03.000\nnow\n")
    for name, codec in {"old.avi": "mpeg4", "a.mkv": "libx264", "b.mov": "libx264", "c.webm": "libvpx-vp9", "hevc.mp4": "libx265", "av1.mp4": "libsvtav1", "AV1.mkv": "libsvtav1"}.items():
        film(home / name, codec=codec, seed=len(name))
    (home / "av1.cha").write_text(CHA)
    film(home / "silent.mp4", sound=False)
    (home / "messy.mp4").write_bytes(whole.read_bytes())
    (home / "messy.vtt").write_text(MESSY)
    film(home / "two streams.mp4", second=(48, 32))
    film(top / "recordings" / "S_20300105_0612_01.mp4", seed=9)
    (home / "VID_20300106_101500.mp4").write_bytes(whole.read_bytes())
    data = whole.read_bytes()
    (home / "truncated.mp4").write_bytes(data[: len(data) * 6 // 10])
    (home / "truncated.mkv").write_bytes((home / "a.mkv").read_bytes()[: (home / "a.mkv").stat().st_size // 2])
    (home / "damaged.mp4").write_bytes(data[: len(data) // 2] + os.urandom(900) + data[len(data) // 2 + 900 :])
    (home / "no index.mp4").write_bytes(data[:40] + data[5_000:])
    (home / "header.mp4").write_bytes(data[:64])
    (home / "zero.mp4").write_bytes(b"")
    (home / "text.mp4").write_text("Dear diary, " * 99)
    (home / "random.webm").write_bytes(os.urandom(5_000))
    (home / "gone.mp4").symlink_to(home / "not fetched")
    (home / "._a.mkv").write_bytes(b"a Mac was here")
    corpus = curate(top / "recordings", top / "corpus", fps=2, px=48, quiet=True)
    return corpus, corpus.recordings.assign(name=corpus.recordings.path.str.rpartition("/")[2]).set_index("name")


GOOD = ["Handy hochkant.MP4", "selfie.mp4", "late.mp4", "old.avi", "a.mkv", "b.mov", "c.webm", "hevc.mp4", "av1.mp4", "AV1.mkv", "silent.mp4", "messy.mp4", "two streams.mp4", "S_date_0612_01.mp4", "VID_date_101500.mp4"]
BAD = ["no index.mp4", "header.mp4", "zero.mp4", "text.mp4", "random.webm", "gone.mp4"]


def test_every_file_has_its_row_and_status(strangers):
    corpus, rows = strangers
    assert set(rows.index) == {*GOOD, *BAD, "truncated.mp4", "truncated.mkv", "damaged.mp4"}
    status = rows.status.to_dict()
    assert {n for n in GOOD if status[n] != "ok"} == set() and {n for n in BAD if status[n] != "failed"} == set()
    assert status["truncated.mp4"] == status["truncated.mkv"] == "partial"
    assert rows.recording_id.is_unique and rows.recording_id.str.fullmatch("[a-z0-9_-]+").all()
    assert corpus.card["counts"]["recordings"] == len(rows) and corpus.card["release_level"] == "Private"
    assert corpus.card["ledger"]["teachers"] == [] and corpus.card["parameters"] == {"fps": 2.0, "px": 48, "seed": 0}


def test_each_problem_is_named(strangers):
    corpus, rows = strangers
    for name, words in {"zero.mp4": "empty", "text.mp4": "not a video", "gone.mp4": "cannot be read", "truncated.mp4": "cut off", "truncated.mkv": "pictures for", "silent.mp4": "no transcript",
                        "messy.mp4": "1 with times that cannot be read, 1 out of order, 1 with the end before the start", "Handy hochkant.MP4": "Windows-1252", "av1.mp4": "1 without times"}.items():
        assert words in rows.problem[name], (name, rows.problem[name])
    table = problems(corpus)
    assert all(name in table for name in BAD) and "\t" not in table and len(table.split("\n")) == 1 + (rows.problem != "").sum()
    assert "overlapping" in rows.problem["messy.mp4"] and not rows.has_audio["silent.mp4"] and rows.has_audio["a.mkv"]


def test_frames_are_upright_small_and_on_time(strangers):
    corpus, rows = strangers
    frames = corpus.frames(kept=False)
    jpegs = dict(corpus.jpegs())
    assert set(jpegs) == set(frames.frame_id) and frames.keep.all()
    assert (rows.width["Handy hochkant.MP4"], rows.height["Handy hochkant.MP4"], rows.rotation["Handy hochkant.MP4"]) == (64, 96, 90)
    assert (rows.width["two streams.mp4"], rows.height["two streams.mp4"]) == (96, 64)
    for name in GOOD:
        mine = frames[frames.recording_id == rows.recording_id[name]]
        shape = decode_image(jpegs[mine.frame_id.iloc[0]]).shape
        assert shape == ((72, 48, 3) if "hochkant" in name else (48, 72, 3)), name
        assert 5 <= len(mine) <= 10 and mine.time_s.is_monotonic_increasing and mine.time_s.is_unique
        assert (mine.hash.str.len() == 16).all() and mine.luminance.between(0.3, 0.7).all() and (mine.sharpness > 1).all()
    assert set(frames[frames.recording_id == rows.recording_id["Handy hochkant.MP4"]].time_s) <= {round(t, 3) for t in WANDERING}
    assert frames[frames.recording_id == rows.recording_id["late.mp4"]].time_s.iloc[0] == 1.5
    for name in ("truncated.mp4", "truncated.mkv"):
        assert 1 <= (frames.recording_id == rows.recording_id[name]).sum() < 8


def test_utterances_pairs_and_sound(strangers):
    corpus, rows = strangers
    said = corpus.utterances
    def of(name):
        return said[said.recording_id == rows.recording_id[name]]
    assert of("messy.mp4").drop_reason.tolist() == ["", "", "reversed_times", "key_child_speech", "outside_the_video"]
    assert of("av1.mp4").text.tolist() == ["where is the the ball ball?", "ba.", "no times."] and of("av1.mp4").drop_reason.tolist() == ["", "key_child_speech", "no_times"]
    assert of("Handy hochkant.MP4").text.tolist()[1] == "da ist er: für dich" and of("Handy hochkant.MP4").speaker_type.tolist() == ["FEM", "NA"]
    assert of("late.mp4").drop_reason.tolist() == ["no_frame_in_view", ""]
    pairs = corpus.pairs()
    times = dict(zip(corpus.frames().frame_id, corpus.frames().time_s))
    spans = said.set_index("utterance_id")
    assert len(pairs) == corpus.card["counts"]["pairs"] > 8 and pairs.pair_id.is_unique
    assert all(spans.onset_s[u] - 0.5 <= times[f] <= spans.offset_s[u] + 0.5 for u, f in zip(pairs.utterance_id, pairs.frame_id))
    audio = pq.read_table(corpus.path / f"audio-{rows.recording_id['messy.mp4']}.parquet").to_pandas()
    first, second = (read_sound(io.BytesIO(a["bytes"])) for a in audio.audio)
    assert abs(len(first) - 32_000) < 20 and abs(len(second) - 24_000) < 20
    loud = np.abs(first.reshape(-1, 1600)[:20]).max(1) > 0.1  # the utterance runs from 0.5 to 2.5 s; the tone is on from 1 to 2 s
    assert loud[6:14].all() and not loud[:4].any() and not loud[16:].any()


def test_no_calendar_date_survives(strangers):
    corpus, rows = strangers
    assert rows.age_days["S_date_0612_01.mp4"] == 195 and rows.child_id["S_date_0612_01.mp4"] == "s"
    for path in corpus.path.rglob("*"):
        assert "2030010" not in path.name and (path.is_dir() or b"2030010" not in path.read_bytes())


def test_the_tables_have_the_form_of_the_design(strangers):
    corpus, _ = strangers
    for table in ("recordings", "utterances", "image", "splits"):
        assert pq.read_schema(corpus.path / f"{table}.parquet").equals(SCHEMAS[table])
    assert all(pq.read_schema(path).equals(SCHEMAS["frames"]) for path in corpus.frame_files)
    kept = sorted(p.name for p in (corpus.path / "kept").iterdir())
    assert kept == sorted(corpus.recordings.recording_id) and all(json.loads((corpus.path / "kept" / name).read_text())["format"] == 1 for name in kept)
    assert not [p for p in corpus.path.rglob(".*")]
    splits = corpus.splits.set_index("recording_id").split
    with_pairs = corpus.image.recording_id.unique()
    assert {"train", "val", "test"} == set(splits[with_pairs]) and splits[with_pairs].value_counts()["train"] >= 2


@pytest.mark.parametrize("reader", ["auto", "pyav"])
@pytest.mark.parametrize("fps", [0.7, 2, 10, 60])
def test_both_readers_take_the_frames_of_the_grid(whole, tmp_path, reader, fps):
    path = film(tmp_path / "wander.mp4", WANDERING)
    for video, times in ((whole, [k / 10 for k in range(40)]), (path, WANDERING)):
        frames = read_frames(video, fps, reader=reader)
        got = [(t, told_time(image)) for t, image in frames]
        ends = np.append(times[1:], times[-1] + (times[-1] - times[0]) / (len(times) - 1))
        wanted = [a for a, b in zip(times, ends) if np.ceil((a - 1e-3) * fps) < (b - 1e-3) * fps]
        assert np.allclose([t for t, _ in got], wanted, atol=2e-3) and frames.status == "ok"
        assert max(abs(t - told) for t, told in got) < 0.08


def test_a_crash_a_hang_and_a_kill_cost_that_file_alone(whole, tmp_path, monkeypatch):
    for name in ("good", "segfault", "hang", "killed", "crashes with decord"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{name}.mp4").write_bytes(whole.read_bytes())
        (tmp_path / "in" / f"{name}.srt").write_text(SRT)
    monkeypatch.setattr(pipeline, "curate_recording", curation_films.fragile)
    corpus = curate(tmp_path / "in", tmp_path / "out", fps=1, px=32, timeout=2.5, workers=3, quiet=True)
    rows = corpus.recordings.set_index("recording_id")
    assert rows.status.to_dict() == {"good": "ok", "crashes_with_decord": "ok", "segfault": "failed", "hang": "failed", "killed": "failed"}
    assert "SIGSEGV" in rows.problem["segfault"] and "hung" in rows.problem["hang"] and "SIGKILL" in rows.problem["killed"]
    assert set(corpus.utterances[corpus.utterances.recording_id == "hang"].drop_reason) == {"no_frame_in_view"}


def test_kill_and_continue(whole, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for k in range(8):
        film(source / f"r{k}.mp4", [i / 10 for i in range(20)], seed=k)
        (source / f"r{k}.srt").write_text(SRT)
    code = (f"import sys; sys.path[:0] = {[str(HERE), *sys.path]!r}\nimport curation_films\nfrom babyvlm.curation import pipeline\n"
            f"pipeline.curate_recording = curation_films.slow\npipeline.curate({str(source)!r}, {str(out)!r}, fps=2, px=32, workers=2, quiet=True)")
    run = subprocess.Popen([sys.executable, "-c", code])
    while len(list((out / "kept").glob("[!.]*"))) < 2:
        assert run.poll() is None
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    time.sleep(1.5)  # children that outlived their parent would finish now
    finished = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (out / "kept").glob("[!.]*")}
    assert 2 <= len(finished) < 8
    with pytest.raises(WrongInput, match="not finished"):
        read_corpus(out)
    (out / ".frames-r7.parquet.0badcafe.part").write_bytes(b"half a file")
    corpus = curate(source, out, fps=2, px=32, quiet=True)
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in finished} == finished
    undisturbed = curate(source, tmp_path / "undisturbed", fps=2, px=32, workers=1, quiet=True)
    assert corpus.card == undisturbed.card and not list(out.rglob("*.part"))
    assert [p.read_bytes() for p in corpus.frame_files] == [p.read_bytes() for p in undisturbed.frame_files]
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in out.rglob("*")}
    assert curate(source, out, fps=2, px=32, quiet=True).card == corpus.card
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in out.rglob("*")} == before


def test_files_that_come_change_and_go(whole, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in "abc":
        film(source / f"{name}.mp4", [i / 10 for i in range(15)], seed=ord(name))
    curate(source, out, fps=1, px=32, quiet=True)
    film(source / "a.mp4", [i / 10 for i in range(25)])
    (source / "b.mp4").unlink()
    film(source / "d.mp4", [i / 10 for i in range(15)])
    rows = curate(source, out, fps=1, px=32, quiet=True).recordings.set_index("recording_id").problem
    assert "has changed" in rows["a"] and "no longer" in rows["b"] and rows["c"] == rows["d"] == "no transcript"
    with pytest.raises(WrongInput, match="other parameters: fps"):
        curate(source, out, fps=2, px=32, quiet=True)
    (tmp_path / "other").mkdir()
    film(tmp_path / "other" / "a.mp4", seed=77)
    with pytest.raises(WrongInput, match="other recordings"):
        curate(tmp_path / "other", out, fps=1, px=32, quiet=True)


def test_one_recording_copies_and_no_pairs(whole, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    (source / "only.mp4").write_bytes(whole.read_bytes())
    none = curate(source, tmp_path / "none", quiet=True)
    assert len(none.pairs()) == 0 and "no usable pair" in none.card["notes"][0] and none.card["hours"] > 0
    (source / "only.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nthe ball\n")
    one = curate(source, tmp_path / "one", px=64, quiet=True)
    assert len(one.pairs("train")) == 2 and "train" in one.card["notes"][0] and one.recordings.problem[0] == "" and problems(one) == ""
    for name in ("copy a", "copy b"):
        (source / f"{name}.mp4").write_bytes(whole.read_bytes())
        (source / f"{name}.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nthe ball\n")
    copies = curate(source, tmp_path / "copies", px=64, quiet=True)
    assert set(copies.splits.split) == {"train"}


def test_a_table_of_recordings(whole, tmp_path):
    source = tmp_path / "in"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "x.mp4").write_bytes(whole.read_bytes())
    (source / "sub" / "words.srt").write_text(SRT)
    (source / "y.mp4").write_bytes(whole.read_bytes()[:-1] + b"y")
    (source / "recordings.csv").write_bytes("recording_id;child_id;age_days;path;transcript;release_level;consent_scope\nR 1;Änne;300;sub/x.mp4;sub/words.srt;public;all\n".encode("utf-8-sig"))
    rows = curate(source, tmp_path / "out", fps=1, px=32, quiet=True).recordings.set_index("recording_id")
    assert rows.child_id.to_dict() == {"r_1": "anne", "y": "unknown"} and rows.age_days["r_1"] == 300
    assert rows.release_level.to_dict() == {"r_1": "Public", "y": "Private"} and "Windows" not in rows.problem["r_1"]
    (source / "recordings.csv").write_text("recording_id,child_id,age_days,path\nr1,a,1,gone.mp4\n")
    with pytest.raises(WrongInput, match=r"recordings\.csv, line 2: path 'gone\.mp4'"):
        curate(source, tmp_path / "again", quiet=True)
    assert not (tmp_path / "again").exists()


def test_wrong_input(whole, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for folder, words in ((tmp_path / "missing", "does not exist"), (whole, "is a file"), (source, "no video file")):
        with pytest.raises(WrongInput, match=words):
            curate(folder, tmp_path / "out", quiet=True)
    (source / "a.mp4").write_bytes(whole.read_bytes())
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "full", source, Path("/proc/nowhere/out"), tmp_path / ("x" * 300)):
        with pytest.raises(WrongInput) as caught:
            curate(source, out, quiet=True)
        assert "\n" not in str(caught.value)
    for wrong in (dict(fps=0), dict(fps=float("nan")), dict(px=0), dict(px=2.5), dict(workers=0), dict(seed=-1)):
        with pytest.raises(WrongInput):
            curate(source, tmp_path / "out", quiet=True, **wrong)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "full", "in"] and sorted(p.name for p in source.iterdir()) == ["a.mp4"]


def test_no_space_left(whole, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_bytes(whole.read_bytes())
    code = (f"import sys; sys.path[:0] = {sys.path!r}\nimport resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
            f"from babyvlm.curation.pipeline import curate, WrongInput\ntry: curate({str(tmp_path / 'in')!r}, {str(tmp_path / 'out')!r}, fps=10, quiet=True)\nexcept WrongInput as e: print(e)")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert said.returncode == 0 and "cannot be written" in said.stdout and said.stdout.count("\n") == 1, said
    assert not list((tmp_path / "out").glob("*.parquet")) and not list((tmp_path / "out").rglob("*.part")) and not (tmp_path / "out" / "corpus.json").exists()
    assert len(curate(tmp_path / "in", tmp_path / "out", fps=10, quiet=True).frames()) == 40


def test_memory_stays_flat(tmp_path):
    long = film(tmp_path / "long.mp4", [k / 10 for k in range(600)], size=(320, 240), sound=False)
    frames = read_frames(long, 10)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sum(1 for _ in frames) == 600  # 138 MB of pictures
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 70_000


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_every_way_to_hold_a_phone(tmp_path, rotation, mirrored):
    path = film(tmp_path / "a.mp4", [1.0, 1.1, 1.2], rotation=rotation, mirrored=mirrored, sound=False)
    wanted = np.rot90(curation_films.picture(1.0), rotation // 90)
    wanted = wanted[:, ::-1] if mirrored else wanted
    for reader in ("auto", "pyav"):
        frames = read_frames(path, 10, reader=reader)
        image = next(frames)[1]
        assert image.shape == wanted.shape == (frames.about["height"], frames.about["width"], 3)
        assert np.abs(image.astype(int) - wanted).mean() < 6


def test_the_sound_of_overlapping_utterances():
    spans = sorted((a / 10, a / 10 + (a % 7) / 3) for a in range(300))
    sound = np.arange(20 * 16_000, dtype=np.float32)
    cut = dict(one_recording.cut_sound(np.array_split(sound, 300), spans))
    assert all(np.array_equal(cut[i], sound[round(a * 16_000) : round(b * 16_000)]) for i, (a, b) in enumerate(spans) if i in cut)
    assert set(cut) >= {i for i, (a, b) in enumerate(spans) if b < 20}


def test_without_decord(whole, monkeypatch):
    with_decord = list(read_frames(whole, 2))
    monkeypatch.setitem(sys.modules, "decord", None)  # as where it has no wheel
    frames = read_frames(whole, 2)
    images = list(frames)
    assert frames.reader == "PyAV" and frames.status == "ok" and [t for t, _ in images] == [t for t, _ in with_decord]
    assert max(np.abs(a.astype(int) - b).mean() for (_, a), (_, b) in zip(images, with_decord)) < 2


@pytest.mark.parametrize("seed", range(6))
def test_damage_inside_never_repeats_or_reorders_frames(whole, tmp_path, seed):
    rng, data = np.random.default_rng(seed), bytearray(whole.read_bytes())
    for start in rng.integers(4_000, len(data) - 400, 4):
        data[start : start + 300] = rng.bytes(300)
    (tmp_path / "a.mp4").write_bytes(data)
    frames = read_frames(tmp_path / "a.mp4", 10)
    times = [t for t, _ in frames]
    assert times == sorted(set(times)) and len(times) <= 40 and frames.status in ("ok", "partial") and times
