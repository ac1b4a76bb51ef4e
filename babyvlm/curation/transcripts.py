"""Transcripts as people have them: lenient readers of WebVTT, SubRip and CHAT files.

Hand-written on purpose (dense mechanism); `nbs/curation/00_transcripts.ipynb` explains it and `tests/test_curation_transcripts.py` proves it.
Nothing here raises on what a file holds: what cannot be used is counted, and told in one string.
"""

__all__ = ["TRANSCRIPT_SUFFIXES", "read_transcript", "parse", "decode_text", "speaker_type", "spoken"]

import codecs
import html
import math
import re
from collections import Counter
from pathlib import Path

from babyvlm.core.records import SPEAKERS, Utterance

TRANSCRIPT_SUFFIXES = (".vtt", ".srt", ".cha")  # the first that lies beside a video is read
_SAID_ONCE = ("damaged characters", "not UTF-8, read as Windows-1252", "empty: no words in it")  # troubles without a number
MAX_BYTES = 64 * 2**20  # a larger "transcript" is some other file


def read_transcript(
    path,  # a `.vtt`, `.srt` or `.cha` file, in any encoding
) -> tuple:
    "`(utterances sorted by onset, problem)`; the problem is one line, empty when there is none."
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            return [], f"transcript {path.suffix}: larger than {MAX_BYTES >> 20} MiB, not read"
        data = path.read_bytes()
    except OSError as error:
        return [], f"transcript {path.suffix}: cannot be read ({error.strerror})"
    return parse(data, path.suffix)


def parse(
    data,    # the file's bytes
    suffix,  # ".vtt", ".srt" or ".cha"
) -> tuple:
    "`(utterances sorted by onset, problem)` from a transcript's bytes."
    suffix, troubles = suffix.lower(), Counter()
    if suffix not in PARSERS:
        return [], f"transcript {suffix}: not one of {' '.join(PARSERS)}"
    text = decode_text(data, troubles)
    utterances = PARSERS[suffix](text, troubles)
    for utterance in utterances:
        utterance.source = suffix[1:]
    utterances = _in_order(utterances, troubles)
    if not any(u.text for u in utterances):
        troubles[_SAID_ONCE[2]] = 0
    troubles = {what: n for what, n in troubles.items() if n or what in _SAID_ONCE}
    told = ", ".join(f"{n} {what}" if n else what for what, n in troubles.items())
    return utterances, f"transcript {suffix}: {told}" if told else ""


