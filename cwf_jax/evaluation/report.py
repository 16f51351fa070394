"""What an evaluation found: a Markdown page, and everything in JSON.

    measured = Measured("toy_oxford", "toy Oxford", rows, names)
    report = Report((measured,), head, settings, seconds, {measured.title: compare(measured)})
    (output / "report.md").write_text(format_report(report))
"""

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cwf_jax.errors import InputError, printable, reason_of
from cwf_jax.evaluation.average_precision import mean_average_precision
from cwf_jax.evaluation.bootstrap import Interval, paired_bootstrap
from cwf_jax.evaluation.cells import Row, to_json
from cwf_jax.evaluation.published import TABLES, Line, Table
from cwf_jax.evaluation.settings import Settings, list_settings
from cwf_jax.evaluation.systems import SYSTEMS

FORMATS = {"N-S": "z.2f"}
"""How the values of a metric are written, where it is not with three decimals; z: no minus before a zero."""


SAMPLES = 10_000
"""Of the bootstrap."""


class Measured(NamedTuple):
  """One data set, or one with distractors.

  Attributes:
    name: such as "oxford5k", "oxford105k".
    title: such as "Oxford105k".
    rows: of systems, in order; none where it was not run.
    queries: the names of the queries, in the order of the rows' values.
    reason: why it was not run.
  """

  name: str
  title: str
  rows: tuple[Row, ...]
  queries: tuple[str, ...]
  reason: str = ""

  @property
  def metrics(self) -> tuple[str, ...]:
    """Of the rows, the one that counts first."""
    return next((tuple(row.values) for row in self.rows if row.was_run), ())

  def find(self, line: Line) -> Row | None:
    """The row of a table's line, whatever network it ran on."""
    return next((row for row in self.rows if row.name.partition("@")[0] == line.system), None)


class Difference(NamedTuple):
  """What one row has more than another."""

  name: str
  other: str
  interval: Interval


class Report(NamedTuple):
  """Everything that is told.

  Attributes:
    measured: the data set, and with distractors.
    head: what was run, by name: command, weights, versions, device ...
    settings: of the evaluation.
    seconds: by part.
    differences: of `compare` and `compare_runs`, by what they are of.
  """

  measured: tuple[Measured, ...]
  head: Mapping[str, str]
  settings: Settings
  seconds: Mapping[str, float]
  differences: Mapping[str, Sequence[Difference]]


def compare(measured: Measured, samples: int = SAMPLES, seed: int = 0) -> list[Difference]:
  """What class weighting gains over pooling: each such row with each other one, by a paired bootstrap over the queries.

  Whitened is compared with whitened, and not whitened with not whitened.
  """
  metric = next(iter(measured.metrics), "")
  run = [row for row in measured.rows if row.was_run and _mean(row, metric) is not None]
  weighted = [row for row in run if SYSTEMS[row.system].classes is not None]
  found = []
  for row in weighted:
    for other in run:
      if other not in weighted and bool(row.whitened_by) == bool(other.whitened_by):
        interval = paired_bootstrap(row.values[metric], other.values[metric], samples, seed)
        found.append(Difference(row.name, other.name, interval))
  return found


def compare_runs(
  measured: Measured, other: Mapping[str, Sequence[float]], samples: int = SAMPLES, seed: int = 0
) -> list[Difference]:
  """What each row has more than the same system's row of another run on the same queries: other weights, other settings.

  Args:
    measured: this run.
    other: of `read_results`.
    samples, seed: of the bootstrap.
  """
  found, metric = [], next(iter(measured.metrics), "")
  for row in measured.rows:
    for name, values in other.items():
      if row.was_run and name.partition("@")[0] == row.name.partition("@")[0] and _mean(row, metric) is not None:
        interval = paired_bootstrap(row.values[metric], values, samples, seed)
        found.append(Difference(row.name, name, interval))
  return found


def read_results(folder: str | os.PathLike, dataset: str, queries: Sequence[str]) -> dict[str, list[float]]:
  """The values of each row of another run, by its name, in the order of the queries; NaN where a query has no positive.

  Args:
    folder: the output of an evaluation.
    dataset: that it is of.
    queries: that it has.

  Raises:
    InputError: there are no results in the folder, or they are of another data set or of other queries.
  """
  file = Path(folder) / "results.json"
  try:
    results = json.loads(file.read_bytes())
    found, per_query = results["dataset"], {row["name"]: row["per_query"] for row in results["systems"].values()}
  except OSError as error:
    raise InputError(f"the results {printable(file)} cannot be read: {reason_of(error)}") from None
  except (ValueError, KeyError, TypeError, AttributeError):
    raise InputError(f"{printable(file)} holds no results of an evaluation") from None
  if found != dataset:
    raise InputError(f"the results {printable(file)} are of {found}, not of {dataset}")
  run = {name: values for name, values in per_query.items() if values}
  if any(set(values) != set(queries) for values in run.values()):
    counts = ", ".join(sorted({str(len(values)) for values in run.values()}))
    raise InputError(f"the results {printable(file)} are of other queries of {dataset}: {counts}, and here are {len(queries)}")
  return {
    name: [math.nan if values[query] is None else values[query] for query in queries] for name, values in run.items()
  }  # fmt: skip


