"""`--mode=evaluate`: a benchmark's table, measured beside published."""

import dataclasses
import time
from pathlib import Path

from absl import flags

from cwf_jax.cli.call import CallError, FailedError, define_plugin, load_asked_plugin
from cwf_jax.cli.evaluation_call import check_call, check_classes, check_sizes
from cwf_jax.cli.evaluation_data import check_set, find_data, make_data, open_set
from cwf_jax.cli.evaluation_pools import choose_distractors, choose_whitening
from cwf_jax.cli.evaluation_report import describe_call, describe_head, explain_failure, format_lines, write_report
from cwf_jax.errors import printable
from cwf_jax.files import holding

EXAMPLES = """
  python main.py --mode=evaluate --dataset=toy_oxford --output=results
  python main.py --mode=evaluate --dataset=oxford5k --data_dir=sets --output=results
  python main.py --mode=evaluate --dataset=paris6k --data_dir=sets --set=ties=by_row --output=r
  python main.py --mode=evaluate --dataset=folder --images=shop --groundtruth=shop.json --output=r

Ranks a benchmark by the systems that the paper compares, and writes report.md (measured beside
published), results.json (everything, each query's value too) and per_query.csv into the output
folder.

DATA_DIR holds a folder for each set: oxford5k, paris6k, roxford5k, rparis6k, holidays, ukbench,
flickr100k, revisited1m; each has images/ and, where it has queries, groundtruth/ with the files as
they are published. The whitening is fitted on the other set (Paris for Oxford and the reverse) if
it is there. toy_oxford and toy_paris are made on the spot where there is no DATA_DIR.

A folder's JSON: {"database": ["a.jpg", ...], "queries": {"q.jpg": {"box": [10, 20, 110, 90],
"relevant": ["a.jpg"], "junk": []}}}. Names are those of files below --images; box (left, top,
right, bottom in pixels) and junk may be left out. A query that is in the database finds itself
first: put it into its own junk, so that it is skipped, or into relevant. The whitening is the
checkpoint's own unless --whitening names a folder, list or tar of other images.

Settings, of which report.md tells the meaning and what --protocol=paper and reference say:
size_rule, reversed_means, query_images, empty_maps, crow_weights, crow_epsilon, box_rule,
floor_boxes, crow_box, spoc_query, num_classes, fixed_classes, n_pca, dimensions, eigenvalue_floor,
query_row, ties, seed. --set=ties=by_row changes one; a wrong value is refused with the right ones.

A run that is interrupted goes on where it was if it is called again; with other settings it
computes what they change. The report is of the last run, with rows of earlier ones on the same.
--against=OTHER tells what each row gains over the same system's in another output folder.
"""

AFTER_INTERRUPT = "the same command goes on where it was"

WITHOUT = ("index",)


def define_flags(values: flags.FlagValues) -> None:
  """The flags of this mode."""
  define_plugin(values)

  def text(name: str, default: str | None, meaning: str) -> None:
    flags.DEFINE_string(name, default, meaning, flag_values=values)

  sets = "oxford5k, paris6k, roxford5k, rparis6k, holidays, ukbench, toy_oxford, toy_paris, folder"
  text("dataset", None, f"the set to rank: {sets}")
  text("data_dir", None, "the folder of the sets")
  text("images", None, "for --dataset=folder: its images")
  text("groundtruth", None, "for --dataset=folder: its JSON file")
  text("output", None, "the folder for report and results, and for what is kept between runs")
  shared = "which evaluations of the same image files can share; default: in --output"
  text("vectors", None, f"the folder that keeps what passes give, {shared}")
  text("systems", "all", "separated by commas: raw, raw_cw, spoc, ucrow, crow, mac, rmac, gem, ofa, ona, fixed")
  text(
    "whitening",
    "other",
    "what the whitening is fitted on: other (the set that goes with this one; bundled where none does), the name of a set in "
    "--data_dir, a folder, list or tar of images, bundled (the checkpoint's own), or none; the evaluated set itself is taken "
    "only by its name",
  )
  flags.DEFINE_integer(
    "dimensions", None, "dimensions that each whitening keeps, as far as it has them; default: as published, else 512, and "
    "all of a bundled one", lower_bound=1, flag_values=values,
  )  # fmt: skip
  text("classes", None, "for the system fixed: names or ids of classes, separated by commas; default: those of most queries")
  text("against", None, "the output folder of another evaluation of the same set, to tell the differences to it")
  flags.DEFINE_multi_string(
    "set", [], "NAME=VALUE, a setting other than the preset's, as often as wanted; report.md lists all", flag_values=values
  )
  flags.DEFINE_enum(
    "distractors",
    "auto",
    ["auto", "none"],
    "whether the set is ranked with its distractors, too, if they are in --data_dir",
    flag_values=values,
  )


def run(values: flags.FlagValues, console) -> int:
  """Runs the mode: a line a row on standard output, the report in the output folder.

  Raises:
    FailedError: no row could be run.
  """
  load_asked_plugin(values)
  lines, failure = evaluate(values, console)
  print("\n".join(lines), flush=True)
  if failure:
    raise FailedError(failure)
  return 0


