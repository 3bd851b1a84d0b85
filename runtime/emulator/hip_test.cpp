// The emulator through its HIP API, as the runtime uses it: whole compiled kernels with results checked on the host,
// errors with HIP's codes, capture rules, graph replay. Runs for the chip that INGOT_EMULATOR_TARGET names.
#include "runtime/emulator/emulator.h"

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hip/hip_runtime_api.h>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <sys/mman.h>

namespace {

using testing::HasSubstr;

#define EXPECT_HIP(call) EXPECT_EQ(call, hipSuccess) << ingotEmulatorLastReport()
#define ASSERT_HIP(call) ASSERT_EQ(call, hipSuccess) << ingotEmulatorLastReport()

std::string target() {
  const char *name = std::getenv("INGOT_EMULATOR_TARGET");
  return name ? name : "gfx1151";
}

// Device memory that holds a vector.
template <typename T> class Buffer {
public:
  explicit Buffer(const std::vector<T> &values) : count(values.size()) {
    EXPECT_HIP(hipMalloc(&pointer, count * sizeof(T)));
    EXPECT_HIP(hipMemcpy(pointer, values.data(), count * sizeof(T), hipMemcpyHostToDevice));
  }
  explicit Buffer(size_t count) : Buffer(std::vector<T>(count)) {}
  ~Buffer() { EXPECT_HIP(hipFree(pointer)); }
  std::vector<T> read() const {
    std::vector<T> out(count);
    EXPECT_HIP(hipMemcpy(out.data(), pointer, count * sizeof(T), hipMemcpyDeviceToHost));
    return out;
  }
  void *pointer = nullptr;

private:
  size_t count;
};

class Hip : public testing::Test {
protected:
  void SetUp() override {
    ASSERT_HIP(hipInit(0));
    ASSERT_HIP(hipModuleLoad(&module, (INGOT_KERNEL_DIR "/kernels_" + target() + ".co").c_str()));
    ASSERT_HIP(hipStreamCreate(&stream));
  }
  void TearDown() override {
    ingotEmulatorClearFault();
    EXPECT_HIP(hipStreamDestroy(stream));
    EXPECT_HIP(hipModuleUnload(module));
    while (hipGetLastError() != hipSuccess)
      ;
  }

  hipFunction_t function(const char *name) {
    hipFunction_t out = nullptr;
    EXPECT_HIP(hipModuleGetFunction(&out, module, name));
    return out;
  }

  template <typename... Arguments> hipError_t launch(const char *name, dim3 grid, dim3 block, Arguments... arguments) {
    void *params[] = {static_cast<void *>(&arguments)..., nullptr};
    return hipModuleLaunchKernel(function(name), grid.x, grid.y, grid.z, block.x, block.y, block.z, 0, stream, params,
                                 nullptr);
  }

  hipModule_t module = nullptr;
  hipStream_t stream = nullptr;
  std::mt19937 random{3}; // NOLINT(bugprone-random-generator-seed): a test repeats itself

