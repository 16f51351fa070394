"""The contact sheet of a search: the query, and its answers with their reasons.

    searcher = Searcher("photographs.index")
    query = searcher.encode("tower.jpg")
    results = searcher.match(query, searcher.search([query])[0])
    save_figure(draw_answers(searcher.encoder, "tower.jpg", results), "answers.png")
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from cwf_jax.encoder import Encoder
from cwf_jax.figures.overlay import make_thumbnail
from cwf_jax.figures.panels import THUMBNAIL, Panel, draw_panels
from cwf_jax.figures.reasons import MAP_LEGEND, make_map_panel
from cwf_jax.images.decoding import UnreadableImageError
from cwf_jax.images.queries import ImageLike, fit_query, read_pixels
from cwf_jax.protocol import Box, check_box
from cwf_jax.queries import encode_query
from cwf_jax.retrieval.answers import Result
from cwf_jax.retrieval.explanation import map_classes
from cwf_jax.retrieval.reasons import describe_common_classes, describe_places, explain_places

MOST = 120
"""Answers that are drawn; a note says how many there are."""

COLUMNS = 6

_NAMED = 2
"""Common classes that are named below an answer."""

BOX_LEGEND = "The box on an answer is around the places that match the query."
CLASSES_LEGEND = "Per cent: how probable a class is in the query / in the answer."
FRAMES_LEGEND = "Frames: solid is relevant, dashed is not, dotted is junk, which does not count."


def draw_answers(
  encoder: Encoder,
  query: ImageLike,
  answers: Sequence[Result],
  *,
  box: Box | None = None,
  relevance: Mapping[str, str] | None = None,
  maps: bool = False,
  title: str = "",
  notes: Sequence[str] = (),
) -> Figure:
  """Draws a query and its answers: rank, score, matching places with a box around them, and common classes.

  Args:
    encoder: that the search was made with.
    query: a path, the bytes of a file, a Pillow image, or RGB pixels [h w 3] uint8. Only a path has a name to show.
    answers: of `Searcher.search`; after `Searcher.match` they have matching places.
    box: of the query, in its pixels.
    relevance: "relevant", "not relevant" or "junk" by an answer's id, where the truth is known.
    maps: draws a row of activation maps below each row of photographs: of the first common class; of the query's strongest
      class on the query, and where no class is common. Only maps take forward passes.
    title: above the sheet.
    notes: below it.

  Returns:
    A Matplotlib figure. An answer whose file is gone or cannot be read has the reason in its place.

  Raises:
    InputError: see `read_pixels`.
    BoxError: see `check_box`.
  """
  pixels = read_pixels(query)
  box = None if box is None else check_box(box, pixels.shape[:2])
  name = os.path.basename(os.fsdecode(query)) if isinstance(query, (str, os.PathLike)) else ""
  thumbnail = make_thumbnail(pixels, THUMBNAIL)
  panels = [Panel(thumbnail, "query", name, box=box, frame="query", shape=pixels.shape[:2])]
  map_panels: list[Panel | None] = []
  strongest = None
  if maps:
    encoded = encode_query(encoder, pixels, box)
    strongest = encoded.strongest_class
    if strongest is None:
      map_panels.append(None)
    else:
      (class_map,) = map_classes(encoder, encoded.photograph, [strongest], encoded.probabilities)
      map_panels.append(make_map_panel(thumbnail, class_map, pixels.shape[:2]))
  shown = answers[:MOST]
  for answer in shown:
    truth = None if relevance is None else relevance.get(answer.id, "not relevant")
    try:
      pixels = read_pixels(answer.path)
    except UnreadableImageError as error:
      panels.append(_make_panel(answer, None, truth, missing=error.reason))
      map_panels.append(None)
      continue
    panels.append(_make_panel(answer, pixels, truth))
    class_id = answer.common_classes[0].class_id if answer.common_classes else strongest
    if not maps or class_id is None:
      map_panels.append(None)
      continue
    (class_map,) = map_classes(encoder, fit_query(pixels, None, encoder.settings.protocol), [class_id])
    map_panels.append(make_map_panel(panels[-1].pixels, class_map, pixels.shape[:2]))
  legend = [f"Note: {explain_places()}."] if any(answer.match is not None for answer in shown) else []
  legend += [BOX_LEGEND] if any(panel.box for panel in panels[1:]) else []
  legend += [CLASSES_LEGEND] if any(answer.common_classes for answer in shown) else []
  legend += [MAP_LEGEND] if maps else []
  legend += [] if relevance is None else [FRAMES_LEGEND]
  legend += [f"The first {MOST} of {len(answers)} answers."] if len(answers) > MOST else []
  columns = min(COLUMNS, len(panels))
  arranged = _alternate_rows(panels, map_panels, columns) if maps else panels
  return draw_panels(arranged, columns, title, [*legend, *notes])


def _make_panel(answer: Result, pixels: UInt8[np.ndarray, "h w 3"] | None, truth: str | None, missing: str = "") -> Panel:
  """An answer's photograph, or why it is missing, and its reasons in words."""
  match, classes = answer.match, answer.common_classes
  return Panel(
    pixels=None if pixels is None else make_thumbnail(pixels, THUMBNAIL),
    title=f"{answer.rank}   {answer.score:z.4f}" + (f"   {truth}" if truth else ""),
    name=answer.id,
    summary="" if match is None else describe_places(match),
    notes=tuple(map(str, classes[:_NAMED])) or (describe_common_classes(()),),
    box=match.answer_box if match is not None and match.is_evidence and pixels is not None else None,
    frame=truth,
    missing=missing,
    shape=None if pixels is None else pixels.shape[:2],
  )


def _alternate_rows(panels: Sequence[Panel], map_panels: Sequence[Panel | None], columns: int) -> list[Panel | None]:
  """A row of photographs, below it the row of their maps, and so on; None fills the last two rows."""
  rows: list[Panel | None] = []
  for start in range(0, len(panels), columns):
    for row in (panels[start : start + columns], map_panels[start : start + columns]):
      rows += [*row, *[None] * (columns - len(row))]
  return rows
