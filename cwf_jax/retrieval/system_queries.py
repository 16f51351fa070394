"""Queries of an index whose system is another than OfA: seen as the system sees them (METHOD 2b)."""

import jax
import numpy as np

from cwf_jax.encoder import Encoder
from cwf_jax.extraction.passes import encode_system, pooled_column, see_query
from cwf_jax.images.canvases import stack
from cwf_jax.images.queries import ImageLike, fit_query, read_pixels
from cwf_jax.protocol import Box
from cwf_jax.queries import Query, classify
from cwf_jax.systems import queries
from cwf_jax.systems.settings import Settings
from cwf_jax.systems.system import SYSTEMS


def encode_system_query(
  encoder: Encoder, image: ImageLike, box: Box | None, system: str, settings: Settings, num_classes: int
) -> Query:
  """Encodes a query by the functions that an evaluation uses. Without a box this is the very program that indexes.

  Args:
    encoder: of the index.
    image: see `read_pixels`.
    box: (left, top, right, bottom) in pixels of the upright image, or None.
    system: the name of one that pools.
    settings: of the system.
    num_classes: the most probable classes that the index's program finds.

  Raises:
    InputError: see `read_pixels`.
    BoxError: see `check_box`.
  """
  pixels = read_pixels(image)
  photograph = fit_query(pixels, box, encoder.settings.protocol)
  if box is None:
    images, sizes = stack([photograph.whole], photograph.whole.canvas, 1)
    vectors, ids, probabilities = jax.device_get(encode_system(encoder, images, sizes, system, settings, num_classes))
  else:
    read = queries.read_box(box, "corners", pixels.shape[:2], settings)
    fitted = queries.fit_query(pixels, read, SYSTEMS[system].query_rule(settings), encoder.settings.protocol)
    (vectors,) = see_query(encoder, fitted, (pooled_column(system, settings),), settings).values()
    ids, probabilities = jax.device_get(classify(encoder, *stack([photograph.crop], photograph.crop.canvas, 1), num_classes))
  return Query(ids[0], np.zeros((0, vectors.shape[-1]), np.float32), probabilities[0], photograph, vectors[0])
