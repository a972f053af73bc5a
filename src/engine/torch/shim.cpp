// Products, versions and settings that tch does not bind.

#include "shim.h"

#include <ATen/Context.h>
#include <ATen/Version.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/record_function.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>

namespace {

using torch::autograd::Node;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

// `x W^T` of 32-bit matrices by oneDNN. libtorch itself asks MKL for it.
at::Tensor onednn_product(const at::Tensor &x, const at::Tensor &w) {
  using Signature = at::Tensor(const at::Tensor &, const at::Tensor &, const std::optional<at::Tensor> &, std::string_view,
                               c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
  TORCH_CHECK(x.size(-1) == w.size(-1), "a product of rows of ", x.sizes(), " with rows of ", w.sizes());
  static const auto product =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Signature>();
  return product.call(x, w, std::nullopt, "none", c10::List<std::optional<at::Scalar>>(), "");
}

// The gradient of `x W^T`. W may be held in fewer bits than x and is then widened whenever it is used: libtorch's own graph of
// `linear(x, W.to(...))` would keep the wide copy of every layer.
struct LinearBackward : Node {
  SavedVariable x; // (..., in); only for the gradient of the weight
  SavedVariable weight; // (out, in)
  bool by_onednn = false;

  variable_list apply(variable_list &&gradients) override {
    const at::Tensor &gradient = gradients[0]; // (..., out)
    const auto w = weight.unpack();
    at::Tensor of_x, of_weight;
    if (task_should_compute_output(0)) {
      const auto wide = w.to(gradient.scalar_type());
      of_x = by_onednn ? onednn_product(gradient, wide.t()) : at::matmul(gradient, wide);
    }
    if (task_should_compute_output(1)) {
      const auto input = x.unpack();
      const auto rows = gradient.reshape({-1, gradient.size(-1)});
      of_weight = at::mm(rows.t(), input.reshape({-1, input.size(-1)})).to(w.scalar_type());
    }
    return {of_x, of_weight};
  }

  void release_variables() override {
    x.reset_data();
    weight.reset_data();
  }

  std::string name() const override { return "LinearBackward"; }
};

at::Tensor linear(const at::Tensor &x, const at::Tensor &weight, bool by_onednn) {
  at::Tensor y;
  {
    at::NoGradGuard no_grad;
    const auto wide = weight.to(x.scalar_type());
    y = by_onednn ? onednn_product(x, wide) : at::linear(x, wide);
  }
  if (at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad())) {
    const std::shared_ptr<LinearBackward> node(new LinearBackward, torch::autograd::deleteNode);
    node->set_next_edges(torch::autograd::collect_next_edges(x, weight));
    if (weight.requires_grad()) {
      node->x = SavedVariable(x, false);
    }
    node->weight = SavedVariable(weight, false);
    node->by_onednn = by_onednn;
    torch::autograd::impl::set_gradient_edge(y, {node, node->add_input_metadata(y)});
  }
  return y;
}

// Products of bfloat16 matrices on the CPU, in all threads, since they are counted.
std::atomic<int64_t> bfloat16_products{0};

std::unique_ptr<at::ObserverContext> count_product(const at::RecordFunction &function) {
  static constexpr std::array<std::string_view, 10> products{
      "aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::mv", "aten::addmv", "aten::dot", "aten::mkldnn_linear",
      "aten::_scaled_dot_product_flash_attention_for_cpu", "aten::_scaled_dot_product_flash_attention_for_cpu_backward"};
  if (std::find(products.begin(), products.end(), function.name()) == products.end()) {
    return nullptr;
  }
  const auto inputs = function.inputs();
  const auto is_narrow = [](const c10::IValue &input) {
    return input.isTensor() && input.toTensor().defined() && input.toTensor().is_cpu() &&
           input.toTensor().scalar_type() == at::kBFloat16;
  };
  if (std::any_of(inputs.begin(), inputs.end(), is_narrow)) {
    ++bfloat16_products;
  }
  return nullptr;
}

} // namespace

// From now on products are counted, which costs some time.
extern "C" void engine_count_bfloat16_products() {
  at::addGlobalCallback(at::RecordFunctionCallback(count_product).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
}

extern "C" int64_t engine_bfloat16_products() { return bfloat16_products; }

// How libtorch was built, its version among it.
extern "C" char *engine_config() try {
  return strdup(at::show_config().c_str());
} catch (const std::exception &error) {
  return strdup(error.what());
}

// The versions of the CUDA runtime and of cuDNN; they stay as they are where the CUDA libraries are not loaded.
extern "C" void engine_cuda_versions(int64_t *cuda, int64_t *cudnn) try {
  if (at::Context::hasCUDA()) {
    *cuda = at::Context::versionCUDART();
    *cudnn = at::Context::versionRuntimeCuDNN();
  }
} catch (const std::exception &) {
}

// What libtorch's allocator of a GPU has done: the peaks of the bytes in use and of those reserved, and how often it had to
// give memory back and try again. False where there is no such allocator.
extern "C" bool engine_gpu_memory(int32_t device, int64_t *allocated, int64_t *reserved, int64_t *retries) try {
  auto *allocator = dynamic_cast<c10::DeviceAllocator *>(c10::GetAllocator(c10::DeviceType::CUDA));
  if (allocator == nullptr) {
    return false;
  }
  using c10::CachingAllocator::StatType;
  const auto stats = allocator->getDeviceStats(static_cast<c10::DeviceIndex>(device));
  *allocated = stats.allocated_bytes[static_cast<size_t>(StatType::AGGREGATE)].peak;
  *reserved = stats.reserved_bytes[static_cast<size_t>(StatType::AGGREGATE)].peak;
  *retries = stats.num_alloc_retries;
  return true;
} catch (const std::exception &) {
  return false;
}

// Whether libtorch takes only algorithms whose results repeat to the bit, in all threads. It then still leaves new memory as it
// is; filling it would cost time and change no result.
extern "C" void engine_set_deterministic(bool deterministic) {
  at::globalContext().setDeterministicAlgorithms(deterministic, false);
  at::globalContext().setDeterministicFillUninitializedMemory(false);
}

// Writes to `*result` a tensor that the caller owns.
extern "C" char *engine_linear(at::Tensor **result, const at::Tensor *x, const at::Tensor *weight, bool by_onednn) {
  return caught([&] { *result = new at::Tensor(linear(*x, *weight, by_onednn)); });
}
