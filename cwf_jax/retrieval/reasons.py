"""The reasons of an answer: which places of two photographs match, and which classes both show.

    query = encode_query(encoder, "tower.jpg", box=(40, 30, 400, 380))
    (match,) = match_photographs(encoder, query, ["another.jpg"])
    match.places, match.query_box, match.answer_box

Matching places (METHOD 4b) are the evidence that two photographs show the same thing; common classes say what kind of
thing both show.
"""

import concurrent.futures
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from cwf_jax.encoder import Encoder
from cwf_jax.images.canvases import stack
from cwf_jax.images.decoding import UnreadableImageError
from cwf_jax.images.queries import FittedQuery, ImageLike, fit_query
from cwf_jax.ops.matching import MIN_CAM, Matches, describe_cells, locate_cells, match_cells, select_cells
from cwf_jax.ops.regions import mask_boxes
from cwf_jax.protocol import Box, Size
from cwf_jax.queries import Query

MIN_PROBABILITY = 0.05
"""A class is common to two photographs where both have it with at least this probability."""

MOST_COMMON = 5

NUM_CLASSES = 8
"""The most probable classes of a query without a box, whose maps select the cells that are compared."""

_ANSWERS_AT_ONCE = 10
"""Answers that one program matches, where their maps are small enough."""

_PAIRS_AT_ONCE = 2**22
"""Pairs of cells whose cosines are on the device at a time: 16 MB."""

_READ_AHEAD = 2

Point = tuple[float, float]
"""(x, y) in pixels of the upright photograph."""


class CommonClass(NamedTuple):
  """A class that two photographs show.

  Attributes:
    class_id: its id.
    name: its name.
    query_probability: in the query's box, or in the whole query where there is no box.
    answer_probability: in the answer.
  """

  class_id: int
  name: str
  query_probability: float
  answer_probability: float

  def __str__(self) -> str:
    """The class in words: "motor scooter 62 % / 48 %"."""
    return f"{self.name} {per_cent(self.query_probability)} / {per_cent(self.answer_probability)}"

  def to_json(self) -> dict[str, Any]:
    """Plain values under the names of the command line's JSON."""
    values = self._asdict()
    values.pop("class_id")
    return values


@dataclasses.dataclass(frozen=True)
class Match:
  """The matching places of a query and an answer.

  Attributes:
    places: how many cells of the two match in one consistent position.
    query_box: around them in the query, in pixels of the upright photograph; None where there are none.
    answer_box: the same in the answer.
    lines: the centers of each pair of matching cells.
  """

  places: int
  query_box: Box | None
  answer_box: Box | None
  lines: tuple[tuple[Point, Point], ...]

  @property
  def is_evidence(self) -> bool:
    """Whether enough places match to say that both show the same thing: the smallest number in `PLACES_IN_WORDS`."""
    return self.places >= PLACES_IN_WORDS[-1][0]

  def to_json(self) -> dict[str, Any]:
    """Plain values under the names of the command line's JSON."""
    return {"places": self.places, "query_box": self.query_box, "answer_box": self.answer_box}


def find_common_classes(
  names: Sequence[str],
  query: Float[np.ndarray, "c"],
  answer_ids: Int[np.ndarray, "n"],
  answer: Float[np.ndarray, "n"],
) -> tuple[CommonClass, ...]:
  """Finds the classes that both photographs show with a probability of at least `MIN_PROBABILITY`, at most `MOST_COMMON`.

  Args:
    names: of all classes.
    query: the query's probabilities of all classes.
    answer_ids: classes of the answer whose probabilities are known; the others count as 0.
    answer: their probabilities.

  Returns:
    The class with the largest of the two photographs' smaller probabilities first; among equals the least id.
  """
  shared = np.minimum(query[answer_ids], answer)
  order = np.lexsort((answer_ids, -shared))[:MOST_COMMON]
  return tuple(
    CommonClass(int(answer_ids[place]), names[answer_ids[place]], float(query[answer_ids[place]]), float(answer[place]))
    for place in order
    if shared[place] >= MIN_PROBABILITY
  )


