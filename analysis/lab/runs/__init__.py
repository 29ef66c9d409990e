"""Run directories, what is kept in them, grids of cells, progress."""
