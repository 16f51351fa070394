"""METHOD 5.2 and 5.3: the loop over a ranking of the original `compute_ap`, in float64, and mP@k."""

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


def precision_at(ranked, positive, junk, k: int) -> float:
  """The share of positives in the first `min(rank of the last, k)` rows that are not junk; NaN where none is positive."""
  positive, junk = set(positive), set(junk)
  if not positive:
    return math.nan
  kept = [row for row in ranked if row not in junk]
  ranks = [rank for rank, row in enumerate(kept, 1) if row in positive]
  assert len(ranks) == len(positive), "rankings must be complete"
  first = min(max(ranks), k)
  return sum(rank <= first for rank in ranks) / first
