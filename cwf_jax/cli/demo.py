"""`--mode=demo`: a small collection with known answers, indexed, searched and scored, with pictures of how."""

import shlex
import time
from pathlib import Path

from absl import flags

from cwf_jax.cli.call import CallError

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
  "crow+pca": "CroW: spatial and channel weights, whitened",
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
  from cwf_jax.cli.demo_page import write_page
  from cwf_jax.datasets.landmarks import TOY_OXFORD, TOY_PARIS
  from cwf_jax.datasets.photographs import check_installed
  from cwf_jax.evaluation.experiment import Benchmark, rank_by_classes, rank_by_pooling
  from cwf_jax.index.store import is_index, open_index
  from cwf_jax.retrieval.searcher import Searcher

  started = time.monotonic()
  check_installed()
  oxford, paris = output / TOY_OXFORD.name, output / TOY_PARIS.name
  indexes = {folder: output / f"{folder.name}.index" for folder in (oxford, paris)}
  encoder = _choose_encoder(values, [open_index(index) for index in indexes.values() if is_index(index)])
  output.mkdir(parents=True, exist_ok=True)
  (output / _MARK).touch()  # first, so that a demo that was interrupted is known as one
  for folder, landmarks in ((oxford, TOY_OXFORD), (paris, TOY_PARIS)):
    _make(folder, landmarks, console)
  classes = min(_WHITENED_WITH, encoder.network.config.num_classes)
  settings = {"whitening": "self", "n_pca": classes, "store_classes": 0}
  _index(values, console, encoder, paris, indexes[paris], settings)
  _index(values, console, encoder, oxford, indexes[oxford], {"whitening": str(indexes[paris]), "store_classes": "all"})
  benchmark, searcher = Benchmark.open(oxford), Searcher(indexes[oxford], encoder)
  with console.progress("images pooled") as progress:
    ranked = rank_by_pooling(searcher.encoder, benchmark, Benchmark.open(paris).listing, progress)
  with console.progress("queries") as progress:
    ranked["ofa"] = rank_by_classes(searcher, benchmark, "offline", progress)
  ranked["ona"] = rank_by_classes(searcher, benchmark, "online")
  precisions = {name: benchmark.average_precisions(ranked[name]) for name in _SYSTEMS}
  write_page(output, benchmark, searcher, precisions, _SYSTEMS)
  console.say(f"{time.monotonic() - started:.1f} s in all")
  _tell(precisions, benchmark, output, indexes[oxford])
  return 0


def _check_output(values: flags.FlagValues, output: Path) -> None:
  if values["index"].value:
    raise CallError("--mode=demo puts its indexes into --output; leave --index out")
  if output.exists() and not output.is_dir():
    raise CallError(f"--output={output} is a file, not a folder")
  if output.is_dir() and any(output.iterdir()) and not (output / _MARK).exists():
    raise CallError(f"--output={output} holds files that are not the demo's; name another folder")


def _choose_encoder(values: flags.FlagValues, indexes: list):
  """The encoder of the indexes that are there, which the flags must not contradict; that of the flags if there are none."""
  from cwf_jax.cli.encoders import agreeing_encoder, make_encoder
  from cwf_jax.encoder import load_recorded_encoder

  if not indexes:
    return make_encoder(values)
  given = [agreeing_encoder(values, index, "output") for index in indexes]
  settings = indexes[0].settings
  return given[0] or load_recorded_encoder(
    f"the index {indexes[0].folder}", settings.weights, settings.weights_folder, settings.protocol, settings.fingerprint
  )


def _make(folder: Path, landmarks, console) -> None:
  from cwf_jax.datasets.landmarks import write_landmarks

  with console.progress("pictures") as progress:
    queries = write_landmarks(folder, landmarks, progress=progress)
  pictures = sum(1 for _ in (folder / "images").iterdir())
  console.say(f"{folder}: {pictures} pictures, {len(landmarks.scenes)} landmarks, {len(queries)} queries")


def _index(values: flags.FlagValues, console, encoder, folder: Path, index: Path, settings: dict) -> None:
  from cwf_jax.cli.index import tell
  from cwf_jax.indexing.build import build_index

  with console.progress("images") as progress:
    summary = build_index(
      folder / "images", index, encoder, progress=progress, batch_size=values["batch_size"].value, **settings
    )
  tell(summary, console)


def _tell(precisions: dict, benchmark, output: Path, index: Path) -> None:
  from cwf_jax.evaluation.average_precision import mean_average_precision

  means = {name: mean_average_precision(values) for name, values in precisions.items()}
  shown = {"raw sum pooling": "raw", "CroW": "crow+pca", "class-weighted offline": "ofa", "class-weighted online": "ona"}
  told = ", ".join(f"{words} {means[name]:.3f}" for words, name in shown.items())
  print(f"mAP on toy Oxford, {len(benchmark.queries)} queries: {told}")
  query = benchmark.queries[0]
  box = ",".join(f"{side:g}" for side in query.box)
  call = f"--mode=search --index={shlex.quote(str(index))} --query={shlex.quote(benchmark.query_path(query))} --box={box}"
  print(f"see how and why: {output / 'index.html'}")
  print(f"search it yourself: python main.py {call} --figure={shlex.quote(str(output / 'answers.png'))}")
