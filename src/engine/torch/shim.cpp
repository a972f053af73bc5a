// What the engine needs of libtorch's C++ interface and tch does not bind.
//
// A function returns null when it succeeds, else a message that the caller frees.

#define AT_PER_OPERATOR_HEADERS // an eighth of the headers, and of the time to compile them

#include <ATen/core/Tensor.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <exception>
#include <memory>

namespace {

using torch::autograd::Node;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

// The gradient of `x W^T`, where W is held in fewer bits than x and widened whenever it is used: libtorch's own graph of
// `linear(x, W.to(...))` would keep the wide copy of every layer.
struct WidenedLinearBackward : Node {
  SavedVariable x; // (..., in); only for the gradient of the weight
  SavedVariable weight; // (out, in)

  variable_list apply(variable_list &&gradients) override {
    const at::Tensor &gradient = gradients[0]; // (..., out)
    const auto w = weight.unpack();
    at::Tensor of_x, of_weight;
    if (task_should_compute_output(0)) {
      of_x = at::matmul(gradient, w.to(gradient.scalar_type()));
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

  std::string name() const override { return "WidenedLinearBackward"; }
};

at::Tensor widened_linear(const at::Tensor &x, const at::Tensor &weight) {
  at::Tensor y;
  {
    at::NoGradGuard no_grad;
    y = at::linear(x, weight.to(x.scalar_type()));
  }
  if (at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad())) {
    const std::shared_ptr<WidenedLinearBackward> node(new WidenedLinearBackward, torch::autograd::deleteNode);
    node->set_next_edges(torch::autograd::collect_next_edges(x, weight));
    if (weight.requires_grad()) {
      node->x = SavedVariable(x, false);
    }
    node->weight = SavedVariable(weight, false);
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

// Writes to `*result` a tensor that the caller owns.
extern "C" char *engine_widened_linear(at::Tensor **result, const at::Tensor *x, const at::Tensor *weight) try {
  *result = new at::Tensor(widened_linear(*x, *weight));
  return nullptr;
} catch (const std::exception &error) {
  return strdup(error.what());
}
