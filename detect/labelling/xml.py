"""Writes xml that its readers take: indented, in UTF-8, and without characters that xml cannot hold."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from detect.errors import UserError
from detect.utils.atomic_io import replace_text

_IMPOSSIBLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def child(parent: ElementTree.Element, tag: str, text: object = None, **attributes: object) -> ElementTree.Element:
    """Append an element to `parent`; its text and attributes become strings."""
    element = ElementTree.SubElement(parent, tag, {name: str(value) for name, value in attributes.items()})
    element.text = None if text is None else str(text)
    return element


def number(value: float) -> str:
    """A coordinate with at most six decimals, without zeros at its end."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def write_xml(path: Path, root: ElementTree.Element) -> None:
    """Write a document. Raises a UserError for a character that xml cannot hold, such as one in a class name."""
    for element in root.iter():
        for text in (element.text or "", *element.attrib.values()):
            if found := _IMPOSSIBLE.search(text):
                raise UserError(f"{path}: {text!r} holds {found[0]!r}, which xml cannot hold: rename it, or use coco")
    ElementTree.indent(root)
    replace_text(
        path, f"<?xml version='1.0' encoding='utf-8'?>\n{ElementTree.tostring(root, 'unicode')}\n", durable=False
    )
