# The CUDA language for src/kernels/cuda/*.cu. Needs nvcc of CUDA 13, installed or fetched by `tools/setup --cuda`; no
# GPU, and to build not even NVIDIA's other libraries, which that fetches as well.
include("${CMAKE_CURRENT_LIST_DIR}/GatoDepsDir.cmake")
if(NOT CMAKE_CUDA_ARCHITECTURES)
  # Also for CMake's own check of the compiler, whose default this toolkit no longer has.
  set(CMAKE_CUDA_ARCHITECTURES "80;90;100;120" CACHE STRING "GPU architectures to compile for" FORCE)
endif()

# gato_find_nvcc(RESULT): the first nvcc of CUDA 13: of an installed toolkit, else what `tools/setup --cuda` unpacked
# (at once with GATO_CUDA_TOOLKIT=wheels in the environment). LibTorch here is built for CUDA 13.
function(gato_find_nvcc result)
  set(wheels "${GATO_DEPS_DIR}/site/nvidia/cu13/bin/nvcc")
  find_program(nvcc_on_path nvcc NO_CACHE)
  set(candidates "$ENV{CUDA_HOME}/bin/nvcc" "${nvcc_on_path}" /usr/local/cuda/bin/nvcc "${wheels}")
  if("$ENV{GATO_CUDA_TOOLKIT}" STREQUAL "wheels")
    set(candidates "${wheels}")
  endif()
  foreach(nvcc IN LISTS candidates)
    if(EXISTS "${nvcc}" AND NOT IS_DIRECTORY "${nvcc}")
      execute_process(COMMAND "${nvcc}" --version OUTPUT_VARIABLE text ERROR_QUIET)
      if(text MATCHES "release 13\\.")
        set(${result} "${nvcc}" PARENT_SCOPE)
        return()
      endif()
    endif()
  endforeach()
endfunction()

if(NOT GATO_NVCC)
  gato_find_nvcc(GATO_NVCC)
  set(GATO_NVCC "${GATO_NVCC}" CACHE FILEPATH "nvcc of a CUDA 13 toolkit" FORCE)
endif()
if(NOT GATO_NVCC)
  message(FATAL_ERROR "GATO_CUDA needs nvcc of CUDA 13: run tools/setup --cuda, which fetches it where no toolkit is "
                      "installed, or set GATO_NVCC to it, or GATO_CUDA=OFF.")
endif()
if(NOT CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_COMPILER "${GATO_NVCC}")
endif()
# One runtime per process: LibTorch brings the shared one.
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
enable_language(CUDA)
# CMake 3.25 does not know this compiler's flag for C++20, which the targets ask for.
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
find_package(CUDAToolkit REQUIRED)
