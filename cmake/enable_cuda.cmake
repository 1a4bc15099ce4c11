# CUDA as the backend uses it. The project includes this, and before it the probe of find_nvcc.cmake does, so that what
# the probe builds is built the same way.

# Machine code for the data-centre chips that the kernels are tuned for, PTX for all later ones.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
endif()
enable_language(CUDA)

# CMake 3.24 and 3.25 predate C++20 in nvcc and refuse CUDA_STANDARD 20 unless they are told the flag.
foreach(kind STANDARD EXTENSION)
  if(NOT CMAKE_CUDA20_${kind}_COMPILE_OPTION)
    set(CMAKE_CUDA20_${kind}_COMPILE_OPTION "-std=c++20")
  endif()
endforeach()

# The runtime is linked by name, statically: the same way here and in what links the installed library.
set(CMAKE_CUDA_RUNTIME_LIBRARY None)
set(FASTNCE_CUDART_DIRS ${CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES})
include(${CMAKE_CURRENT_LIST_DIR}/cudart.cmake)
if(NOT TARGET fastnce::cudart)
  message(FATAL_ERROR "fastnce: libcudart_static.a was not found beside nvcc: set CUDA_PATH")
endif()

# What every target with CUDA sources needs.
function(fastnce_use_cuda target)
  set_target_properties(${target} PROPERTIES
    CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}"
    CUDA_RUNTIME_LIBRARY None
    CUDA_STANDARD 20
    CUDA_STANDARD_REQUIRED ON
    CUDA_VISIBILITY_PRESET hidden)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr>)
  target_link_libraries(${target} PRIVATE fastnce::cudart)
endfunction()
