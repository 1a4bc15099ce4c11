# CUDA's runtime as a static library, and what it needs of the system; the build and the installed package both include
# this. CMake's own FindCUDAToolkit also requires the shared library, which NVIDIA's wheels lack under that name.
find_library(FASTNCE_CUDART cudart_static HINTS ${FASTNCE_CUDART_DIRS} ENV CUDA_PATH PATHS /usr/local/cuda
  PATH_SUFFIXES lib64 lib)
if(NOT TARGET fastnce::cudart AND FASTNCE_CUDART)
  add_library(fastnce::cudart STATIC IMPORTED)
  set_target_properties(fastnce::cudart PROPERTIES IMPORTED_LOCATION ${FASTNCE_CUDART}
    INTERFACE_LINK_LIBRARIES "dl;rt;pthread")
endif()
