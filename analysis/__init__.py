"""The experiments: each command is one file, run as `python -m analysis.NAME`."""
