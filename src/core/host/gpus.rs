//! The machine's GPUs, as the NVIDIA driver lists them.

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

/// A GPU of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledGpu {
    /// The index, in the order of the bus.
    pub index: u32,
    /// The product name, e.g. `NVIDIA H200`.
    pub name: String,
    /// The identifier, `GPU-...`.
    pub uuid: String,
    /// The memory, of the first part where the GPU is split into parts; absent where the driver does not report it.
    pub memory: Option<GpuMemory>,
    /// The parts into which the GPU is split (multi-instance GPU); mostly none.
    pub parts: Vec<GpuPart>,
}

/// A part of a GPU with memory of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuPart {
    /// The identifier, `MIG-...`.
    pub uuid: String,
    /// The memory; absent where the driver does not report it.
    pub memory: Option<GpuMemory>,
}

/// The memory of a GPU, in bytes. The driver reserves some of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuMemory {
    /// All memory.
    pub total: u64,
    /// The memory that no process holds.
    pub free: u64,
    /// The memory that processes hold.
    pub used: u64,
}

impl GpuMemory {
    /// Whether processes hold more than 5% of the memory.
    pub fn is_busy(self) -> bool {
        self.used > self.total / 20
    }
}

/// Lists the GPUs; empty without a driver.
pub fn installed_gpus() -> Vec<InstalledGpu> {
    let Ok(nvml) = Nvml::init() else { return Vec::new() };
    let Ok(count) = nvml.device_count() else { return Vec::new() };
    (0..count).filter_map(|index| gpu(&nvml, index).ok()).collect()
}

fn gpu(nvml: &Nvml, index: u32) -> Result<InstalledGpu, NvmlError> {
    let device = nvml.device_by_index(index)?;
    let parts = parts(&device);
    Ok(InstalledGpu {
        index,
        name: device.name().unwrap_or_else(|_| "GPU".to_owned()),
        uuid: device.uuid()?,
        // A process to which a split GPU is visible uses its first part.
        memory: parts.first().map_or_else(|| memory(&device), |part| part.memory),
        parts,
    })
}

/// Returns the parts of a GPU. There may be gaps among their indices.
fn parts(device: &Device<'_>) -> Vec<GpuPart> {
    let most = device.mig_device_count().unwrap_or(0);
    let part = |index| {
        let part = device.mig_device_by_index(index).ok()?;
        Some(GpuPart { uuid: part.uuid().ok()?, memory: memory(&part) })
    };
    (0..most).filter_map(part).collect()
}

fn memory(device: &Device<'_>) -> Option<GpuMemory> {
    let memory = device.memory_info().ok()?;
    Some(GpuMemory { total: memory.total, free: memory.free, used: memory.used })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_busy_when_processes_hold_more_than_a_twentieth() {
        let memory = |used: u64, reserved: u64| GpuMemory { total: 1000, free: 1000 - used - reserved, used };
        assert!(!memory(0, 100).is_busy() && !memory(50, 0).is_busy() && memory(51, 0).is_busy());
    }
}
