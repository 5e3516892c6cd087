// Runs the CUDA kernels in the emulator and compares whole networks with a direct convolution in
// double, over the shapes that break such code: one pixel, one row, one column, odd, larger than a
// tile, several images, none. Plain main: prints what it compared, fails at the first difference.
// tests/ops/test_cuda_emulated.py builds and runs it.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "memory_layout.h"
#include "network.h"
#include "reference.h"
#include "tiling.h"

using namespace esrgan::cuda;
using reference::Layer;
using reference::normal;
using reference::Planes;

namespace {

// Signals that grow a little, so that no layer is lost in the noise of the ones before.
constexpr double kGain = 1.2;

[[noreturn]] void stop(const std::string& what) {
  std::printf("FAILED: %s\n", what.c_str());
  std::exit(1);
}

void expect(bool condition, const std::string& what) {
  if (!condition) stop(what);
}

// ---- On the emulated device ----

struct DeviceLayers {
  std::vector<std::unique_ptr<emulator::Memory>> memory;
  std::vector<Convolution> views;
  explicit DeviceLayers(const std::vector<Layer>& layers) {
    for (const Layer& l : layers) {
      views.push_back({copy(l.weights), copy(l.bias)});
    }
  }
  const float* copy(const std::vector<float>& values) {
    memory.push_back(std::make_unique<emulator::Memory>(values.size() * sizeof(float)));
    std::copy(values.begin(), values.end(), memory.back()->as<float>());
    return memory.back()->as<float>();
  }
};

std::size_t pixel_bytes(Pixel p) { return p == Pixel::kUint8 ? 1 : p == Pixel::kFloat32 ? 4 : 2; }

void put(char* data, Pixel pixel, std::int64_t at, double v) {
  const float f = static_cast<float>(v);
  if (pixel == Pixel::kUint8)
    reinterpret_cast<std::uint8_t*>(data)[at] = static_cast<std::uint8_t>(v);
  else if (pixel == Pixel::kUint16)
    reinterpret_cast<std::uint16_t*>(data)[at] = static_cast<std::uint16_t>(v);
  else if (pixel == Pixel::kFloat16)
    reinterpret_cast<std::uint16_t*>(data)[at] = emulator::float_to_half(f);
  else if (pixel == Pixel::kBFloat16)
    reinterpret_cast<std::uint16_t*>(data)[at] = emulator::float_to_bf16(f);
  else reinterpret_cast<float*>(data)[at] = f;
}

double get(const char* data, Pixel pixel, std::int64_t at) {
  if (pixel == Pixel::kUint8) return reinterpret_cast<const std::uint8_t*>(data)[at];
  if (pixel == Pixel::kUint16) return reinterpret_cast<const std::uint16_t*>(data)[at];
  if (pixel == Pixel::kFloat16)
    return emulator::half_to_float(reinterpret_cast<const std::uint16_t*>(data)[at]);
  if (pixel == Pixel::kBFloat16)
    return emulator::bits_to_float(
        static_cast<std::uint32_t>(reinterpret_cast<const std::uint16_t*>(data)[at]) << 16);
  return reinterpret_cast<const float*>(data)[at];
}

enum class Order { kPlanar, kChannelsLast, kPadded };

struct Strides {
  std::int64_t batch, channel, row, column, elements;
};

Strides strides_of(Order order, int batch, int channels, int height, int width) {
  const std::int64_t n = batch, c = channels, h = height, w = width;
  if (order == Order::kPlanar) return {c * h * w, h * w, w, 1, n * c * h * w};
  if (order == Order::kChannelsLast) return {c * h * w, 1, w * c, c, n * c * h * w};
  // Every other column of a wider, planar image.
  const std::int64_t pitch = 2 * w + 3;
  return {c * h * pitch, h * pitch, pitch, 2, n * c * h * pitch};
}

struct Case {
  NetworkShape shape;
  Compute compute;
  Path path;
  int batch, height, width;
  Pixel in = Pixel::kFloat32, out = Pixel::kFloat32;
  Order in_order = Order::kPlanar, out_order = Order::kPlanar;
  int processors = 2;
  Path trunk = Path::kNone;  // kNone: the spec's
};

// Of the output's power, for networks of random weights. A wrong tap costs 30 dB and more.
double least_decibels(Compute c) {
  switch (c) {
    case Compute::kFloat16:
      return 56;
    case Compute::kBFloat16:
      return 40;
    case Compute::kTensorFloat32:
      return 56;
    default:
      return 115;
  }
}

std::string describe_case(const Case& c) {
  char text[200];
  std::snprintf(text, sizeof text,
                "%s %s: %d->%d nf %d gc %d rrdbs %d x%d, %d x %d x %d, pixels %d->%d, order %d->%d",
                name(c.path), name(c.compute), c.shape.in_channels, c.shape.out_channels,
                c.shape.nf, c.shape.gc, c.shape.rrdbs, 1 << c.shape.upsamplings, c.batch, c.height,
                c.width, static_cast<int>(c.in), static_cast<int>(c.out),
                static_cast<int>(c.in_order), static_cast<int>(c.out_order));
  return text;
}

// Decibels of the signal's own power over the error's: no peak that flatters.
double decibels(double signal, double error) {
  return error == 0 ? 999 : 10 * std::log10(signal / error);
}

void run(Case c) {
  if (c.trunk == Path::kNone) c.trunk = c.path;
  emulator::machine().processors = c.processors;
  const NetworkShape& s = c.shape;
  expect(unsupported(s) == nullptr, "unsupported shape");
  const int zoom = 1 << s.upsamplings;
  const std::vector<Layer> layers = reference::network_layers(s, kGain);
  const NetworkSpec spec{s, c.compute, c.path};

  emulator::Memory packed(packed_bytes(spec));
  {
    const DeviceLayers device(layers);
    const Status status = pack(spec, device.views.data(), static_cast<int>(device.views.size()),
                               packed.as<void>(), nullptr);
    expect(static_cast<bool>(status), text(status));
  }

  // Images of values that the pixel type holds exactly.
  const bool integers = c.in == Pixel::kUint8 || c.in == Pixel::kUint16;
  const double top = c.in == Pixel::kUint8 ? 255 : c.in == Pixel::kUint16 ? 65535 : 1;
  const Strides in = strides_of(c.in_order, c.batch, s.in_channels, c.height, c.width);
  emulator::Memory input(static_cast<std::size_t>(in.elements) * pixel_bytes(c.in));
  std::vector<Planes> images;
  std::uniform_real_distribution<double> uniform(0, 1);
  for (int n = 0; n < c.batch; ++n) {
    images.emplace_back(s.in_channels, c.height, c.width);
    for (int ch = 0; ch < s.in_channels; ++ch)
      for (int y = 0; y < c.height; ++y)
        for (int x = 0; x < c.width; ++x) {
          const std::int64_t at = n * in.batch + ch * in.channel + y * in.row + x * in.column;
          const double v = uniform(reference::generator) * top;
          put(input.as<char>(), c.in, at, integers ? std::nearbyint(v) : v);
          images.back().at(ch, y, x) = get(input.as<char>(), c.in, at) / top;
        }
  }

  const double out_top = c.out == Pixel::kUint8 ? 255 : c.out == Pixel::kUint16 ? 65535 : 1;
  const bool out_integers = c.out == Pixel::kUint8 || c.out == Pixel::kUint16;
  const Strides out =
      strides_of(c.out_order, c.batch, s.out_channels, c.height * zoom, c.width * zoom);
  emulator::Memory output(static_cast<std::size_t>(out.elements) * pixel_bytes(c.out));
  emulator::Memory nonfinite(4);
  *nonfinite.as<std::uint32_t>() = 0;
  const std::size_t bytes = workspace_bytes(spec, c.batch, c.height, c.width);
  emulator::Memory workspace(bytes);
  InputImages from{input.as<void>(),
                   c.in,
                   in.batch,
                   in.channel,
                   in.row,
                   in.column,
                   static_cast<float>(1 / top),
                   0};
  OutputImages to{output.as<void>(), c.out, out.batch, out.channel, out.row, out.column};
  // Networks of random weights do not keep to [0, 1].
  const double scale = out_integers ? out_top / 16 : 1, offset = out_integers ? out_top / 2 : 0;
  to.scale = static_cast<float>(scale);
  to.offset = static_cast<float>(offset);
  const Status status =
      forward(spec, c.trunk, packed.as<void>(), from, to, c.batch, c.height, c.width,
              workspace.as<void>(), bytes, nonfinite.as<std::uint32_t>(), nullptr);
  expect(static_cast<bool>(status), text(status));
  expect(*nonfinite.as<std::uint32_t>() == 0, "infinite or NaN values in " + describe_case(c));

  double signal = 0, error = 0, worst = 0;
  for (int n = 0; n < c.batch; ++n) {
    const Planes expected = reference::network(s, layers, images[static_cast<std::size_t>(n)],
                                               s.negative_slope, s.residual_scale);
    for (int ch = 0; ch < s.out_channels; ++ch)
      for (int y = 0; y < c.height * zoom; ++y)
        for (int x = 0; x < c.width * zoom; ++x) {
          double v = expected.get(ch, y, x) * scale + offset;
          if (out_integers) v = std::min(std::max(v, 0.0), out_top);
          const double got = get(output.as<char>(), c.out,
                                 n * out.batch + ch * out.channel + y * out.row + x * out.column);
          expect(std::isfinite(got), "NaN in " + describe_case(c));
          signal += v * v;
          error += (got - v) * (got - v);
          worst = std::max(worst, std::fabs(got - v));
        }
  }
  if (c.batch == 0) return;
  const double db = decibels(signal, error);
  std::printf("%-90s %6.1f dB, worst %.3g\n", describe_case(c).c_str(), db, worst);
  std::fflush(stdout);
  double least = least_decibels(c.compute);
  // Rounding of the output itself.
  if (c.out == Pixel::kUint8) least = std::min(least, 45.0);
  if (c.out == Pixel::kFloat16) least = std::min(least, 60.0);
  if (c.out == Pixel::kBFloat16) least = std::min(least, 42.0);
  if (c.out == Pixel::kUint16) least = std::min(least, 95.0);
  expect(db >= least, "too far from the definition: " + describe_case(c));
  if (out_integers && c.compute == Compute::kFloat32)
    expect(worst < 0.5 + 1e-4 * scale, "not the nearest integer");
}

void run_dense_block(Compute compute, Path path, int nf, int gc, int batch, int height, int width,
                     int processors = 1) {
  emulator::machine().processors = processors;
  const DenseBlockSpec spec{{nf, gc, 0.1f, 0.3f}, compute, path};
  const std::vector<Layer> layers = reference::dense_block_layers(nf, gc, kGain);
  emulator::Memory packed(packed_bytes(spec));
  const DeviceLayers device(layers);
  Status status = pack(spec, device.views.data(), 5, packed.as<void>(), nullptr);
  expect(static_cast<bool>(status), text(status));
  const Pixel pixel = activation_pixel(compute);
  const Strides at = strides_of(Order::kChannelsLast, batch, nf, height, width);
  emulator::Memory x(static_cast<std::size_t>(at.elements) * pixel_bytes(pixel));
  emulator::Memory out(x.bytes());
  const std::vector<float> values = normal(static_cast<std::size_t>(at.elements), 1);
  for (std::int64_t i = 0; i < at.elements; ++i)
    put(x.as<char>(), pixel, i, values[static_cast<std::size_t>(i)]);
  const std::size_t bytes = workspace_bytes(spec, batch, height, width);
  emulator::Memory workspace(bytes);
  status = dense_block(spec, packed.as<void>(), x.as<void>(), out.as<void>(), batch, height, width,
                       workspace.as<void>(), bytes, nullptr);
  expect(static_cast<bool>(status), text(status));
  double signal = 0, error = 0;
  for (int n = 0; n < batch; ++n) {
    Planes image(nf, height, width);
    const auto index = [&](int c, int y, int px) {
      return n * at.batch + c * at.channel + y * at.row + px * at.column;
    };
    for (int c = 0; c < nf; ++c)
      for (int y = 0; y < height; ++y)
        for (int px = 0; px < width; ++px)
          image.at(c, y, px) = get(x.as<char>(), pixel, index(c, y, px));
    const Planes expected = reference::dense_block(image, layers.data(), 0.1f, 0.3f);
    for (int c = 0; c < nf; ++c)
      for (int y = 0; y < height; ++y)
        for (int px = 0; px < width; ++px) {
          const double v = expected.get(c, y, px);
          const double got = get(out.as<char>(), pixel, index(c, y, px));
          expect(std::isfinite(got), "NaN in a dense block");
          signal += v * v;
          error += (got - v) * (got - v);
        }
  }
  const double db = decibels(signal, error);
  std::printf("dense block %s %s nf %d gc %d, %d x %d x %d %25.1f dB\n", name(path), name(compute),
              nf, gc, batch, height, width, db);
  expect(db >= least_decibels(compute), "dense block too far from the definition");
}

// ---- Layouts: every weight has its place, every pixel its tile ----

void test_layout() {
  for (const int bytes : {2, 4})
    for (const int outputs : {32, 64})
      for (const int in : {32, 64, 80, 192}) {
        const WeightLayout w{bytes, 3, 3, outputs, in, 64, 1};
        std::vector<int> seen(static_cast<std::size_t>(64 * in * 9));
        for (std::int64_t i = 0; i < w.words(); ++i) {
          const WeightPlace p = weight_place(w, i);
          for (int e = 0; e < 4 / bytes; ++e)
            if (p.output < 64 && p.input + e < in)
              ++seen[static_cast<std::size_t>(((p.output * in + p.input + e) * 3 + p.tap_row) * 3 +
                                              p.tap_column)];
        }
        for (const int count : seen) expect(count == 1, "a weight is packed not exactly once");
      }
  for (const int bytes : {2, 4}) {
    std::vector<int> seen(8 * 64 * 9);
    for (int i = 0; i < static_cast<int>(last_words(bytes, 64)); ++i) {
      const WeightPlace p = last_weight_place(bytes, i);
      for (int e = 0; e < 4 / bytes; ++e)
        ++seen[static_cast<std::size_t>(((p.output * 64 + p.input + e) * 3 + p.tap_row) * 3 +
                                        p.tap_column)];
    }
    for (const int count : seen) expect(count == 1, "a weight of conv_last is packed not once");
  }
  for (const int height : {1, 13, 14, 16, 17, 100})
    for (const int width : {1, 14, 15, 32, 33, 100}) {
      std::vector<int> seen(static_cast<std::size_t>(height * width));
      const Items head = head_items(2, height, width);
      for (int i = 0; i < head.count(); ++i) {
        const Item item = head.at(i);
        for (int y = kHeadBorder; y < HeadTile::kRows - kHeadBorder; ++y)
          for (int x = kHeadBorder; x < HeadTile::kColumns - kHeadBorder; ++x)
            if (item.row + y < height && item.column + x < width)
              ++seen[static_cast<std::size_t>((item.row + y) * width + item.column + x)];
      }
      for (const int count : seen) expect(count == 2, "a pixel is in not one tile per image");
    }
  for (const std::int64_t items : {1, 131, 132, 133, 1000, 100000}) {
    const int blocks = persistent_blocks(items, 132);
    expect(blocks <= 132 && (items + blocks - 1) / blocks == (items + 131) / 132, "rounds");
  }
  expect(prefers_large_tiles(1, 512, 512, 32, 132) && !prefers_large_tiles(1, 128, 128, 32, 132),
         "tile size");
  // The 2x2 taps of each phase are the 3x3 ones, each once.
  for (int phase = 0; phase < 2; ++phase)
    expect(upsample_taps(phase, 0).last + 1 == upsample_taps(phase, 1).first &&
               upsample_taps(phase, 0).first == 0 && upsample_taps(phase, 1).last == 2,
           "phases");
}

// ---- Kernels with one mistake each, that the emulator has to find ----

struct MistakeTask {
  int kind;
  char* memory;
  TensorMap map;  // of all of it
};

void mistaken_kernel(const MistakeTask task) {
  const std::uint32_t mine = static_cast<std::uint32_t>(thread_index()) * 16;
  const auto next = static_cast<std::uint32_t>((thread_index() + 1) % 64) * 16;
  std::uint32_t r[4];
  float d[4] = {};
  switch (task.kind) {
    case 0:  // no barrier between
      store_shared16(mine, {0, 0, 0, 0});
      synchronize_block();
      load_shared16(next);
      store_shared16(mine, {1, 1, 1, 1});
      break;
    case 1:  // one group too many left
      cp_async16(mine, task.memory + mine, true);
      cp_async_commit();
      cp_async_wait<1>();
      synchronize_block();
      load_shared16(next);
      break;
    case 2:
      load_shared16(mine);
      break;
    case 3:
      load_global<uint4>(task.memory + 64 * 16 + mine);
      break;
    case 4:
      store_shared16(mine, {0, 0, 0, 0});
      synchronize_block();
      if (thread_index() % 32 == 0) mma_f16(d, {0, 0, 0, 0}, 0, 0);
      else ldmatrix4(r, mine);
      break;
    case 5:
      if (thread_index() != 5) synchronize_block();
      break;
    case 6:  // no fence between
    case 7:  // written again before it was read
      store_shared16(mine, {0, 0, 0, 0});
      if (task.kind == 7) fence_for_tma();
      synchronize_block();
      if (thread_index() == 0) {
        tma_store(task.map, 0, 0, 0, 0);
        tma_store_commit();
        store_shared16(mine, {1, 1, 1, 1});
        tma_store_wait();
      }
      break;
    case 8:  // does not wait for the launch before
      store_global(task.memory + mine, uint4{0, 0, 0, 0});
      break;
    default:  // lets the next launch start before it has waited itself
      let_next_launch_start();
      wait_for_earlier_launches();
  }
}

void test_mistake(int kind) {
  emulator::Memory memory(64 * 16);
  MistakeTask task{kind, memory.as<char>(), {}};
  encode_tensor_map(task.map, memory.as<void>(), 64, 8, 1, 64, 8, 1);
  launch(&mistaken_kernel, 1, 64, 64 * 16, nullptr, task, kind >= 8 ? Overlap::kYes : Overlap::kNo);
}

const Compute kAll[] = {Compute::kFloat16, Compute::kBFloat16, Compute::kTensorFloat32,
                        Compute::kFloat32};

NetworkShape shape(int in, int out, int nf, int gc, int rrdbs, int upsamplings) {
  return {in, out, nf, gc, rrdbs, upsamplings};
}

void test_errors() {
  const NetworkSpec spec{shape(3, 3, 64, 32, 1, 2), Compute::kFloat16, Path::kMma};
  expect(unsupported(shape(3, 3, 48, 32, 1, 2)), "nf 48");
  expect(unsupported(shape(3, 9, 64, 32, 1, 2)), "9 outputs");
  expect(unsupported(shape(3, 3, 64, 32, 1, 4)), "x16");
  expect(workspace_bytes(spec, 0, 10, 10) == 0 && workspace_bytes(spec, 1, 0, 10) == 0, "empty");
  const std::size_t bytes = workspace_bytes(spec, 1, 4, 4);
  emulator::Memory packed(packed_bytes(spec)), workspace(bytes), image(4096);
  const InputImages in{image.as<void>(), Pixel::kUint8, 48, 16, 4, 1};
  const OutputImages out{image.as<void>(), Pixel::kUint8, 768, 256, 16, 1};
  const auto code = [&](const NetworkSpec& p, const void* w, std::size_t size, int height) {
    return forward(p, p.path, w, in, out, 1, height, 4, workspace.as<void>(), size, nullptr,
                   nullptr)
        .code;
  };
  expect(code(spec, packed.as<void>(), bytes - 1, 4) == Code::kWorkspaceTooSmall, "workspace");
  expect(code(spec, packed.as<char>() + 16, bytes, 4) == Code::kInvalidArgument, "alignment");
  expect(code(spec, nullptr, bytes, 4) == Code::kInvalidArgument, "null");
  expect(code(spec, packed.as<void>(), bytes, -1) == Code::kInvalidArgument, "negative");
  expect(code(spec, packed.as<void>(), bytes, 1 << 19) == Code::kImageTooLarge, "large");
  expect(forward(spec, Path::kWgmma, packed.as<void>(), in, out, 1, 4, 4, workspace.as<void>(),
                 bytes, nullptr, nullptr)
                 .code == Code::kInvalidArgument,
         "a trunk without weights");
  expect(code({spec.shape, spec.compute, Path::kNone}, packed.as<void>(), bytes, 4) ==
             Code::kUnsupportedDevice,
         "no path");
  expect(pack(spec, nullptr, 20, packed.as<void>(), nullptr).code == Code::kInvalidArgument,
         "null convolutions");
  for (int i = 0; i <= static_cast<int>(Code::kCuda); ++i)
    expect(std::strlen(text({static_cast<Code>(i), 0})) > 0, "no text");
}

// float16 overflows to infinity, and is found out.
void test_overflow() {
  emulator::machine().processors = 2;
  const NetworkShape s = shape(3, 3, 32, 16, 0, 0);
  const NetworkSpec spec{s, Compute::kFloat16, Path::kMma};
  std::vector<Layer> layers = reference::network_layers(s, kGain);
  for (float& w : layers[0].weights) w = 4e4f;
  const DeviceLayers device(layers);
  emulator::Memory packed(packed_bytes(spec)), workspace(workspace_bytes(spec, 1, 5, 5));
  expect(static_cast<bool>(pack(spec, device.views.data(), 4, packed.as<void>(), nullptr)), "pack");
  emulator::Memory in(75 * 4), out(75), nonfinite(4);
  for (int i = 0; i < 75; ++i) in.as<float>()[i] = 1;
  *nonfinite.as<std::uint32_t>() = 0;
  const Status status =
      forward(spec, spec.path, packed.as<void>(), {in.as<void>(), Pixel::kFloat32, 75, 25, 5, 1},
              {out.as<void>(), Pixel::kUint8, 75, 25, 5, 1}, 1, 5, 5, workspace.as<void>(),
              workspace.bytes(), nonfinite.as<std::uint32_t>(), nullptr);
  expect(static_cast<bool>(status), text(status));
  expect(*nonfinite.as<std::uint32_t>() == 1, "an overflow went unnoticed");
}

// For each Compute: sizes below a tile, widths and channels of all kinds.
void test_shapes(Path path, const std::vector<Compute>& computes) {
  for (const Compute compute : computes) {
    run({shape(3, 3, 64, 32, 1, 0), compute, path, 1, 1, 1});
    run({shape(3, 3, 64, 32, 1, 0), compute, path, 2, 7, 5});
    run({shape(3, 3, 64, 32, 1, 0), compute, path, 0, 7, 5});
    run({shape(3, 3, 32, 16, 1, 1), compute, path, 1, 1, 19});
    run({shape(4, 1, 64, 16, 1, 0), compute, path, 1, 10, 1});
    run({shape(1, 4, 32, 32, 1, 0), compute, path, 1, 3, 17});
    run_dense_block(compute, path, 64, 32, 2, 6, 17);
    run_dense_block(compute, path, 32, 16, 1, 3, 3);
  }
}

// Several tiles in both directions, some of them whole, and several items a block.
void test_tiles(Path path) {
  run({shape(3, 3, 64, 32, 1, 0), Compute::kFloat16, path, 1, 19, 35});
  run({shape(3, 3, 32, 32, 1, 0), Compute::kBFloat16, path, 2, 17, 33, Pixel::kFloat32,
       Pixel::kFloat32, Order::kPlanar, Order::kPlanar, 1});
  if (path == Path::kMma) {
    run({shape(3, 3, 32, 16, 1, 0), Compute::kTensorFloat32, path, 1, 17, 33, Pixel::kFloat32,
         Pixel::kFloat32, Order::kPlanar, Order::kPlanar, 1});
    run({shape(3, 3, 32, 16, 1, 0), Compute::kFloat32, path, 1, 9, 17});
  }
  run({shape(12, 3, 64, 32, 0, 2), Compute::kFloat16, path, 1, 9, 10});
}

// The kernels for compute capability 9.0: below a tile, and several tiles in both directions with
// several items a block, so that the ring of stages goes round.
void test_wgmma() {
  const Path path = Path::kWgmma;
  run({shape(3, 3, 64, 32, 1, 0), Compute::kFloat16, path, 2, 7, 5});
  run({shape(3, 3, 64, 32, 1, 0), Compute::kFloat16, path, 0, 7, 5});
  // Weights that were packed for wgmma serve mma as well.
  run({shape(3, 3, 64, 32, 1, 0), Compute::kFloat16, path, 1, 7, 5, Pixel::kFloat32,
       Pixel::kFloat32, Order::kPlanar, Order::kPlanar, 2, Path::kMma});
  run_dense_block(Compute::kFloat16, path, 64, 32, 1, 1, 1);
  run_dense_block(Compute::kBFloat16, path, 64, 32, 2, 18, 33);
  run_dense_block(Compute::kFloat16, path, 64, 32, 1, 33, 61);
  // Low tiles: one for each of many processors, and several for each.
  run_dense_block(Compute::kFloat16, path, 64, 32, 1, 7, 33, 100);
  run_dense_block(Compute::kBFloat16, path, 64, 32, 2, 4, 61, 2);
  run_dense_block(Compute::kFloat16, path, 32, 16, 1, 3, 3);  // runs on mma.sync
  const NetworkSpec spec{shape(3, 3, 64, 32, 1, 0), Compute::kFloat32, path};
  expect(pack(spec, nullptr, 0, nullptr, nullptr).code == Code::kUnsupportedDevice, "float32");
  expect(!can_run(0, path, Compute::kFloat32) && can_run(0, path, Compute::kBFloat16), "can_run");
}

void test_wgmma_layout() {
  for (const int in : {32, 64, 192}) {
    std::vector<int> seen(static_cast<std::size_t>(64 * in * 9));
    for (std::int64_t i = 0; i < wgmma_words(in); ++i) {
      const WeightPlace p = wgmma_weight_place(i);
      for (int e = 0; e < 2; ++e)
        ++seen[static_cast<std::size_t>(((p.output * in + p.input + e) * 3 + p.tap_row) * 3 +
                                        p.tap_column)];
    }
    for (const int count : seen) expect(count == 1, "a weight for wgmma is packed not once");
  }
  expect(!prefers_low_tiles(1, 512, 512, 132) && prefers_low_tiles(1, 64, 64, 132), "tile rows");
  for (int chunks = 1; chunks <= WgmmaStages::kMostChunks; ++chunks)
    for (const WgmmaStages& s : {wgmma_stages<TallTile>(chunks), wgmma_stages<LowTile>(chunks)}) {
      expect(s.bytes() <= WgmmaStages::kLimit && s.pixel_stages >= 3, "stages do not fit");
      expect(s.resident_taps == 9 || s.weight_stages >= 2,
             "weights that do not stay have no place");
      for (const int offset : {s.resident(), s.weights(), s.staging(), s.barriers()})
        expect(offset % 128 == 0, "TMA to a misaligned place");
    }
}

void test_pixels() {
  const NetworkShape s = shape(3, 3, 32, 16, 0, 1);
  const Pixel pixels[] = {Pixel::kUint8, Pixel::kUint16, Pixel::kFloat16, Pixel::kBFloat16,
                          Pixel::kFloat32};
  for (const Pixel pixel : pixels) {
    run({s, Compute::kFloat32, Path::kMma, 2, 5, 6, pixel, pixel, Order::kChannelsLast,
         Order::kPlanar});
    run({s, Compute::kFloat32, Path::kMma, 1, 4, 7, pixel, pixel, Order::kPadded,
         Order::kChannelsLast});
  }
}

}  // namespace

