#include <iostream>

#include "ckpt_paths.h"
#include "ckpt_verbs.h"
#include "export_checkpoint.h"
#include "gato/core/text.h"
#include "program.h"

namespace gato::cli {

CkptVerb add_ckpt_export(CLI::App& app) {
  struct Arguments {
    std::string path, out, name, type = "fp32", run;
    double max_file_gib = 5;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* verb = app.add_subcommand(
      "export", "Write the weights for other programs: config.json, model.safetensors, tokenizer, model card");
  verb->add_option("path", arguments->path, "Checkpoint, or run folder for its newest one")
      ->required()
      ->check(CLI::ExistingDirectory);
  verb->add_option("--out", arguments->out, "New folder")->required();
  verb->add_option("--name", arguments->name, "Of the model, on its card; default: the run folder's name and step");
  verb->add_option("--weights", arguments->type, "fp32, or bf16: half the size, rounded to nearest")
      ->check(CLI::IsMember({"fp32", "bf16"}));
  verb->add_option("--max-file-gib", arguments->max_file_gib, "Above it the weights are several files with an index")
      ->check(CLI::Range(1e-6, 1e6));
  verb->add_option("--run", arguments->run, "Run folder whose scores go on the card; default: the checkpoint's own")
      ->check(CLI::ExistingDirectory);
  return [verb, arguments] {
    if (!verb->parsed()) return -1;
    ExportOptions options;
    options.out = arguments->out;
    options.name = arguments->name;
    options.bf16 = arguments->type == "bf16";
    options.max_file_bytes = static_cast<uint64_t>(arguments->max_file_gib * static_cast<double>(uint64_t{1} << 30));
    options.run = arguments->run;
    const checkpoint::CheckpointInfo checkpoint = find_checkpoint(arguments->path);
    const auto names = export_checkpoint(checkpoint, options);
    std::cout << checkpoint.path.string() << " is exported to " << arguments->out << ": " << join(names, ", ") << "\n";
    return static_cast<int>(kDone);
  };
}

}  // namespace gato::cli
