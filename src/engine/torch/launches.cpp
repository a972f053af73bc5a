// A count of the operations that would be launched on a GPU, made on any device.
//
// An operation counts if it computes and is not made of others. Views, allocations and queries launch nothing. A few operations
// are one kernel on a GPU although a CPU makes them of several.

#include "shim.h"

#include <ATen/record_function.h>

#include <map>
#include <string>
#include <unordered_set>

namespace {

// One kernel on a GPU, whatever parts it has on a CPU.
const std::unordered_set<std::string_view> one_kernel{
    "aten::_foreach_copy_", "aten::_foreach_mul", "aten::_foreach_mul_", "aten::_foreach_norm", "aten::_foreach_zero_",
    "aten::_fused_adamw_", "aten::add", "aten::add_", "aten::addmm", "aten::addmm_", "aten::baddbmm", "aten::bmm", "aten::cat", "aten::copy_",
    "aten::embedding", "aten::index_copy_", "aten::index_put_", "aten::index_select", "aten::layer_norm", "aten::log_softmax",
    "aten::logsumexp", "aten::mm", "aten::mul", "aten::mul_", "aten::rms_norm", "aten::roll",
    "aten::scaled_dot_product_attention", "aten::silu_backward"};

const std::unordered_set<std::string_view> no_launch{
    "aten::_local_scalar_dense", "aten::_reshape_alias", "aten::_unsafe_view", "aten::alias", "aten::as_strided", "aten::can_cast",
    "aten::chunk", "aten::contiguous", "aten::detach", "aten::detach_", "aten::dropout", "aten::empty", "aten::empty_like",
    "aten::empty_strided", "aten::expand", "aten::expand_as", "aten::flatten", "aten::is_nonzero", "aten::is_same_size",
    "aten::item", "aten::lift_fresh", "aten::linear", "aten::matmul", "aten::movedim", "aten::narrow", "aten::new_empty",
    "aten::new_empty_strided", "aten::numpy_T", "aten::permute", "aten::requires_grad_", "aten::reshape", "aten::resize_",
    "aten::resolve_conj", "aten::resolve_neg", "aten::result_type", "aten::select", "aten::set_", "aten::set_data", "aten::slice",
    "aten::split", "aten::split_with_sizes", "aten::squeeze", "aten::squeeze_", "aten::t", "aten::to", "aten::transpose",
    "aten::unbind", "aten::unflatten", "aten::unsqueeze", "aten::unsqueeze_", "aten::view", "aten::view_as"};

// Nodes of the graph and functions of autograd have names of their own, and launch nothing themselves.
bool launches(std::string_view name) { return name.substr(0, 6) == "aten::" && no_launch.count(name) == 0; }

// What a thread has counted, and the operations that it is in.
struct Count {
  std::map<std::string, int64_t> by_name;
  std::vector<bool> has_counted_part; // for each open operation
  int inside_one = 0; // the number of open operations that count as one
};
thread_local Count count;

struct Open : at::ObserverContext {
  bool is_one = false;
};

std::unique_ptr<at::ObserverContext> open(const at::RecordFunction &function) {
  auto context = std::make_unique<Open>();
  context->is_one = one_kernel.count(function.name()) > 0;
  count.inside_one += context->is_one ? 1 : 0;
  count.has_counted_part.push_back(false);
  return context;
}

void close(const at::RecordFunction &function, at::ObserverContext *context) {
  const bool is_one = static_cast<Open *>(context)->is_one;
  count.inside_one -= is_one ? 1 : 0;
  const bool has_part = count.has_counted_part.back();
  count.has_counted_part.pop_back();
  if (count.inside_one > 0) {
    return;
  }
  const bool counts = is_one || (!has_part && launches(function.name()));
  if (counts) {
    ++count.by_name[function.name()];
  }
  if ((counts || has_part) && !count.has_counted_part.empty()) {
    count.has_counted_part.back() = true;
  }
}

} // namespace

// Starts a count in this thread and returns its handle.
extern "C" uint64_t engine_count_launches() {
  count = Count();
  return at::addThreadLocalCallback(at::RecordFunctionCallback(open, close).scopes({at::RecordScope::FUNCTION}));
}

// Ends the count, and returns a line with the name and the number of each operation.
extern "C" char *engine_end_count(uint64_t handle) {
  at::removeCallback(handle);
  std::string lines;
  for (const auto &[name, times] : count.by_name) {
    lines += name + " " + std::to_string(times) + "\n";
  }
  return strdup(lines.c_str());
}

// Operations between `begin` and the end count as one of this name.
extern "C" void engine_begin_one_launch(const char *name) {
  if (count.inside_one++ == 0) {
    ++count.by_name[name];
    if (!count.has_counted_part.empty()) {
      count.has_counted_part.back() = true;
    }
  }
}

extern "C" void engine_end_one_launch() { --count.inside_one; }
