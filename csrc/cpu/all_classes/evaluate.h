// The CPU backend of evaluation. Requests must be valid (core/validate.h).
#pragma once

#include <cstdint>

#include "fastnce/evaluate.h"

namespace fastnce::cpu {

void top_k(const Scoring& scoring, std::int64_t k, const ClassLists& exclude, const Progress& progress, void* scores,
           std::int64_t* ids);
void rank_of_labels(const Scoring& scoring, const Targets& targets, const ClassLists& exclude, const Progress& progress,
                    double* ranks);
void score_labels(const Scoring& scoring, const Targets& targets, const Progress& progress, void* scores);
void rank_of_scores(const Scoring& scoring, const ScoreLists& lists, const ClassLists& exclude,
                    const Progress& progress, double* ranks);

}  // namespace fastnce::cpu
