"""The reasons: which classes a network sees in a photograph and where, and what made the score of two photographs.

    explanation = explain(encoder, "tower.jpg", box=(40, 30, 400, 380))
    for reason in explanation.classes:
      print(reason.name, reason.probability, reason.share)      # reason.cam says where

    comparison = compare(encoder, "tower.jpg", "another.jpg")
    comparison.score == sum(share for _, share in comparison.first.classes)        # up to rounding
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from cwf_jax.encoder import Encoder, most_probable
from cwf_jax.images.canvases import Fitted, stack
from cwf_jax.images.queries import FittedQuery, ImageLike, fit_query
from cwf_jax.ops.aggregation import aggregate
from cwf_jax.ops.attribution import share_cells, share_classes
from cwf_jax.ops.regions import THRESHOLDS, find_regions, mask_boxes
from cwf_jax.ops.weighting import compute_channel_weights
from cwf_jax.protocol import CELL, Box, Size

AT_ONCE = 12
"""Pictures of one canvas whose maps are computed in one batch: ten answers and their query, with one place to spare."""

Cells = tuple[int, int, int, int]
"""(left, top, right, bottom) in cells, right and bottom exclusive."""

PLACES = 0.2
"""The part of the most that a cell gave to a score, above which a cell belongs to a `Side.region`."""


class ClassReason(NamedTuple):
  """What one class has to do with a photograph.

  Attributes:
    class_id: its id.
    name: its name.
    probability: that the network gives it, in the box where there is one.
    share: its part in the descriptor: the shares of all classes that are summed add up to 1.
    cam: [i j] in [0, 1], the cells inside the photograph; zero outside the box.
    regions: a box in pixels for each of `THRESHOLDS`, around the largest component above it; None where there is none.
  """

  class_id: int
  name: str
  probability: float
  share: float
  cam: Float[np.ndarray, "i j"]
  regions: tuple[Box | None, ...]


@dataclasses.dataclass(frozen=True)
class Explanation:
  """What the network sees in a photograph.

  Attributes:
    pixels: [h w 3], the upright photograph.
    box: in its pixels, or None.
    map_box: the part of the photograph that the maps cover, in its pixels: cells at the right and bottom edge may be cut off.
    classes: the most probable ones first.
    num_summed: the classes that the descriptor sums.
  """

  pixels: UInt8[np.ndarray, "h w 3"]
  box: Box | None
  map_box: Box
  classes: tuple[ClassReason, ...]
  num_summed: int


@dataclasses.dataclass(frozen=True)
class Side:
  """What one of two photographs gave to their score.

  Attributes:
    pixels: [h w 3], the upright photograph.
    box: in its pixels, or None.
    map_box: see `Explanation`.
    places: [i j], what each cell gave; the sum is the score.
    region: a box in pixels around the largest region above `PLACES` of the most that a cell gave; None where none gave any.
    classes: (name, share) of each class that is summed, the largest share first; the sum is the score.
  """

  pixels: UInt8[np.ndarray, "h w 3"]
  box: Box | None
  map_box: Box
  places: Float[np.ndarray, "i j"]
  region: Box | None
  classes: tuple[tuple[str, float], ...]


@dataclasses.dataclass(frozen=True)
class Comparison:
  """What made the score of two photographs.

  Attributes:
    score: the cosine of their descriptors.
    first, second: what each gave.
  """

  score: float
  first: Side
  second: Side


def explain(encoder: Encoder, image: ImageLike, box: Box | None = None, top: int = 6) -> Explanation:
  """Finds a photograph's most probable classes, where they are, and what they are worth in the descriptor.

  Args:
    encoder: with the whitening of the descriptors, if they are whitened.
    image: a path, the bytes of a file, a Pillow image, or RGB pixels [h w 3] uint8.
    box: the classes are predicted on the box's pixels alone, their maps are those of the photograph, cut to the box.
    top: classes wanted; those whose map is empty are among them.

  Raises:
    InputError: the image cannot be read, or the box cannot be its box.
  """
  fitted = fit_query(image, box, encoder.settings.protocol)
  look = _look(encoder, fitted)
  shares = np.asarray(_share_own(encoder, look.class_vectors))[0]
  top = min(top, look.class_ids.shape[1])
  maps = look.cams[0, ..., :top]
  regions = np.asarray(find_regions(jnp.moveaxis(maps, -1, 0), THRESHOLDS))
  rows, columns = (side // CELL for side in fitted.whole.size)
  names, ids = encoder.settings.classes.names, np.asarray(look.class_ids)[0].tolist()
  reasons = tuple(
    ClassReason(
      class_id=ids[place],
      name=names[ids[place]],
      probability=float(look.probabilities[0, place]),
      share=float(shares[place]),
      cam=np.asarray(maps[:rows, :columns, place]),
      regions=tuple(_to_pixels(region, fitted) for region in regions[place]),
    )
    for place in range(top)
  )
  return Explanation(fitted.pixels, fitted.box, map_box(fitted.pixels.shape[:2], fitted.whole.size), reasons, len(ids))


def compare(encoder: Encoder, first: ImageLike, second: ImageLike, box: Box | None = None) -> Comparison:
  """Splits the score of two photographs by classes and by places, from each one's side; each is described by its own classes.

  Args:
    encoder: with the whitening of the descriptors, if they are whitened.
    first: the query: a path, the bytes of a file, a Pillow image, or RGB pixels [h w 3] uint8.
    second: what it is compared with, whole.
    box: in the first one.

  Raises:
    InputError: an image cannot be read, or the box cannot be the first one's.
  """
  fitted = fit_query(first, box, encoder.settings.protocol), fit_query(second, None, encoder.settings.protocol)
  looks = [_look(encoder, one) for one in fitted]
  descriptors = [encoder.describe(look.class_vectors) for look in looks]
  sides = [_side(encoder, *parts) for parts in zip(fitted, looks, descriptors[::-1], strict=True)]
  return Comparison(float(jnp.vdot(*descriptors, precision="highest")), *sides)


def compute_maps(
  encoder: Encoder, pictures: Sequence[Fitted], class_ids: Sequence[int], cells: Sequence[Cells | None] = ()
) -> list[Float[np.ndarray, "i j"]]:
  """The activation map of one class of each picture, as `ClassReason.cam` is; those of a canvas in one batch.

  Args:
    encoder: whose classes they are.
    pictures: at the sizes of its protocol.
    class_ids: one for each.
    cells: what each map is cut to, (left, top, right, bottom) in cells; None leaves it whole, as no cells at all do.
  """
  cells = [*cells, *[None] * (len(pictures) - len(cells))]
  found: list[Any] = [None] * len(pictures)
  for canvas in sorted({one.canvas for one in pictures}):
    places = [place for place, one in enumerate(pictures) if one.canvas == canvas]
    for start in range(0, len(places), AT_ONCE):
      some = places[start : start + AT_ONCE]
      ids, cuts = np.zeros((AT_ONCE, 1), np.int32), np.zeros((AT_ONCE, 4), np.int32)
      for slot, place in enumerate(some):
        ids[slot] = class_ids[place]
        cuts[slot] = cells[place] or (0, 0, *canvas[::-1])
      images, sizes = stack([pictures[place] for place in some], canvas, AT_ONCE)
      maps = np.asarray(_map(encoder, images, sizes, ids, cuts, len(some)))
      for slot, place in enumerate(some):
        found[place] = _inside(maps[slot], pictures[place].size)
  return found


def map_box(original: Size, resized: Size) -> Box:
  """The part of a photograph of (height, width) `original` that the map of its `resized` form covers, in its pixels."""
  down, across = (size // CELL * CELL * whole / size for whole, size in zip(original, resized, strict=True))
  return (0.0, 0.0, across, down)


class _Look(NamedTuple):
  """[1 n] class ids and probabilities, [1 n k] vectors, [1 i j n] maps, and what they were made of."""

  class_ids: Int[jax.Array, "1 n"]
  probabilities: Float[jax.Array, "1 n"]
  class_vectors: Float[jax.Array, "1 n k"]
  cams: Float[jax.Array, "1 i j n"]
  features: Float[jax.Array, "1 i j k"]
  mask: jax.Array


def _look(encoder: Encoder, fitted: FittedQuery) -> _Look:
  """By the classes of the box's own pixels, as a query is encoded; of the whole photograph in one pass."""
  predicted = None
  if fitted.crop is not None:
    predicted = _predict(encoder, *stack([fitted.crop], fitted.crop.canvas, 1))
  images, sizes = stack([fitted.whole], fitted.whole.canvas, 1)
  return _pool(encoder, images, sizes, np.asarray([fitted.cells], np.int32), predicted)


