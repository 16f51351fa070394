"""Strict numbers and checked shapes for every test; programs compiled once; a tiny network; deviations from the oracle."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of a test is compiling: XLA's older emitter of fused operations takes half as long as the one that users have.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers and the processes that tests start inherit it
  os.environ["CWF_JAX_HOME"] = tempfile.mkdtemp(prefix="cwf_jax-tests-")
  atexit.register(shutil.rmtree, os.environ["CWF_JAX_HOME"], ignore_errors=True)
  # A program is compiled once for them all. XLA_FLAGS are part of its key.
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(os.environ["CWF_JAX_HOME"], "programs"))
  os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import hypothesis
import jax
import jaxtyping
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tests.oracle import deviation

pytest_plugins = ["tests.fixtures"]

jax.config.update("jax_default_matmul_precision", "highest")
jax.config.update("jax_numpy_dtype_promotion", "standard")

jaxtyping.install_import_hook(["cwf_jax.ops", "cwf_jax.encoder", "cwf_jax.load"], "beartype.beartype")

hypothesis.settings.register_profile("house", deadline=None, derandomize=True, max_examples=10, print_blob=False)
hypothesis.settings.load_profile("house")


FIRST = (
  *("cli/test_train.py", "cli/test_evaluate.py", "cli/test_index.py", "cli/test_demo.py", "test_readme.py"),
  *("ops/test_regions.py", "training/test_step.py", "cli/test_explain.py", "indexing/test_interruption.py"),
  *("test_encoder.py", "test_benchmarks.py"),
)
"""The files that take longest, so that no worker is left alone with one of them at the end."""


def pytest_configure(config):
  """A program that another worker is just writing is compiled again, and not a warning, which would be an error."""
  config.addinivalue_line("filterwarnings", "ignore:Error (reading|writing) persistent compilation cache")
  config.option.loadscopereorder = False  # xdist would begin with the files of many tests, which are short


def pytest_collection_modifyitems(items):
  places = {Path(__file__).parent / name: place for place, name in enumerate(FIRST)}
  items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def tiny_network():
  """A VGG-16-CAM of a sixteenth of the width, 64 pixels and 10 classes, with seeded weights."""
  from cwf_jax.models import parameters, registry
  from cwf_jax.models.vgg16_cam import VGG16CAMConfig

  config = VGG16CAMConfig.narrow(1 / 16, image_size=64, num_classes=10)
  abstract = registry.build_abstract("vgg16_cam_quarter", config)
  shapes = parameters.list_parameters(abstract)
  drawn = {path: parameters.draw_parameter(path, leaf.shape, seed=0) for path, leaf in shapes.items()}
  drawn["conv1_1/kernel"] /= 64  # pixels are not scaled, and random logits as large as they are leave one class only
  return parameters.with_parameters(abstract, drawn)


@pytest.fixture(scope="session")
def tiny_encoder(tiny_network):
  """An encoder of the tiny network, of four classes an image, without a whitening."""
  import dataclasses

  from cwf_jax.encoder import Encoder, EncoderSettings
  from cwf_jax.models.class_names import ClassList
  from cwf_jax.models.parameters import hash_parameters
  from cwf_jax.protocol import Protocol, fingerprint

  config, protocol, sha256 = tiny_network.config, Protocol.paper(64, 4), hash_parameters(tiny_network)
  settings = EncoderSettings(
    protocol=protocol,
    preprocessing=config.preprocessing,
    tap=config.feature_tap,
    dtype="float32",
    classes=ClassList.numbered(10),
    weights="tiny",
    weights_sha256=sha256,
    weights_folder=None,
    is_random=True,
    fingerprint=fingerprint(sha256, dataclasses.asdict(config.preprocessing), config.feature_tap, protocol),
  )
  return Encoder(tiny_network, None, settings)


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_network, tmp_path_factory):
  """The folder of the tiny network's checkpoint, for tests of the command line; without a whitening."""
  from cwf_jax.models.checkpoint import save_checkpoint
  from cwf_jax.models.class_names import ClassList

  folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
  save_checkpoint(folder, tiny_network, network_name="vgg16_cam_quarter", classes=ClassList.numbered(10))
  return folder


def pytest_sessionfinish(session):
  """A worker of xdist hands its deviations to the controller."""
  if hasattr(session.config, "workeroutput"):
    session.config.workeroutput["deviations"] = {name: list(found) for name, found in deviation.largest.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
  """The controller takes in a worker's deviations; a worker that crashed has none."""
  found = getattr(node, "workeroutput", {}).get("deviations", {})
  deviation.merge({name: tuple(values) for name, values in found.items()})


def pytest_terminal_summary(terminalreporter):
  """Prints how far the product was from the oracle at most."""
  lines = deviation.list_lines()
  if lines:
    terminalreporter.section("largest deviations from the oracle")
    for line in lines:
      terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
  """Twelve small pictures of several shapes, in nested folders, and no two alike."""
  import numpy as np
  from PIL import Image

  folder = tmp_path_factory.mktemp("photographs")
  generator = np.random.default_rng(0)
  shapes = [(64, 64), (64, 96), (96, 64), (70, 100), (120, 80), (200, 64)]
  for number in range(12):
    height, width = shapes[number % len(shapes)]
    small = generator.integers(0, 256, (5, 6, 3), np.uint8)
    target = folder / ("a" if number < 6 else "b/c") / f"picture_{number:02d}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(target)
  return folder


@pytest.fixture
def compiled_anew():
  """Programs that other tests or processes compiled are not there for a test, nor its own for them."""
  name = "jax_enable_compilation_cache"
  before = getattr(jax.config, name)
  jax.config.update(name, False)
  compilation_cache.reset_cache()  # JAX looks at its settings once
  yield
  jax.config.update(name, before)
  compilation_cache.reset_cache()


@pytest.fixture
def compilations(compiled_anew):
  """The names of the functions that are compiled while a test runs."""
  names = []

  def note(event, seconds, fun_name="", **_):
    if event == "/jax/core/compile/backend_compile_duration":
      names.append(fun_name)

  jax.monitoring.register_event_duration_secs_listener(note)
  jax.jit(lambda x: x + 1)(1.0)
  assert names, "JAX tells of its compilations under another name"
  names.clear()
  yield names
  jax.monitoring.unregister_event_duration_listener(note)
