"""Start from the weights of another training: which layers are loaded, new, or frozen."""

import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from reprise.errors import UserError
from reprise.models.convnet import Block, ConvNet, Dense
from reprise.models.resnet import ResNet
from reprise.models.ridge_forecaster import RidgeForecaster
from reprise.tasks.classification import Classification
from reprise.tracking.weights import save_weights
from reprise.training.initial import InitialWeights, Source, freeze, start_from
from reprise.training.optimizers import frozen_norms, parameter_groups
from tests.training.conftest import CLASSES, Trained, images

LABELS = ["a", "b", "c"]


def network(outputs: int = 3, filters: int = 4, seed: int = 1) -> ConvNet:
    torch.manual_seed(seed)
    return ConvNet([6, 6, 1], outputs, [Block(filters, batch_norm=True)], [Dense(8)])


@pytest.fixture(scope="module")
def initial(tmp_path_factory: pytest.TempPathFactory) -> InitialWeights:
    file = tmp_path_factory.mktemp("initial") / "best.safetensors"
    save_weights(file, network(seed=0).state_dict())
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    return InitialWeights(Source(name="source", sha256=sha256, labels=LABELS), file)


@given(st.permutations(LABELS) | st.lists(st.text(max_size=2), min_size=2, max_size=5, unique=True))
@settings(max_examples=30, deadline=None)
def test_the_head_is_new_exactly_if_the_classes_or_their_order_differ(initial: InitialWeights, labels: list[str]) -> None:
    made, random, source = network(len(labels)), network(len(labels)).state_dict(), network(seed=0).state_dict()
    new = start_from(made, initial, labels)
    assert new == ([] if labels == LABELS else ["head.output.weight", "head.output.bias"])
    for name, tensor in made.state_dict().items():
        assert torch.equal(tensor, (random if name in new else source)[name]), name


def test_layers_that_differ_are_named_with_both_shapes(initial: InitialWeights) -> None:
    with pytest.raises(UserError) as caught:
        start_from(network(filters=5), initial, LABELS)
    assert str(caught.value) == (
        "init_from=source: its layers are others: features.conv1.weight (4 x 1 x 3 x 3 there, 5 x 1 x 3 x 3 here), "
        "features.norm1.weight (4 there, 5 here), features.norm1.bias (4 there, 5 here), features.norm1.running_mean (4 there, "
        "5 here) and 2 more; use its model section, or omit init_from"
    )
    with pytest.raises(UserError, match=r"stem.weight \(absent there, 16 x 1 x 3 x 3 here\), norm.weight"):
        start_from(ResNet([6, 6, 1], 3, 8), initial, LABELS)


def test_other_bytes_than_those_named_are_refused(initial: InitialWeights, tmp_path: Path) -> None:
    changed = tmp_path / "best.safetensors"
    save_weights(changed, network(seed=2).state_dict())
    with pytest.raises(UserError, match=r"is not what init_from=source names \(sha256 differs\)"):
        start_from(network(), InitialWeights(initial.source, changed), LABELS)


def test_a_model_in_closed_form_starts_from_no_weights(initial: InitialWeights) -> None:
    with pytest.raises(UserError, match="RidgeForecaster is computed in closed form, not trained from weights"):
        start_from(RidgeForecaster([48, 1], 1), initial, LABELS)


def test_frozen_weights_and_their_batch_norm_statistics_stay_as_they_are_and_the_others_are_trained() -> None:
    made = network()
    freeze(made, ["features.*"], new=["head.output.weight", "head.output.bias"])
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    trained = Trained(made, Classification(CLASSES), images(70, 1), images(45, 2))
    for name, tensor in trained.weights[-1].items():
        assert torch.equal(tensor, before[name]) == name.startswith("features."), name


@pytest.mark.parametrize("kinds", [[], ["norm"], ["bias", "norm"]])
def test_frozen_parameters_are_not_in_the_optimizer(kinds: list[str]) -> None:
    made = network()
    freeze(made, ["features.conv1.*", "features.norm1.bias"], new=[])
    groups = parameter_groups(made, kinds)
    optimized = {id(one) for group in groups for one in (group["params"] if kinds else [group])}
    names = {name for name, parameter in made.named_parameters() if id(parameter) in optimized}
    assert names == {
        "features.norm1.weight",
        *(f"head.{layer}.{kind}" for layer in ("dense1", "output") for kind in ("weight", "bias")),
    }
    assert frozen_norms(made) == []  # only its bias is frozen


@pytest.mark.parametrize(
    ("patterns", "new", "message"),
    [
        (
            ["conv1.*"],
            [],
            r"^freeze=conv1.\*: matches no parameter; there are features.conv1.\*, features.norm1.\*, head.dense1.\*, ",
        ),
        (["head.*"], ["head.output.bias"], r"^freeze=head.\*: matches head.output.bias, which is new and has to be trained; "),
        (["*"], [], r"^freeze: no parameter is left to train$"),
    ],
)
def test_a_pattern_that_freezes_nothing_or_too_much_is_refused(patterns: list[str], new: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        freeze(network(), patterns, new)


def test_a_norm_is_frozen_if_it_has_parameters_and_all_are_frozen() -> None:
    made = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, affine=False), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1))
    freeze(made, ["0.*", "2.*"], new=[])
    assert frozen_norms(made) == [made[2]]
