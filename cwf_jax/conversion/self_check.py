"""Three photographs that come with the package, and what a converted network says of them.

A file whose kernels are turned, whose channels are in another order or whose layers are mixed up has the right shapes. What it
says of a photograph is flat, or the same of every photograph.
"""

import functools
import importlib.resources

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, UInt8
from PIL import Image

from cwf_jax.models.class_names import ClassList

NAMES = ("chelsea", "coffee", "astronaut")
"""A cat, a cup of coffee and a portrait: test images of scikit-image in the public domain, 224 pixels a side."""

_SHOWN = ((281, 282, 283, 284, 285), (504, 967, 968))
"""ImageNet's classes of the first two: cats; coffee mug, espresso, cup."""

_FLAT, _EQUAL = 3.0, 1e-6


@functools.cache
def read_photographs() -> UInt8[np.ndarray, "3 224 224 3"]:
  """The photographs, in the order of `NAMES`."""
  folder = importlib.resources.files("cwf_jax.conversion").joinpath("photographs")
  images = []
  for name in NAMES:
    with folder.joinpath(f"{name}.jpg").open("rb") as file, Image.open(file) as image:
      images.append(np.asarray(image.convert("RGB")))
  return np.stack(images)


def compute_probabilities(network: nnx.Module) -> Float[np.ndarray, "3 c"]:
  """Each class's probability in each photograph."""
  images = read_photographs()
  sizes = jnp.broadcast_to(jnp.asarray(images.shape[1:3], jnp.int32), (len(images), 2))
  return np.asarray(_run(network, images, sizes))


@jax.jit
def _run(network: nnx.Module, images: jax.Array, sizes: jax.Array) -> jax.Array:
  return jax.nn.softmax(network(network.config.preprocessing.apply(images), sizes).logits)


def rate_shown(probabilities: Float[np.ndarray, "3 c"]) -> float:
  """How much a network of ImageNet's classes believes what is shown: the geometric mean of a cat's and a coffee's probability.

  In [0, 1]; NaN if a probability is. The probability of the first class, whichever it is, says less: with all kernels turned
  by 180 degrees it falls from 0.58 to 0.52 for MobileNetV2 and rises from 0.06 to 0.09 for `vgg16_cam_small`; what is shown
  falls from 0.97 to 0.73 and from 0.05 to 0.02.
  """
  shown = [probabilities[place, list(classes)].sum() for place, classes in enumerate(_SHOWN)]
  return float(np.sqrt(np.prod(shown)))


def report_probabilities(probabilities: Float[np.ndarray, "3 c"], classes: ClassList) -> list[str]:
  """What a person should know: the first class of the first photograph, and whether the probabilities mean anything."""
  first = int(probabilities[0].argmax())
  notes = [f"its first class for the photograph {NAMES[0]} (a cat) is {classes.names[first]} ({probabilities[0, first]:.3g})"]
  if not np.isfinite(probabilities).all():
    notes.append("warning: its probabilities are not finite")
  elif np.ptp(probabilities, axis=0).max() < _EQUAL:
    notes.append("warning: its probabilities are the same for three different photographs; the weights cannot be right")
  elif probabilities.max() < _FLAT / probabilities.shape[1]:
    notes.append(
      f"warning: its probabilities are flat: the largest for three photographs is {probabilities.max():.2g} of "
      f"{probabilities.shape[1]} classes; the weights are random, or of another form than they seem"
    )
  return notes
