"""From a network as it was trained to one that is used: folded, centered, with its accuracy and a whitening."""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cwf_jax.encoder import Encoder, encode
from cwf_jax.images.canvases import Fitted, stack
from cwf_jax.models import parameters
from cwf_jax.models.network import CamNetwork
from cwf_jax.ops.whitening import Moments, Whitening
from cwf_jax.training import normalization
from cwf_jax.training.augmentation import crop_boxes
from cwf_jax.training.batches import Batch


def finish(network: nnx.Module, network_name: str) -> nnx.Module:
  """Folds batch norm and centers the classifier over the classes: probabilities stay, CAMs cannot all be empty (METHOD 2.1)."""
  plain = normalization.fold(network, network_name)
  arrays = jax.device_get(parameters.list_parameters(plain))
  for path in ("classifier/kernel", "classifier/bias"):
    arrays[path] = arrays[path] - arrays[path].mean(-1, keepdims=True)
  return parameters.with_parameters(plain, arrays)


def measure_accuracy(network: CamNetwork, batches: Iterable[Batch], side: int) -> dict[str, float]:
  """How often the label is the most probable class, and among the five most probable; whole images, `side` pixels a side.

  Images without a label do not count; NaN where none has one.

  Args:
    network: finished.
    batches: of the images.
    side: pixels, a multiple of 32.
  """
  first = among_five = count = 0
  for batch in batches:
    found = np.asarray(_five_most_probable(network, batch.images, batch.sizes, side))
    known = batch.labels >= 0
    right = found[known] == batch.labels[known, None]
    first, among_five, count = first + right[:, 0].sum(), among_five + right.any(1).sum(), count + known.sum()
  return {"top1": float(first / count) if count else float("nan"), "top5": float(among_five / count) if count else float("nan")}


def fit_own_whitening(encoder: Encoder, images: Iterable[Fitted], n_pca: int, batch_size: int) -> tuple[Whitening, int]:
  """Fits on the vectors of each image's `n_pca` most probable classes (METHOD 2.4).

  Args:
    encoder: of the trained network.
    images: of the training pool, at the encoder's sizes.
    n_pca: classes of each.
    batch_size: images in a pass.

  Returns:
    The whitening, and the number of vectors that it was fitted on. It keeps as many dimensions as these bear; see
    `Moments.fit_supported`.

  Raises:
    TooFewVectorsError: there are fewer than six vectors, or all are the same.
    InputError: a vector is not finite.
  """
  channels = encoder.network.config.feature_channels
  moments = Moments.zero(channels)
  waiting: dict[tuple[int, int], list[Fitted]] = {}

  def add(fitted: list[Fitted]) -> None:
    canvas_images, sizes = stack(fitted, fitted[0].canvas, batch_size)
    vectors = encode(encoder, canvas_images, sizes, num_classes=n_pca).class_vectors[: len(fitted)]
    moments.add(np.asarray(vectors).reshape(-1, channels))

  for image in images:
    together = waiting.setdefault(image.canvas, [])
    together.append(image)
    if len(together) == batch_size:
      add(waiting.pop(image.canvas))
  for together in waiting.values():
    add(together)
  return moments.fit_supported(), moments.count


@functools.partial(jax.jit, static_argnames="side")
def _five_most_probable(network, images, sizes, side):
  boxes = jnp.concatenate([jnp.zeros((len(images), 2)), sizes.astype(jnp.float32)], 1)
  pixels = network.config.preprocessing.apply(crop_boxes(images, sizes, boxes, side))
  logits = network(pixels, jnp.full((len(images), 2), side, jnp.int32)).logits
  return jax.lax.top_k(logits, min(5, logits.shape[-1]))[1]
