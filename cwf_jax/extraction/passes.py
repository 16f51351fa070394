"""Forward passes: each image once for a network and a size, whatever is compared, and each query as its system sees it.

    columns = (Column("raw", "raw"), Column("rmac", "rmac"), Column("own64", count=64))
    for names, found in see_images(encoder, images, images.ids, columns, settings):
      store.add(names, ..., found)
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from cwf_jax.encoder import Activations, Encoder, Encoding, most_probable
from cwf_jax.errors import InputError
from cwf_jax.images.canvases import Fitted, stack
from cwf_jax.models.layers import valid_mask
from cwf_jax.ops.regions import mask_boxes
from cwf_jax.ops.whitening import Whitening, apply_whitening
from cwf_jax.problems import count_of
from cwf_jax.protocol import Protocol
from cwf_jax.protocol import fingerprint as fingerprint_of
from cwf_jax.runtime import default_batch_size, processors
from cwf_jax.systems.queries import FittedQuery
from cwf_jax.systems.settings import Settings, SomeSettings
from cwf_jax.systems.system import SYSTEMS, Seen, pool_classes, pool_vectors

if TYPE_CHECKING:
  from cwf_jax.images.image_set import ImageSet
  from cwf_jax.images.loading import SkippedImage

IDS = ".ids"
"""What is put after a column's name for the classes of its vectors."""


class Column(NamedTuple):
  """What is kept of each image.

  Attributes:
    name: under which it is kept.
    system: of `SYSTEMS` that pools; None: the vectors of classes.
    count: of each image's own most probable classes, or 0.
    listed: ids of classes, the same for every image.
  """

  name: str
  system: str | None = None
  count: int = 0
  listed: tuple[int, ...] = ()


def pooled_column(name: str, settings: Settings) -> Column:
  """The vectors of a system that pools."""
  return Column(SYSTEMS[name].column(name, settings), name, settings.num_classes if SYSTEMS[name].uses_classes else 0)


def protocol_of(name: str, encoder: Encoder, settings: Settings) -> Protocol:
  """The sizes at which a system's images are computed, where the encoder's shorter side is the paper's."""
  protocol = SYSTEMS[name].sizes.protocol(settings, encoder.settings.protocol.image_size)
  protocol = dataclasses.replace(protocol, feature_map=encoder.settings.protocol.feature_map)
  config = encoder.network.config
  return protocol.for_network(config.size_multiple, config.stride, config.cam_stride)


@functools.partial(jax.jit, static_argnames=("columns", "settings"))
def see(
  encoder: Encoder,
  images: Any,
  sizes: Any,
  columns: tuple[Column, ...],
  settings: Settings | SomeSettings,
  cells: Any = None,
  class_ids: Any = None,
) -> dict[str, jax.Array]:
  """One forward pass as one program a canvas.

  Args:
    encoder: its protocol is that of the images' sizes.
    images, sizes: as an encoder takes them.
    columns: what is wanted.
    settings: of the evaluation.
    cells: [b 4], of queries that are cut to their boxes.
    class_ids: [b n], of queries whose classes are their crops'; None: the most probable ones.

  Returns:
    Of each column [b r k], and of one of an image's own classes `NAME.ids` [b r], too. Several vectors of an image are in
    float16, as an index keeps them.

  Raises:
    InputError: `cells` are given, which are those of the feature map, and a column's map has other cells.
  """
  activations = encoder.activate(images, sizes, list_taps(encoder, columns))
  return pool_columns(encoder, activations, images, sizes, columns, settings, cells, class_ids)


def list_taps(encoder: Encoder, columns: tuple[Column, ...]) -> tuple[str, ...]:
  """The maps of the network, besides its features, that the columns pool."""
  taps, maps = _taps_of(encoder), {SYSTEMS[column.system].map for column in columns if column.system is not None}
  return tuple(sorted({taps[name] for name in maps if name in taps}))


def _taps_of(encoder: Encoder) -> dict[str, str]:
  config = encoder.network.config
  return {"last": config.last_tap, "pooled": config.pooled_tap}


def pool_columns(
  encoder: Encoder,
  activations: Activations,
  images: Any,
  sizes: Any,
  columns: tuple[Column, ...],
  settings: Settings | SomeSettings,
  cells: Any = None,
  class_ids: Any = None,
) -> dict[str, jax.Array]:
  """As `see`, from activations with the maps of `list_taps`.

  Raises:
    InputError: as `see`.
  """
  taps, found = _taps_of(encoder), {}
  for column in columns:
    name = taps.get("features" if column.system is None else SYSTEMS[column.system].map)
    features = activations.features if name is None else activations.taps[name]
    mask = activations.mask if name is None else _mask_of(features, images, sizes)
    if cells is not None:
      cell = encoder.settings.protocol.cell
      if (stride := _stride_of(features, images)) != cell:
        raise InputError(f"a query is cut to cells of {cell} pixels, and {column.name} pools a map of {stride}: let it see BOX")
      mask = mask & mask_boxes(cells, mask.shape[1:])
    ids = _choose_classes(activations, column, class_ids) if column.count or column.listed else None
    seen = Seen(features, mask, encoder, activations, settings.only(SYSTEMS[column.system or "ofa"].vary), ids)
    if column.system is not None:
      vectors = pool_vectors(SYSTEMS[column.system], seen)
    else:
      vectors = pool_classes(seen, ids)
      if column.count:
        found[column.name + IDS] = ids
    found[column.name] = vectors.astype(jnp.float16) if vectors.shape[1] > 1 else vectors
  return found


