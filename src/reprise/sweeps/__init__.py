"""Sweeps: the Optuna study, the workers that train its trials, and the driver that runs the workers."""
