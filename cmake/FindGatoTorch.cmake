# Finds LibTorch inside an unpacked wheel and makes the imported targets
#   GatoTorch::c10, GatoTorch::torch_cpu            always
#   GatoTorch::torch                                what a program links: these two
#   GatoTorch::cuda                                 when the component `cuda` is asked for: what libgato_cuda.so links
#
# find_package(Torch) of the wheel itself is not used: it stops where no CUDA toolkit is installed, although a CPU
# program needs none of it.
#
# Input:  GATO_TORCH_DIR  folder `torch` of an unpacked or installed wheel (with include/ and lib/ inside)
#         GATO_DEPS_DIR   folder made by tools/setup; its site/torch is used when GATO_TORCH_DIR is not set
include("${CMAKE_CURRENT_LIST_DIR}/GatoDepsDir.cmake")

set(_gato_torch "${GATO_TORCH_DIR}")
if(NOT _gato_torch)
  set(_gato_torch "${GATO_DEPS_DIR}/site/torch")
endif()

set(GatoTorch_FOUND FALSE)
if(EXISTS "${_gato_torch}/lib/libtorch_cpu.so" AND EXISTS "${_gato_torch}/include/ATen/ATen.h")
  set(GatoTorch_FOUND TRUE)
endif()
if(GatoTorch_FOUND AND "cuda" IN_LIST GatoTorch_FIND_COMPONENTS AND NOT EXISTS "${_gato_torch}/lib/libtorch_cuda.so")
  set(GatoTorch_FOUND FALSE)
endif()

if(NOT GatoTorch_FOUND)
  if(GatoTorch_FIND_REQUIRED)
    set(_gato_cuda_hint "")
    if("cuda" IN_LIST GatoTorch_FIND_COMPONENTS)
      set(_gato_cuda_hint " --cuda")
    endif()
    message(FATAL_ERROR "LibTorch was not found in '${_gato_torch}': run tools/setup${_gato_cuda_hint}, or set "
                        "GATO_DEPS_DIR to the folder it filled or GATO_TORCH_DIR to the folder `torch` of a torch 2.11 wheel.")
  endif()
  return()
endif()

set(GatoTorch_VERSION "")
if(EXISTS "${_gato_torch}/version.py")
  file(STRINGS "${_gato_torch}/version.py" _gato_line REGEX "__version__")
  string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" GatoTorch_VERSION "${_gato_line}")
endif()

if(NOT TARGET GatoTorch::torch)
  function(_gato_torch_library name)
    add_library(GatoTorch::${name} SHARED IMPORTED GLOBAL)
    set_target_properties(
      GatoTorch::${name} PROPERTIES IMPORTED_LOCATION "${_gato_torch}/lib/lib${name}.so"
                                    IMPORTED_SONAME "lib${name}.so" INTERFACE_LINK_LIBRARIES "${ARGN}")
  endfunction()

  add_library(GatoTorch::headers INTERFACE IMPORTED GLOBAL)
  set_target_properties(
    GatoTorch::headers
    PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${_gato_torch}/include;${_gato_torch}/include/torch/csrc/api/include"
               INTERFACE_COMPILE_DEFINITIONS "_GLIBCXX_USE_CXX11_ABI=1"
               # at::parallel_for is a header: without OpenMP it runs on one thread. The wheel brings the run-time library.
               INTERFACE_COMPILE_OPTIONS "-fopenmp" INTERFACE_LINK_OPTIONS "-fopenmp")

  _gato_torch_library(c10 GatoTorch::headers)
  _gato_torch_library(torch_cpu GatoTorch::c10)
  add_library(GatoTorch::torch INTERFACE IMPORTED GLOBAL)
  target_link_libraries(GatoTorch::torch INTERFACE GatoTorch::torch_cpu GatoTorch::c10)
  # libtorch_cpu.so names libcudart and libcupti, which a CPU program never calls and the loader finds in the sibling
  # folder nvidia/cu13/lib by RPATH; the linker need not resolve them.
  target_link_options(GatoTorch::torch INTERFACE "LINKER:--allow-shlib-undefined")
  get_filename_component(_gato_site "${_gato_torch}" DIRECTORY)
  if(EXISTS "${_gato_site}/nvidia/cu13/lib")
    target_link_options(GatoTorch::torch INTERFACE "LINKER:-rpath-link,${_gato_site}/nvidia/cu13/lib")
  endif()

  if("cuda" IN_LIST GatoTorch_FIND_COMPONENTS)
    _gato_torch_library(c10_cuda GatoTorch::c10)
    _gato_torch_library(torch_cuda "GatoTorch::torch_cpu;GatoTorch::c10_cuda")
    # The CUDA library registers its operators when it is loaded; no symbol of it is named, so it must be kept.
    add_library(GatoTorch::cuda INTERFACE IMPORTED GLOBAL)
    target_link_libraries(GatoTorch::cuda INTERFACE GatoTorch::torch "-Wl,--no-as-needed" GatoTorch::torch_cuda
                                                    GatoTorch::c10_cuda "-Wl,--as-needed")
  endif()
endif()
