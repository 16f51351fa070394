"""Which settings should the default network have: feature map, image size, whitening, number of classes?

  python benchmarks/default_network.py --pool imagenet_samples.tar --groceries grocery --ukbench ukbench --oxford oxford_mini
  python benchmarks/default_network.py --weights vgg16_cam_small ... --sizes 256
  python benchmarks/default_network.py ... --sizes 256 --write cwf_jax/weights/efficientnet_lite0/whitening.npz
  python benchmarks/default_network.py --smoke                  # random weights on made-up images, to see that it runs

Class-weighted offline descriptors (OfA) of three collections of real photographs, one setting for all of them: groceries
(mAP), the first 500 images of UKBench (N-S, at most 4) and a part of Oxford Buildings with boxes (mAP). The whitening is
fitted on another set of photographs, the pool. Each row is a setting; each image is encoded once for each size and map.
A folder holds images/ and, but for UKBench, gt.json.
"""

import argparse
import functools
import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from cwf_jax.encoder import Encoder, most_probable
from cwf_jax.images.canvases import stack
from cwf_jax.images.loading import fill_batches
from cwf_jax.images.queries import fit_query
from cwf_jax.images.sources import load_source, open_images
from cwf_jax.load import load_encoder
from cwf_jax.metrics.average_precision import average_precision
from cwf_jax.ops.regions import mask_boxes
from cwf_jax.ops.whitening import Moments, Whitening
from cwf_jax.protocol import CELL

CLASSES = 64


def main(arguments: list[str] | None = None) -> None:
  """Prints one row for each setting."""
  options = parse(arguments)
  if options.smoke:
    with tempfile.TemporaryDirectory() as folder:
      measure(make_smoke(options, Path(folder)))
  else:
    measure(options)


def parse(arguments: list[str] | None) -> argparse.Namespace:
  """The command line's options."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--weights", default="efficientnet_lite0")
  parser.add_argument("--pool", help="photographs to fit the whitening on: a folder, a list or a tar")
  for name in ("groceries", "ukbench", "oxford"):
    parser.add_argument(f"--{name}", type=Path, help="a folder with images/, and gt.json but for UKBench")
  parser.add_argument("--sizes", default="224,256,288,320", help="shorter sides in pixels")
  parser.add_argument("--maps", default="features,last", help="features (stride 16), last (stride 32)")
  parser.add_argument("--n_pca", default="1,8,64", help="class vectors of each photograph that the whitening is fitted on")
  parser.add_argument("--dimensions", default="256,512,0", help="0: all")
  parser.add_argument("--num_classes", default="8,16,32,64", help="classes that a descriptor sums")
  parser.add_argument("--pool_sizes", help="sizes at which the pool is encoded, too; default: the size alone")
  parser.add_argument("--mirrored", action="store_true", help="the pool is encoded mirrored, too, at the size itself")
  parser.add_argument("--unwhitened", action="store_true", help="descriptors without whitening, too")
  parser.add_argument("--write", type=Path, help="write the last whitening that is fitted, as a checkpoint holds it")
  parser.add_argument("--smoke", action="store_true", help="a tiny size")
  return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> None:
  """Encodes the sets at every size and prints the scores of every setting."""
  print("map       size  vectors an image    dimensions  classes  groceries mAP  UKBench N-S  Oxford mAP", flush=True)
  for size in numbers(options.sizes):
    for name in options.maps.split(","):
      encoder = load_encoder(options.weights, image_size=size)
      pool = encode_pool(encoder, name, options)
      sets = [read_set(encoder, name, folder) for folder in (options.groceries, options.ukbench, options.oxford)]
      settings = itertools.product(numbers(options.n_pca), numbers(options.dimensions))
      for n_pca, dimensions in (*([(None, None)] if options.unwhitened else ()), *settings):
        whitening = None
        if n_pca is not None:
          moments = Moments.zero(pool.shape[-1])
          moments.add(pool[:, :n_pca].reshape(-1, pool.shape[-1]))
          whitening = moments.fit_supported(dimensions or None)
        for num_classes in numbers(options.num_classes):
          scores = [score(*one, whitening, num_classes) for one in sets]
          width = "not whitened" if whitening is None else whitening.projection.shape[1]
          shown = "  ".join(f"{value:11.3f}" for value in scores)
          print(f"{name:8} {size:5} {n_pca or '':>17} {width:>12} {num_classes:8}   {shown}", flush=True)
  if options.write:
    options.write.parent.mkdir(parents=True, exist_ok=True)
    np.savez(options.write, mean=np.asarray(whitening.mean), projection=np.asarray(whitening.projection))
    print(f"written: {options.write}, fitted on {moments.count} class vectors of {len(pool)} photographs")


def numbers(text: str) -> list[int]:
  """Whole numbers separated by commas."""
  return [int(number) for number in text.split(",")]


def encode_pool(encoder: Encoder, name: str, options: argparse.Namespace) -> np.ndarray:
  """Class vectors [n 64 k] of the pool, at every size that is asked for."""
  size = encoder.settings.protocol.image_size
  sizes = numbers(options.pool_sizes) if options.pool_sizes else [size]
  variants = [(load_encoder(options.weights, image_size=one), False) for one in sizes]
  variants += [(encoder, True)] if options.mirrored else []
  images = [encode_images(one, name, options.pool, mirrored) for one, mirrored in variants]
  return np.stack([vectors for variant in images for _, vectors in variant])


def encode_images(encoder: Encoder, name: str, source, mirrored: bool = False) -> Iterator[tuple[str, np.ndarray]]:
  """(id, class vectors [64 k] of the most probable classes) of every image, in the order of the ids."""
  images, vectors = open_images(source), {}
  change = (lambda _: mirror) if mirrored else (lambda _: None)
  loaded = load_source(images, images.ids, encoder.settings.protocol, threads=2, ahead=16, change=change)
  for batch in fill_batches(loaded, 2, []):
    pooled = np.asarray(pool_own(encoder, batch.images, batch.sizes, None, None, name))
    vectors |= {file.id: row for file, row in zip(batch.files, pooled, strict=False)}
  for image_id in sorted(vectors):
    yield image_id, vectors[image_id]


def mirror(pixels: np.ndarray) -> np.ndarray:
  """The photograph [h w 3] with left and right exchanged."""
  return np.ascontiguousarray(pixels[:, ::-1])


@functools.partial(jax.jit, static_argnames="name")
def pool_own(encoder: Encoder, images, sizes, class_ids, cells, name: str):
  """Class vectors [b n k] by each image's own classes or those given, of the map `name`, cut to boxes of cells [b 4]."""
  activations = encoder.activate(images, sizes)
  if name == "last":
    activations = activations._replace(features=activations.cam_features)
  class_ids = most_probable(activations, CLASSES) if class_ids is None else class_ids
  cut = None if cells is None else mask_boxes(cells, activations.mask.shape[1:])
  return encoder.pool_classes(activations, class_ids, cut)


