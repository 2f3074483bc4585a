"""Train a network of two convolutions with Keras until an epoch reaches an accuracy on the test images.

    python keras_images.py FOLDER TARGET [--max-epochs 15] [--seed 0]

FOLDER holds the four IDX files of MNIST or Fashion-MNIST. Prints JSON with the number of epochs and the accuracy of the last. The
epoch is chosen on the test images, as in tutorials, which flatters the peer: reprise chooses it on val.
"""

import argparse
import gzip
import json
from pathlib import Path

import keras
import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=float)
    parser.add_argument("--max-epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(arguments.seed)
    train, test = (read(arguments.folder, part) for part in ("train", "t10k"))
    network = keras.Sequential(
        [
            keras.layers.Input((28, 28, 1)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile("adam", loss, metrics=["accuracy"])
    accuracy, epoch = 0.0, 0
    while accuracy < arguments.target and epoch < arguments.max_epochs:
        network.fit(*train, batch_size=64, verbose=0)
        accuracy, epoch = network.evaluate(*test, batch_size=256, verbose=0)[1], epoch + 1
    print(json.dumps({"epochs": epoch, "value": accuracy, "reached": bool(accuracy >= arguments.target)}))


def read(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images `float32 [N, 28, 28, 1]` between 0 and 1, and labels `[N]`."""
    images = np.frombuffer(gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    return images.reshape(-1, 28, 28, 1).astype(np.float32) / 255, labels


if __name__ == "__main__":
    main()
