# Finds everything gato's libraries link. Used by the build and, installed beside gatoConfig.cmake, by those who link
# the installed package: static libraries pass their private dependencies on, so these must be found again.
#
# Input: GATO_TORCH, GATO_CUDA (on or off). Every small library comes from the distribution.
find_package(Threads REQUIRED)
find_package(spdlog REQUIRED)
find_package(fmt REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(Protobuf REQUIRED)
find_package(PNG REQUIRED)
find_package(ZLIB REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET GLOBAL libxxhash)
pkg_check_modules(zstd REQUIRED IMPORTED_TARGET GLOBAL libzstd)
pkg_check_modules(turbojpeg REQUIRED IMPORTED_TARGET GLOBAL libturbojpeg)
pkg_check_modules(re2 REQUIRED IMPORTED_TARGET GLOBAL re2)
pkg_check_modules(osmesa REQUIRED IMPORTED_TARGET GLOBAL osmesa)
find_package(GatoMujoco REQUIRED)
find_package(GatoSentencePiece REQUIRED)
if(GATO_TORCH)
  if(GATO_CUDA)
    find_package(GatoTorch REQUIRED COMPONENTS cuda)
  else()
    find_package(GatoTorch REQUIRED)
  endif()
endif()

# Debian's yaml-cpp 0.7 exports the plain name only.
if(NOT TARGET yaml-cpp::yaml-cpp)
  add_library(yaml-cpp::yaml-cpp INTERFACE IMPORTED GLOBAL)
  target_link_libraries(yaml-cpp::yaml-cpp INTERFACE yaml-cpp)
endif()
