# Finds MuJoCo inside an unpacked wheel and makes the imported target GatoMujoco::mujoco.
#
# Input:  GATO_MUJOCO_DIR  folder `mujoco` of an unpacked or installed wheel
#         GATO_DEPS_DIR    folder made by tools/setup; its site/mujoco is used when GATO_MUJOCO_DIR is not set
include("${CMAKE_CURRENT_LIST_DIR}/GatoDepsDir.cmake")

set(_gato_mujoco "${GATO_MUJOCO_DIR}")
if(NOT _gato_mujoco)
  set(_gato_mujoco "${GATO_DEPS_DIR}/site/mujoco")
endif()

# The wheel has only the versioned name.
file(GLOB _gato_mujoco_library "${_gato_mujoco}/libmujoco.so.*")
set(GatoMujoco_FOUND FALSE)
if(_gato_mujoco_library AND EXISTS "${_gato_mujoco}/include/mujoco/mujoco.h")
  list(GET _gato_mujoco_library 0 _gato_mujoco_library)
  set(GatoMujoco_FOUND TRUE)
  string(REGEX REPLACE ".*\\.so\\." "" GatoMujoco_VERSION "${_gato_mujoco_library}")
elseif(GatoMujoco_FIND_REQUIRED)
  message(FATAL_ERROR "MuJoCo was not found in '${_gato_mujoco}': run tools/setup, or set GATO_DEPS_DIR to the "
                      "folder it filled or GATO_MUJOCO_DIR to the folder `mujoco` of a mujoco 3.3 wheel.")
endif()

if(GatoMujoco_FOUND AND NOT TARGET GatoMujoco::mujoco)
  add_library(GatoMujoco::mujoco SHARED IMPORTED GLOBAL)
  set_target_properties(
    GatoMujoco::mujoco
    PROPERTIES IMPORTED_LOCATION "${_gato_mujoco_library}" IMPORTED_SONAME "libmujoco.so.${GatoMujoco_VERSION}"
               INTERFACE_INCLUDE_DIRECTORIES "${_gato_mujoco}/include")
endif()
