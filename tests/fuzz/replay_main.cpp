// Runs a fuzz target over stored inputs without a fuzzer, so that every build replays the corpora.
//
//   <name>_fuzz [--mutations N] FILE-OR-FOLDER...
//
// Each file is run as it is, then N times changed: cut short, one byte flipped, one run of bytes overwritten or
// repeated. The changes depend on the file's bytes alone. The name of the input that was running is printed when the
// process dies.
#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include <unistd.h>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
// A target may have this one as well, as with libFuzzer.
extern "C" __attribute__((weak)) int LLVMFuzzerInitialize(int* argc, char*** argv);

namespace {

using Bytes = std::vector<uint8_t>;

std::string running = "no input yet\n";  // Written out by the handler below; only read there.

extern "C" void name_input(int signal_number) {
  const ssize_t written = ::write(STDERR_FILENO, running.data(), running.size());
  static_cast<void>(written);
  std::signal(signal_number, SIG_DFL);
  std::raise(signal_number);
}

/// SplitMix64: enough to choose places to damage.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  size_t below(size_t bound) { return bound == 0 ? 0 : static_cast<size_t>(next() % bound); }
  uint64_t next() {
    state_ += 0x9E3779B97F4A7C15U;
    uint64_t z = state_;
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31U);
  }

 private:
  uint64_t state_;
};

uint64_t hash_of(const Bytes& bytes) {
  uint64_t hash = 0xCBF29CE484222325U;
  for (const uint8_t byte : bytes) {
    hash = (hash ^ byte) * 0x100000001B3U;
  }
  return hash;
}

Bytes mutated(const Bytes& original, Random& random) {
  Bytes bytes = original;
  const size_t begin = random.below(bytes.size());
  const size_t count = 1 + random.below(8);
  switch (random.below(4)) {
    case 0:
      bytes.resize(begin);
      break;
    case 1:
      bytes[begin] = static_cast<uint8_t>(bytes[begin] ^ (1U << random.below(8)));
      break;
    case 2:
      for (size_t i = begin; i < bytes.size() && i < begin + count; ++i) {
        bytes[i] = random.below(2) == 0 ? uint8_t{0xFF} : static_cast<uint8_t>(random.next());
      }
      break;
    default:
      bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(begin),
                   original.begin() + static_cast<std::ptrdiff_t>(begin), original.end());
      break;
  }
  return bytes;
}

void run(const Bytes& bytes, const std::string& description) {
  running = "while running " + description + "\n";
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

void replay(const std::filesystem::path& path, int num_mutations) {
  std::ifstream file(path, std::ios::binary);
  const Bytes bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file) {
    throw std::runtime_error("cannot read " + path.string());
  }
  run(bytes, path.string());
  if (bytes.empty()) {
    return;
  }
  Random random(hash_of(bytes));
  for (int i = 0; i < num_mutations; ++i) {
    run(mutated(bytes, random), path.string() + ", mutation " + std::to_string(i));
  }
}

std::vector<std::filesystem::path> inputs_of(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) {
    return {path};
  }
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
    if (entry.is_regular_file()) {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

int replay_all(const std::vector<std::string>& arguments) {
  int num_mutations = 200;
  int num_inputs = 0;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--mutations" && i + 1 < arguments.size()) {
      num_mutations = std::stoi(arguments[++i]);
      continue;
    }
    for (const auto& input : inputs_of(arguments[i])) {
      replay(input, num_mutations);
      ++num_inputs;
    }
  }
  if (num_inputs == 0) {
    std::fprintf(stderr, "no input: name files or folders\n");
    return 1;
  }
  std::printf("%d inputs, each with %d mutations\n", num_inputs, num_mutations);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  for (const int signal_number : {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL}) {
    std::signal(signal_number, name_input);
  }
  try {
    if (LLVMFuzzerInitialize != nullptr) {
      LLVMFuzzerInitialize(&argc, &argv);
    }
    return replay_all(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& error) {
    // An exception that leaves the target is a finding as well.
    std::fprintf(stderr, "%s%s\n", running.c_str(), error.what());
    return 1;
  }
}
