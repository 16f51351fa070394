"""What an evaluation found, as a Markdown page: tables in the paper's order, measured beside published.

    (output / "report.md").write_text(format_report(report))
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from cwf_jax.errors import printable
from cwf_jax.evaluation.rows import Row
from cwf_jax.problems import Problem
from cwf_jax.reporting.differences import SAMPLES
from cwf_jax.reporting.published import TABLES, Line, Table
from cwf_jax.reporting.results import Comparison, Measured, Report, form_of, is_bare, mean_of, system_of, tell_means
from cwf_jax.systems.settings import Settings, list_settings
from cwf_jax.systems.system import SYSTEMS


def format_report(report: Report) -> str:
  """The page."""
  first = report.measured[0]
  is_published = any(first.name in line.published for table in TABLES for line in table.lines)
  parts = [f"# {first.title}: measured{' beside published' if is_published else ''}", _format_head(report)]
  parts += [note for note in (_note_networks(report.measured), *_note_earlier(report)) if note]
  tables = [*TABLES, *_tables_of_others(report.measured)]
  parts += [f"## {table.title}\n\n{_format_table(table.lines, report)}" for table in tables]
  parts += [f"## How: {one.title}\n\n{_format_rows(one)}" for one in report.measured if one.rows]
  parts += [f"## Differences: {one.title}\n\n{_format_comparison(one)}" for one in report.comparisons]
  parts += [_format_odd(report), f"## Settings\n\n{_format_settings(report.settings)}"]
  cached = "Cached rows and vectors of earlier runs took no time in this one."
  parts += [f"## Time of this run\n\n{_format_time(report.seconds)}\n\n{cached}"]
  return "\n\n".join(parts) + "\n"


def _format_head(report: Report) -> str:
  return _table([("", ""), *report.head.items()])


def _note_networks(measured: Sequence[Measured]) -> str:
  """Where published numbers are of other networks."""
  if not any("@" in row.name for one in measured for row in one.rows):
    return ""
  return (
    "A row `system@weights` ran on another network than it was published on: its measured number is not comparable with the "
    "published one."
  )


def _note_earlier(report: Report) -> Iterator[str]:
  """Rows of earlier runs: when and by what they were measured, as far as it differs from this run."""
  for one in report.measured:
    runs: dict[str, list[str]] = {}
    for row in one.rows:
      differences = [f"{name}: {value}" for name, value in row.made.items() if one.made.get(name) != value]
      if differences:
        runs.setdefault("; ".join(differences), []).append(row.name)
    title = f", {one.title}" if len(report.measured) > 1 else ""
    for run in sorted(runs):
      yield f"Of an earlier run{title} ({run}): {_list_names(runs[run])}."


def _list_names(rows: Sequence[str]) -> str:
  return ", ".join(f"`{printable(name)}`" for name in rows)


def _tables_of_others(measured: Sequence[Measured]) -> list[Table]:
  """A table of the rows that nobody published: systems of one's own."""
  known = {line.system for table in TABLES for line in table.lines}
  rows = {system_of(row.name): row for one in measured for row in one.rows}
  lines = [Line(name, SYSTEMS[row.system].title, {}) for name, row in rows.items() if name not in known]
  return [Table("Other systems", tuple(lines))] if lines else []


def _format_table(lines: Sequence[Line], report: Report) -> str:
  """A line a row; published numbers have columns where there are any."""
  known = [any(one.name in line.published for line in lines) for one in report.measured]
  header = ["system", "row"]
  for one, is_published in zip(report.measured, known, strict=True):
    metric = f" ({' / '.join(map(one.label, one.main_metrics))})" if one.metrics else ""
    header += [f"{one.title}, published", "dim"] if is_published else []
    header += [f"{one.title}, measured{metric}", "dim"]
  rows = [header]
  for line in lines:
    found = [one.find(line) for one in report.measured]
    cells = [line.title, f"`{line.system if found[0] is None else found[0].name}`"]
    for one, row, is_published in zip(report.measured, found, known, strict=True):
      if is_published:
        published = line.published.get(one.name, "-")
        cells += [published, "" if published == "-" else line.dimensions]
      cells += _show(line, row, one)
    rows.append(cells)
  return _table(rows)


def _show(line: Line, row: Row | None, measured: Measured) -> tuple[str, str]:
  """What was measured, and of how many dimensions."""
  if line.later:
    return "not yet", ""
  if row is None:
    return f"not run: {measured.reason or 'not asked for'}", ""
  if not row.was_run:
    return f"not run: {row.reason}", ""
  return tell_means(row, measured.main_metrics), f"{row.dimensions}{', not whitened' if is_bare(row) else ''}"


