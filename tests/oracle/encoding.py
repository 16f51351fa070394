"""METHOD 2.1 to 2.5, and the weights and the multi-scale mean of METHOD 2b: from activations to descriptors."""

import math

import numpy as np


def normalize(vectors) -> np.ndarray:
  """Unit rows along the last axis; a zero row stays zero."""
  vectors = np.asarray(vectors, np.float64)
  result = np.zeros_like(vectors)
  for place in np.ndindex(vectors.shape[:-1]):
    length = math.sqrt(sum(float(value) ** 2 for value in vectors[place]))
    if length > 0:
      result[place] = vectors[place] / length
  return result


def list_cells(mask, shape) -> list[list[tuple[int, int]]]:
  """The cells that count, of each image; all where there is no mask."""
  images, rows, columns = shape
  return [
    [(i, j) for i in range(rows) for j in range(columns) if mask is None or bool(mask[b][i][j])] for b in range(images)
  ]


def compute_cams(cam_features, class_weights, mask=None) -> np.ndarray:
  """Step 1: `CAM_c = sum_d A_d W_dc`, ReLU, divided by its maximum; zero where nothing is positive and outside the mask."""
  cam_features, class_weights = np.asarray(cam_features, np.float64), np.asarray(class_weights, np.float64)
  result = np.zeros((*cam_features.shape[:3], class_weights.shape[-1]))
  for b, cells in enumerate(list_cells(mask, cam_features.shape[:3])):
    weights = class_weights if class_weights.ndim == 2 else class_weights[b]
    for c in range(weights.shape[1]):
      values = {cell: float(cam_features[b][cell] @ weights[:, c]) for cell in cells}
      positive = {cell: value for cell, value in values.items() if value > 0}
      for cell, value in positive.items():
        result[b][cell][c] = value / max(positive.values())
  return result


def compute_channel_weights(features, mask=None, epsilon=0.0) -> np.ndarray:
  """Step 2: with Q_k the share of cells where X_k > 0, `CW_k = log(sum_n Q_n / Q_k)`; 0 where Q_k = 0.

  METHOD 2b.5, with an epsilon e: `log((K e + sum Q)/(e + Q_k))`.
  """
  features = np.asarray(features, np.float64)
  images, channels = features.shape[0], features.shape[3]
  result = np.zeros((images, channels))
  for b, cells in enumerate(list_cells(mask, features.shape[:3])):
    shares = [sum(features[b][cell][k] > 0 for cell in cells) / max(len(cells), 1) for k in range(channels)]
    for k in range(channels):
      if epsilon > 0:
        result[b, k] = math.log((channels * epsilon + sum(shares)) / (epsilon + shares[k]))
      elif shares[k] > 0:
        result[b, k] = math.log(sum(shares) / shares[k])
  return result


def compute_spatial_weights(features, mask=None, a=2.0, b=2.0) -> np.ndarray:
  """METHOD 2b.5: `S = sum_k X_k`, `w = (S / (sum S^a)^(1/a))^(1/b)`; 0 where nothing fires and outside the mask."""
  features = np.asarray(features, np.float64)
  result = np.zeros(features.shape[:3])
  for image, cells in enumerate(list_cells(mask, features.shape[:3])):
    sums = {cell: float(features[image][cell].sum()) for cell in cells}
    norm = sum(value**a for value in sums.values()) ** (1 / a)
    for cell, value in sums.items():
      if value > 0:
        result[image][cell] = (value / norm) ** (1 / b)
  return result


def compute_center_weights(shape, mask=None) -> np.ndarray:
  """METHOD 2b.3: `exp(-((y-cy)^2+(x-cx)^2) / (2 s^2))`, `s = min(h, w)/6`, center `((h-1)/2, (w-1)/2)`.

  Where there is a mask, h, w and the places are those of the rectangle of cells that count; zero outside it.
  """
  result = np.zeros(shape)
  for image, cells in enumerate(list_cells(mask, shape)):
    if not cells:
      continue
    top, left = min(i for i, _ in cells), min(j for _, j in cells)
    h, w = max(i for i, _ in cells) - top + 1, max(j for _, j in cells) - left + 1
    s = min(h, w) / 6
    for i, j in cells:
      y, x = i - top - (h - 1) / 2, j - left - (w - 1) / 2
      result[image, i, j] = math.exp(-(y**2 + x**2) / (2 * s**2))
  return result


