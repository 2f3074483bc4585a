"""A sweep: its study in Optuna, the workers that take trials from it, the driver that sees it to its end."""
