# The C++ package: find_package(fastnce) and link fastnce::fastnce.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/fastnce)
install(TARGETS fastnce EXPORT fastnceTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY csrc/include/fastnce DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT fastnceTargets NAMESPACE fastnce:: DESTINATION ${package_dir})
configure_package_config_file(cmake/fastnceConfig.cmake.in fastnceConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(fastnceConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/fastnceConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/fastnceConfigVersion.cmake
  cmake/cudart.cmake DESTINATION ${package_dir})
