# Finds nvcc and sees that it works; where not, `why_no_nvcc` says why. Looked for as CMake does (CMAKE_CUDA_COMPILER,
# CUDACXX, CUDA_PATH, PATH), then among the wheels of the Python on PATH, where `make cuda` puts it.
include(CheckLanguage)

set(why_no_nvcc "")
if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
  unset(CMAKE_CUDA_COMPILER CACHE) # an earlier search may have failed
  find_program(python_on_path NAMES python3 python NO_CACHE)
  cmake_path(GET python_on_path PARENT_PATH bin)
  file(GLOB wheels ${bin}/../lib/python3*/site-packages/nvidia/cu1*/bin)
  find_program(nvcc nvcc HINTS ENV CUDA_PATH PATH_SUFFIXES bin PATHS ${wheels} NO_CACHE)
  if(nvcc)
    file(REAL_PATH ${nvcc} nvcc)
    set(ENV{CUDACXX} ${nvcc})
  endif()
endif()

# In the wheels the libraries are in lib, but nvcc, which CMake tests by linking a program, looks for them in lib64.
if(CMAKE_CUDA_COMPILER)
  set(nvcc ${CMAKE_CUDA_COMPILER})
else()
  set(nvcc "$ENV{CUDACXX}")
endif()
if(nvcc MATCHES "/nvidia/cu[0-9]+/bin/nvcc$")
  cmake_path(GET nvcc PARENT_PATH bin)
  set(ENV{LIBRARY_PATH} "${bin}/../lib:$ENV{LIBRARY_PATH}")
endif()

if(NOT nvcc)
  set(why_no_nvcc "nvcc was not found")
else()
  check_language(CUDA)
  execute_process(COMMAND ${nvcc} --version OUTPUT_VARIABLE nvcc_version ERROR_QUIET)
  if(NOT CMAKE_CUDA_COMPILER)
    set(why_no_nvcc "${nvcc} does not work with this C++ compiler")
  elseif(nvcc_version MATCHES "release ([0-9.]+)" AND CMAKE_MATCH_1 VERSION_LESS 12)
    set(why_no_nvcc "${nvcc} is of CUDA ${CMAKE_MATCH_1}, and C++20 takes 12.0")
  endif()
endif()
