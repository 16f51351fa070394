"""Which classes a network recognizes in a photograph and where, and why two photographs are similar.

    explanation = explain(encoder, "tower.jpg", box=(40, 30, 400, 380))
    for reason in explanation.classes:
      print(reason.name, reason.probability, reason.box)      # reason.cam is the whole map

    comparison = compare(encoder, "tower.jpg", "another.jpg")
    print(comparison)       # score 0.8123: 41 places match; both show: palace 62 % / 48 %
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from cwf_jax.encoder import Encoder
from cwf_jax.images.canvases import stack
from cwf_jax.images.queries import FittedQuery, ImageLike
from cwf_jax.ops.attribution import share_classes
from cwf_jax.ops.regions import THRESHOLDS, find_regions, mask_boxes
from cwf_jax.protocol import Box
from cwf_jax.queries import Query, encode_query, pad_count
from cwf_jax.retrieval.reasons import (
  CommonClass,
  Match,
  describe_common_classes,
  describe_places,
  find_common_classes,
  match_photographs,
)

BOX_THRESHOLD = 0.2
"""The part of a map's maximum above which a cell belongs to a class's box: Zhou et al. 2016, who introduced the maps, localize
objects with it."""


class ClassMap(NamedTuple):
  """A class in a photograph, and where it is.

  Attributes:
    class_id: its id.
    name: its name.
    probability: in the query's box, or in the whole photograph where there is no box.
    cam: [i j] in [0, 1], the cells inside the photograph; zero outside the box.
    map_box: the part of the photograph that the map covers, in its pixels; cells at the right and bottom edge may be cut off.
    regions: a box in pixels for each of `THRESHOLDS`, around the largest component above it; None where there is none.
  """

  class_id: int
  name: str
  probability: float
  cam: Float[np.ndarray, "i j"]
  map_box: Box
  regions: tuple[Box | None, ...]

  @property
  def box(self) -> Box | None:
    """Around the largest component above `BOX_THRESHOLD`; None where the map is empty."""
    return self.regions[THRESHOLDS.index(BOX_THRESHOLD)]


@dataclasses.dataclass(frozen=True)
class Explanation:
  """What the network recognizes in a photograph.

  Attributes:
    pixels: [h w 3], the upright photograph.
    box: in its pixels, or None.
    classes: the most probable ones first.
    shares: of each of them in the descriptor; those of all classes that it sums add up to 1. They are nearly equal by
      construction, so a large share is no reason.
  """

  pixels: UInt8[np.ndarray, "h w 3"]
  box: Box | None
  classes: tuple[ClassMap, ...]
  shares: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Side:
  """One of two photographs that are compared.

  Attributes:
    pixels: [h w 3], the upright photograph.
    box: in its pixels, or None.
    shares: (name, share of the score) of each class that its descriptor sums, the largest first; the sum is the score.
    class_map: of the first common class, or of the query's strongest class where none is common; None where all maps of
      the query are empty.
  """

  pixels: UInt8[np.ndarray, "h w 3"]
  box: Box | None
  shares: tuple[tuple[str, float], ...]
  class_map: ClassMap | None


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Why two photographs are similar. As a string it is what people read: score, places and classes.

  Attributes:
    score: the cosine of their descriptors.
    first, second: the two photographs.
    match: their matching places.
    common_classes: what both show, the surest first; empty where no class stands out.
  """

  score: float
  first: Side
  second: Side
  match: Match
  common_classes: tuple[CommonClass, ...]

  def __str__(self) -> str:
    return f"score {self.score:z.4f}: {describe_places(self.match)}; {describe_common_classes(self.common_classes)}"


def explain(encoder: Encoder, image: ImageLike, box: Box | None = None, top: int = 6) -> Explanation:
  """Finds a photograph's most probable classes and where they are.

  Args:
    encoder: with the whitening of the descriptors, if they are whitened.
    image: a path, the bytes of a file, a Pillow image, or RGB pixels [h w 3] uint8.
    box: the classes are predicted on the box's pixels alone, their maps are those of the photograph, cut to the box.
    top: number of classes, at most those that a descriptor sums; those whose map is empty are among them.

  Raises:
    InputError: see `read_pixels`.
    BoxError: see `check_box`.
  """
  query = encode_query(encoder, image, box)
  vectors = query.class_vectors[None]
  shares = np.asarray(_share(encoder, vectors, vectors))[0, :top]
  classes = map_classes(encoder, query.photograph, query.class_ids[:top], query.probabilities)
  return Explanation(query.photograph.pixels, query.photograph.box, classes, tuple(shares.tolist()))


