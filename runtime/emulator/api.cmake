# The emulator above machine.h: the HIP API as a shared library that exports nothing but hip* and ingotEmulator*, and the
# tests of both sides of the border.
add_library(ingot_hip_headers INTERFACE)
target_include_directories(ingot_hip_headers SYSTEM INTERFACE /usr/include)
target_compile_definitions(ingot_hip_headers INTERFACE __HIP_PLATFORM_AMD__=1)

ingot_library(ingot_emulator_loader SOURCES loader.cpp memory.cpp msgpack.cpp DEPS ingot_emulator_machine)

add_library(ingot-emulator SHARED device.cpp graph.cpp emulator.cpp hip_device.cpp hip_error.cpp hip_graph.cpp
                                  hip_memory.cpp hip_module.cpp hip_stream.cpp)
target_link_libraries(ingot-emulator PRIVATE ingot_flags ingot_hip_headers ingot_emulator_loader ingot_emulator_machine)
set_target_properties(ingot-emulator PROPERTIES LINK_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/exports.map)
target_link_options(ingot-emulator PRIVATE -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/exports.map)
# The sanitizers' functions are in the program that loads the library.
if(NOT INGOT_SANITIZE)
  target_link_options(ingot-emulator PRIVATE -Wl,-z,defs)
endif()

# LLVM's classes carry no type information in the packaged library.
ingot_library(ingot_emulator_assembler SOURCES assembler.cpp DEPS ingot_llvm)
set_source_files_properties(assembler.cpp PROPERTIES COMPILE_OPTIONS "-fno-rtti" SKIP_PRECOMPILE_HEADERS ON)

ingot_test(emulator_vector_test SOURCES vector_test.cpp DEPS ingot_emulator_assembler ingot_emulator_loader
                                                             ingot_emulator_machine)

# The executor exists once for each host instruction set; the best one runs by default, so name the other.
add_test(NAME emulator_vector_test_avx2 COMMAND emulator_vector_test)
set_tests_properties(emulator_vector_test_avx2 PROPERTIES ENVIRONMENT INGOT_EMULATOR_ISA=avx2)

# The tests' kernels, compiled by the same clang as the project's own kernels are.
find_program(INGOT_CLANG NAMES clang-22 HINTS ${LLVM_TOOLS_BINARY_DIR} REQUIRED)
find_program(INGOT_LLD NAMES ld.lld-22 ld.lld HINTS ${LLVM_TOOLS_BINARY_DIR} REQUIRED)
set(kernel_dir ${CMAKE_CURRENT_BINARY_DIR}/kernels)
file(MAKE_DIRECTORY ${kernel_dir})
set(kernel_source ${CMAKE_CURRENT_SOURCE_DIR}/kernels/kernels.cl)
set(kernel_objects)
foreach(chip gfx1151 gfx1201)
  set(object ${kernel_dir}/kernels_${chip})
  add_custom_command(
    OUTPUT ${object}.co
    COMMAND ${INGOT_CLANG} -x cl -cl-std=CL2.0 -Xclang -finclude-default-header -target amdgcn-amd-amdhsa -mcpu=${chip} -nogpulib -O3
            -w -mcode-object-version=5 -c ${kernel_source} -o ${object}.o
    COMMAND ${INGOT_LLD} -shared --no-undefined ${object}.o -o ${object}.co
    DEPENDS ${kernel_source} VERBATIM)
  list(APPEND kernel_objects ${object}.co)
endforeach()
add_custom_target(ingot_emulator_kernels DEPENDS ${kernel_objects})

find_package(nlohmann_json REQUIRED)
ingot_test(emulator_loader_test SOURCES loader_test.cpp DEPS ingot_emulator_loader ingot_emulator_machine)
ingot_test(emulator_hip_test SOURCES hip_test.cpp DEPS ingot-emulator ingot_hip_headers nlohmann_json::nlohmann_json)
ingot_program(ingot-emulator-bench SOURCES benchmark.cpp DEPS ingot-emulator ingot_hip_headers nlohmann_json::nlohmann_json)
foreach(user emulator_loader_test emulator_hip_test ingot-emulator-bench)
  add_dependencies(${user} ingot_emulator_kernels)
  target_compile_definitions(${user} PRIVATE INGOT_KERNEL_DIR="${kernel_dir}")
endforeach()
add_test(NAME emulator_hip_test_gfx1201 COMMAND emulator_hip_test)
set_tests_properties(emulator_hip_test_gfx1201 PROPERTIES ENVIRONMENT INGOT_EMULATOR_TARGET=gfx1201)

# Nothing but the API may be visible: a process that links LLVM itself must not meet a second copy of anything.
add_test(NAME emulator_exports COMMAND ${CMAKE_COMMAND} -DLIBRARY=$<TARGET_FILE:ingot-emulator> -DNM=${CMAKE_NM}
                                       -P ${CMAKE_CURRENT_SOURCE_DIR}/exports_test.cmake)
