#include "gato/core/text.h"
#include "gato/episode/formats.h"
#include "import_formats.h"

namespace gato::cli {

ImportCommand webdataset_import() {
  return {.name = "webdataset",
          .description = "Pictures with captions, or with questions and answers, in WebDataset tar files",
          .sources_help = "Tar files, or folders of them",
          .add_options = [](CLI::App& verb) -> MakeFormat {
            auto options = std::make_shared<episode::WebDatasetImport>();
            auto size = std::make_shared<std::string>("64x64");
            auto codec = std::make_shared<std::string>("jpeg");
            auto images = std::make_shared<std::string>(join(options->images, ","));
            verb.add_option("--image", *images, "Members that may hold the picture; the first found counts");
            verb.add_option("--codec", *codec, "How pictures are stored; those that come so are kept byte for byte")
                ->check(CLI::IsMember({"jpeg", "png"}));
            verb.add_option("--caption", options->caption, "Member with the caption, or json:KEY");
            verb.add_option("--question", options->question,
                            "Questions instead of captions: member, json:KEY, or json:LIST[].KEY for several");
            verb.add_option("--answer", options->answer, "Answers, as --question");
            verb.add_option("--resize", *size, "HEIGHTxWIDTH of the stored pictures, or none (see docs/importing.md)");
            verb.add_option("--task", options->task, "Task id; default: pictures/ and the data set's name");
            return [options, size, codec, images](const std::vector<std::string>& sources, episode::DatasetInfo& info) {
              episode::WebDatasetImport chosen = *options;
              chosen.images = split(*images, ',');
              const ImageSize image = parse_image_size(*size);
              chosen.height = image.height;
              chosen.width = image.width;
              chosen.licence = info.licence;
              chosen.codec = *codec == "png" ? episode::ImageCodec::kPng : episode::ImageCodec::kJpeg;
              if (chosen.task.empty()) chosen.task = default_task("pictures", info);
              return episode::webdataset_format({sources.begin(), sources.end()}, chosen);
            };
          }};
}

}  // namespace gato::cli
