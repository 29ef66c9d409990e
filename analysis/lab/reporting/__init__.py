"""How results are shown: figures, LaTeX, documents."""
