"""Random crops, mirror images, colors and mosaics, on the device.

Teacher and student see what comes out of here: the same crop, the same colors.

A crop is resampled with the triangle filter, widened where it shrinks, as Pillow's `resize(..., BILINEAR, box=box)` does it:
one product over the rows and one over the columns, so a batch of any sizes is two einsums.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from cwf_jax.training.settings import TrainingSettings


def augment(
  key: PRNGKeyArray, images: UInt8[Array, "b H W 3"], sizes: Int[Array, "b 2"], side: int, settings: TrainingSettings
) -> Float[Array, "b side side 3"]:
  """A random view of each image.

  Args:
    key: decides everything.
    images: each at the upper left of its canvas.
    sizes: (height, width) of each.
    side: pixels a side of the views.
    settings: `area`, `aspect`, `jitter` and `mosaic`.

  Returns:
    Pixels from 0 to 255, RGB.
  """
  crop_key, flip_key, color_key, mosaic_key = jax.random.split(key, 4)
  boxes = draw_boxes(crop_key, sizes, settings.area, settings.aspect)
  flips = jax.random.bernoulli(flip_key, shape=(len(images),))
  crops = jitter_colors(color_key, crop_boxes(images, sizes, boxes, side, flips), settings.jitter)
  return mix_mosaics(mosaic_key, crops, settings.mosaic) if settings.mosaic else crops


def draw_boxes(
  key: PRNGKeyArray, sizes: Int[Array, "b 2"], area: tuple[float, float], aspect: tuple[float, float]
) -> Float[Array, "b 4"]:
  """Boxes (top, left, height, width) inside the images: a uniform share of the area, a log-uniform ratio of the sides.

  A side that would be longer than the image's is cut to it.
  """
  keys = jax.random.split(key, 3)
  count = len(sizes)
  extent = sizes.astype(jnp.float32)
  share = jax.random.uniform(keys[0], (count,), minval=area[0], maxval=area[1])
  ratio = jnp.exp(jax.random.uniform(keys[1], (count,), minval=jnp.log(aspect[0]), maxval=jnp.log(aspect[1])))
  pixels = share * extent[:, 0] * extent[:, 1]
  wanted = jnp.sqrt(jnp.stack([pixels / ratio, pixels * ratio], 1))
  lengths = jnp.minimum(wanted, extent)
  starts = jax.random.uniform(keys[2], (count, 2)) * (extent - lengths)
  return jnp.concatenate([starts, lengths], 1)


def crop_boxes(
  images: UInt8[Array, "b H W 3"],
  sizes: Int[Array, "b 2"],
  boxes: Float[Array, "b 4"],
  side: int,
  flips: Bool[Array, "b"] | None = None,
) -> Float[Array, "b side side 3"]:
  """Cuts out boxes (top, left, height, width) and resamples them to squares; mirrored where `flips` says so."""
  rows = _resampling(boxes[:, 0], boxes[:, 2], sizes[:, 0], side, images.shape[1])
  columns = _resampling(boxes[:, 1], boxes[:, 3], sizes[:, 1], side, images.shape[2])
  if flips is not None:
    columns = jnp.where(flips[:, None, None], columns[:, ::-1], columns)
  pixels = images.astype(jnp.float32)
  lines = jnp.einsum("bhwc,byh->bywc", pixels, rows, precision=lax.Precision.HIGHEST)
  return jnp.einsum("bywc,bxw->byxc", lines, columns, precision=lax.Precision.HIGHEST)


def jitter_colors(key: PRNGKeyArray, images: Float[Array, "b h w 3"], jitter: float) -> Float[Array, "b h w 3"]:
  """Brightness, then contrast around the mean gray, then saturation, each by a factor of its own."""
  factors = jax.random.uniform(key, (3, len(images), 1, 1, 1), minval=1 - jitter, maxval=1 + jitter)
  brightness, contrast, saturation = factors
  images = jnp.clip(images * brightness, 0, 255)
  gray = _luminance(images)
  mean = gray.mean((1, 2, 3), keepdims=True)
  images = jnp.clip(mean + (images - mean) * contrast, 0, 255)
  gray = _luminance(images)
  return jnp.clip(gray + (images - gray) * saturation, 0, 255)


def mix_mosaics(key: PRNGKeyArray, crops: Float[Array, "b s s 3"], share: float) -> Float[Array, "b s s 3"]:
  """Puts four crops of the batch, at half their size, in the place of a `share` of the crops.

  A network that finds small objects beside others sees them as photographs of shelves and rooms show them, and sharply, also
  where the collection's images are small.
  """
  count = len(crops)
  half = average_blocks(crops, 2)
  quarters = [jnp.roll(half, shift, 0) for shift in range(4)]
  mosaics = jnp.concatenate([jnp.concatenate(quarters[:2], 2), jnp.concatenate(quarters[2:], 2)], 1)
  chosen = jax.random.bernoulli(key, share, (count, 1, 1, 1))
  return jnp.where(chosen, mosaics, crops)


def average_blocks(images: Float[Array, "b h w 3"], factor: int) -> Float[Array, "b h2 w2 3"]:
  """Each block of `factor` x `factor` pixels as one; the sides are multiples of `factor`."""
  count, height, width, channels = images.shape
  return images.reshape(count, height // factor, factor, width // factor, factor, channels).mean((2, 4))


def _luminance(images: Float[Array, "b h w 3"]) -> Float[Array, "b h w 1"]:
  return (images * jnp.asarray((0.299, 0.587, 0.114))).sum(-1, keepdims=True)


def _resampling(
  start: Float[Array, "b"], length: Float[Array, "b"], valid: Int[Array, "b"], count: int, extent: int
) -> Float[Array, "b count extent"]:
  """How much each pixel counts in each of `count` samples of [start, start + length); nothing from `valid` on."""
  scale = length / count
  centers = start[:, None] + (jnp.arange(count) + 0.5) * scale[:, None]
  distance = jnp.abs(jnp.arange(extent) + 0.5 - centers[..., None]) / jnp.maximum(scale, 1.0)[:, None, None]
  weights = jnp.where(jnp.arange(extent) < valid[:, None, None], jnp.maximum(1.0 - distance, 0.0), 0.0)
  return weights / weights.sum(-1, keepdims=True)
