"""An exported encoder runs where there is only JAX, and has the form of each platform."""

import dataclasses
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from cwf_jax.encoder import Encoder
from cwf_jax.export import PLATFORMS, export_encoder
from cwf_jax.ops.whitening import fit_whitening

pytest.importorskip("flatbuffers", reason="an exported program is written and read with flatbuffers")

CANVAS = (64, 96)

ONLY_JAX = """
import importlib.abc, sys

class Nothing(importlib.abc.MetaPathFinder):
  def find_spec(self, name, path=None, target=None):
    if name.partition(".")[0] in ("cwf_jax", "flax", "orbax", "optax", "jaxtyping", "PIL", "grain", "lance", "absl"):
      raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Nothing())
import jax, numpy

given = numpy.load("given.npz")
encoder = jax.export.deserialize(open("encoder.jax", "rb").read())
for count in (1, 3):
  numpy.savez(f"found_{count}.npz", **encoder.call(given["images"][:count], given["sizes"][:count]))
"""


@pytest.fixture(scope="module")
def encoder(tiny_encoder):
  vectors = np.random.default_rng(0).normal(size=(40, 32))
  return tiny_encoder.replace(whitening=fit_whitening(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), 6))


@pytest.fixture(scope="module")
def given():
  images = np.random.default_rng(1).integers(0, 256, (3, *CANVAS, 3), np.uint8)
  return images, np.array([[64, 96], [40, 96], [64, 33]], np.int32)


def test_it_runs_in_a_process_without_this_package(encoder, given, tmp_path):
  (tmp_path / "encoder.jax").write_bytes(export_encoder(encoder, CANVAS).serialize())
  np.savez(tmp_path / "given.npz", images=given[0], sizes=given[1])
  done = subprocess.run([sys.executable, "-c", ONLY_JAX], cwd=tmp_path, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  encoding = jax.jit(Encoder.__call__)(encoder, *given)
  expected = {**encoding._asdict(), "descriptors": encoder.describe(encoding.class_vectors)}
  assert expected["descriptors"].shape == (3, 6)
  for count in (1, 3):  # one program for every number of images
    with np.load(tmp_path / f"found_{count}.npz") as found:
      assert set(found) == set(expected)
      np.testing.assert_array_equal(found["class_ids"], expected["class_ids"][:count])
      for name in ("descriptors", "class_vectors", "probabilities"):  # a batch of another size sums in another order
        np.testing.assert_allclose(found[name], expected[name][:count], atol=2e-5)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_each_platform_has_its_own_form_and_calls_nothing_outside(encoder, platform):
  exported = export_encoder(encoder, CANVAS, 2, (platform,))
  program = exported.mlir_module()
  assert exported.platforms == (platform,)
  assert "callback" not in program and "custom_call" not in program
  assert not re.search(r"tensor<[\dx?]*f64>", program), "a float64 is in it"
  pools, windows = (len(re.findall(f"stablehlo.{name}", program)) for name in ("maximum", "reduce_window"))
  assert (windows == 0) == (platform == "cpu") and pools > 0  # slices pool faster on a CPU, windows elsewhere


def test_one_program_for_all_platforms_holds_both_forms(encoder):
  exported = export_encoder(encoder, CANVAS, 2)
  assert exported.platforms == PLATFORMS
  assert "reduce_window" in exported.mlir_module() and "stablehlo.case" in exported.mlir_module()
  assert exported.in_avals[0].shape == (2, *CANVAS, 3) and exported.in_avals[0].dtype == np.uint8


def test_bfloat16_goes_with_the_encoder(encoder):
  fast = dataclasses.replace(encoder, settings=dataclasses.replace(encoder.settings, dtype="bfloat16"))
  program = export_encoder(fast, CANVAS, 2, ("tpu",)).mlir_module()
  convolutions = [line for line in program.splitlines() if "stablehlo.convolution" in line]
  assert convolutions and all("bf16" in line for line in convolutions)


@pytest.mark.parametrize(("canvas", "batch_size"), [((8, 96), None), ((64, 96), 0)])
def test_what_holds_no_image_is_refused(encoder, canvas, batch_size):
  with pytest.raises(ValueError, match="a canvas has at least 16x16 pixels and a batch 1 image; found"):
    export_encoder(encoder, canvas, batch_size)
