"""`--mode=demo`: a small collection with known answers, evaluated, indexed and searched, with pictures of how."""

import shlex
import time
from pathlib import Path

from absl import flags

from cwf_jax.cli import evaluate
from cwf_jax.cli.call import ENCODER_FLAGS, CallError, parse_call
from cwf_jax.cli.notes import program
from cwf_jax.errors import printable

EXAMPLES = """
  python main.py --mode=demo
  python main.py --mode=demo --output=/tmp/demo --weights=random:vgg16_cam --image_size=320

Makes two small collections from the photographs that scikit-image and scikit-learn carry: "toy
Oxford" and "toy Paris", in the form of the benchmarks of these names. Evaluates four systems on the
first, whitened by the second, and prints what --mode=evaluate --dataset=toy_oxford prints of them.
Then indexes toy Oxford as --mode=index does, and draws searches of that index. Nothing is
downloaded. Open index.html in the output folder.
"""

AFTER_INTERRUPT = evaluate.AFTER_INTERRUPT

WITHOUT = ("index",)

_MARK = ".cwf_jax-demo"
_SYSTEMS = "raw,raw_cw,ofa,ona"


def define_flags(values: flags.FlagValues) -> None:
  """The flags of this mode."""
  what = "the folder for collections, report, index, pictures and page"
  flags.DEFINE_string("output", "demo-output", what, flag_values=values)


def run(values: flags.FlagValues, console) -> int:
  """Runs the mode: the lines of the evaluation on standard output, its report, an index and a page in the output folder."""
  output = Path(values["output"].value)
  _check_output(output)
  from cwf_jax.cli.demo_page import PICTURES, write_page
  from cwf_jax.cli.encoders import make_encoder
  from cwf_jax.cli.evaluation_data import find_data
  from cwf_jax.datasets.openers import open_benchmark
  from cwf_jax.figures.files import check_figure_path
  from cwf_jax.retrieval.searcher import Searcher
  from cwf_jax.toy.photographs import check_installed

  started = time.monotonic()
  check_installed()
  if output.exists():
    for picture in PICTURES:
      check_figure_path(output / picture)
  index, encoder = output / "toy_oxford.index", make_encoder(values)
  _check_index(index, encoder)
  output.mkdir(parents=True, exist_ok=True)
  (output / _MARK).touch()  # first, so that a demo that was interrupted is known as one
  shared = [f"--{flag}={values[flag].value}" for flag in ENCODER_FLAGS if values[flag].value is not None]
  asked = ("--mode=evaluate", "--dataset=toy_oxford", f"--systems={_SYSTEMS}", f"--output={output}")
  evaluation = parse_call(["main.py", *asked, *shared]).values
  lines, _ = evaluate.evaluate(evaluation, console)
  print("\n".join(lines), flush=True)
  benchmark = open_benchmark("toy_oxford", find_data(evaluation).folder)
  _index(values, console, encoder, benchmark.listing.root, index)
  write_page(output, benchmark, Searcher(index, encoder), lines[:-1])
  _print_next_steps(benchmark, output, index)
  console.say(f"{time.monotonic() - started:.1f} s in all")
  return 0


def _check_output(output: Path) -> None:
  if output.exists() and not output.is_dir():
    raise CallError(f"--output={printable(output)} is a file, not a folder")
  if output.is_dir() and any(output.iterdir()) and not (output / _MARK).exists():
    raise CallError(f"--output={printable(output)} holds files that are not the demo's; name another folder")


def _check_index(index: Path, encoder) -> None:
  """Refuses the index of a demo with other flags, before anything is computed."""
  from cwf_jax.index.store import is_index, open_index

  if is_index(index) and open_index(index).settings.fingerprint != encoder.settings.fingerprint:
    flags_of_encoder = "--weights, --protocol, --image_size, --num_classes or --feature_map"
    raise CallError(f"{printable(index)} was made with another {flags_of_encoder}; give the same, or name another --output")


def _index(values: flags.FlagValues, console, encoder, images: str, index: Path) -> None:
  from cwf_jax.cli.index import tell
  from cwf_jax.indexing.build import build_index

  with console.progress("images") as progress:
    tell(build_index(images, index, encoder, progress=progress, batch_size=values["batch_size"].value), console)


def _print_next_steps(benchmark, output: Path, index: Path) -> None:
  query = benchmark.queries[0]
  box = ",".join(f"{side:g}" for side in query.box)
  path = shlex.quote(benchmark.listing.path(query.image))
  call = f"--mode=search --index={shlex.quote(str(index))} --query={path} --box={box}"
  print(f"see how and why: {output / 'index.html'}")
  print(f"search it yourself: {program()} {call} --figure={shlex.quote(str(output / 'answers.png'))}")
