"""Reasons as pictures: what a network sees in a photograph, and what made the score of two."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cwf_jax.explanation import Comparison, Explanation, Side
from cwf_jax.figures.panels import Panel, draw_panels
from cwf_jax.figures.text import FONT, fit_text
from cwf_jax.ops.regions import THRESHOLDS

_SHOWN = 8
_BARS = ({"color": "#333333"}, {"color": "#f0a030", "hatch": "///", "edgecolor": "#7a4a00"})


def draw_explanation(explanation: Explanation, title: str = "", notes: tuple[str, ...] = ()) -> Figure:
  """The photograph, and for each class its map, its regions, its probability and its share in the descriptor."""
  panels = [Panel(explanation.pixels, "the photograph", box=explanation.box, frame="query")]
  for place, reason in enumerate(explanation.classes, 1):
    told = (f"probability {reason.probability:.4f}", f"share {reason.share:z.4f}")
    if not reason.cam.any():
      panels.append(Panel(explanation.pixels, f"{place}   {reason.name}", notes=(*told, "seen nowhere: no map")))
      continue
    panels.append(
      Panel(
        explanation.pixels,
        f"{place}   {reason.name}",
        notes=told,
        heat=reason.cam,
        map_box=explanation.map_box,
        regions=reason.regions,
      )
    )
  percents = ", ".join(f"{100 * threshold:g}" for threshold in THRESHOLDS)
  told = (
    "Bright: where the network sees the class. A share is a class's part in the descriptor: those of all "
    f"{explanation.num_summed} classes that are summed add up to 1.",
    f"Boxes, thin to thick: the largest region above {percents} % of the map's maximum.",
  )
  return draw_panels(panels, 4, title, (*told, *notes))


def draw_comparison(comparison: Comparison, names: tuple[str, str], title: str = "", notes: tuple[str, ...] = ()) -> Figure:
  """Two photographs, bright where their score comes from, and a bar for what each class gave, from either side."""
  sides = (comparison.first, comparison.second)
  largest = max(float(side.places.max()) for side in sides)
  panels = [_side_panel(side, name, largest) for side, name in zip(sides, names, strict=True)]
  told = (
    "Bright: the places that made the score, each side by its own classes; the parts of all places add up to it.",
    "Bars: what the classes gave, the largest of each side; all classes together give the score.",
  )
  return draw_panels(panels, 2, title, (*told, *notes), scale=2.0, chart=(2.4, lambda axes: _draw_bars(axes, sides, names)))


def _side_panel(side: Side, name: str, largest: float) -> Panel:
  heat = np.sqrt(side.places.clip(0) / largest) if largest > 0 else None  # a few places give much: the others show, too
  return Panel(side.pixels, name, heat=heat, map_box=side.map_box, box=side.box)


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
