# winnow::winnow, the library of all layers, for this build tree (add_subdirectory) and for find_package(winnow).
# It is linked whole: a linker that picks members would drop the registrations of the operators.

get_property(_built GLOBAL PROPERTY WINNOW_BUILT_LAYERS)
add_library(winnow_archive STATIC)
foreach(_layer IN LISTS _built)
  target_sources(winnow_archive PRIVATE $<TARGET_OBJECTS:winnow_${_layer}>)
endforeach()
set_target_properties(winnow_archive PROPERTIES OUTPUT_NAME winnow EXPORT_NAME archive LINKER_LANGUAGE CXX)
target_include_directories(winnow_archive INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(winnow_archive INTERFACE cxx_std_20)

set(WINNOW_LINK_LIBRARIES LibTorch::cpu fmt::fmt spdlog::spdlog yaml-cpp nlohmann_json::nlohmann_json PNG::PNG JPEG::JPEG ZLIB::ZLIB
    PkgConfig::HWY PkgConfig::UTF8PROC Threads::Threads Eigen3::Eigen)
if(WINNOW_WITH_CUDA)
  list(APPEND WINNOW_LINK_LIBRARIES LibTorch::cuda CUDA::cudart)
endif()
add_library(winnow_whole INTERFACE)
target_link_libraries(winnow_whole INTERFACE "$<LINK_LIBRARY:WHOLE_ARCHIVE,winnow_archive>" ${WINNOW_LINK_LIBRARIES})
add_library(winnow::winnow ALIAS winnow_whole)

include(CMakePackageConfigHelpers)
set(_package "${CMAKE_INSTALL_LIBDIR}/cmake/winnow")
configure_package_config_file(cmake/winnowConfig.cmake.in "${PROJECT_BINARY_DIR}/winnowConfig.cmake" INSTALL_DESTINATION "${_package}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/winnowConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(TARGETS winnow_archive EXPORT winnowTargets ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(EXPORT winnowTargets NAMESPACE winnow:: DESTINATION "${_package}")
install(DIRECTORY include/winnow DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.h")
install(FILES "${PROJECT_BINARY_DIR}/winnowConfig.cmake" "${PROJECT_BINARY_DIR}/winnowConfigVersion.cmake"
        "${PROJECT_SOURCE_DIR}/cmake/FindLibTorch.cmake" DESTINATION "${_package}")
