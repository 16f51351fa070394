"""Where a number comes from: when it was made, by which versions, on which device."""

import platform
import time
from collections.abc import Mapping
from importlib.metadata import version

import jax

from cwf_jax.encoder import Encoder
from cwf_jax.indexing.build import default_batch_size
from cwf_jax.version import __version__


def describe_run(encoder: Encoder, batch_size: int | None = None) -> dict[str, str]:
  """What is the same for all that a run makes, by what it is: "measured" (the time now), "versions", "device", "batch size".

  Args:
    encoder: whose passes it makes.
    batch_size: images on the device at a time; None means what indexing takes.
  """
  device = jax.devices()[0]
  packages = ", ".join(f"{name} {version(name)}" for name in ("jax", "flax", "numpy"))
  return {
    "measured": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    "versions": f"cwf_jax {__version__}, {packages}, Python {platform.python_version()}",
    "device": f"{device.platform}, {device.device_kind}, {encoder.settings.dtype}",
    "batch size": str(batch_size or default_batch_size(encoder)),
  }


def tell_maker(made: Mapping[str, str], but: str = "") -> str:
  """What made something, in words: all of `describe_run` but the time, and but what is named."""
  return "; ".join(f"{name}: {value}" for name, value in made.items() if name not in ("measured", but))


def tell_other(maker: str, made: Mapping[str, str]) -> str:
  """What of `tell_maker` is otherwise than in another run; empty where it is the same."""
  own = {f"{name}: {value}" for name, value in made.items()}
  return "; ".join(part for part in maker.split("; ") if part and part not in own)
