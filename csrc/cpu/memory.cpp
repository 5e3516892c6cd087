#include "memory.h"

#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace esrgan::cpu {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

struct Piece {
  float* data;
  std::size_t bytes;
};

// Freed large buffers, oldest first. Locked only by try_lock: a fork may happen while another
// thread holds the lock, and the child, where it then stays locked for ever, does without.
class Pool {
 public:
  float* take(std::size_t bytes) {
    std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock) return nullptr;
    for (std::size_t i = pieces_.size(); i-- > 0;) {
      if (pieces_[i].bytes != bytes) continue;
      float* data = pieces_[i].data;
      held_ -= bytes;
      pieces_.erase(pieces_.begin() + static_cast<std::ptrdiff_t>(i));
      return data;
    }
    return nullptr;
  }
  void give(float* data, std::size_t bytes) {
    std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock || bytes > kMaxHeld || pieces_.size() >= kMaxPieces) return std::free(data);
    while (held_ + bytes > kMaxHeld) {
      held_ -= pieces_.front().bytes;
      std::free(pieces_.front().data);
      pieces_.erase(pieces_.begin());
    }
    pieces_.push_back({data, bytes});
    held_ += bytes;
  }

 private:
  static constexpr std::size_t kMaxHeld = std::size_t{128} << 20;
  static constexpr std::size_t kMaxPieces = 256;
  std::mutex mutex_;
  std::vector<Piece> pieces_;
  std::size_t held_ = 0;
};

Pool& pool() {
  static Pool* const the_pool = new Pool;  // never destroyed: threads may outlive static objects
  return *the_pool;
}

}  // namespace

Buffer::Buffer(std::size_t floats) {
  const std::size_t alignment = floats * sizeof(float) >= kHugePage ? kHugePage : 64;
  bytes_ = (floats * sizeof(float) + alignment - 1) / alignment * alignment;
  if (bytes_ == 0) return;
  if (bytes_ >= kHugePage) data_ = pool().take(bytes_);
  if (data_) return;
  data_ = static_cast<float*>(std::aligned_alloc(alignment, bytes_));
  if (!data_) throw std::bad_alloc();
#if defined(__linux__)
  if (bytes_ >= kHugePage) madvise(data_, bytes_, MADV_HUGEPAGE);
#endif
}

Buffer::~Buffer() {
  if (!data_) return;
  if (bytes_ >= kHugePage) pool().give(data_, bytes_);
  else std::free(data_);
}

}  // namespace esrgan::cpu
