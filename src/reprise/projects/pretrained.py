"""Choose a network trained on ImageNet for a project with few colour pictures."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from reprise.config.pretrained import PRETRAINED
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.projects.own_data import IMAGES, OwnData
from reprise.stages import download

EXPERIMENT, WEIGHTS = "image_folder_pretrained", "imagenet/efficientnet_lite0"
"""The experiment with this network, and the weights that it starts from."""
FEW = 200
"""Pictures of a class, on average, below which the network is chosen."""
SIDE = 128
"""Height and width in pixels to which pictures are scaled, if the user sets none."""


def choose(own: OwnData, overrides: Sequence[str], scratch: Path, console: Console) -> OwnData:
    """Return the data with the experiment and the size of pictures of the pretrained network, if they are few and in colour.

    The weights are downloaded to `scratch`/data/raw. If that fails, the data is returned as it is, and the reason printed.
    """
    if own.kind is not IMAGES or not _few_in_colour(own):
        return own
    try:
        download.run(PRETRAINED[WEIGHTS], ProjectPaths(scratch), console)
    except UserError as error:
        console.print(
            f"init  few colour pictures: a network trained on ImageNet would suit them, but {error}", markup=False, soft_wrap=True
        )
        return own
    console.print(f"init  few colour pictures: training starts from {WEIGHTS}", highlight=False, soft_wrap=True)
    shape = {} if any(item.startswith("data.shape=") for item in overrides) else {"shape": [SIDE, SIDE, 3]}
    return replace(own, kind=replace(own.kind, experiment=EXPERIMENT), settings=own.settings | shape)


def _few_in_colour(own: OwnData) -> bool:
    pictures, labels = own.content.arrays["train/images"], own.content.arrays["train/labels"]
    return pictures.shape[-1] == 3 and len(labels) < FEW * len(np.unique(labels)) and own.settings.get("resize") != "tiles"
