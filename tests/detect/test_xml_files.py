"""Xml that would fill memory, read other files or hide what it says is refused, and told so."""

import pytest

from detect.__main__ import main
from detect.errors import UserError
from detect.utils.xml_files import read_xml
from tests.detect.test_formats import image

LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "laughs": LAUGHS + "]><annotation><object><name>&i;</name></object></annotation>",
    "quadratic": f'<!DOCTYPE x [<!ENTITY a "{"ha" * 9999}">]><annotation>{"&a;" * 99}</annotation>',
    "file": '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>',
    "attributes": f'<!DOCTYPE x [<!ATTLIST a b CDATA "{"ha" * 9999}">]><annotation>{"<a/>" * 99}</annotation>',
    "parameter": '<!DOCTYPE x [<!ENTITY % a SYSTEM "http://127.0.0.1:1/x.dtd"> %a;]><annotation/>',
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", HOSTILE)
def test_entities_are_refused_as_such(tmp_path, name, encoding):
    (tmp_path / "x.xml").write_bytes(HOSTILE[name].encode(encoding))
    with pytest.raises(
        UserError, match=r"x\.xml: declares xml (entities|attributes), which can fill all memory: write the text"
    ):
        read_xml(tmp_path / "x.xml")


@pytest.mark.parametrize("encoding", ["utf-7", "UTF7", "unicode_escape", "raw_unicode_escape", "punycode", "rot13"])
def test_encodings_that_hide_text_are_refused(tmp_path, encoding):
    (tmp_path / "x.xml").write_text(f'<?xml version="1.0" encoding="{encoding}"?><annotation/>')
    with pytest.raises(UserError, match=r"x\.xml: broken xml: its encoding '.*' is not one for text; save it as UTF-8"):
        read_xml(tmp_path / "x.xml")


def test_a_document_type_is_not_fetched_and_depth_costs_nothing(tmp_path):
    (tmp_path / "x.xml").write_text('<!DOCTYPE annotation SYSTEM "http://127.0.0.1:1/x.dtd"><annotation/>')
    assert read_xml(tmp_path / "x.xml").tag == "annotation"
    (tmp_path / "x.xml").write_text("<a>" * 100_000 + "</a>" * 100_000)
    assert sum(1 for _ in read_xml(tmp_path / "x.xml").iter()) == 100_000
    (tmp_path / "x.xml").write_bytes(b"<annotation>\0\xff</annotation>")
    with pytest.raises(UserError, match=r"x\.xml: "):
        read_xml(tmp_path / "x.xml")


@pytest.mark.parametrize("flags", [[], ["--skip-bad"]])
def test_a_set_of_which_every_file_is_refused_says_why(tmp_path, capsys, flags):
    for name in ("one", "two"):
        image(tmp_path / "JPEGImages" / f"{name}.png")
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / "Annotations" / f"{name}.xml").write_text(HOSTILE["laughs"])
    assert main(["anchors", "--data", str(tmp_path), *flags]) == 2
    said = capsys.readouterr().err
    assert "one.xml: declares xml entities" in said and said.count("\n") == 1
    assert ("the first of 2 reasons" in said) == bool(flags)


def test_namespaces_hide_no_object(tmp_path):
    content = '<annotation xmlns="urn:a" xmlns:v="urn:v"><v:object><name>x</name></v:object></annotation>'
    (tmp_path / "a.xml").write_text(content)
    root = read_xml(tmp_path / "a.xml")
    assert root.tag == "annotation" and root.find("object").findtext("name") == "x"