def _format_rows(measured: Measured) -> str:
  """What each row is made of, with every metric."""
  metrics = measured.metrics
  header = ["row", *metrics, "network, map", "sizes", "query", "dim", "whitened by (vectors)", "s"]
  lines = [header]
  for row in measured.rows:
    if row.was_run:
      means = [mean_of(row, metric) for metric in metrics]
      shown = ["-" if mean is None else f"{mean:{form_of(metric)}}" for mean, metric in zip(means, metrics, strict=True)]
      whitened = (row.whitened_by or "-") + (f" ({row.vectors})" if row.vectors else "")
      made_of = [f"{row.network}, {row.layer}", row.sizes, row.query, str(row.dimensions), whitened]
      lines.append([f"`{row.name}`", *shown, *made_of, f"{row.seconds:.1f}"])
  return "\n\n".join([_table(lines), *_list_notes(measured)])


def _list_notes(measured: Measured) -> Iterator[str]:
  run = [row for row in measured.rows if row.was_run]
  for metric in measured.main_metrics:
    left_out = [query for query, value in zip(measured.queries, run[0].values[metric], strict=True) if math.isnan(value)]
    if left_out:
      what = f"{metric}, of {len(measured.queries) - len(left_out):,} of {len(measured.queries):,} queries: without these"
      yield f"{Problem(f'{what}, for which there is no image that should be found', tuple(left_out))}."
  fixed = [f"{_list_names([row.name])}: {', '.join(map(printable, row.classes))}" for row in run if row.classes]
  if fixed:
    yield f"Fixed list: {'; '.join(fixed)}."
  capped = {}
  for row in run:
    if row.capped_by:
      capped.setdefault(f"{row.dimensions}, capped by {row.capped_by}", []).append(row.name)
  if capped:
    yield f"Dimensions: {'; '.join(f'{what}: {_list_names(names)}' for what, names in capped.items())}."
  notes = [f"{_list_names([row.name])}: {SYSTEMS[row.system].note}" for row in run if SYSTEMS[row.system].note]
  if notes:
    yield f"Readings: {'; '.join(notes)}."


def _format_comparison(comparison: Comparison) -> str:
  form = form_of(comparison.metric)
  lines = [(f"{comparison.metric} of", "", "less that of", "", "difference", "95 % interval")]
  for name, other, (mean, other_mean), (difference, low, high) in comparison.differences:
    means = (f"`{name}`", f"{mean:{form}}", f"`{other}`", f"{other_mean:{form}}")
    lines.append((*means, f"{difference:+{form}}", f"{low:+{form}} to {high:+{form}}"))
  table = f"{_table(lines)}\n\nPaired bootstrap over the queries, {SAMPLES:,} samples."
  parts = [table] if comparison.differences else ["Nothing can be compared."]
  return "\n\n".join([*parts, *(["\n".join(f"* {printable(note)}" for note in comparison.notes)] if comparison.notes else [])])


def _format_odd(report: Report) -> str:
  odd = list(_list_odd(report.measured))
  none = "No descriptor is zero or not finite, and no vector that a whitening was fitted on."
  return f"Zero or not finite: {'; '.join(odd)}." if odd else none


def _list_odd(measured: Sequence[Measured]) -> Iterator[str]:
  for one in measured:
    for row in one.rows:
      counts = {"zero": row.zero, "not finite": row.not_finite, "of queries": row.odd_queries}
      counts |= {"of vectors left out of the whitening": row.left_out, "unreadable distractors": len(row.unreadable)}
      told = [f"{count} {what}" for what, count in counts.items() if count]
      if told:
        more = " and more" if row.zero + row.not_finite > len(row.odd) else ""
        names = f" ({', '.join(map(printable, row.odd))}{more})" if row.odd else ""
        yield f"{one.title}, {_list_names([row.name])}: {', '.join(told)}{names}"


def _format_settings(settings: Settings) -> str:
  """Every setting, and whether this run changed it."""
  lines = [("setting", "value", "preset paper", "preset reference", "meaning")]
  for field in list_settings():
    value, told = getattr(settings, field.name), field.metadata
    mark = " (set)" if field.name in settings.changes() else ""
    lines.append((f"`{field.name}`", f"{value}{mark}", str(field.default), str(told["reference"]), told["meaning"]))
  return _table(lines)


def _format_time(seconds: Mapping[str, float]) -> str:
  return _table([("part", "s"), *((name, f"{value:.1f}") for name, value in seconds.items())])


def _table(rows: Sequence[Sequence[str]]) -> str:
  """Lines of cells, the first of them the header."""
  header, *lines = ([printable(cell).replace("|", "\\|") for cell in row] for row in rows)
  return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines))
