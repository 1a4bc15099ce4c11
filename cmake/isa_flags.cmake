# The only place that names instruction-set flags. Each isa_*.cpp compiles the same kernels for one instruction set; all
# other files are built for the baseline of the target architecture, and the kernels are chosen at run time.
function(fastnce_add_isas target)
  set(kernel_options -O3)
  target_sources(${target} PRIVATE csrc/cpu/isa_baseline.cpp)
  set_source_files_properties(csrc/cpu/isa_baseline.cpp PROPERTIES COMPILE_OPTIONS "${kernel_options}")
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
    target_compile_definitions(${target} PRIVATE FASTNCE_X86)
    target_sources(${target} PRIVATE csrc/cpu/isa_avx2.cpp csrc/cpu/isa_avx512.cpp)
    set_source_files_properties(csrc/cpu/isa_avx2.cpp PROPERTIES COMPILE_OPTIONS "${kernel_options};-mavx2;-mfma")
    set_source_files_properties(csrc/cpu/isa_avx512.cpp PROPERTIES COMPILE_OPTIONS
      "${kernel_options};-mfma;-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mprefer-vector-width=512")
  endif()
endfunction()
