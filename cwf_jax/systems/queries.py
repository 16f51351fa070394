"""A query as a system sees it: its image cut to the cells of its box, its box alone, or its whole image."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from cwf_jax.datasets.benchmark import Query
from cwf_jax.images.canvases import Fitted, fit_crop, fit_image
from cwf_jax.images.decoding import crop_image, resize_image
from cwf_jax.protocol import Box, Protocol, check_box
from cwf_jax.systems.settings import Settings
from cwf_jax.systems.system import BOX, BOX_IN_PROPORTION, CELLS, SYSTEMS


class FittedQuery(NamedTuple):
  """A query's pixels.

  Attributes:
    seen: what the pass is of.
    cells: (left, top, right, bottom) on its map of features; None for all of it.
    crop: the box alone, whose classes are the query's; None where they are those of `seen`.
  """

  seen: Fitted
  cells: tuple[int, int, int, int] | None
  crop: Fitted | None


def box_rule_of(system: str, query: Query, database: Collection[str], settings: Settings) -> str:
  """How a system reads the box of a query: by its own rule where the query is in the database (METHOD 7.0)."""
  return SYSTEMS[system].box_rule(settings) if query.image in database else "corners"


def read_box(box: Box, rule: str, size: tuple[int, int], settings: Settings) -> Box:
  """A query's box as a system reads it, inside its image.

  Args:
    box: as the ground truth has it, in pixels.
    rule: "corners", or "size": the last two numbers are its width and height (METHOD 7.0).
    size: (height, width) of the image.
    settings: say whether its sides are floored first (METHOD 7.16).

  Raises:
    BoxError: it lies outside, or what is left of it is under 16 pixels a side.
  """
  left, top, right, bottom = map(float, np.floor(box) if settings.floor_boxes else box)
  if rule == "size":
    right, bottom = left + right, top + bottom
  return check_box((left, top, right, bottom), size)


def fit_query(
  pixels: UInt8[np.ndarray, "h w 3"], box: Box, rule: str, protocol: Protocol
) -> FittedQuery:
  """Cuts and resizes a query.

  Args:
    pixels: of the upright image.
    box: of `read_box`.
    rule: of `systems.CELLS` and its like.
    protocol: the sizes of the system's images.
  """
  size = pixels.shape[:2]
  crop = crop_image(pixels, box)
  if rule == CELLS:
    whole = fit_image(pixels, protocol)
    return FittedQuery(whole, protocol.box_to_cells(box, size, whole.size), fit_crop(crop, protocol))
  if rule in (BOX, BOX_IN_PROPORTION):
    whole = crop.shape[:2] if rule == BOX else size
    target = protocol.resized(*(max(1, round(side)) for side in protocol.shrunk(*crop.shape[:2], whole)))
    return FittedQuery(Fitted(resize_image(crop, *target), target, protocol.crop_canvas(*target)), None, None)
  return FittedQuery(fit_image(pixels, protocol), None, None)