  std::vector<float> normal(size_t count) {
    std::normal_distribution<float> distribution;
    std::vector<float> out(count);
    for (float &x : out)
      x = distribution(random);
    return out;
  }
};

TEST_F(Hip, DescribesTheDevice) {
  int count = 0, value = 0;
  EXPECT_HIP(hipGetDeviceCount(&count));
  EXPECT_EQ(count, 1);
  hipDeviceProp_t properties;
  ASSERT_HIP(hipGetDeviceProperties(&properties, 0));
  EXPECT_EQ(properties.gcnArchName, target());
  EXPECT_EQ(properties.warpSize, 32);
  EXPECT_HIP(hipDeviceGetAttribute(&value, hipDeviceAttributeWarpSize, 0));
  EXPECT_EQ(value, 32);
  // The numbers that a caller without this header passes.
  EXPECT_EQ(int(hipDeviceAttributeIntegrated), 16);
  EXPECT_EQ(int(hipDeviceAttributeWarpSize), 87);
  EXPECT_HIP(hipDeviceGetAttribute(&value, hipDeviceAttributeIntegrated, 0));
  EXPECT_EQ(value, target() == "gfx1151" ? 1 : 0);
  EXPECT_EQ(properties.integrated, value);
  EXPECT_EQ(hipSetDevice(1), hipErrorInvalidDevice);
  EXPECT_EQ(hipGetLastError(), hipErrorInvalidDevice);
  EXPECT_EQ(hipGetLastError(), hipSuccess);
  EXPECT_STREQ(hipGetErrorName(hipErrorIllegalAddress), "hipErrorIllegalAddress");
  EXPECT_EQ(ingotEmulatorSetTarget("gfx900"), hipErrorInvalidValue);
  EXPECT_EQ(ingotEmulatorSetTarget(target() == "gfx1151" ? "gfx1201" : "gfx1151"), hipErrorSetOnActiveProcess);
}

TEST_F(Hip, VectorAddWithHiddenArguments) {
  std::vector<float> a = normal(1000), b = normal(1000);
  Buffer<float> da(a), db(b), dc(1000);
  ASSERT_HIP(launch("vector_add", dim3(11), dim3(96), da.pointer, db.pointer, dc.pointer, 1000u));
  ASSERT_HIP(hipStreamSynchronize(stream));
  std::vector<float> c = dc.read();
  for (size_t i = 0; i < c.size(); ++i)
    ASSERT_EQ(c[i], a[i] + b[i]) << i;
}

TEST_F(Hip, ThreeDimensions) {
  Buffer<uint32_t> out(6 * 10 * 12);
  ASSERT_HIP(launch("coordinates", dim3(2, 5, 3), dim3(3, 2, 4), out.pointer));
  std::vector<uint32_t> got = out.read();
  for (uint32_t z = 0, i = 0; z < 12; ++z)
    for (uint32_t y = 0; y < 10; ++y)
      for (uint32_t x = 0; x < 6; ++x, ++i)
        ASSERT_EQ(got[i], x | y << 10 | z << 20) << i;
}

TEST_F(Hip, Int8Gemv) {
  constexpr uint32_t rows = 24, k = 4096;
  std::vector<int8_t> w(rows * k), x(k);
  for (int8_t &v : w)
    v = int8_t(random());
  for (int8_t &v : x)
    v = int8_t(random());
  std::vector<float> scales = normal(rows);
  Buffer<int8_t> dw(w), dx(x);
  Buffer<float> ds(scales), dy(rows);
  ingotEmulatorResetCounters();
  ASSERT_HIP(launch("gemv_int8", dim3(rows), dim3(128), dw.pointer, dx.pointer, ds.pointer, dy.pointer, k));
  std::vector<float> y = dy.read();
  for (uint32_t r = 0; r < rows; ++r) {
    int32_t sum = 0;
    for (uint32_t i = 0; i < k; ++i)
      sum += w[r * k + i] * x[i];
    ASSERT_EQ(y[r], float(sum) * scales[r]) << r;
  }
  auto counters = nlohmann::json::parse(ingotEmulatorCountersJson());
  const auto &kernel = counters["kernels"]["gemv_int8"];
  EXPECT_EQ(kernel["launches"], 1);
  EXPECT_EQ(kernel["waves"], rows * 4);
  EXPECT_EQ(kernel["dot"], rows * k / (4 * 32));
  EXPECT_EQ(kernel["bytes_written"], rows * 4);
  // Weights and activations once a row, and little else: scales and arguments.
  EXPECT_GE(kernel["bytes_read"], rows * k * 2);
  EXPECT_LE(kernel["bytes_read"], rows * k * 2 + rows * 4 * 512);
  EXPECT_EQ(counters["totals"], kernel);
}

TEST_F(Hip, CountsBytesByBuffer) {
  constexpr uint32_t rows = 24, k = 4096;
  Buffer<int8_t> w(rows * k), x(k);
  Buffer<float> scales(rows), y(rows);
  ASSERT_EQ(ingotEmulatorLabelBuffer(w.pointer, "weights"), hipSuccess);
  ASSERT_EQ(ingotEmulatorLabelBuffer(scales.pointer, "weights"), hipSuccess);
  ASSERT_EQ(ingotEmulatorLabelBuffer(x.pointer, "an \"x\""), hipSuccess);
  EXPECT_EQ(ingotEmulatorLabelBuffer(static_cast<char *>(x.pointer) + 4, "inside"), hipErrorInvalidValue);
  EXPECT_EQ(ingotEmulatorLabelBuffer(&rows, "on the stack"), hipErrorInvalidValue);
  EXPECT_EQ(ingotEmulatorLabelBuffer(x.pointer, ""), hipErrorInvalidValue);
  EXPECT_EQ(ingotEmulatorLabelBuffer(nullptr, "nothing"), hipErrorInvalidValue);
  auto count = [&] {
    ingotEmulatorResetCounters();
    EXPECT_HIP(
        launch("gemv_int8", dim3(rows), dim3(128), w.pointer, x.pointer, scales.pointer, y.pointer, uint32_t(k)));
    return nlohmann::json::parse(ingotEmulatorCountersJson());
  };
  for (int repeat = 0; repeat < 2; ++repeat) {
    auto counters = count();
    const auto &kernel = counters["kernels"]["gemv_int8"];
    const auto &buffers = kernel["buffers"];
    // Each row's values and its one scale once.
    EXPECT_EQ(buffers["weights"]["read"], rows * k + rows * 4);
    EXPECT_EQ(buffers["weights"]["written"], 0);
    EXPECT_EQ(buffers["an \"x\""]["read"], rows * k);
    EXPECT_GT(buffers["arguments"]["read"], 0);
    uint64_t read = 0, written = 0;
    std::string unnamed;
    for (const auto &[name, bytes] : buffers.items()) {
      read += bytes["read"].get<uint64_t>();
      written += bytes["written"].get<uint64_t>();
      if (name.starts_with("buffer "))
        unnamed = name;
    }
    EXPECT_EQ(buffers[unnamed]["written"], rows * 4);
    EXPECT_EQ(kernel["bytes_read"], read);
    EXPECT_EQ(kernel["bytes_written"], written);
    EXPECT_EQ(counters["totals"]["buffers"], buffers);
  }
  // A new name counts from there on, though the kernel has run before.
  ASSERT_EQ(ingotEmulatorLabelBuffer(y.pointer, "y"), hipSuccess);
  auto buffers = count()["totals"]["buffers"];
  EXPECT_EQ(buffers["y"]["written"], rows * 4);
  EXPECT_EQ(buffers.size(), 4u);
}

TEST_F(Hip, CountsDistinctBytesOfAWave) {
  Buffer<uint32_t> in(4096), at(32), out(32);
  ASSERT_EQ(ingotEmulatorLabelBuffer(in.pointer, "in"), hipSuccess);
  ASSERT_EQ(ingotEmulatorLabelBuffer(at.pointer, "at"), hipSuccess);
  auto gather = [&](auto index) {
    std::vector<uint32_t> indices(32);
    for (uint32_t lane = 0; lane < 32; ++lane)
      indices[lane] = index(lane);
    EXPECT_HIP(hipMemcpy(at.pointer, indices.data(), 128, hipMemcpyHostToDevice));
    ingotEmulatorResetCounters();
    EXPECT_HIP(launch("gather", dim3(1), dim3(32), in.pointer, at.pointer, out.pointer));
    auto buffers = nlohmann::json::parse(ingotEmulatorCountersJson())["totals"]["buffers"];
    EXPECT_EQ(buffers["at"]["read"], 128);
    return buffers["in"]["read"].get<int>();
  };
  EXPECT_EQ(gather([](uint32_t lane) { return lane; }), 128);
  EXPECT_EQ(gather([](uint32_t lane) { return 31 - lane; }), 128);
  EXPECT_EQ(gather([](uint32_t) { return 77u; }), 4);
  EXPECT_EQ(gather([](uint32_t lane) { return lane / 2; }), 64);
  EXPECT_EQ(gather([](uint32_t lane) { return lane % 16; }), 64);
  EXPECT_EQ(gather([](uint32_t lane) { return 100 * (lane % 5); }), 20);
  EXPECT_EQ(gather([](uint32_t lane) { return 100 * (lane % 5) + 3; }), 20);
}

TEST_F(Hip, CountsAWaveThatReadsTwoBuffers) {
  Buffer<uint32_t> one(4096), two(4096), at(32), out(32);
  auto *low = static_cast<char *>(std::min(one.pointer, two.pointer));
  auto *high = static_cast<char *>(std::max(one.pointer, two.pointer));
  ASSERT_LT(high - low, ptrdiff_t(1) << 34) << "an index reaches from one buffer to the other";
  ASSERT_EQ(ingotEmulatorLabelBuffer(low, "low"), hipSuccess);
  ASSERT_EQ(ingotEmulatorLabelBuffer(high, "high"), hipSuccess);
  std::vector<uint32_t> indices(32);
  for (uint32_t lane = 0; lane < 32; ++lane)
    indices[lane] = lane % 3 == 0 ? lane / 6 : uint32_t((high - low) / 4) + lane;
  ASSERT_HIP(hipMemcpy(at.pointer, indices.data(), 128, hipMemcpyHostToDevice));
  ingotEmulatorResetCounters();
  ASSERT_HIP(launch("gather", dim3(1), dim3(32), static_cast<void *>(low), at.pointer, out.pointer));
  auto buffers = nlohmann::json::parse(ingotEmulatorCountersJson())["totals"]["buffers"];
  EXPECT_EQ(buffers["low"]["read"], 6 * 4);
  EXPECT_EQ(buffers["high"]["read"], 21 * 4);
}

TEST_F(Hip, Softmax) {
  constexpr uint32_t rows = 5, n = 77;
  std::vector<float> in = normal(rows * n);
  Buffer<float> din(in), dout(rows * n);
  ASSERT_HIP(launch("softmax", dim3(rows), dim3(32), din.pointer, dout.pointer, n));
  std::vector<float> out = dout.read();
  for (uint32_t r = 0; r < rows; ++r) {
    double largest = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; ++i)
      largest = std::max(largest, double(in[r * n + i]));
    for (uint32_t i = 0; i < n; ++i)
      sum += std::exp(in[r * n + i] - largest);
    for (uint32_t i = 0; i < n; ++i)
      ASSERT_NEAR(out[r * n + i], std::exp(in[r * n + i] - largest) / sum, 1e-6);
  }
}

