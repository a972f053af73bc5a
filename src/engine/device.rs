//! Which device the tensors live on.

use crate::error::{StageError, StageResult};
use orchestrate::cache::DeviceChoice;
use tch::{Cuda, Device};

/// The device that `choice` means on this machine.
///
/// # Errors
/// A GPU that is asked for by number and is not there.
pub fn choose(choice: &DeviceChoice) -> StageResult<Device> {
    let available = if Cuda::is_available() { usize::try_from(Cuda::device_count()).unwrap_or(0) } else { 0 };
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto if available == 0 => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(Device::Cuda(0)),
        DeviceChoice::Cuda(index) if *index < available => Ok(Device::Cuda(*index)),
        DeviceChoice::Cuda(index) => Err(StageError::input(format!(
            "device `cuda:{index}` is asked for, and libtorch sees {available} CUDA devices"
        ))
        .hinted("choose `cpu`; `orchestrate doctor` says why a GPU is not seen")),
    }
}

/// The device as recipes and events name it.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    }
}

/// Loads libtorch's CUDA libraries when they are on the library path, so that one binary serves machines with and without
/// a GPU: the binary itself is linked to the CPU libraries only. Returns why they could not be loaded.
pub fn load_cuda_libraries() -> Result<(), String> {
    const NAME: &std::ffi::CStr = c"libtorch_cuda.so";
    // SAFETY: loading a shared library runs its initializers; libtorch_cuda registers its kernels there and needs
    // nothing from us. The handle is never closed.
    #[expect(unsafe_code, reason = "dlopen has no safe form; the library must be loaded with global symbols")]
    let handle = unsafe { libc::dlopen(NAME.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: dlerror returns a valid string or null, and no other thread uses the loader here.
    #[expect(unsafe_code, reason = "the reason is only to be had through dlerror")]
    let reason = unsafe {
        let text = libc::dlerror();
        if text.is_null() { None } else { Some(std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned()) }
    };
    Err(reason.unwrap_or_else(|| "libtorch_cuda.so cannot be loaded".to_owned()))
}
