# octet_module(NAME [SOURCES file…] [LINKS target…])
#
# Declares the module octet/NAME as the static library octet_NAME, alias Octet::NAME. Octet's modules are ordered from
# low to high below, and a module that links one at or above its own place stops the configuration: the layers of
# ARCHITECTURE.md are enforced here. LINKS takes module names and outside targets (fmt::fmt).
include(GNUInstallDirs)  # CMAKE_INSTALL_INCLUDEDIR, below
set(OCTET_LAYERS base tensor quant io text backend nn models generate data eval optim dist ptq train integer report)

# Every warning we know to be worth an error; presets turn warnings into errors (CMAKE_COMPILE_WARNING_AS_ERROR).
# Products are contracted to fma only where the source says so: the bits must not depend on the compiler's mood.
add_library(octet_flags INTERFACE)
target_compile_options(octet_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion
                                             -ffp-contract=off)

# What most files include takes longer to read than they do. Precompiled it hides an include that is missing, which
# clang-tidy finds: the tidy preset does without.
if(OCTET_PRECOMPILED_HEADERS)
  add_library(octet_headers OBJECT ${CMAKE_CURRENT_LIST_DIR}/headers.cpp)
  target_link_libraries(octet_headers PRIVATE octet_flags fmt::fmt nlohmann_json::nlohmann_json)
  target_precompile_headers(octet_headers PRIVATE
    <algorithm> <array> <cmath> <cstdint> <filesystem> <functional> <map> <memory> <optional> <set> <span> <string>
    <string_view> <utility> <variant> <vector> <fmt/format.h> <fmt/ranges.h> <nlohmann/json.hpp>)
endif()

function(octet_module name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINKS")
  list(FIND OCTET_LAYERS ${name} place)
  if(place EQUAL -1)
    message(FATAL_ERROR "octet_module(${name}): not a layer; the layers are: ${OCTET_LAYERS}")
  endif()
  add_library(octet_${name} STATIC ${arg_SOURCES})
  add_library(Octet::${name} ALIAS octet_${name})
  set_target_properties(octet_${name} PROPERTIES EXPORT_NAME ${name})
  target_compile_features(octet_${name} PUBLIC cxx_std_20)
  target_include_directories(octet_${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
                                                  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(octet_${name} PRIVATE $<BUILD_INTERFACE:octet_flags>)
  foreach(link IN LISTS arg_LINKS)
    list(FIND OCTET_LAYERS ${link} below)
    if(below EQUAL -1)
      target_link_libraries(octet_${name} PUBLIC ${link})
    elseif(below LESS place)
      target_link_libraries(octet_${name} PUBLIC octet_${link})
    else()
      message(FATAL_ERROR "octet/${name} may not link octet/${link}: it stands above or beside it (cmake/OctetModule.cmake)")
    endif()
  endforeach()
  if(OCTET_PRECOMPILED_HEADERS)
    target_precompile_headers(octet_${name} REUSE_FROM octet_headers)
  endif()
  set_property(GLOBAL APPEND PROPERTY OCTET_MODULES octet_${name})
endfunction()
