"""Lets the C library keep the memory that XLA frees, so that the next pass does not pay for fresh pages again.

XLA asks malloc for hundreds of megabytes a pass. By default glibc returns blocks of that size to the kernel, and the
threads' own arenas return whole heaps; the kernel then clears every page anew on its first touch, in the middle of the
transforms. The process keeps its largest use of memory instead of falling back from it.
"""

import ctypes

# mallopt's numbers, from glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8


def keep_freed_memory() -> bool:
  """Call before jax makes its first array, since arenas that exist stay; says whether the C library took it.

  A libc without `mallopt` (musl, macOS, Windows) is left as it is.
  """
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library without a name
    return False
  settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_ARENA_MAX, 1))
  taken = [mallopt(option, value) for option, value in settings]
  return all(taken)
