"""Pictures in rows, each with a frame, boxes and a few lines of text below it: what every figure of this room is made of."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from cwf_jax.figures.overlay import make_thumbnail, shade
from cwf_jax.figures.text import FONT, fit_text
from cwf_jax.protocol import Box

THUMBNAIL = 480
"""Pixels of a picture's longer side in a figure."""

FRAMES = {
  "query": {"edgecolor": "black", "linestyle": "solid", "linewidth": 3.0},
  "relevant": {"edgecolor": "#1a7f37", "linestyle": "solid", "linewidth": 3.0},
  "not relevant": {"edgecolor": "#c0392b", "linestyle": (0, (4, 2)), "linewidth": 3.0},
  "junk": {"edgecolor": "#808080", "linestyle": (0, (1, 1.5)), "linewidth": 3.0},
}
"""How each kind of picture is framed: apart in color, and in gray by the line."""

_CORNERS = ((0, 1), (2, 3), (2, 1), (0, 3))
"""Where the regions' names stand: the sides of a box that meet there."""

_POINTS = 72
_WIDTH, _HEIGHT, _GAP, _MARGIN = 2.1, 1.75, 0.2, 0.25  # inches: of a picture's place, between places, around all
_HEADING_SIZE, _TITLE_SIZE, _TEXT_SIZE, _NAME_SIZE, _LEADING = 12.0, 9.5, 8.0, 6.5, 1.4


@dataclasses.dataclass(frozen=True)
class Panel:
  """A picture and what is said of it.

  Attributes:
    pixels: [h w 3], of the picture or of its thumbnail; None where there is none to show.
    title: one line.
    name: at most two lines, elided in the middle.
    notes: one line each.
    heat: [i j] in [0, 1], shown by `shade`; None shows the picture as it is.
    map_box: the part of the picture that `heat` covers, in its pixels; all of it if None.
    box: a query's box, in pixels.
    regions: (name, box in pixels) of each region.
    frame: of `FRAMES`, or None.
    missing: what is said in the place of a picture that is not there.
    shape: (height, width) of the picture, which boxes are measured in; that of `pixels` if None.
  """

  pixels: UInt8[np.ndarray, "h w 3"] | None
  title: str = ""
  name: str = ""
  notes: tuple[str, ...] = ()
  heat: Float[np.ndarray, "i j"] | None = None
  map_box: Box | None = None
  box: Box | None = None
  regions: tuple[tuple[str, Box], ...] = ()
  frame: str | None = None
  missing: str = ""
  shape: tuple[int, int] | None = None


def draw_panels(
  panels: Sequence[Panel],
  columns: int,
  title: str,
  notes: Sequence[str] = (),
  scale: float = 1.0,
  chart: tuple[float, Callable[[Axes], None]] | None = None,
) -> Figure:
  """Draws panels row by row.

  Args:
    panels: at least one.
    columns: of the grid; no more are drawn than there are panels.
    title: above all, at most two lines.
    notes: below all, each at most two lines.
    scale: of the pictures' places.
    chart: a height in inches, and what draws on axes of that height and of the figure's width between pictures and notes.
  """
  columns = min(columns, len(panels))
  width, height = scale * _WIDTH, scale * _HEIGHT
  captions = [_caption(panel, width) for panel in panels]
  rows = [captions[start : start + columns] for start in range(0, len(panels), columns)]
  below = [0.1 + max(_depth(caption) for caption in row) for row in rows]
  inside = max(columns * width + (columns - 1) * _GAP, 4.6)
  heading = [(text, _HEADING_SIZE) for text in _fit_all([title], inside, _HEADING_SIZE)]
  footing = [(text, _TEXT_SIZE) for text in _fit_all(notes, inside, _TEXT_SIZE)]
  top = _MARGIN + _depth(heading) + 0.1
  pictures, charted = sum(below) + len(rows) * (height + _GAP), 0.0 if chart is None else chart[0]
  total = (inside + 2 * _MARGIN, top + pictures + charted + _depth(footing) + _MARGIN)
  figure = Figure(total, facecolor="white")
  _write(figure, heading, _MARGIN, _MARGIN)
  for place, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
    row, column = divmod(place, columns)
    left = _MARGIN + column * (width + _GAP)
    down = top + row * (height + _GAP) + sum(below[:row])
    _draw(figure, panel, (left, down, width, height))
    _write(figure, caption, left, down + height + 0.08)
  if chart is not None:
    chart[1](_axes(figure, (_MARGIN + 0.45, top + pictures + 0.25, inside - 0.45, charted - 0.65)))
  _write(figure, footing, _MARGIN, total[1] - _MARGIN - _depth(footing))
  return figure


def show_picture(axes: Axes, panel: Panel) -> None:
  """A panel's picture with its map and boxes on axes of its own, in the picture's pixels."""
  height, width = panel.shape or panel.pixels.shape[:2]
  covered = panel.map_box or (0.0, 0.0, width, height)
  shown = make_thumbnail(panel.pixels, THUMBNAIL)
  if panel.heat is not None:
    shown = shade(shown, panel.heat, (covered[2] / width, covered[3] / height))
  axes.imshow(shown, extent=(0, width, height, 0), interpolation="antialiased", aspect="auto")
  if panel.heat is not None:
    _draw_contour(axes, panel.heat, covered)
  _draw_regions(axes, panel.regions, (width, height))
  if panel.box is not None:
    _outline(axes, panel.box, 1.8)
  axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
  axes.spines[:].set_visible(False)


