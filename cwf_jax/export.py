"""The encoder as a file: a program with its weights in it, which runs where there is only JAX.

    content = export_encoder(load_encoder(), canvas=(256, 352)).serialize()
    pathlib.Path("encoder.jax").write_bytes(content)

and elsewhere, without this package (`pip install jax flatbuffers`):

    encoder = jax.export.deserialize(pathlib.Path("encoder.jax").read_bytes())
    encoder.call(images, sizes)["descriptors"]

The program is made for several platforms at once, on a machine that has none of them: each gets its own form of the network.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from cwf_jax.encoder import Encoder

PLATFORMS = ("cpu", "cuda", "tpu")
"""That a program is made for unless others are named."""


def export_encoder(
  encoder: Encoder,
  canvas: tuple[int, int],
  batch_size: int | None = None,
  platforms: tuple[str, ...] = PLATFORMS,
) -> export.Exported:
  """Makes one program of an encoder: a pure function of images and sizes, for images of one canvas.

  It takes `images` uint8 [b h w 3], RGB, each at the upper left of its canvas, and `sizes` int32 [b 2], their (height,
  width), at least 16 pixels a side. It gives a dictionary of

  - "descriptors" [b d]: whitened by the encoder's own whitening if it has one, summed over classes, of unit length;
  - "class_vectors" [b n k], "class_ids" [b n] and "probabilities" [b c]: see `cwf_jax.Encoding`.

  Args:
    encoder: its settings and arrays become part of the program, `settings.dtype` too: an encoder that was loaded with
      `dtype="bfloat16"` makes a program for accelerators.
    canvas: (height, width) in pixels; the sizes that the encoder's protocol declares are `encoder.settings.protocol.canvases`.
    batch_size: images in a call; None leaves it open: one program for every number.
    platforms: "cpu", "cuda", "rocm" or "tpu".

  Returns:
    What `jax.export` makes: `serialize()` gives its bytes (that needs the package flatbuffers), `call` runs it.

  Raises:
    ValueError: a canvas or batch that is not positive, or sides that the network does not take.
  """
  height, width = canvas
  if height < 16 or width < 16 or (batch_size is not None and batch_size < 1):
    raise ValueError(f"a canvas has at least 16x16 pixels and a batch 1 image; found {height}x{width} and {batch_size}")
  (batch,) = (batch_size,) if batch_size is not None else export.symbolic_shape("b")
  images = jax.ShapeDtypeStruct((batch, height, width, 3), jnp.uint8)
  sizes = jax.ShapeDtypeStruct((batch, 2), jnp.int32)

  def encode(images: Any, sizes: Any) -> dict[str, Any]:
    encoding = encoder(images, sizes)
    return {"descriptors": encoder.describe(encoding.class_vectors), **encoding._asdict()}

  return export.export(jax.jit(encode), platforms=platforms)(images, sizes)
