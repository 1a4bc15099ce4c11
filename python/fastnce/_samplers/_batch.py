"""The batch that a sampler draws for: its true classes, its groups, what is excluded."""

from __future__ import annotations

from typing import Any, NamedTuple, SupportsIndex

from fastnce import _core
from fastnce._errors import is_a
from fastnce._seed import integer
from fastnce._types import Ragged


class Batch(NamedTuple):
    classes: Any
    """``[B, T]`` or ``[B]``; with offsets the values ``[n]`` of lists."""
    offsets: Any
    num_groups: SupportsIndex | None
    exclude: Any
    """Values ``[m]``."""
    exclude_offsets: Any

    @classmethod
    def of(cls, true_classes: Any, num_groups: SupportsIndex | None, exclude: Ragged | None) -> Batch:
        classes, offsets = true_classes if isinstance(true_classes, Ragged) else (true_classes, None)
        if exclude is None:
            return cls(classes, offsets, num_groups, None, None)
        if not isinstance(exclude, Ragged):
            raise TypeError(f"exclude {is_a(exclude)}: expected a fastnce.Ragged, a list of classes for each example")
        return cls(classes, offsets, num_groups, *exclude)

    @property
    def lists(self) -> tuple[Any, Any, Any, Any]:
        """All but the classes, as the core takes it."""
        return self[1:]

    def converted(self, num_true: int, range_max: int) -> Batch:
        """The same as integers and NumPy arrays. Runs what code the arrays have."""
        listed = self.offsets is not None
        return Batch(
            _list(self.classes, "true_classes.values")
            if listed
            else _core.class_array(self.classes, num_true, range_max),
            _list(self.offsets, "true_classes.offsets"),
            None if self.num_groups is None else integer(self.num_groups, "num_groups"),
            _list(self.exclude, "exclude.values"),
            _list(self.exclude_offsets, "exclude.offsets"),
        )

    def require_no_lists(self) -> None:
        """On a CUDA device."""
        given = {"exclude": self.exclude, "a Ragged of true classes": self.offsets}
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name} on a CUDA device: expected arrays on the CPU, where it is implemented")


def _list(ids: Any, name: str) -> Any:
    return None if ids is None else _core.id_array(ids, name)
