"""Which passwords attackers try first. There are no rules of composition; variants of common passwords are refused.

A list of thousands of common passwords is mostly a few words with digits, marks and look-alike letters around them. So
a password is reduced to what is left without these, and the rest is looked up.
"""

from __future__ import annotations

import re
from typing import Final

_LOOK_ALIKES: Final = str.maketrans("013457@$!|", "oieastasil")
_AROUND: Final = re.compile(r"^[\W\d_]+|[\W\d_]+$")
_ROWS: Final = (
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "qwertzuiop",
    "azertyuiop",
)
_COLUMNS: Final = (
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
    "qazwsxedcrfvtgbyhnujm",
    "q1w2e3r4t5y6u7i8o9p0",
    "1q2w3e4r5t6y7u8i9o0p",
)
_RUN_MIN: Final = 3
_DIFFERENT_MIN: Final = 4

WORDS: Final = frozenset(
    """
    password passwort passw passwd pass motdepasse contrasena senha parola admin administrator root user guest login
    welcome willkommen hello letmein master access secret trustno default changeme changeit temp test testing sample
    iloveyou loveyou ilove lovely love baby babygirl sweetheart darling princess angel sunshine rainbow butterfly
    flower cookie chocolate cheese banana orange cherry apple peanut pepper ginger summer winter spring autumn
    monday friday january december dragon monkey tiger lion panther eagle falcon phoenix wolf shadow hunter ranger
    killer ninja samurai warrior knight wizard merlin magic batman superman spiderman ironman pokemon pikachu
    starwars matrix startrek football fussball soccer baseball basketball hockey tennis golf liverpool chelsea arsenal
    barcelona juventus yankees cowboys lakers steelers michael jordan jennifer jessica michelle ashley daniel thomas
    andrew robert charlie george matthew joshua anthony william alexander nicole amanda melissa samantha hannah andrea
    computer internet google facebook youtube samsung iphone android windows microsoft linux oracle server database
    network mustang ferrari porsche mercedes corvette harley honda yamaha whatever nothing freedom money bitcoin wallet
    bank cash payment euro dollar company office qwerty qwertz azerty asdf zxcv qazwsx abc abcd aaa zzz xxx jesus
    christ heaven blessed america canada london berlin paris texas china india mexico
    """.split()  # noqa: SIM905 - easier to read as text
)


def is_common(password: str, *own: str) -> bool:
    """Whether the password is one that attackers try first; `own` are the user's names."""
    text = password.lower()
    if len(set(text)) < _DIFFERENT_MIN or _is_run(text):
        return True
    words = WORDS | {word for word in own if len(word) >= _RUN_MIN}
    bare = _AROUND.sub("", text)
    readings = (bare, bare.translate(_LOOK_ALIKES), _AROUND.sub("", text.translate(_LOOK_ALIKES)))
    return any(_is_made_of(reading, words) for reading in readings)


def _is_run(text: str) -> bool:
    """Whether the text is adjacent keys, up or down, perhaps repeated: `12345678`, `qwertyuiop`, `abcabcabc`."""
    for size in range(1, len(text) // 2 + 1):
        if len(text) % size == 0 and text == text[:size] * (len(text) // size) and size <= _RUN_MIN:
            return True
    rows = [row * 2 if row.isdecimal() else row for row in (*_ROWS, *_COLUMNS)]
    rows += [row[::-1] for row in rows]
    rest = text
    while rest:
        longest = max((_shared(rest, row) for row in rows), default=0)
        if longest < _RUN_MIN:
            return False
        rest = rest[longest:]
    return True


def _shared(text: str, row: str) -> int:
    """The length of the longest prefix of the text that is a part of a row of keys."""
    size = 0
    while size < len(text) and text[: size + 1] in row:
        size += 1
    return size


def _is_made_of(text: str, words: frozenset[str]) -> bool:
    """Whether the text is empty, a common word, or a word repeated once."""
    half = len(text) // 2
    return not text or text in words or (text[:half] == text[half:] and text[:half] in words)
