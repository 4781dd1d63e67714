"""Reads xml in any text encoding, without the features by which a file can attack its reader."""

from __future__ import annotations

import codecs
import re
from os import PathLike
from xml.etree import ElementTree

from detect.errors import UserError
from detect.utils.atomic_io import read_bytes
from detect.utils.text_files import decode

LARGEST = 64 << 20  # bytes of a file; the annotations of an image take some thousands
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["'][^>]*\?>""")
_FILLING = re.compile(r"<!(ENTITY|ATTLIST)")  # declarations of text that is repeated wherever it is referred to
_UNICODE = re.compile(r"utf-(8|16|32).*")  # a byte order mark tells the same, and wins
_TEXT = re.compile(r"(ascii|iso|cp|gb|big5|shift|euc|koi8|mac|johab|tis).*")  # never UTF-7, in which markup can hide
_WIDER = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}  # supersets that files with these names often use


def read_xml(path: str | PathLike[str]) -> ElementTree.Element:
    """The root element of an xml file, its tags without namespaces.

    Raises:
        UserError: the file cannot be read, is broken, declares entities or attributes (with which a small file can fill
            all memory, or name other files), or is in an encoding that is not for text.
    """
    try:
        text = _text(read_bytes(path, LARGEST), path)
        if declared := _FILLING.search(text):
            what = "entities" if declared[1] == "ENTITY" else "attributes"
            raise UserError(f"{path}: declares xml {what}, which can fill all memory: write the text in their place")
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{path}: broken xml: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _text(data: bytes, path: object) -> str:
    """The text of an xml file, in the encoding that it declares, or that its first bytes show."""
    declared = _DECLARED.match(data)
    if declared is None:
        return decode(data, path)
    try:
        name = codecs.lookup(declared[1].decode()).name
    except LookupError:
        name = ""
    if _UNICODE.fullmatch(name):
        return decode(data, path)
    if not _TEXT.fullmatch(name):
        raise ValueError(f"its encoding {declared[1].decode()!r} is not one for text; save it as UTF-8")
    return data[declared.end() :].decode(_WIDER.get(name, name))
