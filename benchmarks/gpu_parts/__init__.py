"""The parts of `benchmarks/gpu.py`. Each is a function of a `Bench` that yields its results by name, as plain values."""
