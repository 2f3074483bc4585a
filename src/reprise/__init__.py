"""reprise: an experiment-tracked training pipeline with exactly reproducible results."""

import os

SPIN_COUNT = "1000"
"""Iterations of the waiting loop after which a GNU OpenMP thread sleeps (measured: docs/decisions/0015-threads.md).

By default, waiting threads spin for milliseconds and slow down other trainings on the same CPUs. Results do not depend on it.
libgomp reads the variable when it is loaded, so it is set here, before any module of this package imports torch.
"""
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
