"""Transcripts written by the nursery, read back by the curation room: words, times and speakers survive."""

from dataclasses import dataclass

import pytest

from babyvlm.core.basics import rng
from babyvlm.curation.transcripts import read_transcript, spoken
from babyvlm.nursery.scene import draw_scene
from babyvlm.nursery.speech import Line, utter
from babyvlm.nursery.things import FIRST_NOUNS, NOUNS
from babyvlm.nursery.transcripts import chat, vtt
from babyvlm.nursery.voice import duration, onsets, table
from babyvlm.nursery.words import EVENT_LINES, SPEAKER_TYPES, VOCABULARY, VOCALS


@dataclass
class Spoken:
    utterance_id: str
    onset_s: float
    line: Line

    @property
    def offset_s(self):
        return round(self.onset_s + duration(self.line.text), 3)

    @property
    def words(self):
        return [(word, round(self.onset_s + start, 3)) for word, start in onsets(self.line.text)]


@dataclass
class Made:
    recording_id: str = "child_a_m15_01"
    age_days: int = 470


def _timed(lines):
    "Lines one after the other."
    said, now = [], .3
    for line in lines:
        said.append(Spoken(f"u{len(said):04d}", round(now, 2), line))
        now += duration(line.text) + .4
    return said


def _conversation(months, n=150):
    "Lines of the full world, with every voice and every kind."
    scene, stream, lines = draw_scene(rng(5, "scene")), rng(5, "talk", months), []
    for _ in range(n):
        lines.append(utter(scene, stream, others=.4, nouns=NOUNS, age_days=round(30.4375*months), zipf=1., wrong=.1, said_before=lines[-1] if lines else None))
    return lines


@pytest.mark.parametrize("suffix", [".vtt", ".cha"])
@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("offset_s", [0., 1.25])
def test_round_trip(tmp_path, suffix, words, offset_s):
    said = _timed(_conversation(16))
    assert {u.line.voice for u in said} == set(SPEAKER_TYPES) and any(u.line.kind == "vocal" for u in said)
    text = vtt(said, words, offset_s) if suffix == ".vtt" else chat(said, Made(), words, offset_s)
    (path := tmp_path / f"a{suffix}").write_text(text, encoding="utf-8")
    read, problem = read_transcript(path)
    assert not problem and len(read) == len(said)
    for u, r in zip(said, read):
        assert spoken(r.text) == u.line.words and r.speaker_type == u.line.speaker
        assert r.onset_s == pytest.approx(u.onset_s + offset_s, abs=2e-3) and r.offset_s == pytest.approx(u.offset_s + offset_s, abs=2e-3)
        if words and len(u.words) > (suffix == ".vtt"):  # a WebVTT cue of one word needs no stamp inside
            assert [w for w, _ in r.words] == u.line.words
            assert [s for _, s in r.words] == pytest.approx([s + offset_s for _, s in u.words], abs=2e-3)


def test_times_are_never_negative():
    said = _timed(_conversation(16, 12))
    early = vtt(said, offset_s=-4.)
    assert "-0" not in early and 0 < early.count("-->") < 12 and "\x15-" not in chat(said, Made(), offset_s=-4.)


def test_the_beginners_transcript_is_as_it_was():
    said = [Spoken("r_u0001", .3, Line("look at the duck", "directive", "toy_0", True)), Spoken("r_u0002", 2., Line("ba ba", "babble", speaker="CHI"))]
    assert vtt(said) == "WEBVTT\n\nr_u0001\n00:00:00.300 --> 00:00:01.390\n<v.FEM caregiver>look at the duck\n\nr_u0002\n00:00:02.000 --> 00:00:02.660\n<v.CHI child>ba ba\n"


def test_every_word_has_its_time():
    assert set(VOCABULARY) <= set(table()["words"]) and {v[2:] for v in VOCALS} <= set(table()["sounds"])
    assert 150 <= len(VOCABULARY) <= 250
    assert all(onsets(v) == [] and duration(v) > .5 for v in VOCALS)
    for month in (1, 4, 9, 14, 20, 30):
        for line in _conversation(month, 80):
            assert set(line.words) <= set(VOCABULARY) and SPEAKER_TYPES[line.voice] == line.speaker


def test_beginners_hear_no_more_than_they_did():
    scene, stream = draw_scene(rng(1, "s"), nouns=FIRST_NOUNS, sizes=("little", "big"), place="rug"), rng(1, "t")
    lines = [utter(scene, stream) for _ in range(400)]
    assert {line.kind for line in lines} <= {"naming", "question", "directive", "routine", "babble"}
    assert all(line.related == (line.target is not None) and line.event is None for line in lines)
    new = set(NOUNS) - set(FIRST_NOUNS) | {"striped", "kitchen", "grandma", "woof", "was"}
    assert not new & {word for line in lines for word in line.words}


def test_held_out_pairs_are_not_spoken_of():
    scene, stream = draw_scene(rng(2, "s"), nouns=FIRST_NOUNS), rng(2, "t")
    here = {toy.noun for toy in scene.toys}
    allowed = lambda noun, colour: colour in ("red", "blue")
    lines = [utter(scene, stream, unrelated=1., others=0., nouns=NOUNS, known=NOUNS[:20], age_days=800, allowed=allowed) for _ in range(400)]
    said = {word for line in lines for word in line.words}
    assert not said & {"green", "yellow", "purple", "pink", "brown"} and not said & set(NOUNS[20:]) and not said & here


@pytest.mark.parametrize("kind", EVENT_LINES)
@pytest.mark.parametrize("phase", ["before", "during", "after"])
def test_every_event_can_be_spoken_of(kind, phase):
    scene = draw_scene(rng(3, "s"), 1)
    for event in ((kind, phase, None), (kind, phase, scene.toys[0].id), (kind, phase, scene.toys[0].id, "box", "cup")):
        for i in range(5):
            line = utter(scene, rng(i, kind, phase), 0., 0., nouns=NOUNS, age_days=700, event=event, doing=1.)
            assert line.text and "{" not in line.text and set(line.words) <= set(VOCABULARY)
