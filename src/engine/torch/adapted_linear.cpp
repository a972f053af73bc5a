// A frozen linear layer with a low-rank adapter, as one node of the graph.
//
// The adapter is held in 32 bits and multiplied in the number format of activations. Its casts are made once for many uses, so
// libtorch's own graph, which would cast at each use, cannot be used.

#include "shim.h"

#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/autograd/variable.h>

namespace {

using torch::autograd::Node;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

at::Tensor rows(const at::Tensor &t) { return t.reshape({-1, t.size(-1)}); }

// The edges are the input, the adapter's own input if dropout changed it, and the two matrices of the adapter.
struct AdaptedLinearBackward : Node {
  SavedVariable input; // (..., in), of the adapter
  SavedVariable weight; // (out, in)
  SavedVariable a; // (r, in)
  SavedVariable b; // (out, r), multiplied by the scale
  SavedVariable down; // (T, r)
  double scale = 1.0;
  bool has_own_input = false;

  variable_list apply(variable_list &&gradients) override {
    const auto gradient = rows(gradients[0]); // (T, out)
    const auto z = input.unpack();
    at::Tensor of_x, of_z, of_a, of_b;
    const auto of_down = at::mm(gradient, b.unpack()); // (T, r)
    if (task_should_compute_output(0)) {
      of_x = at::mm(gradient, weight.unpack()); // (T, in)
      if (!has_own_input) {
        of_x.addmm_(of_down, a.unpack());
      }
      of_x = of_x.view(z.sizes());
    }
    if (has_own_input && task_should_compute_output(1)) {
      of_z = at::mm(of_down, a.unpack()).view(z.sizes());
    }
    if (task_should_compute_output(2)) {
      of_a = at::mm(of_down.t(), rows(z)).to(at::kFloat);
    }
    if (task_should_compute_output(3)) {
      of_b = at::mm(gradient.t(), down.unpack()).to(at::kFloat).mul_(scale);
    }
    return {of_x, of_z, of_a, of_b};
  }

  void release_variables() override {
    for (auto *saved : {&input, &weight, &a, &b, &down}) {
      saved->reset_data();
    }
  }

  std::string name() const override { return "AdaptedLinearBackward"; }
};

} // namespace

// Computes `x W^T + bias + z A^T (scale B)^T`; z is x if it is null. `a` and `b` are the 32-bit matrices that are trained. The
// products use `cast_a`, which is A, and `cast_b`, which is scale B, in the number format of x.
extern "C" char *engine_adapted_linear(at::Tensor **result, const at::Tensor *x, const at::Tensor *z, const at::Tensor *weight,
                                       const at::Tensor *bias, const at::Tensor *a, const at::Tensor *b,
                                       const at::Tensor *cast_a, const at::Tensor *cast_b, double scale) {
  return caught([&] {
    const at::Tensor &input = z == nullptr ? *x : *z;
    at::Tensor y, down;
    {
      at::NoGradGuard no_grad;
      y = at::linear(*x, *weight, bias == nullptr ? std::nullopt : std::optional<at::Tensor>(*bias));
      down = at::mm(rows(input), cast_a->t());
      rows(y).addmm_(down, cast_b->t());
    }
    const bool needs_gradient = x->requires_grad() || input.requires_grad() || a->requires_grad() || b->requires_grad();
    if (at::GradMode::is_enabled() && needs_gradient) {
      const std::shared_ptr<AdaptedLinearBackward> node(new AdaptedLinearBackward, torch::autograd::deleteNode);
      node->set_next_edges(torch::autograd::collect_next_edges(*x, z == nullptr ? at::Tensor() : *z, *a, *b));
      node->input = SavedVariable(input, false);
      node->weight = SavedVariable(*weight, false);
      node->a = SavedVariable(*cast_a, false);
      node->b = SavedVariable(*cast_b, false);
      node->down = SavedVariable(down, false);
      node->scale = scale;
      node->has_own_input = z != nullptr;
      torch::autograd::impl::set_gradient_edge(y, {node, node->add_input_metadata(y)});
    }
    *result = new at::Tensor(y);
  });
}