@jax.jit
def _predict(encoder, images, sizes):
  return _most_probable(encoder, encoder.activate(images, sizes))


def _most_probable(encoder, activations):
  class_ids = most_probable(activations, encoder.settings.protocol.num_classes)
  return class_ids, jnp.take_along_axis(activations.probabilities, class_ids, 1)


@jax.jit
def _pool(encoder, images, sizes, cells, predicted) -> _Look:
  activations = encoder.activate(images, sizes)
  class_ids, probabilities = _most_probable(encoder, activations) if predicted is None else predicted
  cut = mask_boxes(cells, activations.mask.shape[1:])
  vectors = encoder.pool_classes(activations, class_ids, cut)
  cams = encoder.compute_cams(activations, class_ids, cut)
  return _Look(class_ids, probabilities, vectors, cams, activations.features, activations.mask & cut)


@jax.jit
def _share_own(encoder, class_vectors):
  """[1 n], what each class gives to the cosine of the descriptor with itself."""
  whitened = encoder.whiten(class_vectors)
  return share_classes(whitened, aggregate(whitened)[:, None])[:, 0]


@jax.jit
def _share(encoder, look: _Look, answers):
  weights = compute_channel_weights(look.features, look.mask)
  return share_cells(look.features, look.cams, weights, answers, encoder.whitening, look.mask)


