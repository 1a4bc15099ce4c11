"""Rows travel to the inputs: every rank scores its own examples against all samples.

A rank receives the sampled rows of the others and the rows of its own true classes, and sends their gradients back, to
be summed where the rows are. The rows of true classes travel while the samples are scored: the loss is computed in two
parts, of which that of the samples knows true classes by their ids alone, to remove hits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastnce.torch._kernels import Gradients
from fastnce.torch.distributed._batch import Batch, Lists
from fastnce.torch.distributed._layout import owner_of
from fastnce.torch.distributed._parts import Part, part_of_loss, softmax_losses
from fastnce.torch.distributed._sampling import samples_of_rank
from fastnce.torch.distributed._shard import Result, Shard
from fastnce.torch.distributed._travelling_rows import Gradients as Sent
from fastnce.torch.distributed._travelling_rows import Rows, SampledRows, TrueRows, coalesced


def rows_to_data(shard: Shard, batch: Batch, scale: float, gradients: Gradients) -> Result:
    """As :func:`data_to_rows`."""
    true_rows = TrueRows(shard, batch.labels)
    samples = _Samples.gathered(shard, batch, true_rows)
    true_rows.start(shard, samples.asked_count)
    loss = _Loss(shard, batch, scale, samples, true_rows)
    sampled = samples.rows.wait()
    of_others: list[dict[str, Any]] = [{}, {}]
    if shard.options["family"] == "softmax":
        of_sampled, of_true = (
            loss.of_samples(sampled, log_sum_exp=True),
            loss.of_labels(true_rows.wait(), log_sum_exp=True),
        )
        assert of_sampled.log_sum_exp is not None
        if not any(gradients):
            labels = batch.labels
            targets = labels.targets(batch.label_weights, labels.counts, shard.options["true_target"])
            return Result(softmax_losses(of_true, of_sampled.log_sum_exp, targets), None, None, None, None)
        of_others = [{"other_log_sum_exp": part.log_sum_exp} for part in (of_true, of_sampled)]
    of_samples = loss.of_samples(sampled, gradients, **of_others[0])
    del sampled  # the step takes the most memory while the gradients of samples leave
    of_samples, from_samples = _sent(of_samples, samples.rows)
    of_labels, from_labels = _sent(loss.of_labels(true_rows.wait(), gradients, **of_others[1]), true_rows)
    grad_inputs = None
    if of_samples.grad_inputs is not None and of_labels.grad_inputs is not None:
        grad_inputs = of_samples.grad_inputs.add_(of_labels.grad_inputs)
    losses = of_samples.loss.add_(of_labels.loss)
    del of_samples, of_labels
    if not (gradients[1] or gradients[2]):
        return Result(losses, grad_inputs, None, None, None)
    rows = coalesced((samples.rows.own_rows, from_samples), (true_rows.asked_rows, from_labels))
    return Result(losses, grad_inputs, *rows)


def _sent(part: Part, rows: SampledRows | TrueRows) -> tuple[Part, Sent]:
    """Sends the gradients of rows to where these are, and drops them here."""
    return part._replace(grad_weights=None, grad_biases=None), rows.send_back(part.grad_weights, part.grad_biases)


@dataclass
class _Samples:
    """All samples of the step, in the order of the ranks that hold them."""

    classes: Tensor
    """int64 ``[S]``."""
    sampled_count: Tensor | None
    """``[S]`` expected counts."""
    true_count: Tensor | None
    """One for each label; ``None`` where the owners of the labels know them, or for a loss without log Q."""
    asked_count: Tensor | None
    """One for each row that this rank is asked for."""
    rows: SampledRows

    @classmethod
    def gathered(cls, shard: Shard, batch: Batch, true_rows: TrueRows) -> _Samples:
        """Draws them, if they are not given, and starts to gather their rows."""
        size, sampling = shard.exchange.size, shard.sampling
        assert sampling is not None, "rows travel to the samples of a loss that has some"
        if not sampling.is_stratified:
            classes, sampled_count, true_count = sampling.of_table(batch.labels.values, batch.true_count)
            owners = owner_of(classes, size)
            order = torch.argsort(owners, stable=True)
            classes, owners = classes[order], owners[order]
            rows = SampledRows(shard, classes[shard.owns(classes)], torch.bincount(owners, minlength=size).tolist())
            return cls(classes, None if sampled_count is None else sampled_count[order], true_count, None, rows)
        own, own_count, asked_count = sampling.of_rank(shard.exchange, true_rows.asked, None)
        rows = SampledRows(shard, own, [samples_of_rank(sampling.num_sampled, rank, size) for rank in range(size)])
        classes = rows.gathered("sampled classes", own)
        sampled_count = None if own_count is None else rows.gathered("expected counts of sampled classes", own_count)
        return cls(classes, sampled_count, None, asked_count, rows)


class _Loss:
    """The two parts of the loss of this rank's examples."""

    def __init__(self, shard: Shard, batch: Batch, scale: float, samples: _Samples, true_rows: TrueRows) -> None:
        self._batch, self._samples, self._true_rows = batch, samples, true_rows
        self._removed = _removed(batch, hits=shard.options["remove_accidental_hits"])
        self._fields: dict[str, Any] = {
            **shard.options,
            "inputs": batch.inputs,
            "label_counts": batch.labels.counts,
            "grad_loss": scale if batch.factors is None else batch.factors * scale,
        }
        if shard.options["family"] == "softmax":
            self._fields["label_weight_sums"] = batch.label_weight_sums

    def of_samples(self, rows: Rows, gradients: Gradients = (False, False, False), **fields: Any) -> Part:
        """That of the samples: a table of their rows, in which classes are told apart by their ids."""
        none = self._batch.labels.values[:0]
        if self._removed is not None:
            fields |= {"exclude": self._removed.values, "exclude_offsets": self._removed.offsets}
        return part_of_loss(
            gradients,
            **self._fields | fields,
            weights=rows.weights,
            biases=rows.biases,
            labels=none,
            label_offsets=torch.zeros_like(self._batch.labels.offsets),
            class_keys=self._samples.rows.at_places(self._samples.classes),
            sampled=(self._samples.rows.places, *_counts(none, self._samples.sampled_count)),
        )

    def of_labels(self, rows: Rows, gradients: Gradients = (False, False, False), **fields: Any) -> Part:
        """That of the true classes: a table of their rows, without samples."""
        places = self._true_rows.row_of_label
        true_count = self._samples.true_count
        if rows.expected_count is not None:
            true_count = rows.expected_count[places]
        none = self._batch.labels.values[:0]
        counts = (None, None) if true_count is None else (true_count, true_count[:0])
        return part_of_loss(
            gradients,
            **self._fields | fields,
            weights=rows.weights,
            biases=rows.biases,
            labels=places,
            label_offsets=self._batch.labels.offsets,
            label_weights=self._batch.label_weights,
            sampled=(none, *counts),
        )


def _counts(none: Tensor, sampled_count: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Of no true classes, and of the samples."""
    return (None, None) if sampled_count is None else (none.float(), sampled_count)


def _removed(batch: Batch, *, hits: bool) -> Lists | None:
    """The classes whose samples contribute nothing to an example."""
    lists = ([batch.labels] if hits else []) + ([batch.exclude] if batch.exclude is not None else [])
    if len(lists) < 2:
        return lists[0] if lists else None
    examples = torch.cat([one.examples for one in lists])
    order = torch.argsort(examples, stable=True)
    return Lists(torch.cat([one.values for one in lists])[order], lists[0].counts + lists[1].counts)
