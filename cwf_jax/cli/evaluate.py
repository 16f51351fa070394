"""`--mode=evaluate`: a benchmark's table, measured beside published."""

import json
import shlex
import sys
import time
from pathlib import Path

from absl import flags

from cwf_jax.cli.call import CallError
from cwf_jax.cli.evaluation_data import FOLDER, TOYS, choose_distractors, choose_whitening, find_data, open_set
from cwf_jax.cli.notes import RANDOM_NOTE, program
from cwf_jax.errors import printable

EXAMPLES = """
  python main.py --mode=evaluate --dataset=toy_oxford --output=results
  python main.py --mode=evaluate --dataset=oxford5k --data_dir=sets --weights=vgg16_cam --output=r
  python main.py --mode=evaluate --dataset=paris6k --data_dir=sets --set=ties=by_row --output=r
  python main.py --mode=evaluate --dataset=folder --images=shop --groundtruth=shop.json --output=r

Ranks a benchmark by the systems that the paper compares, and writes report.md (measured beside
published), results.json (everything, each query's value too) and per_query.csv into the output
folder.

DATA_DIR holds a folder for each set: oxford5k, paris6k, roxford5k, rparis6k, holidays, ukbench,
flickr100k, revisited1m; each has images/ and, where it has queries, groundtruth/ with the files as
they are published. The whitening is fitted on the other set (Paris for Oxford and the reverse) if
it is there. toy_oxford and toy_paris are made on the spot where there is no DATA_DIR.

A run that is interrupted goes on where it was; with other settings it computes what they change.
"""

WITHOUT = ("index",)


