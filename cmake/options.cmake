# Compile options that every target of the project shares.
add_library(fastnce_options INTERFACE)
target_compile_options(fastnce_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wno-psabi>
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>)
if(FASTNCE_WERROR)
  target_compile_options(fastnce_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Werror>
    "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:--Werror all-warnings>")
endif()
if(FASTNCE_SANITIZE)
  target_compile_options(fastnce_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${FASTNCE_SANITIZE};-fno-omit-frame-pointer;-fno-sanitize-recover=all>)
  target_link_options(fastnce_options INTERFACE -fsanitize=${FASTNCE_SANITIZE})
endif()
