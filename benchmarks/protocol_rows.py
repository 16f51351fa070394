"""What does each difference between the paper and its published code move, on the toy pair?

    python benchmarks/protocol_rows.py                                  # the default weights, toy Oxford and toy Paris
    python benchmarks/protocol_rows.py --systems=raw,ofa --output=rows  # some systems; what passes give is kept in rows/
    python benchmarks/protocol_rows.py --smoke                          # seconds; for the tests

Evaluates the preset `paper`, then `paper` with one setting of `reference` at a time (METHOD 7), then `reference`.
Each is told as its difference to `paper`, with a 95 % interval by a paired bootstrap over the queries of both sets.
"""

import argparse
import contextlib
import pathlib
import sys
import tempfile

SYSTEMS = "raw,crow,rmac,ofa,ona"


def main(arguments: list[str] | None = None) -> None:
  """Evaluates and prints a table."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--weights", default="default")
  parser.add_argument("--image_size", type=int, help="default: the checkpoint's own")
  parser.add_argument("--n_pca", type=int, default=1, help="class vectors of each image that the whitening is fitted on")
  parser.add_argument("--systems", default=SYSTEMS)
  parser.add_argument("--output", type=pathlib.Path, help="keeps pictures, vectors and rows; default: a temporary folder")
  parser.add_argument("--smoke", action="store_true", help="a few pictures, two systems, random weights")
  options = parser.parse_args(arguments)
  if options.smoke:
    options.weights, options.image_size, options.systems = "random:vgg16_cam_quarter", 64, "raw,ofa"
  with contextlib.ExitStack() as stack:
    folder = options.output or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
    run(options, folder)


def run(options: argparse.Namespace, folder: pathlib.Path) -> None:
  """Evaluates each variant on both sets."""
  import numpy as np

  from cwf_jax.load import load_encoder
  from cwf_jax.metrics.bootstrap import paired_bootstrap

  encoder = load_encoder(options.weights, image_size=options.image_size)
  sets = write_sets(folder, options.smoke)
  variants = list_variants(options.smoke)
  common = {"n_pca": options.n_pca}
  paper = evaluate(folder, sets, encoder, "paper", common, options.systems)
  names = list(paper)
  print(f"| what differs from `paper` | row | {' | '.join(f'`{name}`' for name in names)} |")
  print(f"|---|---|{'---|' * len(names)}")
  print(f"| nothing: mAP of both sets | | {' | '.join(f'{np.nanmean(paper[name]):.3f}' for name in names)} |")
  for label, row, preset, changes in variants:
    found = evaluate(folder, sets, encoder, preset, common | changes, options.systems)
    cells = []
    for name in names:
      if np.isnan(found[name]).all() or np.isnan(paper[name]).all():
        cells.append("not run")
        continue
      if np.array_equal(found[name], paper[name], equal_nan=True):
        cells.append("0")
        continue
      difference, low, high = paired_bootstrap(found[name], paper[name])
      cells.append(f"{difference:+.3f} [{low:+.3f}, {high:+.3f}]")
    print(f"| {label} | {row} | {' | '.join(cells)} |", flush=True)


def list_variants(smoke: bool):
  """(label, row of METHOD 7, preset, changes): one setting at a time, then the whole preset."""
  from cwf_jax.systems.settings import list_settings

  differing = [field for field in list_settings() if field.metadata["reference"] != field.default]
  if smoke:
    differing = differing[-2:]
  for field in differing:
    value = field.metadata["reference"]
    yield f"`{field.name}={value}`", field.metadata["row"], "paper", {field.name: value}
  if not smoke:
    yield "all of `reference`", "", "reference", {}


def write_sets(folder: pathlib.Path, smoke: bool) -> dict:
  """The toy pair as image sets, by name."""
  import dataclasses

  from cwf_jax.images.image_set import ImageSet
  from cwf_jax.images.listing import list_images
  from cwf_jax.toy.landmarks import TOY_OXFORD, TOY_PARIS, write_landmarks

  sets = {}
  for landmarks in (TOY_OXFORD, TOY_PARIS):
    if smoke:
      landmarks = dataclasses.replace(landmarks, scenes=landmarks.scenes[1:3], distractors=4)
    write_landmarks(folder / landmarks.name, landmarks)
    listing = list_images(folder / landmarks.name / "images")
    sets[landmarks.name] = ImageSet(landmarks.name, listing, listing.ids)
  return sets


def evaluate(folder: pathlib.Path, sets: dict, encoder, preset: str, changes: dict, systems: str) -> dict:
  """The average precisions of each row, of the queries of both sets: each set is whitened by the other."""
  import numpy as np

  from cwf_jax.datasets.openers import open_oxford
  from cwf_jax.evaluation.experiment import Experiment
  from cwf_jax.systems.settings import Settings

  found: dict[str, list[float]] = {}
  settings = Settings.preset(preset, changes)
  for name, other in zip(sets, reversed(sets), strict=True):
    print(f"{preset}, {changes}: {name}", file=sys.stderr)
    experiment = Experiment(open_oxford(folder / name), encoder, settings, folder / "kept", whitened_by=sets[other])
    for row in experiment.make_rows(systems.split(",")):
      found.setdefault(row.name, []).extend(row.values["mAP"] if row.was_run else [np.nan] * len(experiment.benchmark.queries))
  return {name: np.asarray(values) for name, values in found.items()}


if __name__ == "__main__":
  main()
