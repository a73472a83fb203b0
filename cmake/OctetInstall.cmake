# cmake --install: the libraries and headers as the CMake package Octet (find_package(Octet), link Octet::octet or the
# modules you need, Octet::models and so on), and the program `octet`.
include(CMakePackageConfigHelpers)

get_property(modules GLOBAL PROPERTY OCTET_MODULES)

# Everything at once, for programs that link Octet.
add_library(octet_octet INTERFACE)
add_library(Octet::octet ALIAS octet_octet)
set_target_properties(octet_octet PROPERTIES EXPORT_NAME octet)
target_link_libraries(octet_octet INTERFACE ${modules})

set(OCTET_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/Octet)
install(TARGETS octet_octet ${modules} EXPORT Octet ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT Octet NAMESPACE Octet:: FILE OctetTargets.cmake DESTINATION ${OCTET_CMAKE_DIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/octet DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(TARGETS octet RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
# `octet demo` looks for its models here, ../share/octet beside the program.
install(DIRECTORY ${PROJECT_SOURCE_DIR}/apps/octet/demo_encoder ${PROJECT_SOURCE_DIR}/apps/octet/demo_decoder
        DESTINATION ${CMAKE_INSTALL_DATADIR}/octet)

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/OctetConfig.cmake.in ${PROJECT_BINARY_DIR}/OctetConfig.cmake
                              INSTALL_DESTINATION ${OCTET_CMAKE_DIR})
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/OctetConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/OctetConfig.cmake ${PROJECT_BINARY_DIR}/OctetConfigVersion.cmake
        DESTINATION ${OCTET_CMAKE_DIR})
