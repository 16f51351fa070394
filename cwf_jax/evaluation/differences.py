"""What one row gains over another, and one run over another: differences with intervals, by a paired bootstrap over queries.

    compare(measured).differences[0].interval    # (0.051, 0.045, 0.058)
"""

from collections.abc import Iterator

import numpy as np

from cwf_jax.errors import printable
from cwf_jax.evaluation.bootstrap import paired_bootstrap
from cwf_jax.evaluation.cells import Row
from cwf_jax.evaluation.results import Comparison, Difference, Measured, OtherRun, Report, mean_of, system_of
from cwf_jax.evaluation.systems import SYSTEMS

SAMPLES = 10_000
"""Of the bootstrap."""


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
    if name is not None and not np.isnan(np.add(row.values[metric], other.values[name])).all():
      found.append(_differ(row, name, other.values[name], metric, samples, seed))
  alone = [row.name for row in run if system_of(row.name) not in there]
  only = [name for system, name in there.items() if system not in {system_of(row.name) for row in run}]
  notes = list(_list_changes(report, other))
  notes += [f"only here: {', '.join(alone)}"] if alone else []
  notes += [f"only there: {', '.join(only)}"] if only else []
  return Comparison(f"{measured.title}, less the rows of {printable(other.where)}", metric, tuple(found), tuple(notes))


def _differ(row: Row, name: str, values, metric: str, samples: int, seed: int) -> Difference:
  interval = paired_bootstrap(row.values[metric], values, samples, seed)
  mean = mean_of(row, metric)
  return Difference(row.name, name, (mean, mean - interval.difference), interval)


def _list_changes(report: Report, other: OtherRun) -> Iterator[str]:
  """What is not the same in both runs: of settings and of the head, but for when and how it was called."""
  for name, value in report.settings.to_json().items():
    if name in other.settings and other.settings[name] != value:
      yield f"{name} is {value} here, {other.settings[name]} there"
  for name, value in report.head.items():
    if name in other.head and name not in ("command", "preset", "measured", "working directory") and other.head[name] != value:
      yield f"{name}: {value} here; {other.head[name]} there"
