"""Whatever a name holds, it is drawn without a warning, stays in its place and keeps both its ends."""

import io
import string
import unicodedata

import hypothesis
import matplotlib
import pytest
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from cwf_jax.figures.text import FONT, drawable, fit_text

AWKWARD = [
  "", " ", "   ", "\n", "a\nb\r\nc", "tab\there", "$x^2$", "$", "$$", r"\$ \frac{", "100 %", "\\", "{}", "a_b^c", "-->", "<&>",
  "caf\udce9.jpg", "\ud800", "\ud83d\ude00", "\0", "\x1b[31m", "東京タワー.jpg", "\U0001f5fc\ufe0f.png",
  "\U0001f469\u200d\U0001f467", "ירושלים.jpg", "مسجد.jpg", "a\u202egpj.exe", "\u200f\u2066\u2069", "e\u0301te\u0301.jpg",
  "\u0301", "ÅÄÖ ﬁ", "\u2028\u2029\x85", "\u00ad\u200b\ufeff\u2060", "नमस्ते", "\ufffe\uffff\U0010ffff", "ffi fi fl AVAVAV",
]  # fmt: skip
"""A name for each way in which a name was ever drawn wrongly."""

TEXTS = st.one_of(
  st.sampled_from(AWKWARD),
  st.text(st.characters(), max_size=60),
  st.text(st.sampled_from("".join(AWKWARD)), max_size=60),
  st.text(st.sampled_from(string.ascii_letters + "_-/ ."), max_size=90),
)
"""`characters()` holds lone surrogates."""

PLAIN = st.text(st.sampled_from(string.ascii_letters + string.digits), min_size=1, max_size=80)

many = hypothesis.settings(max_examples=60)


def _draw(text, format="png"):
  """Really draws it; warnings are errors in these tests."""
  figure = Figure(figsize=(2, 1))
  figure.text(0.1, 0.5, text, family=FONT, size=8, parse_math=False)
  drawn = io.BytesIO()
  figure.savefig(drawn, format=format)
  return drawn.getvalue()


def _widths(text, size):
  """What Matplotlib itself takes each line to be wide, in points."""
  with matplotlib.rc_context({"text.hinting": "none"}):
    renderer, font = RendererAgg(10, 10, 110), FontProperties(family=FONT, size=size)
    return [renderer.get_text_width_height_descent(line, font, False)[0] * 72 / 110 for line in text.split("\n") if line]


@pytest.mark.parametrize("format", ["png", "svg", "pdf"])
def test_awkward_names_are_drawn(format):
  for text in AWKWARD:
    assert _draw(drawable(text), format)


def test_every_character_of_the_font_is_drawn():
  kept = [chr(code) for code in sorted(get_font(findfont(FONT)).get_charmap()) if drawable(chr(code)) == chr(code)]
  assert len(kept) > 5000
  for start in range(0, len(kept), 500):
    _draw("\n".join(" ".join(kept[row : row + 50]) for row in range(start, min(start + 500, len(kept)), 50)))


@many
@hypothesis.given(TEXTS)
def test_any_text_is_drawn(text):
  shown = drawable(text)
  assert len(shown) == len(text) and drawable(shown) == shown
  assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in shown)
  shown.encode()
  assert _draw(shown)


def test_what_is_kept_and_what_is_replaced():
  for text in ("tower_01.jpg", "$x$ 100 % \\ {}", "e\u0301", "ירושלים", "مسجد", "Ελλάδα", "Москва", "²½→♥"):
    assert drawable(text) == text
  assert drawable("a\nb\tc\0d") == "a�b�c�d"
  assert drawable("caf\udce9") == "caf�"
  assert drawable("東京 ab") == "�� ab"
  assert drawable("a\u202egpj\u200b\u2028") == "a�gpj��"


@many
@hypothesis.given(TEXTS, st.floats(0, 200), st.floats(4, 20), st.integers(1, 4))
def test_any_text_fits(text, width, size, lines):
  fitted = fit_text(text, width, size, lines)
  assert fitted.count("\n") < lines
  assert all(drawable(line) == line for line in fitted.split("\n"))
  assert all(found <= width + 1 for found in _widths(fitted, size))
  assert _draw(fitted)


@many
@hypothesis.given(PLAIN, st.floats(40, 300), st.integers(1, 3))
def test_an_elided_name_keeps_its_beginning_and_its_end(name, width, lines):
  name += ".jpg"
  fitted = fit_text(name, width, 8, lines).replace("\n", "")
  if fitted != name:
    head, tail = fitted.split("…")
    assert head and tail and name.startswith(head) and name.endswith(tail)
    assert 0 <= len(head) - len(tail) <= 1


@many
@hypothesis.given(TEXTS, st.integers(1, 3))
def test_what_fits_is_left_as_it_is(text, lines):
  assert fit_text(text, 1e6, 8, lines) == drawable(text)


@many
@hypothesis.given(PLAIN, st.floats(10, 300))
def test_a_place_is_used(name, width):
  """One more character on either side of the ellipsis would be too wide."""
  fitted = fit_text(name, width, 8)
  if "…" in fitted:
    kept = len(fitted)
    more = name[: kept - kept // 2] + "…" + name[len(name) - kept // 2 :]
    assert _widths(more, 8)[0] > width - 1


def test_lines_end_at_words_where_they_can():
  assert fit_text("the old tower", 45, 8, 2) == "the old\ntower"
  assert fit_text("holidays/tower.jpg", 45, 8, 2) == "holidays/\ntower.jpg"
  assert fit_text("big_old_tower", 45, 8, 2) == "big_old_\ntower"
  assert fit_text("big-old-tower", 45, 8, 2) == "big-old-\ntower"
  assert fit_text("a bcdefghijklmnop", 45, 8, 2).replace("\n", "") == "a bcdefghijklmnop"  # not a line of one letter
  assert fit_text("wwwwwwwwww", 45, 8, 2).split("\n")[0] == "wwwwww"


def test_a_name_is_broken_anywhere_before_it_is_elided():
  name = "aaaa_bbbbbbbbbbbb"
  for width in range(20, 90):
    shown = fit_text(name, width, 8, 2)
    assert len(shown.split("\n")) <= 2
    if max(_widths(name[:9] + "\n" + name[9:], 8)) < width - 8:
      assert shown.replace("\n", "") == name


def test_a_mark_stays_with_its_letter():
  name = "e\u0301" * 40
  for width in range(12, 120, 3):
    for lines in (1, 2, 3):
      parts = fit_text(name, width, 8, lines).replace("\n", "|").replace("…", "|").split("|")
      assert not any(part.startswith("\u0301") or part.endswith("e") for part in parts)


def test_narrow_places():
  assert fit_text("tower.jpg", 0, 8) == fit_text("tower.jpg", -5, 8) == fit_text("tower.jpg", 2, 8) == ""
  assert fit_text("tower.jpg", 8.5, 8) == "…"
  assert fit_text("tower.jpg", 20, 8) == "t…g"
  assert fit_text("", 0, 8) == ""


def test_dollars_are_no_mathematics():
  assert fit_text("$x_1$ and $y", 200, 8) == "$x_1$ and $y"
  assert _draw("$x_1$ and $\\frac{$")


@pytest.mark.parametrize(("size", "lines"), [(0, 1), (-1, 1), (float("nan"), 1), (8, 0)])
def test_sizes_and_lines_that_make_no_sense(size, lines):
  with pytest.raises(ValueError, match="at least one line of a size above 0"):
    fit_text("a", 10, size, lines)
