#include "training_clock.h"

#include <chrono>
#include <utility>

namespace gato::train {

TrainingClock::TrainingClock(Seconds waited, Seconds now) : waited_(std::move(waited)), now_(std::move(now)) {
  if (!now_) {
    now_ = [] { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); };
  }
  begin_ = reading();
}

TrainingClock::Stretch TrainingClock::restart() {
  const Stretch end = reading(), begin = std::exchange(begin_, end);
  return {end.seconds - begin.seconds, end.waited - begin.waited};
}

TrainingClock::Pause::Pause(TrainingClock& clock) : clock_(clock), begin_(clock.reading()) { ++clock_.pauses_; }

TrainingClock::Pause::~Pause() {
  if (--clock_.pauses_ > 0) return;
  const Stretch end = clock_.reading();
  clock_.begin_.seconds += end.seconds - begin_.seconds;
  clock_.begin_.waited += end.waited - begin_.waited;
}

}  // namespace gato::train