TEST_F(Hip, RmsNorm) {
  constexpr uint32_t rows = 3, n = 576;
  constexpr float epsilon = 1e-5f;
  std::vector<float> in = normal(rows * n), weight = normal(n);
  Buffer<float> din(in), dweight(weight), dout(rows * n);
  ASSERT_HIP(launch("rms_norm", dim3(rows), dim3(32), din.pointer, dweight.pointer, dout.pointer, n, epsilon));
  std::vector<float> out = dout.read();
  for (uint32_t r = 0; r < rows; ++r) {
    double sum = 0;
    for (uint32_t i = 0; i < n; ++i)
      sum += double(in[r * n + i]) * in[r * n + i];
    for (uint32_t i = 0; i < n; ++i)
      ASSERT_NEAR(out[r * n + i], in[r * n + i] / std::sqrt(sum / n + epsilon) * weight[i],
                  2e-6 * std::fabs(weight[i] * 4));
  }
}

TEST_F(Hip, ScratchSort) {
  constexpr uint32_t lanes = 40, count = 24;
  std::vector<int> in(lanes * count);
  for (int &v : in)
    v = int(random() % 1000) - 500;
  Buffer<int> din(in), dout(lanes * count);
  ASSERT_HIP(launch("scratch_sort", dim3(1), dim3(lanes), din.pointer, dout.pointer, count));
  for (uint32_t l = 0; l < lanes; ++l)
    std::sort(in.begin() + l * count, in.begin() + (l + 1) * count);
  EXPECT_EQ(dout.read(), in);
}

