# FASTNCE_CUDA=AUTO configures without CUDA, and says why, wherever nvcc cannot build the backend; ON fails for the same
# reason. Each case replaces nvcc by another program.
function(configure mode case)
  execute_process(COMMAND ${CMAKE_COMMAND} -E env CUDACXX=${WORK_DIR}/${case}/nvcc
    ${CMAKE_COMMAND} -S ${SOURCE_DIR} -B ${WORK_DIR}/${case}/${mode} -G ${GENERATOR} -DCMAKE_CXX_COMPILER=${CXX}
    -DFASTNCE_CUDA=${mode} RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  set(code ${code} PARENT_SCOPE)
  string(REGEX REPLACE "[ \n]+" " " output "${output}") # CMake breaks the lines of errors
  set(output "${output}" PARENT_SCOPE)
endfunction()

function(check case script reason)
  file(WRITE ${WORK_DIR}/${case}/nvcc "#!/bin/sh\n${script}\n")
  file(CHMOD ${WORK_DIR}/${case}/nvcc PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
  configure(AUTO ${case})
  if(NOT code EQUAL 0 OR NOT output MATCHES "no CUDA backend: [^ ]*${case}/nvcc ${reason}")
    message(SEND_ERROR "AUTO, ${case}: ended with ${code}, expected 0 and '${reason}'\n${output}")
  endif()
  configure(ON ${case})
  if(code EQUAL 0 OR NOT output MATCHES "FASTNCE_CUDA is ON, but [^ ]*${case}/nvcc ${reason}")
    message(SEND_ERROR "ON, ${case}: ended with ${code}, expected an error and '${reason}'\n${output}")
  endif()
endfunction()

set(version "case \"$*\" in --version) echo 'Cuda compilation tools, release RELEASE, V13.0.88'; exit 0;; esac")
string(REPLACE RELEASE 11.8 old "${version}")
string(REPLACE RELEASE 13.0 new "${version}")

file(REMOVE_RECURSE ${WORK_DIR})
check(broken "exit 1" "does not run")
check(too_old "${old}" "is of CUDA 11.8: C\\+\\+20 needs 12.0 or later")
set(failed "of CUDA 13.0 does not work: it cannot compile a C\\+\\+20 program:")
check(other_host_compiler "${new}\necho 'x.h:1: error: -- unsupported GNU version! gcc is too new' >&2; exit 1"
  "${failed} x.h:1: error: -- unsupported GNU version! gcc is too new")
check(mute "${new}\nexit 1" "${failed}")
# It compiles whatever it is given, but no CMake can make out what it is.
check(unknown_to_cmake "${new}\nexit 0" "of CUDA 13.0 does not work: CMake [0-9.]+ cannot use it")