def _draw_contour(axes: Axes, heat: Float[np.ndarray, "i j"], covered: Box) -> None:
  """A line around where the map is above half, to be seen where the photograph is as dark as the shade."""
  if min(heat.shape) < 2 or not heat.min() < 0.5 < heat.max():
    return
  sides = (covered[3], covered[2])
  rows, columns = ((np.arange(count) + 0.5) * side / count for count, side in zip(heat.shape, sides, strict=True))
  for color, width in (("black", 1.5), ("#ffd27f", 0.8)):
    axes.contour(columns, rows, heat, levels=[0.5], colors=color, linewidths=width)


def _draw_regions(axes: Axes, regions: Sequence[tuple[str, Box]], sides: tuple[int, int]) -> None:
  """Boxes with their names, each at another corner, inside the box where it has room and in any case inside the picture."""
  style = {"textcoords": "offset points", "size": _NAME_SIZE, "color": "white", "ha": "left", "va": "top", "clip_on": True}
  outline = [withStroke(linewidth=1.6, foreground="black")]
  room = axes.bbox.size * _POINTS / axes.figure.dpi
  for place, (name, box) in enumerate(regions):
    _outline(axes, box, 0.9)
    corner, away = _CORNERS[place % len(_CORNERS)], []
    lengths = 0.65 * _NAME_SIZE * len(name), 1.2 * _NAME_SIZE  # digits are 0.64 wide
    for side, length, whole, points in zip(corner, lengths, sides, room, strict=True):
      spot = box[side] * points / whole
      start = spot + 3 if side < 2 else spot - 3 - length
      away.append(max(1, min(start, points - length - 1)) - spot)
    spot = box[corner[0]], box[corner[1]]
    text = axes.annotate(name, spot, (away[0], -away[1]), annotation_clip=False, **style)
    text.set(family=FONT, parse_math=False, path_effects=outline, zorder=4)


def _draw(figure: Figure, panel: Panel, place: tuple[float, float, float, float]) -> None:
  """Draws a panel's picture into its (left, top, width, height), in inches from the upper left."""
  left, top, width, height = place
  size = width, height
  if panel.pixels is not None:
    # At the lower left of its place, as large as its aspect lets it be, so that its text stands below it.
    down, across = panel.shape or panel.pixels.shape[:2]
    scale = min(width / across, height / down)
    size = scale * across, scale * down
  axes = _axes(figure, (left, top + height - size[1], *size))
  if panel.pixels is None:
    axes.set(xticks=[], yticks=[], facecolor="#eeeeee")
    axes.spines[:].set_visible(False)
    text = fit_text(panel.missing, (width - 0.2) * _POINTS, _TEXT_SIZE, lines=6)
    drawn = axes.text(0.5, 0.5, text, size=_TEXT_SIZE, family=FONT, parse_math=False, transform=axes.transAxes)
    drawn.set(ha="center", va="center")
  else:
    show_picture(axes, panel)
  if panel.frame is not None:
    style = FRAMES[panel.frame]
    across, down = (0.4 * style["linewidth"] / _POINTS / side for side in size)  # around the picture, hardly on it
    corner, sides = (-across, -down), (1 + 2 * across, 1 + 2 * down)
    axes.add_patch(Rectangle(corner, *sides, transform=axes.transAxes, fill=False, clip_on=False, **style))


def _caption(panel: Panel, width: float) -> list[tuple[str, float]]:
  """What is written below a panel: blocks of lines, each with its size."""
  blocks = [(panel.title, _TITLE_SIZE, 1), (panel.name, _TEXT_SIZE, 2), *((note, _TEXT_SIZE, 1) for note in panel.notes)]
  fitted = [(fit_text(text, width * _POINTS, size, lines), size) for text, size, lines in blocks if text]
  return [block for block in fitted if block[0]]


def _depth(blocks: Sequence[tuple[str, float]]) -> float:
  """The height in inches that `_write` takes for some blocks."""
  return sum((text.count("\n") + 1) * _LEADING * size / _POINTS for text, size in blocks)


def _axes(figure: Figure, place: tuple[float, float, float, float]) -> Axes:
  left, top, width, height = place
  across, down = figure.get_size_inches()
  return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def _write(figure: Figure, blocks: Sequence[tuple[str, float]], left: float, top: float) -> None:
  """Writes blocks of lines from (left, top) in inches down; each line on its baseline, whatever letters it holds."""
  across, down = figure.get_size_inches()
  for text, size in blocks:
    for line in text.split("\n"):
      figure.text(left / across, 1 - (top + size / _POINTS) / down, line, size=size, family=FONT, parse_math=False)
      top += _LEADING * size / _POINTS


def _outline(axes: Axes, box: Box, width: float) -> None:
  """A light line on a dark one, to be seen on anything, and whole at the picture's edge."""
  for color, thickness in (("black", width + 1.2), ("white", width)):
    corner, sides = box[:2], (box[2] - box[0], box[3] - box[1])
    line = {"edgecolor": color, "linewidth": thickness}
    axes.add_patch(Rectangle(corner, *sides, fill=False, clip_on=False, zorder=3, **line))


def _fit_all(texts: Sequence[str], width: float, size: float) -> list[str]:
  return [fit_text(text, width * _POINTS, size, lines=2) for text in texts if text]