int main(int count, char** arguments) {
  const std::string group = count > 1 ? arguments[1] : "";
  const std::vector<Compute> all(std::begin(kAll), std::end(kAll));
  const char* const mistakes[] = {"race",    "early",    "unwritten", "outside",  "diverge",
                                  "barrier", "unfenced", "changed",   "unwaited", "chained"};
  if (group == "layout") {
    test_layout();
    test_wgmma_layout();
  } else if (group == "errors") {
    test_errors();
    test_overflow();
  } else if (group == "shapes") {
    test_shapes(Path::kMma, all);
  } else if (group == "tiles") {
    test_tiles(Path::kMma);
  } else if (group == "wgmma") {
    test_wgmma();
  } else if (group == "pixels") {
    test_pixels();
  } else if (group == "small") {  // what is left for a slow build
    test_layout();
    test_errors();
    run_dense_block(Compute::kFloat16, Path::kWgmma, 64, 32, 1, 5, 31);
    run({shape(3, 3, 32, 16, 1, 1), Compute::kFloat16, Path::kMma, 2, 3, 9});
    run({shape(3, 3, 32, 16, 1, 0), Compute::kFloat32, Path::kMma, 1, 3, 9, Pixel::kUint8,
         Pixel::kUint16, Order::kPadded, Order::kChannelsLast});
    run_dense_block(Compute::kBFloat16, Path::kMma, 32, 16, 1, 3, 3);
  } else {
    for (int kind = 0; kind < 10; ++kind)
      if (group == mistakes[kind]) test_mistake(kind);
  }
  std::printf("%ld launches, %ld barriers: all right\n", emulator::machine().launches,
              emulator::machine().barriers);
  return 0;
}
