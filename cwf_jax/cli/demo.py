"""`--mode=demo`: a small collection with known answers, indexed, searched and scored, with pictures of how."""

import shlex
import time
from pathlib import Path

from absl import flags

from cwf_jax.cli.call import CallError
from cwf_jax.cli.notes import program
from cwf_jax.errors import printable

EXAMPLES = """
  python main.py --mode=demo
  python main.py --mode=demo --output=/tmp/demo --weights=random:vgg16_cam --image_size=320

Makes two small collections from the photographs that scikit-image and scikit-learn carry: "toy
Oxford" and "toy Paris", in the form of the benchmarks of these names. Indexes the first, whitened
by the second, searches for all its boxes, and prints the mean average precision of four systems.
Nothing is downloaded. Open index.html in the output folder.
"""

_MARK = ".cwf_jax-demo"
_WHITENED_WITH = 64
"""Class vectors of each image of toy Paris that the whitening is fitted on: it has too few images for fewer."""

_SYSTEMS = {
  "raw": "raw sum pooling",
  "raw+pca": "the same, whitened",
  "raw_cw+pca": "weighted by channels (the paper's CroW), whitened",
  "ofa": "class-weighted, offline: each image by its own classes, whitened",
  "ona": "class-weighted, online: each image by the query's classes, whitened",
}


def define_flags(values: flags.FlagValues) -> None:
  """The flags of this mode."""
  flags.DEFINE_string("output", "demo-output", "the folder for collections, indexes, pictures and page", flag_values=values)


def run(values: flags.FlagValues, console) -> int:
  """Runs the mode: the line of mean average precisions on standard output, pictures and a page in the output folder."""
  output = Path(values["output"].value)
  _check_output(values, output)
  from cwf_jax.cli.demo_page import PICTURES, write_page
  from cwf_jax.datasets.landmarks import TOY_OXFORD, TOY_PARIS
  from cwf_jax.datasets.photographs import check_installed
  from cwf_jax.evaluation.index_ranking import score_index
  from cwf_jax.evaluation.openers import open_oxford
  from cwf_jax.figures.files import check_figure_path
  from cwf_jax.index.store import is_index, open_index
  from cwf_jax.retrieval.searcher import Searcher

  started = time.monotonic()
  check_installed()
  oxford, paris = output / TOY_OXFORD.name, output / TOY_PARIS.name
  indexes = {folder: output / f"{folder.name}.index" for folder in (oxford, paris)}
  if output.exists():
    for picture in PICTURES:
      check_figure_path(output / picture)
  for folder, landmarks in ((oxford, TOY_OXFORD), (paris, TOY_PARIS)):
    _check_strays(folder, landmarks)
  encoder = _choose_encoder(values, [open_index(index) for index in indexes.values() if is_index(index)])
  output.mkdir(parents=True, exist_ok=True)
  (output / _MARK).touch()  # first, so that a demo that was interrupted is known as one
  for folder, landmarks in ((oxford, TOY_OXFORD), (paris, TOY_PARIS)):
    _make(folder, landmarks, console)
  classes = min(_WHITENED_WITH, encoder.network.config.num_classes)
  settings = {"whitening": "self", "n_pca": classes, "store_classes": 0}
  _index(values, console, encoder, paris, indexes[paris], settings)
  _index(values, console, encoder, oxford, indexes[oxford], {"whitening": str(indexes[paris]), "store_classes": "all"})
  benchmark, searcher = open_oxford(oxford), Searcher(indexes[oxford], encoder)
  precisions, dimensions = _pool(values, console, searcher.encoder, benchmark, paris)
  with console.progress("queries") as progress:
    precisions["ofa"] = score_index(searcher, benchmark, "offline", progress)["mAP"]
  precisions["ona"] = score_index(searcher, benchmark, "online")["mAP"]
  dimensions |= dict.fromkeys(("ofa", "ona"), searcher.index.settings.dimensions)
  _tell(precisions)
  write_page(output, benchmark, searcher, precisions, _SYSTEMS, dimensions)
  _tell_more(benchmark, output, indexes[oxford])
  console.say(f"{time.monotonic() - started:.1f} s in all")
  return 0


