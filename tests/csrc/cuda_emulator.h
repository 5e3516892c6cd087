// Stands in for csrc/cuda/ptx.cuh and runtime.h, so that the CUDA kernels run on the host, from the
// same source: compile the .cu files as C++ with `-include cuda_emulator.h`.
//
// Every thread of a block is a fiber. Warp-wide instructions wait until all 32 lanes have come to
// the same one and are then carried out as the PTX ISA describes them, fragment by fragment;
// __syncthreads waits for the block. Beyond computing, it reports and aborts on
//   - reads of shared memory that nothing was written to, or that a cp.async has not yet been
//   waited
//     for, and on accesses outside a block's shared memory or misaligned ones;
//   - two threads touching the same word between two barriers, one of them writing (racecheck);
//   - accesses outside of the memory that `emulator::Memory` has given out, or misaligned ones;
//   - lanes of a warp at different instructions, and barriers that not everybody comes to;
//   - TMA asked to store what was not fenced for it, or what changes while it may still be read;
//   - a launch that may begin early and writes before it has waited for the ones before it.
// Shared and global memory start out as NaN. The order of warps changes from step to step.
// It does not model time, bank conflicts, caches, or other blocks running at the same time.
#pragma once
#define ESRGAN_CUDA_PTX_CUH
#define ESRGAN_CUDA_RUNTIME_H
#define ESRGAN_CUDA_PTX90_CUH
#define ESRGAN_CUDA_TENSOR_MAP_H

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "network.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#define ESRGAN_DEVICE inline
#define ESRGAN_KERNEL(threads, blocks) void
#define ESRGAN_WGMMA_KERNEL(threads) void
#define ESRGAN_GRID_CONSTANT

