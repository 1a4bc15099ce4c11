# Instruction-set flags occur only here. Each file of csrc/cpu/isa_builds compiles the same kernels for one instruction
# set; all other files are built for the baseline of the target architecture, and the kernels are chosen at run time.
set(FASTNCE_FLAGS_baseline "")
set(FASTNCE_FLAGS_avx2 -mavx2 -mfma)
set(FASTNCE_FLAGS_avx512 -mfma -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
set(FASTNCE_FLAGS_avx512_bf16 ${FASTNCE_FLAGS_avx512} -mavx512bf16)
set(FASTNCE_FLAGS_amx ${FASTNCE_FLAGS_avx512_bf16} -mamx-tile -mamx-bf16)

# Builds `source`, a file of kernels, for one instruction set. Without errno a square root is one instruction, which
# loops over vectors may hold; its result is the same.
function(fastnce_set_isa source isa)
  set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-O3;-fno-math-errno;${FASTNCE_FLAGS_${isa}}")
endfunction()

function(fastnce_add_isas target)
  set(isas baseline)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
    target_compile_definitions(${target} PRIVATE FASTNCE_X86)
    list(APPEND isas avx2 avx512 avx512_bf16 amx)
  endif()
  foreach(isa IN LISTS isas)
    target_sources(${target} PRIVATE csrc/cpu/isa_builds/${isa}.cpp)
    fastnce_set_isa(csrc/cpu/isa_builds/${isa}.cpp ${isa})
  endforeach()
endfunction()
