//! Work that a GPU records once and then does again at one launch (a CUDA graph).

use super::check;
use std::ffi::c_char;
use std::ptr::NonNull;
use tch::{Device, Tensor};

/// Recorded work. It reads and writes the tensors that it was recorded with, wherever their numbers come from.
#[derive(Debug)]
pub struct Recording {
    /// The tensor that the work returned, written again by each repetition.
    output: Tensor,
    /// The graph; absent on a CPU, which does the work itself.
    graph: Option<Graph>,
}

impl Recording {
    /// Records `work`, which is done once before. It must launch the same operations on the same tensors each time, and
    /// must not read from the device.
    ///
    /// # Panics
    /// Panics with libtorch's message if `work` cannot be recorded.
    pub fn of(device: Device, mut work: impl FnMut() -> Tensor) -> Self {
        let Device::Cuda(index) = device else { return Self { output: work(), graph: None } };
        let graph = Graph::new(i32::try_from(index).expect("devices fit i32"));
        // libraries allocate their workspaces at the first call on a stream, which cannot be recorded
        drop(work());
        let output = graph.record(work);
        Self { output, graph: Some(graph) }
    }

    /// Does the work again and returns its output, which the next repetition overwrites. A CPU calls `work`.
    pub fn repeat(&mut self, work: impl FnOnce() -> Tensor) -> Tensor {
        match &self.graph {
            Some(graph) => graph.replay(),
            None => self.output = work(),
        }
        self.output.shallow_clone()
    }
}

/// A graph of a GPU's work. While it is new, work runs on a stream of its own.
#[derive(Debug)]
struct Graph(NonNull<libc::c_void>);

impl Graph {
    fn new(device: i32) -> Self {
        let mut graph = std::ptr::null_mut();
        // SAFETY: the function stores a pointer that the caller owns, unless it returns a message.
        #[expect(unsafe_code, reason = "a function of graph.cpp")]
        check(unsafe { engine_recording_new(&raw mut graph, device) });
        Self(NonNull::new(graph).expect("a recording was made"))
    }

    fn record(&self, work: impl FnOnce() -> Tensor) -> Tensor {
        // SAFETY: the pointer is that of a live recording.
        #[expect(unsafe_code, reason = "a function of graph.cpp")]
        check(unsafe { engine_recording_begin(self.0.as_ptr()) });
        let output = work();
        // SAFETY: as above.
        #[expect(unsafe_code, reason = "a function of graph.cpp")]
        check(unsafe { engine_recording_end(self.0.as_ptr()) });
        output
    }

    fn replay(&self) {
        // SAFETY: the pointer is that of a live recording that has ended.
        #[expect(unsafe_code, reason = "a function of graph.cpp")]
        check(unsafe { engine_recording_replay(self.0.as_ptr()) });
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: the pointer is that of a live recording, which is not used again.
        #[expect(unsafe_code, reason = "a function of graph.cpp")]
        unsafe {
            engine_recording_free(self.0.as_ptr());
        }
    }
}

#[expect(unsafe_code, reason = "functions of graph.cpp")]
unsafe extern "C" {
    fn engine_recording_new(recording: *mut *mut libc::c_void, device: i32) -> *mut c_char;
    fn engine_recording_begin(recording: *mut libc::c_void) -> *mut c_char;
    fn engine_recording_end(recording: *mut libc::c_void) -> *mut c_char;
    fn engine_recording_replay(recording: *mut libc::c_void) -> *mut c_char;
    fn engine_recording_free(recording: *mut libc::c_void);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn a_repetition_reads_what_its_inputs_hold_then() {
        let mut input = Tensor::from_slice(&[1.0f32, 2.0]);
        let mut recording = Recording::of(Device::Cpu, || &input * 2.0);
        let _ = input.fill_(5.0);
        let again = recording.repeat(|| &input * 2.0);
        assert_eq!(Vec::<f32>::try_from(again.to_kind(Kind::Float)).unwrap(), [10.0, 10.0]);
    }
}
