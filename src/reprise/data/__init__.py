"""Data pipeline: raw files, arrays, splits, windows and batches."""
