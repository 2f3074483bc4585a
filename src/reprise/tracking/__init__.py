"""Runs written down in MLflow: the only place that imports it."""
