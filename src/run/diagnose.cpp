#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <thread>

#include "gato/core/error.h"
#include "gato/core/excerpt.h"
#include "gato/core/text.h"
#include "gato/run/heartbeat.h"
#include "run/process_status.h"
#include "run/reach.h"

namespace gato::run {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kMaxStateBytes = uint64_t{64} << 10;

/// What one look at another process shows. From `kCertain` down to kFailed it needs no second look.
enum class Verdict { kFailed, kDied, kStopped, kOutOfReach, kCertain, kStill, kBusy, kAbsent, kPeer, kWaits };

struct Other {
  int64_t rank = 0;
  std::optional<RankState> first, last;
  Verdict verdict = Verdict::kAbsent;
  std::string why;  ///< After "rank 3 (gpu-b, process 4711) ".
};

std::optional<RankState> read_state(const HeartbeatOptions& own, int64_t rank) {
  const Path path = rank_state_path(own.folder, rank);
  try {
    RankState state = parse_rank_state(read_file(path, kMaxStateBytes), path.string());
    if (state.run_attempt == own.run_attempt && state.rank == rank) return state;
  } catch (const Error&) {  // missing, or being replaced on a disk that does so in two steps
  }
  return std::nullopt;
}

std::string place_of(const RankState& state) {
  return cat("rank ", state.rank, " (", state.host, ", process ", state.process, ")");
}

/// "at step 12, in 'waiting for data' for 61 s"
std::string doing(const RankState& state) {
  return cat(state.step > 0 ? cat("at step ", state.step, ", ") : std::string(), "in '", excerpt(state.activity),
             "' for ", format_seconds(state.activity_seconds));
}

/// One process's inquiry after all others.
class Inquiry {
 public:
  Inquiry(const HeartbeatOptions& own, double patience) : own_(own), patience_(patience), machine_(machine_name()) {
    for (int64_t rank = 0; rank < own.size; ++rank) {
      if (rank != own.rank) others_.push_back({rank, {}, {}, Verdict::kAbsent, {}});
    }
  }

  Diagnosis run() {
    constexpr double kPoll = 0.25;
    // Many processes that look for many: what they read together stays bounded.
    const double pause = std::max(kPoll, static_cast<double>(own_.size) * 0.01);
    const auto begin = Clock::now();
    for (;;) {
      look();
      const double elapsed = std::chrono::duration<double>(Clock::now() - begin).count();
      if (is_clear(elapsed) || elapsed >= patience_) break;
      std::this_thread::sleep_for(std::chrono::duration<double>(std::min(pause, patience_ - elapsed)));
    }
    judge_by_time();
    return report();
  }

 private:
  void look() {
    for (Other& other : others_) {
      if (other.verdict > Verdict::kCertain) look_at(other);
    }
    try_sockets();
  }

  void look_at(Other& other) {
    auto state = read_state(own_, other.rank);
    if (!state) return;
    if (!other.first) other.first = state;
    other.last = state;
    other.verdict = Verdict::kWaits;
    if (told(other)) return;
    if (state->machine != machine_ || machine_.empty()) return;
    const auto status = process_status(state->process);
    if (process_life(state->process, state->process_start) == ProcessLife::kEnded) {
      state = read_state(own_, other.rank);  // its last word may have come since
      if (state) other.last = state;
      if (!told(other)) set(other, Verdict::kDied, "died without a word (killed?)");
    } else if (status && (status->state == 'T' || status->state == 't')) {
      set(other, Verdict::kStopped, "is stopped (SIGSTOP or a debugger)");
    }
  }

  /// Takes what the process itself said of its end.
  static bool told(Other& other) {
    const RankState& state = *other.last;
    if (state.end == RankEnd::kRunning) return false;
    const std::string message = excerpt(state.message, 600);
    if (state.end == RankEnd::kFailed) set(other, Verdict::kFailed, cat("failed: ", message));
    if (state.end == RankEnd::kDone) set(other, Verdict::kFailed, "has ended while others still work");
    if (state.end == RankEnd::kPeer) set(other, Verdict::kPeer, message);
    return true;
  }

  static void set(Other& other, Verdict verdict, std::string why) {
    other.verdict = verdict;
    other.why = std::move(why);
  }

