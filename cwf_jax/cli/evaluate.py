"""`--mode=evaluate`: a benchmark's table, measured beside published."""

import time
from pathlib import Path

from absl import flags

from cwf_jax.cli.call import CallError
from cwf_jax.cli.evaluation_data import (
  FOLDER,
  TOYS,
  check_set,
  find_data,
  make_data,
  open_set,
)
from cwf_jax.cli.evaluation_pools import choose_distractors, choose_whitening
from cwf_jax.cli.evaluation_report import describe_head, tell, write_report
from cwf_jax.cli.notes import RANDOM_NOTE
from cwf_jax.errors import InputError, near, printable
from cwf_jax.writing import holding

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

A folder's JSON: {"database": ["a.jpg", ...], "queries": {"q.jpg": {"box": [10, 20, 110, 90],
"relevant": ["a.jpg"], "junk": []}}}. Names are those of files below --images; box (left, top,
right, bottom in pixels) and junk may be left out. A query that is in the database finds itself
first: put it into its own junk, so that it is skipped, or into relevant. The whitening is the
checkpoint's own unless --whitening names a folder, list or tar of other images.

Settings, of which report.md tells the meaning and what --protocol=paper and reference say:
size_rule, reversed_means, query_images, empty_maps, crow_weights, crow_epsilon, box_rule,
floor_boxes, crow_box, spoc_query, num_classes, fixed_classes, n_pca, eigenvalue_floor, query_row,
ties, seed. --set=ties=by_row changes one; what it takes is told where it is given something else.

A run that is interrupted goes on where it was if it is called again; with other settings it
computes what they change. The report is of the last run, with rows of earlier ones on the same.
--against=OTHER tells what each row gains over the same system's in another output folder.
"""

AFTER_INTERRUPT = "the same command goes on where it was"

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
  names, settings = _check_call(values)
  from cwf_jax.evaluation.differences import compare, compare_runs
  from cwf_jax.evaluation.results import Report, read_results

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
    for remark in (RANDOM_NOTE, *remarks) if encoder.settings.is_random else remarks:
      console.say(remark)
    seconds = {"check": time.monotonic() - started}
    distractors = choose_distractors(values, data.folder)
    measured, made = _measure(values, settings, names, encoder, classes, ranked.benchmark, pool, distractors, seconds, console)
    started_comparing = time.monotonic()
    comparisons = tuple(one for one in (compare(one, seed=settings.seed) for one in measured) if one.differences)
    report = Report(measured, describe_head(values, encoder, weights, ranked, pool, made, remarks), settings, seconds)
    to_other = () if other is None else compare_runs(report, other, seed=settings.seed)
    seconds |= {"differences": time.monotonic() - started_comparing, "all": time.monotonic() - started}
    report = report._replace(comparisons=(*comparisons, *to_other), seconds=seconds)
    write_report(report, output)
    tell(report, to_other)
    print(f"report: {output / 'report.md'}", flush=True)
    return 0


def _load(values: flags.FlagValues, settings, names: tuple[str, ...]):
  """The encoder, the weights it is of, and the classes of a fixed list, None for those of most queries."""
  from cwf_jax.load import load_encoder
  from cwf_jax.models.checkpoint import load_weights
  from cwf_jax.protocol import Protocol

  weights = load_weights(values["weights"].value or "default")
  count = weights.network.config.num_classes
  _check_classes(settings, count)
  size = values["image_size"].value or weights.network.config.image_size
  _check_sizes(settings, names, size)
  # Reversed means belong to single passes; see `passes.with_protocol`.
  encoder = load_encoder(weights, Protocol.paper(size, min(settings.num_classes, count)))
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
  """The rows of the set, and with distractors; and when and by what they were made. `seconds` takes the times of parts."""
  from cwf_jax.evaluation.experiment import Experiment
  from cwf_jax.evaluation.results import Measured

  queries, measured, made = tuple(query.name for query in benchmark.queries), [], None
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
    made = made or experiment.made
    rows = tuple(experiment.make_rows(names))
    for problem in experiment.unreadable:
      console.say(f"left out: {problem}")
    seconds |= {part if others is None else f"{part}, {title}": spent for part, spent in experiment.seconds.items()}
    kept = experiment.find_kept(names)
    not_asked = frozenset(row.name for row in kept)
    measured.append(Measured(name, title, (*rows, *kept), queries, kept=not_asked, earlier=experiment.earlier))
  return tuple(measured), made


def _check_call(values: flags.FlagValues):
  """The systems and the settings that are asked for; all that is wrong with the flags alone is told at once."""
  names, problems = _choose_systems(values["systems"].value)
  if values["classes"].value is not None and "fixed" not in names:
    problems.append("--classes is for the system fixed, which --systems leaves out")
  problems = [*_list_wrong_paths(values), *problems]
  settings, wrong = _choose_settings(values)
  if problems or wrong:
    raise CallError("; ".join([*problems, *wrong]))
  return names, settings


def _list_wrong_paths(values: flags.FlagValues) -> list[str]:
  from cwf_jax.datasets.catalogue import KNOWN

  dataset, output, problems = values["dataset"].value, values["output"].value, []
  sets = [name for name, known in KNOWN.items() if known.groundtruth != "none"]
  if not dataset:
    problems.append("--dataset is missing, the set to rank: oxford5k, toy_oxford, folder ... (--help tells more)")
  elif dataset != FOLDER and dataset not in sets:
    known = f"{KNOWN[dataset].title} has no queries of its own, it is added to other sets" if dataset in KNOWN else ""
    known = known or f"no data set is named {printable(dataset)}{near(dataset, [*sets, FOLDER])}"
    problems.append(f"{known} (--dataset takes {', '.join(sets)} and {FOLDER})")
  if not output:
    problems.append("--output is missing, the folder for the results")
  given = {name: values[name].value for name in ("images", "groundtruth")}
  if dataset == FOLDER and None in given.values():
    problems.append("--dataset=folder needs --images and --groundtruth")
  if dataset in sets and any(given.values()):
    problems.append("--images and --groundtruth are for --dataset=folder")
  data_dir = values["data_dir"].value
  if dataset in sets and dataset not in TOYS and data_dir is None:
    problems.append(f"--data_dir is missing, the folder that holds {printable(dataset)}/")
  if data_dir is not None and not Path(data_dir).is_dir():
    problems.append(f"--data_dir={printable(data_dir)} is no folder that is there")
  for name in ("output", "vectors"):
    problems += _list_wrong_folder(name, values[name].value)
  whitening = values["whitening"].value
  if whitening in KNOWN and data_dir is None and dataset not in TOYS and not Path(whitening).exists():
    problems.append(f"--whitening={whitening} is a set, which needs --data_dir, the folder that holds it")
  itself = (FOLDER,) if dataset == FOLDER else ()
  if whitening not in ("other", "bundled", "none", *itself, *KNOWN) and not Path(whitening).exists():
    known = "other, bundled, none, a set's name"
    alike = near(whitening, ["other", "bundled", "none", *itself, *KNOWN])
    problems.append(f"--whitening={printable(whitening)} is neither {known} nor a path that is there{alike}")
  against = values["against"].value
  if against and output and Path(against).resolve() == Path(output).resolve():
    problems.append("--against is the --output folder itself: give one of them another folder")
  return problems


def _list_wrong_folder(name: str, given: str | None) -> list[str]:
  """What keeps a flag's value from being a folder, or becoming one."""
  if not given:
    return []
  path = Path(given).absolute()
  there = next(one for one in (path, *path.parents) if one.exists())
  if there.is_dir():
    return []
  what = "is a file, not a folder" if there == path else f"cannot be a folder: {printable(there)} is a file"
  return [f"--{name}={printable(given)} {what}"]


