"""Pictures in rows, each with a frame, boxes and a few lines of text below it: what every figure is made of."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from cwf_jax.figures.overlay import make_thumbnail, shade
from cwf_jax.figures.text import FONT, fit_text
from cwf_jax.protocol import Box
from cwf_jax.retrieval.reasons import Point

THUMBNAIL = 480
"""Pixels of a picture's longer side in a figure."""

FRAMES = {
  "query": {"edgecolor": "black", "linestyle": "solid", "linewidth": 3.0},
  "relevant": {"edgecolor": "#1a7f37", "linestyle": "solid", "linewidth": 3.0},
  "not relevant": {"edgecolor": "#c0392b", "linestyle": (0, (4, 2)), "linewidth": 3.0},
  "junk": {"edgecolor": "#808080", "linestyle": (0, (1, 1.5)), "linewidth": 3.0},
}
"""How each kind of picture is framed: apart in color, and in gray by the line."""

_BRIGHT = "#ffd27f"
"""Color of a line, drawn on a wider black one so that it stands out on any photograph, in gray too."""

_POINTS = 72
_WIDTH, _HEIGHT, _GAP, _MARGIN = 2.1, 1.75, 0.2, 0.25  # inches: of a picture's place, between places, around all
_HEADING_SIZE, _TITLE_SIZE, _TEXT_SIZE, _LEADING = 12.0, 9.5, 8.0, 1.4


@dataclasses.dataclass(frozen=True)
class Panel:
  """A picture and the text below it.

  Attributes:
    pixels: [h w 3], of the picture or of its thumbnail; None where there is none to show.
    title: one line.
    name: at most two lines, elided in the middle.
    summary: at most two lines.
    notes: one line each.
    heat: [i j] in [0, 1], shown by `shade`; None shows the picture as it is.
    map_box: the part of the picture that `heat` covers, in its pixels; all of it if None.
    box: in pixels, outlined.
    outer_box: in pixels, outlined by dashes: the box that was asked for, where `box` is another one.
    frame: of `FRAMES`, or None.
    missing: the text in the place of a picture that is not there.
    shape: (height, width) of the picture, which boxes are measured in; that of `pixels` if None.
  """

  pixels: UInt8[np.ndarray, "h w 3"] | None
  title: str = ""
  name: str = ""
  summary: str = ""
  notes: tuple[str, ...] = ()
  heat: Float[np.ndarray, "i j"] | None = None
  map_box: Box | None = None
  box: Box | None = None
  outer_box: Box | None = None
  frame: str | None = None
  missing: str = ""
  shape: tuple[int, int] | None = None


def draw_panels(
  panels: Sequence[Panel | None],
  columns: int,
  title: str,
  notes: Sequence[str] = (),
  scale: float = 1.0,
) -> Figure:
  """Draws panels row by row; the figure has axes for each panel, in their order.

  Args:
    panels: at least one; None leaves its place empty.
    columns: of the grid; no more are drawn than there are panels.
    title: above all, at most two lines.
    notes: below all, each at most four lines.
    scale: of the pictures' places.
  """
  columns = min(columns, len(panels))
  width, height = scale * _WIDTH, scale * _HEIGHT
  captions = [[] if panel is None else _caption(panel, width) for panel in panels]
  rows = [captions[start : start + columns] for start in range(0, len(panels), columns)]
  below = [0.1 + max(_depth(caption) for caption in row) for row in rows]
  inside = max(columns * width + (columns - 1) * _GAP, 4.6)
  heading = [(text, _HEADING_SIZE) for text in _fit_all([title], inside, _HEADING_SIZE, 2)]
  footing = [(text, _TEXT_SIZE) for text in _fit_all(notes, inside, _TEXT_SIZE, 4)]
  top = _MARGIN + _depth(heading) + 0.1
  total = (inside + 2 * _MARGIN, top + sum(below) + len(rows) * (height + _GAP) + _depth(footing) + _MARGIN)
  figure = Figure(total, facecolor="white")
  _write(figure, heading, _MARGIN, _MARGIN)
  for place, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
    if panel is None:
      continue
    row, column = divmod(place, columns)
    left = _MARGIN + column * (width + _GAP)
    down = top + row * (height + _GAP) + sum(below[:row])
    _draw(figure, panel, (left, down, width, height))
    _write(figure, caption, left, down + height + 0.08)
  _write(figure, footing, _MARGIN, total[1] - _MARGIN - _depth(footing))
  return figure


def connect(figure: Figure, first: Axes, second: Axes, lines: Sequence[tuple[Point, Point]]) -> None:
  """Draws lines from a picture to another one, with a dot at each end.

  Args:
    figure: of `draw_panels`.
    first, second: the pictures' axes.
    lines: pairs of points (x, y), in pixels of the first picture and of the second.
  """
  if not lines:
    return
  points = np.swapaxes(np.asarray(lines), 0, 1)
  on_screen = [axes.transData.transform(part) for axes, part in zip((first, second), points, strict=True)]
  ends = np.stack([figure.transFigure.inverted().transform(part) for part in on_screen], axis=1)
  for color, width in (("black", 1.6), (_BRIGHT, 0.7)):
    style = {"transform": figure.transFigure, "zorder": 5}
    figure.add_artist(LineCollection(ends, colors=color, linewidths=width, **style))
    dots = {"linestyle": "none", "marker": "o", "color": color, "markeredgewidth": 0, "markersize": width + 1.6}
    figure.add_artist(Line2D(*ends.reshape(-1, 2).T, **dots, **style))


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
  for box, line in ((panel.outer_box, (0, (4, 2))), (panel.box, "solid")):
    if box is not None:
      _outline(axes, box, line)
  axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
  axes.spines[:].set_visible(False)


def _draw_contour(axes: Axes, heat: Float[np.ndarray, "i j"], covered: Box) -> None:
  """A line around where the map is above half, for photographs that are as dark as the shade."""
  if min(heat.shape) < 2 or not heat.min() < 0.5 < heat.max():
    return
  sides = (covered[3], covered[2])
  rows, columns = ((np.arange(count) + 0.5) * side / count for count, side in zip(heat.shape, sides, strict=True))
  for color, width in (("black", 1.5), (_BRIGHT, 0.8)):
    axes.contour(columns, rows, heat, levels=[0.5], colors=color, linewidths=width)


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
  """The text below a panel: blocks of lines, each with its size."""
  blocks = [(panel.title, _TITLE_SIZE, 1), (panel.name, _TEXT_SIZE, 2), (panel.summary, _TEXT_SIZE, 2)]
  blocks += [(note, _TEXT_SIZE, 1) for note in panel.notes]
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


def _outline(axes: Axes, box: Box, line: str | tuple) -> None:
  """A light line on a dark one, to stand out on anything, and whole at the picture's edge."""
  corner, sides = box[:2], (box[2] - box[0], box[3] - box[1])
  for style in ({"edgecolor": "black", "linewidth": 3.0}, {"edgecolor": "white", "linewidth": 1.8, "linestyle": line}):
    axes.add_patch(Rectangle(corner, *sides, fill=False, clip_on=False, zorder=3, **style))


def _fit_all(texts: Sequence[str], width: float, size: float, lines: int) -> list[str]:
  return [fit_text(text, width * _POINTS, size, lines) for text in texts if text]
