# Decides GATO_DEPS_DIR, the folder tools/setup fills: the variable if it is given, else the environment's, else `.deps` of
# the source tree (not kept in the cache, so that the environment can still speak up). An installed package has no such
# folder: there it is given by the variable or the environment.
if(NOT GATO_DEPS_DIR AND DEFINED ENV{GATO_DEPS_DIR})
  get_filename_component(_gato_deps "$ENV{GATO_DEPS_DIR}" ABSOLUTE)
  set(GATO_DEPS_DIR "${_gato_deps}" CACHE PATH "Folder that tools/setup fills" FORCE)
elseif(NOT GATO_DEPS_DIR)
  get_filename_component(_gato_deps "${CMAKE_CURRENT_LIST_DIR}/../.deps" ABSOLUTE)
  set(GATO_DEPS_DIR "${_gato_deps}")
endif()
