# cmake --install: libraries, headers and programs, the package `gato` for find_package, configurations and data.
#
# The package is relocatable: exported targets name no folder of the build machine, and gatoConfig.cmake finds LibTorch,
# MuJoCo and SentencePiece again through the Find modules that are installed beside it (GATO_DEPS_DIR, GATO_TORCH_DIR).
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/gato")
set(share_dir "${CMAKE_INSTALL_DATADIR}/gato")

install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/" DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
foreach(folder configs data)
  if(EXISTS "${PROJECT_SOURCE_DIR}/${folder}")
    install(DIRECTORY "${PROJECT_SOURCE_DIR}/${folder}" DESTINATION ${share_dir})
  endif()
endforeach()
# gato-data runs these by the Python that tools/setup --import made.
install(DIRECTORY "${PROJECT_SOURCE_DIR}/tools/import" DESTINATION ${share_dir}/tools FILES_MATCHING PATTERN "*.py")
# Plays environments of Python packages, by the Python that tools/setup --envs made.
install(DIRECTORY "${PROJECT_SOURCE_DIR}/tools/env_worker" DESTINATION ${share_dir}/tools FILES_MATCHING PATTERN "*.py")
install(FILES "${PROJECT_SOURCE_DIR}/src/episode/stream.proto" "${PROJECT_SOURCE_DIR}/src/episode/format.proto"
        DESTINATION ${share_dir}/proto/episode)
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION ${share_dir})

install(EXPORT gatoTargets NAMESPACE gato:: DESTINATION ${package_dir})
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/gatoConfig.cmake.in" "${PROJECT_BINARY_DIR}/gatoConfig.cmake"
                              INSTALL_DESTINATION ${package_dir} PATH_VARS share_dir)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/gatoConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
set(package_files GatoDepsDir GatoDependencies FindGatoTorch FindGatoMujoco FindGatoSentencePiece)
list(TRANSFORM package_files PREPEND "${PROJECT_SOURCE_DIR}/cmake/")
list(TRANSFORM package_files APPEND ".cmake")
install(FILES "${PROJECT_BINARY_DIR}/gatoConfig.cmake" "${PROJECT_BINARY_DIR}/gatoConfigVersion.cmake" ${package_files}
        DESTINATION ${package_dir})
