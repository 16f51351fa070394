"""The folder of what is kept between runs: fetched weights and compiled programs."""

import os
from pathlib import Path


def home_folder() -> Path:
  """`$CWF_JAX_HOME`, by default the user's cache folder; it need not be there yet."""
  cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cwf_jax"
  return Path(os.environ.get("CWF_JAX_HOME") or cache).expanduser()
