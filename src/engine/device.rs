//! The device that holds the tensors.

use crate::cuda;
use crate::error::{StageError, StageResult};
use crate::memory;
use orchestrate_core::energy::EnergyMeter;
use orchestrate_core::event::PeakMemory;
use orchestrate_core::exec::CudaProblem;
use orchestrate_core::workspace::{DeviceChoice, Meters};
use tch::Device;

/// Returns the device that `choice` means on this machine.
///
/// # Errors
/// Returns an error if a GPU is requested by number and libtorch does not see it.
pub fn choose(choice: &DeviceChoice) -> StageResult<Device> {
    if *choice == DeviceChoice::Cpu {
        return Ok(Device::Cpu);
    }
    match (choice, cuda::count()) {
        (DeviceChoice::Cuda(index), Ok(available)) if *index < available => Ok(Device::Cuda(*index)),
        (DeviceChoice::Cuda(index), Ok(available)) => {
            let plural = if available == 1 { "" } else { "s" };
            let message =
                format!("there is no device `cuda:{index}`: libtorch sees {available} GPU{plural}, counted from 0");
            Err(StageError::input(message).hinted("choose one of them, `auto` or `cpu`"))
        }
        (DeviceChoice::Cuda(index), Err(problem)) => {
            let message = format!("the device `cuda:{index}` cannot be used: {problem}");
            Err(StageError::input(message).hinted("`orchestrate doctor` shows what libtorch sees; `cpu` needs no GPU"))
        }
        (_, Ok(_)) => Ok(Device::Cuda(0)),
        (_, Err(_)) => Ok(Device::Cpu),
    }
}

/// Returns a warning where `choice` leaves the choice to this machine, the machine has CUDA libraries, and the CPU is
/// used all the same.
pub fn warning(choice: &DeviceChoice) -> Option<String> {
    if *choice != DeviceChoice::Auto {
        return None; // the CUDA libraries are loaded for those only that may use a GPU
    }
    let problem = cuda::count().err().filter(|problem| *problem != CudaProblem::LibraryMissing)?;
    Some(format!("the stage runs on the CPU, since the GPU cannot be used: {problem}"))
}

/// Returns the device's name in recipes and events.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    }
}

/// Starts to measure the energy and memory that a stage uses on `device`.
pub fn meters(device: Device) -> Meters {
    let energy = match device {
        Device::Cuda(index) => EnergyMeter::of_gpu(index),
        _ => EnergyMeter::of_processors(),
    };
    Meters { energy, peak_memory: Some(Box::new(move || peak_memory(device))) }
}

/// Returns the peak memory of this process, on the CPU and on `device`.
fn peak_memory(device: Device) -> Option<PeakMemory> {
    let gpu_bytes = GpuMemory::of(device).map(|memory| memory.reserved_bytes);
    Some(PeakMemory { resident_bytes: memory::peak_resident()?, gpu_bytes })
}

/// The statistics of libtorch's allocator of a GPU since the process began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuMemory {
    /// Peak of the bytes that tensors used.
    pub allocated_bytes: u64,
    /// Peak of the bytes that the allocator held, used or not.
    pub reserved_bytes: u64,
    /// Number of allocations that succeeded only after unused memory was given back.
    pub retries: u64,
}

impl GpuMemory {
    /// Returns the statistics of `device`; `None` for the CPU.
    pub fn of(device: Device) -> Option<Self> {
        let Device::Cuda(index) = device else { return None };
        let index = i32::try_from(index).ok()?;
        let (mut allocated, mut reserved, mut retries) = (0, 0, 0);
        // SAFETY: the function queries libtorch's allocator. The pointers are to live numbers.
        #[expect(unsafe_code, reason = "a function of torch/shim.cpp")]
        let is_there = unsafe { engine_gpu_memory(index, &raw mut allocated, &raw mut reserved, &raw mut retries) };
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        is_there.then(|| Self {
            allocated_bytes: count(allocated),
            reserved_bytes: count(reserved),
            retries: count(retries),
        })
    }
}

#[expect(unsafe_code, reason = "a function of torch/shim.cpp")]
unsafe extern "C" {
    fn engine_gpu_memory(device: i32, allocated: *mut i64, reserved: *mut i64, retries: *mut i64) -> bool;
}
