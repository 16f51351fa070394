"""What each cell and class of an image gave to a score, from METHOD section 2, steps 2 to 5."""

import math

import numpy as np

from tests.oracle.encoding import list_cells


def share_cells(features, cams, channel_weights, answers, whitening=None, mask=None) -> np.ndarray:
  """Follows every cell's own vector to the descriptor, with the lengths that are divided by held as they are.

  Cell ij adds `CAM_ijc CW X_ij` to class c's vector; of the mean, which is subtracted once a class, it takes the part that
  its map is of all of the map. `whitening` is (mean, projection), or None.
  """
  features, cams, answers = (np.asarray(array, np.float64) for array in (features, cams, answers))
  channel_weights = np.asarray(channel_weights, np.float64)
  images, rows, columns, classes = cams.shape
  result = np.zeros(cams.shape)
  for b, cells in enumerate(list_cells(mask, (images, rows, columns))):
    moved, total = {}, np.zeros(answers.shape[1])
    for c in range(classes):
      given = {(i, j): cams[b, i, j, c] * channel_weights[b] * features[b, i, j] for i, j in cells}
      vector = sum(given.values(), np.zeros(features.shape[3]))
      length = math.sqrt((vector**2).sum())
      if length == 0:
        continue
      given = {cell: value / length for cell, value in given.items()}
      if whitening is not None:
        mean, projection = (np.asarray(array, np.float64) for array in whitening)
        map_sum = sum(cams[b, i, j, c] for i, j in cells)
        given = {(i, j): (value - mean * cams[b, i, j, c] / map_sum) @ projection for (i, j), value in given.items()}
      vector = sum(given.values(), np.zeros(answers.shape[1]))
      length = math.sqrt((vector**2).sum())
      if length == 0:
        continue
      moved[c] = {cell: value / length for cell, value in given.items()}
      total += vector / length
    length = math.sqrt((total**2).sum())
    for c, given in moved.items():
      for (i, j), value in given.items():
        result[b, i, j, c] = (value * answers[b]).sum() / (length or 1.0)
  return result
