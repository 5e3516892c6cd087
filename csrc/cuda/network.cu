// A forward pass as a list of launches. What a launch does is in kernels.h, where things lie in
// memory_layout.h.
#include "kernels.h"
#include "memory_layout.h"
#include "network.h"
#include "runtime.h"

namespace esrgan::cuda {
namespace {

// A side of the output, and the work items of a launch: index arithmetic is in 32 bits.
constexpr int kMaxSide = 1 << 20;
constexpr std::int64_t kMaxItems = 1 << 30;
constexpr int kMaxUpsamplings = Workspace::kMaxTail - 1;

Status cuda_status(int error) { return error == kSuccess ? Status{} : Status{Code::kCuda, error}; }

bool supported_widths(int nf, int gc) { return (nf == 32 || nf == 64) && (gc == 16 || gc == 32); }

bool is_aligned(const void* p) {
  return p && reinterpret_cast<std::uintptr_t>(p) % kAlignment == 0;
}

// Calls `f(std::integral_constant<Compute, C>)`-like tags: a switch in one place.
template <Compute C>
struct Tag {
  static constexpr Compute kCompute = C;
};
template <class F>
Status for_compute(Compute compute, const F& f) {
  switch (compute) {
    case Compute::kFloat16:
      return f(Tag<Compute::kFloat16>());
    case Compute::kBFloat16:
      return f(Tag<Compute::kBFloat16>());
    case Compute::kTensorFloat32:
      return f(Tag<Compute::kTensorFloat32>());
    case Compute::kFloat32:
      return f(Tag<Compute::kFloat32>());
  }
  return {Code::kInvalidArgument, 0};
}

// Remembers the first error; later launches are left out.
class Sequence {
 public:
  template <class F>
  void run(const F& launch) {
    if (error_ == kSuccess) error_ = launch();
  }
  Status status() const { return cuda_status(error_); }

 private:
  int error_ = kSuccess;
};

// The launches of a network or a block at one size.
template <Compute C>
class ForwardPass {
 public:
  ForwardPass(const PackedLayout& layout, const void* packed, int batch, int height, int width,
              char* workspace, Stream stream)
      : layout_(layout),
        packed_(static_cast<const char*>(packed)),
        batch_(batch),
        height_(height),
        width_(width),
        workspace_(workspace),
        stream_(stream) {}

  Status status() const { return sequence_.status(); }

  // Which kernels the trunk's convolutions run on from here on, where there are weights for them.
  void use_trunk(Path trunk) { use_wgmma_ = trunk == Path::kWgmma && !layout_.pieces().empty(); }

  // `zoom`: how much larger than the input these activations are.
  Activations activations(std::size_t offset, int channels, int zoom = 1) const {
    return {workspace_ + offset, image_bytes(channels, zoom)};
  }

  // Five convolutions of one buffer; x are its first nf channels. The last writes
  // `residual_scale` * conv5 + x, and with `outer` * residual_scale + outer.
  void dense_block(int first_layer, int nf, int gc, float slope, float residual_scale,
                   Activations block, Activations out, Activations outer) {
    for (int k = 0; k < kDenseLayers; ++k) {
      const bool last = k == kDenseLayers - 1;
      Activations to = out;
      if (!last) to = {block.data + channel_offset(nf + k * gc), block.image_bytes};
      Epilogue e{};
      e.slope = last ? 1.0f : slope;
      if (last) {
        e.scale = residual_scale;
        e.residual = block;
        e.outer_scale = residual_scale;
        e.outer_residual = outer;
      }
      convolution(first_layer + k, block, nf + 4 * gc, to, e);
    }
  }

  // Of the first channels of a buffer that has `channels`.
  void convolution(int layer, Activations in, int channels, Activations out,
                   const Epilogue& epilogue) {
    if (use_wgmma_) {
      wgmma_convolution(layer, in, channels, out, epilogue);
      return;
    }
    const ConvolutionTask t = task(layer, in, 1, out, epilogue);
    sequence_.run([&] { return Launch<C>::convolution(t, stream_); });
  }

  void upsample(int layer, Activations in, int zoom, Activations out, float slope) {
    Epilogue e{};
    e.slope = slope;
    const ConvolutionTask t = task(layer, in, zoom, out, e);
    sequence_.run([&] { return Launch<C>::upsample(t, stream_); });
  }

