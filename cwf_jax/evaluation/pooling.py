"""One forward pass of an image, and the descriptors of every system that can be had from it.

    fits = fit_whitenings(pool_images(encoder, pool, pool.ids, 256), n_pca=1)
    for ids, pooled in pool_images(encoder, collection.listing, collection.images, 256):
      describe(pooled, fits, encoder.whitening, counts=(1, 64, 256))

The whitening is fitted first, on images that are not evaluated; after that an image's class vectors need not be kept.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from cwf_jax.encoder import Encoder, most_probable
from cwf_jax.errors import InputError
from cwf_jax.evaluation.image_source import ImageSource, load_source
from cwf_jax.evaluation.systems import POOLED
from cwf_jax.images.loading import SkippedImage, fill_batches
from cwf_jax.indexing.build import default_batch_size, processors
from cwf_jax.ops.aggregation import aggregate
from cwf_jax.ops.regions import mask_boxes
from cwf_jax.ops.whitening import Moments, TooFewVectorsError, Whitening, apply_whitening

OFA = "ofa"
"""Offline aggregation of class vectors; `ofa64` sums 64."""

PLAIN, WHITENED, OWN = "not whitened", "whitened", "whitened, own"
"""A descriptor as it is; by a whitening fitted on a pool; by the checkpoint's own, which is one of class vectors."""

class Pooled(NamedTuple):
  """What a batch's systems are made from.

  Attributes:
    vectors: [b k] of each system of `POOLED`, of unit length.
    class_vectors: [b n k] of each image's n most probable classes, the most probable first, raw, of unit length or zero.
  """

  vectors: dict[str, Float[np.ndarray, "b k"]]
  class_vectors: Float[np.ndarray, "b n k"]


class Fit(NamedTuple):
  """A whitening and what it was fitted on.

  Attributes:
    whitening: None where there were too few vectors, or all alike.
    vectors: that it was fitted on.
    left_out: vectors that are zero or not finite.
  """

  whitening: Whitening | None
  vectors: int
  left_out: int

  @property
  def dimensions(self) -> int:
    """Of whitened descriptors; 0 without a whitening."""
    return 0 if self.whitening is None else self.whitening.projection.shape[1]


class Key(NamedTuple):
  """Names a kind of descriptor: `raw`, `crow`, `ofa1`, ...; and `PLAIN`, `WHITENED` or `OWN`."""

  system: str
  variant: str


@functools.partial(jax.jit, static_argnames="num_classes")
def pool_systems(encoder: Encoder, images: Any, sizes: Any, num_classes: int, cells: Any = None) -> Pooled:
  """One forward pass as one program a canvas; a network with fewer classes than `num_classes` gives all it has.

  `cells` [b 4] cuts the features to a query's box (METHOD section 3), and the class vectors of the whole image's classes.
  """
  activations = encoder.activate(images, sizes)
  cut = activations.mask if cells is None else activations.mask & mask_boxes(cells, activations.mask.shape[1:])
  vectors = {name: pool(activations.features, cut) for name, pool in POOLED.items()}
  return Pooled(vectors, encoder.pool_classes(activations, most_probable(activations, num_classes), cut))


def pool_images(
  encoder: Encoder,
  source: ImageSource,
  ids: Sequence[str],
  num_classes: int,
  batch_size: int | None = None,
  progress: Callable[[int], Any] | None = None,
) -> Iterator[tuple[tuple[str, ...], Pooled]]:
  """Pools images batch by batch, those of a canvas together, so not in the order of `ids`.

  Gives the ids of a batch and its rows, as many as the batch has places: those after the last id mean nothing. So whatever
  is computed from a batch is one program, too.

  Args:
    encoder: its protocol says at which size.
    source: of the images.
    ids: of the images.
    num_classes: most probable classes of an image whose vectors are wanted; 0 for none.
    batch_size: images on the device at a time; None means what indexing takes.
    progress: called with the number of images of each batch that is done.

  Raises:
    InputError: after the last batch, if images could not be read: they are counted and the first is named.
  """
  batch_size = batch_size or default_batch_size(encoder)
  skipped: list[SkippedImage] = []
  loaded = load_source(source, ids, encoder.settings.protocol, processors(), 2 * batch_size)
  for batch in fill_batches(loaded, batch_size, skipped):
    pooled = jax.device_get(pool_systems(encoder, batch.images, batch.sizes, num_classes))
    yield tuple(file.id for file in batch.files), pooled
    if progress is not None:
      progress(len(batch.files))
  if skipped:
    first = skipped[0]
    raise InputError(f"{len(skipped)} images of {source.root} cannot be read, the first is {first.id}: {first.reason}")


