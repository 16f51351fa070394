"""METHOD section 5: the loop over a ranking of the original `compute_ap`, in float64."""

import math


def average_precision(ranked, positive, junk) -> float:
  """Trapezoids of precision over recall, one row of the ranking after another; NaN where nothing is positive."""
  positive, junk = set(positive), set(junk)
  if not positive:
    return math.nan
  old_recall, old_precision, area = 0.0, 1.0, 0.0
  hits = seen = 0
  for row in ranked:
    if row in junk:
      continue
    seen += 1
    hits += row in positive
    recall, precision = hits / len(positive), hits / seen
    area += (recall - old_recall) * ((old_precision + precision) / 2.0)
    old_recall, old_precision = recall, precision
  return area
