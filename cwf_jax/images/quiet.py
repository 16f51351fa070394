"""Keeps a library's warnings and log lines from the caller, on threads that decode and only while they do."""

import logging
import threading
import warnings


class Quiet(threading.local):
  """Keeps Pillow's warnings and log lines from the caller, on the threads that are decoding and only while they are.

  `warnings.catch_warnings` swaps the filters of the whole process and so cannot be used on threads. Instead, one filter
  stays in the list, and this object is its message pattern: it matches everything on a thread that is decoding, and
  nothing elsewhere, so that a program's own use of Pillow warns as ever.
  """

  depth = 0

  def match(self, _message: str) -> bool:
    """As a message pattern of `warnings`: True on a thread that is decoding."""
    return self.depth > 0

  def filter(self, _record: logging.LogRecord) -> bool:
    """As a filter of `logging`: False, which drops the line, on a thread that is decoding."""
    return self.depth == 0

  def __enter__(self):
    # Somebody may have put another filter before ours since ("error", in tests). Twice in the list does no harm.
    if warnings.filters[:1] != [_IGNORE]:
      warnings.filters.insert(0, _IGNORE)
    self.depth += 1

  def __exit__(self, *_):
    self.depth -= 1


quiet = Quiet()
_IGNORE = ("ignore", quiet, Warning, None, 0)
warnings.filters.insert(0, _IGNORE)
# The loggers that log more than debugging, in these formats.
for name in ("PIL.TiffImagePlugin", "tifffile"):
  logging.getLogger(name).addFilter(quiet)
