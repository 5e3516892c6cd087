// Runs a fixed list of small tasks on several threads: policy, no arithmetic.
//
// Tasks are listed in an order in which every task comes after those it waits for, and dealt to
// queues by the part of the image that they work on. A thread takes the first task of its own
// queue, whose data are in its core's caches, and where that is not ready the earliest task of all
// queues: so it waits only for tasks that threads are already working on, or that are the first of
// a queue whose own thread gets to it. No barriers; when another process takes a core away, the
// other threads do its share, and only the tasks that truly need the delayed one wait for it.
//
// No deadlock: say all threads waited, and M were the earliest task taken. It waits for a task that
// is not taken, Y, earlier than M. What a thread takes is never later than the first of its own
// queue, so the thread whose queue has Y holds a task earlier than Y: then M is not the earliest.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace esrgan::cpu {

// Words that the caller and the running network share. Each may be null.
struct Control {
  const std::atomic<std::int64_t>* cancel = nullptr;  // non-zero: stop soon
  std::atomic<std::int64_t>* work = nullptr;          // grows by the cost of each finished task
  std::atomic<std::int64_t>* rows = nullptr;          // output rows finished from the top
  std::atomic<std::int64_t>* total = nullptr;         // set to the cost of all tasks
};

struct Task {
  int stage;
  int group;  // of tile rows
  int part;   // of the group's tiles
};

// Groups first..last, inclusive, of `stages` stages from `stage` on, `stride` apart, which have
// equally many groups. The range may be empty and may reach outside of the stages' groups, where
// nothing is waited for.
struct Wait {
  int stage, first, last, stages, stride;
};

struct Waits {
  // Inputs, two seams, a ring slot, and the groups of a growth map over a block boundary; or
  // inputs, a ring slot and three groups of a growth map, where each is a block of its own.
  static constexpr int kMax = 6;
  Wait list[kMax];
  int count = 0;
  void add(int stage, int first, int last, int stages = 1, int stride = 1) {
    list[count++] = {stage, first, last, stages, stride};
  }
};

// A network whose work is cut into the tasks of a Schedule: what each waits for, does and costs.
class ScheduledWork {
 public:
  virtual ~ScheduledWork() = default;
  // What every part of a stage's group needs finished: its inputs, and the readers of whatever
  // its output overwrites.
  virtual Waits waits(int stage, int group) const = 0;
  virtual void run(const Task& task, int thread) = 0;
  virtual std::int64_t cost(const Task& task) const = 0;
  virtual void finished(int /*stage*/, int /*groups_from_the_top*/, const Control&) {}
};

// The queue that a part of a group goes to: neighbouring parts to one, also where a stage has more
// parts than another.
inline int queue_of(int part, int parts, int queues) {
  return static_cast<int>(static_cast<std::int64_t>(part) * queues / parts);
}

class Schedule {
 public:
  // Returns the stage's number; each of its groups consists of `parts` tasks.
  int add_stage(int groups, int parts);
  // Hands out all parts of a group next.
  void append(int stage, int group);
  // Deals the tasks to this many queues (or one a thread, if there are fewer threads).
  void split(int queues) { queues_ = queues; }
  // Finished groups of this stage are announced to ScheduledWork::finished in order.
  void announce(int stage) { announced_stage_ = stage; }
  int groups(int stage) const { return stages_[stage].groups; }
  int parts(int stage) const { return stages_[stage].parts; }

  // False when cancelled. Uses the calling thread and up to threads - 1 others, which end with
  // the call: nothing survives a fork, and callers in several threads do not meet.
  bool run(ScheduledWork& work, int threads, const Control& control);

 private:
  struct Stage {
    int groups, parts, first_counter;
  };
  // Whether every task comes after those it waits for; asserted in debug builds.
  bool order_is_valid(const ScheduledWork& work) const;
  struct Queue {
    std::vector<int> tasks;  // ascending
    std::atomic<std::size_t> taken{0};
  };
  // The first task of a queue that is not taken, if there is one.
  struct Head {
    Queue* queue;
    std::size_t position;
    int task;
  };
  Head head(int queue) const;
  void deal(int threads);
  void worker(ScheduledWork& work, int thread, const Control& control);
  // The next task for a thread; none when all are taken, or cancelled.
  const Task* take(const ScheduledWork& work, int thread, const Control& control);
  bool take(const Head& head);
  // Calls done(group counter, parts) until it returns false, which it returns then.
  template <class Done>
  bool all_of(const Waits& waits, const Done& done) const;
  bool ready(const Waits& waits) const;
  void sleep_until_ready(const Waits& waits, const Control& control);
  void complete(ScheduledWork& work, const Task& task, const Control& control);
  void stop();
  bool cancelled(const Control& control);

  std::vector<Stage> stages_;
  std::vector<Task> tasks_;
  int counters_ = 0;
  int announced_stage_ = -1;

  std::unique_ptr<std::atomic<int>[]> done_;  // finished parts of each group
  std::unique_ptr<Queue[]> dealt_;
  int queues_ = 1, dealt_queues_ = 0;
  std::atomic<bool> stopped_{false};
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::mutex announce_mutex_;
  int announced_ = 0;
};

}  // namespace esrgan::cpu
