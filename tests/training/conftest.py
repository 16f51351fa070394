"""A small student, a small teacher and a few pictures that can be told apart, at 32 pixels a side."""

import jax
import numpy as np
import pytest

from cwf_jax.models import registry
from cwf_jax.models.network import Preprocessing
from cwf_jax.models.vgg16_cam import VGG16CAMConfig
from cwf_jax.training.batches import Batch
from tests.tiny import TEACHER

STUDENT = VGG16CAMConfig(
  widths=(4, 8, 8, 16, 16),
  depths=(1, 1, 1, 1, 1),
  cam_channels=16,
  num_classes=5,
  image_size=64,
  preprocessing=Preprocessing.symmetric(),
)
"""All five blocks with one convolution each: a step is compiled in two seconds."""


@pytest.fixture(scope="session")
def teacher():
  """Seeded random weights."""
  return registry.build("mobilenet_v2", TEACHER)


@pytest.fixture(scope="session")
def batch():
  """Eight pictures of four classes, which differ in color."""
  generator = np.random.default_rng(0)
  colors = np.array([(200, 60, 60), (60, 200, 60), (60, 60, 200), (190, 190, 60)])
  labels = (np.arange(8) % 4).astype(np.int32)
  images = colors[labels][:, None, None] + generator.integers(-50, 51, (8, 32, 32, 3))
  return Batch(images.astype(np.uint8), np.full((8, 2), 32, np.int32), labels)


def draw_student(seed: int = 0):
  """A fresh one each time, since `prepare` takes it over."""
  return registry.build("vgg16_cam_quarter", STUDENT, seed)


def copy_state(state):
  """For a second use: a step takes the memory of the state that it is given."""
  return jax.tree.map(lambda leaf: leaf.copy(), state)
