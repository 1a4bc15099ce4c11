// The best classes, scores of labels and ranks on a CUDA device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastnce/cuda.h"
#include "fastnce/evaluate.h"

namespace fastnce::cuda {

// As in fastnce/cuda.h. What they compute from must be valid (core/cuda.cpp checks it) and the device current.
std::size_t top_k_bytes(const Scoring& scoring, std::int64_t k, const ClassLists& exclude, int device);
void queue_top_k(const Scoring& scoring, std::int64_t k, const ClassLists& exclude, float* scores, std::int64_t* ids,
                 const Workspace& workspace, const Stream& stream);
std::size_t ranks_bytes(const Scoring& scoring, const Targets& targets, const ClassLists& exclude, int device);
void queue_ranks(const Scoring& scoring, const Targets& targets, const ClassLists& exclude, double* ranks,
                 const Workspace& workspace, const Stream& stream);
std::size_t ranks_bytes(const Scoring& scoring, const ScoreLists& lists, const ClassLists& exclude, int device);
void queue_ranks(const Scoring& scoring, const ScoreLists& lists, const ClassLists& exclude, double* ranks,
                 const Workspace& workspace, const Stream& stream);
std::size_t label_scores_bytes(const Scoring& scoring, const Targets& targets, int device);
void queue_label_scores(const Scoring& scoring, const Targets& targets, float* scores, const Workspace& workspace,
                        const Stream& stream);

}  // namespace fastnce::cuda
