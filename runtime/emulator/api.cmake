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
target_link_options(ingot-emulator PRIVATE -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/exports.map -Wl,-z,defs)

# LLVM's classes carry no type information in the packaged library.
ingot_library(ingot_emulator_assembler SOURCES assembler.cpp DEPS ingot_llvm)
set_source_files_properties(assembler.cpp PROPERTIES COMPILE_OPTIONS "-fno-rtti")

ingot_test(emulator_vector_test SOURCES vector_test.cpp DEPS ingot_emulator_assembler ingot_emulator_loader
                                                             ingot_emulator_machine)