def _choose_systems(asked: str) -> tuple[tuple[str, ...], list[str]]:
  """The names, and what is wrong with them."""
  from cwf_jax.evaluation.systems import SYSTEMS

  given = [name.strip() for name in asked.split(",")]
  names = tuple(SYSTEMS) if asked == "all" else tuple(dict.fromkeys(name for name in given if name))
  unknown = [name for name in names if name not in SYSTEMS]
  if unknown:
    alike = "".join(near(name, SYSTEMS) for name in unknown)
    return names, [f"--systems knows no {', '.join(map(printable, unknown))}; there are {', '.join(SYSTEMS)}{alike}"]
  return names, [] if names else [f"--systems names none; there are {', '.join(SYSTEMS)}"]


def _choose_settings(values: flags.FlagValues):
  """The settings, and what is wrong with those that were given."""
  from cwf_jax.evaluation.settings import Settings

  overrides, problems = {}, []
  for text in values["set"].value:
    name, sign, value = text.partition("=")
    name, value = name.strip(), value.strip()
    if not sign:
      problems.append(f"--set is NAME=VALUE; found {text!r}")
    elif overrides.setdefault(name, value) != value:
      problems.append(f"--set={name} is given twice: {overrides[name]} and {value}")
  count = values["num_classes"].value
  if count is not None and overrides.setdefault("num_classes", count) not in (count, str(count)):
    problems.append(f"--num_classes={count} and --set=num_classes={overrides['num_classes']} differ; give one of them")
  try:
    return Settings.preset(values["protocol"].value or "paper", overrides), problems
  except InputError as error:
    return None, [*problems, str(error)]


def _check_classes(settings, count: int) -> None:
  """Refuses to be asked for more classes than the network has; what a preset says beyond them is all of them."""
  asked = [f"{name}={settings.changes().get(name, 0)}" for name in ("num_classes", "fixed_classes", "n_pca")]
  beyond = [text for text in asked if int(text.partition("=")[2]) > count]
  if beyond:
    raise CallError(f"the network has {count} classes; {' and '.join(beyond)} asks for more")


def _check_sizes(settings, names: tuple[str, ...], size: int) -> None:
  """Refuses a shorter side at which a system's own size, in the same proportion as published, is none."""
  from cwf_jax.evaluation.systems import SYSTEMS

  for name in names:
    try:
      SYSTEMS[name].sizes.protocol(settings, size)
    except InputError as error:
      where = f"--image_size={size} stands where the paper has 720, and the images of {name} are in proportion"
      raise CallError(f"{where}: {error}") from None


def _list_runs(benchmark, distractors, no_distractors: str, more_title: str):
  """(name, title, distractors or why there are none) of each column."""
  from cwf_jax.datasets.catalogue import KNOWN

  yield benchmark.name, KNOWN[benchmark.name].title if benchmark.name in KNOWN else benchmark.name, None
  if more_title:
    yield more_title.lower(), more_title, distractors or no_distractors
