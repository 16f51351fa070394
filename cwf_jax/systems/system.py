"""The systems that are compared (METHOD 2 and 2b), each a few lines over `ops`.

Another one is another function here, from what was seen of an image to vectors, and its line in `SYSTEMS`:

    def pool_mean(seen: Seen) -> Vectors:
      return pool_gem(seen.features, seen.mask, exponent=1.0)

    SYSTEMS["mean"] = System("mean pooling", "vgg16", "pooled", NATIVE, BOX, pool_mean)

A descriptor is the sum of an image's vectors, each whitened: of the one vector that a map is pooled into, of those of R-MAC's
regions, or of those of classes.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cwf_jax.encoder import Activations, Encoder
from cwf_jax.keys import hash_function
from cwf_jax.ops import cams
from cwf_jax.ops.aggregation import aggregate
from cwf_jax.ops.grid import REGIONS
from cwf_jax.ops.normalize import l2_normalize
from cwf_jax.ops.pooling import pool_class_vectors, pool_gem, pool_max, pool_rmac, pool_sum
from cwf_jax.ops.weighting import compute_center_weights, compute_channel_weights, compute_spatial_weights
from cwf_jax.protocol import Protocol
from cwf_jax.systems.settings import PUBLISHED_SIZE, Settings, SomeSettings

Vectors = Float[Array, "b k"] | Float[Array, "b r k"]
"""One vector an image, which is made a unit one; or several, unit rows or zero."""


class Seen(NamedTuple):
  """What a system sees of a batch of images: one forward pass, at the system's sizes.

  Attributes:
    features: the system's own map, >= 0.
    mask: its cells inside the image; of a query that is cut to its box, inside the box.
    encoder: whose pass it was.
    activations: everything else of the pass.
    settings: of the evaluation, those that the system names in `vary`.
    class_ids: [b n], each image's most probable classes, those of a query's box, where the system asks for them.
  """

  features: Float[Array, "b i j k"]
  mask: Bool[Array, "b i j"]
  encoder: Encoder
  activations: Activations
  settings: SomeSettings
  class_ids: Int[Array, "b n"] | None = None


@dataclasses.dataclass(frozen=True)
class Sizes:
  """At which sizes a system computes its images.

  Attributes:
    name: of the rule.
    rule: of `Protocol.size_rule`; None: as the settings say.
    pixels: the side that it is about, as published; other sizes are in proportion to the paper's 720.
  """

  name: str
  rule: str | None
  pixels: int

  def protocol(self, settings: Settings, image_size: int) -> Protocol:
    """The rule where the paper's shorter side is `image_size`."""
    own = settings.protocol(image_size)
    if self.rule is None:
      return own
    pixels = max(32, round(self.pixels * image_size / PUBLISHED_SIZE))
    # Reversed means belong to the code of the paper's authors alone.
    return Protocol(self.name, self.rule, pixels)


PAPER = Sizes("paper", None, PUBLISHED_SIZE)
SQUARE = Sizes("square", "square", 586)
NATIVE = Sizes("native", "longer_side", 1024)

CELLS, BOX, BOX_IN_PROPORTION, IMAGE = "cells", "box", "box_in_proportion", "image"
"""What is seen of a query: the whole image's map, cut to the cells of its box; the box alone, at a size of its own, or in the
proportion of the whole image; the whole image."""

_NOT_COMPUTED = ("title", "note", "pool")
"""Fields of a system that say nothing of its vectors, or say it by their code."""


