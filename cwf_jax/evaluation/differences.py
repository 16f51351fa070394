"""What one row gains over another, and one run over another: differences with intervals, by a paired bootstrap over queries.

    compare(measured).differences[0].interval    # (0.051, 0.045, 0.058)
"""

import re
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool

from cwf_jax.errors import printable
from cwf_jax.evaluation.bootstrap import paired_bootstrap
from cwf_jax.evaluation.cells import Row
from cwf_jax.evaluation.results import Comparison, Difference, Measured, OtherRun, Report, mean_of, system_of
from cwf_jax.evaluation.systems import SYSTEMS

SAMPLES = 10_000
"""Of the bootstrap."""

_OF_ONE_RUN = ("command", "preset", "measured", "working directory", "folders")
"""Of the head: when, where and how it was called; settings are compared one by one."""


def compare(measured: Measured, samples: int = SAMPLES, seed: int = 0) -> Comparison:
  """What class weighting gains over pooling: each such row with each other one.

  Whitened is compared with whitened, and not whitened with not whitened.
  """
  metric = next(iter(measured.metrics), "")
  run = [row for row in measured.rows if row.was_run and mean_of(row, metric) is not None]
  weighted = [row for row in run if SYSTEMS[row.system].classes is not None]
  found = []
  for row in weighted:
    for other in run:
      if other not in weighted and bool(row.whitened_by) == bool(other.whitened_by):
        found.append(_differ(row, other.name, other.values[metric], metric, samples, seed))
  return Comparison(measured.title, metric, tuple(found))


def compare_runs(report: Report, other: OtherRun, samples: int = SAMPLES, seed: int = 0) -> Comparison:
  """What each row of the data set has more than the same system's row of another run on the same queries.

  Args:
    report: of this run.
    other: the other.
    samples, seed: of the bootstrap.
  """
  measured, found = report.measured[0], []
  metric = next(iter(measured.metrics), "")
  there = {system_of(name): name for name in other.values}
  run = [row for row in measured.rows if row.was_run and mean_of(row, metric) is not None]
  for row in run:
    name = there.get(system_of(row.name))
    if name is not None and _both(row.values[metric], other.values[name]).any():
      found.append(_differ(row, name, other.values[name], metric, samples, seed))
  alone = [row.name for row in run if system_of(row.name) not in there]
  only = [name for system, name in there.items() if system not in {system_of(row.name) for row in run}]
  notes = list(_list_changes(report, other))
  common = {int(_both(row.values[metric], other.values[there[system_of(row.name)]]).sum()) for row in run
            if system_of(row.name) in there}  # fmt: skip
  if common - {len(measured.queries)}:
    counts = ", ".join(map(str, sorted(common)))
    notes.append(f"means and differences are over the {counts} of {len(measured.queries)} queries that count in both")
  notes += [f"only here: {', '.join(alone)}"] if alone else []
  notes += [f"only there: {', '.join(only)}"] if only else []
  return Comparison(f"{measured.title}, less the rows of {printable(other.where)}", metric, tuple(found), tuple(notes))


def _both(values, others) -> Bool[np.ndarray, "q"]:
  """The queries that have a value in both."""
  return ~(np.isnan(values) | np.isnan(others))


def _differ(row: Row, name: str, values, metric: str, samples: int, seed: int) -> Difference:
  """Means and difference are over the queries that have a value in both."""
  both = _both(row.values[metric], values)
  mean, other_mean = (float(np.mean(np.asarray(some)[both])) for some in (row.values[metric], values))
  return Difference(row.name, name, (mean, other_mean), paired_bootstrap(row.values[metric], values, samples, seed))


def _list_changes(report: Report, other: OtherRun) -> Iterator[str]:
  """What is not the same in both runs: of settings and of the head."""
  for name, value in report.settings.to_json().items():
    if name in other.settings and other.settings[name] != value:
      yield f"{name} is {value} here, {other.settings[name]} there"
  for name, value in report.head.items():
    if name in other.head and name not in _OF_ONE_RUN and other.head[name] != value:
      yield f"{name}: {_shorten(value)} here; {_shorten(str(other.head[name]))} there"


def _shorten(text: str) -> str:
  """Digests by their first digits."""
  return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1...", text)
