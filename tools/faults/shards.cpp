// The campaign against shards; tools/faults/checkpoints shards runs it.
//
//   faults_shards flips FOLDER [EVERY]   one bit of every (EVERY-th) byte of a shard of more than 1 MB flipped, one
//   after
//                                        the other
//   faults_shards cuts FOLDER [EVERY]    the same shard cut at every (EVERY-th) length
//
// Prints figures on lines `figure NAME VALUE UNIT`, and exits with 1 when damage was not found or its place not named.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <iostream>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/core/text.h"
#include "gato/episode/shard.h"

namespace {

using namespace gato;
using namespace gato::episode;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kBlockBytes = 65536;
constexpr uint64_t kLeastBytes = 1'000'000;
constexpr int32_t kImageSide = 24;

/// A finding that makes the campaign fail.
class Finding : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

void figure(const std::string& name, double value, const char* unit) {
  std::cout << "figure shard_faults/" << name << " " << value << " " << unit << "\n";
}

FieldSpec field(const char* name, Modality modality, std::vector<int64_t> shape) {
  FieldSpec spec;
  spec.name = name;
  spec.modality = modality;
  spec.shape = std::move(shape);
  if (modality == Modality::kImage) spec.codec = ImageCodec::kPng;
  if (modality == Modality::kDiscrete) spec.num_values = 1000;
  if (modality == Modality::kContinuous) spec.low = {-1}, spec.high = {1};
  return spec;
}

TaskSpec task_of_every_modality() {
  TaskSpec task;
  task.id = "faults/every_modality";
  task.description = "A field of every modality.";
  task.observation = {field("state", Modality::kContinuous, {16}), field("mission", Modality::kText, {}),
                      field("camera", Modality::kImage, {kImageSide, kImageSide, 3}),
                      field("board", Modality::kDiscrete, {8})};
  task.action = {field("torque", Modality::kContinuous, {4}), field("button", Modality::kDiscrete, {})};
  return task;
}

void add_step(const FieldSpec& spec, Rng& random, Column& column) {
  switch (spec.modality) {
    case Modality::kContinuous:
      for (int64_t i = 0; i < spec.num_elements(); ++i) {
        column.continuous.push_back(static_cast<float>(random.uniform(-1, 1)));
      }
      break;
    case Modality::kDiscrete:
      for (int64_t i = 0; i < spec.num_elements(); ++i) {
        column.discrete.push_back(static_cast<int32_t>(random.below(1000)));
      }
      break;
    case Modality::kText:
      column.text.push_back(cat("bring block ", random.below(1000), " to place ", random.below(1000)));
      break;
    case Modality::kImage:
      Image image{kImageSide, kImageSide, {}};
      for (int64_t i = 0; i < spec.num_elements(); ++i) image.pixels.push_back(static_cast<uint8_t>(random.below(256)));
      column.images.push_back(std::move(image));
      break;
  }
}

Episode episode_of(const TaskSpec& task, uint64_t number) {
  Rng random(mix_seed(number, {hash_name("faults/shards")}));
  Episode episode;
  episode.id = cat("episode/", number);
  episode.num_steps = 20;
  episode.observation.resize(task.observation.size());
  episode.action.resize(task.action.size());
  for (int64_t step = 0; step < episode.num_steps; ++step) {
    for (size_t i = 0; i < task.observation.size(); ++i) add_step(task.observation[i], random, episode.observation[i]);
    for (size_t i = 0; i < task.action.size(); ++i) add_step(task.action[i], random, episode.action[i]);
  }
  return episode;
}

std::string write_shard(const Path& path) {
  const TaskSpec task = task_of_every_modality();
  ShardWriter writer(path, {"faults", "Made to be damaged.", "CC0-1.0", "tools/faults/shards"}, {task});
  for (uint64_t number = 0; writer.bytes() < kLeastBytes; ++number) writer.add(0, episode_of(task, number));
  writer.finish();
  return read_file(path);
}

/// What is said about the file: of opening it where that fails, else of its blocks.
std::string told(const Path& path) {
  try {
    const std::vector<ShardDamage> damages = ShardReader(path).verify();
    return damages.empty() ? "" : damages[0].message;
  } catch (const DataError& error) {
    return error.what();
  }
}

/// The byte at `offset` is wrong: the message must name the file and a place no further than the block, the header, the
/// footer or the trailer that holds it.
void check_flip(const Path& path, uint64_t offset) {
  const std::string message = told(path);
  const std::string before = cat(path.string(), ", offset ");
  if (!message.starts_with(before)) throw Finding(cat("byte ", offset, ": not found or not named: \"", message, "\""));
  uint64_t named = 0;
  std::from_chars(message.data() + before.size(), message.data() + message.size(), named);
  if (named > offset && named - offset > kBlockBytes) throw Finding(cat("byte ", offset, " is said to be at ", named));
}

void put_byte(int descriptor, uint64_t offset, unsigned char byte) {
  if (::pwrite(descriptor, &byte, 1, static_cast<off_t>(offset)) != 1) throw IoError("cannot write a byte", errno);
}

void flips(const Path& path, uint64_t every) {
  const std::string content = write_shard(path);
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) throw IoError(cat("cannot open ", path.string()), errno);
  uint64_t flipped = 0;
  for (uint64_t offset = 0; offset < content.size(); offset += every) {
    const auto byte = static_cast<unsigned char>(content[offset]);
    // One bit, each in its turn: the hardest to see.
    put_byte(descriptor, offset, static_cast<unsigned char>(byte ^ (1U << (offset % 8))));
    check_flip(path, offset);
    put_byte(descriptor, offset, byte);
    if (++flipped % 100'000 == 0) std::cout << flipped << " flips" << std::endl;
  }
  ::close(descriptor);
  if (!told(path).empty()) throw Finding("the shard was not put back");
  figure("flips/shard_bytes", static_cast<double>(content.size()), "bytes");
  figure("flips", static_cast<double>(flipped), "flips");
  figure("flips/missed", 0, "flips");
}

void cuts(const Path& path, uint64_t every) {
  const uint64_t size = write_shard(path).size();
  uint64_t done = 0;
  for (uint64_t length = size - 1; length >= every; length -= every, ++done) {
    fs::resize_file(path, length);
    const std::string message = told(path);
    if (!message.starts_with(cat(path.string(), ", offset "))) {
      throw Finding(cat("cut to ", length, ": not found or not named: \"", message, "\""));
    }
  }
  figure("cuts", static_cast<double>(done), "cuts");
  figure("cuts/missed", 0, "cuts");
}

uint64_t number_of(const std::string& word) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size() || value == 0) {
    throw ConfigError(cat('"', word, "\" is no whole number above 0"));
  }
  return value;
}

void run(const std::vector<std::string>& arguments) {
  if (arguments.size() < 2 || arguments.size() > 3 || (arguments[0] != "flips" && arguments[0] != "cuts")) {
    throw ConfigError("usage: faults_shards flips|cuts FOLDER [EVERY]");
  }
  const Path folder = arguments[1];
  fs::create_directories(folder);
  const uint64_t every = arguments.size() == 3 ? number_of(arguments[2]) : 1;
  const auto begin = Clock::now();
  arguments[0] == "flips" ? flips(folder / "a.gato", every) : cuts(folder / "a.gato", every);
  figure(cat(arguments[0], "/seconds"), std::chrono::duration<double>(Clock::now() - begin).count(), "s");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run({argv + 1, argv + argc});
    return 0;
  } catch (const Finding& finding) {
    std::cout << "FOUND: " << finding.what() << "\n";
    return 1;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 2;
  }
}
