# GoogleTest and Google Benchmark, which the tests and the benchmark need: the system's package; else the packages of
# Debian or Ubuntu, unpacked under FASTNCE_DOWNLOADS without installing anything; else the release archive; else what needs
# them is left out with a message. With FASTNCE_OFFLINE=1 in the environment nothing is downloaded.
set(FASTNCE_DOWNLOADS "${CMAKE_BINARY_DIR}/downloads" CACHE PATH "Where third-party packages are downloaded to")

# Downloads and unpacks packages of the distribution into `prefix`. Neither root nor the system's package lists are
# needed: where there are none, or old ones, apt-get gets lists of its own.
function(fastnce_unpack_debian prefix)
  find_program(apt_get apt-get NO_CACHE)
  find_program(dpkg dpkg NO_CACHE)
  if(NOT apt_get OR NOT dpkg)
    return()
  endif()
  set(apt ${FASTNCE_DOWNLOADS}/apt)
  file(MAKE_DIRECTORY ${apt}/lists/partial ${apt}/cache/archives/partial ${apt}/packages)
  set(own_lists -o Dir::State::lists=${apt}/lists -o Dir::Cache=${apt}/cache -o APT::Sandbox::User=
    -o Acquire::http::Timeout=15 -o Acquire::Retries=0)
  message(STATUS "fastnce: downloading ${ARGN} from the distribution's archive")
  execute_process(COMMAND ${apt_get} -o APT::Sandbox::User= download ${ARGN} WORKING_DIRECTORY ${apt}/packages
    OUTPUT_QUIET ERROR_QUIET RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    execute_process(COMMAND ${apt_get} ${own_lists} update OUTPUT_QUIET ERROR_QUIET)
    execute_process(COMMAND ${apt_get} ${own_lists} download ${ARGN} WORKING_DIRECTORY ${apt}/packages
      OUTPUT_QUIET ERROR_QUIET RESULT_VARIABLE status)
  endif()
  if(status EQUAL 0)
    foreach(package IN LISTS ARGN)
      file(GLOB archive ${apt}/packages/${package}_*.deb)
      execute_process(COMMAND ${dpkg} -x ${archive} ${prefix})
    endforeach()
  endif()
  file(REMOVE_RECURSE ${apt})
endfunction()

# Downloads a release archive and checks it.
function(fastnce_download url sha256 archive)
  message(STATUS "fastnce: downloading ${url}")
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
endfunction()

# `debian`: the names of the packages there. Sets `found` in the caller's scope.
function(fastnce_provide package target url sha256 debian found)
  find_package(${package} QUIET)
  if(NOT TARGET ${target} AND NOT "$ENV{FASTNCE_OFFLINE}")
    set(prefix ${FASTNCE_DOWNLOADS}/debian)
    list(APPEND CMAKE_PREFIX_PATH ${prefix}/usr)
    find_package(${package} QUIET)
    if(NOT TARGET ${target})
      fastnce_unpack_debian(${prefix} ${debian})
      find_package(${package} QUIET)
    endif()
    set(archive ${FASTNCE_DOWNLOADS}/${package}.tar.gz)
    if(NOT TARGET ${target} AND NOT EXISTS ${archive})
      fastnce_download(${url} ${sha256} ${archive})
    endif()
    if(NOT TARGET ${target} AND EXISTS ${archive})
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
    message(STATUS "fastnce: ${package} is neither installed nor could it be downloaded: what needs it is SKIPPED")
  endif()
endfunction()

macro(fastnce_provide_googletest)
  fastnce_provide(GTest GTest::gtest_main
    https://github.com/google/googletest/archive/refs/tags/v1.14.0.tar.gz
    8ad598c73ad796e0d8280b082cebd82a630d73e73cd3c70057938a6501bba5d7
    "libgtest-dev;libgmock-dev" GTEST_PROVIDED)
endmacro()

macro(fastnce_provide_benchmark)
  fastnce_provide(benchmark benchmark::benchmark
    https://github.com/google/benchmark/archive/refs/tags/v1.8.3.tar.gz
    6bc180a57d23d4d9515519f92b0c83d61b05b5bab188961f36ac7b06b0d9e9ce
    "libbenchmark-dev;libbenchmark1debian" BENCHMARK_PROVIDED)
endmacro()
