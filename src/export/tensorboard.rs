//! TensorBoard's event files: records of TensorFlow's `TFRecord` format (`tensorflow/core/lib/io/record_writer.h`),
//! each a protocol buffer `Event` (`tensorboard/compat/proto/event.proto`, `summary.proto`). Only the fields of scalars
//! are written:
//!
//! ```text
//! record  = u64 length, u32 masked crc of the length, bytes, u32 masked crc of the bytes (little endian)
//! Event   = 1: double wall_time, 2: int64 step, 3: string file_version | 5: Summary
//! Summary = 1: repeated Value;  Value = 1: string tag, 2: float simple_value
//! ```

use std::io::{self, BufWriter, Write};
use std::path::Path;

/// An event file that is being written.
pub struct EventFile<W: Write> {
    out: W,
}

impl EventFile<BufWriter<fs_err::File>> {
    /// Creates the file. TensorBoard looks for names that contain `tfevents`. `began` is in seconds since 1970.
    pub fn create(path: &Path, began: f64) -> io::Result<Self> {
        Self::new(BufWriter::new(fs_err::File::create(path)?), began)
    }
}

impl<W: Write> EventFile<W> {
    fn new(out: W, began: f64) -> io::Result<Self> {
        let mut file = Self { out };
        let mut event = Vec::new();
        double(&mut event, 1, began);
        bytes(&mut event, 3, b"brain.Event:2");
        file.record(&event)?;
        Ok(file)
    }

    /// Adds the scalars of a step that ended at `wall_time`, in seconds since 1970.
    pub fn push(&mut self, wall_time: f64, step: u64, scalars: &[(String, f64)]) -> io::Result<()> {
        let mut summary = Vec::new();
        for (tag, scalar) in scalars {
            let mut value = Vec::new();
            bytes(&mut value, 1, tag.as_bytes());
            varint(&mut value, 2 << 3 | 5);
            #[expect(clippy::cast_possible_truncation, reason = "TensorBoard's scalars have 32 bits")]
            value.extend((*scalar as f32).to_le_bytes());
            bytes(&mut summary, 1, &value);
        }
        let mut event = Vec::new();
        double(&mut event, 1, wall_time);
        varint(&mut event, 2 << 3);
        varint(&mut event, step);
        bytes(&mut event, 5, &summary);
        self.record(&event)
    }

    /// Flushes the file.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn record(&mut self, data: &[u8]) -> io::Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        self.out.write_all(&length)?;
        self.out.write_all(&masked_crc(&length).to_le_bytes())?;
        self.out.write_all(data)?;
        self.out.write_all(&masked_crc(data).to_le_bytes())
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7F) as u8);
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    varint(out, field << 3 | 1);
    out.extend(value.to_le_bytes());
}

/// Computes CRC-32C (RFC 3720, appendix B.4), rotated and shifted so that a record may itself contain one.
fn masked_crc(data: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78; // reflected
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte: u32 = 0;
        while byte < 256 {
            let mut rest = byte;
            let mut bit = 0;
            while bit < 8 {
                rest = if rest & 1 == 1 { rest >> 1 ^ POLYNOMIAL } else { rest >> 1 };
                bit += 1;
            }
            table[byte as usize] = rest;
            byte += 1;
        }
        table
    };
    let crc = data.iter().fold(u32::MAX, |crc, &byte| TABLE[((crc ^ u32::from(byte)) & 0xFF) as usize] ^ crc >> 8);
    (!crc).rotate_right(15).wrapping_add(0xA282_EAD8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        let unmasked = |data: &[u8]| masked_crc(data).wrapping_sub(0xA282_EAD8).rotate_left(15);
        // RFC 3720, appendix B.4.
        assert_eq!(unmasked(&[0; 32]), 0x8A91_36AA);
        assert_eq!(unmasked(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(unmasked(b"123456789"), 0xE306_9283);
    }

    /// The golden file holds the bytes that Python's `tensorboard` writes for the same events
    /// (`tests/golden/gen_tensorboard.py`).
    #[test]
    fn the_file_is_the_one_that_tensorboard_writes() {
        let mut written = Vec::new();
        let mut file = EventFile::new(&mut written, 1_793_000_000.0).unwrap();
        file.push(1_793_000_000.25, 1, &[("train/loss".to_owned(), 2.5), ("reward/mean".to_owned(), -0.125)]).unwrap();
        file.push(1_793_000_001.5, 300, &[("train/loss".to_owned(), 0.1)]).unwrap();
        file.finish().unwrap();
        let golden = include_bytes!("../../tests/golden/scalars.tfevents");
        assert_eq!(written, golden);
    }
}
