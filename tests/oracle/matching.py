"""METHOD 4b: matching places of a query and one answer, by loops over cells, matches and transformations.

Cosines, matrices and tolerances are whole numbers of 1/4096 (METHOD 4b.2). Among equals the first in row order, or in the
order of the settings, wins (METHOD 4b.3).
"""

import math

import numpy as np

from tests.oracle.encoding import normalize

STEPS = 4096


def describe_cells(features, whitening=None, mask=None) -> np.ndarray:
  """Step 1: each cell l2, `(x - mean) projection`, l2; zero outside the mask. `whitening` is (mean, projection), or None."""
  features = np.asarray(features, np.float64)
  projection = np.eye(features.shape[-1]) if whitening is None else np.asarray(whitening[1], np.float64)
  result = np.zeros((*features.shape[:-1], projection.shape[1]))
  for cell in np.ndindex(features.shape[:-1]):
    if (mask is None or mask[cell]) and any(features[cell]):
      vector = normalize(features[cell])
      result[cell] = normalize(vector if whitening is None else (vector - np.asarray(whitening[0], np.float64)) @ projection)
  return result


def select_cells(cams, mask, min_cam) -> np.ndarray:
  """Step 1 of a query: the cells of the mask whose mean map is at least `min_cam` of the largest mean."""
  means = {cell: sum(map(float, cams[cell])) for cell in np.ndindex(mask.shape) if mask[cell]}
  largest = max(means.values(), default=0.0)
  return np.array([[mask[row, column] and means[row, column] >= min_cam * largest for column in range(mask.shape[1])]
                   for row in range(mask.shape[0])])


def list_matches(query_cells, query_mask, answer_cells, answer_mask, settings) -> list:
  """Step 2: (cosine in steps, query's (row, column), answer's) of the best mutual nearest neighbors, the best first."""

  def list_valid(cells, mask):
    return [cell for cell in np.ndindex(mask.shape) if mask[cell] and np.isfinite(cells[cell]).all()]

  ours, theirs = list_valid(query_cells, query_mask), list_valid(answer_cells, answer_mask)
  cosines = {
    (one, other): round(STEPS * float(np.dot(np.float64(query_cells[one]), np.float64(answer_cells[other]))))
    for one in ours
    for other in theirs
  }
  matches = []
  for one in ours:
    nearest = max(theirs, key=lambda other: cosines[one, other], default=None)  # the first of equal ones
    if nearest is None or cosines[one, nearest] < settings.min_cosine * STEPS:
      continue
    if max(ours, key=lambda back: cosines[back, nearest]) == one:
      matches.append((cosines[one, nearest], one, nearest))
  return sorted(matches, key=lambda match: -match[0])[: settings.max_matches]  # stable


def list_agreeing(matches, settings) -> list[int]:
  """Step 3: the matches that agree with the best transformation."""
  best, best_votes = [], (0, 0)
  for degrees in settings.rotations:
    for scale in settings.scales:
      cosine = round(STEPS * scale * math.cos(math.radians(degrees)))
      sine = round(STEPS * scale * math.sin(math.radians(degrees)))
      tolerance = settings.tolerance * max(1, scale) * STEPS
      moved = [(cosine * x - sine * y, sine * x + cosine * y) for _, (y, x), _ in matches]
      offsets = [(STEPS * x - u, STEPS * y - v) for (_, _, (y, x)), (u, v) in zip(matches, moved, strict=True)]
      for right, down in offsets:
        near = [n for n, (u, v) in enumerate(offsets) if abs(u - right) <= tolerance and abs(v - down) <= tolerance]
        votes = len(near), sum(matches[n][0] for n in near)
        if votes > best_votes:
          best, best_votes = near, votes
  return best


def match_places(query_cells, query_mask, answer_cells, answer_mask, settings) -> dict:
  """Steps 2 to 4 of one answer: what `Matches` holds of it."""
  matches = list_matches(query_cells, query_mask, answer_cells, answer_mask, settings)
  agreeing = list_agreeing(matches, settings)
  missing = [0] * (settings.max_matches - len(matches))

  def bound(cells):
    rows, columns = [row for row, _ in cells], [column for _, column in cells]
    return [min(columns), min(rows), max(columns) + 1, max(rows) + 1] if cells else [0, 0, 0, 0]

  return {
    "places": len(agreeing),
    "query_boxes": bound([matches[n][1] for n in agreeing]),
    "answer_boxes": bound([matches[n][2] for n in agreeing]),
    "query_positions": [[column, row] for _, (row, column), _ in matches] + [[0, 0] for _ in missing],
    "answer_positions": [[column, row] for _, _, (row, column) in matches] + [[0, 0] for _ in missing],
    "agrees": [n in agreeing for n in range(settings.max_matches)],
    "cosines": [cosine / STEPS for cosine, _, _ in matches] + missing,
  }