def _mask_of(features, images, sizes) -> Bool[jax.Array, "b i j"]:
  """The cells of a map inside its images."""
  return valid_mask(jnp.asarray(sizes) // _stride_of(features, images), features.shape[1:3])


def _stride_of(features, images) -> int:
  """The pixels a cell of a map, a power of two."""
  # A canvas need not be whole cells of it: one of 80 pixels has two of 32.
  return 1 << ((images.shape[1] // features.shape[1]).bit_length() - 1)


def _choose_classes(activations: Activations, column: Column, class_ids: Any) -> jax.Array:
  if column.listed:
    return jnp.broadcast_to(jnp.asarray(column.listed), (len(activations.logits), len(column.listed)))
  return most_probable(activations, column.count) if class_ids is None else class_ids[:, : column.count]


@functools.partial(jax.jit, static_argnames="system")
def describe_vectors(system: str, whitening: Whitening | None, vectors: Any) -> jax.Array:
  """The descriptors [b d] of a system's vectors [b r k], each whitened first."""
  vectors = jnp.asarray(vectors, jnp.float32)
  return SYSTEMS[system].describe(vectors if whitening is None else apply_whitening(whitening, vectors))


@functools.partial(jax.jit, static_argnames=("system", "settings", "num_classes"))
def encode_system(encoder: Encoder, images: Any, sizes: Any, system: str, settings: Settings, num_classes: int) -> Encoding:
  """Encodes images for an index of a system that pools: its vectors and the images' most probable classes.

  Args:
    encoder: its protocol is that of the system's sizes.
    images, sizes: as an encoder takes them.
    system: the name of one that pools.
    settings: of the system.
    num_classes: classes of each image.

  Returns:
    An `Encoding` whose `class_vectors` are the system's vectors [b r k], raw.
  """
  columns = (pooled_column(system, settings),)
  activations = encoder.activate(images, sizes, list_taps(encoder, columns))
  (vectors,) = pool_columns(encoder, activations, images, sizes, columns, settings).values()
  return Encoding(vectors, most_probable(activations, num_classes), activations.probabilities)


def see_images(
  encoder: Encoder,
  images: "ImageSet",
  ids: Sequence[str],
  columns: tuple[Column, ...],
  settings: Settings,
  batch_size: int | None = None,
  progress: Callable[[int], Any] | None = None,
  unreadable: "list[SkippedImage] | None" = None,
) -> Iterator[tuple[tuple[str, ...], dict[str, np.ndarray]]]:
  """Passes of images, those of a canvas together, so not in the order of `ids`; see `see`.

  Args:
    encoder: its protocol is that of the images' sizes.
    images: of which `ids` are some.
    ids: of the images.
    columns: what is wanted.
    settings: of the evaluation.
    batch_size: images on the device at a time; None means what indexing takes.
    progress: called with the number of images of each batch that is done.
    unreadable: takes the images that cannot be read; None: there should be none.

  Raises:
    InputError: after the last batch, if images could not be read: they are counted and the first is named.
  """
  batch_size = batch_size or default_batch_size(encoder.settings.protocol)
  from cwf_jax.images.loading import fill_batches  # grain, which a search does not need

  skipped: list[SkippedImage] = [] if unreadable is None else unreadable
  loaded = images.load(ids, encoder.settings.protocol, processors(), 2 * batch_size)
  encoder, own = jax.device_put(encoder), _relevant(columns, settings)
  for batch in fill_batches(loaded, batch_size, skipped):
    count = len(batch.files)
    found = jax.device_get(see(encoder, batch.images, batch.sizes, columns, own))
    yield tuple(file.id for file in batch.files), {name: rows[:count] for name, rows in found.items()}
    if progress is not None:
      progress(count)
  if skipped and unreadable is None:
    first, told = skipped[0], count_of(skipped, "image", "images")
    raise InputError(f"{told} of {images.root} cannot be read, the first is {first.id}: {first.reason}")


def see_query(
  encoder: Encoder, query: FittedQuery, columns: tuple[Column, ...], settings: Settings
) -> dict[str, np.ndarray]:
  """A query's pass, [1 r k] of each column; its classes are those of its box alone (METHOD 3)."""
  class_ids = None
  if query.crop is not None:
    count = max(column.count for column in columns)
    class_ids = _classify(encoder, *_stack(query.crop), count) if count else None
  cells = None if query.cells is None else np.asarray([query.cells], np.int32)
  return jax.device_get(see(encoder, *_stack(query.seen), columns, _relevant(columns, settings), cells, class_ids))


def _relevant(columns: tuple[Column, ...], settings: Settings) -> SomeSettings:
  """The settings that the columns depend on: with others a program need not be compiled again."""
  return settings.only(sorted({name for column in columns for name in SYSTEMS[column.system or "ofa"].vary}))


def _stack(fitted: Fitted):
  return stack([fitted], fitted.canvas, 1)


_classify = jax.jit(Encoder.classify, static_argnames="num_classes")


def with_protocol(encoder: Encoder, protocol: Protocol) -> Encoder:
  """The encoder at other sizes."""
  preprocessing = encoder.network.config.preprocessing
  if protocol.reversed_means:
    preprocessing = preprocessing.with_means_reversed()
  own = encoder.settings
  fingerprint = fingerprint_of(own.weights_sha256, dataclasses.asdict(preprocessing), own.tap, protocol)
  settings = dataclasses.replace(own, protocol=protocol, preprocessing=preprocessing, fingerprint=fingerprint)
  return dataclasses.replace(encoder, settings=settings)
