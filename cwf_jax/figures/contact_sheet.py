"""The contact sheet of a search: the query, and each answer with the class that gave most to its score and where it is.

    searcher = Searcher("photographs.index")
    results = searcher.search([searcher.encode("tower.jpg")])[0]
    save_figure(draw_answers(searcher.encoder, "tower.jpg", results), "answers.png")
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from cwf_jax.encoder import Encoder
from cwf_jax.explanation import Cells, compute_maps, explain, map_box
from cwf_jax.figures.overlay import make_thumbnail
from cwf_jax.figures.panels import THUMBNAIL, Panel, draw_panels
from cwf_jax.images.canvases import Fitted, fit_image
from cwf_jax.images.decoding import UnreadableImageError, decode_image
from cwf_jax.images.queries import ImageLike, fit_query, read_pixels
from cwf_jax.protocol import Box, Size

MOST = 120
"""Answers that are drawn; what comes after is counted."""

COLUMNS = 6

LEGEND = "Bright: where the network sees the class that is named below the picture; the yellow line is at half of the most."
SHARES_LEGEND = "The number after the class: its share of the score."
FRAMES_LEGEND = "Frames: solid is relevant, dashed is not, dotted is junk, which does not count."


def draw_answers(
  encoder: Encoder,
  query: ImageLike,
  answers: Sequence[Any],
  *,
  box: Box | None = None,
  class_id: int | None = None,
  relevance: Mapping[str, str] | None = None,
  title: str = "",
  notes: Sequence[str] = (),
) -> Figure:
  """Draws a query and its answers, each with one activation map; all maps are computed in batches of a fixed size.

  Args:
    encoder: that the search was made with.
    query: a path, the bytes of a file, a Pillow image, or RGB pixels [h w 3] uint8. Only a path has a name to show.
    answers: the results of a search: `rank`, `id`, `path`, `score`, and `classes`, the largest share first. Where no class
      made a score, as after expansion, the query's class is shown.
    box: of the query, in its pixels.
    class_id: the class that is shown on the query; None means the most probable one that is seen in it.
    relevance: "relevant", "not relevant" or "junk" by an answer's id, where the truth is known.
    title: above the sheet.
    notes: below it.

  Returns:
    A Matplotlib figure. An answer whose file is gone or cannot be read has the reason in its place.

  Raises:
    InputError: the query cannot be read.
  """
  pixels = read_pixels(query)
  if class_id is None:
    class_id = next((reason.class_id for reason in explain(encoder, pixels, box).classes if reason.cam.any()), None)
  name = os.path.basename(os.fsdecode(query)) if isinstance(query, (str, os.PathLike)) else ""
  cells = None if box is None else fit_query(pixels, box, encoder.settings.protocol).cells
  entries = [_Entry(_shrink(encoder, pixels), class_id, None, cells)]
  for answer in answers[:MOST]:
    part = next((part for part in answer.classes[:1] if part.class_id is not None), None)
    entries.append(_Entry(_read(encoder, answer.path), class_id if part is None else part.class_id, part, None))
  shown = _show_entries(encoder, entries)
  panels = []
  for place, (entry, common) in enumerate(zip(entries, shown, strict=True)):
    if place == 0:
      panels.append(Panel(title="query", name=name, box=box, frame="query", **common))
      continue
    answer = answers[place - 1]
    truth = None if relevance is None else relevance.get(answer.id, "not relevant")
    heading = f"{answer.rank}   {answer.score:z.4f}" + (f"   {truth}" if truth else "")
    missing = entry.picture if isinstance(entry.picture, str) else ""
    panels.append(Panel(title=heading, name=answer.id, frame=truth, missing=missing, **common))
  told = [LEGEND]
  told += [SHARES_LEGEND] if any(entry.part is not None for entry in entries) else []
  told += [] if relevance is None else [FRAMES_LEGEND]
  told += [f"The first {MOST} of {len(answers)} answers."] if len(answers) > MOST else []
  return draw_panels(panels, COLUMNS, title, [*told, *notes])


class _Picture(NamedTuple):
  """What is kept of a photograph: its thumbnail [h w 3], its (height, width), and its pixels at the protocol's size."""

  thumbnail: np.ndarray
  shape: Size
  fitted: Fitted


class _Entry(NamedTuple):
  """A place in the sheet: the picture, or why there is none; the class shown; its share; the cells its map is cut to."""

  picture: _Picture | str
  class_id: int | None
  part: Any
  cells: Cells | None


def _read(encoder: Encoder, path: str) -> _Picture | str:
  try:
    return _shrink(encoder, decode_image(path))
  except UnreadableImageError as error:
    return error.reason


def _shrink(encoder: Encoder, pixels: np.ndarray) -> _Picture:
  """A hundred photographs at full size would fill the memory."""
  return _Picture(make_thumbnail(pixels, THUMBNAIL), pixels.shape[:2], fit_image(pixels, encoder.settings.protocol))


def _show_entries(encoder: Encoder, entries: Sequence[_Entry]) -> list[dict[str, Any]]:
  """What a panel shows of each entry: picture, map and the class's name."""
  mapped = [place for place, one in enumerate(entries) if isinstance(one.picture, _Picture) and one.class_id is not None]
  chosen = [entries[place] for place in mapped]
  maps = compute_maps(
    encoder, [one.picture.fitted for one in chosen], [one.class_id for one in chosen], [one.cells for one in chosen]
  )
  heats = dict(zip(mapped, maps, strict=True))
  shown = []
  for place, entry in enumerate(entries):
    note = "" if entry.class_id is None else encoder.settings.classes.names[entry.class_id]
    note += "" if entry.part is None else f" {entry.part.share:z.4f}"
    common: dict[str, Any] = {"pixels": None}
    if isinstance(entry.picture, _Picture):
      common = {"pixels": entry.picture.thumbnail, "shape": entry.picture.shape}
    if place in heats and heats[place].any():
      common |= {"heat": heats[place], "map_box": map_box(entry.picture.shape, entry.picture.fitted.size)}
    elif place in heats:
      note += ": seen nowhere here"
    shown.append(common | {"notes": (note,) if note else ()})
  return shown
