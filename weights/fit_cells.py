"""Fits the whitening of single cells, by which matching places are found (METHOD 4b).

  python weights/fit_cells.py --weights efficientnet_lite0 --pool imagenet_samples.tar

Writes cells.npz into the folder of the weights in the package, and its sha256 into their checkpoint.json where there is one.
"""

import argparse
import json
from pathlib import Path

import jax
import numpy as np

import cwf_jax
from cwf_jax.encoder import Encoder
from cwf_jax.images.loading import fill_batches
from cwf_jax.images.sources import load_source, open_images
from cwf_jax.load import load_encoder
from cwf_jax.models.checkpoint import CELLS_NAME, JSON_NAME
from cwf_jax.models.parameters import hash_arrays
from cwf_jax.ops.matching import describe_cells
from cwf_jax.ops.whitening import Moments, Whitening

CELLS = 40
"""Random cells of each photograph."""

DIMENSIONS = 128


def main() -> None:
  """Fits and writes."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--weights", required=True, help="the name of weights whose folder is in the package")
  parser.add_argument("--pool", required=True, help="the photographs to fit on: a folder, a list or a tar")
  options = parser.parse_args()
  folder = Path(cwf_jax.__file__).parent / "weights" / options.weights
  whitening = fit_cells(load_encoder(options.weights), options.pool)
  arrays = {"mean": np.asarray(whitening.mean), "projection": np.asarray(whitening.projection)}
  folder.mkdir(exist_ok=True)
  np.savez(folder / CELLS_NAME, **arrays)
  print(f"{folder / CELLS_NAME}: {arrays['projection'].shape[0]} channels to {DIMENSIONS} dimensions")
  record = folder / JSON_NAME
  if record.exists():
    content = json.loads(record.read_text(encoding="utf-8"))
    content["cells_sha256"] = hash_arrays(arrays)
    record.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")


def fit_cells(encoder: Encoder, pool: str) -> Whitening:
  """Fits on `CELLS` cells of each photograph of the pool, drawn with the seed 0."""
  generator, source, skipped = np.random.default_rng(0), open_images(pool), []
  moments = None
  loaded = load_source(source, source.ids, encoder.settings.protocol, threads=2, ahead=16)
  for batch in fill_batches(loaded, 4, skipped):
    cells, masks = jax.device_get(_normalize_cells(encoder, batch.images, batch.sizes))
    moments = moments or Moments.zero(cells.shape[-1])
    for photograph, mask in zip(cells[: len(batch.files)], masks, strict=False):
      valid = photograph[mask]
      moments.add(valid[generator.permutation(len(valid))[:CELLS]])
  print(f"{moments.count} cells of {len(source.ids) - len(skipped)} photographs")
  return moments.fit(DIMENSIONS)


@jax.jit
def _normalize_cells(encoder: Encoder, images, sizes):
  activations = encoder.activate(images, sizes)
  return describe_cells(activations.features, mask=activations.mask), activations.mask


if __name__ == "__main__":
  main()
