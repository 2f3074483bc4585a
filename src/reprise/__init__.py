"""reprise: every number on the dashboard can be run again and comes out the same."""

import os

SPIN_COUNT = "1000"
"""Turns of its waiting loop after which a thread of GNU OpenMP sleeps (measured: docs/decisions.md, 2026-11-27).

By default waiting threads stay busy for milliseconds: trainings that share CPUs then take each other's time. It changes no
result. libgomp reads the variable when it is loaded, so it is set here, before any module of ours can import torch.
"""
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
