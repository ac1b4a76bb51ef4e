"""The transcript parsers: every form that people hold, and any bytes at all."""

import math
import time

import pytest
from babyvlm.core.records import SPEAKERS
from babyvlm.curation.transcripts import decode_text, parse, read_transcript, speaker_type, spoken
from hypothesis import given, settings
from hypothesis import strategies as st

SUFFIXES = [".vtt", ".srt", ".cha"]


def texts(data, suffix):
    return [u.text for u in parse(data if isinstance(data, bytes) else data.encode(), suffix)[0]]


def well_formed(utterances, problem):
    assert isinstance(problem, str) and "\n" not in problem and len(problem) < 400
    timed = [u.onset_s for u in utterances if not math.isnan(u.onset_s)]
    assert timed == sorted(timed)
    for u in utterances:
        assert u.speaker_type in SPEAKERS and isinstance(u.text, str) and "\n" not in u.text
        assert math.isnan(u.onset_s) == math.isnan(u.offset_s) and not (u.onset_s < 0)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(SUFFIXES))
def test_any_bytes(data, suffix):
    well_formed(*parse(data, suffix))


PIECES = {
    ".vtt": ["WEBVTT", "\n", "\n\n", "\r\n", "00:01.000 --> 00:02.000", "01:00:01.000 --> 00:00:02.5 align:start", "-->", "00:9 --> x", "<v Mom>", "<v.FEM>",
             "</v>", "<00:01.500>", "<c>", "look", "NOTE", "STYLE", "REGION", "&amp;", "&#xd800;", "<", ">", "[laughs]", "3", "MOM: hi", "\ufeff", "\0", "é"],
    ".srt": ["1", "\n", "\n\n", "\r", "00:00:01,000 --> 00:00:02,000", "0:1:2 -> 0:1:3", "00:00:01.0000000000 --> 9999999:00:00", "<i>", "{\\an8}", "DAD: no",
             "[SPEAKER_01]: yes", "- ", "-->", "42", "ball", "♪", "(", ")", "…"],
    ".cha": ["@Participants:", "\tCHI Target_Child, MOT Mother", "@ID: eng|c|MOT||female|||Mother|||", "*MOT:", "*CHI:\t", "\n", "\n\t", "%wor:", "%snd: x_1_2",
             "\x15100_200\x15", "\x15", "•300_250•", '\x15%mov:"a"_1_2\x15', "[//]", "[", "]", "<a b>", "&-um", "&=x", "xxx", "+...", "+/.", "(be)cause", "(.)",
             "0is", "dog@c", "no:::", "a_b", ".", " ", "1_2"],
}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SUFFIXES).flatmap(lambda s: st.tuples(st.just(s), st.lists(st.sampled_from(PIECES[s]), max_size=40))),
       st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"]))
def test_any_mixture_of_what_such_files_hold(case, encoding):
    suffix, pieces = case
    well_formed(*parse("".join(pieces).encode(encoding, errors="replace"), suffix))


@pytest.mark.parametrize("nasty", ["<v " * 30_000, "<" * 60_000, "[" * 60_000, "a:" * 30_000, "(1" * 30_000, "&" * 60_000, "\x15" * 60_000, "\x15%snd:" * 9_000,
                                   "0" * 60_000, "<  " * 30_000, "\n" * 60_000, "-->\n" * 9_000, "<00:" * 20_000, ":" * 60_000, "word " * 20_000])
def test_no_text_takes_long(nasty):
    started = time.process_time()
    for suffix, before in ((".vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\n"), (".srt", "1\n00:00:01,000 --> 00:00:02,000\n"), (".cha", "*MOT:\t")):
        well_formed(*parse((before + nasty).encode(), suffix))
    assert time.process_time() - started < 5


VTT = "WEBVTT - title\nKind: captions\n\nNOTE a\nb --- c\n\nSTYLE\n::cue { color: red }\n\nREGION\nid:x\n\n1\n00:01.000 --> 00:02.500 position:10%,line-left\n<v Mother>Look &lt;here&gt;</v>\n\nintro\n01:00:03.000 --> 01:00:04.000\nthe ball\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_vtt_in_all_encodings_and_newlines(encoding, newline):
    utterances, problem = parse(VTT.replace("\n", newline).encode(encoding), ".vtt")
    assert [(u.onset_s, u.offset_s, u.text, u.speaker_type) for u in utterances] == [(1.0, 2.5, "Look <here>", "FEM"), (3603.0, 3604.0, "the ball", "NA")]
    assert problem == ""


def test_vtt_word_onsets_and_two_voices_in_a_cue():
    utterances, _ = parse(b"WEBVTT\n\n00:01.000 --> 00:03.000\n<v Dad>see<00:00:01.500><c> the</c><00:02.000> red ball</v><v Sis>no", ".vtt")
    assert utterances[0].words == [("see", 1.0), ("the", 1.5), ("red", 2.0), ("ball", 2.0)]
    assert [(u.speaker_raw, u.speaker_type, u.text) for u in utterances] == [("Dad", "MAL", "see the red ball"), ("Sis", "OCH", "no")]


