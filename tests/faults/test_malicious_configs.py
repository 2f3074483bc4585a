"""A config is data: no key, target, resolver, tag, anchor, name or address in it can execute code, or read or write other files."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from reprise.config import Config, build, check, compose, compose_dataset, load, pipeline
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages import download
from tests.faults.exploit_payloads import PAYLOADS, watched
from tests.metas import image_meta
from tests.pipeline.conftest import ROOT

SECRET = "hunter2-do-not-tell"
SECTIONS = ("task", "model", "optimizer", "scheduler")

TARGETS: dict[str, dict[str, Any]] = {
    # Python's standard library
    "os.system": {"command": "touch CANARY"},
    "os.execv": {"path": "/usr/bin/touch", "argv": ["touch", "CANARY"]},
    "posix.system": {"command": "touch CANARY"},
    "builtins.eval": {"source": "open('CANARY', 'w')"},
    "builtins.exec": {"source": "open('CANARY', 'w')"},
    "builtins.open": {"file": "CANARY", "mode": "w"},
    "builtins.__import__": {"name": "evil"},
    "subprocess.Popen": {"args": ["touch", "CANARY"]},
    "subprocess.run": {"args": "touch CANARY", "shell": True},
    "subprocess.getoutput": {"cmd": "touch CANARY"},
    "importlib.import_module": {"name": "evil"},
    "runpy.run_path": {"path_name": "evil.py"},
    "shutil.rmtree": {"path": "CANARY"},
    "pathlib.Path": {},
    "pickle.load": {"file": "evil.pt"},
    "functools.partial": {"func": "os.system"},
    "operator.methodcaller": {"name": "system"},
    "types.FunctionType": {"code": "x"},
    "lambda: __import__('os').system('touch CANARY')": {},
    # dependencies
    "torch.load": {"f": "evil.pt", "weights_only": False},
    "torch.hub.load": {"repo_or_dir": ".", "model": "model", "source": "local"},
    "torch.jit.load": {"f": "evil.pt"},
    "torch.package.PackageImporter": {"file_or_buffer": "evil.pt"},
    "torch.utils.cpp_extension.load": {"name": "evil", "sources": ["evil.cpp"]},
    "torch.utils.model_zoo.load_url": {"url": "file:///evil.pt"},
    "torch.distributed.launcher.api.elastic_launch": {"entrypoint": "touch"},
    "numpy.load": {"file": "evil.npy", "allow_pickle": True},
    "joblib.load": {"filename": "evil.pt"},
    "pandas.read_pickle": {"filepath_or_buffer": "evil.pt"},
    "mlflow.pytorch.load_model": {"model_uri": "evil"},
    "hydra.utils.instantiate": {"config": {"command": "touch CANARY"}},
    "yaml.unsafe_load": {"stream": "!!python/object/apply:os.system ['touch CANARY']"},
    "torchmetrics.text.bert.BERTScore": {"model_name_or_path": "evil"},
    "kornia.augmentation.container.base.torch.load": {},
    # reached through allowed packages
    "torch.nn.functional.torch.load": {"f": "evil.pt", "weights_only": False},
    "torch.nn.functional.torch.hub.load": {"repo_or_dir": ".", "model": "model", "source": "local"},
    "torch.nn.functional.importlib.import_module": {"name": "evil"},
    "torch.nn.modules.module.torch.load": {"f": "evil.pt", "weights_only": False},
    "torch.nn.parallel.distributed.os.system": {"command": "touch CANARY"},
    "torch.nn.parallel.DistributedDataParallel": {"module": "x"},
    "torch.nn.Module.load_state_dict": {"state_dict": {}},
    "torch.nn.Module": {},
    "torch.nn.Parameter": {},
    "torch.nn.functional": {},
    "torch.nn.functional.relu": {},
    "torch.nn.utils.parametrize.register_parametrization": {},
    "torch.nn.__builtins__.eval": {"source": "open('CANARY', 'w')"},
    "torch.nn.__loader__.load_module": {},
    "torch.optim.adam.torch.hub.load": {"repo_or_dir": ".", "model": "model", "source": "local"},
    "torch.optim.swa_utils.update_bn": {},
    "torch.optim.optimizer.register_optimizer_step_pre_hook": {"hook": "x"},
    "torch.optim.lr_scheduler.partial": {"func": "os.system"},
    "torch.optim.lr_scheduler.types.FunctionType": {},
    # in reprise, but no model, task, optimizer or schedule
    "reprise.__main__.main": {"arguments": ["dashboard"]},
    "reprise.config.targets.importlib.import_module": {"name": "evil"},
    "reprise.data.store.shutil.rmtree": {"path": "CANARY"},
    "reprise.data.store.write_atomically": {"file": "CANARY", "content": "x"},
    "reprise.data.store.publish": {"folder": "CANARY"},
    "reprise.data.sources.subprocess.run": {"args": "touch CANARY", "shell": True},
    "reprise.tracking.backend.dashboard": {"uri": "sqlite:///x", "port": 1},
    "reprise.tracking.backend.os.system": {"command": "touch CANARY"},
    "reprise.analysis.dashboard.serve": {"port": 1},
    "reprise.stages.download.run": {},
    "reprise.training.trainer.relaunch": {},
    "reprise.training.checkpoint.save_weights": {"file": "CANARY"},
    "reprise.training.checkpoint.torch.load": {"f": "evil.pt", "weights_only": False},
    "reprise.training.learner.Learner": {},
    "reprise.training.schedules.math.exp": {},
    "reprise.models.convnet.torch.load": {"f": "evil.pt", "weights_only": False},
    "reprise.models.convnet.nn.functional.torch.hub.load": {"repo_or_dir": ".", "model": "model", "source": "local"},
    # not an import path
    "": {},
    ".": {},
    "..os.system": {"command": "touch CANARY"},
    "torch.nn": {},
    "torch.nn.Linear\nos.system": {},
    "torch.nn.Linear;os.system": {},
    "../../evil.py": {},
}
"""Import paths that must not be called, with harmful arguments."""

OVERRIDES = {
    # targets in unexpected places, and Hydra's special keys next to one
    "+model.extra={_target_:os.system,command:x}": "model.extra._target_=os.system: not on the allowlist",
    "+model.extra=[1,{inner:[{_target_:os.system}]}]": "model.extra.1.inner.0._target_=os.system: not on the allowlist",
    "+model.extra={_target_:[os.system]}": "model.extra._target_",
    "+model._partial_=true": "model._partial_: no such key",
    "+model._args_=[touch]": "model._args_: no such key",
    "+optimizer._convert_=all": "optimizer._convert_: no such key",
    "+task._recursive_=true": "task._recursive_: no such key",
    "+data._target_=os.system": "data._target_: no such key",
    "+_target_=os.system": "_target_: no such key",
    "+trainer.callbacks=[{_target_:os.system}]": "trainer.callbacks: no such key",
    # packages that are not the user's
    "plugins=[os]": "plugins=os: not a package of yours",
    "plugins=[builtins]": "plugins=builtins: not a package of yours",
    "plugins=[os.path]": "plugins=os.path: not a package of yours",
    "plugins=[torch]": "plugins=torch: not a package of yours",
    "plugins=[torch.hub]": "plugins=torch.hub: not a package of yours",
    "plugins=[reprise]": "plugins=reprise: not a package of yours",
    "plugins=[reprise.data]": "plugins=reprise.data: not a package of yours",
    "plugins=[mlflow]": "plugins=mlflow: not a package of yours",
    "plugins=[joblib]": "plugins=joblib: not a package of yours",
    "plugins=[cloudpickle]": "plugins=cloudpickle: not a package of yours",
    "plugins=[sklearn]": "plugins=sklearn: not a package of yours",
    "plugins=['../evil']": "plugins.0=../evil: should match",
    "plugins=['']": "plugins.0=: should match",
    # resolvers
    "name=${oc.env:SECRET}": "name=${oc.env:SECRET}: calls a resolver",
    "data.citation=a ${oc.env:SECRET} b": "calls a resolver",
    "data.citation=${oc.env:NOT_SET,x}": "calls a resolver",
    "data.citation=${oc.decode:'[1]'}": "calls a resolver",
    "data.citation='${oc.create:{a:1}}'": "calls a resolver",
    "data.citation=${oc.select:name}": "calls a resolver",
    "data.citation=${eval:'1+1'}": "calls a resolver",
    "data.citation=${hydra:runtime.cwd}": "calls a resolver",
    "data.citation=${now:%Y}": "calls a resolver",
    "data.citation=${python_version:}": "calls a resolver",
    "data.citation='${oc.env:${name}}'": "calls a resolver",
    "data.citation='${${name}:SECRET}'": "calls a resolver",
    "data.classes=['${oc.env:SECRET}',b]": "data.classes.0=${oc.env:SECRET}: calls a resolver",
    "+model.extra=[['${oc.env:SECRET}']]": "model.extra.0.0=${oc.env:SECRET}: calls a resolver",
    "+model.extra={a:[{b:'${oc.env:SECRET}'}]}": "model.extra.a.0.b=${oc.env:SECRET}: calls a resolver",
    "+model.${oc.env:SECRET}=1": "no such key",
    "experiment=${oc.env:SECRET}": "no conf/experiment/",
    "optimizer=${oc.env:SECRET}": "no conf/optimizer/",
    # interpolations that grow or never end
    "data.citation=${data.citation}": "refers to another interpolation",
    "+model.extra=${model}": "refers to another interpolation",
    "+model.extra=[${.}]": "no such key",
    "name=${nothing}": "Interpolation key 'nothing' not found",
    # Hydra's own settings
    "hydra.run.dir=CANARY": "hydra.run.dir: no such key",
    "hydra.job.chdir=true": "hydra.job.chdir: no such key",
    "hydra.output_subdir=CANARY": "hydra.output_subdir: no such key",
    "hydra.searchpath=[file://CONF]": "hydra.searchpath: no such key",
    "+hydra.searchpath=[pkg://evil]": "hydra.searchpath: no such key",
    "+hydra.callbacks.x._target_=os.system": "hydra.callbacks.x._target_: no such key",
    "hydra/launcher=joblib": "hydra/launcher: no such key",
    "hydra/launcher=basic": "hydra/launcher: no such key",
    "+hydra/sweeper=optuna": "hydra/sweeper: no such key",
    "~hydra": "hydra: no such key",
    "hydra=x": "hydra: no such key",
    "--config-dir=CONF": "--config-dir: no such key",
    "--config-dir": "--config-dir: not of the form key=value",
    "--config-name=evil": "--config-name: no such key",
    "-m": "-m: not of the form key=value",
    "+data@hydra=digits": "data@hydra: no such key",
    "optimizer@model=adam": "optimizer@model: no such key",
    "optimizer.lr=0.1,0.2": "Ambiguous value",
    "optimizer.lr=choice(1,2)": "requires --multirun",
    # paths outside conf/ and data/
    "experiment=../../evil": "experiment=../../evil: no conf/experiment/../../evil.yaml",
    "optimizer=../../evil": "optimizer=../../evil: no conf/optimizer/../../evil.yaml",
    "data=../../../etc/passwd": "data=../../../etc/passwd: no conf/data/",
    "data=/etc/passwd": "data=/etc/passwd: no conf/data/",
    "+experiment/../../evil=x": "experiment/../../evil: no such key",
    "name=../../x": "name=../../x: should match",
    "name=/tmp/x": "name=/tmp/x: should match",
    "name=..": "name=..: should match",
    "name=''": "name=: should match",
    "data.name=a/../../b": "data.name=a/../../b: should match",
    "data.name='a b'": "data.name=a b: should match",
    "data.name='-rf'": "data.name=-rf: should match",
    "data.files.0.fetch=../../../x.csv": "data.files.0.fetch=../../../x.csv: should be a file's name",
    "data.files.0.fetch=/etc/passwd": "data.files.0.fetch=/etc/passwd: should be a file's name",
    "data.files.0.fetch=a/../../x.csv.gz": "should be a file's name",
    "data.files.0.fetch=.gz": "should be a file's name",
    "data.files.0.fetch=...gz": "should be a file's name",
    "data.mirror=../..": "data.mirror=../..: should be a file's name",
    "data.sources=[package:evil.inner/]": "data.sources.0=package:evil.inner/: should be package:NAME/FOLDER/",
    "data.sources=[package:sklearn/../../]": "should not lead upwards",
    "data.sources=['debian:-oDir::Bin::dpkg=CANARY/']": "should be debian:NAME/FOLDER/",
    "data.sources=['debian:x;touch CANARY/']": "should be debian:NAME/FOLDER/",
    "data.sources=[CONF/../]": "should not lead upwards",
    # nested too deeply for the stack
    f"+model.extra={'[' * 400}{']' * 400}": "nested too deeply",
    f"+model.extra={'{a:' * 100}1{'}' * 100}": "nested",
}
"""Single overrides, and the expected error message."""


def experiment(conf: Path, text: str) -> None:
    (conf / "experiment" / "evil.yaml").write_text(f"# @package _global_\n{text}")


def with_defaults(line: str) -> Callable[[Path], None]:
    return lambda conf: experiment(conf, f"defaults:\n  - digits_cnn\n  - {line}\n  - _self_\nname: evil\n")


def with_text(text: str) -> Callable[[Path], None]:
    return lambda conf: experiment(conf, f"defaults:\n  - digits_cnn\n  - _self_\nname: evil\n{text}\n")


def in_root(text: str) -> Callable[[Path], None]:
    return lambda conf: (conf / "config.yaml").write_text((conf / "config.yaml").read_text() + text) and None  # type: ignore[func-returns-value]


LAUGHS = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12))
MERGES = "\n".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 12))
INTERPOLATIONS = "\n".join(f"    a{n}: {f'${{model.extra.a{n - 1}}}' * 10}" for n in range(1, 12))
FLAT = "model:\n  extra:\n    a: " + "x" * 10_000 + "\n    b: " + "${model.extra.a}" * 10_000

FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a tag that calls": (with_text('data:\n  citation: !!python/object/apply:os.system ["touch CANARY"]'), "could not determine a constructor"),
    "a tag that constructs": (with_text("data:\n  citation: !!python/object/new:os.system [x]"), "could not determine a constructor"),
    "a tag of a name": (with_text("data:\n  citation: !!python/name:os.system"), "could not determine a constructor"),
    "a tag of a module": (with_text("data:\n  citation: !!python/module:evil"), "could not determine a constructor"),
    "a tag of our own": (with_text("data:\n  citation: !os.system x"), "could not determine a constructor"),
    "a tag on a key": (with_text("!!python/name:os.system x: 1"), "could not determine a constructor"),
    "a billion laughs": (with_text(f"a0: &a0 [lol, lol]\n{LAUGHS}"), "with its anchors expanded"),
    "a billion merges": (with_text(f"a0: &a0 {{b: 1}}\n{MERGES}"), "with its anchors expanded"),
    "an anchor that holds itself": (with_text("a: &a [*a]"), "refers to itself"),
    "a billion interpolations": (with_text(f"model:\n  extra:\n    a0: lol\n{INTERPOLATIONS}"), "refers to another interpolation"),
    "a long text, repeated": (with_text(FLAT), "with its interpolations expanded"),
    "deeply nested brackets": (with_text(f"a: {'[' * 100_000}{']' * 100_000}"), "nested more than 64 levels deep"),
    "a resolver in the list of defaults": (with_defaults("override /optimizer: ${oc.env:SECRET}"), "names no file of conf/"),
    "an interpolation in the list of defaults": (with_defaults("override /optimizer: ${name}"), "names no file of conf/"),
    "a path outside conf in the list of defaults": (with_defaults("override /optimizer: ../../../evil"), "names no file of conf/"),
    "a path outside conf": (with_defaults("/../evil"), "names no file of conf/"),
    "another launcher": (with_defaults("override /hydra/launcher: joblib"), "names no file of conf/"),
    "Hydra's own settings under their full path": (with_defaults("override /hydra: x"), "names no file of conf/"),
    "a package of Hydra's": (with_defaults("/optimizer@hydra.callbacks: adam"), "names no file of conf/"),
    "a resolver in a value": (with_text("data:\n  citation: ${oc.env:SECRET}"), "calls a resolver"),
    "a resolver in a list": (with_text("data:\n  classes: [a, '${oc.env:SECRET}']"), "calls a resolver"),
    "a resolver in a key": (with_text("model:\n  ${oc.env:SECRET}: 1"), "calls a resolver"),
    "a resolver after an anchor": (with_text("data:\n  title: &x ${oc.env:SECRET}\n  citation: *x"), "calls a resolver"),
    "another folder of configs": (in_root("hydra:\n  searchpath: [file://CONF]\n"), "Hydra's own settings"),
    "a package of configs": (in_root("hydra:\n  searchpath: [pkg://evil]\n"), "Hydra's own settings"),
    "a package of configs by a merge": (in_root("<<: {hydra: {searchpath: ['pkg://evil']}}\n"), "Hydra's own settings"),
    "a package of configs by an escape sequence": (in_root('"\\x68ydra": {searchpath: ["pkg://evil"]}\n'), "Hydra's own settings"),
    "a callback of Hydra's": (with_text("hydra:\n  callbacks:\n    x: {_target_: os.system}"), "Hydra's own settings"),
    "a target": (with_text('model:\n  _target_: os.system\n  command: "touch CANARY"'), "model._target_=os.system: not on the allowlist"),
    "a target by an interpolation": (with_text("data:\n  citation: os.system\nmodel:\n  _target_: ${data.citation}"), "model._target_=os.system: not"),
    "a target by an anchor": (with_text("data:\n  citation: &x os.system\nmodel:\n  _target_: *x"), "model._target_=os.system: not"),
    "a login in an address": (with_text(f"tracking:\n  uri: http://me:{SECRET}@127.0.0.1:9"), "tracking.uri: holds a login"),
    "a token in an address": (with_text(f"tracking:\n  uri: http://{SECRET}@127.0.0.1:9"), "tracking.uri: holds a login"),
}  # fmt: skip
"""Changes to a copy of conf/, and the expected error message of `experiment=evil`."""


def in_tree(path: str, value: Any) -> Callable[[dict[str, Any]], str]:
    def change(tree: dict[str, Any]) -> str:
        *parents, last = path.split(".")
        node: Any = tree
        for key in parents:
            node = node[int(key)] if isinstance(node, list) else node[key]
        node[int(last) if isinstance(node, list) else last] = value
        return yaml.safe_dump(tree)

    return change


def after(text: str) -> Callable[[dict[str, Any]], str]:
    return lambda tree: yaml.safe_dump(tree) + text


RESOLVED: dict[str, tuple[Callable[[dict[str, Any]], str], str]] = {
    "a tag that calls": (after('x: !!python/object/apply:os.system ["touch CANARY"]\n'), "could not determine a constructor"),
    "a tag of a module": (after("x: !!python/module:evil\n"), "could not determine a constructor"),
    "a billion laughs": (after(f"a0: &a0 [lol, lol]\n{LAUGHS}\n"), "with its anchors expanded"),
    "a billion merges": (after(f"a0: &a0 {{b: 1}}\n{MERGES}\n"), "with its anchors expanded"),
    "an anchor that holds itself": (after("a: &a [*a]\n"), "refers to itself"),
    "deeply nested brackets": (after(f"a: {'[' * 100_000}{']' * 100_000}\n"), "nested more than 64 levels deep"),
    "a second document": (after("---\nname: x\n"), "expected a single document"),
    "an invalid date": (after("a: 2026-99-99\n"), "month must be in"),
    "a list": (lambda tree: "[1, 2]", "should be a valid dictionary"),
    "a path in the name": (in_tree("name", "../../x"), "name=../../x: should match"),
    "a path in the name of the data": (in_tree("data.name", "../../x"), "name=../../x: should match"),
    "a path in the name of a file": (in_tree("data.files.0.fetch", "../../x"), "should be a file's name"),
    "an option for a package": (in_tree("data.sources", ["debian:-oDir::Bin::dpkg=x/"]), "should be debian:NAME/FOLDER/"),
    "a module to be imported": (in_tree("data.sources", ["package:evil.inner/"]), "should be package:NAME/FOLDER/"),
    "a login": (in_tree("data.sources", [f"http://me:{SECRET}@127.0.0.1:9/"]), "holds a login"),
    "a plugin": (in_tree("plugins", ["os"]), "plugins=os: not a package of yours"),
    "a target that is no text": (in_tree("model._target_", ["os.system"]), "should be a valid string"),
    "a target among blocks": (in_tree("model.blocks", [{"_target_": "os.system"}]), "model.blocks.0._target_=os.system: not on"),
    "a special key of Hydra": (in_tree("model._partial_", True), "model._partial_: no such key"),
    "positional arguments": (in_tree("model.blocks", [{"_args_": ["touch CANARY"]}]), "model.blocks.0._args_: no such key"),
}
"""Changes to a resolved config, and the expected error message."""


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture(autouse=True)
def attack_files(tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with the files that the attacks need."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SECRET", SECRET)
    for name in ("evil.py", "hubconf.py"):
        (tmp_path / name).write_text(f"open({str(canary)!r}, 'w').close()\ndef model(**_): pass\n")
    torch.save(PAYLOADS["os.system"](canary), tmp_path / "evil.pt")
    (tmp_path / "evil.yaml").write_text("lr: 0.5\n_target_: torch.optim.SGD\n")


def refusal(call: Callable[[], Any], canary: Path) -> str:
    """Assert that `call` is refused without executing anything or revealing a secret. Return the one-line message."""
    before = set(canary.parent.iterdir())
    with watched() as events, pytest.raises(UserError) as error:
        call()
    assert events == []
    assert set(canary.parent.iterdir()) == before
    assert "\n" not in str(error.value)
    assert SECRET not in str(error.value)
    return str(error.value)


def filled(value: Any, canary: Path) -> Any:
    """Return the value with the paths of this test filled in."""
    if isinstance(value, str):
        return value.replace("CANARY", str(canary)).replace("CONF", str(canary.parent))
    if isinstance(value, dict):
        return {key: filled(inner, canary) for key, inner in value.items()}
    return [filled(inner, canary) for inner in value] if isinstance(value, list) else value


def build_all(config: Config) -> None:
    """Build everything that a config names, as a training does."""
    build(config.task, "task", config.plugins, meta=image_meta(["a", "b"], [8, 8, 1]))
    network = build(config.model, "model", config.plugins, input_shape=[8, 8, 1], outputs=2)
    optimizer = build(config.optimizer, "optimizer", config.plugins, network.parameters())
    build(config.scheduler, "scheduler", config.plugins, optimizer, total_steps=10)


TREE = compose(ROOT, ["experiment=digits_cnn"]).model_dump(by_alias=True)


def test_a_harmless_config_is_accepted_by_every_call(tmp_path: Path) -> None:
    """The same calls, without an attack."""
    build_all(compose(ROOT, ["experiment=digits_cnn", "data.citation=${name}"]))
    (tmp_path / "digits_cnn.yaml").write_text(yaml.safe_dump(TREE))
    build_all(load(tmp_path / "digits_cnn.yaml"))
    conf = tmp_path / "clone" / "conf"
    shutil.copytree(ROOT / "conf", conf)
    with_text("x: &x a\ndata:\n  citation: *x")(conf)  # an anchor is accepted, an unknown key is not
    with pytest.raises(UserError, match=r"^x: no such key"):
        compose(conf.parent, ["experiment=evil"])
    with_text("data:\n  citation: &x 1987\n  title: *x")(conf)
    with pytest.raises(UserError, match="title=1987: should be a valid string"):
        compose(conf.parent, ["experiment=evil"])


@pytest.mark.parametrize("section", SECTIONS)
def test_a_forbidden_target_is_refused_in_every_section(section: str, tmp_path: Path, canary: Path) -> None:
    file = tmp_path / "digits_cnn.yaml"
    for target, arguments in TARGETS.items():
        section_config = filled({"_target_": target} | ({"lr": 0.1} if section == "optimizer" else {}) | arguments, canary)
        file.write_text(yaml.safe_dump(TREE | {section: section_config}))
        assert f"{section}" in refusal(lambda: build_all(load(file)), canary)


@pytest.mark.parametrize("target", ["os.system", "torch.hub.load", "torch.nn.functional.torch.load", "reprise.__main__.main"])
def test_a_forbidden_target_in_an_override_is_refused(target: str, canary: Path) -> None:
    arguments = [f"+model.{key}={value}" for key, value in filled(TARGETS[target], canary).items() if isinstance(value, str)]
    call = ["experiment=digits_cnn", f"model._target_={target}", *arguments]
    message = refusal(lambda: compose(ROOT, call), canary)
    assert message.startswith(f"model._target_={target}: not on the allowlist")


@pytest.mark.parametrize("override", OVERRIDES, ids=lambda text: str(text)[:60])
def test_a_malicious_override_is_refused(override: str, canary: Path) -> None:
    message = refusal(lambda: build_all(compose(ROOT, ["experiment=digits_cnn", filled(override, canary)])), canary)
    assert filled(OVERRIDES[override], canary) in message


@pytest.mark.parametrize("name", FILES)
def test_a_malicious_file_in_conf_is_refused(name: str, tmp_path: Path, canary: Path) -> None:
    conf = tmp_path / "clone" / "conf"
    shutil.copytree(ROOT / "conf", conf)
    change, message = FILES[name]
    with_text("")(conf)
    change(conf)
    for file in conf.rglob("*.yaml"):
        if any(word in (text := file.read_text()) for word in ("CANARY", "CONF")):
            file.write_text(filled(text, canary))
    assert message in refusal(lambda: build_all(compose(conf.parent, ["experiment=evil"])), canary)


@pytest.mark.parametrize("name", RESOLVED)
def test_a_malicious_resolved_config_is_refused(name: str, tmp_path: Path, canary: Path) -> None:
    change, message = RESOLVED[name]
    file = tmp_path / "digits_cnn.yaml"
    file.write_text(filled(change(yaml.safe_load(yaml.safe_dump(TREE))), canary))
    assert message in refusal(lambda: build_all(load(file)), canary)


def test_a_config_nested_deeper_than_the_stack_is_refused(canary: Path) -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert "nested more than 64 levels deep" in refusal(lambda: check(TREE | {"model": TREE["model"] | {"extra": deep}}), canary)


# --- data sets, the list of experiments, downloads


@pytest.mark.parametrize("name", ["../evil", "../../evil", "/etc/passwd", "../data/digits", "${oc.env:SECRET}", ""])
def test_a_data_set_must_be_a_file_in_conf(name: str, canary: Path) -> None:
    assert "no data set named" in refusal(lambda: compose_dataset(ROOT, name), canary)


@pytest.mark.parametrize(
    "override",
    ["hydra.searchpath=[pkg://evil]", "+hydra.run.dir=x", "data.path=${oc.env:SECRET}", "data.name=../x", "--config-dir=x"],
)
def test_a_malicious_override_of_a_data_set_is_refused(override: str, canary: Path) -> None:
    refusal(lambda: compose_dataset(ROOT, "image_folder", ["data.path=x", override]), canary)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("experiments: {../../x: digits}", "should match pattern"),
        ("experiments: {'x; touch CANARY': digits}", "should match pattern"),
        ("datasets: ['$(touch CANARY)']", "should match pattern"),
        (f"overrides: ['tracking.uri=http://me:{SECRET}@127.0.0.1']", "holds a login"),
        ("overrides: !!python/object/apply:os.system [x]", "could not determine a constructor"),
    ],
)
def test_a_malicious_list_of_experiments_is_refused(text: str, message: str, tmp_path: Path, canary: Path) -> None:
    conf = tmp_path / "clone" / "conf"
    shutil.copytree(ROOT / "conf", conf)
    tree = yaml.safe_load((conf / "pipeline.yaml").read_text())
    key, _, value = filled(text, canary).partition(": ")
    del tree[key]
    (conf / "pipeline.yaml").write_text(f"{yaml.safe_dump(tree)}{key}: {value}\n")
    assert message in refusal(lambda: pipeline(conf.parent), canary)


def test_a_published_file_is_written_only_into_the_folder_of_its_data_set(tmp_path: Path, canary: Path) -> None:
    """The publisher, here the attacker, knows the hash of the file, so only the check of its name prevents this."""
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "x").write_text("x")
    project = ProjectPaths(tmp_path / "clone")
    shutil.copytree(ROOT / "conf", project.root / "conf")
    overrides = ["data.sources=[FROM/]".replace("FROM", str(tmp_path / "from")), "data.files.0.fetch=../../../../x"]
    refusal(lambda: download.run(compose(ROOT, ["experiment=digits_cnn", *overrides]).data, project, Console(quiet=True)), canary)