TEST_F(Hip, Histogram) {
  std::vector<uint8_t> in(128 * 50);
  std::vector<uint32_t> expected(16);
  for (uint8_t &v : in)
    ++expected[(v = uint8_t(random())) & 15];
  Buffer<uint8_t> din(in);
  Buffer<uint32_t> bins(16);
  ASSERT_HIP(launch("histogram", dim3(50), dim3(128), din.pointer, bins.pointer));
  EXPECT_EQ(bins.read(), expected);
}

TEST_F(Hip, GlobalsAndRelocations) {
  hipDeviceptr_t table;
  size_t bytes;
  ASSERT_HIP(hipModuleGetGlobal(&table, &bytes, module, "table"));
  EXPECT_EQ(bytes, 16u);
  int values[4] = {1, 2, 300, 4};
  ASSERT_HIP(hipMemcpyHtoD(table, values, sizeof values));
  Buffer<int> out(1);
  ASSERT_HIP(launch("through_pointer", dim3(1), dim3(1), out.pointer));
  EXPECT_EQ(out.read()[0], 301);
  EXPECT_EQ(hipModuleGetGlobal(&table, &bytes, module, "nothing"), hipErrorNotFound);
}

uint16_t toHalf(float value) { return std::bit_cast<uint16_t>(_Float16(value)); }

TEST_F(Hip, MatrixTiles) {
  constexpr uint32_t m = 32, n = 48, k = 64;
  std::vector<uint16_t> a(m * k), b(n * k);
  std::vector<float> fa(m * k), fb(n * k);
  for (size_t i = 0; i < a.size(); ++i)
    a[i] = toHalf(fa[i] = float(int(random() % 65) - 32));
  for (size_t i = 0; i < b.size(); ++i)
    b[i] = toHalf(fb[i] = float(int(random() % 65) - 32));
  Buffer<uint16_t> da(a), db(b);
  Buffer<float> dc(m * n);
  ASSERT_HIP(launch("gemm_f16", dim3(n / 16, m / 16), dim3(32), da.pointer, db.pointer, dc.pointer, n, k));
  std::vector<float> c = dc.read();
  for (uint32_t i = 0; i < m; ++i)
    for (uint32_t j = 0; j < n; ++j) {
      float sum = 0; // small integers: exact in any order
      for (uint32_t x = 0; x < k; ++x)
        sum += fa[i * k + x] * fb[j * k + x];
      ASSERT_EQ(c[i * n + j], sum) << i << ", " << j;
    }
}