def format_report(report: Report) -> str:
  """The page."""
  first = report.measured[0]
  parts = [f"# {first.title}: measured beside published", _format_head(report)]
  tables = [*TABLES, *_tables_of_others(report.measured)]
  parts += [f"## {table.title}\n\n{_format_table(table.lines, report)}" for table in tables]
  parts += [f"## How: {one.title}\n\n{_format_rows(one)}" for one in report.measured if one.rows]
  for one, differences in report.differences.items():
    parts.append(f"## Differences: {one}\n\n{_format_differences(differences, first.metrics[0])}")
  parts += [_format_odd(report), f"## Settings\n\n{_format_settings(report.settings)}"]
  parts += [f"## Time\n\n{_format_time(report.seconds)}"]
  return "\n\n".join(parts) + "\n"


def to_results(report: Report) -> dict[str, Any]:
  """Everything, as plain values: `{"dataset", "systems": {name: {"map", "per_query", ...}}, ...}`."""
  first = report.measured[0]
  return {
    "dataset": first.name,
    "systems": {row.name: _row_to_json(row, first) for row in first.rows},
    "with_distractors": {
      one.name: {"reason": one.reason, "systems": {row.name: _row_to_json(row, one) for row in one.rows}}
      for one in report.measured[1:]
    },
    "differences": {
      name: [{"system": one.name, "less": one.other, **one.interval._asdict()} for one in found]
      for name, found in report.differences.items()
    },
    "head": dict(report.head),
    "preset": report.settings.preset_name,
    "settings": report.settings.to_json(),
    "changed_settings": report.settings.changes(),
    "seconds": {name: round(value, 3) for name, value in report.seconds.items()},
  }


def format_queries(measured: Measured) -> str:
  """The values of each query as comma-separated text: query, then a column for each row and metric."""
  run = [row for row in measured.rows if row.was_run]
  columns = [(row, metric) for row in run for metric in row.values]
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  single = len(measured.metrics) == 1
  writer.writerow(["query", *(row.name if single else f"{row.name} {metric}" for row, metric in columns)])
  for place, query in enumerate(measured.queries):
    values = [row.values[metric][place] for row, metric in columns]
    writer.writerow([query, *("" if math.isnan(value) else repr(value) for value in values)])
  return text.getvalue()


def _row_to_json(row: Row, measured: Measured) -> dict[str, Any]:
  told = row._asdict()
  values = told.pop("values")
  metrics = {metric: _mean(row, metric) for metric in values}
  first = next(iter(values), None)
  per_query = {} if first is None else dict(zip(measured.queries, to_json(values)[first], strict=True))
  more = {metric: dict(zip(measured.queries, one, strict=True)) for metric, one in to_json(values).items() if metric != first}
  return {"map": metrics.get(first), "metrics": metrics, "per_query": per_query, "per_query_of_other_metrics": more, **told}


def _mean(row: Row, metric: str) -> float | None:
  value = mean_average_precision(row.values[metric])
  return None if math.isnan(value) else value


