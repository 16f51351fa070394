"""`python weights/fetch.py --help`: the same as `python main.py --mode=fetch`."""

import sys
from pathlib import Path

from absl import app

if __name__ == "__main__":
  sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the checkout, in place of this folder
  sys.argv[1:1] = ["--mode=fetch"]

  from cwf_jax.cli import entry

  app.run(entry.run_and_leave, flags_parser=entry.parse)
