"""Names of classes, keypoints and identities: checked, compared, printed, and turned into file names.

A name is any text: it may hold slashes, line breaks, escape codes, markup, or a lone surrogate from a json file. Data,
weights and json keep it as it is; `shown` makes it safe for a terminal, plot or page, `file_names` for a file system.
"""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, TextIO

from detect.errors import UserError

_JOINERS = "\u200c\u200d"  # within words of several scripts, and within emoji
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # Unicode categories: control, format, surrogate, line and paragraph separator
_SPECIAL = re.compile(r"[^ -~]")  # whatever is not plain ASCII
_UNSAFE = frozenset('<>:"/|?*\\')  # in file names, on one system or another
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # devices of Windows
_LONGEST = 120  # bytes of a file name: file systems allow 255, and a suffix may follow


def key(name: str) -> str:
    """The key by which names are compared: blanks, invisible characters and the Unicode form do not count."""
    letters = unicodedata.normalize("NFC", name)
    return "".join(c for c in letters if not c.isspace() and unicodedata.category(c) not in _HIDDEN[:2])


def require_names(names: Sequence[Any], ids: Sequence[int], where: object, what: str = "class") -> list[str]:
    """The names, if each is text and no two are equal.

    Args:
        names: as read from a file; YAML reads yes, no, 007 and null as other things than text.
        ids: the id of each, for messages.
        where: the file that they are from.
        what: what they name.

    Raises:
        UserError: a name is empty or not text, or two names are equal but for blanks and their Unicode form.
    """
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        if not isinstance(name, str):
            problem = f"{where}: the name of {what} {ids[i]} is read as {name!r} ({type(name).__name__}), not as text"
            raise UserError(f"{problem}; quote it in the file")
        if not key(name):
            raise UserError(f"{where}: the name of {what} {ids[i]} is empty ({name!r}); give it one")
        first = seen.setdefault(key(name), i)
        if first != i:
            how = "the same name" if names[first] == name else "names that differ in blanks or Unicode form alone"
            both = f"{ids[first]} ({names[first]!r}) and {ids[i]} ({name!r})"
            raise UserError(f"{where}: {what} {both} have {how}; merge the two, or rename one")
    return list(names)


def find(
    names: Sequence[str], ids: Sequence[int], known: Sequence[str], known_ids: Sequence[int], where: object
) -> list[int]:
    """The index of each name in `known`, -1 if it is not there; names are compared by their `key`.

    Of several equal names in `known` the one with the same spelling is taken, or else the one with the same id.

    Raises:
        UserError: several known names are equal, and none has the id; `where` names their file.
    """
    places: dict[str, list[int]] = {}
    for place, name in enumerate(known):
        places.setdefault(key(name), []).append(place)
    found = []
    for name, id_ in zip(names, ids, strict=True):
        among = places.get(key(name), [])
        if len(among) > 1:
            among = [place for place in among if known[place] == name] or among
        if len(among) > 1:
            several = ", ".join(str(known_ids[place]) for place in among)
            among = [place for place in among if known_ids[place] == id_]
            if len(among) != 1:
                raise UserError(f"{where} has {name!r} several times (ids {several}), none of id {id_}: rename them")
        found.append(among[0] if among else -1)
    return found


def distinct(names: Sequence[str], ids: Sequence[int]) -> list[str]:
    """The names, with the id added to those that come several times, which weights from elsewhere may have."""
    count = Counter(names)
    return [f"{name} (id {i})" if count[name] > 1 else name for name, i in zip(names, ids, strict=True)]


@lru_cache(maxsize=4096)
def shown(text: str) -> str:
    """The text as one line that is safe to print: control characters and invisible ones are replaced by their codes.

    Line breaks, escape codes, NUL, surrogates and marks of direction would otherwise move the cursor, colour what
    follows, reverse the line or crash a library.
    """
    if "gridhead-trees" in text:  # a folder that stands for a URL
        from detect.storage.trees import as_urls

        text = as_urls(text)
    return _SPECIAL.sub(lambda found: _visible(found[0], "unicode_escape"), text)


def json_text(value: Any, indent: int | None = None) -> str:
    """`value` as json that is safe in any file and terminal: the characters that `shown` replaces are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _SPECIAL.sub(lambda found: found[0] if found[0] == "\n" else _visible(found[0]), text)


def _visible(letter: str, how: str = "") -> str:
    if unicodedata.category(letter) not in _HIDDEN or letter in _JOINERS:
        return letter
    if how:
        return letter.encode(how).decode()
    return f"\\u{ord(letter):04x}" if letter < "\U00010000" else json.dumps(letter)[1:-1]


def counted(number: int, noun: str) -> str:
    """A number and what it counts, as in "1 image" and "2,000 images"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def say(line: str, file: TextIO | None = None, flush: bool = False) -> None:
    """Print one line safely, on standard output or to `file`.

    Commands print every line through this function: a class name must not colour, move or rewrite what a terminal
    shows.
    """
    print(shown(line), file=file, flush=flush)


@cache
def warn_once(line: str) -> None:
    """Print a line on stderr, once for each process however often the same file is read."""
    say(line, sys.stderr)


def may_be_a_file(name: str) -> bool:
    """Whether a file can have this name: it holds no NUL and no lone surrogate, and is not too long."""
    if len(name) < 256 and name.isascii():  # quicker, for sets of a million
        return "\0" not in name
    try:
        letters = os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return b"\0" not in letters and len(letters) < 4096 and max(map(len, letters.split(b"/"))) < 256


def file_names(names: Sequence[str]) -> list[str]:
    """A file name for each name, valid on any system; no two are equal, even if case is ignored."""
    taken: set[str] = set()
    found = []
    for name in names:
        stem = _file_name(name)
        path, count = stem, 1
        while path.casefold() in taken:
            count += 1
            path = f"{stem}-{count}"
        taken.add(path.casefold())
        found.append(path)
    return found


def _file_name(name: str) -> str:
    hidden = (c in _UNSAFE or (unicodedata.category(c) in _HIDDEN and c not in _JOINERS) for c in name)
    part = "".join("_" if bad else c for c, bad in zip(name, hidden, strict=True)).strip(". ") or "_"
    if _RESERVED.fullmatch(part):
        part = f"_{part}"
    data = part.encode()
    if len(data) <= _LONGEST:
        return part
    import hashlib  # late: it loads OpenSSL

    mark = hashlib.sha256(data).hexdigest()[:8]
    return f"{data[:_LONGEST].decode(errors='ignore').strip('. ')}-{mark}"