  void head(int layer, Activations in, int zoom, float slope, const OutputImages& out,
            std::uint32_t* nonfinite) {
    const PackedLayer& last = layout_[layer + 1];
    Epilogue e{};
    e.slope = slope;
    HeadTask t{};
    t.hr = task(layer, in, zoom, {}, e);
    t.nf = last.layout.in_channels;
    t.last_weights = packed_ + last.weights;
    t.last_bias = reinterpret_cast<const float*>(packed_ + last.bias);
    t.out = out;
    t.out_channels = last.layout.out_channels;
    t.nonfinite = nonfinite;
    sequence_.run([&] { return Launch<C>::head(t, stream_); });
  }

  void first(const InputImages& in, Activations out, Activations copy) {
    const PackedLayer& layer = layout_[0];
    FirstTask t{};
    t.in = in;
    t.batch = batch_;
    t.height = height_;
    t.width = width_;
    t.channels = layer.layout.in_channels;
    t.nf = layer.layout.out_channels;
    t.weights = reinterpret_cast<const float*>(packed_ + layer.weights);
    t.bias = reinterpret_cast<const float*>(packed_ + layer.bias);
    t.out = out;
    t.copy = copy;
    sequence_.run([&] { return Launch<C>::first(t, stream_); });
  }

  void reorder(char* pixels, Activations units, int channels, bool to_units) {
    const ReorderTask t{pixels, units, batch_, height_, width_, channels};
    sequence_.run([&] {
      return to_units ? Launch<C>::to_units(t, stream_) : Launch<C>::from_units(t, stream_);
    });
  }

 private:
  std::int64_t image_bytes(int channels, int zoom) const {
    return std::int64_t{channels} * element_bytes(C) * height_ * zoom * width_ * zoom;
  }
  std::int64_t channel_offset(int channel) const { return image_bytes(channel, 1); }

  void wgmma_convolution(int layer, Activations in, int channels, Activations out,
                         const Epilogue& epilogue) {
    if constexpr (element_bytes(C) == 2) {
      const WgmmaPiece& piece = layout_.piece_of(layer);
      WgmmaConvolution t{};
      t.buffer = in;
      t.buffer_units = channels / unit_channels(element_bytes(C));
      t.first_unit = piece.first_input / unit_channels(element_bytes(C));
      t.chunks = piece.inputs / kWgmmaChunkChannels;
      t.batch = batch_;
      t.height = height_;
      t.width = width_;
      t.rows = piece.rows;
      t.weights = packed_ + piece.weights;
      t.out = out;
      t.epilogue = epilogue;
      t.epilogue.bias = reinterpret_cast<const float*>(packed_ + layout_[layer].bias);
      sequence_.run([&] { return LaunchWgmma<C>::convolution(t, stream_); });
    }
  }

  ConvolutionTask task(int layer, Activations in, int zoom, Activations out,
                       Epilogue epilogue) const {
    const PackedLayer& p = layout_[layer];
    epilogue.bias = reinterpret_cast<const float*>(packed_ + p.bias);
    ConvolutionTask t{};
    t.in = in;
    t.batch = batch_;
    t.height = height_ * zoom;
    t.width = width_ * zoom;
    t.in_units = p.layout.in_channels / unit_channels(element_bytes(C));
    t.chunks = p.layout.chunks();
    t.weights = packed_ + p.weights;
    t.out = out;
    t.out_channels = p.layout.out_channels;
    t.epilogue = epilogue;
    return t;
  }

