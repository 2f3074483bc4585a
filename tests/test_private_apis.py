"""Private and undocumented parts of other libraries are used by one adapter module each, so that an update breaks one file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import reprise

PACKAGE = Path(reprise.__file__).parent
MARKS = {
    "dvc.lock": "tracking/dvc_files.py",
    ".dvc": "tracking/dvc_files.py",
    "mlflow.sharedViewState": "tracking/runs_table.py",
    "latest_metrics": "tracking/mlflow_tables.py",
    "run_uuid": "tracking/mlflow_tables.py",
    "_current_fx_name": "training/lightning_internals.py",
}
"""Words that stand for an undocumented file, tag or table, and the module that may use them."""
MODULES = {
    "dvc.dependency": "tracking/dvc_stages.py",
    "dvc.exceptions": "tracking/dvc_stages.py",
    "dvc.lock": "tracking/dvc_files.py",
    "dvc.repo": "tracking/dvc_stages.py",
    "dvc.schema": "tracking/dvc_files.py",
    "voluptuous": "tracking/dvc_files.py",
    "mlflow.store": "tracking/mlflow_tables.py",
    "mlflow.utils": "tracking/logged_model.py",
    "optuna.storages": "sweeps/optuna_storage.py",
}
"""Modules that are not part of a public API, and the module that may import them."""


def sources() -> dict[str, ast.Module]:
    return {str(file.relative_to(PACKAGE)): ast.parse(file.read_text("utf-8")) for file in sorted(PACKAGE.rglob("*.py"))}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def own_names(tree: ast.Module) -> set[str]:
    """The private names that a module defines itself."""
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    stored = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    variables = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return defined | stored | variables | {"_replace", "_asdict", "_fields"}  # public methods of named tuples


def own_methods(tree: ast.Module) -> set[str]:
    """The private methods that the classes of a module define."""
    classes = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return {part.name for one in classes for part in one.body if isinstance(part, ast.FunctionDef) and is_private(part.name)}


def foreign_private_names(tree: ast.Module) -> Iterator[str]:
    """The private attributes and imports of a module that are not its own."""
    own = own_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and is_private(node.attr) and node.attr not in own:
            yield node.attr
        if isinstance(node, ast.ImportFrom):
            yield from filter(is_private, [*(node.module or "").split("."), *(alias.name for alias in node.names)])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"getattr", "setattr"}:
            name = node.args[1]
            if isinstance(name, ast.Constant) and isinstance(name.value, str) and is_private(name.value):
                yield name.value


def imported_modules(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def texts(tree: ast.Module) -> Iterator[str]:
    """The strings of a module that are neither docstrings nor messages with more than one word; SQL counts."""
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and id(node) not in bare else None
        if isinstance(text, str) and (" " not in text or "SELECT" in text):
            yield text


@pytest.mark.parametrize("code", ["study._storage", "from optuna._experimental import x", "from a import _b", "getattr(a, '_b')"])
def test_the_scan_finds_private_names(code: str) -> None:
    assert list(foreign_private_names(ast.parse(code)))


def test_the_scan_ignores_names_of_the_module_itself() -> None:
    code = "class A:\n def _b(self):\n  self._c = 1\n  return self._c\n\nA()._b()\ntuple_._replace(a=1)\nA.__name__"
    assert list(foreign_private_names(ast.parse(code))) == []


def test_no_module_uses_private_names_of_other_libraries() -> None:
    methods = {name for tree in sources().values() for name in own_methods(tree)}  # a subclass may call those of its base class
    found = {(file, name) for file, tree in sources().items() for name in foreign_private_names(tree)}
    actual = {(file, name) for file, name in found if name not in methods}
    adapters = {
        ("training/lightning_internals.py", "_setup_distributed"),
        ("training/lightning_internals.py", "_TrainingEpochLoop"),
        ("training/lightning_internals.py", "_EvaluationLoop"),
        ("training/lightning_internals.py", "_AutomaticOptimization"),
        ("training/lightning_internals.py", "_make_step_fn"),
        ("training/lightning_internals.py", "_make_backward_fn"),
        ("training/lightning_internals.py", "_make_zero_grad_fn"),
        ("training/hooks.py", "_forward_hooks"),
        ("training/hooks.py", "_forward_pre_hooks"),
        ("training/hooks.py", "_backward_hooks"),
        ("training/hooks.py", "_backward_pre_hooks"),
        ("tracking/mlflow_tables.py", "_hard_delete_run"),
        ("tracking/mlflow_tables.py", "_hard_delete_logged_model"),
    }
    assert actual == adapters, "use a public function, or put the private one behind an adapter with a test of its own"


def test_undocumented_files_tags_and_tables_are_named_by_their_adapter_only() -> None:
    actual = {
        (mark, file)
        for file, tree in sources().items()
        for text in texts(tree)
        for mark in MARKS
        if (text == mark or (mark in text if mark != ".dvc" else text.startswith(".dvc/")))
    }
    assert actual == set(MARKS.items())


def test_internal_modules_of_other_libraries_are_imported_by_their_adapter_only() -> None:
    actual = {
        (library, file)
        for file, tree in sources().items()
        for module in imported_modules(tree)
        for library in MODULES
        if module == library or module.startswith(f"{library}.")
    }
    assert actual == set(MODULES.items())
    assert {
        module for tree in sources().values() for module in imported_modules(tree) if module.startswith("dvc.")
    } <= MODULES.keys()
