"""What are weights worth: how well do raw pooling, CroW and class-weighted aggregation retrieve with them?

    python benchmarks/retrieval_quality.py                                   # ../shared/data, the default weights
    python benchmarks/retrieval_quality.py --weights=default,random:vgg16_cam_quarter,/path/to/checkpoint --json=worth.json
    python benchmarks/retrieval_quality.py --sets=ukbench --whitening_images=FOLDER_OR_LIST_OR_TAR --n_pca=4
    python benchmarks/retrieval_quality.py --smoke                           # seconds; for the tests

One forward pass of an image feeds all systems: the sum of the features (raw), CroW, and offline aggregation of the class
vectors (OfA) over 64 classes and over the best of 1, 4, ..., 256. The whitening is fitted on other images, never on those that
are ranked; where a checkpoint has its own, OfA is scored with that too. Equal scores come in a seeded random order.

Differences are of the same queries, with 95 % intervals by a paired bootstrap over them. They are of the whitened descriptors;
a checkpoint's own whitening is compared with the fitted one. "best" is chosen on the queries it is scored on: that flatters
it, and its interval does not know of it.
Tables on standard output, progress on standard error; `--json` takes everything, each query's value too.
"""

import argparse
import contextlib
import io
import json
import math
import pathlib
import sys
import tarfile
import tempfile
import time

COUNTS = (1, 4, 8, 16, 32, 64, 128, 256)
IMAGE_SIZES = {"grocery": 224, "ukbench": 240}
DATA = pathlib.Path("../shared/data")
SMOKE = {"weights": "random:vgg16_cam_quarter,random:vgg16_cam_small", "image_size": "64", "samples": 200}


def main(arguments: list[str] | None = None) -> None:
  """Measures each set with each weights and prints a table a set."""
  options = parse(arguments)
  if not options.smoke:
    return run(options)
  with tempfile.TemporaryDirectory() as folder:
    options.data, pool = write_smoke(pathlib.Path(folder))
    options.whitening_images = options.whitening_images if options.whitening_images == "none" else pool
    return run(options)


def parse(arguments: list[str] | None) -> argparse.Namespace:
  """The command line's options; `--smoke` overrides weights, sizes and samples."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--weights", default="default", help="names or folders, separated by commas")
  parser.add_argument("--against", help="one of --weights that the others are compared with; default: the first random one")
  parser.add_argument("--data", type=pathlib.Path, default=DATA / "retrieval", help="the folder that holds the sets")
  parser.add_argument("--sets", default="grocery,ukbench", help="folders in --data: ukbench, or any with images/ and gt.json")
  parser.add_argument("--image_size", help="shorter side: one number, or SET:NUMBER,...; default grocery:224,ukbench:240")
  parser.add_argument("--whitening_images", default=str(DATA / "train/imagenet_samples.tar"), help="folder, list, tar or none")
  parser.add_argument("--n_pca", type=int, default=1, help="class vectors of each of them that OfA's whitening is fitted on")
  parser.add_argument("--batch_size", type=int)
  parser.add_argument("--samples", type=int, default=10_000, help="of the bootstrap")
  parser.add_argument("--seed", type=int, default=0, help="of the order of equal scores and of the bootstrap")
  choices = ("whitened", "plain", "both")
  parser.add_argument("--differences", default="whitened", choices=choices, help="of which descriptors the tables tell them")
  parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="takes all numbers")
  parser.add_argument("--smoke", action="store_true", help="a few tiny pictures that are made for it")
  options = parser.parse_args(arguments)
  if options.smoke:
    vars(options).update(SMOKE)
  options.weights, options.sets = options.weights.split(","), options.sets.split(",")
  for name in ("weights", "sets"):
    if len(set(getattr(options, name))) < len(getattr(options, name)) or "" in getattr(options, name):
      parser.error(f"--{name} is a list of different names; found {','.join(getattr(options, name))!r}")
  if options.against not in (None, *options.weights):
    parser.error(f"--against is one of --weights; found {options.against!r}")
  if options.n_pca < 1 or options.samples < 1 or options.seed < 0:
    parser.error("--n_pca and --samples are at least 1, --seed is at least 0")
  if options.json and not options.json.absolute().parent.is_dir():
    parser.error(f"there is no folder for {options.json}")
  options.sizes = parse_sizes(parser, options.image_size, options.sets)
  return options


def parse_sizes(parser: argparse.ArgumentParser, text: str | None, sets: list[str]) -> dict[str, int | None]:
  """The shorter side of each set; None is the checkpoint's own."""
  try:
    if text and ":" not in text:
      return dict.fromkeys(sets, int(text))
    given = {name: int(size) for name, size in (part.split(":") for part in (text or "").split(",") if part)}
  except ValueError:
    parser.error(f"--image_size is a number or SET:NUMBER,...; found {text!r}")
  if set(given) - set(sets):
    parser.error(f"--image_size names sets that are not in --sets: {', '.join(sorted(set(given) - set(sets)))}")
  return {name: given.get(name, IMAGE_SIZES.get(name)) for name in sets}


