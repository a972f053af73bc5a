//! The machine's GPUs, as the NVIDIA driver lists them.

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

/// A GPU of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledGpu {
    /// The index, in the order of the bus.
    pub index: u32,
    /// The product name, e.g. `NVIDIA H200`.
    pub name: String,
    /// The identifier, `GPU-...`.
    pub uuid: String,
    /// The memory in bytes; absent where the driver does not report it.
    pub memory_bytes: Option<u64>,
}

/// Lists the GPUs; empty without a driver.
pub fn installed_gpus() -> Vec<InstalledGpu> {
    let Ok(nvml) = Nvml::init() else { return Vec::new() };
    let Ok(count) = nvml.device_count() else { return Vec::new() };
    (0..count).filter_map(|index| gpu(&nvml, index).ok()).collect()
}

fn gpu(nvml: &Nvml, index: u32) -> Result<InstalledGpu, NvmlError> {
    let device = nvml.device_by_index(index)?;
    let memory_bytes = device.memory_info().ok().map(|memory| memory.total);
    Ok(InstalledGpu {
        index,
        name: device.name().unwrap_or_else(|_| "GPU".to_owned()),
        uuid: device.uuid()?,
        memory_bytes,
    })
}
