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
from cwf_jax.models.vgg import VGG

NAMES = ("chelsea", "coffee", "astronaut")
"""A cat, a cup of coffee and a portrait: test images of scikit-image in the public domain, `SIZE` pixels a side."""

SIZE = 160
"""Small, so that a network is compiled in a second; above, layers take a form that is faster and compiles for longer."""

_SHOWN = ((281, 282, 283, 284, 285), (504, 967, 968))
"""ImageNet's classes of the first two: cats; coffee mug, espresso, cup."""

CHANCE = 0.004
"""What `rate_shown` is where all classes are equally probable."""

_FLAT = 3.0


VGG_SIZE = 224
"""For a VGG, whose first dense layer covers this many pixels."""


@functools.cache
def read_photographs(size: int = SIZE) -> UInt8[np.ndarray, "3 size size 3"]:
  """The photographs, in the order of `NAMES`, enlarged to `size` pixels a side."""
  folder = importlib.resources.files("cwf_jax.conversion").joinpath("photographs")
  images = []
  for name in NAMES:
    with folder.joinpath(f"{name}.jpg").open("rb") as file, Image.open(file) as image:
      images.append(np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)))
  return np.stack(images)


def compute_probabilities(network: nnx.Module) -> Float[np.ndarray, "3 c"]:
  """Each class's probability in each photograph; one after another, which takes a third of the memory."""
  size = VGG_SIZE if isinstance(network, VGG) else SIZE
  sizes = jnp.asarray([[size, size]], jnp.int32)
  return np.concatenate([_run(network, image[None], sizes) for image in read_photographs(size)])


@jax.jit
def _run(network: nnx.Module, images: jax.Array, sizes: jax.Array) -> jax.Array:
  return jax.nn.softmax(network(network.config.preprocessing.apply(images), sizes).logits)


def rate_shown(probabilities: Float[np.ndarray, "3 c"]) -> float:
  """The geometric mean of the probabilities of the two things that the first photographs show, a cat and a coffee.

  In [0, 1]; NaN if a probability is. The mean probability of the first class, whichever it is, says nothing of turned kernels:
  turned by 180 degrees it rises from 0.79 to 0.84 for MobileNetV2 and from 0.11 to 0.17 for `vgg16_cam_small`. This one falls
  from 1.00 to 0.96 and from 0.035 to 0.009.
  """
  shown = [probabilities[place, list(classes)].sum() for place, classes in enumerate(_SHOWN)]
  return float(np.sqrt(np.prod(shown)))


def report_probabilities(probabilities: Float[np.ndarray, "3 c"], classes: ClassList) -> list[str]:
  """What a person should know: the first class of the first photograph, and whether the probabilities mean anything."""
  first = int(probabilities[0].argmax())
  notes = [f"its first class for the photograph {NAMES[0]} (a cat) is {classes.names[first]} ({probabilities[0, first]:.3g})"]
  if not np.isfinite(probabilities).all():
    notes.append("warning: its probabilities are not finite")
  elif np.ptp(probabilities.argmax(axis=1)) == 0:
    notes.append("warning: its first class is the same for three different photographs; the weights cannot be right")
  elif probabilities.max() < _FLAT / probabilities.shape[1]:
    notes.append(
      f"warning: its probabilities are flat: the largest for three photographs is {probabilities.max():.2g} of "
      f"{probabilities.shape[1]} classes; the weights are random, or of another form than they seem"
    )
  return notes
