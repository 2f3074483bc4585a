"""Vectors with a label each."""
