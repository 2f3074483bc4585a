"""Export of a trained run for programs without PyTorch."""