@dataclasses.dataclass(frozen=True)
class System:
  """A way from maps to descriptors.

  Attributes:
    title: what tables call it.
    network: that it was published on.
    map: "features" (conv5_1 of a VGG-16), "last" (after its last convolution) or "pooled" (after its last pool).
    sizes: of images.
    query: of `CELLS`, `BOX`, `BOX_IN_PROPORTION`, `IMAGE`; or the setting whose value it is.
    pool: from what is seen to vectors; None: the vectors of classes.
    dimensions: after whitening, at most, unless the setting `dimensions` says another number: as published, else 512.
    plain: whether it has a row without whitening, too: `NAME` beside `NAME+pca`.
    classes: of class vectors: "own" (each image's most probable), "query" (the query's) or "listed" (a fixed list).
    box: the setting that says how it reads a query's box; None: as its corners.
    vary: settings that its vectors depend on.
    regions: it pools a grid's regions, and a place without one has a zero vector.
    uses_classes: its pooling function takes each image's most probable classes, as many as the setting `num_classes` says.
    num_last: the last vectors of an image that are summed by themselves: the descriptor is the unit sum of the others and the
      unit sum of these, added; 0: all are summed together.
    note: what in it is a reading, not to be had from a primary source.
  """

  title: str
  network: str
  map: str
  sizes: Sizes
  query: str
  pool: Callable[[Seen], Vectors] | None
  dimensions: int = 512
  plain: bool = False
  classes: str | None = None
  box: str | None = None
  vary: tuple[str, ...] = ()
  regions: bool = False
  uses_classes: bool = False
  num_last: int = 0
  note: str = ""

  @functools.cached_property
  def digest(self) -> str:
    """Changes with its fields and with its pooling function, so that stored vectors of another one are not used."""
    parts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name not in _NOT_COMPUTED}
    code = hash_function(self.pool or pool_classes)
    return hashlib.sha256(f"{parts}\n{code}".encode()).hexdigest()

  def query_rule(self, settings: Settings) -> str:
    """What is seen of a query under these settings."""
    return getattr(settings, self.query, self.query)

  def column(self, name: str, settings: Settings) -> str:
    """What its vectors are called, where those under other settings, or of another function, have other names."""
    return "-".join((name, *(str(getattr(settings, setting)) for setting in self.vary), self.digest[:8]))

  def describe(self, vectors: Float[Array, "b r k"]) -> Float[Array, "b k"]:
    """The descriptors of images from their vectors, which are whitened already (METHOD 2.5): unit rows, or zero."""
    if not self.num_last:
      return aggregate(vectors)
    first, last = vectors[:, : -self.num_last], vectors[:, -self.num_last :]
    return l2_normalize(aggregate(first) + aggregate(last))

  def box_rule(self, settings: Settings) -> str:
    """"corners", or "size": the last two numbers of a query's box are taken for its width and height."""
    return "corners" if self.box is None else getattr(settings, self.box)


def pool_raw(seen: Seen) -> Vectors:
  """Raw sum pooling; uCroW, too."""
  return pool_sum(seen.features, seen.mask)


def pool_channels(seen: Seen) -> Vectors:
  """The sum, weighted by channels (METHOD eq. 2 and 3)."""
  return pool_sum(seen.features, seen.mask, channel_weights=compute_channel_weights(seen.features, seen.mask))


def pool_spoc(seen: Seen) -> Vectors:
  """SPoC: cells near the center count more (Babenko and Lempitsky 2015)."""
  return pool_sum(seen.features, seen.mask, compute_center_weights(seen.features, seen.mask))


def pool_crow(seen: Seen) -> Vectors:
  """CroW: weighted by cells and by channels (Kalantidis, Mellina and Osindero 2016)."""
  channels = compute_channel_weights(seen.features, seen.mask, seen.settings.crow_epsilon)
  by_channels = seen.settings.crow_weights == "channels"
  cells = None if by_channels else compute_spatial_weights(seen.features, seen.mask)
  return pool_sum(seen.features, seen.mask, cells, channels)


def pool_mac(seen: Seen) -> Vectors:
  """MAC: the maximum of each channel (Tolias, Sicre and Jegou 2016)."""
  return pool_max(seen.features, seen.mask)


def pool_regions(seen: Seen) -> Vectors:
  """R-MAC: the maxima in each region of a grid (Tolias, Sicre and Jegou 2016)."""
  return pool_rmac(seen.features, seen.mask)


