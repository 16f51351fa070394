"""Reasons as pictures: what a network sees in a photograph, and what made the score of two."""

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cwf_jax.explanation import Comparison, Explanation, Side
from cwf_jax.figures.panels import Panel, draw_panels
from cwf_jax.figures.text import FONT, fit_text
from cwf_jax.ops.regions import THRESHOLDS
from cwf_jax.protocol import Box

_SHOWN = 8
_BARS = ({"color": "#333333"}, {"color": "#f0a030", "hatch": "///", "edgecolor": "#7a4a00"})


def draw_explanation(explanation: Explanation, name: str = "", notes: Sequence[str] = ()) -> Figure:
  """The photograph, and for each class its map, its regions, its probability and its share in the descriptor.

  Args:
    explanation: of `explain`.
    name: of the photograph.
    notes: below all.
  """
  panels = [Panel(explanation.pixels, "the photograph", name, box=explanation.box, frame="query")]
  for place, reason in enumerate(explanation.classes, 1):
    title = f"{place}   {reason.name}"
    told = (f"probability {reason.probability:.4f}", f"share {reason.share:z.4f}")
    if not reason.cam.any():
      panels.append(Panel(explanation.pixels, title, notes=(*told, "seen nowhere: no map")))
      continue
    shown = {"heat": reason.cam, "map_box": explanation.map_box, "regions": _name_regions(reason.regions)}
    panels.append(Panel(explanation.pixels, title, notes=told, **shown))
  part = "the photograph" if explanation.box is None else "the box"
  told = (
    "Bright: where the network sees the class; the yellow line is at half of the map's maximum.",
    f"A share is a class's part in the descriptor: those of all {explanation.num_summed} classes that are summed add up to 1.",
    "White boxes: around the largest region above so many percent of the map's maximum.",
  )
  return draw_panels(panels, 4, f"What the network sees in {part}", (*told, *notes))


def _name_regions(regions: Sequence[Box | None]) -> tuple[tuple[str, Box], ...]:
  """Each region with its threshold, or with the range of thresholds one after the other that it is the region of."""
  named = []
  for region, group in itertools.groupby(zip(regions, THRESHOLDS, strict=True), key=lambda pair: pair[0]):
    percents = [f"{100 * threshold:g}" for _, threshold in group]
    if region is not None:
      named.append((f"{'–'.join(dict.fromkeys((percents[0], percents[-1])))} %", region))  # noqa: RUF001
  return tuple(named)


def draw_comparison(comparison: Comparison, names: tuple[str, str], notes: Sequence[str] = ()) -> Figure:
  """Two photographs, bright where their score comes from, and a bar for what each class gave, from either side."""
  sides = (comparison.first, comparison.second)
  panels = [_side_panel(side, name) for side, name in zip(sides, names, strict=True)]
  told = (
    "Bright: the places that gave most to the score, each photograph by its own classes and on a scale of its own; dark: those "
    "that gave nothing or took away. The parts of all places add up to the score.",
    "Bars: what the classes gave, those of the largest shares; all classes together give the score.",
  )
  chart = (2.3, lambda axes: _draw_bars(axes, sides, names))
  return draw_panels(panels, 2, f"What made the score of {comparison.score:z.4f}", (*told, *notes), scale=2.0, chart=chart)


def _side_panel(side: Side, name: str) -> Panel:
  largest = side.places.max()
  heat = np.sqrt(side.places.clip(0) / largest) if largest > 0 else None  # a few places give much: the others show, too
  return Panel(side.pixels, "", name, heat=heat, map_box=side.map_box, box=side.box)


def _draw_bars(axes: Axes, sides: tuple[Side, Side], names: tuple[str, str]) -> None:
  """Two bars a class, one for each side, told apart by shade and hatching; the classes of the largest shares."""
  shares = [_add_up(side.classes) for side in sides]
  ordered = sorted(shares[0] | shares[1], key=lambda name: -max(one.get(name, 0.0) for one in shares))
  shown = ordered[:_SHOWN]
  places = np.arange(len(shown))
  bars = [
    axes.bar(places + offset, [one.get(label, 0.0) for label in shown], 0.36, **style)
    for one, offset, style in zip(shares, (-0.2, 0.2), _BARS, strict=True)
  ]
  width = axes.get_position().width * axes.figure.get_size_inches()[0] * 72 / len(shown)
  axes.set_xticks(places, [fit_text(name, 0.92 * width, 8, lines=2) for name in shown], family=FONT, size=8, parse_math=False)
  axes.tick_params(labelsize=8, length=0)
  axes.set_ylabel("share of the score", family=FONT, size=8)
  axes.axhline(0, color="black", linewidth=0.6)
  axes.spines[:].set_visible(False)
  # Named afterwards: Matplotlib leaves out what is empty or begins with an underscore.
  place = {"loc": "lower right", "bbox_to_anchor": (1, 0.98), "ncols": 2}
  legend = axes.legend(bars, ("first", "second"), fontsize=8, frameon=False, **place)
  for text, name in zip(legend.get_texts(), names, strict=True):
    text.set(text=fit_text(name, 200, 8), family=FONT, parse_math=False)


def _add_up(classes: tuple[tuple[str, float], ...]) -> dict[str, float]:
  """The shares by name; a few classes of ImageNet have the same one."""
  shares: dict[str, float] = {}
  for name, share in classes:
    shares[name] = shares.get(name, 0.0) + share
  return shares