def match_photographs(
  encoder: Encoder,
  query: Query,
  answers: Iterable[ImageLike],
) -> list[Match | None]:
  """Finds the matching places of a query and each answer. Every answer is encoded once and dropped.

  Args:
    encoder: whose features are compared; its `cell_whitening` whitens cells.
    query: of `encode_query`; see `describe_query_cells`.
    answers: paths, bytes, Pillow images or pixels.

  Returns:
    A match for each answer; None where its file cannot be read.
  """
  cell = encoder.settings.protocol.cell
  length = max((height // cell) * (width // cell) for height, width in encoder.settings.protocol.canvases)
  count = max(1, min(_ANSWERS_AT_ONCE, _PAIRS_AT_ONCE // length**2))
  ours = _pad(query.photograph, describe_query_cells(encoder, query), length, cell)
  matches: list[Match | None] = []
  described = _describe_answers(encoder, answers, length)
  while group := list(itertools.islice(described, count)):
    present = [cells for cells in group if cells is not None]
    padding = [ours] * (count - len(present))  # their results are ignored
    stacked = [np.stack([getattr(cells, name) for cells in (*present, *padding)]) for name in ("cells", "positions")]
    result = jax.device_get(_match(ours.cells, ours.positions, *stacked))
    rows = zip(present, zip(*result, strict=True), strict=False)
    results = (_to_match(ours, answer, Matches(*row)) for answer, row in rows)
    matches += [None if cells is None else next(results) for cells in group]
  return matches


def describe_query_cells(encoder: Encoder, query: Query) -> Float[np.ndarray, "n d"]:
  """Describes the cells of a query's canvas that are compared, in row order; the others are zero.

  With a box they are the cells in the box. Without one they are those that the query's most probable classes look at: what
  lies around the object, a shelf or a lawn, matches in photographs of other objects, too.
  """
  class_ids = np.argsort(-query.probabilities, kind="stable")[:NUM_CLASSES]
  return _describe_cells(encoder, query.photograph, class_ids, MIN_CAM if query.photograph.box is None else 0.0)


PLACES_IN_WORDS = ((30, "7 of 8"), (18, "5 of 6"), (12, "3 of 4"))
"""From this number of places on, how many of the answers were right on the measured collections; see docs/reasons.md.

Answers with fewer were mostly wrong: that many places match by chance."""


def describe_places(match: Match | None) -> str:
  """The number of matching places in words: "41 places match"."""
  if match is None:
    return "its photograph cannot be read"
  if not match.is_evidence:
    return "few places match" if match.places else "no place matches"
  return f"{match.places} places match"


def explain_places() -> str:
  """What numbers of matching places mean, in one line."""
  (most, share), *others = PLACES_IN_WORDS
  rules = [f"{share} with {most} or more matching places showed the same thing"]
  rules += [f"{part} with {least} or more" for least, part in others]
  return f"of the answers on three collections of photographs, {', '.join(rules)}"


def describe_common_classes(classes: Sequence[CommonClass]) -> str:
  """What both photographs show, in words: "both show: motor scooter 62 % / 48 %"."""
  if not classes:
    return "no class stands out in both"
  return f"both show: {', '.join(map(str, classes))}"


def per_cent(probability: float) -> str:
  """A probability for people: "62 %"."""
  return f"{100 * probability:.0f} %"


class _Cells(NamedTuple):
  """A photograph's cells [n d] and their (column, row) [n 2], and its (height, width) as a file and as it is computed.

  A cell is `side` pixels a side in the photograph as it is computed.
  """

  cells: np.ndarray
  positions: np.ndarray
  original: Size
  resized: Size
  side: int


def _describe_answers(encoder: Encoder, answers: Iterable[ImageLike], length: int) -> Iterator[_Cells | None]:
  """The cells of each answer, decoded ahead on threads; None where it cannot be read."""

  def read(image: ImageLike) -> FittedQuery | None:
    try:
      return fit_query(image, None, encoder.settings.protocol)
    except UnreadableImageError:
      return None

  with concurrent.futures.ThreadPoolExecutor(_READ_AHEAD) as threads:
    waiting: list[concurrent.futures.Future] = []
    for image in answers:
      waiting.append(threads.submit(read, image))
      if len(waiting) > _READ_AHEAD:
        yield _describe_answer(encoder, waiting.pop(0).result(), length)
    for future in waiting:
      yield _describe_answer(encoder, future.result(), length)


def _describe_answer(encoder: Encoder, photograph: FittedQuery | None, length: int) -> _Cells | None:
  """All cells of an answer, by the query's program."""
  if photograph is None:
    return None
  class_ids = np.arange(min(NUM_CLASSES, len(encoder.settings.classes)))
  return _pad(photograph, _describe_cells(encoder, photograph, class_ids, 0.0), length, encoder.settings.protocol.cell)


def _pad(photograph: FittedQuery, cells: np.ndarray, length: int, cell: int) -> _Cells:
  """Pads the lists of cells and positions, so that photographs of any canvas share one program."""
  positions = locate_cells(tuple(side // cell for side in photograph.whole.canvas))
  padding = ((0, length - len(cells)), (0, 0))
  return _Cells(np.pad(cells, padding), np.pad(positions, padding), photograph.pixels.shape[:2], photograph.whole.size, cell)


def _describe_cells(encoder: Encoder, photograph: FittedQuery, class_ids: np.ndarray, min_cam: float) -> np.ndarray:
  images, sizes = stack([photograph.whole], photograph.whole.canvas, 1)
  box = np.asarray([photograph.cells], np.int32)
  return np.asarray(_describe(encoder, images, sizes, box, class_ids[None].astype(np.int32), np.float32(min_cam)))


@jax.jit
def _describe(encoder: Encoder, images, sizes, boxes, class_ids, min_cam) -> Float[jax.Array, "n d"]:
  activations = encoder.activate(images, sizes)
  mask = activations.mask & mask_boxes(boxes, activations.mask.shape[1:])
  mask = select_cells(encoder.compute_cams(activations, class_ids, mask), mask, min_cam)
  described = describe_cells(activations.features, encoder.cell_whitening, mask)
  return described.reshape(-1, described.shape[-1])


_match = jax.jit(match_cells)


def _to_match(query: _Cells, answer: _Cells, result: Matches) -> Match:
  agrees = np.flatnonzero(result.agrees)
  lines = tuple(
    (_to_point(query, result.query_positions[place]), _to_point(answer, result.answer_positions[place])) for place in agrees
  )
  return Match(int(result.places), _to_box(query, result.query_boxes), _to_box(answer, result.answer_boxes), lines)


def _to_box(photograph: _Cells, box: np.ndarray) -> Box | None:
  """A box of cells in pixels of the photograph."""
  if not box.any():
    return None
  (height, width), (down, across) = photograph.original, _cell_sides(photograph)
  left, top, right, bottom = (float(side) for side in box)
  return (left * across, top * down, min(right * across, float(width)), min(bottom * down, float(height)))


def _to_point(photograph: _Cells, position: np.ndarray) -> Point:
  down, across = _cell_sides(photograph)
  return (float(position[0]) + 0.5) * across, (float(position[1]) + 0.5) * down


def _cell_sides(photograph: _Cells) -> tuple[float, float]:
  """The (height, width) of a cell, in pixels of the photograph."""
  pairs = zip(photograph.original, photograph.resized, strict=True)
  down, across = (photograph.side * original / resized for original, resized in pairs)
  return down, across
