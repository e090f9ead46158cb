# gato_module(NAME [TORCH] [UNITY] [DEPENDS module...] [LINK_PUBLIC target...] [LINK target...] [DEFINE definition...])
#
# Makes the static library gato_<NAME>, alias gato::<NAME>, from src/<NAME>/*.cpp and src/<NAME>/*/*.cpp. Files
# *.proto of the folder are compiled into the build tree and included as "<NAME>/<stem>.pb.h", by this module alone.
#
#   TORCH        uses LibTorch; left out when GATO_TORCH is off
#   UNITY        with the option GATO_UNITY the files src/<NAME>/*.cpp are compiled eight at a time: no two of them may
#                have a name in their unnamed namespaces in common
#   DEPENDS      modules of ours, passed on to those who link this one
#   LINK_PUBLIC  libraries that appear in public headers;  LINK  libraries that do not
#
# A module without a source file, or one that depends on a module which is left out, is left out with a status line.
# A folder src/<NAME>/cuda belongs to libgato_cuda.so (src/CMakeLists.txt), not to the module.
function(gato_module name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "TORCH;UNITY" "" "DEPENDS;LINK_PUBLIC;LINK;DEFINE")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "gato_module(${name}): unknown arguments '${arg_UNPARSED_ARGUMENTS}'.")
  endif()

  if(arg_TORCH AND NOT GATO_TORCH)
    return()
  endif()
  foreach(dependency IN LISTS arg_DEPENDS)
    if(NOT TARGET gato_${dependency})
      message(STATUS "gato: module ${name} is left out, for it depends on ${dependency}")
      return()
    endif()
  endforeach()
  set(folder "${PROJECT_SOURCE_DIR}/src/${name}")
  file(GLOB sources CONFIGURE_DEPENDS "${folder}/*.cpp" "${folder}/*/*.cpp")
  list(FILTER sources EXCLUDE REGEX "/${name}/cuda/[^/]*$")
  list(FILTER sources EXCLUDE REGEX "/gato_[^/]*(/[^/]*)?\\.cpp$")  # programs: src/cli/CMakeLists.txt
  if(NOT sources)
    message(STATUS "gato: module ${name} is left out, for src/${name} has no source file")
    return()
  endif()

  set(target gato_${name})
  add_library(${target} STATIC ${sources})
  add_library(gato::${name} ALIAS ${target})
  list(TRANSFORM arg_DEPENDS PREPEND gato_ OUTPUT_VARIABLE dependencies)
  target_include_directories(
    ${target}
    PUBLIC "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>" "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>"
    PRIVATE "${PROJECT_SOURCE_DIR}/src")
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_compile_definitions(${target} PRIVATE ${arg_DEFINE})
  target_link_libraries(${target} PUBLIC ${dependencies} ${arg_LINK_PUBLIC} PRIVATE ${arg_LINK}
                                                                                 $<BUILD_INTERFACE:gato_warnings>)
  if(arg_TORCH)
    target_link_libraries(${target} PUBLIC GatoTorch::torch)
    gato_use_torch_pch(${target})
  endif()
  if(GATO_UNITY AND arg_UNITY)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
    # In the folders below, files have the same function names on purpose.
    list(FILTER sources EXCLUDE REGEX "/src/${name}/[^/]*$")
    set_source_files_properties(${sources} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    # To the compiler a file that is included is a header, whose types others may see.
    target_compile_options(${target} PRIVATE -Wno-subobject-linkage)
  endif()
  gato_add_protos(${target} "${folder}")

  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  install(TARGETS ${target} EXPORT gatoTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
endfunction()

# Compiles the *.proto files of `folder` (a folder of src/) for `target`. Generated code is not held to our warnings.
function(gato_add_protos target folder)
  file(GLOB protos CONFIGURE_DEPENDS "${folder}/*.proto")
  if(NOT protos)
    return()
  endif()
  set(generated "${PROJECT_BINARY_DIR}/generated")
  file(MAKE_DIRECTORY "${generated}")
  foreach(proto IN LISTS protos)
    cmake_path(RELATIVE_PATH proto BASE_DIRECTORY "${PROJECT_SOURCE_DIR}/src" OUTPUT_VARIABLE relative)
    string(REGEX REPLACE "\\.proto$" "" stem "${relative}")
    set(outputs "${generated}/${stem}.pb.cc" "${generated}/${stem}.pb.h")
    add_custom_command(
      OUTPUT ${outputs}
      COMMAND protobuf::protoc "--proto_path=${PROJECT_SOURCE_DIR}/src" "--cpp_out=${generated}" "${proto}"
      DEPENDS "${proto}"
      COMMENT "protoc ${relative}"
      VERBATIM)
    set_source_files_properties("${generated}/${stem}.pb.cc" PROPERTIES COMPILE_OPTIONS "-w" SKIP_PRECOMPILE_HEADERS
                                                                                             ON SKIP_UNITY_BUILD_INCLUSION ON)
    target_sources(${target} PRIVATE ${outputs})
  endforeach()
  target_include_directories(${target} SYSTEM PRIVATE "${generated}")
  target_link_libraries(${target} PRIVATE protobuf::libprotobuf)
endfunction()

# One precompiled header (cmake/torch_pch.h) for everything that includes LibTorch. GCC takes it only for the same
# macros and code generation, hence -fPIC for programs and tests too.
function(gato_use_torch_pch target)
  if(NOT GATO_PCH)
    return()
  endif()
  if(NOT TARGET gato_torch_pch)
    set(source "${PROJECT_BINARY_DIR}/torch_pch.cpp")
    file(CONFIGURE OUTPUT "${source}" CONTENT "// Carries the precompiled header that the LibTorch modules share.\n")
    add_library(gato_torch_pch OBJECT "${source}")
    target_link_libraries(gato_torch_pch PRIVATE GatoTorch::torch)
    target_compile_features(gato_torch_pch PRIVATE cxx_std_20)
    target_precompile_headers(gato_torch_pch PRIVATE "${PROJECT_SOURCE_DIR}/cmake/torch_pch.h")
  endif()
  target_precompile_headers(${target} REUSE_FROM gato_torch_pch)
endfunction()

# gato_executable(TARGET SOURCE... ) : a program or test of ours, built like the modules.
function(gato_executable target)
  add_executable(${target} ${ARGN})
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/src")
  target_compile_features(${target} PRIVATE cxx_std_20)
  target_link_libraries(${target} PRIVATE gato_warnings)
endfunction()
