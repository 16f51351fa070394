"""Random activations of a network, with what is degenerate among them."""

import numpy as np

from tests.oracle import encoding


def draw(shape, seed=0):
  """Features of which one channel never fires, maps of which the last is empty, and channel weights."""
  b, i, j, k, c = shape
  random = np.random.default_rng(seed)
  features = np.maximum(random.normal(size=(b, i, j, k)), 0.0).astype(np.float32)
  cams = np.maximum(random.normal(size=(b, i, j, c)), 0.0).astype(np.float32)
  cams /= np.maximum(cams.max((1, 2), keepdims=True), 1e-6)
  if k > 1:
    features[..., -1] = 0.0
  if c > 1:
    cams[..., -1] = 0.0
  return features, cams, encoding.compute_channel_weights(features).astype(np.float32)


def draw_mask(shape, seed=1):
  """Of three images one has no cell inside the mask."""
  mask = np.random.default_rng(seed).random(shape) < 0.6
  if shape[0] == 3:
    mask[1] = False
  return mask


def draw_rectangles(shape, seed=0):
  """Masks of rectangles that lie anywhere; the last of several is empty."""
  random = np.random.default_rng(seed)
  mask = np.zeros(shape, bool)
  for image in mask[: max(len(mask) - 1, 1)]:
    (top, bottom), (left, right) = (sorted(random.choice(side + 1, 2, replace=False)) for side in shape[1:])
    image[top:bottom, left:right] = True
  return mask


def draw_distinct(shape, seed=0):
  """Values of which no two of a channel are nearer than the number of cells allows: the maximum has no kink near them."""
  b, i, j, k = shape
  order = np.random.default_rng(seed).permuted(np.tile(np.arange(i * j), (b, k, 1)), axis=2)
  return np.moveaxis((order + 1.0) / (i * j), 1, 2).reshape(shape).astype(np.float32)
