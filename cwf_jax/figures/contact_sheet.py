"""The contact sheet of a search: the query, and each answer with the class that gave most to its score and where it is.

    searcher = Searcher("photographs.index")
    results = searcher.search([searcher.encode("tower.jpg")])[0]
    save_figure(draw_answers(searcher.encoder, "tower.jpg", results), "answers.png")
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cwf_jax.encoder import Encoder
from cwf_jax.explanation import compute_maps, map_box
from cwf_jax.figures.panels import Panel, draw_panels
from cwf_jax.images.decoding import UnreadableImageError, decode_image
from cwf_jax.images.queries import read_pixels
from cwf_jax.protocol import Box

MOST = 120
"""Answers that are drawn; what comes after is counted."""

COLUMNS = 6

LEGEND = "Bright: where the network sees the class that is named below the picture; behind it its share of the score."
FRAMES_LEGEND = "Frames: solid is relevant, dashed is not, dotted is junk, which does not count."


def draw_answers(
  encoder: Encoder,
  query: str | os.PathLike | np.ndarray,
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
    query: a file, or RGB pixels [h w 3] uint8.
    answers: the results of a search: `rank`, `id`, `path`, `score`, and `classes`, the largest share first. After expansion,
      where no class made a score, the query's class is shown.
    box: of the query, in its pixels.
    class_id: the class that is shown on the query; None means the one that gave most to the first answer.
    relevance: "relevant", "not relevant" or "junk" by an answer's id, where the truth is known.
    title: above the sheet.
    notes: below it.

  Returns:
    A Matplotlib figure. An answer whose file is gone or cannot be read has the reason in its place.

  Raises:
    InputError: the query cannot be read.
  """
  names = encoder.settings.classes.names
  shown = answers[:MOST]
  if class_id is None:
    class_id = next((part.class_id for one in shown for part in one.classes[:1] if part.class_id is not None), None)
  pictures = [read_pixels(query), *(_read(answer.path) for answer in shown)]
  first = [next(iter(answer.classes), None) for answer in shown]
  parts = [None, *(part if part is not None and part.class_id is not None else None for part in first)]
  class_ids = [class_id if part is None else part.class_id for part in parts]
  drawn = [place for place, picture in enumerate(pictures) if not isinstance(picture, str) and class_ids[place] is not None]
  boxes = [box if place == 0 else None for place in drawn]
  maps = compute_maps(encoder, [pictures[place] for place in drawn], [class_ids[place] for place in drawn], boxes)
  heats = dict(zip(drawn, maps, strict=True))
  panels = []
  for place, (picture, one, part) in enumerate(zip(pictures, class_ids, parts, strict=True)):
    heat = heats.get(place)
    note = "" if one is None else names[one] + ("" if part is None else f" {part.share:z.4f}")
    if heat is not None and not heat.any():
      heat, note = None, f"{note}: seen nowhere here"
    common = {"heat": heat, "notes": (note,) if note else ()}
    if heat is not None:
      common["map_box"] = map_box(picture.shape[:2], encoder.settings.protocol.resized(*picture.shape[:2]))
    if place == 0:
      name = os.fspath(query) if not isinstance(query, np.ndarray) else ""
      panels.append(Panel(picture, "query", os.path.basename(os.fsdecode(name)), box=box, frame="query", **common))
      continue
    answer = shown[place - 1]
    truth = None if relevance is None else relevance.get(answer.id, "not relevant")
    heading = f"{answer.rank}   {answer.score:z.4f}" + (f"   {truth}" if truth else "")
    missing = picture if isinstance(picture, str) else ""
    panels.append(Panel(None if missing else picture, heading, answer.id, frame=truth, missing=missing, **common))
  told = [LEGEND, *([] if relevance is None else [FRAMES_LEGEND]), *notes]
  if len(answers) > len(shown):
    told.append(f"The first {len(shown)} of {len(answers)} answers.")
  return draw_panels(panels, COLUMNS, title, told)


def _read(path: str) -> np.ndarray | str:
  """The pixels, or why there are none."""
  try:
    return decode_image(path)
  except UnreadableImageError as error:
    return error.reason