TEST_F(Hip, OutOfBoundsIsStickyAndReported) {
  Buffer<int> out(4);
  EXPECT_EQ(launch("write_at", dim3(1), dim3(1), out.pointer, uint64_t(4)), hipErrorIllegalAddress);
  EXPECT_THAT(ingotEmulatorLastReport(), HasSubstr("write_at"));
  EXPECT_THAT(ingotEmulatorLastReport(), HasSubstr("global_store_b32"));
  EXPECT_EQ(hipStreamSynchronize(stream), hipErrorIllegalAddress);
  EXPECT_EQ(hipDeviceSynchronize(), hipErrorIllegalAddress);
  EXPECT_EQ(launch("write_at", dim3(1), dim3(1), out.pointer, uint64_t(0)), hipErrorIllegalAddress);
  ingotEmulatorClearFault();
  EXPECT_HIP(launch("write_at", dim3(1), dim3(1), out.pointer, uint64_t(3)));
  EXPECT_EQ(out.read(), (std::vector<int>{0, 0, 0, 1}));
}

TEST_F(Hip, EndlessKernelRunsOutOfBudget) {
  Buffer<int> flag(1);
  ASSERT_EQ(ingotEmulatorSetOption("budget", "100000"), 0);
  EXPECT_NE(launch("never_ends", dim3(1), dim3(32), flag.pointer), hipSuccess);
  EXPECT_THAT(ingotEmulatorLastReport(), HasSubstr("never_ends"));
  ASSERT_EQ(ingotEmulatorSetOption("budget", "4000000000"), 0);
  EXPECT_EQ(ingotEmulatorSetOption("budget", "0"), hipErrorInvalidValue);
  EXPECT_EQ(ingotEmulatorSetOption("budget", "many"), hipErrorInvalidValue);
  EXPECT_EQ(ingotEmulatorSetOption("colour", "1"), hipErrorInvalidValue);
}

TEST_F(Hip, ValidatesLaunches) {
  hipFunction_t add = function("vector_add"), fixed = function("vector_add_fixed");
  void *pointers[3] = {};
  unsigned n = 0;
  void *params[] = {static_cast<void *>(&pointers[0]), static_cast<void *>(&pointers[1]),
                    static_cast<void *>(&pointers[2]), static_cast<void *>(&n)};
  auto with = [&](hipFunction_t f, dim3 grid, dim3 block, unsigned lds, void **p, void **extra = nullptr) {
    return hipModuleLaunchKernel(f, grid.x, grid.y, grid.z, block.x, block.y, block.z, lds, stream, p, extra);
  };
  EXPECT_HIP(with(add, dim3(1), dim3(32), 0, params));
  EXPECT_EQ(with(add, dim3(0), dim3(32), 0, params), hipErrorInvalidValue);
  EXPECT_EQ(with(add, dim3(1), dim3(0), 0, params), hipErrorInvalidConfiguration);
  EXPECT_EQ(with(add, dim3(1), dim3(1025), 0, params), hipErrorInvalidValue);
  EXPECT_EQ(with(add, dim3(1), dim3(32), 65537, params), hipErrorInvalidValue);
  EXPECT_EQ(with(add, dim3(1u << 31), dim3(32), 0, params), hipErrorInvalidConfiguration);
  EXPECT_EQ(with(add, dim3(1, 65537), dim3(32), 0, params), hipErrorInvalidValue);
  EXPECT_EQ(with(fixed, dim3(1), dim3(128), 0, params), hipErrorLaunchFailure);
  EXPECT_EQ(with(add, dim3(1), dim3(32), 0, nullptr), hipErrorInvalidValue);
  EXPECT_EQ(with(nullptr, dim3(1), dim3(32), 0, params), hipErrorInvalidDeviceFunction);
  struct {
    void *p[3] = {};
    unsigned n = 0;
  } block;
  size_t bytes = sizeof block;
  void *extra[] = {HIP_LAUNCH_PARAM_BUFFER_POINTER, &block, HIP_LAUNCH_PARAM_BUFFER_SIZE, &bytes, HIP_LAUNCH_PARAM_END};
  EXPECT_HIP(with(add, dim3(1), dim3(32), 0, nullptr, extra));
  EXPECT_EQ(with(add, dim3(1), dim3(32), 0, params, extra), hipErrorInvalidValue);
  std::swap(extra[0], extra[2]);
  EXPECT_EQ(with(add, dim3(1), dim3(32), 0, nullptr, extra), hipErrorInvalidValue);
  hipFunction_t missing;
  EXPECT_EQ(hipModuleGetFunction(&missing, module, "no_such_kernel"), hipErrorNotFound);
  int value;
  EXPECT_HIP(hipFuncGetAttribute(&value, HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, fixed));
  EXPECT_EQ(value, 64);
  EXPECT_HIP(hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(&value, fixed, 64, 0));
  EXPECT_EQ(value, 16);
}

