// Ids in device memory: conversion to int64, and the record of ids out of range.
#pragma once

#include <cstdint>

#include "fastnce/cuda.h"

namespace fastnce::cuda {

// The id among labels that stands for no class, if there is one.
struct Padding {
  bool given;
  std::int64_t id;
};

// copy_ids(), count_up() and check() of fastnce/cuda.h, for the current device.
void queue_copy_ids(const IdArray& ids, std::int64_t* to, const Stream& stream);
void queue_count_up(std::int64_t count, std::int64_t* to, const Stream& stream);
void check_ids();

}  // namespace fastnce::cuda
