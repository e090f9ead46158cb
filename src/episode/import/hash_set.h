#pragma once
#include <cstdint>
#include <vector>

namespace gato::episode {

/// A set of 64-bit hashes in one flat table: 11 to 22 bytes per entry, so a hundred million episodes fit in memory.
class HashSet {
 public:
  /// Whether it was new.
  bool insert(uint64_t hash) {
    if (hash == 0) {  // marks a free place
      const bool is_new = !has_zero_;
      has_zero_ = true;
      return is_new;
    }
    if ((count_ + 1) * 4 > table_.size() * 3) grow();
    if (!place(hash)) return false;
    ++count_;
    return true;
  }

 private:
  bool place(uint64_t hash) {
    const size_t mask = table_.size() - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
      if (table_[i] == hash) return false;
      if (table_[i] == 0) {
        table_[i] = hash;
        return true;
      }
    }
  }

  void grow() {
    std::vector<uint64_t> old(table_.empty() ? 1024 : table_.size() * 2);
    old.swap(table_);
    for (const uint64_t hash : old) {
      if (hash != 0) place(hash);
    }
  }

  std::vector<uint64_t> table_;
  size_t count_ = 0;
  bool has_zero_ = false;
};

}  // namespace gato::episode
