#include "import_program.h"

namespace gato::cli {

ImportCommand minari_import() {
  return program_import(
      {.name = "minari",
       .description = "Minari data sets (HDF5, Arrow, Parquet), by the official library (tools/setup --import)",
       .sources_help = "Id of a data set below $MINARI_DATASETS_PATH, or its folder",
       .script = "minari_to_stream.py",
       .options = {{"--task", "Task id; default: minari/ and the data set's id"},
                   {"--bounds", "FIELD=LOW:HIGH for a field without bounds, such as actions=-1:1; repeatable", true},
                   {"--ignore", "FIELD to leave out, such as observations/goal; repeatable", true},
                   {"--success-key", "Entry of the infos that says success"},
                   {"--success-when", "last (default) or any: which step's entry counts"},
                   {"--source-agent", "Who acted; default: the data set's algorithm"}}});
}

}  // namespace gato::cli
