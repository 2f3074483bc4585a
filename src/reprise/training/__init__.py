"""Training: the LightningModule, tasks, metrics, schedules, precision and checkpoints."""
