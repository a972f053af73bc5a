//! The GPUs that this process sees.

use crate::host::{GpuMemory, InstalledGpu, installed_gpus};

/// The variable that selects the GPUs that a process sees, and their order.
pub(super) const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// A GPU, or a part of one, that this process sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VisibleGpu {
    /// The device, as `CUDA_VISIBLE_DEVICES` names it.
    pub(super) device: String,
    /// The memory; absent where the driver does not report it.
    pub(super) memory: Option<GpuMemory>,
}

/// Returns the GPUs that this process sees, in the order in which recipes count them.
pub(super) fn visible_gpus() -> Vec<VisibleGpu> {
    chosen(installed_gpus(), std::env::var(VISIBLE).ok().as_deref())
}

/// Returns the devices that `CUDA_VISIBLE_DEVICES` leaves visible, in its order. It may also name parts of GPUs.
fn chosen(installed: Vec<InstalledGpu>, choice: Option<&str>) -> Vec<VisibleGpu> {
    let Some(choice) = choice else {
        let visible = |gpu: InstalledGpu| VisibleGpu { device: gpu.index.to_string(), memory: gpu.memory };
        return installed.into_iter().map(visible).collect();
    };
    let names = choice.split(',').map(str::trim);
    // CUDA reads the list up to the first invalid entry, usually -1.
    names
        .take_while(|name| !name.is_empty() && !name.starts_with('-'))
        .filter_map(|name| {
            let memory = if name.starts_with("MIG-") {
                let part = installed.iter().flat_map(|gpu| &gpu.parts).find(|part| part.uuid.starts_with(name));
                part.and_then(|part| part.memory)
            } else {
                let is_it = |gpu: &&InstalledGpu| {
                    gpu.index.to_string() == name || (name.starts_with("GPU-") && gpu.uuid.starts_with(name))
                };
                installed.iter().find(is_it)?.memory
            };
            Some(VisibleGpu { device: name.to_owned(), memory })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::GpuPart;

    const fn memory(total: u64) -> GpuMemory {
        GpuMemory { total, free: total, used: 0 }
    }

    fn installed() -> Vec<InstalledGpu> {
        let gpu = |index, uuid: &str, memory, parts: Vec<GpuPart>| InstalledGpu {
            index,
            name: "GPU".to_owned(),
            uuid: uuid.to_owned(),
            memory,
            parts,
        };
        let part = |uuid: &str, total| GpuPart { uuid: uuid.to_owned(), memory: Some(memory(total)) };
        vec![
            gpu(0, "GPU-aa11", Some(memory(80)), Vec::new()),
            gpu(1, "GPU-bb22", Some(memory(10)), vec![part("MIG-dd44", 10), part("MIG-ee55", 20)]),
            gpu(2, "GPU-cc33", None, Vec::new()),
        ]
    }

    #[test]
    fn gpus_are_those_that_the_user_left_visible() {
        for (choice, expected) in [
            (None, vec![("0", Some(memory(80))), ("1", Some(memory(10))), ("2", None)]),
            (Some("2,0"), vec![("2", None), ("0", Some(memory(80)))]),
            (Some("GPU-bb,1"), vec![("GPU-bb", Some(memory(10))), ("1", Some(memory(10)))]),
            (Some("1,-1,0"), vec![("1", Some(memory(10)))]),
            (Some("7"), vec![]),
            (Some(""), vec![]),
            (Some("MIG-ee55,MIG-ff66"), vec![("MIG-ee55", Some(memory(20))), ("MIG-ff66", None)]),
        ] {
            let found = chosen(installed(), choice);
            let found: Vec<_> = found.iter().map(|gpu| (gpu.device.as_str(), gpu.memory)).collect();
            assert_eq!(found, expected, "{choice:?}");
        }
    }
}