def compare(encoder: Encoder, first: ImageLike, second: ImageLike, box: Box | None = None) -> Comparison:
  """Finds why two photographs are similar: their matching places and common classes, and each class's share of the score.

  Args:
    encoder: with the whitening of the descriptors, if they are whitened.
    first: the query: a path, the bytes of a file, a Pillow image, or RGB pixels [h w 3] uint8.
    second: the photograph that it is compared with, whole.
    box: in the first one.

  Raises:
    InputError: see `read_pixels`.
    BoxError: see `check_box`.
  """
  query, answer = encode_query(encoder, first, box), encode_query(encoder, second)
  names = encoder.settings.classes.names
  (match,) = match_photographs(encoder, query, [answer.photograph.pixels])
  common = find_common_classes(names, query.probabilities, np.arange(len(names)), answer.probabilities)
  class_id = common[0].class_id if common else query.strongest_class
  vectors = np.stack([query.class_vectors, answer.class_vectors])
  descriptors = encoder.describe(vectors)
  shares = np.asarray(_share(encoder, vectors, vectors[::-1]))
  sides = [_make_side(encoder, *parts, class_id) for parts in zip((query, answer), shares, strict=True)]
  return Comparison(float(jnp.vdot(*descriptors, precision="highest")), *sides, match, common)


def map_classes(
  encoder: Encoder,
  photograph: FittedQuery,
  class_ids: Sequence[int] | Int[np.ndarray, "n"],
  probabilities: Float[np.ndarray, "c"] | None = None,
) -> tuple[ClassMap, ...]:
  """Computes the activation maps of classes of a photograph in one forward pass.

  Args:
    encoder: whose classes they are.
    photograph: of `encode_query` or `fit_query`; the maps are cut to its box.
    class_ids: the classes; one program serves lists of about the same length.
    probabilities: of all classes, in the box; those of the whole photograph if None.
  """
  padded = np.zeros((1, pad_count(len(class_ids))), np.int32)
  padded[0, : len(class_ids)] = class_ids
  images, sizes = stack([photograph.whole], photograph.whole.canvas, 1)
  maps = jax.device_get(_map(encoder, images, sizes, padded, np.asarray([photograph.cells], np.int32)))
  if probabilities is None:
    probabilities = maps.probabilities
  (height, width), names = photograph.whole.size, encoder.settings.classes.names
  cell = encoder.settings.protocol.cell
  rows, columns = height // cell, width // cell
  covered = _to_pixels((0, 0, columns, rows), photograph, cell)
  return tuple(
    ClassMap(
      class_id=int(class_id),
      name=names[class_id],
      probability=float(probabilities[class_id]),
      cam=maps.cams[place, :rows, :columns],
      map_box=covered,
      regions=tuple(_to_pixels(region, photograph, cell) if region.any() else None for region in maps.regions[place]),
    )
    for place, class_id in enumerate(class_ids)
  )


class _Maps(NamedTuple):
  """Maps [n i j] and their regions [n t 4] in cells, and the photograph's probabilities [c] of all classes."""

  cams: Float[np.ndarray, "n i j"]
  regions: Int[np.ndarray, "n t 4"]
  probabilities: Float[np.ndarray, "c"]


@jax.jit
def _map(encoder: Encoder, images, sizes, class_ids, cells) -> _Maps:
  activations = encoder.activate(images, sizes)
  cams = encoder.compute_cams(activations, class_ids, mask_boxes(cells, activations.mask.shape[1:]))
  cams = jnp.moveaxis(cams[0], -1, 0)
  return _Maps(cams, find_regions(cams, THRESHOLDS), activations.probabilities[0])


@jax.jit
def _share(encoder: Encoder, class_vectors, others):
  """[b n], what each class of the first [b n k] gives to the cosine of its descriptor and the other one's."""
  return share_classes(encoder.whiten(class_vectors), encoder.describe(others)[:, None])[:, 0]


def _make_side(encoder: Encoder, query: Query, shares: np.ndarray, class_id: int | None) -> Side:
  names = encoder.settings.classes.names
  order = np.argsort(-shares, kind="stable")
  class_map = None
  if class_id is not None:
    (class_map,) = map_classes(encoder, query.photograph, [class_id], query.probabilities)
  named = tuple((names[query.class_ids[place]], float(shares[place])) for place in order)
  return Side(query.photograph.pixels, query.photograph.box, named, class_map)


def _to_pixels(cells: Sequence[int] | Int[np.ndarray, "4"], photograph: FittedQuery, cell: int) -> Box:
  """A box of cells, `cell` pixels a side in the resized photograph, in pixels of the photograph."""
  (height, width), resized = photograph.pixels.shape[:2], photograph.whole.size
  down, across = cell * height / resized[0], cell * width / resized[1]
  left, top, right, bottom = (float(side) for side in cells)
  return (left * across, top * down, right * across, bottom * down)