struct float2 {
  float x, y;
};
struct alignas(8) uint2 {
  std::uint32_t x, y;
};
struct alignas(16) uint4 {
  std::uint32_t x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline uint2 make_uint2(std::uint32_t x, std::uint32_t y) { return {x, y}; }
inline uint4 make_uint4(std::uint32_t x, std::uint32_t y, std::uint32_t z, std::uint32_t w) {
  return {x, y, z, w};
}

namespace emulator {

[[noreturn]] inline void fail(const std::string& message);

// ---- Global memory ----

class Memory {
 public:
  static std::map<std::uintptr_t, std::size_t>& all() {
    static std::map<std::uintptr_t, std::size_t> map;
    return map;
  }
  // Poisoned: 0xFF bytes are NaN in every floating-point type.
  explicit Memory(std::size_t bytes) : bytes_(bytes) {
    if (posix_memalign(&data_, 512, bytes ? bytes : 1)) std::abort();
    poison();
    all()[reinterpret_cast<std::uintptr_t>(data_)] = bytes;
  }
  ~Memory() {
    all().erase(reinterpret_cast<std::uintptr_t>(data_));
    std::free(data_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  void poison() { std::memset(data_, 0xFF, bytes_); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  std::size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_;
};

inline void check_global(const void* p, std::size_t bytes, std::size_t alignment) {
  static std::uintptr_t first = 1, last = 0;  // of the memory that was touched last
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  if (address % alignment) fail("misaligned global address");
  if (address >= first && address + bytes <= last && Memory::all().count(first)) return;
  auto it = Memory::all().upper_bound(address);
  if (it == Memory::all().begin()) fail("global access outside of any memory");
  --it;
  if (address + bytes > it->first + it->second) fail("global access outside of any memory");
  first = it->first;
  last = it->first + it->second;
}

// ---- Fibers ----

constexpr int kLanes = 32;
constexpr std::size_t kStackBytes = 128 * 1024;

enum class State { kReady, kInWarp, kInBlock, kPolling, kDone };

struct CopyGroup {
  struct Copy {
    std::uint32_t to;
    const char* from;  // null: zeros
  };
  std::vector<Copy> copies;
};

// A box that TMA stores: shared memory as it was when asked, and where it goes.
struct BulkStore {
  std::uint32_t from;
  std::vector<std::uint8_t> bytes;
  std::function<void(const std::uint8_t*)> write;
};

struct Fiber {
  std::vector<BulkStore> open_stores, stores;  // not committed; not waited for
  std::uint32_t fences = 0;                    // for TMA
  bool waited = false;                         // for earlier launches
  State state = State::kDone;
  int thread = 0;
  std::unique_ptr<char[]> stack;
  std::vector<CopyGroup::Copy> open;  // cp.async not yet committed
  std::deque<CopyGroup> groups;       // committed, not yet waited for
#if defined(__x86_64__)
  void* sp = nullptr;
#else
  ucontext_t context;
#endif
  void* fake_stack = nullptr;
};

// An instruction that has been issued, and is carried out no earlier than it is waited for.
using Deferred = std::function<void()>;

struct Warp {
  std::vector<Deferred> open;                // wgmma not yet committed
  std::deque<std::vector<Deferred>> groups;  // committed
  int arrived = 0;
  const char* instruction = nullptr;
  void* arguments[kLanes];
};

// One word of shared memory.
struct Word {
  enum : std::uint8_t { kPoison, kValid, kPending } state = kPoison;
  std::uint32_t write_epoch = 0, read_epoch = 0;
  int writer = -1, reader = -1;  // threads; kMany readers; a copy is nobody's
  std::uint32_t fences = 0;      // of the writer, when it wrote
};
constexpr int kMany = -2;

struct Barrier {
  int arrivals = 0, pending = 0;
  long bytes = 0;  // that TMA has yet to bring
  int parity = 0;
  std::vector<Deferred> copies;
};

struct Machine {
  std::map<std::uint32_t, Barrier> mbarriers;
  int processors = 2;
  int block = 0, blocks = 0, threads = 0;
  const char* kernel = "";
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<std::uint8_t> shared;
  std::vector<Word> words;
  std::uint32_t epoch = 1;
  int in_barrier = 0;
  Fiber* current = nullptr;
  Fiber scheduler;
  std::function<void()> body;
  std::uint32_t random = 12345;
  long launches = 0, barriers = 0, overlapping = 0;
  bool overlap = false;  // this launch may begin before the one before it ends
};

inline Machine& machine() {
  static Machine m;
  return m;
}

[[noreturn]] inline void fail(const std::string& message) {
  const Machine& m = machine();
  std::fprintf(stderr, "emulator: %s (block %d of %d, thread %d of %d, launch %ld)\n",
               message.c_str(), m.block, m.blocks, m.current ? m.current->thread : -1, m.threads,
               m.launches);
  std::fflush(stderr);
  std::_Exit(3);
}

#if defined(__x86_64__)
// Saves the callee-saved registers and the stack pointer, and goes on with another's.
extern "C" void esrgan_switch_fiber(void** from, void* to);
#ifdef ESRGAN_EMULATOR_MAIN
asm(R"(
.text
.globl esrgan_switch_fiber
.type esrgan_switch_fiber,@function
esrgan_switch_fiber:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size esrgan_switch_fiber,.-esrgan_switch_fiber
)");
#endif
#endif

inline void switch_to(Fiber& to, bool leaving_for_good = false) {
  Machine& m = machine();
  Fiber& from = *m.current;
  m.current = &to;
#if defined(__SANITIZE_ADDRESS__)
  static const void* main_bottom = nullptr;
  static std::size_t main_size = 0;
  const bool to_main = &to == &m.scheduler;
  __sanitizer_start_switch_fiber(leaving_for_good ? nullptr : &from.fake_stack,
                                 to_main ? main_bottom : to.stack.get(),
                                 to_main ? main_size : kStackBytes);
#endif
  (void)leaving_for_good;
#if defined(__x86_64__)
  esrgan_switch_fiber(&from.sp, to.sp);
#else
  swapcontext(&from.context, &to.context);
#endif
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom;
  std::size_t size;
  __sanitizer_finish_switch_fiber(from.fake_stack, &bottom, &size);
  if (&from != &m.scheduler && !main_bottom) {
    main_bottom = bottom;
    main_size = size;
  }
#endif
}

// The next lane of this warp that can go on, else the scheduler.
inline void leave(State state) {
  Machine& m = machine();
  Fiber& self = *m.current;
  self.state = state;
  const int warp = self.thread / kLanes * kLanes, lane = self.thread % kLanes;
  for (int i = 1; i < kLanes; ++i) {
    Fiber& next = m.fibers[static_cast<std::size_t>(warp + (lane + i) % kLanes)];
    if (next.state == State::kReady) {
      switch_to(next, state == State::kDone);
      return;
    }
  }
  switch_to(m.scheduler, state == State::kDone);
}

inline void fiber_main() {
  Machine& m = machine();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  m.body();
  if (!m.current->open.empty() || !m.current->groups.empty()) {
    // Copies that nobody waits for still write: into memory that may be somebody else's by then.
    for (const CopyGroup& g : m.current->groups)
      if (!g.copies.empty()) fail("thread ended with cp.async under way");
    if (!m.current->open.empty()) fail("thread ended with cp.async not committed");
  }
  if (!m.current->open_stores.empty() || !m.current->stores.empty())
    fail("thread ended with a TMA store under way");
  leave(State::kDone);
  std::abort();
}

inline void prepare_fiber(Fiber& f, int thread) {
  f.thread = thread;
  f.state = State::kReady;
  f.open.clear();
  f.groups.clear();
  f.open_stores.clear();
  f.stores.clear();
  f.fences = 0;
  f.waited = false;
  f.fake_stack = nullptr;
  if (!f.stack) f.stack.reset(new char[kStackBytes]);
#if defined(__SANITIZE_ADDRESS__)
  // The frames of the thread before, which was left for good, are still marked.
  __asan_unpoison_memory_region(f.stack.get(), kStackBytes);
#endif
#if defined(__x86_64__)
  auto top = reinterpret_cast<std::uintptr_t>(f.stack.get() + kStackBytes) & ~std::uintptr_t{15};
  auto* sp = reinterpret_cast<void**>(top);
  *--sp = nullptr;  // fiber_main does not return; keeps the stack aligned as after a call
  *--sp = reinterpret_cast<void*>(&fiber_main);
  for (int i = 0; i < 6; ++i) *--sp = nullptr;
  f.sp = sp;
#else
  getcontext(&f.context);
  f.context.uc_stack.ss_sp = f.stack.get();
  f.context.uc_stack.ss_size = kStackBytes;
  f.context.uc_link = nullptr;
  makecontext(&f.context, &fiber_main, 0);
#endif
}

inline void run_block(int block, int shared_bytes) {
  Machine& m = machine();
  m.block = block;
  m.shared.assign(static_cast<std::size_t>(shared_bytes), 0xFF);
  m.words.assign(static_cast<std::size_t>(shared_bytes + 3) / 4, Word{});
  m.epoch = 1;
  m.in_barrier = 0;
  m.mbarriers.clear();
  for (Warp& w : m.warps) w = Warp{};
  for (int t = 0; t < m.threads; ++t) prepare_fiber(m.fibers[static_cast<std::size_t>(t)], t);
  const int warps = m.threads / kLanes;
  long idle = 0;
  for (;;) {
    m.random = m.random * 1664525u + 1013904223u;
    const int first = static_cast<int>((m.random >> 16) % static_cast<unsigned>(warps));
    bool progress = false, polling = false, done = true;
    for (int i = 0; i < warps; ++i) {
      const int warp = (first + i) % warps * kLanes;
      for (int lane = 0; lane < kLanes; ++lane) {
        Fiber& f = m.fibers[static_cast<std::size_t>(warp + lane)];
        if (f.state == State::kPolling) {
          f.state = State::kReady;
          polling = true;
        } else if (f.state == State::kReady) {
          progress = true;
        }
        if (f.state == State::kReady) {
          m.current = &m.scheduler;
          switch_to(f);
          m.current = nullptr;
        }
        done = done && f.state == State::kDone;
      }
    }
    if (done) {
      bool waited = !m.overlap;
      for (int t = 0; t < m.threads; ++t)
        waited = waited || m.fibers[static_cast<std::size_t>(t)].waited;
      if (!waited) fail("a launch that may begin early did not wait for the ones before it");
      return;
    }
    idle = progress ? 0 : idle + 1;
    if (!progress && (!polling || idle > 100000)) fail("deadlock: not everybody came");
  }
}

template <class Task>
void run_kernel(void (*kernel)(Task), int blocks, int threads, int shared_bytes, const Task& task,
                bool overlap) {
  Machine& m = machine();
  m.overlap = overlap;
  m.overlapping += overlap;
  if (threads % kLanes || threads > 1024 || blocks < 1) fail("bad launch");
  m.blocks = blocks;
  m.threads = threads;
  ++m.launches;
  if (m.fibers.size() < static_cast<std::size_t>(threads))
    m.fibers.resize(static_cast<std::size_t>(threads));
  m.warps.resize(static_cast<std::size_t>(threads / kLanes));
  m.body = [&] { kernel(task); };
  for (int b = 0; b < blocks; ++b) run_block(b, shared_bytes);
}

// ---- What instructions are made of ----

inline int lane_index() { return machine().current->thread % kLanes; }

// Carries out `perform` once all lanes are here, with each lane's `argument`.
template <class Argument, class Perform>
void in_warp(const char* instruction, Argument& argument, const Perform& perform) {
  Machine& m = machine();
  Warp& w = m.warps[static_cast<std::size_t>(m.current->thread / kLanes)];
  if (w.arrived == 0) w.instruction = instruction;
  else if (w.instruction != instruction)
    fail(std::string("lanes diverge: ") + w.instruction + " and " + instruction);
  w.arguments[lane_index()] = &argument;
  if (++w.arrived < kLanes) {
    leave(State::kInWarp);
    return;
  }
  w.arrived = 0;
  Argument* all[kLanes];
  for (int i = 0; i < kLanes; ++i) all[i] = static_cast<Argument*>(w.arguments[i]);
  perform(all);
  const int warp = m.current->thread / kLanes * kLanes;
  for (int i = 0; i < kLanes; ++i) {
    Fiber& f = m.fibers[static_cast<std::size_t>(warp + i)];
    if (f.state == State::kInWarp) f.state = State::kReady;
  }
}

inline void check_shared(std::uint32_t address, std::size_t bytes) {
  if (address % bytes) fail("misaligned shared address");
  if (address + bytes > machine().shared.size()) fail("shared access outside of the block's");
}

inline void note_shared_read(std::uint32_t address, std::size_t bytes, int thread) {
  Machine& m = machine();
  check_shared(address, bytes);
  for (std::size_t i = address / 4; i < (address + bytes) / 4; ++i) {
    Word& w = m.words[i];
    if (w.state == Word::kPoison) fail("read of uninitialized shared memory");
    if (w.state == Word::kPending) fail("read of shared memory before its copy was waited for");
    if (w.write_epoch == m.epoch && w.writer != thread)
      fail("race: read of what thread " + std::to_string(w.writer) + " wrote, no barrier between");
    if (w.read_epoch != m.epoch) {
      w.read_epoch = m.epoch;
      w.reader = thread;
    } else if (w.reader != thread) {
      w.reader = kMany;
    }
  }
}

inline void note_shared_write(std::uint32_t address, std::size_t bytes, int thread, bool pending) {
  Machine& m = machine();
  check_shared(address, bytes);
  for (std::size_t i = address / 4; i < (address + bytes) / 4; ++i) {
    Word& w = m.words[i];
    if (w.state == Word::kPending) fail("write to shared memory that a copy is on its way to");
    if (w.write_epoch == m.epoch && w.writer != thread)
      fail("race: two writes, no barrier between");
    if (w.read_epoch == m.epoch && w.reader != thread)
      fail("race: write to what another thread reads, no barrier between");
    w.state = pending ? Word::kPending : Word::kValid;
    w.write_epoch = m.epoch;
    w.writer = thread;
    w.fences = m.fibers[static_cast<std::size_t>(thread)].fences;
  }
}

// What touches memory that other launches touch.
inline void check_waited() {
  const Machine& m = machine();
  if (m.overlap && !m.current->waited) fail("memory touched before earlier launches had ended");
}

template <class T>
T load_shared(std::uint32_t address) {
  note_shared_read(address, sizeof(T), machine().current->thread);
  T v;
  std::memcpy(&v, machine().shared.data() + address, sizeof v);
  return v;
}

template <class T>
void store_shared(std::uint32_t address, T v) {
  note_shared_write(address, sizeof(T), machine().current->thread, false);
  std::memcpy(machine().shared.data() + address, &v, sizeof v);
}

// ---- Numbers ----

inline float bits_to_float(std::uint32_t bits) {
  float v;
  std::memcpy(&v, &bits, 4);
  return v;
}
inline std::uint32_t float_to_bits(float v) {
  std::uint32_t bits;
  std::memcpy(&bits, &v, 4);
  return bits;
}

inline float half_to_float(std::uint16_t h) {
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  double v;
  if (exponent == 31) v = mantissa ? NAN : INFINITY;
  else if (exponent) v = std::ldexp(1024 + mantissa, exponent - 25);
  else v = std::ldexp(mantissa, -24);
  return static_cast<float>(h & 0x8000 ? -v : v);
}

// Nearest, ties to even.
inline std::uint16_t float_to_half(float f) {
  const std::uint16_t sign = f < 0 || (f == 0 && std::signbit(f)) ? 0x8000 : 0;
  if (std::isnan(f)) return 0x7fff;
  const double v = std::fabs(static_cast<double>(f));
  if (v >= 65520) return static_cast<std::uint16_t>(sign | 0x7c00);
  int exponent = v == 0 ? -14 : std::ilogb(v);
  if (exponent < -14) exponent = -14;
  const double units = std::nearbyint(std::ldexp(v, 10 - exponent));   // of the last place
  const int bits = static_cast<int>(units) + ((exponent + 14) << 10);  // a carry moves up
  return static_cast<std::uint16_t>(sign | bits);
}

inline std::uint16_t float_to_bf16(float f) {
  std::uint32_t bits = float_to_bits(f);
  if (std::isnan(f)) return 0x7fff;
  bits += 0x7fff + (bits >> 16 & 1);
  return static_cast<std::uint16_t>(bits >> 16);
}

// Towards zero: how tensor cores keep their sums (Ootomo and Yokota, arXiv 2203.03341, section 3).
inline float towards_zero(double v) {
  const float f = static_cast<float>(v);
  if (std::fabs(static_cast<double>(f)) > std::fabs(v) && std::isfinite(f))
    return std::nextafterf(f, 0.0f);
  return f;
}

inline const float* half_table() {
  static const std::vector<float> table = [] {
    std::vector<float> t(65536);
    for (int i = 0; i < 65536; ++i)
      t[static_cast<std::size_t>(i)] = half_to_float(static_cast<std::uint16_t>(i));
    return t;
  }();
  return table.data();
}

// d += a b, M 16, N 8, of fragments decoded by `a_at` and `b_at`.
struct MmaArguments {
  float* d;
  const std::uint32_t* a;
  std::uint32_t b[2];
};

enum class Number { kF16, kBF16, kTF32 };

inline float decode16(Number type, std::uint32_t word, int half) {
  const auto bits = static_cast<std::uint16_t>(half ? word >> 16 : word);
  return type == Number::kF16 ? half_table()[bits]
                              : bits_to_float(static_cast<std::uint32_t>(bits) << 16);
}

inline void mma(Number type, MmaArguments** lanes) {
  double a[16][16], b[16][8];  // b by rows, so that the innermost loop runs over columns
  const int depth = type == Number::kTF32 ? 8 : 16;
  for (int l = 0; l < kLanes; ++l) {
    const int g = l / 4, t = l % 4;
    if (type == Number::kTF32) {   // the low 13 bits are not looked at
      for (int i = 0; i < 4; ++i)  // a0 (g, t), a1 (g + 8, t), a2 (g, t + 4), a3 (g + 8, t + 4)
        a[g + i % 2 * 8][t + i / 2 * 4] = bits_to_float(lanes[l]->a[i] & 0xffffe000u);
      for (int i = 0; i < 2; ++i)  // b0 (t, g), b1 (t + 4, g)
        b[t + i * 4][g] = bits_to_float(lanes[l]->b[i] & 0xffffe000u);
    } else {
      for (int i = 0; i < 4; ++i)
        for (int h = 0; h < 2; ++h)
          a[g + i % 2 * 8][2 * t + h + i / 2 * 8] = decode16(type, lanes[l]->a[i], h);
      for (int i = 0; i < 2; ++i)
        for (int h = 0; h < 2; ++h) b[2 * t + h + i * 8][g] = decode16(type, lanes[l]->b[i], h);
    }
  }
  double sums[16][8];
  for (int l = 0; l < kLanes; ++l)  // c0, c1 (g, 2 t + {0, 1}), c2, c3 (g + 8, ...)
    for (int i = 0; i < 4; ++i) sums[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2] = lanes[l]->d[i];
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < depth; ++k)
      for (int column = 0; column < 8; ++column) sums[row][column] += a[row][k] * b[k][column];
  for (int l = 0; l < kLanes; ++l)
    for (int i = 0; i < 4; ++i)
      lanes[l]->d[i] = towards_zero(sums[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2]);
}

}  // namespace emulator

// ---- ptx.cuh ----

namespace esrgan::cuda {

inline int thread_index() { return emulator::machine().current->thread; }
inline int block_index() { return emulator::machine().block; }
inline int block_count() { return emulator::machine().blocks; }
inline std::uint32_t dynamic_shared() { return 0; }

inline void synchronize_block() {
  emulator::Machine& m = emulator::machine();
  if (++m.in_barrier < m.threads) {
    emulator::leave(emulator::State::kInBlock);
    return;
  }
  m.in_barrier = 0;
  ++m.epoch;
  ++m.barriers;
  for (int t = 0; t < m.threads; ++t) {
    emulator::Fiber& f = m.fibers[static_cast<std::size_t>(t)];
    if (f.state == emulator::State::kDone) emulator::fail("barrier after a thread has ended");
    if (f.state == emulator::State::kInBlock) f.state = emulator::State::kReady;
  }
}

inline uint4 load_shared16(std::uint32_t a) { return emulator::load_shared<uint4>(a); }
inline std::uint32_t load_shared4(std::uint32_t a) {
  return emulator::load_shared<std::uint32_t>(a);
}
inline void store_shared4(std::uint32_t a, std::uint32_t v) { emulator::store_shared(a, v); }
inline void store_shared8(std::uint32_t a, uint2 v) { emulator::store_shared(a, v); }
inline void store_shared16(std::uint32_t a, uint4 v) { emulator::store_shared(a, v); }

template <class T>
T load_global(const void* p) {
  emulator::check_global(p, sizeof(T), sizeof(T));
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
void store_global(void* p, T v) {
  emulator::check_waited();
  emulator::check_global(p, sizeof(T), sizeof(T));
  std::memcpy(p, &v, sizeof v);
}

inline void atomic_or_global(std::uint32_t* p, std::uint32_t v) {
  emulator::check_global(p, 4, 4);
  *p |= v;
}

inline void synchronize_warp() {
  struct Nothing {
  } nothing;
  emulator::in_warp("bar.warp.sync", nothing, [](Nothing**) {});
}

constexpr int kResidualRows = 4;
inline void wait_for_earlier_launches() { emulator::machine().current->waited = true; }
inline void let_next_launch_start() { emulator::check_waited(); }

inline void cp_async16(std::uint32_t to, const void* from, bool valid) {
  emulator::Fiber& f = *emulator::machine().current;
  if (reinterpret_cast<std::uintptr_t>(from) % 16) emulator::fail("misaligned cp.async");
  if (valid) emulator::check_global(from, 16, 16);
  emulator::note_shared_write(to, 16, f.thread, true);
  std::memset(emulator::machine().shared.data() + to, 0xFF, 16);
  f.open.push_back({to, valid ? static_cast<const char*>(from) : nullptr});
}

inline void cp_async_commit() {
  emulator::Fiber& f = *emulator::machine().current;
  f.groups.push_back({std::move(f.open)});
  f.open.clear();
}

// The copies happen no earlier than when they are waited for.
template <int Pending>
void cp_async_wait() {
  emulator::Machine& m = emulator::machine();
  emulator::Fiber& f = *m.current;
  while (f.groups.size() > static_cast<std::size_t>(Pending)) {
    for (const auto& copy : f.groups.front().copies) {
      if (copy.from) std::memcpy(m.shared.data() + copy.to, copy.from, 16);
      else std::memset(m.shared.data() + copy.to, 0, 16);
      for (std::size_t i = copy.to / 4; i < copy.to / 4 + 4; ++i) {
        m.words[i].state = emulator::Word::kValid;
        m.words[i].write_epoch = m.epoch;  // seen by others after the next barrier
      }
    }
    f.groups.pop_front();
  }
}

struct MatrixArguments {
  std::uint32_t* r;
  std::uint32_t address;
};

inline void ldmatrix4(std::uint32_t (&r)[4], std::uint32_t address) {
  MatrixArguments arguments{r, address};
  emulator::in_warp("ldmatrix", arguments, [](MatrixArguments** lanes) {
    emulator::Machine& m = emulator::machine();
    const int warp = m.current->thread / 32 * 32;
    for (int l = 0; l < 32; ++l) emulator::note_shared_read(lanes[l]->address, 16, warp + l);
    for (int l = 0; l < 32; ++l)
      for (int i = 0; i < 4; ++i)
        std::memcpy(&lanes[l]->r[i], m.shared.data() + lanes[8 * i + l / 4]->address + 4 * (l % 4),
                    4);
  });
}

// Lane l has elements 2 (l % 4) and one more of column l / 4.
inline void ldmatrix4_transposed(std::uint32_t (&r)[4], std::uint32_t address) {
  MatrixArguments arguments{r, address};
  emulator::in_warp("ldmatrix.trans", arguments, [](MatrixArguments** lanes) {
    emulator::Machine& m = emulator::machine();
    const int warp = m.current->thread / 32 * 32;
    for (int l = 0; l < 32; ++l) emulator::note_shared_read(lanes[l]->address, 16, warp + l);
    for (int l = 0; l < 32; ++l)
      for (int i = 0; i < 4; ++i) {
        std::uint16_t v[2];
        for (int h = 0; h < 2; ++h)
          std::memcpy(&v[h], m.shared.data() + lanes[8 * i + l % 4 * 2 + h]->address + 2 * (l / 4),
                      2);
        lanes[l]->r[i] = v[0] | static_cast<std::uint32_t>(v[1]) << 16;
      }
  });
}

inline void mma_f16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                    std::uint32_t b1) {
  emulator::MmaArguments arguments{d, a, {b0, b1}};
  emulator::in_warp("mma.f16", arguments, [](emulator::MmaArguments** lanes) {
    emulator::mma(emulator::Number::kF16, lanes);
  });
}

inline void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                     std::uint32_t b1) {
  emulator::MmaArguments arguments{d, a, {b0, b1}};
  emulator::in_warp("mma.bf16", arguments, [](emulator::MmaArguments** lanes) {
    emulator::mma(emulator::Number::kBF16, lanes);
  });
}

inline void mma_tf32(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                     std::uint32_t b1) {
  emulator::MmaArguments arguments{d, a, {b0, b1}};
  emulator::in_warp("mma.tf32", arguments, [](emulator::MmaArguments** lanes) {
    emulator::mma(emulator::Number::kTF32, lanes);
  });
}

inline float float_of(std::uint32_t bits) { return emulator::bits_to_float(bits); }
inline std::uint32_t bits_of(float v) { return emulator::float_to_bits(v); }
inline std::uint32_t pack_f16(float low, float high) {
  return emulator::float_to_half(low) | static_cast<std::uint32_t>(emulator::float_to_half(high))
                                            << 16;
}
inline std::uint32_t pack_bf16(float low, float high) {
  return emulator::float_to_bf16(low) | static_cast<std::uint32_t>(emulator::float_to_bf16(high))
                                            << 16;
}
inline float float_of_f16(std::uint16_t bits) { return emulator::half_table()[bits]; }

inline std::uint32_t round_tf32(float value) {
  const std::uint32_t bits = emulator::float_to_bits(value);
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
  return (bits + 0x1000u) & 0xffffe000u;
}

inline int round_to_int(float value) {
  if (std::isnan(value)) return 0;
  const double v = std::nearbyint(static_cast<double>(value));
  return v >= 2147483647.0 ? INT32_MAX : v <= -2147483648.0 ? INT32_MIN : static_cast<int>(v);
}

inline bool is_finite(float v) { return std::isfinite(v); }

// ---- runtime.h ----

constexpr int kSuccess = 0;
inline const char* error_text(int) { return "emulated error"; }

struct Device {
  int major = 0, minor = 0;
  int processors = 1;
};
inline int describe(int device, Device& result) {
  result = {9, 0, emulator::machine().processors};
  return device == 0 ? kSuccess : 101;
}
inline int current_device(int& device) {
  device = 0;
  return kSuccess;
}
inline int describe_current(Device& result) { return describe(0, result); }

class DeviceGuard {
 public:
  explicit DeviceGuard(int) {}
  int error() const { return kSuccess; }
};

template <class Task>
int max_threads(void (*)(Task)) {
  return 1024;
}

template <class Task>
int prepare(void (*)(Task), int, int, int& blocks_per_sm) {
  blocks_per_sm = 1;
  return kSuccess;
}

enum class Overlap { kNo, kYes };

template <class Task>
int launch(void (*kernel)(Task), int blocks, int threads, int shared_bytes, Stream,
           const Task& task, Overlap overlap = Overlap::kNo) {
  emulator::run_kernel(kernel, blocks, threads, shared_bytes, task, overlap == Overlap::kYes);
  return kSuccess;
}

// ---- ptx90.cuh and tensor_map.h ----

constexpr bool kHasWgmma = true;

struct TensorMap {
  const std::uint16_t* data;
  std::int64_t columns, rows, planes;
  int box_columns, box_rows, box_planes;
};

inline bool has_tensor_maps() { return true; }

inline int encode_tensor_map(TensorMap& map, void* data, int columns, int rows, std::int64_t planes,
                             int box_columns, int box_rows, int box_planes) {
  const bool valid = reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && columns * 2 % 16 == 0 &&
                     box_columns <= 256 && box_rows <= 256 && box_planes <= 256 &&
                     box_columns * 2 % 16 == 0;
  if (!valid) emulator::fail("cuTensorMapEncodeTiled would refuse this");
  emulator::check_global(data, static_cast<std::size_t>(columns * rows * planes * 2), 16);
  map = {static_cast<const std::uint16_t*>(data),
         columns,
         rows,
         planes,
         box_columns,
         box_rows,
         box_planes};
  return kSuccess;
}

inline emulator::Barrier& emulated_barrier(std::uint32_t address) {
  auto it = emulator::machine().mbarriers.find(address);
  if (it == emulator::machine().mbarriers.end()) emulator::fail("mbarrier not initialized");
  return it->second;
}

inline void mbarrier_init(std::uint32_t barrier, int arrivals) {
  emulator::check_shared(barrier, 8);
  emulator::Barrier b;
  b.arrivals = b.pending = arrivals;
  emulator::machine().mbarriers[barrier] = b;
}
inline void mbarrier_init_fence() {}

// A phase ends when all have arrived and all bytes are there. TMA brings them at the last moment.
inline void mbarrier_advance(emulator::Barrier& b) {
  if (b.pending > 0) return;
  for (const emulator::Deferred& copy : b.copies) copy();
  b.copies.clear();
  if (b.bytes > 0) return;
  if (b.bytes < 0) emulator::fail("TMA brought more bytes than were expected");
  b.pending = b.arrivals;
  b.parity ^= 1;
}

inline void mbarrier_arrive(std::uint32_t barrier) {
  emulator::Barrier& b = emulated_barrier(barrier);
  if (--b.pending < 0) emulator::fail("too many arrivals at an mbarrier");
  if (b.copies.empty() && b.bytes == 0) mbarrier_advance(b);
}

inline void mbarrier_arrive_expect(std::uint32_t barrier, int bytes) {
  emulator::Barrier& b = emulated_barrier(barrier);
  if (--b.pending < 0) emulator::fail("too many arrivals at an mbarrier");
  b.bytes += bytes;
}

inline void mbarrier_wait(std::uint32_t barrier, int parity) {
  for (;;) {
    emulator::Barrier& b = emulated_barrier(barrier);
    if (b.parity != parity) return;
    mbarrier_advance(b);
    if (b.parity != parity) return;
    emulator::leave(emulator::State::kPolling);
  }
}

inline void mark_words(std::uint32_t at, std::size_t bytes, emulator::Word word) {
  for (std::size_t i = at / 4; i < (at + bytes) / 4; ++i) emulator::machine().words[i] = word;
}

// From its issue until it is seen to have come, what a copy is on its way to is NaN.
inline void poison_shared(std::uint32_t to, std::size_t bytes) {
  emulator::Machine& m = emulator::machine();
  if (to % 128 || to + bytes > m.shared.size()) emulator::fail("TMA to a bad shared address");
  std::memset(m.shared.data() + to, 0xFF, bytes);
  emulator::Word word;
  word.state = emulator::Word::kPending;
  mark_words(to, bytes, word);
}

inline void has_come(std::uint32_t to, std::size_t bytes) {
  emulator::Word word;
  word.state = emulator::Word::kValid;
  mark_words(to, bytes, word);
}

inline void tma_load(std::uint32_t to, const TensorMap& map, int x, int y, int z,
                     std::uint32_t barrier) {
  const TensorMap t = map;
  const std::size_t bytes = static_cast<std::size_t>(t.box_columns) * t.box_rows * t.box_planes * 2;
  emulator::check_waited();
  poison_shared(to, bytes);
  emulator::Barrier& b = emulated_barrier(barrier);
  b.copies.push_back([=, &b] {
    auto* target = reinterpret_cast<std::uint16_t*>(emulator::machine().shared.data() + to);
    for (int p = 0; p < t.box_planes; ++p)
      for (int r = 0; r < t.box_rows; ++r)
        for (int c = 0; c < t.box_columns; ++c) {
          const std::int64_t column = x + c, row = y + r, plane = z + p;
          const bool inside = column >= 0 && column < t.columns && row >= 0 && row < t.rows &&
                              plane >= 0 && plane < t.planes;
          *target++ =
              inside ? t.data[(plane * t.rows + row) * t.columns + column] : std::uint16_t{0};
        }
    has_come(to, bytes);
    b.bytes -= static_cast<long>(bytes);
  });
}

inline void bulk_load(std::uint32_t to, const void* from, int bytes, std::uint32_t barrier) {
  if (bytes % 16) emulator::fail("bulk copy of a bad size");
  emulator::check_global(from, static_cast<std::size_t>(bytes), 16);
  poison_shared(to, static_cast<std::size_t>(bytes));
  emulator::Barrier& b = emulated_barrier(barrier);
  b.copies.push_back([=, &b] {
    std::memcpy(emulator::machine().shared.data() + to, from, static_cast<std::size_t>(bytes));
    has_come(to, static_cast<std::size_t>(bytes));
    b.bytes -= bytes;
  });
}

inline void fence_for_tma() { ++emulator::machine().current->fences; }

inline void tma_store(const TensorMap& map, int x, int y, int z, std::uint32_t from) {
  emulator::Machine& m = emulator::machine();
  emulator::check_waited();
  const TensorMap t = map;
  const std::size_t bytes = static_cast<std::size_t>(t.box_columns) * t.box_rows * t.box_planes * 2;
  if (from % 128 || from + bytes > m.shared.size()) emulator::fail("TMA from a bad shared address");
  for (std::size_t i = from / 4; i < (from + bytes) / 4; ++i) {
    const emulator::Word& w = m.words[i];
    if (w.state != emulator::Word::kValid) emulator::fail("TMA stores what nobody has written");
    if (w.writer >= 0 && m.fibers[static_cast<std::size_t>(w.writer)].fences == w.fences)
      emulator::fail("TMA stores what was not fenced for it");
  }
  emulator::BulkStore store;
  store.from = from;
  store.bytes.assign(m.shared.begin() + from, m.shared.begin() + from + static_cast<long>(bytes));
  store.write = [=](const std::uint8_t* source) {
    for (int p = 0; p < t.box_planes; ++p)
      for (int r = 0; r < t.box_rows; ++r)
        for (int c = 0; c < t.box_columns; ++c, source += 2) {
          const std::int64_t column = x + c, row = y + r, plane = z + p;
          if (column < 0 || column >= t.columns || row < 0 || row >= t.rows || plane < 0 ||
              plane >= t.planes)
            continue;
          auto* to =
              const_cast<std::uint16_t*>(t.data) + (plane * t.rows + row) * t.columns + column;
          std::memcpy(to, source, 2);
        }
  };
  m.current->open_stores.push_back(std::move(store));
}
inline void tma_store_commit() {
  emulator::Fiber& f = *emulator::machine().current;
  for (auto& store : f.open_stores) f.stores.push_back(std::move(store));
  f.open_stores.clear();
}
// Shared memory is read no earlier than when that is waited for.
inline void tma_store_wait_read() {
  emulator::Machine& m = emulator::machine();
  for (emulator::BulkStore& store : m.current->stores) {
    if (store.bytes.empty()) continue;
    if (std::memcmp(store.bytes.data(), m.shared.data() + store.from, store.bytes.size()))
      emulator::fail("shared memory changed while TMA could still read it");
    store.write(store.bytes.data());
    store.bytes.clear();
  }
}
inline void tma_store_wait() {
  tma_store_wait_read();
  emulator::machine().current->stores.clear();
}

template <int Registers>
void keep_registers() {}
template <int Registers>
void take_registers() {}

inline std::uint64_t matrix_descriptor(std::uint32_t address, int k_stride, int row_stride) {
  if (address % 16 || k_stride % 16 || row_stride % 16 || k_stride / 16 >= 1 << 14)
    emulator::fail("bad matrix descriptor");
  return static_cast<std::uint64_t>(address >> 4) |
         static_cast<std::uint64_t>(k_stride >> 4) << 16 |
         static_cast<std::uint64_t>(row_stride >> 4) << 32;
}

}  // namespace esrgan::cuda

namespace emulator {

inline Warp& current_warp() {
  return machine().warps[static_cast<std::size_t>(machine().current->thread / kLanes)];
}

// `rows` rows of an operand, K 16, by its descriptor: K-major, no swizzle. `put(row, k, value)`.
template <class Put>
void wgmma_operand(Number type, std::uint64_t descriptor, int first_row, int rows, const Put& put) {
  const auto field = [&](int bit) {
    return static_cast<std::size_t>(descriptor >> bit & 0x3fff) << 4;
  };
  const Machine& m = machine();
  for (int row = first_row; row < first_row + rows; ++row)
    for (int unit = 0; unit < 2; ++unit) {
      const std::size_t at = field(0) + static_cast<std::size_t>(unit) * field(16) +
                             static_cast<std::size_t>(row / 8) * field(32) +
                             static_cast<std::size_t>(row % 8) * 16;
      if (at + 16 > m.shared.size()) fail("wgmma reads outside of shared memory");
      std::uint16_t bits[8];
      std::memcpy(bits, m.shared.data() + at, 16);
      for (int k = 0; k < 8; ++k) put(row - first_row, unit * 8 + k, decode16(type, bits[k], 0));
    }
}

struct WgmmaArguments {
  float* d;
  std::uint64_t a, b;
  int accumulate;
};

// A warp's share: 16 of the 64 rows, of `columns` columns. Carried out when it is waited for.
inline void wgmma(Number type, int columns, WgmmaArguments** lanes) {
  const int first_row = machine().current->thread / kLanes % 4 * 16;
  std::vector<float*> d;
  for (int l = 0; l < kLanes; ++l) {
    if (lanes[l]->a != lanes[0]->a || lanes[l]->b != lanes[0]->b ||
        lanes[l]->accumulate != lanes[0]->accumulate)
      fail("lanes disagree on a wgmma");
    d.push_back(lanes[l]->d);
  }
  const WgmmaArguments w = *lanes[0];
  current_warp().open.push_back([=] {
    double a[16][16];
    static double b[16][256], sums[16][256];
    wgmma_operand(type, w.a, first_row, 16, [&](int row, int k, float v) { a[row][k] = v; });
    wgmma_operand(type, w.b, 0, columns, [&](int column, int k, float v) { b[k][column] = v; });
    const auto place = [&](int l, int i) -> double& {
      return sums[l / 4 + i / 2 % 2 * 8][i / 4 * 8 + l % 4 * 2 + i % 2];
    };
    for (int l = 0; l < kLanes; ++l)
      for (int i = 0; i < columns / 2; ++i)
        place(l, i) = w.accumulate ? d[static_cast<std::size_t>(l)][i] : 0;
    for (int row = 0; row < 16; ++row)
      for (int k = 0; k < 16; ++k)
        for (int column = 0; column < columns; ++column)
          sums[row][column] += a[row][k] * b[k][column];
    for (int l = 0; l < kLanes; ++l)
      for (int i = 0; i < columns / 2; ++i)
        d[static_cast<std::size_t>(l)][i] = towards_zero(place(l, i));
  });
}

}  // namespace emulator

namespace esrgan::cuda {

// What wgmma's fence and groups do is the same for all lanes: the last to come does it.
struct Nothing {};

inline void wgmma_fence() {}
inline void wgmma_commit() {
  Nothing nothing;
  emulator::in_warp("wgmma.commit_group", nothing, [](Nothing**) {
    emulator::Warp& w = emulator::current_warp();
    w.groups.push_back(std::move(w.open));
    w.open.clear();
  });
}
template <int Pending>
void wgmma_wait() {
  Nothing nothing;
  emulator::in_warp("wgmma.wait_group", nothing, [](Nothing**) {
    emulator::Warp& w = emulator::current_warp();
    while (w.groups.size() > static_cast<std::size_t>(Pending)) {
      for (const emulator::Deferred& f : w.groups.front()) f();
      w.groups.pop_front();
    }
  });
}
template <int Sums>
void wgmma_pin(float (&)[Sums]) {}

template <int Sums>
void wgmma_f16(float (&d)[Sums], std::uint64_t a, std::uint64_t b, int accumulate) {
  emulator::WgmmaArguments arguments{d, a, b, accumulate};
  emulator::in_warp("wgmma.f16", arguments, [](emulator::WgmmaArguments** lanes) {
    emulator::wgmma(emulator::Number::kF16, 2 * Sums, lanes);
  });
}
template <int Sums>
void wgmma_bf16(float (&d)[Sums], std::uint64_t a, std::uint64_t b, int accumulate) {
  emulator::WgmmaArguments arguments{d, a, b, accumulate};
  emulator::in_warp("wgmma.bf16", arguments, [](emulator::WgmmaArguments** lanes) {
    emulator::wgmma(emulator::Number::kBF16, 2 * Sums, lanes);
  });
}

// Lane l gives the address of row l % 8 of matrix l / 8, and has elements 2 (l % 4) and one more of
// column l / 4.
inline void stmatrix4_transposed(std::uint32_t address, const std::uint32_t (&r)[4]) {
  struct Arguments {
    std::uint32_t address;
    const std::uint32_t* r;
  } arguments{address, r};
  emulator::in_warp("stmatrix.trans", arguments, [](Arguments** lanes) {
    emulator::Machine& m = emulator::machine();
    const int warp = m.current->thread / 32 * 32;
    for (int l = 0; l < 32; ++l)
      emulator::note_shared_write(lanes[l]->address, 16, warp + l, false);
    for (int l = 0; l < 32; ++l)
      for (int i = 0; i < 4; ++i)
        for (int h = 0; h < 2; ++h) {
          const auto v = static_cast<std::uint16_t>(lanes[l]->r[i] >> (16 * h));
          std::memcpy(m.shared.data() + lanes[8 * i + l % 4 * 2 + h]->address + 2 * (l / 4), &v, 2);
        }
  });
}

}  // namespace esrgan::cuda
