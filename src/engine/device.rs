//! The device that holds the tensors.

use crate::error::{StageError, StageResult};
use crate::memory;
use orchestrate_core::energy::EnergyMeter;
use orchestrate_core::event::PeakMemory;
use orchestrate_core::exec::CudaProblem;
use orchestrate_core::workspace::{DeviceChoice, Meters};
use std::ffi::CStr;
use std::ptr::NonNull;
use tch::{Cuda, Device};

/// Returns the device that `choice` means on this machine.
///
/// # Errors
/// Returns an error if a GPU is requested by number and libtorch does not see it.
pub fn choose(choice: &DeviceChoice) -> StageResult<Device> {
    let available = if Cuda::is_available() { usize::try_from(Cuda::device_count()).unwrap_or(0) } else { 0 };
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto if available == 0 => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(Device::Cuda(0)),
        DeviceChoice::Cuda(index) if *index < available => Ok(Device::Cuda(*index)),
        DeviceChoice::Cuda(index) => Err(StageError::input(format!(
            "device `cuda:{index}` was requested, but libtorch sees {available} CUDA devices"
        ))
        .hinted("choose `cpu`; `orchestrate doctor` says why a GPU is not seen")),
    }
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
    let gpu_bytes = match device {
        // SAFETY: the function queries libtorch's allocator and returns -1 if there is none.
        #[expect(unsafe_code, reason = "a function of torch/shim.cpp")]
        Device::Cuda(index) => u64::try_from(unsafe { engine_peak_gpu_bytes(i32::try_from(index).ok()?) }).ok(),
        _ => None,
    };
    Some(PeakMemory { resident_bytes: memory::peak_resident()?, gpu_bytes })
}

#[expect(unsafe_code, reason = "a function of torch/shim.cpp")]
unsafe extern "C" {
    fn engine_peak_gpu_bytes(device: i32) -> i64;
}

/// Loads libtorch's CUDA libraries if they are on the library path. The binary itself is linked to the CPU libraries
/// only, so it runs on machines with and without a GPU. Call this before the first use of libtorch.
///
/// # Errors
/// Returns the reason why the libraries could not be loaded.
pub fn load_cuda_libraries() -> Result<(), CudaProblem> {
    const NAME: &CStr = c"libtorch_cuda.so";
    // libtorch_cuda registers its kernels on load, in symbols that libtorch_cpu must see
    open_library(NAME, libc::RTLD_NOW | libc::RTLD_GLOBAL).map(|_| ()).map_err(|reason| {
        // the loader's message begins with the library that failed: this one or one of its dependencies
        let absent = reason.starts_with("libtorch_cuda.so: cannot open shared object file");
        if absent { CudaProblem::LibraryMissing } else { CudaProblem::LibraryUnloadable(reason) }
    })
}

/// Returns the number of GPUs that libtorch sees, or the reason why it sees none. `loaded` is the result of
/// [`load_cuda_libraries`].
pub fn count(loaded: Result<(), CudaProblem>) -> Result<i64, CudaProblem> {
    loaded?;
    if Cuda::is_available() && Cuda::device_count() > 0 {
        return Ok(Cuda::device_count());
    }
    let driver = open_library(c"libcuda.so.1", libc::RTLD_NOW).map_err(CudaProblem::DriverMissing)?;
    Err(CudaProblem::NoDevice(driver_status(driver)))
}

/// Returns the bytes of GPU memory in use by all processes. Returns `None` for the CPU or if the CUDA runtime does not
/// report them.
pub fn memory_used(device: Device) -> Option<u64> {
    let Device::Cuda(index) = device else { return None };
    let (set_device, memory) = (symbol(c"cudaSetDevice")?, symbol(c"cudaMemGetInfo")?);
    let (mut free, mut total) = (0usize, 0usize);
    // SAFETY: the CUDA runtime API declares `cudaSetDevice(int)` and `cudaMemGetInfo(size_t *free, size_t *total)`.
    // Both return an int that is 0 for success. The pointers are to live variables.
    #[expect(unsafe_code, reason = "tch has no binding of the memory that is left")]
    let status = unsafe {
        let set_device = std::mem::transmute::<NonNull<libc::c_void>, unsafe extern "C" fn(i32) -> i32>(set_device);
        let memory =
            std::mem::transmute::<NonNull<libc::c_void>, unsafe extern "C" fn(*mut usize, *mut usize) -> i32>(memory);
        set_device(i32::try_from(index).ok()?) | memory(&raw mut free, &raw mut total)
    };
    (status == 0).then(|| total.saturating_sub(free) as u64)
}

/// Returns a function of a library that is already loaded.
fn symbol(name: &CStr) -> Option<NonNull<libc::c_void>> {
    // SAFETY: the name is a C string, and looking up a symbol changes nothing.
    #[expect(unsafe_code, reason = "symbols are looked up through dlsym")]
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    NonNull::new(found)
}

/// Returns the status that the driver reports when it is initialized.
fn driver_status(driver: NonNull<libc::c_void>) -> String {
    // SAFETY: `driver` is an open library and the name a C string.
    #[expect(unsafe_code, reason = "symbols are looked up through dlsym")]
    let symbol = unsafe { libc::dlsym(driver.as_ptr(), c"cuInit".as_ptr()) };
    if symbol.is_null() {
        return "libcuda.so.1 has no cuInit".to_owned();
    }
    // SAFETY: the CUDA driver API declares `CUresult cuInit(unsigned int flags)`; flags must be 0.
    #[expect(unsafe_code, reason = "a symbol becomes a function only so")]
    let code = unsafe { std::mem::transmute::<*mut libc::c_void, unsafe extern "C" fn(u32) -> i32>(symbol)(0) };
    let meaning = match code {
        0 => "the driver works, but shows libtorch no device",
        100 => "no device is visible",
        803 => "the kernel's driver and libcuda.so.1 are of different versions",
        804 => "the driver is too old for this device's compatibility mode",
        _ => "the driver cannot be started",
    };
    format!("{meaning} (cuInit: {code})")
}

/// Opens a shared library for the rest of the process, or returns the loader's error message.
fn open_library(name: &CStr, flags: libc::c_int) -> Result<NonNull<libc::c_void>, String> {
    // SAFETY: loading a shared library runs its initializers. Those of libtorch and the CUDA driver have no
    // preconditions. The handle is never closed.
    #[expect(unsafe_code, reason = "dlopen has no safe form")]
    let handle = unsafe { libc::dlopen(name.as_ptr(), flags) };
    NonNull::new(handle).ok_or_else(|| {
        // SAFETY: dlerror returns a valid string or null, and no other thread uses the loader here.
        #[expect(unsafe_code, reason = "the reason is only to be had through dlerror")]
        let reason = unsafe {
            let text = libc::dlerror();
            if text.is_null() { None } else { Some(CStr::from_ptr(text).to_string_lossy().into_owned()) }
        };
        reason.unwrap_or_else(|| format!("{} cannot be loaded", name.to_string_lossy()))
    })
}