def pool_generalized(seen: Seen) -> Vectors:
  """GeM: the generalized mean, of exponent 3 (Radenovic, Tolias and Chum 2019)."""
  return pool_gem(seen.features, seen.mask)


def pool_classes_and_regions(seen: Seen) -> Vectors:
  """Class weights and regions: the vectors of the most probable classes, then R-MAC's of the same map."""
  return jnp.concatenate([pool_classes(seen, seen.class_ids), pool_rmac(seen.features, seen.mask)], axis=1)


_SPOC_NOTE = "its layer is a reading; maps by pools that floor, 36x36 of 586 pixels"
_NATIVE_NOTE = "native size, but at most 1024 pixels (no image of Oxford and Paris has more)"
_CROW, _CLASSES = ("crow_weights", "crow_epsilon"), ("empty_maps",)

SYSTEMS = {
  "raw": System("raw sum pooling", "vgg16_cam", "features", PAPER, CELLS, pool_raw, plain=True),
  "raw_cw": System("raw + channel weights", "vgg16_cam", "features", PAPER, CELLS, pool_channels, plain=True),
  "spoc": System("SPoC", "vgg19", "last", SQUARE, "spoc_query", pool_spoc, 256, note=_SPOC_NOTE),
  "ucrow": System("uCroW", "vgg16", "pooled", NATIVE, BOX, pool_raw, 256, box="crow_box", note=_NATIVE_NOTE),
  "crow": System("CroW", "vgg16", "pooled", NATIVE, BOX, pool_crow, box="crow_box", vary=_CROW, note=_NATIVE_NOTE),
  "mac": System("MAC", "vgg16", "pooled", NATIVE, BOX, pool_mac),
  "rmac": System("R-MAC", "vgg16", "pooled", NATIVE, BOX, pool_regions, regions=True),
  "gem": System("GeM", "any", "last", NATIVE, BOX_IN_PROPORTION, pool_generalized),
  "cwr": System(
    *("class weights and regions", "any", "features", PAPER, CELLS, pool_classes_and_regions),
    vary=("empty_maps", "num_classes"),
    regions=True,
    uses_classes=True,
    num_last=REGIONS,
    note="ours: the unit descriptors of OfA and of R-MAC on the same map, added; one whitening fitted on both's vectors",
  ),
  "ofa": System("class-weighted, offline (OfA)", "vgg16_cam", "features", PAPER, CELLS, None, classes="own", vary=_CLASSES),
  "ona": System("class-weighted, online (OnA)", "vgg16_cam", "features", PAPER, CELLS, None, classes="query", vary=_CLASSES),
  "fixed": System("class-weighted, a fixed list", "vgg16_cam", "features", PAPER, CELLS, None, classes="listed", vary=_CLASSES),
}
"""By name."""


def pool_classes(seen: Seen, class_ids: Int[Array, "b n"]) -> Float[Array, "b n k"]:
  """The vectors of classes (METHOD 2.1 to 2.3), of unit length, zero where there is none.

  Under `empty_maps=divided` a map is divided by its maximum in the whole image, before its ReLU (METHOD 7.11).
  """
  if seen.settings.empty_maps == "no_vector":
    return seen.encoder.pool_classes(seen.activations, class_ids, seen.mask)
  class_weights = jnp.moveaxis(seen.encoder.network.class_weights[:, class_ids], 0, 1)
  maps = cams.compute_cams(seen.activations.cam_features, class_weights, seen.activations.mask, relu_first=False)
  channel_weights = compute_channel_weights(seen.features, seen.mask)
  return pool_class_vectors(seen.features, maps, channel_weights, seen.mask)


def pool_vectors(system: System, seen: Seen) -> Float[Array, "b r k"]:
  """Unit vectors of a system that pools; one an image if it pools into one."""
  pooled = system.pool(seen)
  return pooled if pooled.ndim == 3 else l2_normalize(pooled)[:, None]