  /// Each once: who is reached once is alive, and the rest is told by the state's file.
  void try_sockets() {
    constexpr double kSeconds = 2;
    std::vector<Place> places;
    std::vector<Other*> whose;
    for (Other& other : others_) {
      const bool worth = other.verdict > Verdict::kCertain && other.verdict != Verdict::kPeer && other.last &&
                         !other.last->address.empty() && tried_.insert(other.rank).second;
      if (!worth) continue;
      places.push_back({other.last->address, other.last->port});
      whose.push_back(&other);
    }
    const std::vector<Reach> reached = try_to_reach(places, kSeconds);
    for (size_t i = 0; i < reached.size(); ++i) {
      const std::string where = cat(places[i].address, ", port ", places[i].port);
      if (reached[i] == Reach::kSilent) {
        set(*whose[i], Verdict::kOutOfReach, cat("cannot be reached over the network (", where, ")"));
      } else if (reached[i] == Reach::kRefused) {
        if (const auto state = read_state(own_, whose[i]->rank)) whose[i]->last = state;
        if (!told(*whose[i])) {
          set(*whose[i], Verdict::kDied, cat("died without a word (", where, " refuses connections)"));
        }
      }
    }
  }

  [[nodiscard]] bool is_clear(double elapsed) const {
    constexpr double kSettled = 1.0;  // others may still be writing what they found
    const auto certain = [](const Other& other) { return other.verdict < Verdict::kCertain; };
    const auto peer = [](const Other& other) { return other.verdict == Verdict::kPeer; };
    return std::any_of(others_.begin(), others_.end(), certain) ||
           (elapsed >= kSettled && std::all_of(others_.begin(), others_.end(), peer));
  }

  /// What only waiting shows. Called when the patience is at its end.
  void judge_by_time() {
    constexpr double kLongEnough = 5;
    for (Other& other : others_) {
      if (!other.last) {
        set(other, Verdict::kAbsent, cat("has not written ", rank_state_path(own_.folder, other.rank).string()));
      } else if (other.verdict == Verdict::kWaits && other.last->beat == other.first->beat &&
                 patience_ >= 3 * own_.interval) {
        set(other, Verdict::kStill,
            cat("has given no sign of life for ", format_seconds(patience_), " (stopped, or its host is)"));
      } else if (other.verdict == Verdict::kWaits && !other.last->is_exchange &&
                 other.last->activity_seconds >= kLongEnough) {
        set(other, Verdict::kBusy, "is alive but does not come");
      }
    }
  }

  [[nodiscard]] Diagnosis report() const {
    Diagnosis diagnosis;
    Verdict worst = Verdict::kPeer;
    for (const Other& other : others_) worst = std::min(worst, other.verdict);
    if (worst == Verdict::kPeer) {
      diagnosis.text = all_wait();
      return diagnosis;
    }
    diagnosis.is_lost = worst <= Verdict::kStill;
    std::vector<std::string> sentences;
    for (const Other& other : others_) {
      if (other.verdict != worst) continue;
      diagnosis.culprits.push_back({other.rank, other.last ? cat(place_of(*other.last), " ", other.why,
                                                                 "; its last heartbeat: ", doing(*other.last))
                                                           : cat("rank ", other.rank, " ", other.why)});
    }
    constexpr size_t kMostNamed = 8;
    for (size_t i = 0; i < std::min(kMostNamed, diagnosis.culprits.size()); ++i) {
      sentences.push_back(diagnosis.culprits[i].what);
    }
    if (diagnosis.culprits.size() > kMostNamed) {
      sentences.push_back(cat("and ", diagnosis.culprits.size() - kMostNamed, " more ranks likewise"));
    }
    diagnosis.text = join(sentences, "; ");
    return diagnosis;
  }

  /// Nobody to blame. Others may have found more.
  [[nodiscard]] std::string all_wait() const {
    for (const Other& other : others_) {
      if (other.verdict == Verdict::kPeer) return cat(place_of(*other.last), " gave up before: ", other.why);
    }
    return "every process is alive, can be reached and waits for the others: the network between them is the likely "
           "culprit";
  }

  const HeartbeatOptions& own_;
  double patience_;
  std::string machine_;
  std::vector<Other> others_;
  std::set<int64_t> tried_;
};

}  // namespace

Diagnosis diagnose(const HeartbeatOptions& own, double patience_seconds) noexcept {
  try {
    return Inquiry(own, patience_seconds).run();
  } catch (const std::exception& error) {
    return {false, {}, cat("who is to blame could not be found out: ", error.what())};
  }
}

}  // namespace gato::run
