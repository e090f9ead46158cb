#include "ckpt_verbs.h"
#include "program.h"

namespace gato::cli {
namespace {

int program(int argc, char** argv) {
  return run_program(argc, argv, "Looks at checkpoints, checks, compares, keeps, deletes and exports them.",
                     base_libraries(), [](CLI::App& app) -> std::function<int()> {
                       app.require_subcommand(1);
                       std::vector<CkptVerb> verbs;
                       for (const auto& add : {add_ckpt_list, add_ckpt_verify, add_ckpt_diff, add_ckpt_export,
                                               add_ckpt_pin, add_ckpt_prune}) {
                         verbs.push_back(add(app));
                       }
                       return [verbs] {
                         for (const CkptVerb& verb : verbs) {
                           if (const int code = verb(); code >= 0) return code;
                         }
                         return static_cast<int>(kUsage);
                       };
                     });
}

}  // namespace
}  // namespace gato::cli

int main(int argc, char** argv) { return gato::cli::program(argc, argv); }
