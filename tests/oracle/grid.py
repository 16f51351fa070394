"""METHOD 2b.15, R-MAC's grid, in fractions: no rounding can decide between two of its candidates."""

from fractions import Fraction
from math import floor


def choose_extra(width: int, height: int) -> int:
  """Of s = 2..7 the first with least `|(m^2 - m b_s)/m^2 - 0.4|`, b_s = (M - m)/(s - 1); extra = s - 1, 0 if square."""
  m, longest = min(width, height), max(width, height)
  if m == longest:
    return 0
  distances = {}
  for s in range(2, 8):
    b = Fraction(longest - m, s - 1)
    distances[s] = abs((m**2 - m * b) / Fraction(m**2) - Fraction(2, 5))
  return min(distances, key=distances.get) - 1  # of equal ones the first, as a dictionary keeps its order


def list_boxes(width: int, height: int) -> list[tuple[int, int, int, int]]:
  """The regions of a map as boxes (left, top, right, bottom) in cells, right and bottom exclusive, in no special order."""
  m, longest = min(width, height), max(width, height)
  boxes = []
  if m == 0:
    return boxes
  extra = choose_extra(width, height)
  for level in (1, 2, 3):
    side = floor(Fraction(2 * m, level + 1))
    if side == 0:
      continue
    for along in _list_starts(longest, side, level + extra):
      for across in _list_starts(m, side, level):
        left, top = (along, across) if width >= height else (across, along)
        boxes.append((left, top, left + side, top + side))
  return boxes


def _list_starts(length: int, side: int, count: int) -> list[int]:
  """`floor(i (length - side)/(count - 1))`, 0 where count is 1."""
  return [0] if count == 1 else [floor(Fraction(i * (length - side), count - 1)) for i in range(count)]


def list_boxes_inside(mask) -> list[tuple[int, int, int, int]]:
  """The regions of the rectangle of cells that count, wherever it lies."""
  cells = [(i, j) for i in range(len(mask)) for j in range(len(mask[0])) if mask[i][j]]
  if not cells:
    return []
  top, left = min(i for i, _ in cells), min(j for _, j in cells)
  height, width = max(i for i, _ in cells) - top + 1, max(j for _, j in cells) - left + 1
  return [(a + left, b + top, c + left, d + top) for a, b, c, d in list_boxes(width, height)]