def run(options: argparse.Namespace) -> None:
  """Measures and prints; the JSON is written anew after each set."""
  from cwf_jax.cli import allocator
  from cwf_jax.errors import InputError
  from cwf_jax.evaluation.collection import open_collection
  from cwf_jax.evaluation.image_source import open_images
  from cwf_jax.evaluation.pooling import PLAIN, WHITENED
  from cwf_jax.evaluation.quality_table import format_oddities, format_table
  from cwf_jax.load import load_encoder

  allocator.keep_freed_memory()
  settings = {name: str(value) if isinstance(value, pathlib.Path) else value for name, value in vars(options).items()}
  everything = {"settings": settings, "sets": {}}
  try:
    pool = None if options.whitening_images == "none" else open_images(options.whitening_images)
    sets = {name: open_collection(name, options.data / name) for name in options.sets}
    # All at first, so that what is wrong with one is not told after an hour.
    sized = {name: {w: load_encoder(w, image_size=options.sizes[name]) for w in options.weights} for name in sets}
    for name, collection in sets.items():
      encoders = sized.pop(name)
      reference = options.against or next((w for w in options.weights if encoders[w].settings.is_random), None)
      compared, seconds = measure_set(options, collection, pool, encoders, reference)
      fitted_on = f"{len(pool.ids)} images of {pathlib.Path(pool.root).name}, n_pca {options.n_pca}" if pool else "nothing"
      protocols = {w: encoder.settings.protocol for w, encoder in encoders.items()}
      sizes = sorted({protocol.image_size for protocol in protocols.values()})
      rounded = [f"; {w} at multiples of {one.size_multiple}" for w, one in protocols.items() if one.size_multiple > 1]
      print(
        f"\n{name}: {collection.metric} of {len(collection.queries)} queries over {len(collection.database)} images, "
        f"{' and '.join(map(str, sizes))} pixels{''.join(rounded)}; whitened on {fitted_on}\n"
      )
      variants = {"whitened": [WHITENED], "plain": [PLAIN], "both": [PLAIN, WHITENED]}[options.differences if pool else "plain"]
      print(format_table(compared, collection.metric, reference, variants) + f"\n\n{format_oddities(compared)}", flush=True)
      everything["sets"][name] = {
        "metric": collection.metric,
        "reference": reference,
        "database": len(collection.database),
        "queries": collection.queries,
        "weights": {w: to_details(encoders[w], compared[w], seconds[w]) for w in options.weights},
      }
      if options.json:
        options.json.write_text(json.dumps(to_json(everything), allow_nan=False) + "\n", encoding="utf-8")
  except InputError as error:
    raise SystemExit(f"{sys.argv[0]}: {error}") from None


def measure_set(options, collection, pool, encoders, reference):
  """What is known of each weights on one set, and the seconds it took."""
  from cwf_jax.evaluation.comparison import best_count, compare, measure, with_best
  from cwf_jax.evaluation.pooling import OFA, describe_images, fit_whitenings, pool_images
  from cwf_jax.evaluation.quality_table import Compared

  measured, fits, seconds, images = {}, {}, {}, collection.images
  for weights, encoder in encoders.items():
    name, spent = f"{collection.name}, {weights}", seconds.setdefault(weights, {})
    fits[weights] = {}
    if pool is not None:
      with stage(name, "whitening", len(pool.ids), spent) as count:
        batches = pool_images(encoder, pool, pool.ids, max(COUNTS), options.batch_size, count)
        fits[weights] = fit_whitenings(batches, options.n_pca)
    with stage(name, "images", len(images), spent) as count:
      source = collection.listing
      descriptors = describe_images(encoder, source, images, fits[weights], COUNTS, options.batch_size, count)
    with stage(name, "ranking", len(descriptors), spent):
      measured[weights] = with_best(measure(descriptors, collection, options.seed), COUNTS)
  compared = {}
  for weights, found in measured.items():
    with stage(f"{collection.name}, {weights}", "differences", len(found), seconds[weights]):
      other = measured[reference] if reference not in (None, weights) else None
      less = compare(found, other, options.samples, options.seed)
    counts = {key.variant: best_count(found, COUNTS, key.variant) for key in found if key.system == f"{OFA}{COUNTS[0]}"}
    compared[weights] = Compared(found, less, counts, fits[weights])
  return compared, seconds


