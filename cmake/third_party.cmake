# GoogleTest and Google Benchmark: the system's package where present, else their release archive, else left out with a
# message. `found` is set in the caller's scope.
function(fastnce_provide package target url sha256 found)
  find_package(${package} QUIET)
  if(NOT TARGET ${target})
    set(archive ${CMAKE_BINARY_DIR}/_deps/${package}.tar.gz)
    if(NOT EXISTS ${archive})
      message(STATUS "fastnce: no system ${package}; fetching ${url}")
      file(DOWNLOAD ${url} ${archive}.part TIMEOUT 60 INACTIVITY_TIMEOUT 10 STATUS status)
      list(GET status 0 code)
      if(code EQUAL 0)
        file(SHA256 ${archive}.part hash)
        if(hash STREQUAL sha256)
          file(RENAME ${archive}.part ${archive})
        else()
          message(WARNING "fastnce: ${url} has SHA-256 ${hash}, expected ${sha256}")
        endif()
      endif()
      file(REMOVE ${archive}.part)
    endif()
    if(EXISTS ${archive})
      include(FetchContent)
      set(BENCHMARK_ENABLE_TESTING OFF)
      set(INSTALL_GTEST OFF)
      FetchContent_Declare(${package} URL ${archive})
      FetchContent_MakeAvailable(${package})
    endif()
  endif()
  if(TARGET ${target})
    set(${found} TRUE PARENT_SCOPE)
  else()
    set(${found} FALSE PARENT_SCOPE)
    message(WARNING "fastnce: ${package} is neither installed nor could it be fetched; what needs it is SKIPPED "
      "(on Debian and Ubuntu: apt-get install libgtest-dev libbenchmark-dev)")
  endif()
endfunction()

macro(fastnce_provide_googletest)
  fastnce_provide(GTest GTest::gtest_main
    https://github.com/google/googletest/archive/refs/tags/v1.14.0.tar.gz
    8ad598c73ad796e0d8280b082cebd82a630d73e73cd3c70057938a6501bba5d7 GTEST_PROVIDED)
endmacro()

macro(fastnce_provide_benchmark)
  fastnce_provide(benchmark benchmark::benchmark
    https://github.com/google/benchmark/archive/refs/tags/v1.8.3.tar.gz
    6bc180a57d23d4d9515519f92b0c83d61b05b5bab188961f36ac7b06b0d9e9ce BENCHMARK_PROVIDED)
endmacro()
