# Compile options that every target of the project shares.
add_library(fastnce_options INTERFACE)
target_compile_options(fastnce_options INTERFACE -Wall -Wextra -Wno-psabi)
if(FASTNCE_WERROR)
  target_compile_options(fastnce_options INTERFACE -Werror)
endif()
if(FASTNCE_SANITIZE)
  target_compile_options(fastnce_options INTERFACE -fsanitize=${FASTNCE_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  target_link_options(fastnce_options INTERFACE -fsanitize=${FASTNCE_SANITIZE})
endif()
