# The CUDA backend. FASTNCE_CUDA: AUTO builds it where nvcc works, ON insists, OFF leaves it out. EMULATED is for
# developers: the same kernels compiled for the host, on the substitute for a device in tests/cpp/emulated_cuda.
# Sets FASTNCE_CUDA_BACKEND to REAL, EMULATED or nothing.
set(FASTNCE_CUDA AUTO CACHE STRING "Build the CUDA backend: AUTO, ON, OFF or EMULATED")
set_property(CACHE FASTNCE_CUDA PROPERTY STRINGS AUTO ON OFF EMULATED)
set(FASTNCE_CUDA_BACKEND "")

set(kernels
  csrc/cuda/all_classes/evaluate.cu
  csrc/cuda/all_classes/ranks.cu
  csrc/cuda/all_classes/scores.cu
  csrc/cuda/all_classes/top_k.cu
  csrc/cuda/gemm/grad_inputs.cu
  csrc/cuda/gemm/grad_weights.cu
  csrc/cuda/loss/enter_examples.cu
  csrc/cuda/loss/finish_examples.cu
  csrc/cuda/loss/groups.cu
  csrc/cuda/loss/logistic_logits.cu
  csrc/cuda/loss/loss.cu
  csrc/cuda/loss/merged_labels.cu
  csrc/cuda/loss/removed.cu
  csrc/cuda/loss/softmax.cu
  csrc/cuda/loss/softmax_logits.cu
  csrc/cuda/rows/lists.cu
  csrc/cuda/rows/row_order.cu
  csrc/cuda/rows/rows.cu
  csrc/cuda/rows/update.cu
  csrc/cuda/runtime/copy.cu
  csrc/cuda/runtime/ids.cu
  csrc/cuda/sampler/sampler.cu)

if(FASTNCE_CUDA STREQUAL "EMULATED")
  set(FASTNCE_CUDA_BACKEND EMULATED)
elseif(FASTNCE_CUDA STREQUAL "AUTO" AND FASTNCE_SANITIZE)
  message(STATUS "fastnce: no CUDA backend, since the sanitizers are for the host alone")
elseif(FASTNCE_CUDA)
  include(cmake/find_nvcc.cmake)
  if(why_no_nvcc AND NOT FASTNCE_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "fastnce: FASTNCE_CUDA is ON, but ${why_no_nvcc}")
  elseif(why_no_nvcc)
    message(STATUS "fastnce: no CUDA backend: ${why_no_nvcc}")
  else()
    set(FASTNCE_CUDA_BACKEND REAL)
  endif()
endif()

if(FASTNCE_CUDA_BACKEND)
  target_sources(fastnce PRIVATE ${kernels})
else()
  target_sources(fastnce PRIVATE csrc/core/no_cuda.cpp)
endif()

if(FASTNCE_CUDA_BACKEND STREQUAL "REAL")
  include(cmake/enable_cuda.cmake)
  target_sources(fastnce PRIVATE csrc/cuda/rows/row_sort.cu csrc/cuda/runtime/runtime.cu)
  fastnce_use_cuda(fastnce)
  # Its float64 arithmetic rounds as the CPU's does.
  set_source_files_properties(csrc/cuda/sampler/sampler.cu PROPERTIES COMPILE_OPTIONS --fmad=false)
elseif(FASTNCE_CUDA_BACKEND STREQUAL "EMULATED")
  set(emulated tests/cpp/emulated_cuda)
  target_sources(fastnce PRIVATE
    ${emulated}/accesses.cpp
    ${emulated}/block.cpp
    ${emulated}/memory.cpp
    ${emulated}/mutation.cpp
    ${emulated}/row_sort.cpp
    ${emulated}/runtime.cpp
    ${emulated}/shared_memory.cpp
    ${emulated}/touch.cpp
    ${emulated}/warp.cpp
    ${emulated}/work.cpp)
  # Before csrc, whose cuda/runtime/device.cuh it replaces.
  target_include_directories(fastnce BEFORE PRIVATE ${PROJECT_SOURCE_DIR}/${emulated})
  # -O2: where every thread of a block is emulated, -O3 takes longer to compile than it saves. The sanitizer's calls at
  # each access to memory go to accesses.cpp; its library is not linked.
  set(FASTNCE_WATCHED -O2 -Wno-unknown-pragmas -fsanitize=thread --param=tsan-instrument-func-entry-exit=0)
  set_source_files_properties(${kernels} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "${FASTNCE_WATCHED}")
endif()
