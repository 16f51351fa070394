"""METHOD 2.4: PCA-whitening, by the singular values of the centered vectors."""

import numpy as np

from tests.oracle.encoding import normalize


def fit(vectors, dimensions: int, floor: float) -> tuple[np.ndarray, np.ndarray]:
  """The mean and the projection, in float64; `floor` is the least eigenvalue as a part of the largest."""
  rows = np.stack([row for row in np.asarray(vectors, np.float64) if any(row)])
  mean = np.zeros(rows.shape[1])
  for row in rows:
    mean += row / len(rows)
  _, singular, directions = np.linalg.svd(rows - mean)
  eigenvalues = np.zeros(rows.shape[1])
  eigenvalues[: len(singular)] = singular**2 / len(rows)
  projection = np.zeros((rows.shape[1], dimensions))
  for d in range(dimensions):
    sign = 1.0 if directions[d][np.abs(directions[d]).argmax()] > 0 else -1.0
    projection[:, d] = sign * directions[d] / np.sqrt(max(eigenvalues[d], floor * eigenvalues[0]))
  return mean, projection


def apply(mean, projection, vectors) -> np.ndarray:
  """`(x - mean) projection`, then l2; a zero row stays zero."""
  vectors = np.asarray(vectors, np.float64)
  result = np.zeros((*vectors.shape[:-1], np.shape(projection)[1]))
  for place in np.ndindex(vectors.shape[:-1]):
    if any(vectors[place]):
      result[place] = (vectors[place] - mean) @ np.asarray(projection, np.float64)
  return normalize(result)
