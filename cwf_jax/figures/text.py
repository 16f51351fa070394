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
  letters, limit = _split(drawable(text)), width / size
  found = _wrap(letters, limit, lines, softly=True) or _wrap(letters, limit, lines, softly=False)
  if not found:
    counts = range(len(letters))
    too_many = bisect.bisect_left(counts, True, key=lambda n: not _wrap(_elide(letters, n), limit, lines, softly=True))
    found = _wrap(_elide(letters, too_many - 1), limit, lines, softly=True) if too_many else []
  return "\n".join(found)


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


def _split(text: str) -> list[str]:
  """The letters of a text, each with the combining marks that follow it."""
  letters: list[str] = []
  for character in text:
    if letters and unicodedata.category(character).startswith("M"):
      letters[-1] += character
    else:
      letters.append(character)
  return letters


def _wrap(letters: list[str], limit: float, lines: int, softly: bool) -> list[str]:
  """The text in lines of at most this width at size 1; none at all if it takes more of them."""
  found = []
  while len(found) < lines:
    if _measure("".join(letters)) <= limit:
      return [*found, "".join(letters)]
    count = bisect.bisect_right(range(1, len(letters)), limit, key=lambda n: _measure("".join(letters[:n])))
    if not count:
      break
    breaks = (end for end in range(count, count // 3, -1) if letters[end] == " " or letters[end - 1] in "/_-")
    end = next(breaks, count) if softly else count
    found.append("".join(letters[:end]))
    letters = letters[end + (softly and letters[end] == " " and end + 1 < len(letters)) :]
  return []


def _elide(letters: list[str], count: int) -> list[str]:
  """An ellipsis between the first and the last of so many letters."""
  return [*letters[: count - count // 2], ELLIPSIS, *letters[len(letters) - count // 2 :]]
