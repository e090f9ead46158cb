#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace gato::run {

inline constexpr uint64_t kMaxBatchBytes = uint64_t{64} << 20;
inline constexpr uint64_t kMaxEventBytes = uint64_t{64} << 10;
inline constexpr const char* kJobsName = "jobs.json";
inline constexpr const char* kClosedName = "closed";
inline constexpr const char* kWorkersName = "workers";  ///< Folder beside the batches, whose names hold an '@'.

/// Whether `name` may name a worker: it becomes a file name. 1 to 120 letters, digits, "_", "-" and ".", the first not
/// a point.
[[nodiscard]] bool is_worker_name(std::string_view name);

/// "job-00007.3.json": event 3 of job 7.
[[nodiscard]] std::string event_name(size_t job, size_t event);
[[nodiscard]] std::optional<std::pair<size_t, size_t>> parse_event_name(std::string_view name);

/// "step-00001000@SUITE"
[[nodiscard]] std::string batch_name(int64_t step, const std::string& suite);

}  // namespace gato::run