def decode_text(
    data,           # bytes in an unknown encoding
    troubles=None,  # a Counter that hears of guesses
) -> str:
    "Text by byte order mark, else UTF-8, else UTF-16 that shows by its zeros, else Windows-1252; newlines made plain."
    troubles = Counter() if troubles is None else troubles
    marks = [(codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")]
    name = next((name for mark, name in marks if data.startswith(mark)), None)
    if name is None and data[:4096].count(0) > len(data[:4096]) // 4:
        name = "utf-16-le" if data[1:4096:2].count(0) >= data[0:4096:2].count(0) else "utf-16-be"
    try:
        text = data.decode(name or "utf-8")
    except UnicodeDecodeError:
        text = data.decode(name or "cp1252", errors="replace")
        troubles[_SAID_ONCE[0] if name else _SAID_ONCE[1]] = 0
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").lstrip("\ufeff")


def _in_order(utterances, troubles):
    "Sorted by onset; counts what was out of order, reversed, overlapping or without times. Utterances without times come last."
    timed = [u for u in utterances if not math.isnan(u.onset_s)]
    counts = {
        "without times": len(utterances) - len(timed),
        "out of order": sum(b.onset_s < a.onset_s for a, b in zip(timed, timed[1:])),
        "with the end before the start": sum(u.offset_s < u.onset_s for u in timed),
    }
    timed = sorted(timed, key=lambda u: (u.onset_s, u.offset_s))
    latest, overlapping = (-math.inf, -math.inf), 0
    for u in timed:
        overlapping += u.onset_s < latest[1] - 1e-3 and u.offset_s >= u.onset_s and (u.onset_s, u.offset_s) != latest
        latest = max(latest, (u.onset_s, u.offset_s), key=lambda span: span[1])
    counts["overlapping the one before"] = overlapping
    troubles.update({what: n for what, n in counts.items() if n})
    return timed + [u for u in utterances if math.isnan(u.onset_s)]


# ------------------------------------------------------------------ who speaks

_WHO = dict(
    FEM="fem female f woman mother mom mommy mum mummy mama mot maman mutter madre grandmother grandma granny nana aunt auntie gra gmother stepmother",
    MAL="mal male man father dad daddy papa fat vater padre grandfather grandpa grandad uncle gfather stepfather",
    CHI="chi kchi child key_child target_child targetchild baby infant kid toddler self",
    OCH="och other_child otherchild brother sister sibling bro sis sib playmate boy girl cousin twin",
)
_TYPE = {label: kind for kind, labels in _WHO.items() for label in labels.split()}


def speaker_type(
    label,  # a speaker as the transcript names them: "Mommy", "*MOT", "FEM 2", "SPEAKER_00"
) -> str:
    "The ChildProject speaker type (FEM, MAL, CHI = key child, OCH = other child) of a label, or NA."
    plain = re.sub(r"[\W\d_]+", "_", label.lower()).strip("_").removeprefix("the_")
    return _TYPE.get(plain) or _TYPE.get(plain.replace("_", "")) or "NA"


# ------------------------------------------------------------------ WebVTT and SubRip

_CLOCK = r"(?:(\d{1,6}):)?(\d{1,6}):(\d{1,2})(?:[.,](\d{1,9}))?"
_TIMING = re.compile(rf"^\s*{_CLOCK}\s*(?:-{{1,3}}>|→)\s*{_CLOCK}(?:\s|$)")
_STAMP = re.compile(rf"<\s*{_CLOCK}\s*>")
_VOICE = re.compile(r"<\s*v((?:\.[^\s>.]{1,30}){0,9})(?:\s+([^>]{0,200}))?>|</\s*v\s*>", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")
_NOTE = re.compile(r"\[[^\[\]]*\]|[♪♫]")  # [laughs], music
_PREFIX = re.compile(r"^(?:\s|-|<[^<>]{0,80}>)*(?:\[([^\[\]:]{1,30})\]|\(([^():]{1,30})\)|([^\W\d_][\w .'-]{0,29}))\s*:\s+")
_BLOCKS = ("NOTE", "STYLE", "REGION", "X-TIMESTAMP-MAP")


def _seconds(hours, minutes, seconds, fraction):
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction or 0}")


def _own(lines):
    "A cue's lines without the next cue's name: a last line after a blank one, or a number."
    while lines and not lines[-1]:
        lines = lines[:-1]
    named = len(lines) > 1 and (not lines[-2] or lines[-1].strip().isdigit())
    return lines[:-1] if named else lines


def _cues(text, troubles, vtt):
    "Yields `(onset, offset, lines)`; a cue runs from its timing line to the next one."
    times, lines, skipping = None, [""], False
    for line in text.split("\n"):
        match = _TIMING.match(line)
        if match or "-->" in line:
            if times:
                yield *times, _own(lines)
            times = match and (_seconds(*match.groups()[:4]), _seconds(*match.groups()[4:]))
            troubles["with times that cannot be read"] += not match
            lines, skipping = [], False
        elif not line.strip():
            lines.append("")
            skipping = False
        elif skipping or vtt and lines[-1:] == [""] and line.strip().startswith(_BLOCKS):
            skipping = True
        else:
            lines.append(line)
    if times:
        yield *times, lines


def _voices(body):
    "Yields `(voice, speaker type, text)` for each voice span in a cue; a class such as `<v.FEM caregiver>` tells the type."
    voice, kind, place = "", "NA", 0
    for match in _VOICE.finditer(body):
        yield voice, kind, body[place:match.start()]
        voice, place = html.unescape(match[2] or "").strip(), match.end()
        kind = next((name for name in (match[1] or "").split(".") if name in SPEAKERS), speaker_type(voice))
    yield voice, kind, body[place:]


def _plain(text):
    "Text without tags and sound notes, entities resolved, white space single."
    return " ".join(_NOTE.sub(" ", html.unescape(_TAG.sub("", text))).split())


def _timed_words(body, onset):
    "`[(word, onset_s)]` from inline time stamps, or None; a word without its own stamp has that of the words before it."
    if not _STAMP.search(body):
        return None
    words, place, now = [], 0, onset
    for match in [*_STAMP.finditer(body), None]:
        piece = body[place:match.start() if match else None]
        words += [(word, round(now, 3)) for word in _plain(piece).split()]
        if match:
            now, place = max(now, _seconds(*match.groups())), match.end()
    return words


def _prefix(text):
    "`(label, rest)` when a line begins with a speaker that we know, as in `MOM: look!` or `[SPEAKER_00]: look!`."
    match = _PREFIX.match(text)
    label = match and next(g for g in match.groups() if g).strip()
    if label and (speaker_type(label) != "NA" or re.fullmatch(r"(?i)speaker[ _-]?\w{1,3}|[A-Z]{2,4}\d?", label)):
        return label, text[match.end():]
    return "", text


def _subtitles(text, troubles, vtt):
    utterances = []
    for onset, offset, lines in _cues(text, troubles, vtt):
        spans = [span for span in _voices(" ".join(lines)) if span[2].strip()]
        for voice, kind, body in spans or [("", "NA", "")]:
            if not voice and kind == "NA":
                voice, body = _prefix(body)
                kind = speaker_type(voice)
            utterances.append(Utterance(onset, offset, _plain(body), voice, kind, _timed_words(body, onset)))
    return utterances


def parse_vtt(text, troubles):
    "WebVTT: voices, cue settings, NOTE, STYLE and REGION blocks, inline time stamps as word onsets."
    return _subtitles(text, troubles, vtt=True)


def parse_srt(text, troubles):
    "SubRip: comma or dot, with or without numbers, HTML tags, `MOM:` in front of a line."
    return _subtitles(text, troubles, vtt=False)


# ------------------------------------------------------------------ CHAT

_BULLET = re.compile("[\x15\u2022]\\s*(?:%(?:snd|mov|vid|pic|txt):\\s*\"?[^\x15\u2022]{0,200}?_)?(\\d{1,10})\\s*[_-]\\s*(\\d{1,10})-?\\s*[\x15\u2022]")
_MAIN = re.compile(r"^\*([^\s:]{1,20}):\s?(.*)$", re.DOTALL)
_OLD_TIER = re.compile(r"^%(?:snd|mov|vid|tim):.{0,300}?(\d{1,10})[_ ](\d{1,10})\W{0,3}$", re.DOTALL)


def _tiers(text):
    "CHAT lines with their continuations (lines that begin with white space) joined."
    tier = None
    for line in text.split("\n"):
        if line[:1] in ("\t", " ") and tier is not None:
            tier += " " + line.strip()
        else:
            if tier:
                yield tier
            tier = line
    if tier:
        yield tier


def _roles(tiers):
    "Speaker code → ChildProject type, from @Participants (roles) and @ID (sex); names of people are not kept."
    kinds = {}
    for tier in tiers:
        if tier.startswith("@Participants:"):
            for entry in tier.partition(":")[2].split(","):
                words = entry.split()
                if len(words) > 1:
                    kinds[words[0]] = "OCH" if words[-1] == "Child" else speaker_type(words[-1])
        elif tier.startswith("@ID:"):
            fields = [field.strip() for field in tier.partition(":")[2].split("|")]
            if len(fields) > 7 and kinds.get(fields[2], "NA") == "NA":
                kinds[fields[2]] = next((kind for sex, kind in (("female", "FEM"), ("male", "MAL")) if sex in map(str.lower, fields)), "NA")
    return kinds


_CHAT = [(re.compile(pattern), plain) for pattern, plain in [
    (r"\[[^\[\]]*\]", " "),                     # [//] [: going to] [=! laughs] [+ trn] [x 3]
    (r"(?:^|(?<=\s))\+[\"^,<+]+", " "),         # linkers +< +^ +" +, ++
    (r"&\*\w+:\S*", " "),                       # another speaker's word inside
    (r"&[=+~{}]\S*", " "),                      # &=laughs, &+fr fragments, &~sounds
    (r"&-(?=\w)", ""),                          # &-um is a filled pause: um
    (r"&\S+", " "),                             # old style fragments
    (r"\((?:\.{1,3}|\d{0,6}:?\d{0,6}\.\d{0,6})\)", " "),    # pauses (.) (..) (1.5)
    (r"[()<>]", ""),                            # (be)cause, <what> [/]
    (r"\+\.\.\.", "... "), (r"\+\.\.\?", "? "), (r"\+!\?", "?! "),
    (r"\+[/\"]*([.?!])", r"\1 "),               # +/. +//. +/? +".
    (r"(?:^|(?<=\s))0\S*", " "),                # 0is was not said
    (r"@[\w:$*&-]+", ""),                       # doggy@c, hola@s:spa
    (r"\b(?:xxx|xx|yyy|yy|www)\b", " "),        # unintelligible
    (r"(?<=\w)[+_](?=\w)", " "),                # choo_choo, ice+cream
    (r"(?<=\w):+(?=[\w\s.?!,]|$)", ""),         # no:::
    (r"[\u02c8\u02cc^\u2021\u201e\u201c\u201d\u2191\u2193\u21d7\u21d8\u2308\u2309\u230a\u230b\u2206\u2207\u00b0\u25d6\u25d7\u263a\u2260\u224b\u2248]", ""),
]]


def _chat_words(text):
    "What was said on a main line, without CHAT's codes."
    text = text.replace("\x15", " ")
    for _ in range(3):  # codes may stand inside codes
        text = _CHAT[0][0].sub(" ", text)
    for pattern, plain in _CHAT:
        text = pattern.sub(plain, text)
    said = re.sub(r" ([.,?!])", r"\1", " ".join(text.split()))
    return said if spoken(said) else ""


def _pieces(line):
    "`[(text, onset, offset)]` of a tier: one piece per bullet; NaN for words after the last bullet or without any."
    pieces, place = [], 0
    for match in _BULLET.finditer(line):
        pieces.append((line[place:match.start()], int(match[1]) / 1000, int(match[2]) / 1000))
        place = match.end()
    rest = line[place:]
    return pieces if pieces and not _chat_words(rest) else [*pieces, (rest, math.nan, math.nan)]


def parse_cha(text, troubles):
    "CHAT: main tiers with media bullets in milliseconds, `%wor` as word onsets, other dependent tiers left out."
    tiers = list(_tiers(text))
    kinds, utterances = _roles(tiers), []
    for tier in tiers:
        if main := _MAIN.match(tier):
            code, kind = main[1], kinds.get(main[1], "NA")
            kind = speaker_type(code) if kind == "NA" else kind
            utterances += [Utterance(onset, offset, _chat_words(body), code, kind) for body, onset, offset in _pieces(main[2])]
        elif utterances and tier.startswith("%wor:"):
            spans = [(_chat_words(body), onset) for body, onset, _ in _pieces(tier[5:])]
            utterances[-1].words = [(word, onset) for word, onset in spans if word and not math.isnan(onset)] or None
        elif utterances and math.isnan(utterances[-1].onset_s) and (old := _OLD_TIER.match(tier)):
            utterances[-1].onset_s, utterances[-1].offset_s = int(old[1]) / 1000, int(old[2]) / 1000
    return utterances


PARSERS = {".vtt": parse_vtt, ".srt": parse_srt, ".cha": parse_cha}


def spoken(
    text,  # an utterance's text
) -> list:
    "The words in a text: runs of letters or digits, in any script, with inner apostrophes and hyphens."
    return re.findall(r"\w+(?:['’-]\w+)*", text)
