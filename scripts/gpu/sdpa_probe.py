#!/usr/bin/env python3
"""Which attention kernel torch takes for the engine's shapes, and how long a shape's first calls take: `sdpa_probe.py`."""

import time

import torch
import torch.nn.functional as F

KERNELS = {-1: "none", 0: "math", 1: "flash", 2: "efficient", 3: "cudnn"}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def timed(call):
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    call()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - began)


def tensor(*size):
    return torch.randn(*size, device=DEVICE, dtype=torch.bfloat16)


def show(what, q, k, v, mask=None, causal=False, backward=False):
    def call():
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        if backward:
            y.sum().backward()

    choice = torch._fused_sdp_choice(q, k, v, attn_mask=mask, is_causal=causal)
    times = [timed(call) for _ in range(3)]
    print(f"{what:34} {KERNELS.get(choice, choice):9} {times[0]:8.2f} {times[1]:8.3f} {times[2]:8.3f} ms", flush=True)


def main():
    cudnn = torch.backends.cudnn.version()
    print(f"torch {torch.__version__}, cuDNN {cudnn}, {DEVICE}: kernel, first, second and third call")
    heads = 32 if DEVICE == "cuda" else 4
    for length in (128, 137, 300, 2048 if DEVICE == "cuda" else 320):
        q, k, v = (tensor(1, length, heads, 128).transpose(1, 2).requires_grad_() for _ in range(3))
        show(f"causal, {length} tokens, backward", q, k, v, causal=True, backward=True)
    rows = 64 if DEVICE == "cuda" else 2
    keys, values = (tensor(rows, 8, 1024, 128) for _ in range(2))
    q = tensor(rows, 8, 4, 128)
    for columns in (600, 601, 602, 608):
        mask = torch.zeros(rows, 1, 1, columns, device=DEVICE, dtype=torch.bfloat16)
        show(f"decoding, {columns} columns", q, keys[:, :, :columns], values[:, :, :columns], mask)
    for length in (300, 311, 320):
        q = tensor(1, 8, 4 * length, 128).requires_grad_()
        k, v = (tensor(1, 8, 512 + length, 128).requires_grad_() for _ in range(2))
        mask = torch.zeros(4 * length, 512 + length, device=DEVICE, dtype=torch.bfloat16)
        show(f"completion of {length}, backward", q, k, v, mask, backward=True)


if __name__ == "__main__":
    main()