TEST_F(Hip, RefusesImages) {
  hipModule_t other;
  std::string wrong = target() == "gfx1151" ? "gfx1201" : "gfx1151";
  EXPECT_EQ(hipModuleLoad(&other, (INGOT_KERNEL_DIR "/kernels_" + wrong + ".co").c_str()), hipErrorNoBinaryForGpu);
  EXPECT_EQ(hipModuleLoad(&other, "/no/such/file"), hipErrorFileNotFound);
  std::vector<char> noise(4096, 'x');
  EXPECT_EQ(hipModuleLoadData(&other, noise.data()), hipErrorInvalidImage);
  EXPECT_EQ(hipModuleUnload(nullptr), hipErrorInvalidHandle);
}

TEST_F(Hip, ChecksCopies) {
  Buffer<int> a(16), b(16);
  int host[32] = {};
  EXPECT_EQ(hipMemcpy(a.pointer, host, 65, hipMemcpyHostToDevice), hipErrorInvalidValue);
  EXPECT_EQ(hipMemcpy(host, static_cast<char *>(a.pointer) + 4, 64, hipMemcpyDeviceToHost), hipErrorInvalidValue);
  EXPECT_EQ(hipMemcpy(host, host + 8, 16, hipMemcpyDeviceToHost), hipErrorInvalidValue);
  EXPECT_EQ(hipMemcpy(a.pointer, host, 65, hipMemcpyDefault), hipErrorInvalidValue);
  EXPECT_EQ(hipMemset(a.pointer, 1, 65), hipErrorInvalidValue);
  EXPECT_HIP(hipMemsetD32Async(a.pointer, 0x01020304, 16, stream));
  EXPECT_HIP(hipMemcpyDtoDAsync(b.pointer, a.pointer, 64, stream));
  EXPECT_EQ(b.read(), std::vector<int>(16, 0x01020304));
  EXPECT_EQ(hipFree(host), hipErrorInvalidDevicePointer);
  EXPECT_EQ(reinterpret_cast<uint64_t>(a.pointer) % 256, 0u);
  void *large = nullptr;
  EXPECT_EQ(hipMalloc(&large, size_t(1) << 50), hipErrorOutOfMemory);
  EXPECT_EQ(large, nullptr);
  size_t before, after, total;
  EXPECT_HIP(hipMemGetInfo(&before, &total));
  Buffer<char> c(1 << 20);
  EXPECT_HIP(hipMemGetInfo(&after, &total));
  EXPECT_EQ(before - after, size_t(1) << 20);
}

TEST_F(Hip, RegistersHostMemory) {
  auto *pages = static_cast<int *>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(pages, MAP_FAILED);
  EXPECT_EQ(launch("write_at", dim3(1), dim3(1), pages, uint64_t(0)), hipErrorIllegalAddress) << "not registered yet";
  ingotEmulatorClearFault();
  ASSERT_HIP(hipHostRegister(pages, 8192, hipHostRegisterDefault));
  void *device;
  ASSERT_HIP(hipHostGetDevicePointer(&device, pages, 0));
  EXPECT_HIP(launch("write_at", dim3(1), dim3(1), device, uint64_t(5)));
  EXPECT_EQ(pages[5], 1);
  EXPECT_EQ(hipHostRegister(pages + 10, 16, 0), hipErrorHostMemoryAlreadyRegistered);
  EXPECT_HIP(hipHostUnregister(pages));
  EXPECT_EQ(hipHostUnregister(pages), hipErrorHostMemoryNotRegistered);

  // A read-only mapping, as of a file of weights: kernels may read it, a store is a fault and not a crash.
  ASSERT_EQ(mprotect(pages, 8192, PROT_READ), 0);
  ASSERT_HIP(hipHostRegister(pages, 8192, hipHostRegisterDefault));
  Buffer<float> c(64);
  EXPECT_HIP(launch("vector_add_fixed", dim3(1), dim3(64), pages, pages, c.pointer));
  EXPECT_EQ(launch("write_at", dim3(1), dim3(1), pages, uint64_t(5)), hipErrorIllegalAddress);
  ingotEmulatorClearFault();
  EXPECT_HIP(hipHostUnregister(pages));
  munmap(pages, 8192);
  EXPECT_EQ(hipHostRegister(pages, 8192, 0), hipErrorInvalidValue);
}

