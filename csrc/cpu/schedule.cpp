#include "schedule.h"

#include <algorithm>
#include <cassert>
#include <chrono>

#include "parallel_for.h"

namespace esrgan::cpu {
namespace {

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A thread looks this often before it sleeps, and before it takes another queue's task. A pause
// takes 40 to 140 cycles, so about 20 us: what waking a sleeper costs, and a fraction of a task
// (100 to 300 us).
constexpr int kLooks = 500;

// Cancelling need not wake the sleepers: they look at the flag this often.
constexpr std::chrono::milliseconds kSleep{20};

}  // namespace

int Schedule::add_stage(int groups, int parts) {
  stages_.push_back({groups, parts, counters_});
  counters_ += groups;
  return static_cast<int>(stages_.size()) - 1;
}

void Schedule::append(int stage, int group) {
  for (int part = 0; part < stages_[stage].parts; ++part) tasks_.push_back({stage, group, part});
}

bool Schedule::run(ScheduledWork& work, int threads, const Control& control) {
  assert(order_is_valid(work));
  done_.reset(new std::atomic<int>[counters_]);
  for (int i = 0; i < counters_; ++i) done_[i].store(0, std::memory_order_relaxed);
  deal(threads);
  announced_ = 0;
  stopped_ = false;
  if (control.total) {
    std::int64_t total = 0;
    for (const Task& task : tasks_) total += work.cost(task);
    control.total->store(total, std::memory_order_relaxed);
  }
  on_threads(threads, [&](int thread) { worker(work, thread, control); });
  return !stopped_;
}

void Schedule::deal(int threads) {
  dealt_queues_ = std::max(1, std::min(queues_, threads));
  dealt_.reset(new Queue[dealt_queues_]);
  for (std::size_t i = 0; i < tasks_.size(); ++i) {
    const int queue = queue_of(tasks_[i].part, stages_[tasks_[i].stage].parts, dealt_queues_);
    dealt_[queue].tasks.push_back(static_cast<int>(i));
  }
}

Schedule::Head Schedule::head(int number) const {
  Queue& queue = dealt_[number];
  const std::size_t position = queue.taken.load(std::memory_order_relaxed);
  if (position >= queue.tasks.size()) return {nullptr, 0, 0};
  return {&queue, position, queue.tasks[position]};
}

bool Schedule::take(const Head& head) {
  std::size_t position = head.position;
  return head.queue->taken.compare_exchange_strong(position, position + 1,
                                                   std::memory_order_relaxed);
}

const Task* Schedule::take(const ScheduledWork& work, int thread, const Control& control) {
  const int own = thread % dealt_queues_;
  for (int looks = 0; !cancelled(control);) {
    Head earliest = head(own);
    // Another queue's task brings its data into this core's caches: first a few looks.
    if (earliest.queue && dealt_queues_ > 1) {
      const Task& task = tasks_[earliest.task];
      if (ready(work.waits(task.stage, task.group))) {
        if (take(earliest)) return &task;
        continue;
      }
      if (looks++ < kLooks) {
        pause();
        continue;
      }
    }
    for (int i = 0; i < dealt_queues_; ++i) {
      const Head other = head(i);
      if (other.queue && (!earliest.queue || other.task < earliest.task)) earliest = other;
    }
    if (!earliest.queue) return nullptr;
    if (take(earliest)) return &tasks_[earliest.task];
  }
  return nullptr;
}

void Schedule::worker(ScheduledWork& work, int thread, const Control& control) {
  for (;;) {
    const Task* const taken = take(work, thread, control);
    if (!taken) return;
    const Task& task = *taken;
    const Waits waits = work.waits(task.stage, task.group);
    for (int looks = 0; !ready(waits); ++looks) {
      if (looks < kLooks) pause();
      else sleep_until_ready(waits, control);
      if (cancelled(control)) return;
    }
    work.run(task, thread);
    complete(work, task, control);
  }
}

template <class Done>
bool Schedule::all_of(const Waits& waits, const Done& done) const {
  for (int i = 0; i < waits.count; ++i) {
    const Wait& wait = waits.list[i];
    for (int k = 0; k < wait.stages; ++k) {
      const Stage& stage = stages_[wait.stage + k * wait.stride];
      const int last = std::min(wait.last, stage.groups - 1);
      for (int group = std::max(wait.first, 0); group <= last; ++group)
        if (!done(stage.first_counter + group, stage.parts)) return false;
    }
  }
  return true;
}

bool Schedule::ready(const Waits& waits) const {
  return all_of(waits, [&](int counter, int parts) { return done_[counter].load() >= parts; });
}

void Schedule::sleep_until_ready(const Waits& waits, const Control& control) {
  // Both sides are sequentially consistent: either the sleeper sees the finished task or the
  // finisher sees the sleeper.
  sleepers_.fetch_add(1);
  {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!ready(waits) && !cancelled(control)) changed_.wait_for(lock, kSleep);
  }
  sleepers_.fetch_sub(1);
}

void Schedule::complete(ScheduledWork& work, const Task& task, const Control& control) {
  const Stage& stage = stages_[task.stage];
  const int parts = done_[stage.first_counter + task.group].fetch_add(1) + 1;
  if (control.work) control.work->fetch_add(work.cost(task), std::memory_order_relaxed);
  if (parts < stage.parts) return;
  if (sleepers_.load() > 0) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
    }
    changed_.notify_all();
  }
  if (task.stage != announced_stage_) return;
  std::lock_guard<std::mutex> lock(announce_mutex_);
  while (announced_ < stage.groups && done_[stage.first_counter + announced_].load() == stage.parts)
    ++announced_;
  work.finished(task.stage, announced_, control);
}

bool Schedule::cancelled(const Control& control) {
  if (control.cancel && control.cancel->load(std::memory_order_relaxed) != 0) stopped_ = true;
  return stopped_.load(std::memory_order_relaxed);
}

bool Schedule::order_is_valid(const ScheduledWork& work) const {
  std::vector<int> done(counters_, 0);
  for (const Task& task : tasks_) {
    const bool waits_are_done =
        all_of(work.waits(task.stage, task.group),
               [&](int counter, int parts) { return done[counter] >= parts; });
    if (!waits_are_done) return false;
    ++done[stages_[task.stage].first_counter + task.group];
  }
  for (const Stage& stage : stages_)
    for (int group = 0; group < stage.groups; ++group)
      if (done[stage.first_counter + group] != stage.parts) return false;
  return true;
}

}  // namespace esrgan::cpu
