"""TIFFs of more than 8 bits, signed, or of floats: Pillow knows few of them and misreads some of those."""

import io
import math
from typing import BinaryIO

import numpy as np
from jaxtyping import Shaped
from PIL import Image, ImageMode, TiffImagePlugin

from cwf_jax.images.depth import to_bytes
from cwf_jax.images.files import RefusalError
from cwf_jax.protocol import Size

_COLORS = {0: "L", 1: "L", 2: "RGB", 5: "CMYK"}
"""The photometric interpretations that are read, as Pillow's modes."""

_PREMULTIPLIED, _ALPHA = 1, 2
"""Kinds of extra samples."""


def read_tags(file: BinaryIO) -> TiffImagePlugin.ImageFileDirectory_v2:
  """The tags of the first page."""
  file.seek(0)
  head = file.read(8)
  if 43 in head[2:4]:  # BigTIFF
    head += file.read(8)
  tags = TiffImagePlugin.ImageFileDirectory_v2(head)
  file.seek(tags.next)
  tags.load(file)
  return tags


def is_deep(tags: TiffImagePlugin.ImageFileDirectory_v2) -> bool:
  """Whether the samples are anything else than unsigned integers of up to 8 bits."""
  bits, formats = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)), tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))
  return max(bits) > 8 or set(formats) != {1}


def read_size(tags: TiffImagePlugin.ImageFileDirectory_v2) -> Size:
  """The stored (height, width)."""
  size = tags.get(TiffImagePlugin.IMAGELENGTH), tags.get(TiffImagePlugin.IMAGEWIDTH)
  if not all(isinstance(side, int) for side in size):
    raise RefusalError("damaged or truncated (no height or width)")
  return size


def decode_deep(data: bytes) -> Image.Image:
  """Decodes the first page; `depth.to_bytes` says how its samples come to 8 bits.

  Returns:
    An image of the mode L, RGB, RGBA or CMYK. It is not turned.

  Raises:
    RefusalError: truncated, or of a kind that is not read.
  """
  import tifffile  # it takes 0.2 s

  tags = read_tags(io.BytesIO(data))
  if len(set(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,)))) > 1:
    raise RefusalError("not supported: TIFF of samples of several types")
  with tifffile.TiffFile(io.BytesIO(data)) as tiff:
    page = tiff.pages.first
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    is_short = page.is_contiguous and sum(page.databytecounts) < page.nbytes
    if is_short or any(start + size > len(data) for start, size in segments):
      raise RefusalError("truncated")
    if len(segments) < math.prod(page.chunked) or not all(size for _, size in segments):
      raise RefusalError("not supported: TIFF that leaves out some pixels")  # tifffile would make them black
    planes, depth, height, width, interleaved = page.shaped
    photometric, bits = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION), page.bitspersample
    if not isinstance(bits, int):
      raise RefusalError("not supported: TIFF of samples of several sizes")
    if photometric not in _COLORS or depth != 1 or page.dtype is None or page.dtype.kind not in "uif":
      raise RefusalError(f"not supported: TIFF of {bits} bits, {page.dtype}, photometric interpretation {photometric}")
    samples = page.asarray(squeeze=False, maxworkers=1).reshape(planes, height, width, interleaved)
  samples = np.moveaxis(samples[..., 0], 0, -1) if planes > 1 else samples[0]
  return _to_image(samples, bits, photometric, tuple(page.extrasamples))


def _to_image(samples: Shaped[np.ndarray, "h w s"], bits: int, photometric: int, extras: tuple[int, ...]) -> Image.Image:
  mode, total = _COLORS[photometric], samples.shape[2]
  count = len(ImageMode.getmode(mode).bands)
  if not extras and (mode, total) == ("RGB", 4):
    extras = (_ALPHA,)  # that some programs forget to declare
  if total != count + len(extras):
    raise RefusalError(f"not supported: TIFF of {mode} in {total} samples a pixel")
  colors = to_bytes(samples[..., :count], bits)
  if photometric == 0:  # zero is white
    colors = 255 - colors
  image = Image.frombytes(mode, colors.shape[1::-1], colors.tobytes())
  alphas = [number for number, extra in enumerate(extras) if extra in (_PREMULTIPLIED, _ALPHA)]
  if not alphas:
    return image
  alpha = samples[..., count + alphas[0]]
  is_premultiplied = extras[alphas[0]] == _PREMULTIPLIED
  has_range = bits < 32 if alpha.dtype.kind == "u" else alpha.dtype.kind == "f" and 0 <= alpha.min() <= alpha.max() <= 1
  if not has_range or (is_premultiplied and photometric not in (1, 2)):
    raise RefusalError(f"not supported: TIFF of {mode} with alpha of {alpha.dtype}")
  bands = (*image.convert("RGB").split(), Image.fromarray(to_bytes(alpha, bits)))
  return Image.merge("RGBa", bands).convert("RGBA") if is_premultiplied else Image.merge("RGBA", bands)
