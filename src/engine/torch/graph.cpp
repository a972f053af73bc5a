// Recordings of a GPU's work (CUDA graphs), which are launched again at once.
//
// The class that records is in libtorch's CUDA library. Its header needs those of the CUDA runtime, which the engine is built
// without, so its functions are looked up by name when the library has been loaded. They are those of libtorch 2.11.

#include "shim.h"

#include <c10/core/Device.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <dlfcn.h>

#include <array>
#include <memory>
#include <optional>
#include <utility>

namespace {

using Pool = std::pair<unsigned long long, unsigned long long>; // c10::MempoolId_t

template <typename Function> Function *function(const char *name) {
  void *found = dlsym(RTLD_DEFAULT, name);
  TORCH_CHECK(found != nullptr, "libtorch's CUDA library has no `", name, "`, so it cannot record");
  return reinterpret_cast<Function *>(found);
}

// Another thread may use the device while this one records.
constexpr int thread_local_capture = 1; // cudaStreamCaptureModeThreadLocal

// An `at::cuda::CUDAGraph`, whose size is 104 bytes, and the stream on which it is recorded.
class Recording {
public:
  explicit Recording(c10::DeviceIndex device) : device_(c10::DeviceType::CUDA, device), guard_(c10::DeviceType::CUDA) {
    function<void(void *, bool)>("_ZN2at4cuda9CUDAGraphC1Eb")(graph_.data(), false);
    // the default stream cannot be recorded
    guard_.synchronizeDevice(device_.index());
    before_ = guard_.exchangeStream(guard_.getStreamFromGlobalPool(device_));
  }

  Recording(const Recording &) = delete;
  Recording &operator=(const Recording &) = delete;

  void begin() {
    guard_.synchronizeDevice(device_.index());
    function<void(void *, Pool, int)>("_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode")(
        graph_.data(), Pool(0, 0), thread_local_capture);
  }

  void end() {
    function<void(void *)>("_ZN2at4cuda9CUDAGraph11capture_endEv")(graph_.data());
    restore();
  }

  void replay() { function<void(void *)>("_ZN2at4cuda9CUDAGraph6replayEv")(graph_.data()); }

  ~Recording() {
    try {
      restore();
      function<void(void *)>("_ZN2at4cuda9CUDAGraphD1Ev")(graph_.data());
    } catch (const std::exception &) {
    }
  }

private:
  void restore() {
    if (before_) {
      guard_.synchronizeDevice(device_.index());
      guard_.exchangeStream(*before_);
      before_.reset();
    }
  }

  alignas(16) std::array<std::byte, 1024> graph_{};
  c10::Device device_;
  c10::impl::VirtualGuardImpl guard_;
  std::optional<c10::Stream> before_; // while it records
};

} // namespace

// Prepares a recording on a stream of its own, on which the caller's work now runs.
extern "C" char *engine_recording_new(void **recording, int32_t device) {
  return caught([&] { *recording = new Recording(static_cast<c10::DeviceIndex>(device)); });
}

// From now on work is recorded, and not done.
extern "C" char *engine_recording_begin(void *recording) {
  return caught([&] { static_cast<Recording *>(recording)->begin(); });
}

// Ends the recording and returns to the stream before it.
extern "C" char *engine_recording_end(void *recording) {
  return caught([&] { static_cast<Recording *>(recording)->end(); });
}

// Does the recorded work.
extern "C" char *engine_recording_replay(void *recording) {
  return caught([&] { static_cast<Recording *>(recording)->replay(); });
}

extern "C" void engine_recording_free(void *recording) { delete static_cast<Recording *>(recording); }