def fit_whitenings(batches: Iterable[tuple[Sequence[str], Pooled]], n_pca: int = 1) -> dict[str, Fit]:
  """Fits each system's whitening on its own vectors of a pool: of `POOLED` and of `OFA`.

  It keeps as many dimensions as the vectors bear; see `Moments.fit_supported`.

  Args:
    batches: of `pool_images`.
    n_pca: most probable classes of each image whose vectors `OFA` is fitted on.
  """
  moments: dict[str, Moments] = {}
  left_out: dict[str, int] = {}
  for ids, pooled in batches:
    class_vectors, count = pooled.class_vectors, len(ids)
    channels = class_vectors.shape[-1]
    vectors = {name: rows[:count] for name, rows in pooled.vectors.items()}
    for name, rows in {**vectors, OFA: class_vectors[:count, :n_pca].reshape(-1, channels)}.items():
      kept = rows[np.isfinite(rows).all(1) & (rows != 0).any(1)]
      moments.setdefault(name, Moments.zero(channels)).add(kept)
      left_out[name] = left_out.get(name, 0) + len(rows) - len(kept)
  fits = {}
  for name, seen in moments.items():
    try:
      whitening = seen.fit_supported()
    except TooFewVectorsError:
      whitening = None
    fits[name] = Fit(whitening, seen.count, left_out[name])
  return fits


def describe(
  pooled: Pooled, fits: Mapping[str, Fit], own: Whitening | None, counts: tuple[int, ...]
) -> dict[Key, Float[np.ndarray, "b d"]]:
  """Every kind of descriptor of a batch.

  Args:
    pooled: of `pool_images`.
    fits: of `fit_whitenings`; a system without one is only given `PLAIN`.
    own: the checkpoint's whitening of class vectors, for `OWN`; None where it has none.
    counts: numbers of classes that are summed, none for none. One that is larger than the number there is sums all.
  """
  whitenings: dict[str, dict[str, Whitening | None]] = {name: {PLAIN: None} for name in (*pooled.vectors, OFA)}
  for name, fit in fits.items():
    if fit.whitening is not None:
      whitenings[name][WHITENED] = fit.whitening
  if own is not None:
    whitenings[OFA][OWN] = own
  found: dict[Key, Any] = {}
  for name, rows in pooled.vectors.items():
    for variant, whitening in whitenings[name].items():
      found[Key(name, variant)] = _describe(rows[:, None], whitening, (1,))[0]
  for variant, whitening in whitenings[OFA].items():
    sums = _describe(pooled.class_vectors, whitening, counts)
    found.update((Key(f"{OFA}{count}", variant), rows) for count, rows in zip(counts, sums, strict=True))
  return jax.device_get(found)


@functools.partial(jax.jit, static_argnames="counts")
def _describe(vectors, whitening, counts) -> list[jax.Array]:
  """Whitened if there is a whitening, and aggregated over the first n of each count."""
  whitened = vectors if whitening is None else apply_whitening(whitening, vectors)
  return [aggregate(whitened[:, :count]) for count in counts]


def describe_images(
  encoder: Encoder,
  source: ImageSource,
  ids: Sequence[str],
  fits: Mapping[str, Fit],
  counts: tuple[int, ...],
  batch_size: int | None = None,
  progress: Callable[[int], Any] | None = None,
) -> dict[Key, Float[np.ndarray, "n d"]]:
  """Every kind of descriptor of all images, rows in the order of `ids`, which names each once."""
  place = {image_id: row for row, image_id in enumerate(ids)}
  found: dict[Key, np.ndarray] = {}
  for names, pooled in pool_images(encoder, source, ids, max(counts, default=0), batch_size, progress):
    rows = [place[name] for name in names]
    for key, descriptors in describe(pooled, fits, encoder.whitening, counts).items():
      found.setdefault(key, np.empty((len(ids), descriptors.shape[1]), np.float32))[rows] = descriptors[: len(rows)]
  return found
