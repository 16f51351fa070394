"""METHOD 4.2, the regions: the bounding box of the largest connected component above each threshold, by flood fill."""

import numpy as np


def fill(inside, start) -> list[tuple[int, int]]:
  """The cells that are 8-connected to a first one within a mask."""
  rows, columns = len(inside), len(inside[0])
  found, waiting = {start}, [start]
  while waiting:
    i, j = waiting.pop()
    for neighbor in [(i + di, j + dj) for di in (-1, 0, 1) for dj in (-1, 0, 1)]:
      within = 0 <= neighbor[0] < rows and 0 <= neighbor[1] < columns
      if within and inside[neighbor[0]][neighbor[1]] and neighbor not in found:
        found.add(neighbor)
        waiting.append(neighbor)
  return sorted(found)


def list_components(inside) -> list[list[tuple[int, int]]]:
  """The components of a mask, in row order of their first cells."""
  components, known = [], set()
  for i in range(len(inside)):
    for j in range(len(inside[0])):
      if inside[i][j] and (i, j) not in known:
        components.append(fill(inside, (i, j)))
        known.update(components[-1])
  return components


def find_regions(heatmaps, thresholds, strict=True) -> np.ndarray:
  """Of each map and threshold the box (left, top, right, bottom) of the component with the most cells, the first of equal
  ones; zeros where there is none. A threshold is the float32 product of its fraction and the map's maximum."""
  heatmaps = np.asarray(heatmaps, np.float32)
  result = np.zeros((len(heatmaps), len(thresholds), 4), int)
  for b, heatmap in enumerate(heatmaps):
    largest = np.float32("nan") if np.isnan(heatmap).any() else heatmap.max()
    if not largest > 0:
      continue
    for t, threshold in enumerate(thresholds):
      limit = np.float32(threshold) * largest
      inside = [[bool(value > limit if strict else value >= limit) for value in row] for row in heatmap]
      best = max(list_components(inside), key=len, default=None)  # the first of equal ones
      if best:
        rows, columns = [i for i, _ in best], [j for _, j in best]
        result[b, t] = min(columns), min(rows), max(columns) + 1, max(rows) + 1
  return result
