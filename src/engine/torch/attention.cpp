// Flash attention over sequences of different lengths, in one call.

#include "shim.h"

#include <ATen/ops/_flash_attention_forward.h>

// Queries are (T, H, D), keys and values (U, K, D). `starts_q` and `starts_k` hold the first row of each sequence and the end
// of the last, as 32-bit integers. `used_k`, if not null, holds how many of a sequence's keys are in use. With `causal`, the
// last query of a sequence sees all of its keys, and each query before it one key less.
extern "C" char *engine_flash_attention(at::Tensor **result, const at::Tensor *q, const at::Tensor *k, const at::Tensor *v,
                                        const at::Tensor *starts_q, const at::Tensor *starts_k, const at::Tensor *used_k,
                                        int64_t longest_q, int64_t longest_k, bool causal) {
  return caught([&] {
    const auto used = used_k == nullptr ? std::nullopt : std::optional<at::Tensor>(*used_k);
    const auto outputs = at::_flash_attention_forward(*q, *k, *v, *starts_q, *starts_k, longest_q, longest_k, 0.0, causal,
                                                      false, std::nullopt, std::nullopt, std::nullopt, used, std::nullopt);
    *result = new at::Tensor(std::get<0>(outputs));
  });
}
