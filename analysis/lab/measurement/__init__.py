"""How results are measured and compared."""
