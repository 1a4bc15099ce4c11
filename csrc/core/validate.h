// The checks of a request, once for all backends.
#pragma once

#include "fastnce/loss.h"
#include "fastnce/optimizer.h"

namespace fastnce {

// What reads no array: it holds wherever the arrays are.
void validate_shapes(const LossRequest& request);

// That a request asks for nothing that a loss over all classes has not.
void validate_all_classes(const LossRequest& request);

// What evaluation reads, as a request of which the checks here make sense.
LossRequest request_of(const Scoring& scoring, const Targets& targets, const ClassLists& exclude);
void validate_k(std::int64_t k);  // of top_k()

// That an array of so many elements is there.
void require_array(std::int64_t elements, const void* array, const char* name);

// That gradients can be stored in what is computed.
void validate_dtypes(const LossRequest& request, const LossOutputs& outputs);

// Labels in range, or padding; then, where candidates are given, those and the expected counts.
void validate_labels(const LossRequest& request);
void validate_candidates(const LossRequest& request);

// Gradients of rows: arrays that are there, element types as those of gradients; and ids in range.
void validate_row_arrays(const GradientRows& rows, const LossRequest& tables);
void validate_rows(const GradientRows& rows, const LossRequest& tables);

// G, a divisor of B.
void validate_groups(std::int64_t groups, std::int64_t batch);

// Offsets of lists, one for each example; `count` values, or any number where it is negative.
void validate_offsets(const char* name, const std::int64_t* offsets, std::int64_t batch, std::int64_t count);

}  // namespace fastnce
