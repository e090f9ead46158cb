# Finds the static SentencePiece libraries that tools/setup builds and makes the imported targets
#   GatoSentencePiece::sentencepiece        encode and decode
#   GatoSentencePiece::sentencepiece_train  the trainer (brings the former)
# Both use the distribution's protobuf (protobuf::libprotobuf-lite or the full one, which holds the lite one).
#
# Input:  GATO_SENTENCEPIECE_DIR  folder with include/ and lib/
#         GATO_DEPS_DIR           folder made by tools/setup; its sentencepiece/ is used otherwise
include("${CMAKE_CURRENT_LIST_DIR}/GatoDepsDir.cmake")

set(_gato_spm "${GATO_SENTENCEPIECE_DIR}")
if(NOT _gato_spm)
  set(_gato_spm "${GATO_DEPS_DIR}/sentencepiece")
endif()

set(GatoSentencePiece_FOUND FALSE)
if(EXISTS "${_gato_spm}/lib/libsentencepiece_train.a" AND EXISTS "${_gato_spm}/include/sentencepiece_processor.h")
  set(GatoSentencePiece_FOUND TRUE)
elseif(GatoSentencePiece_FIND_REQUIRED)
  message(FATAL_ERROR "SentencePiece was not found in '${_gato_spm}': run tools/setup, or set GATO_DEPS_DIR to "
                      "the folder it filled or GATO_SENTENCEPIECE_DIR to one with include/ and lib/ of SentencePiece 0.2.1.")
endif()

if(GatoSentencePiece_FOUND AND NOT TARGET GatoSentencePiece::sentencepiece)
  find_package(Threads REQUIRED)
  find_package(Protobuf REQUIRED)
  add_library(GatoSentencePiece::sentencepiece STATIC IMPORTED GLOBAL)
  set_target_properties(
    GatoSentencePiece::sentencepiece
    PROPERTIES IMPORTED_LOCATION "${_gato_spm}/lib/libsentencepiece.a"
               INTERFACE_INCLUDE_DIRECTORIES "${_gato_spm}/include"
               INTERFACE_LINK_LIBRARIES "protobuf::libprotobuf;Threads::Threads")
  add_library(GatoSentencePiece::sentencepiece_train STATIC IMPORTED GLOBAL)
  set_target_properties(
    GatoSentencePiece::sentencepiece_train
    PROPERTIES IMPORTED_LOCATION "${_gato_spm}/lib/libsentencepiece_train.a"
               INTERFACE_LINK_LIBRARIES "GatoSentencePiece::sentencepiece")
endif()
