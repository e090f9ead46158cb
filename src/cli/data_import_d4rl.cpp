#include "import_program.h"

namespace gato::cli {

ImportCommand d4rl_import() {
  return program_import({.name = "d4rl",
                         .description = "D4RL data sets (an HDF5 file), by h5py (tools/setup --import)",
                         .sources_help = "HDF5 file",
                         .script = "d4rl_to_stream.py",
                         .options = {{"--task", "Task id; default: d4rl/ and the file's name"},
                                     {"--bounds", "FIELD=LOW:HIGH: actions=-1:1 is needed; repeatable", true},
                                     {"--max-steps", "The environment's limit of steps; default unknown"},
                                     {"--source-agent", "Who acted; default: d4rl"}}});
}

}  // namespace gato::cli
