// A cheap check that weights are still the ones that were packed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace esrgan::cpu {

// Mixes up to 64 values, spread evenly, into `hash` (FNV-1a over their bits). Writing through an
// alias (`parameter.data`) changes no version counter, but nearly every value; this sees it.
inline std::uint64_t sample_bits(const float* values, std::size_t count, std::uint64_t hash) {
  constexpr std::size_t kSamples = 64;
  const std::size_t samples = count < kSamples ? count : kSamples;
  for (std::size_t i = 0; i < samples; ++i) {
    std::uint32_t bits;
    std::memcpy(&bits, values + i * count / samples, sizeof bits);
    hash = (hash ^ bits) * 1099511628211ull;
  }
  return hash;
}

constexpr std::uint64_t kHashStart = 14695981039346656037ull;

}  // namespace esrgan::cpu
