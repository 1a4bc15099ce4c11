# Handlers for JAX. FASTNCE_JAX: AUTO builds them where jaxlib's headers are found, ON insists, OFF leaves them out. The
# headers are wanted only to build; they are looked for in the jaxlib of Python_EXECUTABLE, which is not imported.
set(FASTNCE_JAX AUTO CACHE STRING "Build the handlers for JAX: AUTO, ON or OFF")
set_property(CACHE FASTNCE_JAX PROPERTY STRINGS AUTO ON OFF)
set(FASTNCE_JAX_INCLUDE "" CACHE PATH "Directory that holds xla/ffi/api/ffi.h")

if(FASTNCE_JAX)
  find_path(jax_include xla/ffi/api/ffi.h NO_CACHE NO_DEFAULT_PATH
    PATHS ${FASTNCE_JAX_INCLUDE} ${Python_SITELIB}/jaxlib/include ${Python_SITEARCH}/jaxlib/include)
  if(jax_include)
    target_sources(_core PRIVATE jax_rows.cpp jax_sampled_loss.cpp jax_sampler.cpp register_jax.cpp)
    add_library(fastnce_xla INTERFACE)
    target_include_directories(fastnce_xla SYSTEM INTERFACE ${jax_include})
    target_link_libraries(_core PRIVATE fastnce_xla)
    target_compile_definitions(_core PRIVATE FASTNCE_JAX)
  elseif(FASTNCE_JAX STREQUAL "AUTO")
    message(STATUS "fastnce: no handlers for JAX: jaxlib's headers were not found")
  else()
    message(FATAL_ERROR "fastnce: FASTNCE_JAX is ON, but xla/ffi/api/ffi.h was not found in a jaxlib of "
      "${Python_EXECUTABLE}; install jaxlib there, or set FASTNCE_JAX_INCLUDE")
  endif()
endif()
