"""A short page of text and pictures: one HTML file that needs no network, the pictures beside it."""

import html
import importlib.resources
import string
from collections.abc import Sequence
from urllib.parse import quote


def make_page(title: str, parts: Sequence[str]) -> str:
  """The page.

  Args:
    title: plain text.
    parts: of `paragraph` and its like, in their order.
  """
  template = importlib.resources.files("cwf_jax.figures").joinpath("page.html").read_text(encoding="utf-8")
  return string.Template(template).substitute(title=html.escape(title), body="\n".join(parts))


def heading(text: str) -> str:
  """A heading; text is plain, here and below."""
  return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str, is_note: bool = False) -> str:
  """A paragraph, or a note that stands out."""
  kind = ' class="note"' if is_note else ""
  return f"<p{kind}>{html.escape(text)}</p>"


def picture(file: str, caption: str) -> str:
  """A picture by its path relative to the page, with `/` between folders."""
  words = html.escape(caption)
  return f'<figure><img src="{html.escape(quote(file))}" alt="{words}"><figcaption>{words}</figcaption></figure>'


def link(file: str, text: str) -> str:
  """A paragraph that leads to a file, by its path as of a picture."""
  return f'<p><a href="{html.escape(quote(file))}">{html.escape(text)}</a></p>'


def preformatted(lines: Sequence[str]) -> str:
  """Lines as they stand: commands, or what one printed."""
  return f"<pre>{html.escape(chr(10).join(lines))}</pre>"
