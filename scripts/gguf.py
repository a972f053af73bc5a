"""Reads the GGUF files of llama.cpp: metadata, and tensors as float32.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (version 3, little-endian). Of the tensor types only
those of the packaged model are known: F32, and the block formats Q4_1 and Q8_0 (32 values with their scale).
"""

import math
import struct
from array import array
from dataclasses import dataclass

F32, Q4_1, Q8_0 = 0, 3, 8
BLOCK = 32
TYPE_NAMES = {F32: "F32", Q4_1: "Q4_1", Q8_0: "Q8_0"}
# Metadata value types: 0 to 7 and 10 to 12 are numbers, by their `struct` codes.
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
# Of a byte that packs two 4-bit values: the lower and the upper one.
LOW = bytes(b & 15 for b in range(256))
HIGH = bytes(b >> 4 for b in range(256))


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple  # outermost dimension first
    kind: int
    offset: int

    def count(self):
        """Returns the number of values."""
        return math.prod(self.shape)


class GgufFile:
    """A GGUF file in memory: `metadata` {key: value} and `tensors` [Tensor]."""

    def __init__(self, data):
        self.data, self.position = data, 0
        if data[:4] != b"GGUF":
            raise ValueError("not a GGUF file")
        self.position = 4
        version, tensor_count, metadata_count = self.number("I"), self.number("Q"), self.number("Q")
        if version != 3:
            raise ValueError(f"GGUF version {version} is not known (known: 3)")
        self.metadata = {}
        for _ in range(metadata_count):
            key = self.string()
            self.metadata[key] = self.value(self.number("I"))
        described = [self.tensor() for _ in range(tensor_count)]
        alignment = self.metadata.get("general.alignment", 32)
        start = -(-self.position // alignment) * alignment
        self.tensors = [Tensor(name, shape, kind, start + offset) for name, shape, kind, offset in described]

    def number(self, code):
        (value,) = struct.unpack_from(f"<{code}", self.data, self.position)
        self.position += struct.calcsize(f"<{code}")
        return value

    def string(self):
        length = self.number("Q")
        self.position += length
        return self.data[self.position - length : self.position].decode("utf-8")

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            element, length = self.number("I"), self.number("Q")
            return [self.value(element) for _ in range(length)]
        return self.number(NUMBERS[kind])

    def tensor(self):
        name = self.string()
        dimensions = [self.number("Q") for _ in range(self.number("I"))]
        return name, tuple(reversed(dimensions)), self.number("I"), self.number("Q")

    def floats(self, tensor):
        """Returns the values of a tensor as an `array` of float32, outermost dimension first."""
        readers = {F32: self.read_f32, Q4_1: self.read_q4_1, Q8_0: self.read_q8_0}
        if tensor.kind not in readers:
            known = ", ".join(TYPE_NAMES.values())
            raise ValueError(f"tensor `{tensor.name}` is of type {tensor.kind}, which is not known (known: {known})")
        return readers[tensor.kind](tensor)

    def read_f32(self, tensor):
        return array("f", self.data[tensor.offset : tensor.offset + 4 * tensor.count()])

    def read_q4_1(self, tensor):
        """A block is scale and minimum (float16) and 16 bytes; byte i holds the values i and i + 16."""
        values = array("f")
        blocks = self.data[tensor.offset : tensor.offset + tensor.count() // BLOCK * 20]
        for scale, minimum, packed in struct.iter_unpack("<ee16s", blocks):
            # Exact in float64, hence rounded once: bit for bit what float32 arithmetic gives.
            levels = [scale * level + minimum for level in range(16)]
            values.extend(map(levels.__getitem__, packed.translate(LOW) + packed.translate(HIGH)))
        return values

    def read_q8_0(self, tensor):
        """A block is a scale (float16) and 32 signed bytes."""
        values = array("f")
        blocks = self.data[tensor.offset : tensor.offset + tensor.count() // BLOCK * 34]
        for scale, packed in struct.iter_unpack("<e32s", blocks):
            values.extend([scale * level for level in memoryview(packed).cast("b")])
        return values