@jax.jit
def _map(encoder, images, sizes, class_ids, cells, count):
  """[n i j], of the first `count` pictures; one after the other, since a batch of large ones takes gigabytes."""

  def add(place, maps):
    image, size, class_id, cut = (jax.lax.dynamic_slice_in_dim(part, place, 1) for part in (images, sizes, class_ids, cells))
    activations = encoder.activate(image, size)
    one = encoder.compute_cams(activations, class_id, mask_boxes(cut, activations.mask.shape[1:]))
    return jax.lax.dynamic_update_slice_in_dim(maps, one[..., 0], place, 0)

  rows, columns = (side // CELL for side in images.shape[1:3])
  return jax.lax.fori_loop(0, count, add, jnp.zeros((len(images), rows, columns), jnp.float32))


def _side(encoder: Encoder, fitted: FittedQuery, look: _Look, answers) -> Side:
  parts = np.asarray(_share(encoder, look, answers))[0]
  shares = parts.sum((0, 1))
  names = encoder.settings.classes.names
  order = np.argsort(-shares, kind="stable")
  classes = tuple((names[int(look.class_ids[0, place])], float(shares[place])) for place in order)
  covered = map_box(fitted.pixels.shape[:2], fitted.whole.size)
  places = parts.sum(2)
  region = np.asarray(find_regions(jnp.asarray(places[None]), (PLACES,)))[0, 0]
  return Side(fitted.pixels, fitted.box, covered, _inside(places, fitted.whole.size), _to_pixels(region, fitted), classes)


def _inside(maps: np.ndarray, size: Size) -> np.ndarray:
  return maps[: size[0] // CELL, : size[1] // CELL]


def _to_pixels(region: Int[np.ndarray, "4"], fitted: FittedQuery) -> Box | None:
  if not region.any():
    return None
  height, width = fitted.pixels.shape[:2]
  scale = (CELL * width / fitted.whole.size[1], CELL * height / fitted.whole.size[0])
  return tuple(float(side * scale[place % 2]) for place, side in enumerate(region))
