"""Analysis of finished and running runs: compare, reproduce, predict, explain, register, watch."""
