"""A query: a photograph, or a box in one, encoded (METHOD 3).

    query = encode_query(encoder, "tower.jpg", box=(40, 30, 400, 380))
    query.class_ids, query.class_vectors      # what it is searched by
    query.probabilities                       # what the network recognizes in the box
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float, Int

from cwf_jax.encoder import Encoder, encode, most_probable
from cwf_jax.images.canvases import stack
from cwf_jax.images.queries import FittedQuery, ImageLike, fit_query
from cwf_jax.ops.regions import mask_boxes
from cwf_jax.protocol import Box

_STEP = 16


def pad_count(count: int) -> int:
  """The length to which a list of classes or answers is padded, so that those of different lengths share programs."""
  return max(1, -(-count // _STEP)) * _STEP


@dataclasses.dataclass(frozen=True, eq=False)
class Query:
  """An encoded query.

  Attributes:
    class_ids: [m], the query's most probable classes, or those of a fixed list.
    class_vectors: [m k], raw and of unit length; zero where a class's map is empty.
    probabilities: [c], of all classes: in the box's pixels, or in the whole photograph where there is no box.
    photograph: the pixels at the sizes at which they are computed.
    system_vectors: [r k], raw: what another system than "ofa" makes of the query; `class_vectors` are empty then.
  """

  class_ids: Int[np.ndarray, "m"]
  class_vectors: Float[np.ndarray, "m k"]
  probabilities: Float[np.ndarray, "c"]
  photograph: FittedQuery
  system_vectors: Float[np.ndarray, "r k"] | None = None

  def list_classes(self, names: Sequence[str], count: int) -> list[tuple[str, float]]:
    """The `count` most probable of all classes, whatever the query is searched by: (name, probability).

    Args:
      names: of all classes, in the order of the network's outputs.
      count: at most this number of classes.
    """
    order = np.argsort(-self.probabilities, kind="stable")[:count]
    return [(names[class_id], float(self.probabilities[class_id])) for class_id in order]

  @property
  def strongest_class(self) -> int | None:
    """The first of the classes whose map is not empty; None if all are. Of another system than "ofa" the most probable one."""
    if self.system_vectors is not None:
      return int(self.class_ids[0])
    present = self.class_vectors.any(-1)
    return int(self.class_ids[present.argmax()]) if present.any() else None


def encode_query(
  encoder: Encoder,
  image: ImageLike,
  box: Box | None = None,
  classes: tuple[int, ...] | None = None,
  *,
  num_encoded: int | None = None,
  listed: tuple[int, ...] = (),
) -> Query:
  """Encodes a query as an index's images are encoded.

  The classes are predicted on the box's pixels alone; features and CAMs come from the whole image and are cut to the box's
  cells. Without a box this is the very program that indexes, so an indexed image finds itself with score 1.

  Args:
    encoder: of the index.
    image: a path, the bytes of a file, a Pillow image, or RGB pixels [h w 3] uint8.
    box: (left, top, right, bottom) in pixels of the upright image, right and bottom exclusive.
    classes: a fixed list in place of the most probable classes.
    num_encoded: the most probable classes that the index's program encodes; those that a descriptor sums if None.
    listed: further classes that the index's program encodes.

  Raises:
    InputError: see `read_pixels`.
    BoxError: see `check_box`.
  """
  photograph = fit_query(image, box, encoder.settings.protocol)
  images, sizes = stack([photograph.whole], photograph.whole.canvas, 1)
  num_classes = min(encoder.settings.protocol.num_classes, len(encoder.settings.classes))
  if box is None:
    encoding = encode(encoder, images, sizes, num_classes=num_encoded or num_classes, listed=listed)
    vectors, ids, probabilities = jax.device_get(encoding)
    if classes is None:
      return Query(ids[0, :num_classes], vectors[0, :num_classes], probabilities[0], photograph)
  else:
    ids, probabilities = jax.device_get(classify(encoder, *stack([photograph.crop], photograph.crop.canvas, 1), num_classes))
  chosen = np.asarray(ids[0, :num_classes] if classes is None else classes, np.int32)
  padded = np.zeros((1, pad_count(len(chosen))), np.int32)
  padded[0, : len(chosen)] = chosen
  vectors = np.asarray(_pool(encoder, images, sizes, padded, np.asarray([photograph.cells], np.int32)))
  return Query(chosen, vectors[0, : len(chosen)], probabilities[0], photograph)


@functools.partial(jax.jit, static_argnames="num_classes")
def classify(encoder: Encoder, images, sizes, num_classes):
  """The most probable classes of images [b n], and the probabilities of all [b c]."""
  activations = encoder.activate(images, sizes)
  return most_probable(activations, num_classes), activations.probabilities


@jax.jit
def _pool(encoder: Encoder, images, sizes, class_ids, cells):
  activations = encoder.activate(images, sizes)
  return encoder.pool_classes(activations, class_ids, mask_boxes(cells, activations.mask.shape[1:]))
