"""METHOD 2b and 7.11: each system from an image's maps to its descriptor, a query's box on the cells, and the
ranking."""

import math

import numpy as np

from tests.oracle import average_precision, encoding, grid, pooling, whitening


def pool(name: str, features, mask, by_channels_alone: bool = False, epsilon: float = 0.0) -> np.ndarray:
  """The vectors [b r k] of a system that pools; several of an image for R-MAC alone: those of its regions.

  Args:
    name: of the system.
    features: of its map.
    mask: the cells inside the image, and of a query inside its box.
    by_channels_alone: METHOD 7.0: what the published comparison calls CroW.
    epsilon: of the paper of CroW.
  """
  if name == "rmac":
    boxes = [grid.list_boxes_inside(one) for one in mask]
    pooled = [pooling.pool_boxes(features[b : b + 1], [own])[0] for b, own in enumerate(boxes)]
    result = np.zeros((len(features), max(map(len, pooled)), np.shape(features)[3]))
    for b, vectors in enumerate(pooled):
      result[b, : len(vectors)] = vectors
    return result
  if name == "mac":
    rows = pooling.pool_max(features, mask)
  elif name == "gem":
    rows = pooling.pool_gem(features, mask)
  else:
    cells = channels = None
    if name == "spoc":
      cells = encoding.compute_center_weights(np.shape(features)[:3], mask)
    elif name == "crow":
      channels = encoding.compute_channel_weights(features, mask, epsilon)
      cells = None if by_channels_alone else encoding.compute_spatial_weights(features, mask)
    elif name == "raw_cw":
      channels = encoding.compute_channel_weights(features, mask)
    elif name not in ("raw", "ucrow"):
      raise ValueError(name)
    rows = encoding.pool_sum(features, mask, cells, channels)
  return encoding.normalize(rows)[:, None]


def pool_classes(features, cam_features, class_weights, class_ids, mask, whole=None, divided: bool = False) -> np.ndarray:
  """The vectors [b n k] of the classes of each image.

  Args:
    features, cam_features: X and A.
    class_weights: W [d c].
    class_ids: of each image.
    mask: the cells that count: of the image, or of a query's box.
    whole: the cells of the whole image.
    divided: METHOD 7.11: a CAM of the whole image is divided by its maximum before its ReLU.
  """
  weights = np.asarray(class_weights, np.float64)
  own = np.stack([weights[:, chosen] for chosen in class_ids])
  if divided:
    maps = _divide(cam_features, own, mask if whole is None else whole)
  else:
    maps = encoding.compute_cams(cam_features, own, mask)
  return encoding.pool_class_vectors(features, maps, encoding.compute_channel_weights(features, mask), mask)


def _divide(cam_features, own, whole) -> np.ndarray:
  """Maps over their maximum, negative or not, then ReLU; zero where the maximum is zero, which is no number."""
  cam_features = np.asarray(cam_features, np.float64)
  result = np.zeros((*cam_features.shape[:3], own.shape[2]))
  for b, cells in enumerate(encoding.list_cells(whole, cam_features.shape[:3])):
    for c in range(own.shape[2]):
      values = {cell: float(cam_features[b][cell] @ own[b][:, c]) for cell in cells}
      largest = max(values.values())
      for cell, value in values.items():
        result[b][cell][c] = max(value / largest, 0.0) if largest else 0.0
  return result


def fill(vectors) -> np.ndarray:
  """METHOD 7.11: where there is no number, the previous row stands; a zero row is what there is none of."""
  result = np.array(vectors, np.float64)
  for image in result:
    for place in range(1, len(image)):
      if not any(image[place]):
        image[place] = image[place - 1]
  return result


def describe(vectors, fitted=None, filled: bool = False) -> np.ndarray:
  """Whitened by (mean, projection), or not; summed; l2."""
  moved = np.asarray(vectors, np.float64) if fitted is None else whitening.apply(*fitted, vectors)
  return encoding.aggregate(fill(moved) if filled else moved)


def fit(vectors, dimensions: int, floor: float = 1e-8) -> tuple[np.ndarray, np.ndarray]:
  """A whitening of all vectors of all images."""
  return whitening.fit(np.reshape(vectors, (-1, np.shape(vectors)[-1])), dimensions, floor)


def choose_fixed(query_classes, count: int) -> list[int]:
  """The classes that most queries have among theirs; of equals the lower number."""
  votes = {}
  for row in query_classes:
    for one in row:
      votes[int(one)] = votes.get(int(one), 0) + 1
  return sorted(votes, key=lambda one: (-votes[one], one))[:count]


def lay_box(box, original, resized, stride: int = 16) -> tuple[int, int, int, int]:
  """METHOD 3: the box scaled with the image; left and top down, right and bottom up, clipped, at least one cell."""
  rows, columns = resized[0] // stride, resized[1] // stride
  left, right = (side * resized[1] / original[1] / stride for side in (box[0], box[2]))
  top, bottom = (side * resized[0] / original[0] / stride for side in (box[1], box[3]))
  left, top = min(max(math.floor(left), 0), columns - 1), min(max(math.floor(top), 0), rows - 1)
  return left, top, max(left + 1, min(math.ceil(right), columns)), max(top + 1, min(math.ceil(bottom), rows))


def rank(scores, order) -> list[list[int]]:
  """The rows of each query, best first; equal ones in the order given, and what is no number last."""
  ranked = []
  for row in np.asarray(scores, np.float64):
    keys = [(math.inf if math.isnan(score) else -score, order[number], number) for number, score in enumerate(row)]
    ranked.append([number for _, _, number in sorted(keys)])
  return ranked


def measure(scores, order, positive, junk) -> list[float]:
  """The average precision of each query; rows padded with -1."""
  lists = [([row for row in rows if row >= 0] for rows in pair) for pair in zip(positive, junk, strict=True)]
  return [average_precision.average_precision(ranked, *pair) for ranked, pair in zip(rank(scores, order), lists, strict=True)]
