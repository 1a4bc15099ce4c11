"""Checkpoints of a sharded loss and its optimizer, by ``torch.distributed.checkpoint``: tables are in natural order, so
that any number of ranks reads them.

A checkpoint is a folder with the folder of the last save, and a file ``latest.json`` that names it, the sizes of its
files, and what is no tensor. That file is replaced in one step when all is written: a crash before that leaves the save
before it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from fastnce.torch.distributed._exchange import Exchange
from fastnce.torch.distributed._module import ShardedLoss
from fastnce.torch.distributed._natural_order import chunk_of_rank, from_natural_order, to_natural_order

LATEST = "latest.json"


class Key(NamedTuple):
    """What a tensor of a checkpoint is: a parameter, or what the optimizer keeps for it."""

    parameter: str
    entry: str | None = None

    def __str__(self) -> str:
        return self.parameter if self.entry is None else f"optimizer.{self.parameter}.{self.entry}"

    @classmethod
    def of(cls, name: str) -> Key:
        first, *rest = name.split(".", 2)
        return cls(*rest) if first == "optimizer" else cls(name)


def save_checkpoint(
    folder: str | os.PathLike[str],
    criterion: ShardedLoss,
    optimizer: torch.optim.Optimizer | None = None,
    extra: Any = None,
) -> None:
    """Write a checkpoint. All ranks call it together, with a folder that they share.

    It holds the table in natural order, what the optimizer keeps for its rows, the options of the optimizer, and the
    position in the stream of samples. Until it is written, memory holds this rank's part of all this twice.

    Args:
        folder: Where. A checkpoint that is there stays whole until the new one is, and then is removed, whichever run
            wrote it: give each run a folder of its own.
        criterion: The loss.
        optimizer: One that has its parameters; what it keeps for others is not saved.
        extra: More to save, as JSON has it: the number of the step, for instance. Rank 0's is saved.

    Raises:
        ValueError: The folder has the checkpoint of a table of another shape, or with a bias where this has none.
        RuntimeError: On every rank, if rank 0 cannot write, or its ``extra`` is none of JSON's.
    """
    exchange, path = criterion._exchange, Path(folder)
    number = _next_number(exchange, path, criterion)
    part = path / f"save-{number}"
    about: dict[str, Any] = {"number": number, "folder": part.name, "table": _table_of(criterion)}
    about |= {"extra": extra, "optimizer": _name_of(optimizer), "options": _options_of(criterion, optimizer)}
    _on_first(exchange, lambda: json.dumps(about))  # refuses an extra that JSON has not
    state: dict[str, Tensor] = {"calls": criterion.calls, "seed": criterion._seed}
    numbers = {}
    for key, value in _values_of(criterion, optimizer):
        if not isinstance(value, Tensor):
            numbers[str(key)] = value
            continue
        if value.dim() > 0:
            value = _as_dtensor(criterion, to_natural_order(exchange, value, criterion.num_classes))
        state[str(key)] = value
    _on_first(exchange, lambda: shutil.rmtree(part, ignore_errors=True))
    dcp.save(state, checkpoint_id=part, process_group=exchange.group)
    _on_first(exchange, lambda: _finish(path, part, about | {"numbers": numbers}))


def load_checkpoint(
    folder: str | os.PathLike[str], criterion: ShardedLoss, optimizer: torch.optim.Optimizer | None = None
) -> Any:
    """Read a checkpoint, written by any number of ranks, and return its ``extra``. All ranks call it together.

    Raises:
        FileNotFoundError: The folder has no checkpoint.
        ValueError: The checkpoint is not whole, of another table or of another optimizer.
    """
    exchange, path = criterion._exchange, Path(folder)
    about, part = _latest(path)
    if optimizer is not None and about["optimizer"] != _name_of(optimizer):
        raise ValueError(
            f"{part} holds the state of optimizer {about['optimizer']}: expected {_name_of(optimizer)}; leave the "
            "optimizer out to load the table alone"
        )
    known = dcp.FileSystemReader(part).read_metadata().state_dict_metadata
    _require_table(part, known, criterion)
    state: dict[str, Tensor] = {}
    for name, stored in known.items():
        if optimizer is None and Key.of(name).entry is not None:
            continue
        size, dtype = list(stored.size), stored.properties.dtype
        if name not in ("calls", "seed") and size:
            size[0] = len(chunk_of_rank(criterion.num_classes, exchange.rank, exchange.size))
            state[name] = _as_dtensor(criterion, torch.empty(size, dtype=dtype, device=criterion.weight.device))
        else:
            state[name] = torch.empty(size, dtype=dtype, device="cpu")
    dcp.load(state, checkpoint_id=part, process_group=exchange.group)
    criterion.calls.copy_(state.pop("calls"))
    criterion._seed = state.pop("seed")
    parameters = _parameters_of(criterion)
    if optimizer is not None:
        for parameter in parameters.values():
            optimizer.state.pop(parameter, None)
    for name, value in state.items():
        key = Key.of(name)
        if isinstance(value, DTensor):
            value = from_natural_order(exchange, value.to_local(), criterion.num_classes)
        if key.entry is None:
            parameters[key.parameter].data.copy_(value)
        elif optimizer is not None:
            optimizer.state[parameters[key.parameter]][key.entry] = value
    if optimizer is not None:
        for name, number in about["numbers"].items():
            optimizer.state[parameters[Key.of(name).parameter]][Key.of(name).entry] = number
        _set_options(criterion, optimizer, about["options"])
    return about["extra"]


def consolidate_checkpoint(folder: str | os.PathLike[str], file: str | os.PathLike[str]) -> None:
    """Write the tables of a checkpoint to one safetensors file, in natural order: ``weight`` ``[V, D]`` and ``bias``
    ``[V]``. One process does so, without a process group; memory stays at a block of rows, the rest is the file's.

    Raises:
        FileNotFoundError: The folder has no checkpoint.
        ValueError: The checkpoint is not whole.
    """
    _, part = _latest(Path(folder))
    known = dcp.FileSystemReader(part).read_metadata().state_dict_metadata
    header, begin = {}, 0
    for name in ("weight", "bias"):
        if name in known:
            size, dtype = known[name].size, known[name].properties.dtype
            end = begin + size.numel() * dtype.itemsize
            header[name] = {"dtype": _SAFETENSORS[dtype], "shape": list(size), "data_offsets": [begin, end]}
            begin = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    unfinished = Path(f"{file}.unfinished")
    with unfinished.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        out.truncate(8 + len(text) + begin)
    state = {}
    for name, entry in header.items():
        (first, end), dtype = entry["data_offsets"], known[name].properties.dtype
        if first == end:  # a table without columns has nothing to map and to read
            state[name] = torch.empty(entry["shape"], dtype=dtype, device="cpu")
            continue
        mapped = np.memmap(unfinished, np.uint8, "r+", 8 + len(text) + first, (end - first,))
        state[name] = torch.from_numpy(mapped).view(dtype).view(entry["shape"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no process group
        dcp.load(state, checkpoint_id=part, no_dist=True)
    os.replace(unfinished, file)


_SAFETENSORS = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16"}


def _as_dtensor(criterion: ShardedLoss, natural: Tensor) -> DTensor:
    exchange = criterion._exchange
    group = exchange.process_group
    ranks = torch.tensor(dist.get_process_group_ranks(group), device="cpu")
    mesh = DeviceMesh.from_group(group, natural.device.type, mesh=ranks)
    shape = torch.Size((criterion.num_classes, *natural.shape[1:]))
    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(natural, mesh, [Shard(0)], run_check=False, shape=shape, stride=stride)


def _parameters_of(criterion: ShardedLoss) -> dict[str, Tensor]:
    """The tables; a subclass may have other parameters."""
    return {
        name: table for name, table in (("weight", criterion.weight), ("bias", criterion.bias)) if table is not None
    }


def _name_of(optimizer: torch.optim.Optimizer | None) -> str | None:
    return None if optimizer is None else type(optimizer).__name__


def _values_of(criterion: ShardedLoss, optimizer: torch.optim.Optimizer | None) -> Iterator[tuple[Key, Any]]:
    """Tables and scalars; numbers that are no tensors stay such, since optimizers compute with them in float64."""
    for name, parameter in _parameters_of(criterion).items():
        yield Key(name), parameter.detach()
        kept = {} if optimizer is None else optimizer.state.get(parameter, {})
        for entry, value in kept.items():
            if isinstance(value, Tensor):
                value = value.to_dense() if value.is_sparse else value
                if value.dim() > 0 and value.shape[0] != parameter.shape[0]:
                    raise ValueError(
                        f"the optimizer keeps {entry} of shape {list(value.shape)} for {name}: expected a number, or a "
                        f"row for each of its {parameter.shape[0]} rows"
                    )
            yield Key(name, entry), value


def _groups_of(criterion: ShardedLoss, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, dict[str, Any]]]:
    names = {parameter: name for name, parameter in _parameters_of(criterion).items()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter in names:
                yield names[parameter], group


def _options_of(criterion: ShardedLoss, optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    """By parameter: the options of its group."""
    if optimizer is None:
        return {}
    return {
        name: {
            option: value.item() if isinstance(value, Tensor) else value
            for option, value in group.items()
            if option != "params"
        }
        for name, group in _groups_of(criterion, optimizer)
    }


def _set_options(criterion: ShardedLoss, optimizer: torch.optim.Optimizer, options: dict[str, Any]) -> None:
    for name, group in _groups_of(criterion, optimizer):
        for option, value in options.get(name, {}).items():
            group[option] = tuple(value) if isinstance(group.get(option), tuple) else value


def _table_of(criterion: ShardedLoss) -> dict[str, Any]:
    """What a table is, and stays while its run goes on."""
    sizes = {name: getattr(criterion, name) for name in ("num_classes", "embedding_dim")}
    return {**sizes, "bias": criterion.bias is not None}


def _next_number(exchange: Exchange, path: Path, criterion: ShardedLoss) -> int:
    """Of the save, the same on all ranks. Raises ValueError on all of them if the last one has another table."""
    try:
        last = json.loads((path / LATEST).read_text())
    except FileNotFoundError:
        last = {"number": -1, "table": _table_of(criterion)}
    table = last.get("table", _table_of(criterion))  # the first checkpoints did not say
    own = [last["number"] + 1, table != _table_of(criterion)]
    numbers, are_others = zip(*exchange.numbers("numbers of the save", own), strict=True)
    if any(are_others):
        raise ValueError(
            f"{path} holds a checkpoint of another table, {table}: expected {_table_of(criterion)}, or a "
            "folder without a checkpoint; remove it if it is not needed"
        )
    return max(numbers)


def _on_first(exchange: Exchange, action: Callable[[], object]) -> None:
    """Rank 0 acts, and the others wait. Raises RuntimeError on all ranks if it fails."""
    failure = ""
    if exchange.rank == 0:
        try:
            action()
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
    if any(failed for (failed,) in exchange.numbers("the end of the save", [bool(failure)])):
        raise RuntimeError(f"the checkpoint was not written: {failure or 'see the error of rank 0'}")


def _finish(path: Path, part: Path, about: dict[str, Any]) -> None:
    """Makes the save the last one, and removes the others."""
    about["files"] = {file.name: file.stat().st_size for file in sorted(part.iterdir())}
    unfinished = path / f"{LATEST}.unfinished"
    with unfinished.open("w") as out:
        json.dump(about, out, indent=1)
        out.flush()
        os.fsync(out.fileno())
    os.replace(unfinished, path / LATEST)
    for other in path.iterdir():  # what earlier calls wrote, and nothing else
        if re.fullmatch(r"save-\d+", other.name) and other != part and not (other / LATEST).exists():
            shutil.rmtree(other, ignore_errors=True)


def _latest(path: Path) -> tuple[dict[str, Any], Path]:
    """What is known of the last save, and its folder."""
    if not (path / LATEST).exists():
        raise FileNotFoundError(f"{path}: no checkpoint: expected a file {LATEST}")
    about: dict[str, Any] = json.loads((path / LATEST).read_text())
    part = path / about["folder"]
    for name, size in about["files"].items():
        file = part / name
        found = file.stat().st_size if file.exists() else None
        if found != size:
            has = "is missing" if found is None else f"has {found} bytes"
            raise ValueError(f"{file} {has}: expected {size} bytes; the checkpoint {path} is not whole")
    return about, part


def _require_table(part: Path, known: Any, criterion: ShardedLoss) -> None:
    expected = [criterion.num_classes, criterion.embedding_dim]
    if list(known["weight"].size) != expected:
        raise ValueError(
            f"{part} holds a table of shape {list(known['weight'].size)}: expected [num_classes, embedding_dim] = "
            f"{expected}"
        )
    if ("bias" in known) != (criterion.bias is not None):
        raise ValueError(
            f"{part} holds {'a' if 'bias' in known else 'no'} bias: expected bias={'bias' in known} of the module"
        )
