"""A query: a photograph, or a box in one (METHOD section 3)."""

import dataclasses

import jax
import numpy as np

from cwf_jax.encoder import Encoder, encode
from cwf_jax.images.canvases import stack
from cwf_jax.images.queries import ImageLike, fit_query
from cwf_jax.index.schema import IndexSettings
from cwf_jax.ops.regions import mask_boxes
from cwf_jax.protocol import Box

NO_CLASS = -2
"""Stands after the last class of a padded list."""

_STEP = 16


def pad_count(count: int) -> int:
  """The length to which a list of classes or answers is padded, so that those of different lengths share programs."""
  return max(1, -(-count // _STEP)) * _STEP


@dataclasses.dataclass(frozen=True)
class Query:
  """What is searched for.

  Attributes:
    class_ids: [m], the query's most probable classes, or those of a fixed list.
    class_vectors: [m k], raw and of unit length; zero where a class's map is empty.
  """

  class_ids: np.ndarray
  class_vectors: np.ndarray

  @property
  def strongest_class(self) -> int | None:
    """The first of the classes that is seen anywhere in the query; None if none is."""
    seen = self.class_vectors.any(-1)
    return int(self.class_ids[seen.argmax()]) if seen.any() else None


def encode_query(
  encoder: Encoder,
  settings: IndexSettings,
  image: ImageLike,
  box: Box | None = None,
  classes: tuple[int, ...] | None = None,
) -> Query:
  """Encodes a query as the index's images were encoded.

  The classes are predicted on the box's pixels alone; features and CAMs come from the whole image and are cut to the box's
  cells. Without a box this is the very program that indexes, so an indexed image finds itself with score 1.

  Args:
    encoder: of the index.
    settings: of the index.
    image: a path, the bytes of a file, a Pillow image, or RGB pixels [h w 3] uint8.
    box: in pixels of the upright image.
    classes: a fixed list in place of the most probable classes.

  Raises:
    InputError: see `read_pixels`.
    BoxError: see `check_box`.
  """
  fitted = fit_query(image, box, encoder.settings.protocol)
  images, sizes = stack([fitted.whole], fitted.whole.canvas, 1)
  num_classes = min(settings.num_classes, settings.network_classes)
  if box is None and classes is None:
    encoding = encode(encoder, images, sizes, num_classes=settings.num_encoded, listed=settings.stored.ids)
    ids, vectors = jax.device_get((encoding.class_ids, encoding.class_vectors))
    return Query(ids[0, :num_classes], vectors[0, :num_classes])
  if classes is None:
    classes = tuple(np.asarray(_classify(encoder, *stack([fitted.crop], fitted.crop.canvas, 1), num_classes))[0].tolist())
  padded = np.zeros((1, pad_count(len(classes))), np.int32)
  padded[0, : len(classes)] = classes
  vectors = np.asarray(_pool(encoder, images, sizes, padded, np.asarray([fitted.cells], np.int32)))
  return Query(np.asarray(classes, np.int32), vectors[0, : len(classes)])


_classify = jax.jit(Encoder.classify, static_argnames="num_classes")


@jax.jit
def _pool(encoder: Encoder, images, sizes, class_ids, cells):
  activations = encoder.activate(images, sizes)
  return encoder.pool_classes(activations, class_ids, mask_boxes(cells, activations.mask.shape[1:]))
