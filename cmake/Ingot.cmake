# The project's own build rules: one for libraries, one for programs, one for unit tests.

add_library(ingot_flags INTERFACE)
target_compile_options(ingot_flags INTERFACE -Wall -Wextra -Werror -Wno-unused-parameter)
target_include_directories(ingot_flags INTERFACE ${CMAKE_SOURCE_DIR})
if(INGOT_SANITIZE)
  target_compile_options(ingot_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=undefined
                                               -fno-omit-frame-pointer)
  target_link_options(ingot_flags INTERFACE -fsanitize=address,undefined)
endif()

# LLVM and MLIR headers: system headers, so that our warnings are ours alone.
add_library(ingot_llvm INTERFACE)
target_include_directories(ingot_llvm SYSTEM INTERFACE /usr/lib/llvm-22/include)
target_link_directories(ingot_llvm INTERFACE /usr/lib/llvm-22/lib)
target_link_libraries(ingot_llvm INTERFACE LLVM-22)
add_library(ingot_mlir INTERFACE)
target_link_libraries(ingot_mlir INTERFACE MLIR ingot_llvm)

# ingot_library(NAME SOURCES a.cpp ... DEPS x ...)
function(ingot_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ingot_flags ${ARG_DEPS})
endfunction()

# ingot_program(NAME SOURCES a.cpp ... DEPS x ...)
function(ingot_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ingot_flags ${ARG_DEPS})
endfunction()

# ingot_test(NAME SOURCES a_test.cpp ... DEPS x ...): a GoogleTest program, run by ctest under the same name.
function(ingot_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE ingot_flags ${ARG_DEPS} GTest::gtest GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE INGOT_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
                                             INGOT_BUILD_DIR="${CMAKE_BINARY_DIR}")
  add_test(NAME ${name} COMMAND ${name})
endfunction()
