//! This machine: processes and their locks, memory, cores, GPUs and file systems.
//!
//! All code that reads `/proc` or queries the NVIDIA driver is here. An executor for other machines has to replace only
//! this module.

mod cores;
mod file_system;
mod gpus;
mod lock;
mod memory;
mod process;

pub use cores::are_busy as cores_are_busy;
pub use file_system::network_file_system;
pub use gpus::{GpuMemory, GpuPart, InstalledGpu, installed_gpus};
pub use lock::FileLock;
pub use memory::{available_to_us as memory_bytes, installed as installed_memory_bytes};
pub use process::{boot_id, environment_variable, host_name, parent, start_ticks};