def test_srt_without_numbers_or_blank_lines():
    assert texts("00:00:01,000 --> 00:00:02,000\none\n00:00:02.000 --> 00:00:03.000\n<b>two</b>\n3\n00:00:03,000 --> 00:00:04,000\nthree\n\nstill three\n\n4\n\n"
                 "00:00:05,000-->00:00:06,000\n5", ".srt") == ["one", "two", "three still three", "5"]


def test_troubles_are_counted_in_one_line():
    data = b"1\n00:00:05,000 --> 00:00:07,000\na\n\n2\n00:00:01,000 --> 00:00:06,000\nb\n\n3\n00:00:09,000 --> 00:00:08,000\nc\n\n4\nxx --> 1\nd\n"
    utterances, problem = parse(data, ".srt")
    assert [u.text for u in utterances] == ["b", "a", "c"]
    assert problem == ("transcript .srt: 1 with times that cannot be read, 1 out of order, 1 with the end before the start, 1 overlapping the one before")


@pytest.mark.parametrize("line, said", [
    ("<the the> [/] the ball .", "the the the ball."), ("&-um look [!] ! \x15", "um look!"), ("(be)cause I wan(t) to +...", "because I want to..."),
    ("xxx .", ""), ("0 [=! cries] .", ""), ("gonna [: going to] [* m] go ?", "gonna go?"), ("choo_choo@o goes hola@s:spa !", "choo choo goes hola!"),
    ("that's no::: (.) good (1.5) .", "that's no good."), ("+< yes +/.", "yes."), ("+\" look &=laughs here +//.", "look here."),
    ("what [x 3] is <this one> [>] ? [+ trn]", "what is this one?"), ("&+b ball &*MOT:mhm is „ right ‡ yes .", "ball is right yes."),
    ("[- spa] mira el 0el perro .", "mira el perro."), ("ˈba ba^ba ↑ .", "ba baba."), ("ice+cream www yyy .", "ice cream."),
])
def test_chat_codes(line, said):
    assert texts(f"*MOT:\t{line} \x151000_2000\x15\n", ".cha") == [said]


def test_chat_bullets_roles_and_tiers():
    data = ("@Participants:\tCHI Alex Target_Child, MOT Mary Mother,\n\tSIS Ann Sister, EXP Experimenter\n@ID:\teng|c|EXP|||male||Experimenter|||\n"
            "*MOT:\tone . \x151000_2000\x15 two . \x152000_3000\x15\n%mor:\tn|one\n%com:\tlaughs \x151_2\x15\n*CHI:\tba\n\tba . \x153000_3500\x15\n%wor:\tba \x153000_3200\x15 ba \x153200_3400\x15\n"
            "*SIS:\told . \x15%snd:\"tape 1\"_4000_4500\x15\n*EXP:\tolder .\n%snd:\t\"tape\" 5000 6000\n*MOT:\tnever .\n@End\n")
    utterances, problem = parse(data.encode(), ".cha")
    assert [(u.onset_s, u.text, u.speaker_type) for u in utterances[:-1]] == [
        (1.0, "one.", "FEM"), (2.0, "two.", "FEM"), (3.0, "ba ba.", "CHI"), (4.0, "old.", "OCH"), (5.0, "older.", "MAL")]
    assert utterances[2].words == [("ba", 3.0), ("ba", 3.2)] and math.isnan(utterances[-1].onset_s)
    assert problem == "transcript .cha: 1 without times" and not any("Mary" in u.speaker_raw for u in utterances)


def test_files_that_are_no_transcripts(tmp_path):
    (tmp_path / "a.vtt").mkdir()
    for path in (tmp_path / "missing.srt", tmp_path / "a.vtt"):
        utterances, problem = read_transcript(path)
        assert utterances == [] and "cannot be read" in problem
    (tmp_path / "A.SRT").write_text("00:01 --> 00:02\nhi")
    assert read_transcript(tmp_path / "A.SRT")[0][0].text == "hi"
    assert "empty" in parse(b"", ".cha")[1] and "not one of" in parse(b"", ".txt")[1]


def test_labels_and_words():
    assert [speaker_type(x) for x in ("*MOT", "M", "FEM_1", "Grandpa", "KCHI", "sib2", "caregiver", "")] == ["FEM", "NA", "FEM", "MAL", "CHI", "OCH", "NA", "NA"]
    assert decode_text("\ufeffé\r\n".encode("utf-16")) == "é\n" and decode_text(b"\xe9") == "é" and spoken("don't, 3!") == ["don't", "3"]
