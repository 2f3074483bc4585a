"""Tasks: what the targets are, loss, metrics, baselines, and the report of an evaluation."""
