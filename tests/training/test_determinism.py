"""Operations without a deterministic implementation: `put_` has none on any device."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reprise.data.loader import EvalLoader, TrainLoader
from reprise.errors import Notice, UserError
from reprise.tasks.classification import Classification
from reprise.training import determinism, schedules
from reprise.training.learner import Learner
from reprise.training.trainer import Trainer, make_trainer
from tests.training.conftest import CLASSES, CPU, images, trainer_config


class Putting(nn.Module):
    """A user's network that writes by index, forward or backward."""

    def __init__(self, backward: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(36, 3)
        self.backward = backward

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.linear(inputs.flatten(1))
        if self.backward:
            if output.requires_grad:
                output.register_hook(put)
            return output
        return output + put(torch.zeros(3))


def put(values: Tensor) -> Tensor:
    return values.clone().put_(torch.tensor([0]), torch.zeros(1))


@pytest.fixture(autouse=True)
def _restore_deterministic_algorithms() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def train(deterministic: bool | str, backward: bool = False) -> Trainer:
    config = trainer_config(deterministic=deterministic, max_epochs=1)
    network, task = Putting(backward), Classification(CLASSES)
    trainer = make_trainer(config, task)
    learner = Learner(
        network, task, lambda network: torch.optim.SGD(network.parameters(), 0.1), schedules.constant, 0, lambda *_: None
    )
    loaders = TrainLoader(images(70, 1), config.batch_size, 0, CPU), EvalLoader(images(45, 2), config.eval_batch_size, CPU)
    trainer.fit(learner, *loaders)
    return trainer


@pytest.mark.parametrize("backward", [False, True])
def test_the_operation_is_named_in_one_line_with_a_remedy(backward: bool) -> None:
    with pytest.raises(UserError) as refused:
        train(True, backward)
    assert str(refused.value) == (
        "trainer.deterministic=true: put_ has no deterministic implementation here; "
        "use another operation, or set trainer.deterministic=warn; bits may then differ from run to run"
    )


@pytest.mark.parametrize("backward", [False, True])
def test_warn_warns_once_continues_and_records_the_operation(backward: bool, recwarn: pytest.WarningsRecorder) -> None:
    with pytest.warns(Notice) as caught:
        trainer = train("warn", backward)
    assert [str(one.message) for one in caught] == [
        "put_ has no deterministic implementation here; two trainings may differ in their bits"
    ]
    assert trainer.nondeterministic == {"put_"}
    assert torch.is_deterministic_algorithms_warn_only_enabled()


def test_false_records_nothing() -> None:
    assert train(False).nondeterministic == set()


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("does not have a deterministic mood")])
def test_other_errors_are_not_changed(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), determinism.record_nondeterministic(set()):
        raise error


def test_evaluation_is_checked_too(tmp_path: Path) -> None:
    task = Classification(CLASSES)
    no_op: Callable[..., None] = lambda *_: None  # noqa: E731
    learner = Learner(Putting(False), task, no_op, no_op, 0, no_op)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="put_ has no deterministic implementation"):
        make_trainer(trainer_config(), task).validate(learner, EvalLoader(images(9, 2), 7, CPU), verbose=False)
