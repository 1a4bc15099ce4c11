"""Rows travel to the inputs: every rank scores its own examples against all samples.

A rank receives the sampled rows of the others and the rows of its own true classes, and sends their gradients back;
those of a sampled row are summed on the way. The rows of true classes travel while the samples are scored: the loss is
computed in two parts, of which that of the samples knows true classes by their ids alone, to remove hits.
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
from fastnce.torch.distributed._travelling_rows import Rows, SampledRows, TrueRows, coalesced


def rows_to_data(shard: Shard, batch: Batch, scale: float, gradients: Gradients) -> Result:
    """As :func:`data_to_rows`."""
    true_rows = TrueRows(shard, batch.labels)
    samples = _Samples.gathered(shard, batch, true_rows)
    true_rows.start(shard, samples.asked_count)
    loss = _Loss(shard, batch, scale, samples, true_rows)
    sampled = samples.rows.wait()
    arrive = true_rows.wait
    if shard.options["family"] == "softmax":
        sampled_sums = loss.of_samples(sampled, log_sum_exp=True).log_sum_exp
        true = arrive()
        of_true = loss.of_labels(true, log_sum_exp=True)
        if not any(gradients):
            assert sampled_sums is not None
            labels, weights = batch.labels, batch.label_weights
            targets = labels.targets(weights, labels.counts, shard.options["true_target"])
            return Result(softmax_losses(of_true, sampled_sums, targets), None, None, None, None)
        true_sums = of_true.log_sum_exp
        of_samples = loss.of_samples(sampled, gradients, other_log_sum_exp=true_sums)
        from_samples = samples.rows.send_back(of_samples.grad_weights, of_samples.grad_biases)
        of_labels = loss.of_labels(true, gradients, other_log_sum_exp=sampled_sums)
    else:
        of_samples = loss.of_samples(sampled, gradients)
        from_samples = samples.rows.send_back(of_samples.grad_weights, of_samples.grad_biases)
        of_labels = loss.of_labels(arrive(), gradients)
    from_labels = true_rows.send_back(of_labels.grad_weights, of_labels.grad_biases)
    grad_inputs = None
    if of_samples.grad_inputs is not None and of_labels.grad_inputs is not None:
        grad_inputs = of_samples.grad_inputs.add_(of_labels.grad_inputs)
    losses = of_samples.loss.add_(of_labels.loss)
    if not (gradients[1] or gradients[2]):
        return Result(losses, grad_inputs, None, None, None)
    rows = torch.cat([samples.rows.own_rows, true_rows.asked_rows])
    weights, biases = (
        None if first is None or second is None else torch.cat([first.wait(), second.wait()])
        for first, second in zip(from_samples, from_labels, strict=True)
    )
    return Result(losses, grad_inputs, *coalesced(rows, weights, biases))


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
            class_keys=self._samples.classes,
            sampled=(
                torch.arange(len(self._samples.classes), device=none.device),
                *_counts(none, self._samples.sampled_count),
            ),
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
