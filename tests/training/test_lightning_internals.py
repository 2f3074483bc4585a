"""The private parts of Lightning that are used exist and mean what `lightning_internals` expects of them."""

import pytorch_lightning as pl
from pytorch_lightning.strategies import ModelParallelStrategy

from reprise.training.lightning_internals import HOOK_NAME, FastHookName
from tests.training.conftest import classify

VERSION = f"Lightning {pl.__version__} changed it: adapt training/lightning_internals.py"


def test_lightning_sets_the_name_of_the_running_hook() -> None:
    names = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
            assert isinstance(pl_module, FastHookName)
            names.append(getattr(pl_module, HOOK_NAME, None))

    classify(max_epochs=1, callbacks=[Watch()])
    assert set(names) == {"on_train_batch_start"}, VERSION


def test_the_strategy_can_join_the_process_group_without_a_module() -> None:
    assert callable(getattr(ModelParallelStrategy, "_setup_distributed", None)), VERSION
