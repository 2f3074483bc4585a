"""How a network learns: the one LightningModule, tasks, schedules, precision, checkpoints."""
