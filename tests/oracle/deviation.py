"""One check for every test of parity, and a table of how far the product was from the oracle at most."""

import numpy as np

largest: dict[str, tuple[float, float, int]] = {}
"""Of each name: the largest relative deviation, the tolerance it was held to, and the number of comparisons."""


def assert_close(name: str, ours, oracle, tolerance: float) -> None:
  """Fails where `ours` is not finite or is further than `tolerance` from `oracle`, relative to the oracle's maximum.

  Args:
    name: of the quantity, a row of the table at the end of the run.
    ours: the product's result.
    oracle: what it should be, of the same shape; where it is zero throughout, the deviation is absolute.
    tolerance: 0 asks for equality.
  """
  ours, oracle = np.asarray(ours, np.float64), np.asarray(oracle, np.float64)
  assert ours.shape == oracle.shape, f"{name}: the shape is {ours.shape}, the oracle's is {oracle.shape}"
  assert np.isfinite(ours).all(), f"{name}: {np.count_nonzero(~np.isfinite(ours))} values are not finite"
  scale = np.abs(oracle).max(initial=0.0) or 1.0
  deviation = float(np.abs(ours - oracle).max(initial=0.0) / scale)
  merge({name: (deviation, float(tolerance), 1)})
  assert deviation <= tolerance, f"{name}: the largest deviation is {deviation:.2e}, the tolerance {tolerance:.0e}"


def merge(found: dict[str, tuple[float, float, int]]) -> None:
  """Takes in deviations, of this process or of a worker's."""
  for name, (deviation, tolerance, count) in found.items():
    known = largest.get(name, (0.0, 0.0, 0))
    largest[name] = (max(known[0], deviation), max(known[1], tolerance), known[2] + count)


def list_lines() -> list[str]:
  """The table, one line a quantity; nothing where nothing was compared."""
  if not largest:
    return []
  width = max(map(len, largest))
  head = f"{'quantity':{width}}  {'deviation':>9}  {'tolerance':>9}  comparisons"
  return [head] + [
    f"{name:{width}}  {deviation:9.1e}  {tolerance:9.0e}  {count:11d}"
    for name, (deviation, tolerance, count) in sorted(largest.items())
  ]
