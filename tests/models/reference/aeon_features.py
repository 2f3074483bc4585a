"""Write `aeon_features.npz`: features of Hydra and MultiRocket as aeon 1.6.0 computes them, with their random choices.

    python tests/models/reference/aeon_features.py     # in an environment with aeon==1.6.0 and torch

aeon is no test dependency: it needs older releases of numba and pandas than reprise installs.
"""

from pathlib import Path

import numpy as np
from aeon.transformations.collection.convolution_based import HydraTransformer, MultiRocket

SAMPLES, STEPS, BIASES = 3, 40, 84 * 4
FILE = Path(__file__).with_suffix(".npz")


def main() -> None:
    arrays = {}
    for channels in (1, 5):
        series = np.random.default_rng(channels).normal(size=(SAMPLES, channels, STEPS)).astype(np.float32)
        for name, values in (hydra(series) | multi_rocket(series)).items():
            arrays[f"{channels}_{name}"] = values
        arrays[f"{channels}_series"] = series
    np.savez_compressed(FILE, **arrays)


def hydra(series: np.ndarray) -> dict[str, np.ndarray]:
    transform = HydraTransformer(n_kernels=4, n_groups=8, random_state=0, output_type="numpy")
    features = transform.fit_transform(series)
    return {
        "hydra_features": features,
        "hydra_kernels": transform._hydra.W.numpy(),
        "hydra_channels": np.stack([index.numpy() for index in transform._hydra.idx]),
    }


def multi_rocket(series: np.ndarray) -> dict[str, np.ndarray]:
    """Fit to copies of one sample, so that the biases do not depend on which samples are drawn."""
    transform = MultiRocket(n_kernels=BIASES, random_state=0).fit(np.repeat(series[:1], 2, axis=0))
    arrays = {"rocket_features": np.asarray(transform.transform(series))}
    for part, parameters in (("series", transform.parameter), ("difference", transform.parameter1)):
        *channels, dilations, counts, biases = parameters
        arrays |= {f"rocket_{part}_dilations": dilations, f"rocket_{part}_counts": counts, f"rocket_{part}_biases": biases}
        arrays |= {f"rocket_{part}_{name}": values for name, values in zip(("sizes", "channels"), channels, strict=False)}
    return arrays


if __name__ == "__main__":
    main()
