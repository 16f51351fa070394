"""A page is well-formed whatever it is told, needs nothing but the pictures beside it, and finds those."""

from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from cwf_jax.figures import page

HOSTILE = [
  *("<script>alert(1)</script>", "\"'", "$title ${body} $$ $1", "a & b &amp; c"),
  *("</p></figure>", "--> <!--", "é 東京 🗼", ""),
]


class _Reader(HTMLParser):
  """The elements with their attributes, and the text in each; fails where elements are not closed in order."""

  VOID = ("meta", "img", "link", "br")

  def __init__(self, text):
    super().__init__()
    self.elements, self.texts, self._open = [], [], []
    self.feed(text)
    self.close()
    assert self._open == []

  def handle_starttag(self, tag, attributes):
    self.elements.append((tag, dict(attributes)))
    if tag not in self.VOID:
      self._open.append(tag)
      self.texts.append([tag, ""])

  def handle_endtag(self, tag):
    assert self._open.pop() == tag

  def handle_data(self, data):
    if self._open and self.texts[-1][0] == self._open[-1]:
      self.texts[-1][1] += data

  def of(self, tag):
    return [text for one, text in self.texts if one == tag]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_stays_text(text):
  parts = [
    page.heading(text),
    page.paragraph(text),
    page.paragraph(text, is_note=True),
    page.picture("a.png", text),
    page.link("a.md", text),
    page.preformatted([text, text]),
  ]
  found = _Reader(page.make_page(text, parts))
  assert found.of("title") == found.of("h1") == found.of("h2") == found.of("figcaption") == [text]
  assert found.of("p")[:2] == [text, text] and found.of("a") == [text] and found.of("pre") == [f"{text}\n{text}"]
  assert [attributes["alt"] for tag, attributes in found.elements if tag == "img"] == [text]
  assert [attributes.get("class") for tag, attributes in found.elements if tag == "p"] == [None, "note", None]
  assert "script" not in {tag for tag, _ in found.elements}


def test_a_page_of_nothing():
  found = _Reader(page.make_page("Empty", [page.preformatted([])]))
  assert found.of("h1") == ["Empty"] and found.of("pre") == [""]


@pytest.mark.parametrize(
  "name",
  [
    *("a.png", "b/c.png", "two words.png", "tour é.png", "東京.png", "50%.png"),
    *("#1?x=2&y.png", "a'b\"c.png", "<b>.png", "a:b.png", "$1.png"),
  ],
)
def test_a_picture_and_a_file_are_found_beside_their_page(tmp_path, name):
  target = tmp_path / name
  target.parent.mkdir(exist_ok=True)
  target.write_bytes(b"picture")
  (tmp_path / "index.html").write_text(
    page.make_page("Pictures", [page.picture(name, ""), page.link(name, "")]), encoding="utf-8"
  )
  found = _Reader((tmp_path / "index.html").read_text(encoding="utf-8"))
  [source] = [attributes["src"] for tag, attributes in found.elements if tag == "img"]
  assert [attributes["href"] for tag, attributes in found.elements if tag == "a"] == [source]
  assert source.isascii() and not set(source) & set(" \"'<>#?:&")  # nothing that would end the path or name a protocol
  assert (tmp_path / unquote(source)).read_bytes() == b"picture"


def test_nothing_is_fetched_and_the_encoding_is_told():
  text = page.make_page("A page", [page.heading("One"), page.picture("a.png", "A picture")])
  found = _Reader(text)
  assert text.startswith("<!DOCTYPE html>") and "http" not in text and "//" not in text and "@import" not in text
  assert {tag for tag, _ in found.elements}.isdisjoint({"script", "link", "iframe", "object"})
  assert {"charset": "utf-8"} in [attributes for tag, attributes in found.elements if tag == "meta"]
  references = [attributes[name] for _, attributes in found.elements for name in ("src", "href") if name in attributes]
  assert references == ["a.png"]
