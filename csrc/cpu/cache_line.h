#pragma once

namespace esrgan::cpu {

constexpr int kLineFloats = 16;  // 64-byte cache lines

}  // namespace esrgan::cpu
