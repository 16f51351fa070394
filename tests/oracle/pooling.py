"""METHOD 2b.6 to 2b.8, MAC, R-MAC and GeM, and the vectors of boxes of METHOD 4.2: from activations to vectors."""

import numpy as np

from tests.oracle import grid
from tests.oracle.encoding import compute_channel_weights, list_cells, normalize, pool_class_vectors


def pool_max(features, mask=None) -> np.ndarray:
  """MAC: the maximum of each channel; zero where no cell counts."""
  features = np.asarray(features, np.float64)
  result = np.zeros((features.shape[0], features.shape[3]))
  for b, cells in enumerate(list_cells(mask, features.shape[:3])):
    for k in range(features.shape[3]):
      result[b, k] = max((features[b][cell][k] for cell in cells), default=0.0)
  return result


def pool_gem(features, mask=None, exponent=3.0) -> np.ndarray:
  """GeM: `(mean max(x, 1e-6)^p)^(1/p)`; zero where no cell counts."""
  features = np.asarray(features, np.float64)
  result = np.zeros((features.shape[0], features.shape[3]))
  for b, cells in enumerate(list_cells(mask, features.shape[:3])):
    for k in range(features.shape[3]):
      powers = [max(features[b][cell][k], 1e-6) ** exponent for cell in cells]
      if powers:
        result[b, k] = (sum(powers) / len(powers)) ** (1 / exponent)
  return result


def pool_boxes(features, boxes) -> np.ndarray:
  """Of each box (left, top, right, bottom) of each image the maximum of each channel, then l2; zero where it is empty."""
  features = np.asarray(features, np.float64)
  result = np.zeros((len(boxes), len(boxes[0]), features.shape[3]))
  for b in range(len(boxes)):
    for r, (left, top, right, bottom) in enumerate(boxes[b]):
      cells = [features[b, i, j] for i in range(top, bottom) for j in range(left, right)]
      if cells:
        result[b, r] = np.stack(cells).max(0)
  return normalize(result)


def sum_rmac(features, mask=None) -> np.ndarray:
  """R-MAC without its whitening: the regions of the grid, each max -> l2; sum -> l2."""
  features = np.asarray(features, np.float64)
  mask = np.ones(features.shape[:3], bool) if mask is None else mask
  result = np.zeros((features.shape[0], features.shape[3]))
  for b in range(len(features)):
    boxes = grid.list_boxes_inside(mask[b])
    if boxes:
      result[b] = pool_boxes(features[b : b + 1], [boxes])[0].sum(0)
  return normalize(result)


def pool_region_vectors(features, cams, boxes, mask=None) -> np.ndarray:
  """METHOD 4.2: the class vectors inside each box; channel weights are computed inside the cut (METHOD 3)."""
  images, rows, columns, channels = np.shape(features)
  result = np.zeros((images, np.shape(boxes)[1], np.shape(cams)[3], channels))
  for b in range(images):
    for t, (left, top, right, bottom) in enumerate(boxes[b]):
      inside = [[left <= j < right and top <= i < bottom for j in range(columns)] for i in range(rows)]
      cut = [[[inside[i][j] and (mask is None or bool(mask[b][i][j])) for j in range(columns)] for i in range(rows)]]
      weights = compute_channel_weights(features[b : b + 1], cut)
      result[b, t] = pool_class_vectors(features[b : b + 1], cams[b : b + 1], weights, cut)[0]
  return result