  const PackedLayout& layout_;
  const char* packed_;
  int batch_, height_, width_;
  char* workspace_;
  Stream stream_;
  Sequence sequence_;
  bool use_wgmma_ = false;
};

template <Compute C>
Status run_network(const NetworkShape& s, Path path, Path trunk, const void* packed,
                   const InputImages& in, const OutputImages& out, int batch, int height, int width,
                   char* memory, std::uint32_t* nonfinite, Stream stream) {
  const PackedLayout layout = PackedLayout::of(s, C, path);
  const Workspace w(s, C, batch, height, width);
  ForwardPass<C> pass(layout, packed, batch, height, width, memory, stream);
  pass.use_trunk(trunk);
  const int channels = s.nf + 4 * s.gc;
  const Activations features = pass.activations(w.features, s.nf);
  Activations blocks[Workspace::kBlocks];
  for (int i = 0; i < Workspace::kBlocks; ++i) blocks[i] = pass.activations(w.blocks[i], channels);

  pass.first(in, features, blocks[0]);
  int layer = 1;
  for (int rrdb = 0; rrdb < s.rrdbs; ++rrdb)
    for (int d = 0; d < 3; ++d, layer += kDenseLayers) {
      // The third block's output takes the place of the RRDB's input, which is its outer residual:
      // each thread reads the values that it then writes.
      const Activations to = blocks[(d + 1) % 3];
      pass.dense_block(layer, s.nf, s.gc, s.negative_slope, s.residual_scale, blocks[d], to,
                       d == 2 ? to : Activations{});
    }
  Epilogue skip{};
  skip.slope = 1;
  skip.scale = 1;
  skip.residual = features;
  Activations y = pass.activations(w.tail[0], s.nf);
  pass.convolution(layer++, blocks[0], channels, y, skip);
  int zoom = 1;
  for (int i = 1; i <= s.upsamplings; ++i, zoom *= 2) {
    const Activations larger = pass.activations(w.tail[i], s.nf, 2 * zoom);
    pass.upsample(layer++, y, zoom, larger, s.negative_slope);
    y = larger;
  }
  pass.head(layer, y, zoom, s.negative_slope, out, nonfinite);
  return pass.status();
}

WgmmaPackTask wgmma_pack_task(const PackedLayout& layout, const WgmmaPiece& piece,
                              const Convolution* convolutions, void* packed) {
  WgmmaPackTask task{};
  task.top = convolutions[piece.layer].weights;
  task.top_rows = layout[piece.layer].layout.out_channels;
  task.top_inputs = layout[piece.layer].layout.in_channels;
  if (piece.rows == Rows::kPair) {
    task.bottom = convolutions[piece.layer + 1].weights;
    task.bottom_inputs = layout[piece.layer + 1].layout.in_channels;
  }
  task.first_input = piece.first_input;
  task.inputs = piece.inputs;
  task.packed = static_cast<char*>(packed) + piece.weights;
  return task;
}

template <Compute C>
void pack_pieces(const PackedLayout& layout, const Convolution* convolutions, void* packed,
                 Stream stream, Sequence& sequence) {
  if constexpr (element_bytes(C) == 2) {
    for (const WgmmaPiece& piece : layout.pieces()) {
      const WgmmaPackTask task = wgmma_pack_task(layout, piece, convolutions, packed);
      sequence.run([&] { return LaunchWgmma<C>::pack(task, stream); });
    }
  }
}

Status pack_layers(const PackedLayout& layout, Compute compute, const Convolution* convolutions,
                   int count, void* packed, Stream stream) {
  if (count != layout.count() || !convolutions || !is_aligned(packed))
    return {Code::kInvalidArgument, 0};
  for (int i = 0; i < count; ++i)
    if (!convolutions[i].weights || !convolutions[i].bias) return {Code::kInvalidArgument, 0};
  return for_compute(compute, [&](auto tag) -> Status {
    Sequence sequence;
    for (int i = 0; i < count; ++i) {
      const PackedLayer& layer = layout[i];
      char* const base = static_cast<char*>(packed);
      const PackTask task{
          layer.form,           layer.layout,         convolutions[i].weights,
          convolutions[i].bias, base + layer.weights, reinterpret_cast<float*>(base + layer.bias),
          layer.bias_floats};
      sequence.run([&] { return Launch<decltype(tag)::kCompute>::pack(task, stream); });
    }
    pack_pieces<decltype(tag)::kCompute>(layout, convolutions, packed, stream, sequence);
    return sequence.status();
  });
}

Status check_size(int batch, int height, int width, int zoom) {
  if (batch < 0 || height < 0 || width < 0) return {Code::kInvalidArgument, 0};
  if (height >= kMaxSide / zoom || width >= kMaxSide / zoom) return {Code::kImageTooLarge, 0};
  // The head's tiles are the smallest ones but for conv_first's, of a network that does not
  // enlarge.
  const std::int64_t head = head_items(batch, height * zoom, width * zoom).count();
  const std::int64_t first = std::int64_t{batch} * ceil_div(height, 4) * ceil_div(width, 32) * 2;
  if (head >= kMaxItems || first >= kMaxItems) return {Code::kImageTooLarge, 0};
  return {};
}

template <class Spec>
Status check_spec(const Spec& spec) {
  if (unsupported(spec.shape)) return {Code::kUnsupportedShape, 0};
  const bool sixteen_bits = element_bytes(spec.compute) == 2;
  if (spec.path != Path::kMma && !(spec.path == Path::kWgmma && sixteen_bits))
    return {Code::kUnsupportedDevice, 0};
  return {};
}

}  // namespace

const char* text(Status status) {
  switch (status.code) {
    case Code::kOk:
      return "no error";
    case Code::kUnsupportedShape:
      return "the CUDA kernels do not run networks of this shape";
    case Code::kUnsupportedDevice:
      return "this build has no kernels for this device and precision";
    case Code::kInvalidArgument:
      return "invalid argument (null or misaligned pointer, negative size, or a wrong number of "
             "convolutions)";
    case Code::kImageTooLarge:
      return "the image is too large for one pass";
    case Code::kWorkspaceTooSmall:
      return "the workspace is too small";
    case Code::kCuda:
      return error_text(status.cuda);
  }
  return "unknown error";
}

const char* name(Path path) {
  switch (path) {
    case Path::kNone:
      return "none";
    case Path::kMma:
      return "mma";
    case Path::kWgmma:
      return "wgmma";
  }
  return "unknown";
}

const char* name(Compute compute) {
  switch (compute) {
    case Compute::kFloat16:
      return "float16";
    case Compute::kBFloat16:
      return "bfloat16";
    case Compute::kTensorFloat32:
      return "tf32";
    case Compute::kFloat32:
      return "float32";
  }
  return "unknown";
}

const char* unsupported(const NetworkShape& s) {
  if (!supported_widths(s.nf, s.gc)) return "nf must be 32 or 64, gc 16 or 32";
  if (s.in_channels < 1 || s.in_channels > 64) return "1 to 64 input channels";
  if (s.out_channels < 1 || s.out_channels > kLastOutputs) return "1 to 8 output channels";
  if (s.rrdbs < 0 || s.rrdbs > 1024) return "0 to 1024 RRDBs";
  if (s.upsamplings < 0 || s.upsamplings > kMaxUpsamplings) return "0 to 3 upsamplings";
  return nullptr;
}

const char* unsupported(const DenseBlockShape& s) {
  return supported_widths(s.nf, s.gc) ? nullptr : "nf must be 32 or 64, gc 16 or 32";
}

bool can_run(int device, Path path, Compute compute) {
  Device properties;
  if (path == Path::kNone || describe(device, properties) != kSuccess || properties.major < 8)
    return false;
  const bool wgmma = path == Path::kWgmma;
  if (wgmma && (properties.major != 9 || element_bytes(compute) != 2)) return false;
  const DeviceGuard guard(device);
  if (guard.error() != kSuccess) return false;
  return static_cast<bool>(for_compute(compute, [&](auto tag) -> Status {
    constexpr Compute kCompute = decltype(tag)::kCompute;
    bool available = Launch<kCompute>::available();
    if constexpr (element_bytes(kCompute) == 2) {
      if (wgmma) available = available && LaunchWgmma<kCompute>::available();
    }
    return available ? Status{} : Status{Code::kUnsupportedDevice, 0};
  }));
}

Path packing_path(int device, Compute compute) {
  for (const Path path : {Path::kWgmma, Path::kMma})
    if (can_run(device, path, compute)) return path;
  return Path::kNone;
}

bool has_trunk(int nf, int gc, Compute compute, Path path) {
  return path == Path::kMma || has_wgmma_trunk(nf, gc, compute, path);
}

int convolution_count(const NetworkShape& s) {
  return 1 + 3 * kDenseLayers * s.rrdbs + 1 + s.upsamplings + 2;
}

Channels convolution_channels(const NetworkShape& s, int convolution) {
  const PackedLayout layout = PackedLayout::of(s, Compute::kFloat32, Path::kMma);
  const WeightLayout& w = layout[convolution].layout;
  return {w.in_channels, w.out_channels};
}

std::size_t packed_bytes(const NetworkSpec& spec) {
  return PackedLayout::of(spec.shape, spec.compute, spec.path).bytes();
}

std::size_t packed_bytes(const DenseBlockSpec& spec) {
  return PackedLayout::of(spec.shape, spec.compute, spec.path).bytes();
}

Status pack(const NetworkSpec& spec, const Convolution* convolutions, int count, void* packed,
            Stream stream) {
  const Status status = check_spec(spec);
  if (!status) return status;
  return pack_layers(PackedLayout::of(spec.shape, spec.compute, spec.path), spec.compute,
                     convolutions, count, packed, stream);
}

Status pack(const DenseBlockSpec& spec, const Convolution* convolutions, int count, void* packed,
            Stream stream) {
  const Status status = check_spec(spec);
  if (!status) return status;
  return pack_layers(PackedLayout::of(spec.shape, spec.compute, spec.path), spec.compute,
                     convolutions, count, packed, stream);
}

std::size_t workspace_bytes(const NetworkSpec& spec, int batch, int height, int width) {
  if (batch <= 0 || height <= 0 || width <= 0) return 0;
  return Workspace(spec.shape, spec.compute, batch, height, width).bytes;
}

std::size_t workspace_bytes(const DenseBlockSpec& spec, int batch, int height, int width) {
  if (batch <= 0 || height <= 0 || width <= 0) return 0;
  return DenseBlockWorkspace(spec.shape, spec.compute, batch, height, width).bytes;
}

Status forward(const NetworkSpec& spec, Path trunk, const void* packed, const InputImages& in,
               const OutputImages& out, int batch, int height, int width, void* workspace,
               std::size_t workspace_size, std::uint32_t* nonfinite, Stream stream) {
  Status status = check_spec(spec);
  if (status) status = check_size(batch, height, width, 1 << spec.shape.upsamplings);
  if (!status || batch == 0 || height == 0 || width == 0) return status;
  if (!is_aligned(packed) || !is_aligned(workspace) || !in.data || !out.data ||
      (trunk != spec.path && trunk != Path::kMma))
    return {Code::kInvalidArgument, 0};
  if (workspace_size < workspace_bytes(spec, batch, height, width))
    return {Code::kWorkspaceTooSmall, 0};
  return for_compute(spec.compute, [&](auto tag) -> Status {
    return run_network<decltype(tag)::kCompute>(spec.shape, spec.path, trunk, packed, in, out,
                                                batch, height, width, static_cast<char*>(workspace),
                                                nonfinite, stream);
  });
}

Status dense_block(const DenseBlockSpec& spec, const void* packed, const void* x, void* out,
                   int batch, int height, int width, void* workspace, std::size_t workspace_size,
                   Stream stream) {
  Status status = check_spec(spec);
  if (status) status = check_size(batch, height, width, 1);
  if (!status || batch == 0 || height == 0 || width == 0) return status;
  // Pixels are moved 16 bytes at a time.
  const auto in_units = [](const void* p) {
    return p && reinterpret_cast<std::uintptr_t>(p) % kUnitBytes == 0;
  };
  if (!is_aligned(packed) || !is_aligned(workspace) || !in_units(x) || !in_units(out))
    return {Code::kInvalidArgument, 0};
  if (workspace_size < workspace_bytes(spec, batch, height, width))
    return {Code::kWorkspaceTooSmall, 0};
  return for_compute(spec.compute, [&](auto tag) -> Status {
    constexpr Compute kCompute = decltype(tag)::kCompute;
    const DenseBlockShape& s = spec.shape;
    const PackedLayout layout = PackedLayout::of(s, kCompute, spec.path);
    const DenseBlockWorkspace w(s, kCompute, batch, height, width);
    ForwardPass<kCompute> pass(layout, packed, batch, height, width, static_cast<char*>(workspace),
                               stream);
    pass.use_trunk(spec.path);
    const Activations block = pass.activations(w.block, s.nf + 4 * s.gc);
    const Activations result = pass.activations(w.result, s.nf);
    pass.reorder(const_cast<char*>(static_cast<const char*>(x)), block, s.nf, true);
    pass.dense_block(0, s.nf, s.gc, s.negative_slope, s.residual_scale, block, result, {});
    pass.reorder(static_cast<char*>(out), result, s.nf, false);
    return pass.status();
  });
}

Pixel activation_pixel(Compute compute) {
  switch (compute) {
    case Compute::kFloat16:
      return Pixel::kFloat16;
    case Compute::kBFloat16:
      return Pixel::kBFloat16;
    default:
      return Pixel::kFloat32;
  }
}

}  // namespace esrgan::cuda
