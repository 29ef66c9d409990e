"""Data sets, and features of frozen networks."""
