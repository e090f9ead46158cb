#include <charconv>

#include "gato/core/error.h"
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
            verb.add_option("--caption", options->caption, "Member with the caption, or json:KEY");
            verb.add_option("--question", options->question,
                            "Questions instead of captions: member, json:KEY, or json:LIST[].KEY for several");
            verb.add_option("--answer", options->answer, "Answers, as --question");
            verb.add_option("--resize", *size, "HEIGHTxWIDTH of the stored pictures, or none (see docs/importing.md)");
            verb.add_option("--task", options->task, "Task id; default: pictures/ and the data set's name");
            return [options, size](const std::vector<std::string>& sources, episode::DatasetInfo& info) {
              episode::WebDatasetImport chosen = *options;
              const ImageSize image = parse_image_size(*size);
              chosen.height = image.height;
              chosen.width = image.width;
              chosen.licence = info.licence;
              if (chosen.task.empty()) {
                chosen.task = info.name.find('/') == std::string::npos ? "pictures/" + info.name : info.name;
              }
              return episode::webdataset_format({sources.begin(), sources.end()}, chosen);
            };
          }};
}

ImageSize parse_image_size(const std::string& text) {
  if (text == "none") return {};
  ImageSize size;
  const char* end = text.data() + text.size();
  const auto height = std::from_chars(text.data(), end, size.height);
  const bool divided = height.ec == std::errc{} && height.ptr != end && *height.ptr == 'x';
  const auto width = divided ? std::from_chars(height.ptr + 1, end, size.width) : height;
  if (!divided || width.ec != std::errc{} || width.ptr != end || size.height < 1 || size.width < 1 ||
      size.height > 16384 || size.width > 16384) {
    throw ConfigError(cat("--resize ", text, ": must be HEIGHTxWIDTH such as 64x64, or none"));
  }
  return size;
}

}  // namespace gato::cli
