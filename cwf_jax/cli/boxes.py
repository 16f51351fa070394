"""`--box`, as several modes take it."""

from cwf_jax.cli.call import CallError


def parse_box(text: str) -> tuple[float, float, float, float]:
  """Reads left,top,right,bottom."""
  try:
    left, top, right, bottom = (float(side) for side in text.split(","))
  except ValueError:
    raise CallError(f"--box is four numbers, left,top,right,bottom; found {text!r}") from None
  return left, top, right, bottom