def _check_output(values: flags.FlagValues, output: Path) -> None:
  if values["index"].value:
    raise CallError("--mode=demo puts its indexes into --output; leave --index out")
  if output.exists() and not output.is_dir():
    raise CallError(f"--output={output} is a file, not a folder")
  if output.is_dir() and any(output.iterdir()) and not (output / _MARK).exists():
    raise CallError(f"--output={output} holds files that are not the demo's; name another folder")


def _check_strays(folder: Path, landmarks) -> None:
  """Whatever else lies among the pictures would be searched, too."""
  from cwf_jax.datasets.landmarks import list_files

  expected = list_files(landmarks)
  there = [path for part in expected for path in (folder / part).glob("*") if path.name not in expected[part]]
  found = [path for path in there if path.suffix != ".tmp"]  # what a killed run was writing is no picture
  if found:
    names = ", ".join(printable(path) for path in sorted(found)[:3]) + (" and more" if len(found) > 3 else "")
    raise CallError(f"files that are not the demo's would be searched, too: {names}; remove them or name another --output")


def _choose_encoder(values: flags.FlagValues, indexes: list):
  """The encoder of the indexes that are there, which the flags must not contradict; that of the flags if there are none."""
  from cwf_jax.cli.encoders import agreeing_encoder, make_encoder
  from cwf_jax.load import load_recorded_encoder

  if not indexes:
    return make_encoder(values)
  given = [agreeing_encoder(values, index, "output") for index in indexes]
  return given[0] or load_recorded_encoder(f"the index {indexes[0].folder}", indexes[0].settings)


def _make(folder: Path, landmarks, console) -> None:
  from cwf_jax.datasets.landmarks import list_files, write_landmarks

  with console.progress("pictures") as progress:
    queries = write_landmarks(folder, landmarks, progress=progress)
  pictures = len(list_files(landmarks)["images"])
  console.say(f"{folder}: {pictures} pictures, {len(landmarks.scenes)} landmarks, {len(queries)} queries")


def _index(values: flags.FlagValues, console, encoder, folder: Path, index: Path, settings: dict) -> None:
  from cwf_jax.cli.index import tell
  from cwf_jax.indexing.build import build_index

  with console.progress("images") as progress:
    summary = build_index(
      folder / "images", index, encoder, progress=progress, batch_size=values["batch_size"].value, **settings
    )
  tell(summary, console)


def _pool(values: flags.FlagValues, console, encoder, benchmark, paris: Path) -> tuple[dict, dict]:
  """The average precisions of the systems that pool into one vector, and the dimensions of their descriptors."""
  import numpy as np

  from cwf_jax.evaluation.experiment import Experiment
  from cwf_jax.evaluation.images import ImageSet
  from cwf_jax.evaluation.settings import Settings
  from cwf_jax.images.listing import list_images

  own = encoder.settings.protocol
  pool = list_images(paris / "images")
  experiment = Experiment(
    benchmark,
    encoder,
    Settings.preset(own.name, {"num_classes": own.num_classes}),
    paris.parent / "evaluation",
    whitened_by=ImageSet(paris.name, pool, pool.ids),
    batch_size=values["batch_size"].value,
    progress=console.progress,
  )
  rows = list(experiment.make_rows(("raw", "raw_cw")))
  names = [row.name.partition("@")[0] for row in rows]
  return (
    {name: np.asarray(row.values["mAP"]) for name, row in zip(names, rows, strict=True)},
    {name: row.dimensions for name, row in zip(names, rows, strict=True)},
  )


def _tell(precisions: dict) -> None:
  from cwf_jax.evaluation.average_precision import mean_average_precision

  means = {name: mean_average_precision(values) for name, values in precisions.items()}
  shown = {"raw sum pooling": "raw", "channel weights": "raw_cw+pca"}
  shown |= {"class-weighted offline": "ofa", "class-weighted online": "ona"}
  told = ", ".join(f"{words} {means[name]:.3f}" for words, name in shown.items())
  print(f"mAP on toy Oxford, {len(precisions['raw'])} queries: {told}", flush=True)


def _tell_more(benchmark, output: Path, index: Path) -> None:
  query = benchmark.queries[0]
  box = ",".join(f"{side:g}" for side in query.box)
  path = shlex.quote(benchmark.listing.path(query.image))
  call = f"--mode=search --index={shlex.quote(str(index))} --query={path} --box={box}"
  print(f"see how and why: {output / 'index.html'}")
  print(f"search it yourself: {program()} {call} --figure={shlex.quote(str(output / 'answers.png'))}")
