#include "episode/import/source_files.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <system_error>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

namespace fs = std::filesystem;

bool is_hidden(const Path& path) { return path.filename().string().starts_with('.'); }

std::vector<SourceFile> files_below(const Path& folder, const std::function<bool(std::string_view)>& fits) {
  std::vector<SourceFile> files;
  std::error_code error;
  fs::recursive_directory_iterator entries(folder, error), end;
  for (; !error && entries != end; entries.increment(error)) {
    if (is_hidden(entries->path())) {
      entries.disable_recursion_pending();
    } else if (entries->is_regular_file() && fits(entries->path().filename().string())) {
      files.push_back({entries->path(), {entries->path().lexically_relative(folder).generic_string(), 0}});
    }
  }
  if (error) throw IoError(cat(folder.string(), ": cannot be listed: ", error.message()), error.value());
  std::sort(files.begin(), files.end(),
            [](const SourceFile& a, const SourceFile& b) { return a.unit.name < b.unit.name; });
  return files;
}

/// Two sources may have files of one name: these get the whole path as it was given.
void make_names_unique(std::vector<SourceFile>& files) {
  std::map<std::string, int> uses;
  for (const SourceFile& file : files) ++uses[file.unit.name];
  for (SourceFile& file : files) {
    if (uses[file.unit.name] > 1) file.unit.name = file.path.lexically_normal().generic_string();
  }
}

}  // namespace

std::vector<SourceFile> find_source_files(const std::vector<Path>& sources,
                                          const std::function<bool(std::string_view name)>& fits,
                                          std::string_view what) {
  std::vector<SourceFile> files;
  for (const Path& source : sources) {
    std::error_code error;
    const auto status = fs::status(source, error);
    if (fs::is_directory(status)) {
      std::vector<SourceFile> found = files_below(source, fits);
      if (found.empty()) throw ConfigError(cat(source.string(), ": the folder holds no file named ", what));
      std::move(found.begin(), found.end(), std::back_inserter(files));
    } else if (fs::is_regular_file(status)) {
      files.push_back({source, {source.filename().generic_string(), 0}});
    } else {
      throw ConfigError(cat(source.string(), ": no such file or folder"));
    }
  }
  for (SourceFile& file : files) {
    std::error_code error;
    file.unit.bytes = fs::file_size(file.path, error);
    if (error) throw IoError(cat(file.path.string(), ": cannot be read: ", error.message()), error.value());
    if (!is_valid_utf8(file.unit.name)) {
      throw ConfigError(cat(file.path.parent_path().string(),
                            ": holds a file whose name is not valid UTF-8; rename it, for episode ids are made of it"));
    }
  }
  make_names_unique(files);
  return files;
}

std::vector<ImportUnit> units_of(const std::vector<SourceFile>& files) {
  std::vector<ImportUnit> units;
  for (const SourceFile& file : files) units.push_back(file.unit);
  return units;
}

}  // namespace gato::episode
