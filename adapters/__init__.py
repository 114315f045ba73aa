"""The outside world, one file each: only adapters/X.py imports the driver of X."""
