"""The package's version, read by setup.cfg; importing it imports nothing else."""

__version__ = "0.1.0"
