"""What a person sees while a mode runs: remarks and progress on standard error, and in a log file."""

import contextlib
import logging
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import flags
from absl import logging as absl_logging
from tqdm import tqdm

from cwf_jax.cli.allocator import keep_freed_memory
from cwf_jax.cli.call import CallError
from cwf_jax.files import home_folder
from cwf_jax.version import __version__

_SECONDS = 10.0
"""Between two lines of progress."""


class Console:
  """Remarks and progress.

  Attributes:
    quiet: neither is shown; errors still are.
  """

  def __init__(self, quiet: bool, log: logging.Logger, check: Callable[[], None]):
    """Whatever makes progress calls `check`, which may raise."""
    self.quiet = quiet
    self._log = log
    self._check = check

  def say(self, text: str) -> None:
    """A remark, on standard error and in the log file."""
    self._log.info(text)
    if not self.quiet:
      print(text, file=sys.stderr, flush=True)

  def log(self, text: str) -> None:
    """A remark for the log file alone."""
    self._log.info(text)

  def log_error(self, error: BaseException) -> None:
    """An error, with its traceback, for the log file alone."""
    self._log.error(str(error), exc_info=error)

  @contextlib.contextmanager
  def progress(self, unit: str, start: int | None = 0) -> Iterator["Progress"]:
    """A bar with rate and time left; where standard error is not a terminal, a line every ten seconds."""
    bar = Progress(unit, self.quiet, self._check, start)
    try:
      yield bar
    finally:
      bar.close()


class Progress:
  """A bar that is drawn when there is something to do. It begins again where less is done than before."""

  def __init__(self, unit: str, quiet: bool, check: Callable[[], None], start: int | None = 0):
    """`start` were done by an earlier run, and do not count for the rate; None: as many as the first call says."""
    self._unit, self._quiet, self._check, self._start, self._done = unit, quiet, check, start, 0
    self._drawn = not quiet and sys.stderr.isatty()
    self._bar: tqdm | None = None
    self._started = self._told = time.monotonic()

  def __call__(self, done: int, total: int, skipped: int = 0, note: str = "") -> None:
    """Tells how many of `total` are done, and what else there is to know."""
    self._check()
    if self._start is None or done < self._done:
      self.close()
      self._bar, self._start, self._started = None, done, time.monotonic()
    self._done = done
    note = ", ".join(part for part in (f"{skipped} skipped" if skipped else "", note) if part)
    if self._drawn:
      self._draw(done, total, note)
    elif not self._quiet and time.monotonic() - self._told >= _SECONDS:
      self._told = time.monotonic()
      rate = (done - self._start) / (self._told - self._started)
      left = f", {tqdm.format_interval((total - done) / rate)} left" if rate else ""
      parts = (f"{done} of {total} {self._unit}", *([note] if note else []), f"{rate:.1f} a second{left}")
      print(", ".join(parts), file=sys.stderr, flush=True)

  def _draw(self, done: int, total: int, note: str) -> None:
    if self._bar is None:
      settings = {"file": sys.stderr, "mininterval": 0.2, "dynamic_ncols": True}
      self._bar = tqdm(total=total, initial=self._start, unit=f" {self._unit}", **settings)
    if note:
      self._bar.set_postfix_str(note, refresh=False)
    self._bar.update(done - self._bar.n)

  def close(self) -> None:
    """Leaves the last state standing."""
    if self._bar is not None:
      self._bar.close()


@contextlib.contextmanager
def open_console(values: flags.FlagValues, check: Callable[[], None]) -> Iterator[Console]:
  """Prepares the console and the process: quiet libraries, JAX's persistent cache of compiled programs.

  Args:
    values: of the call.
    check: called wherever there is progress; raises to stop.
  """
  log = logging.getLogger("cwf_jax.cli")
  log.setLevel(logging.INFO)
  log.propagate = False
  handler: logging.Handler = logging.NullHandler()
  if values["log_file"].value:
    try:
      handler = logging.FileHandler(values["log_file"].value, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
      raise CallError(f"--log_file={values['log_file'].value} cannot be written: {error.strerror or error}") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
  log.addHandler(handler)
  try:
    _prepare_jax()
    log.info("cwf_jax %s: %s", __version__, shlex.join(sys.argv))
    yield Console(values["quiet"].value, log, check)
  finally:
    log.removeHandler(handler)
    handler.close()


def cache_folder() -> Path:
  """Where compiled programs are kept: in `$CWF_JAX_HOME`, by default the user's cache folder."""
  return home_folder() / "compiled"


def _prepare_jax() -> None:
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's remarks for its developers
  keep_freed_memory()
  import jax

  absl_logging.set_verbosity(absl_logging.ERROR)  # orbax tells how it reads a checkpoint
  logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells where it keeps its list of fonts
  logging.getLogger("jax").setLevel(logging.WARNING)  # absl's handler would show which backends are not there
  for decoder in ("PIL", "tifffile"):
    logging.getLogger(decoder).setLevel(logging.CRITICAL)  # what is wrong with a photograph is said in one line
  warnings.filterwarnings("ignore", module=r"(PIL|tifffile|pillow_heif)\.")
  warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
  if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
