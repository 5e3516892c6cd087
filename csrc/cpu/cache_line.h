#pragma once

namespace esrgan {

constexpr int kLineFloats = 16;  // 64-byte cache lines

}  // namespace esrgan
