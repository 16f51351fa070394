"""Reasons as pictures: which classes a network recognizes in a photograph, and why two photographs are similar."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from cwf_jax.figures.panels import Panel, connect, draw_panels
from cwf_jax.protocol import Size
from cwf_jax.retrieval.explanation import BOX_THRESHOLD, ClassMap, Comparison, Explanation
from cwf_jax.retrieval.reasons import explain_places, per_cent

MAP_LEGEND = "Bright: where the class below the picture is found; the yellow line is at half of the map's maximum."

_MOST_LINES = 40
"""More lines between two photographs hide them."""


def make_map_panel(pixels: UInt8[np.ndarray, "h w 3"], class_map: ClassMap, shape: Size | None = None) -> Panel:
  """A photograph that is bright where a class is, and how probable the class is.

  Args:
    pixels: of the photograph or of its thumbnail.
    class_map: of `map_classes`.
    shape: (height, width) of the photograph; that of `pixels` if None.
  """
  words = f"{class_map.name} {per_cent(class_map.probability)}"
  if not class_map.cam.any():
    return Panel(pixels, name=words, notes=("its map is empty",), shape=shape)
  return Panel(pixels, name=words, heat=class_map.cam, map_box=class_map.map_box, shape=shape)


def draw_explanation(explanation: Explanation, name: str = "", notes: Sequence[str] = ()) -> Figure:
  """Draws a photograph, and for each class its map, its box and how probable it is.

  Args:
    explanation: of `explain`.
    name: of the photograph.
    notes: below all.
  """
  panels = [Panel(explanation.pixels, "the photograph", name, box=explanation.box, frame="query")]
  for rank, class_map in enumerate(explanation.classes, 1):
    panel = make_map_panel(explanation.pixels, class_map)
    panels.append(dataclasses.replace(panel, title=f"{rank}   {panel.name}", name="", box=class_map.box))
  part = "the photograph" if explanation.box is None else "the box"
  legend = (MAP_LEGEND, f"Box: around the largest region above {per_cent(BOX_THRESHOLD)} of the map's maximum.")
  return draw_panels(panels, 4, f"What the network recognizes in {part}", (*legend, *notes))


def draw_comparison(comparison: Comparison, names: tuple[str, str], notes: Sequence[str] = (), maps: bool = False) -> Figure:
  """Draws two photographs side by side, boxes around their matching places and lines between these.

  Args:
    comparison: of `compare`.
    names: of the photographs.
    notes: below all.
    maps: draws a second row with the activation maps of a class that both show.
  """
  match, sides = comparison.match, (comparison.first, comparison.second)
  boxes = (match.query_box, match.answer_box) if match.is_evidence else (None, None)
  panels: list[Panel | None] = [
    Panel(side.pixels, name=name, box=box, outer_box=side.box) for side, name, box in zip(sides, names, boxes, strict=True)
  ]
  if maps:
    panels += [make_map_panel(side.pixels, side.class_map) for side in sides if side.class_map is not None]
  legend = [f"Note: {explain_places()}."]
  legend += [MAP_LEGEND] if maps and comparison.first.class_map is not None else []
  legend += ["Dashed: the box of the query."] if comparison.first.box is not None else []
  figure = draw_panels(panels, 2, str(comparison), [*legend, *notes], scale=2.0)
  if match.is_evidence:
    drawn = np.linspace(0, len(match.lines) - 1, min(len(match.lines), _MOST_LINES)).round().astype(int)
    connect(figure, *figure.axes[:2], [match.lines[line] for line in drawn])
  return figure
