# The CUDA language for src/kernels/cuda/*.cu. Needs a CUDA 13 toolkit; no GPU, and to build not even NVIDIA's other
# libraries, which `tools/setup --cuda` fetches.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  # Also for CMake's own check of the compiler, whose default this toolkit no longer has.
  set(CMAKE_CUDA_ARCHITECTURES "80;90;100;120" CACHE STRING "GPU architectures to compile for" FORCE)
endif()
find_program(GATO_NVCC nvcc HINTS ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES bin)
if(NOT GATO_NVCC)
  message(FATAL_ERROR "GATO_CUDA needs nvcc of a CUDA 13 toolkit: install one, or set GATO_CUDA=OFF.")
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
