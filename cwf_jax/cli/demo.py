"""`--mode=demo`: the main job on photographs that are installed already."""

import shlex
from pathlib import Path

from absl import flags

from cwf_jax.cli.call import CallError

EXAMPLES = """
  python main.py --mode=demo
  python main.py --mode=demo --output=/tmp/demo --weights=random:vgg16_cam --image_size=320

Copies the photographs that scikit-image and scikit-learn carry, indexes them, and searches the
index with changed views of them: nearer, from another side, in other light, blurred, compressed.
Nothing is downloaded.
"""

_MARK = ".cwf_jax-demo"


def define_flags(values: flags.FlagValues) -> None:
  """The flags of this mode."""
  flags.DEFINE_string("output", "demo-output", "the folder for photographs, views and index", flag_values=values)


def run(values: flags.FlagValues, console) -> int:
  """Runs the mode: one line for each view, and how many found their photograph, on standard output."""
  output = Path(values["output"].value)
  if values["index"].value:
    raise CallError("--mode=demo puts its index into --output; leave --index out")
  if output.exists() and not output.is_dir():
    raise CallError(f"--output={output} is a file, not a folder")
  if output.is_dir() and any(output.iterdir()) and not (output / _MARK).exists():
    raise CallError(f"--output={output} holds files that are not the demo's; name another folder")
  from cwf_jax.cli.encoders import agreeing_encoder, make_encoder
  from cwf_jax.cli.index import tell
  from cwf_jax.datasets.photographs import check_installed, write_photographs, write_views
  from cwf_jax.index.store import is_index, open_index
  from cwf_jax.indexing.build import build_index
  from cwf_jax.retrieval.searcher import Searcher

  photographs, views, folder = output / "photographs", output / "views", output / "index"
  check_installed()
  encoder = agreeing_encoder(values, open_index(folder), "output") if is_index(folder) else make_encoder(values)
  output.mkdir(parents=True, exist_ok=True)
  (output / _MARK).touch()  # first, so that a demo that was interrupted is known as one
  names = write_photographs(photographs)
  shows = write_views(photographs, views)
  console.say(f"{len(names)} photographs in {photographs}, {len(shows)} changed views of them in {views}")
  with console.progress("photographs") as progress:
    summary = build_index(
      photographs,
      folder,
      encoder,
      whitening="self",
      progress=progress,
      batch_size=values["batch_size"].value,
    )
  tell(summary, console)
  searcher = Searcher(folder, encoder)
  queries = []
  with console.progress("views") as progress:
    for place, view in enumerate(shows, 1):
      queries.append(searcher.encode(views / view))
      progress(place, len(shows))
  answers = searcher.search(queries, top=3)
  return _show(shows, answers, views, folder)


def _show(shows: dict[str, str], answers: list, views: Path, folder: Path) -> int:
  width = max(map(len, shows))
  print(f"{'view':<{width}}  first three answers, with scores")
  first = 0
  for (view, name), results in zip(shows.items(), answers, strict=True):
    right = Path(results[0].id).stem == name
    first += right
    told = ", ".join(f"{result.id} {result.score:.4f}" for result in results)
    print(f"{view:<{width}}  {told}{'' if right else '   <- not its photograph'}")
  print(f"{first} of {len(shows)} views found their photograph first")
  command = f"--mode=search --index={shlex.quote(str(folder))} --query={shlex.quote(str(views / next(iter(shows))))}"
  print(f"search it yourself: python main.py {command}")
  return 0
