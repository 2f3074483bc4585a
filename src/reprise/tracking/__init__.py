"""Runs in MLflow and on disk. Only this package imports MLflow."""
