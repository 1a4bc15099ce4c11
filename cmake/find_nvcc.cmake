# Finds nvcc and proves that it can build the backend; otherwise `why_no_nvcc` says why not. Looked for as CMake does
# (CMAKE_CUDA_COMPILER, CUDACXX, CUDA_PATH, PATH), then among the wheels of the Python on PATH, where `make cuda` puts it.
#
# The proof is a project of its own, cmake/nvcc_probe: enable_language(CUDA) ends the configuration where nvcc does not
# work, and FASTNCE_CUDA=AUTO must then go on without it.
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

if(CMAKE_CUDA_COMPILER)
  set(nvcc ${CMAKE_CUDA_COMPILER})
else()
  set(nvcc "$ENV{CUDACXX}")
endif()
# In the wheels the libraries are in lib, but nvcc, which CMake tests by linking a program, looks for them in lib64.
if(nvcc MATCHES "/nvidia/cu[0-9]+/bin/nvcc$")
  cmake_path(GET nvcc PARENT_PATH bin)
  set(ENV{LIBRARY_PATH} "${bin}/../lib:$ENV{LIBRARY_PATH}")
endif()

# Sets why_no_nvcc to "" or to what keeps this nvcc from building the backend.
function(fastnce_probe_nvcc nvcc)
  execute_process(COMMAND ${nvcc} --version OUTPUT_VARIABLE version ERROR_QUIET RESULT_VARIABLE status)
  if(NOT version MATCHES "release ([0-9.]+)" OR NOT status EQUAL 0)
    set(why_no_nvcc "${nvcc} does not run" PARENT_SCOPE)
    return()
  endif()
  set(release ${CMAKE_MATCH_1})
  if(release VERSION_LESS 12)
    set(why_no_nvcc "${nvcc} is of CUDA ${release}: C++20 needs 12.0 or later" PARENT_SCOPE)
    return()
  endif()

  # A probe takes some 5 s: its outcome is kept for as long as the tools are the same.
  set(tools "${nvcc} ${release}, CMake ${CMAKE_VERSION}, ${CMAKE_CXX_COMPILER} ${CMAKE_CXX_COMPILER_VERSION}")
  set(tools "${tools}, ${CMAKE_CUDA_HOST_COMPILER}$ENV{CUDAHOSTCXX}, ${CMAKE_CUDA_ARCHITECTURES}$ENV{CUDAARCHS}")
  if(NOT FASTNCE_NVCC_PROBED STREQUAL tools)
    set(build ${CMAKE_BINARY_DIR}/nvcc_probe)
    file(REMOVE_RECURSE ${build})
    set(options -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER} -DCMAKE_CUDA_COMPILER=${nvcc})
    foreach(name CMAKE_MAKE_PROGRAM CMAKE_TOOLCHAIN_FILE CMAKE_CUDA_HOST_COMPILER CMAKE_CUDA_ARCHITECTURES
        CMAKE_CUDA_FLAGS)
      if(${name})
        list(APPEND options "-D${name}=${${name}}")
      endif()
    endforeach()
    message(STATUS "fastnce: trying ${nvcc}")
    execute_process(COMMAND ${CMAKE_COMMAND} -S ${PROJECT_SOURCE_DIR}/cmake/nvcc_probe -B ${build} -G ${CMAKE_GENERATOR}
      ${options} OUTPUT_VARIABLE log ERROR_VARIABLE log RESULT_VARIABLE status)
    if(status EQUAL 0)
      execute_process(COMMAND ${CMAKE_COMMAND} --build ${build} OUTPUT_VARIABLE log ERROR_VARIABLE log
        RESULT_VARIABLE status)
    endif()
    set(failure "")
    if(NOT status EQUAL 0)
      # What CMake prints of a compiler's failure differs by version: ask the compiler itself.
      set(ccbin "")
      foreach(host "${CMAKE_CUDA_HOST_COMPILER}" "$ENV{CUDAHOSTCXX}")
        if(host AND NOT ccbin)
          set(ccbin -ccbin ${host})
        endif()
      endforeach()
      execute_process(COMMAND ${nvcc} -std=c++20 ${ccbin} -c probe.cu -o ${build}/probe.o
        WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}/cmake/nvcc_probe OUTPUT_VARIABLE word ERROR_VARIABLE word
        RESULT_VARIABLE status)
      file(WRITE ${build}/log.txt "${log}\n${word}")
      if(NOT status EQUAL 0)
        string(REGEX MATCH "[^\n]*(error|fatal|unsupported)[^\n]*" word "${word}")
        set(failure "it cannot compile a C++20 program: ${word}")
      elseif(log MATCHES "libcudart_static.a was not found")
        set(failure "its libcudart_static.a was not found")
      else()
        set(failure "CMake ${CMAKE_VERSION} cannot use it")
      endif()
      set(failure "${nvcc} of CUDA ${release} does not work: ${failure} (${build}/log.txt)")
    endif()
    set(FASTNCE_NVCC_PROBED "${tools}" CACHE INTERNAL "Tools that cmake/nvcc_probe was built with")
    set(FASTNCE_NVCC_FAILURE "${failure}" CACHE INTERNAL "What came of it")
  endif()
  set(why_no_nvcc "${FASTNCE_NVCC_FAILURE}" PARENT_SCOPE)
endfunction()

if(NOT nvcc)
  set(why_no_nvcc "nvcc was not found")
else()
  fastnce_probe_nvcc(${nvcc})
endif()
