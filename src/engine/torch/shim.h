// What all files of the shim share.
//
// A function of the shim returns null when it succeeds, else a message that the caller frees.

#pragma once

#define AT_PER_OPERATOR_HEADERS // an eighth of the headers, and of the time to compile them

#include <ATen/core/Tensor.h>

#include <cstring>
#include <exception>
#include <vector>

// Calls `work` and returns the message of its exception, or null.
template <typename Work> char *caught(Work &&work) {
  try {
    work();
    return nullptr;
  } catch (const std::exception &error) {
    return strdup(error.what());
  }
}

// Copies the handles of `count` tensors.
inline std::vector<at::Tensor> list(const at::Tensor *const *tensors, size_t count) {
  std::vector<at::Tensor> all;
  all.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    all.push_back(*tensors[i]);
  }
  return all;
}
