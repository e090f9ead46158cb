#pragma once
#include <functional>

namespace gato::train {

/// Times one stretch of training after the other, without what is not training: a validation or a save, however long
/// and whoever waits for whom in it. So tokens per second, and who is slow, are of training alone. One thread.
class TrainingClock {
 public:
  using Seconds = std::function<double()>;
  /// `waited`: seconds that this process has waited for others so far. `now`: of a steady clock; the system's unless
  /// given.
  explicit TrainingClock(Seconds waited, Seconds now = {});

  struct Stretch {
    double seconds = 0, waited = 0;
  };
  /// What has passed since the last call, or since the beginning; the next stretch begins.
  Stretch restart();

  /// While it lives nothing counts. One inside another does nothing.
  class Pause {
   public:
    explicit Pause(TrainingClock& clock);
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;
    ~Pause();

   private:
    TrainingClock& clock_;
    Stretch begin_;
  };

 private:
  [[nodiscard]] Stretch reading() const { return {now_(), waited_()}; }

  Seconds waited_, now_;
  Stretch begin_;
  int pauses_ = 0;
};

}  // namespace gato::train
