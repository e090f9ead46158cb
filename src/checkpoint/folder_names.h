#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "gato/core/file.h"

/// Names inside the folder `checkpoints` other than `step-N` and `latest`.
namespace gato::checkpoint {

inline constexpr std::string_view kLatestName = "latest";
inline constexpr std::string_view kUnfinishedMark = ".tmp-";   ///< step-N.tmp-PROCESS: being written.
inline constexpr std::string_view kDeletedMark = ".deleted-";  ///< step-N.deleted-PROCESS: being deleted.
inline constexpr std::string_view kReplacedMark =
    ".replaced";                                               ///< step-N.replaced: valid, a new step-N is being named.
inline constexpr std::string_view kDamagedMark = ".damaged-";  ///< step-N.damaged-K: kept aside, never touched again.

/// Whether the process that process_tag() named still runs on this machine. Anything that is no tag is of no process.
[[nodiscard]] bool is_running(std::string_view tag);

/// A name in `folder` that is not taken: `stem`, `mark`, process_tag(), and a number where that is needed.
[[nodiscard]] Path free_name(const Path& folder, std::string_view stem, std::string_view mark);

/// Renames the folder or link at `path` so that it is no longer taken for what it was, then deletes it with all it
/// holds.
void delete_tree(const Path& path);

/// Ends the replacement of the checkpoint at `path`, finished or cut short: where there is no `path`, path.replaced
/// gets the name back; otherwise it is deleted if it is valid, and kept as path.damaged-K if it is not. Nothing to do
/// is no error. Returns whether something was deleted.
bool settle_replaced(const Path& path);

/// `path`.damaged-K with the lowest K from 1 that is not taken.
[[nodiscard]] Path free_damaged_name(const Path& path);

/// Makes `link` a symbolic link to `target`, in one step when another link has the name.
void replace_link(const Path& link, const std::string& target);

}  // namespace gato::checkpoint
