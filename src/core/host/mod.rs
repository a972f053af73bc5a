//! What is known of this machine: its processes and their locks, its memory, cores, GPUs and file systems. Everything that reads
//! `/proc` or asks the NVIDIA driver is here, so that what runs stages elsewhere has one thing to replace.

mod cores;
mod file_system;
mod gpus;
mod lock;
mod memory;
mod process;

pub use cores::are_busy as cores_are_busy;
pub use file_system::network_file_system;
pub use gpus::{InstalledGpu, installed_gpus};
pub use lock::FileLock;
pub use memory::{available_to_us as memory_bytes, installed as installed_memory_bytes};
pub use process::{boot_id, environment_variable, host_name, parent, start_ticks};