def define_flags(values: flags.FlagValues) -> None:
  """The flags of this mode."""

  def text(name: str, default: str | None, meaning: str) -> None:
    flags.DEFINE_string(name, default, meaning, flag_values=values)

  sets = "oxford5k, paris6k, roxford5k, rparis6k, holidays, ukbench, toy_oxford, toy_paris, folder"
  text("dataset", None, f"the set to rank: {sets}")
  text("data_dir", None, "the folder of the sets")
  text("images", None, "for --dataset=folder: its images")
  text("groundtruth", None, "for --dataset=folder: its JSON file")
  text("output", None, "the folder for report and results, and for what is kept between runs")
  text("vectors", None, "the folder that keeps what passes give, which evaluations can share; default: in --output")
  text("systems", "all", "separated by commas: raw, raw_cw, spoc, ucrow, crow, mac, rmac, gem, ofa, ona, fixed")
  text(
    "whitening",
    "other",
    "what the whitening is fitted on: other (the set that goes with this one), the name of a set in --data_dir, a folder, "
    "list or tar of images, bundled (the checkpoint's own), or none",
  )
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
  """Runs the mode: a line a row on standard output, the report in the output folder."""
  started = time.monotonic()
  output = _check_call(values)
  names = _choose_systems(values)
  settings = _choose_settings(values)
  from cwf_jax.evaluation.experiment import Experiment
  from cwf_jax.evaluation.report import Measured, Report, compare, compare_runs, read_results
  from cwf_jax.load import load_encoder
  from cwf_jax.models.checkpoint import load_weights
  from cwf_jax.protocol import Protocol

  weights = load_weights(values["weights"].value or "default")
  size = values["image_size"].value or weights.network.config.image_size
  # Reversed means belong to single passes; see `passes.with_protocol`.
  encoder = load_encoder(weights, Protocol.paper(size, min(settings.num_classes, weights.network.config.num_classes)))
  classes = None
  if values["classes"].value is not None:
    classes = tuple(encoder.settings.classes.resolve_all(values["classes"].value))
  data_dir = find_data(values, output, console)
  benchmark = open_set(values, settings, data_dir, output, console)
  queries = tuple(query.name for query in benchmark.queries)
  against = values["against"].value and read_results(values["against"].value, benchmark.name, queries)
  whitened_by, no_whitening = choose_whitening(values, benchmark, data_dir, output, console)
  distractors, no_distractors, more_title = choose_distractors(values, data_dir)
  output.mkdir(parents=True, exist_ok=True)
  if encoder.settings.is_random:
    console.say(RANDOM_NOTE)
  seconds = {"check": time.monotonic() - started}
  measured = []
  for name, title, others in _list_runs(benchmark, distractors, no_distractors, more_title):
    if isinstance(others, str):
      measured.append(Measured(name, title, (), queries, others))
      continue
    experiment = Experiment(
      benchmark,
      encoder,
      settings,
      output,
      whitened_by=whitened_by,
      no_whitening=no_whitening,
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
    measured.append(Measured(name, title, rows, queries))
  started_comparing = time.monotonic()
  differences = {one.title: found for one in measured if (found := compare(one, seed=settings.seed))}
  if against:
    found = compare_runs(measured[0], against, seed=settings.seed)
    differences |= {} if not found else {f"{measured[0].title}, to the rows of {printable(values['against'].value)}": found}
  seconds |= {"differences": time.monotonic() - started_comparing, "all": time.monotonic() - started}
  head = _describe_run(values, encoder, weights, benchmark, whitened_by, no_whitening, size)
  report = Report(tuple(measured), head, settings, seconds, differences)
  _write(report, output)
  _tell(report)
  print(f"report: {output / 'report.md'}", flush=True)
  return 0


def _check_call(values: flags.FlagValues) -> Path:
  """What can be told from the flags alone."""
  dataset, output = values["dataset"].value, values["output"].value
  if not dataset:
    raise CallError("--dataset is missing, the set to rank: oxford5k, toy_oxford, folder ... (--help tells more)")
  if not output:
    raise CallError("--output is missing, the folder for the results")
  if Path(output).exists() and not Path(output).is_dir():
    raise CallError(f"--output={printable(output)} is a file, not a folder")
  given = {name: values[name].value for name in ("images", "groundtruth")}
  if dataset == FOLDER and None in given.values():
    raise CallError("--dataset=folder needs --images and --groundtruth")
  if dataset != FOLDER and any(given.values()):
    raise CallError("--images and --groundtruth are for --dataset=folder")
  if dataset not in (FOLDER, *TOYS) and values["data_dir"].value is None:
    raise CallError(f"--data_dir is missing, the folder that holds {printable(dataset)}/")
  return Path(output)


def _choose_systems(values: flags.FlagValues) -> tuple[str, ...]:
  from cwf_jax.evaluation.systems import SYSTEMS

  asked = values["systems"].value
  names = tuple(SYSTEMS) if asked == "all" else tuple(dict.fromkeys(name.strip() for name in asked.split(",")))
  unknown = [name for name in names if name not in SYSTEMS]
  if unknown:
    raise CallError(f"--systems knows no {', '.join(map(printable, unknown))}; there are {', '.join(SYSTEMS)}")
  return names


def _choose_settings(values: flags.FlagValues):
  from cwf_jax.evaluation.settings import Settings

  overrides = {}
  for text in values["set"].value:
    name, sign, value = text.partition("=")
    if not sign:
      raise CallError(f"--set is NAME=VALUE; found {text!r}")
    overrides[name.strip()] = value.strip()
  if values["num_classes"].value is not None:
    overrides.setdefault("num_classes", values["num_classes"].value)
  return Settings.preset(values["protocol"].value or "paper", overrides)


def _list_runs(benchmark, distractors, no_distractors: str, more_title: str):
  """(name, title, distractors or why there are none) of each column."""
  from cwf_jax.datasets.catalogue import KNOWN

  yield benchmark.name, KNOWN[benchmark.name].title if benchmark.name in KNOWN else benchmark.name, None
  if more_title:
    yield more_title.lower(), more_title, distractors or no_distractors


def _describe_run(values, encoder, weights, benchmark, whitened_by, no_whitening: str, size: int) -> dict[str, str]:
  """The report's head."""
  import platform

  import flax
  import jax
  import numpy

  from cwf_jax.evaluation.images import ImageSet
  from cwf_jax.version import __version__

  device = jax.devices()[0]
  if isinstance(whitened_by, ImageSet):
    origin = f"fitted on {len(whitened_by.ids)} images of {whitened_by.name} ({whitened_by.root})"
    if whitened_by.name == benchmark.name:
      origin += ": the evaluated set itself, as asked for"
  else:
    origin = no_whitening or {"bundled": "the checkpoint's own, of class vectors"}.get(whitened_by, "none")
  random = ", random: classes mean nothing" if weights.is_random else ""
  return {
    "command": f"`{shlex.join([*program().split(), *sys.argv[1:]])}`",
    "data set": f"{benchmark.name}: {len(benchmark.database)} images, {len(benchmark.queries)} queries"
    f" ({benchmark.listing.root}){_tell_part(benchmark)}",
    "weights": f"{weights.name} ({weights.network_name}), sha256 {weights.sha256}{random}",
    "sizes": f"shorter side {size} where the paper has 720; other systems' sizes in proportion",
    "whitening": origin,
    "preset": values["protocol"].value or "paper",
    "versions": f"cwf_jax {__version__}, jax {jax.__version__}, flax {flax.__version__}, numpy {numpy.__version__}, "
    f"Python {platform.python_version()}",
    "device": f"{device.platform}, {device.device_kind}, {encoder.settings.dtype}",
  }


def _tell_part(benchmark) -> str:
  """Says so where only a part of a known set is there, as UKBench allows."""
  from cwf_jax.datasets.catalogue import KNOWN

  known = KNOWN.get(benchmark.name)
  if known is None or known.queries in (None, len(benchmark.queries)) or known.images is None:
    return ""
  return f": a part of {known.title}, which has {known.queries:,} queries; published values are of all of them"


def _write(report, output: Path) -> None:
  from cwf_jax.evaluation.report import format_queries, format_report, to_results
  from cwf_jax.writing import write_whole

  for place, one in enumerate(report.measured):
    if one.rows:
      name = "per_query.csv" if place == 0 else f"per_query_{one.name}.csv"
      write_whole(output / name, format_queries(one).encode())
  write_whole(output / "results.json", json.dumps(to_results(report), allow_nan=False, indent=1).encode())
  write_whole(output / "report.md", format_report(report).encode())


def _tell(report) -> None:
  """The rows in short."""
  from cwf_jax.evaluation.average_precision import mean_average_precision
  from cwf_jax.evaluation.report import form_of

  for one in report.measured:
    metrics = one.metrics[:1] if len(one.metrics) < 4 else [name for name in one.metrics if name.startswith("mAP")]
    print(f"{one.title}: {', '.join(metrics) or f'not run, {one.reason}'}")
    width = max((len(row.name) for row in one.rows), default=0)
    for row in one.rows:
      shown = [f"{mean_average_precision(row.values[metric]):{form_of(metric)}}" for metric in metrics if row.was_run]
      print(f"  {row.name:<{width}}  {'  '.join(shown) if shown else f'not run: {row.reason}'}")
