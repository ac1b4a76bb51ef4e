"The grammar of answers: what is read, what is not, and what can never be read."

import random
import string

import pytest

from babyvlm.milestones.answers import NUMBERS, UNITS, direction_in, kind_of, letter_in, number_in, plain_words, read_reply, same_answer

LETTERS = ["A", "B", "C", "D"]
WAYS = ["{}", "({})", "{}.", " {} ", "**{}**", "“{}”", "{})", "The answer is {}.", "Answer: {}", "option {}", "I choose ({})", "{}: because it is new", "It is {}!\n"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", range(4))
def test_a_letter_is_read_however_it_is_written(way, place):
    assert read_reply(way.format(LETTERS[place]), LETTERS) == place


@pytest.mark.parametrize("reply", ["a ball", "A ball", "A big red ball is there", "a", "there is a cup", "it's a", "a cup and a ball", "I am a baby"])
def test_the_word_a_is_not_the_answer_a(reply):
    found = read_reply(reply, LETTERS)
    assert found is None or reply == "a"  # alone it can be nothing but the letter


@pytest.mark.parametrize("reply", ["", " ", "E", "A or B", "A and B", "(A)(B)", "neither", "not A", "it isn't B", "ABBA", "left", "1", "Plan-B"])
def test_no_letter_or_two_is_no_answer(reply):
    assert read_reply(reply, LETTERS) is None


@pytest.mark.parametrize("number", range(21))
def test_numbers_to_twenty_in_words_and_digits(number):
    answers = [str(k) for k in range(21)]
    word = (UNITS + ["twenty"])[number]
    for reply in (str(number), word, word.upper() + ".", f"I see {word} balls", f"there are {number}!", f"{number}, {word}"):
        assert read_reply(reply, answers) == number and same_answer(reply, str(number))
    assert read_reply(f"{word} or {UNITS[(number + 3) % 20]}", answers) is None


@pytest.mark.parametrize("reply", ["some", "1.5", "one or two", "3D", "1,000 balls", "a ball", "the red one", "not three", "99999999999", "٣٤", "²"])
def test_what_is_no_whole_number(reply):
    assert read_reply(reply, [str(k) for k in range(13)]) is None


def test_every_number_word_is_its_own_number():
    for word, value in NUMBERS.items():
        assert number_in(word) == value and number_in(f"look, {word}!") == value


SIDES = ["left", "right", "top", "bottom", "top left", "top right", "bottom left", "bottom right"]


@pytest.mark.parametrize("place", range(8))
def test_directions_are_stripped_and_normalised(place):
    side = SIDES[place]
    words = side.split()
    ways = [side.upper(), f" {side}.\n", "-".join(words), "".join(words), " ".join(reversed(words)), f"the {side} side", f"It leaves at the {side} of the frame",
            side.replace("top", "upper").replace("bottom", "lower")]  # fmt: skip
    assert [read_reply(way, SIDES) for way in ways] == [place] * len(ways)
    assert kind_of(SIDES) == "direction" and direction_in("left or right") is None and read_reply(f"not {side}", SIDES) is None


def test_a_corner_is_not_its_side():
    assert read_reply("top left", ["left", "right"]) is None and read_reply("left", ["top left", "bottom left"]) is None


def test_phrases_are_whole_words():
    answers = ["a ball", "a red ball", "two shoes", "it is Bälle"]
    assert [read_reply(r, answers) for r in ("Ball!", "I see a red ball.", "TWO  shoes", "balloons", "a ball and two shoes", "it is bälle", "")] == [0, 1, 2, None, None, 3, None]
    assert plain_words("The the  A cup’s") == "cup's"


def test_nothing_that_is_said_can_crash_it():
    draw = random.Random(0)
    alphabet = string.printable + "äß“”’ñ漢\u200b\ud800" + "ABCD" * 10 + "()" * 5
    sets = [LETTERS, [str(k) for k in range(13)], SIDES, ["a ball", "the cup", ""], ["x"]]
    for _ in range(4000):
        reply = "".join(draw.choice(alphabet) for _ in range(draw.randrange(40)))
        for answers in sets:
            found = read_reply(reply, answers)
            assert found is None or 0 <= found < len(answers)


def test_order_of_the_answers_does_not_matter():
    draw = random.Random(1)
    replies = ["B", "the answer is C", "a ball", "three", "top left", "I see two balls", "ball", "12", "right side"]
    for answers in (LETTERS, ["1", "2", "3", "12"], SIDES, ["two balls", "one ball", "ball"]):
        for reply in replies:
            turned = draw.sample(answers, len(answers))
            a, b = read_reply(reply, answers), read_reply(reply, turned)
            assert (a is None and b is None) or answers[a] == turned[b]


def test_long_replies_are_read_in_no_time():
    import time

    begun = time.perf_counter()
    for reply in ("a " * 20000, "(" * 20000, "1," * 20000, "twenty " * 20000, "answer is " * 10000, "A" * 40000, "top left " * 20000):
        for answers in (LETTERS, ["1", "2"], SIDES, ["a ball", "a cup"]):
            read_reply(reply, answers)
    assert time.perf_counter() - begun < 5
    assert letter_in("(B) " * 3) == "B"
