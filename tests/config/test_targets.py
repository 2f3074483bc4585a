"""`_target_` is code: nothing outside the allowlist is called, however it is written."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from reprise.config import build, check, compose
from reprise.config.sections import Target
from reprise.errors import UserError

OUTSIDE = [
    "os.system",
    "builtins.eval",
    "torch.load",
    "torch.hub.load",
    "subprocess.Popen",
    "reprise.analysis.dashboard.serve",
    "nothing",
]
REACHED_THROUGH_TORCH = [  # objects that modules of torch.nn or torch.optim import, reached through these modules
    "torch.nn.functional.torch.load",
    "torch.optim.adam.torch.hub.load",
    "torch.nn.functional.importlib.import_module",
    "torch.nn.modules.module.warnings.warn",
    "torch.nn.functional.handle_torch_function",
    "torch.nn.modules.module.OrderedDict",
    "torch.optim.optimizer.deepcopy",
    "torch.optim.lr_scheduler.partial",
]


def target(path: str, **arguments: Any) -> Target:
    return Target.model_validate({"_target_": path, **arguments})


@pytest.fixture
def tree(root: Path) -> dict[str, Any]:
    return compose(root, ["experiment=digits_cnn"]).model_dump(by_alias=True)


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("section", ["task", "model", "optimizer", "scheduler"])
def test_a_config_that_names_code_outside_the_allowlist_is_refused(tree: dict[str, Any], section: str, path: str) -> None:
    tree[section]["_target_"] = path
    with pytest.raises(UserError, match=rf"^{section}\._target_={path}: not on the allowlist; name its package in plugins"):
        check(tree)


@pytest.mark.parametrize(
    ("extra", "where"),
    [
        ({"_target_": "os.system", "command": "id"}, "model.extra._target_"),
        ([1, {"inner": [{"_target_": "os.system"}]}], "model.extra.1.inner.0._target_"),
        ([[{"_target_": "os.system"}]], "model.extra.0.0._target_"),
        ({"_target_": ["os.system"]}, "model.extra._target_"),
        ({"_target_": {"os": "system"}}, "model.extra._target_.os"),
    ],
)
def test_a_target_hidden_among_arguments_is_refused(tree: dict[str, Any], extra: Any, where: str) -> None:
    tree["model"]["extra"] = extra
    with pytest.raises(UserError, match=rf"^{where}=.*not on the allowlist"):
        check(tree)


@pytest.mark.parametrize("path", [*OUTSIDE, *REACHED_THROUGH_TORCH])
def test_nothing_outside_the_allowlist_is_built(path: str) -> None:
    with pytest.raises(UserError, match=rf"^model\._target_={path}: |^model\._target_=\S+: not on the allowlist"):
        build(target(path), "model", [])


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize(
    "path", ["os.system", "subprocess.getoutput", "builtins.exec", "torch.load", "torch.nn.functional.torch.load"]
)
def test_a_refused_target_is_not_executed(tmp_path: Path, path: str) -> None:
    trap, evil = tmp_path / "trap", tmp_path / "evil.pt"
    torch.save(Trap(trap), evil)
    code = {"builtins.exec": f"open({str(trap)!r}, 'w')", "os.system": f"touch {trap}", "subprocess.getoutput": f"touch {trap}"}
    arguments = {"weights_only": False} if "load" in path else {}
    with pytest.raises(UserError):
        build(target(path, **arguments), "model", [], code.get(path, str(evil)))
    assert not trap.exists()


def test_a_target_among_arguments_is_not_built() -> None:
    nested = {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}
    with pytest.raises(UserError, match=r"^model.in_features=\{.*\}: should be a valid integer"):
        build(target("torch.nn.Linear", in_features=nested, out_features=2), "model", [])


def test_a_torch_class_is_built_with_arguments_of_the_right_types() -> None:
    layer = build(target("torch.nn.Linear", in_features=3, out_features=2, bias=False), "model", [])
    assert isinstance(layer, torch.nn.Linear)
    assert layer.bias is None


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("torch.nn.Linaer", "torch.nn has no Linaer"),
        ("torch.nn.", "not on the allowlist"),
        ("torch.nn.functionel.relu", "not on the allowlist"),
        ("reprise.models.convent.ConvNet", "No module named 'reprise.models.convent'"),
        ("torch.nn.functional", "neither a class nor a function"),
        ("torch.nn.Linear.forward", "not on the allowlist"),
    ],
)
def test_a_target_that_does_not_exist_is_named_in_the_error(path: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"^model\._target_={path}: {message}"):
        build(target(path), "model", [])


PLUGIN = """
from __future__ import annotations
from typing import TYPE_CHECKING
import torch
if TYPE_CHECKING:
    from somewhere import Size

class Net(torch.nn.Module):
    def __init__(self, input_shape: Size, outputs: int, width: int = 3) -> None:
        super().__init__()
        self.width = width

def anything(outputs, **others):
    return others
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a user's package."""
    (tmp_path / "my_networks.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_networks", raising=False)
    return "my_networks"


def test_a_plugin_is_imported_and_built_only_if_it_is_named(plugin: str, tree: dict[str, Any]) -> None:
    tree["model"] = {"_target_": f"{plugin}.Net", "width": 5}
    with pytest.raises(UserError, match="not on the allowlist"):
        check(tree)
    with pytest.raises(UserError, match="not on the allowlist"):
        build(target(f"{plugin}.Net"), "model", ["my"])
    assert plugin not in sys.modules
    config = check(tree | {"plugins": [plugin]})
    network = build(config.model, "model", config.plugins, input_shape=[3, 3, 1], outputs=2)
    assert network.width == 5


@pytest.mark.parametrize("path", ["my_networks.torch.load", "my_networks.TYPE_CHECKING", "my_networks_too.Net"])
def test_naming_a_plugin_allows_no_other_package(plugin: str, path: str) -> None:
    with pytest.raises(UserError, match=rf"^model\._target_={path}"):
        build(target(path), "model", [plugin])


def test_a_function_with_var_keywords_accepts_any_argument(plugin: str) -> None:
    assert build(target(f"{plugin}.anything", depth=3), "model", [plugin], outputs=2) == {"depth": 3}


def test_a_plugin_whose_import_fails_names_the_missing_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_more.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="No module named 'not_installed_anywhere'"):
        build(target("needs_more.Net"), "model", ["needs_more"])