def evaluate(values: flags.FlagValues, console) -> tuple[list[str], str]:
  """Evaluates what the flags of this mode ask for, and writes the report.

  Returns:
    The lines of standard output: a title, a line for each row, comparisons if there are any, and the path of the report. And
    why no row was run; empty where one was.
  """
  started, called = time.monotonic(), describe_call()
  names, settings = check_call(values)
  from cwf_jax.reporting.differences import compare, compare_runs
  from cwf_jax.reporting.results import Report, read_results

  encoder, weights, classes = _load(values, settings, names)
  output, data = Path(values["output"].value), find_data(values)
  opened = None if data.is_made else open_set(values, data.folder)  # refused before anything is written
  hint = "wait for its end, or give another --output, and --vectors for what both can share"
  with holding(output, CallError(f"{printable(output)} is being written by another run; {hint}")):
    if opened is None:
      make_data(data.folder, console)
      opened = open_set(values, data.folder)
    ranked = check_set(opened, settings, names, output, console)
    queries = tuple(query.name for query in ranked.benchmark.queries)
    other = read_results(values["against"].value, ranked.benchmark.name, queries) if values["against"].value else None
    pool = choose_whitening(values, ranked, data.folder, output, console)
    remarks = (*ranked.remarks, *_tell_bundled(values, encoder, pool), *pool.remarks)
    for remark in filter(None, (encoder.settings.class_note, *remarks)):
      console.say(remark)
    seconds = {"check": time.monotonic() - started}
    distractors = choose_distractors(values, data.folder)
    measured = _measure(values, settings, names, encoder, classes, ranked.benchmark, pool, distractors, seconds, console)
    started_comparing = time.monotonic()
    comparisons = tuple(one for one in (compare(one, seed=settings.seed) for one in measured) if one.differences)
    head = describe_head(values, called, encoder, weights, ranked, pool, measured[0].made, remarks)
    report = Report(measured, head, settings, seconds)
    to_other = () if other is None else compare_runs(report, other, seed=settings.seed)
    seconds |= {"differences": time.monotonic() - started_comparing, "all": time.monotonic() - started}
    report = report._replace(comparisons=(*comparisons, *to_other), seconds=seconds)
    write_report(report, output)
    lines = [*format_lines(report, to_other), f"report: {printable(output / 'report.md')}"]
    return lines, explain_failure(measured)


def _load(values: flags.FlagValues, settings, names: tuple[str, ...]):
  """The encoder, the weights it is of, and the classes of a fixed list, None for those of most queries."""
  from cwf_jax.load import load_encoder, load_weights
  from cwf_jax.protocol import STRIDE16, Protocol

  weights = load_weights(values["weights"].value or "default")
  count = weights.network.config.num_classes
  check_classes(settings, count)
  size = values["image_size"].value or weights.network.config.image_size
  check_sizes(settings, names, size)
  # Reversed means belong to single passes; see `passes.with_protocol`.
  feature_map = values["feature_map"].value or STRIDE16
  protocol = dataclasses.replace(Protocol.paper(size, min(settings.num_classes, count)), feature_map=feature_map)
  encoder = load_encoder(weights, protocol)
  listed = values["classes"].value
  return encoder, weights, None if listed is None else tuple(encoder.settings.classes.resolve_all(listed))


def _tell_bundled(values: flags.FlagValues, encoder, pool) -> tuple[str, ...]:
  """What cannot be whitened where nobody has said by what."""
  from cwf_jax.evaluation.experiment import BUNDLED

  if pool.images != BUNDLED or values["whitening"].value == BUNDLED:
    return ()
  own = "has none" if encoder.whitening is None else "is one of class vectors, so that no other row can be whitened"
  what = f"no set goes with this one to whiten by, and the checkpoint's own whitening {own}"
  return (f"{what}: --whitening names a set or other images, or says none",)


def _measure(values: flags.FlagValues, settings, names, encoder, classes, benchmark, pool, distractors, seconds, console):
  """The rows of the set, and with distractors. `seconds` takes the times of parts."""
  from cwf_jax.evaluation.experiment import Experiment
  from cwf_jax.reporting.results import Measured

  queries, measured = tuple(query.name for query in benchmark.queries), []
  for name, title, others in _list_runs(benchmark, *distractors):
    if isinstance(others, str):
      measured.append(Measured(name, title, (), queries, others))
      continue
    experiment = Experiment(
      benchmark,
      encoder,
      settings,
      values["output"].value,
      whitened_by=pool.images,
      no_whitening=pool.reason,
      distractors=others,
      vectors=values["vectors"].value,
      classes=classes,
      batch_size=values["batch_size"].value,
      progress=console.progress,
    )
    rows = tuple(experiment.make_rows(names))
    for problem in experiment.unreadable:
      console.say(f"left out: {problem}")
    seconds |= {part if others is None else f"{part}, {title}": spent for part, spent in experiment.seconds.items()}
    kept = experiment.find_kept(names)
    not_asked = frozenset(row.name for row in kept)
    measured.append(Measured(name, title, (*rows, *kept), queries, kept=not_asked, made=experiment.made))
  return tuple(measured)


def _list_runs(benchmark, distractors, no_distractors: str, more_title: str):
  """(name, title, distractors or why there are none) of each column."""
  from cwf_jax.datasets.catalogue import KNOWN

  yield benchmark.name, KNOWN[benchmark.name].title if benchmark.name in KNOWN else benchmark.name, None
  if more_title:
    yield more_title.lower(), more_title, distractors or no_distractors
