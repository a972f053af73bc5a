// Operations on lists of tensors, which a GPU computes in a few launches for the whole list.

#include "shim.h"

#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_foreach_zero.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/stack.h>

// Copies each of `sources` into the tensor of `targets` at its place, and converts it.
extern "C" char *engine_copy_all(const at::Tensor *const *targets, const at::Tensor *const *sources, size_t count) {
  return caught([&] {
    const auto all = list(targets, count);
    at::_foreach_copy_(all, list(sources, count));
  });
}

// Copies like `engine_copy_all`, with each source multiplied by the factor at its place before it is converted.
extern "C" char *engine_copy_all_scaled(const at::Tensor *const *targets, const at::Tensor *const *sources,
                                        const double *factors, size_t count) {
  return caught([&] {
    const std::vector<at::Scalar> scalars(factors, factors + count);
    const auto all = list(targets, count);
    at::_foreach_copy_(all, at::_foreach_mul(list(sources, count), scalars));
  });
}

// Multiplies each tensor by the factor at its place.
extern "C" char *engine_multiply_all(const at::Tensor *const *tensors, const double *factors, size_t count) {
  return caught([&] {
    const std::vector<at::Scalar> scalars(factors, factors + count);
    const auto all = list(tensors, count);
    at::_foreach_mul_(all, scalars);
  });
}

extern "C" char *engine_zero_all(const at::Tensor *const *tensors, size_t count) {
  return caught([&] {
    const auto all = list(tensors, count);
    at::_foreach_zero_(all);
  });
}

// Writes the 2-norm of each tensor, in 32 bits.
extern "C" char *engine_norms(at::Tensor **result, const at::Tensor *const *tensors, size_t count) {
  return caught([&] { *result = new at::Tensor(at::stack(at::_foreach_norm(list(tensors, count), 2, at::kFloat))); });
}

// One update of AdamW with the bias correction of update `step`. Moments and gradients have the format of their parameters.
extern "C" char *engine_adamw(const at::Tensor *const *parameters, const at::Tensor *const *gradients,
                              const at::Tensor *const *first, const at::Tensor *const *second, size_t count,
                              const at::Tensor *step, double lr, double beta1, double beta2, double weight_decay, double eps) {
  return caught([&] {
    const auto all = list(parameters, count);
    const std::vector<at::Tensor> steps(count, *step);
    at::_fused_adamw_(all, list(gradients, count), list(first, count), list(second, count), {}, steps, lr, beta1, beta2,
                      weight_decay, eps, false, false);
  });
}