@contextlib.contextmanager
def stage(name: str, part: str, total: int, seconds: dict[str, float]):
  """Shows a bar while it lasts and one line after it, on standard error, and notes the seconds, compiling included."""
  from tqdm import tqdm

  started = time.perf_counter()
  with tqdm(total=total, desc=f"{name}: {part}", file=sys.stderr, disable=None, leave=False) as bar:
    yield bar.update
  seconds[part] = time.perf_counter() - started
  print(f"{name}: {part} of {total} in {seconds[part]:.1f} s", file=sys.stderr)


def to_details(encoder, compared, seconds: dict[str, float]) -> dict:
  """Everything about some weights on one set, for the JSON; the systems by name and variant."""
  settings, systems = encoder.settings, {}
  for key, one in compared.measured.items():
    less = {name: interval._asdict() for name, interval in compared.less[key].items()}
    systems.setdefault(key.system, {})[key.variant] = {**one._asdict(), "values": one.values.tolist(), "less": less}
  return {
    "is_random": settings.is_random,
    "sha256": settings.weights_sha256,
    "dtype": settings.dtype,
    "image_size": settings.protocol.image_size,
    "size_multiple": settings.protocol.size_multiple,
    "seconds": seconds,
    "best_counts": compared.best_counts,
    "whitening": {
      name: {"dimensions": fit.dimensions, "vectors": fit.vectors, "left_out": fit.left_out}
      for name, fit in compared.fits.items()
    },
    "systems": systems,
  }


def to_json(value):
  """Tuples become lists and NaN becomes null."""
  if isinstance(value, dict):
    return {str(key): to_json(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [to_json(item) for item in value]
  return None if isinstance(value, float) and math.isnan(value) else value


def write_smoke(folder: pathlib.Path) -> tuple[pathlib.Path, str]:
  """Makes a folder of products, two objects of four views, and a tar of other pictures."""
  import numpy as np
  from PIL import Image

  generator = np.random.default_rng(0)

  def draw(scene: int, view: int) -> Image.Image:
    """A view is the scene's blocks, shifted, and some noise."""
    blocks = np.random.default_rng(scene).integers(0, 256, (5, 5, 3))
    pixels = np.roll(np.kron(blocks, np.ones((14, 14, 1))), 5 * view, axis=1) + generator.normal(0, 20, (70, 70, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))

  for name in ("grocery/images", "ukbench/images"):
    (folder / name).mkdir(parents=True)
  for number in range(8):
    draw(number // 4, number % 4).save(folder / f"ukbench/images/ukbench{number:05d}.jpg")
  names = {scene: [f"train_{scene}_{view}.jpg" for view in range(3)] for scene in range(3)}
  for scene, listed in names.items():
    for view, name in enumerate((*listed, f"test_{scene}.jpg")):
      draw(10 + scene, view).save(folder / "grocery/images" / name)
  queries = {f"test_{scene}.jpg": {"relevant": listed, "junk": []} for scene, listed in names.items()}
  answers = {"database": [name for listed in names.values() for name in listed], "queries": queries}
  (folder / "grocery/gt.json").write_text(json.dumps(answers), encoding="utf-8")
  with tarfile.open(folder / "pool.tar", "w") as archive:
    for scene in range(20, 32):
      content = io.BytesIO()
      draw(scene, 0).save(content, "webp")
      member = tarfile.TarInfo(f"train/{scene}.webp")
      member.size = content.tell()
      content.seek(0)
      archive.addfile(member, content)
  return folder, str(folder / "pool.tar")


if __name__ == "__main__":
  main()