def pool_sum(features, mask=None, spatial_weights=None, channel_weights=None) -> np.ndarray:
  """METHOD 2b.5: `C_k sum_ij w_ij X_ijk`, with each weight 1 where it is not given."""
  features = np.asarray(features, np.float64)
  result = np.zeros((features.shape[0], features.shape[3]))
  for b, cells in enumerate(list_cells(mask, features.shape[:3])):
    for cell in cells:
      result[b] += features[b][cell] * (1.0 if spatial_weights is None else float(spatial_weights[b][cell]))
    if channel_weights is not None:
      result[b] *= np.asarray(channel_weights[b], np.float64)
  return result


def pool_class_vectors(features, cams, channel_weights, mask=None) -> np.ndarray:
  """Step 3: `f_k^c = CW_k sum_ij X_ijk CAM_ijc`, then l2."""
  features, cams = np.asarray(features, np.float64), np.asarray(cams, np.float64)
  result = np.zeros((features.shape[0], cams.shape[3], features.shape[3]))
  for b, cells in enumerate(list_cells(mask, features.shape[:3])):
    for c in range(cams.shape[3]):
      for cell in cells:
        result[b, c] += features[b][cell] * cams[b][cell][c]
      result[b, c] *= np.asarray(channel_weights[b], np.float64)
  return normalize(result)


def aggregate(class_vectors) -> np.ndarray:
  """Step 5: the sum over the classes, then l2."""
  class_vectors = np.asarray(class_vectors, np.float64)
  result = np.zeros((class_vectors.shape[0], class_vectors.shape[2]))
  for b in range(class_vectors.shape[0]):
    for c in range(class_vectors.shape[1]):
      result[b] += class_vectors[b, c]
  return normalize(result)


def combine_scales(descriptors, exponent=1.0) -> np.ndarray:
  """METHOD 2b.19: the generalized mean over scales, then l2; what is below zero counts as zero if p is not 1."""
  descriptors = np.asarray(descriptors, np.float64)
  scales, images, channels = descriptors.shape
  result = np.zeros((images, channels))
  for b in range(images):
    for k in range(channels):
      values = [float(descriptors[s, b, k]) for s in range(scales)]
      if exponent == 1:
        result[b, k] = sum(values) / scales
      else:
        result[b, k] = (sum(max(value, 0.0) ** exponent for value in values) / scales) ** (1 / exponent)
  return normalize(result)


def aggregate_wanted(class_vectors, class_ids, wanted) -> tuple[np.ndarray, np.ndarray]:
  """Step 5, online: of each image the sum of the classes that each query wants, then l2; and how many it lacks."""
  class_vectors = np.asarray(class_vectors, np.float64)
  images, held, channels = class_vectors.shape
  result, lacking = np.zeros((len(wanted), images, channels)), np.zeros((len(wanted), images), int)
  for q in range(len(wanted)):
    for b in range(images):
      for identifier in wanted[q]:
        places = [n for n in range(held) if class_ids[b][n] == identifier]
        lacking[q, b] += not places
        for n in places:
          result[q, b] += class_vectors[b, n]
  return normalize(result), lacking


def choose_classes(probabilities, n) -> np.ndarray:
  """Each image's n most probable classes, the most probable first; of equal ones the first."""
  return np.array([sorted(range(len(row)), key=lambda c: (-row[c], c))[:n] for row in np.asarray(probabilities, np.float64)])


def encode(features, cam_features, probabilities, class_weights, n, mask=None) -> tuple[np.ndarray, np.ndarray]:
  """Steps 1 to 3 for each image's own n most probable classes: class vectors and their classes."""
  class_ids = choose_classes(probabilities, n)
  own_weights = np.stack([np.asarray(class_weights, np.float64)[:, chosen] for chosen in class_ids])
  cams = compute_cams(cam_features, own_weights, mask)
  return pool_class_vectors(features, cams, compute_channel_weights(features, mask), mask), class_ids
