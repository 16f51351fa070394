"""Names in a picture: whatever characters they hold, drawn without a warning and no wider than their place.

What is made here is to be drawn with `family=FONT` and `parse_math=False`: a name may hold dollar signs.
"""

import bisect
import functools
import unicodedata

from matplotlib.font_manager import findfont, get_font
from matplotlib.ft2font import FT2Font

FONT = "DejaVu Sans"
"""The family that is measured, in its regular weight. It comes with Matplotlib, so that it is the same everywhere."""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"

_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Controls, invisible formatting such as a change of direction, lone surrogates, ends of lines and paragraphs."""


def drawable(text: str) -> str:
  """The text on one line, each character that cannot be drawn or seen replaced by U+FFFD.

  Kept is what `FONT` has a glyph for, letters written from right to left and combining marks among it. Replaced are
  control and formatting characters, ends of lines, lone surrogates, and scripts that the font lacks.

  Returns:
    As many characters as were given, to be drawn with `family=FONT` and `parse_math=False`.
  """
  return "".join(map(_drawable_character, text))


def fit_text(text: str, width: float, size: float, lines: int = 1) -> str:
  """The text as `drawable` has it, in at most so many lines, elided in the middle where it does not fit.

  A line ends at a space, which is dropped, or behind `/`, `_` or `-`, where that leaves it at least a third full, else
  anywhere. The beginning and the end of the text stay: a name keeps its file extension.

  Args:
    width: of a line, in points.
    size: of the font, in points.
    lines: at least 1.

  Returns:
    Lines joined by newlines, to be drawn with `family=FONT` and `parse_math=False`; empty where not even an ellipsis fits.
  """
  if lines < 1 or not size > 0:
    raise ValueError(f"at least one line of a size above 0 is needed, not {lines} of size {size}")
  text, limit = drawable(text), width / size
  whole = _wrap(text, limit, lines, softly=True) or _wrap(text, limit, lines, softly=False)
  if whole:
    return "\n".join(whole)
  too_many = bisect.bisect_left(range(len(text)), True, key=lambda n: not _wrap(_elide(text, n), limit, lines, softly=True))
  return "\n".join(_wrap(_elide(text, too_many - 1), limit, lines, softly=True)) if too_many else ""


def _font() -> FT2Font:
  return get_font(findfont(FONT, fallback_to_default=False))


@functools.lru_cache(maxsize=4096)
def _drawable_character(character: str) -> str:
  seen = unicodedata.category(character) not in _UNSEEN and _font().get_char_index(ord(character))
  return character if seen else REPLACEMENT


@functools.lru_cache(maxsize=16384)
def _measure(line: str) -> float:
  """The width of a line at size 1. Kerning, ligatures and joined letters make it another than its characters' sum."""
  font = _font()
  font.set_size(font.units_per_EM, 72)  # a pixel is a unit of the font's own grid: hinting has nothing to round
  font.set_text(line)
  return font.get_width_height()[0] / 64 / font.units_per_EM


def _wrap(text: str, limit: float, lines: int, softly: bool) -> list[str]:
  """The text in lines of at most this width at size 1; none at all if it takes more of them."""
  found = []
  while len(found) < lines:
    if _measure(text) <= limit:
      return [*found, text]
    count = bisect.bisect_right(range(1, len(text)), limit, key=lambda n: _measure(text[:n]))
    if not count:
      break
    end, start = _find_break(text, count, limit, softly)
    found.append(text[:end])
    text = text[start:]
  return []


def _find_break(text: str, count: int, limit: float, softly: bool) -> tuple[int, int]:
  """Where a line of at most `count` characters ends, and where the next one starts."""
  places = []
  if softly:
    for end in range(count, count // 3, -1):
      if text[end] == " " and end + 1 < len(text):
        places.append((end, end + 1))
      elif text[end - 1] in "/_-":
        places.append((end, end))
  places += [(end, end) for end in range(count, 0, -1) if not _is_mark(text[end])]
  return next((place for place in places if _measure(text[: place[0]]) <= limit), (count, count))


def _elide(text: str, kept: int) -> str:
  """An ellipsis between the halves of what is kept, no mark parted from its letter."""
  end, start = kept - kept // 2, len(text) - kept // 2
  while end and _is_mark(text[end]):
    end -= 1
  while start < len(text) and _is_mark(text[start]):
    start += 1
  return text[:end] + ELLIPSIS + text[start:]


def _is_mark(character: str) -> bool:
  return unicodedata.category(character).startswith("M")
