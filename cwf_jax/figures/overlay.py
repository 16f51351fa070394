"""A photograph and where in it something is: bright and in color where the map is high, dim and gray where it is low.

Brightness carries the map, so it is read in a gray print as it is in color.
"""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

_GRAY = np.array([0.299, 0.587, 0.114])
_GLOW = np.array([255.0, 190.0, 60.0])


def make_thumbnail(pixels: UInt8[np.ndarray, "h w 3"], longest: int) -> UInt8[np.ndarray, "H W 3"]:
  """Shrinks to at most `longest` pixels a side, the aspect kept; never enlarges."""
  scale = min(1.0, longest / max(pixels.shape[:2]))
  if scale == 1.0:
    return pixels
  height, width = (max(1, round(scale * side)) for side in pixels.shape[:2])
  return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0))


def shade(
  pixels: UInt8[np.ndarray, "h w 3"], heat: Float[np.ndarray, "i j"], covered: tuple[float, float]
) -> UInt8[np.ndarray, "h w 3"]:
  """Dims a photograph where a map is low.

  Args:
    pixels: of the photograph, or of its thumbnail.
    heat: in [0, 1]; enlarged bilinearly, the centers of its cells where they are in the photograph.
    covered: the part of the photograph's (width, height) that the map covers; the rest takes the values of its edge.
  """
  height, width = pixels.shape[:2]
  across, down = (max(1, min(side, round(part * side))) for part, side in zip(covered, (width, height), strict=True))
  fine = np.asarray(Image.fromarray(np.asarray(heat, np.float32)).resize((across, down), Image.Resampling.BILINEAR))
  weights = np.pad(fine, ((0, height - down), (0, width - across)), "edge")[..., None]
  gray = (pixels @ _GRAY)[..., None]
  lit = 0.92 * pixels + 0.08 * _GLOW
  mixed = weights * lit + (1 - weights) * (0.4 * gray + 12)
  return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
