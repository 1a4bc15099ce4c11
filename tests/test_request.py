"""The table of a request's fields, from which the front ends make their operators."""

from __future__ import annotations

import numpy as np
import pytest

from fastnce import _core
from fastnce._request import FIELDS, OPTIONS, REQUIRED


def test_the_binding_reads_the_fields_of_the_table():
    names = [field.name for field in FIELDS]
    assert len(set(names)) == len(names)
    assert sorted(names) == sorted(_core.loss_fields)


def test_the_binding_has_the_tables_defaults():
    arrays = dict(weights=[[1.0, 2.0]] * 3, biases=[0.5, 0.0, 1.0], labels=[0, 2], inputs=[[0.1, 0.2], [0.3, 0.4]])
    defaults = {field.name: field.default for field in OPTIONS if field.default is not REQUIRED}
    given = {name: np.array(values) for name, values in arrays.items()}
    samples = (np.array([1, 2]), None, None)
    losses, *_ = _core.compute_loss(given | {"sampled_values": samples})
    same, *_ = _core.compute_loss(given | {"sampled_values": samples} | defaults)
    np.testing.assert_array_equal(losses, same)


def test_what_is_no_field_is_refused():
    with pytest.raises(TypeError, match="a loss has no argument 'weight'"):
        _core.compute_loss({"weight": 1})
