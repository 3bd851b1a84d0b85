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

# What most sources include is parsed once for the whole build: it is half of the time that one of our files takes, and nine
# tenths where MLIR is spoken. Without the timestamp in it, and with ccache told that precompiled headers are all right,
# ccache stays exact.
set(ingot_precompiled_options -fPIC -Xclang -fno-pch-timestamp) # all users' options must agree: -fPIE would not
set(ingot_plain_options -O0)
function(ingot_precompile name headers)
  add_library(${name} OBJECT ${CMAKE_SOURCE_DIR}/cmake/precompiled.cpp)
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${name} PRIVATE ${ingot_precompiled_options})
  target_link_libraries(${name} PRIVATE ingot_flags ${ARGN})
  target_precompile_headers(${name} PRIVATE ${CMAKE_SOURCE_DIR}/cmake/${headers}.h)
endfunction()
ingot_precompile(ingot_headers ingot_headers GTest::gtest)
# For what need not be fast itself, since what it calls is: optimising takes more than half of the time of a source.
ingot_precompile(ingot_plain_headers ingot_headers GTest::gtest)
target_compile_options(ingot_plain_headers PRIVATE ${ingot_plain_options})
if(INGOT_COMPILER)
  ingot_precompile(ingot_mlir_headers ingot_mlir_headers ingot_mlir)
endif()
if("${CMAKE_CXX_COMPILER_LAUNCHER}" MATCHES "ccache$")
  list(PREPEND CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros)
endif()

# Whether `target` links `ingot_mlir`, directly or through what it links. Only our own targets can, so only those are
# followed: the graphs behind abseil and MLIR have so many paths that walking them takes a minute.
function(ingot_links_mlir target result)
  set(${result} FALSE PARENT_SCOPE)
  if(target STREQUAL ingot_mlir)
    set(${result} TRUE PARENT_SCOPE)
  elseif(target MATCHES "^ingot" AND TARGET ${target})
    get_target_property(linked ${target} INTERFACE_LINK_LIBRARIES)
    foreach(library ${linked})
      ingot_links_mlir(${library} found)
      if(found)
        set(${result} TRUE PARENT_SCOPE)
        return()
      endif()
    endforeach()
  endif()
endfunction()

# ingot_precompiled_headers(NAME PLAIN DEPS): `plain` where the target's own sources need no optimisation.
function(ingot_precompiled_headers name plain)
  set(headers ingot_headers)
  if(plain)
    set(headers ingot_plain_headers)
  endif()
  foreach(library ${ARGN})
    ingot_links_mlir(${library} found)
    if(found)
      set(headers ingot_mlir_headers)
    endif()
  endforeach()
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${name} PRIVATE ${ingot_precompiled_options})
  if(headers STREQUAL ingot_plain_headers)
    target_compile_options(${name} PRIVATE ${ingot_plain_options})
  endif()
  target_precompile_headers(${name} REUSE_FROM ${headers})
endfunction()

# ingot_library(NAME SOURCES a.cpp ... DEPS x ...)
function(ingot_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ingot_flags ${ARG_DEPS})
  ingot_precompiled_headers(${name} FALSE ${ARG_DEPS})
endfunction()

# ingot_program(NAME SOURCES a.cpp ... DEPS x ...)
function(ingot_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ingot_flags ${ARG_DEPS})
  ingot_precompiled_headers(${name} "${INGOT_SANITIZE}" ${ARG_DEPS})
endfunction()

# ingot_test(NAME SOURCES a_test.cpp ... DEPS x ...): a GoogleTest program, run by ctest under the same name.
function(ingot_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE ingot_flags ${ARG_DEPS} GTest::gtest GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE INGOT_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
                                             INGOT_BUILD_DIR="${CMAKE_BINARY_DIR}")
  ingot_precompiled_headers(${name} TRUE ${ARG_DEPS})
  add_test(NAME ${name} COMMAND ${name})
endfunction()
