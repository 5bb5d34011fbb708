include("${CMAKE_CURRENT_LIST_DIR}/sdie_fastTargets.cmake")
