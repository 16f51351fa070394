"""The machine: how much it takes at a time, and which versions and device made a result."""

import os
import platform
import time
from importlib.metadata import version

import jax

from cwf_jax.protocol import Protocol
from cwf_jax.version import __version__

PIXELS_AT_ONCE = {"cpu": 2 * 320 * 480, "gpu": 64 * 720 * 960, "tpu": 64 * 720 * 960}
"""Pixels of a default batch on each platform: on a CPU a larger one is no faster and takes more memory."""


def processors() -> int:
  """The number of processors that this process may use, at most 16."""
  return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def default_batch_size(protocol: Protocol) -> int:
  """The images of a batch, at least one: as many of the protocol's largest canvas as `PIXELS_AT_ONCE` allows."""
  height, width = max(protocol.canvases)
  return max(1, PIXELS_AT_ONCE.get(jax.default_backend(), PIXELS_AT_ONCE["gpu"]) // (height * width))


def describe_versions(dtype: str) -> str:
  """The versions, the dtype and the device that rows of an index are encoded with, on one line, to be recorded with them."""
  versions = [f"{name} {version(name)}" for name in ("jax", "flax", "numpy", "pillow", "pylance")]
  return ", ".join((f"cwf_jax {__version__}", *versions, dtype, jax.devices()[0].device_kind))


def describe_run(dtype: str, batch_size: int) -> dict[str, str]:
  """What is the same for all results of a run: "measured" (the time now), "versions", "device", "batch size".

  Args:
    dtype: of the network's convolutions.
    batch_size: images on the device at a time.
  """
  device = jax.devices()[0]
  packages = ", ".join(f"{name} {version(name)}" for name in ("jax", "flax", "numpy"))
  return {
    "measured": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    "versions": f"cwf_jax {__version__}, {packages}, Python {platform.python_version()}",
    "device": f"{device.platform}, {device.device_kind}, {dtype}",
    "batch size": str(batch_size),
  }
