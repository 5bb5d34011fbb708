# What an integrator links: headers, library, CMake's package and pkg-config's file. All of it may be moved as a whole.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)
if(SKBUILD)
  # Inside the wheel everything lies under the package's folder.
  set(folder sdie_fast/)
  set(CMAKE_INSTALL_LIBDIR lib)
  set(CMAKE_INSTALL_INCLUDEDIR include)
  set(namelink NAMELINK_SKIP)
  set_target_properties(sdie_fast PROPERTIES VERSION ${interface_MAJOR})
  if(APPLE) # whose linker reads no script: one file, by the name that -lsdie_fast finds
    set_property(TARGET sdie_fast PROPERTY VERSION)
    set_property(TARGET sdie_fast PROPERTY SOVERSION)
  endif()
endif()
set(lib "${folder}${CMAKE_INSTALL_LIBDIR}")
set(include "${folder}${CMAKE_INSTALL_INCLUDEDIR}")
set(package "${CMAKE_BINARY_DIR}/package")

install(TARGETS sdie_fast EXPORT sdie_fast LIBRARY DESTINATION "${lib}" ${namelink}
                                           ARCHIVE DESTINATION "${lib}" RUNTIME DESTINATION "${folder}bin")
install(FILES include/sdie_fast.h include/sdie.hpp DESTINATION "${include}")
target_include_directories(sdie_fast INTERFACE "$<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include>"
                                               "$<INSTALL_INTERFACE:${include}>")
if(SKBUILD AND UNIX AND NOT APPLE)
  # Wheels hold no links; the linker's -lsdie_fast is led on by a script of its language.
  file(WRITE "${package}/libsdie_fast.so" "INPUT(libsdie_fast.so.${interface_MAJOR})\n")
  install(FILES "${package}/libsdie_fast.so" DESTINATION "${lib}")
endif()

install(EXPORT sdie_fast NAMESPACE sdie_fast:: FILE sdie_fastTargets.cmake DESTINATION "${lib}/cmake/sdie_fast")
write_basic_package_version_file("${package}/sdie_fastConfigVersion.cmake"
                                 VERSION "${interface}" COMPATIBILITY SameMajorVersion)
install(FILES cmake/sdie_fastConfig.cmake "${package}/sdie_fastConfigVersion.cmake"
        DESTINATION "${lib}/cmake/sdie_fast")

file(RELATIVE_PATH to_prefix "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" /)
file(RELATIVE_PATH to_include "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/${CMAKE_INSTALL_INCLUDEDIR}")
configure_file(cmake/sdie_fast.pc.in "${package}/sdie_fast.pc" @ONLY)
install(FILES "${package}/sdie_fast.pc" DESTINATION "${lib}/pkgconfig")
