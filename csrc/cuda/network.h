// The CUDA implementation's public face: a whole RRDBNet, or one dense block, over a batch of
// images on one stream. Plain C++17, no torch, no CUDA headers: the two types of the runtime that
// appear are declared here. Nothing in here allocates device memory, waits for the device or keeps
// state, so every call that takes a stream can be captured in a CUDA graph. The caller makes the
// right device current.
#pragma once

#include <cstddef>
#include <cstdint>

struct CUstream_st;  // cudaStream_t is a pointer to it

namespace esrgan::cuda {

using Stream = CUstream_st*;

// RRDBNet after pixel-unshuffling: conv_first, `rrdbs` RRDBs, conv_body and skip, `upsamplings`
// times nearest x2 + convolution + LeakyReLU, conv_hr, LeakyReLU, conv_last.
struct NetworkShape {
  int in_channels;
  int out_channels;
  int nf, gc;
  int rrdbs;
  int upsamplings;
  float negative_slope = 0.2f;
  float residual_scale = 0.2f;
};

struct DenseBlockShape {
  int nf, gc;
  float negative_slope = 0.2f;
  float residual_scale = 0.2f;
};

// How the convolutions multiply; all of them accumulate in float32.
enum class Compute : int {
  kFloat16,
  kBFloat16,
  kTensorFloat32,  // float32 activations, products of 10-bit mantissas
  kFloat32,        // float32 activations, three TF32 products for one of float32 accuracy
};

// Which kernels run.
enum class Path : int {
  kNone,
  kMma,    // mma.sync, cp.async, ldmatrix: compute capability 8.0 and later, every Compute
  kWgmma,  // wgmma, TMA, mbarriers: compute capability 9.0 only, kFloat16 and kBFloat16
};

enum class Code : int {
  kOk,
  kUnsupportedShape,   // see `unsupported`
  kUnsupportedDevice,  // no kernels for this device in this build, or none for this Compute
  kInvalidArgument,    // null or misaligned pointer, negative size, wrong number of convolutions
  kImageTooLarge,      // a side of the output above 2^20 pixels
  kWorkspaceTooSmall,
  kCuda,  // the CUDA runtime or driver reported `Status::cuda`
};

struct Status {
  Code code = Code::kOk;
  int cuda = 0;  // a cudaError_t
  explicit operator bool() const { return code == Code::kOk; }
};

// English text without a trailing period. With Code::kCuda, CUDA's own words. Never null; valid
// for the life of the process.
const char* text(Status status);

const char* name(Path path);        // "mma", "wgmma", "none"
const char* name(Compute compute);  // "float16", "bfloat16", "tf32", "float32"

// Why the kernels cannot run this shape, or null.
const char* unsupported(const NetworkShape& shape);
const char* unsupported(const DenseBlockShape& shape);

// The path whose packed weights serve every path that device `device` can run.
Path packing_path(int device, Compute compute);
// Whether the trunk of a network of these widths has kernels of `path` of its own.
bool has_trunk(int nf, int gc, Compute compute, Path path);
// Whether this build has kernels of `path` that device `device` can run.
bool can_run(int device, Path path, Compute compute);

// What packing and running have in common: the shape, how it multiplies, on which kernels. Packed
// weights belong to one of these, with another Compute they are packed again. Those of
// Path::kWgmma hold what Path::kMma needs as well.
struct NetworkSpec {
  NetworkShape shape;
  Compute compute;
  Path path;
};

struct DenseBlockSpec {
  DenseBlockShape shape;
  Compute compute;
  Path path;
};

// Device pointers: OIHW contiguous 3x3 float32 weights, and float32 biases.
struct Convolution {
  const float* weights;
  const float* bias;
};

// Convolutions of the network in its own order: conv_first, the blocks' five each, conv_body, the
// upsampling ones, conv_hr, conv_last.
int convolution_count(const NetworkShape& shape);

struct Channels {
  int in, out;
};
Channels convolution_channels(const NetworkShape& shape, int convolution);

// Device pointers to `packed` and `workspace` must be aligned to this many bytes (torch's
// allocator gives 512).
constexpr std::size_t kAlignment = 256;

std::size_t packed_bytes(const NetworkSpec& spec);
std::size_t packed_bytes(const DenseBlockSpec& spec);

// Enqueues the packing of all convolutions. `convolutions` is a host array that is read before the
// call returns; what it points to must stay until the stream has passed.
Status pack(const NetworkSpec& spec, const Convolution* convolutions, int count, void* packed,
            Stream stream);
Status pack(const DenseBlockSpec& spec, const Convolution* convolutions, int count, void* packed,
            Stream stream);

enum class Pixel : int { kUint8, kUint16, kFloat16, kBFloat16, kFloat32 };

// A batch of images in device memory. Strides in elements, any order: NCHW, channels-last, views.
// The network sees `value * scale + offset`.
struct InputImages {
  const void* data;
  Pixel pixel;
  std::int64_t batch_stride, channel_stride, row_stride, column_stride;
  float scale = 1.0f, offset = 0.0f;
};

// `value * scale + offset` is stored, clipped to [low, high]; integers are rounded to the nearest
// (halves to even) and clipped to their type's range as well. NaN becomes 0 in integers and
// stays NaN in floats.
struct OutputImages {
  void* data;
  Pixel pixel;
  std::int64_t batch_stride, channel_stride, row_stride, column_stride;
  float scale = 1.0f, offset = 0.0f;
  float low = -__builtin_huge_valf(), high = __builtin_huge_valf();
};

// Bytes of scratch memory for one forward pass; 0 for an empty batch or image.
std::size_t workspace_bytes(const NetworkSpec& spec, int batch, int height, int width);
std::size_t workspace_bytes(const DenseBlockSpec& spec, int batch, int height, int width);

// One whole forward pass. `height` and `width` are those of the input; the output is
// 2^upsamplings times as large. `nonfinite`, if not null, is a device pointer to one word that
// becomes 1 (atomically, else it is left alone) when any value of the network's output is
// infinite or NaN, before conversion: float16 has overflowed. Set it to zero before. `trunk`: the
// spec's path, or kMma.
Status forward(const NetworkSpec& spec, Path trunk, const void* packed, const InputImages& in,
               const OutputImages& out, int batch, int height, int width, void* workspace,
               std::size_t workspace_size, std::uint32_t* nonfinite, Stream stream);

// One dense block. x and out: N, H, W, nf contiguous, elements of `activation_pixel(compute)`;
// they may be the same memory.
Status dense_block(const DenseBlockSpec& spec, const void* packed, const void* x, void* out,
                   int batch, int height, int width, void* workspace, std::size_t workspace_size,
                   Stream stream);

// Elements that the network's activations are kept in: kFloat16, kBFloat16 or kFloat32.
Pixel activation_pixel(Compute compute);

}  // namespace esrgan::cuda