def _format_head(report: Report) -> str:
  return "\n".join(["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in report.head.items())])


def _tables_of_others(measured: Sequence[Measured]) -> list[Table]:
  """A table of the rows that nobody published: systems of one's own."""
  known = {line.system for table in TABLES for line in table.lines}
  rows = {row.name.partition("@")[0]: row for one in measured for row in one.rows}
  lines = [Line(name, SYSTEMS[row.system].title, {}) for name, row in rows.items() if name not in known]
  return [Table("Other systems", tuple(lines))] if lines else []


def _format_table(lines: Sequence[Line], report: Report) -> str:
  """A line a row; published numbers have columns where there are any."""
  known = [any(one.name in line.published for line in lines) for one in report.measured]
  header = ["system", "row"]
  for one, is_published in zip(report.measured, known, strict=True):
    metric = f" ({one.metrics[0]})" if one.metrics else ""
    header += [f"{one.title}, published", "dim"] if is_published else []
    header += [f"{one.title}, measured{metric}", "dim"]
  rows = [header, ["---"] * len(header)]
  for line in lines:
    found = [one.find(line) for one in report.measured]
    cells = [line.title, f"`{line.system if found[0] is None else found[0].name}`"]
    for one, row, is_published in zip(report.measured, found, known, strict=True):
      if is_published:
        published = line.published.get(one.name, "-")
        cells += [published, "" if published == "-" else line.dimensions]
      cells += _show(line, row, one)
    rows.append(cells)
  return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _show(line: Line, row: Row | None, measured: Measured) -> tuple[str, str]:
  """What was measured, and of how many dimensions."""
  if line.later:
    return "not yet", ""
  if row is None:
    return f"not run{f': {measured.reason}' if measured.reason else ''}", ""
  if not row.was_run:
    return f"not run: {_cell(row.reason)}", ""
  metric = measured.metrics[0]
  mean = _mean(row, metric)
  return ("no query has a positive" if mean is None else f"{mean:{form_of(metric)}}"), str(row.dimensions)


def form_of(metric: str) -> str:
  """How the values of a metric are written."""
  return FORMATS.get(metric, "z.3f")


def _format_rows(measured: Measured) -> str:
  """What each row is made of, with every metric."""
  metrics = measured.metrics
  header = ["row", *metrics, "network, map", "sizes", "query", "dim", "whitened by (vectors)", "s"]
  lines = [header, ["---"] * len(header)]
  for row in measured.rows:
    if row.was_run:
      means = [_mean(row, metric) for metric in metrics]
      shown = ["-" if mean is None else f"{mean:{form_of(metric)}}" for mean, metric in zip(means, metrics, strict=True)]
      whitened = _cell(row.whitened_by or "-") + (f" ({row.vectors})" if row.vectors else "")
      made_of = [f"{row.network}, {row.layer}", row.sizes, row.query, str(row.dimensions), whitened]
      lines.append([f"`{row.name}`", *shown, *made_of, f"{row.seconds:.1f}"])
  text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
  fixed = [f"`{row.name}`: {', '.join(row.classes)}" for row in measured.rows if row.classes]
  notes = [f"`{row.name}`: {SYSTEMS[row.system].note}" for row in measured.rows if row.was_run and SYSTEMS[row.system].note]
  parts = [f"Fixed list: {'; '.join(fixed)}."] if fixed else []
  parts += [f"Readings: {'; '.join(notes)}."] if notes else []
  return "\n\n".join([text, *parts])


def _format_differences(differences: Sequence[Difference], metric: str) -> str:
  form = form_of(metric)
  lines = [f"| {metric} of | less that of | difference | 95 % interval |", "|---|---|---|---|"]
  for name, other, (difference, low, high) in differences:
    lines.append(f"| `{name}` | `{other}` | {difference:+{form}} | {low:+{form}} to {high:+{form}} |")
  return "\n".join([*lines, "", f"Paired bootstrap over the queries, {SAMPLES:,} samples."])


def _format_odd(report: Report) -> str:
  odd = list(_list_odd(report.measured))
  return f"Zero or not finite: {'; '.join(odd) if odd else 'no descriptor, no vector'}."


def _list_odd(measured: Sequence[Measured]) -> Iterator[str]:
  for one in measured:
    for row in one.rows:
      counts = {"zero": row.zero, "not finite": row.not_finite, "of queries": row.odd_queries}
      counts |= {"of vectors left out of the whitening": row.left_out, "unreadable distractors": row.unreadable}
      told = [f"{count} {what}" for what, count in counts.items() if count]
      if told:
        names = f" ({', '.join(row.odd)}{' and more' if row.zero + row.not_finite > len(row.odd) else ''})" if row.odd else ""
        yield f"{one.title}, `{row.name}`: {', '.join(told)}{names}"


def _format_settings(settings: Settings) -> str:
  lines = ["| setting | value | paper | reference | METHOD row | meaning |", "|---|---|---|---|---|---|"]
  for field in list_settings():
    value, told = getattr(settings, field.name), field.metadata
    mark = " (set)" if field.name in settings.changes() else ""
    lines.append(
      f"| `{field.name}` | {value}{mark} | {field.default} | {told['reference']} | {told['row'] or '-'} | {told['meaning']} |"
    )
  return "\n".join(lines)


def _format_time(seconds: Mapping[str, float]) -> str:
  lines = ["| part | s |", "|---|---|", *(f"| {name} | {value:.1f} |" for name, value in seconds.items())]
  return "\n".join(lines)


def _cell(text: str) -> str:
  """A text inside a table's cell."""
  return text.replace("|", "\\|").replace("\n", " ")