TEST_F(Hip, CapturesAndReplays) {
  std::vector<float> a = normal(64), zero(64);
  Buffer<float> da(a), sum(zero), copy(zero);
  hipGraph_t graph;
  hipGraphExec_t exec;
  ASSERT_HIP(hipStreamBeginCapture(stream, hipStreamCaptureModeGlobal));
  hipStreamCaptureStatus status;
  EXPECT_HIP(hipStreamIsCapturing(stream, &status));
  EXPECT_EQ(status, hipStreamCaptureStatusActive);
  ASSERT_HIP(launch("vector_add_fixed", dim3(1), dim3(64), sum.pointer, da.pointer, sum.pointer));
  ASSERT_HIP(hipMemcpyAsync(copy.pointer, sum.pointer, 256, hipMemcpyDeviceToDevice, stream));
  ASSERT_HIP(hipMemsetAsync(copy.pointer, 0, 4, stream));
  ASSERT_HIP(hipStreamEndCapture(stream, &graph));
  EXPECT_EQ(sum.read(), zero) << "capture must not run the work";
  size_t nodes = 0;
  EXPECT_HIP(hipGraphGetNodes(graph, nullptr, &nodes));
  ASSERT_EQ(nodes, 3u);
  hipGraphNode_t list[3];
  EXPECT_HIP(hipGraphGetNodes(graph, list, &nodes));
  hipGraphNodeType type;
  EXPECT_HIP(hipGraphNodeGetType(list[0], &type));
  EXPECT_EQ(type, hipGraphNodeTypeKernel);
  ASSERT_HIP(hipGraphInstantiate(&exec, graph, nullptr, nullptr, 0));
  for (int i = 0; i < 3; ++i)
    ASSERT_HIP(hipGraphLaunch(exec, stream));
  std::vector<float> expected(64);
  for (int i = 0; i < 64; ++i)
    expected[size_t(i)] = (a[size_t(i)] + a[size_t(i)]) + a[size_t(i)];
  EXPECT_EQ(sum.read(), expected);
  expected[0] = 0;
  EXPECT_EQ(copy.read(), expected);

  // Patching a node: the sum now goes elsewhere.
  Buffer<float> other(zero);
  void *params[] = {static_cast<void *>(&da.pointer), static_cast<void *>(&da.pointer),
                    static_cast<void *>(&other.pointer)};
  hipKernelNodeParams patched{dim3(64), nullptr, function("vector_add_fixed"), dim3(1), params, 0};
  ASSERT_HIP(hipGraphExecKernelNodeSetParams(exec, list[0], &patched));
  ASSERT_HIP(hipGraphDestroy(graph));
  ASSERT_HIP(hipGraphLaunch(exec, stream));
  EXPECT_EQ(other.read()[7], a[7] + a[7]);
  EXPECT_HIP(hipGraphExecDestroy(exec));
  EXPECT_EQ(hipGraphLaunch(exec, stream), hipErrorInvalidValue);
}

TEST_F(Hip, BuildsGraphsByHand) {
  Buffer<float> a(std::vector<float>(64, 1)), b(std::vector<float>(64, 2)), c(64);
  hipGraph_t graph;
  hipGraphNode_t set, add;
  ASSERT_HIP(hipGraphCreate(&graph, 0));
  hipMemsetParams fill{a.pointer, 4, 1, 0, std::bit_cast<uint32_t>(5.0f), 64};
  ASSERT_HIP(hipGraphAddMemsetNode(&set, graph, nullptr, 0, &fill));
  void *params[] = {static_cast<void *>(&a.pointer), static_cast<void *>(&b.pointer), static_cast<void *>(&c.pointer)};
  hipKernelNodeParams kernel{dim3(64), nullptr, function("vector_add_fixed"), dim3(1), params, 0};
  ASSERT_HIP(hipGraphAddKernelNode(&add, graph, &set, 1, &kernel));
  hipGraphExec_t exec;
  ASSERT_HIP(hipGraphInstantiateWithFlags(&exec, graph, 0));
  ASSERT_HIP(hipGraphLaunch(exec, stream));
  EXPECT_EQ(c.read(), std::vector<float>(64, 7));
  hipGraphNode_t bad;
  hipGraphExecUpdateResult result;
  EXPECT_HIP(hipGraphExecUpdate(exec, graph, &bad, &result));
  EXPECT_EQ(result, hipGraphExecUpdateSuccess);
  ASSERT_HIP(hipGraphAddEmptyNode(&bad, graph, &add, 1));
  EXPECT_EQ(hipGraphExecUpdate(exec, graph, &bad, &result), hipErrorGraphExecUpdateFailure);
  EXPECT_HIP(hipGraphExecDestroy(exec));
  EXPECT_HIP(hipGraphDestroy(graph));
}

