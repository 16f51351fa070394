"""Writes the pages of the library from its docstrings, by pdoc: `python docs/write_pages.py FOLDER`, or `make docs`.

pdoc shows what a module holds and takes annotations as Python keeps them. Here the face's names, which are imported when they
are first used, are put into it before, and signatures are made to read as in the source. A warning fails.
"""

import inspect
import os
import re
import shutil
import sys
import typing
import warnings
from pathlib import Path

ROOMS = (
  *("encoder", "load", "export", "protocol", "ops", "metrics", "models", "systems", "extraction", "training", "evaluation"),
  *("index", "indexing", "retrieval", "images", "datasets", "labelled", "conversion"),
)
"""The modules and folders of the package that have pages, besides its face; of two only the public entrance."""

MODULES = ("cwf_jax", r"!cwf_jax\.index\.(?!store$)", r"!cwf_jax\.indexing\.(?!build$)")


def main(folder: str) -> None:
  """Writes all pages anew; a folder that holds anything else is left alone."""
  if os.path.isdir(folder) and os.listdir(folder) and not os.path.exists(os.path.join(folder, "search.js")):
    sys.exit(f"{folder} holds files that are no pages; name another folder")
  os.environ.setdefault("JAX_PLATFORMS", "cpu")
  os.environ["PDOC_ALLOW_EXEC"] = "1"
  warnings.simplefilter("error")
  typing.GENERATING_DOCUMENTATION = "cwf_jax"  # jaxtyping leaves its own name out
  import jax
  import pdoc
  import pdoc.doc
  import pdoc.docstrings
  import pdoc.render

  import cwf_jax as face

  jax.Array.__name__ = jax.Array.__qualname__ = "Array"
  vars(face).update({name: getattr(face, name) for name in face.__all__}, __all__=[*face.__all__, *ROOMS])
  show, read, convert = inspect.formatannotation, pdoc.doc._safe_getdoc, pdoc.docstrings.convert

  def show_as_written(annotation, *base):
    text = re.sub(r"\b\w+\._src(\.[a-z_]\w*)*\.", "", show(annotation, *base))
    text = re.sub(r"Union\[(\w+)\[Array, ('.*?')\], \1\[ndarray, \2\]\]", r"\1[Array | ndarray, \2]", text)
    return re.sub(r"Union\[(\w+)\[Array, ('.*?')\], \1\[ndarray, \2\], (.+)\]", r"\1[Array | ndarray, \2] | \3", text)

  def read_whole(value):
    """A module's code stays indented, and a documented `__call__` is shown."""
    text = (value.__doc__ or "").strip() if inspect.ismodule(value) else read(value)
    return text + "\n\n@public" if text and getattr(value, "__name__", "") == "__call__" else text

  def convert_what_tells(text, *rest):
    """Named tuples say nothing of themselves."""
    return "" if re.match("Alias for field number|Create new instance of", text) else convert(text, *rest)

  inspect.formatannotation = pdoc.doc.formatannotation = show_as_written
  pdoc.doc._safe_getdoc, pdoc.docstrings.convert = read_whole, convert_what_tells
  shutil.rmtree(folder, ignore_errors=True)
  pdoc.render.configure(docformat="google", math=False, search=True, footer_text="METHOD 2.5 is number 2.5 of docs/method.md.")
  pdoc.pdoc(*MODULES, output_directory=Path(folder))


if __name__ == "__main__":
  if len(sys.argv) != 2:
    sys.exit(__doc__)
  main(sys.argv[1])