@jax.jit
def classify(encoder: Encoder, images, sizes):
  """The most probable classes [b n]."""
  return most_probable(encoder.activate(images, sizes), CLASSES)


def read_set(encoder: Encoder, name: str, folder: Path):
  """Class vectors of the database and of the queries, and each query's relevant and junk rows; None: UKBench."""
  listing, vectors = open_images(folder / "images"), dict(encode_images(encoder, name, folder / "images"))
  if not (folder / "gt.json").exists():
    rows = np.stack(list(vectors.values()))
    return rows, rows, None
  truth = json.loads((folder / "gt.json").read_text())
  places = {image_id: place for place, image_id in enumerate(truth["database"])}
  queries, answers = [], []
  for query, entry in truth["queries"].items():
    image = entry.get("image", query)
    queries.append(vectors[image] if "box" not in entry else encode_box(encoder, name, listing.path(image), entry["box"]))
    answers.append([[places[one] for one in entry.get(kind, ())] for kind in ("relevant", "junk")])
  return np.stack([vectors[image_id] for image_id in places]), np.stack(queries), answers


def encode_box(encoder: Encoder, name: str, path: str, box) -> np.ndarray:
  """Class vectors [64 k] of a query in a box (METHOD 3)."""
  query = fit_query(path, tuple(box), encoder.settings.protocol)
  class_ids = classify(encoder, *stack([query.crop], query.crop.canvas, 1))
  images, sizes = stack([query.whole], query.whole.canvas, 1)
  return np.asarray(pool_own(encoder, images, sizes, class_ids, np.asarray([query.cells], np.int32), name))[0]


def score(database, queries, answers, whitening: Whitening | None, num_classes: int) -> float:
  """Mean average precision, or UKBench's N-S where there are no lists of answers."""
  scores = describe(queries, whitening, num_classes) @ describe(database, whitening, num_classes).T
  order = np.argsort(-scores, axis=1, kind="stable")
  if answers is None:
    return float((order[:, :4] // 4 == np.arange(len(order))[:, None] // 4).sum(1).mean())
  return float(np.mean([average_precision(row, *lists) for row, lists in zip(order, answers, strict=True)]))


def describe(vectors: np.ndarray, whitening: Whitening | None, num_classes: int) -> np.ndarray:
  """Descriptors [n d] of class vectors [n 64 k], in NumPy."""
  total = 0
  for place in range(num_classes):
    one = vectors[:, place]
    if whitening is not None:
      one = np.where((one != 0).any(1, keepdims=True), (one - np.asarray(whitening.mean)) @ np.asarray(whitening.projection), 0)
    total = total + normalize(one)
  return normalize(total)


def normalize(rows: np.ndarray) -> np.ndarray:
  """Rows of unit length; zero rows stay zero."""
  lengths = np.linalg.norm(rows, axis=1, keepdims=True)
  return rows / np.where(lengths > 0, lengths, 1)


def make_smoke(options: argparse.Namespace, folder: Path) -> argparse.Namespace:
  """Made-up images, random weights and one setting."""
  generator, names = np.random.default_rng(0), [f"{number}.png" for number in range(8)]
  (folder / "images").mkdir()
  for name in names:
    Image.fromarray(generator.integers(0, 256, (64, 64, 3), np.uint8)).save(folder / "images" / name)
  truth = {"database": names, "queries": {names[0]: {"box": [0, 0, 40, 40], "relevant": names[:2]}}}
  (folder / "gt.json").write_text(json.dumps(truth))
  options.weights, options.sizes, options.n_pca, options.dimensions = "random:vgg16_cam_quarter", f"{4 * CELL}", "64", "0"
  options.num_classes, options.maps, options.pool = "4", "features", folder / "images"
  options.groceries = options.ukbench = options.oxford = folder
  return options


if __name__ == "__main__":
  main()