TEST_F(Hip, CaptureRules) {
  hipGraph_t graph;
  void *pointer;
  Buffer<int> memory(4);
  EXPECT_EQ(hipStreamBeginCapture(nullptr, hipStreamCaptureModeGlobal), hipErrorStreamCaptureUnsupported);
  EXPECT_EQ(hipStreamEndCapture(stream, &graph), hipErrorIllegalState);

  // What is unsafe during a capture fails and ends it.
  auto begin = [&] { ASSERT_HIP(hipStreamBeginCapture(stream, hipStreamCaptureModeGlobal)); };
  auto expectInvalidated = [&] { EXPECT_EQ(hipStreamEndCapture(stream, &graph), hipErrorStreamCaptureInvalidated); };
  begin();
  EXPECT_EQ(hipMalloc(&pointer, 16), hipErrorStreamCaptureUnsupported);
  EXPECT_EQ(hipMemsetAsync(memory.pointer, 0, 4, stream), hipErrorStreamCaptureInvalidated);
  expectInvalidated();
  begin();
  EXPECT_EQ(hipMemset(memory.pointer, 0, 4), hipErrorStreamCaptureImplicit);
  expectInvalidated();
  begin();
  EXPECT_EQ(hipStreamSynchronize(stream), hipErrorStreamCaptureUnsupported);
  expectInvalidated();
  ASSERT_HIP(hipStreamBeginCapture(stream, hipStreamCaptureModeRelaxed));
  EXPECT_HIP(hipMalloc(&pointer, 16));
  EXPECT_HIP(hipFree(pointer));
  ASSERT_HIP(hipStreamEndCapture(stream, &graph));
  EXPECT_HIP(hipGraphDestroy(graph));

  // A fork must be joined.
  hipStream_t side;
  hipEvent_t fork, join;
  ASSERT_HIP(hipStreamCreateWithFlags(&side, hipStreamNonBlocking));
  ASSERT_HIP(hipEventCreate(&fork));
  ASSERT_HIP(hipEventCreate(&join));
  begin();
  EXPECT_HIP(hipMemsetAsync(memory.pointer, 1, 4, stream));
  EXPECT_HIP(hipEventRecord(fork, stream));
  EXPECT_EQ(hipEventQuery(fork), hipErrorCapturedEvent);
  expectInvalidated();
  for (bool joined : {false, true}) {
    begin();
    EXPECT_HIP(hipMemsetAsync(memory.pointer, 1, 4, stream));
    EXPECT_HIP(hipEventRecord(fork, stream));
    EXPECT_HIP(hipStreamWaitEvent(side, fork, 0));
    EXPECT_HIP(hipMemsetAsync(memory.pointer, 2, 4, side));
    EXPECT_EQ(hipStreamEndCapture(side, &graph), hipErrorStreamCaptureUnmatched);
    EXPECT_HIP(hipEventRecord(join, side));
    if (joined)
      EXPECT_HIP(hipStreamWaitEvent(stream, join, 0));
    EXPECT_EQ(hipStreamEndCapture(stream, &graph), joined ? hipSuccess : hipErrorStreamCaptureUnjoined);
    if (joined)
      EXPECT_HIP(hipGraphDestroy(graph));
  }
  EXPECT_HIP(hipEventDestroy(fork));
  EXPECT_HIP(hipEventDestroy(join));
  EXPECT_HIP(hipStreamDestroy(side));
}

TEST_F(Hip, EventsMeasureTime) {
  hipEvent_t start, stop;
  ASSERT_HIP(hipEventCreate(&start));
  ASSERT_HIP(hipEventCreateWithFlags(&stop, hipEventDefault));
  float milliseconds = -1;
  EXPECT_EQ(hipEventElapsedTime(&milliseconds, start, stop), hipErrorInvalidHandle);
  Buffer<float> a(64 * 100), c(64 * 100);
  EXPECT_HIP(hipEventRecord(start, stream));
  EXPECT_HIP(launch("vector_add_fixed", dim3(100), dim3(64), a.pointer, a.pointer, c.pointer));
  EXPECT_HIP(hipEventRecord(stop, stream));
  EXPECT_HIP(hipEventSynchronize(stop));
  EXPECT_HIP(hipEventElapsedTime(&milliseconds, start, stop));
  EXPECT_GT(milliseconds, 0);
  EXPECT_HIP(hipEventDestroy(start));
  EXPECT_HIP(hipEventDestroy(stop));
  EXPECT_EQ(hipEventDestroy(stop), hipErrorInvalidHandle);
}

} // namespace
