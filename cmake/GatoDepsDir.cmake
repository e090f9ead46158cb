# Decides GATO_DEPS_DIR, the folder tools/setup fills: the cache variable, else the environment, else `.deps` of the
# source tree (which an installed package does not have; there the variable must be given for what is not installed).
if(NOT GATO_DEPS_DIR AND DEFINED ENV{GATO_DEPS_DIR})
  set(GATO_DEPS_DIR "$ENV{GATO_DEPS_DIR}" CACHE PATH "Folder that tools/setup fills" FORCE)
endif()
if(NOT GATO_DEPS_DIR)
  get_filename_component(_gato_root "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)
  set(GATO_DEPS_DIR "${_gato_root}/.deps" CACHE PATH "Folder that tools/setup fills" FORCE)
endif()
